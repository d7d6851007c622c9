"""Exercise 1.3: where a patch lies."""

import torch

from vitlab.checks.engine import Exercise


def _corner_cases(generator):
    for image_size, patch_size in (((8, 12), 4), ((28, 14), 7), ((6, 20), 2), ((48, 16), 8)):
        number = image_size[0] * image_size[1] // patch_size**2
        inner = torch.randint(1, number - 1, (), generator=generator).item()
        for index in (inner, number - 1):
            yield index, image_size, patch_size


def _corner(index, image_size, patch_size):
    height, width = image_size
    corners = [(top, left) for top in range(0, height, patch_size) for left in range(0, width, patch_size)]
    return corners[index]


def _corner_in_patches(index, image_size, patch_size):
    columns = image_size[1] // patch_size
    return index // columns, index % columns


def _corner_down_the_columns(index, image_size, patch_size):
    rows = image_size[0] // patch_size
    return index % rows * patch_size, index // rows * patch_size


def _corner_by_rows(index, image_size, patch_size):
    rows = image_size[0] // patch_size
    return index // rows * patch_size, index % rows * patch_size


def _corner_as_x_y(index, image_size, patch_size):
    return _corner(index, image_size, patch_size)[::-1]


def _corner_from_one(index, image_size, patch_size):
    columns = image_size[1] // patch_size
    return (index - 1) // columns * patch_size, (index - 1) % columns * patch_size


def _corner_by_pixels(index, image_size, patch_size):
    return index // image_size[1] * patch_size, index % image_size[1] * patch_size


def _corner_by_patch_size(index, image_size, patch_size):
    return index // patch_size * patch_size, index % patch_size * patch_size


EXERCISE = Exercise(
    "1.3",
    "where a patch lies",
    cases=_corner_cases,
    oracle=_corner,
    mistakes=[
        (
            _corner_in_patches,
            "this is the place in the grid, counted in patches; in pixels it is P times as much.",
        ),
        (_corner_down_the_columns, "this counts down the columns; patches are counted along the rows."),
        (_corner_by_rows, "this divides by the number of rows; a row of the grid holds W // P patches."),
        (_corner_as_x_y, "this is (column, row); the row comes first."),
        (_corner_from_one, "this counts the patches from 1; the first patch is number 0."),
        (
            _corner_by_pixels,
            "this divides by W, the pixels in a row; a row of the grid holds W // P patches.",
        ),
        (_corner_by_patch_size, "this divides by P; a row of the grid holds W // P patches."),
    ],
)
