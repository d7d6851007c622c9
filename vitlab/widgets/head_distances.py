"""Lesson 06: how far each head looks, and where."""

from functools import lru_cache, partial

import ipywidgets
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab.attention import View, mean_attention_distance, uniform_attention_distance
from vitlab.attention.distance import renormalised
from vitlab.attention.reading import view_of
from vitlab.patches import as_pair
from vitlab.plots import attention_distance
from vitlab.vit import ViT, ViTConfig
from vitlab.widgets import tiles, tokens
from vitlab.widgets.clicks import Area
from vitlab.widgets.explorer import Explorer, figure, places
from vitlab.widgets.pictures import fit

GAP = 20
HEADER = 26
DOT = 8  # pixels from the middle of a dot within which a click is on it
BELOW = 34  # for the words under the map


class HeadDistanceExplorer(Explorer):
    """Every head's mean attention distance as a dot (figure 11), and where the head with the ring looks.

    The map at the right is the head's attention from a patch to what lies so far above, below, left and right
    of it, mean over all patches and images; it sums to what the row keeps. `weights` are recorded attention
    (L, B, heads, T, T) of `model`: a ViT or its config, or a view of any other, then with the size of the
    images that were looked at, where it is not the model's own. Raises ValueError where they do not fit.

    >>> from vitlab import ViTConfig
    >>> uniform = torch.full((4, 1, 4, 50, 50), 1 / 50)
    >>> explorer = HeadDistanceExplorer(uniform, ViTConfig())
    >>> explorer.caption[:47]
    'Layer 1, head 1: mean attention distance 14.1 p'
    """

    SIZE = (900, 380)
    PLOT = 520  # the width of the plot of dots

    def __init__(
        self,
        weights: Tensor,
        model: ViTConfig | ViT | View,
        image_size: int | tuple[int, int] | None = None,
    ):
        if isinstance(model, ViTConfig):
            with torch.device("meta"):  # which takes no memory
                model = ViT(model)
        view = view_of(model)
        weights, prefix, side = weights.cpu(), view.num_prefix_tokens, view.patch_size
        grid = view.grid_of(as_pair(view.image_size if image_size is None else image_size))
        self.uniform = uniform_attention_distance(grid, side)
        ways = ("drop", "renormalise") if prefix else ("drop",)
        self.distances = {way: mean_attention_distance(weights, grid, side, way, prefix) for way in ways}
        self.groups = tokens.groups(view)
        self.dropped = tokens.bare(next(iter(self.groups))) if prefix == 1 else "prefix"
        self.shares = {
            name: weights[..., prefix:, tokens].sum(dim=-1).mean(dim=(1, 3))
            for name, tokens in self.groups.items()
        }  # (L, heads), what patches give to other tokens
        self.offsets = {way: mean_by_offset(weights, grid, way) for way in ways}
        self._dots = lru_cache(self._dots)
        layers, heads = self.distances["drop"].shape
        controls = {
            "layer": ipywidgets.IntSlider(1, 1, layers, description="layer"),
            "head": ipywidgets.IntSlider(1, 1, heads, description="head"),
        }
        if len(ways) > 1:
            controls["cls"] = ipywidgets.Dropdown(options=ways, value="drop", description=self.dropped)
        super().__init__(self.draw, controls, size=self.SIZE, fast=True)

    def _dots(self, cls: str) -> tuple[Image.Image, np.ndarray]:
        """The plot of all heads, and where each dot is in it: (layers, heads, 2) in pixels (x, y)."""
        drawn = figure((self.PLOT, self.SIZE[1]))
        title = {"drop": f"{self.dropped} dropped", "renormalise": "rows renormalised"}[cls]
        ax = attention_distance(self.distances[cls], self.uniform, title, drawn.subplots())
        picture = fit(drawn, (self.PLOT, self.SIZE[1]))
        distances = self.distances[cls].double().numpy()
        depth = np.broadcast_to(np.arange(1, len(distances) + 1)[:, None], distances.shape)
        points = np.stack([depth, distances], axis=-1).reshape(-1, 2)
        return picture, places(ax, points).reshape(*distances.shape, 2)

    def draw(self, layer: int, head: int, cls: str = "drop") -> tuple[Image.Image, str]:
        """The dots with a ring round one, and that head's attention by offset."""
        dots, where = self._dots(cls)
        picture = Image.new("RGB", self.SIZE, "white")
        picture.paste(dots, (0, 0))
        x, y = where[layer - 1, head - 1]
        pen = ImageDraw.Draw(picture)
        for radius, ink in ((11, "black"), (9, "white"), (8, "black")):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=2)
        offsets = self.offsets[cls][layer - 1, head - 1]  # (2 rows - 1, 2 columns - 1)
        left, room = self.PLOT + GAP, self.SIZE[0] - self.PLOT - GAP
        scale = min(room / offsets.shape[1], (self.SIZE[1] - HEADER - BELOW) / offsets.shape[0])
        height, width = (round(scale * side) for side in offsets.shape)
        highest = max(float(offsets.max()), 1e-9)
        tiles.write(picture, (left, 4), f"layer {layer}, head {head}: where it looks from a patch")
        coloured = tiles.resize(tiles.colour(offsets.numpy(), 0, highest), height, width)
        picture.paste(Image.fromarray(coloured), (left, HEADER))
        rows, columns = offsets.shape
        tiles.frame(
            picture, (left, HEADER), (height, width), (rows, columns), rows // 2 * columns + columns // 2
        )
        below = HEADER + height + 8
        tiles.write(picture, (left, below), f"frame: the patch itself; brightest {highest:.1%}", size=13)
        return picture, self._words(layer, head, cls, offsets)

    def areas(self) -> list[Area]:
        """A dot is the head that is shown; between two dots that touch, the nearer one."""
        _, where = self._dots(self.controls["cls"].value if "cls" in self.controls else "drop")
        found = []
        for layer, dots in enumerate(where.tolist(), start=1):
            for head, (x, y) in enumerate(dots, start=1):
                apart = [abs(y - other) / 2 for _, other in dots if other != y]
                up = max(1.0, min([DOT, *apart]))
                box = (x - DOT, y - up, 2 * DOT, 2 * up)
                found.append(Area(box, (1, 1), partial(_chosen, layer=layer, head=head)))
        return found

    def _words(self, layer: int, head: int, cls: str, offsets: Tensor) -> str:
        distance = float(self.distances[cls][layer - 1, head - 1])
        rows, columns = offsets.shape
        near = offsets[
            max(0, rows // 2 - 1) : rows // 2 + 2, max(0, columns // 2 - 1) : columns // 2 + 2
        ].sum()
        words = (
            f"Layer {layer}, head {head}: mean attention distance {distance:.1f} pixels, "
            f"uniform attention {self.uniform:.1f}. {offsets[rows // 2, columns // 2]:.1%} stays on the "
            f"patch itself, {near:.1%} on it and its eight neighbours."
        )
        for name, shares in self.shares.items():
            verb = "gets" if len(self.groups[name]) == 1 else "get"
            words += f" {name.capitalize()} {verb} {shares[layer - 1, head - 1]:.1%}."
        return words


def _chosen(_row: int, _column: int, **head: int) -> dict:
    return head


def mean_by_offset(weights: Tensor, grid_size: tuple[int, int], cls: str = "drop") -> Tensor:
    """Attention by how far below and right of the query the key lies: (L, heads, 2 rows - 1, 2 columns - 1).

    Mean over queries and images of (L, B, heads, T, T); offset (0, 0) is in the middle. `cls` is that of
    `mean_attention_distance`.

    >>> mean_by_offset(torch.full((1, 1, 1, 4, 4), 0.25), (2, 2))[0, 0]
    tensor([[0.0625, 0.1250, 0.0625],
            [0.1250, 0.2500, 0.1250],
            [0.0625, 0.1250, 0.0625]])
    """
    rows, columns = grid_size
    prefix = weights.shape[-1] - rows * columns
    patches = weights[..., prefix:, prefix:]
    if cls == "renormalise":
        patches = renormalised(patches)
    mean = patches.mean(dim=1)  # (L, heads, N, N)
    y, x = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T.to(weights.device)  # each (N,)
    down = y[None] - y[:, None] + rows - 1  # (N, N), query by key
    right = x[None] - x[:, None] + columns - 1
    sums = mean.new_zeros(*mean.shape[:2], (2 * rows - 1) * (2 * columns - 1))
    sums.index_add_(2, (down * (2 * columns - 1) + right).flatten(), mean.flatten(2))
    return sums.view(*mean.shape[:2], 2 * rows - 1, 2 * columns - 1) / (rows * columns)
