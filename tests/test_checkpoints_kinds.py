"""Models that are nearly a ViT: those that load exactly, and those that are refused by what they are."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from test_checkpoints_published import (
    as_npz,
    as_safetensors,
    close,
    google_arrays,
    google_forward,
    hf_config,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    pictures,
    same_outputs,
    stirred,
    timm_model,
    transformers,  # noqa: F401
    vit_pytorch,  # noqa: F401
)

import vitlab

POSITIONS = "Transformer/posembed_input/pos_embedding"


def refused(path, *words: str, **fields):
    """The message of the ValueError, which has all of these words."""
    with pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, words))) as caught:
        vitlab.load_checkpoint(path, **fields)
    return str(caught.value)


# --- that load exactly -------------------------------------------------------------------------------------


def big_vision_arrays(grid=(4, 4), token=False, **kind) -> dict:
    """A random checkpoint of big_vision: positions for patches alone, under another name."""
    arrays = google_arrays(grid=grid, token=token, released=False, **kind)
    arrays["pos_embedding"] = arrays.pop(POSITIONS)[:, int(token) :]
    return arrays


def big_vision_forward(arrays: dict, images: np.ndarray):
    """Logits and attention by Google's forward pass, where the class token's position is zero."""
    arrays = dict(arrays)
    table = arrays.pop("pos_embedding")
    arrays[POSITIONS] = np.pad(table, ((0, 0), (int("cls" in arrays), 0), (0, 0)))
    return google_forward(arrays, images)


@pytest.mark.parametrize("prefix", ["", "params/", "opt/target/"])
@pytest.mark.parametrize(
    "kind", [dict(), dict(token=True), dict(hidden=7), dict(grid=(3, 5), token=True), dict(classes=0)]
)
def test_big_vision(kind, prefix):
    """FlexiViT is the second kind: a class token without a position of its own."""
    arrays = big_vision_arrays(**kind)
    file = {prefix + name: array for name, array in arrays.items()}
    if prefix:
        file["opt/state/step"] = np.array(3)  # of the training, which nobody needs
    height, width = (4 * side for side in kind.get("grid", (4, 4)))
    images = np.random.default_rng(1).normal(size=(2, height, width, 3)).astype(np.float32)
    fields = dict(image_size=(height, width)) if kind.get("token") else {}
    logits, maps = big_vision_forward(arrays, images)
    model = vitlab.load_checkpoint(as_npz(file), **fields)
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    same_outputs(model, images, logits.astype(np.float32), attention=maps.astype(np.float32))
    assert model.config.num_prefix_tokens == int("cls" in arrays)


def big_vision_sincos(rows: int, columns: int, width: int) -> np.ndarray:
    """The table of big_vision and vit-pytorch in loops: sines and cosines of the column, then of the row."""
    table = np.zeros((1, rows * columns, width))
    for row in range(rows):
        for column in range(columns):
            for i in range(width // 4):
                omega = 10_000.0 ** (-i / (width // 4 - 1))
                for half, place in enumerate((column, row)):
                    at = half * width // 2 + i
                    table[0, row * columns + column, at] = np.sin(place * omega)
                    table[0, row * columns + column, at + width // 4] = np.cos(place * omega)
    return table


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_big_visions_simple_vit(grid):
    arrays = big_vision_arrays(grid=grid)
    del arrays["pos_embedding"]
    rows, columns = grid
    images = np.random.default_rng(1).normal(size=(2, 4 * rows, 4 * columns, 3)).astype(np.float32)
    logits, maps = google_forward(arrays | {POSITIONS: big_vision_sincos(rows, columns, 24)}, images)
    model = vitlab.load_checkpoint(as_npz(arrays), image_size=(4 * rows, 4 * columns))
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    same_outputs(model, images, logits.astype(np.float32), attention=maps.astype(np.float32))
    assert (model.config.pool, model.config.pos_embed) == ("mean", "learned")
    refused("model.npz", "'pos_embedding'", POSITIONS, "SimpleViT", "give image_size")


@pytest.mark.parametrize("released", [True, False])
def test_only_a_simple_vit_may_lack_positions(released):
    for token in (True, False):
        arrays = google_arrays(released=released, token=token)
        del arrays[POSITIONS]
        if token or released:
            refused(as_npz(arrays), "lacks", POSITIONS, image_size=16)


@pytest.mark.parametrize("size", [32, (24, 40)])
@pytest.mark.parametrize("dim_head", [64, 12])
def test_vit_pytorchs_simple_vit(vit_pytorch, size, dim_head):  # noqa: F811
    sizes = dict(patch_size=8, num_classes=5, dim=48, depth=2, heads=4, mlp_dim=80, dim_head=dim_head)
    theirs = stirred(vit_pytorch.SimpleViT(image_size=size, **sizes))
    file = as_safetensors(theirs.state_dict())
    images = pictures((size, size) if isinstance(size, int) else size) * 0.01
    fields = dict() if dim_head == 64 else dict(num_heads=4)
    ours = vitlab.load_checkpoint(file, image_size=size, **fields)
    with torch.no_grad():
        same_outputs(ours, images, theirs(images))
    assert vitlab.load_checkpoint(file, image_size=64, **fields).config.num_tokens == 64
    refused(file, "SimpleViT", "give image_size", **fields)


def test_vit_pytorchs_other_simple_vits_are_refused(vit_pytorch):  # noqa: F811
    from vit_pytorch import simple_vit_with_qk_norm, simple_vit_with_register_tokens

    sizes = dict(image_size=32, patch_size=8, num_classes=5, dim=48, depth=1, heads=4, mlp_dim=80)
    theirs = simple_vit_with_register_tokens.SimpleViT(**sizes)
    refused(as_safetensors(theirs.state_dict()), "'register_tokens'", "register tokens", image_size=32)
    theirs = simple_vit_with_qk_norm.SimpleViT(**sizes)
    refused(as_safetensors(theirs.state_dict()), "k_norm", "normalises queries and keys", image_size=32)


def test_timms_class_token_without_a_position():
    """As timm's FlexiViTs have it: config.json says the size, or else the caller has to."""
    theirs = timm_model(no_embed_class=True)
    images = pictures((32, 32))
    file = as_safetensors(theirs.state_dict(), Path("folder/model.safetensors"))
    message = refused(file, "'pos_embed'", "15 entries for patches", "16, a square one", num_heads=4)
    assert "as in a FlexiViT" in message
    of_timm = dict(
        architecture="flexivit_small", num_features=48, pretrained_cfg=dict(input_size=[3, 32, 32])
    )
    alone = vitlab.load_checkpoint(file, num_heads=4, image_size=32)
    file.with_name("config.json").write_text(json.dumps(of_timm))
    with torch.no_grad():
        for model in (alone, vitlab.load_checkpoint("folder", num_heads=4)):
            same_outputs(model, images, theirs(images))
        larger = timm_model(no_embed_class=True, img_size=48)
        state = timm.models.vision_transformer.checkpoint_filter_fn(theirs.state_dict(), larger)
        larger.load_state_dict(state)
        images = pictures((48, 48))
        same_outputs(vitlab.load_checkpoint("folder", num_heads=4, image_size=48), images, larger(images))


