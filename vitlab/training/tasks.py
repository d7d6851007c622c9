"""What is learnt: a task makes a loss and a count of right answers of a batch, to train on or to evaluate."""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Outcome(NamedTuple):
    """A task on one batch: mean loss, a number in fp32; how many predictions were right; out of how many."""

    loss: Tensor
    correct: Tensor
    counted: int


Task = Callable[[nn.Module, Tensor, Tensor], Outcome]


def classification(model: nn.Module, images: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Outcome:
    """The task of naming each image's class (section 4.1): cross-entropy in nats against labels (B,).

    `model` maps images (B, C, H, W) in [-1, 1] to logits (B, classes).

    >>> import torch
    >>> from vitlab import ViT, ViTConfig
    >>> images, labels = torch.zeros(2, 1, 28, 28), torch.tensor([0, 3])
    >>> loss, correct, counted = classification(ViT(ViTConfig()), images, labels)
    >>> round(loss.item(), 4), correct.item(), counted  # an untrained head ties, and a tie goes to class 0
    (2.3026, 1, 2)
    """
    logits = model(images).float()
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return Outcome(loss, (logits.argmax(dim=-1) == labels).sum(), len(labels))
