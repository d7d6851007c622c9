"""Saving models: safetensors with the config inside, or under timm's names; written whole or not at all."""

import importlib
import json
import math
import os
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from vitlab.checkpoints.preparing import warn_of_preparation
from vitlab.data.classes import listed, repeated
from vitlab.vit import ViTConfig

# What can be saved: the model's class, the module that has it and its config's class. By name, because some
# of these modules are above this one.
KINDS = {
    "ViT": ("vitlab.vit", "ViTConfig"),
    "ResNet": ("vitlab.resnet", "ResNetConfig"),
    "MaskedPatchViT": ("vitlab.pretraining.masked", "ViTConfig"),
}
BESIDE = {"MaskedPatchViT": ("target",)}  # words that a model is made with beside its config
# What timm's VisionTransformer is told by its arguments and a state dict does not say.
TOLD = ("image_size", "num_heads", "pool", "gelu", "norm_eps", "dropout", "patch_dropout")


def save_checkpoint(model: nn.Module, path: str | Path, layout: str = "vitlab") -> Path:
    """Write a vitlab model's weights and config to one safetensors file, and return its path.

    The models are `ViT`, `ResNet` and `MaskedPatchViT`. With `layout="timm"` a ViT's weights get the names
    that timm loads, in the model that `timm_arguments` describes; `load_checkpoint` reads both layouts. The
    names of the classes, where the model knows them, are kept in either.

    The file is written beside `path` and moved into place when it is complete, so that a full disk or a kill
    leaves an old file as it was. Raises ValueError for another model, for one that timm does not have, and
    for a class's name that stands twice; OSError where the disk says no.

    >>> from vitlab import ViT, ViTConfig
    >>> folder = tempfile.mkdtemp()
    >>> save_checkpoint(ViT(ViTConfig()), folder + "/vit.safetensors").name
    'vit.safetensors'
    """
    kind = type(model).__name__
    if kind not in KINDS or not isinstance(model, classes(kind)[0]):
        raise ValueError(f"save_checkpoint takes vitlab's {', '.join(KINDS)}; got {kind}")
    if layout not in ("vitlab", "timm"):
        raise ValueError(f"layout is 'vitlab' or 'timm'; got {layout!r}")
    path, config = Path(path), asdict(model.config)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it, such as {path / 'vit.safetensors'}")
    check_whole(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"format": "vitlab", "model": kind, "config": json.dumps(config)} | beside(model)
    if layout == "timm":
        if kind != "ViT":
            raise ValueError(f"timm's VisionTransformer is a ViT; got {kind}")
        warn_of_preparation(path.parent, model.config.in_chans)
        tensors = for_timm(tensors, model.config)
        metadata = {"format": "pt", "vitlab": json.dumps({name: config[name] for name in TOLD})}
    if names := getattr(model, "class_names", None):
        if same := repeated(names):
            raise ValueError(
                f"model.class_names has {listed(same)} more than once: give each class a name of its own"
            )
        metadata["class_names"] = json.dumps(list(names))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, safetensors.torch.save(tensors, metadata))
    return path


def check_whole(model: nn.Module) -> None:
    """Raise ValueError for a model that its config does not make again: the file could not be loaded."""
    with torch.device("meta"):
        like = classes(type(model).__name__)[0](model.config, **beside(model)).state_dict()
    own, like = ({name: tuple(t.shape) for name, t in state.items()} for state in (model.state_dict(), like))
    for name in own | like:
        if own.get(name) != like.get(name):
            raise ValueError(
                f"the model was changed after it was made: {name} is {own.get(name)}, by its config it is "
                f"{like.get(name)}. Make one by the right config, as fine_tuning.adapt does, for the weights"
            )


def beside(model: nn.Module) -> dict[str, str]:
    """The words that a model is made with beside its config."""
    return {name: getattr(model, name) for name in BESIDE.get(type(model).__name__, ())}


def for_timm(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """A ViT's arrays as timm's VisionTransformer has them. Raises ValueError for what it cannot have."""
    timm_arguments(config)
    if config.pos_embed == "none":
        tensors = tensors | {"pos_embed": torch.zeros(1, config.num_positions, config.embed_dim)}
    if count := config.num_registers:  # which have positions there
        first, patches = tensors["pos_embed"].split([config.num_class_tokens, config.num_patches], dim=1)
        tensors = tensors | {
            "pos_embed": torch.cat([first, first.new_zeros(1, count, config.embed_dim), patches], dim=1)
        }
    if config.norm_after_pool:
        return {
            ("fc_" if name.startswith("norm.") else "") + name: tensor for name, tensor in tensors.items()
        }
    return tensors


def timm_arguments(config: ViTConfig) -> dict:
    """The arguments that make timm's `VisionTransformer` the model of a config (timm 1.0).

    Of a `distilled` one they are those of its `VisionTransformerDistilled`. Raises ValueError for what timm's
    does not have: a hidden layer in the head, norms around the patch projection, heads of another width than
    D / heads, rotary position embeddings, weights kept for another patch size or grid, registers or
    `patch_dropout` beside a distillation token, a head on two things side by side, a hybrid's ResNet, which
    is a model of its own there.

    >>> from vitlab import ViTConfig
    >>> timm_arguments(ViTConfig(pool="mean"))["global_pool"]
    'avg'
    """
    for name in ("representation_size", "patch_norm", "head_dim", "stem", "kernel_size", "pos_grid"):
        if (value := getattr(config, name)) not in (None, False):
            raise ValueError(
                f"timm's VisionTransformer has no {name}, and this model's is {value!r}; only "
                "layout='vitlab' keeps it"
            )
    if config.pos_embed == "rope2d":
        raise ValueError(
            "timm's VisionTransformer has no rotary position embeddings, and this model's pos_embed is "
            "'rope2d'; only layout='vitlab' keeps it"
        )
    if config.pool == "token+mean":
        raise ValueError(
            "timm's VisionTransformer has no head on class token and mean side by side, pool='token+mean'; "
            "only layout='vitlab' keeps it"
        )
    if config.distilled and config.num_registers:
        raise ValueError(
            f"timm's VisionTransformerDistilled has no registers, and this model has {config.num_registers}; "
            "only layout='vitlab' keeps them"
        )
    if config.distilled and config.patch_dropout:
        raise ValueError(
            "timm's VisionTransformerDistilled drops the distillation token as if it were a patch, and this "
            f"model has patch_dropout={config.patch_dropout}; only layout='vitlab' keeps it"
        )
    ratio = config.mlp_dim / config.embed_dim
    if int(config.embed_dim * ratio) < config.mlp_dim:  # timm cuts the product down to a whole number
        ratio = math.nextafter(ratio, math.inf)
    return dict(
        img_size=config.image_size,
        patch_size=config.patch_size,
        in_chans=config.in_chans,
        num_classes=config.num_classes,
        global_pool="token" if config.pool == "token" else "avg",
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=ratio,
        qkv_bias=config.qkv_bias,
        class_token=bool(config.num_class_tokens),
        reg_tokens=config.num_registers,
        patch_drop_rate=config.patch_dropout,
        fc_norm=config.norm_after_pool,
        act_layer="gelu_tanh" if config.gelu == "tanh" else "gelu",
        norm_layer=partial(nn.LayerNorm, eps=config.norm_eps),
    )


def classes(kind: str) -> tuple[type, type]:
    """The classes of a model and its config, by the model's name."""
    module, config = KINDS[kind]
    return tuple(getattr(importlib.import_module(module), name) for name in (kind, config))


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def current_umask() -> int:
    """The permissions that this process takes from new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
