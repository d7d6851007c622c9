"""The one place where a learner's code runs: on copies of the cases, in silence, within limits."""

import contextlib
import copy
import inspect
import io
import warnings
from functools import partial
from typing import NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from vitlab.checks.engine.comparing import compare
from vitlab.checks.engine.kinds import Case, Exercise
from vitlab.checks.engine.limits import LimitPassed, limited
from vitlab.checks.engine.source import error_words, learners_line


class Outcome(NamedTuple):
    """What one call gave: a value or an error, and what else it did."""

    value: object = None
    error: str = ""
    stub: bool = False
    changed: str = ""
    used: str = ""
    printed: bool = False
    ended: bool = False


def draw_cases(exercise: Exercise, seed: int) -> list[Case]:
    """The argument tuples that `seed` draws; an exercise that asks for a value has one empty case."""
    if exercise.cases is None:
        return [()]
    return [tuple(case) for case in exercise.cases(torch.Generator().manual_seed(seed))]


def run(exercise: Exercise, answer, case: Case, ours: bool = False) -> Outcome:
    """What `answer` makes of a copy of the case. Code of `ours` has no limits."""
    arguments = copy.deepcopy(case)
    use = partial(_use, exercise, answer, arguments)
    outcome = attempt(use if ours else partial(limited, use))
    if outcome.error:
        return outcome
    value, used = outcome.value
    changed = [
        name
        for name, now, before in zip(parameter_names(exercise), arguments, case, strict=True)
        if not _same(now, before)
    ]
    return outcome._replace(value=value, used=used, changed=", ".join(changed))


def attempt(use) -> Outcome:
    """Call `use()` in silence; whatever it raises becomes words.

    Torch's random state is the same in every call and is given back untouched.
    """
    silence = _Silence()
    with (
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
        warnings.catch_warnings(),  # nobody asks where those are that were not printed by hand
        torch.random.fork_rng(devices=[]),
    ):
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)
        try:
            return Outcome(use(), printed=silence.used)
        except KeyboardInterrupt:  # the learner's own wish
            raise
        except BaseException as error:
            line = learners_line(error)
            stub = isinstance(error, NotImplementedError) and "NotImplementedError" in line
            ended = isinstance(error, (LimitPassed, MemoryError))
            return Outcome(None, error_words(error, line), stub, printed=silence.used, ended=ended)


def _use(exercise, answer, arguments):
    """What the answer gives, and which of PyTorch's functions it has called that it is to do without."""
    if exercise.cases is None:
        return _detached(answer), ""
    with _Watched(exercise.without) if exercise.without else contextlib.nullcontext() as watched:
        value = exercise.call(answer, *arguments) if exercise.call else answer(*arguments)
    return _detached(value), ", ".join(watched.used) if watched else ""


class _Watched(TorchFunctionMode):
    """Notes which of the functions `names` are called, whether of torch, of a tensor or in a layer."""

    def __init__(self, names):
        super().__init__()
        self.names, self.used = names, []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = function.__name__.removeprefix("special_")
        if name in self.names and name not in self.used:
            self.used.append(name)
        return function(*args, **(kwargs or {}))


def parameter_names(exercise) -> list[str]:
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


class _Silence(io.TextIOBase):
    """Takes whatever is printed and keeps none of it."""

    used = False

    def write(self, text):
        self.used = True
        return len(text)
