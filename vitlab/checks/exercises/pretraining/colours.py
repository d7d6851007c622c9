"""Exercise 4.6: the colour to predict."""

import torch

from vitlab.checks.engine import Exercise


def _patch_cases(generator):
    for batch, number, patch_size in ((2, 6, 2), (3, 4, 4), (1, 9, 3)):
        base = 2 * torch.rand(batch, number, 3, 1, generator=generator) - 1
        noise = torch.rand(batch, number, 3, patch_size**2, generator=generator) - 0.5
        patches = (base + noise).clamp(-1, 1)
        patches[:, 0] = 1  # pure white, the end of the last level
        yield (patches.view(batch, number, 3 * patch_size**2),)


def _means(patches):
    """(B, N, 3), the mean of each colour, by loops over the pixels of each patch."""
    area = patches.shape[-1] // 3
    means = torch.zeros(*patches.shape[:2], 3, dtype=torch.float64)
    for b, image in enumerate(patches.tolist()):
        for n, patch in enumerate(image):
            for c in range(3):
                means[b, n, c] = sum(patch[c * area : (c + 1) * area]) / area
    return means


def _levels(means):
    return ((means + 1) * 4).floor().clamp(0, 7)


def _joined(levels, weights=(1, 8, 64)):
    return sum(weight * levels[..., c] for c, weight in enumerate(weights)).long()


def _colour_class(patches):
    return _joined(_levels(_means(patches)))


def _red_counts_most(patches):
    return _joined(_levels(_means(patches)), (64, 8, 1))


