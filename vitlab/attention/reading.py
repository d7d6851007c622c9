"""What a model's output looks at, and what it answers: for a `ViT` and for a view of any other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitlab.attention import baselines
from vitlab.attention.libraries import describe
from vitlab.attention.probing import POOLING
from vitlab.attention.recording import AttentionRecord
from vitlab.attention.view import View
from vitlab.norms import full_precision
from vitlab.patches import as_pair
from vitlab.vit import ViT, evaluating

GREY = 0.0  # of images in [-1, 1], and the mean of images that are normalised by one
MATRICES = 3  # of all heads, that are there at once while attention runs in the open
Target = int | Sequence[int] | Tensor | Callable[[Tensor], Tensor] | None


def view_of(model: nn.Module | View) -> View:
    """A view of a `ViT`, which needs no probing, or the view that it is; raises ValueError for another model.

    >>> from vitlab import ViTConfig
    >>> view_of(ViT(ViTConfig())).grid_size
    (7, 7)
    """
    if isinstance(model, View):
        return model
    if isinstance(model, ViT):
        depth = model.config.depth
        return View(model, describe(model), list(range(depth)), [model.config.num_heads] * depth)
    raise ValueError(
        f"a map has the grid of a vitlab.ViT's patches; got a {type(model).__name__}. attach(model) makes a "
        "view of any ViT, which has one"
    )


@contextmanager
def looking_at(model: nn.Module | View, images: Tensor) -> Iterator[View]:
    """Evaluation mode and a view, for a model that has a grid and images that fit it."""
    view = view_of(model)
    own = isinstance(view.model, ViT)
    size = (view.channels, *(as_pair(view.image_size) if own else images.shape[-2:]))
    if images.ndim != 4 or tuple(images.shape[1:]) != size or not images.is_floating_point():
        values = "floats in [-1, 1]" if own else "normalised floats"
        shape = ", ".join(map(str, size if own else (view.channels, "H", "W")))
        raise ValueError(
            f"this model takes {values} of shape (B, {shape}); got {tuple(images.shape)}, {images.dtype}"
        )
    with evaluating(view.model):
        yield view


def check_classes(model: nn.Module | View, target: Target, logits: Tensor) -> Tensor:
    """One class for each image, (B,) int64: those given, or those predicted."""
    without = model.classifies is False if isinstance(model, View) else not model.config.num_classes
    if without or logits.ndim != 2:
        raise ValueError(
            "this model has no classes to ask about; give it a head (num_classes) first, or ask for a number "
            "with a function of its output, (B, …) -> (B,)"
        )
    if target is None:
        return logits.argmax(dim=-1)
    given, (images, n) = torch.as_tensor(target, device=logits.device), logits.shape
    whole = not given.is_floating_point() and given.dtype != torch.bool
    if not whole or given.shape not in ((), (images,)) or bool(((given < 0) | (given >= n)).any()):
        raise ValueError(
            f"target is None, a whole number from 0 to {n - 1}, or one for each of {images} images, "
            f"or a function of the output; got {target!r}"
        )
    return given.long().expand(images)


def asked_of(view: View, images: Tensor, target: Target) -> Tensor:
    """The logit of one class of each image, or what a function makes of the output, (B,), with a gradient."""
    output = view(images)
    answer = question(view, target, output, "logit")(output)
    if not answer.requires_grad:
        raise ValueError(
            "the function's numbers have no gradient (detach, argmax, NumPy?), which this map is made of; "
            "occlusion needs none"
        )
    return answer


def number_each(function: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    """What a function makes of an output, one number for each image; raises ValueError for anything else."""
    made = function(output)
    if not isinstance(made, Tensor) or made.shape != output.shape[:1]:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(f"a function of the output gives one number an image, ({len(output)},); got {got}")
    return made


def logit(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit of one class each: (B, classes) -> (B,)."""
    return logits.gather(1, classes[:, None])[:, 0]


def probability(logits: Tensor, classes: Tensor) -> Tensor:
    """The probability of one class each: (B, classes) -> (B,)."""
    return logit(logits.softmax(dim=-1), classes)


ANSWERS = {"probability": probability, "logit": logit}


def question(
    model: nn.Module | View, target: Target, output: Tensor, of: str = "probability"
) -> Callable[[Tensor], Tensor]:
    """What is asked of outputs, as a function of them, (B,): `of` a class, or one's own number."""
    if of not in ANSWERS:
        raise ValueError(f"of is {' or '.join(map(repr, ANSWERS))}; got {of!r}")
    if callable(target):
        return partial(number_each, target)
    classes = check_classes(model, target, output)
    if of == "probability" and output.shape[1] == 1:
        raise ValueError(
            "a single output's probability is always 1; ask for the number itself with a function, "
            "target=lambda output: output[:, 0]"
        )
    return partial(ANSWERS[of], classes=classes)


def grey_of(model: nn.Module | View, images: Tensor) -> Tensor:
    """The grey in the middle of what images hold, (C, 1, 1), or `GREY` where nobody says what they hold."""
    if not isinstance(model, View) or model.mean is None or model.std is None:
        return images.new_full((1, 1, 1), GREY)
    mean, std = images.new_tensor(model.mean), images.new_tensor(model.std)
    return ((0.5 - mean) / std)[:, None, None]


