"""The checkpoints that ship with vitlab, and their cards."""

import json
from pathlib import Path

from vitlab import files


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
