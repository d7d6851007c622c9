"""`check` and `verdict`: from an exercise's id and an answer to one line, and to what is kept of it."""

from vitlab.checks.engine import records
from vitlab.checks.engine.faults import judge_fault
from vitlab.checks.engine.goals import best_words, judge_entry
from vitlab.checks.engine.judging import judge
from vitlab.checks.engine.kinds import Exercise, FindTheFault, OpenTask, Verdict
from vitlab.checks.engine.lessons import find
from vitlab.checks.kept import keep

# Answers that the course gave itself: once a solution's cell has been run, `patchify` is the solution's.
_shown: list = []

JUDGES = {Exercise: judge, FindTheFault: judge_fault, OpenTask: judge_entry}


def check(id: str, *answer, yours: bool = True) -> None:
    """Print the verdict on `answer`, the learner's function or value, as one line.

    Of a fault to be found there are two answers, the line's number and the mended function. With
    `yours=False`, as in the folded solutions, the answer does not count as the learner's progress, now or
    when it is checked again.

    >>> check("1.3", (4, 8), yours=False)
    Exercise 1.3: not yet. Pass the function itself, not its result: this is (4, 8).
    """
    answer = answer[0] if len(answer) == 1 else answer
    found = verdict(id, answer)
    counts = yours and found.status != "not attempted" and not _was_shown(answer)
    if not yours:
        _shown.append(answer)
    notes = _keep(found, answer) if counts else [str(found)]
    print("\n".join(notes))


def verdict(id: str, answer, seed: int = 0) -> Verdict:
    """Judge `answer` on the cases that `seed` draws; a fault's answer is the pair `(line, mended)`.

    >>> str(verdict("1.1", None))
    'Exercise 1.1: not attempted'
    """
    exercise = find(id)
    return JUDGES[type(exercise)](exercise, answer, seed)


def _keep(found: Verdict, answer) -> list[str]:
    """Note a verdict among the learner's records, and a right answer's source; returns what to print."""
    line, notes = str(found), []
    if found.measured is not None:
        task = find(found.id)
        best, note = records.record_best(task.id, found.measured, task.larger_wins)
        line, notes = f"{line} {best_words(task, best)}", [note]
    notes.append(records.record("exercises", found.id, found.status))
    if found.status == "correct" and type(find(found.id)) is Exercise:
        notes.append(keep(found.id, answer))
    return [line, *filter(None, notes)]


def _was_shown(answer) -> bool:
    """Whether the course gave this very object itself; of a pair, the function counts."""
    return any(_last(answer) is _last(other) for other in _shown)


def _last(answer):
    return answer[-1] if isinstance(answer, tuple) and answer and callable(answer[-1]) else answer
