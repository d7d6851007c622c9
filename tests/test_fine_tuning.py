"""New head, new grid, probe and draws, against numpy, loops and the model they come from."""

import json
import re
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitlab
from vitlab import ViT, ViTConfig, files, fine_tuning, studies
from vitlab.data import Dataset, image_folder, scenes
from vitlab.fine_tuning import __main__ as command
from vitlab.fine_tuning.studies import datasets

CPU = dict(device="cpu", precision="fp32")


def filled(**fields) -> ViT:
    torch.manual_seed(0)
    model = ViT(ViTConfig(**fields)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def small_data(n: int = 60) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return Dataset(images, torch.arange(n) % 3, ["a", "b", "c"])


def test_a_new_head_starts_at_zero_and_the_body_is_kept():
    model = filled(representation_size=24)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    adapted = fine_tuning.adapt(model, num_classes=3)
    images = torch.randn(2, 1, 28, 28)
    assert adapted.config.num_classes == 3
    assert adapted.config.representation_size is None
    assert torch.equal(adapted(images), torch.zeros(2, 3))
    assert torch.equal(adapted.eval().forward_features(images), model.forward_features(images))
    torch.nn.init.ones_(adapted.blocks[0].attn.qkv.weight)  # a copy: the original does not feel it
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())


@pytest.mark.parametrize("pos_embed", ["learned", "sincos2d", "none"])
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_a_new_resolution_keeps_everything_but_the_table(pos_embed, pool):
    model = filled(pos_embed=pos_embed, pool=pool)
    adapted = fine_tuning.adapt(model, image_size=(28, 56))
    assert adapted(torch.randn(2, 1, 28, 56)).shape == (2, 10)
    kept = {name: w for name, w in adapted.state_dict().items() if name != "pos_embed"}
    assert all(torch.equal(w, model.state_dict()[name]) for name, w in kept.items())
    if pos_embed == "learned":
        prefix = model.config.num_prefix_tokens
        wanted = vitlab.resize_pos_embed(model.pos_embed, (7, 7), (7, 14), prefix)
        assert torch.equal(adapted.pos_embed, wanted)
    if pos_embed == "sincos2d":
        assert torch.equal(adapted.pos_embed, ViT(adapted.config).pos_embed)


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="30 is not divisible by 4"):
        fine_tuning.adapt(filled(), image_size=30)


def test_grey_and_colour_give_the_same_tokens():
    model = filled(patch_size=7)
    with torch.no_grad():  # whole numbers divisible by 3: every sum is exact, in whatever order it is made
        model.patch_embed.proj.weight.copy_(3 * torch.randint(-9, 10, (96, 1, 7, 7)))
    grey = torch.randint(-20, 21, (2, 1, 28, 28)).float()
    colour = fine_tuning.adapt(model, in_chans=3).eval()
    assert colour.config.in_chans == 3
    assert torch.equal(colour.embed(grey.expand(-1, 3, -1, -1)), model.embed(grey))
    assert torch.equal(colour(grey.expand(-1, 3, -1, -1)), model(grey))
    assert model.config.in_chans == 1
    back = fine_tuning.adapt(colour, in_chans=1)
    assert torch.equal(back.patch_embed.proj.weight, model.patch_embed.proj.weight)


def test_colour_to_grey_sums_what_differs_between_channels():
    model = filled(in_chans=3)
    grey = fine_tuning.adapt(model, in_chans=1)
    image = torch.randn(2, 1, 28, 28)
    wanted = model.embed(image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey.embed(image), wanted, rtol=1e-5, atol=1e-5)


def test_all_three_changes_at_once():
    model = filled(representation_size=24)
    adapted = fine_tuning.adapt(model, num_classes=3, image_size=(48, 36), in_chans=3, method="timm")
    assert (adapted.config.num_classes, adapted.config.grid_size, adapted.config.in_chans) == (3, (12, 9), 3)
    wanted = vitlab.resize_pos_embed(model.pos_embed, (7, 7), (12, 9), method="timm")
    assert torch.equal(adapted.pos_embed, wanted)
    assert torch.equal(adapted(torch.randn(2, 3, 48, 36)), torch.zeros(2, 3))


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 4), (3, 4), (4, 3), (3, 0)])
def test_other_numbers_of_channels_are_refused(old, new):
    with pytest.raises(ValueError, match=f"(got {new} for a model that takes {old}|in_chans .* got {new})"):
        fine_tuning.adapt(filled(in_chans=old), in_chans=new)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_features_are_what_the_head_reads(pool):
    model, data = filled(pool=pool), small_data(7)
    read = []
    model.head.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0]))
    model(data.images / 127.5 - 1)
    found = fine_tuning.features(model.train(), data, vitlab.start(**CPU), batch_size=3)
    torch.testing.assert_close(found, read[0])
    assert model.training
    torch.nn.Linear(96, 3)(found).sum().backward()  # a head can be trained on them


