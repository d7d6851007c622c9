"""Exercise 7.1: a picture as the model takes it."""

import numpy as np
import torch
import torch.nn.functional as F

from vitlab.checks.engine import Exercise
from vitlab.checks.exercises.your_images._shared import random_bytes


def _picture_cases(generator):
    yield random_bytes(generator, 3, 12, 20), 4
    yield random_bytes(generator, 2, 24, 8), 4
    yield random_bytes(generator, 1, 9, 15), 3


def _prepare(picture, size):
    channels, height, width = picture.shape
    side = min(height, width)
    top, left, block = (height - side) // 2, (width - side) // 2, side // size
    small = torch.zeros(channels, size, size)
    for c in range(channels):
        for row in range(size):
            for column in range(size):
                total = 0
                for y in range(block):
                    for x in range(block):
                        total += int(picture[c, top + row * block + y, left + column * block + x])
                small[c, row, column] = total / block**2 / 127.5 - 1
    return small


def _square(picture):
    side = min(picture.shape[1:])
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def _shrunk(picture, size):
    return F.adaptive_avg_pool2d(picture.float(), size)


def _prepare_squeezed(picture, size):
    return _shrunk(picture, size) / 127.5 - 1


def _prepare_corner(picture, size):
    side = min(picture.shape[1:])
    return _shrunk(picture[:, :side, :side], size) / 127.5 - 1


def _prepare_far_corner(picture, size):
    side = min(picture.shape[1:])
    return _shrunk(picture[:, -side:, -side:], size) / 127.5 - 1


def _prepare_zero_to_one(picture, size):
    return _shrunk(_square(picture), size) / 255


def _prepare_bytes(picture, size):
    return _shrunk(_square(picture), size)


def _prepare_nearest(picture, size):
    return F.interpolate(_square(picture)[None].float(), size=size, mode="nearest")[0] / 127.5 - 1


