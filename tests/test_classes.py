"""Data sets whose classes differ, or stand in another order, are the same by name, or refused."""

import functools
import itertools
import json

import pytest
import safetensors.torch
import torch
from PIL import Image

import vitlab
from vitlab import Recipe, ViT, ViTConfig, data, fine_tuning, training, widgets
from vitlab.data import Dataset, match_classes
from vitlab.training import command

CPU = dict(device="cpu", precision="fp32")
COLOURS = {"apple": (220, 30, 30), "birch": (30, 200, 40), "cloud": (40, 60, 220)}


def pictures(classes: list[str], n: int = 24, seed: int = 0) -> Dataset:
    """n images of each class, plain in its colour but for some noise."""
    generator, images = torch.Generator().manual_seed(seed), []
    for name in classes:
        colour = torch.tensor(COLOURS.get(name, (128, 128, 128))).view(1, 3, 1, 1)
        images.append(colour + torch.randint(-25, 26, (n, 3, 16, 16), generator=generator))
    labels = torch.arange(len(classes)).repeat_interleave(n)
    return Dataset(torch.cat(images).clamp(0, 255).byte(), labels, list(classes))


def small(num_classes: int = 3) -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(16, 8, 3, num_classes, embed_dim=16, depth=1, num_heads=2, mlp_dim=32))


def by_hand(model, dataset: Dataset, names: list[str]) -> float:
    """Accuracy by the names of what the model says, image by image."""
    right = 0
    with torch.no_grad():
        for image, label in zip(dataset.images, dataset.labels.tolist(), strict=True):
            said = model.eval()(image[None] / 127.5 - 1).argmax().item()
            right += names[said] == dataset.classes[label]
    return right / len(dataset.labels)


@functools.cache
def trained() -> ViT:
    """A model that tells apple, birch and cloud apart, in this order, and knows their names."""
    model, run = small(), vitlab.start(**CPU)
    recipe = Recipe(steps=60, batch_size=24, learning_rate=5e-3, augment=False)
    vitlab.train(model, pictures(list(COLOURS)), None, recipe, run, progress=False)
    assert by_hand(model, pictures(list(COLOURS), 12, seed=1), list(COLOURS)) == 1
    return model


OTHERS = [list(names) for n in (1, 2, 3) for names in itertools.permutations(COLOURS, n)]


@pytest.mark.parametrize("classes", OTHERS, ids="-".join)
def test_test_data_of_fewer_classes_or_in_another_order(classes):
    train_data, test_data = pictures(list(COLOURS)), pictures(classes, 12, seed=1)
    before = test_data.labels.clone()
    recipe = Recipe(steps=60, batch_size=24, learning_rate=5e-3, augment=False)
    model = small()
    history = vitlab.train(
        model, train_data, test_data, recipe, vitlab.start(**CPU), progress=False, evaluations=1
    )
    assert history.accuracy == by_hand(model, test_data, list(COLOURS)) == 1
    assert vitlab.evaluate(model, test_data, vitlab.start(**CPU))[1] == 1
    assert torch.equal(test_data.labels, before)
    assert test_data.classes == classes


def test_evaluate_finds_the_names_that_a_model_learnt():
    wrong = trained()  # what it says of apples, if they are called clouds
    swapped = pictures(list(COLOURS), 12, seed=1)._replace(classes=["cloud", "birch", "apple"])
    loss, accuracy = vitlab.evaluate(wrong, swapped, vitlab.start(**CPU))
    assert accuracy == by_hand(wrong, swapped, list(COLOURS)) == 1 / 3
    numbers = match_classes(swapped, list(COLOURS)).labels
    logits = wrong(swapped.images / 127.5 - 1).double()
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, numbers).item(), rel=1e-5)


UNKNOWN = "has 'dune' among its classes, which {} does not have; its classes are 'apple', 'birch', 'cloud'"


