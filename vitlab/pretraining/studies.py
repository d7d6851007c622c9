"""The studies of lesson 04: claim 6 and the paper's ablations, asked again at lab scale on Fashion-MNIST.

`python -m vitlab.pretraining study NAME` runs one. Every study is a function of its sizes, so that a small
part can be run live; the defaults are what `data/results/` holds.
"""

from collections.abc import Iterable, Sequence

from torch import nn

from vitlab import data, resnet, vit
from vitlab.data import Dataset
from vitlab.resnet import ResNet, ResNetConfig
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, train
from vitlab.vit import ViT, ViTConfig, count_parameters

# As many FLOPs an image as the default ViT to 1 %, and as many parameters to 2 %.
MATCHED_RESNET = ResNetConfig(width=16, blocks=(2, 1, 1, 1))


def data_size(
    images: Sequence[int] = (500, 2_000, 8_000, 30_000, 60_000),
    seeds: Iterable[int] = range(3),
    steps: int = 1000,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    test_images: int = 10_000,
) -> Study:
    """Claim 6 (figures 3 and 4): does the ViT overtake a ResNet of equal training FLOPs as data grows?

    Both take the same steps on batches of the same size, and need equally many FLOPs for an image. As in
    figure 4, nothing regularises but weight decay: images are not augmented. The seed also draws the images.

    >>> data_size().runs[0]["images"]
    500
    """
    runs = grid(
        seed=seeds,
        images=images,
        model=["vit", "resnet"],
        steps=[steps],
        batch_size=[batch_size],
        learning_rate=[learning_rate],
        test_images=[test_images],
    )
    return Study("data_size", "Does a ViT overtake a ResNet as data grows?", runs, measure_data_size)


def measure_data_size(settings: Row, run: Run) -> Row:
    """One run of `data_size`."""
    images = data.fashion_mnist("train").subset(settings["images"], seed=settings["seed"])
    model = ViT(ViTConfig()) if settings["model"] == "vit" else ResNet(MATCHED_RESNET)
    return trained(model, images, settings, run) | dict(
        parameters=count_parameters(model), forward_mflops=round(forward_flops(model) / 1e6, 2)
    )


def trained(model: nn.Module, images: Dataset, settings: Row, run: Run) -> Row:
    """Train by the settings, without augmentation, and measure on the first `test_images` test images."""
    test = data.fashion_mnist("test")
    test = test.subset(range(settings["test_images"])) if settings["test_images"] < 10_000 else test
    recipe = Recipe(
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        augment=False,
        seed=settings["seed"],
    )
    history = train(model, images, test, recipe, run, progress=False, evaluations=1)
    end, speeds = history.evaluations[-1], sorted(row["images_per_second"] for row in history.rows)
    return dict(
        test_accuracy=round(end.accuracy, 4),
        test_loss=round(end.loss, 4),
        train_accuracy=round(history.rows[-1]["accuracy"], 4),
        train_loss=round(history.rows[-1]["loss"], 4),
        images_per_second=round(speeds[len(speeds) // 2]),
    )


def forward_flops(model: ViT | ResNet) -> int:
    """Floating-point operations of one image's forward pass; a training step takes about three times it."""
    return (vit if isinstance(model, ViT) else resnet).count_flops(model.config)


STUDIES = {study.__name__: study for study in (data_size,)}
