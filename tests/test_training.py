"""The training loop: its schedule, its optimiser, its honesty about what happened."""

import functools
import math
from copy import deepcopy

import numpy as np
import pytest
import torch

import vitlab
from vitlab import Recipe, ViT, ViTConfig, training
from vitlab.data import Dataset

CPU = dict(device="cpu", precision="fp32")


def stripes(n: int, seed: int = 0) -> Dataset:
    """Three classes that a tiny model learns at once: a bright top, middle or bottom third."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    images = torch.randint(0, 60, (n, 1, 12, 12), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels):
        images[i, :, 4 * label : 4 * label + 4] += 150
    return Dataset(images, labels, ["top", "middle", "bottom"])


def tiny(**fields) -> ViT:
    torch.manual_seed(0)
    sizes = dict(image_size=12, patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_dim=32, num_classes=3)
    return ViT(ViTConfig(**(sizes | fields)))


def test_learning_rate_by_hand():
    recipe = Recipe(steps=10, warmup_steps=4, learning_rate=2.0)
    wanted = [0.5, 1.0, 1.5, 2.0] + [1 + math.cos(math.pi * k / 6) for k in range(6)]
    assert [training.learning_rate_at(step, recipe) for step in range(10)] == pytest.approx(wanted)


def test_the_loop_follows_the_schedule():
    recipe = Recipe(steps=10, warmup_steps=4, learning_rate=0.01, batch_size=8)
    history = vitlab.train(tiny(), stripes(32), None, recipe, vitlab.start(**CPU), progress=False)
    wanted = [training.learning_rate_at(step, recipe) for step in range(10)]
    assert [row["learning_rate"] for row in history.rows] == pytest.approx(wanted)
    assert [row["step"] for row in history.rows] == list(range(1, 11))


def test_it_learns():
    recipe = Recipe(steps=120, batch_size=32, learning_rate=3e-3, augment=False)
    history = vitlab.train(
        tiny(), stripes(200), stripes(100, seed=1), recipe, vitlab.start(**CPU), progress=False
    )
    assert history.rows[0]["loss"] == pytest.approx(math.log(3), abs=1e-5)
    assert history.accuracy > 0.95
    assert history.rows[-1]["loss"] < 0.2
    assert [e.step for e in history.evaluations] == [24, 48, 72, 96, 120]


def test_one_step_is_adamw_by_hand():
    """Adam's first step moves every number by the learning rate against its gradient's sign, and decays."""
    model, recipe = tiny(), Recipe(steps=1, warmup_steps=0, batch_size=32, learning_rate=0.01, augment=False)
    data = stripes(32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = torch.nn.functional.cross_entropy(model(data.images / 127.5 - 1), data.labels)
    gradients = dict(zip(before, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    vitlab.train(model, data, None, recipe, vitlab.start(**CPU), progress=False)
    for name, after in model.named_parameters():
        decay = recipe.weight_decay if after.ndim > 1 and name not in ("cls_token", "pos_embed") else 0.0
        gradient = gradients[name] * min(1, recipe.clip_norm / norm)
        moved = gradient / (gradient.abs() + 1e-8)
        wanted = before[name] * (1 - 0.01 * decay) - 0.01 * moved
        sure = gradient.abs() > 1e-5  # where rounding cannot turn the sign
        torch.testing.assert_close(after[sure], wanted[sure], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_no_decay_on_norms_biases_and_tokens(name):
    model = tiny()
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = training.make_optimizer(model, Recipe(weight_decay=0.3, optimizer=name))
    decays = {
        names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decays.keys() == dict(model.named_parameters()).keys()
    for name, decay in decays.items():
        spared = "norm" in name or name.endswith("bias") or name in ("cls_token", "pos_embed")
        assert decay == (0.0 if spared else 0.3), name


def test_a_model_from_elsewhere_learns_too():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3))
    recipe = Recipe(steps=60, batch_size=32, learning_rate=3e-3, augment=False)
    history = vitlab.train(
        model, stripes(200), stripes(100, seed=1), recipe, vitlab.start(**CPU), progress=False
    )
    assert history.accuracy > 0.9


def test_equal_seeds_give_equal_histories():
    recipe = Recipe(steps=6, batch_size=16, seed=5)
    losses = []
    for _ in range(2):
        history = vitlab.train(tiny(), stripes(64), None, recipe, vitlab.start(**CPU), progress=False)
        losses.append([row["loss"] for row in history.rows])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_too(precision):
    recipe = Recipe(steps=150, batch_size=32, learning_rate=3e-3, augment=False)
    run = vitlab.start(device="cpu", precision=precision)
    history = vitlab.train(tiny(), stripes(200), stripes(100, seed=1), recipe, run, progress=False)
    assert history.accuracy > 0.9


def test_sgd_learns():
    recipe = Recipe(
        steps=100, batch_size=32, learning_rate=0.1, optimizer="sgd", weight_decay=0.0, augment=False
    )
    history = vitlab.train(
        tiny(), stripes(200), stripes(100, seed=1), recipe, vitlab.start(**CPU), progress=False
    )
    assert history.accuracy > 0.9


def test_one_step_of_muon_by_hand():
    """A matrix moves along the singular vectors of its gradient, nearly equally far along each."""
    model, data = tiny(), stripes(32)
    torch.nn.init.normal_(model.head.weight, std=0.1)  # a head of zeros lets no gradient through
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = torch.nn.functional.cross_entropy(model(data.images / 127.5 - 1), data.labels)
    gradients = dict(zip(before, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    rate, decay, directions = 0.01, 0.5, 0
    recipe = Recipe(1, 32, rate, decay, warmup_steps=0, clip_norm=0, optimizer="muon", augment=False)
    vitlab.train(model, data, None, recipe, vitlab.start(**CPU), progress=False)
    for name, after in model.named_parameters():
        matrix = name.startswith("blocks") and after.ndim == 2
        decays = after.ndim > 1 and name not in ("cls_token", "pos_embed")
        moved = (before[name] * (1 - rate * decay if decays else 1) - after.detach()) / rate
        gradient = gradients[name]
        if matrix:
            u, sizes, v = torch.linalg.svd(gradient, full_matrices=False)
            along = u.T @ (moved / (0.2 * max(moved.shape) ** 0.5)) @ v.T
            loud = sizes > 0.05 * sizes[0]
            directions += int(loud.sum())
            assert ((along.diag()[loud] > 0.6) & (along.diag()[loud] < 1.3)).all(), name
            across = (along - along.diag().diag())[loud][:, loud]
            assert across.abs().max() < 0.1, name
        else:  # AdamW's first step: as far everywhere, against the sign
            sure = gradient.abs() > 1e-5
            torch.testing.assert_close(moved[sure], gradient[sure].sign(), rtol=0, atol=5e-3)
    assert directions >= 16  # in eight matrices


def test_muon_learns():
    recipe = Recipe(steps=60, batch_size=32, learning_rate=0.01, optimizer="muon", augment=False)
    history = vitlab.train(
        tiny(), stripes(200), stripes(100, seed=1), recipe, vitlab.start(**CPU), progress=False
    )
    assert history.accuracy > 0.9


def test_muon_without_an_encoder_is_refused():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3))
    with pytest.raises(ValueError, match="this model has none"):
        training.make_optimizer(model, Recipe(optimizer="muon"))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
def test_muon_moves_as_pytorchs_own():
    """Ten steps on the same gradients, which PyTorch takes matrix by matrix: alike as far as bf16 goes."""
    torch.manual_seed(0)
    model, recipe = tiny(), Recipe(optimizer="muon", learning_rate=0.02, weight_decay=0.3)
    ours = training.make_optimizer(model, recipe)
    copies = {p: p.detach().clone().requires_grad_() for p in ours.param_groups[0]["params"]}
    assert len({p.shape for p in copies}) < len(copies)  # some go together
    theirs = torch.optim.Muon(
        copies.values(), lr=0.02, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    before = [p.detach().clone() for p in copies]
    for _ in range(10):
        for p, copy in copies.items():
            p.grad = torch.randn_like(p)
            copy.grad = p.grad.clone()
        ours.step()
        theirs.step()
    for p, old in zip(copies, before, strict=True):
        moved, wanted = p - old, copies[p] - old
        assert (moved - wanted).norm() < 0.02 * wanted.norm()


def test_a_matrix_without_a_gradient_stays():
    model = tiny()
    optimizer = training.make_optimizer(model, Recipe(optimizer="muon"))
    still, moving = model.blocks[0].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight
    before, moving.grad = [p.detach().clone() for p in (still, moving)], torch.randn_like(moving)
    optimizer.step()
    assert torch.equal(still, before[0])
    assert not torch.equal(moving, before[1])


def test_ctrl_c_leaves_a_usable_model_and_history():
    def stop(history):
        if history.rows[-1]["step"] >= 5:
            raise KeyboardInterrupt

    model = tiny().eval()
    data = stripes(64)
    history = vitlab.train(
        model, data, data, Recipe(steps=50, batch_size=8), vitlab.start(**CPU), on_step=stop, progress=False
    )
    assert history.interrupted
    assert history.rows[-1]["step"] == 5
    assert not model.training  # the mode is given back
    assert math.isfinite(vitlab.evaluate(model, data, vitlab.start(**CPU))[0])
    again = vitlab.train(
        model, data, data, Recipe(steps=5, batch_size=8), vitlab.start(**CPU), progress=False
    )
    assert not again.interrupted
    assert len(again.evaluations) == 5


def test_a_loss_that_explodes_stops_with_step_rate_and_causes():
    recipe = Recipe(
        steps=50, warmup_steps=0, learning_rate=1e30, optimizer="sgd", clip_norm=0.0, batch_size=8
    )
    with pytest.raises(training.NonFiniteLossError) as stopped:
        vitlab.train(tiny(), stripes(64), None, recipe, vitlab.start(**CPU), progress=False)
    history = stopped.value.history
    assert isinstance(stopped.value, FloatingPointError)
    assert 1 < history.rows[-1]["step"] < 50
    assert math.isfinite(history.rows[0]["loss"])
    assert not math.isfinite(history.rows[-1]["loss"])
    for part in (
        f"by step {history.rows[-1]['step']}, at the learning rate {history.rows[-1]['learning_rate']:.3g}",
        "try learning_rate=1e+29",
        "try warmup_steps=5",
        "try clip_norm=1",
    ):
        assert part in str(stopped.value)


def test_weights_that_were_broken_before_are_the_cause_named():
    model = tiny()
    torch.nn.init.constant_(model.norm.weight, math.nan)
    with pytest.raises(training.NonFiniteLossError, match="by step 1, .*before the training began.$"):
        vitlab.train(model, stripes(64), None, Recipe(steps=5), vitlab.start(**CPU), progress=False)


@pytest.mark.parametrize(
    ("batch_size", "fits", "error"),
    [
        (100, 50, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
        (33, 16, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")),
    ],
)
def test_a_full_memory_names_a_batch_size_that_may_fit(batch_size, fits, error):
    """The task has memory for `fits` images, as it says when it gets more."""

    def task(model, images, labels):
        if len(images) > fits:
            raise error
        return training.classification(model, images, labels)

    data, run = stripes(200), vitlab.start(**CPU)
    options = dict(run=run, progress=False, task=task)
    with pytest.raises(MemoryError, match=f"batch_size={batch_size}; batch_size={fits} is likely") as full:
        vitlab.train(tiny(), data, None, Recipe(steps=2, batch_size=batch_size), **options)
    assert full.value.__cause__ is error
    assert len(vitlab.train(tiny(), data, None, Recipe(steps=2, batch_size=fits), **options).rows) == 2
    with pytest.raises(MemoryError, match=f"evaluate's batch_size={2 * fits}; .*batch_size={fits} is likely"):
        vitlab.evaluate(tiny(), data, run, batch_size=2 * fits, task=task)


def test_a_memory_too_small_for_one_image_and_other_errors():
    def task(model, images, labels):
        raise RuntimeError(words)

    options = dict(run=vitlab.start(**CPU), progress=False, task=task)
    words = "out of memory"
    with pytest.raises(MemoryError, match="not even one image fits: use larger patches"):
        vitlab.train(tiny(), stripes(8), None, Recipe(steps=2, batch_size=1), **options)
    words = "mat1 and mat2 shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        vitlab.train(tiny(), stripes(8), None, Recipe(steps=2, batch_size=1), **options)


def test_the_progress_bar_says_what_is_going_on(capsys):
    vitlab.train(tiny(), stripes(64), None, Recipe(steps=4, batch_size=8), vitlab.start(**CPU))
    shown = capsys.readouterr().err
    for part in ("loss 1.", "accuracy", "images/s", "4/4"):
        assert part in shown


def test_evaluate_equals_a_loop_over_images():
    model, data = tiny(), stripes(23)
    torch.nn.init.normal_(model.head.weight)
    model.train()
    losses, hits = [], 0
    with torch.no_grad():
        for image, label in zip(data.images, data.labels, strict=True):
            probabilities = model.eval()(image[None] / 127.5 - 1)[0].double().softmax(0)
            losses.append(-probabilities[label].log().item())
            hits += int(probabilities.argmax() == label)
    model.train()
    loss, accuracy = vitlab.evaluate(model, data, vitlab.start(**CPU), batch_size=7)
    assert (loss, accuracy) == (pytest.approx(sum(losses) / 23, rel=1e-5), hits / 23)
    assert model.training


def test_confusion_counts_what_a_loop_over_images_counts():
    model, data = tiny(), stripes(23)
    torch.nn.init.normal_(model.head.weight)
    model.train()
    wanted = torch.zeros(3, 3, dtype=torch.long)
    with torch.no_grad():
        for image, label in zip(data.images, data.labels, strict=True):
            wanted[label, model.eval()(image[None] / 127.5 - 1)[0].argmax()] += 1
    model.train()
    run = vitlab.start(**CPU)
    assert training.confusion(model, data, run).equal(wanted)
    assert training.answers(model, data, run, batch_size=7).bincount(minlength=3).equal(wanted.sum(dim=0))
    assert model.training
    assert (wanted.trace() / 23).item() == pytest.approx(vitlab.evaluate(model, data, run)[1])
    model.class_names = ["bottom", "middle", "top"]  # then a right answer is one with the same name
    assert training.confusion(model, data, run).equal(wanted.flip(0))
    with pytest.raises(ValueError, match="batch_size is at least 1"):
        training.answers(model, data, run, batch_size=0)


def test_labels_out_of_range_are_refused():
    data = stripes(16)
    wrong = data._replace(labels=data.labels + 1)
    with pytest.raises(
        ValueError, match="labels of train_data run from 1 to 3.*3 classes, 0 to 2; set num_classes"
    ):
        vitlab.train(tiny(), wrong, None, Recipe(steps=1), progress=False)
    with pytest.raises(ValueError, match="test_data"):
        vitlab.train(tiny(), data, wrong, Recipe(steps=1), progress=False)
    with pytest.raises(ValueError, match="empty"):
        vitlab.evaluate(tiny(), Dataset(data.images[:0], data.labels[:0], data.classes))


@pytest.mark.parametrize(
    "fields", [dict(steps=0), dict(batch_size=0), dict(learning_rate=0.0), dict(weight_decay=-1.0),
               dict(label_smoothing=1.0), dict(optimizer="lion"), dict(warmup_steps=-1),
               dict(patch_sizes=()), dict(patch_sizes=(4, 0)), dict(patch_sizes=4), dict(patch_sizes=(2, 2)),
               dict(patch_sizes=(2.0, 4)), dict(patch_sizes="24"), dict(patch_sizes={2, 4})]
)  # fmt: skip
def test_recipes_that_cannot_be_followed_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Recipe(**fields)


def test_a_task_of_ones_own_is_learnt_and_measured():
    """The same images, but to be named as bright at the top or not: two of three labels are one class."""

    def is_top(model, images, labels):
        logits, wanted = model(images)[:, 0].float(), labels == 0
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted.float())
        return training.Outcome(loss, ((logits > 0) == wanted).sum(), len(labels))

    recipe, run = Recipe(steps=60, batch_size=32, learning_rate=3e-3, augment=False), vitlab.start(**CPU)
    model, test = tiny(), stripes(90, seed=1)
    history = vitlab.train(model, stripes(200), test, recipe, run, progress=False, task=is_top)
    assert history.rows[0]["loss"] == pytest.approx(math.log(2))
    assert history.accuracy > 0.95
    with torch.no_grad():
        right = [float((model(image[None] / 127.5 - 1)[0, 0] > 0) == (label == 0))
                 for image, label in zip(test.images, test.labels, strict=True)]  # fmt: skip
    assert vitlab.evaluate(model, test, run, batch_size=40, task=is_top)[1] == pytest.approx(sum(right) / 90)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(steps=10.5), "steps is a whole number; got 10.5"),
        (dict(batch_size="64"), "batch_size is a whole number; got '64'"),
        (dict(learning_rate=math.nan), "learning_rate is above 0; got nan"),
        (dict(weight_decay=math.nan), "weight_decay is at least 0; got nan"),
    ],
)
def test_a_recipe_has_numbers_that_can_be_used(wrong, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**wrong)


EIGHT = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (EIGHT, torch.zeros(5, dtype=torch.long), "8 images but 5 labels"),
        (EIGHT, torch.zeros(8, dtype=torch.int32), "the labels of .* int64"),
        (EIGHT, torch.zeros(8, 10, dtype=torch.long), "the labels of"),
        (EIGHT[:, 0], torch.zeros(8, dtype=torch.long), "the images of .* uint8"),
        ([0] * 8, [0] * 8, "the images of"),
    ],
)
def test_data_that_is_none_is_refused_before_the_first_step(images, labels, words):
    wrong = Dataset(images, labels, list("abcdefghij"))
    with pytest.raises(ValueError, match=words):
        vitlab.train(vitlab.ViT(vitlab.ViTConfig()), wrong, None, vitlab.Recipe(steps=1), progress=False)


def test_test_data_of_another_size_is_refused_before_the_first_step():
    one, other = (
        Dataset(torch.zeros(8, 1, side, side, dtype=torch.uint8), torch.zeros(8, dtype=torch.long), ["a"])
        for side in (28, 32)
    )
    with pytest.raises(ValueError, match="test_data of"):
        vitlab.train(vitlab.ViT(vitlab.ViTConfig()), one, other, vitlab.Recipe(steps=100), progress=False)


def test_labels_of_another_task_are_its_own_affair():
    def brightness(model, images, labels):
        loss = (model(images)[:, 0] - labels).square().mean()
        return training.Outcome(loss, loss.new_tensor(0.0), loss.new_tensor(float(len(labels))))

    data = Dataset(EIGHT, torch.rand(8), ["any"])
    history = vitlab.train(
        ViT(ViTConfig()), data, None, Recipe(steps=1, batch_size=8), progress=False, task=brightness
    )
    assert len(history.rows) == 1


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_model_with_nothing_to_train_is_refused_in_these_words(optimizer):
    model, recipe = tiny().requires_grad_(False), Recipe(steps=1, batch_size=8, optimizer=optimizer)
    wanted = f"nothing to train: all of its {len(list(model.parameters()))} parameters are frozen"
    with pytest.raises(ValueError, match=wanted):
        vitlab.train(model, stripes(8), None, recipe, vitlab.start(**CPU), progress=False)
    with pytest.raises(ValueError, match="nothing to train, as it has no parameters"):
        vitlab.train(torch.nn.Flatten(), stripes(8), None, recipe, vitlab.start(**CPU), progress=False)


def test_muon_where_blocks_are_frozen():
    """All of them: told so. Some of them: they stay, and the others learn."""
    model, recipe = tiny(), Recipe(steps=3, batch_size=8, optimizer="muon", weight_decay=0.3)
    matrices = sum(p.ndim == 2 for p in model.blocks.parameters())
    model.blocks.requires_grad_(False)
    with pytest.raises(ValueError, match=f"all {matrices} of them in this model are frozen; 'adamw'"):
        vitlab.train(model, stripes(8), None, recipe, vitlab.start(**CPU), progress=False)
    torch.nn.init.normal_(model.head.weight)
    model.blocks[1].requires_grad_(True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    vitlab.train(model, stripes(8), None, recipe, vitlab.start(**CPU), progress=False)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("blocks.0"), name


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_only_what_is_not_frozen_moves(optimizer):
    model, recipe = tiny(), Recipe(steps=3, batch_size=8, optimizer=optimizer, weight_decay=0.3)
    torch.nn.init.normal_(model.head.weight)
    model.requires_grad_(False).blocks[1].mlp.fc1.weight.requires_grad_(True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    vitlab.train(model, stripes(8), None, recipe, vitlab.start(**CPU), progress=False)
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert moved == ["blocks.1.mlp.fc1.weight"]


# --- weighted means -----------------------------------------------------------------------------------------

WEIGHTS = [1.0, 10.0, 40.0]


def unequal() -> tuple[ViT, Dataset]:
    """90 images, 80, 8 and 2 of the three classes, in this order; a model that is not sure of them."""
    torch.manual_seed(0)
    model = tiny()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    labels = torch.cat([torch.zeros(80), torch.ones(8), torch.full((2,), 2.0)]).long()
    images = torch.randint(0, 256, (90, 1, 12, 12), generator=torch.Generator().manual_seed(0))
    return model, Dataset(images.byte(), labels, ["many", "some", "few"])


def weighted_mean(model: ViT, data: Dataset, weights: list[float]) -> float:
    """Image by image, in fp64."""
    model, total, divisor = deepcopy(model).double().eval(), 0.0, 0.0
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        with torch.no_grad():
            probabilities = model(image[None].double() / 127.5 - 1)[0].softmax(0)
        total -= weights[label] * math.log(probabilities[label])
        divisor += weights[label]
    return total / divisor


def cross_entropy(logits, labels, **options):
    return torch.nn.functional.cross_entropy(logits.float(), labels, **options)


def told(model, images, labels):
    logits, weights = model(images), torch.tensor(WEIGHTS)
    loss = cross_entropy(logits, labels, weight=weights)
    return training.Outcome(loss, (logits.argmax(1) == labels).sum(), len(labels), weights[labels].sum())


def untold(model, images, labels):
    return told(model, images, labels)._replace(divisor=None)


def untold_by_hand(model, images, labels):
    logits, weights = model(images), torch.tensor(WEIGHTS)[labels]
    loss = (weights * cross_entropy(logits, labels, reduction="none")).sum() / weights.sum()
    return training.Outcome(loss, (logits.argmax(1) == labels).sum(), len(labels))


by_class_weights = functools.partial(training.classification, class_weights=WEIGHTS)


@pytest.mark.parametrize("batch_size", [500, 30, 9, 1])
@pytest.mark.parametrize("task", [told, untold, untold_by_hand, by_class_weights])
@pytest.mark.filterwarnings("ignore:the task's loss is no mean")
def test_a_weighted_mean_is_the_same_for_every_batch_size(task, batch_size):
    model, data = unequal()
    wanted = weighted_mean(model, data, WEIGHTS)
    loss, accuracy = vitlab.evaluate(model, data, vitlab.start(**CPU), batch_size, task)
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert abs(wanted - weighted_mean(model, data, [1, 1, 1])) > 0.1  # or there would be nothing to see
    assert accuracy == vitlab.evaluate(model, data, vitlab.start(**CPU))[1]


@pytest.mark.parametrize("batch_size", [500, 30, 9, 1])
@pytest.mark.filterwarnings("ignore:the task's loss is no mean")
def test_images_that_a_task_ignores_do_not_count(batch_size):
    """In whole batches there is none left to count: PyTorch's mean of nothing is NaN."""

    def task(model, images, labels, say=True):
        logits, known = model(images), labels != 0
        loss = cross_entropy(logits, labels.where(known, -100), ignore_index=-100)
        right = ((logits.argmax(1) == labels) & known).sum()
        return training.Outcome(loss, right, known.sum(), known.sum() if say else None)

    model, data = unequal()
    wanted = weighted_mean(model, data.subset(range(80, 90)), [1, 1, 1])
    for say in (True, False):
        ignoring = functools.partial(task, say=say)
        loss, _ = vitlab.evaluate(model, data, vitlab.start(**CPU), batch_size, ignoring)
        assert loss == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ValueError, match="counted nothing in the whole data set"):
        vitlab.evaluate(model, data.subset(range(80)), vitlab.start(**CPU), batch_size, task)


