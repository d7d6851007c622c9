"""Measuring a model on a data set."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitlab import data
from vitlab.data import Dataset
from vitlab.data.classes import listed
from vitlab.runtime import Run, here
from vitlab.training.stopping import out_of_memory
from vitlab.training.tasks import Outcome, Task, classification, labels_are_classes, names_classes
from vitlab.vit import evaluating
from vitlab.wording import counted


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    run: Run | None = None,
    batch_size: int = 500,
    task: Task | None = None,
) -> tuple[float, float]:
    """Mean loss and accuracy in [0, 1] of a task over a whole data set, without augmentation.

    Without a `task` it is `classification`, and the loss is the cross-entropy in nats, all images alike. The
    batch size changes nothing but speed and memory: losses are put together by what the task's `Outcome` says
    that they were divided by. A task that does not say it is tried on a few images; where its loss is no mean
    over what it counted, a warning says so, and the whole data set is measured as one batch.

    Classes are compared by name where the model knows names (`class_names`, which `train` sets and a
    checkpoint keeps). Raises ValueError for classes that it does not know, and where it has no names, but
    another number of classes.

    >>> from vitlab import ViT, ViTConfig
    >>> images, labels = torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.zeros(8, dtype=torch.long)
    >>> loss, accuracy = evaluate(ViT(ViTConfig()), Dataset(images, labels, list("abcdefghij")))
    >>> round(loss, 4), accuracy
    (2.3026, 1.0)
    """
    run = run or here()
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1; got {batch_size}")
    check_data(model, dataset, "the data set", task)
    dataset = as_the_model_knows(model, dataset, task)
    model.to(run.device)
    task, n = task or classification, len(dataset.labels)
    with evaluating(model):
        with out_of_memory(batch_size, "evaluate's batch_size"):
            if batch_size >= n or is_mean(model, dataset, run, task, batch_size):
                return measured(model, dataset, run, task, batch_size)
        warnings.warn(NO_MEAN, stacklevel=3)
        try:
            with out_of_memory(n, "evaluate's batch_size"):
                return measured(model, dataset, run, task, n)
        except MemoryError as error:
            raise MemoryError(
                f"the memory is full with {counted(n, 'image')} at once, and {NO_MEAN}"
            ) from error


def answers(model: nn.Module, dataset: Dataset, run: Run | None = None, batch_size: int = 500) -> Tensor:
    """The class that the model thinks likeliest for each image, (n,) int64 on the CPU, without augmentation.

    >>> from vitlab import ViT, ViTConfig
    >>> images, labels = torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)
    >>> answers(ViT(ViTConfig()), Dataset(images, labels, list("abcdefghij")))
    tensor([0, 0, 0])
    """
    run = run or here()
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1; got {batch_size}")
    check_data(model, dataset, "the data set", None)
    model.to(run.device)
    with torch.inference_mode(), evaluating(model), run.autocast():
        parts = dataset.images.split(batch_size)
        return torch.cat([model(data.normalise(part.to(run.device))).argmax(dim=-1).cpu() for part in parts])


def confusion(model: nn.Module, dataset: Dataset, run: Run | None = None) -> Tensor:
    """How many images of each class the model takes for each: (classes, classes), rows are the true classes.

    Its diagonal over its rows' sums is the accuracy by class. Classes are compared by name where the model
    knows names, as `evaluate` does it, and then stand in the model's order. Raises ValueError as it does.
    """
    said = answers(model, dataset, run)
    dataset = as_the_model_knows(model, dataset, None)
    count = len(dataset.classes)
    if (most := int(said.max())) >= count:
        raise ValueError(
            f"the model answers with class {most}, and the data set has {count}, 0 to {count - 1}"
        )
    return (count * dataset.labels.cpu() + said).bincount(minlength=count**2).view(count, count)


NO_MEAN = (
    "the task's loss is no mean over what it counted, so the whole data set is measured as one batch; return "
    "Outcome(loss, correct, counted, divisor) with what the loss was divided by, such as the sum of the "
    "weights, and it is measured in batches"
)


def measured(
    model: nn.Module, dataset: Dataset, run: Run, task: Task, batch_size: int
) -> tuple[float, float]:
    """Loss and accuracy, batch by batch."""
    loss, divisor, correct, counted = 0.0, 0.0, 0.0, 0.0
    batches = zip(dataset.images.split(batch_size), dataset.labels.split(batch_size), strict=True)
    for images, labels in batches:
        with run.autocast():
            outcome = task(model, data.normalise(images.to(run.device)), labels.to(run.device))
        loss, divisor = loss + weighed(outcome), divisor + outcome.divided_by
        correct, counted = correct + outcome.correct, counted + outcome.counted
    if not divisor or not counted:
        raise ValueError("the task counted nothing in the whole data set, so that there is no mean")
    return float(loss) / float(divisor), float(correct) / float(counted)


def weighed(outcome: Outcome) -> Tensor | float:
    """The loss times what it was divided by; 0 for a batch in which there was nothing to divide by."""
    if isinstance(outcome.divided_by, Tensor):
        return torch.where(outcome.divided_by == 0, 0.0, outcome.loss * outcome.divided_by)
    return outcome.loss * outcome.divided_by if outcome.divided_by else 0.0


TRIED = 64  # images


def is_mean(model: nn.Module, dataset: Dataset, run: Run, task: Task, batch_size: int) -> bool:
    """Whether a task's loss is a mean, as far as a few images show, such that batches can be put together.

    True without a trial for `classification`, for an outcome with a divisor, and for a task that is not the
    same when it is asked again. Images of as many labels as possible are tried, in fp32.
    """
    if labels_are_classes(task):
        return True

    def total(places: Tensor) -> tuple[Tensor, bool]:
        images, labels = dataset.images[places].to(run.device), dataset.labels[places].to(run.device)
        outcome = task(model, data.normalise(images), labels)
        return weighed(outcome), outcome.divisor is not None

    size = min(max(2, batch_size), TRIED)
    places = various(dataset.labels, TRIED)
    parts = -(-len(places) // size)
    with torch.random.fork_rng([run.device] if run.device.type == "cuda" else []):
        for part in (places[i::parts] for i in range(parts)):
            halves = part.tensor_split(2)
            if not all(map(len, halves)):
                continue
            (whole, said), (again, _) = total(part), total(part)
            if said or abs(whole - again) > 1e-6 * abs(whole):
                return True
            apart = sum(total(half)[0] for half in halves)
            if abs(whole - apart) > 1e-4 * max(abs(whole), abs(apart)):
                return False
    return True


def various(labels: Tensor, n: int) -> Tensor:
    """Some places of n labels or more, of as many kinds as possible, those of a kind side by side.

    >>> various(torch.tensor([7, 7, 7, 9, 7, 7, 7, 7]), 3).tolist()
    [0, 7, 3]
    """
    spread = torch.linspace(0, len(labels) - 1, min(n, len(labels))).long()
    kinds = torch.unique(labels, dim=0, return_inverse=True)[1].cpu()
    order = kinds.sort(stable=True).indices
    first = order[kinds[order].diff(prepend=kinds.new_tensor([-1])) > 0]  # one of each kind
    places = torch.cat([first[:n], spread]).unique()
    return places[kinds[places].sort(stable=True).indices].to(labels.device)


def as_the_model_knows(model: nn.Module, dataset: Dataset, task: Task | None = None) -> Dataset:
    """The data with labels that number the model's outputs, by name where it knows names (`class_names`).

    Raises ValueError for classes that the model does not know, and for another number of classes than that of
    a model without names: which of its outputs they are cannot be known.
    """
    if not names_classes(task, dataset):
        return dataset
    if names := known_names(model):
        return data.match_classes(dataset, names, "the data set", "the model")
    outputs = outputs_of(model, dataset)
    if labels_are_classes(task) and outputs != len(dataset.classes):
        raise ValueError(
            f"the data set has {counted(len(dataset.classes), 'class')} ({listed(dataset.classes)}), the "
            f"model {outputs} without names: which of them these are is not known. Set model.class_names to "
            f"a list of {counted(outputs, 'name')}, or give the data set all of the model's classes "
            "(data.match_classes)"
        )
    return dataset


def refuse_other_order(model: nn.Module, names: Sequence[str]) -> None:
    """Raise ValueError where one of the names is that of another of the model's outputs.

    Names that the model does not know are as good as any, such as those of another language.
    """
    known = list(getattr(model, "class_names", None) or names)
    if wrong := [name for own, name in zip(known, names, strict=False) if name in known and name != own]:
        raise ValueError(
            f"the model's classes are {listed(known)}, in this order, and {wrong[0]!r} is class "
            f"{known.index(wrong[0])}; got {listed(names)}: use model.class_names"
        )


def known_names(model: nn.Module) -> list[str]:
    """The names of a model's outputs, from the first one on; none where it has no names.

    Raises ValueError where there are fewer outputs than names, as when the model has got another head.
    """
    names = list(getattr(model, "class_names", None) or [])
    outputs = said_outputs(model)
    if outputs is not None and outputs < len(names):
        raise ValueError(
            f"the model has {counted(outputs, 'output')}, but class_names has "
            f"{counted(len(names), 'name')} ({listed(names)}): set model.class_names to the names of the "
            "outputs, or to None where the head is new"
        )
    return names


def outputs_of(model: nn.Module, dataset: Dataset) -> int:
    """How many classes a model knows; of a model that does not say it, as many as the data has."""
    said = said_outputs(model)
    return len(dataset.classes) if said is None else said


def said_outputs(model: nn.Module) -> int | None:
    """How many outputs a model has by its head, else by its config."""
    head = getattr(model, "head", None)
    if isinstance(head, nn.Linear):  # which may be another one than the config tells of
        return head.out_features
    return getattr(getattr(model, "config", None), "num_classes", None)


def check_data(model: nn.Module, dataset: Dataset, what: str, task: Task | None = None) -> None:
    """Raise ValueError for no data set, an empty one, or labels outside the classes that the model knows.

    What labels mean to another task than classification is that task's affair.
    """
    wanted = {"images": (torch.uint8, 4), "labels": (torch.long, 1)}
    shapes = {"images": "uint8 (n, C, H, W)", "labels": "int64 (n,), the number of a class for each image"}
    if not labels_are_classes(task):
        del wanted["labels"]
    for name, kind in wanted.items():
        values = getattr(dataset, name)
        if not isinstance(values, Tensor) or (values.dtype, values.ndim) != kind:
            shape = tuple(getattr(values, "shape", [len(values)]))
            got = f"{getattr(values, 'dtype', type(values).__name__)} of shape {shape}"
            raise ValueError(f"the {name} of {what} are a tensor, {shapes[name]}; got {got}")
    if len(dataset.images) != len(dataset.labels):
        raise ValueError(
            f"{what} has {counted(len(dataset.images), 'image')} but {counted(len(dataset.labels), 'label')}"
        )
    if not len(dataset.labels):
        raise ValueError(f"{what} is empty")
    if not labels_are_classes(task):
        return
    lowest, highest = int(dataset.labels.min()), int(dataset.labels.max())
    classes = outputs_of(model, dataset)
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"the labels of {what} run from {lowest} to {highest}, but the model knows "
            f"{counted(classes, 'class')}, 0 to {classes - 1}; set num_classes"
        )
