"""A question whose answer a learner commits to before it is told: a prediction, or a question of a quiz."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Prediction:
    """A question with options `(text, explanation)`; `right` is the number of the right one, from 0."""

    id: str
    question: str
    options: Sequence[tuple[str, str]]
    right: int
    name: ClassVar[str] = "Prediction"
    kind: ClassVar[str] = "predictions"


@dataclass(frozen=True)
class Question(Prediction):
    """A question of a quiz. A wrong option that reads like another is left out: numbers may coincide."""

    name: ClassVar[str] = "Question"
    kind: ClassVar[str] = "quiz"

    def __post_init__(self):
        answer, kept = self.options[self.right], []
        for number, option in enumerate(self.options):
            if number == self.right or option[0] not in [text for text, _ in [answer, *kept]]:
                kept.append(option)
        object.__setattr__(self, "options", kept)
        object.__setattr__(self, "right", kept.index(answer))