def check_reads(view: View) -> None:
    """Raises ValueError where the rows that the output is made of are not known."""
    if view.reads in (None, "tokens"):
        words = "pools no tokens" if view.reads else "does not say what its output is made of"
        raise ValueError(
            f"{type(view.model).__name__} {words}, so no row of the attention is its own; say what the head "
            "reads: attach(model, reads='token'), 'mean', …"
        )
    if view.reads == "attention" and POOLING not in view.plan:
        raise ValueError(f"no attention that pools the patches was seen in {type(view.model).__name__}")


READ_WORDS = {
    "token": "the first prefix token",
    "pair": "the mean of class and distillation token",
    "mean": "the mean of the patches",
    "mean_all": "the mean of all tokens",
    "max": "the mean of the patches, of which the head reads the maximum",
    "max_all": "the mean of all tokens, of which the head reads the maximum",
    "mean+max": "the mean of the patches, of which the head reads the maximum as well",
    "mean+max_all": "the mean of all tokens, of which the head reads the maximum as well",
    "token+mean": "the mean of the class token and the patches' mean",
    "attention": "the attention pooling",
}


def rows_read(view: View, tokens: int, like: Tensor, pooling: Tensor | None = None) -> Tensor:
    """How much of each row of the attention the model's output is made of: (B or 1, T).

    That is the row of the token that is read, the mean of the rows that are averaged, or the rows that a
    `pooling` of its own, (B, keys), weighs. A maximum has no rows: the mean over patches stands for it. The
    type is that of `like`, and at least fp32. Raises ValueError where it is not known what is read.
    """
    check_reads(view)
    prefix, dtype = view.num_prefix_tokens, torch.promote_types(like.dtype, torch.float32)
    if view.reads == "attention":
        return F.pad(pooling.to(dtype), (tokens - pooling.shape[-1], 0))
    rows = torch.zeros(1, tokens, dtype=dtype, device=like.device)
    if view.reads in ("token", "pair"):
        rows[:, : 1 if view.reads == "token" else 2] = 1
    elif view.reads == "token+mean":
        rows[:, 0], rows[:, prefix:] = 1, 1 / (tokens - prefix)
    else:
        rows[:, 0 if view.reads.endswith("_all") else prefix :] = 1
    return rows / rows.sum(dim=-1, keepdim=True)


def read_row(attention: Tensor, view: View, pooling: Tensor | None = None) -> Tensor:
    """What the model's output looks at: (B, T, T) -> (B, T), read of the rows that `rows_read` says."""
    return through(rows_read(view, attention.shape[-1], attention, pooling), attention[:, None])


def pooling_of(record: AttentionRecord) -> Tensor | None:
    """The row of a pooling, mean over its heads and queries, (B, keys); None where there is none."""
    return record["pooling"][0].mean(dim=(1, 2)) if "pooling" in record.passes else None


def through(rows: Tensor, attention: Tensor) -> Tensor:
    """What rows, (B or 1, T), attend to, mean over heads: with (B, heads, T, T) -> (B, T).

    >>> through(torch.tensor([[1.0, 0.0]]), torch.tensor([[[[0.25, 0.75], [0.5, 0.5]]]]))
    tensor([[0.2500, 0.7500]])
    """
    with full_precision(attention.device):
        return (rows[:, None, None].to(attention.dtype) @ attention).mean(dim=1)[:, 0]


def patch_map(rows: Tensor, grid: tuple[int, int]) -> Tensor:
    """The patches of rows (B, T or N), which come last, on the grid: (B, h, w).

    >>> patch_map(torch.arange(5.0)[None], (2, 2)).tolist()
    [[[1.0, 2.0], [3.0, 4.0]]]
    """
    return rearrange(rows[:, -grid[0] * grid[1] :], "b (h w) -> b h w", h=grid[0])


def in_patches(pixels: Tensor, view: View) -> Tensor:
    """The pixels of each patch, without what no patch holds: (…, H, W) -> (…, h, w, pixels)."""
    size, patch_size = tuple(pixels.shape[-2:]), view.description.patch_size
    if any(n * side > whole for n, side, whole in zip(view.grid_of(size), patch_size, size, strict=True)):
        raise ValueError(
            f"pictures of {size} pixels have no whole number of {patch_size[0]} x {patch_size[1]} patches; "
            "cut or pad them first"
        )
    return baselines.in_patches(pixels, patch_size)


def covered(pixels: Tensor, view: View) -> Tensor:
    """What the patches hold of pictures (…, H, W), with zeros where they reach beyond: (…, h·P, w·P).

    >>> from vitlab import ViTConfig
    >>> covered(torch.ones(3, 30, 28), view_of(ViT(ViTConfig()))).shape
    torch.Size([3, 28, 28])
    """
    grid = view.grid_of(tuple(pixels.shape[-2:]))
    height, width = (n * side for n, side in zip(grid, view.description.patch_size, strict=True))
    made = pixels.new_zeros(*pixels.shape[:-2], height, width)
    held = pixels[..., :height, :width]
    made[..., : held.shape[-2], : held.shape[-1]] = held
    return made


def tokens_of(view: View, images: Tensor) -> int:
    """T: patches and prefix."""
    rows, columns = view.grid_of(tuple(images.shape[-2:]))
    return rows * columns + view.num_prefix_tokens
