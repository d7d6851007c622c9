"""The learner's own images: one folder a class."""

import os
import re
import warnings
from decimal import Decimal
from pathlib import Path

import torch

from vitlab.data.dataset import Dataset
from vitlab.data.pictures import READ, check_size, read_picture
from vitlab.wording import counted

# What programs leave behind: no classes, and nothing to warn of.
LEFT_BEHIND = {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
LEFT_BEHIND |= {"Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r"}


def image_folder(path: str | os.PathLike, image_size: int | tuple[int, int]) -> Dataset:
    """Pictures in one subfolder per class, as colour images; `image_size` is a side or (H, W).

    Each picture is read as by `read_image`: upright, on white, the largest centred part of the wanted shape
    resized (bicubic). A file's content decides, not its name; hidden files are left out. One warning names
    what could not be read.

    Every subfolder is a class, but for hidden ones and what programs leave behind (`__MACOSX`). Names that
    are numbers come first, in their order (2 before 10), then all others in that of their letters. A class
    without a picture keeps its number, and a warning names it. Raises ValueError for a path that is not a
    folder, for fewer than two classes, and where no picture can be read.
    """
    path, size = Path(path), check_size(image_size)
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; give one that has a subfolder of images for each class")
    entries = visible(path)
    classes = sorted((entry.name for entry in entries if entry.is_dir()), key=in_order)
    skipped = {entry: "not in a class's folder" for entry in entries if not entry.is_dir()}
    images, labels, remarks = [], [], {}
    for label, name in enumerate(classes):
        for file in visible(path / name):
            try:
                image, remark = read_picture(file, size)
            except Exception as error:  # for a damaged file nearly anything; none may stop the rest
                skipped[file] = why_skipped(error)
                continue
            images.append(image)
            labels.append(label)
            remarks |= {file: remark} if remark else {}
    found = set(labels)
    bare = [f"{name!r} (label {label})" for label, name in enumerate(classes) if label not in found]
    for what, each in (("skipped", of(path, skipped)), ("doubtful", of(path, remarks))):
        if each:
            warnings.warn(f"{what} in {path}: {listed(each)}", stacklevel=2)
    if len(classes) < 2 or not images:
        there = "readable images" if images else "no readable image"
        raise ValueError(
            f"{path} has {there} of {counted(len(classes), 'class')} ({', '.join(classes) or 'none'}); 2 or "
            f"more are needed, each a subfolder with pictures ({READ}) directly in it"
        )
    if bare:
        warnings.warn(
            f"no readable picture in {path} for {listed(bare)}: each keeps its number, but nothing is learnt "
            "or tested of it; take the folder away if it is no class",
            stacklevel=2,
        )
    return Dataset(torch.stack(images), torch.tensor(labels), classes)


def visible(path: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden entries and what programs leave behind."""
    return sorted(e for e in path.iterdir() if not e.name.startswith(".") and e.name not in LEFT_BEHIND)


def in_order(name: str) -> tuple[bool, Decimal, str]:
    """The key that sorts classes: numbers first, in their order, then the other names.

    >>> sorted(["b", "10", "2", "01", "-1", "a2", "a10", "0.5"], key=in_order)
    ['-1', '0.5', '01', '2', '10', 'a10', 'a2', 'b']
    """
    number = Decimal(name) if re.fullmatch(r"[+-]?\d+(\.\d+)?", name, re.ASCII) else None
    return number is None, number or Decimal(0), name


def of(path: Path, said: dict[Path, str]) -> list[str]:
    """What is said of files in a folder, one after the other."""
    return [f"{file.relative_to(path).as_posix()} ({words})" for file, words in sorted(said.items())]


def listed(each: list[str]) -> str:
    """At most 20 of them, and how many more there are.

    >>> listed(["a"] * 22)[-13:]
    'a; and 2 more'
    """
    return "; ".join(each[:20]) + (f"; and {len(each) - 20} more" if len(each) > 20 else "")


def why_skipped(error: Exception) -> str:
    """The reason in a few words, without the file's path."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
