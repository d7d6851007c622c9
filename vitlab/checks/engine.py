"""Run a learner's answer against an independent oracle on seeded cases and put the verdict into one line."""

import contextlib
import copy
import dis
import importlib
import inspect
import io
import linecache
import re
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from vitlab.checks import records
from vitlab.checks.compare import Comparison, compare, describe
from vitlab.checks.kept import keep
from vitlab.checks.limits import LimitPassed, limited

LESSONS = {
    "1": "patching",
    "2": "embeddings",
    "3": "encoder",
    "4": "pretraining",
    "5": "fine_tuning",
    "6": "attention_analysis",
    "7": "your_images",
}

# Answers that the course gave itself: once a solution's cell has been run, `patchify` is the solution's.
_shown: list = []

Case = tuple
Cases = Callable[[torch.Generator], Iterable[Case]]


@dataclass(frozen=True)
class Exercise:
    """What an exercise asks and how an answer to it is judged; see `vitlab.checks` for each field."""

    id: str
    title: str
    oracle: object
    mistakes: Sequence[tuple[object, str]]
    cases: Cases | None = None
    tolerance: float = 1e-5
    call: Callable | None = None


class Verdict(NamedTuple):
    """`status` is "not attempted", "correct" or "not yet"; `diagnosis` is the known mistake's sentence."""

    id: str
    status: str
    message: str = ""
    diagnosis: str = ""

    def __str__(self):
        joint = ". " if self.status == "not yet" else " "
        return f"Exercise {self.id}: {self.status}{joint}{self.message}".rstrip()


class Outcome(NamedTuple):
    """What one call gave: a value or an error, and what else it did."""

    value: object = None
    error: str = ""
    stub: bool = False
    changed: str = ""
    printed: bool = False
    ended: bool = False


def check(id: str, answer, yours: bool = True) -> None:
    """Print the verdict on `answer`, the learner's function or value, as one line.

    With `yours=False`, as in the folded solutions, the answer does not count as the learner's progress, now
    or when it is checked again.

    >>> check("1.3", (4, 8), yours=False)
    Exercise 1.3: not yet. Pass the function itself, not its result: this is (4, 8).
    """
    found = verdict(id, answer)
    print(found)
    if not yours:
        _shown.append(answer)
    counts = found.status != "not attempted" and not any(answer is other for other in _shown)
    if counts and (note := records.record("exercises", id, found.status)):
        print(note)
    if counts and found.status == "correct" and (note := keep(id, answer)):
        print(note)


def verdict(id: str, answer, seed: int = 0) -> Verdict:
    """Judge `answer` on the cases that `seed` draws.

    >>> str(verdict("1.1", None))
    'Exercise 1.1: not attempted'
    """
    exercise = find(id, "EXERCISES")
    if answer is None or answer is ...:
        return Verdict(id, "not attempted")
    if callable(answer) != bool(exercise.cases):
        return Verdict(id, "not yet", _wrong_sort(exercise, answer))
    cases = draw_cases(exercise, seed)
    wanted = [_wanted(exercise, case) for case in cases]  # before any of the learner's code runs
    outcomes = list(_outcomes(exercise, answer, cases))
    if outcomes[0].stub:
        return Verdict(id, "not attempted")
    comparisons = [_judge(*pair, exercise.tolerance) for pair in zip(outcomes, wanted, strict=False)]
    failing = [i for i, comparison in enumerate(comparisons) if comparison.grade == "wrong"]
    if not failing:
        return Verdict(id, "correct", _praise(comparisons))
    off = [i for i in failing if _values(outcomes[i], wanted[i], exercise.tolerance).grade == "wrong"]
    diagnosis = _recognise(exercise, [(cases[i], outcomes[i]) for i in off]) if off else ""
    first = failing[0]
    words = comparisons[first].words
    if exercise.cases is None:  # telling the wanted value would give the answer away
        words = words.partition(", wanted")[0] + ", and that is not right"
    sentences = [
        _sentence(_case_words(exercise, cases[first]) + words),
        _cause(diagnosis or _constant(outcomes, wanted)),
        _from_the_notebook(answer) if off and not diagnosis else "",
        "(What your code printed is not shown here.)" if outcomes[first].printed else "",
    ]
    return Verdict(id, "not yet", _one_line(" ".join(sentences), limit=1000), diagnosis)


