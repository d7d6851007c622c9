"""Exercise 1.4: N, P²C and attention entries by formula."""

import torch

from vitlab.checks.engine import Exercise


def _count_cases(generator):
    yield from (((28, 28), 4, 1), ((32, 48), 8, 2), ((224, 224), 16, 4))
    rows, columns = torch.randint(2, 9, (2,), generator=generator).tolist()
    yield (rows * 6, (rows + columns) * 6), 6, 5


def _count(image_size, patch_size, channels):
    height, width = image_size
    number = sum(1 for _ in range(0, height, patch_size) for _ in range(0, width, patch_size))
    length = sum(1 for _ in range(channels) for _ in range(patch_size) for _ in range(patch_size))
    tokens = number + 1
    return number, length, tokens * tokens


def _count_without_class_token(image_size, patch_size, channels):
    number, length, _ = _count(image_size, patch_size, channels)
    return number, length, number**2


def _count_one_side(image_size, patch_size, channels):
    number, _, entries = _count(image_size, patch_size, channels)
    return number, patch_size * channels, entries


def _count_without_channels(image_size, patch_size, channels):
    number, _, entries = _count(image_size, patch_size, channels)
    return number, patch_size**2, entries


def _count_divided_once(image_size, patch_size, channels):
    number = image_size[0] * image_size[1] // patch_size
    return number, channels * patch_size**2, (number + 1) ** 2


def _count_one_side_in_both(image_size, patch_size, channels):
    number = image_size[0] * image_size[1] // patch_size
    return number, patch_size * channels, (number + 1) ** 2


def _count_as_square(image_size, patch_size, channels):
    number = (image_size[0] // patch_size) ** 2
    return number, channels * patch_size**2, (number + 1) ** 2


def _count_tokens(image_size, patch_size, channels):
    number, length, entries = _count(image_size, patch_size, channels)
    return number + 1, length, entries


def _count_per_token(image_size, patch_size, channels):
    number, length, _ = _count(image_size, patch_size, channels)
    return number, length, number + 1


def _count_class_token_after(image_size, patch_size, channels):
    number, length, _ = _count(image_size, patch_size, channels)
    return number, length, number**2 + 1


def _count_pairs(image_size, patch_size, channels):
    number, length, _ = _count(image_size, patch_size, channels)
    return number, length, number * (number + 1)


def _count_channels_in_attention(image_size, patch_size, channels):
    number, length, entries = _count(image_size, patch_size, channels)
    return number, length, entries * channels


def _count_channels_as_patches(image_size, patch_size, channels):
    number, length, _ = _count(image_size, patch_size, channels)
    number = number * channels
    return number, length, (number + 1) ** 2


def _count_length_first(image_size, patch_size, channels):
    number, length, entries = _count(image_size, patch_size, channels)
    return length, number, entries


def _count_entries_second(image_size, patch_size, channels):
    number, length, entries = _count(image_size, patch_size, channels)
    return number, entries, length


def _count_channels_squared(image_size, patch_size, channels):
    number, _, entries = _count(image_size, patch_size, channels)
    return number, (patch_size * channels) ** 2, entries


def _count_rows(image_size, patch_size, channels):
    number = image_size[0] // patch_size
    return number, patch_size**2 * channels, (number + 1) ** 2


def _count_sides_added(image_size, patch_size, channels):
    number = image_size[0] // patch_size + image_size[1] // patch_size
    return number, patch_size**2 * channels, (number + 1) ** 2


def _count_pixels(image_size, patch_size, channels):
    number = image_size[0] * image_size[1]
    return number, patch_size**2 * channels, (number + 1) ** 2


def _count_whole_image(image_size, patch_size, channels):
    number, _, entries = _count(image_size, patch_size, channels)
    return number, image_size[0] * image_size[1] * channels, entries


def _count_class_token_in_all(image_size, patch_size, channels):
    number, length, entries = _count(image_size, patch_size, channels)
    return number + 1, length, (number + 2) ** 2


def _count_doubled(image_size, patch_size, channels):
    number, length, _ = _count(image_size, patch_size, channels)
    return number, length, 2 * (number + 1)


EXERCISE = Exercise(
    "1.4",
    "N, P²C and attention entries by formula",
    cases=_count_cases,
    oracle=_count,
    mistakes=[
        (
            _count_without_class_token,
            "the class token is forgotten: the sequence has T = N + 1 tokens, and T² entries.",
        ),
        (
            _count_class_token_after,
            "this is N² + 1; the class token looks and is looked at like all others: (N + 1)².",
        ),
        (_count_one_side, "this is P·C; a patch has P rows of P pixels, P²·C numbers."),
        (_count_without_channels, "the channels are forgotten: every pixel holds C numbers."),
        (_count_divided_once, "this divides by P once; both sides are cut, so N = (H / P)·(W / P)."),
        (
            _count_one_side_in_both,
            "a patch is taken for P pixels, in N and in its length; it is P · P of them.",
        ),
        (_count_as_square, "this takes the image for a square; the width has W // P patches of its own."),
        (_count_tokens, "this is T = N + 1, with the class token; N counts the patches alone."),
        (
            _count_per_token,
            "this is one row of attention; each of the T tokens has such a row, so T² entries.",
        ),
        (_count_pairs, "this is N·(N + 1); the class token looks, too: T rows of T entries."),
        (
            _count_channels_in_attention,
            "the channels are in T²; attention is between tokens, whatever a token is made of.",
        ),
        (_count_channels_as_patches, "this counts each channel as a patch; a patch has all C channels."),
        (_count_length_first, "the order is (N, P²C, T²): these are N and P²C exchanged."),
        (_count_entries_second, "the order is (N, P²C, T²): these are P²C and T² exchanged."),
        (_count_channels_squared, "this is (P·C)²; a patch has P · P pixels of C numbers."),
        (_count_rows, "this counts one column of patches, H // P; there are W // P of them."),
        (_count_sides_added, "rows and columns are added; a grid of rows and columns has their product."),
        (_count_pixels, "this counts pixels; a patch is P · P of them."),
        (_count_whole_image, "this is H·W·C, all numbers of the image; one patch has P²C of them."),
        (
            _count_class_token_in_all,
            "the class token is counted in N already; T = N + 1, and N is without it.",
        ),
        (_count_doubled, "this doubles T; every token looks at every token, T · T."),
    ],
)