@pytest.mark.parametrize("n", [80, 9])  # more images than features, and fewer
def test_the_probe_is_ridge_regression(n):
    generator = torch.Generator().manual_seed(1)
    train, test = torch.randn(n, 12, generator=generator), torch.randn(300, 12, generator=generator)
    rule = torch.randn(12, 3, generator=generator)
    train_labels = (train @ rule + torch.randn(n, 3, generator=generator)).argmax(1)
    test_labels = (test @ rule).argmax(1)
    standard = [((x - train.mean(0)) / train.std(0, correction=0)).numpy() for x in (train, test)]
    targets = np.where(train_labels.numpy()[:, None] == np.arange(3), 1.0, -1.0)
    # a ridge is ordinary least squares with one extra row √penalty for each weight; centring frees the bias
    rows = np.vstack([standard[0], np.sqrt(0.5 * n) * np.eye(12)])
    weights = np.linalg.lstsq(rows, np.vstack([targets - targets.mean(0), np.zeros((12, 3))]), rcond=None)[0]
    predicted = torch.tensor(standard[1] @ weights + targets.mean(0)).argmax(1)
    wanted = (predicted == test_labels).double().mean().item()
    found = fine_tuning.linear_probe(train, train_labels, test, test_labels, ridge=0.5)
    assert 0.4 < wanted < 1
    assert found == pytest.approx(wanted, abs=0.004)  # one image of 300 may lie on the line
    centred = torch.tensor(standard[0]).double(), torch.tensor(targets - targets.mean(0))
    np.testing.assert_allclose(fine_tuning.ridge_weights(*centred, 0.5 * n), weights, atol=1e-6)


def test_the_probe_is_quick_where_features_outnumber_images():
    features, labels = torch.randn(50, 6912), torch.arange(50) % 10  # scenes' pixels
    before = time.process_time()
    assert fine_tuning.linear_probe(features, labels, features, labels) == 1
    assert time.process_time() - before < 5  # a 6,912-wide system takes minutes


def test_a_probe_without_a_penalty_is_refused():
    with pytest.raises(ValueError, match="ridge is above 0.*got 0"):
        fine_tuning.linear_probe(
            torch.zeros(4, 2), torch.zeros(4), torch.zeros(4, 2), torch.zeros(4), ridge=0
        )


def test_the_probe_wants_a_label_for_each_feature():
    with pytest.raises(ValueError, match="features of 4 images, and 3 labels"):
        fine_tuning.linear_probe(torch.zeros(4, 2), torch.zeros(3), torch.zeros(4, 2), torch.zeros(4))


def knn_by_loops(train, train_labels, test, test_labels, k: int) -> float:
    """Cosines one by one; ballots counted in a dict; a draw goes to the class whose cosines sum to more."""
    right = 0
    for vector, label in zip(test.tolist(), test_labels.tolist(), strict=True):
        cosines = []
        for other, its in zip(train.tolist(), train_labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(vector, other, strict=True))
            lengths = sum(a * a for a in vector) ** 0.5 * sum(b * b for b in other) ** 0.5
            cosines.append((dot / lengths, its))
        ballots = {}
        for cosine, its in sorted(cosines, reverse=True)[:k]:
            votes, together = ballots.get(its, (0, 0.0))
            ballots[its] = votes + 1, together + cosine
        right += max(ballots, key=ballots.get) == label
    return right / len(test)


@pytest.mark.parametrize("k", [1, 2, 4, 5, 30])
def test_knn_is_what_loops_find(k):
    generator = torch.Generator().manual_seed(k)
    train, test = (torch.randn(n, 5, generator=generator) for n in (30, 40))
    labels, wanted = torch.arange(30) % 3, torch.randint(3, (40,), generator=generator)
    found = fine_tuning.knn(train * 7, labels, test, wanted, k)  # lengths do not count
    assert found == pytest.approx(knn_by_loops(train, labels, test, wanted, k))
    assert 0.1 < found < 0.7


