"""The Transformer encoder (section 3.1, equations 2 and 3; appendix A): BERT's, with the norm in front."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from vitlab.norms import Affine, LayerNorm, fold, full_precision, is_rounded
from vitlab.rotary import Rotary

FEW_TOKENS = 32  # fewer are for `CPUAttention` without gradients too, see `is_for_cpu_attention`


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


def plain_attention(parts: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v, differentiable in every way: queries, keys, values (3, …, T, d) -> (…, T, d)."""
    q, k, v = parts
    return attention_weights(q, k).to(v.dtype) @ v


class CPUAttention(torch.autograd.Function):
    """`plain_attention` with its gradient written out: equations 6 and 7 as a CPU does them fastest.

    Takes queries, keys and values in one contiguous tensor (3, B·h, T, d); returns (B·h, T, d). Under the
    transforms of `torch.func` and in forward mode `plain_attention` takes its place (`is_transformed`).
    """

    @staticmethod
    def forward(ctx, parts: Tensor) -> Tensor:
        q, k, v = parts
        ctx.scale = q.shape[-1] ** -0.5
        scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=ctx.scale)  # (B·h, T, T)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
        out = weights @ v  # (B·h, T, d)
        ctx.save_for_backward(parts, weights, out)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        parts, weights, out = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the gradient is to be differentiated in its turn
            return torch.autograd.grad(plain_attention(parts), parts, grad, create_graph=True)[0]
        with full_precision(grad.device):  # whoever calls backward() may have an autocast of his own
            grads, grad = torch.empty_like(parts), grad.contiguous()
            (q, k, v), (grad_q, grad_k, grad_v) = parts, grads
            torch.bmm(weights.mT, grad, out=grad_v)
            # softmax: from each weight's gradient goes the row's mean of them, which is grad·out
            means = (grad * out).sum(dim=-1, keepdim=True)  # (B·h, T, 1)
            grad_scores = torch.baddbmm(means, grad, v.mT, beta=-1).mul_(weights)
            torch.baddbmm(grad_q, grad_scores, k, beta=0, alpha=ctx.scale, out=grad_q)
            torch.baddbmm(grad_k, grad_scores.mT, q, beta=0, alpha=ctx.scale, out=grad_k)
        return grads


def is_for_cpu_attention(qkv: Tensor) -> bool:
    """Whether `CPUAttention` is faster than PyTorch's own function: with gradients, or few tokens (B, T, …).

    Without gradients PyTorch's own makes a ViT of 50 or more tokens up to 1.4 times as fast, and one of 17
    slower (`tests/benchmarks/inference.py`); where the change is between the two was not measured. A trace
    has PyTorch's own, which can be saved.
    """
    if qkv.device.type != "cpu" or torch.jit.is_tracing():
        return False
    return (torch.is_grad_enabled() and qkv.requires_grad) or qkv.shape[1] < FEW_TOKENS


