"""The panel: how much of each lesson was attempted, and how much of it is right."""

import html
from pathlib import Path
from typing import NamedTuple

from vitlab.checks.asking import box
from vitlab.checks.asking.lessons import predictions, questions
from vitlab.checks.engine import LESSONS, exercises, records


class Count(NamedTuple):
    """Of `all` exercises or questions, how many were attempted, and how many are right."""

    attempted: int
    correct: int
    all: int

    def __str__(self):
        if not self.attempted:
            return f"none of {self.all} yet"
        return f"{self.attempted} of {self.all} attempted, {self.correct} correct"


class Panel:
    """A table of counts for each lesson, as HTML in a notebook and elsewhere as text; `path` is the file."""

    def __init__(self, path: Path | None, counts: dict[str, dict[str, Count]], note: str = ""):
        self.path, self.counts, self.note = path, counts, note

    def _rows(self) -> list[list[str]]:
        names = {number: f"{number:0>2} {LESSONS[number].replace('_', ' ')}" for number in self.counts}
        head = ["your progress", *records.KINDS]
        return [head] + [[names[number], *map(str, row.values())] for number, row in self.counts.items()]

    def __repr__(self):
        widths = [max(map(len, column)) for column in zip(*self._rows(), strict=True)]
        lines = ["   ".join(map(str.ljust, row, widths)).rstrip() for row in self._rows()]
        return "\n".join([self.note] * bool(self.note) + lines)

    def _repr_html_(self):
        lines = []
        for row, tag in zip(self._rows(), ["th", *["td"] * len(self.counts)], strict=True):
            lines.append("".join(f'<{tag} style="text-align: left">{cell}</{tag}>' for cell in row))
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"{note}<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def progress(number: str | None = None, folder: str | Path | None = None) -> Panel:
    """The panel of one lesson, or of all: attempted and correct exercises, predictions and quiz questions.

    What counts is what you did. The folded solutions check with `yours=False` and do not count, nor does a
    check of the same function afterwards. An exercise once correct stays so; of a question the first
    answer counts. All is kept in progress.json in `folder`, else where the environment variable VITLAB_HOME
    points, else in `~/.vitlab`, and nowhere else. Raises ValueError for a lesson that there is not.

    >>> progress("1", folder="a_new_folder")
    your progress   exercises       predictions     quiz
    01 patching     none of 6 yet   none of 5 yet   none of 5 yet
    """
    numbers = [number] if number is not None else list(LESSONS)
    path, found = None, records.parse("{}")
    try:
        path = records.place(folder)
        found, note = records.load(path)
    except (OSError, RuntimeError) as error:  # no right to read it, or no home at all
        note = f"Your progress could not be read: {error}"
    return Panel(path, {number: count(number, found) for number in numbers}, note)


def count(number: str, found: records.Records) -> dict[str, Count]:
    """What was recorded about one lesson, by kind."""
    counts = {}
    for kind, ids in ids_of(number).items():
        results = [found[kind][id] for id in ids if id in found[kind]]
        counts[kind] = Count(len(results), sum(result in records.RIGHT for result in results), len(ids))
    return counts


def ids_of(number: str) -> dict[str, list[str]]:
    """The ids of a lesson's exercises, predictions and quiz questions."""
    items = (exercises(number), predictions(number), questions(number))
    return {kind: [item.id for item in part] for kind, part in zip(records.KINDS, items, strict=True)}


def reset_progress(number: str | None = None, folder: str | Path | None = None) -> None:
    """Forget what was recorded about one lesson, or about all; its questions can then be answered anew.

    The file is the one that `progress` names. Raises ValueError for a lesson that there is not.

    >>> reset_progress("1", folder="a_new_folder")
    0 results forgotten
    """
    path = records.place(folder)
    found, _ = records.load(path)
    every = {id for kind in records.KINDS for id in found[kind]}
    ids = every if number is None else {id for part in ids_of(number).values() for id in part}
    left = {
        part: {id: result for id, result in found[part].items() if id not in ids}
        for part in (*records.KINDS, "best")
    }
    if every & ids:
        records.save(path, left)
    box.forget(number)
    print(f"{len(every & ids)} results forgotten")
