"""Studies: one measurement under many settings and seeds, kept run by run in one CSV file.

A row has the settings, the results, and what is needed to make it again: the seconds it took, status (done or
failed) and message, the command for this row alone, the commit and the machine.
"""

import argparse
import csv
import io
import itertools
import math
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from vitlab import files
from vitlab.checkpoints import write_whole
from vitlab.runtime import Run, here, start

WORDS = (
    "status",
    "message",
    "command",
    "commit",
    "machine",
)  # not numbers, whatever they look like
RECORD = ("seconds", *WORDS)

Value = str | int | float | bool | None
Row = dict[str, Value]


@dataclass(frozen=True)
class Study:
    """A question, the runs that answer it, and how one of them is measured.

    A run is a dict of plain settings: all runs have the same ones, `seed` among them, and no two are alike.
    `measure(settings, run)` returns a dict of results; PyTorch was seeded with the settings' seed before.
    Raises ValueError for runs that do not fit together, or settings that a CSV file would not give back.

    >>> Study("coin", "Which side?", grid(seed=range(2), sides=[2]), lambda settings, run: {"side": 1}).varied
    ('seed',)
    """

    name: str
    question: str
    runs: list[Row]
    measure: Callable[[Row, Run], Row]

    def __post_init__(self):
        if not self.runs:
            raise ValueError(f"study {self.name} has no runs")
        for settings in self.runs:
            if settings.keys() != self.runs[0].keys() or "seed" not in settings:
                raise ValueError(
                    f"all runs of a study have the same settings, with a seed; study {self.name} has "
                    f"{list(self.runs[0])} and {list(settings)}"
                )
            if taken := settings.keys() & RECORD:
                raise ValueError(f"every row has a column {min(taken)!r} already; name the setting otherwise")
            for name, value in settings.items():
                if read_value(str(value)) != value:
                    raise ValueError(f"a setting is a number or a word; got {name}={value!r}")
        if len({identity(settings) for settings in self.runs}) < len(self.runs):
            raise ValueError(f"two runs of study {self.name} have the same settings")

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the settings."""
        return tuple(self.runs[0])

    @property
    def varied(self) -> tuple[str, ...]:
        """The settings that differ between runs; a few of them say which run is meant."""
        return tuple(name for name in self.settings if len({run[name] for run in self.runs}) > 1)


def grid(**settings: Iterable[Value]) -> list[Row]:
    """All combinations of some settings' values; the last changes fastest.

    >>> grid(seed=range(2), pool=["token", "mean"])[:2]
    [{'seed': 0, 'pool': 'token'}, {'seed': 0, 'pool': 'mean'}]
    """
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]


def run_study(
    study: Study,
    path: str | Path,
    run: Run | None = None,
    only: Mapping[str, Value | list] | None = None,
    rerun_failed: bool = False,
    command: str = "",
    progress: bool = True,
) -> list[Row]:
    """Make the runs that the file at `path` does not have yet, and return all rows that it then has.

    The file is written whole after each run, so that a study can be stopped and started again at any time,
    and several processes can share one, each with its own part of the runs: they write one at a time. A run
    that raises an exception becomes a row with status "failed" and the message, and the next one follows;
    such rows are made again with `rerun_failed`. `only` chooses runs by a setting's value, or a list of
    values. `command` is what makes this study from a shell. Device and precision are those of `run`. Raises
    ValueError for a file that holds other runs than the study's, and where `only` names none.

    >>> import tempfile
    >>> study = Study("squares", "How large?", grid(seed=range(3)), lambda s, run: {"square": s["seed"] ** 2})
    >>> rows = run_study(study, tempfile.mkdtemp() + "/squares.csv", here("cpu", "fp32"), progress=False)
    >>> [row["square"] for row in rows]
    [0, 1, 4]
    """
    from tqdm.auto import tqdm

    run, path, commit = run or here(), Path(path), code_version()
    settled = {"done"} if rerun_failed else {"done", "failed"}
    finished = {identity(row, study.settings) for row in rows_of(study, path) if row["status"] in settled}
    waiting = [settings for settings in chosen(study, only) if identity(settings) not in finished]
    with tqdm(waiting, disable=not progress, unit="run", dynamic_ncols=True) as bar:
        for settings in bar:
            bar.set_description_str(f"{study.name}: {in_words(settings, study.varied)}")
            seeded = start(seed=settings["seed"], device=run.device, precision=run.precision)
            row = settings | measured(study, settings, seeded)
            words = f"{command} --only {in_words(settings, study.varied)}" if command else ""
            add_row(study, path, row | dict(command=words, commit=commit, machine=repr(seeded)))
    return rows_of(study, path)


def measured(study: Study, settings: Row, run: Run) -> Row:
    """One run's results, seconds and status."""
    begin = time.perf_counter()
    try:
        outcome = study.measure(dict(settings), run) | dict(status="done", message="")
    except Exception as error:  # whatever it is, it belongs to this run alone; Ctrl-C is no Exception
        first_line = (str(error).splitlines() or [""])[0]
        outcome = dict(status="failed", message=f"{type(error).__name__}: {first_line}"[:200])
    return outcome | dict(seconds=round(time.perf_counter() - begin, 1))


