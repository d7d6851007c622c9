"""What a ViT makes of each patch: its features as colours, and which patches of two pictures are alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.vit import ViT

TAILS = 0.02  # the share of patches at either end that a colour does not tell apart


@torch.no_grad()
def patch_features(model: ViT, images: Tensor) -> Tensor:
    """What each patch is after the final norm: images (B, C, H, W) as the model takes them -> (B, h, w, D).

    >>> from vitlab import ViTConfig
    >>> patch_features(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 7, 7, 96])
    """
    tokens = model.forward_features(images)[:, model.config.num_prefix_tokens :]
    return tokens.unflatten(1, model.config.grid_size)


def principal_colours(features: Tensor) -> Tensor:
    """Features of patches (B, h, w, D) as colours in [0, 1], (B, 3, h, w): red, green, blue are their first
    three principal components over all pictures together.

    So one colour means the same in each picture. A component is shown from its lowest 2 % of patches to its
    highest 2 %. Which end is bright is not in the data; it is chosen so that the third moment is positive:
    the few are bright, the many dark. Raises ValueError for features that are fewer than three numbers.

    >>> principal_colours(torch.rand(2, 7, 7, 96)).shape
    torch.Size([2, 3, 7, 7])
    """
    if features.ndim != 4 or features.shape[-1] < 3:
        raise ValueError(
            f"features are (B, h, w, D) with D of at least 3, as patch_features gives them; got "
            f"{tuple(features.shape)}"
        )
    flat = features.flatten(0, 2).cpu().double()  # (B·h·w, D); Apple's GPUs have no float64
    flat = flat - flat.mean(dim=0)
    _, directions = torch.linalg.eigh(flat.T @ flat)  # ascending
    parts = flat @ directions[:, -3:].flip(1)  # (B·h·w, 3), the strongest first
    parts = parts * torch.where((parts**3).sum(dim=0) < 0, -1.0, 1.0)
    low, high = parts.quantile(torch.tensor([TAILS, 1 - TAILS], dtype=parts.dtype), dim=0)
    colours = ((parts - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return colours.reshape(*features.shape[:3], 3).permute(0, 3, 1, 2).float()


def principal_map(features: Tensor) -> Tensor:
    """The first principal component of each picture's patches, as a map of it: (B, h, w, D) -> (B, h, w).

    Which end is high is not in the data; it is chosen so that the patches at the
    picture's edge are below the others on average, as photographers put what they show inside. Raises
    ValueError for another shape, and for a grid that is all edge.

    >>> features = torch.zeros(1, 3, 3, 2)
    >>> features[0, 1, 1] = torch.tensor([-3.0, 4.0])
    >>> principal_map(features)[0, 1]
    tensor([-0.5556,  4.4444, -0.5556])
    """
    if features.ndim != 4 or min(features.shape[1:3]) < 3:
        raise ValueError(
            "features are (B, h, w, D), as patch_features gives them, of 3 rows and columns or more, so that "
            f"some patches are inside; got {tuple(features.shape)}"
        )
    flat = features.flatten(1, 2).cpu().double()  # (B, h·w, D); Apple's GPUs have no float64
    places, amounts, _ = torch.linalg.svd(flat - flat.mean(dim=1, keepdim=True), full_matrices=False)
    found = (places[..., 0] * amounts[:, :1]).unflatten(1, features.shape[1:3])  # (B, h, w)
    inside = found[:, 1:-1, 1:-1].mean(dim=(1, 2), keepdim=True)
    below = inside < found.mean(dim=(1, 2), keepdim=True)  # than all, and so than the edge
    return torch.where(below, -found, found).float()


def alike(query: Tensor, features: Tensor) -> Tensor:
    """How alike one patch (D,) is to the patches of a picture (h, w, D): their cosines (h, w), in [-1, 1].

    >>> alike(torch.tensor([1.0, 0.0]), torch.tensor([[[2.0, 0.0], [0.0, 3.0]]]))
    tensor([[1., 0.]])
    """
    return F.cosine_similarity(query, features, dim=-1)
