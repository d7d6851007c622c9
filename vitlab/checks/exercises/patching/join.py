"""Exercise 1.2: the inverse, for any grid."""

import math

import torch

from vitlab.checks.engine import Exercise


def _patch_cases(generator):
    def patches(batch, channels, size, image_size, dtype=torch.float32):
        number = image_size[0] * image_size[1] // size**2
        made = torch.randn(batch, number, channels * size**2, dtype=dtype, generator=generator)
        return made, size, image_size, channels

    yield patches(2, 2, 4, (8, 12))
    yield patches(2, 3, 2, (4, 16))
    yield patches(3, 4, 3, (9, 6), dtype=torch.float64)
    yield patches(2, 1, 2, (2, 8))
    whole = torch.randint(0, 256, (2, 6, 12), generator=generator).byte()  # as the notebook's
    yield whole, 2, (4, 6), 3


def _unpatchify(patches, patch_size, image_size, channels):
    height, width = image_size
    images = patches.new_zeros(patches.shape[0], channels, height, width)
    places = [(top, left) for top in range(0, height, patch_size) for left in range(0, width, patch_size)]
    for b in range(patches.shape[0]):
        for i, (top, left) in enumerate(places):
            for c in range(channels):
                for y in range(patch_size):
                    for x in range(patch_size):
                        entry = c * patch_size**2 + y * patch_size + x
                        images[b, c, top + y, left + x] = patches[b, i, entry]
    return images


def _fold(patches, grid, inside, order, image_size, channels):
    """View the patches as (B, *grid, *inside), permute to `order`, join: three places for a mistake."""
    return patches.reshape(patches.shape[0], *grid, *inside).permute(order).reshape(-1, channels, *image_size)


def _grid(image_size, patch_size):
    return image_size[0] // patch_size, image_size[1] // patch_size


def _folded_channels_last(patches, patch_size, image_size, channels):
    inside = (patch_size, patch_size, channels)
    return _fold(patches, _grid(image_size, patch_size), inside, (0, 5, 1, 3, 2, 4), image_size, channels)


def _folded_down_the_columns(patches, patch_size, image_size, channels):
    inside = (channels, patch_size, patch_size)
    grid = _grid(image_size, patch_size)[::-1]
    return _fold(patches, grid, inside, (0, 3, 2, 4, 1, 5), image_size, channels)


def _folded_transposed_inside(patches, patch_size, image_size, channels):
    inside = (channels, patch_size, patch_size)
    return _fold(patches, _grid(image_size, patch_size), inside, (0, 3, 1, 5, 2, 4), image_size, channels)


def _folded_nothing_moved(patches, patch_size, image_size, channels):
    return patches.reshape(-1, channels, *image_size)


def _folded_sides_swapped(patches, patch_size, image_size, channels):
    return _unpatchify(patches, patch_size, image_size[::-1], channels)


def _folded_grid_guessed(patches, patch_size, image_size, channels):
    side = math.isqrt(patches.shape[1])
    square = (side * patch_size, side * patch_size)
    return _unpatchify(patches[:, : side * side], patch_size, square, channels)


def _folded_joined_the_wrong_way(patches, patch_size, image_size, channels):
    """The einops pattern with (p h) (q w): the pixels of each patch are spread all over the image."""
    inside = (channels, patch_size, patch_size)
    return _fold(patches, _grid(image_size, patch_size), inside, (0, 3, 4, 1, 5, 2), image_size, channels)


def _folded_half_moved(patches, patch_size, image_size, channels):
    """permute(0, 3, 1, 2, 4, 5): the channels in front, rows and columns of the grid not among the pixels."""
    inside = (channels, patch_size, patch_size)
    return _fold(patches, _grid(image_size, patch_size), inside, (0, 3, 1, 2, 4, 5), image_size, channels)


def _fold_of_rows(patches, patch_size, image_size, channels):
    return torch.nn.functional.fold(patches, image_size, patch_size, stride=patch_size)


