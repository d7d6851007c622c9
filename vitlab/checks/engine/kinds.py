"""The kinds of exercises, what a lesson's module says about one, and the verdict that `check` prints."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

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
    without: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class FindTheFault(Exercise):
    """A function that runs and is wrong; the answer is a pair: the wrong line's number, a mended function.

    `line` counts the lines of the body of `faulty` from 1, `mend` is that line as it has to be, and `sound`
    says of each other line why it is right. The mended function is judged like the answer to any exercise.
    """

    faulty: Callable
    line: int
    mend: str
    sound: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class OpenTask:
    """An answer that is measured: `measure(answer, generator)` gives a number, and `goal` is to be reached.

    `measure` raises Refused for an entry that is not valid. `says` puts a number into words, `best` an answer
    that reaches the goal, and `refused` has entries that are not valid, each with the reason given.
    """

    id: str
    title: str
    measure: Callable[[object, torch.Generator], float]
    goal: float
    best: object
    refused: Sequence[tuple[object, str]]
    larger_wins: bool = False
    says: str = "{:g}"
    seconds: float | None = None  # that measuring may take, where it is more than `limits.SECONDS`

    def reached(self, measured: float) -> bool:
        """Whether a number is as good as the goal, or better."""
        return measured >= self.goal if self.larger_wins else measured <= self.goal


class Refused(ValueError):
    """Why an entry to an open task does not count: a sentence in lower case, with its full stop."""


class Verdict(NamedTuple):
    """`status` is "not attempted", "correct" or "not yet"; `diagnosis` is the known mistake's sentence.

    `measured` is the number that an open task's entry was found to have.
    """

    id: str
    status: str
    message: str = ""
    diagnosis: str = ""
    measured: float | None = None

    def __str__(self):
        beside = self.status == "not attempted" or self.status == "correct" and self.message.startswith("(")
        joint = " " if beside else ". "
        return f"Exercise {self.id}: {self.status}{joint}{self.message}".rstrip()
