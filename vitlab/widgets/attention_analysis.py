"""Lesson 06: what one token attends to, rollout beside the truth, and how far each head looks."""

from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab import data
from vitlab.attention import (
    attention_rollout,
    class_token_share,
    mean_attention_distance,
    patch_distances,
    record_attention,
    uniform_attention_distance,
)
from vitlab.attention.distance import renormalised
from vitlab.plots import attention_distance, pixels
from vitlab.vit import ViT, evaluating
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer, figure, fit, places

PANEL = 280  # the longer side of each of the three panels, in pixels
GAP = 20
HEADER = 26
SCALE = 34  # the strip of colours under a map, with its two numbers
DISCARDS = [step / 10 for step in range(10)]


class AttentionMapExplorer(Explorer):
    """An image with the query's patch, its attention in one layer and head, and its rollout to that layer.

    `images` maps names to (C, H, W) images that fit the model, uint8 or float in [-1, 1]. `masks` may map the
    same names to bool (H, W), true on the object: its outline is then drawn, and the caption says how much of
    the rollout lies on it. All attention is recorded once, here; moving a control only looks it up. Head 0 is
    the mean over heads, query 0 the class token. Raises ValueError where the model has no attention, or takes
    images of another size, and for masks that do not fit.

    >>> from vitlab import ViTConfig
    >>> explorer = AttentionMapExplorer(ViT(ViTConfig()), {"blank": torch.zeros(1, 28, 28)})
    >>> explorer.set(layer=2, head=1, query=25)
    >>> explorer.caption[:54]
    'blank, query: patch 25 (row 4, column 4). Layer 2, hea'
    """

    def __init__(self, model: ViT, images: dict[str, Tensor], masks: dict[str, Tensor] | None = None):
        self.images, config = images, model.config
        self.masks = _checked(masks, images)
        self.prefix, self.grid = config.num_prefix_tokens, config.grid_size
        self.weights = _recorded(model, images)  # (L, number of images, heads, T, T)
        height, width = next(iter(images.values())).shape[-2:]
        self.shown = tiles.fitted((height, width), (PANEL, PANEL))
        self.distances = patch_distances(self.grid, config.patch_size)
        self._rollout = lru_cache(self._rollout)
        layers, _, heads, _, _ = self.weights.shape
        first = next(iter(images))
        controls = {
            "image": ipywidgets.Dropdown(options=list(images), value=first, description="image"),
            "layer": ipywidgets.IntSlider(1, 1, layers, description="layer"),
            "head": ipywidgets.IntSlider(0, 0, heads, description="head (0: mean)"),
            "query": _query_slider(config),
            "fusion": ipywidgets.Dropdown(
                options=["mean", "max", "min"], value="mean", description="rollout: heads"
            ),
            "discard": ipywidgets.SelectionSlider(
                options=DISCARDS, value=0.0, description="rollout: discard"
            ),
        }
        controls["layer"].value = layers
        super().__init__(self.draw, controls, size=(3 * PANEL + 2 * GAP, HEADER + PANEL + SCALE), fast=True)

    def _rollout(self, image: str, layer: int, fusion: str, discard: float) -> Tensor:
        """(T, T), the rollout of one image through its first `layer` layers."""
        number = list(self.images).index(image)
        return attention_rollout(self.weights[:layer, number : number + 1], fusion, discard)[0]

    def draw(
        self, image: str, layer: int, head: int, query: int, fusion: str, discard: float
    ) -> tuple[Image.Image, str]:
        """The three panels; `query` counts the class token as 0 and patches from 1."""
        token = query - 1 + self.prefix
        heads = self.weights[layer - 1, list(self.images).index(image)]  # (heads, T, T)
        row = (heads.mean(0) if head == 0 else heads[head - 1])[token]
        rolled = self._rollout(image, layer, fusion, discard)[token]
        under = tiles.resize(pixels(self.images[image]), *self.shown)
        which = f"layer {layer}, " + ("mean of heads" if head == 0 else f"head {head}")
        picture = Image.new("RGB", self.size, "white")
        self._panel(picture, 0, "the class token asks" if query == 0 else f"patch {query} asks", under, query)
        self._panel(picture, 1, which, under, query, row)
        self._panel(picture, 2, f"rollout, layers 1 to {layer}", under, query, rolled)
        if image in self.masks:
            for number in range(3):
                _outline(picture, (number * (PANEL + GAP), HEADER), self.shown, self.masks[image])
        caption = (
            f"{image}, query: {self._place(query)}. {which.capitalize()}: {self._words(row, query)}\n"
            f"Rollout through layer {layer} (heads: {fusion}, discarded: {discard:.0%}): "
            f"{self._words(rolled, query)}{self._on_the_object(image, rolled)}"
        )
        return picture, caption

    def _on_the_object(self, image: str, row: Tensor) -> str:
        """How much of what a row (T,) gives to patches lies on the object, where its mask is known."""
        if image not in self.masks:
            return ""
        cover = _cover(self.masks[image], self.grid)  # (N,), the share of each patch that is object
        patches = row[self.prefix :]
        share, area = float(patches @ cover / patches.sum()), float(self.masks[image].float().mean())
        top = float(cover[patches.argmax()])
        return (
            f" On the object: {share:.1%} of it, where chance is {area:.1%}; "
            f"its brightest patch is object to {top:.0%}."
        )

    def _place(self, query: int) -> str:
        if query == 0:
            return "the class token"
        row, column = divmod(query - 1, self.grid[1])
        return f"patch {query} (row {row + 1}, column {column + 1})"

    def _words(self, row: Tensor, query: int) -> str:
        """A row (T,) in numbers: where most of it goes, what the class token gets, and how far it looks."""
        patches = row[self.prefix :]
        most = int(patches.argmax())
        parts = [f"most to patch {most + 1} ({patches[most]:.1%})"]
        if self.prefix:
            parts.append(f"{row[0]:.1%} to the class token" + (" itself" if query == 0 else ""))
        if query > 0 and patches.sum() > 0:
            mean = float(patches @ self.distances[query - 1] / patches.sum())
            uniform = float(self.distances[query - 1].mean())
            parts.append(f"mean distance {mean:.1f} pixels (uniform attention: {uniform:.1f})")
        return "; ".join(parts) + "."

    def _panel(
        self, picture: Image.Image, number: int, title: str, under: np.ndarray, query: int, row: Tensor = None
    ) -> None:
        """One panel with its title; with a `row` (T,), its patches laid over the image, and their scale."""
        left, shown = number * (PANEL + GAP), under
        if row is not None:
            values = row[self.prefix :].reshape(self.grid).numpy()
            highest = max(float(values.max()), 1e-9)
            coloured = tiles.resize(tiles.colour(values, 0, highest), *self.shown)
            shown = (0.75 * coloured + 0.25 * under.mean(-1, keepdims=True)).astype(np.uint8)
            tiles.scale(picture, (left, HEADER + PANEL + 4), PANEL, "0", f"{highest:.1%}")
        tiles.write(picture, (left, 4), title)
        picture.paste(Image.fromarray(shown), (left, HEADER))
        if query > 0:
            _frame(picture, (left, HEADER), self.shown, self.grid, query - 1)


