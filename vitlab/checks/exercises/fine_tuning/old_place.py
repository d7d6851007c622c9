"""Exercise 5.5: where a new patch lies in the old grid."""

import torch

from vitlab.checks.engine import Exercise


def _place_cases(generator):
    for old, new in ((7, 14), (14, 24), (7, 5), (4, 9)):
        inside = (1 + torch.randperm(new - 2, generator=generator)[:4]).tolist()
        for i in (*inside, 0, new - 1):
            yield from ((i, old, new, True), (i, old, new, False))


def _old_place(index, old, new, corners):
    if corners:
        return torch.linspace(0, old - 1, new, dtype=torch.float64)[index].item()
    left, right = index * old / new, (index + 1) * old / new  # the patch's edges, in old patches
    return (left + right) / 2 - 0.5


def _other_rule(index, old, new, corners):
    return _old_place(index, old, new, not corners)


def _always_corners(index, old, new, corners):
    return _old_place(index, old, new, True)


def _always_edges(index, old, new, corners):
    return _old_place(index, old, new, False)


def _left_edges(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else index * old / new


def _half_not_taken_back(index, old, new, corners):
    return _old_place(index, old, new, corners) + (0 if corners else 0.5)


def _counts_for_corners(index, old, new, corners):
    return index * old / new if corners else _old_place(index, old, new, False)


def _other_direction(index, old, new, corners):
    return index * (new - 1) / (old - 1) if corners else (index + 0.5) * new / old - 0.5


def _kept_inside(index, old, new, corners):
    return min(max(_old_place(index, old, new, corners), 0.0), old - 1.0)


def _rounded(index, old, new, corners):
    return float(round(_old_place(index, old, new, corners)))


def _corners_in_whole_steps(index, old, new, corners):
    return index * (old - 1) // (new - 1) if corners else _old_place(index, old, new, False)


def _in_whole_steps(index, old, new, corners):
    return index * (old - 1) // (new - 1) if corners else (index + 0.5) * old // new - 0.5


def _half_not_added(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else index * old / new - 0.5


def _share_less_a_half(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else (index + 0.5) / new - 0.5


def _not_added_kept_inside(index, old, new, corners):
    return min(max(_half_not_added(index, old, new, corners), 0.0), old - 1.0)


def _without_brackets(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else index + 0.5 * old / new - 0.5


def _share_of_the_side(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else (index + 0.5) / new


EXERCISE = Exercise(
    "5.5",
    "where a new patch lies in the old grid",
    cases=_place_cases,
    oracle=_old_place,
    mistakes=[
        (_kept_inside, "places are kept inside the grid; with corners=False the outermost lie outside."),
        (_always_corners, "corners=False is not told apart: it lays edges on edges."),
        (_always_edges, "corners=True is not told apart: it lays corners on corners."),
        (_other_rule, "the two rules are swapped: corners=True lays the last patch on the last."),
        (
            _left_edges,
            "with corners=False this is the patch's left edge; what is wanted is where its middle lies.",
        ),
        (
            _half_not_taken_back,
            "with corners=False this counts from the image's edge; old patch 0 has its middle at 0.5 "
            "there, so take 0.5 off.",
        ),
        (
            _counts_for_corners,
            "with corners=True the steps count, not the patches: old - 1 steps become new - 1.",
        ),
        (_other_direction, "this goes from the old grid to the new one; the other way is wanted."),
        (_corners_in_whole_steps, "with corners=True `//` cuts the place to whole numbers; use `/`."),
        (_in_whole_steps, "`//` cuts the places to whole steps; divide with `/`."),
        (_rounded, "the place is rounded; between two old patches is where most new ones lie."),
        (
            _half_not_added,
            "with corners=False half a patch is taken off at the end, but was not added at first: the "
            "middle is at index + 0.5.",
        ),
        (
            _not_added_kept_inside,
            "with corners=False half a patch is taken off, but was not added; nothing is kept inside.",
        ),
        (
            _share_less_a_half,
            "with corners=False a share of the side and half an old patch are mixed; times `old` first.",
        ),
        (
            _without_brackets,
            "with corners=False only the half is scaled; index + 0.5 is, as a whole: use brackets.",
        ),
        (
            _share_of_the_side,
            "with corners=False this is a share of the side; times `old` it counts old patches, from "
            "the edge.",
        ),
    ],
)