def is_transformed() -> bool:
    """Whether a transform of `torch.func`, or forward-mode differentiation, is under way."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


class Attention(nn.Module):
    """Multi-head self-attention: (B, T, D) -> (B, T, D) (appendix A, equations 5 to 8).

    Queries, keys and values come from one matrix, in that order, each head-major; a head is D / heads wide
    unless `head_dim` says otherwise, as in weights of other libraries. The same output is made in different
    ways: while `observers` (functions of the weights, (B, heads, T, T) fp32) are attached, the weights are
    made in the open; else `CPUAttention` where it is faster, or PyTorch's own function, also where the layer
    is to be `visible` to whoever watches that function, does all tokens, and `attend_from_class` the class
    token where nobody reads the others. A `rotary` turns queries and keys by their places before they meet;
    then each key differs from what one matrix makes of its token, and `attend_from_class` has nothing to
    shorten.

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
        rotary: Rotary | None = None,
    ):
        super().__init__()
        if head_dim is None and embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.head_dim = head_dim or embed_dim // num_heads
        self.qkv = nn.Linear(embed_dim, 3 * num_heads * self.head_dim, bias=qkv_bias)
        self.proj = nn.Linear(num_heads * self.head_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.rotary = rotary
        self.observers: list[Callable[[Tensor], None]] = []
        self.visible = False

    def __getstate__(self) -> dict:
        """What a copy of this layer gets: all but whoever observes this one."""
        return self.__dict__ | {"observers": [], "visible": False}

    def forward(self, x: Tensor, class_only: bool = False, norm: LayerNorm | None = None) -> Tensor:
        """Every token attends to all, or the class token alone does: (B, T, D) -> (B, T or 1, D).

        A `norm` goes over x first, folded into the matrix that follows (`vitlab.norms`).
        """
        return self.dropout(self.proj(self.mixed(x, class_only, norm)))

    def mixed(self, x: Tensor, class_only: bool = False, norm: LayerNorm | None = None) -> Tensor:
        """What the projection reads, the heads' mixed values side by side: (B, T, D) -> (B, T or 1, h·d)."""
        x, qkv = (x, self.qkv) if norm is None else fold(norm, self.qkv, x)
        # who observe want the weights of all queries
        if class_only and not (self.observers or self.visible or self.rotary):
            return self.attend_from_class(x, qkv)
        return self.attend(qkv(x))[:, : 1 if class_only else None]

    def heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, head by head, as they meet: (B, T, 3·h·d) -> 3 times (B, h, T, d)."""
        return self.turned(rearrange(qkv, "b t (n h d) -> n b h t d", n=3, h=self.num_heads)).unbind()

    def turned(self, parts: Tensor) -> Tensor:
        """Queries, keys and values (3, …, T, d), the first two turned where there is a `rotary`."""
        return parts if self.rotary is None else torch.cat([self.rotary(parts[:2]), parts[2:]])

    def attend(self, qkv: Tensor) -> Tensor:
        """softmax(q kᵀ / √d) v: queries, keys and values (B, T, 3·h·d) -> (B, T, h·d)."""
        if is_for_cpu_attention(qkv) and not (self.observers or self.visible or is_transformed()):
            # one copy here spares each of the products that follow a copy of its own
            parts = rearrange(qkv, "b t (n h d) -> n (b h) t d", n=3, h=self.num_heads).contiguous()
            return rearrange(
                CPUAttention.apply(self.turned(parts)), "(b h) t d -> b t (h d)", h=self.num_heads
            )
        q, k, v = self.heads(qkv)
        if self.observers:
            weights = attention_weights(q, k)
            for observe in self.observers:
                observe(weights)
            x = weights.to(v.dtype) @ v
        elif is_transformed():
            x = plain_attention((q, k, v))
        else:
            x = F.scaled_dot_product_attention(q, k, v)
        return rearrange(x, "b h t d -> b t (h d)")

    def attend_from_class(self, x: Tensor, qkv: nn.Linear | Affine, unseen: Sequence[int] = ()) -> Tensor:
        """The class token's row of `attend(qkv(x))`, without a key or a value: (B, T, D) -> (B, 1, h·d).

        Tokens that are `unseen` get no weight from it. It is of a layer without `rotary`.

        For a single query it is shorter to take the matrices to the other side: q·(W x) = (q W)·x for the
        scores, and Σ w (W x) = W (Σ w x) for the values. A key's bias adds the same to every score of a row,
        which the softmax takes away again; the values' bias comes through as it is, as weights sum to 1.
        """
        of_q, of_k, of_v = rearrange(qkv.weight, "(n h d) c -> n h d c", n=3, h=self.num_heads)
        q = einsum(x[:, 0], of_q, "b c, h d c -> b h d")
        if qkv.bias is not None:
            bias_q, _, bias_v = rearrange(qkv.bias, "(n h d) -> n h d", n=3, h=self.num_heads)
            q = q + bias_q
        q = einsum(q * self.head_dim**-0.5, of_k, "b h d, h d c -> b h c")
        scores = x @ q.mT  # (B, T, h)
        if unseen:
            scores[:, unseen] = -torch.inf
        weights = scores.softmax(dim=1, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)
        out = einsum(weights.mT @ x, of_v, "b h c, h d c -> b h d")
        if qkv.bias is not None:
            out = out + bias_v
        return rearrange(out, "b h d -> b 1 (h d)")


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

    def forward(self, x: Tensor, norm: LayerNorm | None = None) -> Tensor:
        """Each token alone, after `norm` where there is one (`vitlab.norms`): (B, T, D) -> (B, T, D)."""
        x, fc1 = (x, self.fc1) if norm is None else fold(norm, self.fc1, x)
        x = self.dropout(self.act(fc1(x)))  # (B, T, mlp_dim)
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
        rotary: Rotary | None = None,
    ):
        super().__init__()
        self.norm1 = LayerNorm(embed_dim, eps=norm_eps)
        self.attn = Attention(embed_dim, num_heads, dropout, qkv_bias, head_dim, rotary)
        self.norm2 = LayerNorm(embed_dim, eps=norm_eps)
        self.mlp = MLP(embed_dim, mlp_dim, gelu, dropout)

    def forward(self, x: Tensor, class_only: bool = False) -> Tensor:
        """All tokens, or the class token alone, after this layer: (B, T, D) -> (B, T or 1, D)."""
        own = x[:, :1] if class_only else x
        # folded, the norms' gradients are right in low precision at no cost
        if is_rounded(x) and is_untouched(self):
            x = own + self.attn(x, class_only, self.norm1)
            return x + self.mlp(x, self.norm2)
        x = own + self.attn(self.norm1(x), class_only)
        return x + self.mlp(self.norm2(x))


def is_untouched(part: nn.Module) -> bool:
    """Whether a part of the model is as it was made: no layer or `forward` of another's, and nobody's hook.

    Only then may it take a shortcut past its own layers. Hooks on all modules of the process, as PyTorch's
    counters and profilers have them, are to see what is computed, and change nothing.

    >>> block = Block(embed_dim=96, num_heads=4, mlp_dim=192)
    >>> handle = block.attn.qkv.register_forward_hook(print)
    >>> is_untouched(block)
    False
    """
    return all(type(module) in LAYERS and not is_hooked(module) for module in part.modules())


def is_hooked(module: nn.Module) -> bool:
    """Whether a hook waits on this very module, or somebody has put another `forward` in its place."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    hooks += (module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module)


LAYERS = {Block, LayerNorm, Attention, MLP, nn.Linear, nn.GELU, nn.Dropout}


class Encoder(nn.Sequential):
    """L blocks, one after the other: (B, T, D) -> (B, T, D). Takes the depth, then what a `Block` takes.

    >>> Encoder(4, embed_dim=96, num_heads=4, mlp_dim=192)(torch.zeros(2, 50, 96)).shape
    torch.Size([2, 50, 96])
    """

    def __init__(self, depth: int, **block):
        super().__init__(*(Block(**block) for _ in range(depth)))

    @property
    def last(self) -> Block:
        """The block that can make the class token alone."""
        return self[-1]

    def forward(self, x: Tensor, class_only: bool = False) -> Tensor:
        """All tokens, or the class token alone; the last block then makes no others."""
        *blocks, last = self
        for block in blocks:
            x = block(x)
        return last(x, class_only=True) if class_only else last(x)
