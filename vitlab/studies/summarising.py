"""What the rows of a study say together: means over seeds, and results seed by seed."""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean, stdev

from vitlab.studies.rows import Row, Value, identity


def summarise(rows: list[Row], result: str, by: Iterable[str]) -> dict[tuple, tuple[float, float, int]]:
    """Mean, sample deviation and number of a result over the seeds: values of `by` -> (mean, deviation, n).

    Only rows that are done count; the deviation of a single run is nan.

    >>> rows = [dict(pool="mean", accuracy=a, status="done") for a in (0.8, 0.9)]
    >>> {key: [round(x, 2) for x in value] for key, value in summarise(rows, "accuracy", ["pool"]).items()}
    {('mean',): [0.85, 0.07, 2]}
    """
    values: dict[tuple, list[float]] = {}
    for row in rows:
        if row["status"] == "done":
            values.setdefault(identity(row, by), []).append(row[result])
    return {
        key: (fmean(numbers), stdev(numbers) if len(numbers) > 1 else math.nan, len(numbers))
        for key, numbers in values.items()
    }


def by_seed(
    rows: list[Row], setting: str, result: str = "test_accuracy", **only: Value
) -> tuple[list[Value], list[list[float]]]:
    """A result seed by seed: the values of `setting` in their order, and for each seed one number a value.

    Only rows that are done count, and of these the ones in which every setting in `only` has its value.
    Raises ValueError where a seed lacks one of the values.

    >>> rows = [dict(seed=s, images=n, accuracy=s + n, status="done") for s in (0, 1) for n in (10, 20)]
    >>> by_seed(rows, "images", "accuracy")
    ([10, 20], [[10, 20], [11, 21]])
    """
    rows = [row for row in rows if row["status"] == "done" and only.items() <= row.items()]
    found = {(row["seed"], row[setting]): row[result] for row in rows}
    seeds, values = (
        (list(dict.fromkeys(column)) for column in zip(*found, strict=True)) if found else ([], [])
    )
    if missing := [(seed, value) for seed in seeds for value in values if (seed, value) not in found]:
        seed, value = missing[0]
        raise ValueError(f"there is no row that is done with seed {seed} and {setting}={value}")
    return values, [[found[seed, value] for value in values] for seed in seeds]


def table(
    results: Mapping[str, Iterable[Iterable[float]]], columns: Iterable, corner: str = "", digits: int = 1
) -> str:
    """Results of several runs to read, one row a name: each cell the mean and the sample deviation over runs.

    `results` maps names to (runs, columns), as lists or tensors; of a single run there is no deviation.
    `corner` stands above the names. Raises ValueError for rows that have not one number for each column.

    >>> print(table({"fine-tuned": [[30, 36], [34, 38]], "probe": [[23, 25.5]]}, [5, 10], "labels"))
    labels               5          10
    fine-tuned  32.0 ± 2.8  37.0 ± 1.4
    probe             23.0        25.5
    """

    def cell(numbers: list[float]) -> str:
        spread = f" ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
        return f"{fmean(numbers):.{digits}f}{spread}"

    lines = [[corner, *map(str, columns)]]
    for name, runs in results.items():
        found = list(zip(*(map(float, run) for run in runs), strict=True))
        lines.append([str(name), *map(cell, found)])
        if len(lines[-1]) != len(lines[0]):
            raise ValueError(f"{len(lines[0]) - 1} columns take as many numbers; {name!r} has {len(found)}")
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], widths)]) for line in lines)