def _fold_overlapping(patches, patch_size, image_size, channels):
    return torch.nn.functional.fold(patches.transpose(1, 2), image_size, patch_size)


def _fold_of_bytes(patches, patch_size, image_size, channels):
    return torch.nn.functional.fold(patches.transpose(1, 2), image_size, patch_size, stride=patch_size)


def _folded_channels_at_the_end(patches, patch_size, image_size, channels):
    return _unpatchify(patches, patch_size, image_size, channels).permute(0, 2, 3, 1)


def _folded_one_image_only(patches, patch_size, image_size, channels):
    return _unpatchify(patches, patch_size, image_size, channels)[0]


def _folded_image_transposed(patches, patch_size, image_size, channels):
    return _unpatchify(patches, patch_size, image_size, channels).transpose(2, 3)


def _folded_steps_of_one(patches, patch_size, image_size, channels):
    """The row and column in the grid are taken for pixels."""
    images = patches.new_zeros(len(patches), channels, *image_size)
    rows, columns = _grid(image_size, patch_size)
    for i in range(rows * columns):
        top, left = i // columns, i % columns
        patch = patches[:, i].reshape(-1, channels, patch_size, patch_size)
        images[:, :, top : top + patch_size, left : left + patch_size] = patch
    return images


def _folded_by_rows(patches, patch_size, image_size, channels):
    """divmod by the number of rows instead of columns; what falls outside is left out."""
    images = patches.new_zeros(len(patches), channels, *image_size)
    rows, columns = _grid(image_size, patch_size)
    for i in range(rows * columns):
        top, left = i // rows * patch_size, i % rows * patch_size
        if top < image_size[0] and left < image_size[1]:
            patch = patches[:, i].reshape(-1, channels, patch_size, patch_size)
            images[:, :, top : top + patch_size, left : left + patch_size] = patch
    return images


EXERCISE = Exercise(
    "1.2",
    "the inverse, for any grid",
    cases=_patch_cases,
    oracle=_unpatchify,
    mistakes=[
        (
            _folded_channels_last,
            "each patch is read in the (P, P, C) order; its numbers are in the order (C, P, P).",
        ),
        (
            _folded_down_the_columns,
            "the patches are laid down the columns; they go along the rows, as one reads.",
        ),
        (
            _folded_transposed_inside,
            "each patch is put back transposed: inside a patch too, rows come before columns.",
        ),
        (
            _folded_nothing_moved,
            "a plain reshape leaves each patch as a run of numbers; axes must be moved first.",
        ),
        (_folded_sides_swapped, "H and W are swapped: image_size is (H, W)."),
        (
            _folded_grid_guessed,
            "the grid was guessed as a square from N; take its rows and columns from image_size.",
        ),
        (
            _folded_joined_the_wrong_way,
            "each side is joined the wrong way round: rows of P pixels, (row p), not (p row).",
        ),
        (
            _folded_half_moved,
            "a row of pixels goes through all patches of its row: the order is (row, P, column, P).",
        ),
        (_fold_of_rows, "`F.fold` wants the patches as (B, C·P·P, N): swap the last two axes first."),
        (_fold_overlapping, "`F.fold` lays the patches one pixel apart, its default; `stride` is P."),
        (_fold_of_bytes, "`F.fold` takes floats alone, and pictures are bytes: `.float()` first."),
        (_folded_channels_at_the_end, "the channels are at the end; the image's axes are (B, C, H, W)."),
        (_folded_one_image_only, "only the first image is put together; do it for all B of them."),
        (_folded_image_transposed, "rows and columns of the image are exchanged; its axes are (B, C, H, W)."),
        (_folded_steps_of_one, "the patches are laid one pixel apart; patch i begins P pixels further."),
        (
            _folded_by_rows,
            "the place comes from dividing by the rows; a row of the grid holds W // P patches.",
        ),
    ],
    tolerance=0,
)
