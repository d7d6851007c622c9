"""Axial 2-D rotary position embeddings (RoPE; arXiv 2403.13298): queries and keys turned by their places."""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BASE = 100.0  # the authors', for axial frequencies


class Rotary(NamedTuple):
    """Turns the queries or keys (..., T, d) of patches on a grid by their places; needs no parameters.

    The numbers of a head are taken in consecutive pairs, (0, 1), (2, 3), …, each a point of the complex
    plane. The pairs of the first half are turned by the column times a frequency, those of the second half by
    the row; the frequencies are 100^(-i / (d / 4)) for i = 0, …, d / 4 - 1. So it is in timm's
    `vit_*_rope_224`, the authors' weights. A score then depends on how far apart two patches are, not on
    where. The first `num_prefix_tokens` of T, class token and registers, have no place and are not turned.
    Places are counted in patches of `kept_grid` on the same image, as by `sincos2d`.
    Angles are made in fp64 and the product in at least fp32. Raises ValueError for another number of tokens,
    and where d is not divisible by 4.

    >>> turn = Rotary(grid=(1, 3), kept_grid=(1, 3), num_prefix_tokens=1, head_dim=4)
    >>> turn(torch.tensor([1.0, 0, 1, 0]).expand(4, 4))  # all in row 0: the first pair alone turns
    tensor([[ 1.0000,  0.0000,  1.0000,  0.0000],
            [ 1.0000,  0.0000,  1.0000,  0.0000],
            [ 0.5403,  0.8415,  1.0000,  0.0000],
            [-0.4161,  0.9093,  1.0000,  0.0000]])
    """

    grid: tuple[int, int]
    kept_grid: tuple[int, int]
    num_prefix_tokens: int
    head_dim: int  # d

    def __call__(self, vectors: Tensor) -> Tensor:
        if (tokens := vectors.shape[-2]) != self.num_prefix_tokens + math.prod(self.grid):
            raise ValueError(
                f"rope2d turns each token by its place, and knows those of {self.num_prefix_tokens} tokens "
                f"and {self.grid[0]} x {self.grid[1]} patches; got {tokens} tokens, some of them left out, "
                "merged or added"
            )
        wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32)).contiguous()
        turn = torch.as_tensor(turns(*self), dtype=wide.dtype, device=wide.device)  # (T, d/2, 2)
        points = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))  # (..., T, d/2)
        points = points * torch.view_as_complex(turn)
        return torch.view_as_real(points).flatten(-2).to(vectors.dtype)


@functools.lru_cache(maxsize=64)
def turns(
    grid: tuple[int, int], kept_grid: tuple[int, int], num_prefix_tokens: int, head_dim: int
) -> np.ndarray:
    """Cosine and sine, as a complex number, of each angle that `Rotary` turns by, (T, d/2, 2) in fp64.

    They are kept, in NumPy: whatever mode PyTorch is in when they are first made, all may use them.

    >>> turns((7, 7), (7, 7), 1, 24).shape
    (50, 12, 2)
    """
    if head_dim % 4:
        raise ValueError(f"rope2d needs heads of a width divisible by 4; got {head_dim}")
    frequencies = BASE ** (-np.arange(head_dim // 4) / (head_dim // 4))
    counts = zip(grid, kept_grid, strict=True)
    places = [(np.arange(new) + 0.5) * (kept / new) - 0.5 for new, kept in counts]
    rows, columns = (axis.reshape(-1, 1) for axis in np.meshgrid(*places, indexing="ij"))  # (N, 1) each
    angles = np.concatenate([columns * frequencies, rows * frequencies], axis=1)  # (N, d/2)
    angles = np.concatenate([np.zeros((num_prefix_tokens, head_dim // 2)), angles])
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)
