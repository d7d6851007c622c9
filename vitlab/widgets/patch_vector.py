"""Lesson 01: one patch, flattened to the P²C numbers that the model reads."""

import ipywidgets
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab.patches import grid_size
from vitlab.plots import pixels
from vitlab.widgets import tiles
from vitlab.widgets.clicks import Area
from vitlab.widgets.patching import HEADER, ImageExplorer

WIDTH, PANEL, GAP = 880, 290, 20
IMAGE = 430  # width of the panel with the image
RUNS = 270  # height of all runs of numbers together
LABEL = 20  # the line of text over a run
MARK = 14  # the line of small numbers under a line of cells
CELLS = ((26, 14), (3, 6), (1, 2))  # the least width and height of a cell: with its number, apart, at all
LARGEST = 60, 30  # a cell is never shown wider or higher than this
MARKED = 400  # longer runs are too fine for marks
CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}


class PatchVectorExplorer(ImageExplorer):
    """One patch in its image, enlarged, and as the vector of its P²C numbers, in the order (C, P, P).

    Each number is a cell as bright as it says, with the number in it where there is room; each channel is a
    run of P² cells. Under the first number of each row of the patch stands its place in the vector, from 0;
    pixel k of the patch gives number k of each run. `images` and `patch_size` are those of `PatchExplorer`;
    `patch` counts from 1, as the paper's figure 1 does.

    >>> import torch
    >>> ramp = torch.arange(16, dtype=torch.uint8).view(1, 4, 4)
    >>> PatchVectorExplorer({"ramp": ramp}, patch_size=2, patch=2).caption.splitlines()[1]
    'P²C = 4 · 1 = 4 numbers: 2, 3, 6, 7.'
    """

    def __init__(self, images: dict[str, Tensor], patch_size: int | None = None, patch: int = 1):
        chosen = ipywidgets.IntSlider(patch, 1, patch, description="patch")
        super().__init__(
            images, patch_size, {"patch": chosen}, size=(WIDTH, HEADER + PANEL + GAP + RUNS), fast=True
        )

    def follow(self) -> None:
        """The slider ends at the last patch."""
        rows, columns = self._grid(self.controls["image"].value, self.controls["patch_size"].value)
        self.controls["patch"].max = rows * columns

    def _grid(self, image: str, patch_size: int) -> tuple[int, int]:
        return grid_size(tuple(self.images[image].shape[-2:]), patch_size)

    def areas(self) -> list[Area]:
        """A patch of the image is the one that is shown."""
        image = self.controls["image"].value
        rows, columns = self._grid(image, self.controls["patch_size"].value)
        height, width = tiles.fitted(tuple(self.images[image].shape[-2:]), (PANEL, IMAGE))
        grid = rows, columns
        return [
            Area((0, HEADER, width, height), grid, lambda row, column: {"patch": row * columns + column + 1})
        ]

    def draw(self, image: str, patch_size: int, patch: int) -> tuple[Image.Image, str]:
        """The image and its patch above, the vector below, and its first numbers in words."""
        rows, columns = self._grid(image, patch_size)
        row, column = divmod(patch - 1, columns)
        top, left = row * patch_size, column * patch_size
        chosen = self.images[image][:, top : top + patch_size, left : left + patch_size]  # (C, P, P)
        array = pixels(self.images[image])
        picture = Image.new("RGB", self.size, "white")
        whole = tiles.gridded(array, rows, columns, room=(PANEL, IMAGE))
        _frame(whole, row, column, rows, columns)
        picture.paste(whole, (0, HEADER))
        tiles.write(picture, (0, 4), f"{image}: patch {patch:,} of {rows * columns:,}")
        _patch_panel(picture, chosen)
        shown = _vector_panel(picture, chosen)
        caption = (
            f"{image}, P = {patch_size}: patch {patch:,} of {rows * columns:,}, patches[0, {patch - 1}] in "
            f"code; its upper left pixel is ({top}, {left}).\n{_numbers(chosen)}"
        )
        if shown < patch_size**2:
            caption += f"\nOnly the first {shown:,} of each run are shown."
        return picture, caption


def _numbers(patch: Tensor) -> str:
    """How many numbers a patch (C, P, P) has, and the first of them."""
    channels, numbers = len(patch), patch.flatten().tolist()
    first = ", ".join(map(_text, numbers[:8])) + (" and so on" if len(numbers) > 8 else "")
    return f"P²C = {patch[0].numel():,} · {channels} = {len(numbers):,} numbers: {first}."


