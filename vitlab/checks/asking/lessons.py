"""The predictions and the quiz of a lesson, about the stored run or about numbers that a notebook gives."""

import importlib
import importlib.util
import math
from pathlib import Path

from vitlab.checks.asking import sheet
from vitlab.checks.asking.prediction import Prediction, Question
from vitlab.checks.engine.lessons import name, pick

FOLDER = Path(__file__).parents[1] / "questions"


def predictions(number: str) -> list[Prediction]:
    """The predictions of one lesson; raises ValueError for a lesson that there is not."""
    return read(number).predictions()


def find(id: str) -> Prediction:
    """The prediction with this id; raises ValueError that names those there are."""
    return pick(id, predictions, "predictions")


def questions(number: str, **values) -> list[Question]:
    """The questions of a quiz about the values given: all that the lesson asks for, or none."""
    wanted = stored(number)
    takes = f"it takes {', '.join(wanted)}"
    if unknown := [name for name in values if name not in wanted]:
        raise ValueError(f"quiz {number} has no {unknown[0]!r}; {takes}")
    missing = [name for name in wanted if name not in values]
    if values and missing:
        raise ValueError(
            f"quiz {number} also needs {', '.join(missing)}: {takes}, all from the same run, or none"
        )
    values = {name: _like(value, wanted[name], name) for name, value in values.items()}
    return read(number).questions(values)


def stored(number: str) -> dict[str, int | float | str]:
    """The numbers that a lesson's quiz takes, as they are in the run that is stored with the course."""
    return read(number).run


def read(number: str) -> sheet.Sheet:
    """A lesson's questions as they lie in its file, read anew each time: whoever edits it sees it at once."""
    module = f"vitlab.checks.questions.{name(number)}"
    derive = importlib.import_module(module).derive if importlib.util.find_spec(module) else None
    return sheet.read(FOLDER / f"{number:0>2}_{name(number)}.toml", derive)


def _like(value, example, name):
    """A value as text, whole number or float, as the lesson's own is; a tensor of one element will do."""
    try:
        if isinstance(value, str) != isinstance(example, str):
            raise TypeError
        made = type(example)(value)
        if not isinstance(made, str) and (made != value or not math.isfinite(made)):
            raise ValueError
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's
        wanted = {int: "a whole number", float: "a finite number", str: "text"}[type(example)]
        raise ValueError(f"{name} is {wanted}, such as {example!r}; got {value!r}") from None
    return made
