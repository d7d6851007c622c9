"""Scenes of two garments, of which one can ask for either: does a map know which class it is asked about?"""

from typing import NamedTuple

import torch
from torch import Tensor

from vitlab.data.synthetic import scenes


class TwoGarments(NamedTuple):
    """Images uint8 (n, 3, H, W); of the two garments of each, labels (n, 2) and masks bool (n, 2, H, W)."""

    images: Tensor
    labels: Tensor
    masks: Tensor

    def subset(self, indices: Tensor) -> "TwoGarments":
        """Some of the images, by number or by a bool for each."""
        return TwoGarments(*(each[indices] for each in self))


def scenes_of_two(
    drawn: int, seed: int = 0, image_size: int | tuple[int, int] = 48, split: str = "test"
) -> TwoGarments:
    """Scenes with the garment of another scene laid into them, of another class and nowhere over the first.

    So many scenes of `seed` and of `seed + 1` are drawn, and a pair is kept where its garments have different
    classes and their masks no pixel in common: so fewer come than are drawn, about one in thirty. Raises
    ValueError where `scenes` does.

    >>> images, labels, masks = scenes_of_two(200)
    >>> labels.shape[1], bool((labels[:, 0] != labels[:, 1]).all()), int(masks.sum(dim=1).max())
    (2, True, 1)
    """
    one, other = (scenes(drawn, seed + more, image_size, split) for more in (0, 1))
    apart = ((one.masks & other.masks).sum(dim=(1, 2)) == 0) & (one.labels != other.labels)
    images = torch.where(other.masks[:, None], other.images, one.images)
    labels, masks = torch.stack([one.labels, other.labels], 1), torch.stack([one.masks, other.masks], 1)
    return TwoGarments(images, labels, masks).subset(apart)
