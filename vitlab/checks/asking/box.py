"""Predictions and quizzes: a learner commits to an option before the answer is told, then reads why."""

import html

from vitlab.checks.asking.lessons import find, questions
from vitlab.checks.asking.prediction import Prediction
from vitlab.checks.engine import records
from vitlab.page import QUESTION

# The first choice of this session, by id: showing the question again does not take it back.
_committed: dict[str, tuple[Prediction, int]] = {}


def predict(id: str) -> None:
    """Show prediction `id`: radio buttons in a live notebook, elsewhere the same question as text.

    >>> predict("1.f")
    Traceback (most recent call last):
    ValueError: there is no '1.f' among the predictions; there are 1.a, 1.b, 1.c, 1.d, 1.e
    """
    from IPython.display import display

    display(QuestionBox(find(id)).bundle(), raw=True)


def quiz(number: str, **values) -> None:
    """Show the five questions that end lesson `number`; `values` are numbers that its notebook has computed.

    Without values the questions are about the run that is stored with the course. Raises ValueError for an
    unknown lesson, and for values that are unknown, missing or no finite numbers.

    >>> quiz("1", patches=49)
    Traceback (most recent call last):
    ValueError: quiz 1 has no 'patches'; it takes patch_size, photo_patch_size, attention_power
    """
    from IPython.display import display

    for question in questions(number, **values):
        display(QuestionBox(question).bundle(), raw=True)


def forget(number: str | None) -> None:
    """Take back this session's choices in one lesson, or all."""
    for id in [id for id in _committed if number in (None, id.partition(".")[0])]:
        del _committed[id]


class QuestionBox:
    """The widgets of one question: radio buttons `choice`, button `commit`, explanation `answer`.

    By keyboard: Tab to an option, Space to choose it, Tab to the button, Space or Enter.
    """

    def __init__(self, prediction: Prediction):
        import ipywidgets as widgets

        self.prediction = prediction
        self.choice = widgets.RadioButtons(
            options=[(text, number) for number, (text, _) in enumerate(prediction.options)],
            value=None,
            layout=widgets.Layout(width="max-content"),
        )
        self.commit = widgets.Button(description="Commit", button_style="primary")
        self.answer = widgets.HTML()
        question = widgets.HTML(
            f"<b>{prediction.name} {prediction.id}.</b> {html.escape(prediction.question)}"
        )
        self.box = widgets.VBox([question, self.choice, self.commit, self.answer])
        self.box.add_class(QUESTION)
        self.commit.on_click(self._commit)
        self.choice.observe(self._explain, "value")
        self.choice.value = self._first()
        self._explain()

    def bundle(self) -> dict:
        """One output that is the live widget, or else the question as text."""
        return {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.box.model_id,
            },
            "text/markdown": _text(self.prediction, "**{} {}.** {}\n", "{}. {}"),
            "text/plain": _text(self.prediction, "{} {}. {}", "  {}. {}"),
        }

    def _commit(self, _button=None):
        if self.choice.value is None:
            self.answer.value = "Choose one of the options first."
            return
        asked, note = self.prediction, ""
        if self._first() is None:
            _committed[asked.id] = asked, self.choice.value
            result = "right" if self.choice.value == asked.right else "wrong"
            note = records.record(asked.kind, asked.id, result)
        self._explain()
        self.answer.value += f"<p>{html.escape(note)}</p>" * bool(note)

    def _first(self) -> int | None:
        """The choice that was committed to, if of this very question: a quiz may ask about other numbers."""
        asked, choice = _committed.get(self.prediction.id, (None, None))
        return choice if asked == self.prediction else None

    def _explain(self, _change=None):
        """After committing: the first choice judged, the right answer, and the option looked at now."""
        first = self._first()
        if first is None:
            self.answer.value = ""
            return
        self.commit.description, self.commit.button_style = (
            "Committed",
            "",
        )  # disabled, it would lose the focus
        options, right, now = self.prediction.options, self.prediction.right, self.choice.value
        heading = "✓ Right." if first == right else "✗ Not so."
        lines = [
            f"<b>{heading}</b> You chose “{html.escape(options[first][0])}”. {html.escape(options[first][1])}"
        ]
        if first != right:
            lines.append(
                f"<b>Right is:</b> “{html.escape(options[right][0])}”. {html.escape(options[right][1])}"
            )
        if now not in (None, first, right):
            lines.append(f"<b>And</b> “{html.escape(options[now][0])}”? {html.escape(options[now][1])}")
        paragraphs = "".join(f"<p>{line}</p>" for line in lines)
        self.answer.value = f'<div role="status">{paragraphs}</div>'  # a screen reader reads it out


def _text(prediction, heading, line) -> str:
    lines = [line.format(number, text) for number, (text, _) in enumerate(prediction.options, start=1)]
    return "\n".join([heading.format(prediction.name, prediction.id, prediction.question), *lines])
