"""Effective receptive fields: of convolutions whose field is known, of a ViT and a ResNet by differences."""

import itertools
import math

import pytest
import torch
from torch import nn

from vitlab import ViT, ViTConfig
from vitlab.attention import effective_receptive_field, field_radius
from vitlab.resnet import ResNet, ResNetConfig


def boxes(count, stride=1):
    """Convolutions of ones: the field of n of them is a box blurred n - 1 times by a box."""
    layers = [nn.Conv2d(1, 1, 3, stride, padding=1, bias=False) for _ in range(count)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers)


def test_a_stack_of_convolutions():
    fields = effective_receptive_field(boxes(4), torch.randn(3, 1, 21, 25))
    line = [1.0]
    for depth in range(4):
        line = [sum(line[max(0, i - 2) : i + 1]) for i in range(len(line) + 2)]  # 1 1 1, 1 2 3 2 1, …
        wanted = torch.zeros(21, 25)
        for (i, v), (j, u) in itertools.product(enumerate(line), enumerate(line)):
            wanted[10 - depth - 1 + i, 12 - depth - 1 + j] = v * u / sum(line) ** 2
        torch.testing.assert_close(fields[depth], wanted, atol=1e-7, rtol=1e-5)
        spread = sum((i - depth - 1) ** 2 * v for i, v in enumerate(line)) / sum(line)
        assert spread == pytest.approx((depth + 1) * 2 / 3)  # the theory: variances add up


def test_strides_widen_the_field():
    fields = effective_receptive_field(boxes(3, stride=2), torch.randn(1, 1, 33, 33))
    seen = [int((field > 0).any(dim=0).sum()) for field in fields]
    assert seen == [3, 7, 15]  # each layer adds 2 · stride so far


def test_radius_by_loop():
    fields = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    for field, radius in zip(fields.tolist(), field_radius(fields).tolist(), strict=True):
        places = list(itertools.product(range(5), range(7)))
        total = sum(map(sum, field))
        y, x = (sum(place[axis] * field[place[0]][place[1]] for place in places) / total for axis in (0, 1))
        wanted = sum(math.hypot(v - y, u - x) * field[v][u] for v, u in places) / total
        assert radius == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("prefix", ["token", "mean"])
def test_of_a_vit_by_differences(prefix):
    torch.manual_seed(0)
    small = dict(image_size=(6, 9), patch_size=3, embed_dim=12, depth=2, num_heads=2, mlp_dim=16)
    model = ViT(ViTConfig(**small, pool=prefix)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    images = torch.randn(2, 1, 6, 9)
    fields = effective_receptive_field(model, images)
    assert fields.shape == (3, 6, 9)
    model, images, step = model.double(), images.double(), 1e-5
    token = (prefix == "token") + 1 * 3 + 1  # row 1, column 1 of a grid of 2 x 3

    @torch.no_grad()
    def unit(changed):
        x = model.embed(changed)
        sums = [x[:, token].sum(-1)]
        for block in model.blocks:
            x = block(x)
            sums.append(x[:, token].sum(-1))
        return torch.stack(sums)  # (depths, B)

    slopes = torch.zeros(3, 2, 6, 9, dtype=torch.float64)
    for y, x in itertools.product(range(6), range(9)):
        change = torch.zeros_like(images)
        change[..., y, x] = step
        slopes[:, :, y, x] = ((unit(images + change) - unit(images - change)) / (2 * step)).abs()
    wanted = (slopes / slopes.sum(dim=(2, 3), keepdim=True)).mean(dim=1)
    torch.testing.assert_close(fields.double(), wanted, atol=1e-6, rtol=1e-3)
    assert fields[0, 3:6, 3:6].sum() == pytest.approx(1)  # the embedding sees its own patch alone
    assert (fields[1] > 0).all()  # one layer of attention sees everything


def test_a_resnet_sees_more_with_each_block_and_a_vit_all_at_once():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 48, 48)
    resnet, vit = ResNet(ResNetConfig(in_chans=3, width=8)), ViT(ViTConfig(image_size=48, in_chans=3))
    convolved, attended = (effective_receptive_field(model, images) for model in (resnet, vit))
    assert convolved.shape == (4, 48, 48)
    assert attended.shape == (5, 48, 48)
    torch.testing.assert_close(convolved.sum(dim=(1, 2)), torch.ones(4))
    seen = [int((field > 0).any(dim=0).sum()) for field in convolved[:1]]
    assert seen == [3]
    radius = field_radius(convolved)
    assert (radius.diff() > 0).all()
    assert radius[-1] < field_radius(torch.ones(48, 48))
    assert resnet.training
    assert all(parameter.grad is None for parameter in resnet.parameters())


def test_where_gradients_are_off():
    model, images = boxes(2), torch.randn(1, 1, 9, 9)
    wanted = effective_receptive_field(model, images)
    with torch.no_grad():
        assert torch.equal(effective_receptive_field(model.requires_grad_(False), images), wanted)


def test_what_cannot_be_looked_into():
    with pytest.raises(ValueError, match="takes a vitlab ViT or ResNet, an nn.Sequential, .*; got a Conv2d"):
        effective_receptive_field(nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 9, 9))
    blind = nn.Sequential(nn.Conv2d(1, 1, 3))
    nn.init.zeros_(blind[0].weight)
    with pytest.raises(ValueError, match="no pixel changes the unit at depth 0"):
        effective_receptive_field(blind, torch.zeros(1, 1, 9, 9))
