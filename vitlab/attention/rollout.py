"""Attention rollout (appendix D.8): how much of each patch reaches the class token through all layers."""

import torch
from einops import rearrange
from torch import Tensor

from vitlab.norms import full_precision


def attention_rollout(weights: Tensor, head_fusion: str = "mean", discard_ratio: float = 0.0) -> Tensor:
    """How much of each input token reaches each output token: (L, B, heads, T, T) -> (B, T, T).

    Rows sum to 1. Abnar & Zuidema 2020, used in appendix D.8: heads are fused, the residual connection
    enters as ½A + ½I, rows are normalised, and the layers' matrices are multiplied, the last layer
    leftmost. `head_fusion` is "mean" (the paper's), "max" or "min"; `discard_ratio` in [0, 1) sets that
    share of the smallest entries of each fused map to zero, keeping entry (0, 0). Raises ValueError for
    other values or shapes.

    >>> attention_rollout(torch.full((4, 2, 3, 5, 5), 0.2)).sum(-1).allclose(torch.ones(2, 5))
    True
    """
    if weights.ndim != 5 or weights.shape[-1] != weights.shape[-2] or not len(weights):
        raise ValueError(
            "weights have the shape (L, B, heads, T, T), with all rows of at least one layer; "
            f"got {tuple(weights.shape)}"
        )
    check_fusion(head_fusion, discard_ratio)
    rollout = mixing(weights[0], head_fusion, discard_ratio)
    with full_precision(rollout.device):
        for layer in weights[1:]:
            rollout = mixing(layer, head_fusion, discard_ratio) @ rollout
    return rollout


FUSIONS = {"mean": Tensor.mean, "max": Tensor.amax, "min": Tensor.amin}


def check_fusion(head_fusion: str, discard_ratio: float) -> None:
    """Raises ValueError for a way to fuse heads that there is not, and for a share outside [0, 1)."""
    if head_fusion not in FUSIONS:
        raise ValueError(f"head_fusion is one of {', '.join(FUSIONS)}; got {head_fusion!r}")
    if not 0 <= discard_ratio < 1:
        raise ValueError(f"discard_ratio is at least 0 and below 1; got {discard_ratio}")


def mixing(weights: Tensor, head_fusion: str = "mean", discard_ratio: float = 0.0) -> Tensor:
    """One layer of the rollout: heads fused, the residual connection, rows that sum to 1.

    (B, heads, T, T) -> (B, T, T). The rollout is the product of all layers' matrices.

    >>> mixing(torch.full((1, 3, 2, 2), 0.5))
    tensor([[[0.7500, 0.2500],
             [0.2500, 0.7500]]])
    """
    fused = FUSIONS[head_fusion](weights, dim=1)  # (B, T, T)
    if discard_ratio:
        fused = discard_smallest(fused, discard_ratio)
    identity = torch.eye(fused.shape[-1], dtype=fused.dtype, device=fused.device)
    layer = fused / 2 + identity / 2
    return layer / layer.sum(dim=-1, keepdim=True)


def discard_smallest(maps: Tensor, ratio: float) -> Tensor:
    """Set the smallest `ratio` of the entries of each (T, T) map to zero, except entry (0, 0).

    Of equal entries those that come first in reading order go first, on every device.

    >>> discard_smallest(torch.tensor([[0.1, 0.4], [0.2, 0.3]]), 0.5)
    tensor([[0.1000, 0.4000],
            [0.0000, 0.3000]])
    """
    flat = maps.flatten(start_dim=-2)
    count = int(flat.shape[-1] * ratio)
    if not count:
        return maps.clone()
    largest = flat.detach().kthvalue(count, dim=-1, keepdim=True).values  # of those that go
    below, equal = flat < largest, flat == largest
    left = count - below.sum(dim=-1, keepdim=True)  # so many of the equal ones go with them
    gone = below | (equal & (equal.cumsum(dim=-1, dtype=torch.int32) <= left))
    gone[..., 0] = False
    return flat.masked_fill(gone, 0.0).view_as(maps)


def class_map(attention: Tensor, grid_size: tuple[int, int], num_prefix_tokens: int = 1) -> Tensor:
    """The class token's row on the grid, without the tokens before the patches: (..., T, T) -> (..., h, w).

    The class token is the first of `num_prefix_tokens`; what a row gives them, as to registers, is left out,
    and it is not divided by what remains. Raises ValueError where the tokens are not these and the grid's
    patches.

    >>> class_map(torch.full((2, 13, 13), 1 / 13), (3, 4)).shape
    torch.Size([2, 3, 4])
    """
    rows, columns = grid_size
    if num_prefix_tokens < 1 or attention.shape[-1] != rows * columns + num_prefix_tokens:
        before = "a class token" if num_prefix_tokens == 1 else f"{num_prefix_tokens} prefix tokens"
        raise ValueError(
            f"{before} and a {rows} x {columns} grid make {rows * columns + num_prefix_tokens} tokens; got "
            f"{attention.shape[-1]}. The first is a class token; of more before patches say num_prefix_tokens"
        )
    return rearrange(attention[..., 0, num_prefix_tokens:], "... (h w) -> ... h w", h=rows)


def row_difference(row: Tensor, mean_row: Tensor, num_prefix_tokens: int = 1) -> Tensor:
    """How far what a token gets from the patches differs from what tokens get on average: (..., T) -> (...).

    Whether a row of a rollout says anything of its token: 0 where all rows say the same, 1 where they have no
    patch in common. It is the total variation, ½ Σ |p - q| over the patches, after what rows give the tokens
    before them is left out and each is divided by what remains. Rows are those of a rollout (..., T, T), and
    `mean_row` is their mean; of rows without patches the difference is nan. Raises ValueError for other
    shapes.

    >>> rollout = torch.tensor([[0.2, 0.8, 0.0], [0.2, 0.4, 0.4], [0.2, 0.0, 0.8]])
    >>> row_difference(rollout[0], rollout.mean(dim=0))
    tensor(0.5000)
    """
    if row.shape != mean_row.shape or not 0 <= num_prefix_tokens < row.shape[-1]:
        raise ValueError(
            f"a row and the mean of all rows have one shape (..., T), with patches after {num_prefix_tokens} "
            f"tokens; got {tuple(row.shape)} and {tuple(mean_row.shape)}"
        )
    shares = [each[..., num_prefix_tokens:].double() for each in (row, mean_row)]
    one, other = (each / each.sum(dim=-1, keepdim=True) for each in shares)
    return ((one - other).abs().sum(dim=-1) / 2).to(row)


def difference_in_words(difference: float) -> str:
    """A `row_difference` as it stands beside a rollout.

    >>> difference_in_words(0.0194)
    'differs from the mean row by 1.9 %'
    """
    return f"differs from the mean row by {difference:.1%}".replace("%", " %")