def test_classes_that_are_not_known_are_refused_by_name():
    known, other = pictures(list(COLOURS)), pictures(["apple", "dune"], 4)
    run, recipe = vitlab.start(**CPU), Recipe(steps=1, batch_size=4)
    with pytest.raises(ValueError, match="test_data " + UNKNOWN.format("train_data")):
        vitlab.train(small(), known, other, recipe, run, progress=False)
    with pytest.raises(ValueError, match="the data set " + UNKNOWN.format("the model")):
        vitlab.evaluate(trained(), other, run)
    with pytest.raises(ValueError, match="held_out " + UNKNOWN.format("train_data")):
        fine_tuning.try_learning_rates(small, known, other, recipe, [0.1], run)
    with pytest.raises(ValueError, match="test_data " + UNKNOWN.format("dataset")):
        fine_tuning.few_label_study({"pixels": fine_tuning.pixel_probe(1.0)}, known, other, [1])
    for explorer in (widgets.TrainingPanel, widgets.RecipeExplorer, widgets.DebugExplorer):
        with pytest.raises(ValueError, match="test_data " + UNKNOWN.format("train_data")):
            explorer(known, other)


def test_names_that_stand_twice_decide_nothing():
    twice = pictures(["apple", "birch"])._replace(classes=["apple", "apple"])
    assert match_classes(twice, ["apple", "apple"]) is twice
    for one, other in ((twice, ["birch", "apple"]), (pictures(["apple"]), ["apple", "birch", "apple"])):
        with pytest.raises(ValueError, match="'apple' more than once"):
            match_classes(one, other)


def test_a_model_without_names_and_with_other_many_classes_is_refused():
    """With as many there is no other way than by number; a foreign model does not say how many it has."""
    run = vitlab.start(**CPU)
    with pytest.raises(ValueError, match=r"2 classes \('apple', 'cloud'\), the model 3 without names.*Set"):
        vitlab.evaluate(small(), pictures(["apple", "cloud"]), run)
    foreign = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 3))
    assert vitlab.evaluate(foreign, pictures(["apple", "cloud"]), run)[0] > 0
    model = small()
    model.load_state_dict(trained().state_dict())
    model.class_names = list(COLOURS)
    assert vitlab.evaluate(model, pictures(["cloud", "apple"]), run)[1] == 1


def test_training_goes_on_with_the_names_that_the_head_has():
    """Of the first loss one sees that nothing is to be learnt anew."""
    model, run = small(), vitlab.start(**CPU)
    model.load_state_dict(trained().state_dict())
    model.class_names = list(COLOURS)
    again = pictures(["cloud", "apple"], seed=2)
    recipe = Recipe(steps=1, batch_size=48, learning_rate=1e-9, augment=False)
    history = vitlab.train(model, again, again, recipe, run, progress=False)
    assert history.rows[0]["accuracy"] == history.accuracy == 1
    assert model.class_names == list(COLOURS)


def test_other_classes_take_the_place_of_those_that_were_known():
    model, run = small(), vitlab.start(**CPU)
    model.class_names = ["x", "y", "z"]
    recipe = Recipe(steps=60, batch_size=24, learning_rate=5e-3, augment=False)
    vitlab.train(model, pictures(["cloud", "apple"]), None, recipe, run, progress=False)
    assert model.class_names == ["cloud", "apple"]
    assert vitlab.evaluate(model, pictures(["apple", "cloud"], seed=1), run)[1] == 1


def test_class_weights_follow_their_names():
    """Weights are in the order of the data's classes, the model's outputs in that of its own."""
    again, losses = pictures(["cloud", "apple"], seed=2), []
    for i in range(2):
        model = small()
        torch.manual_seed(1)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.3)
        model.class_names = list(COLOURS) if i else None
        data_in_order = again if i else match_classes(again, list(COLOURS))
        recipe = Recipe(1, 48, 1e-9, augment=False, class_weights=[5.0, 1.0] if i else [1.0, 1.0, 5.0])
        history = vitlab.train(model, data_in_order, None, recipe, vitlab.start(**CPU), progress=False)
        losses.append(history.rows[0]["loss"])
    names, total, divisor = list(COLOURS), 0.0, 0.0
    for image, label in zip(again.images, again.labels.tolist(), strict=True):
        weight, place = [5.0, 1.0][label], names.index(again.classes[label])
        total -= weight * model(image[None] / 127.5 - 1)[0].double().log_softmax(0)[place].item()
        divisor += weight
    assert losses == pytest.approx([total / divisor] * 2, rel=1e-4)


def own_task(model, images, labels):
    return training.classification(model, images, labels)


