"""What a file does not say is assumed aloud or refused, and what it claims reserves no memory."""

import json
import math
import time
import warnings
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from test_checkpoints_kinds import refused
from test_checkpoints_published import (
    as_npz,
    as_safetensors,
    close,
    google_arrays,
    hf_config,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    lucid,
    pictures,
    stirred,
    timm_model,
    transformers,  # noqa: F401
    vit_pytorch,  # noqa: F401
)
from timm.models.vision_transformer import ResPostBlock
from torch import nn

import vitlab
from vitlab import ViT, ViTConfig
from vitlab.checkpoints.architectures import SAME_ARRAYS, told_by_name


def said(path, **fields) -> tuple[ViT, list[str]]:
    """The model, and the warnings with which it came."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = vitlab.load_checkpoint(path, **fields)
    return model, [str(warning.message) for warning in caught]


def alone(model: nn.Module) -> Path:
    return as_safetensors({name: array.contiguous() for name, array in model.state_dict().items()})


def off(ours: nn.Module, theirs: nn.Module, images: torch.Tensor) -> float:
    """By how much the logits differ."""
    with torch.no_grad():
        return float((ours(images) - theirs(images)).abs().max())


# --- what a lone file leaves open ---------------------------------------------------------------------------

ALL_OF_TIMM = dict(num_heads=4, pool="token", gelu="erf", norm_eps=1e-6, plain=True)
OPEN = [  # timm's arguments that no array shows, and what settles it or None where vitlab's ViT cannot be it
    (dict(), ALL_OF_TIMM),
    (dict(num_heads=8), ALL_OF_TIMM | dict(num_heads=8)),
    (dict(global_pool="avg", fc_norm=False), ALL_OF_TIMM | dict(pool="mean")),
    (dict(global_pool="avg"), ALL_OF_TIMM | dict(pool="mean")),
    (dict(global_pool="avg", class_token=False), ALL_OF_TIMM | dict(pool="mean")),
    (dict(act_layer="gelu_tanh"), ALL_OF_TIMM | dict(gelu="tanh")),
    (dict(norm_layer=partial(nn.LayerNorm, eps=1e-5)), ALL_OF_TIMM | dict(norm_eps=1e-5)),
    (dict(global_pool="max"), None),
    (dict(global_pool="max", fc_norm=False), None),
    (dict(global_pool="avgmax"), None),
    (dict(global_pool="avg", fc_norm=False, pool_include_prefix=True), None),
    (dict(act_layer="relu"), None),
    (dict(act_layer="quick_gelu"), None),
    (dict(block_fn=ResPostBlock), None),
]


@pytest.mark.parametrize(("arguments", "settles"), OPEN)
def test_what_a_lone_file_of_timm_leaves_open_is_said_once(arguments, settles):
    theirs, images = timm_model(**arguments), pictures((32, 32))
    model, (message,) = said(alone(theirs), num_heads=4)
    for word in (
        "timm",
        "pool=",
        "gelu='erf' (not tanh, quick GELU or ReLU)",
        "norm_eps=1e-06",
        "not behind",
    ):
        assert word in message
    assert "num_heads" not in message  # it was given
    if settles is None:
        assert off(model, theirs, images) > 1e-3
        return
    model, messages = said("weights.safetensors", **settles)
    assert messages == []
    assert off(model, theirs, images) < 2e-5
    for name in settles.keys() - {"num_heads"}:
        _, (message,) = said("weights.safetensors", **{k: v for k, v in settles.items() if k != name})
        assert [key for key in settles if f"{key}=" in message] == [name]


def test_heads_are_said_with_their_width():
    _, (message,) = said(alone(timm_model(embed_dim=128, num_heads=4)))
    assert "num_heads=2 (each 64 wide)" in message
    assert "load it with timm, and vitlab.attach(model) shows its attention" in message


def test_what_a_lone_file_of_hugging_face_leaves_open(transformers):  # noqa: F811
    for fields, settles in (
        (dict(), dict()),
        (dict(layer_norm_eps=1e-6), dict(norm_eps=1e-6)),  # as a ViT-MSN has it
        (dict(hidden_act="gelu_new"), dict(gelu="tanh")),
    ):
        theirs = stirred(transformers.ViTForImageClassification(hf_config(transformers, **fields)))
        file = alone(theirs)
        _, (message,) = said(file, num_heads=4)
        assert all(
            word in message for word in ("Hugging Face", "gelu='erf'", "norm_eps=1e-12", "transformers")
        )
        model, messages = said(file, **dict(num_heads=4, gelu="erf", norm_eps=1e-12) | settles)
        images = pictures((32, 32))
        with torch.no_grad():
            close(model(images), theirs(images).logits, 2e-5)
        theirs.save_pretrained("folder")
        assert messages == said("folder")[1] == []


@pytest.mark.parametrize("heads", [1, 18, 20, 22, 24, 26])
def test_vit_pytorchs_heads_are_64_wide_at_any_width(vit_pytorch, heads):  # noqa: F811
    """At 18 to 26 of them, they are together as wide as models of timm's that have 16."""
    theirs = lucid(vit_pytorch, heads=heads, dim_head=64)
    model, (message,) = said(alone(theirs))
    assert model.config.num_heads == heads
    assert f"num_heads={heads} (each 64 wide)" in message
    assert off(model, theirs, pictures((32, 32))) < 2e-5
    assert said("weights.safetensors", num_heads=heads, patch_size=8)[1] == []


