"""Saving and loading models: safetensors with the config inside, written whole or not at all."""

import importlib
import json
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from vitlab import files

# What can be saved: the model's class, the module that has it and its config's class. By name, because some
# of these modules are above this one.
KINDS = {
    "ViT": ("vitlab.vit", "ViTConfig"),
    "ResNet": ("vitlab.resnet", "ResNetConfig"),
    "MaskedPatchViT": ("vitlab.pretraining.masked", "ViTConfig"),
}


def save_checkpoint(model: nn.Module, path: str | Path) -> Path:
    """Write a vitlab model's weights and config to one safetensors file, and return its path.

    The models are `ViT`, `ResNet` and `MaskedPatchViT`.

    The file is written beside `path` and moved into place when it is complete, so that a full disk or a kill
    leaves an old file as it was. Raises ValueError for another model, OSError where the disk says no.

    >>> from vitlab import ViT, ViTConfig
    >>> folder = tempfile.mkdtemp()
    >>> save_checkpoint(ViT(ViTConfig()), folder + "/vit.safetensors").name
    'vit.safetensors'
    """
    kind = type(model).__name__
    if kind not in KINDS or not isinstance(model, classes(kind)[0]):
        raise ValueError(f"save_checkpoint takes vitlab's {', '.join(KINDS)}; got {kind}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"format": "vitlab", "model": kind, "config": json.dumps(asdict(model.config))}
    write_whole(path, safetensors.torch.save(tensors, metadata))
    return path


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


def load_checkpoint(path: str | Path, **config_fields) -> nn.Module:
    """The model in fp32 on the CPU, in evaluation mode, from a file that `save_checkpoint` wrote.

    `config_fields` must agree with what the file says; they are for files that do not say it. Raises
    FileNotFoundError, or ValueError for a file that is cut short, a pickle, of another kind or architecture.

    >>> load_checkpoint(bundled("fashion_mnist_vit")).config.num_patches
    49
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; shipped checkpoints are named by checkpoints.bundled()"
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is {what_else(path)} ({error})") from error
    model = read_model(path, metadata, config_fields)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit the config that it names: {error}") from error
    return model.eval()


def what_else(path: Path) -> str:
    """What a file that safetensors cannot read is, and what to do instead."""
    with open(path, "rb") as file:
        head = file.read(9)
    pickled = head[:1] == b"\x80" and head[8:] != b"{"  # a safetensors header may be 128 bytes long, too
    if pickled or head[:4] == b"PK\x03\x04":
        return (
            "a pickle or a zip archive, not safetensors. Unpickling can run any code, so vitlab never does "
            "it: load it with the library that made it, and save the weights as safetensors"
        )
    return "cut short or not a safetensors file; copy or download it again"


def read_model(path: Path, metadata: dict[str, str], config_fields: dict) -> nn.Module:
    """The model that a file's metadata describes, checked against the fields the caller gave."""
    if metadata.get("format") != "vitlab":
        raise ValueError(
            f"{path} holds no vitlab config; only files that save_checkpoint wrote can be loaded"
        )
    try:
        stored = dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the config in {path} cannot be read ({error!r}); save the model again") from error
    kind = metadata.get("model", "ViT")  # older files do not say it, and are ViTs
    if kind not in KINDS:
        raise ValueError(f"{path} holds a {kind}; this vitlab knows {' and '.join(KINDS)}")
    model, make_config = classes(kind)
    known = {field.name for field in fields(make_config)}
    if unknown := (set(config_fields) | set(stored)) - known:
        names, there = ", ".join(sorted(unknown)), ", ".join(sorted(known))
        raise ValueError(f"{make_config.__name__} has no field {names}; it has {there}")
    config = make_config(**stored)
    for name, value in config_fields.items():
        if getattr(make_config(**(stored | {name: value})), name) != getattr(config, name):
            raise ValueError(f"{path} says {name}={getattr(config, name)!r}; got {name}={value!r}")
    return model(config)


def bundled(name: str) -> Path:
    """The path of a checkpoint that ships with vitlab, once its SHA-256 is found right.

    Raises FileNotFoundError naming those there are, and ValueError for a file that was altered.

    >>> bundled("fashion_mnist_vit").suffix
    '.safetensors'
    """
    folder = files.root("checkpoints") / "checkpoints"
    names = sorted(file.stem for file in folder.glob("*.safetensors"))
    if name not in names:
        raise FileNotFoundError(f"no checkpoint {name!r} ships with vitlab; there are: {', '.join(names)}")
    return files.find(f"checkpoints/{name}.safetensors")


def card(name: str) -> dict:
    """The card of a shipped checkpoint: its command, recipe, seed, data, accuracy and SHA-256.

    >>> card("fashion_mnist_vit")["test_accuracy"] >= 0.9
    True
    """
    return json.loads(bundled(name).with_suffix(".json").read_text())