def test_knn_compares_classes_by_name_and_refuses_an_impossible_k():
    x, images = torch.eye(3), torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    train = Dataset(images, torch.tensor([0, 1, 2]), ["a", "b", "c"])
    test = Dataset(images, torch.tensor([2, 1, 0]), ["c", "b", "a"])
    assert fine_tuning.knn(x, train, x, test, k=1) == 1
    for k in (0, 4, 1.5):
        with pytest.raises(ValueError, match="k is from 1 to 3, the number of training images"):
            fine_tuning.knn(x, train, x, test, k=k)
    with pytest.raises(ValueError, match="features of 3 images, and 2 labels"):
        fine_tuning.knn(x, train.labels[:2], x, test.labels)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (13, 18), (52, 100), (1, 1)])
def test_wilsons_interval_by_its_definition(right, n):
    """Both ends are the true shares p from which the one seen is 1.96 deviations of p away."""
    from scipy import stats

    wanted = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert fine_tuning.wilson_interval(right / n, n) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    for end in fine_tuning.wilson_interval(right / n, n):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(right / n - end) / (end * (1 - end) / n) ** 0.5 == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize(("share", "n"), [(0.5, 0), (1.1, 9), (-0.1, 9), (float("nan"), 9)])
def test_no_share_of_no_cases(share, n):
    with pytest.raises(ValueError, match="of at least 1 case"):
        fine_tuning.wilson_interval(share, n)


def test_draws_are_balanced_distinct_and_seeded():
    data = small_data()
    data = data._replace(images=torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 1, 2, 2))
    draws = [fine_tuning.few_per_class(data, 5, seed) for seed in (0, 0, 1)]
    for draw in draws:
        numbers = draw.images[:, 0, 0, 0].tolist()
        assert len(set(numbers)) == 15
        assert torch.equal(draw.labels.bincount(), torch.tensor([5, 5, 5]))
        assert [number % 3 for number in numbers] == draw.labels.tolist()
    assert torch.equal(draws[0].images, draws[1].images)
    assert not torch.equal(draws[0].images, draws[2].images)
    with pytest.raises(ValueError, match="class 'a' has 20 images, fewer than the 21"):
        fine_tuning.few_per_class(data, 21)