def test_vit_pytorchs_narrower_heads_are_not_assumed_in_silence(vit_pytorch):  # noqa: F811
    theirs = lucid(vit_pytorch, heads=4, dim_head=32)
    model, (message,) = said(alone(theirs))
    assert "num_heads=2 (each 64 wide)" in message
    assert off(model, theirs, pictures((32, 32))) > 1e-3
    model, messages = said("weights.safetensors", num_heads=4, patch_size=8)
    assert messages == []
    assert off(model, theirs, pictures((32, 32))) < 2e-5


def test_vit_pytorchs_older_class_token_may_not_be_what_is_read(vit_pytorch):  # noqa: F811
    state = lucid(vit_pytorch).state_dict()
    older = state | {name: state[name][None].clone() for name in ("cls_token", "pos_embedding")}
    _, (message,) = said(as_safetensors(older), num_heads=4, patch_size=8)
    assert "pool='token'" in message
    assert said("weights.safetensors", num_heads=4, patch_size=8, pool="token")[1] == []


def test_files_that_leave_nothing_open(transformers):  # noqa: F811
    assert said(as_npz(google_arrays()))[1] == []
    model = ViT(ViTConfig())
    assert said(vitlab.save_checkpoint(model, "own.safetensors"))[1] == []
    assert said(vitlab.save_checkpoint(model, "timm.safetensors", layout="timm"))[1] == []
    for name in ("fashion_mnist_vit", "scenes_vit"):
        assert said(vitlab.checkpoints.bundled(name))[1] == []


# --- what no field says: that a model is the plain one ------------------------------------------------------

ROTARY = dict(attn_type="rope", use_rot_pos_emb=True, global_pool="token")


def eva(**arguments) -> nn.Module:
    sizes = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, num_classes=5)
    return stirred(timm.models.Eva(**sizes | arguments))


