"""Lesson 04: a training that runs beside the notebook, with buttons that start, pause and stop it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ipywidgets
import numpy as np
import torch
from PIL import Image

from vitlab import page, plots
from vitlab.data import Dataset, match_classes, normalise
from vitlab.runtime import Run, here, seeded
from vitlab.training import History, Recipe, train
from vitlab.vit import ViT, ViTConfig, evaluating
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer, figure
from vitlab.widgets.live_curves import Pace, progress_in_words
from vitlab.widgets.pictures import fit

WIDTH, CURVES, ROW = 880, 300, 136  # of the picture, its curves and its sample images, in pixels
SAMPLES = 10  # test images that are shown, one of each class
STEPS = (50, 100, 200, 500, 1000, 2000, 5000)
ACTIVE = ("training", "paused", "stopping")


class TrainingPanel(Explorer):
    """Start, pause, resume and stop a training, and watch it: curves, images/s, answers for sample images.

    `start` trains a new ViT (D = 96, four layers, lesson 04's recipe) by `vitlab.train` in a thread of its
    own, so the notebook's cells and widgets go on working. Buttons act beside a running cell where the page
    sends them past it (JupyterLab from 4.4 on, with ipykernel 7); elsewhere, as on Colab, when the cell has
    ended, and the training goes on until then. `train` does the same without a thread, for a run that nobody
    watches. A pause or a stop comes before the next step. Drawing takes place at most four times a second,
    and for at most a tenth of the training's time. Only one panel trains: a new one, as when its cell is run
    again, stops the one before.

    `status` is "ready", "training", "paused", "stopping", "stopped", "finished" or "failed"; `model` and
    `history` are those of the training that was started last. What went wrong in the thread is shown as the
    caption and kept in `error`; `train` raises it as well. Random numbers are left as they were.

    >>> blank = Dataset(torch.zeros(64, 1, 28, 28).byte(), torch.arange(64) % 10, list("abcdefghij"))
    >>> panel = TrainingPanel(blank, blank, steps=2)
    >>> panel.train().rows[-1]["step"], panel.status
    (2, 'finished')
    """

    newest: "TrainingPanel | None" = None
    beside = True

    def __init__(
        self,
        train_data: Dataset,
        test_data: Dataset,
        run: Run | None = None,
        patch_size: int = 7,
        steps: int = 200,
    ):
        test_data = match_classes(test_data, train_data.classes, "test_data", "train_data")
        self.train_data, self.test_data, self.run = train_data, test_data, run or here()
        self.config = ViTConfig(
            image_size=tuple(train_data.images.shape[-2:]),
            in_chans=train_data.images.shape[1],
            num_classes=len(train_data.classes),
            patch_size=patch_size,
        )
        labels = test_data.labels.tolist()
        self.samples = test_data.subset([labels.index(label) for label in sorted(set(labels))[:SAMPLES]])
        self.status, self.history, self.failure = "ready", History(), None
        self.model = self.recipe = self.answers = self._thread = None
        self._go, self._lock = threading.Event(), threading.RLock()
        drawing = figure((WIDTH, CURVES))
        drawing.set_layout_engine("none")  # the places are known, and finding the best ones takes long
        lefts = {"loss": 0.065, "accuracy": 0.57}
        self._axes = {what: drawing.add_axes((left, 0.17, 0.4, 0.78)) for what, left in lefts.items()}
        self._buttons = {
            name: ipywidgets.Button(description=name, layout={"width": "auto"})
            for name in ("Start", "Pause", "Stop")
        }
        self._buttons["Start"].button_style = "primary"
        self._buttons["Start"].on_click(lambda _button: self.start())
        self._buttons["Pause"].on_click(lambda _button: self.resume() if self._paused else self.pause())
        self._buttons["Stop"].on_click(lambda _button: self.stop())
        options = sorted({*STEPS, steps})
        control = ipywidgets.SelectionSlider(options=options, value=steps, description="steps")
        super().__init__(self.draw, {"steps": control}, size=(WIDTH, CURVES + ROW))
        self.widget.children[0].children = (control, *self._buttons.values())  # Start takes Reset's place
        self.widget.add_class(page.LIVE)
        self._set_buttons()
        self._stop_the_newest()

    # --- what the buttons do

    def start(self) -> None:
        """Train a new model in a thread, and return at once; does nothing while one is being trained."""
        if self.status not in ACTIVE:
            self._begin()
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def pause(self) -> None:
        """Hold the training before its next step, until `resume` or `stop`."""
        with self._lock:
            if self.status == "training":
                self._go.clear()
                self._enter("paused")

    def resume(self) -> None:
        """Go on after a pause."""
        with self._lock:
            if self._paused:
                self._enter("training")
                self._go.set()

    def stop(self) -> None:
        """End the training before its next step; what has been learnt stays."""
        with self._lock:
            if self.status in ("training", "paused"):
                self._enter("stopping")
                self._go.set()

    # --- the training

    def train(self) -> History:
        """What Start does, without a thread: returns the history when it is complete, raises what fails."""
        self._begin()
        self._work()
        if self.failure is not None:
            raise self.failure
        return self.history

    def join(self) -> None:
        """Wait until the thread, if there is one, has ended."""
        if self._thread is not None:
            self._thread.join()

    def _stop_the_newest(self) -> None:
        if TrainingPanel.newest is not None:
            TrainingPanel.newest.stop()
            TrainingPanel.newest.join()

    def _begin(self) -> None:
        self._stop_the_newest()
        TrainingPanel.newest, self.recipe = self, _recipe(self.state["steps"])
        with seeded(self.recipe.seed):
            self.model = ViT(self.config)
        self.history, self.failure, self.answers, self._pace = History(), None, None, Pace()
        self._go.set()
        self._enter("training")

    def _work(self) -> None:
        """Train to the end, in whichever thread this is; the gate stands before every forward pass."""
        try:
            with self.model.register_forward_pre_hook(self._gate):
                self.history = train(
                    self.model,
                    self.train_data,
                    self.test_data,
                    self.recipe,
                    self.run,
                    on_step=self._on_step,
                    progress=False,
                )
            self._answer()
            status = "stopped" if self.history.interrupted else "finished"
        except Exception as error:
            self.failure, status = error, "failed"
        self._enter(status)

    def _gate(self, *_module_and_inputs) -> None:
        if not self._go.is_set():
            self.redraw()  # the step that was under way when the pause began is shown, too
            self._go.wait()
        if self.status == "stopping":
            raise KeyboardInterrupt  # as a notebook's stop button: `train` returns what there is

    @contextmanager
    def hold(self) -> Iterator[None]:
        """As every explorer's, but not while the training thread draws."""
        with self._lock, super().hold():
            yield

    def _on_step(self, history: History) -> None:
        self.history = history
        self._gate()  # else a last picture would be drawn during the pause
        self._pace(self._answer_and_redraw)

    def _answer_and_redraw(self) -> None:
        self._answer()
        self.redraw()

    @torch.no_grad()
    def _answer(self) -> None:
        """What the model says to the sample images now: probabilities (samples, classes)."""
        images = normalise(self.samples.images.to(self.run.device))
        with evaluating(self.model), self.run.autocast():
            logits = self.model.forward(images)  # not as a call: the gate is for the training's own passes
        self.answers = logits.float().softmax(dim=-1).cpu()

    # --- what is shown

    @property
    def _paused(self) -> bool:
        return self.status == "paused"

    def _enter(self, status: str) -> None:
        """Take on a status: the buttons that make sense in it, the picture and the caption."""
        with self._lock:
            self.status = status
            self._set_buttons()
            self.redraw()

    def _set_buttons(self) -> None:
        start, pause, stop = self._buttons.values()
        start.disabled = self.controls["steps"].disabled = self.status in ACTIVE
        pause.disabled = stop.disabled = self.status not in ("training", "paused")
        pause.description = "Resume" if self._paused else "Pause"

    def _refresh(self, _change=None) -> None:
        with self._lock:  # the training's thread draws, and so does the one in which buttons are pressed
            super()._refresh()

    def redraw(self) -> None:
        """Draw the same state anew."""
        with self._lock:  # else the other thread could draw after the old picture is forgotten, but before us
            super().redraw()

    def _tell(self, caption: str, error: Exception | None = None) -> None:
        super()._tell(caption, error or self.failure)

    def draw(self, steps: int) -> tuple[Image.Image, str]:
        """Loss and accuracy over all the steps, the samples below; in words how far it is."""
        history = self.history
        recipe = self.recipe if history.rows else _recipe(steps)
        picture = Image.new("RGB", self.size, "white")
        with self._lock:  # the axes are there once, for whichever thread draws
            picture.paste(self._draw_curves(history, recipe.steps))
        self._draw_samples(picture)
        return picture, "\n".join(self._lines(history, recipe, steps))

    def _draw_curves(self, history: History, steps: int) -> Image.Image:
        """Loss and accuracy on axes that stay: to make these anew takes longer than all the rest."""
        for what, ax in self._axes.items():
            for artist in (*ax.lines, *filter(None, [ax.get_legend()])):
                artist.remove()
            plots.curves(history, what, ax=ax)
            shown = np.concatenate([[0.0], *(line.get_ydata() for line in ax.lines)])
            highest = shown[np.isfinite(shown)].max() or 1  # of a training that fails, too
            end = 1.02 * steps  # room for the last marker
            ax.set(xlim=(0, end), ylim=(0, 1.05 * highest if what == "loss" else 100))
        return fit(ax.figure, (WIDTH, CURVES))

    def _draw_samples(self, picture: Image.Image) -> None:
        """The sample images in a row, below each what the model says, and what it is if that is wrong."""
        column, side = WIDTH / len(self.samples.labels), ROW - 72
        for i, (image, label) in enumerate(zip(self.samples.images, self.samples.labels, strict=True)):
            middle = round((i + 0.5) * column)
            tile = fit(plots.pixels(image), (side, side))
            picture.paste(tile, (middle - side // 2, CURVES + 4))
            for line, text in enumerate(self._answer_in_words(i, int(label))):
                place = middle, CURVES + side + 10 + 19 * line
                tiles.write(picture, place, text, size=12, anchor="ma")

    def _answer_in_words(self, i: int, label: int) -> list[str]:
        names = self.samples.classes
        if self.answers is None:
            return [names[label]]
        sure, said = self.answers[i].max(dim=-1)
        if said == label:
            return [f"✓ {names[label]}", f"{sure:.0%} sure"]
        return [f"✗ {names[said]}", f"{sure:.0%} sure", f"is {names[label]}"]

    def _lines(self, history: History, recipe: Recipe, steps: int) -> list[str]:
        lines = [f"{self.status.capitalize()}."]
        if self.failure is not None:
            lines = [f"Failed. {type(self.failure).__name__}: {self.failure}"]
        if history.rows or self.status in ACTIVE:
            lines[0] += " " + progress_in_words(history, recipe)
        if self.answers is not None:
            right = (self.answers.argmax(dim=-1) == self.samples.labels).sum()
            lines.append(f"Of the {len(self.samples.labels)} test images shown, {right} are named rightly.")
        if self.status not in ACTIVE:
            lines.append(f"Start trains a new model for {steps:,} steps.")
        return lines


def _recipe(steps: int) -> Recipe:
    """Lesson 04's recipe, for so many steps."""
    return Recipe(steps=steps, batch_size=64, learning_rate=1.5e-3, augment=False)