def test_a_study_gives_every_learner_the_same_nested_draws():
    data = small_data()
    data = data._replace(images=torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 1, 2, 2))
    seen, asked = {}, data.subset([0, 1])

    def record(name):
        def learn(draw, seed):
            seen[name, seed, len(draw.labels) // 3] = set(draw.images[:, 0, 0, 0].tolist())
            return lambda dataset: 100 * seed + len(draw.labels) + (0 if dataset is asked else 0.5)

        return learn

    found = fine_tuning.few_label_study({"a": record("a"), "b": record("b")}, data, asked, [2, 5], draws=2)
    assert {name: table.tolist() for name, table in found.items()} == dict.fromkeys(
        "ab", [[6, 15], [106, 115]]
    )
    for seed in (0, 1):
        assert seen["a", seed, 5] == seen["b", seed, 5]
        assert seen["a", seed, 2] < seen["a", seed, 5]
    assert seen["a", 0, 5] != seen["a", 1, 5]
    with pytest.raises(ValueError, match="at least 1; got 0"):
        fine_tuning.few_label_study({}, data, data, [1], draws=0)


@pytest.mark.parametrize("size", [14, (28, 56), 42])
def test_another_resolution_is_pillows_bicubic(size):
    data = small_data(3)
    found = fine_tuning.at_resolution(data, size)
    height, width = (size, size) if isinstance(size, int) else size
    for image, resized in zip(data.images, found.images, strict=True):
        wanted = Image.fromarray(image[0].float().numpy()).resize((width, height), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(wanted).clip(0, 255) - resized[0].numpy()).max() <= 0.51
    assert found.labels is data.labels


# --- recipes and learning rates ----------------------------------------------------------------------------


def test_the_recipe_is_table_4s():
    """One step of SGD against PyTorch's own optimizer and clipping, on a gradient longer than 1."""
    recipe = fine_tuning.fine_tuning_recipe(steps=50, learning_rate=0.03)
    assert (recipe.warmup_steps, recipe.seed, recipe.label_smoothing) == (5, 0, 0.0)
    data, model = small_data(32), filled(num_classes=3, embed_dim=8, depth=1, num_heads=2, mlp_dim=8)
    torch.nn.init.normal_(model.head.weight, std=3)  # a long gradient
    by_hand = deepcopy(model)
    recipe = replace(recipe, steps=3, warmup_steps=0, augment=False, batch_size=32)  # a batch is all the data
    vitlab.train(model, data, None, recipe, vitlab.start(**CPU), progress=False)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.03, momentum=0.9)
    schedule, norms = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3), []
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(by_hand(data.images / 127.5 - 1), data.labels)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0).item())
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    assert max(norms) > 1
    for wanted, found in zip(by_hand.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_adamw_differs_in_the_optimizer_alone():
    sgd, adamw = (fine_tuning.fine_tuning_recipe(9, 0.01, name, 4, seed=2) for name in ("sgd", "adamw"))
    assert sgd == replace(adamw, optimizer="sgd")
    assert fine_tuning.LEARNING_RATES.keys() == {"sgd", "adamw"}


def test_what_is_held_out_is_a_share_of_each_class_and_nothing_twice():
    labels = torch.tensor([0] * 30 + [1] * 4 + [2] * 2)
    data = Dataset(torch.arange(36, dtype=torch.uint8).view(36, 1, 1, 1), labels, ["a", "b", "c"])
    kept, held = fine_tuning.hold_out(data, share=0.2, seed=1)
    assert held.labels.bincount().tolist() == [6, 1, 1]
    assert sorted([*kept.images.flatten().tolist(), *held.images.flatten().tolist()]) == list(range(36))
    assert all(
        labels[int(number)] == label for number, label in zip(kept.images.flatten(), kept.labels, strict=True)
    )
    assert (
        held.images.flatten().tolist() != fine_tuning.hold_out(data, 0.2, seed=2)[1].images.flatten().tolist()
    )
    assert len(fine_tuning.hold_out(data, share=0.99)[0].labels) == 3  # something of each class stays
    with pytest.raises(ValueError, match="between 0 and 1; got 1"):
        fine_tuning.hold_out(data, share=1)
    with pytest.raises(ValueError, match="'c' has 1 image; 2 or more"):
        fine_tuning.hold_out(data.subset(range(35)))


def test_each_learning_rate_gets_a_new_model_and_the_held_out_images():
    data, made = stripes(40), []

    def make_model():
        made.append(fine_tuning.adapt(tiny(), num_classes=2))
        return made[-1]

    recipe = fine_tuning.fine_tuning_recipe(steps=25, learning_rate=9.0, batch_size=20)
    found = fine_tuning.try_learning_rates(make_model, data, data, recipe, [1e-9, 0.3], vitlab.start(**CPU))
    assert list(found) == [1e-9, 0.3]
    assert found[1e-9] < 0.9 < found[0.3]
    assert len({id(model) for model in made}) == 2


def tiny(**fields) -> ViT:
    torch.manual_seed(0)
    sizes = dict(image_size=8, embed_dim=8, depth=1, num_heads=2, mlp_dim=8, num_classes=5)
    return ViT(ViTConfig(**(sizes | fields)))


def stripes(n: int, channels: int = 1) -> Dataset:
    """Two classes that any model can learn: the upper half bright, or the lower."""
    images = torch.zeros(n, channels, 8, 8, dtype=torch.uint8)
    images[0::2, :, :4], images[1::2, :, 4:] = 200, 200
    noise = torch.randint(0, 50, images.shape, generator=torch.Generator().manual_seed(0))
    return Dataset(images + noise.byte(), torch.arange(n) % 2, ["upper", "lower"])


def test_half_a_training_is_no_result(monkeypatch, tmp_path):
    """Ctrl-C within a training ends a study; no row says that the run was done."""

    def train(*arguments, **keywords):
        return vitlab.train(*arguments, on_step=press, **keywords)

    def press(history):
        raise KeyboardInterrupt

    monkeypatch.setattr(vitlab.training.loop, "train", train)
    recipe, data = fine_tuning.fine_tuning_recipe(3, 0.03), stripes(8)
    learn = fine_tuning.from_scratch(tiny(), recipe, vitlab.start(**CPU))
    with pytest.raises(KeyboardInterrupt):
        fine_tuning.few_label_study({"scratch": learn}, data, data, [2], draws=1)
    with pytest.raises(KeyboardInterrupt):
        fine_tuning.try_learning_rates(tiny, data, data, recipe, [0.03], vitlab.start(**CPU))
    study = fine_tuning.few_labels(labels=[1], seeds=[0], targets=["cut-outs"], methods=["scratch"])
    with pytest.raises(KeyboardInterrupt):
        studies.run_study(study, tmp_path / "few.csv", vitlab.start(**CPU), progress=False)
    assert not (tmp_path / "few.csv").exists()


# --- few labels --------------------------------------------------------------------------------------------


def test_the_contenders_are_what_they_are_called(monkeypatch):
    """Each against its own few lines, on colour images for a model of grey ones."""
    model, data, run = tiny(), stripes(40, channels=3), vitlab.start(**CPU)
    test = stripes(20, channels=3)
    recipe = fine_tuning.fine_tuning_recipe(steps=3, learning_rate=0.1, batch_size=8)
    weights = {name: w.clone() for name, w in model.state_dict().items()}

    seen = []
    wanted = {"fine-tuned": fine_tuning.adapt(model, 2, in_chans=3)}
    torch.manual_seed(4)
    wanted["scratch"] = ViT(wanted["fine-tuned"].config)
    learners = {
        "fine-tuned": fine_tuning.fine_tuned(model, recipe, run),
        "scratch": fine_tuning.from_scratch(model, recipe, run),
    }

    def train(start, *rest, **kwargs):
        seen.append({name: w.clone() for name, w in start.state_dict().items()})
        return vitlab.train(start, *rest, **kwargs)

    monkeypatch.setattr(vitlab.training.loop, "train", train)
    found = {name: learn(data, 4)(test) for name, learn in learners.items()}
    for start, (name, begun) in zip(seen, wanted.items(), strict=True):
        assert all(torch.equal(w, begun.state_dict()[key]) for key, w in start.items())
        vitlab.train(begun, data, None, replace(recipe, seed=4), run, progress=False)
        assert found[name] == vitlab.evaluate(begun, test, run)[1]
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())


