"""What to predict of hidden patches, mean colours or pixels (MAE, arXiv 2111.06377), at equal budget."""

import functools
from collections.abc import Iterable, Sequence

import torch

from vitlab.fine_tuning import adapt, few_per_class
from vitlab.pretraining.masked import TARGETS, MaskedPatchViT, masked_patch_prediction
from vitlab.pretraining.outcome import parted, trained, validated
from vitlab.runtime import Run, start
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, train_to_the_end
from vitlab.vit import ViT, ViTConfig

SCRATCH = "scratch"


def masked_targets(
    arms: Sequence[str] = (SCRATCH, *TARGETS),
    seeds: Iterable[int] = range(3),
    learning_rates: Sequence[float] = (1e-3, 2e-3, 4e-3),
    labels: int = 1_000,
    pretraining_steps: int = 800,
    steps: int = 300,
    batch_size: int = 64,
    validation_images: int = 5_000,
    test_images: int = 10_000,
) -> Study:
    """Do pixels teach more than mean colours, where few images have labels?

    A ViT predicts one or the other of masked patches on images without labels, then learns the labelled ones,
    in a draw for each seed with equally many of each class, with augmentation. From scratch it learns these
    for as many steps as the others take together. Rates are of the labelled steps, and judged on training
    images that no training sees; before, all have the recipe's own. On one core of an AMD EPYC in bf16 a run
    takes 20 to 100 seconds: the runs of a seed and a target share what goes before, which the first one
    makes.

    >>> {run["arm"]: run["steps"] for run in masked_targets().runs}
    {'scratch': 1100, 'mean colour': 300, 'pixels': 300}
    """
    runs = grid(
        seed=seeds,
        arm=arms,
        learning_rate=learning_rates,
        labels=[labels],
        pretraining_steps=[pretraining_steps],
        steps=[steps],
        batch_size=[batch_size],
        validation_images=[validation_images],
        test_images=[test_images],
    )
    for run in runs:
        if run["arm"] == SCRATCH:
            run |= dict(pretraining_steps=0, steps=pretraining_steps + steps)
    return Study("masked_targets", "Do pixels teach more than mean colours?", runs, measure)


def measure(settings: Row, run: Run) -> Row:
    """One run of `masked_targets`."""
    images, kept = parted(settings["validation_images"])
    if settings["arm"] == SCRATCH:
        vit = ViT(ViTConfig())
    else:
        names = ("arm", "pretraining_steps", "batch_size", "validation_images")
        vit = pretrained(*(settings[name] for name in names), run)
    torch.manual_seed(settings["seed"])
    model = adapt(vit, num_classes=10)
    few = few_per_class(images, settings["labels"] // 10, settings["seed"])
    return trained(model, few, settings, run, augment=True) | validated(model, kept, run)


@functools.lru_cache(maxsize=1)
def pretrained(target: str, steps: int, batch_size: int, validation_images: int, run: Run) -> ViT:
    """A ViT after the prediction of masked patches of all training images but those kept for validation."""
    start(seed=run.seed, device=run.device, precision=run.precision)
    model = MaskedPatchViT(ViTConfig(num_classes=0), target)
    recipe = Recipe(steps=steps, batch_size=batch_size, augment=False, seed=run.seed)
    train_to_the_end(model, parted(validation_images)[0], recipe, run, masked_patch_prediction)
    return model.vit
