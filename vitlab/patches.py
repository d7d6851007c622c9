"""Images as sequences of patches (paper, section 3.1): the arithmetic of the grid, and the cut itself."""

import torch
from einops import rearrange
from torch import Tensor


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """`size` as (height, width); an int stands for a square."""
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(f"a size is a positive whole number or a pair (height, width); got {size!r}")
    return pair


def divisors(n: int) -> list[int]:
    """All whole numbers that divide `n`, in rising order: the patch sizes that fit a side of `n` pixels.

    >>> divisors(28)
    [1, 2, 4, 7, 14, 28]
    """
    return [k for k in range(1, n + 1) if n % k == 0]


def common_divisors(image_size: int | tuple[int, int]) -> list[int]:
    """The patch sizes that divide both sides of an image.

    >>> common_divisors((8, 12))
    [1, 2, 4]
    """
    height, width = as_pair(image_size)
    return [size for size in divisors(height) if width % size == 0]


def grid_size(image_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches, (H/P, W/P); their product is N (section 3.1).

    Raises ValueError where `patch_size` does not divide both sides, naming the sizes that do.

    >>> grid_size((28, 56), 7)
    (4, 8)
    """
    height, width = as_pair(image_size)
    if not isinstance(patch_size, int) or patch_size < 1:
        raise ValueError(f"patch_size is a positive whole number of pixels; got {patch_size!r}")
    if height % patch_size or width % patch_size:
        wrong = " and ".join(str(side) for side in dict.fromkeys((height, width)) if side % patch_size)
        verb = "are" if " and " in wrong else "is"
        *most, last = map(str, common_divisors(image_size))
        choices = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"{wrong} {verb} not divisible by {patch_size}; use {choices}")
    return height // patch_size, width // patch_size


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into flat patches: (B, C, H, W) -> (B, N, C·P·P), the `x_p` of section 3.1.

    Patches are in reading order (row by row); inside a patch the order is (C, P, P), as in a convolution's
    kernel. Raises ValueError where the images are not 4-D or the patch size does not divide them.

    >>> import torch
    >>> patchify(torch.zeros(2, 3, 8, 12), 4).shape
    torch.Size([2, 6, 48])
    """
    if images.ndim != 4:
        raise ValueError(
            f"images have the shape (B, C, H, W); got {tuple(images.shape)}"
            + ("; add a batch axis with images[None]" if images.ndim == 3 else "")
        )
    rows, columns = grid_size(tuple(map(int, images.shape[-2:])), patch_size)  # torch.jit.trace's are tensors
    return rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", h=rows, w=columns)


def unpatchify(patches: Tensor, patch_size: int, image_size: int | tuple[int, int], channels: int) -> Tensor:
    """Put flat patches back together: (B, N, C·P·P) -> (B, C, H, W), the inverse of `patchify`.

    `image_size` is needed because N alone does not tell a 4 x 6 grid from a 6 x 4 one. Raises ValueError
    where the patches cannot make such an image.

    >>> import torch
    >>> unpatchify(torch.zeros(2, 6, 48), 4, (8, 12), channels=3).shape
    torch.Size([2, 3, 8, 12])
    """
    rows, columns = grid_size(image_size, patch_size)
    wanted = (rows * columns, channels * patch_size**2)
    if patches.ndim != 3 or tuple(patches.shape[1:]) != wanted:
        raise ValueError(
            f"{channels} channels at {as_pair(image_size)} and patch size {patch_size} take patches of shape "
            f"(B, {wanted[0]}, {wanted[1]}); got {tuple(patches.shape)}"
        )
    return rearrange(
        patches, "b (h w) (c p q) -> b c (h p) (w q)", h=rows, w=columns, p=patch_size, q=patch_size
    )


def drop_patches(tokens: Tensor, num_kept: int, num_prefix_tokens: int = 1) -> Tensor:
    """So many patches of each image, drawn for each, after the prefix: (B, p + N, D) -> (B, p + kept, D).

    Patch dropout (arXiv 2208.07220). They stay in reading order; PyTorch's generator of the device draws.

    >>> drop_patches(torch.zeros(2, 50, 96), num_kept=24).shape
    torch.Size([2, 25, 96])
    """
    prefix, patches = tokens[:, :num_prefix_tokens], tokens[:, num_prefix_tokens:]
    kept = torch.rand(patches.shape[:2], device=tokens.device).argsort(dim=1)[:, :num_kept].sort(dim=1).values
    kept = patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[2]))
    return torch.cat([prefix, kept], dim=1)