def test_a_loss_that_is_no_mean_is_measured_at_once_and_told():
    model, data = unequal()
    with pytest.warns(UserWarning, match=r"no mean over what it counted.*Outcome\(.*divisor\)"):
        vitlab.evaluate(model, data, vitlab.start(**CPU), 30, untold)

    def too_large(model, images, labels):
        if len(images) > 80:
            raise torch.OutOfMemoryError("out of memory")
        return untold(model, images, labels)

    with (
        pytest.warns(UserWarning, match="no mean"),
        pytest.raises(MemoryError, match="full with 90 images at once.*divisor"),
    ):
        vitlab.evaluate(model, data, vitlab.start(**CPU), 30, too_large)


@pytest.mark.filterwarnings("error")
def test_a_mean_and_a_task_that_draws_are_measured_in_batches():
    """And what they draw leaves the next draws as they were."""
    sizes = []

    def mean(model, images, labels):
        sizes.append(len(images))
        return training.classification(model, images, labels)._replace(divisor=None)

    def drawing(model, images, labels):
        outcome = mean(model, images, labels)
        return outcome._replace(loss=outcome.loss + torch.rand(()))

    model, data = unequal()
    wanted = weighted_mean(model, data, [1, 1, 1])
    loss, _ = vitlab.evaluate(model, data, vitlab.start(**CPU), 9, mean)
    assert loss == pytest.approx(wanted, rel=1e-5)
    torch.manual_seed(3)
    loss, _ = vitlab.evaluate(model, data, vitlab.runtime.here(**CPU), 9, drawing)
    torch.manual_seed(3)
    drawn = torch.stack([torch.rand(()) for _ in range(10)])
    assert loss - wanted == pytest.approx(drawn.mean().item(), rel=1e-4)
    assert max(sizes) == 9


