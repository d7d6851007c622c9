"""Exercise 7.3: a map laid over the pixels."""

import torch
import torch.nn.functional as F

from vitlab.checks.engine import Exercise


def _map_cases(generator):
    yield torch.rand(2, 3, 4, generator=generator), 2
    yield torch.rand(3, 2, 5, generator=generator), 3
    yield torch.rand(2, 4, 3, generator=generator), 4


def _to_pixels(maps, patch_size):
    return _linear(maps, patch_size, middle=0.5)


def _linear(maps, patch_size, middle):
    """Each value lies `middle` of a patch from its upper left corner, and is held beyond."""
    count, rows, columns = maps.shape
    result = maps.new_zeros(count, rows * patch_size, columns * patch_size)
    for y in range(rows * patch_size):
        for x in range(columns * patch_size):
            row = min(max((y + middle) / patch_size - middle, 0), rows - 1)
            column = min(max((x + middle) / patch_size - middle, 0), columns - 1)
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


def _pixels_without_axis(maps, patch_size):
    return F.interpolate(maps, scale_factor=patch_size, mode="bilinear")


def _pixels_columns_alone(maps, patch_size):
    return F.interpolate(maps, scale_factor=patch_size, mode="linear")


def _pixels_of_one_image(maps, patch_size):
    return F.interpolate(maps[None], size=_size(maps, patch_size), mode="bilinear")


def _pixels_of_a_square(maps, patch_size):
    return _stretched(maps, maps.shape[1] * patch_size, mode="bilinear")


def _pixels_of_one_patch(maps, patch_size):
    return _stretched(maps, patch_size, mode="bilinear")


def _pixels_by_four(maps, patch_size):
    return _stretched(maps, _size(maps, 4), mode="bilinear")


def _pixels_on_their_side(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size), mode="bilinear").mT


def _pixels_misread(maps, patch_size):
    turned = maps.reshape(-1, *maps.shape[:0:-1])
    return _stretched(turned, _size(maps, patch_size), mode="bilinear")


def _pixels_dark_border(maps, patch_size):
    inside = slice(patch_size, -patch_size)
    padded = F.pad(maps, (1, 1, 1, 1))
    return _stretched(padded, _size(padded, patch_size), mode="bilinear")[:, inside, inside]


def _pixels_from_the_corner(maps, patch_size):
    return _linear(maps, patch_size, middle=0.0)


def _pixels_in_their_range(maps, patch_size):
    low, high = maps.min(), maps.max()
    return _stretched((maps - low) / (high - low), _size(maps, patch_size), mode="bilinear")


def _pixels_each_in_its_range(maps, patch_size):
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return _stretched((maps - low) / (high - low), _size(maps, patch_size), mode="bilinear")


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
        (_pixels_without_axis, "bilinear wants (B, channels, h, w), four axes: maps[:, None]."),
        (_pixels_columns_alone, "only columns are enlarged: `linear` takes rows for channels."),
        (_pixels_of_one_image, "the maps are taken for channels of one image, and its axis is still there."),
        (_pixels_of_a_square, "one size serves both ways; it is (h · patch_size, w · patch_size)."),
        (_pixels_of_one_patch, "each map is patch_size wide in all; it is (h · patch_size, w · patch_size)."),
        (_pixels_by_four, "the maps are enlarged 4 times, whatever patch_size is."),
        (_pixels_on_their_side, "rows and columns change places."),
        (_pixels_misread, "the map is read as (w, h); it is (h, w), row by row."),
        (_pixels_dark_border, "zeros from beyond the border are mixed in; there, the value stays."),
        (
            _pixels_from_the_corner,
            "a value belongs to its patch's upper left corner here; the middle is half a patch further.",
        ),
        (_pixels_in_their_range, "the maps are stretched to [0, 1]; leave their values as they are."),
        (_pixels_each_in_its_range, "each map is stretched to [0, 1] alone; leave its values as they are."),
    ],
)
