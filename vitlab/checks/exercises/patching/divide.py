"""Exercise 1.1: patchify with loops."""

import torch

from vitlab.checks.engine import Exercise


def _image_cases(generator):
    def images(*shape, dtype=torch.float32):
        return torch.randn(*shape, dtype=dtype, generator=generator)

    yield images(2, 2, 8, 12), 4
    yield images(3, 3, 6, 4), 2
    yield images(2, 4, 9, 6, dtype=torch.float64), 3
    yield images(2, 1, 4, 8), 2
    yield torch.randint(0, 256, (2, 3, 4, 6), generator=generator).byte(), 2  # as the notebook's


def _patchify(images, patch_size):
    batch, _, height, width = images.shape
    return torch.stack([
        torch.stack([
            images[b, :, top : top + patch_size, left : left + patch_size].flatten()
            for top in range(0, height, patch_size)
            for left in range(0, width, patch_size)
        ])
        for b in range(batch)
    ])  # fmt: skip


def _axes(images, patch_size):
    """(B, C, rows, P, columns, P): the image with its two sides cut, nothing moved yet."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    return images.reshape(batch, channels, rows, patch_size, columns, patch_size)


def _channels_last(images, patch_size):
    return _axes(images, patch_size).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _down_the_columns(images, patch_size):
    return _axes(images, patch_size).permute(0, 4, 2, 1, 3, 5).flatten(3).flatten(1, 2)


def _transposed_inside(images, patch_size):
    return _axes(images, patch_size).permute(0, 2, 4, 1, 5, 3).flatten(3).flatten(1, 2)


def _channels_apart(images, patch_size):
    patches = _axes(images, patch_size).transpose(3, 4)  # (B, C, rows, columns, P, P)
    return patches.reshape(len(images), -1, images.shape[1] * patch_size**2)


def _runs_of_pixels(images, patch_size):
    batch, channels, height, width = images.shape
    return images.reshape(batch, height * width // patch_size**2, channels * patch_size**2)


def _sides_swapped(images, patch_size):
    batch, channels, height, width = images.shape
    rows, columns = width // patch_size, height // patch_size
    cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _batch_merged(images, patch_size):
    return _patchify(images, patch_size).flatten(0, 1)


def _first_image_only(images, patch_size):
    return _patchify(images, patch_size)[0]


def _pixels_first(images, patch_size):
    return _patchify(images, patch_size).transpose(1, 2)


def _split_the_wrong_way(images, patch_size):
    """The einops pattern with (p h) (q w): each patch takes pixels from all over the image."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    split = images.reshape(batch, channels, patch_size, rows, patch_size, columns)
    return split.permute(0, 3, 5, 1, 2, 4).flatten(3).flatten(1, 2)


def _unfolded_and_reshaped(images, patch_size):
    patches = _patchify(images, patch_size)
    return patches.transpose(1, 2).reshape(patches.shape)


def _unfold_of_bytes(images, patch_size):
    return torch.nn.functional.unfold(images, patch_size, stride=patch_size).transpose(1, 2)


def _half_moved(images, patch_size):
    """permute(0, 3, 1, 2, 4, 5): rows inside a patch first, the two axes of the grid apart."""
    moved = _axes(images, patch_size).permute(0, 3, 1, 2, 4, 5)
    return moved.reshape(len(images), -1, images.shape[1] * patch_size**2)


def _grid_kept(images, patch_size):
    return _axes(images, patch_size).permute(0, 2, 4, 1, 3, 5).flatten(3)


def _overlapping(images, patch_size):
    """`F.unfold` without its stride, which is 1."""
    patches = images.unfold(2, patch_size, 1).unfold(3, patch_size, 1)
    return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def _steps_of_one(images, patch_size):
    """Corners at 0, 1, 2 …: the row and column of the grid are taken for pixels."""
    rows, columns = images.shape[2] // patch_size, images.shape[3] // patch_size
    corners = [(top, left) for top in range(rows) for left in range(columns)]
    cut = [images[:, :, top : top + patch_size, left : left + patch_size].flatten(1) for top, left in corners]
    return torch.stack(cut, dim=1)


def _patches_in_front(images, patch_size):
    return _patchify(images, patch_size).transpose(0, 1)


def _one_long_row(images, patch_size):
    return _patchify(images, patch_size).flatten(1)


