"""Maps that are made of gradients: of attention weights, or of pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from vitlab.attention.probing import POOLING
from vitlab.attention.reading import (
    Target,
    asked_of,
    check_reads,
    in_patches,
    looking_at,
    patch_map,
    rows_read,
    through,
    tokens_of,
)
from vitlab.attention.tracing import Taker, frozen, trace_back
from vitlab.attention.view import View
from vitlab.vit import ViT


def attention_gradient(model: ViT | View, images: Tensor, target: Target = None) -> Tensor:
    """Attention × gradient in the last layer: E_h[(A ⊙ ∂y/∂A)⁺], the class token's row.

    y is the logit of the class; the rule of `relevance` for one layer alone. Costs a forward pass: the way
    back ends at this layer.

    >>> from vitlab import ViTConfig
    >>> attention_gradient(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), target=3).shape
    torch.Size([2, 7, 7])
    """
    with looking_at(model, images) as view:
        check_traceable(view)
        rows = starting_rows(view, images)

        def take(which: slice, product: Tensor) -> None:
            rows[which] = through(rows[which], product.clamp(min=0))

        layers = into(rows) if view.reads == "attention" else {view.num_layers - 1: take}
        trace_back(view, images, partial(asked_of, target=target), layers)
    return patch_map(rows, view.grid_of(tuple(images.shape[-2:])))


def relevance(model: ViT | View, images: Tensor, target: Target = None) -> Tensor:
    """Chefer, Gur & Wolf 2021 (arXiv 2103.15679, equations 5 and 6), the class token's row.

    Ā = E_h[(∂y/∂A ⊙ A)⁺] with y the logit of the class; from the first layer to the last R ← R + Ā·R, where R
    starts as the identity. Of R one row is made, from the last layer to the first, as the gradient comes:
    r ← r + r·Ā. No layer's weights or gradients are kept where a model uses PyTorch's own attention. Costs
    less than a forward and a backward pass in training, as parameters have no gradient.

    >>> from vitlab import ViTConfig
    >>> relevance(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), target=[3, 5]).shape
    torch.Size([2, 7, 7])
    """
    with looking_at(model, images) as view:
        check_traceable(view)
        rows = starting_rows(view, images)

        def take(which: slice, product: Tensor) -> None:
            rows[which] += through(rows[which], product.clamp(min=0))

        layers = dict.fromkeys(range(view.num_layers), take)
        layers |= into(rows) if view.reads == "attention" else {}
        trace_back(view, images, partial(asked_of, target=target), layers)
    return patch_map(rows, view.grid_of(tuple(images.shape[-2:])))


def input_gradient(model: ViT | View, images: Tensor, target: Target = None) -> Tensor:
    """Saliency (Simonyan et al. 2013, section 3): max over channels of |∂y/∂x|, mean over a patch's pixels.

    y is the logit of the class. Costs a forward and a backward pass without gradients of parameters.

    >>> from vitlab import ViTConfig
    >>> input_gradient(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 7, 7])
    """
    with looking_at(model, images) as view, frozen(view.model), differentiable(images) as inputs:
        chosen = asked_of(view, inputs, target)
        (gradient,) = torch.autograd.grad(chosen.sum(), inputs)
    return in_patches(gradient.abs().amax(dim=1), view).mean(dim=-1)


@contextmanager
def differentiable(images: Tensor) -> Iterator[Tensor]:
    """The images as something to take gradients through, wherever this is called and frozen or not."""
    with torch.inference_mode(False), torch.enable_grad():
        yield images.detach().clone().requires_grad_()


def check_traceable(view: View) -> None:
    """Raises ValueError for a model of whose attention no gradient is taken."""
    check_reads(view)
    if view.side_by_side:
        raise ValueError(
            "the blocks of this model have several attentions side by side, which no gradient is taken for; "
            "rollout and class_attention show them as one"
        )


def starting_rows(view: View, images: Tensor) -> Tensor:
    """The rows that are read, one for each image, (B, T); zeros for a pooling, whose own row comes later."""
    with torch.inference_mode(False):  # they are written on the way back, which is never in that mode
        pooling = torch.zeros(len(images), 1, device=images.device)
        return rows_read(view, tokens_of(view, images), images, pooling).expand(len(images), -1).clone()


def into(rows: Tensor) -> dict[int, Taker]:
    """What puts a pooling's row, mean over heads and queries, into the rows (B, T) that are read."""

    def take(which: slice, product: Tensor) -> None:
        rows[which, -product.shape[-1] :] = product.clamp(min=0).mean(dim=(1, 2)).to(rows.dtype)

    return {POOLING: take}
