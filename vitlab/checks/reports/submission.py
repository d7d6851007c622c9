"""A submitted notebook: its cells, and what its checks say when it is run from the top."""

import ast
import json
import re
import tempfile
import time
from bisect import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vitlab.checks.reports.kernel import NoKernel, Result, fresh_kernel

CALL = re.compile(r"""\bcheck\(\s*["'](\d+\.\d+)["']\s*,""")  # how it begins
# Brackets, and comments and strings, in which they do not count.
PIECES = re.compile(
    r"""\(|\)|\[|\]|\{|\}|#[^\n]*|\"\"\"(?:\\.|[^\\])*?(?:\"\"\"|\Z)|'''(?:\\.|[^\\])*?(?:'''|\Z)"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.DOTALL,
)
NESTED = 200  # brackets in each other are as many as Python reads
LINE = 1000  # letters that are kept of a call without an end
IMPORT = "from vitlab.checks import check"
VERDICT = re.compile(r"^Exercise \S+: (not attempted|correct|not yet)[. ]*(.*)$", re.MULTILINE)


class Cell(NamedTuple):
    """A code cell: its place in the file, counted from 1, its code, and the exercise if it is a check."""

    number: int
    source: str
    exercise: str = ""

    def __str__(self):
        if self.exercise:
            return f"cell {self.number}, the check of {self.exercise}"
        lines = [line.strip() for line in self.source.splitlines()]
        told = next((line for line in lines if line and not line.startswith("#")), "")
        return f"cell {self.number}, `{told[:60]}`"


def read_cells(path: Path) -> list[Cell]:
    """The cells that judging takes: without the folded solutions and what follows the last check.

    Every check is called anew, so that a `check` of the learner's own does not count; what else is in its
    cell is run before it. Where Python cannot read a call, and there is no other of the same exercise, it is
    left as it is written: run, it says why. All encodings of JSON are read, with a byte-order mark or
    without. Raises ValueError for a file that is no notebook or has no exercise.
    """
    import nbformat

    try:
        loaded = json.loads(path.read_bytes())
        if not isinstance(loaded, dict) or "nbformat" not in loaded:
            raise ValueError("it does not say which format of notebooks it has")
        notebook = nbformat.reads(json.dumps(loaded), as_version=4)
        code = [
            (number, cell.source)
            for number, cell in enumerate(notebook.cells, start=1)
            if cell.cell_type == "code" and "solution" not in (cell.get("metadata", {}).get("tags") or [])
        ]
    except Exception as error:  # whatever is wrong with a damaged file, nbformat finds many words for it
        raise ValueError(f"{path} is no notebook: {error}") from error
    cells, known, unread = [], {""}, {}
    for number, source in code:
        calls = [(exercise, answer) for exercise, answer in checked_in(source) if exercise not in known]
        code = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("#"))
        if code.strip() and not (calls and only_checks(code)):
            cells.append(Cell(number, source))
        for exercise, answer in calls:
            if exercise not in known:
                known.add(exercise)
                cells.append(Cell(number, f'{IMPORT}\ncheck("{exercise}", {answer})', exercise))
        for exercise, call in unread_in(source):
            if exercise not in unread:
                unread[exercise] = Cell(number, f"{IMPORT}\n{call}", exercise)
                cells.append(unread[exercise])
    cells = [cell for cell in cells if cell.exercise not in known or cell not in unread.values()]
    while cells and not cells[-1].exercise:
        cells.pop()
    if not cells:
        raise ValueError(f"{path} has no exercise: no cell calls check(…)")
    return cells


def checked_in(source: str) -> list[tuple[str, str]]:
    """Exercise and answers, as code, of each check in a cell but those of solutions; in comments, too.

    >>> checked_in('check("1.1", lambda x, p: f(x, (p, p)))  # mine')
    [('1.1', 'lambda x, p: f(x, (p, p))')]
    """
    found = []
    for exercise, text, call in calls_in(source):
        if call is None or not 2 <= len(call.args) <= 3 or any(isinstance(a, ast.Starred) for a in call.args):
            continue
        keywords = {each.arg: each.value for each in call.keywords}
        solution = isinstance(yours := keywords.get("yours"), ast.Constant) and yours.value is False
        if keywords.keys() <= {"yours"} and not solution:
            answers = [ast.get_source_segment(text, each) for each in call.args[1:]]
            found.append((exercise, ", ".join(answers)))
    return found


def unread_in(source: str) -> list[tuple[str, str]]:
    """Exercise and call, as it is written, of each check in a cell that Python cannot read.

    >>> unread_in('check("1.1", patchify')
    [('1.1', 'check("1.1", patchify')]
    """
    return [(exercise, text) for exercise, text, call in calls_in(source) if call is None]


def calls_in(source: str) -> Iterator[tuple[str, str, ast.Call | None]]:
    """Of each check in a cell the exercise, the text up to the bracket that closes it, and what Python makes
    of that: None where it cannot be read, or no bracket closes it, and the text is the first of its line.
    Takes time as the cell is long, whatever is in it.
    """
    within = [piece.span() for piece in PIECES.finditer(source) if piece[0][0] in "#'\""]
    start = CALL.search(source)
    while start:
        begin, place = start.start(), bisect(within, (start.start(), 0)) - 1
        inside = place >= 0 and begin < within[place][1]  # of a comment or a string, whose end is the call's
        last = within[place][1] if inside else len(source)
        end, deep = closing(source, begin, last)
        text = source[begin:end] if end else source[begin : begin + LINE].partition("\n")[0]
        call = parsed(text, "eval") if end else None
        yield start[1], text, call and call.body
        start = CALL.search(source, last if deep else end if call else start.end())


def closing(source: str, begin: int, last: int) -> tuple[int | None, bool]:
    """Where the first bracket between `begin` and `last` is closed, or None; and whether too many are open.

    >>> closing("f(')', [1])", 0, 11)
    (11, False)
    """
    depth = 0
    for piece in PIECES.finditer(source, begin, last):
        depth += (piece[0] in "([{") - (piece[0] in ")]}")
        if depth == 0 and piece[0] in ")]}":
            return piece.end(), False
        if depth > NESTED:
            return None, True
    return None, False


def parsed(code: str, mode: str = "exec") -> ast.AST | None:
    """What Python reads in code; None where it cannot, such as in a line for IPython alone."""
    try:
        return ast.parse(code, mode=mode)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two of what is nested too deep
        return None


def only_checks(code: str) -> bool:
    """Whether a cell has nothing but calls of `check`."""
    module = parsed(code)
    if module is None:
        return False
    statements = module.body
    calls = [each.value for each in statements if isinstance(each, ast.Expr)]
    called = [call.func for call in calls if isinstance(call, ast.Call)]
    names = {getattr(each, "attr", getattr(each, "id", "")) for each in called}
    return len(called) == len(statements) and names == {"check"}


def judge(cells: list[Cell], time_limit: float) -> dict[str, tuple[str, str]]:
    """Exercise -> verdict and diagnosis, of all that `cells` check.

    A cell that was ended is named with the next exercise, and with each that was not run.
    """
    results, stopped = run(cells, time_limit)
    judged, ended, since = {}, [], 0
    for i, cell in enumerate(cells):
        result = results.get(i, Result(error=stopped))
        if result.ended:
            ended.append(f"{cell}: {result.ended}")
        if cell.exercise:
            verdict, diagnosis = outcome(result)
            named = ended if verdict == "not run" else ended[since:]
            more = [f"and {len(named) - 3} more"] if len(named) > 3 else []
            judged[cell.exercise] = verdict, "; ".join(filter(None, [diagnosis, *named[:3], *more]))
            since = len(ended)
    return judged


def outcome(result: Result) -> tuple[str, str]:
    """Verdict and diagnosis of a check that was run."""
    if found := VERDICT.findall(result.printed):
        return found[-1]
    return "not run", "" if result.ended else result.error or "the check said nothing"


def run(cells: list[Cell], time_limit: float) -> tuple[dict[int, Result], str]:
    """What each cell gave, by its place among `cells`, and why the others were not reached.

    A cell may take its share of the time that is left: that, divided by the exercises to come and one more.
    Where a kernel dies, the rest is run in a new one, after the cells before it, but for those that were
    ended and the checks that have their verdict. `time_limit` counts from the first kernel's start.
    """
    results, end = {}, None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        while waiting(cells, results):
            try:
                with fresh_kernel(Path(folder)) as kernel:
                    end = end or time.monotonic() + time_limit
                    for i, cell in enumerate(cells):
                        if i in results and (cell.exercise or results[i].ended):
                            continue
                        left = end - time.monotonic()
                        if left <= 0:
                            return results, f"stopped after {time_limit:.0f} seconds"
                        share = max(1, left / (waiting(cells, results) + 1))
                        results[i] = kernel.run(cell.source, share)
                        if results[i].died:
                            break
            except NoKernel as error:
                return results, str(error)
    return results, ""


def waiting(cells: list[Cell], results: dict[int, Result]) -> int:
    """How many exercises are still to be judged."""
    return sum(bool(cell.exercise) and i not in results for i, cell in enumerate(cells))
