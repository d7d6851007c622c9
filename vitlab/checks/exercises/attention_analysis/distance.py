"""Exercise 6.5: mean attention distance, renormalised."""

import math

import torch

from vitlab.checks.engine import Exercise
from vitlab.checks.exercises.attention_analysis._shared import rows_to_one, softmaxed


def _distance_cases(generator):
    yield softmaxed(generator, 2, 3, 13, 13), (3, 4), 4
    yield softmaxed(generator, 3, 2, 11, 11), (2, 5), 7
    yield softmaxed(generator, 2, 4, 9, 9), (4, 2), 16


def _distance(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, patch_size)


def _distance_with(attention, grid_size, patch_size, measure=math.dist, renormalise=True, first=1):
    """Mean over images and queries of the attention-weighted distance, per head; parts to get wrong."""
    rows, columns = grid_size
    places = [(row, column) for row in range(rows) for column in range(columns)]
    lengths = [[measure(one, other) * patch_size for other in places] for one in places]
    means = []
    for head in attention.unbind(1):
        total = 0.0
        for image in head.tolist():
            for i, table in enumerate(lengths):
                row = image[first + i][first : first + len(places)]
                left = sum(row) if renormalise else 1.0
                total += sum(weight * length for weight, length in zip(row, table, strict=True)) / left
        means.append(total / (len(attention) * len(places)))
    return attention.new_tensor(means)


def _distance_dropped(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, patch_size, renormalise=False)


def _distance_in_patches(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, 1)


def _distance_shifted(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, patch_size, first=0)


def _distance_swapped(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size[::-1], patch_size)


def _distance_squared(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, patch_size, lambda one, other: math.dist(one, other) ** 2)


def _distance_squared_in_pixels(attention, grid_size, patch_size):
    return _distance_squared(attention, grid_size, patch_size) * patch_size


def _distance_rooted_late(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return (rows_to_one(patches) * distances**2).sum(dim=-1).sqrt().mean(dim=(0, 2))


def _distance_times_area(attention, grid_size, patch_size):
    return _distance(attention, grid_size, patch_size) * patch_size


def _distance_longer_side(attention, grid_size, patch_size):
    def longer(one, other):
        return max(abs(one[0] - other[0]), abs(one[1] - other[1]))

    return _distance_with(attention, grid_size, patch_size, longer)


def _distance_of_all_heads(attention, grid_size, patch_size):
    return _distance(attention, grid_size, patch_size).mean()


def _distance_divided_by_image(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return ((patches * distances).sum(-1).mean(2) / patches.sum(-1).mean(2)).mean(0)


def _distance_by_streets(attention, grid_size, patch_size):
    def streets(one, other):
        return abs(one[0] - other[0]) + abs(one[1] - other[1])

    return _distance_with(attention, grid_size, patch_size, streets)


def _distance_summed(attention, grid_size, patch_size):
    return _distance(attention, grid_size, patch_size) * math.prod(grid_size)


def _distances(attention, grid_size, patch_size):
    """The attention among patches, and the table of their distances (N, N)."""
    rows, columns = grid_size
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(attention.dtype)
    return attention[..., 1:, 1:], torch.cdist(places, places) * patch_size


def _distance_without_keepdim(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return (patches / patches.sum(dim=-1) * distances).sum(dim=-1).mean(dim=(0, 2))


def _distance_columns(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return (patches / patches.sum(dim=-2, keepdim=True) * distances).sum(dim=-1).mean(dim=(0, 2))


def _distance_softmax(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return (patches.softmax(dim=-1) * distances).sum(dim=-1).mean(dim=(0, 2))


def _distance_mean_of_keys(attention, grid_size, patch_size):
    return _distance(attention, grid_size, patch_size) / math.prod(grid_size)


def _distance_divided_late(attention, grid_size, patch_size):
    left = attention[..., 1:, 1:].sum(dim=-1).mean(dim=(0, 2))
    return _distance_dropped(attention, grid_size, patch_size) / left


def _distance_in_line(attention, grid_size, patch_size):
    columns = grid_size[1]

    def in_line(one, other):
        return abs((one[0] - other[0]) * columns + one[1] - other[1])

    return _distance_with(attention, grid_size, patch_size, in_line)


def _distance_of_images(attention, grid_size, patch_size):
    return torch.stack([_distance(image[None], grid_size, patch_size) for image in attention])


EXERCISE = Exercise(
    "6.5",
    "mean attention distance, renormalised",
    cases=_distance_cases,
    oracle=_distance,
    mistakes=[
        (
            _distance_dropped,
            "what is left of a row without the class token does not sum to 1; divide it by its sum.",
        ),
        (_distance_in_patches, "this counts in patches; in pixels it is patch_size times as much."),
        (
            _distance_shifted,
            "the class token is token 0, not the last one; leave out row 0 and column 0.",
        ),
        (_distance_swapped, "rows and columns of the grid are swapped: grid_size is (rows, columns)."),
        (_distance_squared, "the distances are squared; take the root."),
        (_distance_squared_in_pixels, "these are distances squared, in square pixels; take the root."),
        (
            _distance_rooted_late,
            "the root is taken of the mean of squares; average the distances themselves.",
        ),
        (_distance_times_area, "patch_size is in it twice; once makes pixels of patches."),
        (
            _distance_longer_side,
            "this takes the larger of rows and columns; the straight line is wanted.",
        ),
        (_distance_of_all_heads, "the heads are averaged, too; one number a head is wanted."),
        (
            _distance_divided_by_image,
            "an image's sum is divided by what is left on average; divide each row by its own sum.",
        ),
        (_distance_by_streets, "this adds rows and columns; the straight line is wanted."),
        (
            _distance_without_keepdim,
            "the sums have lost their last axis, so they do not meet the rows; keepdim=True keeps it.",
        ),
        (_distance_columns, "the columns are made to sum to 1; it is the rows that must."),
        (_distance_softmax, "a softmax changes the proportions; divide by the sum instead."),
        (
            _distance_mean_of_keys,
            "the keys are averaged; their weights sum to 1 already, so the sum is the mean.",
        ),
        (
            _distance_divided_late,
            "all is divided by what is left on average; divide each row by its own sum, before.",
        ),
        (_distance_in_line, "this counts along the sequence; patches have their places on the grid."),
        (_distance_summed, "the queries are summed; average over them."),
        (_distance_of_images, "the images are still apart; average over the batch too."),
    ],
)
