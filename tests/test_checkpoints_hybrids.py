"""Hybrids, Transformers on a ResNet: Google's files and timm's give the logits of their libraries."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import test_checkpoints_published
import timm
import torch
import torch.nn.functional as F
from test_checkpoints_published import (
    as_npz,
    as_safetensors,
    close,
    google_arrays,
    google_forward,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    pictures,
    same_outputs,
    stirred,
)
from timm.layers import HybridEmbed
from timm.models.vision_transformer_hybrid import _resnetv2

import vitlab

STEMS = [(1, 2, 1), (2, 1), (1,), ()]  # patches of 16, 8, 4 and 4 pixels
EMBEDDED = 24  # what `google_arrays` has


def stem_arrays(blocks, width=64, four_axes=False, patch=1, seed=0) -> dict:
    """A random stem in Google's names and shapes, and the projection of its features."""
    random, arrays = np.random.default_rng(seed), {}

    def conv(path, side, into, out):  # none has mean 0 or variance 1
        arrays[f"{path}/kernel"] = random.normal(0.05, random.uniform(0.05, 0.3), (side, side, into, out))

    def norm(path, channels):
        shape = (1, 1, 1, channels) if four_axes else (channels,)
        arrays[f"{path}/scale"] = random.normal(1, 0.2, shape)
        arrays[f"{path}/bias"] = random.normal(0, 0.2, shape)

    conv("conv_root", 7, 3, width)
    norm("gn_root", width)
    channels = width
    for stage, depth in enumerate(blocks):
        narrow, wide = width * 2**stage, 4 * width * 2**stage
        for unit in range(1, depth + 1):
            at = f"block{stage + 1}/unit{unit}"
            sizes = [("1", 1, channels, narrow), ("2", 3, narrow, narrow), ("3", 1, narrow, wide)]
            for part, side, into, out in sizes + ([("_proj", 1, channels, wide)] if unit == 1 else []):
                conv(f"{at}/conv{part}", side, into, out)
                norm(f"{at}/gn{part}", out)
            channels = wide
    arrays["embedding/kernel"] = random.normal(
        0, (channels * patch**2) ** -0.5, (patch, patch, channels, EMBEDDED)
    )
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def hybrid_arrays(blocks, grid=(3, 3), width=64, four_axes=False, patch=1, **kind) -> dict:
    """A random hybrid in Google's names: patches of so many features on a stem."""
    return google_arrays(grid=grid, **kind) | stem_arrays(blocks, width, four_axes, patch)