def test_the_probes_read_features_and_pixels():
    model, run = tiny(), vitlab.start(**CPU)
    data, test = stripes(12, channels=3), stripes(20, channels=3)
    test = test._replace(labels=test.labels.roll(3))  # three quarters right would be by chance
    body = fine_tuning.adapt(model, 2, in_chans=3)
    read = [fine_tuning.features(body, part, run) for part in (data, test)]
    wanted = fine_tuning.linear_probe(read[0], data.labels, read[1], test.labels, 0.3)
    assert fine_tuning.probe(model, 0.3, run)(data, 0)(test) == wanted
    flat = [part.images.flatten(1).float() for part in (data, test)]
    wanted = fine_tuning.linear_probe(flat[0], data.labels, flat[1], test.labels, 0.3)
    assert fine_tuning.pixel_probe(0.3)(data, 0)(test) == wanted


def test_the_learner_s_own_folder_goes_the_same_way(tmp_path):
    """Photos of two kinds of things on disk, and all four contenders on them."""
    for number, image in enumerate(torch.rand(16, 3, 40, 60, generator=torch.Generator().manual_seed(0))):
        folder = tmp_path / ("bright", "dark")[number % 2]
        folder.mkdir(exist_ok=True)
        pixels = (image / 4 + (0.7, 0.0)[number % 2]).permute(1, 2, 0).numpy() * 255
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    run = vitlab.start(**CPU)
    learnt, asked = fine_tuning.hold_out(image_folder(tmp_path, image_size=16), share=0.25)
    assert (len(learnt.labels), len(asked.labels)) == (12, 4)
    recipe = fine_tuning.fine_tuning_recipe(20, 0.03, "adamw", batch_size=8)
    learners = {
        "fine-tuned": fine_tuning.fine_tuned(tiny(), recipe, run),
        "scratch": fine_tuning.from_scratch(tiny(), recipe, run),
        "probe": fine_tuning.probe(tiny(), 0.1, run),
        "pixels": fine_tuning.pixel_probe(0.1),
    }
    found = fine_tuning.few_label_study(learners, learnt, asked, [2, 4], draws=2)
    assert {name: table.shape for name, table in found.items()} == dict.fromkeys(learners, (2, 2))
    assert all(table[:, -1].mean() == 1 for table in found.values())


