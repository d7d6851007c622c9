"""Images and labels: whole data sets as uint8 tensors on the device, augmented and normalised there."""

import itertools
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.files import checksums, find, root, roots

__all__ = [
    "Dataset",
    "augment",
    "batches",
    "check_labels",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "find",
    "image_folder",
    "normalise",
    "photos",
    "root",
    "select_classes",
]

GARMENTS = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"


class Dataset(NamedTuple):
    """Images uint8 (n, C, H, W), labels int64 (n,) in [0, len(classes)), and the names of the classes.

    >>> Dataset(torch.zeros(4, 3, 8, 12, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), ["cat", "dog"])
    Dataset(4 images of 3×8×12, classes: cat, dog; on cpu)
    """

    images: Tensor
    labels: Tensor
    classes: list[str]

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data on `device`."""
        return Dataset(self.images.to(device), self.labels.to(device), self.classes)

    def subset(self, which: int | Sequence[int] | Tensor, seed: int = 0) -> "Dataset":
        """The images at these indices, or this many different ones drawn at random with `seed`.

        >>> five = Dataset(torch.zeros(5, 1, 4, 4, dtype=torch.uint8), torch.arange(5), list("abcde"))
        >>> five.subset([4, 0]).labels
        tensor([4, 0])
        """
        if isinstance(which, (int, np.integer)):
            n = len(self.labels)
            if not 0 < which <= n:
                raise ValueError(f"a subset of {n} images has 1 to {n} of them; got {which}")
            which = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:which]
        indices = torch.as_tensor(which, dtype=torch.long, device=self.labels.device)
        return Dataset(self.images[indices], self.labels[indices], self.classes)

    def __repr__(self) -> str:
        n, *shape = self.images.shape
        names = self.classes if len(self.classes) <= 10 else [*self.classes[:10], "…"]
        size = "×".join(map(str, shape))
        return f"Dataset({n:,} images of {size}, classes: {', '.join(names)}; on {self.images.device})"


# ------------------------------------------------------------------------------------------------- data sets


def fashion_mnist(split: str) -> Dataset:
    """Fashion-MNIST (arXiv 1708.07747), "train" (60,000) or "test" (10,000): grey garments, 28 × 28 pixels.

    Raises ValueError for another split, and what `find` raises for a missing or damaged file.

    >>> fashion_mnist("test").images.shape
    torch.Size([10000, 1, 28, 28])
    """
    part = "train" if is_train(split) else "t10k"
    images = read_idx(find(f"fashion-mnist/{part}-images-idx3-ubyte.gz"))
    labels = read_idx(find(f"fashion-mnist/{part}-labels-idx1-ubyte.gz"))
    return Dataset(images[:, None], labels.long(), GARMENTS.split(", "))


def read_idx(path: Path) -> Tensor:
    """A gzipped IDX file of bytes: two zeros, type 8, number of sizes, the sizes (big-endian), the values."""
    raw = zlib.decompress(path.read_bytes(), wbits=31)  # 31: a gzip file; three times as fast as module gzip
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4).tolist()
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    return torch.from_numpy(values.reshape(shape).copy())  # a copy, because `raw` cannot be written to


def photos() -> dict[str, Tensor]:
    """The shipped colour photographs: name -> uint8 (3, H, W), with sides divisible by 32, not all alike.

    >>> photos()["cat"].shape
    torch.Size([3, 288, 448])
    """
    names = [name for name in checksums() if name.startswith("photos/")]
    return {Path(name).stem: read_image(find(name)) for name in names}


def cifar10(split: str, download: bool = False) -> Dataset:
    """CIFAR-10 through torchvision, "train" (50,000) or "test" (10,000): colour, 32 × 32 pixels.

    It does not ship with vitlab: `download=True` fetches 170 MB into VITLAB_DATA, or ~/.cache/vitlab without
    it. The files are pickles. torchvision compares each with the MD5 it knows before reading any, so that
    only known files are ever unpickled, and half a download is fetched again. Raises FileNotFoundError where
    they are absent or damaged, ConnectionError where a download fails.
    """
    return cifar("CIFAR10", split, download)


def cifar100(split: str, download: bool = False) -> Dataset:
    """CIFAR-100 through torchvision, with its 100 fine classes; the rest is as for `cifar10`."""
    return cifar("CIFAR100", split, download)


def cifar(name: str, split: str, download: bool) -> Dataset:
    """`cifar10` and `cifar100`, by torchvision's name."""
    import torchvision.datasets

    kind, train = getattr(torchvision.datasets, name), is_train(split)
    own = Path(os.environ.get("VITLAB_DATA") or "~/.cache/vitlab").expanduser()
    folder = next((place for place in roots() if (place / kind.base_folder).is_dir()), own)
    try:
        raw = kind(folder, train=train, download=download)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: torchvision found a wrong MD5
        if download:
            raise ConnectionError(f"fetching {name} from {kind.url} failed ({error}); try again") from error
        remedy = f'vitlab.data.{name.lower()}("{split}", download=True) fetches it (170 MB)'
        raise FileNotFoundError(f"{name} is absent or damaged in {folder}; {remedy}") from error
    images = torch.from_numpy(raw.data).permute(0, 3, 1, 2).contiguous()  # (n, H, W, C) -> (n, C, H, W)
    return Dataset(images, torch.tensor(raw.targets), list(raw.classes))


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


