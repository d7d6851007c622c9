"""Measuring a model on a data set."""

import torch
from torch import Tensor, nn

from vitlab import data
from vitlab.data import Dataset
from vitlab.runtime import Run, here
from vitlab.training.stopping import out_of_memory
from vitlab.training.tasks import Task, classification
from vitlab.vit import evaluating


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    run: Run | None = None,
    batch_size: int = 500,
    task: Task | None = None,
) -> tuple[float, float]:
    """Mean loss and accuracy in [0, 1] of a task over a whole data set, without augmentation.

    Without a `task` it is `classification`, and the loss is the cross-entropy in nats.

    >>> from vitlab import ViT, ViTConfig
    >>> images, labels = torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.zeros(8, dtype=torch.long)
    >>> loss, accuracy = evaluate(ViT(ViTConfig()), Dataset(images, labels, ["only"]))
    >>> round(loss, 4), accuracy
    (2.3026, 1.0)
    """
    run = run or here()
    check_data(model, dataset, "the data set", task)
    model.to(run.device)
    task, loss, correct, counted = task or classification, 0.0, 0.0, 0
    batches = zip(dataset.images.split(batch_size), dataset.labels.split(batch_size), strict=True)
    with evaluating(model), out_of_memory(batch_size, "evaluate's batch_size"):
        for images, labels in batches:
            with run.autocast():
                outcome = task(model, data.normalise(images.to(run.device)), labels.to(run.device))
            loss, correct = loss + outcome.loss * outcome.counted, correct + outcome.correct
            counted += outcome.counted
    return float(loss) / counted, float(correct) / counted


def check_data(model: nn.Module, dataset: Dataset, what: str, task: Task | None = None) -> None:
    """Raise ValueError for no data set, an empty one, or labels outside the classes that the model knows.

    What labels mean to another task than classification is that task's affair.
    """
    wanted = {"images": (torch.uint8, 4), "labels": (torch.long, 1)}
    shapes = {"images": "uint8 (n, C, H, W)", "labels": "int64 (n,), the number of a class for each image"}
    if task not in (None, classification):
        del wanted["labels"]
    for name, kind in wanted.items():
        values = getattr(dataset, name)
        if not isinstance(values, Tensor) or (values.dtype, values.ndim) != kind:
            shape = tuple(getattr(values, "shape", [len(values)]))
            got = f"{getattr(values, 'dtype', type(values).__name__)} of shape {shape}"
            raise ValueError(f"the {name} of {what} are a tensor, {shapes[name]}; got {got}")
    if len(dataset.images) != len(dataset.labels):
        raise ValueError(f"{what} has {len(dataset.images)} images but {len(dataset.labels)} labels")
    if not len(dataset.labels):
        raise ValueError(f"{what} is empty")
    if task not in (None, classification):
        return
    lowest, highest = int(dataset.labels.min()), int(dataset.labels.max())
    config = getattr(model, "config", None)  # a model from elsewhere need not say how many classes it has
    classes = getattr(config, "num_classes", len(dataset.classes))
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"the labels of {what} run from {lowest} to {highest}, but the model knows {classes} classes, "
            f"0 to {classes - 1}; set num_classes"
        )
