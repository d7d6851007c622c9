"""One model for every patch size beside one model for each (FlexiViT, arXiv 2212.08013), on Fashion-MNIST."""

import copy
import functools
from collections.abc import Iterable, Sequence
from statistics import fmean

from vitlab.pretraining.outcome import first_test_images, parted
from vitlab.runtime import Run, start
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, evaluate, train_to_the_end
from vitlab.vit import ViT, ViTConfig

PATCH_SIZES = (2, 4, 7, 14)
EVERY = "every"  # the arm that is trained at all of them


def flexi(
    seeds: Iterable[int] = range(3),
    trained_at: Sequence[int | str] = (EVERY, *PATCH_SIZES),
    learning_rates: Sequence[float] = (1e-3, 2e-3, 4e-3),
    start_steps: int = 2000,
    steps: int = 800,
    batch_size: int = 128,
    validation_images: int = 5_000,
    test_images: int = 10_000,
) -> Study:
    """Does one model serve four patch sizes as well as four models that each see as many images?

    All of a seed go on from one model that was trained at patches of 4, as FlexiViT goes on from its teacher,
    with the same parameters: a kernel and a grid of positions that each batch resizes (`ViT.at`). Each is
    then asked at every size. A rate is judged on training images that no training sees, at the size that the
    model was trained at, or by the mean over all.

    >>> len(flexi().runs)
    45
    """
    runs = grid(
        seed=seeds,
        trained_at=trained_at,
        learning_rate=learning_rates,
        start_steps=[start_steps],
        steps=[steps],
        batch_size=[batch_size],
        validation_images=[validation_images],
        test_images=[test_images],
    )
    return Study("flexi", "Does one model serve every patch size?", runs, measure_flexi)


def measure_flexi(settings: Row, run: Run) -> Row:
    """One run of `flexi`: test accuracy at each size, and on images kept back at those it was trained at."""
    every = settings["trained_at"] == EVERY
    own = PATCH_SIZES if every else (settings["trained_at"],)
    sizes = settings["batch_size"], settings["validation_images"]
    model = copy.deepcopy(started(settings["start_steps"], *sizes, run))
    images, kept = parted(settings["validation_images"])
    recipe = Recipe(
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        optimizer="muon",
        patch_sizes=PATCH_SIZES if every else None,
        seed=settings["seed"],
    )
    train_to_the_end(model if every else model.at(patch_size=own[0]), images, recipe, run)
    judged = fmean(evaluate(model.at(patch_size=size), kept, run)[1] for size in own)
    test = first_test_images(settings)
    at_sizes = {size: evaluate(model.at(patch_size=size), test, run)[1] for size in PATCH_SIZES}
    return dict(validation_accuracy=round(judged, 4)) | {
        f"test_accuracy_at_{size}": round(accuracy, 4) for size, accuracy in at_sizes.items()
    }


@functools.lru_cache(maxsize=1)
def started(steps: int, batch_size: int, validation_images: int, run: Run) -> ViT:
    """The model that all runs of a seed go on from, which the first one makes: patches of 4 pixels alone."""
    start(seed=run.seed, device=run.device, precision=run.precision)
    model = ViT(ViTConfig())
    recipe = Recipe(steps=steps, batch_size=batch_size, learning_rate=3e-3, optimizer="muon", seed=run.seed)
    train_to_the_end(model, parted(validation_images)[0], recipe, run)
    return model
