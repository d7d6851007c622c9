"""Scenes: garments in colour on photographs, with the place of each known to the pixel."""

import functools
import math
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.data.dataset import Dataset
from vitlab.data.pictures import check_size
from vitlab.data.sources import GARMENTS, fashion_mnist, photos

# No photograph serves both splits, so that a background cannot be learnt by heart.
BACKGROUNDS = {"train": ("astronaut", "coffee", "galaxies"), "test": ("cat", "rocket")}
SIDE = (0.4, 0.7)  # of a garment, as a share of the image's shorter side
TILT = math.radians(25)
ZOOMS = (1.0, 1.6, 2.5)  # how much larger than the image a photograph is when the background is cut from it
CONTRAST = (0.3, 1.0)  # of a background's red, green and blue, as a share of the photograph's
EMPTY = 12  # grey values up to this are no garment; Fashion-MNIST's ground is 0, with faint specks
CHUNK = 500  # scenes made at once, to keep the memory small


class Scenes(NamedTuple):
    """Images uint8 (n, 3, H, W), labels int64 (n,) of the ten garments, masks bool (n, H, W).

    >>> scenes(4).dataset
    Dataset(4 images of 3×48×48, classes: T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, \
Sneaker, Bag, Ankle boot; on cpu)
    """

    images: Tensor
    labels: Tensor
    masks: Tensor

    @property
    def dataset(self) -> Dataset:
        """Images and labels, as training and evaluation take them."""
        return Dataset(self.images, self.labels, GARMENTS.split(", "))


