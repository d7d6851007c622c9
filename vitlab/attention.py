"""What a ViT attends to: recording, rollout, mean attention distance (section 4.5, appendices D.7, D.8)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn

from vitlab.encoder import Attention


@dataclass
class AttentionRecord:
    """Filled by the forward passes made inside `record_attention`."""

    layers: list[list[Tensor]] = field(default_factory=list)  # one list a layer, one tensor a forward pass

    @property
    def weights(self) -> Tensor:
        """(L, B, heads, T, T) in fp32; rows are queries and sum to 1. Several passes are joined along B.

        Raises ValueError while no forward pass was recorded.
        """
        if not any(self.layers):
            raise ValueError(
                "no forward pass was recorded; call model(images) inside `with record_attention(model)`"
            )
        return torch.stack([torch.cat(passes) for passes in self.layers])


@contextmanager
def record_attention(model: nn.Module) -> Iterator[AttentionRecord]:
    """Record the attention weights of every layer while the block runs; afterwards nothing is left behind.

    The weights are those that the model uses, so gradients can be taken through them. Raises ValueError for a
    model that has no `vitlab.Attention` in it.

    >>> from vitlab import ViT, ViTConfig
    >>> model = ViT(ViTConfig())
    >>> with record_attention(model) as record, torch.no_grad():
    ...     logits = model(torch.zeros(2, 1, 28, 28))
    >>> record.weights.shape
    torch.Size([4, 2, 4, 50, 50])
    """
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    if not attentions:
        raise ValueError(
            f"{type(model).__name__} has no vitlab.Attention layer, so there is no attention to record"
        )
    record = AttentionRecord([[] for _ in attentions])
    for attention, passes in zip(attentions, record.layers, strict=True):
        attention.observers.append(passes.append)
    try:
        yield record
    finally:
        for attention, passes in zip(attentions, record.layers, strict=True):
            attention.observers.remove(passes.append)


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
    fusions = {
        "mean": lambda w: w.mean(dim=2),
        "max": lambda w: w.amax(dim=2),
        "min": lambda w: w.amin(dim=2),
    }
    if weights.ndim != 5 or weights.shape[-1] != weights.shape[-2]:
        raise ValueError(f"weights have the shape (L, B, heads, T, T); got {tuple(weights.shape)}")
    if head_fusion not in fusions:
        raise ValueError(f"head_fusion is one of {', '.join(fusions)}; got {head_fusion!r}")
    if not 0 <= discard_ratio < 1:
        raise ValueError(f"discard_ratio is at least 0 and below 1; got {discard_ratio}")
    fused = discard_smallest(fusions[head_fusion](weights), discard_ratio)  # (L, B, T, T)
    identity = torch.eye(fused.shape[-1], dtype=fused.dtype, device=fused.device)
    layers = fused / 2 + identity / 2
    layers = layers / layers.sum(dim=-1, keepdim=True)
    rollout = layers[0]
    for layer in layers[1:]:
        rollout = layer @ rollout
    return rollout


def discard_smallest(maps: Tensor, ratio: float) -> Tensor:
    """Set the smallest `ratio` of the entries of each (T, T) map to zero, except entry (0, 0)."""
    flat = maps.flatten(start_dim=-2)
    count = int(flat.shape[-1] * ratio)
    smallest = flat.topk(count, dim=-1, largest=False).indices
    kept = flat.scatter(-1, smallest, 0.0)
    kept[..., 0] = flat[..., 0]
    return kept.view_as(maps)


def class_map(attention: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """The class token's row without its own entry, on the grid: (..., T, T) -> (..., h, w).

    Raises ValueError where the tokens are not one class token and the grid's patches.

    >>> class_map(torch.full((2, 13, 13), 1 / 13), (3, 4)).shape
    torch.Size([2, 3, 4])
    """
    rows, columns = grid_size
    if attention.shape[-1] != rows * columns + 1:
        raise ValueError(
            f"a class token and a {rows} x {columns} grid make {rows * columns + 1} tokens; "
            f"got {attention.shape[-1]}"
        )
    return rearrange(attention[..., 0, 1:], "... (h w) -> ... h w", h=rows)


def mean_attention_distance(
    weights: Tensor, grid_size: tuple[int, int], patch_size: int, cls: str = "drop"
) -> Tensor:
    """Mean distance between a patch and what it attends to, in pixels: (L, B, heads, T, T) -> (L, heads).

    Figure 7 (right) and appendix D.7: distances between patch centres, weighted by attention, averaged
    over queries and images. The class token has no place, so its row and column are left out; with
    `cls="drop"` (as in published code) what remains of a row no longer sums to 1, which makes a head that
    looks at the class token seem local; with "renormalise" rows are divided by what remains. Without a
    class token both agree. Raises ValueError where tokens and grid do not fit.

    >>> uniform = torch.full((1, 1, 1, 196, 196), 1 / 196)
    >>> round(mean_attention_distance(uniform, (14, 14), 16).item(), 1)
    116.5
    """
    rows, columns = grid_size
    prefix = weights.shape[-1] - rows * columns
    if weights.ndim != 5 or prefix not in (0, 1):
        raise ValueError(
            f"weights of a {rows} x {columns} grid have the shape (L, B, heads, T, T) with "
            f"T = {rows * columns}, or one more with a class token; got {tuple(weights.shape)}"
        )
    if cls not in ("drop", "renormalise"):
        raise ValueError(f"cls is 'drop' or 'renormalise'; got {cls!r}")
    weights = weights[..., prefix:, prefix:]
    if cls == "renormalise":
        weights = weights / weights.sum(dim=-1, keepdim=True)
    distances = patch_distances(grid_size, patch_size).to(weights)
    return (weights * distances).sum(dim=-1).mean(dim=(1, 3))


def patch_distances(grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """Distances between the centres of all pairs of patches in pixels, (N, N).

    >>> patch_distances((1, 3), 16)[0].tolist()
    [0.0, 16.0, 32.0]
    """
    rows, columns = grid_size
    places = torch.cartesian_prod(torch.arange(float(rows)), torch.arange(float(columns)))  # (N, 2)
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist") * patch_size
