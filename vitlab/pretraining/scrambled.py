"""What a ResNet's knowledge of neighbourhood is worth: it learns images whose pixels have changed places."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vitlab.data import Dataset
from vitlab.patches import patchify, unpatchify
from vitlab.pretraining.costs import MATCHED_RESNET
from vitlab.pretraining.outcome import parted, trained, validated
from vitlab.resnet import ResNet
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid

PATCH_SIZE = 7  # lesson 04's: 16 patches of 49 pixels


def permutations(patch_size: int = PATCH_SIZE, seed: int = 7) -> tuple[Tensor, Tensor]:
    """An order for the patches (N,) of a garment, and one for the pixels (P²,) inside a patch.

    >>> [len(order) for order in permutations(4)]
    [49, 16]
    """
    generator = torch.Generator().manual_seed(seed)
    patches, pixels = (28 // patch_size) ** 2, patch_size**2
    return torch.randperm(patches, generator=generator), torch.randperm(pixels, generator=generator)


def scramble(dataset: Dataset, places: Tensor, inside: Tensor) -> Dataset:
    """Every image (n, 1, 28, 28) rearranged in the same way: patches change places, pixels within them too.

    At place i comes the patch places[i], in which at pixel j comes the pixel inside[j]. P is the root of the
    number of pixels.

    >>> from vitlab import data
    >>> ordered = torch.arange(49), torch.arange(16)
    >>> garments = data.fashion_mnist("test").subset(range(9))
    >>> torch.equal(scramble(garments, *ordered).images, garments.images)
    True
    """
    patch_size = math.isqrt(len(inside))
    patches = patchify(dataset.images, patch_size)[:, places][:, :, inside]
    return dataset._replace(images=unpatchify(patches, patch_size, 28, channels=1))


def scrambled(
    seeds: Iterable[int] = range(6),
    learning_rates: Sequence[float] = (2e-3, 4e-3, 8e-3, 16e-3),
    steps: int = 500,
    batch_size: int = 64,
    validation_images: int = 5_000,
    test_images: int = 10_000,
) -> Study:
    """What does a ResNet lose where neighbours are neighbours no more?

    It learns images as they are, and all of them scrambled alike; each has a grid of learning rates, judged
    on training images kept back.

    >>> len(scrambled().runs)
    48
    """
    runs = grid(
        seed=seeds,
        scrambled=[False, True],
        learning_rate=learning_rates,
        steps=[steps],
        batch_size=[batch_size],
        validation_images=[validation_images],
        test_images=[test_images],
    )
    return Study("scrambled", "What is knowledge of neighbourhood worth?", runs, measure_scrambled)


def measure_scrambled(settings: Row, run: Run) -> Row:
    """One run of `scrambled`."""

    def change(dataset):
        return scramble(dataset, *permutations()) if settings["scrambled"] else dataset

    images, kept = map(change, parted(settings["validation_images"]))
    model = ResNet(MATCHED_RESNET)
    return trained(model, images, settings, run, change=change) | validated(model, kept, run)
