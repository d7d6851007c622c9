"""What a data set is: images, labels and the names of the classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.wording import counted


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

        A mask, True for the images to take, has their indices. Raises ValueError for what is neither.

        >>> five = Dataset(torch.zeros(5, 1, 4, 4, dtype=torch.uint8), torch.arange(5), list("abcde"))
        >>> five.subset([4, 0]).labels
        tensor([4, 0])
        """
        if isinstance(which, (int, np.integer)):
            n = len(self.labels)
            if not 0 < which <= n:
                raise ValueError(f"a subset of {counted(n, 'image')} has 1 to {n} of them; got {which}")
            which = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:which]
        indices = torch.as_tensor(which, device=self.labels.device)
        if indices.dtype == torch.bool and indices.shape == self.labels.shape:
            indices = indices.nonzero()[:, 0]
        whole = (torch.uint8, torch.int16, torch.int32, torch.int64)
        if indices.ndim != 1 or (len(indices) and indices.dtype not in whole):
            raise ValueError(
                f"a subset is a number of images, a list of indices, or a mask of {len(self.labels)}; got "
                f"{str(indices.dtype).removeprefix('torch.')} of shape {tuple(indices.shape)}"
            )
        indices = indices.long()
        return Dataset(self.images[indices], self.labels[indices], self.classes)

    def one_of_each(self, *names: str) -> dict[str, Tensor]:
        """The first image (C, H, W) of each of these classes, by name; without names, of each that has one.

        Raises ValueError for a class that is not there, or has no image.

        >>> two = Dataset(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([1, 0]), ["cat", "dog"])
        >>> list(two.one_of_each()), list(two.one_of_each("dog"))
        (['cat', 'dog'], ['dog'])
        """
        labels = self.labels.tolist()
        known = [name for label, name in enumerate(self.classes) if label in labels]
        if missing := [name for name in names if name not in known]:
            raise ValueError(f"there is no image of {missing[0]!r}; there are some of {', '.join(known)}")
        return {name: self.images[labels.index(self.classes.index(name))] for name in names or known}

    def __repr__(self) -> str:
        n, *shape = self.images.shape
        names = self.classes if len(self.classes) <= 10 else [*self.classes[:10], "…"]
        size = "×".join(map(str, shape))
        return (
            f"Dataset({counted(n, 'image')} of {size}, classes: {', '.join(names)}; on {self.images.device})"
        )


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
    check_labels(dataset.labels, n)
    new_labels = torch.full((n,), -1, device=dataset.labels.device)
    new_labels[classes] = torch.arange(len(classes), device=dataset.labels.device)
    labels = new_labels[dataset.labels]
    kept = labels >= 0
    return Dataset(dataset.images[kept], labels[kept], [dataset.classes[c] for c in classes])


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise ValueError for labels outside [0, num_classes), saying how many, and which is the first.

    >>> check_labels(torch.tensor([0, 9]), 10)
    """
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(wrong):
        i, classes = int(wrong[0]), counted(num_classes, "class")
        raise ValueError(
            f"labels of {classes} are 0 to {num_classes - 1}; got {int(labels[i])} for image {i} (wrong: "
            f"{len(wrong)} of {counted(len(labels), 'label')}). Renumber them from 0, or name all classes"
        )


def hold_out(dataset: Dataset, share: float = 0.1, seed: int = 0) -> tuple[Dataset, Dataset]:
    """The data without a part, and that part: `share` of each class, at least one image, drawn with `seed`.

    A class without images has none in either. Raises ValueError for a share that is not between 0 and 1, for
    a class with one image, and for a data set without any.

    >>> data = Dataset(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.arange(8) % 2, ["a", "b"])
    >>> [part.labels.tolist() for part in hold_out(data, share=0.25)]
    [[0, 0, 0, 1, 1, 1], [0, 1]]
    """
    if not 0 < share < 1:
        raise ValueError(f"share is a part of the data, between 0 and 1; got {share}")
    if not len(dataset.labels):
        raise ValueError("the data set is empty; 2 or more images of each class can be divided")
    generator = torch.Generator().manual_seed(seed)
    kept, held = [], []
    for label, name in enumerate(dataset.classes):
        places = (dataset.labels == label).nonzero()[:, 0]
        if len(places) == 0:
            continue
        if len(places) < 2:
            raise ValueError(f"class {name!r} has 1 image; 2 or more can be divided")
        places = places[torch.randperm(len(places), generator=generator).to(places.device)]
        count = min(max(1, round(share * len(places))), len(places) - 1)
        held.append(places[:count])
        kept.append(places[count:])
    return dataset.subset(torch.cat(kept)), dataset.subset(torch.cat(held))


def mirror_likeness(images: Tensor) -> tuple[float, float]:
    """Mean cosines between images (n, C, H, W) and their mirror images: left-right ones, and up-down ones.

    Each image less its own mean, so that brightness alone makes none alike; one of a single value counts 0.

    >>> left_dark = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 1, 2, 2)
    >>> [round(number, 2) for number in mirror_likeness(left_dark)]
    [-1.0, 1.0]
    """
    images = images.float()
    own, *mirrored = (
        F.normalize((each - each.mean((1, 2, 3), keepdim=True)).flatten(1))
        for each in (images, images.flip(-1), images.flip(-2))
    )
    return tuple((own * other).sum(1).mean().item() for other in mirrored)
