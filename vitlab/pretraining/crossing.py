"""Claim 6's crossing on tasks that do not run out of images: ViT, ResNet and a hybrid of the two.

Scenes and relations are made as they are needed, so that every training image is seen once.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitlab import data
from vitlab.data import Dataset
from vitlab.pretraining.costs import costs
from vitlab.resnet import ResidualBlock, ResNet, ResNetConfig, StdConv2d
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, evaluate, train_to_the_end
from vitlab.vit import ViT, ViTConfig

IMAGE_SIZE = 32  # pixels, the least that scenes have
BATCH_SIZE = 100
PART = 20_000  # images made at once, to keep the memory small
TASKS = {
    "scenes": data.scenes,
    "same": functools.partial(data.relations, relation="same"),
    "order": functools.partial(data.relations, relation="order"),
}


class Shape(NamedTuple):
    """What one kind of model is made of at one size."""

    width: int  # of a ResNet's first stage, or a hybrid's stem
    blocks: tuple[int, ...]  # residual blocks in each stage
    vit: dict  # fields of a ViTConfig


# At each size the three have the same number of parameters to 5 %, and of FLOPs to 12 %.
SHAPES = {
    ("small", "vit"): Shape(0, (), dict(embed_dim=96, depth=4, num_heads=4, mlp_dim=192)),
    ("small", "resnet"): Shape(16, (1, 1, 1, 1), {}),
    ("small", "hybrid"): Shape(8, (1,), dict(embed_dim=96, depth=4, num_heads=4, mlp_dim=160)),
    ("large", "vit"): Shape(0, (), dict(embed_dim=192, depth=5, num_heads=6, mlp_dim=384)),
    ("large", "resnet"): Shape(32, (1, 1, 2, 1), {}),
    ("large", "hybrid"): Shape(16, (1,), dict(embed_dim=192, depth=5, num_heads=6, mlp_dim=344)),
}


class HybridViT(nn.Module):
    """A ViT whose patches are cut from features: the first stage of a `ResNet` comes first (section 3.1).

    The stem that `ViTConfig` has is the published hybrids', with strides and widths for larger images.

    Images (B, 3, H, W) in [-1, 1] -> logits (B, num_classes).

    >>> HybridViT(8, 1, ViTConfig(image_size=32, in_chans=8))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, width: int, blocks: int, config: ViTConfig):
        super().__init__()
        stage = [ResidualBlock(width, width, stride=1) for _ in range(blocks)]
        self.stem = nn.Sequential(StdConv2d(3, width, 3, padding=1, bias=False), *stage)
        self.vit = ViT(config)

    def forward(self, images: Tensor) -> Tensor:
        return self.vit(self.stem(images))


def new_model(kind: str, size: str, num_classes: int) -> nn.Module:
    """A "vit", "resnet" or "hybrid" that is "small" (0.3 million parameters) or "large" (1.5 million).

    >>> type(new_model("resnet", "small", 10)).__name__
    'ResNet'
    """
    shape = SHAPES[size, kind]
    if kind == "resnet":
        return ResNet(ResNetConfig(3, num_classes, shape.width, shape.blocks))
    config = dict(image_size=IMAGE_SIZE, patch_size=4, num_classes=num_classes, **shape.vit)
    if kind == "vit":
        return ViT(ViTConfig(in_chans=3, **config))
    return HybridViT(shape.width, shape.blocks[0], ViTConfig(in_chans=shape.width, **config))


def images_of(task: str, n: int, seed: int, split: str = "train") -> Dataset:
    """`n` images of a task, of which another seed has none: uint8 (n, 3, 32, 32).

    >>> images_of("order", 3, seed=0)
    Dataset(3 images of 3×32×32, classes: first class right, first class left; on cpu)
    """
    images = torch.empty(n, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    labels = torch.empty(n, dtype=torch.long)
    for i, start in enumerate(range(0, n, PART)):
        part = slice(start, min(start + PART, n))
        made = TASKS[task](n=part.stop - start, seed=100_000 * seed + i, image_size=IMAGE_SIZE, split=split)
        images[part], labels[part] = made.images, made.labels
    return Dataset(images, labels, made.dataset.classes)


VALIDATION_SEED = 900  # far from the seeds of trainings
LEARNING_RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)


def crossing_rates(
    images: Sequence[int] = (100_000,),
    seeds: Iterable[int] = range(3),
    tasks: Sequence[str] = tuple(TASKS),
    sizes: Sequence[str] = ("small", "large"),
    models: Sequence[str] = ("vit", "resnet", "hybrid"),
    learning_rates: Sequence[float] = LEARNING_RATES,
    validation_images: int = 5_000,
) -> Study:
    """Which learning rate suits each of the three models, by task, size and images seen?

    Judged on images of the training split that no training sees.

    >>> len(crossing_rates(tasks=["scenes"], sizes=["small"]).runs)
    45
    """
    runs = grid(
        seed=seeds,
        images=images,
        task=tasks,
        size=sizes,
        model=models,
        learning_rate=learning_rates,
        validation_images=[validation_images],
    )
    return Study("crossing_rates", "Which learning rate suits each model?", runs, measure_rate)


def measure_rate(settings: Row, run: Run) -> Row:
    """One run of `crossing_rates`."""
    model, results = trained(settings, run)
    kept = images_of(settings["task"], settings["validation_images"], VALIDATION_SEED)
    loss, accuracy = evaluate(model, kept, run)
    return results | dict(validation_accuracy=round(accuracy, 4), validation_loss=round(loss, 4))


def trained(settings: Row, run: Run) -> tuple[nn.Module, Row]:
    """A model after a training in which it saw each image once; what that cost, and its last batches."""
    seen = images_of(settings["task"], settings["images"], settings["seed"])
    torch.manual_seed(settings["seed"])
    model = new_model(settings["model"], settings["size"], len(seen.classes))
    spent = costs(model, (3, IMAGE_SIZE, IMAGE_SIZE))
    recipe = Recipe(
        steps=settings["images"] // BATCH_SIZE,
        batch_size=BATCH_SIZE,
        learning_rate=settings["learning_rate"],
        augment=False,
        seed=settings["seed"],
    )
    history = train_to_the_end(model, seen, recipe, run)
    last = history.rows[-1]
    ended = dict(train_accuracy=round(last["accuracy"], 4), train_loss=round(last["loss"], 4))
    return model, spent | ended
