"""Layer scale is multiplied into the weights: DINOv2 and DeiT-III give the logits of their libraries."""

import json
import math
import re
from pathlib import Path

import pytest
import timm
import torch
from test_checkpoints_published import (
    as_safetensors,
    close,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    pictures,
    same_outputs,
    stirred,
    timm_model,
    transformers,  # noqa: F401
)

import vitlab

NAMES = {  # of timm's models; their sizes are made small, and all else is theirs
    "vit_small_patch14_dinov2": dict(num_classes=0),
    "vit_large_patch14_dinov2": dict(),
    "deit3_small_patch16_224": dict(),
    "deit3_base_patch16_224": dict(num_classes=0),
    "vit_medium_patch16_gap_240": dict(),  # a mean over patches and no class token
    "vit_little_patch16_reg1_gap_256": dict(reg_tokens=0),
}


def small(name: str, **arguments):
    sizes = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, num_classes=5)
    return stirred(timm.create_model(name, **sizes | arguments))


def in_folder(theirs, name: str) -> Path:
    """A folder as timm writes it: config.json says the size of images, on which positions depend."""
    file = as_safetensors(theirs.state_dict(), Path("folder/model.safetensors"))
    said = dict(architecture=name, global_pool=theirs.global_pool, model_args=dict(num_heads=4, img_size=32))
    said["pretrained_cfg"] = dict(mean=[0.5] * 3, std=[0.5] * 3)
    file.with_name("config.json").write_text(json.dumps(said))
    return file.parent


@pytest.mark.parametrize("name", NAMES)
def test_timms_models_with_layer_scale(name):
    theirs, images = small(name, **NAMES[name]), pictures((32, 32))
    folder = in_folder(theirs, name)
    with torch.no_grad():
        assert not torch.equal(theirs.blocks[0].ls1.gamma, torch.ones(48))
        ours = vitlab.load_checkpoint(folder)
        same_outputs(ours, images, theirs(images))
        close(ours.forward_features(images), theirs.forward_features(images), 2e-5)
        alone = dict(num_heads=4, image_size=32, pool=ours.config.pool)
        same_outputs(vitlab.load_checkpoint(folder / "model.safetensors", **alone), images, theirs(images))
    assert set(ours.state_dict()) <= set(timm_model().state_dict())


def test_each_weight_is_multiplied_by_hand():
    theirs = timm_model(init_values=0.1)
    ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4)
    for block, original in zip(ours.blocks, theirs.blocks, strict=True):
        pairs = (
            (block.attn.proj, original.attn.proj, original.ls1),
            (block.mlp.fc2, original.mlp.fc2, original.ls2),
        )
        for layer, before, scale in pairs:
            for row in range(48):
                gamma = scale.gamma[row].double()
                close(layer.weight[row].double(), gamma * before.weight[row].double(), 1e-7)
                close(layer.bias[row].double(), gamma * before.bias[row].double(), 1e-7)


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "deit3_small_patch16_224"])
def test_their_authors_names(name):
    """Meta's own files: DINOv2's has a mask token, DeiT-III's calls layer scale gamma_1 and gamma_2."""
    theirs, images = small(name), pictures((32, 32))
    arrays = dict(theirs.state_dict())
    if "deit3" in name:
        arrays = {re.sub(r"ls([12])\.gamma", r"gamma_\1", key): array for key, array in arrays.items()}
        assert "blocks.1.gamma_2" in arrays
    else:
        arrays["mask_token"] = torch.randn(1, 48)
    with torch.no_grad():
        ours = vitlab.load_checkpoint(as_safetensors(arrays), num_heads=4, image_size=32)
        same_outputs(ours, images, theirs(images))


def dinov2(transformers, kind="Dinov2Model", **fields):  # noqa: F811
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=3, image_size=32)
    config = transformers.Dinov2Config(**sizes | dict(patch_size=8, attn_implementation="eager") | fields)
    return stirred(getattr(transformers, kind)(config))


@pytest.mark.parametrize(
    "fields",
    [
        dict(),
        dict(qkv_bias=False, layer_norm_eps=1e-3),
        dict(hidden_act="gelu_pytorch_tanh", num_channels=1, use_mask_token=False),
    ],
)
def test_hugging_faces_dinov2(transformers, fields):  # noqa: F811
    theirs = dinov2(transformers, **fields)
    theirs.save_pretrained("folder")
    images = pictures((32, 32), fields.get("num_channels", 3)) * 0.1  # so that the norms' eps matters
    with torch.no_grad():
        wanted = theirs(images, output_attentions=True)
    ours = vitlab.load_checkpoint("folder")
    same_outputs(ours, images, wanted.pooler_output, attention=torch.stack(wanted.attentions))
    close(ours.forward_features(images).detach(), wanted.last_hidden_state, 2e-5)
    alone = as_safetensors(theirs.state_dict())  # names as in memory, and no config.json
    said = dict(num_heads=4, norm_eps=fields.get("layer_norm_eps", 1e-6))
    said |= dict(gelu="tanh") if "hidden_act" in fields else {}
    same_outputs(vitlab.load_checkpoint(alone, **said), images, wanted.pooler_output)


def test_hugging_faces_dinov2_at_another_size(transformers):  # noqa: F811
    theirs = dinov2(transformers)
    theirs.save_pretrained("folder")
    for size in ((48, 64), (16, 16)):
        images = pictures(size)
        with torch.no_grad():
            ours = vitlab.load_checkpoint("folder", image_size=size)
            same_outputs(ours, images, theirs(images).pooler_output)


def test_the_model_within_a_dinov2_classifier(transformers):  # noqa: F811
    """Names that begin with dinov2, whose 2 is no block's number."""
    theirs, images = dinov2(transformers, "Dinov2ForImageClassification"), pictures((32, 32))
    arrays = theirs.state_dict()
    inside = {name: array for name, array in arrays.items() if not name.startswith("classifier.")}
    with torch.no_grad():
        ours = vitlab.load_checkpoint(as_safetensors(inside), num_heads=4)
        same_outputs(ours, images, theirs.dinov2(images).pooler_output)
        whole = vitlab.load_checkpoint(as_safetensors(arrays), num_heads=4)
        same_outputs(whole, images, theirs(images).logits)


def test_what_is_missing_or_of_another_shape_is_named(transformers):  # noqa: F811
    for arrays in (timm_model(init_values=0.1).state_dict(), dinov2(transformers).state_dict()):
        for name in (name for name in arrays if "scale" in name or ".ls" in name):
            without = {key: value for key, value in arrays.items() if key != name}
            longer = arrays | {name: torch.ones(49)}
            for changed in (without, longer, arrays | {name: torch.ones(1, 48)}):
                with pytest.raises(ValueError, match=re.escape(repr(name))):
                    vitlab.load_checkpoint(as_safetensors(changed), num_heads=4)
            with pytest.raises(ValueError, match=f"array {re.escape(repr(name))} .* has NaN"):
                vitlab.load_checkpoint(
                    as_safetensors(arrays | {name: torch.full([48], math.nan)}), num_heads=4
                )


def test_a_loaded_model_is_saved_without_layer_scale():
    theirs, images = timm_model(init_values=0.1), pictures((32, 32))
    ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4)
    with torch.no_grad():
        for layout in ("vitlab", "timm"):
            again = vitlab.load_checkpoint(vitlab.save_checkpoint(ours, "own.safetensors", layout))
            assert torch.equal(again(images), ours(images))
