"""Classes of two data sets, or of a data set and a model: the same by name, whatever their numbers."""

from collections import Counter
from collections.abc import Sequence

import torch

from vitlab.data.dataset import Dataset, check_labels


def match_classes(
    dataset: Dataset, classes: Sequence[str], what: str = "the data set", whose: str = "the other"
) -> Dataset:
    """The same images with labels that number `classes`, found by name; as it is where the classes are equal.

    `what` the data set is and `whose` the classes are goes into errors. Raises ValueError, which names them,
    for classes that are not among `classes`, and where a name that stands twice decides nothing.

    >>> mine = Dataset(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1]), ["owl", "cat"])
    >>> match_classes(mine, ["cat", "dog", "owl"]).labels
    tensor([2, 0, 0])
    """
    if list(dataset.classes) == list(classes):
        return dataset
    numbers = numbers_by_name(dataset.classes, classes, what, whose)
    check_labels(dataset.labels, len(numbers))
    labels = torch.tensor(numbers, device=dataset.labels.device)[dataset.labels]
    return dataset._replace(labels=labels, classes=list(classes))


def numbers_by_name(
    classes: Sequence[str], others: Sequence[str], what: str = "the data set", whose: str = "the other"
) -> list[int]:
    """The number that each of `classes` has among `others`. Raises what `match_classes` raises."""
    for names, of in ((classes, what), (others, whose)):
        if same := repeated(names):
            raise ValueError(
                f"{what} and {whose} have different classes, and {of} has {listed(same)} more than once: "
                "give each class a name of its own"
            )
    if unknown := [name for name in classes if name not in others]:
        raise ValueError(
            f"{what} has {listed(unknown)} among its classes, which {whose} does not have; its classes are "
            f"{listed(others)}. Rename the classes of the data set, or leave them out (data.select_classes)"
        )
    return [list(others).index(name) for name in classes]


def repeated(names: Sequence[str]) -> list[str]:
    """The names that stand more than once.

    >>> repeated(["owl", "crane", "cat", "crane"])
    ['crane']
    """
    return [name for name, count in Counter(names).items() if count > 1]


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names in a row, the first ones of many.

    >>> listed(list("abcd"), most=2)
    "'a', 'b' and 2 more"
    """
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
