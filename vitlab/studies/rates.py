"""Which rate is best for each arm of a study, and whether its grid goes on beyond it.

An arm is what a study compares: its settings but for seeds and rates. A rate is a learning rate or a ridge.
"""

from collections.abc import Iterable
from statistics import fmean

from vitlab.studies.rows import Row, identity

RATES = ("learning_rate", "ridge")
KEPT_BACK = (
    "validation_accuracy",
    "held_out_accuracy",
)  # of images kept out of training and test
AT_EDGE = "best_rate_at_edge"  # of a row: whether the best rate of its arm is the least or largest tried


def judge_of(rows: list[Row]) -> str | None:
    """The result by which rates are judged: accuracy on images kept back, else on test images.

    >>> judge_of([dict(test_accuracy=0.9, validation_accuracy=0.8)])
    'validation_accuracy'
    """
    columns = {name for row in rows for name in row}
    return next((name for name in (*KEPT_BACK, "test_accuracy") if name in columns), None)


def is_seed(name: str) -> bool:
    """Whether a column holds seeds: of the run, or "model_seed" and its like."""
    return name == "seed" or name.endswith("_seed")


def rate_of(row: Row) -> float | None:
    """The rate that a run was made with; None where it has none."""
    return next((row[name] for name in RATES if isinstance(row.get(name), int | float)), None)


def rates_tried(rows: list[Row], varied: Iterable[str]) -> dict[tuple, dict[float, list[Row]]]:
    """Arm -> rate -> its rows that are done. `varied` are the settings that differ between runs.

    >>> rows = [dict(seed=0, pool="mean", learning_rate=rate, status="done") for rate in (1e-3, 2e-3)]
    >>> {arm: list(tried) for arm, tried in rates_tried(rows, ["pool", "learning_rate"]).items()}
    {('mean',): [0.001, 0.002]}
    """
    names = [name for name in varied if name not in RATES and not is_seed(name)]
    found: dict[tuple, dict[float, list[Row]]] = {}
    for row in rows:
        if row["status"] == "done" and rate_of(row) is not None:
            found.setdefault(identity(row, names), {}).setdefault(rate_of(row), []).append(row)
    return found


def best_rate(tried: dict[float, list[Row]], judge: str) -> float:
    """The rate whose rows have the best mean of `judge`, an accuracy.

    >>> best_rate({1e-3: [dict(test_accuracy=0.7)], 2e-3: [dict(test_accuracy=0.8)]}, "test_accuracy")
    0.002
    """
    return max(tried, key=lambda rate: fmean(row[judge] for row in tried[rate]))


def at_best_rate(rows: list[Row], *arm: str) -> list[Row]:
    """Of each arm, the rows with its best rate; `arm` are the settings that tell arms apart.

    Raises ValueError for rows that no accuracy judges.

    >>> rows = [dict(pool="mean", learning_rate=r, test_accuracy=r, status="done") for r in (0.1, 0.2)]
    >>> [row["learning_rate"] for row in at_best_rate(rows, "pool")]
    [0.2]
    """
    if not (judge := judge_of(rows)):
        raise ValueError(f"no row has {', '.join(KEPT_BACK)} or test_accuracy, by which rates are judged")
    found = [tried[best_rate(tried, judge)] for tried in rates_tried(rows, arm).values()]
    return [row for each in found for row in each]


def with_edges(rows: list[Row], varied: Iterable[str]) -> list[Row]:
    """The rows, those of arms with several rates saying whether the best is at an edge of what was tried.

    >>> rows = [dict(learning_rate=rate, test_accuracy=rate, status="done") for rate in (1, 2, 3)]
    >>> [row["best_rate_at_edge"] for row in with_edges(rows, ["learning_rate"])]
    [True, True, True]
    """
    judge, said = judge_of(rows), {}
    judged = [row for row in rows if row.get(judge) is not None]
    for tried in rates_tried(judged, varied).values():
        if len(tried) > 1:
            at_edge = best_rate(tried, judge) in (min(tried), max(tried))
            said |= {id(row): at_edge for each in tried.values() for row in each}
    return [row | {AT_EDGE: said[id(row)]} if id(row) in said else row for row in rows]
