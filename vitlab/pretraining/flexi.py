"""One model for every patch size beside one model for each (FlexiViT, arXiv 2212.08013), on Fashion-MNIST."""

from collections.abc import Iterable, Sequence

import torch

from vitlab import data
from vitlab.pretraining.costs import costs
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, evaluate, train_to_the_end
from vitlab.vit import ViT, ViTConfig

PATCH_SIZES = (2, 4, 7, 14)
EVERY = "every"  # the arm that is trained at all of them
POS_GRID = (7, 7)  # its position embeddings, as FlexiViT's a grid finer than the largest patches make


def flexi(
    seeds: Iterable[int] = range(3),
    trained_at: Sequence[int | str] = (EVERY, *PATCH_SIZES),
    kernel_sizes: Sequence[int] = (4, 14),
    learning_rates: Sequence[float] = (1e-3, 2e-3, 4e-3),
    steps: int = 3000,
    batch_size: int = 128,
    validation_images: int = 5_000,
    test_images: int = 10_000,
) -> Study:
    """Does one model serve four patch sizes as well as four models that each see as many images?

    Each model is then asked at every size. Its rate is judged on training images kept back, at the size that
    it was trained at, or by the mean over all. The one model's kernel is kept at each of `kernel_sizes`.

    >>> len(flexi().runs)
    54
    """
    runs = grid(
        seed=seeds,
        trained_at=trained_at,
        kernel_size=kernel_sizes,
        learning_rate=learning_rates,
        steps=[steps],
        batch_size=[batch_size],
        validation_images=[validation_images],
        test_images=[test_images],
    )
    for run in runs:
        if run["trained_at"] != EVERY:
            run["kernel_size"] = run["trained_at"]
    runs = [run for i, run in enumerate(runs) if run not in runs[:i]]
    return Study("flexi", "Does one model serve every patch size?", runs, measure_flexi)


def measure_flexi(settings: Row, run: Run) -> Row:
    """One run of `flexi`: test accuracy at each size, and on images kept back at those it was trained at."""
    every = settings["trained_at"] == EVERY
    own = PATCH_SIZES if every else (settings["trained_at"],)
    torch.manual_seed(settings["seed"])
    kept_for = dict(kernel_size=settings["kernel_size"], pos_grid=POS_GRID) if every else {}
    model = ViT(ViTConfig(patch_size=4 if every else own[0], **kept_for))
    spent = dict(parameters=costs(model)["parameters"])
    images, split = data.fashion_mnist("train"), 60_000 - settings["validation_images"]
    recipe = Recipe(
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        patch_sizes=PATCH_SIZES if every else None,
        seed=settings["seed"],
    )
    train_to_the_end(model, images.subset(range(split)), recipe, run)
    kept, test = images.subset(range(split, 60_000)), data.fashion_mnist("test")
    judged = [evaluate(model.at(patch_size=size), kept, run)[1] for size in own]
    found = dict(validation_accuracy=round(sum(judged) / len(judged), 4))
    for size in PATCH_SIZES:
        accuracy = evaluate(model.at(patch_size=size), test.subset(range(settings["test_images"])), run)[1]
        found[f"test_accuracy_at_{size}"] = round(accuracy, 4)
    return spent | found