@pytest.mark.parametrize(
    "make",
    [
        partial(timm_model, block_fn=ResPostBlock),
        partial(timm_model, block_fn=ResPostBlock, init_values=1e-5, class_token=False, global_pool="avg"),
        partial(eva, **ROTARY),
        partial(eva, **ROTARY, init_values=0.5),
        partial(eva, **ROTARY, no_embed_class=True),
        partial(eva, attn_type="rope", global_pool="token", use_post_norm=True),
    ],
)
def test_with_all_keywords_given_what_has_none_is_still_said_of_timm(make):
    """Other keywords cannot make these models right, so that they must not make the warning go."""
    theirs = make()
    pool = dict(token="token", avg="mean")[theirs.global_pool]
    given = ALL_OF_TIMM | dict(pool=pool, image_size=32)
    model, (message,) = said(alone(theirs), **{k: v for k, v in given.items() if k != "plain"})
    assert "Assumed: plain=True (norms in front of each half" in message
    assert "no rotary positions" in message
    assert "num_heads" not in message
    assert off(model, theirs, pictures((32, 32))) > 1e-3
    refused("weights.safetensors", "plain=False", "load it with timm", **given | dict(plain=False))


def test_timms_layer_scale_says_that_a_model_is_plain():
    """`ls1.gamma` is in no block of timm's with norms behind or rotary positions; `gamma_1` is."""
    given = {k: v for k, v in ALL_OF_TIMM.items() if k != "plain"}
    theirs = timm_model(init_values=0.5)
    model, messages = said(alone(theirs), **given)
    assert messages == []
    assert off(model, theirs, pictures((32, 32))) < 2e-5
    renamed = {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): array
        for name, array in theirs.state_dict().items()
    }  # as in DeiT-III's own files
    model, (message,) = said(as_safetensors(renamed), **given)
    assert "Assumed: plain=True" in message
    assert off(model, theirs, pictures((32, 32))) < 2e-5
    for kind in (timm_model(block_fn=ResPostBlock, init_values=0.5), eva(**ROTARY, init_values=0.5)):
        assert not any("ls1" in name for name in kind.state_dict())


def test_windows_are_said_of_hugging_faces_dinov2_alone(transformers):  # noqa: F811
    """RF-DETR's has the arrays of a DINOv2; a ViT's, without layer scale, no model with windows has."""
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    dinov2 = stirred(transformers.Dinov2Model(transformers.Dinov2Config(**sizes)))
    windows = stirred(transformers.RfDetrDinov2Backbone(transformers.RfDetrDinov2Config(**sizes)))
    given = dict(num_heads=4, gelu="erf", norm_eps=1e-6)
    for theirs in (dinov2, windows):
        _, (message,) = said(alone(theirs), **given)
        assert "Assumed: plain=True (attention over the whole image, not in windows" in message
    _, messages = said(alone(dinov2), **given, plain=True)
    assert messages == []
    dinov2.save_pretrained("folder")
    assert said("folder")[1] == []
    refused(alone(windows), "plain=False", "load it with transformers", plain=False)
    vit = stirred(transformers.ViTModel(hf_config(transformers)))
    assert said(alone(vit), num_heads=4, gelu="erf", norm_eps=1e-12)[1] == []


# --- patches that are no squares ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 64), (64, 64)])
@pytest.mark.parametrize("patch", [(8, 32), (4, 16)])
@pytest.mark.parametrize("kind", ["ViT", "SimpleViT"])
def test_vit_pytorchs_rectangles_are_not_taken_for_squares_in_silence(vit_pytorch, kind, patch, size):  # noqa: F811
    sizes = dict(num_classes=5, dim=48, depth=1, heads=4, mlp_dim=80, dim_head=12)
    theirs = stirred(getattr(vit_pytorch, kind)(image_size=size, patch_size=patch, **sizes))
    side = math.isqrt(math.prod(patch))
    model, (message,) = said(alone(theirs), image_size=size, num_heads=4)
    assert f"patch_size={side} (not {side // 2} × {side * 2})" in message
    assert off(model, theirs, pictures(size)) > 1e-3
    refused("weights.safetensors", str(patch), "squares", "load it with vit-pytorch", patch_size=patch)


