"""Changing what a block's attention may see, while its weights are made: the mode behind `intervene`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from vitlab.attention.seeing import (
    KEEPING,
    InPlace,
    multiplies,
    repeated,
    softmax_or_nothing,
    tensors,
)

Mask = Callable[[int, torch.device], Tensor]  # of so many tokens: bool (heads, queries, keys), true: is seen


class Altering(InPlace):
    """Hides keys from queries in one block's attention: their scores are minus infinity before the softmax.

    A row of which nothing is left becomes zeros, as of a removed head. What records attention outside this
    mode sees the weights that are used. `mask` is asked for as many heads as the block has, those of
    attentions side by side one after the other; `seen` counts them.

    >>> hide_last = lambda tokens, device: (torch.arange(tokens) < tokens - 1).expand(2, tokens, tokens)
    >>> values = torch.eye(4).expand(1, 2, 4, 4)
    >>> with Altering(hide_last, heads=2):
    ...     out = F.scaled_dot_product_attention(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), values)
    >>> out[0, 0, 0]
    tensor([0.3333, 0.3333, 0.3333, 0.0000])
    """

    def __init__(self, mask: Mask, heads: int):
        super().__init__()
        self.mask, self.heads, self.seen = mask, heads, 0
        self.hidden = WeakIdKeyDictionary()  # what comes from weights that were made here -> their heads

    def other(self, func, args: tuple, kwargs: dict):
        """Any other function: what becomes of weights on their way to the values."""
        used = [self.hidden[each] for each in tensors(args, kwargs) if each in self.hidden]
        out = func(*args, **kwargs)
        if used and multiplies(func, args, kwargs, self.hidden):
            self.seen += used[0]
        elif used and func in KEEPING:
            self.hidden[out] = used[0]
        return out

    def fused(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **kwargs) -> Tensor:
        """`F.scaled_dot_product_attention` with a mask more."""
        heads, tokens = query.shape[-3], query.shape[-2]
        if key.shape[-2] != tokens:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, **kwargs
            )
        if kwargs.pop("enable_gqa", False):  # each head of keys and values serves several of queries
            key, value = (repeated(each, heads) for each in (key, value))
        mask = self.next_mask(heads, tokens, query.device)
        self.seen += heads
        if is_causal:
            mask = mask & torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            bits = attn_mask.dtype == torch.bool
            mask = attn_mask & mask if bits else attn_mask.masked_fill(~mask, -torch.inf)
        if mask.ndim < query.ndim:  # with an axis for images, a CPU keeps to its fused attention
            mask = mask[None]
        return F.scaled_dot_product_attention(query, key, value, mask, dropout_p, **kwargs)

    def softmax(self, func, *args, **kwargs) -> Tensor:
        """A softmax over scores of all heads, (B, heads, T, T) or (B·heads, T, T), some of them hidden."""
        scores = args[0] if args else kwargs["input"]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        heads = scores.shape[1] if scores.ndim == 4 else self.heads
        square = scores.ndim in (3, 4) and scores.shape[-1] == scores.shape[-2]
        if not square or dim not in (-1, scores.ndim - 1) or self.seen + heads > self.heads:
            return func(*args, **kwargs)
        mask = self.next_mask(heads, scores.shape[-1], scores.device)
        if scores.ndim == 3:
            mask = mask.repeat(len(scores) // heads, 1, 1)
        out = softmax_or_nothing(scores.masked_fill(~mask, -torch.inf), dim=-1, dtype=kwargs.get("dtype"))
        self.hidden[out] = heads
        return out

    def next_mask(self, heads: int, tokens: int, device: torch.device) -> Tensor:
        """The mask of the heads that come next, (heads, T, T)."""
        return self.mask(tokens, device)[self.seen : self.seen + heads]
