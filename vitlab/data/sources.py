"""Where images come from: the shipped files, and torchvision's downloads."""

import os
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitlab.data.dataset import Dataset
from vitlab.data.pictures import read_image
from vitlab.files import checksums, find, roots

GARMENTS = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"


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


def is_train(split: str) -> bool:
    """Whether `split` is "train". Raises ValueError unless it is that or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f'split is "train" or "test"; got {split!r}')
    return split == "train"
