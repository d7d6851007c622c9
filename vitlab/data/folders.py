"""The learner's own images: JPEG and PNG files, one folder a class."""

import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from vitlab.data.dataset import Dataset


def image_folder(path: str | os.PathLike, image_size: int | tuple[int, int]) -> Dataset:
    """JPEG and PNG files in one subfolder per class, as colour images; `image_size` is a side or (H, W).

    Each image is turned upright (EXIF) and laid on white where it is transparent; the largest centred part of
    the wanted shape is resized (bicubic). A file's content decides, not its name; hidden files are left out.
    One warning names what could not be read. Classes are sorted by name, and have at least one image. Raises
    ValueError for a path that is not a folder, and for fewer than two classes.
    """
    path, size = Path(path), check_size(image_size)
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; give one that has a subfolder of images for each class")
    images, names, skipped = [], [], []
    for file in visible_files(path):
        try:
            if file.parent == path:
                raise ValueError("not in a class's folder")
            images.append(read_image(file, size))
            names.append(file.parent.name)
        except Exception as error:  # Pillow raises nearly anything for a damaged file; none may stop the rest
            skipped.append(f"{file.relative_to(path).as_posix()} ({why_skipped(error)})")
    if skipped:
        listed = "; ".join(skipped[:20]) + (f"; and {len(skipped) - 20} more" if len(skipped) > 20 else "")
        warnings.warn(f"skipped in {path}: {listed}", stacklevel=2)
    classes = sorted(set(names))
    if len(classes) < 2:
        raise ValueError(
            f"{path} has readable images of {len(classes)} classes ({', '.join(classes) or 'none'}); 2 or "
            "more are needed, each a subfolder with JPEG or PNG files directly in it"
        )
    return Dataset(torch.stack(images), torch.tensor([classes.index(name) for name in names]), classes)


def visible_files(path: Path) -> list[Path]:
    """What lies in a folder and, one level down, in its subfolders; sorted, without hidden entries."""
    found = []
    for entry in sorted(path.iterdir()):
        if not entry.name.startswith("."):
            found += sorted(entry.iterdir()) if entry.is_dir() else [entry]
    return [file for file in found if not file.name.startswith(".")]


def why_skipped(error: Exception) -> str:
    """The reason in a few words, without the file's path."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG or PNG image"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def read_image(path: Path | BinaryIO, size: tuple[int, int] | None = None) -> Tensor:
    """A JPEG or PNG file as uint8 (3, H, W), upright and on white; cropped and resized to `size` (H, W).

    `path` may be an open binary file, such as an upload. Raises what Pillow raises for anything else.
    """
    from PIL import Image, ImageOps

    with Image.open(path, formats=("JPEG", "PNG")) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16-bit grey, of which Pillow would keep only what is below 256
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
        if size is not None:
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # (H, W, 3) -> (3, H, W)


def fit_picture(picture: Tensor, image_size: int | tuple[int, int], in_chans: int = 3) -> Tensor:
    """A picture uint8 (3, H, W) as `image_folder` would read it from a file: (in_chans, *image_size), uint8.

    The largest centred part of the wanted shape is resized (bicubic, antialiased); with `in_chans=1` it turns
    grey. Raises ValueError for another type or shape, and for other numbers of channels.

    >>> fit_picture(torch.zeros(3, 288, 448, dtype=torch.uint8), 48).shape
    torch.Size([3, 48, 48])
    """
    from PIL import Image, ImageOps

    height, width = check_size(image_size)
    if picture.dtype != torch.uint8 or picture.ndim != 3 or len(picture) != 3:
        raise ValueError(
            f"a picture is uint8 of shape (3, H, W); got {picture.dtype} {tuple(picture.shape)}: read_image "
            "makes one from a file"
        )
    if in_chans not in (1, 3):
        raise ValueError(f"in_chans is 3 (colour) or 1 (grey); got {in_chans}")
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy())
    image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image if in_chans == 3 else image.convert("L")))
    return pixels[None] if in_chans == 1 else pixels.permute(2, 0, 1).contiguous()


def check_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """An image size as (H, W). Raises ValueError unless it is one or two whole numbers, at least 1 each."""
    size = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"image_size is a number of pixels or (height, width), each at least 1; got {image_size!r}"
        )
    return size
