"""Maps that are the first principal component of each picture: of a model's patch features, and of rivals.

Each takes `(model, pictures)`, uint8 pictures (B, C, H, W), and gives (B, h, w). None asks about a class.
"""

import zlib
from collections.abc import Callable

from torch import Tensor

from vitlab.attention.patch_features import patch_features, principal_map
from vitlab.data import normalise
from vitlab.patches import patchify
from vitlab.runtime import seeded
from vitlab.vit import ViT


def principal_features(model: ViT, pictures: Tensor) -> Tensor:
    """Of the model's patch features.

    >>> import torch
    >>> from vitlab import ViTConfig
    >>> principal_features(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape
    torch.Size([2, 7, 7])
    """
    return principal_map(patch_features(model, normalise(pictures)))


def principal_pixels(model: ViT, pictures: Tensor) -> Tensor:
    """Of the pixels of the patches: what is there to be seen without a model."""
    patches = patchify(normalise(pictures), model.config.patch_size)
    return principal_map(patches.unflatten(1, model.config.grid_size))


def principal_untrained(model: ViT, pictures: Tensor) -> Tensor:
    """Of the patch features of a ViT of the same config with new weights, for each model others."""
    weights = next(model.parameters()).detach().cpu().float().contiguous()
    with seeded(zlib.crc32(weights.numpy().tobytes())):
        new = ViT(model.config)
    return principal_features(new.to(pictures.device).eval(), pictures)


COMPONENTS: dict[str, Callable[[ViT, Tensor], Tensor]] = {
    each.__name__: each for each in (principal_features, principal_pixels, principal_untrained)
}
