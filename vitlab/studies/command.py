"""The options with which a module's command line offers its studies, and what they do."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vitlab.runtime import here
from vitlab.studies.rows import read_value
from vitlab.studies.running import Study, chosen, rows_of, run_study


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
