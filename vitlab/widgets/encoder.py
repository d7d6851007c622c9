"""Lesson 03: one attention head at work: scores, weights, and the output that they mix from the values."""

from typing import NamedTuple

import ipywidgets
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab.attention import record_attention
from vitlab.data import normalise
from vitlab.plots import pixels
from vitlab.vit import ViT, evaluating
from vitlab.widgets import tiles
from vitlab.widgets.clicks import Area
from vitlab.widgets.explorer import Explorer
from vitlab.widgets.tokens import refuse_more_tokens
from vitlab.wording import token_name

PANEL, GAP, HEADER = 264, 24, 24  # sides of the three panels, what is between and above them, in pixels
SCALE = 44  # height of the line under a map: the class token's tile and the colours' range
ROW, LABEL = 30, 236  # height of one line of the sum, and width of its label
WIDTH = 3 * PANEL + 2 * GAP
SHOWN = 4  # values shown one by one; the rest are shown as their sum


class HeadRecord(NamedTuple):
    """What the heads do with a batch: scores and weights (L, B, heads, T, T), values (L, B, heads, T, d)."""

    scores: Tensor
    weights: Tensor
    values: Tensor


@torch.no_grad()
def record_heads(model: ViT, images: Tensor) -> HeadRecord:
    """Follow `images` (B, C, H, W) in [-1, 1] through the blocks and keep every head's numbers in fp32.

    >>> from vitlab.vit import ViTConfig
    >>> record_heads(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).values.shape
    torch.Size([4, 2, 4, 50, 24])
    """
    with evaluating(model), record_attention(model, also=["scores", "values"]) as record:
        model(images)
    return HeadRecord(record["scores"].cpu(), record.weights.cpu(), record["values"].float().cpu())


