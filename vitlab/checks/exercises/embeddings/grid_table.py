"""Exercise 2.5, find the fault: a table of sines and cosines for a grid."""

import math

import torch

from vitlab.checks.engine import FindTheFault


def _cases(generator):
    for rows, columns, width in ((3, 5, 8), (6, 2, 12), (7, 7, 16)):
        width += 4 * torch.randint(0, 3, (), generator=generator).item()
        yield rows, columns, width


def _right(rows, columns, width):
    quarter = width // 4
    rates = [10_000 ** (-k / (quarter - 1)) for k in range(quarter)]
    table = []
    for row in range(rows):
        for column in range(columns):
            angles = [[place * rate for rate in rates] for place in (row, column)]
            table.append([wave(angle) for part in angles for wave in (math.sin, math.cos) for angle in part])
    return torch.tensor(table)


def _faulty(rows, columns, width):
    rates = 10_000 ** (-torch.arange(width // 4) / (width // 4 - 1))
    places = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="xy")
    down, across = (place.flatten()[:, None] * rates for place in places)
    waves = [down.sin(), down.cos(), across.sin(), across.cos()]
    return torch.cat(waves, dim=1)


def _columns_in_front(rows, columns, width):
    return _right(rows, columns, width).roll(width // 2, dims=1)


def _rows_twice(rows, columns, width):
    half = _right(rows, columns, width)[:, : width // 2]
    return torch.cat([half, half], dim=1)


def _columns_twice(rows, columns, width):
    half = _right(rows, columns, width)[:, width // 2 :]
    return torch.cat([half, half], dim=1)


def _grid_turned(rows, columns, width):
    return _right(columns, rows, width)


def _in_a_line(rows, columns, width):
    """One number for each patch, with all the width."""
    quarter = width // 4
    rates = 10_000 ** (-torch.arange(2 * quarter) / (2 * quarter - 1))
    angles = torch.arange(rows * columns)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _sines_and_cosines_by_turns(rows, columns, width):
    halves = _right(rows, columns, width).unflatten(1, (2, 2, width // 4))
    return halves.transpose(2, 3).flatten(1)


def _one_below_the_other(rows, columns, width):
    return torch.cat(_right(rows, columns, width).tensor_split(4, dim=1))


def _last_rate_too_fast(rows, columns, width):
    """Divided by width // 4, as for language, so that the slowest wave is a little faster."""
    rates = 10_000 ** (-torch.arange(width // 4) / (width // 4))
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
    down, across = (place[:, None] * rates for place in places)
    return torch.cat([down.sin(), down.cos(), across.sin(), across.cos()], dim=1)


EXERCISE = FindTheFault(
    id="2.5",
    title="sines and cosines for a grid",
    oracle=_right,
    cases=_cases,
    faulty=_faulty,
    line=2,
    mend='    places = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")',
    sound={
        1: "these are the speeds of the hands, from 1 down to 1 / 10,000.",
        3: "each row of the table is a place times all rates, first by rows, then by columns.",
        4: "sines, then cosines, of the row and of the column.",
        5: "the four stand side by side: width numbers for each place.",
    },
    mistakes=[
        (_faulty, "nothing has changed: print `places` for a grid of 2 × 3."),
        (_columns_in_front, "the columns' half stands in front now; the order of the places was the fault."),
        (_rows_twice, "both halves code the row; the second half is the column's."),
        (_columns_twice, "both halves code the column; the first half is the row's."),
        (_grid_turned, "rows and columns of the grid are exchanged, which is right for a square alone."),
        (_in_a_line, "the places are counted in a line; a place is a row and a column."),
        (
            _sines_and_cosines_by_turns,
            "sines and cosines alternate; line 4 put them in blocks, and was right.",
        ),
        (
            _one_below_the_other,
            "the four stand below each other; line 5 put them side by side, and was right.",
        ),
        (_last_rate_too_fast, "the rates are others; line 1 was right."),
    ],
)
