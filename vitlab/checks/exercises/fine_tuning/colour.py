"""Exercise 5.1: a projection for colour from one for grey."""

import math

import torch

from vitlab.checks.engine import Exercise


def _colour_cases(generator):
    for width, side in ((5, 4), (3, 2), (8, 7)):
        yield (torch.randn(width, 1, side, side, generator=generator),)


def _to_colour(weight):
    colour = torch.zeros(len(weight), 3, *weight.shape[2:], dtype=weight.dtype)
    for channel in range(3):
        colour[:, channel] = weight[:, 0] / 3
    return colour


def _not_shared_out(weight):
    return 3 * _to_colour(weight)


def _one_channel(weight):
    return _to_colour(weight) * torch.tensor([3, 0, 0], dtype=weight.dtype)[:, None, None]


def _shared_by_the_root(weight):
    return math.sqrt(3) * _to_colour(weight)


def _still_grey(weight):
    return weight / 3


def _stacked_outputs(weight):
    return (weight / 3).repeat(3, 1, 1, 1)


def _luma(weight):
    """The shares of red, green and blue in what the eye sees as brightness."""
    return 3 * _to_colour(weight) * torch.tensor([0.299, 0.587, 0.114], dtype=weight.dtype)[:, None, None]


def _multiplied(weight):
    return 9 * _to_colour(weight)


def _cut_to_whole(weight):
    return (3 * _to_colour(weight)) // 3


def _turned(weight):
    return _to_colour(weight).transpose(2, 3)


def _two_dimensions_lost(weight):
    return (weight / 3).expand(-1, 3, -1, -1).flatten(2)


EXERCISE = Exercise(
    "5.1",
    "a projection for colour from one for grey",
    cases=_colour_cases,
    oracle=_to_colour,
    mistakes=[
        (
            _not_shared_out,
            "each channel has the whole weight, so that a grey image in three equal channels gives three "
            "times what it gave; divide by 3.",
        ),
        (_one_channel, "only the first channel has weights, so the model sees red alone."),
        (
            _shared_by_the_root,
            "the weights are divided by √3; the three channels add up, so divide by 3.",
        ),
        (_still_grey, "there is still one channel; wanted is (D, 3, P, P)."),
        (
            _stacked_outputs,
            "D is three times as long; it is the channels, the second axis, that become 3.",
        ),
        (
            _luma,
            "the channels have the eye's shares of red, green and blue; right for a grey image, too, but "
            "here each has a third.",
        ),
        (_multiplied, "the weight is multiplied by 3; three channels add up, so divide by 3."),
        (_cut_to_whole, "`//` cuts the weights to whole numbers; divide with `/`."),
        (_turned, "the rows and columns of the patch are swapped."),
        (_two_dimensions_lost, "the patch's rows and columns are flattened; wanted is (D, 3, P, P)."),
    ],
    tolerance=1e-6,
)