class HeadExplorer(Explorer):
    """One head for one query token: where it lies, its scores, its weights, its output (equations 5 to 7).

    `images` maps names to uint8 images (C, H, W) of the size that `model` takes. Query 0 is the class token,
    the patches are numbered from 1. Everything is computed once; the controls only choose what is shown.
    Raises ValueError where there are no images, or not of the model's size.

    >>> from vitlab.vit import ViTConfig
    >>> blank = {"blank": torch.zeros(1, 28, 28, dtype=torch.uint8)}
    >>> explorer = HeadExplorer(ViT(ViTConfig()), blank)
    >>> explorer.set(query=0, layer=4)
    >>> explorer.caption[:48]
    'blank, layer 4, head 1, query: the class token. '
    """

    def __init__(self, model: ViT, images: dict[str, Tensor]):
        if not images:
            raise ValueError("there is no image to look at; give a dict from names to uint8 images (C, H, W)")
        refuse_more_tokens(model)
        self.grid, self.prefix = model.config.grid_size, model.config.num_prefix_tokens
        self.model, self.images, self.names = model, images, list(images)
        self.ask_anew()
        layers, _, heads, tokens, _ = self.record.weights.shape
        rows, columns = self.grid
        middle = rows // 2 * columns + columns // 2 + 1
        controls = {
            "image": ipywidgets.Dropdown(options=self.names, description="image"),
            "layer": ipywidgets.IntSlider(1, 1, layers, description="layer"),
            "head": ipywidgets.IntSlider(1, 1, heads, description="head"),
            "query": ipywidgets.IntSlider(
                middle, 1 - self.prefix, tokens - self.prefix, description="query token"
            ),
        }
        height = HEADER + PANEL + SCALE + HEADER + (SHOWN + 2) * ROW
        super().__init__(self.draw, controls, size=(WIDTH, height), fast=True)

    def models(self) -> list[ViT]:
        """The model of the heads."""
        return [self.model]

    def ask_anew(self) -> None:
        """Record all heads on all images."""
        images = normalise(torch.stack(list(self.images.values())))
        self.record = record_heads(self.model, images.to(self.model.norm.weight.device))

    def draw(self, image: str, layer: int, head: int, query: int) -> tuple[Image.Image, str]:
        """The three panels, the sum below them, and the same in words and numbers."""
        place = layer - 1, self.names.index(image), head - 1
        token = query - 1 + self.prefix
        scores, weights = (part[place][token].numpy() for part in self.record[:2])  # (T,)
        values = self.record.values[place].numpy()  # (T, d)
        picture = Image.new("RGB", (WIDTH, HEADER + PANEL + SCALE + HEADER + (SHOWN + 2) * ROW), "white")
        array = pixels(self.images[image])
        self._paste(picture, 0, f"query: {self._name(token)}", array, token)
        self._paste_map(picture, 1, "scores q·k / √d, before the softmax", scores, token, "{:.2f}")
        self._paste_map(picture, 2, "weights, after the softmax", 100 * weights, token, "{:.1f} %")
        self._paste_sum(picture, array, weights, values)
        return picture, self._caption(image, layer, head, token, scores, weights, values)

    def areas(self) -> list[Area]:
        """A patch of any of the three panels is the query, and so is the class token's square under a map."""
        columns, (height, width) = self.grid[1], self._size()
        found = []
        for panel in range(3):
            left = panel * (PANEL + GAP)
            patch = (left, HEADER, width, height)
            found.append(Area(patch, self.grid, lambda row, column: {"query": row * columns + column + 1}))
            if self.prefix and panel:
                found.append(Area((left, HEADER + PANEL + 8, 22, 22), (1, 1), lambda *_: {"query": 0}))
        return found

    def _caption(self, image, layer, head, token, scores, weights, values) -> str:
        most = int(weights.argmax())
        spread = float(np.exp(-(weights * np.log(weights.clip(1e-30))).sum()))
        output = weights @ values
        on_class = f"; the class token gets {weights[0]:.1%}" if self.prefix else ""
        return (
            f"{image}, layer {layer}, head {head}, query: {self._name(token, True)}. "
            f"Scores from {scores.min():.2f} to {scores.max():.2f}. The weights sum to {weights.sum():.2f}: "
            f"the largest, {weights[most]:.1%}, goes to {self._name(most, True)}{on_class}. "
            f"They are as spread out as an even share over {spread:.1f} of {len(weights)} tokens. "
            f"The output, {len(output)} numbers, has length {np.linalg.norm(output):.2f}; "
            f"the values that it mixes have length {np.linalg.norm(values, axis=1).mean():.2f} on average."
        )

    def _name(self, token: int, place: bool = False) -> str:
        return token_name(token, self.prefix, self.grid[1], place)

    def _size(self) -> tuple[int, int]:
        """Height and width in pixels of a panel's image, a whole number of pixels to a patch."""
        side = PANEL // max(self.grid)
        return self.grid[0] * side, self.grid[1] * side

    def _paste(self, picture: Image.Image, panel: int, title: str, array: np.ndarray, token: int) -> None:
        """An RGB array as large as a panel allows, the query's patch framed."""
        left, (height, width) = panel * (PANEL + GAP), self._size()
        tiles.write(picture, (left, 4), title, size=13)
        picture.paste(Image.fromarray(tiles.resize(array, height, width)), (left, HEADER))
        if token >= self.prefix:
            side = width // self.grid[1]
            row, column = divmod(token - self.prefix, self.grid[1])
            x, y = left + column * side, HEADER + row * side
            draw = ImageDraw.Draw(picture)  # white inside black: seen on any ground
            draw.rectangle((x - 1, y - 1, x + side, y + side), outline="black", width=4)
            draw.rectangle((x, y, x + side - 1, y + side - 1), outline="white", width=2)

    def _paste_map(self, picture, panel: int, title: str, values: np.ndarray, token: int, form: str) -> None:
        """One number a token: patches on their grid, below it the class token and the colours' range."""
        low, high = values.min(), values.max()
        shown = tiles.colour(values, low, high)
        grid = shown[self.prefix :].reshape(*self.grid, 3)
        self._paste(picture, panel, title, grid, token)
        left, top = panel * (PANEL + GAP), HEADER + PANEL + 8
        if self.prefix:
            tile = Image.new("RGB", (22, 22), tuple(int(part) for part in shown[0]))
            picture.paste(tile, (left, top))
            if token < self.prefix:
                ImageDraw.Draw(picture).rectangle(
                    (left - 1, top - 1, left + 22, top + 22), outline="black", width=2
                )
            tiles.write(picture, (left + 28, top + 4), f"class {form.format(values[0])}", size=13)
        bar = tiles.colour(np.linspace(0, 1, 40))[None].repeat(10, 0)
        picture.paste(Image.fromarray(bar), (left + PANEL - 102, top + 6))
        tiles.write(picture, (left + PANEL - 106, top + 4), form.format(low), size=13, anchor="ra")
        tiles.write(picture, (left + PANEL - 58, top + 4), form.format(high), size=13)

    def _paste_sum(self, picture, array: np.ndarray, weights: np.ndarray, values: np.ndarray) -> None:
        """The largest weights with their patches and values, the others as one, and the output: their sum."""
        top = HEADER + PANEL + SCALE
        order = weights.argsort()[::-1]
        first, rest = order[:SHOWN], order[SHOWN:]
        others = weights[rest] @ values[rest] / max(weights[rest].sum(), 1e-30)
        lines = [(weights[i], self._name(i), values[i], i) for i in first]
        if len(rest):
            lines.append((weights[rest].sum(), f"the {len(rest)} others, mean", others, None))
        lines.append((weights.sum(), "output", weights @ values, None))
        limit = max(abs(line[2]).max() for line in lines)
        legend = f"(each value: {values.shape[1]} numbers, black −{limit:.1f} … white +{limit:.1f})"
        tiles.write(picture, (0, top + 2), f"output = sum of weight × value   {legend}", size=13)
        for number, (weight, name, value, token) in enumerate(lines):
            y = top + HEADER + number * ROW
            sign = "=" if number == len(lines) - 1 else "+" if number else " "
            tiles.write(picture, (0, y + 6), f"{sign} {weight:6.1%} ×" if sign != "=" else "=", size=14)
            if token is not None and token >= self.prefix:
                patch = self._patch(array, token - self.prefix)
                picture.paste(Image.fromarray(tiles.resize(patch, ROW - 4, ROW - 4)), (84, y + 1))
            tiles.write(picture, (118, y + 6), name.removeprefix("the "), size=14)
            strip = tiles.colour(value[None], -limit, limit, cmap="gray")
            side = (WIDTH - LABEL - 30) // value.size
            picture.paste(
                Image.fromarray(tiles.resize(strip, ROW - 6, side * value.size)), (LABEL + 30, y + 2)
            )

    def _patch(self, array: np.ndarray, patch: int) -> np.ndarray:
        row, column = divmod(patch, self.grid[1])
        side = array.shape[0] // self.grid[0]
        return array[row * side : (row + 1) * side, column * side : (column + 1) * side]
