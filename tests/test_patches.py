"""Patches against slow loops and torch's own unfold."""

import pytest
import torch
import torch.nn.functional as F

import vitlab
from vitlab.patches import common_divisors, divisors, grid_size

SHAPES = [(2, 1, 28, 28, 4), (3, 3, 8, 12, 4), (1, 2, 30, 10, 5), (2, 4, 6, 6, 1), (1, 3, 7, 7, 7)]


@pytest.mark.parametrize(("batch", "channels", "height", "width", "size"), SHAPES)
def test_patchify_equals_a_loop_over_pixels(batch, channels, height, width, size):
    images = torch.randn(batch, channels, height, width)
    patches = vitlab.patchify(images, size)
    columns = width // size
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    patch = (y // size) * columns + x // size
                    entry = (c * size + y % size) * size + x % size
                    assert patches[b, patch, entry] == images[b, c, y, x]


@pytest.mark.parametrize(("batch", "channels", "height", "width", "size"), SHAPES)
def test_patchify_equals_torch_unfold(batch, channels, height, width, size):
    images = torch.randn(batch, channels, height, width, dtype=torch.float64)
    unfolded = F.unfold(images, kernel_size=size, stride=size).transpose(1, 2)
    assert torch.equal(vitlab.patchify(images, size), unfolded)


@pytest.mark.parametrize(("batch", "channels", "height", "width", "size"), SHAPES)
def test_unpatchify_is_torch_fold(batch, channels, height, width, size):
    patches = torch.randn(batch, (height // size) * (width // size), channels * size * size)
    folded = F.fold(patches.transpose(1, 2), (height, width), kernel_size=size, stride=size)
    assert torch.equal(vitlab.unpatchify(patches, size, (height, width), channels), folded)


def test_integers_keep_their_type():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert vitlab.patchify(images, 4).dtype == torch.uint8


def test_divisors_are_all_and_only_those():
    for n in range(1, 200):
        assert divisors(n) == [k for k in range(1, n + 1) if n / k == n // k]
    assert common_divisors((12, 18)) == [1, 2, 3, 6]


def test_a_size_that_does_not_divide_names_those_that_do():
    with pytest.raises(ValueError, match=r"^28 is not divisible by 5; use 1, 2, 4, 7, 14 or 28$"):
        vitlab.patchify(torch.zeros(1, 1, 28, 28), 5)
    with pytest.raises(ValueError, match=r"^8 and 12 are not divisible by 5; use 1, 2 or 4$"):
        grid_size((8, 12), 5)
    with pytest.raises(ValueError, match=r"^12 is not divisible by 8; use 1, 2 or 4$"):
        grid_size((8, 12), 8)


@pytest.mark.parametrize("size", [0, -4, 2.0, "4", None])
def test_a_patch_size_is_a_positive_whole_number(size):
    with pytest.raises(ValueError, match="positive whole number"):
        vitlab.patchify(torch.zeros(1, 1, 28, 28), size)


def test_shapes_that_are_no_images_or_patches_are_refused():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\).*images\[None\]"):
        vitlab.patchify(torch.zeros(1, 28, 28), 4)
    with pytest.raises(ValueError, match=r"\(B, 49, 16\); got \(1, 48, 16\)"):
        vitlab.unpatchify(torch.zeros(1, 48, 16), 4, 28, 1)
    with pytest.raises(ValueError, match=r"pair \(height, width\)"):
        grid_size((28, 28, 3), 4)
