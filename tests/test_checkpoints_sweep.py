"""Small random models of timm, transformers and vit-pytorch, of every kind: right, or refused by name."""

import importlib
import inspect
import json
import pkgutil
import re
import warnings
from pathlib import Path

import timm
import torch
from test_checkpoints_published import (
    as_safetensors,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    pictures,
    stirred,
    transformers,  # noqa: F401
    vit_pytorch,  # noqa: F401
)
from torch import nn

import vitlab


def outcome(path: Path, logits: torch.Tensor | None, images: torch.Tensor, **fields) -> tuple[str, str]:
    """How a file is met: "right", "assumed" with its warning, or "refused" with its message.

    AssertionError for a model with other logits and no word.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = vitlab.load_checkpoint(path, **fields)
        except ValueError as error:
            return "refused", str(error)
    messages = [str(warning.message) for warning in caught]
    with torch.no_grad():
        got = model(images)
    right = logits is not None and got.shape == logits.shape and float((got - logits).abs().max()) < 2e-5
    assert right or messages, f"{path} is wrong in silence: {model.config}"
    assert right or len(messages) == 1
    return ("assumed", messages[0]) if messages else ("right", "")


def check_refusal(message: str, library: str, package: str | None = None) -> None:
    """A refusal names the library and what to do, and does not advise to make another model of it."""
    assert library in message
    assert re.search(f"load it with {package or library}|copy or download", message, re.IGNORECASE)
    assert "take them out" not in message


def saved(model: nn.Module, path=Path("lone/model.safetensors")) -> Path:
    return as_safetensors(
        {name: array.contiguous().clone() for name, array in model.state_dict().items()}, path
    )


# --- timm ---------------------------------------------------------------------------------------------------

TINY = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, num_classes=5)
MODULES = ("vision_transformer", "deit", "eva", "beit", "vision_transformer_relpos", "vision_transformer_sam")
MODULES += ("vision_transformer_hybrid", "naflexvit", "cait", "xcit", "convit", "tnt", "volo")


def timms() -> list[str]:
    modules = timm.models._registry._model_to_module
    return [name for name in timm.list_models() if modules[name] in MODULES]


def tiny(architecture: str) -> tuple[nn.Module, dict] | None:
    """A small model of an architecture, with as many of the small sizes as it takes."""
    for left_out in ((), ("img_size",), ("patch_size",), ("img_size", "patch_size"), ("num_heads",)):
        sizes = {name: size for name, size in TINY.items() if name not in left_out}
        try:
            return stirred(timm.create_model(architecture, **sizes)), sizes
        except (TypeError, AssertionError, ValueError, RuntimeError, AttributeError):
            continue
    return None


def family(architecture: str) -> str:
    """An architecture's name without sizes, of which one stands for all here."""
    return re.sub(r"_(tiny|small|medium\w*|base|large|huge|giant\w*|so\d+m2?|\d+)(?=_|$)", "", architecture)


def test_timm():
    """Alone, where heads are all that is given, and in a folder, whose config.json says the architecture."""
    refused, right, seen = 0, 0, set()
    for name in timms():
        if family(name) in seen or (made := tiny(name)) is None:
            continue
        seen.add(family(name))
        (model, sizes), logits, images = made, None, pictures((32, 32))
        if isinstance(model, timm.models.VisionTransformer | timm.models.Eva) and "img_size" in sizes:
            with torch.no_grad():
                logits = model(images)
        file = saved(model, Path("lone/model.safetensors"))
        how, message = outcome(file, logits, images, num_heads=4)
        if how == "refused" and "give the file's own image_size" in message:  # which is a question
            how, message = outcome(file, logits, images, num_heads=4, image_size=32)
        if how == "refused":
            check_refusal(message, "timm")
            assert "another model of timm" not in message, f"{name} is a kind that has no name yet: {message}"
        file = saved(model, Path("folder/model.safetensors"))
        config = dict(architecture=name, model_args=sizes, pretrained_cfg=dict(mean=0.5, std=0.5))
        file.with_name("config.json").write_text(json.dumps(config))
        tanh = "siglip" in name and type(model.blocks[0].mlp.act) is not nn.GELU
        fields = dict(gelu="tanh" if tanh else "erf") if "siglip" in name else {}  # which is asked for
        how, message = outcome(file, logits, images, **fields)
        assert how != "assumed", f"{name} says all that is needed: {message}"
        if how == "refused":
            check_refusal(message, "timm")
            assert name in message or "lacks" in message
        refused, right = refused + (how == "refused"), right + (how == "right")
    assert refused >= 60
    assert right >= 10


