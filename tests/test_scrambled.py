"""Scrambled images, by loop; and that every image of a set is scrambled alike, and nothing lost."""

import pytest
import torch

from vitlab import data
from vitlab.pretraining.scrambled import permutations, scramble


@pytest.mark.parametrize("P", [4, 7])
def test_a_scrambled_image_by_loop(P):
    garments = data.fashion_mnist("test").subset(range(3))
    places, inside = permutations(P)
    made = scramble(garments, places, inside)
    side = 28 // P
    for row in range(28):
        for column in range(28):
            patch, pixel = places[row // P * side + column // P], inside[row % P * P + column % P]
            y, x = patch // side * P + pixel // P, patch % side * P + pixel % P
            assert torch.equal(made.images[:, 0, row, column], garments.images[:, 0, y, x])
    assert torch.equal(made.labels, garments.labels)


def test_nothing_is_lost_and_little_stays():
    garments = data.fashion_mnist("test").subset(range(50))
    made = scramble(garments, *permutations())
    assert torch.equal(made.images.flatten(1).sort().values, garments.images.flatten(1).sort().values)
    numbered = garments._replace(images=torch.arange(784).reshape(1, 1, 28, 28))
    stays = scramble(numbered, *permutations()).images == numbered.images
    assert stays.float().mean() < 0.01
