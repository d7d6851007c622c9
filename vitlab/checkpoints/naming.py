"""The names of a model's classes, where a file or the config.json in its folder says them."""

import json
import re
from pathlib import Path

from vitlab.checkpoints.reading import read_json
from vitlab.data.classes import listed, repeated

PLACEHOLDER = re.compile(r"LABEL_\d+")  # what Hugging Face writes where nobody gave names


def class_names(path: Path, metadata: dict[str, str], num_classes: int) -> list[str] | None:
    """The names of the classes, in the order of the logits; None where nothing says them.

    `save_checkpoint` writes them into the file's metadata, Hugging Face as `id2label` into config.json, timm
    as `label_names`. A name that another library has twice, as ImageNet's "crane", gets the number of its
    class. Raises ValueError for metadata that cannot be read, or has a name twice.
    """
    if "class_names" in metadata:
        return of_vitlab(path, metadata["class_names"])
    file = (path if path.is_dir() else path.parent) / "config.json"
    if metadata.get("format") == "vitlab" or not num_classes or not file.is_file():
        return None
    config = read_json(file)
    names = config.get("label_names")
    if isinstance(by_number := config.get("id2label"), dict):
        names = [by_number.get(str(number)) for number in range(len(by_number))]
    if not isinstance(names, list) or len(names) != num_classes:
        return None
    if not all(isinstance(name, str) and not PLACEHOLDER.fullmatch(name) for name in names):
        return None
    return distinct(names)


def distinct(names: list[str]) -> list[str]:
    """Names of which each stands once: one that was there more often gets the number of its class.

    >>> distinct(["crane", "owl", "crane"])
    ['crane (class 0)', 'owl', 'crane (class 2)']
    """
    same = repeated(names)
    return [f"{name} (class {i})" if name in same else name for i, name in enumerate(names)]


def of_vitlab(path: Path, text: str) -> list[str]:
    """The names in a vitlab file's metadata."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the class names in {path} cannot be read; save the model again")
    if same := repeated(names):
        raise ValueError(
            f"the class names in {path} have {listed(same)} more than once; save the model again"
        )
    return names
