"""How far attention reaches (figure 7 right, appendix D.7), and what has to be known to read that."""

from typing import NamedTuple

import torch
from torch import Tensor

from vitlab.patches import as_pair


def mean_attention_distance(
    weights: Tensor,
    grid_size: tuple[int, int],
    patch_size: int | tuple[int, int],
    cls: str = "drop",
    num_prefix_tokens: int | None = None,
) -> Tensor:
    """Mean distance between a patch and what it attends to, in pixels: (L, B, heads, T, T) -> (L, heads).

    Figure 7 (right) and appendix D.7: distances between patch centres, weighted by attention, averaged
    over queries and images. The class token has no place, so its row and column are left out; with
    `cls="drop"` (as in published code) what remains of a row no longer sums to 1, which makes a head that
    looks at the class token seem local; with "renormalise" rows are divided by what remains, and one of
    which nothing remains counts as 0. Without a class token both agree. So it is with all tokens before the
    patches; of more than one, as registers are, say how many. Raises ValueError where tokens and grid do not
    fit.

    >>> uniform = torch.full((1, 1, 1, 196, 196), 1 / 196)
    >>> round(mean_attention_distance(uniform, (14, 14), 16).item(), 1)
    116.5
    """
    rows, columns = as_pair(grid_size)
    prefix = weights.shape[-1] - rows * columns
    allowed = (0, 1) if num_prefix_tokens is None else (num_prefix_tokens,)
    if weights.ndim != 5 or prefix not in allowed or weights.shape[-2] != weights.shape[-1]:
        more = (
            "or one more with a class token"
            if num_prefix_tokens is None
            else f"and {num_prefix_tokens} before"
        )
        raise ValueError(
            f"weights of a {rows} x {columns} grid have the shape (L, B, heads, T, T) with "
            f"T = {rows * columns}, {more}; got {tuple(weights.shape)}. For other prefixes say "
            "num_prefix_tokens"
        )
    if cls not in ("drop", "renormalise"):
        raise ValueError(f"cls is 'drop' or 'renormalise'; got {cls!r}")
    weights = weights[..., prefix:, prefix:]
    if cls == "renormalise":
        weights = renormalised(weights)
    distances = patch_distances(grid_size, patch_size).to(weights)
    return (weights * distances).sum(dim=-1).mean(dim=(1, 3))


def renormalised(weights: Tensor) -> Tensor:
    """Rows (..., T) divided by their sums; a row of zeros stays one."""
    sums = weights.sum(dim=-1, keepdim=True)
    return weights / torch.where(sums == 0, 1, sums)


def uniform_attention_distance(grid_size: tuple[int, int], patch_size: int | tuple[int, int]) -> float:
    """The mean attention distance in pixels of a head that attends to all patches alike.

    The line to compare figure 7 (right) with: most of a high head's distance is the size of the image.

    >>> round(uniform_attention_distance((14, 14), 16), 1)
    116.5
    """
    return float(patch_distances(grid_size, patch_size).double().mean())


def class_token_share(weights: Tensor, queries: str = "patches", num_prefix_tokens: int = 1) -> Tensor:
    """The share of attention that goes to the class token: (L, B, heads, T, T) -> (L, heads), in [0, 1].

    Mean over images and over queries: "patches", whose distances the share confounds (`cls="drop"`), "class",
    the token itself, or "all". For weights recorded with a class token, which is the first of
    `num_prefix_tokens` before the patches. Attention that is uniform has the share 1/T. Raises ValueError for
    other shapes or queries.

    >>> class_token_share(torch.full((4, 2, 3, 5, 5), 0.2))[0]
    tensor([0.2000, 0.2000, 0.2000])
    """
    if weights.ndim != 5 or weights.shape[-1] != weights.shape[-2] or weights.shape[-1] < 2:
        raise ValueError(f"weights have the shape (L, B, heads, T, T); got {tuple(weights.shape)}")
    if not 1 <= num_prefix_tokens < weights.shape[-1]:
        raise ValueError(
            "num_prefix_tokens counts the class token, and patches follow: it is from 1 to "
            f"{weights.shape[-1] - 1}; got {num_prefix_tokens}"
        )
    rows = dict(patches=slice(num_prefix_tokens, None), all=slice(None)) | {"class": slice(0, 1)}
    if queries not in rows:
        raise ValueError(f"queries is 'patches', 'class' or 'all'; got {queries!r}")
    return weights[..., rows[queries], 0].mean(dim=(1, 3))


class Gap(NamedTuple):
    """A head's mean attention distance in pixels, by either form, and what they differ by.

    >>> print(Gap(0, 3, 22.61, 25.02, 0.1, 25.0))
    layer 1, head 4: 22.6 px dropped, 25.0 renormalised, uniform 25.0; class token 10%
    """

    layer: int  # from 0, as heads
    head: int
    dropped: float
    renormalised: float
    class_share: float
    uniform: float

    def __str__(self) -> str:
        return (
            f"layer {self.layer + 1}, head {self.head + 1}: {self.dropped:.1f} px dropped, "
            f"{self.renormalised:.1f} renormalised, uniform {self.uniform:.1f}; "
            f"class token {self.class_share:.0%}"
        )


def largest_gap(weights: Tensor, grid_size: tuple[int, int], patch_size: int | tuple[int, int]) -> Gap:
    """The head of (L, B, heads, T, T) whose distance hangs most on what is done with the class token's share.

    Raises ValueError where `mean_attention_distance` and `class_token_share` do.

    >>> weights = torch.full((1, 1, 1, 5, 5), 0.125)
    >>> weights[..., 0] = 0.5
    >>> gap = largest_gap(weights, (2, 2), 4)
    >>> round(gap.renormalised / gap.dropped, 3), gap.class_share
    (2.0, 0.5)
    """
    ways = ("drop", "renormalise")
    dropped, whole = (mean_attention_distance(weights, grid_size, patch_size, way) for way in ways)
    layer, head = divmod(int((whole - dropped).argmax()), whole.shape[1])
    share = class_token_share(weights)
    numbers = (float(each[layer, head]) for each in (dropped, whole, share))
    return Gap(layer, head, *numbers, uniform_attention_distance(grid_size, patch_size))


def patch_distances(grid_size: tuple[int, int], patch_size: int | tuple[int, int]) -> Tensor:
    """Distances between the centres of all pairs of patches in pixels, (N, N).

    >>> patch_distances((1, 3), 16)[0].tolist(), patch_distances((2, 2), (3, 4))[0].tolist()
    ([0.0, 16.0, 32.0], [0.0, 4.0, 3.0, 5.0])
    """
    rows, columns = as_pair(grid_size)
    places = torch.cartesian_prod(torch.arange(float(rows)), torch.arange(float(columns)))  # (N, 2)
    places = places * torch.tensor(as_pair(patch_size))
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