def _query_slider(config) -> ipywidgets.IntSlider:
    """Patches count from 1; the class token, where there is one, is 0."""
    least = 1 - config.num_prefix_tokens
    name = "query (0: class token)" if config.num_prefix_tokens else "query patch"
    return ipywidgets.IntSlider(least, least, config.num_patches, description=name)


@torch.no_grad()
def _recorded(model: ViT, images: dict[str, Tensor]) -> Tensor:
    device = next(model.parameters()).device
    floats = [
        data.normalise(image) if image.dtype == torch.uint8 else image.float() for image in images.values()
    ]
    with evaluating(model), record_attention(model) as record:
        model(torch.stack(floats).to(device))
    return record.weights.cpu()


def _frame(
    picture: Image.Image,
    corner: tuple[int, int],
    shown: tuple[int, int],
    grid: tuple[int, int],
    patch: int,
) -> None:
    """Frame one patch of a panel in white on black, which is seen on any ground."""
    (height, width), (rows, columns) = shown, grid
    row, column = divmod(patch, columns)
    left, top = corner[0] + column * width // columns, corner[1] + row * height // rows
    right, bottom = corner[0] + (column + 1) * width // columns, corner[1] + (row + 1) * height // rows
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left, top, right - 1, bottom - 1), outline="black", width=4)
    pen.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline="white", width=2)


