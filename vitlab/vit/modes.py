"""Evaluation mode for a while, after which each part of a model is in the mode that it had."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Each part of the model is afterwards in the mode, training or evaluation, that it had before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and for each part of the model afterwards the mode that it had."""
    with modes_kept(model):
        model.eval()
        yield
