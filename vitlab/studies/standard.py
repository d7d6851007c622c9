"""What the results of a study must say before anything is claimed from them, and what a file lacks.

Each rule looks at a whole CSV file and says in a sentence what is missing. A file cannot say which of its
columns are settings; its commands can, as each names the settings that tell its run from the others.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vitlab.studies.rates import (
    AT_EDGE,
    KEPT_BACK,
    RATES,
    best_rate,
    is_seed,
    judge_of,
    rate_of,
    rates_tried,
    with_edges,
)
from vitlab.studies.rows import RECORD, Row, identity, in_words, read_rows, read_value

FEWEST_SEEDS = 3  # of a deviation; a claim of a small difference wants more
FEWEST_RATES = 3  # of two, either is at an edge
TUNED_IN = "tuned_in"  # a column: in which results, of the same folder, a run's rate was chosen


def shortcomings(path: str | Path) -> dict[str, str]:
    """What a study's CSV file lacks: rule -> a sentence; empty where it lacks nothing.

    The rules: every row is done, and its command, commit and machine are told ("record"), the commit being
    one whose code can be had ("commit"); seeds are named ("seeds"); each arm has enough of them for a
    deviation, or each score an interval and its number of images ("spread"); differences can be paired, by
    seed or over images ("pairs"); each arm that was trained has a grid of rates of its own ("rates"), judged
    on images kept back ("kept back"), and a best one at the grid's edge is told in its rows ("edge"). Raises
    ValueError for a file without rows, or with a row that was cut off.

    >>> from vitlab import files
    >>> shortcomings(files.find("results/pooling.csv"))
    {}
    """
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path} has no rows")
    if missing := [name for name in RECORD if name not in rows[0]]:
        return {"record": f"there is no column {missing[0]}, without which no row can be made again"}
    results = Results(rows, Path(path).parent)
    return {name: said for name, rule in RULES.items() if (said := rule(results))}


@dataclass(frozen=True)
class Results:
    """The rows of a CSV file, the folder it lies in, and what can be told from them."""

    rows: list[Row]
    folder: Path

    @cached_property
    def seeds(self) -> list[str]:
        """The columns that hold seeds."""
        return [name for name in self.rows[0] if is_seed(name)]

    @cached_property
    def varied(self) -> list[str]:
        """The settings, named by commands, that differ between rows."""
        named = dict.fromkeys(name for row in self.rows for name in settings_named(row))
        return [name for name in named if name in self.rows[0] and len({row[name] for row in self.rows}) > 1]

    @cached_property
    def compared(self) -> list[str]:
        """The varied settings that are compared, rates included: no seed, and no name of a seed's model."""
        return [name for name in self.varied if not is_seed(name) and not self.names_a_model(name)]

    def names_a_model(self, name: str) -> bool:
        """Whether a setting tells models of several seeds apart and nothing else, as a checkpoint may."""
        seeds = [seed for seed in self.seeds if seed != "seed"]  # that one is the run's own
        pairs = {(identity(row, seeds), row[name]) for row in self.rows}
        return len(pairs) == len({seed for seed, _ in pairs}) == len({value for _, value in pairs})

    @cached_property
    def seeds_of_arms(self) -> dict[tuple, set[tuple]]:
        """Arm, its rate included -> its seeds."""
        found: dict[tuple, set[tuple]] = {}
        for row in self.rows:
            found.setdefault(identity(row, self.compared), set()).add(identity(row, self.seeds))
        return found

    @cached_property
    def intervals(self) -> list[str]:
        """The scores that have an interval."""
        return [name.removesuffix("_low") for name in self.rows[0] if name.endswith("_low")]

    def words(self, row: Row) -> str:
        """A row's arm, its rate included, in words."""
        return in_words(row, self.compared) or "the study"

    def arm(self, row: Row) -> str:
        """A row's arm in words, without its rate."""
        return in_words(row, [name for name in self.compared if name not in RATES]) or "the study"


def settings_named(row: Row) -> Row:
    """The settings that a row's command names: its options, and what stands after --only.

    >>> settings_named(dict(command="python -m lab study --images 20 --only seed=1 pool=mean"))
    {'images': 20, 'seed': 1, 'pool': 'mean'}
    """
    named, option = {}, None
    for word in shlex.split(row["command"]):
        name, equals, text = word.partition("=")
        if word.startswith("--"):
            option = word[2:]
        elif option == "only" and equals:
            named[name] = read_value(text)
        elif option:
            named[option], option = read_value(word), None
    return named


def record(results: Results) -> str | None:
    """Every row is done, and made again by its command, with the code and on a machine that it names."""
    for number, row in enumerate(results.rows, 1):
        if row["status"] != "done":
            return f"row {number} is {row['status'] or 'without a status'}: {row['message']}"
        for name in ("command", "commit", "machine"):
            if not row[name]:
                return f"row {number} does not say its {name}"
        _, _, only = row["command"].partition("--only")
        for name, value in settings_named(dict(command=f"--only {only}")).items():
            if row.get(name) != value:
                return f"row {number} has {name}={row.get(name)}, and a command that makes {name}={value}"
    return None