# --- vit-pytorch --------------------------------------------------------------------------------------------

SIZES = dict(image_size=32, patch_size=8, num_classes=5, dim=48, depth=2, heads=4, mlp_dim=80, dim_head=12)
SIZES |= dict(channels=3, frames=4, frame_patch_size=2, image_patch_size=8, spatial_depth=1, temporal_depth=1)
SIZES |= dict(
    seq_len=64, cls_depth=1, num_register_tokens=2, max_tokens_per_depth=(9, 5), sm_dim=24, lg_dim=48
)
SIZES |= dict(
    freq_patch_size=8, num_residual_streams=2, ndim=2, input_shape=(32, 32), max_frames=4, num_slots=4
)
SIZES |= dict(mlp_mult=2, reduction_factor=(8, 4, 2, 1), num_hierarchies=2, block_repeats=(1, 1))
SIZES |= dict(jumbo_cls_k=1, s1_emb_dim=8, s2_emb_dim=8, s3_emb_dim=8, s4_emb_dim=8, s3_depth=1, s4_depth=1)
SPECIAL = {
    **dict.fromkeys(("pit", "max_vit", "max_vit_with_registers"), dict(depth=(1, 1))),
    "look_vit": dict(patch_size=8, highres_patch_size=8),
    "sep_vit": dict(depth=(1, 1), heads=(2, 2), window_size=4),
    "scalable_vit": dict(depth=(1, 1), heads=(2, 2), reduction_factor=(2, 1)),
    "mobile_vit": dict(dims=(8, 16, 16), channels=(4,) * 10),
}


def lucids() -> list[tuple[str, type]]:
    """Every model of every module of vit-pytorch that makes classes of images, or patches of something."""
    library, found = importlib.import_module("vit_pytorch"), []
    for module in pkgutil.iter_modules(library.__path__):
        try:
            content = vars(importlib.import_module(f"vit_pytorch.{module.name}"))
        except ImportError:  # of a package that only this module needs
            continue
        for kind in content.values():
            own = inspect.isclass(kind) and kind.__module__ == f"vit_pytorch.{module.name}"
            if own and issubclass(kind, nn.Module) and "num_classes" in inspect.signature(kind).parameters:
                found.append((module.name, kind))
    return found


def built(module: str, kind: type) -> nn.Module | None:
    """A small model, or None for what needs another to be made."""
    sizes = SIZES | SPECIAL.get(module, {})
    try:
        return stirred(kind(**{k: v for k, v in sizes.items() if k in inspect.signature(kind).parameters}))
    except (TypeError, AssertionError, ValueError):
        return None


def test_vit_pytorch(vit_pytorch):  # noqa: F811
    hows, given = {}, dict(num_heads=4, image_size=32, patch_size=8)
    for module, kind in lucids():
        if (model := built(module, kind)) is None:
            continue
        logits, images = None, pictures((32, 32))
        if module in SAME:
            with torch.no_grad():
                logits = model(images)
        hows[module], message = outcome(saved(model), logits, images, **given)
        if hows[module] == "refused":
            check_refusal(message, "vit-pytorch")
            assert re.search("seems to be|holds|no square of pixels|should have . axes", message), message
            assert "another model of vit-pytorch than its ViT, not" not in message, f"{module}: {message}"
            if module in NAMED:
                assert module in message
    right = {module for module, how in hows.items() if how == "right"}
    assert right == SAME
    assert len(hows) > 50
    assert set(hows) >= NAMED


SAME = {"vit", "simple_vit", "simple_vit_with_patch_dropout"}  # that load
NAMED = {  # that the message calls by the module's name
    *(
        "parallel_vit",
        "deepvit",
        "vit_for_small_dataset",
        "rvt",
        "learnable_memory_vit",
        "simple_vit_with_fft",
    ),
    *(
        "local_vit",
        "jet_vit",
        "simple_vit_with_value_residual",
        "simple_vit_with_specialized_cls",
        "jumbo_vit",
    ),
    *(
        "simple_vit_with_sparse_gating",
        "simple_vit_with_hyper_connections",
        "simple_vit_attn_residual",
        "cait",
    ),
    *("simple_vit_orthog_residual_update", "looped_vit", "vit_with_keel_post_ln", "vit_with_patch_merger"),
    *("t2t", "vivit", "xcit", "normalized_vit", "cvt", "crossformer", "twins_svt", "nest", "pit", "sep_vit"),
    *("scalable_vit", "vit_with_decorr", "vit_with_patch_dropout"),
}

