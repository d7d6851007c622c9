"""Relations: two garments far apart in one scene, and a question that neither of them answers alone."""

from typing import NamedTuple

import torch
from torch import Tensor

from vitlab.data.dataset import Dataset
from vitlab.data.sources import GARMENTS, fashion_mnist
from vitlab.data.synthetic import CHUNK, TILT, backgrounds, check_scenes, cut, lay, reach_of, relight, tint

SIDE = (0.34, 0.44)  # of a garment, as a share of the image's shorter side
APART = 0.3  # the left garment's centre is in this share of the width, the right one's in the last such share
ANSWERS = {"same": ("other class", "same class"), "order": ("first class right", "first class left")}


class Relations(NamedTuple):
    """Images uint8 (n, 3, H, W), labels int64 (n,) of 0 and 1, masks bool (n, 2, H, W), garments (n, 2).

    Masks and garments are the left one's, then the right one's; garments are classes of Fashion-MNIST, int64.

    >>> relations(4).dataset
    Dataset(4 images of 3×48×48, classes: other class, same class; on cpu)
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    garments: Tensor
    relation: str

    @property
    def dataset(self) -> Dataset:
        """Images and labels, as training and evaluation take them."""
        return Dataset(self.images, self.labels, list(ANSWERS[self.relation]))


def relations(
    n: int,
    seed: int = 0,
    image_size: int | tuple[int, int] = 48,
    split: str = "train",
    relation: str = "same",
) -> Relations:
    """`n` colour images of two garments each, left and right, with one of two answers about the pair.

    "same": are both of one class (1) or not (0)? They are never the same garment. "order": the two are of
    different classes; is the one that comes first in the list of Fashion-MNIST's classes on the left (1) or
    on the right (0)? Half of the answers are 1. Of "same" one garment alone says nothing; of "order" its
    class and its side let one guess 70 in 90 right (nothing is before T-shirt/top, so on the left it comes
    first), and both classes without their sides say nothing.

    Made like `scenes`, of the same photographs; each garment is 34 to 44 % of the shorter side wide, its
    centre in the outer 30 % of the width: between the two centres lie at least 40 %. Raises ValueError as
    `scenes` does, and for another relation.

    >>> images, labels, masks, garments, _ = relations(3, seed=1, image_size=(32, 64), relation="order")
    >>> images.shape, masks.shape, garments.shape
    (torch.Size([3, 3, 32, 64]), torch.Size([3, 2, 32, 64]), torch.Size([3, 2]))
    """
    size = check_scenes(n, image_size)
    if relation not in ANSWERS:
        raise ValueError(f"relation is one of {', '.join(ANSWERS)}; got {relation!r}")
    source = fashion_mnist(split)
    draws = torch.rand(n, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    answers, garments = pairs(draws[:, :3], relation)
    chosen = pick(source.labels, garments, draws[:, 3:5])
    levels = backgrounds(split, size)
    parts = [
        compose(source.images[indices], draw, levels, size)
        for indices, draw in zip(chosen.split(CHUNK), draws[:, 5:].split(CHUNK), strict=True)
    ]
    images, masks = map(torch.cat, zip(*parts, strict=True))
    return Relations(images, answers, masks, garments, relation)


def pairs(draws: Tensor, relation: str) -> tuple[Tensor, Tensor]:
    """Answers (n,) and the two classes (n, 2), left and right, by draws (n, 3) in [0, 1)."""
    classes = len(GARMENTS.split(", "))
    answers = (draws[:, 0] < 0.5).long()
    one = (draws[:, 1] * classes).long()
    other = (one + 1 + (draws[:, 2] * (classes - 1)).long()) % classes  # any of the nine others
    if relation == "same":
        return answers, torch.stack([one, torch.where(answers == 1, one, other)], dim=1)
    first, last = torch.minimum(one, other), torch.maximum(one, other)
    left = torch.where(answers == 1, first, last)
    return answers, torch.stack([left, first + last - left], dim=1)


def pick(labels: Tensor, garments: Tensor, draws: Tensor) -> Tensor:
    """Two images of the classes (n, 2), never the same one, by draws (n, 2): indices (n, 2)."""
    order, counts = labels.argsort(stable=True), labels.bincount()
    starts = counts.cumsum(0) - counts
    left = (draws[:, 0] * counts[garments[:, 0]]).long()
    alike = garments[:, 0] == garments[:, 1]
    right = (draws[:, 1] * (counts[garments[:, 1]] - alike.long())).long()
    right += (alike & (right >= left)).long()  # the left one is left out
    return order[starts[garments] + torch.stack([left, right], dim=1)]


def compose(
    garments: Tensor, draws: Tensor, levels: list[Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Pairs of garments (n, 2, 1, 28, 28) on backgrounds by draws (n, 25): images, masks (n, 2, H, W)."""
    left, right, ground, light = draws.split((7, 7, 5, 6), dim=1)
    images, masks = relight(cut(levels, ground, size), light), []
    for i, draw in enumerate((left, right)):
        where, look = draw.split((4, 3), dim=1)
        grey, cover = place(garments[:, i], where, size, right=i == 1).chunk(2, dim=1)
        images.lerp_(255 * tint(look)[:, :, None, None] * grey, cover)
        masks.append(cover[:, 0] >= 0.5)
    masks[0] &= ~masks[1]  # two in five hundred touch, and the right one lies on top
    return images.round_().byte(), torch.stack(masks, dim=1)


def place(garments: Tensor, draws: Tensor, size: tuple[int, int], right: bool) -> Tensor:
    """Brightness and cover of garments on one side of the image, by draws (n, 4): (n, 2, H, W)."""
    height, width = size
    side = (SIDE[0] + (SIDE[1] - SIDE[0]) * draws[:, 0]) * min(size)  # pixels
    angle = TILT * (2 * draws[:, 1] - 1)
    reach = reach_of(side, angle)
    y = reach + draws[:, 2] * (height - 2 * reach)
    x = reach + draws[:, 3] * (APART * width - reach).clamp(min=0)
    return lay(garments, side, angle, y, width - x if right else x, size)
