"""The Transformer encoder (section 3.1, equations 2 and 3; appendix A): BERT's, with the norm in front."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def full_precision(device: torch.device):
    """A context in which autocast is off, for what must not be rounded: logits and recorded attention."""
    return torch.autocast(device.type, enabled=False) if device.type != "meta" else nullcontext()


def attention_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """q kᵀ / √head_width in at least fp32: two (B, heads, T, d) -> (B, heads, T, T) (equation 6)."""
    dtype = torch.promote_types(queries.dtype, torch.float32)
    with full_precision(queries.device):
        return (queries.to(dtype) * queries.shape[-1] ** -0.5) @ keys.to(dtype).transpose(-2, -1)


def attention_weights(queries: Tensor, keys: Tensor) -> Tensor:
    """softmax(q kᵀ / √head_width) in fp32; rows are queries and sum to 1 (equation 6).

    >>> attention_weights(torch.zeros(2, 4, 5, 8), torch.zeros(2, 4, 5, 8))[0, 0, 0]
    tensor([0.2000, 0.2000, 0.2000, 0.2000, 0.2000])
    """
    return attention_scores(queries, keys).softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention: (B, T, D) -> (B, T, D) (appendix A, equations 5 to 8).

    Queries, keys and values come from one matrix, in that order, each head-major; a head is D / heads wide
    unless `head_dim` says otherwise, as in weights of other libraries. One attention, two paths: while
    `observers` (functions of the weights, (B, heads, T, T) fp32) are attached, and on a CPU, the weights are
    made explicitly; elsewhere PyTorch's fused kernel makes the same output without ever storing them.

    >>> Attention(embed_dim=96, num_heads=4)(torch.zeros(2, 50, 96)).shape
    torch.Size([2, 50, 96])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        qkv_bias: bool = True,
        head_dim: int | None = None,
    ):
        super().__init__()
        if head_dim is None and embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.head_dim = head_dim or embed_dim // num_heads
        self.qkv = nn.Linear(embed_dim, 3 * num_heads * self.head_dim, bias=qkv_bias)
        self.proj = nn.Linear(num_heads * self.head_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.observers: list[Callable[[Tensor], None]] = []

    def forward(self, x: Tensor, num_queries: int | None = None) -> Tensor:
        """The first `num_queries` tokens (None: all) attend to all: (B, T, D) -> (B, queries, D)."""
        if num_queries is None or self.observers:  # whoever observes wants the weights of all queries
            q, k, v = self.heads(self.qkv(x))
            x = self.attend(q, k, v)[:, :, :num_queries]  # (B, heads, queries, d)
        else:
            widths = [self.proj.in_features, 2 * self.proj.in_features]
            biases = (None, None) if self.qkv.bias is None else self.qkv.bias.split(widths)
            of_q, of_kv = zip(self.qkv.weight.split(widths), biases, strict=True)
            (q,) = self.heads(F.linear(x[:, :num_queries], *of_q))
            x = self.attend(q, *self.heads(F.linear(x, *of_kv)))
        return self.dropout(self.proj(rearrange(x, "b h t d -> b t (h d)")))

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys, values, or some of them, head by head: (B, T, n·h·d) -> n times (B, h, T, d)."""
        sizes = dict(h=self.num_heads, d=self.head_dim)
        # one copy here spares each of the products that follow a copy of its own
        return rearrange(x, "b t (n h d) -> n b h t d", **sizes).contiguous().unbind()

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q kᵀ / √d) v: (B, heads, queries, d), (B, heads, T, d) twice -> (B, heads, queries, d)."""
        if self.observers:
            weights = attention_weights(q, k)
            for observe in self.observers:
                observe(weights)
            return weights.to(v.dtype) @ v
        if q.device.type == "cpu":  # in bf16 several times faster here than the fused kernel's backward pass
            return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1).to(v.dtype) @ v
        return F.scaled_dot_product_attention(q, k, v)


class MLP(nn.Module):
    """Two layers with a GELU between, on each token alone: (B, T, D) -> (B, T, D) (section 3.1).

    >>> MLP(96, 192)(torch.zeros(2, 50, 96)).shape
    torch.Size([2, 50, 96])
    """

    def __init__(self, embed_dim: int, mlp_dim: int, gelu: str = "erf", dropout: float = 0.0):
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, mlp_dim)
        self.act = nn.GELU(approximate="tanh" if gelu == "tanh" else "none")
        self.fc2 = nn.Linear(mlp_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.act(self.fc1(x)))  # (B, T, mlp_dim)
        return self.dropout(self.fc2(x))


class Block(nn.Module):
    """One layer of the encoder, norm first, each half added to what came in (equations 2 and 3).

    >>> Block(embed_dim=96, num_heads=4, mlp_dim=192)(torch.zeros(2, 50, 96)).shape
    torch.Size([2, 50, 96])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_dim: int,
        gelu: str = "erf",
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
        qkv_bias: bool = True,
        head_dim: int | None = None,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.attn = Attention(embed_dim, num_heads, dropout, qkv_bias, head_dim)
        self.norm2 = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.mlp = MLP(embed_dim, mlp_dim, gelu, dropout)

    def forward(self, x: Tensor, num_queries: int | None = None) -> Tensor:
        """All tokens, or the first `num_queries`, after this layer: (B, T, D) -> (B, queries, D)."""
        x = x[:, :num_queries] + self.attn(self.norm1(x), num_queries)
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Sequential):
    """L blocks, one after the other: (B, T, D) -> (B, T, D). Takes the depth, then what a `Block` takes.

    >>> Encoder(4, embed_dim=96, num_heads=4, mlp_dim=192)(torch.zeros(2, 50, 96)).shape
    torch.Size([2, 50, 96])
    """

    def __init__(self, depth: int, **block):
        super().__init__(*(Block(**block) for _ in range(depth)))

    def forward(self, x: Tensor, num_queries: int | None = None) -> Tensor:
        """All tokens, or only the first `num_queries`; the last block then makes no others."""
        *blocks, last = self
        for block in blocks:
            x = block(x)
        return last(x) if num_queries is None else last(x, num_queries)
