"""The study of heads: does the head that a map calls important cost accuracy when it is removed?

`python -m vitlab.attention heads` makes it, one row for each head of each model; `head_correlation` reads it.
The models started apart: each seed has initial values and an order of the images of its own. On one core of
an AMD EPYC, bf16, a model takes about 70 seconds to train, and each of its heads about 2 to
measure; bf16 moved the loss of one model on 2,000 images by at most 0.0003.
"""

import functools
from collections.abc import Iterable

import torch
from torch import Tensor

from vitlab import data
from vitlab.attention.importances import IMPORTANCES, head_importance
from vitlab.attention.intervening import intervene
from vitlab.runtime import Run, start
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, evaluate, train_to_the_end
from vitlab.vit import ViT, ViTConfig

TRAINED_ON = 55_000  # of 60,000 training images; maps are asked about some of the others


def head_removal(
    seeds: Iterable[int] = range(5),
    steps: int = 1000,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    optimizer: str = "muon",
    map_images: int = 500,
    test_images: int = 5_000,
) -> Study:
    """What each head's removal costs in loss and accuracy, and how important each map calls the head.

    Maps are asked about training images that were kept back, and the cost is measured on test images.

    >>> len(head_removal().runs), head_removal().varied
    (80, ('seed', 'layer', 'head'))
    """
    config = ViTConfig()
    runs = grid(
        seed=seeds,
        layer=range(config.depth),
        head=range(config.num_heads),
        steps=[steps],
        batch_size=[batch_size],
        learning_rate=[learning_rate],
        optimizer=[optimizer],
        map_images=[map_images],
        test_images=[test_images],
    )
    question = "Does the head that a map calls important cost accuracy when it is removed?"
    return Study("head_removal", question, runs, measure)


def measure(settings: Row, run: Run) -> Row:
    """One head: the whole model's loss and accuracy, what its removal costs, and what maps say of it."""
    layer, head = settings["layer"], settings["head"]
    model, importance, (loss, accuracy) = model_of(tuple(settings.items())[3:], run)
    with intervene(model, heads={layer: head}):
        without = evaluate(model, measured_on(settings["test_images"]), run)
    results = dict(
        test_loss=loss,
        test_accuracy=accuracy,
        loss_increase=without[0] - loss,
        accuracy_lost=accuracy - without[1],
    )
    results |= {name: float(importance[name][layer, head]) for name in (*IMPORTANCES, "random")}
    return {name: round(value, 6) for name, value in results.items()}


@functools.lru_cache(maxsize=1)
def model_of(settings: tuple, run: Run) -> tuple[ViT, dict[str, Tensor], tuple[float, float]]:
    """The model of a run's seed, how important maps call its heads, and its loss and accuracy."""
    given = dict(settings)
    start(seed=run.seed, device=run.device, precision=run.precision)
    model, images = ViT(ViTConfig()), data.fashion_mnist("train")
    chosen = {name: given[name] for name in ("steps", "batch_size", "learning_rate", "optimizer")}
    train_to_the_end(model, images.subset(range(TRAINED_ON)), Recipe(seed=run.seed, **chosen), run)
    kept = images.subset(range(TRAINED_ON, TRAINED_ON + given["map_images"]))
    importance = head_importance(model, data.normalise(kept.images.to(run.device)))
    draw = torch.Generator().manual_seed(run.seed)
    importance["random"] = torch.rand(importance["rollout"].shape, generator=draw)
    return model, importance, evaluate(model, measured_on(given["test_images"]), run)


@functools.lru_cache(maxsize=1)
def measured_on(count: int) -> data.Dataset:
    """The first test images."""
    return data.fashion_mnist("test").subset(range(count))
