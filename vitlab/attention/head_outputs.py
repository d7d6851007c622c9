"""What each head adds to each token, and how much of it is the same for all tokens."""

import torch
from torch import Tensor

from vitlab.attention.recording import record_attention
from vitlab.vit import ViT, evaluating


@torch.no_grad()
def head_outputs(model: ViT, images: Tensor, layer: int) -> Tensor:
    """What the heads of a layer (from 0) add to the tokens of images (B, C, H, W): (heads, B, T, D).

    A head's weighted values times its part of the output projection: equations 7 and 8, taken apart. Their
    sum and the projection's bias are what the layer's attention makes. Raises ValueError for a layer that is
    not there, and for a model that is no `ViT`.

    >>> from vitlab import ViTConfig
    >>> head_outputs(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), layer=0).shape
    torch.Size([4, 2, 50, 96])
    """
    if not isinstance(model, ViT):
        raise ValueError(f"heads are taken apart in a vitlab.ViT; got a {type(model).__name__}")
    with evaluating(model), record_attention(model, layers=[layer], also=["values"]) as record:
        model(images)
    brought = record.weights[0] @ record["values"][0].float()  # (B, heads, T, D / heads)
    projection = model.blocks[layer].attn.proj.weight.float()
    parts = projection.unflatten(1, (brought.shape[1], -1)).permute(1, 2, 0)  # (heads, D / heads, D)
    return torch.stack([brought[:, head] @ part for head, part in enumerate(parts)])
