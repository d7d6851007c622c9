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

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vitlab.attention.attention_maps import class_attention, rollout, rollout_and_difference
from vitlab.attention.baselines import deviation, gaussian
from vitlab.attention.gradient_maps import attention_gradient, input_gradient, relevance
from vitlab.attention.occluding import occlusion
from vitlab.attention.reading import Target, in_patches, looking_at
from vitlab.attention.view import View
from vitlab.vit import ViT

__all__ = [
    "BASELINES",
    "MAPS",
    "Map",
    "attention_gradient",
    "centred_gaussian",
    "class_attention",
    "compute",
    "input_gradient",
    "local_contrast",
    "occlusion",
    "relevance",
    "rollout",
    "rollout_and_difference",
]

Map = Callable[[ViT | View, Tensor, Target], Tensor]


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