def read_image(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """A JPEG or PNG file as uint8 (3, H, W), upright and on white; cropped and resized to `size` (H, W)."""
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


def select_classes(dataset: Dataset, classes: Sequence[int]) -> Dataset:
    """The part of a data set that has these labels, renumbered from 0 in the given order.

    Raises ValueError for a label that the data set does not have, or that is given twice.

    >>> whole = Dataset(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 2, 1, 2]), list("abc"))
    >>> part = select_classes(whole, [2, 0])
    >>> part.labels, part.classes
    (tensor([1, 0, 0]), ['c', 'a'])
    """
    classes, n = list(classes), len(dataset.classes)
    if not classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(n)):
        raise ValueError(f"classes are one or more different labels from 0 to {n - 1}; got {classes}")
    new_labels = torch.full((n,), -1, device=dataset.labels.device)
    new_labels[classes] = torch.arange(len(classes), device=dataset.labels.device)
    labels = new_labels[dataset.labels]
    kept = labels >= 0
    return Dataset(dataset.images[kept], labels[kept], [dataset.classes[c] for c in classes])


# --------------------------------------------------------------------------------------------------- batches


def normalise(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1]. Raises ValueError for images of another type.

    >>> normalise(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    if images.dtype != torch.uint8:
        raise ValueError(
            f"normalise takes uint8 in [0, 255]; got {images.dtype}: were the images normalised already?"
        )
    return images.float().div_(127.5).sub_(1)


def augment(images: Tensor, generator: torch.Generator, shift: int = 2, flip: bool = True) -> Tensor:
    """Images (B, C, H, W), each moved by up to `shift` pixels each way (zeros move in), about half mirrored.

    The draws are made on the generator's device, so that a CPU generator gives the same images on any device.

    >>> augment(torch.ones(8, 3, 28, 32, dtype=torch.uint8), torch.Generator().manual_seed(0)).shape
    torch.Size([8, 3, 28, 32])
    """
    if shift < 0:
        raise ValueError(f"shift is a number of pixels, 0 or more; got {shift}")
    B, C, H, W = images.shape
    choices = (2 * shift + 1, 2 * shift + 1, 1 + flip)
    draws = [torch.randint(n, (B, 1), generator=generator, device=generator.device) for n in choices]
    down, right, mirrored = torch.stack(draws).to(images.device)  # each (B, 1)
    x = torch.arange(W, device=images.device)
    rows = down + torch.arange(H, device=images.device)  # (B, H), in the padded image
    columns = right + torch.where(mirrored == 1, x.flip(0), x)  # (B, W)
    pixels = rows[:, :, None] * (W + 2 * shift) + columns[:, None, :]  # (B, H, W)
    padded = F.pad(images, (shift, shift, shift, shift)).flatten(2)  # (B, C, pixels of the padded image)
    return padded.gather(2, pixels.view(B, 1, H * W).expand(B, C, H * W)).view(B, C, H, W)


def batches(
    dataset: Dataset,
    batch_size: int,
    seed: int | torch.Generator = 0,
    augment: bool = False,
    steps: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled training batches, `steps` of them or without end: images float32 in [-1, 1], and labels.

    They are made on the device where the data is. One pass over the data follows another without a gap: every
    batch is full, and every pass has each image once. Raises ValueError for labels outside the classes.

    >>> six = Dataset(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6), list("abcdef"))
    >>> sorted(label for images, labels in batches(six, 4, steps=3) for label in labels.tolist())
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1; got {batch_size}")
    if not len(dataset.labels):
        raise ValueError("the data set is empty; batches need at least one image")
    check_labels(dataset.labels, len(dataset.classes))
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    return itertools.islice(endless_batches(dataset, batch_size, generator, augment), steps)


def endless_batches(
    dataset: Dataset, batch_size: int, generator: torch.Generator, augmented: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of `batches`, whose arguments were checked there."""
    order = torch.empty(0, dtype=torch.long, device=generator.device)
    while True:
        while len(order) < batch_size:
            another_pass = torch.randperm(len(dataset.labels), generator=generator, device=generator.device)
            order = torch.cat([order, another_pass])
        chosen, order = order[:batch_size].to(dataset.images.device), order[batch_size:]
        images = dataset.images[chosen]
        yield normalise(augment(images, generator) if augmented else images), dataset.labels[chosen]


# ---------------------------------------------------------------------------------------------------- checks


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise ValueError for labels outside [0, num_classes), saying how many, and which is the first.

    >>> check_labels(torch.tensor([0, 9]), 10)
    """
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"labels of {num_classes} classes are 0 to {num_classes - 1}; got {int(labels[i])} for image {i} "
            f"({len(wrong)} of {len(labels)} labels are wrong). Renumber them from 0, or name all classes"
        )


def check_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """An image size as (H, W). Raises ValueError unless it is one or two whole numbers, at least 1 each."""
    size = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"image_size is a number of pixels or (height, width), each at least 1; got {image_size!r}"
        )
    return size


def is_train(split: str) -> bool:
    """Whether `split` is "train". Raises ValueError unless it is that or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f'split is "train" or "test"; got {split!r}')
    return split == "train"
