"""The learner's own record of what was tried, in one small file that stays on the learner's machine.

`progress.json` lies in the folder that the environment variable VITLAB_HOME names, else in `~/.vitlab`. It is
plain text, such as `{"exercises": {"1.1": "correct"}, "predictions": {"1.a": "wrong"}, "quiz": {}, "best":
{"1.6": 12.0}}`; `best` has the best number so far of each open task. Nothing here raises because of the file:
a lesson goes on without it, and is told so once.
"""

import contextlib
import copy
import json
import os
import tempfile
from pathlib import Path

KINDS = ("exercises", "predictions", "quiz")
RIGHT = ("correct", "right")

Records = dict[str, dict[str, str | float]]

_said: set[str] = set()


def place(folder: str | Path | None = None) -> Path:
    """The path of progress.json: in `folder`, else in VITLAB_HOME, else in `~/.vitlab`."""
    folder = folder or os.environ.get("VITLAB_HOME") or "~/.vitlab"
    return Path(folder).expanduser() / "progress.json"


def record(kind: str, id: str, result: str) -> str:
    """Note one result; returns what the learner should be told about the file, mostly nothing.

    An exercise that was once correct stays so; of a question, the first answer counts.
    """

    def change(records):
        before = records[kind].get(id)
        settled = before == "correct" if kind == "exercises" else before is not None
        if not settled:
            records[kind][id] = result

    return _change(change)


def record_best(id: str, number: float, larger_wins: bool) -> tuple[float, str]:
    """Note a number; returns the best so far of this open task, and what to tell about the file."""
    best = number

    def change(records):
        nonlocal best
        better = max if larger_wins else min
        best = records["best"][id] = better(number, records["best"].get(id, number))

    note = _change(change)
    return best, note


def _change(change) -> str:
    """Change the records in the file, if that changes anything; returns what to say, once."""
    try:
        path = place()
        records, note = load(path)
        before = copy.deepcopy(records)
        change(records)
        if records != before:
            save(path, records)
    except (OSError, RuntimeError) as error:  # a home that cannot be written to, or none at all
        note = f"Your progress could not be kept: {error}. The lesson goes on without it."
    if note in _said:
        return ""
    _said.add(note)
    return note


def load(path: Path) -> tuple[Records, str]:
    """The records in a file, and what to say about it. What is damaged is set aside, never overwritten."""
    try:
        return parse(path.read_text(encoding="utf-8")), ""
    except FileNotFoundError:
        return parse("{}"), ""
    except (ValueError, RecursionError) as error:
        aside = free_name(path)
        os.replace(path, aside)
        words = f"{path} could not be read ({error}). It was set aside as {aside.name}, and a new one begun."
        return parse("{}"), words


def parse(text: str) -> Records:
    """The records in the text of a file; ValueError says what is wrong with it."""
    found = json.loads(text)
    for kind in KINDS:
        part = found.setdefault(kind, {}) if isinstance(found, dict) else None
        if not isinstance(part, dict) or not all(isinstance(result, str) for result in part.values()):
            raise ValueError(f"{kind!r} is not a table of names and words")
    best = found.setdefault("best", {})
    if not isinstance(best, dict) or not all(type(number) in (int, float) for number in best.values()):
        raise ValueError("'best' is not a table of names and numbers")
    return found


def save(path: Path, records: Records) -> None:
    """Write the records in one step."""
    write(path, json.dumps(records, indent=2, sort_keys=True) + "\n")


def write(path: Path, text: str) -> None:
    """Write the whole file in one step: who reads it meanwhile sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def free_name(path: Path) -> Path:
    """progress.damaged.json, or with the first number that is free."""
    names = ["progress.damaged.json", *(f"progress.damaged-{number}.json" for number in range(2, 1000))]
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())
