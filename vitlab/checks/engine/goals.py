"""Judge an entry to an open task: it is measured, and the number is set beside the goal."""

import math
from functools import partial

import torch

from vitlab.checks.engine.judging import not_a_function
from vitlab.checks.engine.kinds import OpenTask, Refused, Verdict
from vitlab.checks.engine.limits import limited
from vitlab.checks.engine.running import attempt
from vitlab.checks.engine.source import one_line


def judge_entry(task: OpenTask, answer, seed: int = 0) -> Verdict:
    """The verdict on an entry, measured with the generator that `seed` makes."""
    if answer is None or answer is ...:
        return Verdict(task.id, "not attempted")
    if callable(task.best) and not callable(answer):
        return Verdict(task.id, "not yet", not_a_function(answer))
    outcome = attempt(partial(limited, partial(_measure, task, answer, seed), task.seconds))
    if outcome.stub:
        return Verdict(task.id, "not attempted")
    if outcome.error:
        return Verdict(task.id, "not yet", one_line(f"Your code {outcome.error}.", limit=1000))
    measured, refusal = outcome.value
    if refusal:
        return Verdict(task.id, "not yet", one_line(f"This entry does not count: {refusal}"), refusal)
    status = "correct" if task.reached(measured) else "not yet"
    at = "at least" if task.larger_wins else "at most"
    words = f"{_said(task, measured)}; the goal is {at} {_said(task, task.goal)}."
    words = words[0].upper() + words[1:]
    return Verdict(task.id, status, words, measured=measured)


def _measure(task, answer, seed) -> tuple[float, str]:
    """The number and "", or the reason why there is none."""
    try:
        entry = partial(_called, answer) if callable(answer) else answer
        measured = float(task.measure(entry, torch.Generator().manual_seed(seed)))
    except Refused as error:
        return math.nan, str(error)
    return measured, "" if math.isfinite(measured) else f"what it measures is {measured}, no finite number."


def _called(answer, *arguments):
    """What an entry gives; it has to give something."""
    given = answer(*arguments)
    if given is None:
        raise Refused("your code gives None: is a `return` missing?")
    return given


def best_words(task: OpenTask, best: float) -> str:
    """What to say of the learner's best so far."""
    return f"Your best so far: {_said(task, best)}."


def _said(task, number) -> str:
    return task.says.format(number)
