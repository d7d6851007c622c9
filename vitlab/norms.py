"""LayerNorm whose gradients are right in low precision, too (the LN of equations 2 to 4).

The gradients of its scale and shift are sums over all tokens. PyTorch on a CPU makes these sums in the type
of the layer's input: in bf16, which has 8 binary digits, a sum of ones stays at 256. CUDA's autocast computes
the norm in fp32, the CPU's does not.
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOW = (torch.bfloat16, torch.float16)


def full_precision(device: torch.device):
    """A context in which autocast is off, for what must not be rounded: logits and recorded attention."""
    return torch.autocast(device.type, enabled=False) if device.type != "meta" else nullcontext()


def is_rounded(x: Tensor) -> bool:
    """Whether PyTorch would make the sums for this layer input in low precision.

    >>> is_rounded(torch.zeros(1)), is_rounded(torch.zeros(1, dtype=torch.bfloat16))
    (False, True)
    """
    return x.device.type == "cpu" and x.dtype in LOW


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm`, (..., D) -> (..., D), in fp32 inside wherever that is needed for its gradients.

    >>> norm = LayerNorm(8)
    >>> norm(torch.randn(25_600, 8).bfloat16()).sum().backward()
    >>> norm.bias.grad[0]
    tensor(25600.)
    """

    def forward(self, x: Tensor) -> Tensor:
        if not is_rounded(x):
            return super().forward(x)
        affine = (None if part is None else part.float() for part in (self.weight, self.bias))
        return F.layer_norm(x.float(), self.normalized_shape, *affine, self.eps).to(x.dtype)


class Affine(NamedTuple):
    """A linear layer that is made for one call: x (..., D) -> x Wᵀ + b (..., D')."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def fold(norm: LayerNorm, linear: nn.Linear, x: Tensor) -> tuple[Tensor, Affine]:
    """x normalised without scale γ and shift β, and a linear layer W that has taken them in.

    linear(norm(x)) = x̂ (W·γ)ᵀ + (b + W β). The sums over all tokens are then those of this layer's own
    gradients, which a matrix product makes in fp32, and nothing is computed in fp32 for the norm's sake.

    >>> norm, linear, x = LayerNorm(8), nn.Linear(8, 3), torch.randn(2, 5, 8)
    >>> normalised, folded = fold(norm, linear, x)
    >>> torch.allclose(folded(normalised), linear(norm(x)), atol=1e-6)
    True
    """
    bias = (linear.weight * norm.bias).sum(dim=1)  # not a product of matrices, which autocast would round
    bias = bias if linear.bias is None else linear.bias + bias
    return F.layer_norm(x, norm.normalized_shape, eps=norm.eps), Affine(linear.weight * norm.weight, bias)