def chosen(study: Study, only: Mapping[str, Value | list] | None) -> list[Row]:
    """The study's runs whose settings have the values, or one of the values, that `only` gives."""
    wanted = {name: v if isinstance(v, list) else [v] for name, v in (only or {}).items()}
    for name, values in wanted.items():
        if name not in study.settings:
            raise ValueError(f"study {study.name} has the settings {', '.join(study.settings)}; got {name!r}")
        there = list(dict.fromkeys(run[name] for run in study.runs))
        for value in values:
            if value not in there:
                raise ValueError(
                    f"in study {study.name}, {name} is one of {', '.join(map(str, there))}; got {value!r}"
                )
    return [run for run in study.runs if all(run[name] in values for name, values in wanted.items())]


def rows_of(study: Study, path: Path) -> list[Row]:
    """The rows that the study's file has; raises ValueError where it holds runs of other settings."""
    rows = read_rows(path) if path.exists() else []
    own = {identity(settings) for settings in study.runs}
    for row in rows:
        if not row.keys() >= {*study.settings, *RECORD} or identity(row, study.settings) not in own:
            raise ValueError(
                f"{path} has runs that study {study.name} does not have ({in_words(row, list(row)[:8])}, …): "
                "it was made with other settings. Write to another folder, or move the file away"
            )
    return rows


def add_row(study: Study, path: Path, row: Row) -> None:
    """Put one row into the study's file, in the place of the one with the same settings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(path):  # other processes write here too
        write_row(study, path, row)


def write_row(study: Study, path: Path, row: Row) -> None:
    """`add_row` where nobody else writes."""
    rows = {identity(other, study.settings): other for other in rows_of(study, path)}
    rows[identity(row, study.settings)] = row
    places = {identity(settings): place for place, settings in enumerate(study.runs)}
    ordered = sorted(rows.values(), key=lambda row: places[identity(row, study.settings)])
    seen = dict.fromkeys(name for row in ordered for name in row)
    results = [name for name in seen if name not in (*study.settings, *RECORD)]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*study.settings, *results, *RECORD], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(ordered)
    write_whole(path, text.getvalue().encode())


def identity(row: Row, names: Iterable[str] | None = None) -> tuple:
    """What tells a run from the others: the values of its settings (of `names`, where given)."""
    return tuple(row[name] for name in (row if names is None else names))


def in_words(settings: Row, names: Iterable[str]) -> str:
    """Some settings as they are written after --only: "seed=0 images=500"."""
    return " ".join(f"{name}={settings[name]}" for name in names)


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


def code_version() -> str:
    """The commit of this vitlab, with "+" where its code was changed since; without git, its version."""
    from vitlab import __version__

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(files.PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if (files.PACKAGE.parent / "pyproject.toml").is_file():  # else a commit found here is another project's
        try:
            return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "-s", "--", ".") else "")
        except (OSError, subprocess.CalledProcessError):
            pass
    return f"vitlab {__version__}"


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


def add_arguments(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """The options with which a module's command line offers its studies."""
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(names)}")
    add_options(parser)
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every command line for studies has."""
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SETTING=VALUE", help="only the runs with these settings"
    )
    parser.add_argument("--rerun-failed", action="store_true", help="make failed runs again")
    parser.add_argument("--folder", type=Path, default=Path("data/results"), help="default: %(default)s")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="default: the fastest here")


def from_command_line(
    options: argparse.Namespace, studies: Mapping[str, Callable[[], Study]], command: str
) -> None:
    """Do what the options of `add_arguments` say. Raises ValueError for unknown studies and settings."""
    for name in options.names:
        if name not in studies:
            raise ValueError(f"the studies are {', '.join(studies)}; got {name!r}")
    only = read_only(options.only)
    asked = [studies[name]() for name in options.names or studies]
    for study in asked:
        chosen(study, only)  # a misspelt setting is told before the first run, not after an hour
    run = None if options.list else here(precision=options.precision)
    for study in asked:
        path = options.folder / f"{study.name}.csv"
        if run:
            run_study(study, path, run, only, options.rerun_failed, f"{command} {study.name}")
        print(report(study, path))


def read_only(pairs: Iterable[str]) -> dict[str, list]:
    """What --only says: for each setting the values asked for.

    >>> read_only(["seed=0", "seed=1", "pool=mean"])
    {'seed': [0, 1], 'pool': ['mean']}
    """
    only: dict[str, list] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--only takes SETTING=VALUE, such as seed=0; got {pair!r}")
        only.setdefault(name, []).append(read_value(text))
    return only


def report(study: Study, path: Path) -> str:
    """A study in one line: its question, and how far its file has come."""
    states = [row["status"] for row in rows_of(study, path)]
    done, failed = states.count("done"), states.count("failed")
    return (
        f"{study.name} ({study.question}): {done} of {len(study.runs)} runs done, {failed} failed, in {path}"
    )