def _image_transposed(images, patch_size):
    return _patchify(images.transpose(2, 3), patch_size)


def _so_many_patches(images, patch_size):
    """P is taken for the number of patches along each side."""
    batch, channels, height, width = images.shape
    tall, wide = height // patch_size, width // patch_size
    cut = images.reshape(batch, channels, patch_size, tall, patch_size, wide)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _square_assumed(images, patch_size):
    """The image's two sides split as if both were H."""
    batch, channels, height, _ = images.shape
    side = height // patch_size
    return images.reshape(batch, channels, side, patch_size, side, patch_size)


def _four_throughout(images, patch_size):
    return _patchify(images, 4)


def _scaled(images, patch_size):
    return _patchify(images, patch_size) / 255


def _patches_as_pictures(images, patch_size):
    return _patchify(images, patch_size).unflatten(2, (images.shape[1], patch_size, patch_size))


def _last_left_out(images, patch_size):
    """range(0, H - P, P): the last row and column of the grid are missing."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size - 1, width // patch_size - 1
    if not rows * columns:
        return images.new_zeros(batch, 0, channels * patch_size**2)
    return _patchify(images[:, :, :-patch_size, :-patch_size], patch_size)


def _first_for_all(images, patch_size):
    return _patchify(images[:1], patch_size).repeat(len(images), 1, 1)


def _first_returned(images, patch_size):
    return _patchify(images[:1], patch_size)


EXERCISE = Exercise(
    "1.1",
    "patchify with loops",
    cases=_image_cases,
    oracle=_patchify,
    mistakes=[
        (
            _channels_last,
            "this is the (P, P, C) order; inside a patch the channels come first: (C, P, P).",
        ),
        (_down_the_columns, "the patches run down the columns; they run along the rows, as one reads."),
        (_transposed_inside, "each patch is transposed: inside a patch too, rows come before columns."),
        (
            _channels_apart,
            "the channel axis is still in front of the grid; move it behind, so that a patch has all C.",
        ),
        (
            _runs_of_pixels,
            "a plain reshape takes runs of neighbouring numbers, not squares; axes must be moved first.",
        ),
        (_sides_swapped, "H and W are swapped in the grid: it has H // P rows and W // P columns."),
        (
            _batch_merged,
            "the images of the batch are joined into one sequence; keep B as the first axis.",
        ),
        (_first_image_only, "only the first image of the batch is cut; do it for all B of them."),
        (
            _pixels_first,
            "the last two axes are swapped: patches first, then the numbers inside one patch.",
        ),
        (
            _split_the_wrong_way,
            "each side is split the wrong way round: into rows of P pixels, (row p), not (p row).",
        ),
        (
            _unfolded_and_reshaped,
            "a reshape from (B, C·P·P, N) to (B, N, C·P·P) mixes the patches; swap the axes by transposing.",
        ),
        (_unfold_of_bytes, "`F.unfold` takes floats alone, and pictures are bytes: `.float()` first."),
        (
            _half_moved,
            "the axes are (B, C, rows, P, columns, P) once split; 2 and 4, the grid's, have to come first.",
        ),
        (_grid_kept, "the grid's rows and columns are still two axes; join them into one of length N."),
        (
            _overlapping,
            "the windows overlap: patches lie side by side, so each step is P pixels (the stride).",
        ),
        (_steps_of_one, "the corners are one pixel apart; patches lie side by side, P pixels apart."),
        (_patches_in_front, "this is (N, B, C·P·P): the batch comes first, then its patches."),
        (_one_long_row, "the patches of an image are joined into one long row; keep N as an axis."),
        (_image_transposed, "rows and columns are exchanged, of the grid and inside each patch."),
        (_so_many_patches, "this cuts each side into P parts; P is the side of a patch, in pixels."),
        (_square_assumed, "the grid is taken for a square; it has H // P rows and W // P columns."),
        (_four_throughout, "the patches are 4 × 4 whatever is asked for; their side is `patch_size`."),
        (_scaled, "the numbers are scaled; patchify only moves them."),
        (_patches_as_pictures, "each patch is still a picture, (C, P, P); flatten it into a vector."),
        (_last_left_out, "the last row and column of patches are missing: `range` stops before its end."),
        (_first_for_all, "every row of the batch is the first image's; cut each image."),
        (_first_returned, "only one image comes back: the `return` is inside the loop."),
    ],
    tolerance=0,
)
