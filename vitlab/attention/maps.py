"""Maps of what a prediction rests on, through one signature, so that they can be compared and scored.

Each takes `(model, images, target=None)`: a `ViT`, or a view of any model that `vitlab.attach` takes; images
(B, C, H, W) as the model takes them; and what is asked about, a class for all images or one each; None is the
class that the model predicts, and a function of the output asks for a number of its own, (B, …) -> (B,): one
logit minus another, a regression, the similarity to a text. Each gives one number a patch, (B, h, w) on the
grid of these images, larger where the patch matters more, on a scale of its own. For a model that reads no
class token, `rows_read` says which rows stand for its row. Parameters, gradients and the mode of the model
stay as they were. All raise ValueError for a model or images that do not fit. More baselines, of
pictures and without a model, are in `vitlab.attention.baselines`.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from vitlab.attention.baselines import deviation, gaussian
from vitlab.attention.probing import POOLING
from vitlab.attention.reading import (
    Target,
    asked_of,
    check_reads,
    grey_of,
    in_patches,
    looking_at,
    patch_map,
    question,
    rows_read,
    through,
)
from vitlab.attention.rollout import check_fusion, mixing, row_difference
from vitlab.attention.tracing import Taker, at_once, frozen, trace_back
from vitlab.attention.view import View
from vitlab.attention.watching import watching
from vitlab.encoder import full_precision
from vitlab.vit import ViT

Map = Callable[[ViT | View, Tensor, Target], Tensor]
MATRICES = 3  # of all heads, that are there at once while attention runs in the open


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

    made = by_groups(rolled, model, images, kept=lambda view: view.num_layers)
    return made, torch.cat(differences)


def class_attention(model: ViT | View, images: Tensor, target: Target = None) -> Tensor:
    """What the class token attends to in the last layer, mean over heads; the class asked about is ignored.

    Of a model that pools by attention, what the pooling attends to. Costs a forward pass: the other layers'
    weights are not made.

    >>> from vitlab import ViTConfig
    >>> class_attention(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).sum(dim=(1, 2)) <= 1
    tensor([True, True])
    """

    def looked(view: View, some: Tensor) -> Tensor:
        if view.reads == "attention":
            return taken(view, some, {})[POOLING]
        last = view.num_layers - 1

        def read(weights: Tensor) -> Tensor:
            return through(rows_read(view, weights.shape[-1], weights), weights)

        return taken(view, some, {last: read})[last]

    return by_groups(looked, model, images)


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


@torch.no_grad()
def occlusion(
    model: ViT | View,
    images: Tensor,
    target: Target = None,
    window: int = 2,
    stride: int | None = None,
    of: str = "probability",
) -> Tensor:
    """How far the class's probability, or a function's number, falls where a grey square hides a part.

    Zeiler & Fergus 2013 (arXiv 1311.2901, section 4.2). The square is `window` patches wide and moves by
    `stride` (default: as much), so that a grid of h x w patches takes about h·w / stride² forward passes. A
    patch gets the mean of the squares that hide it. Probabilities sum to 1, so what one class loses others
    gain, and the maps of two classes oppose each other; with `of="logit"` the class's logit is looked at,
    which the others do not move. A function's number is taken as it is.

    Costs one forward pass a square and one more, several at a time, in the model's own precision: under
    autocast to bf16, whose numbers have three digits, small falls are rounded away.

    >>> from vitlab import ViTConfig
    >>> occlusion(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), target=0).shape
    torch.Size([2, 7, 7])
    """
    stride = window if stride is None else stride
    if not 1 <= stride <= window:
        raise ValueError(f"window is at least 1 patch and stride 1 to window; got {window} and {stride}")
    with looking_at(model, images) as view:
        output = view(images)
        ask = question(view, target, output, of)
        whole = ask(output)  # (B,)
        rows, columns = view.grid_of(tuple(images.shape[-2:]))
        falls = images.new_zeros(len(images), rows, columns, dtype=whole.dtype)
        covers = torch.zeros(rows, columns, device=images.device)
        height, width = view.description.patch_size
        grey = grey_of(view, images)
        squares = list(itertools.product(starts(rows, window, stride), starts(columns, window, stride)))
        matrices = MATRICES * max(view.heads) * tokens_of(view, images) ** 2
        some = max(1, at_once(4 * matrices, images.device) // max(len(images), 1))
        for first in range(0, len(squares), some):
            group = squares[first : first + some]
            hidden = images.repeat(len(group), 1, 1, 1).unflatten(0, (len(group), -1))
            for pictures, (top, left) in zip(hidden, group, strict=True):
                down, across = top * height, left * width
                end = (top + window) * height, (left + window) * width
                pictures[:, :, down : end[0], across : end[1]] = grey
            outputs = view(hidden.flatten(0, 1)).unflatten(0, (len(group), -1))
            for output_then, (top, left) in zip(outputs, group, strict=True):
                place = slice(top, top + window), slice(left, left + window)
                falls[:, *place] += (whole - ask(output_then))[:, None, None]
                covers[place] += 1
    return falls / covers


def centred_gaussian(model: ViT | View, images: Tensor, target: Target = None) -> Tensor:
    """A baseline that sees no image: a Gaussian at the centre, its deviation a quarter of each side.

    >>> from vitlab import ViTConfig
    >>> centred_gaussian(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28))[0, 3, 3]
    tensor(1.)
    """
    with looking_at(model, images) as view:
        bell = gaussian(view.grid_of(tuple(images.shape[-2:])))
    return bell.to(images.device).expand(len(images), -1, -1)


def local_contrast(model: ViT | View, images: Tensor, target: Target = None) -> Tensor:
    """A baseline that sees no model: the deviation of a patch's pixels, mean over channels.

    >>> from vitlab import ViTConfig
    >>> local_contrast(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).max()
    tensor(0.)
    """
    with looking_at(model, images) as view:
        return deviation(in_patches(images, view))


BASELINES: dict[str, Map] = {each.__name__: each for each in (centred_gaussian, local_contrast)}
MAPS: dict[str, Map] = {
    each.__name__: each
    for each in (rollout, class_attention, attention_gradient, relevance, input_gradient, occlusion)
} | BASELINES


def compute(
    model: ViT | View,
    images: Tensor,
    target: Target = None,
    names: Sequence[str] = tuple(MAPS),
    batch_size: int = 50,
) -> dict[str, Tensor]:
    """Several maps of any number of images, `batch_size` at a time: name -> (B, h, w).

    Raises ValueError for a name that `MAPS` does not have, and for another number of classes than images.

    >>> from vitlab import ViTConfig
    >>> made = compute(ViT(ViTConfig()), torch.zeros(3, 1, 28, 28), names=["rollout", "local_contrast"])
    >>> {name: tuple(values.shape) for name, values in made.items()}
    {'rollout': (3, 7, 7), 'local_contrast': (3, 7, 7)}
    """
    for name in names:
        if name not in MAPS:
            raise ValueError(f"the maps are {', '.join(MAPS)}; got {name!r}")
    batches = images.split(batch_size)
    if target is None or callable(target) or torch.as_tensor(target).ndim == 0:
        asked = [target] * len(batches)
    elif len(target) != len(images):
        raise ValueError(
            f"target names {len(target)} classes for {len(images)} images: one for each image, or one for all"
        )
    else:
        asked = torch.as_tensor(target).split(batch_size)
    return {
        name: torch.cat([MAPS[name](model, *batch) for batch in zip(batches, asked, strict=True)])
        for name in names
    }


@contextmanager
def differentiable(images: Tensor) -> Iterator[Tensor]:
    """The images as something to take gradients through, wherever this is called and frozen or not."""
    with torch.inference_mode(False), torch.enable_grad():
        yield images.detach().clone().requires_grad_()


def by_groups(
    rows_of: Callable[[View, Tensor], Tensor],
    model: ViT | View,
    images: Tensor,
    kept: Callable[[View], int] = lambda view: 1,
) -> Tensor:
    """What `rows_of` a view reads of some images, (b, T or N), for all of them, on the grid: (B, h, w).

    As many at a time as make little enough: each image makes a few matrices (T, T) for all heads of a layer,
    and `kept` of them are kept.
    """
    with looking_at(model, images) as view, torch.no_grad():
        check_reads(view)
        matrices = kept(view) + MATRICES * max(view.heads)
        some = at_once(4 * matrices * tokens_of(view, images) ** 2, images.device)
        rows = torch.cat([rows_of(view, group) for group in images.split(some)])
    return patch_map(rows, view.grid_of(tuple(images.shape[-2:])))


def tokens_of(view: View, images: Tensor) -> int:
    """T: patches and prefix."""
    rows, columns = view.grid_of(tuple(images.shape[-2:]))
    return rows * columns + view.num_prefix_tokens


def taken(view: View, images: Tensor, take: dict[int, Callable[[Tensor], Tensor]]) -> dict[int, Tensor]:
    """What functions make of the weights of some layers, by layer, and the row of a pooling that is read."""
    if view.reads == "attention":
        take = take | {POOLING: lambda weights: weights.mean(dim=(1, 2))}
    found: dict[int, Tensor] = {}
    with watching(view, take, found.update):
        view(images)
    return found


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


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin that together cover a side; the last may reach beyond it.

    >>> starts(7, 2, 2)
    [0, 2, 4, 6]
    """
    return [start for start in range(0, length, stride) if start == 0 or start + window - stride < length]