@pytest.mark.parametrize(("task", "weights"), [(told, WEIGHTS), (None, [1, 1, 1])])
def test_a_row_is_the_mean_of_all_that_was_trained_on(task, weights):
    """A rate of nearly nothing leaves the weights as they are; the third row is of steps 3 and 4."""
    model, data = unequal()
    recipe = Recipe(200, 9, 1e-30, 0.0, clip_norm=0.0, optimizer="sgd", augment=False)
    history = vitlab.train(model, data, None, recipe, vitlab.start(**CPU), progress=False, task=task)
    batches = list(vitlab.data.batches(data, 9, seed=0, steps=4))[2:]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    both = Dataset(((images + 1) * 127.5).round().byte(), labels, data.classes)
    assert history.rows[2]["step"] == 4
    assert history.rows[2]["loss"] == pytest.approx(weighted_mean(model, both, weights), rel=1e-5)


# --- class weights ------------------------------------------------------------------------------------------


def test_balanced_weights_by_hand():
    """n / (classes × count), as scikit-learn has it, here with 90 images: each class weighs 30."""
    _, data = unequal()
    found = training.weights_of_classes("balanced", data)
    torch.testing.assert_close(found, torch.tensor([90 / 240, 90 / 24, 90 / 6]))
    torch.testing.assert_close(found[data.labels].mean(), torch.tensor(1.0))
    assert training.weights_of_classes(None, data) is None
    assert training.weights_of_classes((2, 3, 4), data, ["x", "few", None, "many"]).tolist() == [1, 4, 1, 2]


