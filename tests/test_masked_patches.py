"""Masked patch prediction (B.1.2), against loops and against vit-pytorch's targets."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vitlab
from vitlab import Recipe, ViT, ViTConfig, data, pretraining
from vitlab.fine_tuning import adapt
from vitlab.pretraining import MaskedPatchViT, class_colours, draw_corruption, masked_patch_prediction
from vitlab.pretraining import mean_colour_classes as classes_of
from vitlab.pretraining.masked import KEPT, MASKED, SWAPPED, Corruption
from vitlab.runtime import here

CPU = here("cpu", "fp32")


def tiny(**fields) -> MaskedPatchViT:
    """A small model with every weight at random, also those that start at zero."""
    torch.manual_seed(0)
    sizes = dict(image_size=(12, 20), patch_size=4, in_chans=3, num_classes=0, embed_dim=16, depth=2,
                 num_heads=2, mlp_dim=32)  # fmt: skip
    model = MaskedPatchViT(ViTConfig(**(sizes | fields)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def pictures(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Random images with smooth colours, so that patches differ in their means."""
    small = torch.rand(n, shape[0], 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(small, size=shape[1:], mode="bilinear")


# --- targets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "bits"), [((3, 12, 20), 3), ((1, 12, 20), 3), ((3, 8, 4), 2)])
def test_targets_against_a_loop_in_numpy(shape, bits):
    images, P = pictures(5, *shape), 4
    got = classes_of(images, P, bits)
    assert got.dtype == torch.int64
    assert got.shape == (5, shape[1] // P * shape[2] // P)
    edges = [-1 + 2 * i / 2**bits for i in range(1, 2**bits)]
    for b, image in enumerate(images.double().numpy()):
        patch = 0
        for row in range(0, shape[1], P):
            for column in range(0, shape[2], P):
                wanted = 0
                for channel in reversed(range(shape[0])):  # the first counts least
                    mean = np.mean(image[channel, row : row + P, column : column + P])
                    wanted = wanted * 2**bits + sum(mean >= edge for edge in edges)
                assert got[b, patch] == wanted
                patch += 1


def test_targets_at_the_edges():
    """Black is the first class and white the last; a mean on an edge belongs to the brighter class."""
    values = torch.tensor([-1.0, -0.75, -0.7501, 0.0, 0.75, 1.0])
    grey = values.view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    assert classes_of(grey, 2)[:, 0].tolist() == [0, 1, 0, 4, 7, 7]
    assert classes_of(grey.expand(-1, 3, -1, -1), 2)[:, 0].tolist() == [73 * c for c in (0, 1, 0, 4, 7, 7)]
    red_first = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert classes_of(red_first, 2).item() == 7 + 8 * 0 + 64 * 4


def test_targets_are_vit_pytorchs():
    """The same classes, in the same order. Its bins hold their upper edge and ours their lower: a patch whose
    mean lies exactly on an edge is one class brighter here, as the last lines show."""
    mpp = pytest.importorskip("vit_pytorch.mpp")
    images, P = pictures(6, 3, 12, 20), 4
    unit = (images + 1) / 2  # it takes pixels in [0, 1]

    def theirs(unit, classes):
        """Its loss is near zero where logits point to its own targets, and large elsewhere."""
        loss = mpp.MPPLoss(P, unit.shape[1], 3, 1.0, None, None)
        logits = 50.0 * F.one_hot(classes, 8 ** unit.shape[1])
        return loss(logits, unit, torch.ones(classes.shape, dtype=torch.bool))

    classes = classes_of(images, P)
    assert theirs(unit, classes) < 1e-6
    wrong = classes.clone()
    wrong[0, 0] = (wrong[0, 0] + 1) % 512
    assert theirs(unit, wrong) == pytest.approx(50 / classes.numel())
    on_an_edge = torch.full((1, 1, 4, 4), 0.25)
    assert classes_of(on_an_edge * 2 - 1, P).item() == 2
    assert theirs(on_an_edge, torch.tensor([[1]])) < 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_class_colours_are_their_classes(channels):
    classes = torch.arange(8**channels)
    colours = class_colours(classes, channels)
    assert colours.shape == (8**channels, channels)
    patches = colours[:, :, None, None].expand(-1, -1, 4, 4)
    assert torch.equal(classes_of(patches, 4)[:, 0], classes)


def test_unusable_images_are_refused():
    with pytest.raises(ValueError, match="floats in .*; got torch.uint8; use vitlab.data.normalise"):
        classes_of(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 4)
    with pytest.raises(ValueError, match="8 is not divisible by 3"):
        classes_of(torch.zeros(1, 1, 8, 8), 3)
    with pytest.raises(ValueError, match=r"images \(3, 12, 20\); got \(2, 3, 20, 12\)"):
        tiny()(torch.zeros(2, 3, 20, 12))
    with pytest.raises(ValueError, match="2 patches or more; got 1"):
        draw_corruption(3, 1)


# --- corruption --------------------------------------------------------------------------------------------


def test_shares_of_the_corruption():
    torch.manual_seed(0)
    patches, kinds, sources = draw_corruption(4000, 50)
    assert patches.shape == kinds.shape == sources.shape == (4000, 25)  # half of 50
    assert all(len(set(places)) == 25 for places in patches[:200].tolist())
    n = kinds.numel()  # 100,000
    for kind, share in {MASKED: 0.8, SWAPPED: 0.1, KEPT: 0.1}.items():
        deviation = math.sqrt(share * (1 - share) / n)
        assert float((kinds == kind).float().mean()) == pytest.approx(share, abs=4 * deviation)
    swapped = kinds == SWAPPED
    assert (sources[swapped] != patches[swapped]).all()
    assert torch.equal(sources[~swapped], patches[~swapped])
    for places, share in ((patches, n / 50), (sources[swapped], int(swapped.sum()) / 50)):
        counts = torch.bincount(places.flatten(), minlength=50)  # each place as often as any other
        assert len(counts) == 50
        assert (counts - share).abs().max() < 5 * math.sqrt(share)


def test_the_draw_follows_the_generator_it_is_given():
    one, same = (draw_corruption(3, 20, torch.Generator().manual_seed(4)) for _ in range(2))
    other = draw_corruption(3, 20, torch.Generator().manual_seed(5))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.patches, other.patches)


# --- model and loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, dict(pool="mean"), dict(pos_embed="none"), dict(in_chans=1)])
def test_loss_against_a_loop(fields):
    """Patch by patch and in float64, from the same weights: embed, replace, encode, compare."""
    model = tiny(**fields).double()
    vit, c = model.vit, model.vit.config
    images = pictures(4, c.in_chans, 12, 20).double()
    torch.manual_seed(3)
    loss, correct, counted, divisor = masked_patch_prediction(model, images, labels=None)
    torch.manual_seed(3)
    patches, kinds, sources = draw_corruption(4, 15)
    losses, hits = [], 0
    for b, image in enumerate(images):
        rows = [image[:, 4 * (i // 5) : 4 * (i // 5) + 4, 4 * (i % 5) : 4 * (i % 5) + 4] for i in range(15)]
        embedded = [
            vit.patch_embed.proj.weight.flatten(1) @ p.flatten() + vit.patch_embed.proj.bias for p in rows
        ]
        sequence = list(embedded)
        for place, kind, source in zip(
            patches[b].tolist(), kinds[b].tolist(), sources[b].tolist(), strict=True
        ):
            sequence[place] = {
                MASKED: model.mask_token[0, 0],
                SWAPPED: embedded[source],
                KEPT: embedded[place],
            }[kind]
        tokens = torch.stack(sequence)
        if c.pool == "token":
            tokens = torch.cat([vit.cls_token[0], tokens])
        if c.pos_embed != "none":
            tokens = tokens + vit.pos_embed[0]
        tokens = vit.norm(vit.blocks(tokens[None]))[0]
        for place in patches[b].tolist():
            logits = model.head(tokens[place + (c.pool == "token")])
            mean = rows[place].mean(dim=(1, 2))
            wanted = sum(int(min(7, (m + 1) * 4)) * 8**k for k, m in enumerate(mean.tolist()))
            losses.append(-logits.log_softmax(0)[wanted].item())
            hits += int(logits.argmax()) == wanted
    assert counted == len(losses) == 4 * 7
    assert loss.item() == pytest.approx(sum(losses) / counted, rel=1e-6)
    assert correct.item() == hits


def test_the_first_loss_is_that_of_guessing():
    torch.manual_seed(0)
    model = MaskedPatchViT(ViTConfig(in_chans=3, num_classes=0))
    loss, *_ = masked_patch_prediction(model, pictures(2, 3, 28, 28), labels=None)
    assert loss.item() == pytest.approx(math.log(512), abs=1e-5)


def test_every_weight_gets_a_gradient():
    model = tiny()
    masked_patch_prediction(model, pictures(8, 3, 12, 20), labels=None).loss.backward()
    assert model.mask_token.grad.abs().min() > 0
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_what_a_masked_patch_showed_has_no_effect():
    """All patches masked: whatever the images show, the logits are the same. Kept ones show through."""
    model = tiny().eval()
    every = torch.arange(15).expand(2, -1)
    masked = Corruption(every, torch.full_like(every, MASKED), every)
    kept = masked._replace(kinds=torch.full_like(every, KEPT))
    a, b = pictures(2, 3, 12, 20), pictures(2, 3, 12, 20, seed=1)
    with torch.no_grad():
        assert torch.equal(model(a, masked)[0], model(b, masked)[0])
        assert not torch.allclose(model(a, kept)[0], model(b, kept)[0])
        features = model.vit.forward_features(a)[:, 1:]  # nothing is corrupted where all is kept
        torch.testing.assert_close(model(a, kept)[0], model.head(features))


def test_two_evaluations_measure_the_same():
    model, images = tiny().eval(), pictures(4, 3, 12, 20)
    state = torch.get_rng_state()
    first, second = (masked_patch_prediction(model, images, None).loss.item() for _ in range(2))
    assert first == second
    assert torch.equal(state, torch.get_rng_state())
    model.train()
    first, second = (masked_patch_prediction(model, images, None).loss.item() for _ in range(2))
    assert first != second


def test_bf16_keeps_logits_and_loss_in_fp32():
    model, images = tiny(), pictures(4, 3, 12, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(1)
        logits, classes = model(images)
    torch.manual_seed(1)
    exact, same_classes = model(images)
    assert logits.dtype == torch.float32
    assert torch.equal(classes, same_classes)
    torch.testing.assert_close(logits, exact, rtol=0.1, atol=0.2)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_it_learns_more_than_which_colour_is_frequent(pool):
    """A short training on garments, and the model then serves for classification."""
    run = vitlab.start(seed=0, device="cpu", precision="fp32")
    train, test = data.fashion_mnist("train").subset(1000), data.fashion_mnist("test").subset(200)
    model = MaskedPatchViT(ViTConfig(patch_size=7, num_classes=0, embed_dim=48, depth=2, pool=pool))
    recipe = Recipe(steps=150, batch_size=64, learning_rate=3e-3, augment=False)
    history = vitlab.train(
        model, train, test, recipe, run, progress=False, evaluations=1, task=masked_patch_prediction
    )
    frequency = Counter(classes_of(data.normalise(train.images), 7).flatten().tolist())
    shares = [frequency[c] / frequency.total() for c in range(8)]
    guessing = -sum(share * math.log(share) for share in shares if share)
    assert history.rows[0]["loss"] == pytest.approx(math.log(8), abs=1e-4)
    assert history.evaluations[-1].loss < 0.85 * guessing
    assert history.accuracy > max(shares) + 0.05
    classifier = adapt(model.vit, num_classes=10)
    assert torch.equal(classifier.blocks[1].mlp.fc1.weight, model.vit.blocks[1].mlp.fc1.weight)
    recipe = Recipe(steps=3, batch_size=16)
    supervised = vitlab.train(classifier, train, None, recipe, run, progress=False)
    assert supervised.rows[0]["loss"] == pytest.approx(math.log(10), abs=1e-4)


def test_equal_seeds_give_equal_losses():
    images = (pictures(16, 3, 12, 20) * 127.5 + 127.5).byte()
    dataset = data.Dataset(images, torch.zeros(16, dtype=torch.long), ["all"])
    losses = []
    for _ in range(2):
        model = tiny()
        run = vitlab.start(seed=2, device="cpu", precision="fp32")
        history = vitlab.train(
            model, dataset, None, Recipe(steps=4, batch_size=8), run, progress=False,
            task=masked_patch_prediction,
        )  # fmt: skip
        losses.append([row["loss"] for row in history.rows])
    assert losses[0] == losses[1]


def test_a_vit_that_has_a_head_keeps_it():
    vit = ViT(ViTConfig())
    assert MaskedPatchViT(vit).vit is vit


def test_what_the_model_sees_and_guesses_pixel_by_pixel():
    """Patch by patch, from the draw of the same seed."""
    model, images = tiny().train(), pictures(2, 3, 12, 20)
    side, number = model.config.patch_size, model.config.num_patches
    columns = 20 // side
    seen, guessed, true = pretraining.seen_and_guessed(model, images, seed=3)
    assert model.training, "left as it was"
    hidden = draw_corruption(2, number, torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits, _ = model.eval()(images, hidden)

    def patch(pictures, image, place):
        top, left = place // columns * side, place % columns * side
        return pictures[image, :, top : top + side, left : left + side]

    classes = classes_of(images, side)
    for image in range(2):
        at = {place: i for i, place in enumerate(hidden.patches[image].tolist())}
        for place in range(number):
            parts = [patch(each, image, place) for each in (images, seen, guessed, true)]
            if place not in at:
                assert all(torch.equal(part, parts[0]) for part in parts)
                continue
            kind, source = hidden.kinds[image, at[place]], int(hidden.sources[image, at[place]])
            shown = torch.zeros_like(parts[0]) if kind == MASKED else patch(images, image, source)
            torch.testing.assert_close(parts[1], shown)
            for part, label in (
                (parts[2], logits[image, at[place]].argmax()),
                (parts[3], classes[image, place]),
            ):
                colour = class_colours(label, channels=3)[:, None, None]
                torch.testing.assert_close(part, colour.expand_as(part))