def test_a_task_of_ones_own_has_its_labels_by_name_too():
    recipe = Recipe(steps=60, batch_size=24, learning_rate=5e-3, augment=False)
    model, run, test = small(), vitlab.start(**CPU), pictures(["cloud", "apple"], 12)
    options = dict(run=run, progress=False, task=own_task)
    assert vitlab.train(model, pictures(list(COLOURS)), test, recipe, **options).accuracy == 1
    assert vitlab.evaluate(model, test, run, task=own_task)[1] == 1
    with pytest.raises(ValueError, match="'dune'"):
        vitlab.train(model, pictures(list(COLOURS)), pictures(["dune"]), recipe, **options)


def test_names_of_another_head_are_not_those_of_this_one():
    model, run = small(), vitlab.start(**CPU)
    model.class_names = list(COLOURS)
    model.head = torch.nn.Linear(model.head.in_features, 2)
    some, recipe = pictures(["cloud", "apple"]), Recipe(steps=1, batch_size=8)
    for use in (
        lambda: vitlab.evaluate(model, some, run),
        lambda: vitlab.train(model, some, None, recipe, run, progress=False),
    ):
        with pytest.raises(ValueError, match="has 2 outputs, but class_names has 3 names .*to None where"):
            use()
    model.class_names = None
    vitlab.train(model, some, some, recipe, run, progress=False)
    assert model.class_names == ["cloud", "apple"]


def test_where_labels_are_no_classes_names_do_not_matter():
    """Numbers to be predicted, and masked patches, for which labels are not used at all."""

    def brightness(model, images, labels):
        loss = (model(images)[:, 0] - labels).square().mean()
        return training.Outcome(loss, loss.new_zeros(()), len(labels))

    one, other = pictures(["apple"], 8), pictures(["dune", "cloud"], 4)
    recipe, run = Recipe(steps=1, batch_size=8), vitlab.start(**CPU)
    numbers = [some._replace(labels=torch.rand(8)) for some in (one, other)]
    vitlab.train(small(), *numbers, recipe, run, progress=False, task=brightness)
    numbers = [some._replace(labels=100 * torch.rand(8)) for some in (one, other)]
    vitlab.train(small(), *numbers, recipe, run, progress=False, task=brightness)
    named = small()
    named.class_names = list(COLOURS)
    counts = [some._replace(labels=torch.arange(8) - 2, classes=[]) for some in (one, other)]
    vitlab.train(named, *counts, recipe, run, progress=False, task=brightness)
    assert named.class_names == list(COLOURS)
    masked = vitlab.pretraining.MaskedPatchViT(ViTConfig(16, 8, 3, 0, embed_dim=16, depth=1, num_heads=2))
    task = vitlab.pretraining.masked_patch_prediction
    history = vitlab.train(masked, one, other, recipe, run, progress=False, task=task)
    assert len(history.evaluations) == 1
    assert not hasattr(masked, "class_names")


# --- probes and few labels ----------------------------------------------------------------------------------


def test_the_probe_compares_names_however_it_is_told_them():
    train, test, run = pictures(list(COLOURS)), pictures(["cloud", "apple"], 12, seed=1), vitlab.start(**CPU)
    x, far = (fine_tuning.features(trained(), some, run) for some in (train, test))
    pixels, far_pixels = (some.images.flatten(1) / 255 for some in (train, test))
    assert fine_tuning.linear_probe(x, train.labels, far, test.labels) == 1
    assert fine_tuning.linear_probe(x, train, far, test) == 1
    assert fine_tuning.linear_probe(pixels, train, far_pixels, test) == 1
    right = match_classes(test, list(COLOURS)).labels
    assert fine_tuning.linear_probe(pixels, train.labels, far_pixels, right) == 1
    with pytest.warns(
        UserWarning, match="names in the training set alone.*the test Dataset"
    ):  # numbered anew
        assert fine_tuning.linear_probe(x, train.labels, far, right) == 1
    with pytest.warns(UserWarning, match="names in the training set alone"):  # a copy is not what was read
        fine_tuning.linear_probe(x, train.labels, far.clone(), test.labels)
    other = pictures(["apple", "dune"])
    with pytest.raises(ValueError, match="the test set " + UNKNOWN.format("the training set")):
        fine_tuning.linear_probe(x, train, fine_tuning.features(trained(), other, run), other)
    with pytest.raises(ValueError, match="labels of 3 classes are 0 to 2; got -1"):
        fine_tuning.linear_probe(x, train, far, test._replace(labels=test.labels - 1, classes=list(COLOURS)))
    with pytest.raises(ValueError, match="test labels run to 2, those of the training set only to 1"):
        fine_tuning.linear_probe(far_pixels, test.labels, pixels, train.labels)


