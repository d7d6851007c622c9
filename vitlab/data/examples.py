"""A small folder of images, for those who have none of their own at hand."""

import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import torch

from vitlab.data.synthetic import scenes
from vitlab.files import checksums, find

EXAMPLE_CLASSES = {"bags": ["Bag"], "shoes": ["Sandal", "Sneaker", "Ankle boot"], "trousers": ["Trouser"]}
SHAPES = ((96, 128), (128, 96), (112, 112))  # (height, width), in turn, as those of photographs differ
PHOTOGRAPHS = "example-photos/"  # one folder for each class


def example_folder(
    path: str | os.PathLike, per_class: int | None = None, seed: int = 0, pictures: str = "scenes"
) -> Path:
    """Make a folder with a subfolder of JPEG files for each class, as `image_folder` reads it; its path.

    "scenes" are of three classes, 24 images each if `per_class` does not say otherwise, of the test split, so
    that no shipped model was trained on their garments or their backgrounds. The same seed makes the same
    images. "photographs" are 143 real ones of ten classes, 10 to 16 of each: all of them, or `per_class` of
    each, which the seed draws. `data/README.md` names authors and licences, and so does each file's comment.

    The folder appears whole or not at all; one that this function made before is taken as it is. Raises
    ValueError for a path where anything else is, which is left alone, for other pictures, and for a
    `per_class` below 1, or with photographs above 10.

    >>> folder = example_folder(tempfile.mkdtemp() + "/mine", per_class=1)
    >>> sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*"))
    ['bags/000.jpg', 'shoes/000.jpg', 'trousers/000.jpg']
    >>> folder = example_folder(tempfile.mkdtemp() + "/mine", pictures="photographs")
    >>> len(list(folder.glob("*"))), len(list(folder.glob("*/*")))
    (10, 143)
    """
    path = Path(path)
    if per_class is not None and per_class < 1:
        raise ValueError(f"per_class is a number of images, at least 1; got {per_class}")
    if pictures == "scenes":
        per_class = 24 if per_class is None else per_class
        wanted = [f"{name}/{number:03d}.jpg" for name in EXAMPLE_CLASSES for number in range(per_class)]
        write = functools.partial(write_scenes, per_class=per_class, seed=seed)
    elif pictures == "photographs":
        wanted = chosen_photographs(per_class, seed)
        write = functools.partial(copy_photographs, names=wanted)
    else:
        raise ValueError(f'pictures is "scenes" or "photographs"; got {pictures!r}')
    if path.exists():
        there = files_in(path) if path.is_dir() else None
        if there == set(wanted):
            return path
        if there != set():
            raise ValueError(
                f"{path} is there already, and is not this example; nothing was changed. Give a new path, or "
                "read your own images with image_folder"
            )
        path.rmdir()
    make_whole(path, write)
    return path


def make_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a folder, which appears under its name when it is whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        write(unfinished)
        unfinished.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        os.rename(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def files_in(path: Path) -> set[str]:
    """What lies in a folder at any depth, empty folders included."""
    return {
        entry.relative_to(path).as_posix()
        for entry in path.rglob("*")
        if not entry.is_dir() or not any(entry.iterdir())
    }


def write_scenes(folder: Path, per_class: int, seed: int) -> None:
    """Write the JPEG files: `per_class` scenes for each class, in each of the shapes in turn."""
    from PIL import Image

    for name in EXAMPLE_CLASSES:
        (folder / name).mkdir()
    for which, shape in enumerate(SHAPES):
        drawn = scenes(20 * per_class + 100, seed=seed, image_size=shape, split="test").dataset
        for name, garments in EXAMPLE_CLASSES.items():
            labels = torch.tensor([drawn.classes.index(garment) for garment in garments])
            chosen = torch.isin(drawn.labels, labels).nonzero()[:, 0]
            for number in range(which, per_class, len(SHAPES)):
                pixels = drawn.images[chosen[number]].permute(1, 2, 0).numpy()  # (H, W, 3)
                Image.fromarray(pixels).save(folder / name / f"{number:03d}.jpg", quality=92)


def chosen_photographs(per_class: int | None, seed: int) -> list[str]:
    """The shipped photographs as class/name.jpg: all of them, or `per_class` of each class, by the seed."""
    shipped = [name.removeprefix(PHOTOGRAPHS) for name in checksums() if name.startswith(PHOTOGRAPHS)]
    classes = {}
    for name in sorted(name for name in shipped if name.endswith(".jpg")):
        classes.setdefault(PurePosixPath(name).parent, []).append(name)
    fewest, most = (bound(map(len, classes.values())) for bound in (min, max))
    if per_class is None:
        return [name for names in classes.values() for name in names]
    if per_class > fewest:
        raise ValueError(
            f"there are {fewest} to {most} photographs of each class, and so per_class is at most {fewest}; "
            f"got {per_class}. Without per_class all of them are taken"
        )
    draw = torch.Generator().manual_seed(seed)
    return [
        names[i]
        for names in classes.values()
        for i in torch.randperm(len(names), generator=draw)[:per_class].tolist()
    ]


def copy_photographs(folder: Path, names: list[str]) -> None:
    """Copy shipped photographs, each to the folder of its class, once it is found whole."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(find(PHOTOGRAPHS + name), folder / name)
