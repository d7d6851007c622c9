"""A study's runs: which there are, and making those that its file does not have yet."""

import csv
import io
import itertools
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitlab import files
from vitlab.checkpoints import write_whole
from vitlab.runtime import Run, here, start
from vitlab.studies.rates import with_edges
from vitlab.studies.rows import RECORD, Row, Value, identity, in_words, read_rows, read_value


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
    ordered = with_edges(ordered, study.varied)
    seen = dict.fromkeys(name for row in ordered for name in row)
    results = [name for name in seen if name not in (*study.settings, *RECORD)]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*study.settings, *results, *RECORD], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(ordered)
    write_whole(path, text.getvalue().encode())


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
