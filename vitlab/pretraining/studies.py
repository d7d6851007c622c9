"""The studies of lesson 04: claim 6 and the paper's ablations, asked again at lab scale on Fashion-MNIST.

`python -m vitlab.pretraining study NAME` makes one. Each is a function of its sizes, so that a small part can
be made live; the defaults are those of `data/results/`, where it has them. Minutes that these take on one
core, about (AMD EPYC, bf16): data_size 38, position_embeddings 7, pooling 16, patch_size 64 (beside other
programs), masked_patches 15, masked_targets 29, scrambled 24, norm_gradients 75; by the time of their steps,
after_the_paper 50 and flexi 160.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import fields

import torch

from vitlab import data
from vitlab.fine_tuning import adapt, few_per_class
from vitlab.pretraining.after import after_the_paper
from vitlab.pretraining.costs import MATCHED_RESNET, costs
from vitlab.pretraining.crossing import crossing_rates
from vitlab.pretraining.flexi import flexi
from vitlab.pretraining.masked import MaskedPatchViT, masked_patch_prediction
from vitlab.pretraining.masked_targets import masked_targets
from vitlab.pretraining.norm_gradients import norm_gradients
from vitlab.pretraining.outcome import parted, trained, validated
from vitlab.pretraining.scrambled import scrambled
from vitlab.resnet import ResNet
from vitlab.runtime import Run, start
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, train_to_the_end
from vitlab.vit import ViT, ViTConfig

# Best for each on 5,000 training images kept back, after 500 steps on 30,000 others. Accuracy (one seed):
# ViT 78.3, 80.0, 78.5 % at 1, 2, 4 thousandths; ResNet 86.3, 88.3, 88.7, 88.5 % at 1, 2, 4, 8.
LEARNING_RATES = {"vit": 2e-3, "resnet": 4e-3}


def data_size(
    images: Sequence[int] = (500, 2_000, 8_000, 30_000, 60_000),
    seeds: Iterable[int] = range(3),
    steps: int = 1000,
    batch_size: int = 64,
    test_images: int = 10_000,
) -> Study:
    """Claim 6 (figures 3 and 4): does a ViT overtake a ResNet as data grows, at equal training FLOPs?

    Both take the same steps on batches of the same size, and need as many FLOPs for an image; each has the
    learning rate that suits it, as in table 3. As in figure 4, nothing regularises but weight decay: images
    are not augmented. The seed also draws the training images.

    >>> len(data_size().runs)
    30
    """
    runs = grid(
        seed=seeds,
        images=images,
        model=["vit", "resnet"],
        steps=[steps],
        batch_size=[batch_size],
        test_images=[test_images],
    )
    runs = [run | dict(learning_rate=LEARNING_RATES[run["model"]]) for run in runs]
    return Study("data_size", "Does a ViT overtake a ResNet as data grows?", runs, measure_data_size)


def measure_data_size(settings: Row, run: Run) -> Row:
    """One run of `data_size`."""
    model = ViT(ViTConfig()) if settings["model"] == "vit" else ResNet(MATCHED_RESNET)
    images = data.fashion_mnist("train").subset(settings["images"], seed=settings["seed"])
    return costs(model) | trained(model, images, settings, run)


def position_embeddings(
    seeds: Iterable[int] = range(3),
    steps: int = 500,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    test_images: int = 10_000,
) -> Study:
    """Table 8's question: what do position embeddings give, learned or computed (appendix D.4)?

    >>> sorted({run["pos_embed"] for run in position_embeddings().runs})
    ['learned', 'none', 'sincos2d']
    """
    runs = grid(
        seed=seeds,
        pos_embed=["none", "learned", "sincos2d"],
        steps=[steps],
        batch_size=[batch_size],
        learning_rate=[learning_rate],
        test_images=[test_images],
    )
    return Study("position_embeddings", "What do position embeddings give?", runs, measure_vit)


def pooling(
    seeds: Iterable[int] = range(3),
    learning_rates: Sequence[float] = (1e-3, 2e-3, 4e-3, 8e-3),
    steps: int = 400,
    batch_size: int = 64,
    validation_images: int = 5_000,
    test_images: int = 10_000,
) -> Study:
    """Figure 9's question: is the mean over patches as good as a class token (appendix D.3)?

    Each gets the learning rate that is best for it on a validation part of the training images; the test
    accuracy at this rate is then the answer. Rows are for all rates.

    >>> len(pooling().runs)
    24
    """
    runs = grid(
        seed=seeds,
        pool=["token", "mean"],
        learning_rate=learning_rates,
        steps=[steps],
        batch_size=[batch_size],
        validation_images=[validation_images],
        test_images=[test_images],
    )
    return Study("pooling", "Class token or mean over patches?", runs, measure_vit)


def patch_size(
    patch_sizes: Sequence[int] = (4, 7, 14, 28),
    seeds: Iterable[int] = range(3),
    learning_rates: Sequence[float] = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    steps: int = 500,
    batch_size: int = 64,
    validation_images: int = 5_000,
    test_images: int = 10_000,
) -> Study:
    """Section 4.4's and figure 8's question: what do smaller patches cost, and what do they give?

    Each size has a grid of learning rates, judged as those of `pooling` are.

    Patches of 2 pixels are left out, as 197 tokens instead of 50 make each of their runs about five times as
    long as the longest here; 28 is the whole image as one patch.

    >>> patch_size().varied
    ('seed', 'patch_size', 'learning_rate')
    """
    runs = grid(
        seed=seeds,
        patch_size=patch_sizes,
        learning_rate=learning_rates,
        steps=[steps],
        batch_size=[batch_size],
        validation_images=[validation_images],
        test_images=[test_images],
    )
    return Study("patch_size", "What do smaller patches cost and give?", runs, measure_vit)


def measure_vit(settings: Row, run: Run) -> Row:
    """A ViT with the settings that its config has, trained on all images but those for validation."""
    config = ViTConfig(**{f.name: settings[f.name] for f in fields(ViTConfig) if f.name in settings})
    images, kept = parted(settings.get("validation_images", 0))
    model = ViT(config)
    results = costs(model) | trained(model, images, settings, run)
    return results | (validated(model, kept, run) if len(kept.labels) else {})


def masked_patches(
    labels: Sequence[int] = (100, 1_000),
    seeds: Iterable[int] = range(3),
    learning_rates: Sequence[float] = (5e-4, 2e-3),
    pretraining_steps: int = 1000,
    steps: int = 300,
    batch_size: int = 64,
    test_images: int = 10_000,
) -> Study:
    """Section 4.6's question: does masked patch prediction help where few images have labels?

    A ViT learns the labelled images, in a draw for each seed with equally many of each class, from scratch
    (`pretraining_steps` 0) and after masked patch prediction on all 60,000 images without their labels. Both
    take the same labelled steps, with augmentation, at each of the learning rates.

    >>> masked_patches().varied
    ('seed', 'pretraining_steps', 'labels', 'learning_rate')
    """
    runs = grid(
        seed=seeds,
        pretraining_steps=[0, pretraining_steps],
        labels=labels,
        learning_rate=learning_rates,
        steps=[steps],
        batch_size=[batch_size],
        test_images=[test_images],
    )
    return Study("masked_patches", "Do masked patches help with few labels?", runs, measure_masked_patches)


def measure_masked_patches(settings: Row, run: Run) -> Row:
    """One run of `masked_patches`. The runs of a seed share its pre-training, which the first one makes."""
    images, steps = data.fashion_mnist("train"), settings["pretraining_steps"]
    vit = masked_pretraining(steps, settings["batch_size"], run) if steps else ViT(ViTConfig())
    torch.manual_seed(settings["seed"])
    few = few_per_class(images, settings["labels"] // 10, settings["seed"])
    return trained(adapt(vit, num_classes=10), few, settings, run, augment=True)


@functools.lru_cache(maxsize=1)
def masked_pretraining(steps: int, batch_size: int, run: Run) -> ViT:
    """A ViT without head after masked patch prediction on all training images of Fashion-MNIST."""
    start(seed=run.seed, device=run.device, precision=run.precision)
    model = MaskedPatchViT(ViTConfig(num_classes=0))
    recipe = Recipe(steps=steps, batch_size=batch_size, augment=False, seed=run.seed)
    images = data.fashion_mnist("train")
    train_to_the_end(model, images, recipe, run, masked_patch_prediction)
    return model.vit


STUDIES = {
    study.__name__: study
    for study in (
        data_size,
        position_embeddings,
        pooling,
        patch_size,
        masked_patches,
        masked_targets,
        scrambled,
        norm_gradients,
        crossing_rates,
        flexi,
        after_the_paper,
    )
}
