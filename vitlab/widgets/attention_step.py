"""Lesson 03: one step of attention on a model's own numbers: a query, a key, and what comes of the two."""

import copy
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import ipywidgets
import numpy as np
import torch
from PIL import Image
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

SIZE = (880, 560)
PANEL, GAP, HEADER = 196, 20, 24  # sides of the two images, what is between and above them, in pixels
TILE = 22  # the class token's square under an image
RIGHT = 2 * (PANEL + GAP)  # where query, key and products begin
ROWS = HEADER + PANEL + TILE + 18  # where the two rows of bars begin
BARS, STEP = 56, 82  # height of a row of bars, and from one row's title to the next one's
SUM = ROWS + 2 * STEP + 4  # where the sum and the residual begin
LINE, LABEL, LENGTH = 27, 136, 46  # of the sum: height of a line, widths of its words and of its length
HALF = 448  # where the residual begins
TEMPERATURES = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0]


class Heads(NamedTuple):
    """What the layers make of a batch: queries, keys, values (L, B, heads, T, d), the tokens before attention
    and what attention adds to them (L, B, T, D); and the matrices that mix the heads' outputs (L, D, h·d)."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    before: Tensor
    added: Tensor
    mixing: Tensor


class Step(NamedTuple):
    """One head's attention from one query, with what was changed: row by row, then what the residual adds."""

    products: Tensor  # (d,), of the query with the key
    divisor: float  # √d, or 1 without the scale
    scores: Tensor  # (T,), as the softmax gets them
    weights: Tensor  # (T,)
    output: Tensor  # (d,)
    before: Tensor  # (D,), the token
    head: Tensor  # (D,), what this head adds to it
    others: Tensor  # (D,), what the other heads and the bias add


@torch.no_grad()
def record_steps(model: ViT, images: Tensor) -> Heads:
    """Follow `images` (B, C, H, W) in [-1, 1] through the blocks; all numbers in fp32, on the CPU.

    >>> from vitlab.vit import ViTConfig
    >>> record_steps(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)).added.shape
    torch.Size([4, 2, 50, 96])
    """
    also = ["queries", "keys", "values", "attention_outputs", "block_outputs"]
    with evaluating(model):
        with record_attention(model, also=also) as record:
            model(images)
        first = model.embed(images)
    before = torch.cat([first[None], record["block_outputs"][:-1]])
    mixing = torch.stack([block.attn.proj.weight for block in model.blocks])
    parts = (record["queries"], record["keys"], record["values"], before, record["attention_outputs"], mixing)
    return Heads(*(part.float().cpu() for part in parts))


