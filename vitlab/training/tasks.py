"""What is learnt: a task makes a loss and a count of right answers of a batch, to train on or to evaluate."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.data import Dataset
from vitlab.training.recipe import Recipe, is_balanced
from vitlab.wording import counted


class Outcome(NamedTuple):
    """A task on one batch: mean loss, a number in fp32; how many predictions were right; out of how many.

    `divisor` is what the sum of the losses was divided by, such as the sum of the weights in a weighted mean;
    None: it was `counted`. Means over several batches are made with it.
    """

    loss: Tensor
    correct: Tensor
    counted: int
    divisor: Tensor | float | None = None

    @property
    def divided_by(self) -> Tensor | float:
        """What the loss was divided by."""
        return self.counted if self.divisor is None else self.divisor


Task = Callable[[nn.Module, Tensor, Tensor], Outcome]


def classification(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | Tensor | None = None,
) -> Outcome:
    """The task of naming each image's class (section 4.1): cross-entropy in nats against labels (B,).

    `model` maps images (B, C, H, W) in [-1, 1] to logits (B, classes). With `class_weights`, one for each
    logit, an image counts in the mean as much as the weight of its class says.

    >>> from vitlab import ViT, ViTConfig
    >>> images, labels = torch.zeros(2, 1, 28, 28), torch.tensor([0, 3])
    >>> loss, correct, counted, divisor = classification(ViT(ViTConfig()), images, labels)
    >>> round(loss.item(), 4), correct.item(), counted  # an untrained head ties, and a tie goes to class 0
    (2.3026, 1, 2)
    """
    logits = model(images).float()
    weights = divisor = None
    if class_weights is not None:
        weights = torch.as_tensor(class_weights, dtype=logits.dtype, device=logits.device)
        divisor = weights[labels].sum()
    loss = F.cross_entropy(logits, labels, weights, label_smoothing=label_smoothing)
    return Outcome(loss, (logits.argmax(dim=-1) == labels).sum(), len(labels), divisor)


classification.labels_are_classes = True


def names_classes(task: Task | None, dataset: Dataset) -> bool:
    """Whether the labels of a data set are numbers of classes, as far as the task and their type say.

    A task that makes no use of labels says so by its attribute `uses_labels`, False. Those of a data set
    without names of classes are what a task of one's own takes them for.
    """
    labels, function = dataset.labels, getattr(task, "func", task)
    if not len(dataset.classes) and not labels_are_classes(task):
        return False
    return labels.dtype == torch.long and labels.ndim == 1 and getattr(function, "uses_labels", True)


def labels_are_classes(task: Task | None) -> bool:
    """Whether a task's labels are numbers of the model's outputs, and its loss a mean by what it says.

    So it is of `classification`, which None is, and of `distillation`, with whichever arguments: their
    attribute of this name says so.
    """
    return task is None or getattr(getattr(task, "func", task), "labels_are_classes", False)


def by_recipe(recipe: Recipe, task: Task | None, dataset: Dataset, outputs: Sequence[str]) -> Task:
    """What a training by `recipe` learns: the task, or `classification` as the recipe has it.

    `outputs` are the names of the model's logits, as `weights_of_classes` takes them. Raises ValueError where
    the recipe says of classification what another task makes no use of.
    """
    if task not in (None, classification):
        whose, remedy = "a task of its own, which", "have the task do it"
        if getattr(task, "func", task) is classification:
            whose = "it as a functools.partial, which"
            remedy = "give it to the partial, or leave the task out and have the recipe say all"
        for name in ("label_smoothing", "class_weights"):
            if getattr(recipe, name):
                raise ValueError(
                    f"{name} is of the task classification, and this training has {whose} does not see the "
                    f"recipe: leave {name} out of the recipe, and {remedy}"
                )
        return task
    weights = weights_of_classes(recipe.class_weights, dataset, outputs)
    return functools.partial(classification, label_smoothing=recipe.label_smoothing, class_weights=weights)


def weights_of_classes(
    class_weights: str | Sequence[float] | None, dataset: Dataset, outputs: Sequence[str] | None = None
) -> Tensor | None:
    """A recipe's class weights as numbers, one for each of `outputs`; None stays None.

    `outputs` are the names of the model's logits, by default the data's classes; one that the data does not
    have gets 1. "balanced" gives a class with count c among n images of K classes the weight n / (K · c), so
    that all classes weigh the same together, and an image 1 on average. Raises ValueError where there is not
    one number a class, and for "balanced" with a class that has no image.

    >>> data = Dataset(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1, 1]), ["cat", "dog"])
    >>> weights_of_classes("balanced", data)
    tensor([2.0000, 0.6667])
    """
    if class_weights is None:
        return None
    names = dataset.classes
    if is_balanced(class_weights):
        counts = dataset.labels.bincount(minlength=len(names))
        if none := [name for name, count in zip(names, counts.tolist(), strict=True) if not count]:
            raise ValueError(
                f"class_weights='balanced' needs images of every class; there are none of {', '.join(none)}: "
                "leave such classes out (select_classes), or give one number a class"
            )
        weights = len(dataset.labels) / (len(names) * counts.cpu().float())
    elif len(class_weights) != len(names):
        raise ValueError(
            f"class_weights has one number for each of {counted(len(names), 'class')} ({', '.join(names)}); "
            f"got {len(class_weights)}"
        )
    else:
        weights = torch.as_tensor(class_weights, dtype=torch.float32)
    if outputs is None or list(outputs) == list(names):
        return weights
    places = [names.index(name) if name in names else -1 for name in outputs]
    return torch.cat([weights, torch.ones(1)])[places]
