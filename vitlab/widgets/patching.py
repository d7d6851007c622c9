"""Lesson 01: what the patch size does to the sequence, and to its cost."""

import ipywidgets
import numpy as np
from PIL import Image
from torch import Tensor

from vitlab.patches import common_divisors, grid_size
from vitlab.plots import pixels
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer

PANEL = 430  # side of each of the two panels, in pixels
HEADER = 26
NUMBERED = 24  # patches shown smaller than this carry no number: it would be wider than the patch
SMALLEST = 5  # patches are never shown smaller than this; a longer sequence is cut short


class PatchExplorer(Explorer):
    """An image under its grid, beside the sequence of its patches in reading order (paper, section 3.1).

    `images` maps names to (C, H, W) images, uint8 or float in [-1, 1]. The slider offers only patch sizes
    that divide the image; in the box beside it any size may be tried. `embed_dim` is the projection's D.

    >>> import torch
    >>> explorer = PatchExplorer({"blank": torch.zeros(1, 28, 28)}, patch_size=4)
    >>> explorer.set(typed=5)
    >>> explorer.caption[:47]
    '28 is not divisible by 5; use 1, 2, 4, 7, 14 or'
    """

    def __init__(self, images: dict[str, Tensor], patch_size: int | None = None, embed_dim: int = 96):
        self.images, self.embed_dim = images, embed_dim
        first = next(iter(images))
        height, width = images[first].shape[-2:]
        sizes = common_divisors((height, width))
        if patch_size is None:
            patch_size = _nearest(sizes, min(height, width) / 8)
        grid_size((height, width), patch_size)  # the error about a size that does not divide
        image = ipywidgets.Dropdown(options=list(images), value=first, description="image")
        slider = ipywidgets.SelectionSlider(options=sizes, value=patch_size, description="patch size P")
        typed = ipywidgets.IntText(value=patch_size, description="or type any size")
        image.observe(self._offer_sizes, names="value")
        slider.observe(lambda change: setattr(typed, "value", change.new), names="value")
        typed.observe(lambda change: self._follow(change.new), names="value")
        controls = {"image": image, "patch_size": slider, "typed": typed}
        super().__init__(self.draw, controls, size=(2 * PANEL + 20, HEADER + PANEL))

    def _offer_sizes(self, _change) -> None:
        """Another image, other sizes that divide it: keep P or the nearest to it."""
        slider, typed = self.controls["patch_size"], self.controls["typed"]
        with self.hold():
            before = slider.value
            slider.options = common_divisors(tuple(self.images[self.controls["image"].value].shape[-2:]))
            slider.value = typed.value = _nearest(slider.options, before)

    def _follow(self, size: int) -> None:
        """The slider follows the typed size where it can."""
        slider = self.controls["patch_size"]
        if size in slider.options:
            slider.value = size

    def draw(self, image: str, patch_size: int, typed: int) -> tuple[Image.Image, str]:
        """Both panels and the numbers for `typed`; `patch_size` differs only if it does not divide."""
        channels, height, width = self.images[image].shape
        try:
            rows, columns = grid_size((height, width), typed)
        except ValueError as error:
            sizes = common_divisors((height, width))
            raise ValueError(f"{error} (nearest: {_nearest(sizes, typed)})") from None
        picture = Image.new("RGB", (2 * PANEL + 20, HEADER + PANEL), "white")
        array = pixels(self.images[image])
        picture.paste(_grid_panel(array, rows, columns), (0, HEADER))
        sequence, shown = _sequence_panel(array, rows, columns)
        picture.paste(sequence, (PANEL + 20, HEADER))
        n = rows * columns
        tiles.write(picture, (0, 4), f"{image}: {rows} × {columns} patches")
        part = f"{n:,} patches" if shown == n else f"the first {shown:,} of {n:,} patches"
        tiles.write(picture, (PANEL + 20, 4), f"in reading order: {part}")
        numbers, colours = channels * typed**2, f"{channels} channel{'s' * (channels > 1)}"
        caption = (
            f"{image}: {height} × {width} pixels, {colours}, cut with P = {typed} "
            f"into {rows} × {columns} patches: N = {n:,}, each a vector of P²C = {numbers:,} numbers.\n"
            f"The projection to D = {self.embed_dim} has P²C·D + D = {(numbers + 1) * self.embed_dim:,} "
            f"parameters; one head's attention over N + 1 tokens has (N + 1)² = {(n + 1) ** 2:,} entries."
        )
        if shown < n:
            caption += f"\nOnly the first {shown:,} patches are shown."
        return picture, caption


def _nearest(sizes: list[int], wanted: float) -> int:
    return min(sizes, key=lambda size: abs(size - wanted))


def _grid_panel(array: np.ndarray, rows: int, columns: int) -> Image.Image:
    """The image as large as the panel allows, with its grid where lines leave something to see."""
    scale = PANEL / max(array.shape[:2])
    height, width = (round(side * scale) for side in array.shape[:2])
    shown = tiles.resize(array, height, width).copy()
    if height / rows >= 6:
        for edge, shade in ((0, 255), (1, 0)):  # white beside black: seen on any ground
            shown[[i * height // rows + edge for i in range(1, rows)]] = shade
            shown[:, [i * width // columns + edge for i in range(1, columns)]] = shade
    picture = Image.fromarray(shown)
    if width / columns >= NUMBERED + 8:
        for i in range(rows * columns):
            place = (i % columns + 0.5) * width / columns, (i // columns + 0.5) * height / rows
            tiles.write(picture, place, str(i + 1), size=13, halo=True, anchor="mm")
    return picture


def _sequence_panel(array: np.ndarray, rows: int, columns: int) -> tuple[Image.Image, int]:
    """The patches one after the other, as large as the panel allows, and how many there is room for."""
    side, across, down = _fit_sequence(rows * columns, columns)
    shown = min(rows * columns, across * down)
    whole = tiles.resize(array, rows * side, columns * side)  # each patch becomes a tile of whole pixels
    patches = whole.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)[:shown]
    label, gap = _label(side), _gap(side)
    framed = np.full((shown, side + label, side, 3), 255, np.uint8)
    framed[:, :side] = patches
    picture = Image.fromarray(tiles.mosaic(framed, across, gap))
    if label:
        for i in range(shown):
            place = (i % across) * (side + gap) + side / 2, (i // across) * (side + label + gap) + side
            tiles.write(picture, place, str(i + 1), size=12, anchor="ma")
    return picture, shown


def _fit_sequence(n: int, columns: int) -> tuple[int, int, int]:
    """Side of a patch on the screen, patches across and down. Never wrapped where the image's own rows end:
    that would show the image again, and the sequence knows nothing of rows."""
    for side in range(PANEL // 2, SMALLEST - 1, -1):
        across = (PANEL + _gap(side)) // (side + _gap(side))
        across -= across == columns and columns < n
        down = (PANEL + _gap(side)) // (side + _label(side) + _gap(side))
        if across * down >= n:
            break
    return side, across, down


def _label(side: int) -> int:
    return 15 if side >= NUMBERED else 0


def _gap(side: int) -> int:
    return max(1, side // 8)