def test_hugging_faces_masked_encoder_without_masking(transformers):  # noqa: F811
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80)
    config = transformers.ViTMAEConfig(image_size=32, patch_size=8, mask_ratio=0.0, **sizes)
    theirs, images = stirred(transformers.ViTMAEModel(config)), pictures((32, 32))
    theirs.save_pretrained("folder")
    ours = vitlab.load_checkpoint("folder")
    with torch.no_grad():
        close(ours(images), theirs(images).last_hidden_state[:, 0], 2e-5)
    config = json.loads(Path("folder/config.json").read_text())
    Path("folder/config.json").write_text(json.dumps(config | dict(model_type="yolos")))
    refused("folder", "model_type='yolos'", "Load it with transformers")


# --- that are refused by what they are ---------------------------------------------------------------------

OF_TIMM = {  # arrays that vitlab's ViT has no place for, and what they make of the model
    "vit_giant_patch14_dinov2": ("is a ViT with a gated MLP (SwiGLU)", "8192 numbers"),
    "cait_xxs24_224": ("'blocks.0.attn.proj_l.bias'", "a CaiT"),
    "vit_small_patch16_dinov3": ("lacks 'pos_embed'", "or rotary"),
    "vit_small_plus_patch16_dinov3": ("SwiGLU", "mlp.fc1_g.bias"),
    "vit_small_patch16_rope_mixed_224": ("rotary positions (RoPE)", "'rope.freqs'"),
    "vit_xsmall_patch16_clip_224": ("'norm_pre.bias'", "a CLIP"),
    "vit_base_patch16_xp_224": ("a ViT that normalises queries and keys ('blocks.0.k_norm.weight')",),
    "vit_small_patch16_18x2_224": ("attention and MLP side by side",),
    "vit_relpos_small_patch16_224": ("relative positions", "rel_pos"),
    "eva02_tiny_patch14_224": ("'blocks.0.attn.q_bias'", "an EVA"),
    "aimv2_large_patch14_224": ("a gated MLP (SwiGLU)", "'blocks.0.mlp.fc1_g.weight'"),
    "beit_base_patch16_224": ("a BEiT, with relative positions",),
    "swinv2_tiny_window8_256": ("a Swin Transformer", "cpb_mlp"),
    "vit_small_resnet26d_224": ("'patch_embed.backbone.bn1.bias'", "a hybrid on another stem"),
    "vit_base_patch16_siglip_224": ("pools by attention", "'attn_pool.kv.bias'"),
    "samvit_base_patch16": ("'blocks.0.attn.rel_pos_h'", "relative positions"),
}