def test_few_labels_are_asked_for_by_name():
    train, test, run = pictures(list(COLOURS)), pictures(["cloud", "apple"], 12, seed=1), vitlab.start(**CPU)
    recipe = fine_tuning.fine_tuning_recipe(60, 5e-3, "adamw", 24)
    learners = {
        "tuned": fine_tuning.fine_tuned(trained(), recipe, run),
        "probe": fine_tuning.probe(trained(), 0.1, run),
        "pixels": fine_tuning.pixel_probe(0.1),
    }
    found = fine_tuning.few_label_study(learners, train, test, [8], draws=1)
    assert {name: table.item() for name, table in found.items()} == dict.fromkeys(learners, 1.0)
    rates = fine_tuning.try_learning_rates(
        lambda: fine_tuning.adapt_to(trained(), train), train, test, recipe, [5e-3], run
    )
    assert rates == {5e-3: 1.0}


# --- what a model remembers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["vitlab", "timm"])
def test_a_checkpoint_keeps_the_names(tmp_path, layout):
    path = vitlab.save_checkpoint(trained(), tmp_path / "m.safetensors", layout)
    told = {} if layout == "vitlab" else {"num_heads": 2}
    model = vitlab.load_checkpoint(path, **told)
    assert model.class_names == list(COLOURS)
    assert vitlab.evaluate(model, pictures(["cloud", "apple"]), vitlab.start(**CPU))[1] == 1
    assert vitlab.load_checkpoint(vitlab.save_checkpoint(small(), path)).class_names is None


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"id2label": {"0": "apple", "1": "birch", "2": "cloud"}}, list(COLOURS)),
        ({"label_names": list(COLOURS)}, list(COLOURS)),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}, None),
        ({"id2label": {"0": "apple", "1": "birch"}}, None),
        ({"label_names": "abc"}, None),
        ({}, None),
    ],
)
def test_names_that_another_library_wrote_beside_its_weights(tmp_path, config, names):
    """As it writes them; a model of two logits less than there are names is not the one they are of."""
    saved = trained_without_names()
    vitlab.save_checkpoint(saved, tmp_path / "model.safetensors", "timm")
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = vitlab.load_checkpoint(tmp_path / "model.safetensors")
    assert model.class_names == names
    if names:
        assert vitlab.evaluate(model, pictures(["cloud", "apple"]), vitlab.start(**CPU))[1] == 1


def trained_without_names() -> ViT:
    model = small()
    model.load_state_dict(trained().state_dict())
    return model