@pytest.mark.parametrize("class_weights", ["balanced", [0.5, 3.0, 9.0]])
def test_steps_with_class_weights_are_plain_pytorchs(class_weights):
    model, data = unequal()
    by_hand, weights = deepcopy(model), torch.tensor([0.5, 3.0, 9.0])
    if class_weights == "balanced":
        weights = 90 / (3 * torch.tensor([80.0, 8.0, 2.0]))
    recipe = Recipe(3, 90, 0.1, 0.0, 0, 0.0, 0.1, class_weights, optimizer="sgd", augment=False)
    history = vitlab.train(model, data, data, recipe, vitlab.start(**CPU), progress=False)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    for row in history.rows:
        logits = by_hand(data.images / 127.5 - 1)
        loss = torch.nn.functional.cross_entropy(logits, data.labels, weights, label_smoothing=0.1)
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for found, wanted in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert history.evaluations[-1].loss == pytest.approx(weighted_mean(model, data, [1, 1, 1]), rel=1e-5)


def test_rare_classes_are_learnt_with_balanced_weights():
    """What they are for: accuracy of the rare class, from a few of its images among many others."""
    common = stripes(300)
    rare = (common.labels == 2).nonzero()[:15, 0].tolist()
    data = common.subset([*(common.labels != 2).nonzero()[:, 0].tolist(), *rare])
    asked, found = stripes(60, seed=1), {}
    asked = asked.subset(asked.labels == 2)
    for class_weights in (None, "balanced"):
        recipe = Recipe(60, 32, 5e-3, augment=False, class_weights=class_weights)
        model = tiny()
        vitlab.train(model, data, None, recipe, vitlab.start(**CPU), progress=False)
        found[class_weights] = vitlab.evaluate(model, asked, vitlab.start(**CPU))[1]
    assert found["balanced"] > found[None] + 0.3


