"""Exercise 7.3: a map laid over the pixels."""

import torch
import torch.nn.functional as F

from vitlab.checks.engine import Exercise


def _map_cases(generator):
    yield torch.rand(2, 3, 4, generator=generator), 2
    yield torch.rand(3, 2, 5, generator=generator), 3
    yield torch.rand(2, 4, 3, generator=generator), 4


def _to_pixels(maps, patch_size):
    count, rows, columns = maps.shape
    result = maps.new_zeros(count, rows * patch_size, columns * patch_size)
    for y in range(rows * patch_size):
        for x in range(columns * patch_size):
            # in patches from the middle of the first one, and held at the border
            row = min(max((y + 0.5) / patch_size - 0.5, 0), rows - 1)
            column = min(max((x + 0.5) / patch_size - 0.5, 0), columns - 1)
            up, left = min(int(row), rows - 2), min(int(column), columns - 2)
            down, right = row - up, column - left
            result[:, y, x] = (
                (1 - down) * (1 - right) * maps[:, up, left]
                + (1 - down) * right * maps[:, up, left + 1]
                + down * (1 - right) * maps[:, up + 1, left]
                + down * right * maps[:, up + 1, left + 1]
            )
    return result


def _stretched(maps, size, **how):
    return F.interpolate(maps[:, None], size=size, **how)[:, 0]


def _size(maps, patch_size):
    return maps.shape[1] * patch_size, maps.shape[2] * patch_size


def _pixels_flat(maps, patch_size):
    return maps.repeat_interleave(patch_size, 1).repeat_interleave(patch_size, 2)


def _pixels_tiled(maps, patch_size):
    return maps.repeat(1, patch_size, patch_size)


def _pixels_corners(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size), mode="bilinear", align_corners=True)


def _pixels_bicubic(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size), mode="bicubic", align_corners=False)


def _pixels_turned(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size)[::-1], mode="bilinear", align_corners=False)


def _pixels_with_channel(maps, patch_size):
    return F.interpolate(maps[:, None], size=_size(maps, patch_size), mode="bilinear", align_corners=False)


def _pixels_shared(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size), mode="bilinear", align_corners=False) / patch_size**2


def _pixels_of_the_first_map(maps, patch_size):
    return _pixels_with_channel(maps, patch_size)[0]


def _pixels_without_channel(maps, patch_size):
    return F.interpolate(maps, size=_size(maps, patch_size), mode="bilinear", align_corners=False)


EXERCISE = Exercise(
    "7.3",
    "a map laid over the pixels",
    cases=_map_cases,
    oracle=_to_pixels,
    mistakes=[
        (_pixels_flat, "each patch is one flat square; go linearly from middle to middle."),
        (_pixels_tiled, "the whole map is repeated side by side; enlarge it instead."),
        (
            _pixels_corners,
            "corners lie on corners; a patch's value belongs to its middle (align_corners=False).",
        ),
        (_pixels_bicubic, "this is bicubic, and leaves the range of the map; linear is wanted."),
        (_pixels_turned, "height and width are swapped: a map is (B, rows, columns)."),
        (_pixels_with_channel, "the axis that interpolate needs for channels is still there."),
        (_pixels_shared, "the values are divided by P²; they stay as large as they were."),
        (
            _pixels_of_the_first_map,
            "only the first map is left; the channels' axis is the second: [:, 0].",
        ),
        (
            _pixels_without_channel,
            "`interpolate` wants (B, channels, h, w); give the maps one channel: maps[:, None].",
        ),
    ],
)