def test_names_that_cannot_be_read_are_refused(tmp_path):
    path = vitlab.save_checkpoint(trained(), tmp_path / "m.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for wrong in ("{", "3", "[1, 2, 3]"):
        safetensors.torch.save_file(arrays, path, metadata | {"class_names": wrong})
        with pytest.raises(ValueError, match="the class names in .* cannot be read; save the model again"):
            vitlab.load_checkpoint(path)


def test_a_name_that_stands_twice_is_not_kept(tmp_path):
    """Data cannot be compared with it by name: which of the two would an image be of?"""
    model, path = small(), tmp_path / "m.safetensors"
    model.class_names = ["crane", "owl", "crane"]
    for layout in ("vitlab", "timm"):
        with pytest.raises(ValueError, match="class_names has 'crane' more than once"):
            vitlab.save_checkpoint(model, path, layout)
        assert not path.exists()
    vitlab.save_checkpoint(trained(), path)
    with safetensors.safe_open(path, "pt") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    twice = json.dumps(model.class_names)
    safetensors.torch.save_file(arrays, path, metadata | {"class_names": twice})
    with pytest.raises(ValueError, match="m.safetensors have 'crane' more than once; save the model again"):
        vitlab.load_checkpoint(path)
    data = pictures(list(COLOURS))._replace(classes=model.class_names)
    with pytest.raises(ValueError, match="train_data has 'crane' more than once"):
        vitlab.train(small(), data, None, Recipe(steps=1, batch_size=8), vitlab.start(**CPU), progress=False)


def test_a_name_that_another_library_has_twice_gets_its_number(tmp_path):
    """ImageNet has two classes called crane, a bird and a machine; such models load and are saved."""
    vitlab.save_checkpoint(trained_without_names(), tmp_path / "model.safetensors", "timm")
    names = {"id2label": {"0": "crane", "1": "owl", "2": "crane"}}
    (tmp_path / "config.json").write_text(json.dumps(names))
    model = vitlab.load_checkpoint(tmp_path / "model.safetensors")
    assert model.class_names == ["crane (class 0)", "owl", "crane (class 2)"]
    again = vitlab.load_checkpoint(vitlab.save_checkpoint(model, tmp_path / "own.safetensors"))
    assert again.class_names == model.class_names


def test_hugging_faces_own_folder_has_its_names(tmp_path):
    transformers = pytest.importorskip("transformers")
    by_number = dict(enumerate(COLOURS))
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16,
        patch_size=8, id2label=by_number, label2id={name: i for i, name in by_number.items()},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    assert vitlab.load_checkpoint(tmp_path).class_names == list(COLOURS)


def test_a_new_head_has_no_names_and_a_kept_one_has():
    assert fine_tuning.adapt(trained(), num_classes=3).class_names is None
    assert fine_tuning.adapt(trained(), image_size=32).class_names == list(COLOURS)


def test_explorers_show_the_names_of_the_models_outputs():
    picture = {"red": pictures(["apple"], 1).images[0]}
    for names in (list(COLOURS), ["Apfel", "Birke", "Wolke"]):
        widgets.MapExplorer(trained(), picture, names, names=["rollout"])
    for explorer in (widgets.MapExplorer, widgets.DataPathExplorer):
        with pytest.raises(
            ValueError, match="classes are 'apple', 'birch', 'cloud', in this order, and 'birch' is class 1"
        ):
            explorer(trained(), picture, ["birch", "apple", "cloud"])
    one = pictures(["cloud"], 1)
    explorer = widgets.ResolutionExplorer(trained(), one, ["blue"], sizes=[16])
    assert "The model says cloud" in explorer.caption
    assert "(right)" in explorer.caption


def test_the_panel_names_sample_images_rightly():
    train, test = pictures(list(COLOURS)), pictures(["cloud", "birch", "apple"], 12, seed=1)
    panel = widgets.TrainingPanel(train, test, vitlab.start(**CPU), patch_size=8, steps=50)
    assert panel.train().accuracy == 1
    assert "Of the 3 test images shown, 3 are named rightly." in panel.caption


# --- the command --------------------------------------------------------------------------------------------


def folder(path, classes: dict[str, str]):
    """A folder of images by class: the name of the folder -> the name of the colour."""
    for name, colour in classes.items():
        (path / name).mkdir(parents=True)
        for i, image in enumerate(pictures([colour], 10).images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path / name / f"{i}.png")
    return path


def run(out, arguments: str):
    size = "--image_size 16 --batch_size 8 --precision fp32"
    command.main(["--out", str(out), *f"{size} {arguments}".split()])
    return vitlab.load_checkpoint(out)


def test_start_keeps_the_head_where_the_classes_have_the_same_names(tmp_path):
    """The number of classes alone had kept the head of other classes."""
    shape = "--patch_size 8 --embed_dim 16 --depth 1 --num_heads 2 --mlp_dim 32"
    same = {name: name for name in COLOURS}
    first = folder(tmp_path / "first", same)
    model = run(tmp_path / "one.safetensors", f"--data {first} --steps 60 --learning_rate 5e-3 {shape}")
    assert model.class_names == list(COLOURS)
    names = {"apple": "apple", "birch": "birch", "dune": "cloud"}
    start = f"--start {tmp_path}/one.safetensors --steps 1 --learning_rate 1e-9 --no-augment"
    other = run(tmp_path / "two.safetensors", f"--data {folder(tmp_path / 'other', names)} {start}")
    assert other.class_names == ["apple", "birch", "dune"]
    assert other.head.weight.abs().max() < 1e-6  # a new head
    again = run(tmp_path / "three.safetensors", f"--data {first} {start}")
    torch.testing.assert_close(again.head.weight, model.head.weight)
    assert again.class_names == list(COLOURS)
    assert data.image_folder(first, 16).classes == list(COLOURS)
