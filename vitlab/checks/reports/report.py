"""Marking a class: what the checks say about a folder of submitted notebooks.

python -m vitlab.checks report FOLDER           one row for each learner and exercise, in report.csv
"""

import argparse
import csv
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

from vitlab.checks.reports.submission import judge, read_cells

ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")  # as sites pack what is handed in


class Row(NamedTuple):
    """What one learner made of one exercise; `verdict` as `check` prints it, or "not run"."""

    learner: str
    notebook: str
    exercise: str
    verdict: str
    diagnosis: str


def report(path: str | Path, time_limit: float = 600, learner: str | None = None) -> list[Row]:
    """Run a submitted notebook in a fresh kernel, in quick mode, and return the verdict on each exercise.

    Folded solutions are left out, and every check is called anew, so that neither a solution nor a stored
    output counts. An error in one cell does not stop the others. Neither does a cell without end: it is
    interrupted once it has taken its share of `time_limit` seconds, which is what is left of them, divided by
    the exercises to come and one more. Nor does a cell in which the kernel dies: the rest is judged in a new
    one, where the cells before run again without it. The diagnosis names such cells by their place in the
    file. A submission's code runs with your rights: give it a machine or an account of its own where you do
    not trust it. Raises ValueError for a file that is no notebook or has no exercise.

    >>> report("lesson.py")
    Traceback (most recent call last):
        ...
    ValueError: lesson.py is no notebook: [Errno 2] No such file or directory: 'lesson.py'
    """
    path = Path(path)
    learner = learner or path.stem
    judged = judge(read_cells(path), time_limit)
    return [Row(learner, path.stem, exercise, *outcome) for exercise, outcome in judged.items()]


def notebooks(folder: Path, endings: tuple[str, ...] = (".ipynb",)) -> list[Path]:
    """Every notebook below a folder, but for what systems and editors keep: hidden files, `__MACOSX`."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings and path.is_file())
    return [
        path
        for path in found
        if not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
    ]


def report_folder(folder: Path, time_limit: float, part: Path) -> list[Row]:
    """The rows of every notebook below a folder; one that cannot be run has a single row that says why.

    So has an archive: there may be a notebook in it.

    `part` keeps them as they come: called again after an interruption, this goes on with the notebooks that
    are not in it, or were handed in anew since.
    """
    from tqdm.auto import tqdm

    if folder.is_file():
        what = "an archive: unpack it, and name" if folder.suffix.lower() in ARCHIVES else "a file: name"
        raise ValueError(f"{folder} is {what} the folder")
    paths = notebooks(folder, (".ipynb", *ARCHIVES))
    if not paths:
        raise ValueError(f"there is no notebook in {folder}")
    known, rows = read_part(part), []
    for path in tqdm(paths, unit="notebook"):
        inside = path.relative_to(folder)
        learner = inside.parts[0] if len(inside.parts) > 1 else path.stem  # a folder for each, or a notebook
        stamp = f"{inside} {path.stat().st_mtime_ns}"
        if path.suffix.lower() in ARCHIVES:
            rows.append(Row(learner, path.stem, "", "not run", f"{path.name} is an archive: unpack it"))
            continue
        if stamp not in known:
            try:
                known[stamp] = report(path, time_limit, learner)
            except Exception as error:  # one broken submission never stops the rest: its row says why
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                known[stamp] = [Row(learner, path.stem, "", "not run", why)]
            with part.open("a", encoding="utf-8") as file:
                file.write(json.dumps([stamp, known[stamp]]) + "\n")
        rows += known[stamp]
    return rows


def read_part(part: Path) -> dict[str, list[Row]]:
    """What an interrupted report has already: a notebook's path and time -> its rows."""
    known = {}
    for line in part.read_text(encoding="utf-8").splitlines() if part.is_file() else ():
        try:
            stamp, rows = json.loads(line)
        except ValueError:  # the line that was being written
            continue
        known[stamp] = [Row(*row) for row in rows]
    return known


def main(arguments: list[str] | None = None) -> None:
    """Mark a folder of submitted notebooks: one row for each learner and exercise, as CSV.

    Stopped, by Ctrl-C or otherwise, and called again, it goes on with the notebooks that are left.
    """
    parser = argparse.ArgumentParser("python -m vitlab.checks", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("report", help=main.__doc__, description=main.__doc__, allow_abbrev=False)
    command.add_argument("folder", type=Path, help="a folder for each learner, or a notebook for each")
    command.add_argument("--out", type=Path, default=Path("report.csv"), help="default: report.csv")
    command.add_argument("--time_limit", type=float, default=600, help="seconds a notebook; default: 600")
    options = parser.parse_args(arguments)
    if options.out.is_dir() or not options.out.absolute().parent.is_dir():
        parser.error(f"--out is a file in a folder that is there; got {options.out}")
    if not 0 < options.time_limit < math.inf:
        parser.error(f"--time_limit is a number of seconds above 0; got {options.time_limit}")
    part = options.out.with_name(f"{options.out.name}.part")  # only a whole table replaces another
    try:
        rows = report_folder(options.folder, options.time_limit, part)
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit(f"stopped; {part} has what was marked, and the same command goes on from there")
    with part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([Row._fields, *rows])
    part.replace(options.out)
    correct = sum(row.verdict == "correct" for row in rows)
    print(f"{correct} of {len(rows)} verdicts are correct; wrote {options.out}")