def same_padded(x: torch.Tensor, side: int, stride: int) -> torch.Tensor:
    """Outputs stand at 0, s, 2s, …; pixels that are missing are shared between both ends."""
    for axis in (2, 3):
        n = x.shape[axis]
        last = (n - 1) // stride * stride + side  # one beyond the last pixel that is read
        missing = max(last - n, 0)
        before = [missing // 2 if a == axis else 0 for a in (2, 3)]
        after = [missing - missing // 2 if a == axis else 0 for a in (2, 3)]
        x = F.pad(x, (before[1], after[1], before[0], after[0]))
    return x


def google_stem(arrays: dict, images: np.ndarray) -> np.ndarray:
    """Google's ResNet in float64: (B, H, W, C) -> (B, h, w, C'), as vit_jax/models_resnet.py describes it."""
    p = {name: torch.from_numpy(array).double() for name, array in arrays.items()}

    def conv(x, path, stride=1):
        kernel = p[f"{path}/kernel"]  # (h, w, in, out)
        kernel = kernel - kernel.mean(dim=(0, 1, 2))
        kernel = kernel / ((kernel**2).mean(dim=(0, 1, 2)).sqrt() + 1e-5)
        return F.conv2d(same_padded(x, len(kernel), stride), kernel.permute(3, 2, 0, 1), stride=stride)

    def norm(x, path):
        groups = x.unflatten(1, (32, -1))  # (B, 32, C/32, H, W)
        centred = groups - groups.mean(dim=(2, 3, 4), keepdim=True)
        x = (centred / ((centred**2).mean(dim=(2, 3, 4), keepdim=True) + 1e-6).sqrt()).flatten(1, 2)
        scale, bias = (p[f"{path}/{part}"].flatten()[:, None, None] for part in ("scale", "bias"))
        return x * scale + bias

    x = torch.from_numpy(images).double().permute(0, 3, 1, 2)
    x = norm(conv(x, "conv_root", 2), "gn_root").relu()
    x = F.max_pool2d(same_padded(x, 3, 2), 3, 2)
    for stage in range(1, 5):
        for unit in range(1, 10):
            at = f"block{stage}/unit{unit}"
            if f"{at}/conv1/kernel" in p:
                stride = 2 if stage > 1 and unit == 1 else 1
                y = norm(conv(x, f"{at}/conv1"), f"{at}/gn1").relu()
                y = norm(conv(y, f"{at}/conv2", stride), f"{at}/gn2").relu()
                y = norm(conv(y, f"{at}/conv3"), f"{at}/gn3")
                if f"{at}/conv_proj/kernel" in p:
                    x = norm(conv(x, f"{at}/conv_proj", stride), f"{at}/gn_proj")
                x = (x + y).relu()
    return x.permute(0, 2, 3, 1).numpy()


def timms(blocks, size=(48, 48), patch=1, **arguments):
    """A small hybrid of timm's, from its own classes."""
    sizes = dict(embed_dim=EMBEDDED, depth=2, num_heads=3, mlp_ratio=1.5, num_classes=5)
    embed = partial(HybridEmbed, backbone=_resnetv2(blocks))
    return timm.models.VisionTransformer(
        img_size=size, patch_size=patch, embed_layer=embed, **sizes | arguments
    ).eval()


@pytest.mark.parametrize("four_axes", [True, False])
@pytest.mark.parametrize("released", [True, False])
@pytest.mark.parametrize("blocks", STEMS)
def test_googles_hybrids(blocks, released, four_axes):
    side = vitlab.resnet.stem_stride(blocks)
    arrays = hybrid_arrays(blocks, (3, 2), released=released, four_axes=four_axes)
    images = np.random.default_rng(1).normal(size=(2, 3 * side, 2 * side, 3)).astype(np.float32)
    logits, maps = google_forward(arrays, google_stem(arrays, images))
    ours = vitlab.load_checkpoint(as_npz(arrays), image_size=(3 * side, 2 * side))
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    same_outputs(ours, images, logits.astype(np.float32), attention=maps.astype(np.float32))
    assert (ours.config.stem, ours.config.stem_width, ours.config.patch_size) == (blocks, 64, side)


def test_patches_of_several_features_and_another_width():
    """As in R+Ti/16, whose stem has no stages and whose patches are 8 x 8 of its features; and in R50x2."""
    for blocks, width, patch in (((), 64, 4), ((1, 1), 32, 2), ((1,), 128, 1)):
        side = patch * vitlab.resnet.stem_stride(blocks)
        arrays = hybrid_arrays(blocks, grid=(2, 2), width=width, patch=patch)
        images = np.random.default_rng(1).normal(size=(2, 2 * side, 2 * side, 3)).astype(np.float32)
        ours = vitlab.load_checkpoint(as_npz(arrays))
        features = google_stem(arrays, images)
        logits, _ = google_forward(arrays, features)
        same_outputs(ours, torch.from_numpy(images).permute(0, 3, 1, 2), logits.astype(np.float32))
        assert (ours.config.stem_width, ours.config.patch_size, ours.config.grid_size) == (
            width,
            side,
            (2, 2),
        )


@pytest.mark.parametrize("prefix", ["", "params/", "opt/target/"])
@pytest.mark.parametrize("kind", [dict(token=False), dict(hidden=7), dict(classes=0)])
def test_the_rest_of_a_hybrid_is_as_free_as_a_vits(kind, prefix):
    arrays = hybrid_arrays((1, 1), **kind)
    images = np.random.default_rng(1).normal(size=(2, 24, 24, 3)).astype(np.float32)
    ours = vitlab.load_checkpoint(as_npz({prefix + name: array for name, array in arrays.items()}))
    logits, _ = google_forward(arrays, google_stem(arrays, images))
    same_outputs(ours, torch.from_numpy(images).permute(0, 3, 1, 2), logits.astype(np.float32))


def test_the_caller_cannot_make_a_hybrid_of_a_vit_or_another_of_a_hybrid():
    with pytest.raises(ValueError, match=r"says stem=None; got stem=\(1,\)"):
        vitlab.load_checkpoint(as_npz(google_arrays()), stem=(1,))
    file = as_npz(hybrid_arrays((1, 1)))
    for wrong in (dict(stem=(1,)), dict(stem_width=32), dict(stem_rule="timm"), dict(patch_size=4)):
        with pytest.raises(ValueError, match=f"says {next(iter(wrong))}="):
            vitlab.load_checkpoint(file, **wrong)
    assert vitlab.load_checkpoint(file, stem=(1, 1), stem_width=64, patch_size=8).config.stem == (1, 1)


@pytest.mark.parametrize("blocks", STEMS)
def test_timm_reads_googles_file_alike(blocks, monkeypatch):
    """Kernels of a large deviation, so that it matters little how it is kept from zero."""
    monkeypatch.setattr(test_checkpoints_published, "WIDTH", EMBEDDED // 3)  # timm's heads are D / heads wide
    side, theirs = vitlab.resnet.stem_stride(blocks), timms(blocks, act_layer="gelu_tanh")
    arrays = hybrid_arrays(blocks, grid=(48 // side, 48 // side))
    arrays |= {name: 30 * array for name, array in arrays.items() if re.search(r"conv\w+/kernel", name)}
    theirs.load_pretrained(str(as_npz(arrays)))
    ours, images = vitlab.load_checkpoint("model.npz"), pictures((48, 48))
    with torch.no_grad():
        close(ours(images), theirs(images), 2e-5)


def in_folder(theirs, name: str = "vit_small_r26_s32_224", **pretrained_cfg) -> Path:
    """A folder as timm writes it."""
    file = as_safetensors(theirs.state_dict(), Path("folder/model.safetensors"))
    said = dict(mean=[0.5] * 3, std=[0.5] * 3, input_size=[3, *theirs.patch_embed.img_size]) | pretrained_cfg
    config = dict(architecture=name, global_pool=theirs.global_pool, model_args=dict(num_heads=3))
    file.with_name("config.json").write_text(json.dumps(config | dict(pretrained_cfg=said)))
    return file.parent


@pytest.mark.parametrize("blocks", STEMS)
def test_timms_hybrids(blocks):
    size, patch = ((48, 32), 1) if blocks else ((48, 32), 2)
    theirs, images = stirred(timms(blocks, size, patch)), pictures(size)
    folder = in_folder(theirs)
    alone = dict(num_heads=3, image_size=size)
    with torch.no_grad():
        for ours in (
            vitlab.load_checkpoint(folder),
            vitlab.load_checkpoint(folder / "model.safetensors", **alone),
        ):
            same_outputs(ours, images, theirs(images))
            close(ours.patch_embed(images), theirs.patch_embed(images), 2e-5)
            close(ours.forward_features(images), theirs.forward_features(images), 2e-5)
    assert (ours.config.stem, ours.config.stem_rule, ours.config.grid_size) == (
        *(blocks, "timm"),
        theirs.patch_embed.grid_size,
    )


@pytest.mark.parametrize("name", ["vit_small_r26_s32_224", "vit_tiny_r_s16_p8_224"])
def test_timms_own_architectures(name):
    theirs = stirred(timm.create_model(name, img_size=64, embed_dim=24, depth=1, num_heads=3, num_classes=5))
    images = pictures((64, 64))
    with torch.no_grad():
        ours = vitlab.load_checkpoint(in_folder(theirs, name))
        same_outputs(ours, images, theirs(images))
        images = images.double()  # in which nothing is left but what the formulas say
        close(ours.double()(images), theirs.double()(images), 1e-10)


@pytest.mark.parametrize("size", [(80, 48), (32, 32)])
def test_each_library_resizes_positions_by_its_own_rule(size):
    theirs, larger, images = timms((1, 1, 1)), timms((1, 1, 1), size), pictures(size)
    filtered = timm.models.vision_transformer.checkpoint_filter_fn(stirred(theirs).state_dict(), larger)
    larger.load_state_dict(filtered)
    with torch.no_grad():
        same_outputs(vitlab.load_checkpoint(in_folder(theirs), image_size=size), images, larger(images))
    arrays = hybrid_arrays((1, 1, 1))
    table = arrays["Transformer/posembed_input/pos_embedding"]
    grid = tuple(side // 16 for side in size)
    arrays["Transformer/posembed_input/pos_embedding"] = vitlab.resize_pos_embed(
        torch.from_numpy(table), (3, 3), grid, method="jax"
    ).numpy()
    features = google_stem(arrays, images.permute(0, 2, 3, 1).numpy())
    logits, _ = google_forward(arrays, features)
    file = as_npz(arrays | {"Transformer/posembed_input/pos_embedding": table})
    same_outputs(vitlab.load_checkpoint(file, image_size=size), images, logits.astype(np.float32))


@pytest.mark.parametrize("library", ["Google", "timm"])
def test_every_array_of_the_stem_that_is_missing_or_misshapen_is_named(library):
    """One array at a time: left out, one number longer along each axis, and with another axis."""
    if library == "Google":
        save, arrays = as_npz, hybrid_arrays((1, 1), four_axes=True)
    else:
        arrays = {name: array.numpy() for name, array in timms((1, 1)).state_dict().items()}
        save = as_safetensors
    vitlab.load_checkpoint(save(arrays), num_heads=3)
    stem = [name for name in arrays if re.search("root|block[12]/|backbone", name)]
    assert len(stem) == 3 + 2 * 12
    for name in stem:
        array = arrays[name]
        changed = [{key: value for key, value in arrays.items() if key != name}, arrays | {name: array[None]}]
        for axis in range(array.ndim):
            longer = np.concatenate([array, array.take([0], axis)], axis)
            changed.append(arrays | {name: longer})
        if "root/kernel" in name or "stem.conv" in name:
            del changed[2 + (2 if library == "Google" else 1)]  # a file for images of four channels
        for content in changed:
            with pytest.raises(ValueError, match=re.escape(repr(name))):
                vitlab.load_checkpoint(save(content), num_heads=3)


def test_other_stems_are_refused_by_name():
    for name in ("vit_small_resnet26d_224", "vit_base_mci_224"):
        theirs = timm.create_model(
            name, depth=1, num_classes=2, **({} if "mci" in name else dict(img_size=64))
        )
        arrays = {key: torch.zeros(value.shape) for key, value in theirs.state_dict().items()}
        with pytest.raises(ValueError, match="'patch_embed.backbone.*a hybrid on another stem than Google's"):
            vitlab.load_checkpoint(as_safetensors(arrays))
    nearly_nothing = hybrid_arrays(())
    del nearly_nothing["gn_root/scale"], nearly_nothing["gn_root/bias"]
    with pytest.raises(ValueError, match="lacks .*'gn_root/scale'"):
        vitlab.load_checkpoint(as_npz(nearly_nothing))
    extra = hybrid_arrays((1, 1)) | {"block2/unit3/conv1/kernel": np.zeros((1, 1, 2, 2), np.float32)}
    with pytest.raises(ValueError, match="'block2/unit3/conv1/kernel'"):
        vitlab.load_checkpoint(as_npz(extra))


def test_a_stem_is_for_images_as_they_are():
    """Another mean or deviation cannot be worked into it: its kernels are standardised, its borders zero."""
    theirs = timms((1,))
    assert vitlab.load_checkpoint(in_folder(theirs)).config.stem == (1,)
    for wrong in (dict(mean=[0.4] * 3), dict(std=[0.2] * 3)):
        with pytest.raises(ValueError, match="other numbers than 0.5 .* worked into a hybrid"):
            vitlab.load_checkpoint(in_folder(theirs, **wrong))


def test_saved_in_vitlabs_layout_and_not_in_timms():
    ours, images = vitlab.load_checkpoint(as_npz(hybrid_arrays((1, 2)))), pictures((24, 24))
    again = vitlab.load_checkpoint(vitlab.save_checkpoint(ours, "own.safetensors"))
    assert again.config == ours.config
    assert torch.equal(again(images), ours(images))
    for blocks in ((1,), ()):
        model = vitlab.ViT(vitlab.ViTConfig(patch_size=4, image_size=8, stem=blocks))
        with pytest.raises(ValueError, match="timm's VisionTransformer has no stem, and this model's is"):
            vitlab.save_checkpoint(model, "x.safetensors", layout="timm")