def _channels_last(patches):
    batch, number, length = patches.shape
    swapped = patches.view(batch, number, length // 3, 3).transpose(2, 3)
    return _colour_class(swapped.reshape(batch, number, length))


def _rounded(patches):
    return _joined(((_means(patches) + 1) * 4).round().clamp(0, 7))


def _seven_levels(patches):
    return _joined(((_means(patches) + 1) * 3.5).floor().clamp(0, 7))


def _white_is_eight(patches):
    return _joined(((_means(patches) + 1) * 4).floor())


def _eight_times_the_range(patches):
    return _joined(((_means(patches) + 1) * 8).floor().clamp(0, 7))


def _levels_of_pixels(patches):
    levels = ((patches + 1) * 4).floor().clamp(0, 7)
    return _joined(_means(levels).floor())


def _grey(patches):
    return _levels(_means(patches).mean(dim=-1)).long()


def _cut_towards_zero(patches):
    return _joined(((_means(patches) * 4).trunc() + 4).clamp(0, 7))


def _range_not_moved(patches):
    return _joined((_means(patches) * 4).trunc().clamp(0, 7))


def _negative_levels(patches):
    return _joined((_means(patches) * 4).trunc().clamp(max=7))


def _one_added_late(patches):
    return _joined((_means(patches) * 4 + 1).trunc().clamp(max=7))


def _brackets_missing(patches):
    return _joined((_means(patches) + 4).trunc().clamp(max=7))


def _divided_by_255(patches):
    return _joined(_levels(_means(patches) / 255))


def _white_is_zero(patches):
    return _joined(((_means(patches) + 1) * 4).floor() % 8)


def _lifted(patches):
    return _joined(((_means(patches) + 1) * 4).floor().clamp(min=7))


def _rounded_up(patches):
    return _joined(((_means(patches) + 1) * 4).ceil().clamp(0, 7))


def _one_mean_for_all(patches):
    return 73 * _grey(patches)


def _levels_added(patches):
    return _joined(_levels(_means(patches)), (1, 1, 1))


def _tens(patches):
    return _joined(_levels(_means(patches)), (1, 10, 100))


def _weights_shifted(patches):
    return _joined(_levels(_means(patches)), (8, 64, 512))


def _sixteen(patches):
    return _joined(_levels(_means(patches)), (1, 8, 16))


def _sevens(patches):
    return _joined(_levels(_means(patches)), (1, 7, 49))


def _blue_too_large(patches):
    return _joined(_levels(_means(patches)), (1, 8, 512))


def _levels_from_one(patches):
    return _joined(_levels(_means(patches)) + 1)


def _pixels_added(patches):
    return _joined(_levels(_means(patches) * (patches.shape[-1] // 3)))


def _pixels_added_below_zero(patches):
    return _joined(((_means(patches) * (patches.shape[-1] // 3) + 1) * 4).trunc().clamp(max=7))


def _mean_over_colours(patches):
    return _joined(_levels(patches.unflatten(-1, (3, -1)).mean(dim=2)))


def _mean_of_levels(patches):
    return _joined(_means(((patches + 1) * 4).floor().clamp(0, 7)))


def _colours_before_patches(patches):
    batch, number, _ = patches.shape
    return _joined(_levels(patches.reshape(batch, 3, number, -1).mean(dim=-1).mT))


def _brightest_pixel(patches):
    return _joined(_levels(patches.unflatten(-1, (3, -1)).amax(dim=-1)))


def _median(patches):
    return _joined(_levels(patches.unflatten(-1, (3, -1)).median(dim=-1).values))


def _in_bytes(patches):
    return _joined(_levels(_means(patches))).to(torch.uint8)


def _levels_only(patches):
    return _levels(_means(patches)).long()


EXERCISE = Exercise(
    "4.6",
    "the colour to predict",
    cases=_patch_cases,
    oracle=_colour_class,
    tolerance=0,
    mistakes=[
        (_red_counts_most, "the colours are in the reverse order; it is red + 8 · green + 64 · blue."),
        (_channels_last, "the patch is read as (P, P, C); its numbers are in the order (C, P, P)."),
        (
            _rounded,
            "the level is rounded to the nearest; it is the whole part of (mean + 1) · 4.",
        ),
        (_seven_levels, "(mean + 1) · 3.5 makes seven levels and a bit; eight levels are 4 to a unit."),
        (_white_is_eight, "pure white gets level 8; there are 8 levels, 0 to 7, so clamp it."),
        (_eight_times_the_range, "from -1 to 1 it is 2, so 8 levels are 4 to a unit, not 8."),
        (
            _levels_of_pixels,
            "each pixel is put into a level first; take the mean first, then its level.",
        ),
        (_rounded_up, "the level is rounded up; it is the whole part of (mean + 1) · 4."),
        (_cut_towards_zero, "below zero, whole parts are cut upwards; add 1 to the mean before."),
        (_range_not_moved, "means run from -1 to 1, and those below zero get level 0; add 1 first."),
        (_negative_levels, "means run from -1 to 1, and those below zero get levels below 0; add 1 first."),
        (_one_added_late, "the 1 is added after multiplying; it is (mean + 1) · 4, with brackets."),
        (_brackets_missing, "`mean + 1 * 4` is mean + 4; put brackets around mean + 1."),
        (_divided_by_255, "this divides by 255; the patches are in [-1, 1] already."),
        (_white_is_zero, "pure white gets level 0, as if it went round; cut 8 to 7 with a clamp."),
        (_lifted, "`min=7` lifts every level to 7; 7 is the largest: clamp(max=7)."),
        (_one_mean_for_all, "one mean is taken for all three colours; each has its own."),
        (_levels_added, "the levels are added as they are; weigh them with 1, 8 and 64."),
        (_grey, "this is the level of the grey mean; each of the three colours has its own."),
        (_tens, "the levels are written as digits of ten; there are eight levels, so weigh with 1, 8, 64."),
        (_weights_shifted, "each weight is 8 times too large: the first is 1, then 8, then 64."),
        (_sixteen, "blue is weighed with 16; there are 8 · 8 classes of red and green: 64."),
        (_sevens, "the weights are 7 and 49; levels 0 to 7 are eight, so they are 8 and 64."),
        (_blue_too_large, "blue is weighed with 8 · 64 = 512; its weight is 64."),
        (_levels_from_one, "levels are counted from 1; the lowest is 0."),
        (_pixels_added, "the pixels are added; take their mean."),
        (_pixels_added_below_zero, "the pixels are added, and levels go below 0; take their mean."),
        (_mean_over_colours, "the mean is over the colours; take it over the pixels, the axis after them."),
        (
            _mean_of_levels,
            "this is the mean of the pixels' levels; take the pixels' mean first, and then its level.",
        ),
        (
            _colours_before_patches,
            "the colours are laid before the patches, which mixes these; a patch has (3, P · P) numbers.",
        ),
        (_brightest_pixel, "this is the level of the largest number; take the mean."),
        (_median, "this is the level of the median; take the mean."),
        (_in_bytes, "a byte ends at 255, and classes go to 511; use int64 before you weigh the levels."),
        (_levels_only, "these are the three levels; join them into one class from 0 to 511."),
    ],
)