def test_more_outputs_than_classes_may_be_weighted():
    _, data = unequal()
    recipe = Recipe(steps=1, batch_size=9, class_weights="balanced")
    vitlab.train(tiny(num_classes=5), data, None, recipe, vitlab.start(**CPU), progress=False)


@pytest.mark.parametrize(
    "wrong", [[1.0, -1.0], [0.0, 1.0], [1.0, math.nan], [math.inf, 1.0], "even", "11", [], ["a", "b"], 3.0,
              {1: 5.0, 2: 3.0}, {5.0, 1.0}]
)  # fmt: skip
def test_class_weights_that_are_no_weights_are_refused(wrong):
    with pytest.raises(ValueError, match="class_weights is None, 'balanced', or a number above 0 for each"):
        Recipe(class_weights=wrong)


def test_class_weights_that_do_not_fit_the_data_are_refused():
    model, data = unequal()
    without = data.subset(data.labels != 1)
    for class_weights, some, said in [
        ([1.0, 2.0], data, r"one number for each of 3 classes \(many, some, few\); got 2"),
        ("balanced", without, "there are none of some"),
    ]:
        recipe = Recipe(steps=1, batch_size=9, class_weights=class_weights)
        with pytest.raises(ValueError, match=said):
            vitlab.train(model, some, None, recipe, vitlab.start(**CPU), progress=False)


