"""How important maps call each head, and how well that orders heads by what their removal costs."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from vitlab.attention.distance import mean_attention_distance
from vitlab.attention.reading import asked_of, looking_at, rows_read, view_of
from vitlab.attention.recording import record_attention
from vitlab.attention.rollout import mixing, row_difference
from vitlab.attention.tracing import trace_back
from vitlab.studies import Row, Value
from vitlab.vit import ViT

TOGETHER = 50  # images


def class_attention(model: ViT, weights: Tensor) -> Tensor:
    """How much of the class token's attention goes to patches: (L, B, heads, T, T) -> (L, heads).

    Of another model, how much of the rows' that its output is a mean of (`rows_read`).
    """
    row = rows_read(view_of(model), weights.shape[-1], weights)[0] @ weights  # (L, B, heads, T)
    return row[..., model.config.num_prefix_tokens :].sum(dim=-1).mean(dim=1)


def rollout(model: ViT, weights: Tensor) -> Tensor:
    """How far rollout's map moves when a head is left out of its layer's mean: (L, heads), 0 to 1.

    It is the total variation between the rows of what the head reads, over patches, mean over images.
    """
    read = rows_read(view_of(model), weights.shape[-1], weights)[:, None]  # (1, 1, T)
    layers, found = [mixing(layer) for layer in weights], torch.zeros(weights.shape[0], weights.shape[2])

    def row(joint: Sequence[Tensor]) -> Tensor:
        made = read
        for layer in reversed(joint):
            made = made @ layer
        return made[:, 0]  # (B, T)

    whole, count = row(layers), weights.shape[2]
    for layer in range(len(layers)):
        for head in range(count):
            others = [each for each in range(count) if each != head]
            without = [*layers[:layer], mixing(weights[layer][:, others]), *layers[layer + 1 :]]
            difference = row_difference(row(without), whole, model.config.num_prefix_tokens)
            found[layer, head] = difference.mean()
    return found


def attention_distance(model: ViT, weights: Tensor) -> Tensor:
    """Mean attention distance in pixels, a control: (L, heads)."""
    config = model.config
    before = config.num_prefix_tokens
    return mean_attention_distance(weights, config.grid_size, config.patch_size, num_prefix_tokens=before)


OF_WEIGHTS: dict[str, Callable[[ViT, Tensor], Tensor]] = {
    each.__name__: each for each in (class_attention, rollout, attention_distance)
}
OF_GRADIENTS = ("attention_gradient", "relevance", "head_slope")
IMPORTANCES = (*OF_WEIGHTS, *OF_GRADIENTS)


def of_gradients(model: ViT, images: Tensor) -> dict[str, Tensor]:
    """What the gradient of the predicted class's logit y says of each head, means over images: (L, heads).

    `attention_gradient` is Σ (A ⊙ ∂y/∂A)⁺; `relevance` what the head adds at its layer to the class token's
    row of R (Chefer et al. 2021); `head_slope` |Σ A ⊙ ∂y/∂A|, the slope of y when the head is turned down
    (Michel et al. 2019, arXiv 1905.10650, equation 2, for y in the place of the loss).
    """
    with looking_at(model, images) as view:
        shape = len(images), view.heads[0]
        found = {name: torch.zeros(view.num_layers, *shape) for name in OF_GRADIENTS}
        tokens = model.config.num_tokens
        rows = rows_read(view, tokens, images).expand(len(images), -1).clone()  # of R

        def take(layer: int, which: slice, product: Tensor) -> None:
            positive = product.clamp(min=0)  # (B, heads, T, T)
            added = (rows[which, None, None] @ positive)[:, :, 0] / product.shape[1]  # (B, heads, T)
            found["attention_gradient"][layer, which] = positive.sum(dim=(2, 3)).cpu()
            found["head_slope"][layer, which] = product.sum(dim=(2, 3)).abs().cpu()
            found["relevance"][layer, which] = added.sum(dim=-1).cpu()
            rows[which] += added.sum(dim=1)

        takers = {
            layer: lambda which, product, layer=layer: take(layer, which, product)
            for layer in range(view.num_layers)
        }
        trace_back(view, images, lambda view, some: asked_of(view, some, None), takers)
    return {name: each.mean(dim=1) for name, each in found.items()}


def head_importance(model: ViT, images: Tensor) -> dict[str, Tensor]:
    """How important each map calls each head of a `ViT`, means over images (B, C, H, W): (L, heads) each.

    The maps are `IMPORTANCES`; attention distance is among them as a control. Raises ValueError where
    `record_attention` and the maps do.

    >>> from vitlab import ViTConfig
    >>> made = head_importance(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28))
    >>> made["rollout"].shape, len(made)
    (torch.Size([4, 4]), 6)
    """
    view_of(model)
    sums = dict.fromkeys(IMPORTANCES, 0.0)
    for some in images.split(TOGETHER):
        with torch.no_grad(), looking_at(model, some), record_attention(model) as record:
            model(some)
        made = {name: of(model, record.weights.cpu()) for name, of in OF_WEIGHTS.items()}
        for name, values in (made | of_gradients(model, some)).items():
            sums[name] = sums[name] + values * len(some) / len(images)
    return sums


class Correlation(NamedTuple):
    """Spearman's ρ over the heads of each model; the interval is that of chance, 95 % of permuted means."""

    mean: float
    lowest: float
    highest: float
    chance_low: float
    chance_high: float
    p: float  # the share of permutations whose mean is as far from 0
    models: int


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1 along the last axis; equal values share the mean of theirs.

    >>> ranks(torch.tensor([0.5, 0.1, 0.5]))
    tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    below = (values[..., None, :] < values[..., :, None]).sum(dim=-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(dim=-1)
    return below.double() + (equal + 1) / 2


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's rank correlation along the last axis, (…, n) -> (…,); nan where all of one are equal.

    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0])).round(decimals=6)
    tensor(1., dtype=torch.float64)
    """
    a, b = (ranks(each) for each in (one, other))
    a, b = (each - each.mean(dim=-1, keepdim=True) for each in (a, b))
    return (a * b).sum(dim=-1) / (a.square().sum(dim=-1) * b.square().sum(dim=-1)).sqrt()


def head_correlation(
    rows: Sequence[Row],
    importance: str,
    truth: str = "loss_increase",
    within_layers: bool = False,
    permutations: int = 10_000,
) -> Correlation:
    """How well a column of the study of heads orders the heads of each model by a truth, over all models.

    Chance is what remains when the truth is dealt to other heads of the same model, all models at once. Heads
    of early layers cost more, whatever a map says, so that "layer" itself is a control (its ρ is negative);
    `within_layers` compares heads of one layer only, and takes the mean over a model's layers. Raises
    ValueError for a column that is not there and for fewer than two models.

    >>> rows = [dict(seed=s, layer=0, a=h, b=h * h, status="done") for s in range(3) for h in range(6)]
    >>> head_correlation(rows, "a", "b", permutations=100).mean
    1.0
    """
    done = [row for row in rows if row["status"] == "done"]
    for name in (importance, truth):
        if not done or name not in done[0]:
            raise ValueError(f"the columns are {', '.join(done[0] if done else [])}; got {name!r}")
    groups: dict[Value, dict[Value, list[Row]]] = {}
    for row in done:
        layer = row["layer"] if within_layers else 0
        groups.setdefault(row["seed"], {}).setdefault(layer, []).append(row)
    if len(groups) < 2:
        raise ValueError(f"a spread needs at least 2 models; got {len(groups)}")
    own, permuted = [], torch.zeros(permutations, dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    for layers in groups.values():
        found = []
        for heads in layers.values():
            one, other = (
                torch.tensor([float(row[name]) for row in heads], dtype=torch.float64)
                for name in (importance, truth)
            )
            found.append(float(spearman(one, other)))
            orders = torch.rand(permutations, len(other), generator=draw).argsort(dim=-1)
            chance = spearman(one.expand(permutations, -1), other[orders])
            permuted += chance / len(layers) / len(groups)
        own.append(fmean(found))
    low, high = permuted.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    mean = fmean(own)
    p = (1 + int((permuted.abs() >= abs(mean) - 1e-12).sum())) / (1 + permutations)
    return Correlation(*(round(each, 6) for each in (mean, min(own), max(own), low, high, p)), len(own))
