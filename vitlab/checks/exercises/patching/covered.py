"""Exercise 1.5, find the fault: one patch of each image is painted over."""

import torch

from vitlab.checks.engine import FindTheFault


def _cases(generator):
    for shape, patch_size in (((2, 3, 8, 12), 4), ((3, 1, 12, 6), 2), ((2, 4, 6, 15), 3)):
        number = shape[2] * shape[3] // patch_size**2
        first = torch.randint(number // 2, number - 1, (), generator=generator).item()
        for index in (first, number - 1):
            yield torch.rand(shape, generator=generator) + 0.1, index, patch_size
    # Many wrong places cover nothing. This one lies inside where W itself was taken for the divisor.
    yield torch.rand((2, 1, 12, 4), generator=generator) + 0.1, 4, 2
    yield torch.rand(2, 2, 4, 8, dtype=torch.float64, generator=generator) + 0.1, 5, 2


def _right(images, index, patch_size):
    corners = [
        (top, left)
        for top in range(0, images.shape[2], patch_size)
        for left in range(0, images.shape[3], patch_size)
    ]
    covered = images.clone()
    for y in range(patch_size):
        for x in range(patch_size):
            covered[:, :, corners[index][0] + y, corners[index][1] + x] = 0
    return covered


def _faulty(images, index, patch_size):
    row, column = divmod(index, images.shape[2] // patch_size)
    top, left = row * patch_size, column * patch_size
    covered = images.clone()
    covered[:, :, top : top + patch_size, left : left + patch_size] = 0
    return covered


def _at(images, patch_size, top, left, size=None):
    covered = images.clone()
    covered[:, :, top : top + (size or patch_size), left : left + (size or patch_size)] = 0
    return covered


def _place(images, index, patch_size):
    return divmod(index, images.shape[3] // patch_size)


def _by_pixels(images, index, patch_size):
    row, column = divmod(index, images.shape[3])
    return _at(images, patch_size, row * patch_size, column * patch_size)


def _by_channels(images, index, patch_size):
    row, column = divmod(index, images.shape[1] // patch_size)
    return _at(images, patch_size, row * patch_size, column * patch_size)


def _sides_exchanged(images, index, patch_size):
    row, column = _place(images, index, patch_size)
    return _at(images, patch_size, column * patch_size, row * patch_size)


def _down_the_columns(images, index, patch_size):
    column, row = divmod(index, images.shape[2] // patch_size)
    return _at(images, patch_size, row * patch_size, column * patch_size)


def _in_patches(images, index, patch_size):
    return _at(images, patch_size, *_place(images, index, patch_size))


def _one_pixel(images, index, patch_size):
    row, column = _place(images, index, patch_size)
    return _at(images, patch_size, row * patch_size, column * patch_size, size=1)


def _next_patch(images, index, patch_size):
    return _right(images, index - 1, patch_size)


def _all_but_the_patch(images, index, patch_size):
    return images - _right(images, index, patch_size)


EXERCISE = FindTheFault(
    id="1.5",
    title="one patch painted over",
    oracle=_right,
    cases=_cases,
    faulty=_faulty,
    line=1,
    mend="    row, column = divmod(index, images.shape[3] // patch_size)",
    sound={
        2: "a patch is P pixels long each way, so row and column of the grid become pixels.",
        3: "the images given stay as they are.",
        4: "P rows and P columns of all channels, in each image of the batch.",
        5: "the copy is what was painted on.",
    },
    mistakes=[
        (_by_channels, "`shape[1]` are the channels: the axes are (B, C, H, W)."),
        (_faulty, "nothing has changed: a row of the grid is as long as it was."),
        (_by_pixels, "a row of the grid is now W patches long; W are its pixels."),
        (_sides_exchanged, "row and column are exchanged; divmod gives the row first."),
        (_down_the_columns, "this counts down the columns; patches are counted along the rows."),
        (_in_patches, "the place is counted in patches; line 2 made pixels of it, and was right."),
        (_one_pixel, "one pixel is covered; line 4 covered P rows and columns, and was right."),
        (_next_patch, "the patch before it is covered; index counts from 0, as it did."),
        (_all_but_the_patch, "everything else is covered; it is the patch that goes."),
    ],
)
