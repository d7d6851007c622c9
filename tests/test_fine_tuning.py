"""New head, new grid, probe and draws, against numpy, loops and the model they come from."""

import time

import numpy as np
import pytest
import torch
from PIL import Image

import vitlab
from vitlab import ViT, ViTConfig, fine_tuning
from vitlab.data import Dataset

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
    with pytest.raises(ValueError, match="4 features but 3 labels"):
        fine_tuning.linear_probe(torch.zeros(4, 2), torch.zeros(3), torch.zeros(4, 2), torch.zeros(4))


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


def test_a_study_gives_every_method_the_same_nested_draws():
    data = small_data()
    data = data._replace(images=torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 1, 2, 2))
    seen = {}

    def record(name):
        def method(draw, seed):
            seen[name, seed, len(draw.labels) // 3] = set(draw.images[:, 0, 0, 0].tolist())
            return 100 * seed + len(draw.labels)

        return method

    found = fine_tuning.few_label_study({"a": record("a"), "b": record("b")}, data, [2, 5], draws=2)
    assert {name: table.tolist() for name, table in found.items()} == dict.fromkeys(
        "ab", [[6, 15], [106, 115]]
    )
    for seed in (0, 1):
        assert seen["a", seed, 5] == seen["b", seed, 5]
        assert seen["a", seed, 2] < seen["a", seed, 5]
    assert seen["a", 0, 5] != seen["a", 1, 5]
    with pytest.raises(ValueError, match="at least 1; got 0"):
        fine_tuning.few_label_study({}, data, [1], draws=0)


@pytest.mark.parametrize("size", [14, (28, 56), 42])
def test_another_resolution_is_pillows_bicubic(size):
    data = small_data(3)
    found = fine_tuning.at_resolution(data, size)
    height, width = (size, size) if isinstance(size, int) else size
    for image, resized in zip(data.images, found.images, strict=True):
        wanted = Image.fromarray(image[0].float().numpy()).resize((width, height), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(wanted).clip(0, 255) - resized[0].numpy()).max() <= 0.51
    assert found.labels is data.labels
