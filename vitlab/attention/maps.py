"""Maps of what a prediction rests on, through one signature, so that they can be compared and scored.

Each takes `(model, images, classes=None)`: a `ViT`, images (B, C, H, W) as the model takes them, and the
class asked about, one for all images or one each; None is the class that the model predicts. Each gives one
number a patch, (B, h, w) on the model's grid, larger where the patch matters more, on a scale of its own.
Where the model reads the mean over patches, the mean of their rows stands for the class token's. Parameters,
gradients and the mode of the model stay as they were. All raise ValueError for a model or images that do not
fit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from vitlab.attention.recording import record_attention
from vitlab.attention.rollout import attention_rollout, class_map
from vitlab.encoder import full_precision
from vitlab.patches import as_pair
from vitlab.vit import ViT, evaluating

Classes = int | Sequence[int] | Tensor | None
Map = Callable[[ViT, Tensor, Classes], Tensor]


def rollout(
    model: ViT,
    images: Tensor,
    classes: Classes = None,
    head_fusion: str = "mean",
    discard_ratio: float = 0.0,
) -> Tensor:
    """Attention Rollout (appendix D.8; Abnar & Zuidema 2020): the class token's row of all layers' product.

    It reads attention alone, so it is the same whichever class is asked about.

    >>> from vitlab import ViTConfig
    >>> rollout(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 7, 7])
    """
    with looking_at(model, images), torch.no_grad(), record_attention(model) as record:
        model(images)
    return read_out(attention_rollout(record.weights, head_fusion, discard_ratio), model)


def class_attention(model: ViT, images: Tensor, classes: Classes = None) -> Tensor:
    """What the class token attends to in the last layer, mean over heads; the class asked about is ignored.

    >>> from vitlab import ViTConfig
    >>> class_attention(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).sum(dim=(1, 2)) <= 1
    tensor([True, True])
    """
    with looking_at(model, images), torch.no_grad(), record_attention(model, layers=[-1]) as record:
        model(images)
    return read_out(record.weights[0].mean(dim=1), model)


def attention_gradient(model: ViT, images: Tensor, classes: Classes = None) -> Tensor:
    """Attention × gradient in the last layer: E_h[(A ⊙ ∂y/∂A)⁺], the class token's row.

    y is the logit of the class; the rule of `relevance` for one layer alone.

    >>> from vitlab import ViTConfig
    >>> attention_gradient(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), classes=3).shape
    torch.Size([2, 7, 7])
    """
    (weighted,) = weighted_attention(model, images, classes, layers=[-1])
    return read_out(weighted, model)


def relevance(model: ViT, images: Tensor, classes: Classes = None) -> Tensor:
    """Chefer, Gur & Wolf 2021 (arXiv 2103.15679, equations 5 and 6), the class token's row.

    Ā = E_h[(∂y/∂A ⊙ A)⁺] with y the logit of the class; from the first layer to the last R ← R + Ā·R, where R
    starts as the identity.

    >>> from vitlab import ViTConfig
    >>> relevance(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), classes=[3, 5]).shape
    torch.Size([2, 7, 7])
    """
    layers = weighted_attention(model, images, classes)
    relevances = torch.eye(layers[0].shape[-1], dtype=layers[0].dtype, device=images.device)
    with full_precision(images.device):
        for weighted in layers:
            relevances = relevances + weighted @ relevances
    return read_out(relevances, model)


def input_gradient(model: ViT, images: Tensor, classes: Classes = None) -> Tensor:
    """Saliency (Simonyan et al. 2013, section 3): max over channels of |∂y/∂x|, mean over a patch's pixels.

    y is the logit of the class.

    >>> from vitlab import ViTConfig
    >>> input_gradient(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 7, 7])
    """
    with looking_at(model, images), differentiable(images) as inputs:
        chosen = logit(model, inputs, classes)
        (gradient,) = torch.autograd.grad(chosen.sum(), inputs)
    return on_grid(gradient.abs().amax(dim=1), model)


@torch.no_grad()
def occlusion(
    model: ViT, images: Tensor, classes: Classes = None, window: int = 2, stride: int | None = None
) -> Tensor:
    """How far the class's probability falls where a grey square hides a part of the image.

    Zeiler & Fergus 2013 (arXiv 1311.2901, section 4.2). The square is `window` patches wide and moves by
    `stride` (default: as much), so that a grid of h x w patches takes about h·w / stride² forward passes. A
    patch gets the mean of the squares that hide it.

    >>> from vitlab import ViTConfig
    >>> occlusion(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), classes=0).shape
    torch.Size([2, 7, 7])
    """
    stride = window if stride is None else stride
    if not 1 <= stride <= window:
        raise ValueError(f"window is at least 1 patch and stride 1 to window; got {window} and {stride}")
    with looking_at(model, images):
        logits = model(images)
        classes = check_classes(model, classes, logits)
        whole = probability(logits, classes)  # (B,)
        rows, columns = model.config.grid_size
        falls = images.new_zeros(len(images), rows, columns, dtype=whole.dtype)
        covers = torch.zeros(rows, columns, device=images.device)
        side = model.config.patch_size
        for top in starts(rows, window, stride):
            for left in starts(columns, window, stride):
                hidden = images.clone()
                hidden[:, :, top * side : (top + window) * side, left * side : (left + window) * side] = GREY
                fall = whole - probability(model(hidden), classes)
                falls[:, top : top + window, left : left + window] += fall[:, None, None]
                covers[top : top + window, left : left + window] += 1
    return falls / covers


def centred_gaussian(model: ViT, images: Tensor, classes: Classes = None) -> Tensor:
    """A baseline that sees no image: a Gaussian at the centre, its deviation a quarter of each side.

    >>> from vitlab import ViTConfig
    >>> centred_gaussian(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28))[0, 3, 3]
    tensor(1.)
    """
    with looking_at(model, images):
        rows, columns = model.config.grid_size
    bells = []
    for n in (rows, columns):
        places = (torch.arange(n, device=images.device) + 0.5) / n - 0.5  # in sides from the centre
        bells.append((-(places**2) / (2 * 0.25**2)).exp())
    return torch.outer(*bells).expand(len(images), rows, columns)


def local_contrast(model: ViT, images: Tensor, classes: Classes = None) -> Tensor:
    """A baseline that sees no model: the deviation of a patch's pixels, mean over channels.

    >>> from vitlab import ViTConfig
    >>> local_contrast(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).max()
    tensor(0.)
    """
    with looking_at(model, images):
        side = model.config.patch_size
    patches = rearrange(images, "b c (h p) (w q) -> b c h w (p q)", p=side, q=side)
    return patches.std(dim=-1, correction=0).mean(dim=1)


BASELINES: dict[str, Map] = {each.__name__: each for each in (centred_gaussian, local_contrast)}
MAPS: dict[str, Map] = {
    each.__name__: each
    for each in (rollout, class_attention, attention_gradient, relevance, input_gradient, occlusion)
} | BASELINES
GREY = 0.0  # of images in [-1, 1]


def compute(
    model: ViT,
    images: Tensor,
    classes: Classes = None,
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
    if classes is None or torch.as_tensor(classes).ndim == 0:
        asked = [classes] * len(batches)
    elif len(classes) != len(images):
        raise ValueError(f"there are {len(images)} images, but {len(classes)} classes")
    else:
        asked = torch.as_tensor(classes).split(batch_size)
    return {
        name: torch.cat([MAPS[name](model, *batch) for batch in zip(batches, asked, strict=True)])
        for name in names
    }


@contextmanager
def looking_at(model: ViT, images: Tensor) -> Iterator[None]:
    """Evaluation mode, for a model that has a grid and images that fit it."""
    if not isinstance(model, ViT):
        raise ValueError(f"a map has the grid of a vitlab.ViT's patches; got a {type(model).__name__}")
    size = (model.config.in_chans, *as_pair(model.config.image_size))
    if images.ndim != 4 or tuple(images.shape[1:]) != size or not images.is_floating_point():
        raise ValueError(
            f"this model takes floats in [-1, 1] of shape (B, {', '.join(map(str, size))}); got "
            f"{tuple(images.shape)}, {images.dtype}"
        )
    with evaluating(model):
        yield


@contextmanager
def differentiable(images: Tensor) -> Iterator[Tensor]:
    """The images as something to take gradients through, wherever this is called and frozen or not."""
    with torch.inference_mode(False), torch.enable_grad():
        yield images.detach().clone().requires_grad_()


def weighted_attention(
    model: ViT, images: Tensor, classes: Classes, layers: Sequence[int] | None = None
) -> list[Tensor]:
    """E_h[(A ⊙ ∂y/∂A)⁺] of some layers, each (B, T, T)."""
    with looking_at(model, images), differentiable(images) as inputs:
        with record_attention(model, layers) as record:
            chosen = logit(model, inputs, classes)
        weights = [passes[0] for passes in record.layers]
        gradients = torch.autograd.grad(chosen.sum(), weights)
    return [
        (weight.detach() * gradient).clamp(min=0).mean(dim=1)
        for weight, gradient in zip(weights, gradients, strict=True)
    ]


def check_classes(model: nn.Module, classes: Classes, logits: Tensor) -> Tensor:
    """One class for each image, (B,) int64: those given, or those predicted."""
    if not model.config.num_classes:
        raise ValueError("this model has no classes to ask about; give it a head (num_classes) first")
    if classes is None:
        return logits.argmax(dim=-1)
    given, (images, n) = torch.as_tensor(classes, device=logits.device), logits.shape
    whole = not given.is_floating_point() and given.dtype != torch.bool
    if not whole or given.shape not in ((), (images,)) or bool(((given < 0) | (given >= n)).any()):
        raise ValueError(
            f"classes is None, a whole number from 0 to {n - 1}, or one for each of {images} images; "
            f"got {classes!r}"
        )
    return given.long().expand(images)


def logit(model: ViT, images: Tensor, classes: Classes) -> Tensor:
    """The logit of one class of each image, (B,)."""
    logits = model(images)
    return logits.gather(1, check_classes(model, classes, logits)[:, None])[:, 0]


def probability(logits: Tensor, classes: Tensor) -> Tensor:
    """The probability of one class each: (B, classes) -> (B,)."""
    return logits.softmax(dim=-1).gather(1, classes[:, None])[:, 0]


def read_out(attention: Tensor, model: ViT) -> Tensor:
    """What the model's output looks at: (B, T, T) -> (B, h, w)."""
    grid, prefix = model.config.grid_size, model.config.num_prefix_tokens
    if model.config.pool == "token":
        return class_map(attention, grid)
    return rearrange(attention[:, prefix:, prefix:].mean(dim=1), "b (h w) -> b h w", h=grid[0])


def on_grid(pixels: Tensor, model: ViT) -> Tensor:
    """The mean of each patch's pixels: (B, H, W) -> (B, h, w)."""
    side = model.config.patch_size
    return reduce(pixels, "b (h p) (w q) -> b h w", "mean", p=side, q=side)


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin that together cover a side; the last may reach beyond it.

    >>> starts(7, 2, 2)
    [0, 2, 4, 6]
    """
    return [start for start in range(0, length, stride) if start == 0 or start + window - stride < length]
