"""What pre-training is worth where labels are few: draws of them, and what each contender makes of a draw."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.adapting import adapt_to
from vitlab.data import Dataset, Scenes, match_classes
from vitlab.fine_tuning.probing import features, linear_probe
from vitlab.runtime import Run, seeded
from vitlab.training import Recipe, evaluate, train_to_the_end
from vitlab.vit import ViT
from vitlab.wording import counted

Measure = Callable[[Dataset], float]  # a data set -> accuracy on it, in [0, 1]
Learner = Callable[[Dataset, int], Measure]  # a draw of few labels and its seed -> what was learnt from it


def few_per_class(dataset: Dataset, per_class: int, seed: int = 0) -> Dataset:
    """A draw of `per_class` images of each class, different for each seed.

    A class without images has none in the draw. Raises ValueError where any other has fewer, for less than
    one, and for a data set without images.

    >>> images, labels = torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 0, 0, 1, 1, 1])
    >>> few_per_class(Dataset(images, labels, ["a", "b"]), 2).labels.tolist()
    [0, 0, 1, 1]
    """
    if per_class < 1:
        raise ValueError(f"per_class is at least 1; got {per_class}")
    if not len(dataset.labels):
        raise ValueError("the data set is empty; there is nothing to draw from")
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label, name in enumerate(dataset.classes):
        places = (dataset.labels == label).nonzero()[:, 0]
        if 0 < len(places) < per_class:
            raise ValueError(
                f"class {name!r} has {counted(len(places), 'image')}, fewer than the {per_class} asked for"
            )
        chosen.append(places[torch.randperm(len(places), generator=generator)[:per_class].to(places.device)])
    return dataset.subset(torch.cat(chosen))


def few_label_study(
    learners: Mapping[str, Learner],
    dataset: Dataset,
    test_data: Dataset,
    per_class: Sequence[int],
    draws: int = 3,
) -> dict[str, Tensor]:
    """Test accuracy of learners with few labels: name -> (draws, len(per_class)).

    All learners get the same draws from `dataset`; within one seed the smaller draws are part of the larger.
    The classes of `test_data` are found by name. Raises ValueError for fewer than one draw, for classes that
    `dataset` does not have, and what `few_per_class` raises.

    >>> data = Dataset(torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.arange(6) % 2, ["a", "b"])
    >>> lucky = lambda draw, seed: lambda dataset: len(draw.labels) / 10
    >>> few_label_study({"lucky": lucky}, data, data, [1, 3], draws=2)
    {'lucky': tensor([[0.2000, 0.6000],
            [0.2000, 0.6000]])}
    """
    if draws < 1:
        raise ValueError(f"draws is at least 1; got {draws}")
    test_data = match_classes(test_data, dataset.classes, "test_data", "dataset")
    results = {name: torch.zeros(draws, len(per_class)) for name in learners}
    for seed in range(draws):
        for place, count in enumerate(per_class):
            draw = few_per_class(dataset, count, seed)
            for name, learn in learners.items():
                results[name][seed, place] = learn(draw, seed)(test_data)
    return results


def fine_tuned(model: ViT, recipe: Recipe, run: Run | None = None) -> Learner:
    """For `few_label_study`: `model` with a zero head, adapted to the draw's images, and all of it trained.

    The recipe's seed is the draw's.

    >>> from vitlab import ViTConfig
    >>> from vitlab.fine_tuning import fine_tuning_recipe
    >>> blank = Dataset(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4) % 2, ["cat", "dog"])
    >>> learn = fine_tuned(ViT(ViTConfig()), fine_tuning_recipe(steps=1, learning_rate=0.03))
    >>> learn(blank, 0)(blank)
    0.5
    """
    return lambda draw, seed: trained(adapt_to(model, draw), draw, replace(recipe, seed=seed), run)


def from_scratch(model: ViT, recipe: Recipe, run: Run | None = None) -> Learner:
    """For `few_label_study`: the same model with fresh weights, drawn by the seed."""

    def learn(draw: Dataset, seed: int) -> Measure:
        config = adapt_to(model, draw).config
        with seeded(seed):
            fresh = ViT(config)
        return trained(fresh, draw, replace(recipe, seed=seed), run)

    return learn


def trained(model: ViT, draw: Dataset, recipe: Recipe, run: Run | None) -> Measure:
    """The accuracy of a model after its training on a draw."""
    train_to_the_end(model, draw, recipe, run)
    return lambda dataset: evaluate(model, dataset, run)[1]


def probe(model: ViT, ridge: float, run: Run | None = None) -> Learner:
    """For `few_label_study`: a linear probe on the features of `model`, adapted to the images and frozen."""
    return probe_on(lambda dataset: features(adapt_to(model, dataset), dataset, run), ridge)


def pixel_probe(ridge: float) -> Learner:
    """For `few_label_study`: a linear probe on the images themselves, without any network."""
    return probe_on(lambda dataset: dataset.images.flatten(1) / 255, ridge)


def probe_on(read: Callable[[Dataset], Tensor], ridge: float) -> Learner:
    """A linear probe on what `read` makes of images, (n, D)."""

    def learn(draw: Dataset, seed: int) -> Measure:
        known = read(draw)
        return lambda dataset: linear_probe(known, draw, read(dataset), dataset, ridge)

    return learn


def cut_out(scenes: Scenes, image_size: int, margin: float = 0.1) -> Dataset:
    """The garments cut out of their scenes by their true masks, as squares of `image_size` pixels.

    The box around the mask is made a square, with `margin` of its side added all around, and resized
    (bilinear); where it leaves the scene, the nearest pixel goes on. Raises ValueError for a scene whose mask
    is empty.

    >>> from vitlab.data import scenes
    >>> cut_out(scenes(5), image_size=28).images.shape
    torch.Size([5, 3, 28, 28])
    """
    images, labels, masks = scenes
    if not masks.flatten(1).any(dim=1).all():
        raise ValueError("a scene without a mask has nothing to cut out")
    (left, right), (top, bottom) = edges(masks.any(dim=1)), edges(masks.any(dim=2))  # each (n,), in pixels
    side = torch.maximum(right - left, bottom - top) * (1 + 2 * margin)
    height, width = masks.shape[1:]
    matrix = torch.zeros(len(images), 2, 3)  # from the square's coordinates in [-1, 1] to the scene's
    matrix[:, 0, 0], matrix[:, 0, 2] = side / width, (left + right) / width - 1
    matrix[:, 1, 1], matrix[:, 1, 2] = side / height, (top + bottom) / height - 1
    places = F.affine_grid(matrix, [len(images), 3, image_size, image_size], align_corners=False)
    cut = F.grid_sample(images.float(), places, padding_mode="border", align_corners=False)
    return Dataset(cut.round_().byte(), labels, scenes.dataset.classes)


def edges(filled: Tensor) -> tuple[Tensor, Tensor]:
    """Where the True values of each row of (n, length) begin and end: [begin, end)."""
    filled = filled.float()
    return filled.argmax(dim=1).float(), filled.shape[1] - filled.flip(1).argmax(dim=1).float()
