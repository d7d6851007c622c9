"""A map that hides parts of the picture and asks the model again."""

import itertools

import torch
from torch import Tensor

from vitlab.attention.reading import MATRICES, Target, grey_of, looking_at, question, tokens_of
from vitlab.attention.tracing import at_once
from vitlab.attention.view import View
from vitlab.vit import ViT


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


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin that together cover a side; the last may reach beyond it.

    >>> starts(7, 2, 2)
    [0, 2, 4, 6]
    """
    return [start for start in range(0, length, stride) if start == 0 or start + window - stride < length]