# --- transformers -------------------------------------------------------------------------------------------

OF_HUGGING_FACE = [
    *(
        "ViT",
        "ViTMSN",
        "ViTMAE",
        "DeiT",
        "Beit",
        "Data2VecVision",
        "Dinov2",
        "Dinov2WithRegisters",
        "DINOv3ViT",
    ),
    *(
        "IJepa",
        "Pixio",
        "VitPose",
        "VitPoseBackbone",
        "VitDet",
        "CLIPVision",
        "ChineseCLIPVision",
        "MLCDVision",
    ),
    *("SiglipVision", "Siglip2Vision", "Aimv2Vision", "Sam3ViT", "InternVLVision", "Idefics3Vision", "Vivit"),
    *("SmolVLMVision", "PixtralVision", "Timesformer", "VideoMAE", "DPT", "Vilt", "SegGpt", "Tipsv2Vision"),
    *("RfDetrDinov2", "ConvNext"),
]
SMALL = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80)
SMALL |= dict(image_size=32, patch_size=8, num_channels=3, mlp_ratio=2, mask_ratio=0.0)
RIGHT = ("ViT", "DeiT", "ViTMSN", "ViTMAE", "Dinov2", "Dinov2WithRegisters")


def hugging_faces(transformers) -> list[tuple[str, type]]:  # noqa: F811
    """The classes of its vision models, each under the start of its name."""
    ends = ("Model", "ForImageClassification", "Backbone", "ForMaskedImageModeling", "Transformer", "")
    found = [(name, getattr(transformers, name + end, None)) for name in OF_HUGGING_FACE for end in ends]
    return [(name, kind) for name, kind in found if inspect.isclass(kind) and issubclass(kind, nn.Module)]


def small(kind: type) -> nn.Module | None:
    """A model of few parameters, or None where these sizes do not make one."""
    base = kind.config_class()
    config = kind.config_class(**{k: v for k, v in SMALL.items() if hasattr(base, k)}, num_labels=5)
    try:
        with torch.device("meta"):
            large = sum(parameter.numel() for parameter in kind(config).parameters()) > 5e6
        return None if large else stirred(kind(config))
    except (TypeError, ValueError):
        return None


def test_what_is_said_of_the_image_half_of_two(transformers):  # noqa: F811
    for name in ("CLIPVision", "SiglipVision"):
        model = stirred(small(getattr(transformers, name + "Model")))
        how, message = outcome(saved(model), None, pictures((32, 32)))
        assert how == "refused"
        assert "the image half of a CLIP, a SigLIP" in message
        assert "SAM" not in message
        assert "rotary" not in message


def test_transformers(transformers):  # noqa: F811
    transformers.utils.logging.set_verbosity_error()
    hows = {}
    for name, kind in hugging_faces(transformers):
        if re.fullmatch("Dinov2(WithRegisters)?Backbone", kind.__name__) or (model := small(kind)) is None:
            continue
        logits, images = None, pictures((32, 32))
        if name in RIGHT and "Masked" not in kind.__name__:
            with torch.no_grad():
                output = model(images)
            pooled = output[1] if kind.__name__ in ("ViTModel", "DeiTModel") else output[0][:, 0]
            logits = getattr(output, "logits", pooled)
        for file in Path("folder").glob("*"):
            file.unlink()
        model.save_pretrained("folder")
        how, message = outcome(Path("folder"), logits, images)
        assert how != "assumed"
        hows[kind.__name__] = how
        if how == "refused":
            check_refusal(message, "Hugging Face", "transformers")
            assert re.search(f"{config_of('folder')}|should have . axes|lacks", message)
        how, message = outcome(saved(model), logits, images, num_heads=4)
        if how == "refused":
            check_refusal(message, "Hugging Face", "transformers")
            assert "another model of Hugging Face than its ViT, not" not in message, message
            assert "than its ViT. Load" not in message, message
    right = {name for name, how in hows.items() if how == "right"}
    classifiers = {f"{name}ForImageClassification" for name in RIGHT if name != "ViTMAE"}
    assert right == classifiers | {f"{name}Model" for name in RIGHT}
    assert len(hows) >= 40


def config_of(folder: str) -> str:
    return json.loads(Path(folder, "config.json").read_text())["model_type"]