def test_vit_pytorchs_squares_are_settled_by_a_word_or_by_arithmetic(vit_pytorch):  # noqa: F811
    theirs = lucid(vit_pytorch, image_size=(8, 24))
    model, messages = said(alone(theirs), image_size=(8, 24), num_heads=4)
    assert messages == []  # no other patch of 64 pixels divides 8 x 24
    assert off(model, theirs, pictures((8, 24))) < 2e-5
    theirs = lucid(vit_pytorch)
    assert "patch_size=8 (not 4 × 16)" in said(alone(theirs), image_size=32, num_heads=4)[1][0]
    assert said("weights.safetensors", image_size=32, num_heads=4, patch_size=8)[1] == []


def test_vit_pytorchs_rectangles_that_no_square_can_be(vit_pytorch):  # noqa: F811
    theirs = lucid(vit_pytorch, image_size=(12, 32), patch_size=(4, 16))
    refused(alone(theirs), "image_size=(12, 32)", "vit-pytorch", "4 × 16", "squares", image_size=(12, 32))
    theirs = lucid(vit_pytorch, image_size=(32, 32), patch_size=(4, 8))
    refused(alone(theirs), "96 numbers, no square", "load it with vit-pytorch, and vitlab.attach(model)")


def test_rectangles_of_timm_and_hugging_face(transformers):  # noqa: F811
    theirs = timm_model(patch_size=(16, 8))
    refused(
        alone(theirs), "'patch_embed.proj.weight'", "timm", "16 × 8 pixels", "squares", "vitlab.attach(model)"
    )
    config = hf_config(transformers, patch_size=[16, 8])
    transformers.ViTForImageClassification(config).save_pretrained("folder")
    refused("folder", "Hugging Face", "16 × 8 pixels", "load it with transformers")


# --- folders of timm ----------------------------------------------------------------------------------------


def folder(model: nn.Module, architecture: str, **config) -> Path:
    file = as_safetensors(model.state_dict(), Path("folder/model.safetensors"))
    prepared = dict(pretrained_cfg=dict(mean=0.5, std=0.5)) if "mean" not in config else {}
    file.with_name("config.json").write_text(json.dumps(dict(architecture=architecture) | prepared | config))
    return file.parent


def test_a_folder_of_timm_whose_mean_is_over_the_class_token_too():
    theirs = timm_model(global_pool="avg", fc_norm=False, pool_include_prefix=True)
    words = "pool_include_prefix=True", "load it with timm, and vitlab.attach(model) shows its attention"
    arguments = dict(num_heads=4, global_pool="avg", pool_include_prefix=True)
    refused(folder(theirs, "vit_tiny_patch16_224", model_args=arguments), *words)
    refused(folder(theirs, "vit_tiny_patch16_224", pool_include_prefix=True, global_pool="avg"), *words)
    theirs = timm_model(pool_include_prefix=True)  # and reads the class token alone
    arguments |= dict(global_pool="token")
    model, messages = said(folder(theirs, "vit_tiny_patch16_224", model_args=arguments))
    assert messages == []
    assert off(model, theirs, pictures((32, 32))) < 2e-5


@pytest.mark.parametrize(
    "arguments",
    [
        dict(act_layer="relu"),
        dict(act_layer="quick_gelu"),
        dict(global_pool="max"),
        dict(global_pool="avgmax"),
        dict(global_pool=""),
        dict(norm_layer="batchnorm1d"),
        dict(attn_layer="diff"),
        dict(block_fn="ResPostBlock"),
    ],
)
def test_a_folder_of_timm_that_says_what_vitlabs_vit_is_not(arguments):
    path = folder(timm_model(), "vit_tiny_patch16_224", model_args=dict(num_heads=4) | arguments)
    (name, value), *_ = arguments.items()
    refused(path, f"{name}={value!r}", "load it with timm, and vitlab.attach(model)")


def test_a_folder_of_an_older_timm():
    """Everything at the top of config.json, where there is now a pretrained_cfg."""
    theirs = timm_model(img_size=(24, 40))
    path = folder(theirs, "vit", model_args=dict(num_heads=4), input_size=[3, 24, 40], mean=0.5, std=0.5)
    model, (message,) = said(path)  # the name says nothing
    assert "gelu='erf'" in message
    assert off(model, theirs, pictures((24, 40))) < 2e-5