def _prepare_tiny_crop(picture, size):
    top, left = ((length - size) // 2 for length in picture.shape[1:])
    return picture[:, top : top + size, left : left + size].float() / 127.5 - 1


def _prepare_own_range(picture, size):
    small = _shrunk(_square(picture), size)
    return 2 * (small - small.min()) / (small.max() - small.min()) - 1


def _prepare_offsets_swapped(picture, size):
    side = min(picture.shape[1:])
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    return F.avg_pool2d(picture[:, left : left + side, top : top + side].float(), side // size) / 127.5 - 1


def _prepare_blocks_of_size(picture, size):
    return F.avg_pool2d(_square(picture).float(), size) / 127.5 - 1


def _prepare_bilinear(picture, size):
    square = _square(picture)[None].float()
    return F.interpolate(square, size=(size, size), mode="bilinear")[0] / 127.5 - 1


def _resized(picture, size, **how):
    square = _square(picture)[None].float()
    return F.interpolate(square, size=(size, size), **how)[0] / 127.5 - 1


def _prepare_antialiased(picture, size):
    return _resized(picture, size, mode="bilinear", antialias=True)


def _prepare_bicubic(picture, size):
    return _resized(picture, size, mode="bicubic")


def _prepare_bicubic_antialiased(picture, size):
    return _resized(picture, size, mode="bicubic", antialias=True)


def _prepare_antialiased_bytes(picture, size):
    small = F.interpolate(_square(picture)[None].float(), size=(size, size), mode="bilinear", antialias=True)
    return small[0].round() / 127.5 - 1


def _prepare_largest(picture, size):
    return F.adaptive_max_pool2d(_square(picture).float(), size) / 127.5 - 1


def _prepare_rounded(picture, size):
    return _shrunk(_square(picture), size).round() / 127.5 - 1


def _prepare_cut_to_bytes(picture, size):
    return _shrunk(_square(picture), size).floor() / 127.5 - 1


def _prepare_padded(picture, size):
    channels, height, width = picture.shape
    side = max(height, width)
    whole = torch.zeros(channels, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    whole[:, top : top + height, left : left + width] = picture
    return F.adaptive_avg_pool2d(whole, size) / 127.5 - 1


def _prepare_doubled(picture, size):
    return _shrunk(_square(picture), size) / 255 * 2


def _prepare_one_added(picture, size):
    return _shrunk(_square(picture), size) / 127.5 + 1


def _prepare_half_as_wide(picture, size):
    return _shrunk(_square(picture), size) / 255 - 0.5


def _prepare_twice(picture, size):
    return _prepare_by_shape(picture, size) / 127.5 - 1


def _prepare_standardised(picture, size):
    small = _shrunk(_square(picture), size)
    return (small - small.mean()) / small.std()


def _prepare_whole_numbers(picture, size):
    return _shrunk(_square(picture), size) // 127.5 - 1


def _prepare_colours_turned(picture, size):
    return _prepare_by_shape(picture.flip(0), size)


def _prepare_by_shape(picture, size, axes=(2, 4)):
    square = _square(picture).float()
    block = square.shape[-1] // size
    return square.reshape(-1, size, block, size, block).mean(axes) / 127.5 - 1


def _prepare_over_blocks(picture, size):
    return _prepare_by_shape(picture, size, axes=(1, 3))


def _prepare_blocks_side_by_side(picture, size):
    square = _square(picture).float()
    block = square.shape[-1] // size
    return square.reshape(-1, size, size, block, block).mean((3, 4)) / 127.5 - 1


def _prepare_added_up(picture, size):
    square = _square(picture).float()
    return _shrunk(square, size) * (square.shape[-1] // size) ** 2 / 127.5 - 1


def _prepare_batch_of_one(picture, size):
    return _prepare_by_shape(picture, size)[None]


def _prepare_channels_last(picture, size):
    return _prepare_by_shape(picture, size).permute(1, 2, 0)


def _prepare_shape_misread(picture, size):
    height, width, channels = picture.shape
    return _cut(picture, size, channels, height, width, min(height, width))


def _prepare_longer_side(picture, size):
    return _cut(picture, size, *picture.shape, max(picture.shape[1:]))


def _prepare_not_square(picture, size):
    channels, height, width = picture.shape
    return _cut(picture, size, channels, width, height, min(height, width))


def _cut(picture, size, channels, height, width, side):
    """The usual code, which stops where a square of `side` is not what is cut out."""
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[:, top : top + side, left : left + side].float()
    return square.reshape(channels, size, side // size, size, side // size).mean((2, 4)) / 127.5 - 1


def _prepare_as_files_are(picture, size):
    from PIL import Image

    side = min(picture.shape[1:])
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    how = dict(resample=Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    small = [Image.fromarray(channel.numpy()).resize((size, size), **how) for channel in picture]
    return torch.from_numpy(np.stack(small)) / 127.5 - 1


def _prepare_by_128(picture, size):
    return _shrunk(_square(picture), size) / 128 - 1


def _prepare_bytes_by_shape(picture, size):
    square = _square(picture)
    block = square.shape[-1] // size
    return square.reshape(-1, size, block, size, block).mean((2, 4)) / 127.5 - 1


def _prepare_mean_of_bytes(picture, size):
    square = _square(picture)
    return F.avg_pool2d(square, square.shape[-1] // size) / 127.5 - 1


EXERCISE = Exercise(
    "7.1",
    "a picture as the model takes it",
    cases=_picture_cases,
    oracle=_prepare,
    mistakes=[
        (_prepare_squeezed, "the whole picture is squeezed; cut out the largest centred square first."),
        (_prepare_corner, "the square is cut out at the upper left; take it from the middle."),
        (_prepare_far_corner, "the square is cut out at the lower right; take it from the middle."),
        (_prepare_zero_to_one, "this is in [0, 1]; the model was trained on [-1, 1]."),
        (_prepare_bytes, "this is still 0 to 255; divide by 127.5 and subtract 1."),
        (_prepare_nearest, "one pixel is picked from each block; the mean of the block is wanted."),
        (_prepare_tiny_crop, "a square of size × size is cut out; cut the largest one, and shrink it."),
        (
            _prepare_own_range,
            "this stretches each picture to its own range; 0 is -1 and 255 is 1 for all.",
        ),
        (
            _prepare_offsets_swapped,
            "the offsets are swapped: rows begin at (H - side) // 2, columns at (W - side) // 2.",
        ),
        (_prepare_blocks_of_size, "the blocks are `size` pixels wide; they are side // size."),
        (
            _prepare_bilinear,
            "this is bilinear, which looks at four pixels; the mean of the whole block is wanted.",
        ),
        (
            _prepare_antialiased,
            "this is bilinear with antialiasing, which reaches over the block; take its mean alone.",
        ),
        (
            _prepare_antialiased_bytes,
            "this is an antialiased resize to bytes; the mean of the block alone is wanted.",
        ),
        (
            _prepare_bicubic,
            "this is bicubic, of sixteen pixels, some counted negative; take the block's mean.",
        ),
        (
            _prepare_bicubic_antialiased,
            "this is bicubic with antialiasing, which overshoots; the mean of the block is wanted.",
        ),
        (_prepare_largest, "this is the largest pixel of each block; its mean is wanted."),
        (_prepare_rounded, "the means are rounded to bytes; keep what is behind the point."),
        (_prepare_cut_to_bytes, "the means are cut to bytes; keep what is behind the point."),
        (_prepare_padded, "the picture is padded to a square; cut the largest square out of it."),
        (_prepare_doubled, "this is in [0, 2]; subtract 1."),
        (_prepare_one_added, "1 is added; subtract it."),
        (_prepare_half_as_wide, "this is in [-0.5, 0.5]; [-1, 1] is twice as wide."),
        (_prepare_twice, "pixels are brought to [-1, 1] twice; once is right."),
        (
            _prepare_standardised,
            "this is the picture over its own mean and deviation; 0 is -1 and 255 is 1 for all.",
        ),
        (_prepare_whole_numbers, "`//` leaves whole numbers; divide with `/`."),
        (_prepare_colours_turned, "the channels are in reverse order; keep it."),
        (
            _prepare_over_blocks,
            "the mean is over all blocks; take it inside each, over its rows and its columns.",
        ),
        (
            _prepare_blocks_side_by_side,
            "a row of pixels goes through all blocks beside each other: (C, size, block, size, block).",
        ),
        (_prepare_added_up, "the pixels of a block are added; their mean is wanted."),
        (_prepare_batch_of_one, "there is an axis too many: one picture is (C, size, size)."),
        (_prepare_channels_last, "the channels are last; they come first, (C, size, size)."),
        (_prepare_shape_misread, "the shape is read as (H, W, C); it is (C, H, W)."),
        (_prepare_longer_side, "the square has the longer side; the shorter one is the largest that fits."),
        (
            _prepare_not_square,
            "no square is cut out: `side` rows from (H - side) // 2 on, `side` columns from (W - side) // 2.",
        ),
        (
            _prepare_as_files_are,
            "this is bicubic with antialiasing, rounded to bytes, as files are read; take the block's mean.",
        ),
        (_prepare_by_128, "this divides by 128, so that 255 stays below 1; divide by 127.5."),
        (_prepare_bytes_by_shape, "`mean` wants floats, and these are bytes: `.float()` first."),
        (_prepare_mean_of_bytes, "bytes cannot be averaged; make them floats first: `.float()`."),
    ],
)
