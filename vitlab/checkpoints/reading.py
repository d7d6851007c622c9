"""Arrays from files, whatever library wrote them, and nothing is ever unpickled."""

import json
import re
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
import safetensors
import torch
from torch import Tensor

NEVER = (
    "Unpickling can run any code, so vitlab never does it: load it with the library that made it, and save "
    "the weights as safetensors"
)
KERAS = (
    "of Keras, as keras-hub's models and presets are, and vitlab reads none: load it with keras-hub; "
    "its ViTs have Google's weights, and vitlab.pretrained gets those ('google/vit-base-patch16-224')"
)
FLAX = (
    "of Flax (msgpack), which vitlab does not read: load it with Flax, and save its parameters as Google's "
    "are, one .npz of arrays by names such as Transformer/encoderblock_0/LayerNorm_0/scale; the models of "
    "Hugging Face mostly have a model.safetensors beside it"
)
# How a file begins that is no safetensors file, and what it then is.
BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file that it names; `git lfs pull` gets that",
    b"\x93NUMPY": "a single array (.npy), not a checkpoint; look for the .npz or .safetensors file",
    b"\x89HDF": f"an HDF5 file, most likely {KERAS}",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
}
UNREADABLE = (
    # by a damaged header, which can ask for any shape
    *(ValueError, TypeError, SyntaxError, tokenize.TokenError, OverflowError, MemoryError, RecursionError),
    *(OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error),
)


def read_arrays(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All arrays of a .safetensors or .npz file, floats in fp32, by name, and a safetensors file's metadata.

    The format is told by the content. Raises ValueError for a file that is cut short, a pickle, or another.

    >>> from vitlab.checkpoints import bundled
    >>> read_arrays(bundled("fashion_mnist_vit"))[0]["cls_token"].shape
    torch.Size([1, 1, 96])
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, metadata
    except safetensors.SafetensorError as error:
        if zipfile.is_zipfile(path):
            return read_npz(path), {}
        raise ValueError(f"{path} is {what_else(path)} ({error})") from error


def what_else(path: Path) -> str:
    """What a file that safetensors cannot read is, and what to do instead."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head[:1] == b"\x80" and head[8:9] != b"{":  # a safetensors header may be 128 bytes long, too
        return f"a pickle, not safetensors. {NEVER}"
    if re.match(rb"(?s)([\x81-\x8f]|\xde..|\xdf....)([\xa1-\xbf]|\xd9.)[A-Za-z_]", head):  # a map of names
        return f"a file {FLAX}"
    if head[:4] == b"PK\x03\x04":
        return (
            "a zip archive (.npz, or .pt of PyTorch) whose end is missing: it is cut short; copy or download "
            "it again"
        )
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        return (
            "a web page (HTML), not weights: its address gives a page to look at; download the file that the "
            "page links to"
        )
    known = [what for beginning, what in BEGINNINGS.items() if head.startswith(beginning)]
    return known[0] if known else "cut short or not a safetensors file; copy or download it again"


def read_npz(path: Path) -> dict[str, Tensor]:
    """All arrays of a NumPy archive by name, floats in fp32. Raises ValueError naming the array at fault."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is a zip archive whose list of contents is damaged ({error}); copy or download it again"
        ) from error
    if any(name.endswith(".weights.h5") for name in members):
        raise ValueError(f"{path} is a .keras file, {KERAS}")
    if any(name.endswith(".pkl") for name in members):
        raise ValueError(f"{path} is a pickle in a zip archive, as of torch.save, not safetensors. {NEVER}")
    if not members or not all(name.endswith(".npy") for name in members):
        raise ValueError(
            f"{path} is a zip archive of other things than arrays ({', '.join(members[:3])}); unpack it, and "
            "load the .npz or .safetensors file in it"
        )
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            try:
                array = file[name]
                if not isinstance(array, np.ndarray):  # what NumPy gives where an array does not begin as one
                    raise ValueError("it does not begin as an array of NumPy")
            except UNREADABLE as error:
                if "Object arrays" in str(error):
                    raise ValueError(
                        f"array {name!r} in {path} holds Python objects, and so a pickle. {NEVER}"
                    ) from error
                raise ValueError(
                    f"array {name!r} in {path} is damaged ({error}); copy or download the file again"
                ) from error
            arrays[name.replace("\\", "/")] = as_tensor(array, name, path)  # written on Windows
    return arrays


def as_tensor(array: np.ndarray, name: str, path: Path) -> Tensor:
    """An array, floats in fp32. JAX's bfloat16, to NumPy two bytes without meaning, is told by that."""
    if array.dtype == np.dtype("V2"):
        bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16
        return torch.from_numpy(bits.view(np.float32))
    if array.dtype.kind not in "fiub":
        raise ValueError(f"array {name!r} in {path} holds no numbers but {array.dtype}; it is no checkpoint")
    kind = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=kind, order="C"))


def check_floats(path: Path, arrays: dict[str, Tensor]) -> None:
    """Raise ValueError naming an array of other numbers than weights are made of."""
    for name, array in arrays.items():
        if not array.is_floating_point():
            raise ValueError(
                f"array {name!r} in {path} is of {str(array.dtype).removeprefix('torch.')}, and weights are "
                "floats: if they are quantised, save them as float32 with the library that did it"
            )


def check_finite(path: Path, arrays: dict[str, Tensor]) -> None:
    """Raise ValueError naming an array that has NaN or infinite numbers."""
    for name, array in arrays.items():
        if not array.isfinite().all():
            raise ValueError(
                f"array {name!r} in {path} has NaN or infinite numbers: the file is damaged, or its "
                "training diverged"
            )


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights: `path` itself, or those of a folder as Hugging Face writes it.

    Raises FileNotFoundError where there are none, ValueError for a folder that has only pickles, or files of
    Keras or Flax.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no file {path}; shipped checkpoints are named by checkpoints.bundled()"
        )
    index = path / "model.safetensors.index.json"
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not all(name == Path(str(name)).name for name in names.values()):
            raise ValueError(f"{index} is damaged: it names no files beside it; copy or download it again")
        files = [path / name for name in sorted(set(names.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise FileNotFoundError(f"{index} names {', '.join(missing)}, not in that folder; get it, too")
        return files
    found = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".npz"))
    if len(found) == 1:
        return found
    pickles = [file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt")]
    if pickles and not found:
        raise ValueError(f"{path} has weights only as a pickle, {pickles[0]}. {NEVER}")
    for suffixes, what in (((".h5", ".keras"), KERAS), ((".msgpack",), FLAX)):
        if not found and (others := sorted(f.name for f in path.iterdir() if f.suffix in suffixes)):
            raise ValueError(f"{path} has weights only as {others[0]}, a file {what}")
    names = ", ".join(file.name for file in found) or "no .safetensors and no .npz file"
    raise FileNotFoundError(f"the folder {path} has no model.safetensors; it has {names}; name the file")


def read_json(path: Path) -> dict:
    """A JSON object from a file. Raises ValueError that names a file which has none."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise TypeError("no object")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy or download it again") from error
    return content