def _checked(masks: dict[str, Tensor] | None, images: dict[str, Tensor]) -> dict[str, Tensor]:
    """The masks on the CPU; raises ValueError where one does not fit its image."""
    masks = masks or {}
    for name, mask in masks.items():
        if name not in images:
            raise ValueError(f"a mask belongs to an image; there is no image {name!r}")
        if mask.dtype != torch.bool or mask.shape != images[name].shape[-2:]:
            raise ValueError(
                f"the mask of {name!r} is bool of shape {tuple(images[name].shape[-2:])}; got "
                f"{tuple(mask.shape)}, {mask.dtype}"
            )
    return {name: mask.cpu() for name, mask in masks.items()}


def _cover(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """The share of each patch that a mask (H, W) covers: (N,)."""
    rows, columns = grid
    height, width = mask.shape
    return mask.float().view(rows, height // rows, columns, width // columns).mean(dim=(1, 3)).flatten()


def _outline(picture: Image.Image, corner: tuple[int, int], shown: tuple[int, int], mask: Tensor) -> None:
    """Draw the edge of a mask on a panel, white beside black, which is seen on any ground."""
    height, width = shown
    large = np.asarray(Image.fromarray(mask.numpy()).resize((width, height), Image.Resampling.NEAREST))
    inner = large.copy()
    for axis in (0, 1):
        for step in (-2, 2):
            inner &= np.roll(large, step, axis)
    core = inner.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            core &= np.roll(inner, step, axis)
    for edge, ink in ((large & ~inner, "white"), (inner & ~core, "black")):
        picture.paste(ink, corner, Image.fromarray(edge))


class HeadDistanceExplorer(Explorer):
    """Every head's mean attention distance as a dot (figure 11), and where the head with the ring looks.

    The map at the right is the head's attention from a patch to what lies so far above, below, left and right
    of it, mean over all patches and images; it sums to what the row keeps. `weights` are recorded attention
    (L, B, heads, T, T) of a model with such a config. Raises ValueError where they do not fit.

    >>> from vitlab import ViTConfig
    >>> uniform = torch.full((4, 1, 4, 50, 50), 1 / 50)
    >>> explorer = HeadDistanceExplorer(uniform, ViTConfig())
    >>> explorer.caption[:47]
    'Layer 1, head 1: mean attention distance 14.1 p'
    """

    SIZE = (900, 380)
    PLOT = 520  # the width of the plot of dots

    def __init__(self, weights: Tensor, config):
        weights = weights.cpu()
        self.side, self.uniform = (
            config.patch_size,
            uniform_attention_distance(config.grid_size, config.patch_size),
        )
        ways = ("drop", "renormalise") if config.num_prefix_tokens else ("drop",)
        self.distances = {
            way: mean_attention_distance(weights, config.grid_size, self.side, way) for way in ways
        }
        self.to_class = class_token_share(weights) if config.num_prefix_tokens else None
        self.offsets = {way: mean_by_offset(weights, config.grid_size, way) for way in ways}
        self._dots = lru_cache(self._dots)
        layers, heads = self.distances["drop"].shape
        controls = {
            "layer": ipywidgets.IntSlider(1, 1, layers, description="layer"),
            "head": ipywidgets.IntSlider(1, 1, heads, description="head"),
        }
        if len(ways) > 1:
            controls["cls"] = ipywidgets.Dropdown(options=ways, value="drop", description="class token")
        super().__init__(self.draw, controls, size=self.SIZE, fast=True)

    def _dots(self, cls: str) -> tuple[Image.Image, np.ndarray]:
        """The plot of all heads, and where each dot is in it: (layers, heads, 2) in pixels (x, y)."""
        drawn = figure((self.PLOT, self.SIZE[1]))
        title = {"drop": "class token dropped", "renormalise": "rows renormalised"}[cls]
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
        scale = min(room / offsets.shape[1], (self.SIZE[1] - HEADER - SCALE) / offsets.shape[0])
        height, width = (round(scale * side) for side in offsets.shape)
        highest = max(float(offsets.max()), 1e-9)
        tiles.write(picture, (left, 4), f"layer {layer}, head {head}: where it looks from a patch")
        coloured = tiles.resize(tiles.colour(offsets.numpy(), 0, highest), height, width)
        picture.paste(Image.fromarray(coloured), (left, HEADER))
        rows, columns = offsets.shape
        _frame(picture, (left, HEADER), (height, width), (rows, columns), rows // 2 * columns + columns // 2)
        below = HEADER + height + 8
        tiles.write(picture, (left, below), f"frame: the patch itself; brightest {highest:.1%}", size=13)
        return picture, self._words(layer, head, cls, offsets)

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
        if self.to_class is not None:
            words += f" The class token gets {self.to_class[layer - 1, head - 1]:.1%}."
        return words


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