def find(id: str, collection: str):
    """The exercise or prediction `id`, looked up in its lesson's `EXERCISES` or `PREDICTIONS`."""
    known = lesson(id.partition(".")[0], collection) if id.partition(".")[0] in LESSONS else []
    for item in known:
        if item.id == id:
            return item
    names = ", ".join(item.id for item in known) or "lessons " + ", ".join(LESSONS)
    raise ValueError(f"there is no {id!r} among the {collection.lower()}; there are {names}")


def lesson(number: str, collection: str):
    """All exercises or predictions of one lesson, or its function `quiz`."""
    if number not in LESSONS:
        raise ValueError(f"there is no lesson {number!r}; there are {', '.join(LESSONS)}")
    return getattr(importlib.import_module(f"vitlab.checks.{LESSONS[number]}"), collection)


def draw_cases(exercise: Exercise, seed: int) -> list[Case]:
    """The argument tuples that `seed` draws; an exercise that asks for a value has one empty case."""
    if exercise.cases is None:
        return [()]
    return [tuple(case) for case in exercise.cases(torch.Generator().manual_seed(seed))]


def run(exercise: Exercise, answer, case: Case, ours: bool = False) -> Outcome:
    """Call `answer` on a copy of the case: the one place where a learner's code runs, within limits.

    Torch's random state is the same in every call and is given back untouched. Code of `ours` has no limits.
    """
    arguments, silence = copy.deepcopy(case), _Silence()
    with (
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
        torch.random.fork_rng(devices=[]),
    ):
        torch.default_generator.manual_seed(0)
        try:
            use = partial(_use, exercise, answer, arguments)
            value = use() if ours else limited(use)
        except KeyboardInterrupt:  # the learner's own wish
            raise
        except BaseException as error:
            line = _learners_line(error)
            stub = isinstance(error, NotImplementedError) and "NotImplementedError" in line
            ended = isinstance(error, (LimitPassed, MemoryError))
            return Outcome(None, _error_words(error, line), stub, printed=silence.used, ended=ended)
    names = _parameter_names(exercise)
    changed = [
        name for name, now, before in zip(names, arguments, case, strict=True) if not _same(now, before)
    ]
    return Outcome(value, changed=", ".join(changed), printed=silence.used)


def _outcomes(exercise, answer, cases):
    """What each call gave, up to the first that had to be ended: the next would take as long."""
    for case in cases:
        outcome = run(exercise, answer, case)
        yield outcome
        if outcome.ended:
            return


def _use(exercise, answer, arguments):
    if exercise.cases is None:
        return _detached(answer)
    return _detached(exercise.call(answer, *arguments) if exercise.call else answer(*arguments))


def _wanted(exercise, case):
    outcome = run(exercise, exercise.oracle, case, ours=True)
    if outcome.error:
        raise RuntimeError(f"the oracle of exercise {exercise.id} fails: {outcome.error}")
    return outcome.value


def _judge(outcome, wanted, tolerance) -> Comparison:
    comparison = _values(outcome, wanted, tolerance)
    if comparison.grade != "wrong" and outcome.changed:
        return Comparison(
            "wrong", f"the result is right, but your code changed its input {outcome.changed}; copy it first"
        )
    return comparison


def _values(outcome, wanted, tolerance) -> Comparison:
    if outcome.error:
        return Comparison("wrong", f"your code {outcome.error}")
    return compare(outcome.value, wanted, tolerance)


def _recognise(exercise, failures) -> str:
    """The sentence of the known mistake that does what the learner's code does on most failing cases."""
    returned = [(case, got) for case, got in failures if not got.error] or failures
    best, most = "", (len(returned) - 1) // 2  # it must agree on at least half of them
    for wrong, sentence in exercise.mistakes:
        agree = sum(
            _agree(got, run(exercise, wrong, case, ours=True), exercise.tolerance) for case, got in returned
        )
        if agree > most:
            best, most = sentence, agree
    return best


def _agree(one, other, tolerance) -> bool:
    if one.error or other.error:
        return one.error.partition(", in your line")[0] == other.error.partition(", in your line")[0]
    return compare(one.value, other.value, max(tolerance, 1e-6)).grade != "wrong"


def _constant(outcomes, wanted) -> str:
    first, *rest = [outcome.value for outcome in outcomes]
    if not rest or first is None or any(compare(value, first, 0).grade != "exact" for value in rest):
        return ""
    if all(compare(value, wanted[0], 0).grade == "exact" for value in wanted):
        return ""
    return "the result is the same whatever the input."


