"""Predictions: a learner commits to an option before the answer is computed, then reads why."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from vitlab.checks.engine import find

# The first choice of this session, by prediction: showing the question again does not take it back.
_committed: dict[str, int] = {}


@dataclass(frozen=True)
class Prediction:
    """A question with options `(text, explanation)`; `right` is the number of the right one, from 0."""

    id: str
    question: str
    options: Sequence[tuple[str, str]]
    right: int


def predict(id: str) -> None:
    """Show prediction `id`: radio buttons in a live notebook, elsewhere the same question as text.

    >>> predict("1.f")
    Traceback (most recent call last):
    ValueError: there is no '1.f' among the predictions; there are 1.a, 1.b, 1.c, 1.d, 1.e
    """
    from IPython.display import display

    display(QuestionBox(find(id, "PREDICTIONS")).bundle(), raw=True)


class QuestionBox:
    """The widgets of one prediction: radio buttons `choice`, button `commit`, explanation `answer`.

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
        question = widgets.HTML(f"<b>Prediction {prediction.id}.</b> {html.escape(prediction.question)}")
        self.box = widgets.VBox([question, self.choice, self.commit, self.answer])
        self.commit.on_click(self._commit)
        self.choice.observe(self._explain, "value")
        self.choice.value = _committed.get(prediction.id)
        self._explain()

    def bundle(self) -> dict:
        """One output that is the live widget, or else the question as text."""
        return {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.box.model_id,
            },
            "text/markdown": _text(self.prediction, "**Prediction {}.** {}\n", "{}. {}"),
            "text/plain": _text(self.prediction, "Prediction {}. {}", "  {}. {}"),
        }

    def _commit(self, _button=None):
        if self.choice.value is None:
            self.answer.value = "Choose one of the options first."
            return
        _committed.setdefault(self.prediction.id, self.choice.value)
        self._explain()

    def _explain(self, _change=None):
        """After committing: the first choice judged, the right answer, and the option looked at now."""
        first = _committed.get(self.prediction.id)
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
    return "\n".join([heading.format(prediction.id, prediction.question), *lines])
