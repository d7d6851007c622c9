"""Maps that ask no model: what a map of a model has to beat before it says anything of the model.

Each takes `(pictures, patch_size)`, uint8 pictures (B, C, H, W) as they are before a model's normalisation,
and gives one number a patch, (B, h, w), larger where the patch is more likely to be part of the object. What
no whole patch holds is left out. All raise ValueError for other pictures, or with no whole patch.
"""

import zlib
from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor

from vitlab.patches import as_pair

Baseline = Callable[[Tensor, int | tuple[int, int]], Tensor]
# From sRGB, without its gamma, to CIE XYZ over the white point D65 (IEC 61966-2-1).
XYZ = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def random(pictures: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """Numbers from 0 to 1 by chance, for the same picture always the same.

    >>> random(torch.zeros(2, 3, 8, 12, dtype=torch.uint8), 4).shape
    torch.Size([2, 2, 3])
    """
    rows, columns = grid_of(pictures, patch_size)
    made = []
    for picture in pictures.cpu():
        seed = zlib.crc32(picture.contiguous().numpy().tobytes())
        made.append(torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)))
    return torch.stack(made).to(pictures.device)


def centred_gaussian(pictures: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """A Gaussian at the centre, its deviation a quarter of each side; it sees no picture.

    >>> centred_gaussian(torch.zeros(1, 3, 12, 12, dtype=torch.uint8), 4)[0, 1]
    tensor([0.4111, 1.0000, 0.4111])
    """
    return gaussian(grid_of(pictures, patch_size)).to(pictures.device).expand(len(pictures), -1, -1)


def local_contrast(pictures: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """The deviation of a patch's pixels, mean over channels; pictures may be floats on any scale.

    >>> local_contrast(torch.tensor([[[[0, 255], [0, 255]]]], dtype=torch.uint8), 2)
    tensor([[[127.5000]]])
    """
    return deviation(in_patches(pictures.float(), patch_size))


def chroma(pictures: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """How far a patch's colours are from the picture's median, brightness aside; mean over its pixels.

    Colours are a* and b* of CIELAB (CIE 1976), of which the median is taken one by one. As a rival it is
    stronger than red, green and blue over their sum: on 2,000 scenes of 48 pixels it points at 88 % of the
    garments, they at 79. A grey picture has no colours, and its map is 0 everywhere.

    >>> pictures = torch.zeros(1, 3, 4, 12, dtype=torch.uint8)
    >>> pictures[0, 0, :, 8:] = 255  # red, in the last patch
    >>> chroma(pictures, 4)[0].round()
    tensor([[  0.,   0., 105.]])
    """
    if pictures.dtype != torch.uint8:
        raise ValueError(f"colours are told by uint8 pictures, before normalisation; got {pictures.dtype}")
    rows, columns = grid_of(pictures, patch_size)
    if pictures.shape[1] == 1:
        return torch.zeros(len(pictures), rows, columns, device=pictures.device)
    colours = chromaticity(pictures)  # (B, 2, H, W)
    median = colours.flatten(2).median(dim=-1).values[..., None, None]
    return in_patches((colours - median).norm(dim=1), patch_size).mean(dim=-1)


def centred_chroma(pictures: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """`chroma` × `centred_gaussian`: photographers put what stands out in the middle.

    >>> centred_chroma(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 4).max()
    tensor(0.)
    """
    return chroma(pictures, patch_size) * centred_gaussian(pictures, patch_size)


BASELINES: dict[str, Baseline] = {
    each.__name__: each for each in (random, centred_gaussian, local_contrast, chroma, centred_chroma)
}


def compute(
    pictures: Tensor, patch_size: int | tuple[int, int], names: Sequence[str] = tuple(BASELINES)
) -> dict[str, Tensor]:
    """Several of these maps: name -> (B, h, w). Raises ValueError for a name that `BASELINES` does not have.

    >>> compute(torch.zeros(2, 3, 8, 12, dtype=torch.uint8), 4, ["chroma"])["chroma"].shape
    torch.Size([2, 2, 3])
    """
    for name in names:
        if name not in BASELINES:
            raise ValueError(f"the baselines are {', '.join(BASELINES)}; got {name!r}")
    return {name: BASELINES[name](pictures, patch_size) for name in names}


def gaussian(grid: tuple[int, int]) -> Tensor:
    """The Gaussian of `centred_gaussian` on a grid, (h, w)."""
    bells = []
    for n in grid:
        places = (torch.arange(n) + 0.5) / n - 0.5  # in sides from the centre
        bells.append((-(places**2) / (2 * 0.25**2)).exp())
    return torch.outer(*bells)


def deviation(patches: Tensor) -> Tensor:
    """The deviation of the pixels of patches, mean over channels: (B, C, h, w, pixels) -> (B, h, w)."""
    return patches.std(dim=-1, correction=0).mean(dim=1)


def chromaticity(pictures: Tensor) -> Tensor:
    """a* and b* of CIELAB of sRGB pictures, uint8 (B, 3, H, W) -> (B, 2, H, W).

    >>> white, blue = torch.full((1, 3, 1, 1), 255), torch.tensor([0, 0, 255]).view(1, 3, 1, 1)
    >>> chromaticity(torch.cat([white, blue]).byte()).round().flatten(1).abs().tolist()
    [[0.0, 0.0], [79.0, 108.0]]
    """
    values = pictures.float() / 255
    linear = torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = (XYZ / XYZ.sum(dim=1, keepdim=True)).to(values.device)  # white is (1, 1, 1)
    x, y, z = (
        torch.where(t > (6 / 29) ** 3, t.clamp(min=1e-9) ** (1 / 3), t * (29 / 6) ** 2 / 3 + 4 / 29)
        for t in torch.einsum("xc,bchw->xbhw", to_xyz, linear)
    )
    return torch.stack([500 * (x - y), 200 * (y - z)], dim=1)


def in_patches(pixels: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """The pixels of each whole patch: (…, H, W) -> (…, h, w, pixels).

    >>> in_patches(torch.arange(8).view(2, 4), (2, 1)).shape
    torch.Size([1, 4, 2])
    """
    height, width = as_pair(patch_size)
    rows, columns = grid_of(pixels, patch_size)
    pixels = pixels[..., : rows * height, : columns * width]
    return rearrange(pixels, "... (h p) (w q) -> ... h w (p q)", h=rows, w=columns)


def grid_of(pictures: Tensor, patch_size: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of whole patches. Raises ValueError where there is none."""
    height, width = as_pair(patch_size)
    rows, columns = pictures.shape[-2] // height, pictures.shape[-1] // width
    if not rows or not columns:
        raise ValueError(
            f"pictures of {tuple(pictures.shape[-2:])} pixels have no whole patch of {height} x {width}"
        )
    return rows, columns
