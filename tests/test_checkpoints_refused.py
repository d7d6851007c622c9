"""Refusals name the library, the kind and what to do; what only looks like a refusal's case loads."""

import json
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from test_checkpoints_assumed import alone, said
from test_checkpoints_kinds import refused
from test_checkpoints_published import (
    as_npz,
    as_safetensors,
    close,
    google_arrays,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    pictures,
    stirred,
    timm_model,
    transformers,  # noqa: F401
)

ATTACH = "and vitlab.attach(model) shows its attention"

# --- timm ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(norm_layer="rmsnorm"), ["lacks 'blocks.0.norm1.bias'", "RMSNorm"]),
        (dict(proj_bias=False), ["'blocks.0.attn.proj.bias'", "without biases in its projections"]),
        (dict(norm_layer="rmsnorm", proj_bias=False), ["RMSNorm", "without biases in its projections"]),
        (dict(final_norm=False), ["'norm.weight'", "without a norm at the end (final_norm=False)"]),
        (dict(pos_embed="none"), ["'pos_embed'", "without position embeddings"]),
        (dict(patch_size=(16, 8)), ["'patch_embed.proj.weight'", "16 × 8 pixels"]),
        (dict(scale_mlp_norm=True), ["'blocks.0.mlp.norm.bias'", "norms within attention or MLP"]),
        (dict(scale_attn_norm=True), ["'blocks.0.attn.norm.bias'", "norms within attention or MLP"]),
        (dict(attn_layer="diff"), ["'blocks.0.attn.lambda_k1'", "DiffAttention"]),
    ],
)
def test_timms_models_with_other_parts(arguments, words):
    message = refused(alone(timm_model(**arguments)), *words, num_heads=4)
    assert f"oad it with timm, {ATTACH}" in message
    assert "take them out" not in message


def test_one_missing_array_of_many_is_damage():
    """Where other blocks have it, the model has it."""
    state = timm_model().state_dict()
    for name in ("blocks.1.norm1.bias", "blocks.0.attn.proj.bias"):
        message = refused(
            as_safetensors({key: array for key, array in state.items() if key != name}),
            name,
            "the file is incomplete; copy or download it again",
            num_heads=4,
        )
        assert "seems" not in message


# --- Hugging Face -------------------------------------------------------------------------------------------


def test_a_vit_msn_with_a_classifier(transformers):  # noqa: F811
    """transformers writes a prefix before half of its names."""
    sizes = dict(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, num_labels=5
    )
    config = transformers.ViTMSNConfig(image_size=32, patch_size=8, **sizes)
    theirs, images = stirred(transformers.ViTMSNForImageClassification(config)), pictures((32, 32)) * 0.01
    theirs.save_pretrained("folder")
    model, messages = said("folder")
    assert messages == []
    with torch.no_grad():
        close(model(images), theirs(images).logits, 2e-5)
    close(said(alone(theirs), num_heads=4, norm_eps=1e-6, gelu="erf")[0](images), theirs(images).logits, 2e-5)


@pytest.mark.parametrize(
    ("name", "fields", "kind"),
    [
        ("DINOv3ViTModel", dict(), "a DINOv3, with rotary positions"),
        ("DINOv3ViTModel", dict(num_register_tokens=4, use_gated_mlp=True), "gated MLP (SwiGLU)"),
        ("VitPoseBackbone", dict(), "a VitPose, for poses"),
        ("PixioModel", dict(), "Pixio"),
        ("Data2VecVisionModel", dict(use_absolute_position_embeddings=True), "a Data2Vec"),
        ("Data2VecVisionForImageClassification", dict(), "a Data2Vec"),
        ("BeitModel", dict(use_absolute_position_embeddings=True), "a BEiT"),
        ("BeitForImageClassification", dict(use_absolute_position_embeddings=True), "a BEiT"),
        ("IJepaModel", dict(), "an I-JEPA"),
        ("IJepaForImageClassification", dict(), "an I-JEPA"),
    ],
)
def test_hugging_faces_models_that_look_like_its_vit(transformers, name, fields, kind):  # noqa: F811
    sizes = dict(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, image_size=32
    )
    make = getattr(transformers, name)
    theirs = make(make.config_class(**sizes | dict(patch_size=8) | fields))
    theirs.save_pretrained("folder")
    for path, given in ((alone(theirs), dict(num_heads=4)), (Path("folder"), {})):
        message = refused(path, "Hugging Face", **given)
        assert f"oad it with transformers, {ATTACH}" in message
        assert "take them out" not in message
        assert kind in message or make.config_class.model_type in message
        if not fields:
            assert "SwiGLU" not in message
            assert "register" not in message
    assert kind in refused("weights.safetensors", "Hugging Face", num_heads=4)


