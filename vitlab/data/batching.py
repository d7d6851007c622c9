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
    if not isinstance(images, Tensor):
        raise ValueError(f"normalise takes a tensor; got {type(images).__name__}: torch.as_tensor makes one")
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
    return move(images, draw_moves(len(images), generator, shift, flip), shift)


def draw_moves(n: int, generator: torch.Generator, shift: int = 2, flip: bool = True) -> Tensor:
    """Pixels down, pixels right (each counted from -`shift`) and mirrored or not, for n images: (3, n, 1)."""
    ends = (2 * shift + 1, 2 * shift + 1, 1 + flip)
    draws = [torch.randint(end, (n, 1), generator=generator, device=generator.device) for end in ends]
    return torch.stack(draws)


def move(images: Tensor, moves: Tensor, shift: int = 2) -> Tensor:
    """Images (B, C, H, W) moved and mirrored as `draw_moves` says (3, B, 1)."""
    B, C, H, W = images.shape
    down, right, mirrored = moves.to(images.device)  # each (B, 1)
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
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    return itertools.islice(Batches(dataset, batch_size, generator, augment), steps)


class Batches:
    """The endless batches of `batches`, which can say where they are and go on from there.

    `part` (i, n) gives the i-th of n equal parts of every batch: what process i of n trains on. The draws
    are those of the whole batch, so that the parts together are the batch that one process would have.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        generator: torch.Generator,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1; got {batch_size}")
        if not len(dataset.labels):
            raise ValueError("the data set is empty; batches need at least one image")
        if len(dataset.classes) and dataset.labels.dtype == torch.long:  # else they are no numbers of classes
            check_labels(dataset.labels, len(dataset.classes))
        which, parts = part
        if batch_size % parts:
            below = batch_size - batch_size % parts
            fits = f"{below} or {below + parts}" if below else f"{parts}"
            raise ValueError(f"batch_size {batch_size} is not divisible by {parts} processes; use {fits}")
        self.dataset, self.batch_size, self.generator, self.augment = dataset, batch_size, generator, augment
        self.part = slice(which * batch_size // parts, (which + 1) * batch_size // parts)
        self.order = torch.empty(0, dtype=torch.long, device=generator.device)  # of the images still to come

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        n, device = len(self.dataset.labels), self.generator.device
        while len(self.order) < self.batch_size:
            another_pass = torch.randperm(n, generator=self.generator, device=device)
            self.order = torch.cat([self.order, another_pass])
        chosen, self.order = self.order[: self.batch_size], self.order[self.batch_size :]
        chosen = chosen[self.part].to(self.dataset.images.device)
        images = self.dataset.images[chosen]
        if self.augment:
            images = move(images, draw_moves(self.batch_size, self.generator)[:, self.part])
        return normalise(images), self.dataset.labels[chosen]

    def state(self) -> dict[str, Tensor]:
        """Where the batches are."""
        return {"order": self.order, "generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from where `state` was taken."""
        self.order = state["order"].to(self.generator.device)
        self.generator.set_state(state["generator"])
