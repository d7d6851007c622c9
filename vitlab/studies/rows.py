"""The rows of a study's CSV file: numbers as numbers, words as words."""

import csv
import shlex
from collections.abc import Iterable
from pathlib import Path

from vitlab import files

WORDS = ("status", "message", "command", "commit", "machine")  # not numbers, whatever they look like
RECORD = ("seconds", *WORDS)

Value = str | int | float | bool | None
Row = dict[str, Value]


def read_results(name: str) -> list[Row]:
    """The rows of a study that ships with vitlab, numbers as numbers; empty cells are None.

    Raises what `vitlab.files.find` raises for a missing or altered file.

    >>> [row["test_accuracy"] > 0.9 for row in read_results("data_size") if row["images"] == 60_000][:2]
    [False, True]
    """
    return read_rows(files.find(f"results/{name}.csv"))


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a study's CSV file, numbers as numbers; empty cells are None.

    Raises ValueError for a row that has not one cell for each column.
    """
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} of {path} was cut off or edited: delete it, and it is made again")
    return [{name: text if name in WORDS else read_value(text) for name, text in row.items()} for row in rows]


def read_value(text: str) -> Value:
    """What a cell or an argument says: a number, True or False, None (also where it is empty), or a word.

    >>> [read_value(text) for text in ("500", "2e-3", "True", "", "mean")]
    [500, 0.002, True, None, 'mean']
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "None": None, "": None}.get(text, text)


def identity(row: Row, names: Iterable[str] | None = None) -> tuple:
    """What tells a run from the others: the values of its settings (of `names`, where given)."""
    return tuple(row[name] for name in (row if names is None else names))


def in_words(settings: Row, names: Iterable[str]) -> str:
    """Some settings as they are written after --only in a shell: "seed=0 images=500".

    >>> in_words(dict(seed=0, arm="mean colour"), ["seed", "arm"])
    "seed=0 'arm=mean colour'"
    """
    return shlex.join(f"{name}={settings[name]}" for name in names)