def scenes(
    n: int,
    seed: int = 0,
    image_size: int | tuple[int, int] = 48,
    split: str = "train",
    camouflage: bool = False,
) -> Scenes:
    """`n` colour images of one garment each, and where it is.

    A garment of Fashion-MNIST's `split`, in a colour of its own, 40 to 70 % of the shorter side wide and
    tilted by up to 25 degrees, lies anywhere inside the image, on a piece of a photograph that is turned,
    mirrored and seen in another light. "train" and "test" share neither garments nor photographs. With
    `camouflage` the garment's colour, but for its brightness, is that of some pixel of its background, so
    that colour does not tell where it is; all else stays. The same seed gives the same scenes, and a larger n
    goes on where a smaller one ends. Raises ValueError for sides below 32 pixels, n below 1, or another
    split.

    >>> images, labels, masks = scenes(3, seed=1, image_size=(32, 64))
    >>> images.shape, labels.shape, masks.shape
    (torch.Size([3, 3, 32, 64]), torch.Size([3]), torch.Size([3, 32, 64]))
    """
    size = check_scenes(n, image_size)
    garments = fashion_mnist(split)
    draws = torch.rand(n, 19, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    chosen = (draws[:, 0] * len(garments.labels)).long()
    levels = backgrounds(split, size)
    parts = [
        compose(garments.images[indices], draw, levels, size, camouflage)
        for indices, draw in zip(chosen.split(CHUNK), draws[:, 1:].split(CHUNK), strict=True)
    ]
    images, masks = map(torch.cat, zip(*parts, strict=True))
    return Scenes(images, garments.labels[chosen], masks)


def check_scenes(n: int, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W) of scenes. Raises ValueError for a side or a number of scenes that is too small."""
    size = check_size(image_size)
    if min(size) < 32:
        raise ValueError(f"scenes are at least 32 pixels high and wide; got {image_size!r}")
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n is a whole number of scenes, at least 1; got {n}")
    return size


def compose(
    garments: Tensor, draws: Tensor, levels: list[Tensor], size: tuple[int, int], camouflage: bool
) -> tuple[Tensor, Tensor]:
    """Garments (n, 1, 28, 28) laid on backgrounds by draws (n, 18) in [0, 1): images and masks."""
    where, look, ground, light = draws.split((4, 3, 5, 6), dim=1)
    grey, cover = place(garments, where, size).chunk(2, dim=1)  # each (n, 1, H, W) in [0, 1]
    images = relight(cut(levels, ground, size), light)
    colour = borrowed(images, look) if camouflage else tint(look)  # (n, 3)
    images.lerp_(255 * colour[:, :, None, None] * grey, cover)
    return images.round_().byte(), cover[:, 0] >= 0.5


def place(garments: Tensor, draws: Tensor, size: tuple[int, int]) -> Tensor:
    """Brightness and cover of each garment, scaled, tilted and moved by draws (n, 4): (n, 2, H, W)."""
    height, width = size
    side = (SIDE[0] + (SIDE[1] - SIDE[0]) * draws[:, 0]) * min(size)  # pixels
    angle = TILT * (2 * draws[:, 1] - 1)
    reach = reach_of(side, angle)
    y = reach + draws[:, 2] * (height - 2 * reach)  # of the centre, such that the square stays inside
    x = reach + draws[:, 3] * (width - 2 * reach)
    return lay(garments, side, angle, y, x, size)


def reach_of(side: Tensor, angle: Tensor) -> Tensor:
    """Half the width of a tilted square, in the side's unit."""
    return side / 2 * (angle.cos() + angle.sin().abs())


def lay(garments: Tensor, side: Tensor, angle: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Brightness and cover, (n, 2, H, W) in [0, 1], of garments (n, 1, 28, 28).

    Each is `side` pixels wide, tilted by `angle` radians, with its centre at (y, x) pixels; all are (n,).
    """
    height, width = size
    cos, sin = angle.cos() / side, angle.sin() / side
    # from the image's coordinates in [-1, 1] to the garment's, each centred at its own 0
    matrix = torch.stack(
        [
            torch.stack([cos * width, sin * height, cos * (width - 2 * x) + sin * (height - 2 * y)], dim=1),
            torch.stack([-sin * width, cos * height, -sin * (width - 2 * x) + cos * (height - 2 * y)], dim=1),
        ],
        dim=1,
    ).float()  # (n, 2, 3)
    grid = F.affine_grid(matrix, [len(side), 1, height, width], align_corners=False)
    bright = garments.float() / 255
    layers = torch.cat([0.2 + 0.8 * bright, (garments > EMPTY).float()], dim=1)  # (n, 2, 28, 28)
    return F.grid_sample(layers, grid, align_corners=False)


def tint(draws: Tensor) -> Tensor:
    """Colours (n, 3) in [0, 1] from draws (n, 3): a hue, a saturation and a brightness."""
    hue, saturation, value = draws[:, 0], 0.3 + 0.7 * draws[:, 1], 0.7 + 0.3 * draws[:, 2]
    offsets = torch.tensor([5.0, 3.0, 1.0], dtype=draws.dtype)
    k = (offsets + 6 * hue[:, None]) % 6
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)  # the usual way from HSV to RGB
    return (value[:, None] * (1 - saturation[:, None] * ramp)).float()


def borrowed(images: Tensor, draws: Tensor) -> Tensor:
    """Colours (n, 3) in [0, 1] from draws (n, 3): a pixel's of images (n, 3, H, W), as bright as a tint's."""
    n, _, height, width = images.shape
    y, x = (draws[:, 0] * height).long(), (draws[:, 1] * width).long()
    pixels = images[torch.arange(n), :, y, x].clamp(min=1)  # black has no colour
    value = (0.7 + 0.3 * draws[:, 2:]).float()
    return value * pixels / pixels.amax(dim=1, keepdim=True)


@functools.cache
def backgrounds(split: str, size: tuple[int, int]) -> list[Tensor]:
    """The photographs of a split, upright and on their side, each covering `size` at every one of `ZOOMS`.

    Each is uint8 (3, h, w).
    """
    shipped, levels = photos(), []
    for upright in (shipped[name] for name in BACKGROUNDS[split]):
        for photo in (upright, upright.transpose(1, 2)):
            fit = max(wanted / side for wanted, side in zip(size, photo.shape[1:], strict=True))
            for zoom in ZOOMS:
                sides = [math.ceil(zoom * fit * side) for side in photo.shape[1:]]
                level = F.interpolate(photo[None].float(), size=sides, mode="bicubic", antialias=True)
                levels.append(level[0].round_().clamp_(0, 255).byte())
    return levels


def cut(levels: list[Tensor], draws: Tensor, size: tuple[int, int]) -> Tensor:
    """A piece of one of the levels for each of draws (n, 5): uint8 (n, 3, H, W).

    Half of them are mirrored, and half upside down; as half of the levels lie on their side, a background
    is turned every way.
    """
    height, width = size
    chosen = (draws[:, 0] * len(levels)).long()
    sides = torch.tensor([level.shape[1:] for level in levels])[chosen]  # (n, 2), of each one's level
    corners = (draws[:, 1:3] * (sides - torch.tensor(size) + 1)).long()
    steps = torch.where(draws[:, 3:] < 0.5, -1, 1)  # mirrored, upside down
    pixels, pieces = [level.numpy() for level in levels], np.empty((len(draws), 3, *size), dtype=np.uint8)
    wanted = zip(chosen.tolist(), corners.tolist(), steps.tolist(), strict=True)
    for piece, (level, (top, left), (right, down)) in zip(
        pieces, wanted, strict=True
    ):  # copies: no faster way
        piece[:] = pixels[level][:, top : top + height, left : left + width][:, ::down, ::right]
    return torch.from_numpy(pieces)


def relight(pieces: Tensor, draws: Tensor) -> Tensor:
    """Pieces (n, 3, H, W) with less contrast and brighter, channel by channel, by draws (n, 6).

    float32 in [0, 255].
    """
    contrast = CONTRAST[0] + (CONTRAST[1] - CONTRAST[0]) * draws[:, :3]
    brighter = 255 * (1 - contrast) * draws[:, 3:]  # white stays within the range
    gain, offset = (each.float()[:, :, None, None] for each in (contrast, brighter))
    return torch.addcmul(offset, gain, pieces)
