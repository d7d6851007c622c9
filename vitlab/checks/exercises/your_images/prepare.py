"""Exercise 7.1: a picture as the model takes it."""

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


def _prepare_by_128(picture, size):
    return _shrunk(_square(picture), size) / 128 - 1


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
        (_prepare_by_128, "this divides by 128, so that 255 stays below 1; divide by 127.5."),
        (_prepare_mean_of_bytes, "bytes cannot be averaged; make them floats first: `.float()`."),
    ],
)
