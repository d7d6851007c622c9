"""A lesson's questions as a file has them: read, validated, filled in with the numbers of a run.

The file is TOML, such as `questions/01_patching.toml`. `[run]` names the numbers that the quiz takes, with
those of the stored run. Each `[[prediction]]` and `[[quiz]]` has an `id`, a `question`, and three or more
`[[prediction.option]]` or `[[quiz.option]]` with `text`, `why` and, for the right one, `right = true`. Line
breaks in a text count as spaces. In a quiz, `{patch_size}` or `{power:.2f}` stands for a number of the run or
for one that the lesson's function `derive` makes of them; a brace that is meant as such is written twice.
Where the right option hangs on a number, `right` is the name of a condition, true or false, that `derive`
makes: then each option that may be right names one.
"""

import difflib
import inspect
import string
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitlab.checks.asking.prediction import Prediction, Question

LONGEST = 90  # letters of an option: radio buttons show one line


@dataclass(frozen=True)
class Sheet:
    """The questions of one lesson; `name` is the file's, `run` has the numbers of the stored run."""

    name: str
    run: dict
    asked: dict[str, list[dict]]
    derive: Callable[..., dict] | None = None

    def predictions(self) -> list[Prediction]:
        """The predictions: they are asked before anything is computed, so nothing is filled in."""
        return [self._fill(Prediction, item, {}) for item in self.asked["prediction"]]

    def questions(self, values: dict) -> list[Question]:
        """The quiz about the numbers `values`, those of `run` where they are not given."""
        values = self.run | values
        values = values | self._derived(values)
        return [self._fill(Question, item, values) for item in self.asked["quiz"]]

    def _derived(self, values) -> dict:
        """What follows from the numbers; raises ValueError for one that is missing, or that will not do."""
        if self.derive is None:
            return {}
        needed = inspect.signature(self.derive).parameters
        for name in needed:
            if name not in values:
                raise ValueError(
                    f"{self.name}, [run]: there is no number {name!r}{_nearest(name, self.run)}. "
                    f"Others follow from it: add a line {name} = … with its value in the stored run"
                )
        try:
            return self.derive(**{name: values[name] for name in needed})
        except (TypeError, ValueError, ArithmeticError) as error:  # of a text for a number, of a 0
            numbers = ", ".join(f"{name} = {values[name]!r}" for name in needed)
            own = all(values[name] == self.run.get(name) for name in needed)
            where = f"{self.name}, [run]" if own else f"the numbers given for {self.name}"
            raise ValueError(f"{where}: nothing follows from {numbers}: {error}") from error

    def _fill(self, kind, item, values):
        """One question; raises ValueError that names the file, the question and what is wrong."""
        try:
            question = _fill(item["question"], values)
            options = [(_fill(each["text"], values), _fill(each["why"], values)) for each in item["option"]]
            right = [i for i, each in enumerate(item["option"]) if _is_right(each.get("right"), values)]
            if len(right) != 1:
                raise ValueError(f"{len(right)} options are right; one has to be")
            if kind is Prediction and len({text for text, _ in options}) < len(options):
                raise ValueError("two options read alike")
            for text, _ in options:
                if len(text) > LONGEST:
                    raise ValueError(f"the option {text!r} is longer than {LONGEST} letters")
        except ValueError as error:
            raise ValueError(f"{self.name}, {item['id']}: {error}") from None
        return kind(item["id"], question, options, right[0])


def read(path: Path, derive: Callable[..., dict] | None = None) -> Sheet:
    """The questions in a file, with its lesson's function `derive`; raises ValueError as above.

    >>> path = Path("09_example.toml")
    >>> path.write_text("[run]\\npower = 2\\n[[quiz]]\\nid = '9.q2'\\n[[prediction]]\\nid = '9.a'\\n")
    63
    >>> read(path)
    Traceback (most recent call last):
    ValueError: 09_example.toml, 9.a: 'question' is missing, or no text in quotes
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of TOML, or of UTF-8
        raise ValueError(f"{path.name}: {error}") from None
    _known(path.name, table, ("run", "prediction", "quiz"))
    run = table.get("run", {})
    if not isinstance(run, dict) or any(type(value) not in (int, float, str) for value in run.values()):
        raise ValueError(f"{path.name}, [run]: each line is a name and a number, or a text in quotes")
    asked = {kind: table.get(kind, []) for kind in ("prediction", "quiz")}
    number = str(int(path.name[:2]))
    for kind, items in asked.items():
        if not isinstance(items, list) or not items:
            raise ValueError(f"{path.name}: there is no [[{kind}]]")
        names = "abcdefghijklmnop" if kind == "prediction" else [f"q{i}" for i in range(1, len(items) + 1)]
        for letter, item in zip(names, items, strict=False):
            _validate(path.name, kind, item, f"{number}.{letter}")
    sheet = Sheet(path.name, run, asked, derive)
    sheet.predictions(), sheet.questions({})
    return sheet


def _validate(file, kind, item, id) -> None:
    """Whether one question has all that it needs; `id` is what the count has come to."""
    if not isinstance(item, dict) or item.get("id") != id:
        got = item.get("id") if isinstance(item, dict) else item
        raise ValueError(f"{file}: a [[{kind}]] has the id {got!r} where {id!r} is next")
    where = f"{file}, {id}"
    _known(where, item, ("id", "question", "option"))
    _text(where, item, "question")
    options = item.get("option", [])
    if not isinstance(options, list) or len(options) < 3:
        raise ValueError(f"{where}: it needs three or more [[{kind}.option]]")
    for count, option in enumerate(options, start=1):
        _known(f"{where}, option {count}", option, ("text", "why", "right"))
        _text(f"{where}, option {count}", option, "text")
        _text(f"{where}, option {count}", option, "why")
        if "right" in option and not (option["right"] is True or isinstance(option["right"], str)):
            raise ValueError(f"{where}, option {count}: right is true or a condition's name in quotes")
    rights = [option["right"] for option in options if "right" in option]
    if True in rights and len(rights) > 1:
        raise ValueError(
            f"{where}: either one option has right = true, or each that may be right names a condition"
        )


def _known(where, table, names) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"{where}: {table!r} is no table")
    for name in table:
        if name not in names:
            raise ValueError(f"{where}: {name!r} is unknown{_nearest(name, names)}")


def _text(where, table, name) -> None:
    if not isinstance(table.get(name), str) or not table[name].strip():
        raise ValueError(f"{where}: {name!r} is missing, or no text in quotes")


def _fill(text, values) -> str:
    """The text in one line, with the numbers in braces filled in by name and nothing else."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
        for field in fields:
            if field not in values:
                raise ValueError(f"there is no number {field!r}{_nearest(field, values)}")
        return " ".join(text.format(**values).split())
    except (ValueError, KeyError, IndexError) as error:  # the last two of a name inside a format
        where = "" if str(error).startswith("there is no number") else f"{text!r} cannot be filled in: "
        raise ValueError(f"{where}{error}") from None


def _is_right(right, values) -> bool:
    if not isinstance(right, str):
        return right is True
    if not isinstance(values.get(right), bool):
        conditions = [name for name, value in values.items() if isinstance(value, bool)]
        raise ValueError(f"there is no condition {right!r}{_nearest(right, conditions)}")
    return values[right]


def _nearest(name, names) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f": {near[0]!r} is meant?" if near else f"; there are {', '.join(names)}" if names else ""