def test_cut_out_is_pillows_crop_and_resize():
    drawn = scenes(12, seed=4, image_size=(64, 48))
    cut = fine_tuning.cut_out(drawn, 40, margin=0.0)
    assert torch.equal(cut.labels, drawn.labels)
    for image, mask, found in zip(drawn.images, drawn.masks, cut.images, strict=True):
        rows, columns = mask.nonzero().T
        top, left = rows.min().item(), columns.min().item()
        height, width = rows.max().item() + 1 - top, columns.max().item() + 1 - left
        side = max(height, width)
        box = [left - (side - width) / 2, top - (side - height) / 2]
        padded = np.pad(image.permute(1, 2, 0).numpy(), ((64, 64), (64, 64), (0, 0)), mode="edge")
        box = [value + 64 for value in (box[0], box[1], box[0] + side, box[1] + side)]
        wanted = Image.fromarray(padded).resize((40, 40), Image.Resampling.BILINEAR, box=box)
        difference = np.abs(np.asarray(wanted).astype(int) - found.permute(1, 2, 0).numpy().astype(int))
        assert difference[1:-1, 1:-1].max() <= 2  # at the rim Pillow keeps to the box


def test_cut_out_leaves_a_margin_and_wants_masks():
    image = torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[:, 10:30, 15:25] = True
    image[:, :, 10:30, 15:25] = 255
    drawn = scenes(1)._replace(images=image, masks=mask, labels=torch.tensor([0]))
    cut = fine_tuning.cut_out(drawn, 24, margin=0.1).images[0, 0]  # a box of 24, of which 20 are the garment
    assert torch.equal(cut[2:22, 7:17], torch.full((20, 10), 255, dtype=torch.uint8))
    assert cut.long().sum() == 255 * 200
    with pytest.raises(ValueError, match="nothing to cut out"):
        fine_tuning.cut_out(drawn._replace(masks=torch.zeros_like(mask)), 24)


# --- studies -----------------------------------------------------------------------------------------------


def test_the_studies_ask_what_the_lesson_shows():
    study = fine_tuning.few_labels()
    assert {run["labels"] for run in study.runs} == {5, 10, 20, 50, 100}
    assert {run["seed"] for run in study.runs} == set(range(5))
    assert study.varied[:4] == ("seed", "target", "labels", "method")
    names = ("method", "optimizer", "learning_rate", "ridge")
    tried = {tuple(run[name] for name in names) for run in fine_tuning.fine_tuning_choices().runs}
    taken = {tuple(run[name] for name in names) for run in study.runs}
    assert taken <= tried  # what few_labels takes was tried on held-out images
    assert len(taken) == 4


def test_the_contenders_learn_as_the_study_chose(monkeypatch):
    """Each is the learner of its name, with the rate and the ridge of `CHOICES`, which the lesson names."""
    model, run, choices = tiny(), vitlab.start(**CPU), fine_tuning.studies.CHOICES
    for name in ("fine_tuned", "from_scratch", "probe", "pixel_probe"):
        monkeypatch.setattr(fine_tuning.studies, name, lambda *given, name=name: (name, *given))
    found = fine_tuning.contenders(model, steps=7, run=run)
    recipe = fine_tuning.fine_tuning_recipe(7, 1e-3, optimizer="adamw", batch_size=32)
    assert found == {
        "fine-tuned": ("fine_tuned", model, recipe, run),
        "scratch": ("from_scratch", model, recipe, run),
        "probe": ("probe", model, 0.1, run),
        "pixels": ("pixel_probe", 1.0),
    }
    notebook = Path(__file__).parents[1] / "notebooks" / "05_fine_tuning.ipynb"
    source = "".join("".join(cell["source"]) for cell in json.loads(notebook.read_text("utf-8"))["cells"])
    assert f"take AdamW at {choices['scratch']['learning_rate']:g}," in source
    assert source.count("fine_tuning.contenders(") == 3