@pytest.mark.parametrize("architecture", OF_TIMM)
def test_timms_other_transformers(architecture):
    depth = {} if architecture.startswith("swin") else dict(depth=1)
    with torch.device("meta"):  # names are all that counts
        model = timm.create_model(architecture, num_classes=2, **depth)
    arrays = {name: torch.zeros(array.shape) for name, array in model.state_dict().items()}
    message = refused(as_safetensors(arrays), *OF_TIMM[architecture])
    assert "take them out" not in message  # which would make another model of it


SIZES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
MLP = dict(intermediate_size=32)
OF_HUGGING_FACE = {
    "DINOv3ViTModel": (SIZES | MLP, "a DINOv3, with rotary positions", "layer.0.attention.k_proj"),
    "DeiTForMaskedImageModeling": (SIZES | MLP, "'deit.embeddings.mask_token'", "for masked images"),
    "RadioModel": (SIZES | dict(num_cls_tokens=2), "a RADIO, which normalises images itself"),
    "CLIPVisionModel": (SIZES | MLP, "a CLIP, with a norm before its first block", "pre_layrnorm"),
    "SiglipVisionModel": (SIZES | MLP, "a SigLIP", "self_attn"),
    "BeitModel": (SIZES | MLP | dict(use_relative_position_bias=True), "a BEiT, with relative positions"),
    "IJepaForImageClassification": (SIZES | MLP, "another model of Hugging Face than its ViT", "'ijepa."),
    "YolosModel": (SIZES | MLP | dict(image_size=[16, 16]), "a YOLOS", "'embeddings.detection_tokens'"),
}


@pytest.mark.parametrize("name", OF_HUGGING_FACE)
def test_hugging_faces_other_transformers(transformers, name):  # noqa: F811
    sizes, *words = OF_HUGGING_FACE[name]
    config = getattr(transformers, name).config_class(**sizes)
    theirs = getattr(transformers, name)(config)
    refused(as_safetensors(theirs.state_dict()), *words)
    theirs.save_pretrained("folder")
    refused("folder", *words)


def test_openais_clip():
    """Names as in OpenAI's and open_clip's files, of which only blocks are called otherwise."""
    block = "visual.transformer.resblocks.0."
    names = ["visual.class_embedding", "visual.ln_pre.weight", f"{block}attn.in_proj_weight", "visual.proj"]
    message = refused(
        as_safetensors({name: torch.zeros(2) for name in names}), "visual.ln_pre.weight", "CLIP"
    )
    assert "the image half of a CLIP" in message


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("MAPHead_0/probe", ("'MAPHead_0/probe'", "pools by attention")),
        ("params/img/Transformer/encoderblock_0/LayerNorm_0/bias", ("no place for",)),
    ],
)
@pytest.mark.parametrize("arrays", [google_arrays(), big_vision_arrays(hidden=7)], ids=["vit", "big_vision"])
def test_googles_other_transformers(arrays, extra, words):
    refused(as_npz(arrays | {extra: np.zeros((2, 2), np.float32)}), *words)


def test_layers_in_one_array():
    arrays = {"params/Transformer/encoderblock/LayerNorm_0/scale": np.ones((2, 24), np.float32)}
    refused(as_npz(arrays), "with all layers in one array (scan)")


def test_the_plain_vit_is_not_taken_for_another(transformers):  # noqa: F811
    theirs = stirred(transformers.ViTForImageClassification(hf_config(transformers)))
    assert vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4).config.depth == 2
