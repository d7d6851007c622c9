"""Lesson 04: the curves of a training while it runs."""

import time
from collections.abc import Callable
from statistics import median

from matplotlib.figure import Figure

from vitlab import plots
from vitlab.training import History, Recipe
from vitlab.widgets.explorer import Explorer, figure

SIZE = (880, 330)
EVERY = 0.25  # seconds between two pictures, at least
SHARE = 0.1  # of the training's time that drawing may take, at most


class Pace:
    """Draws a training that runs at most four times a second, and for at most a tenth of its time.

    >>> pace, drawn = Pace(), []
    >>> for step in range(3):
    ...     pace(lambda: drawn.append(step))
    >>> drawn
    [0]
    """

    def __init__(self):
        self.begin, self.drawing, self.last = time.perf_counter(), 0.0, -EVERY

    def __call__(self, draw: Callable[[], None]) -> None:
        """Draw, unless that was done a moment ago or has taken too much of the time."""
        now = time.perf_counter() - self.begin
        if now - self.last >= EVERY and self.drawing <= SHARE * now:
            draw()
            self.last = time.perf_counter() - self.begin
            self.drawing += self.last - now


class LiveCurves(Explorer):
    """Loss and accuracy of a training, redrawn while it runs; in a notebook, used as a context::

        with LiveCurves(recipe) as live:
            history = vitlab.train(model, train_data, test_data, recipe, run, on_step=live, progress=False)

    The picture is drawn at most four times a second, and for at most a tenth of the training's time. At the
    end the output is replaced by the last picture and its caption, for readers without a kernel.

    >>> live = LiveCurves(Recipe(steps=10))
    >>> row = dict(step=4, loss=2.0, accuracy=0.25, learning_rate=1e-3, images_per_second=800.0)
    >>> live(History(rows=[row]))
    >>> live.caption[:56]
    'Step 4 of 10: training loss 2.000, training accuracy 25.'
    """

    def __init__(self, recipe: Recipe):
        self.recipe, self.history, self._pace = recipe, History(), Pace()
        super().__init__(self.draw, {}, size=SIZE)
        self.widget.children = self.widget.children[1:]  # without controls there is nothing to reset

    def __call__(self, history: History) -> None:
        """What `train` calls: draw the history, unless it was drawn a moment ago."""
        self.history = history
        self._pace(self.redraw)

    def __enter__(self) -> "LiveCurves":
        from IPython.display import display

        self._handle, self._pace = display(self, display_id=True), Pace()
        return self

    def __exit__(self, *_error) -> None:
        self.redraw()
        if self._handle:  # None outside a notebook
            self._handle.update(self)

    def draw(self) -> tuple[Figure, str]:
        """Both curves over all the steps that there will be, and in words how far it is."""
        drawing = figure(SIZE)
        for ax, what in zip(drawing.subplots(1, 2), ("loss", "accuracy"), strict=True):
            plots.curves(self.history, what, ax=ax)
            end = 1.02 * self.recipe.steps  # room for the last marker
            ax.set(xlim=(0, end), ylim=(0, None) if what == "loss" else (0, 100))
        return drawing, progress_in_words(self.history, self.recipe)


def progress_in_words(history: History, recipe: Recipe) -> str:
    """How far a training is and how it goes, from the end of its history.

    >>> progress_in_words(History(), Recipe(steps=1500))
    'Waiting for the first of 1,500 steps.'
    """
    if not history.rows:
        return f"Waiting for the first of {recipe.steps:,} steps."
    row = history.rows[-1]
    speed = median(row["images_per_second"] for row in history.rows[-5:])  # in which a pause is no slow row
    left = (recipe.steps - row["step"]) * recipe.batch_size / speed
    words = (
        f"Step {row['step']:,} of {recipe.steps:,}: training loss {row['loss']:.3f}, training accuracy "
        f"{row['accuracy']:.1%}, {speed:,.0f} images/s"
    )
    if left and not history.seconds:
        words += f", about {left:.0f} s left"
    if history.evaluations:
        test = history.evaluations[-1]
        words += f". Test accuracy after {test.step:,} steps: {test.accuracy:.1%} (loss {test.loss:.3f})"
    return words + "."