def test_results_come_back_in_the_form_of_a_study():
    rows = [
        dict(target="scenes", method=method, labels=labels, seed=seed, status="done", test_accuracy=accuracy)
        for method, labels, seed, accuracy in [
            ("probe", 20, 1, 0.4),
            ("probe", 5, 0, 0.1),
            ("probe", 5, 1, 0.3),
            ("pixels", 20, 1, 0.9),
        ]
    ]
    failed = dict(rows[0], seed=0, status="failed", test_accuracy=None)
    labels, tables = fine_tuning.few_label_results([*rows, failed, dict(rows[0], target="other")], "scenes")
    assert labels == [5, 20]
    assert tables.keys() == {"probe", "pixels"}
    probe = torch.tensor([[0.1, torch.nan], [0.3, 0.4]])
    pixels = torch.tensor([[torch.nan, torch.nan], [torch.nan, 0.9]])
    torch.testing.assert_close(tables["probe"], probe, equal_nan=True)
    torch.testing.assert_close(tables["pixels"], pixels, equal_nan=True)
    with pytest.raises(ValueError, match="no row has the target 'photos'"):
        fine_tuning.few_label_results(rows, "photos")


def test_pools_share_nothing():
    pool, held_out, test = datasets("cut-outs", 50)
    assert pool.images.shape == (3000, 3, 28, 28)
    assert held_out.images.shape == (50, 3, 28, 28)
    assert test.images.shape == (50, 3, 28, 28)
    rows = {image.numpy().tobytes() for part in (pool, held_out, test) for image in part.images}
    assert len(rows) == 3100
    assert pool.labels.bincount().min() >= 200  # enough for the draws, which then differ


def test_a_row_of_the_study_is_made_by_its_command(tmp_path):
    arguments = ["study", "few_labels", "--precision", "fp32", "--folder"]
    only = ["--only", "seed=1", "target=cut-outs", "labels=5", "method=probe", "method=pixels"]
    command.main([*arguments, str(tmp_path), *only])
    probe, pixels = studies.read_rows(tmp_path / "few_labels.csv")
    assert "study few_labels --only seed=1 target=cut-outs labels=5 method=probe" in probe["command"]
    assert (probe["status"], pixels["status"]) == ("done", "done")
    pool, _, test = datasets("cut-outs", 1000)
    draw = fine_tuning.few_per_class(pool, 5, 1)
    flat = [images.flatten(1).float() for images in (draw.images, test.images)]
    wanted = fine_tuning.linear_probe(flat[0], draw.labels, flat[1], test.labels, pixels["ridge"])
    assert pixels["test_accuracy"] == round(wanted, 4)


@pytest.mark.parametrize("words", ["study nothing", "study few_labels --only labels=7", "study --labels 5"])
def test_what_the_command_does_not_know_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        command.main(words.split())
    assert re.search("few_labels|5, 10, 20, 50, 100|--labels", capsys.readouterr().err)


@pytest.mark.parametrize(("name", "seeds"), [("few_labels", 5), ("fine_tuning_choices", 3)])
def test_what_ships_was_made_by_the_study_as_it_is(name, seeds):
    """Every row has settings that the study has today, is done, and stands beside those of other seeds."""
    path = files.root("results") / "results" / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"no results of {name} ship")
    study, rows = fine_tuning.STUDIES[name](), studies.read_results(name)
    assert rows == studies.rows_of(study, path)
    assert len(rows) == len(study.runs)
    assert {row["status"] for row in rows} == {"done"}
    points = [tuple(row[setting] for setting in study.settings if setting != "seed") for row in rows]
    assert set(map(points.count, points)) == {seeds}
    command = f"python -m vitlab.fine_tuning study {name} --only "
    assert all(row["command"].startswith(command) for row in rows)


def test_the_rates_and_ridges_taken_are_those_that_were_best():
    """`CHOICES` against the shipped results on held-out images, to within their spread."""
    if not (files.root("results") / "results" / "fine_tuning_choices.csv").exists():
        pytest.skip("no results of fine_tuning_choices ship")
    rows = studies.read_results("fine_tuning_choices")
    names = ("method", "optimizer", "learning_rate", "ridge")
    found = studies.summarise(rows, "held_out_accuracy", names)
    for run in fine_tuning.few_labels().runs:
        mean, deviation, _ = found[tuple(run[name] for name in names)]
        best = max(value for key, (value, *_) in found.items() if key[0] == run["method"])
        assert mean + max(deviation, 0.01) >= best, run


def test_a_model_with_patch_norm_keeps_its_channels():
    """Its norm has a weight for each number of a patch, and no rule makes three of one."""
    model = ViT(ViTConfig(patch_norm=True))
    with pytest.raises(ValueError, match="16 numbers .patch_norm., so in_chans stays 1; got 3"):
        fine_tuning.adapt(model, in_chans=3)
    assert fine_tuning.adapt(model, in_chans=1, num_classes=3).config.patch_norm
