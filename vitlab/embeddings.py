"""From patches to tokens: the linear projection and the position embeddings (section 3.1, appendix D.4).

Both can be had for patches of another size than they were learnt for (FlexiViT, arXiv 2212.08013).
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitlab.norms import LayerNorm, full_precision
from vitlab.patches import as_pair, patchify

# How patches are resized, and how tables of positions: whether by a cubic, and whether with antialiasing.
KERNEL_METHODS = {"flexivit": (False, False), "timm": (True, True)}
POSITION_METHODS = {"flexivit": (False, True), "timm": (True, True)}


class PatchEmbed(nn.Module):
    """Patches projected linearly to D numbers each: (B, C, H, W) -> (B, N, D), the `x_p E` of equation 1.

    `proj` holds the weights as published ones are kept, as a convolution whose stride equals its kernel. Each
    of its outputs sees exactly one patch, so it is `patchify` followed by one matrix of (P²C, D). That is how
    it is computed: the tokens come out in their order, where a convolution's output has to be turned.
    With `norm`, as in vit-pytorch, a LayerNorm goes over the P²C numbers of each patch before, and another
    over the D numbers after. With `kernel_size` the kernel is kept at that size, and `resize_patch_kernel`
    makes the one for patches of P anew in each call, by `method`.

    >>> PatchEmbed(patch_size=4, in_chans=3, embed_dim=96)(torch.zeros(2, 3, 8, 12)).shape
    torch.Size([2, 6, 96])
    """

    def __init__(
        self,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        norm: bool = False,
        norm_eps: float = 1e-6,
        kernel_size: int | None = None,
        method: str = "flexivit",
    ):
        super().__init__()
        self.patch_size, self.method = patch_size, method
        side = kernel_size or patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=side, stride=side)
        widths = (in_chans * patch_size**2, embed_dim)
        self.norms = nn.ModuleList(LayerNorm(w, eps=norm_eps) if norm else nn.Identity() for w in widths)

    def forward(self, images: Tensor) -> Tensor:
        before, after = self.norms
        patches = before(patchify(images, self.patch_size))  # (B, N, P²C)
        kernel = resize_patch_kernel(self.proj.weight, self.patch_size, self.method)  # (D, C, P, P)
        return after(F.linear(patches, kernel.flatten(1), self.proj.bias))


def resize_patch_kernel(
    weight: Tensor, new_patch_size: int | tuple[int, int], method: str = "flexivit"
) -> Tensor:
    """The kernel of a patch projection for patches of another size: (D, C, P, Q) -> (D, C, P', Q').

    The pseudo-inverse resize of FlexiViT (arXiv 2212.08013, equation 4). Where B is the matrix that resizes a
    patch x, the new kernel is (Bᵀ)⁺ w: the one whose tokens (B x)·w' are closest to x·w. For patches that are
    enlarged, each by itself, they are the same; in smaller ones not all is left of what the kernel saw.
    `method` is how B resizes: "flexivit", bilinear without antialiasing, as the authors' code does
    (big_vision's proj/flexi/vit.py, on tf.image.resize, which also prepares its images), or "timm", bicubic
    with antialiasing, which timm's `resample_patch_embed` takes unless it is told otherwise. B is made in
    fp64, and the product in at least fp32; the result has the type of `weight`, which gradients reach.
    Raises ValueError for weights or sizes that are none of a patch projection's, or an unknown method.

    >>> resize_patch_kernel(torch.full((96, 1, 2, 2), 0.25), 4)[0, 0, 0]  # each has a quarter of the share
    tensor([0.0625, 0.0625, 0.0625, 0.0625])
    """
    if not isinstance(weight, Tensor) or weight.ndim != 4 or not weight.is_floating_point():
        got = f"{weight.dtype} of shape {tuple(weight.shape)}" if isinstance(weight, Tensor) else repr(weight)
        raise ValueError(f"the kernel of a patch projection has floats of shape (D, C, P, P); got {got}")
    old, new = tuple(weight.shape[2:]), as_pair(new_patch_size)
    if method not in KERNEL_METHODS:
        raise ValueError(f"method is one of {', '.join(map(repr, KERNEL_METHODS))}; got {method!r}")
    if old == new:
        return weight
    return along_both_axes(weight, new, *KERNEL_METHODS[method], inverse=True)


def along_both_axes(
    values: Tensor, new: tuple[int, int], cubic: bool, antialias: bool, inverse: bool = False
) -> Tensor:
    """Values (..., H, W) resized to (..., H', W') by the matrices of the two axes, in at least fp32.

    What B does to an image is the Kronecker product of what it does to columns and to rows, and its
    pseudo-inverse that of theirs. `F.interpolate` is not asked: its antialiasing on a CPU leaves out the rows
    where the result is one column wide.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    rows, columns = (
        torch.as_tensor(resize_matrix(*sizes, cubic, antialias, inverse), dtype=dtype, device=values.device)
        for sizes in zip(values.shape[-2:], new, strict=True)
    )
    with full_precision(values.device):
        return (rows @ values.to(dtype) @ columns.mT).to(values.dtype)


@functools.lru_cache(maxsize=256)
def resize_matrix(
    old: int, new: int, cubic: bool = False, antialias: bool = False, inverse: bool = False
) -> np.ndarray:
    """What each new pixel of an axis takes of the old ones, (new, old) in fp64; with `inverse` (Bᵀ)⁺ of that.

    Bilinear, or cubic as Keys (1981) with a = -1/2. Pixels have their places at their middles; with
    `antialias` a filter is as much wider as the row gets shorter. It is kept, in NumPy: whatever mode PyTorch
    is in when it is first made, all may use it.

    >>> resize_matrix(2, 4)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    middles = (np.arange(new) + 0.5) * old / new - 0.5  # among the old pixels
    x = np.abs(middles[:, None] - np.arange(old)) / (max(1, old / new) if antialias else 1)  # (new, old)
    weights = np.clip(1 - x, 0, None)
    if cubic:
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    weights = weights / weights.sum(axis=1, keepdims=True)
    return np.linalg.pinv(weights.T) if inverse else weights


def principal_filters(weight: Tensor, count: int = 28) -> tuple[Tensor, Tensor]:
    """The first principal components of the filters of a patch projection, and what each explains.

    The paper's figure 7 (left): (D, C, P, P) -> (count, C, P, P) of length 1, and shares (count,) of the
    filters' variance, the largest first. The sign of a component means nothing. Raises ValueError where there
    are not as many components, and for weights of another shape.

    >>> filters, shares = principal_filters(PatchEmbed(4, 3, 96).proj.weight, count=8)
    >>> filters.shape, bool((shares.diff() <= 0).all())
    (torch.Size([8, 3, 4, 4]), True)
    """
    if weight.ndim != 4 or not 1 <= count <= min(len(weight) - 1, weight[0].numel()):
        raise ValueError(
            f"filters (D, C, P, P) have at most D - 1 and C·P·P components; got {tuple(weight.shape)} and "
            f"count {count}"
        )
    flat = weight.detach().cpu().double().flatten(1)
    _, lengths, components = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)
    shares = lengths**2 / (lengths**2).sum()
    return components[:count].unflatten(1, weight.shape[1:]).float(), shares[:count].float()


def wave_patterns(patch_size: int) -> Tensor:
    """P² patterns (P², P, P) of length 1: cosines that go up and down 0, ½, 1, … times each way.

    >>> [round(pattern.norm().item(), 4) for pattern in wave_patterns(2)]
    [1.0, 1.0, 1.0, 1.0]
    """
    places, halves = torch.arange(patch_size) + 0.5, torch.arange(patch_size)[:, None]
    waves = F.normalize(torch.cos(torch.pi * halves * places / patch_size), dim=1)  # (P, P)
    return torch.einsum("ay,bx->abyx", waves, waves).flatten(0, 1)


def mean_likeness(table: Tensor, grid: tuple[int, int]) -> tuple[float, float, float, float]:
    """Mean cosines between the rows (N, D) of a table of positions, by how their places lie on the grid.

    One step apart; three and more; of these, left-right mirror images, and up-down ones. Steps go along rows
    and columns. Raises ValueError where table and grid do not fit, and for a grid on which one of the four
    has no pairs: mirror images three and more steps apart take four rows and four columns.

    >>> [round(number, 2) for number in mean_likeness(torch.ones(16, 8), (4, 4))]
    [1.0, 1.0, 1.0, 1.0]
    """
    rows, columns = grid
    if table.ndim != 2 or len(table) != rows * columns:
        raise ValueError(
            f"a {rows} x {columns} grid takes a table of shape ({rows * columns}, D), without the class "
            f"token; got {tuple(table.shape)}"
        )
    if min(grid) < 4:
        raise ValueError(
            "a place and its mirror image three steps away take a grid of at least 4 x 4; "
            f"got {rows} x {columns}"
        )
    unit = F.normalize(table, dim=-1)
    cosines = unit @ unit.T  # (N, N)
    place = torch.cartesian_prod(*map(torch.arange, grid)).float()  # (N, 2)
    steps = torch.cdist(place, place, p=1)
    mirrored = torch.stack([place[:, 0], grid[1] - 1 - place[:, 1]], dim=1)
    upside_down = torch.stack([grid[0] - 1 - place[:, 0], place[:, 1]], dim=1)
    far = steps >= 3
    images = [far & (torch.cdist(place, other, p=1) == 0) for other in (mirrored, upside_down)]
    return tuple(cosines[where].mean().item() for where in (steps == 1, far, *images))


def sincos2d(
    grid: tuple[int, int],
    embed_dim: int,
    temperature: float = 10_000.0,
    old_grid: tuple[int, int] | None = None,
) -> Tensor:
    """A fixed 2-D table of sines and cosines, (N, D), in reading order.

    Half of the width codes the row, half the column; each half is sin then cos at D/4 wavelengths from 2π
    to 2π·temperature patches ("Attention Is All You Need" section 3.5, once per axis). With `old_grid` places
    are counted in patches of that grid on the same image, as between two of its middles. Raises ValueError
    where D is not divisible by 4.

    >>> sincos2d((7, 7), 96).shape
    torch.Size([49, 96])
    """
    if embed_dim % 4:
        raise ValueError(f"sincos2d needs a width divisible by 4; got {embed_dim}")
    counts = zip(grid, old_grid or grid, strict=True)
    places = [(torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5 for new, old in counts]
    rows, columns = torch.meshgrid(*places, indexing="ij")
    # Once transformers 5 has loaded a model, linspace alone may not heed `with torch.device(...)`.
    steps = torch.linspace(0, 1, embed_dim // 4, dtype=torch.float64, device=rows.device)
    frequencies, axes = temperature**-steps, []
    for positions in (rows, columns):
        angles = positions.reshape(-1, 1) * frequencies  # (N, D/4)
        axes += [angles.sin(), angles.cos()]
    return torch.cat(axes, dim=1).float()


def resize_pos_embed(
    pos_embed: Tensor,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    num_prefix_tokens: int = 1,
    method: str = "jax",
) -> Tensor:
    """Interpolate position embeddings to another grid: (1, prefix + N, D) -> (1, prefix + N', D).

    Section 3.2. The prefix (the class token's entry) has no place in the image and is kept as it is.
    `method` is the rule of the library that the weights will be compared with: "jax" (Google's: bilinear,
    corners on corners), "timm" (bicubic with antialiasing), "hf" (bicubic), "torchvision" (bicubic, corners
    on corners) or "flexivit" (bilinear with antialiasing, as big_vision's FlexiViT). The grids are (rows,
    columns) and are never guessed from the number of tokens.
    Raises ValueError where table and grid do not fit, or the method is unknown.

    >>> resize_pos_embed(torch.zeros(1, 17, 64), (4, 4), (6, 8)).shape
    torch.Size([1, 49, 64])
    """
    rules = {
        "jax": {"mode": "bilinear", "align_corners": True},
        "hf": {"mode": "bicubic", "align_corners": False},
        "torchvision": {"mode": "bicubic", "align_corners": True},
    }
    if method not in (known := dict.fromkeys(("jax", "timm", *rules, *POSITION_METHODS))):
        raise ValueError(f"method is one of {', '.join(map(repr, known))}; got {method!r}")
    old_grid, new_grid = as_pair(old_grid), as_pair(new_grid)
    expected = num_prefix_tokens + math.prod(old_grid)
    if pos_embed.ndim != 3 or pos_embed.shape[0] != 1 or pos_embed.shape[1] != expected:
        raise ValueError(
            f"a {old_grid[0]} x {old_grid[1]} grid with {num_prefix_tokens} prefix tokens has position "
            f"embeddings of shape (1, {expected}, D); got {tuple(pos_embed.shape)}"
        )
    if old_grid == new_grid:
        return pos_embed
    prefix, table = pos_embed[:, :num_prefix_tokens], pos_embed[:, num_prefix_tokens:]
    table = rearrange(table, "1 (h w) d -> 1 d h w", h=old_grid[0])
    if method in POSITION_METHODS:
        table = along_both_axes(table, new_grid, *POSITION_METHODS[method])
    else:
        wide = table.to(torch.promote_types(table.dtype, torch.float32))
        table = F.interpolate(wide, size=new_grid, **rules[method]).to(pos_embed.dtype)
    return torch.cat([prefix, rearrange(table, "1 d h w -> 1 (h w) d")], dim=1)
