"""One model for every patch size beside one model for each (FlexiViT, arXiv 2212.08013), on Fashion-MNIST."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from vitlab import checkpoints
from vitlab.pretraining.outcome import first_test_images, parted
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, evaluate, train_to_the_end

PATCH_SIZES = (2, 4, 7, 14)
EVERY = "every"  # the arm that is trained at all of them


def flexi(
    seeds: Iterable[int] = range(3),
    trained_at: Sequence[int | str] = (EVERY, *PATCH_SIZES),
    learning_rates: Sequence[float] = (1e-3, 2e-3, 4e-3),
    steps: int = 1000,
    batch_size: int = 128,
    checkpoint: str = "fashion_mnist_vit",
    validation_images: int = 5_000,
    test_images: int = 10_000,
) -> Study:
    """Does one model serve four patch sizes as well as four models that each see as many images?

    All go on from one model that was trained at patches of 4, as FlexiViT goes on from its teacher, with the
    same parameters: a kernel and a grid of positions that each batch resizes (`ViT.at`). Each is then asked
    at every size. A rate is judged on training images kept back, at the size that the model was trained at,
    or by the mean over all.

    >>> len(flexi().runs)
    45
    """
    runs = grid(
        seed=seeds,
        trained_at=trained_at,
        learning_rate=learning_rates,
        steps=[steps],
        batch_size=[batch_size],
        checkpoint=[checkpoint],
        validation_images=[validation_images],
        test_images=[test_images],
    )
    return Study("flexi", "Does one model serve every patch size?", runs, measure_flexi)


def measure_flexi(settings: Row, run: Run) -> Row:
    """One run of `flexi`: test accuracy at each size, and on images kept back at those it was trained at."""
    every = settings["trained_at"] == EVERY
    own = PATCH_SIZES if every else (settings["trained_at"],)
    model = checkpoints.load_checkpoint(checkpoints.bundled(settings["checkpoint"]))
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
