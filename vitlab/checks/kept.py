"""What the learner wrote, kept from one notebook to the next: `mine.py`, beside progress.json.

When a check finds an answer right, its source goes into that file, one section an exercise, with the imports
and helpers that it needs. The file is plain Python, to be read and edited. Nothing runs it unasked: only
`assemble` and `mine` do, when they are called. Nothing here raises because of the file or of what an answer
is: a lesson goes on without it, and says so.
"""

import datetime
import html
import re
from pathlib import Path
from typing import NamedTuple

from vitlab.checks.engine import records
from vitlab.checks.sources import Source, source_of
from vitlab.files import locked

HEAD = (
    "# What you wrote in the exercises of the course, kept when a check found it right. Nothing runs this\n"
    "# file unasked. vitlab.checks.parts() shows it, vitlab.checks.remove_parts() empties it. Sections may\n"
    "# be edited; what is written above the first of them is lost.\n"
)
PATIENCE = 10  # seconds to wait for another notebook that is writing
SECTION = re.compile(r"^# %% exercise (\d+\.\d+) · ([\w.]+) · (\d{4}-\d\d-\d\d \d\d:\d\d)$", re.MULTILINE)

# Answers that a check of this session found right: they need no file.
_session: dict[str, object] = {}
_said: set[str] = set()  # what was said of the file: once is enough


class Part(NamedTuple):
    """One section: the exercise, what its answer is called, when it was kept, and its source."""

    id: str
    name: str
    when: str
    text: str

    @property
    def source(self) -> Source:
        return Source(self.name, self.text)


class Parts(tuple):
    """Parts, shown as a table with each source under it; `path` is the file, `note` what there is to say."""

    path: Path | None = None
    note: str = ""

    def __repr__(self):
        shown = [f"# {part.id} · {part.name} · {part.when}\n{part.text.rstrip()}" for part in self]
        return "\n\n\n".join([self.note] * bool(self.note) + (shown or ["nothing of yours is kept yet"]))

    def _repr_html_(self):
        lines = [html.escape(self.note)] * bool(self.note) + ["nothing of yours is kept yet"] * (not self)
        for part in self:
            title = html.escape(f"{part.id} · {part.name} · {part.when}")
            code = f"<pre>{html.escape(part.text.rstrip())}</pre>"
            lines.append(f"<details><summary>{title}</summary>{code}</details>")
        return "".join(f"<div>{line}</div>" for line in lines)


def parts(id: str | None = None, folder: str | Path | None = None) -> Parts:
    """What you wrote and a check found right: of one exercise, or all; which, when, and the source.

    It is read from mine.py in `folder`, else where VITLAB_HOME points, else in `~/.vitlab`; nothing of it is
    run. `remove_parts` takes out one or all.

    >>> parts(folder="a_new_folder")
    nothing of yours is kept yet
    """
    found, path, note = [], None, ""
    try:
        path = place(folder)
        found = read(path)
    except (OSError, RuntimeError, ValueError) as error:  # no right to read it, no home, or no text
        note = f"What you wrote could not be read: {error}"
    shown = Parts(part for part in found if id is None or part.id == id)
    shown.path, shown.note = path, note
    return shown


def remove_parts(id: str | None = None, folder: str | Path | None = None) -> None:
    """Take what you wrote for one exercise, or for all, out of mine.py; `restore_parts` puts it back.

    Progress stays as it is. Raises ValueError for an exercise of which nothing is kept.

    >>> remove_parts(folder="a_new_folder")
    0 parts removed
    """
    path = place(folder)
    with locked(path).acquire(timeout=PATIENCE):
        found = read(path)
        gone = [part for part in found if id is None or part.id == id]
        if id is not None and not gone and id not in _session:
            kept = ", ".join(part.id for part in found) or "none"
            raise ValueError(f"nothing is kept of exercise {id}; there is: {kept}")
        if gone:
            write(aside(path), gone)
            write(path, [part for part in found if part not in gone])
    for each in list(_session):
        if id is None or each == id:
            del _session[each]
    print(f"{len(gone)} part{'s' * (len(gone) != 1)} removed" + "; restore_parts() undoes it" * bool(gone))


def restore_parts(folder: str | Path | None = None) -> None:
    """Put back what `remove_parts` took out last, but for exercises that were kept anew since.

    >>> restore_parts(folder="a_new_folder")
    0 parts restored
    """
    path = place(folder)
    with locked(path).acquire(timeout=PATIENCE):
        found = read(path)
        back = [part for part in read(aside(path)) if part.id not in {each.id for each in found}]
        if back:
            write(path, found + back)
    print(f"{len(back)} part{'s' * (len(back) != 1)} restored")


def keep(id: str, answer) -> str:
    """Keep an answer that a check found right; returns what the learner should be told, mostly nothing."""
    if not callable(answer):
        return ""
    _session[id] = answer
    try:
        source = source_of(answer)
        if SECTION.search(source.text):
            raise ValueError("a line in it looks like the beginning of a section of mine.py")
    except (ValueError, RecursionError) as error:
        return f"(Right, but not kept for other notebooks: {error}.)"
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    try:
        path = place()
        with locked(path).acquire(timeout=PATIENCE):
            found = read(path)
            if any((part.id, part.source) == (id, source) for part in found):
                return ""
            write(path, [part for part in found if part.id != id] + [Part(id, source.name, now, source.text)])
    except (OSError, RuntimeError, ValueError) as error:
        note = f"(Right, but not kept for other notebooks: {error}.)"
        if note not in _said:
            _said.add(note)
            return note
    return ""


def kept_in_session(id: str):
    """An answer that a check of this session found right, or None."""
    return _session.get(id)


def place(folder: str | Path | None = None) -> Path:
    """The path of mine.py, beside progress.json."""
    return records.place(folder).with_name("mine.py")


def aside(path: Path) -> Path:
    """Where what was removed last is kept."""
    return path.with_name("mine.removed.py")


def read(path: Path) -> list[Part]:
    """The parts in a file, in the order of the exercises; none where there is no file."""
    try:
        pieces = SECTION.split(path.read_text(encoding="utf-8"))[1:]
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8; move it away, and a new one will be begun") from error
    found = [Part(*pieces[i : i + 3], pieces[i + 3].strip("\n") + "\n") for i in range(0, len(pieces), 4)]
    return sorted(found, key=order)


def write(path: Path, found: list[Part]) -> None:
    """Write the file in one step, the parts in the order of the exercises."""
    sections = [
        f"# %% exercise {part.id} · {part.name} · {part.when}\n{part.text}"
        for part in sorted(found, key=order)
    ]
    records.write(path, "\n\n".join([HEAD, *sections]))


def order(part: Part) -> tuple[int, ...]:
    """Exercises in the order of the course."""
    return tuple(map(int, part.id.split(".")))
