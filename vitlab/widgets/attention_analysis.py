"""Lesson 06: what one token attends to in one layer and head, and rollout up to that layer beside it."""

from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab import data
from vitlab.attention import attention_rollout, patch_distances, record_attention
from vitlab.plots import pixels
from vitlab.vit import ViT
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer

PANEL = 280  # the longer side of each of the three panels, in pixels
GAP = 20
HEADER = 26
SCALE = 34  # the strip of colours under a map, with its two numbers
DISCARDS = [step / 10 for step in range(10)]


class AttentionMapExplorer(Explorer):
    """An image with the query's patch, its attention in one layer and head, and its rollout to that layer.

    `images` maps names to (C, H, W) images that fit the model, uint8 or float in [-1, 1]. All attention is
    recorded once, here; moving a control only looks it up. Head 0 is the mean over heads, query 0 the class
    token. Raises ValueError where the model has no attention, or takes images of another size.

    >>> from vitlab import ViTConfig
    >>> explorer = AttentionMapExplorer(ViT(ViTConfig()), {"blank": torch.zeros(1, 28, 28)})
    >>> explorer.set(layer=2, head=1, query=25)
    >>> explorer.caption[:54]
    'blank, query: patch 25 (row 4, column 4). Layer 2, hea'
    """

    def __init__(self, model: ViT, images: dict[str, Tensor]):
        self.images, config = images, model.config
        self.prefix, self.grid = config.num_prefix_tokens, config.grid_size
        self.weights = _recorded(model, images)  # (L, number of images, heads, T, T)
        height, width = next(iter(images.values())).shape[-2:]
        self.shown = round(PANEL * height / max(height, width)), round(PANEL * width / max(height, width))
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
        caption = (
            f"{image}, query: {self._place(query)}. {which.capitalize()}: {self._words(row, query)}\n"
            f"Rollout through layer {layer} (heads: {fusion}, discarded: {discard:.0%}): "
            f"{self._words(rolled, query)}"
        )
        return picture, caption

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
            strip = tiles.colour(np.broadcast_to(np.linspace(0, 1, PANEL), (10, PANEL)), 0, 1)
            picture.paste(Image.fromarray(strip), (left, HEADER + PANEL + 4))
            below = HEADER + PANEL + 16
            tiles.write(picture, (left, below), "0", size=13)
            tiles.write(picture, (left + PANEL, below), f"{highest:.1%}", size=13, anchor="ra")
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
    with record_attention(model) as record:
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