def _from_the_notebook(answer) -> str:
    """What a function reads that is none of its arguments: it may fit the notebook's shapes and no others."""
    if not inspect.isfunction(answer):
        return ""
    read = {step.argval for step in dis.get_instructions(answer) if step.opname == "LOAD_GLOBAL"}
    names = [f"`{name}`" for name in sorted(read) if _is_data(answer.__globals__.get(name))]
    return f"(Your code reads {', '.join(names)} from the notebook, not from its arguments.)" if names else ""


def _is_data(value) -> bool:
    tool = inspect.ismodule(value) or callable(value)
    return value is not None and (not tool or isinstance(value, torch.nn.Module))


def _praise(comparisons) -> str:
    count = "1 case" if len(comparisons) == 1 else f"{len(comparisons)} cases"
    largest = max(comparison.largest for comparison in comparisons)
    return f"({count}, exact)" if largest == 0 else f"({count}, largest difference {largest:.1g})"


def _wrong_sort(exercise, answer) -> str:
    if exercise.cases is None:
        return f"The answer is a value, and this is {describe(answer)}."
    return f"Pass the function itself, not its result: this is {describe(answer)}."


def _cause(diagnosis) -> str:
    return f"Likely cause: {diagnosis}" if diagnosis else ""


def _sentence(words) -> str:
    return words[0].upper() + words[1:] + ("" if words.endswith((".", "?")) else ".")


def _case_words(exercise, case) -> str:
    """The arguments in words: "With images (2, 3, 8, 12) float32 and patch_size 4: "."""
    if not case:
        return ""
    named = zip(_parameter_names(exercise), case, strict=True)
    parts = [name if inspect.isfunction(value) else f"{name} {describe(value)}" for name, value in named]
    head = ", ".join(parts[:-1])
    return f"With {head} and {parts[-1]}: " if head else f"With {parts[-1]}: "


def _parameter_names(exercise) -> list[str]:
    if exercise.cases is None:
        return []
    if exercise.call:
        return list(inspect.signature(exercise.call).parameters)[1:]
    return list(inspect.signature(exercise.oracle).parameters)


def _detached(value):
    """A plain copy on the CPU without a graph, so that nothing that happens later can change it."""
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor).cpu().clone()
    if isinstance(value, list):
        return [_detached(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_detached(item) for item in value)
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    return value


def _same(one, other) -> bool:
    """Whether an argument is still what it was."""
    if isinstance(one, torch.nn.Module):
        return _same(dict(one.state_dict()), dict(other.state_dict()))
    if isinstance(one, (torch.Tensor, tuple, list, dict)):
        return compare(one, other, 0).grade == "exact"
    by_identity = type(one).__eq__ is object.__eq__  # then a copy says nothing
    return by_identity or one == other


_LIBRARIES = (
    str(Path(__file__).parents[1]),
    str(Path(torch.__file__).parents[1]),
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
)


def _learners_line(error) -> str:
    """The deepest line of the traceback that is not in a library: the learner's."""
    line, step = "", error.__traceback__
    while step:
        filename = step.tb_frame.f_code.co_filename
        if not filename.startswith(_LIBRARIES):
            line = linecache.getline(filename, step.tb_lineno, step.tb_frame.f_globals).strip() or line
        step = step.tb_next
    return line


def _error_words(error, line) -> str:
    """What the code did, after the words "your code"; a hint comes last."""
    message, hint = _one_line(str(error)), ""
    if len(message) > 100:  # what counts is mostly at the end
        message = f"{message[:30]} … {message[-67:]}"
    words = f"stopped with {type(error).__name__}" + f": {message}" * bool(message)
    if isinstance(error, LimitPassed):
        words, hint = error.args
    elif refused := re.search(r"tried to allocate (\d+) bytes", str(error)):  # PyTorch's words
        words, hint = f"asked for {int(refused[1]) / 1e9:,.0f} GB of memory at once", ": is a size off?"
    elif isinstance(error, MemoryError):
        hint = ": is a size off?"
    elif isinstance(error, RecursionError):
        words, hint = "stopped with RecursionError", ": does a function call itself without end?"
    return words + f", in your line `{_one_line(line, 60)}`" * bool(line) + hint


def _one_line(text, limit=None) -> str:
    text = " ".join(text.split())
    return text if limit is None or len(text) <= limit else text[:limit] + " …"


class _Silence(io.TextIOBase):
    """Takes whatever is printed and keeps none of it."""

    used = False

    def write(self, text):
        self.used = True
        return len(text)
