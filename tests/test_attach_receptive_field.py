"""Receptive fields of other libraries' models through a view, by differences of a loop over their parts."""

import importlib
import itertools

import pytest
import torch
from torch import nn

import vitlab
from vitlab import ViT, ViTConfig
from vitlab.attention import effective_receptive_field

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
pytest.importorskip("vit_pytorch")

import timm  # noqa: E402
import torchvision  # noqa: E402
from attach_kinds import all_kinds, randomised  # noqa: E402

KINDS = {kind.id: kind for kind in all_kinds()}


def of_timm():
    """Four registers and a class token before a grid of 2 x 3."""
    given = dict(patch_size=4, embed_dim=12, depth=2, num_heads=2, in_chans=1, num_classes=3)
    model = randomised(timm.create_model("vit_small_patch14_reg4_dinov2", img_size=(8, 12), **given))
    embed = lambda images: model.norm_pre(model._pos_embed(model.patch_embed(images)))  # noqa: E731
    return model, embed, model.blocks, 5 + 1 * 3 + 1, torch.randn(2, 1, 8, 12)


def of_torchvision():
    model = randomised(torchvision.models.VisionTransformer(12, 4, 2, 2, 12, 16, num_classes=3))

    def embed(images):
        patches = model.conv_proj(images).flatten(2).mT
        tokens = torch.cat([model.class_token.expand(len(images), -1, -1), patches], dim=1)
        return tokens + model.encoder.pos_embedding

    return model, embed, model.encoder.layers, 1 + 1 * 3 + 1, torch.randn(2, 3, 12, 12)


class Parts(nn.Module):
    """A block of vit-pytorch as its model adds it up."""

    def __init__(self, block, adds=True):
        super().__init__()
        self.block, self.adds = block, adds

    def forward(self, x):
        for part in self.block:
            x = part(x) + x if self.adds else part(x)
        return x


def of_vit_pytorch(room="vit", name="ViT", adds=True):
    kind = getattr(importlib.import_module(f"vit_pytorch.{room}"), name)
    sizes = dict(
        image_size=(8, 12), patch_size=4, num_classes=3, dim=12, depth=2, heads=2, dim_head=6, mlp_dim=16
    )
    model = randomised(kind(**sizes, channels=1))
    prefix = hasattr(model, "cls_token")

    def embed(images):
        tokens = model.to_patch_embedding(images)
        if prefix:
            tokens = torch.cat([model.cls_token.to(tokens).expand(len(images), 1, -1), tokens], dim=1)
        return tokens + model.pos_embedding.to(tokens)

    blocks = [Parts(block, adds) for block in model.transformer.layers]
    return model, embed, blocks, prefix + 1 * 3 + 1, torch.randn(2, 1, 8, 12)


def of_simple_vit():
    return of_vit_pytorch("simple_vit", "SimpleViT")


def of_parallel_vit():
    return of_vit_pytorch("parallel_vit")


def of_orthogonal_updates():
    return of_vit_pytorch("simple_vit_orthog_residual_update", "SimpleViT", adds=False)


MAKERS = [of_timm, of_torchvision, of_vit_pytorch, of_simple_vit, of_parallel_vit, of_orthogonal_updates]


@pytest.mark.parametrize("make", MAKERS)
def test_by_differences(make):
    torch.manual_seed(1)
    model, embed, blocks, token, images = make()
    view = vitlab.attach(model, image_size=tuple(images.shape[-2:]))
    fields = effective_receptive_field(view, images)
    model, images, step = model.double(), images.double(), 1e-5

    @torch.no_grad()
    def unit(changed):
        x = embed(changed)
        sums = [x[:, token].sum(-1)]
        for block in blocks:
            x = block(x)
            sums.append(x[:, token].sum(-1))
        return torch.stack(sums)  # (depths, B)

    wanted = torch.zeros(3, len(images), *images.shape[-2:], dtype=torch.float64)
    for channel, y, x in itertools.product(*map(range, images.shape[1:])):
        change = torch.zeros_like(images)
        change[:, channel, y, x] = step
        wanted[:, :, y, x] += ((unit(images + change) - unit(images - change)) / (2 * step)).abs()
    wanted = (wanted / wanted.sum(dim=(2, 3), keepdim=True)).mean(dim=1)
    torch.testing.assert_close(fields.double(), wanted, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "timm: SigLIP",
        "timm: ViT, two attentions a block",
        "transformers: DINOv2, registers (sdpa)",
        "transformers: ViT-MAE (sdpa)",
        "open_clip: CoCa, attention pooling",
    ],
)
def test_the_embedding_sees_its_own_patch_and_a_block_everything(name):
    kind = KINDS[name]
    model = randomised(kind.build((24, 48)))
    hooks = sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())
    fields = effective_receptive_field(vitlab.attach(model), torch.randn(2, 3, 24, 48))
    assert fields.shape == (3, 24, 48)
    assert fields[0, 8:16, 24:32].sum() == pytest.approx(1)
    assert (fields[1:] > 0).all()
    assert hooks == sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


class Stranger(nn.Module):
    """A model of no library, whose blocks `attach` has to find."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(images)


def test_blocks_that_no_object_names():
    model, _, _, _, images = of_timm()
    known = effective_receptive_field(vitlab.attach(model), images)
    sizes = dict(image_size=(8, 12), patch_size=4, num_prefix_tokens=5)
    found = effective_receptive_field(vitlab.attach(Stranger(model), **sizes), images)
    torch.testing.assert_close(found, known)


def test_a_view_of_our_own_is_the_model():
    model = randomised(ViT(ViTConfig(image_size=(6, 9), patch_size=3, embed_dim=12, depth=2, num_heads=2)))
    images = torch.randn(2, 1, 6, 9)
    of_view = effective_receptive_field(vitlab.attach(model), images)
    assert torch.equal(of_view, effective_receptive_field(model, images))


def test_parts_that_nobody_adds_up():
    """One block alone does not show what its model makes of its last part."""
    kind = importlib.import_module("vit_pytorch.vit").ViT
    sizes = dict(image_size=16, patch_size=8, num_classes=3, dim=12, heads=2, dim_head=6, mlp_dim=16)
    view = vitlab.attach(kind(depth=1, **sizes), image_size=16)
    with pytest.raises(ValueError, match="blocks of this ViT are lists of parts.* one block alone"):
        effective_receptive_field(view, torch.randn(1, 3, 16, 16))


class Halves(nn.Module):
    """A vit-pytorch model that adds half of what its last parts make, as neither rule says."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        inner = self.inner
        x = inner.to_patch_embedding(images)
        x = torch.cat([inner.cls_token.expand(len(x), 1, -1), x], dim=1) + inner.pos_embedding
        for attention, last in inner.transformer.layers:
            x = attention(x) + x
            x = last(x) / 2 + x
        return inner.mlp_head(x[:, 0])


def test_parts_that_are_added_up_in_another_way():
    inner = of_vit_pytorch()[0]
    view = vitlab.attach(Halves(inner), image_size=(8, 12), patch_size=4, num_prefix_tokens=1, channels=1)
    view.description.blocks = inner.transformer.layers
    with pytest.raises(ValueError, match="blocks of this Halves are lists of parts.* is not seen$"):
        effective_receptive_field(view, torch.randn(1, 1, 8, 12))


def test_a_model_without_a_view():
    with pytest.raises(
        ValueError, match="or a view of another ViT, attach\\(model\\); got a VisionTransformer"
    ):
        effective_receptive_field(of_timm()[0], torch.randn(1, 1, 8, 12))
