"""The baseline: standardised kernels by hand, shapes, zero start, learning through the same loop."""

import math

import pytest
import torch
from timm.layers import StdConv2d as TimmStdConv2d
from timm.layers import StdConv2dSame
from timm.models.vision_transformer_hybrid import _resnetv2

import vitlab
from vitlab.data import Dataset
from vitlab.resnet import ResNet, ResNetConfig, StdConv2d, Stem, StemConv2d, pad_same


def test_kernels_are_standardised_by_hand():
    conv, x = StdConv2d(3, 4, 3, padding=1, bias=False), torch.randn(2, 3, 5, 7)
    kernels = []
    for kernel in conv.weight:
        mean, n = kernel.mean(), kernel.numel()
        variance = sum((value - mean) ** 2 for value in kernel.flatten()) / n
        kernels.append((kernel - mean) / torch.sqrt(variance * n))
    wanted = torch.nn.functional.conv2d(x, torch.stack(kernels), padding=1)
    torch.testing.assert_close(conv(x), wanted, rtol=1e-4, atol=1e-5)


def test_kernels_are_timms_up_to_its_scale():
    ours, theirs = StdConv2d(8, 8, 3, padding=1, bias=False), TimmStdConv2d(8, 8, 3, bias=False)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 8, 9, 9)
    torch.testing.assert_close(ours(x) * math.sqrt(8 * 9), theirs(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(9, 9), (8, 11), (2, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_a_stems_convolution_is_timms(kernel, stride, size):
    """Kernels of a small deviation, so that what keeps it from zero matters; borders by hand as well."""
    ours, theirs = StemConv2d(3, 8, kernel, stride, "timm"), StdConv2dSame(3, 8, kernel, stride, eps=1e-8)
    torch.nn.init.normal_(ours.weight, std=1e-3)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=2e-5)
    padded, before = pad_same(x, kernel, stride), []
    for n, now in zip(size, padded.shape[2:], strict=True):
        outputs = math.ceil(n / stride)
        assert (now - kernel) // stride + 1 == outputs
        before.append(max((outputs - 1) * stride + kernel - n, 0) // 2)
    for row, column in ((0, 0), (size[0] - 1, size[1] - 1)):
        assert torch.equal(padded[:, :, before[0] + row, before[1] + column], x[:, :, row, column])
    assert padded.count_nonzero() == x.count_nonzero()


def test_googles_kernels_by_hand():
    conv = StemConv2d(3, 4, 3)
    torch.nn.init.normal_(conv.weight, mean=1e-3, std=1e-4)  # the 1e-5 that is added is then a tenth of it
    x = torch.randn(2, 3, 5, 7)
    kernels = []
    for kernel in conv.weight.detach().double():
        deviation = math.sqrt(
            sum((value - kernel.mean()) ** 2 for value in kernel.flatten()) / kernel.numel()
        )
        kernels.append((kernel - kernel.mean()) / (deviation + 1e-5))
    wanted = torch.nn.functional.conv2d(x.double(), torch.stack(kernels), padding=1)
    torch.testing.assert_close(conv(x).double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("blocks", [(1, 2, 1), (2, 2), ()])
def test_a_stem_is_timms(blocks):
    theirs, x = _resnetv2(blocks).eval(), torch.randn(2, 3, 48, 32)
    for parameter in theirs.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    ours = Stem(3, 64, blocks, "timm")
    state = (
        theirs.state_dict()
        if blocks
        else {f"stem.{key}": value for key, value in theirs.state_dict().items()}
    )
    ours.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=2e-5)
        assert not torch.allclose(Stem(3, 64, blocks)(x), theirs(x))


@pytest.mark.parametrize("size", [(28, 28), (20, 36), (4, 4)])
def test_any_size_of_image(size):
    model = ResNet(ResNetConfig(in_chans=3, num_classes=5, width=8, blocks=(1, 2, 1)))
    images = torch.randn(2, 3, *size)
    assert model.forward_features(images).shape == (2, 32, math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    assert torch.equal(model(images), torch.zeros(2, 5))


def test_it_learns_through_the_same_loop():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    images = torch.randint(0, 60, (120, 1, 12, 12), generator=generator, dtype=torch.uint8)
    images[labels == 1, :, 3:9, 3:9] += 150
    run = vitlab.start(device="cpu", precision="fp32")
    recipe = vitlab.Recipe(steps=40, batch_size=30, learning_rate=3e-3)
    model = ResNet(ResNetConfig(num_classes=2, width=8))
    data = Dataset(images, labels, ["dark", "bright"])
    history = vitlab.train(model, data, data, recipe, run, progress=False)
    assert history.rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert history.accuracy > 0.95


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        ResNetConfig(width=12)
    with pytest.raises(ValueError, match="at least one block"):
        ResNetConfig(blocks=(1, 0))
    with pytest.raises(ValueError, match=r"\(B, 1, H, W\); got \(2, 3, 28, 28\)"):
        ResNet(ResNetConfig())(torch.zeros(2, 3, 28, 28))


@pytest.mark.parametrize(
    "wrong", [dict(width=0), dict(width=-8), dict(width=8.0), dict(in_chans=0), dict(num_classes=-1)]
)
def test_sizes_that_make_no_network_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ResNetConfig(**wrong)