def commit(results: Results) -> str | None:
    """The code that made each row can be had."""
    unclear = [row["commit"] for row in results.rows if not re.fullmatch("[0-9a-f]{12,40}", row["commit"])]
    if unclear:
        return (
            f"{len(unclear)} of {len(results.rows)} rows were made with code that is in no commit "
            f"({unclear[0]}); make them in a clean checkout"
        )
    return None


def seeds(results: Results) -> str | None:
    """A column names each row's seed."""
    if not results.seeds:
        return "no column names a seed"
    for number, row in enumerate(results.rows, 1):
        for name in results.seeds:
            if not isinstance(row[name], int):
                return f"row {number} has {name}={row[name]}, which is no seed"
    return None


def spread(results: Results) -> str | None:
    """Each arm has enough seeds for a deviation, or its scores intervals over a number of images."""
    for name in results.intervals:
        for number, row in enumerate(results.rows, 1):
            ends = row[f"{name}_low"], row.get(name), row.get(f"{name}_high")
            if all(end is None for end in ends):
                continue  # this score is not for this row
            if None in ends or not ends[0] <= ends[1] <= ends[2]:
                return f"row {number} has no interval of {name} that holds it: {ends}"
            if not isinstance(row.get("images"), int) or row["images"] < 2:
                return f"row {number} has intervals over {row.get('images')} images"
    if results.intervals:
        return None
    for row in results.rows:
        count = len(results.seeds_of_arms[identity(row, results.compared)])
        if count < FEWEST_SEEDS:
            return f"{results.words(row)} has {count} of at least {FEWEST_SEEDS} seeds, and no interval"
    return None


def pairs(results: Results) -> str | None:
    """Differences between arms are there with intervals, or can be taken seed by seed."""
    if results.intervals:
        if not any("_over_" in name for name in results.intervals):
            return "there are intervals of scores, and none of a difference to a rival on the same images"
        return None
    arms = results.seeds_of_arms
    if len({frozenset(each) for each in arms.values()}) > 1:
        every = set.union(*arms.values())
        for row in results.rows:
            if missing := every - arms[identity(row, results.compared)]:
                seed = min(missing, key=str)[-1]
                return f"{results.words(row)} has no row with seed {seed}, which others have"
    return None


def rates(results: Results) -> str | None:
    """Each arm that was trained has rates of its own to choose from, here or in the results it names."""
    if one_training(results):
        return None
    for tried in rates_tried(results.rows, results.varied).values():
        row = next(iter(tried.values()))[0]
        if len(tried) >= FEWEST_RATES:
            continue
        if not row.get(TUNED_IN):
            every = ", ".join(map(str, tried))
            return f"{results.arm(row)} was tried with {every} alone, of at least {FEWEST_RATES} rates"
        if said := not_tuned(results, row):
            return said
    return None


def one_training(results: Results) -> bool:
    """Whether all rows of a seed are of one trained model, so that no arm could have a rate of its own."""
    judge = judge_of(results.rows)
    if judge is None:
        return False
    found = {(identity(row, results.seeds), row[judge]) for row in results.rows}
    return len(found) == len({seed for seed, _ in found}) < len(results.rows)


def not_tuned(results: Results, row: Row) -> str | None:
    """Why a row's rate is not the best of those that the results it names have for its arm."""
    path = results.folder / f"{row[TUNED_IN]}.csv"
    if not path.is_file():
        return f"{results.arm(row)} has a rate chosen in {path.name}, which is not there"
    other = Results(read_rows(path), results.folder)
    judge = judge_of(other.rows)
    shared = [name for name in results.compared if name in other.compared and name not in RATES]
    same = [each for each in other.rows if identity(each, shared) == identity(row, shared)]
    judged = [each for each in same if each.get(judge) is not None]
    grids = list(rates_tried(judged, other.varied).values())
    if len(grids) != 1 or len(grids[0]) < FEWEST_RATES:
        return f"{path.name} has not one grid of rates for {in_words(row, shared) or 'the study'}"
    best = best_rate(grids[0], judge)
    if best != rate_of(row):
        return f"{results.arm(row)} has rate {rate_of(row)}, and {path.name} has {best} as the best"
    return None


def kept_back(results: Results) -> str | None:
    """Where rates are chosen among, they are judged on images that are not those of the test."""
    several = any(len(tried) > 1 for tried in rates_tried(results.rows, results.varied).values())
    if several and not one_training(results) and judge_of(results.rows) not in KEPT_BACK:
        return f"rates are chosen among, and no column is {' or '.join(KEPT_BACK)}"
    return None


def edge(results: Results) -> str | None:
    """Where the best rate is the least or the largest tried, the rows say so."""
    untold = [{name: row[name] for name in row if name != AT_EDGE} for row in results.rows]
    for row, true in zip(results.rows, with_edges(untold, results.varied), strict=True):
        said, at_edge = row.get(AT_EDGE), true.get(AT_EDGE)
        if said != at_edge and (at_edge or AT_EDGE in row):
            return f"{results.arm(row)}: {AT_EDGE} is {at_edge}, and the row says {said}"
    return None


RULES: dict[str, Callable[[Results], str | None]] = {
    rule.__name__.replace("_", " "): rule
    for rule in (record, commit, seeds, spread, pairs, rates, kept_back, edge)
}
