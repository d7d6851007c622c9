"""The norms' gradients where all else is bf16: against fp64, and against a sum that can be done by hand."""

import copy
import re

import notebook_tools as tools
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitlab import ViT, ViTConfig, data, resnet
from vitlab.norms import LayerNorm, fold
from vitlab.pretraining import MaskedPatchViT, draw_corruption, take_pytorch_norms

BF16 = dict(device_type="cpu", dtype=torch.bfloat16)
SMALL = dict(image_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=2, mlp_dim=48)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


KINDS = {
    "class token": dict(),
    "mean": dict(pool="mean"),
    "norm after pool": dict(pool="mean", norm_after_pool=True),
    "patch norms": dict(patch_norm=True),
    "no bias": dict(qkv_bias=False),
    "dropout left out, wide heads": dict(head_dim=24),
    "representation": dict(representation_size=24),
}


def trained_a_little(model: nn.Module) -> nn.Module:
    """Norms and heads with numbers of their own, and not ones and zeros."""
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        if "norm" in name or name.startswith("head"):
            p.data += 0.2 * torch.randn(p.shape, generator=generator)
    return model


def loss_of(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if isinstance(model, MaskedPatchViT):
        corruption = draw_corruption(len(images), 16, torch.Generator().manual_seed(0))
        logits, classes = model(images, corruption)
        return F.cross_entropy(logits.flatten(0, 1), classes.flatten())
    return F.cross_entropy(model(images), labels)


def gradients(model: nn.Module, images, labels, bf16: bool) -> dict[str, torch.Tensor]:
    dtype = torch.float32 if bf16 else torch.float64
    model = copy.deepcopy(model).to(dtype).train()
    with torch.autocast(**BF16, enabled=bf16):
        loss = loss_of(model, images.to(dtype), labels)
    loss.backward()
    return {name: p.grad.double() for name, p in model.named_parameters() if "norm" in name}


def errors(model: nn.Module, batch_size: int) -> dict[str, float]:
    """The relative error of each norm's gradients in bf16."""
    train = data.fashion_mnist("train")
    images = F.interpolate(data.normalise(train.images[:batch_size]), size=16)
    found, exact = (gradients(model, images, train.labels[:batch_size], bf16) for bf16 in (True, False))
    return {name: float((found[name] - g).norm() / g.norm()) for name, g in exact.items()}


@pytest.mark.parametrize("batch_size", [64, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_every_norm_of_a_vit_learns_from_right_gradients_in_bf16(kind, batch_size):
    model = trained_a_little(ViT(ViTConfig(**SMALL | KINDS[kind])))
    found = errors(model, batch_size)
    assert len(found) == 4 * 2 + 2 + (4 if kind == "patch norms" else 0)
    assert max(found.values()) < 0.03, found
    take_pytorch_norms(model)  # which shows that the measure can tell
    assert max(errors(model, batch_size).values()) > 0.03


@pytest.mark.parametrize("batch_size", [64, 256])
def test_every_norm_of_masked_patch_prediction_does(batch_size):
    model = trained_a_little(MaskedPatchViT(ViTConfig(num_classes=0, **SMALL)))
    assert max(errors(model, batch_size).values()) < 0.03


@pytest.mark.parametrize(
    "look", ["hook on a norm", "hook on qkv", "another's layer", "a block of one's own", "all in bf16"]
)
def test_whoever_looks_on_or_changes_a_layer_gets_right_gradients_too(look):
    model = trained_a_little(ViT(ViTConfig(**SMALL)))
    if look == "hook on a norm":
        model.blocks[0].norm1.register_forward_hook(lambda *given: None)
    elif look == "hook on qkv":
        model.blocks[1].attn.qkv.register_forward_hook(lambda *given: None)
    elif look == "another's layer":
        model.blocks[1].mlp.act = nn.Sequential(nn.GELU())
    elif look == "a block of one's own":
        model.blocks[1].forward = OwnBlock.forward.__get__(model.blocks[1])
    else:
        whole = gradients_all_in_bf16(model)
        assert max(whole.values()) < 0.03, whole
        return
    assert max(errors(model, 256).values()) < 0.03


class OwnBlock(nn.Module):
    def forward(self, x, class_only=False):
        x = x + self.attn(self.norm1(x))
        return (x + self.mlp(self.norm2(x)))[:, : 1 if class_only else None]


def gradients_all_in_bf16(model: nn.Module) -> dict[str, float]:
    """Errors of the norms' gradients where the weights are bf16 as well, against the same rounded weights."""
    images = torch.randn(256, 1, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(256) % 10
    found = {}
    for dtype in (torch.bfloat16, torch.float64):
        twin = copy.deepcopy(model).bfloat16().to(dtype)
        F.cross_entropy(twin(images.to(dtype)).double(), labels).backward()
        found[dtype] = {n: p.grad.double() for n, p in twin.named_parameters() if "norm" in n}
    exact = found[torch.float64]
    return {n: float((found[torch.bfloat16][n] - g).norm() / g.norm()) for n, g in exact.items()}


@pytest.mark.parametrize(
    ("norm", "shape"), [(LayerNorm(8), (25_600, 8)), (resnet.norm(8), (64, 8, 20, 20))], ids=["vit", "resnet"]
)
def test_a_sum_of_ones_in_bf16_is_their_number(norm, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16)
    with torch.autocast(**BF16):
        norm(x).sum().backward()
    assert norm.bias.grad.tolist() == [25_600.0] * 8


PyTorchs = nn.GroupNorm


class GroupNormInFP32(PyTorchs):
    def forward(self, x):
        wide = x.float() if x.dtype == torch.bfloat16 else x
        return F.group_norm(wide, self.num_groups, self.weight, self.bias, self.eps).to(x.dtype)


def test_a_resnets_norms_need_no_more_than_they_have(monkeypatch):
    """bf16 moves numbers over the ReLU's corner, for all parameters alike; sums in fp32 change nothing."""
    train, error = data.fashion_mnist("train"), {}
    images, labels = data.normalise(train.images[:64]), train.labels[:64]
    for norm in (PyTorchs, GroupNormInFP32):
        monkeypatch.setattr(nn, "GroupNorm", norm)
        torch.manual_seed(0)
        model, found = trained_a_little(resnet.ResNet(resnet.ResNetConfig(width=16, blocks=(1, 1)))), {}
        for dtype in (torch.float32, torch.float64):
            twin = copy.deepcopy(model).to(dtype)
            with torch.autocast(**BF16, enabled=dtype == torch.float32):
                F.cross_entropy(twin(images.to(dtype)), labels).backward()
            found[dtype] = {n: p.grad.double() for n, p in twin.named_parameters() if "norm" in n}
        rounded, exact = found[torch.float32], found[torch.float64]
        error[norm] = {n: float((rounded[n] - g).norm() / g.norm()) for n, g in exact.items()}
    for name, of_fp32 in error[GroupNormInFP32].items():
        assert error[PyTorchs][name] < 1.2 * of_fp32 + 0.003


@pytest.mark.parametrize("bias", [True, False])
def test_folding_changes_neither_output_nor_gradients(bias):
    generator = torch.Generator().manual_seed(0)
    norm, linear = LayerNorm(8).double(), nn.Linear(8, 5, bias=bias).double()
    for p in norm.parameters():
        p.data = torch.randn(8, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    normalised, folded = fold(norm, linear, x)
    outputs = folded(normalised), linear(norm(x))
    torch.testing.assert_close(*outputs)
    leaves = [x, *norm.parameters(), *linear.parameters()]
    ours, theirs = (torch.autograd.grad(out.square().sum(), leaves) for out in outputs)
    torch.testing.assert_close(ours, theirs)


def test_the_norms_keep_the_names_that_the_field_knows():
    names = {name for name in ViT(ViTConfig(**SMALL)).state_dict() if "norm" in name}
    blocks = {f"blocks.{i}.norm{n}.{part}" for i in (0, 1) for n in (1, 2) for part in ("weight", "bias")}
    assert names == {*blocks, "norm.weight", "norm.bias"}


def test_lesson_04_shows_both_gradients_in_one_cell():
    """In its optional half, as stored: only with sums in fp32 one is as near as other gradients are."""
    nb = tools.read(tools.find_notebook("04b"))
    (cell,) = [cell for cell in nb.cells if "norm_gradient(" in cell.source]
    (picture,) = tools.pictures(cell)
    found = re.findall(r"bf16, sums in (\w+): ([\d.]+)% off", tools.alternative_text(picture))
    off = {sums: float(percent) for sums, percent in found}
    assert off.keys() == {"bf16", "fp32"}
    assert off["fp32"] < 3 < off["bf16"]
