"""Pictures with masks, from a folder: where the object is, read from a PNG of the picture's name."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitlab.data.folders import visible
from vitlab.data.pictures import ENDINGS, centred, check_size, opened

LAYOUTS = (
    "a folder has pictures and masks either side by side, x.jpg and x.png, or in two folders, pictures/x.jpg "
    "(or pictures/x.png) and masks/x.png"
)
FEW = 5  # values named in an error


def read_mask(path: str | os.PathLike, above: int | None = None) -> Tensor:
    """A mask from a PNG as bool (H, W), upright, true on the object.

    It has two values, of which black (0) is the ground; or with `above` whatever is brighter than that
    number, as where edges are soft, or numbers stand for kinds of things. Raises ValueError for another
    format, transparency, colours that are no grey, and more than two values without `above`.
    """
    from PIL import ImageOps

    with opened(path) as image:
        if image.format != "PNG":
            raise ValueError(f"a mask is a PNG; this is {image.format}, which may blur its edges")
        if image.has_transparency_data:
            raise ValueError(
                "a mask with transparent pixels, of which nobody says what they are: save it opaque"
            )
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int64)
    if values.ndim == 3 and (values != values[..., :1]).any():
        return torch.from_numpy(two_colours(values, above))
    values = values if values.ndim == 2 else values[..., 0]
    if above is not None:
        return torch.from_numpy(values > above)
    there = np.unique(values)
    if len(there) > 2 or (len(there) == 2 and there[0] != 0):
        raise ValueError(
            f"a mask has two values, 0 and that of the object; this one has {in_words(there)}: say above "
            "which it is the object (--above, or above=), or save it in black and white"
        )
    return torch.from_numpy(values > 0)


def two_colours(values: np.ndarray, above: int | None) -> np.ndarray:
    """Where a picture (H, W, 3) of black and one colour is not black."""
    colours = len(np.unique(values.reshape(-1, 3), axis=0))
    black = (values == 0).all(axis=-1)
    if colours > 2 or not black.any() or above is not None:
        raise ValueError(f"a mask is grey, or black and one colour; this one has {colours:,} colours")
    return ~black


def in_words(values: np.ndarray) -> str:
    """Some values, and how many there are.

    >>> in_words(np.array([1, 2])), in_words(np.arange(256))
    ('1 and 2', '256 values, 0, 1, 2, 3, 4, …')
    """
    if len(values) <= 2:
        return " and ".join(map(str, values))
    return f"{len(values)} values, {', '.join(map(str, values[:FEW]))}" + (", …" if len(values) > FEW else "")


def fit_mask(mask: Tensor, image_size: int | tuple[int, int]) -> Tensor:
    """A mask (H, W) as `fit_picture` makes its picture: the same part of it, on the object where half is.

    >>> fit_mask(torch.tensor([[False, True, True, False]] * 2), 2)
    tensor([[True, True],
            [True, True]])
    """
    from PIL import Image

    size = check_size(image_size)
    image = Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 255)
    part = image.resize(size[::-1], Image.Resampling.BOX, centred(image.size, size[::-1]))
    return torch.from_numpy(np.array(part) > 127)


Pairs = dict[str, tuple[Path, Path]]


def pictures_and_masks(folder: str | os.PathLike, out: Path | None = None) -> tuple[Pairs, dict[str, str]]:
    """The pictures of a folder with their masks, name -> (picture, mask), and name -> why of what has none.

    A mask is a PNG of the picture's name: beside it, `x.jpg` and `x.png`, or in the folder `masks`, and then
    the pictures are those in `pictures`, or all others. A name is the picture's, after those of the folders
    that it is in. Hidden files are left out, and what lies in `out`. Raises ValueError for a folder without a
    pair, and for two pictures of one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; {LAYOUTS}")
    apart = (folder / "masks").is_dir()
    root = folder / "pictures" if (folder / "pictures").is_dir() else folder
    left_out = [each.resolve() for each in (folder / "masks", out) if each is not None]
    found = list(files_below(root, left_out))
    pictures = [path for path in found if path.suffix.lower() in ENDINGS.split(",")]
    without = {
        named(path, root): "no picture, by the ending of its name" for path in found if path not in pictures
    }
    if apart:
        masks = {stem(path, folder / "masks"): path for path in files_below(folder / "masks", left_out[1:])}
    else:
        others = {stem(path, root) for path in pictures if path.suffix.lower() != ".png"}
        pngs = {stem(path, root): path for path in pictures if path.suffix.lower() == ".png"}
        masks = {key: path for key, path in pngs.items() if key in others}
        pictures = [path for path in pictures if path not in masks.values()]
    pairs, owners, names = {}, {}, {}
    for path in pictures:
        name, key = named(path, root), stem(path, root)
        for each, known in ((key, owners), (name.casefold(), names)):  # some systems tell no case apart
            if known.setdefault(each, path) is not path:
                raise ValueError(f"{known[each]} and {path} have one name, so that it is no picture's own")
        if key in masks:
            pairs[name] = (path, masks[key])
        else:
            without[name] = f"there is no mask {key}.png" + (" in masks" if apart else " for it")
    orphans = [masks[key] for key in masks.keys() - owners.keys()]
    without |= {named(path, folder): "a mask without a picture" for path in sorted(orphans)}
    if not pairs:
        raise ValueError(f"no picture in {folder} has a mask; {LAYOUTS}")
    return pairs, without


def files_below(folder: Path, left_out: list[Path]) -> Iterator[Path]:
    """The files in a folder and its folders, without hidden ones and those of some folders."""
    for entry in visible(folder):
        if not entry.is_dir():
            yield entry
        elif entry.resolve() not in left_out:
            yield from files_below(entry, left_out)


def named(path: Path, root: Path) -> str:
    """A file's name after those of the folders that it is in.

    >>> named(Path("a/b/c.jpg"), Path("a"))
    'b--c.jpg'
    """
    return "--".join(path.relative_to(root).parts)


def stem(path: Path, root: Path) -> str:
    """What a picture and its mask share.

    >>> stem(Path("a/b/c.jpg"), Path("a"))
    'b/c'
    """
    return path.relative_to(root).with_suffix("").as_posix()
