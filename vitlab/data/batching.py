"""Training batches, made on the device where the data is."""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.data.dataset import Dataset, check_labels


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