def timms_vits() -> list[str]:
    modules = timm.models._registry._model_to_module
    of = ("vision_transformer", "deit", "eva", "beit", "vision_transformer_relpos", "naflexvit")
    return [name for name in timm.list_models() if modules[name] in of]


def test_what_the_names_of_timms_architectures_say_is_so():
    """All of them, on the meta device: a name that is known tells what the model has."""
    known, unusual = 0, set()
    for name in timms_vits():
        if any(part in name for part in SAME_ARRAYS):
            with pytest.raises(ValueError, match="load it with timm"):
                told_by_name(Path("config.json"), name)
            continue
        if not (facts := told_by_name(Path("config.json"), name)):
            continue
        with torch.device("meta"):
            model = timm.create_model(name, depth=1, num_classes=2)
        block, known = model.blocks[0], known + 1
        assert facts["num_heads"] == block.attn.num_heads, name
        assert facts["norm_eps"] == block.norm1.eps, name
        assert facts["pool"] == dict(token="token", avg="mean")[model.global_pool], name
        assert type(block.mlp.act) is nn.GELU or "gelu" not in facts, name
        assert type(block) is timm.models.vision_transformer.Block or not facts["plain"], name
        assert type(model) is timm.models.VisionTransformer or model.num_prefix_tokens == 2, name
        if model.embed_dim != 64 * block.attn.num_heads:
            unusual.add(model.embed_dim // block.attn.num_heads)
    assert known > 60
    assert unusual >= {32, 48, 72, 80, 88, 96, 104}


@pytest.mark.parametrize(
    ("architecture", "width"),
    [("vit_base_patch16_gap_224", 768), ("vit_huge_patch14_224", 1280), ("vit_giant_patch14_224", 1408)]
    + [("vit_so400m_patch14_siglip_gap_224", 1152), ("test_vit", 64), ("vit_tiny_patch16_224", 192)],
)
def test_folders_of_timm_whose_heads_have_many_widths(architecture, width):
    theirs = timm.create_model(architecture, img_size=32, patch_size=8, depth=1, mlp_ratio=0.1, num_classes=5)
    size = dict(img_size=32, patch_size=8, depth=1, mlp_ratio=0.1)
    given = dict(gelu="erf") if "siglip" in architecture else {}
    model, messages = said(folder(stirred(theirs), architecture, model_args=size), **given)
    assert messages == []
    assert (model.config.embed_dim, model.config.num_heads) == (width, theirs.blocks[0].attn.num_heads)
    assert off(model, theirs, pictures((32, 32))) < 2e-5


def test_a_narrower_model_of_a_named_architecture_keeps_its_heads():
    size = dict(img_size=32, patch_size=8, depth=1, embed_dim=48, num_classes=5)
    theirs = stirred(timm.create_model("vit_small_patch16_224", **size))
    model, messages = said(folder(theirs, "vit_small_patch16_224", model_args=size))
    assert (model.config.num_heads, messages) == (6, [])
    assert off(model, theirs, pictures((32, 32))) < 2e-5


# --- what a file claims -------------------------------------------------------------------------------------

HUGE = 10**9


def quickly_refused(path, *words: str, **fields) -> None:
    """Refused by these words in a second; memory for what is claimed is not to be had on any machine."""
    started = time.process_time()
    refused(path, *words, **fields)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("number", [HUGE, 2, "9" * 5000, "٣"])
def test_a_block_with_an_absurd_number(transformers, vit_pytorch, number):  # noqa: F811
    libraries = {
        "blocks.1.": timm_model().state_dict(),
        "layers.1.": transformers.ViTModel(hf_config(transformers)).state_dict(),
        "transformer.layers.1.": lucid(vit_pytorch).state_dict(),
    }
    for block, arrays in libraries.items():
        renamed = {name.replace(block, block.replace("1", str(number))): a for name, a in arrays.items()}
        quickly_refused(as_safetensors(renamed), "lacks", block, num_heads=4)
    arrays = {n.replace("block_1/", f"block_{number}/"): a for n, a in google_arrays().items()}
    if number != "9" * 5000:  # longer than a name in a zip archive should be
        quickly_refused(as_npz(arrays), "lacks", "Transformer/encoderblock_1/")


def own(config: dict, kind="ViT", arrays=None) -> Path:
    """A file of vitlab's whose config says other things than its arrays."""
    metadata = {"format": "vitlab", "model": kind, "config": json.dumps(config)}
    safetensors.torch.save_file(arrays or ViT(ViTConfig()).state_dict(), "own.safetensors", metadata)
    return Path("own.safetensors")


@pytest.mark.parametrize("value", [HUGE, 10**6, 10**30])
@pytest.mark.parametrize(
    "name",
    ["depth", "embed_dim", "num_classes", "mlp_dim", "in_chans", "representation_size", "patch_size"]
    + ["head_dim", "num_heads", "image_size"],
)
@pytest.mark.parametrize("kind", ["ViT", "MaskedPatchViT"])
def test_our_own_files_that_claim_too_much(name, value, kind):
    changes = {name: value} | (dict(image_size=value) if name == "patch_size" else {})
    changes |= dict(head_dim=1) if name == "num_heads" else {}
    quickly_refused(own(changes, kind), "own.safetensors" if name != "image_size" or value > 10**6 else "")


@pytest.mark.parametrize(
    "config",
    [dict(blocks=[HUGE]), dict(blocks=[1] * 10**5), dict(blocks=[1] * 30), dict(width=8 * 10**8)]
    + [dict(num_classes=HUGE), dict(in_chans=HUGE), dict(blocks=3), dict(blocks=["a"]), dict(width=10**6)],
)
def test_our_own_resnets_that_claim_too_much(config):
    from vitlab.resnet import ResNet, ResNetConfig

    arrays = ResNet(ResNetConfig(width=8)).state_dict()
    quickly_refused(own(dict(width=8) | config, "ResNet", arrays), "own.safetensors")


FIELDS = ["num_attention_heads", "image_size", "hidden_size", "num_hidden_layers", "intermediate_size"]


@pytest.mark.parametrize("value", [HUGE, 10**6, 10**30])
@pytest.mark.parametrize("field", [*FIELDS, "num_channels", "patch_size"])
def test_a_config_json_that_claims_too_much(transformers, field, value):  # noqa: F811
    transformers.ViTForImageClassification(hf_config(transformers)).save_pretrained("folder")
    file = Path("folder/config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    quickly_refused("folder")


@pytest.mark.parametrize("value", [HUGE, 10**30, float("inf"), float("nan"), -1, "4"])
def test_a_dinov2_that_claims_too_much(transformers, value):  # noqa: F811
    sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=4, image_size=32, patch_size=8)
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained("folder")
    file = Path("folder/config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(mlp_ratio=value)))
    quickly_refused("folder", "mlp_dim")
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(mlp_ratio=4.0, hidden_size=10**400)))
    quickly_refused("folder", "embed_dim")


@pytest.mark.parametrize("value", [HUGE, 10**6, 10**30])
def test_a_config_json_of_timm_that_claims_too_much(value):
    for arguments in (dict(num_heads=value), dict(num_heads=4, img_size=value)):
        quickly_refused(folder(timm_model(), "vit_tiny_patch16_224", model_args=arguments))
    file = timm_model().state_dict()
    for fields in (dict(num_heads=value), dict(num_heads=4, image_size=value)):
        safetensors.torch.save_file(file, "own.safetensors", {"vitlab": json.dumps(fields)})
        quickly_refused("own.safetensors")