def shuffled_positions(model: ViT, seed: int = 0) -> ViT:
    """A copy whose patches have each other's position embeddings; the class token keeps its own.

    >>> from vitlab.vit import ViTConfig
    >>> model = ViT(ViTConfig())
    >>> bool((shuffled_positions(model).pos_embed[0, 0] == model.pos_embed[0, 0]).all())
    True
    """
    other, prefix = copy.deepcopy(model), model.config.num_class_tokens
    order = prefix + torch.randperm(model.config.num_patches, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        positions = model.positions()
        own, others = positions[:, :prefix], positions[:, order.to(positions.device)]
        other.pos_embed.data = torch.cat([own, others], dim=1)
    other.config = replace(model.config, pos_grid=None)
    return other


class AttentionStepExplorer(Explorer):
    """One query and one key of a trained head: their products, the score, the row, the output, the residual.

    `images` maps names to uint8 images (C, H, W) of the size that `model` takes. Token 0 is the class token,
    the patches are numbered from 1. The switches leave the scale 1/√d out, divide the scores by a
    temperature, or give the patches each other's position embeddings; the first two change this head alone,
    so that queries, keys and values stay what they are. The model is asked here, and moving a control only
    looks up. Raises ValueError where there are no images, or not of the model's size.

    >>> from vitlab.vit import ViTConfig
    >>> blank = {"blank": torch.zeros(1, 28, 28, dtype=torch.uint8)}
    >>> explorer = AttentionStepExplorer(ViT(ViTConfig()), blank)
    >>> explorer.set(query=0, key=8, layer=4)
    >>> explorer.caption[:73]
    'blank, layer 4, head 1: the class token asks patch 8 (row 2, column 1). T'
    """

    def __init__(self, model: ViT, images: dict[str, Tensor]):
        if not images:
            raise ValueError("there is no image to look at; give a dict from names to uint8 images (C, H, W)")
        refuse_more_tokens(model)
        self.model, self.images, self.names = model, images, list(images)
        self.grid, self.prefix = model.config.grid_size, model.config.num_prefix_tokens
        self._heads = lru_cache(self._heads)
        layers, _, heads, tokens, _ = self._heads(False).queries.shape
        rows, columns = self.grid
        middle = rows // 2 * columns + columns // 2 + 1
        ends = dict(min=1 - self.prefix, max=tokens - self.prefix)
        controls = {
            "image": ipywidgets.Dropdown(options=self.names, description="image"),
            "layer": ipywidgets.IntSlider(1, 1, layers, description="layer"),
            "head": ipywidgets.IntSlider(1, 1, heads, description="head"),
            "query": ipywidgets.IntSlider(middle, description="query token", **ends),
            "key": ipywidgets.IntSlider(max(1, middle - 1), description="key token", **ends),
            "temperature": ipywidgets.SelectionSlider(
                options=TEMPERATURES, value=1.0, description="temperature"
            ),
            "scale": ipywidgets.Checkbox(value=True, description="scale by 1/√d", indent=False),
        }
        if hasattr(model, "pos_embed"):
            self._heads(True)  # known before it is asked for
            controls["shuffled"] = ipywidgets.Checkbox(description="positions shuffled", indent=False)
        super().__init__(self.draw, controls, size=SIZE, fast=True)

    def models(self) -> list[ViT]:
        """The model of the heads."""
        return [self.model]

    def ask_anew(self) -> None:
        """Drop what the layers have made, of both orders of positions."""
        self._heads.cache_clear()

    def _heads(self, shuffled: bool) -> Heads:
        model = shuffled_positions(self.model) if shuffled else self.model
        batch = normalise(torch.stack(list(self.images.values())))
        return record_steps(model, batch.to(model.norm.weight.device))

    def step(
        self,
        image: str,
        layer: int,
        head: int,
        query: int,
        key: int,
        temperature: float = 1.0,
        scale: bool = True,
        shuffled: bool = False,
    ) -> Step:
        """The numbers of a state."""
        heads, place = self._heads(shuffled), (layer - 1, self.names.index(image), head - 1)
        asking, asked = query - 1 + self.prefix, key - 1 + self.prefix
        q, keys, values = heads.queries[place][asking], heads.keys[place], heads.values[place]
        width = len(q)
        divisor = width**0.5 if scale else 1.0
        scores = keys @ q / divisor / temperature
        weights = scores.softmax(dim=-1)
        columns = slice((head - 1) * width, head * width)
        proj = heads.mixing[layer - 1][:, columns]  # (D, d)
        own = proj @ ((keys @ q / width**0.5).softmax(dim=-1) @ values)  # as the model has it
        output = weights @ values
        token = (*place[:2], asking)
        others = heads.added[token] - own
        return Step(
            q * keys[asked], divisor, scores, weights, output, heads.before[token], proj @ output, others
        )

    def draw(self, **state) -> tuple[Image.Image, str]:
        """The two tokens, their products, the rows and the sums; the same in words and numbers."""
        step, heads = self.step(**state), self._heads(state.get("shuffled", False))
        place = state["layer"] - 1, self.names.index(state["image"]), state["head"] - 1
        asking, asked = (state[name] - 1 + self.prefix for name in ("query", "key"))
        picture = Image.new("RGB", SIZE, "white")
        array = pixels(self.images[state["image"]])
        height, width = self._shown()
        shades = tiles.colour(step.weights.numpy(), 0)  # (T, 3)
        self._panel(picture, "query", tiles.resize(array, height, width), asking)
        coloured = shades[self.prefix :].reshape(*self.grid, 3)
        grey = tiles.resize(array, height, width).mean(-1, keepdims=True)
        over = (0.6 * tiles.resize(coloured, height, width) + 0.4 * grey).astype(np.uint8)
        self._panel(picture, "key", over, asked, shades[0])
        q, k = heads.queries[place][asking].numpy(), heads.keys[place][asked].numpy()
        self._products(picture, q, k, step, state["temperature"], asked)
        self._row(
            picture, 0, "scores of all keys, as the softmax gets them", step.scores.numpy(), asked, "{:.2f}"
        )
        self._row(picture, 1, "weights, after the softmax", 100 * step.weights.numpy(), asked, "{:.1f} %")
        self._sums(picture, step, heads.values[place][asked], asked)
        return picture, self._words(step, state, asking, asked)

    def areas(self) -> list[Area]:
        """The left image and its square choose the query; the right ones, and every bar, the key."""
        height, width = self._shown()
        found, tokens = [], self.controls["query"].max + self.prefix
        for number, name in enumerate(("query", "key")):
            left = number * (PANEL + GAP)
            found.append(Area((left, HEADER, width, height), self.grid, self._patch_of(name)))
            if self.prefix:
                square = (left, HEADER + PANEL + 6, TILE, TILE)
                found.append(Area(square, (1, 1), lambda _row, _column, name=name: {name: 0}))
        bar = self._bar(tokens)
        for number in range(2):
            box = (0, ROWS + number * STEP + 18, bar * tokens, BARS)
            found.append(Area(box, (1, tokens), lambda _row, column: {"key": column + 1 - self.prefix}))
        return found

    def _patch_of(self, name: str):
        return lambda row, column: {name: row * self.grid[1] + column + 1}

    def _shown(self) -> tuple[int, int]:
        """Height and width in pixels of an image, a whole number of pixels to a patch where there is room."""
        side = PANEL / max(self.grid)
        side = int(side) if side >= 1 else side
        return round(self.grid[0] * side), round(self.grid[1] * side)

    def _bar(self, tokens: int) -> float:
        """The width of a bar."""
        return min(18.0, SIZE[0] / tokens)

    def _name(self, token: int, place: bool = False) -> str:
        return token_name(token, self.prefix, self.grid[1], place)

    def _words(self, step: Step, state: dict, asking: int, asked: int) -> str:
        total, width, score = float(step.products.sum()), len(step.products), float(step.scores[asked])
        if state["scale"]:
            steps = f"; divided by √{width} = {step.divisor:.2f} that is {total / step.divisor:.2f}"
        else:
            steps = ", which is not scaled"
        if state["temperature"] != 1:
            steps += f", and by the temperature {state['temperature']:g} {score:.2f}"
        rank = int((step.scores > step.scores[asked]).sum()) + 1
        after = step.before + step.head + step.others
        alike = float(torch.cosine_similarity(step.before, after, dim=0))
        positions = ", positions shuffled" if state.get("shuffled") else ""
        return (
            f"{state['image']}, layer {state['layer']}, head {state['head']}{positions}: "
            f"{self._name(asking)} asks {self._name(asked, True)}. "
            f"The {width} products add up to {total:.2f}{steps}: the score. "
            f"It is number {rank} of {len(step.scores)} scores, from {step.scores.min():.2f} to "
            f"{step.scores.max():.2f}; the softmax makes it {step.weights[asked]:.1%} of the weight "
            f"(an even share: {1 / len(step.scores):.1%}; the largest: {step.weights.max():.1%}).\n"
            f"The output, the values' weighted sum, has length {step.output.norm():.2f}. The residual: to "
            f"the token, of length {step.before.norm():.2f}, this head adds {step.head.norm():.2f} and the "
            f"others {step.others.norm():.2f}; the sum has length {after.norm():.2f}, and its cosine with "
            f"what it was is {alike:.2f}."
        )

    def _panel(
        self, picture: Image.Image, name: str, shown: np.ndarray, token: int, shade=(208, 208, 208)
    ) -> None:
        """An image with one patch framed; below it the class token's square, framed where it is the one."""
        left, top = (PANEL + GAP) * (name == "key"), HEADER + PANEL + 6
        bright = "; bright: weight" if name == "key" else ""
        tiles.write(picture, (left, 4), f"{name}: {self._name(token).removeprefix('the ')}{bright}", size=13)
        picture.paste(Image.fromarray(shown), (left, HEADER))
        if token >= self.prefix:
            tiles.frame(picture, (left, HEADER), shown.shape[:2], self.grid, token - self.prefix)
        if self.prefix:
            square = Image.fromarray(np.broadcast_to(np.uint8(shade), (TILE, TILE, 3)).copy())
            picture.paste(square, (left, top))
            if token < self.prefix:
                tiles.frame(picture, (left, top), (TILE, TILE), (1, 1), 0)
            tiles.write(picture, (left + TILE + 6, top + 4), "class token", size=13)

    def _products(self, picture, q, k, step: Step, temperature: float, asked: int) -> None:
        """Query and key as strips, each pair's product as a bar below them, and what is made of their sum."""
        width, limit = len(q), max(abs(q).max(), abs(k).max(), 1e-9)
        cell = max(1, (SIZE[0] - RIGHT) // width)
        for number, (name, values) in enumerate((("q", q), ("k", k))):
            y = HEADER + number * 46
            words = f"{name}: {width} numbers" + f", black −{limit:.1f} … white +{limit:.1f}" * (number == 0)
            tiles.write(picture, (RIGHT, y - 20), words, size=13)
            picture.paste(tiles.strip(values, limit, cell, 22), (RIGHT, y))
        products, top = step.products.numpy(), HEADER + 92
        tiles.write(picture, (RIGHT, top - 20), "each pair's product", size=13)
        tiles.columns(picture, (RIGHT, top, cell * width, 76), products, "#404040", cell)
        score, end = float(step.scores[asked]), ""
        if temperature != 1:
            end = f" ÷ temperature {temperature:g}"
        scaled = f" ÷ √{width}" if step.divisor != 1 else ""
        lines = [f"sum {products.sum():.2f}{scaled}{end} = score {score:.2f}"]
        lines += [f"softmax over the row: weight {step.weights[asked]:.1%}"]
        for number, words in enumerate(lines):
            tiles.write(picture, (RIGHT, top + 82 + number * 20), words, size=15)

    def _row(self, picture, number: int, title: str, values: np.ndarray, asked: int, form: str) -> None:
        """A number for each token as a bar, the key's black."""
        top, bar = ROWS + number * STEP, self._bar(len(values))
        low, high = form.format(values.min()), form.format(values.max())
        first = "class token first; " if self.prefix else ""
        tiles.write(picture, (0, top), f"{title} ({first}from {low} to {high}; black: the key)", size=13)
        box = (0, top + 18, round(bar * len(values)), BARS)
        tiles.columns(picture, box, values, "#a8a8a8", bar, marked=asked)

    def _sums(self, picture, step: Step, value: Tensor, asked: int) -> None:
        """Left the weighted sum of the values, right what the residual adds up, each with its length."""
        mine = step.weights[asked] * value
        output = [
            (f"{step.weights[asked]:.1%} × value of k", mine),
            (f"+ the {len(step.weights) - 1} others", step.output - mine),
            ("= output", step.output),
        ]
        residual = [
            ("token before", step.before),
            ("+ this head", step.head),
            ("+ others, bias", step.others),
            ("= token after", step.before + step.head + step.others),
        ]
        for left, right, title, lines in (
            (0, HALF - GAP, "output = sum of weight × value", output),
            (HALF, SIZE[0], "residual: what attention adds to the token", residual),
        ):
            room, size = right - left - LABEL - LENGTH, len(lines[0][1])
            cut = f", the first {room} shown" if size > room else ""
            tiles.write(picture, (left, SUM), f"{title} ({size} numbers{cut}; length)", size=13)
            limit = max(float(values.abs().max()) for _, values in lines) or 1.0
            for number, (words, values) in enumerate(lines):
                y = SUM + 22 + number * LINE
                tiles.write(picture, (left, y + 3), words, size=13)
                shown = values[:room].numpy()
                picture.paste(tiles.strip(shown, limit, max(1, room // size), LINE - 5), (left + LABEL, y))
                tiles.write(picture, (right - 4, y + 3), f"{values.norm():.2f}", size=13, anchor="ra")
