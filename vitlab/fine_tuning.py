"""Using a pre-trained ViT for another task: new head, new resolution, linear probe (sections 3.2 and 4.1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab import data
from vitlab.data import Dataset
from vitlab.embeddings import resize_pos_embed
from vitlab.runtime import Run, here
from vitlab.vit import ViT


def adapt(
    model: ViT,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    method: str = "jax",
) -> ViT:
    """A copy of a pre-trained ViT for another task, resolution or kind of image; `model` is left as it is.

    With `num_classes` the whole head, hidden layer included, is replaced by one zero-initialised linear
    layer; with `image_size` the patch size stays, so there are more patches or fewer, and learned
    position embeddings are interpolated to the new grid by `resize_pos_embed`'s `method` (section 3.2).
    With `in_chans` a model for grey images (1) takes colour (3), or the other way round, such that a grey
    image in three equal channels gives the same tokens. Raises ValueError where the patch size does not
    divide the new size, and for other numbers of channels.

    >>> from vitlab import ViTConfig
    >>> adapt(ViT(ViTConfig()), num_classes=3, image_size=(28, 56))(torch.zeros(2, 1, 28, 56)).shape
    torch.Size([2, 3])
    """
    config = model.config
    if image_size is not None:
        config = replace(config, image_size=image_size)
    if num_classes is not None:
        config = replace(config, num_classes=num_classes, representation_size=None)
    if in_chans is not None:
        config = replace(config, in_chans=in_chans)
    weights = model.state_dict()
    weights["patch_embed.proj.weight"] = for_channels(weights["patch_embed.proj.weight"], config.in_chans)
    if num_classes is not None:
        weights = {name: w for name, w in weights.items() if not name.startswith(("head.", "pre_logits."))}
    if config.pos_embed == "learned":
        weights["pos_embed"] = resize_pos_embed(
            weights["pos_embed"], model.config.grid_size, config.grid_size, config.num_prefix_tokens, method
        )
    elif config.pos_embed == "sincos2d":
        weights.pop("pos_embed")  # the formula gives the new grid's table
    adapted = ViT(config).to(next(model.parameters()).device)
    adapted.load_state_dict(adapted.state_dict() | weights)
    return adapted


def for_channels(weight: Tensor, in_chans: int) -> Tensor:
    """A projection's weight (D, C, P, P) for grey images made one for colour, or the other way round.

    >>> for_channels(torch.full((96, 1, 4, 4), 0.75), 3)[0, :, 0, 0]
    tensor([0.2500, 0.2500, 0.2500])
    """
    old = weight.shape[1]
    if old == in_chans:
        return weight
    if (old, in_chans) == (1, 3):
        return weight.repeat(1, 3, 1, 1) / 3
    if (old, in_chans) == (3, 1):
        return weight.sum(dim=1, keepdim=True)
    raise ValueError(
        f"in_chans goes from 1 (grey) to 3 (colour) or back; got {in_chans} for a model that takes {old}"
    )


@torch.no_grad()  # not inference_mode: a head may be trained on what this returns
def features(model: ViT, dataset: Dataset, run: Run | None = None, batch_size: int = 500) -> Tensor:
    """What the head would read for every image: (n, D), fp32, on the run's device.

    >>> from vitlab import ViTConfig
    >>> images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    >>> features(ViT(ViTConfig()), Dataset(images, torch.arange(3), ["a", "b", "c"])).shape
    torch.Size([3, 96])
    """
    run = run or here()
    was_training = model.training
    model.eval().to(run.device)
    pooled = []
    for images in dataset.images.split(batch_size):
        with run.autocast():
            pooled.append(model.pooled_features(data.normalise(images.to(run.device))))
    model.train(was_training)
    return torch.cat(pooled)


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    ridge: float = 1e-2,
) -> float:
    """Accuracy in [0, 1] of a linear classifier on frozen features, found in closed form (section 4.1).

    Regularised least squares onto targets of -1 and 1, one column a class, as in the paper's few-shot
    measurements. Features are standardised by the training set's mean and deviation; `ridge` is the
    penalty per training image, above 0; the bias is free. Raises ValueError where features and labels
    differ in number.

    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.1, 0.9], [0.9, 0.2]])
    >>> linear_probe(x, torch.tensor([0, 1, 0, 1]), x, torch.tensor([0, 1, 0, 1]))
    1.0
    """
    for x, y in ((train_features, train_labels), (test_features, test_labels)):
        if len(x) != len(y):
            raise ValueError(f"there are {len(x)} features but {len(y)} labels")
    if ridge <= 0:
        raise ValueError(
            f"ridge is above 0, or features that outnumber images have no one answer; got {ridge}"
        )
    mean, deviation = train_features.mean(dim=0), train_features.std(dim=0, correction=0) + 1e-6
    x, far = (((f - mean) / deviation).double() for f in (train_features, test_features))
    targets = 2.0 * F.one_hot(train_labels.to(x.device)).double() - 1  # (n, classes)
    bias = targets.mean(dim=0)  # as the features have mean 0
    predictions = (far @ ridge_weights(x, targets - bias, ridge * len(x)) + bias).argmax(dim=1)
    return float((predictions == test_labels.to(predictions.device)).double().mean())


def ridge_weights(x: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """W (D, K) that makes |xW - targets|² + penalty · |W|² least, for x (n, D) and targets (n, K).

    There are two ways to write it, and the smaller system, n or D wide, is solved:
    (xᵀx + penalty)⁻¹ xᵀ = xᵀ (xxᵀ + penalty)⁻¹.
    """
    smaller = x if len(x) < x.shape[1] else x.T
    system = smaller @ smaller.T + penalty * torch.eye(len(smaller), dtype=x.dtype, device=x.device)
    if smaller is x:
        return x.T @ torch.linalg.solve(system, targets)
    return torch.linalg.solve(system, x.T @ targets)


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
    methods: Mapping[str, Callable[[Dataset, int], float]],
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


def at_resolution(dataset: Dataset, image_size: int | tuple[int, int]) -> Dataset:
    """The same images at another size, stretched where the sides' ratio changes (bicubic, antialiased).

    >>> at_resolution(Dataset(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), None, []), (28, 56)).images.shape
    torch.Size([2, 1, 28, 56])
    """
    images = F.interpolate(dataset.images.float(), size=image_size, mode="bicubic", antialias=True)
    return dataset._replace(images=images.round_().clamp_(0, 255).byte())
