"""Saving and loading models: safetensors with the config inside, written whole or not at all."""

import json
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path

import safetensors
import safetensors.torch

from vitlab import files
from vitlab.vit import ViT, ViTConfig


def save_checkpoint(model: ViT, path: str | Path) -> Path:
    """Write a ViT's weights and config to one safetensors file, and return its path.

    The file is written beside `path` and moved into place when it is complete, so that a full disk or a kill
    leaves an old file as it was. Raises ValueError for a model that is not a `ViT`, OSError where the disk
    says no.

    >>> folder = tempfile.mkdtemp()
    >>> save_checkpoint(ViT(ViTConfig()), folder + "/vit.safetensors").name
    'vit.safetensors'
    """
    if not isinstance(model, ViT):
        raise ValueError(f"save_checkpoint takes a vitlab.ViT; got {type(model).__name__}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"format": "vitlab", "config": json.dumps(asdict(model.config))}
    write_whole(path, safetensors.torch.save(tensors, metadata))
    return path


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


def load_checkpoint(path: str | Path, **config_fields) -> ViT:
    """A `ViT` in fp32 on the CPU, in evaluation mode, from a file that `save_checkpoint` wrote.

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
    refuse_foreign(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is cut short or not a safetensors file ({error}); copy or download it again"
        ) from error
    config = read_config(path, metadata, config_fields)
    model = ViT(config)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit the config that it names: {error}") from error
    return model.eval()


def refuse_foreign(path: Path) -> None:
    """Raise ValueError for files that are recognisably something else, saying what to do instead."""
    with open(path, "rb") as file:
        head = file.read(2)
    if head == b"PK" or head[:1] == b"\x80":
        raise ValueError(
            f"{path} is a pickle or a zip archive, not safetensors. Unpickling can run any code, so "
            "vitlab never does it: load it with the library that made it, and save the weights as safetensors"
        )


def read_config(path: Path, metadata: dict[str, str], config_fields: dict) -> ViTConfig:
    """The config that a file's metadata carries, checked against the fields the caller gave."""
    if metadata.get("format") != "vitlab":
        raise ValueError(
            f"{path} holds no vitlab config; only files that save_checkpoint wrote can be loaded"
        )
    try:
        stored = dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the config in {path} cannot be read ({error!r}); save the model again") from error
    known = {field.name for field in fields(ViTConfig)}
    if unknown := (set(config_fields) | set(stored)) - known:
        raise ValueError(
            f"ViTConfig has no field {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
        )
    config = ViTConfig(**stored)
    for name, value in config_fields.items():
        if getattr(ViTConfig(**(stored | {name: value})), name) != getattr(config, name):
            raise ValueError(f"{path} says {name}={getattr(config, name)!r}; got {name}={value!r}")
    return config


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
