"""The logit lens: what the head would say if the model ended after each block."""

import torch
from torch import Tensor

from vitlab.attention.reading import looking_at
from vitlab.attention.recording import record_attention
from vitlab.norms import full_precision
from vitlab.vit import ViT


@torch.no_grad()
def logit_lens(model: ViT, images: Tensor) -> Tensor:
    """The logits that norm and head give to what each block leaves: (B, C, H, W) -> (L, B, classes), fp32.

    nostalgebraist 2020, "interpreting GPT: the logit lens", for what the head reads, the class token or the
    mean over patches; of a `distilled` model the mean of what its two heads say of a token each. The last are
    the model's own logits. Only the last block was trained to be read so: where an earlier one says little,
    the head may merely not know how to read it. Raises ValueError for a model that is no `ViT`, or without
    classes, and for images that do not fit.

    >>> from vitlab import ViTConfig
    >>> logit_lens(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).shape
    torch.Size([4, 2, 10])
    """
    if not isinstance(model, ViT) or not model.config.num_classes:
        raise ValueError(
            f"the logit lens reads each block of a vitlab.ViT with its own head; got a {type(model).__name__}"
            + (" without classes: give it a head (num_classes) first" if isinstance(model, ViT) else "")
        )
    with looking_at(model, images), record_attention(model, also=["block_outputs"]) as record:
        model(images)
        return torch.stack([said_of(model, tokens) for tokens in record["block_outputs"]])


def said_of(model: ViT, tokens: Tensor) -> Tensor:
    """The logits of tokens (B, T, D) as a block leaves them, (B, classes)."""
    if model.config.distilled:
        return model.logits_by_head(model.norm(tokens)).mean(dim=1)
    after = model.config.norm_after_pool
    pooled = model.norm(model.pool(tokens)) if after else model.pool(model.norm(tokens))
    pooled = pooled.to(model.norm.weight.dtype)
    if model.config.representation_size:
        pooled = model.pre_logits(pooled)
    with full_precision(pooled.device):
        return model.head(pooled.to(model.norm.weight.dtype))
