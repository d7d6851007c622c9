"""Which classes are learnt first: trainings that are looked at class by class, on the way."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vitlab.data import Dataset
from vitlab.runtime import Run, seeded
from vitlab.training import History, Recipe, confusion, train
from vitlab.vit import ViT, ViTConfig


def learnt_by_class(
    config: ViTConfig,
    train_data: Dataset,
    test_data: Dataset,
    recipe: Recipe,
    moments: Sequence[int],
    seeds: Iterable[int],
    run: Run | None = None,
) -> Tensor:
    """How often each class is right on the way: (seeds, moments, classes) in [0, 1].

    Each seed is a new model, and the recipe's seed; `moments` are the numbers of steps after which it is
    asked about `test_data`, in rising order. Raises ValueError for moments that a training does not come to,
    and for a class of which `test_data` has no image.

    >>> blank = Dataset(torch.zeros(20, 1, 28, 28).byte(), torch.arange(20) % 10, list("abcdefghij"))
    >>> learnt_by_class(ViTConfig(), blank, blank, Recipe(steps=2), [1, 2], seeds=[0, 1, 2]).shape
    torch.Size([3, 2, 10])
    """
    steps = range(1, recipe.steps + 1)
    if not moments or list(moments) != [step for step in steps if step in moments]:
        raise ValueError(
            f"moments are steps from 1 to {recipe.steps} in rising order; got {list(moments)}: give the "
            "recipe more steps, or ask earlier"
        )
    counts = test_data.labels.bincount(minlength=len(test_data.classes))
    if absent := [name for name, count in zip(test_data.classes, counts.tolist(), strict=True) if not count]:
        raise ValueError(f"test_data has no image of {', '.join(absent)}: how many are right cannot be said")
    found = []
    for seed in seeds:
        with seeded(seed):
            model = ViT(config)

        def ask(history: History, model: ViT = model) -> None:
            if history.rows[-1]["step"] in moments:
                counts = confusion(model, test_data, run)
                found.append(counts.diag() / counts.sum(dim=1))

        own = replace(recipe, seed=seed)
        if train(model, train_data, None, own, run, on_step=ask, progress=False).interrupted:
            raise KeyboardInterrupt  # a table of part of the moments would say nothing
    return torch.stack(found).unflatten(0, (-1, len(moments)))