def test_a_vit_of_timm_within_transformers(transformers):  # noqa: F811
    sizes = dict(img_size=32, patch_size=8, depth=2, embed_dim=48, num_heads=4)
    config = dict(architecture="vit_tiny_patch16_224", model_args=sizes, num_labels=5)
    theirs = stirred(transformers.TimmWrapperForImageClassification(transformers.TimmWrapperConfig(**config)))
    theirs.save_pretrained("folder")
    config = json.loads(Path("folder/config.json").read_text())
    config["pretrained_cfg"] = dict(mean=0.5, std=0.5)
    Path("folder/config.json").write_text(json.dumps(config))
    model, messages = said("folder")
    assert messages == []
    images = pictures((32, 32))
    with torch.no_grad():
        close(model(images), theirs(images).logits, 2e-5)
    config = transformers.TimmWrapperConfig(architecture="test_vit_relpos", num_labels=5)
    transformers.TimmWrapperForImageClassification(config).save_pretrained("folder")
    refused("folder", "timm (test_vit_relpos)", f"Load it with timm, {ATTACH}")


# --- files of Keras and Flax --------------------------------------------------------------------------------

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
MSGPACK = b"\x82\xa6params\x81\xa3cls\xc7\x05\x01\x93\x01\x01\x08\xa7float32" + bytes(64)


def test_files_of_keras():
    Path("vit.weights.h5").write_bytes(HDF5)
    words = "keras-hub", "load it with keras-hub", "vitlab.pretrained", "google/vit-base-patch16-224"
    refused("vit.weights.h5", "an HDF5 file", *words)
    with zipfile.ZipFile("vit.keras", "w") as archive:
        for name, content in (("metadata.json", b"{}"), ("config.json", b"{}"), ("model.weights.h5", HDF5)):
            archive.writestr(name, content)
    refused("vit.keras", "a .keras file", *words)
    Path("preset").mkdir()
    Path("preset/config.json").write_text('{"module": "keras_hub.src.models.vit.vit_backbone"}')
    Path("preset/model.weights.h5").write_bytes(HDF5)
    refused("preset", "model.weights.h5", *words)


@pytest.mark.parametrize("start", [b"\x82\xa6params", b"\xde\x00\x10\xa6params", b"\x81\xd9\x28" + b"p" * 40])
def test_files_of_flax(start):
    Path("flax_model.msgpack").write_bytes(start + MSGPACK[8:])
    message = refused("flax_model.msgpack", "Flax (msgpack)", "load it with Flax", ".npz")
    assert "cut short" not in message
    Path("folder").mkdir()
    Path("flax_model.msgpack").rename("folder/flax_model.msgpack")
    refused("folder", "flax_model.msgpack", "Flax (msgpack)", "load it with Flax")


def test_safetensors_that_are_cut_short_are_not_taken_for_flax():
    """Their first byte may be that of a map, too."""
    for size in range(0x81, 0x90):
        Path("cut.safetensors").write_bytes(size.to_bytes(8, "little") + b'{"blocks.0')
        refused("cut.safetensors", "cut short or not a safetensors file")


# --- others -------------------------------------------------------------------------------------------------


def test_googles_models_are_not_attached():
    """They are JAX's, and there is no model in PyTorch to attach to."""
    message = refused(
        as_npz(google_arrays() | {"MAPHead_0/probe": google_arrays()["cls"]}), "pools by attention"
    )
    assert "JAX (vision_transformer or big_vision)" in message
    assert "attach" not in message


def test_a_network_without_attention_is_not_attached():
    message = refused(alone(timm.create_model("resnet18", num_classes=2)), "a convolutional network", "timm")
    assert "attach" not in message


@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.trunk.", "teacher/"])
def test_names_behind_a_prefix(prefix):
    state = {prefix + name: array for name, array in timm_model().state_dict().items()}
    message = refused(as_safetensors(state), f"behind {prefix!r}", "with no prefix to its names", num_heads=4)
    assert "another model of timm" not in message


def test_what_is_left_of_a_training_may_be_taken_out():
    state = timm_model().state_dict() | {"ema.decay": torch.zeros(1)}
    refused(as_safetensors(state), "'ema.decay'", "take them out if nothing reads them", num_heads=4)
    state = timm_model().state_dict() | {"blocks.0.attn.extra": torch.zeros(1)}
    message = refused(as_safetensors(state), "'blocks.0.attn.extra'", "another model of timm", num_heads=4)
    assert "take them out" not in message
