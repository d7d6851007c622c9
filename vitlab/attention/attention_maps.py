"""Maps that are made of attention weights alone: rollout, and what the class token attends to."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vitlab.attention.probing import POOLING
from vitlab.attention.reading import (
    MATRICES,
    Target,
    check_reads,
    looking_at,
    patch_map,
    rows_read,
    through,
    tokens_of,
)
from vitlab.attention.rollout import check_fusion, mixing, row_difference
from vitlab.attention.tracing import at_once
from vitlab.attention.view import View
from vitlab.attention.watching import watching
from vitlab.norms import full_precision
from vitlab.vit import ViT


def rollout(
    model: ViT | View,
    images: Tensor,
    target: Target = None,
    head_fusion: str = "mean",
    discard_ratio: float = 0.0,
) -> Tensor:
    """Attention Rollout (appendix D.8; Abnar & Zuidema 2020): the class token's row of all layers' product.

    It reads attention alone, so it is the same whichever class is asked about.

    Heads are fused as the weights are made, and a row is multiplied from the last layer back, so that one
    (T, T) a layer is kept, of as many images at a time as fit in some 64 MB. Costs about a forward pass with
    its attention in the open; ratios are in the README.

    >>> from vitlab import ViTConfig
    >>> rollout(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 7, 7])
    """
    return rollout_and_difference(model, images, head_fusion, discard_ratio)[0]


def rollout_and_difference(
    model: ViT | View, images: Tensor, head_fusion: str = "mean", discard_ratio: float = 0.0
) -> tuple[Tensor, Tensor]:
    """`rollout`, and how far its row is from the mean row of all tokens, (B,), as `row_difference` says.

    Where that is near 0, the map is not the class token's own: every token would show it. It takes one more
    row on the way back through the layers.

    >>> from vitlab import ViTConfig
    >>> made, difference = rollout_and_difference(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28))
    >>> made.shape, difference.shape
    (torch.Size([2, 7, 7]), torch.Size([2]))
    """
    check_fusion(head_fusion, discard_ratio)
    mix = partial(mixing, head_fusion=head_fusion, discard_ratio=discard_ratio)
    differences = []

    def rolled(view: View, some: Tensor) -> Tensor:
        layers = taken(view, some, dict.fromkeys(range(view.num_layers), mix))
        own = rows_read(view, layers[0].shape[-1], layers[0], layers.pop(POOLING, None))
        rows = torch.stack([own, torch.full_like(own, 1 / own.shape[-1])], dim=1)  # (B or 1, 2, T)
        with full_precision(some.device):
            for layer in reversed(range(view.num_layers)):
                rows = rows @ layers.pop(layer)
        differences.append(row_difference(rows[:, 0], rows[:, 1], view.num_prefix_tokens))
        return rows[:, 0]

    made = by_groups(rolled, model, images, lambda view: view.num_layers - 1 + in_the_open(view))
    return made, torch.cat(differences)


def class_attention(model: ViT | View, images: Tensor, target: Target = None) -> Tensor:
    """What the class token attends to in the last layer, mean over heads; the class asked about is ignored.

    Of a model that pools by attention, what the pooling attends to. Costs a forward pass: no weights are made
    but those of the rows that the output is made of, or the last layer's where it is made of the patches'.

    >>> from vitlab import ViTConfig
    >>> class_attention(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).sum(dim=(1, 2)) <= 1
    tensor([True, True])
    """

    def looked(view: View, some: Tensor) -> Tensor:
        if view.reads == "attention":
            return taken(view, some, {})[POOLING]
        last = view.num_layers - 1

        def read(weights: Tensor) -> Tensor:
            return through(rows_read(view, weights.shape[-1], weights)[:, : weights.shape[-2]], weights)

        return taken(view, some, {last: read}, first_rows(view))[last]

    return by_groups(looked, model, images, lambda view: 1 if first_rows(view) else in_the_open(view))


def first_rows(view: View) -> int | None:
    """How many rows, the first, the output is made of; None where it is made of the patches' as well."""
    return {"token": 1, "pair": 2}.get(view.reads)


def by_groups(
    rows_of: Callable[[View, Tensor], Tensor],
    model: ViT | View,
    images: Tensor,
    matrices: Callable[[View], int],
) -> Tensor:
    """What `rows_of` a view reads of some images, (b, T or N), for all of them, on the grid: (B, h, w).

    As many at a time as make little enough: each takes so many `matrices` (T, T).
    """
    with looking_at(model, images) as view, torch.no_grad():
        check_reads(view)
        some = at_once(4 * matrices(view) * tokens_of(view, images) ** 2, images.device)
        rows = torch.cat([rows_of(view, group) for group in images.split(some)])
    return patch_map(rows, view.grid_of(tuple(images.shape[-2:])))


def in_the_open(view: View) -> int:
    """Matrices (T, T) of an image while attention runs in the open: of all heads, and one made of them."""
    return MATRICES * max(view.heads) + 1


def taken(
    view: View, images: Tensor, take: dict[int, Callable[[Tensor], Tensor]], rows: int | None = None
) -> dict[int, Tensor]:
    """What functions make of the weights of some layers, by layer, and the row of a pooling that is read.

    Of the weights they are given the first `rows` alone, or all.
    """
    if view.reads == "attention":
        take = take | {POOLING: lambda weights: weights.mean(dim=(1, 2))}
    found: dict[int, Tensor] = {}
    with watching(view, take, found.update, rows=rows):
        view(images)
    return found