def _frame(picture: Image.Image, row: int, column: int, rows: int, columns: int) -> None:
    """Mark one patch: black outside, white inside, so that it is seen on any ground."""
    x, y = picture.width / columns, picture.height / rows
    box = round(column * x), round(row * y), round((column + 1) * x), round((row + 1) * y)
    for out, colour, width in ((3, "black", 6), (1, "white", 2)):
        edges = (box[0] - out, box[1] - out, box[2] + out, box[3] + out)
        ImageDraw.Draw(picture).rectangle(edges, outline=colour, width=width)


def _patch_panel(picture: Image.Image, patch: Tensor) -> None:
    """The patch (C, P, P) enlarged, its pixels counted; beside it, if it is in colour, its channels."""
    channels, side, left = len(patch), patch.shape[1], IMAGE + GAP
    enlarged = tiles.gridded(pixels(patch), side, side, (PANEL, PANEL), first=0)
    tiles.write(picture, (left, 4), f"the patch: {side} × {side} pixels")
    picture.paste(enlarged, (left, HEADER))
    if channels > 1:
        left, small = left + PANEL + GAP, (PANEL - 2 * GAP) // channels
        tiles.write(picture, (left, 4), "its channels")
        for c in range(channels):
            plane, top = tiles.resize(pixels(patch[c : c + 1]), small, small), HEADER + c * (small + GAP)
            picture.paste(Image.fromarray(plane), (left, top))
            tiles.write(picture, (left + 4, top + 3), CHANNELS[channels][c], size=13, halo=True)


def _vector_panel(picture: Image.Image, patch: Tensor) -> int:
    """The numbers of a patch (C, P, P), a run for each channel; returns how many of a run are shown."""
    channels, side, count = len(patch), patch.shape[1], patch[0].numel()
    room = RUNS // channels - LABEL
    across, width, height, shown = _fit(count, side, room)
    for c, values in enumerate(patch.flatten(1)[:, :shown]):
        top, first = HEADER + PANEL + GAP + c * (room + LABEL), c * count
        run = f"numbers {first:,} to {first + count - 1:,}" if count > 1 else f"number {first}"
        tiles.write(picture, (0, top), f"{run}: {CHANNELS[channels][c]}", size=13)
        for start in range(0, shown, across):
            y = top + LABEL + start // across * (height + _mark(count))
            line = values[start : start + across]
            picture.paste(Image.fromarray(_cells(_levels(line), width, height)), (0, y))
            if _mark(count):
                _write_values(picture, y, line, width, height)
                for i in range(-start % side, len(line), side):  # where a row of the patch begins
                    tiles.write(picture, (i * width, y + height), str(first + start + i), size=10)
    return shown


def _fit(count: int, side: int, room: int) -> tuple[int, int, int, int]:
    """Cells across, width and height of a cell, and how many there is room for, in as few lines as can be.

    Never wrapped where the patch's own rows end: that would show the patch again, and the vector has no rows.
    """
    for narrowest, lowest in CELLS:
        across = min(count, WIDTH // narrowest)
        lines = -(-count // across)
        if lines > 1:
            across = -(-count // lines)
            across += across % side == 0
        height = min(LARGEST[1], room // lines - _mark(count))
        if height >= lowest and across * narrowest <= WIDTH:
            return across, min(LARGEST[0], WIDTH // across), height, count
    return WIDTH, 1, lowest, min(count, WIDTH * (room // lowest))


def _mark(count: int) -> int:
    return MARK if count <= MARKED else 0


def _cells(levels: np.ndarray, width: int, height: int) -> np.ndarray:
    """One line of cells, RGB uint8, with white between them where they are wide enough."""
    cells = np.broadcast_to(levels[None, :, None, None], (height, len(levels), width, 3)).copy()
    if width >= 6:
        cells[:, :, -1] = 255
    return cells.reshape(height, -1, 3)


def _write_values(picture: Image.Image, y: int, values: Tensor, width: int, height: int) -> None:
    """Each of the values (n,) in its cell, where there is room."""
    if width >= CELLS[0][0]:
        for i, (value, level) in enumerate(zip(values.tolist(), _levels(values), strict=True)):
            place = i * width + (width - 1) / 2, y + height / 2
            tiles.write(picture, place, _text(value), size=12, halo=level < 100, anchor="mm")


def _levels(values: Tensor) -> np.ndarray:
    """Values (n,) as bytes, whether the image holds bytes or floats."""
    return pixels(values[None, None])[0, :, 0]


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.1f}"
