"""A small folder of images, for those who have none of their own at hand."""

import os
import shutil
import tempfile
from pathlib import Path

import torch

from vitlab.data.synthetic import scenes

EXAMPLE_CLASSES = {"bags": ["Bag"], "shoes": ["Sandal", "Sneaker", "Ankle boot"], "trousers": ["Trouser"]}
SHAPES = ((96, 128), (128, 96), (112, 112))  # (height, width), in turn, as those of photographs differ


def example_folder(path: str | os.PathLike, per_class: int = 24, seed: int = 0) -> Path:
    """Make a folder with three subfolders of JPEG files, as `image_folder` reads it, and return its path.

    The images are scenes of the test split, so that no shipped model was trained on their garments or their
    backgrounds. The same seed makes the same images. The folder appears whole or not at all; one that this
    function made before is taken as it is. Raises ValueError for a path where anything else is, which is
    left alone.

    >>> folder = example_folder(tempfile.mkdtemp() + "/mine", per_class=1)
    >>> sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*"))
    ['bags/000.jpg', 'shoes/000.jpg', 'trousers/000.jpg']
    """
    path = Path(path)
    if per_class < 1:
        raise ValueError(f"per_class is a number of images, at least 1; got {per_class}")
    wanted = {f"{name}/{number:03d}.jpg" for name in EXAMPLE_CLASSES for number in range(per_class)}
    if path.exists():
        there = files_in(path) if path.is_dir() else None
        if there == wanted:
            return path
        if there != set():
            raise ValueError(
                f"{path} is there already, and is not this example; nothing was changed. Give a new path, or "
                "read your own images with image_folder"
            )
        path.rmdir()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        write_example(unfinished, per_class, seed)
        unfinished.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        os.rename(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    return path


def files_in(path: Path) -> set[str]:
    """What lies in a folder at any depth, empty folders included."""
    return {
        entry.relative_to(path).as_posix()
        for entry in path.rglob("*")
        if not entry.is_dir() or not any(entry.iterdir())
    }


def write_example(folder: Path, per_class: int, seed: int) -> None:
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