def test_where_gradients_are_off_training_says_so():
    model, data = unequal()
    with torch.no_grad(), pytest.raises(ValueError, match="gradients are off here: leave torch.no_grad"):
        vitlab.train(model, data, None, Recipe(steps=1, batch_size=9), vitlab.start(**CPU), progress=False)


def test_labels_that_the_model_lacks_are_refused_however_classification_is_given():
    model, data = unequal()
    task = functools.partial(training.classification, label_smoothing=0.1)
    wrong = data._replace(labels=data.labels + 1)
    with pytest.raises(ValueError, match="run from 1 to 3, but the model knows 3 classes"):
        vitlab.evaluate(model, wrong, vitlab.start(**CPU), task=task)


# --- settings that would not be used ------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [dict(label_smoothing=0.1), dict(class_weights="balanced")])
@pytest.mark.parametrize("task", [told, by_class_weights])
def test_what_a_task_of_ones_own_would_not_see_is_refused(setting, task):
    model, data = unequal()
    recipe = Recipe(steps=1, batch_size=9, **setting)
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is of the task classification.*leave"):
        vitlab.train(model, data, None, recipe, vitlab.start(**CPU), progress=False, task=task)


@pytest.mark.parametrize("setting", [dict(label_smoothing=0.1), dict(class_weights=[1, 2, 3])])
def test_what_a_partial_of_classification_would_not_see_is_refused(setting):
    """It is no task of one's own, and cannot be had to smooth by itself: the partial can."""
    model, data = unequal()
    (name, value), *_ = setting.items()
    task = functools.partial(training.classification)
    with pytest.raises(ValueError, match=f"has it as a functools.partial.*leave {name} out.*to the partial"):
        vitlab.train(
            model, data, None, Recipe(steps=1, batch_size=9, **setting), vitlab.start(**CPU), False, task=task
        )
    told = functools.partial(training.classification, **{name: value})  # as the message advises
    assert training.tasks.by_recipe(Recipe(steps=1, batch_size=9), told, data, data.classes) is told


