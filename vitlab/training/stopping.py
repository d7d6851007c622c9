"""How a training ends before its time: the stop button, a loss that is no number, memory that is full."""

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vitlab.training.history import History
from vitlab.training.recipe import Recipe


class StopButton:
    """Holds back Ctrl-C, or a notebook's stop button, until a step is done; a second press stops at once."""

    def __enter__(self) -> "StopButton":
        self.pressed = False
        self.before = signal.getsignal(signal.SIGINT)
        ignored = self.before in (signal.SIG_IGN, None)  # as in a shell's background jobs
        self.connected = not ignored and threading.current_thread() is threading.main_thread()
        if self.connected:
            signal.signal(signal.SIGINT, self.press)
        return self

    def __exit__(self, *exception) -> None:
        if self.connected:
            signal.signal(signal.SIGINT, self.before)

    def press(self, *signal_and_frame) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite, which no step can mend; `history` is what happened until then."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


def likely_causes(history: History, recipe: Recipe, precision: str) -> str:
    """Why a training with this history and recipe may have lost its finite loss, and what to try."""
    if len(history.rows) == 1:  # the first loss is measured before any step
        return "weights that were too large, or not finite, before the training began"
    causes = [f"a learning rate that is too high (try learning_rate={recipe.learning_rate / 10:g})"]
    if recipe.warmup_steps < recipe.steps / 20:
        causes.append(f"a short warm-up (try warmup_steps={max(1, recipe.steps // 10)})")
    if not recipe.clip_norm:
        causes.append("gradients that are not clipped (try clip_norm=1)")
    if precision == "fp16":
        causes.append("fp16, which ends at 65,504 (try bf16 or fp32)")
    return "; ".join(causes)


@contextmanager
def out_of_memory(batch_size: int, what: str, processes: int = 1) -> Iterator[None]:
    """Turn a full memory into a MemoryError that names the batch size, and one that may fit."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(said in str(error) for said in FULL):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the activations, which would stay in memory
        half = batch_size // 2 // processes * processes
        remedy = (
            f"{what}={half} is likely to fit; if not, halve it again"
            if half
            else "not even one image fits: use larger patches, smaller images, or a smaller model"
        )
        raise MemoryError(f"the memory is full with {what}={batch_size}; {remedy}") from error


FULL = ("can't allocate memory", "not enough memory", "out of memory")  # Linux's, Windows' and MPS's words
