"""Lesson 02: what the projection's filters answer to, and which position embeddings are alike."""

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitlab.data import normalise
from vitlab.embeddings import PatchEmbed
from vitlab.patches import grid_size
from vitlab.plots import pixels
from vitlab.resnet import HybridEmbed
from vitlab.widgets import tiles
from vitlab.widgets.clicks import Area
from vitlab.widgets.explorer import Explorer

PANEL = 420  # side of a panel of the position explorer, in pixels
SMALL = 280  # side of a panel of the filter explorer
HEADER, GAP = 26, 20
NUMBERED = 36  # cells shown smaller than this carry no number: it would be wider than the cell
BAR = 70  # width of the colour bar with its numbers


class PositionExplorer(Explorer):
    """Cosine similarity of one position embedding to all others (the paper's figure 7, centre).

    `tables` maps names to position embeddings (N, D) without the class token's, all on one `grid` of
    (rows, columns). Left: the map of every position, each in its place; right: the chosen one, enlarged.
    Colours run from -1 to 1, or when stretched from the table's least similarity. Raises ValueError where a
    table and the grid do not fit.

    >>> explorer = PositionExplorer({"all different": torch.eye(6)}, grid=(2, 3))
    >>> explorer.set(row=1, column=2)
    >>> explorer.caption[:75]
    'all different: the position at row 1, column 2 compared with all 6, by the '
    """

    def __init__(self, tables: dict[str, Tensor], grid: tuple[int, int]):
        self.grid = grid
        self.similarities = {name: _similarities(table, grid) for name, table in tables.items()}
        kind = ipywidgets.Dropdown(options=list(tables), description="position embeddings")
        row, column = (
            ipywidgets.IntSlider(1 + side // 2, 1, side, description=name)
            for side, name in zip(grid, ("row", "column"), strict=True)
        )
        stretch = ipywidgets.Checkbox(False, description="stretch the colours")
        controls = {"kind": kind, "row": row, "column": column, "stretch": stretch}
        super().__init__(self.draw, controls, size=(2 * PANEL + 2 * GAP + BAR, HEADER + PANEL), fast=True)

    def draw(self, kind: str, row: int, column: int, stretch: bool) -> tuple[Image.Image, str]:
        """Both panels, and in words how alike neighbours, row, column and the rest are."""
        rows, columns = self.grid
        similarities = self.similarities[kind]
        index = (row - 1) * columns + column - 1
        chosen = similarities[index].reshape(rows, columns)
        low = float(similarities.min()) if stretch else -1.0
        picture = Image.new("RGB", (2 * PANEL + 2 * GAP + BAR, HEADER + PANEL), "white")
        picture.paste(_all_maps(similarities, self.grid, index, low), (0, HEADER))
        picture.paste(_one_map(chosen, (row - 1, column - 1), low), (PANEL + GAP, HEADER))
        picture.paste(_colour_bar(low), (2 * (PANEL + GAP), HEADER))
        tiles.write(picture, (0, 4), f"{kind}: every position, in its place")
        tiles.write(picture, (PANEL + GAP, 4), f"row {row}, column {column}, enlarged")
        caption = (
            f"{kind}: the position at row {row}, column {column} compared with all {rows * columns}, by the "
            f"cosine of their embeddings (1 alike, 0 unrelated). "
            f"Means: {_means(chosen, row - 1, column - 1)}. Colours run from {low:.2f} to 1."
        )
        return picture, caption

    def areas(self) -> list[Area]:
        """A map at the left, or a cell at the right, is the position that is compared."""
        rows, columns = self.grid
        cells = _map_cell(self.grid), _large_cell(self.grid)
        sizes = [(rows * (rows * cells[0] + 4), columns * (columns * cells[0] + 4))]
        sizes += [(rows * cells[1], columns * cells[1])]
        return [
            Area(
                (panel * (PANEL + GAP) + (PANEL - width) // 2, HEADER + (PANEL - height) // 2, width, height),
                self.grid,
                lambda row, column: {"row": row + 1, "column": column + 1},
            )
            for panel, (height, width) in enumerate(sizes)
        ]


class FilterExplorer(Explorer):
    """One filter of the patch projection, and what it answers to each patch of an image (equation 1).

    `projections` maps names to `PatchEmbed`s of equal width, `images` names to (C, H, W) images, uint8. The
    answer is the chosen one of the D numbers of every patch, before positions are added. Raises ValueError
    for an image that the projection's patch size does not divide, or with other channels, and for the
    projection of a hybrid.

    >>> explorer = FilterExplorer({"fresh": PatchEmbed(4, 1, 8)}, {"blank": torch.zeros(1, 8, 12).byte()})
    >>> explorer.caption.partition(":")[0]
    'Filter 1 of 8, fresh, on blank'
    """

    def __init__(self, projections: dict[str, PatchEmbed], images: dict[str, Tensor]):
        for name, projection in projections.items():
            if isinstance(projection, HybridEmbed):
                raise ValueError(
                    f"{name} is of a hybrid: its filters are for features, no pictures; give a ViT's"
                )
        self.projections, self.images = projections, images
        self.ask_anew()
        width = min(len(projection.proj.weight) for projection in projections.values())
        controls = {
            "image": ipywidgets.Dropdown(options=list(images), description="image"),
            "which": ipywidgets.Dropdown(options=list(projections), description="projection"),
            "filter": ipywidgets.IntSlider(1, 1, width, description="filter"),
        }
        super().__init__(self.draw, controls, size=(3 * SMALL + 2 * GAP, HEADER + SMALL), fast=True)

    def models(self) -> list[PatchEmbed]:
        """The projections."""
        return list(self.projections.values())

    def ask_anew(self) -> None:
        """Project every image by every projection."""
        self.answers = {
            (which, name): _answers(projection, image)
            for which, projection in self.projections.items()
            for name, image in self.images.items()
        }

    def draw(self, image: str, which: str, filter: int) -> tuple[Image.Image, str]:
        """Filter, image and map of answers side by side; grey is 0, white positive, black negative."""
        projection = self.projections[which]
        weight = projection.proj.weight[filter - 1].detach().float().cpu()
        answers = self.answers[which, image][..., filter - 1]
        largest = max(float(weight.abs().max()), 1e-12)
        panels = [
            (pixels(weight / largest), f"filter {filter}, {which}"),
            (pixels(self.images[image]), image),
            (pixels(answers[None] / max(abs(answers).max(), 1e-12)), "its answer to every patch"),
        ]
        picture = Image.new("RGB", (3 * SMALL + 2 * GAP, HEADER + SMALL), "white")
        for i, (array, title) in enumerate(panels):
            picture.paste(_framed(array), (i * (SMALL + GAP), HEADER))
            tiles.write(picture, (i * (SMALL + GAP), 4), title)
        row, column = np.unravel_index(abs(answers).argmax(), answers.shape)
        caption = (
            f"Filter {filter} of {len(projection.proj.weight)}, {which}, on {image}: "
            f"weights from {weight.min():.2f} to {weight.max():.2f}, "
            f"answers from {answers.min():.2f} to {answers.max():.2f}; "
            f"the strongest is {answers[row, column]:.2f}, at row {row + 1}, column {column + 1}. "
            "In both, mid-grey is 0, white positive and black negative, each on its own scale."
        )
        return picture, caption


def _similarities(table: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """(N, D) -> (N, N) cosines; a row of zeros is like no other."""
    if table.ndim != 2 or len(table) != grid[0] * grid[1]:
        raise ValueError(
            f"a grid of {grid[0]} x {grid[1]} takes position embeddings of shape ({grid[0] * grid[1]}, D), "
            f"without the class token's; got {tuple(table.shape)}"
        )
    unit = torch.nn.functional.normalize(table.detach().cpu().double(), dim=1)
    return (unit @ unit.T).numpy()


def _means(chosen: np.ndarray, row: int, column: int) -> str:
    """Mean similarity to the direct neighbours, the rest of the row and of the column, and all others."""
    down, across = np.abs(np.indices(chosen.shape) - np.array([row, column]).reshape(2, 1, 1))
    groups = {
        "direct neighbours": down + across == 1,
        "others in its row": (down == 0) & (across > 1),
        "others in its column": (across == 0) & (down > 1),
        "all the rest": (down > 0) & (across > 0),
    }
    means = [f"{name} {chosen[where].mean():.2f}" for name, where in groups.items() if where.any()]
    return ", ".join(means) or "there is only one position"


def _all_maps(similarities: np.ndarray, grid: tuple[int, int], index: int, low: float) -> Image.Image:
    """The map of each position as a tile on the grid, the chosen one in a red frame."""
    rows, columns = grid
    cell = _map_cell(grid)
    maps = tiles.colour(similarities.reshape(-1, rows, columns), low, 1)
    maps = maps.repeat(cell, axis=1).repeat(cell, axis=2)
    maps = np.pad(maps, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
    frame = maps[index]
    frame[:2] = frame[-2:] = frame[:, :2] = frame[:, -2:] = (214, 39, 40)
    return _centred(Image.fromarray(tiles.mosaic(maps, columns, gap=0)))


def _one_map(chosen: np.ndarray, place: tuple[int, int], low: float) -> Image.Image:
    """One map as large as the panel, with numbers where there is room; the chosen cell has a red frame."""
    rows, columns = chosen.shape
    cell = _large_cell(chosen.shape)
    shown = tiles.resize(tiles.colour(chosen, low, 1), rows * cell, columns * cell).copy()
    top, left = place[0] * cell, place[1] * cell
    inner = shown[top + 3 : top + cell - 3, left + 3 : left + cell - 3].copy()
    shown[top : top + cell, left : left + cell] = (214, 39, 40)
    shown[top + 3 : top + cell - 3, left + 3 : left + cell - 3] = inner
    picture = Image.fromarray(shown)
    if cell >= NUMBERED:
        for (row, column), value in np.ndenumerate(chosen):
            middle = (column + 0.5) * cell, (row + 0.5) * cell
            tiles.write(picture, middle, f"{value:.2f}", size=13, halo=True, anchor="mm")
    return _centred(picture)


def _map_cell(grid: tuple[int, int]) -> int:
    """Whole pixels for each number of a map among all maps."""
    return max(1, (PANEL // max(grid) - 4) // max(grid))


def _large_cell(grid: tuple[int, int]) -> int:
    """Whole pixels for each number of the one map."""
    return max(1, PANEL // max(grid))


def _centred(picture: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (PANEL, PANEL), "white")
    canvas.paste(picture, ((PANEL - picture.width) // 2, (PANEL - picture.height) // 2))
    return canvas


def _colour_bar(low: float) -> Image.Image:
    """The scale of both panels, from 1 (top) to `low`."""
    bar = Image.new("RGB", (BAR, PANEL), "white")
    scale = tiles.colour(np.linspace(1, 0, PANEL - 16)[:, None], 0, 1).repeat(18, axis=1)
    bar.paste(Image.fromarray(scale), (0, 8))
    for share in np.linspace(0, 1, 5):
        place = 24, 8 + (1 - share) * (PANEL - 17)
        tiles.write(bar, place, f"{low + share * (1 - low):.2f}", size=13, anchor="lm")
    return bar


@torch.no_grad()
def _answers(projection: PatchEmbed, image: Tensor) -> np.ndarray:
    """(rows, columns, D): the projection of every patch, on the grid."""
    grid = grid_size(tuple(image.shape[-2:]), projection.patch_size)
    images = normalise(image)[None].to(projection.proj.weight)
    return projection(images)[0].reshape(*grid, -1).float().cpu().numpy()


def _framed(array: np.ndarray) -> Image.Image:
    """An array of pixels as large as a panel allows, on white."""
    height, width = tiles.fitted(array.shape, (SMALL, SMALL))
    canvas = Image.new("RGB", (SMALL, SMALL), "white")
    shown = Image.fromarray(tiles.resize(array, height, width))
    canvas.paste(shown, ((SMALL - width) // 2, (SMALL - height) // 2))
    return canvas
