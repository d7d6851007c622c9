"""What pre-training is worth where labels are few: draws of them, and what each contender makes of a draw."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.data import Dataset, Scenes
from vitlab.fine_tuning.adapting import adapt_to
from vitlab.fine_tuning.probing import features, linear_probe
from vitlab.runtime import Run
from vitlab.training import Recipe, evaluate, train
from vitlab.vit import ViT

Method = Callable[[Dataset, int], float]  # a draw of few labels and its seed -> accuracy in [0, 1]


def few_per_class(dataset: Dataset, per_class: int, seed: int = 0) -> Dataset:
    """A draw of `per_class` images of each class, different for each seed.

    Raises ValueError where a class has fewer.

    >>> images, labels = torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 0, 0, 1, 1, 1])
    >>> few_per_class(Dataset(images, labels, ["a", "b"]), 2).labels.tolist()
    [0, 0, 1, 1]
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label, name in enumerate(dataset.classes):
        places = (dataset.labels == label).nonzero()[:, 0]
        if len(places) < per_class:
            raise ValueError(f"class {name!r} has {len(places)} images, fewer than the {per_class} asked for")
        chosen.append(places[torch.randperm(len(places), generator=generator)[:per_class].to(places.device)])
    return dataset.subset(torch.cat(chosen))


def few_label_study(
    methods: Mapping[str, Method],
    dataset: Dataset,
    per_class: Sequence[int],
    draws: int = 3,
) -> dict[str, Tensor]:
    """What each method makes of few labels: name -> (draws, len(per_class)).

    A method takes a draw and its seed, and returns its accuracy. All methods get the same draws; within one
    seed the smaller draws are part of the larger. Raises ValueError for fewer than one draw, and what
    `few_per_class` raises.

    >>> data = Dataset(torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.arange(6) % 2, ["a", "b"])
    >>> few_label_study({"labels": lambda draw, seed: len(draw.labels)}, data, [1, 3], draws=2)
    {'labels': tensor([[2., 6.],
            [2., 6.]])}
    """
    if draws < 1:
        raise ValueError(f"draws is at least 1; got {draws}")
    results = {name: torch.zeros(draws, len(per_class)) for name in methods}
    for seed in range(draws):
        for place, count in enumerate(per_class):
            draw = few_per_class(dataset, count, seed)
            for name, method in methods.items():
                results[name][seed, place] = method(draw, seed)
    return results


def few_label_methods(
    model: ViT,
    test_data: Dataset,
    fine_tuning: Recipe,
    from_scratch: Recipe,
    ridge: float = 0.1,
    run: Run | None = None,
) -> dict[str, Method]:
    """The contenders for `few_label_study` on any task, each measured on `test_data`.

    "fine-tuned" is `model`, pre-trained, with a zero head and adapted to the images; "from scratch" is the
    same model with fresh weights; "linear probe" leaves the adapted body as it is; "pixels" is a probe on
    the images themselves. The first two are trained by their recipes, with the draw's seed.

    >>> from vitlab import ViTConfig
    >>> from vitlab.fine_tuning import fine_tuning_recipe
    >>> blank = Dataset(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4) % 2, ["cat", "dog"])
    >>> recipe = fine_tuning_recipe(steps=2, learning_rate=0.03, batch_size=4)
    >>> methods = few_label_methods(ViT(ViTConfig()), blank, recipe, recipe)
    >>> {name: method(blank, 0) for name, method in methods.items()}
    {'fine-tuned': 0.5, 'from scratch': 0.5, 'linear probe': 0.5, 'pixels': 0.5}
    """
    body = adapt_to(model, test_data)

    def trained(start: ViT, draw: Dataset, recipe: Recipe, seed: int) -> float:
        train(start, draw, None, replace(recipe, seed=seed), run, progress=False)
        return evaluate(start, test_data, run)[1]

    def fresh(draw: Dataset, seed: int) -> float:
        with torch.random.fork_rng():  # leave the caller's random numbers alone
            torch.manual_seed(seed)
            start = ViT(body.config)
        return trained(start, draw, from_scratch, seed)

    return {
        "fine-tuned": lambda draw, seed: trained(adapt_to(model, draw), draw, fine_tuning, seed),
        "from scratch": fresh,
        "linear probe": probe(lambda dataset: features(body, dataset, run), test_data, ridge),
        "pixels": probe(lambda dataset: dataset.images.flatten(1) / 255, test_data, ridge),
    }


def probe(read: Callable[[Dataset], Tensor], test_data: Dataset, ridge: float) -> Method:
    """A linear probe on what `read` makes of images, (n, D); the test images are read once, when needed."""
    known: list[Tensor] = []

    def method(draw: Dataset, seed: int) -> float:
        if not known:
            known.append(read(test_data))
        return linear_probe(read(draw), draw.labels, known[0], test_data.labels, ridge)

    return method


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
