"""What happened in a training, and the running means that it is read from."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from vitlab.training.tasks import Outcome


class Evaluation(NamedTuple):
    """A model measured on a data set after `step` steps: mean cross-entropy in nats, accuracy in [0, 1]."""

    step: int
    loss: float
    accuracy: float


@dataclass
class History:
    """What happened in a training. A row is a dict: step, loss, accuracy, learning_rate, images_per_second.

    A row's loss and accuracy are means over all that was trained on since the row before it, the loss
    weighted as the task's is.

    >>> History(evaluations=[Evaluation(step=100, loss=0.5, accuracy=0.8)]).accuracy
    0.8
    """

    rows: list[dict] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def accuracy(self) -> float:
        """Test accuracy at the last evaluation, in [0, 1]; nan before the first."""
        return self.evaluations[-1].accuracy if self.evaluations else math.nan


def summary(row: dict) -> str:
    """A row of the history in a few words, for the progress bar."""
    speed = f"{row['images_per_second']:,.0f} images/s"
    return f"loss {row['loss']:.3f}, accuracy {row['accuracy']:.1%}, {speed}"


class Meter:
    """Running means of loss and accuracy, summed on the device so that no step waits for the CPU."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self.loss, self.divisor, self.correct, self.counted, self.images = 0.0, 0, 0.0, 0, 0
        self.begin = time.perf_counter()

    def add(self, outcome: Outcome, images: int) -> None:
        """Count one batch of so many images."""
        self.loss = self.loss + outcome.loss * outcome.divided_by
        self.divisor = self.divisor + outcome.divided_by
        self.correct, self.counted = self.correct + outcome.correct, self.counted + outcome.counted
        self.images += images

    def read(self, total: Callable[[list[float]], list[float]] = list) -> dict[str, float]:
        """The means since the last reading, and start again. `total` adds up what several processes have."""
        sums = map(float, (self.loss, self.divisor, self.correct, self.counted, self.images))
        loss, divisor, correct, counted, images = total(list(sums))
        values = {
            "loss": loss / divisor if divisor else math.nan,
            "accuracy": correct / counted if counted else math.nan,
            "images_per_second": images / (time.perf_counter() - self.begin),
        }
        self.reset()
        return values

    def state(self) -> dict[str, Tensor]:
        """What was counted since the last reading."""
        seconds = time.perf_counter() - self.begin
        sums = dict(loss=self.loss, divisor=self.divisor, correct=self.correct, counted=self.counted)
        sums |= dict(images=self.images, seconds=seconds)
        return {name: torch.as_tensor(value) for name, value in sums.items()}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Go on from where `state` was taken."""
        names = ("loss", "divisor", "correct", "counted")
        self.loss, self.divisor, self.correct, self.counted = (state[name].to(device) for name in names)
        self.images = int(state["images"])
        self.begin = time.perf_counter() - float(state["seconds"])