def test_classification_by_its_name_has_the_recipes_smoothing():
    losses = []
    for task in (None, training.classification):
        model, data = unequal()
        recipe = Recipe(steps=1, batch_size=90, label_smoothing=0.3, augment=False)
        history = vitlab.train(model, data, None, recipe, vitlab.start(**CPU), progress=False, task=task)
        losses.append(history.rows[0]["loss"])
    model, data = unequal()
    wanted = cross_entropy(model(data.images / 127.5 - 1), data.labels, label_smoothing=0.3)
    assert losses == pytest.approx([wanted.item()] * 2, rel=1e-5)


def test_a_stepper_alone_smooths_labels_and_cannot_weigh_classes():
    model, data = unequal()
    images, run = data.images / 127.5 - 1, vitlab.start(**CPU)
    outcome = training.Stepper(model, Recipe(label_smoothing=0.3), run).step(images, data.labels, 0.0)
    model, _ = unequal()
    wanted = cross_entropy(model(images), data.labels, label_smoothing=0.3)
    assert outcome.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    with pytest.raises(ValueError, match="class weights are of a data set"):
        training.Stepper(model, Recipe(class_weights="balanced"), run)


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.array])
def test_class_weights_may_be_any_row_of_numbers(kind):
    recipe = Recipe(class_weights=kind([1.0, 2.0, 4.0]))
    assert recipe.class_weights == (1.0, 2.0, 4.0)
    assert recipe == Recipe(class_weights=(1, 2, 4))


def test_numbers_of_nothing_are_refused():
    model, data = unequal()
    with pytest.raises(ValueError, match="evaluations is at least 1; got 0: test_data=None measures nothing"):
        vitlab.train(model, data, data, Recipe(steps=1), progress=False, evaluations=0)
    with pytest.raises(ValueError, match="batch_size is at least 1; got 0"):
        vitlab.evaluate(model, data, batch_size=0)


def test_a_loss_that_no_weight_can_change_is_refused():
    def detached(model, images, labels):
        outcome = training.classification(model, images, labels)
        return outcome._replace(loss=outcome.loss.detach())

    model, data = unequal()
    with pytest.raises(ValueError, match="depends on no weight that can be trained"):
        vitlab.train(model, data, None, Recipe(steps=1, batch_size=9), progress=False, task=detached)
