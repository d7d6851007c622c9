"""Answers with switches: each switch is a slip that a learner could make. What all their tests share."""

import itertools
import re
from collections.abc import Callable, Collection

from vitlab import checks
from vitlab.checks import engine
from vitlab.checks.engine import FindTheFault, Verdict


def switched_on(names: tuple[str, ...]) -> dict:
    return dict.fromkeys(names, 1)


class Slips:
    """The answers that one file tries.

    `answers` has (exercise, answer, words); `words` maps each switch to what a verdict on it may say, a
    pattern. `cancel` has (exercise, switch, switch) that make each other right again or are no slip, and
    `keywords` makes of the switches that are on what the answer is called with.
    """

    def __init__(
        self,
        cancel: Collection[tuple[str, str, str]] = (),
        keywords: Callable[[tuple[str, ...]], dict] = switched_on,
    ):
        self.answers, self.cancel, self.keywords, self.known = [], cancel, keywords, {}

    def __call__(self, id: str, **words: str) -> Callable:
        """Put an answer among those tried."""

        def keep(answer):
            self.answers.append((id, answer, words))
            return answer

        return keep

    @property
    def ids(self) -> list[str]:
        return [id for id, *_ in self.answers]

    @property
    def single(self) -> list[tuple]:
        """Every slip alone: (exercise, answer, words, (switch,))."""
        return [(id, answer, words, (name,)) for id, answer, words in self.answers for name in words]

    def pairs(self, id: str, every: int) -> list[tuple]:
        """Pairs of slips in the answers to one exercise, the first and each `every`-th after it."""
        found = [
            (id, answer, words, pair)
            for of, answer, words in self.answers
            for pair in itertools.combinations(words, 2)
            if of == id and (id, *pair) not in self.cancel
        ]
        return found[::every]

    def verdict(self, id: str, answer: Callable, on: tuple[str, ...] = ()) -> Verdict:
        """The verdict on an answer with these switches on; of a fault to be found, with the right line."""
        key = id, answer, on
        if key not in self.known:
            exercise, keywords = engine.find(id), self.keywords(on)

            def tried(*case):
                return answer(*case, **keywords)

            given = (exercise.line, tried) if isinstance(exercise, FindTheFault) else tried
            self.known[key] = checks.verdict(id, given)
        return self.known[key]

    def refused(self, id: str, answer: Callable, words: dict, on: tuple[str, ...], told=False) -> None:
        """Assert that slips are refused, and that the cause named is one of them or, unless `told`, none."""
        found = self.verdict(id, answer, on)
        assert found.status == "not yet", (on, found)
        said = any(words[name] and re.search(words[name], found.diagnosis) for name in on)
        assert said or not (told or found.diagnosis), (on, found)

    def share_told(self) -> float:
        """The share of the slips alone whose cause is named."""
        told = [bool(self.verdict(id, answer, on).diagnosis) for id, answer, _, on in self.single]
        return sum(told) / len(told)


def name_of(single: tuple) -> str:
    """A slip's name in a list of tests."""
    return f"{single[0]}-{single[3][0]}"
