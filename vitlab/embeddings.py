"""From patches to tokens: the linear projection and the position embeddings (section 3.1, appendix D.4)."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitlab.norms import LayerNorm
from vitlab.patches import as_pair, patchify


class PatchEmbed(nn.Module):
    """Patches projected linearly to D numbers each: (B, C, H, W) -> (B, N, D), the `x_p E` of equation 1.

    `proj` holds the weights as published ones are kept, as a convolution whose stride equals its kernel. Each
    of its outputs sees exactly one patch, so it is `patchify` followed by one matrix of (P²C, D). That is how
    it is computed: the tokens come out in their order, where a convolution's output has to be turned.
    With `norm`, as in vit-pytorch, a LayerNorm goes over the P²C numbers of each patch before, and another
    over the D numbers after.

    >>> PatchEmbed(patch_size=4, in_chans=3, embed_dim=96)(torch.zeros(2, 3, 8, 12)).shape
    torch.Size([2, 6, 96])
    """

    def __init__(
        self, patch_size: int, in_chans: int, embed_dim: int, norm: bool = False, norm_eps: float = 1e-6
    ):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        widths = (in_chans * patch_size**2, embed_dim)
        self.norms = nn.ModuleList(LayerNorm(w, eps=norm_eps) if norm else nn.Identity() for w in widths)

    def forward(self, images: Tensor) -> Tensor:
        before, after = self.norms
        patches = before(patchify(images, self.patch_size))  # (B, N, P²C)
        return after(F.linear(patches, self.proj.weight.flatten(1), self.proj.bias))


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


def sincos2d(grid: tuple[int, int], embed_dim: int, temperature: float = 10_000.0) -> Tensor:
    """A fixed 2-D table of sines and cosines, (N, D), in reading order.

    Half of the width codes the row, half the column; each half is sin then cos at D/4 wavelengths from 2π
    to 2π·temperature patches ("Attention Is All You Need" section 3.5, once per axis). Raises ValueError
    where D is not divisible by 4.

    >>> sincos2d((7, 7), 96).shape
    torch.Size([49, 96])
    """
    if embed_dim % 4:
        raise ValueError(f"sincos2d needs a width divisible by 4; got {embed_dim}")
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
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
    corners on corners), "timm" (bicubic with antialiasing), "hf" (bicubic) or "torchvision" (bicubic,
    corners on corners). The grids are (rows, columns) and are never guessed from the number of tokens.
    Raises ValueError where table and grid do not fit, or the method is unknown.

    >>> resize_pos_embed(torch.zeros(1, 17, 64), (4, 4), (6, 8)).shape
    torch.Size([1, 49, 64])
    """
    rules = {
        "jax": {"mode": "bilinear", "align_corners": True},
        "timm": {"mode": "bicubic", "align_corners": False, "antialias": True},
        "hf": {"mode": "bicubic", "align_corners": False},
        "torchvision": {"mode": "bicubic", "align_corners": True},
    }
    if method not in rules:
        raise ValueError(f"method is one of {', '.join(map(repr, rules))}; got {method!r}")
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
    table = F.interpolate(table.float(), size=new_grid, **rules[method]).to(pos_embed.dtype)
    return torch.cat([prefix, rearrange(table, "1 d h w -> 1 (h w) d")], dim=1)
