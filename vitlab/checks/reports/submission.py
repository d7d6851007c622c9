"""A submitted notebook: its cells, and what its checks say when it is run from the top."""

import ast
import json
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from vitlab.checks.reports.kernel import NoKernel, Result, fresh_kernel

CALL = re.compile(r"""\bcheck\(\s*["']\d+\.\d+["']\s*,""")  # how it begins
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
    cell is run before it. All encodings of JSON are read, with a byte-order mark or without. Raises
    ValueError for a file that is no notebook or has no exercise.
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
    cells, known = [], {""}
    for number, source in code:
        calls = [(exercise, answer) for exercise, answer in checked_in(source) if exercise not in known]
        code = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("#"))
        if code.strip() and not (calls and only_checks(code)):
            cells.append(Cell(number, source))
        for exercise, answer in calls:
            if exercise not in known:
                known.add(exercise)
                again = f'from vitlab.checks import check\ncheck("{exercise}", {answer})'
                cells.append(Cell(number, again, exercise))
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
    for start in CALL.finditer(source):
        call = call_at(source[start.start() :])
        if call is None or not 2 <= len(call.args) <= 3 or any(isinstance(a, ast.Starred) for a in call.args):
            continue
        keywords = {each.arg: each.value for each in call.keywords}
        solution = isinstance(yours := keywords.get("yours"), ast.Constant) and yours.value is False
        if keywords.keys() <= {"yours"} and not solution:
            found.append((call.args[0].value, ", ".join(map(ast.unparse, call.args[1:]))))
    return found


def call_at(code: str) -> ast.Call | None:
    """The call with which code begins, up to the first bracket that closes it; None where none does."""
    for end in re.finditer(r"\)", code):
        try:
            parsed = ast.parse(code[: end.end()], mode="eval").body
        except (SyntaxError, ValueError):
            continue
        return parsed if isinstance(parsed, ast.Call) else None
    return None


def only_checks(code: str) -> bool:
    """Whether a cell has nothing but calls of `check`."""
    try:
        statements = ast.parse(code).body
    except (SyntaxError, ValueError):  # such as a line for IPython alone
        return False
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
