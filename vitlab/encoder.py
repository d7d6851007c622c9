"""The Transformer encoder (section 3.1, equations 2 and 3; appendix A): BERT's, with the norm in front."""

import itertools
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


class CPUAttention(torch.autograd.Function):
    """softmax(q kᵀ / √d) v with its gradient written out: equations 6 and 7 as a CPU does them fastest.

    Takes the number of heads and `projections` that hold queries, keys and values, in that order: one tensor
    (B, T, 3·h·d), or queries (B, queries, h·d) and both others (B, T, 2·h·d). Returns (B, queries, h·d).
    Raises RuntimeError where it is to be differentiated twice.
    """

    @staticmethod
    def forward(ctx, num_heads: int, *projections: Tensor) -> Tensor:
        width = sum(p.shape[-1] for p in projections) // 3  # h·d
        sizes = dict(h=num_heads, d=width // num_heads)
        # one copy here spares each of the products that follow a copy of its own
        parts = [rearrange(p, "b t (n h d) -> n (b h) t d", **sizes).contiguous() for p in projections]
        q, k, v = itertools.chain(*parts)
        ctx.scale = sizes["d"] ** -0.5
        scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=ctx.scale)  # (B·h, queries, T)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
        out = weights @ v  # (B·h, queries, d)
        ctx.num_heads = num_heads
        ctx.save_for_backward(weights, out, *parts)
        return rearrange(out, "(b h) t d -> b t (h d)", h=num_heads)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "attention on a CPU is differentiated once; twice, inside record_attention(model)"
            )
        weights, out, *parts = ctx.saved_tensors
        grads = [torch.empty_like(part) for part in parts]
        (q, k, v), (grad_q, grad_k, grad_v) = itertools.chain(*parts), itertools.chain(*grads)
        grad = rearrange(grad, "b t (h d) -> (b h) t d", h=ctx.num_heads).contiguous()
        torch.bmm(weights.mT, grad, out=grad_v)
        # softmax: from each weight's gradient goes the row's mean of them, which is grad·out
        means = (grad * out).sum(dim=-1, keepdim=True)  # (B·h, queries, 1)
        grad_scores = torch.baddbmm(means, grad, v.mT, beta=-1).mul_(weights)
        torch.baddbmm(grad_q, grad_scores, k, beta=0, alpha=ctx.scale, out=grad_q)
        torch.baddbmm(grad_k, grad_scores.mT, q, beta=0, alpha=ctx.scale, out=grad_k)
        return None, *(rearrange(g, "n (b h) t d -> b t (n h d)", h=ctx.num_heads) for g in grads)


class Attention(nn.Module):
    """Multi-head self-attention: (B, T, D) -> (B, T, D) (appendix A, equations 5 to 8).

    Queries, keys and values come from one matrix, in that order, each head-major; a head is D / heads wide
    unless `head_dim` says otherwise, as in weights of other libraries. One attention, two paths: while
    `observers` (functions of the weights, (B, heads, T, T) fp32) are attached, the weights are made in the
    open; else `CPUAttention`, or PyTorch's fused kernel on other devices, makes the same output.

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
        if self.observers:  # whoever observes wants the weights of all queries
            x = self.attend(self.qkv(x))[:, :num_queries]
        elif num_queries is None:
            x = self.attend(self.qkv(x))
        else:
            widths = [self.proj.in_features, 2 * self.proj.in_features]
            biases = (None, None) if self.qkv.bias is None else self.qkv.bias.split(widths)
            of_q, of_kv = zip(self.qkv.weight.split(widths), biases, strict=True)
            x = self.attend(F.linear(x[:, :num_queries], *of_q), F.linear(x, *of_kv))
        return self.dropout(self.proj(x))

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys, values, or some of them, head by head: (B, T, n·h·d) -> n times (B, h, T, d)."""
        return rearrange(x, "b t (n h d) -> n b h t d", h=self.num_heads, d=self.head_dim).unbind()

    def attend(self, *projections: Tensor) -> Tensor:
        """softmax(q kᵀ / √d) v: the projections that `CPUAttention` takes -> (B, queries, heads · d)."""
        if projections[0].device.type == "cpu" and not self.observers:
            return CPUAttention.apply(self.num_heads, *projections)
        q, k, v = itertools.chain(*map(self.heads, projections))
        if self.observers:
            weights = attention_weights(q, k)
            for observe in self.observers:
                observe(weights)
            x = weights.to(v.dtype) @ v
        else:
            x = F.scaled_dot_product_attention(q, k, v)
        return rearrange(x, "b h t d -> b t (h d)")


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
