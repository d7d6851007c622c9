"""Lesson 06: what one token attends to, and rollout beside the truth."""

from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vitlab.attention import View, attention_rollout, patch_distances, record_attention
from vitlab.attention.baselines import in_patches
from vitlab.attention.reading import covered, looking_at, pooling_of, read_row, view_of
from vitlab.attention.rollout import difference_in_words, row_difference
from vitlab.plots import pixels
from vitlab.vit import ViT
from vitlab.widgets import tiles, tokens
from vitlab.widgets.clicks import Area
from vitlab.widgets.explorer import Explorer

PANEL = 280  # the longer side of each of the three panels, in pixels
GAP = 20
HEADER = 26
SCALE = 34  # the strip of colours under a map, with its two numbers
DISCARDS = [step / 10 for step in range(10)]


class AttentionMapExplorer(Explorer):
    """An image with the query's patch, its attention in one layer and head, and its rollout to that layer.

    `model` is a `ViT`, or a view of any other (`vitlab.attach`). `images` maps names to (C, H, W) images of
    one size that the model takes, uint8 or floats as it takes them. `masks` may map the same names to bool
    (H, W), true on the object: its outline is then drawn, and the caption says how much of the rollout lies
    on it. All attention is recorded once, here; moving a control only looks it up. Head 0 is the mean over
    heads. Queries from 1 are patches; query 0 is what the head reads, such as the class token, the mean of
    the patches or a pooling by attention, and other tokens before the patches, such as registers, are -1, -2,
    …. Raises ValueError where the model has no attention, or takes images of another size, where nobody says
    what its images are normalised with, and for masks that do not fit.

    >>> from vitlab import ViTConfig
    >>> explorer = AttentionMapExplorer(ViT(ViTConfig()), {"blank": torch.zeros(1, 28, 28)})
    >>> explorer.set(layer=2, head=1, query=25)
    >>> explorer.caption[:54]
    'blank, query: patch 25 (row 4, column 4). Layer 2, hea'
    """

    def __init__(self, model: ViT | View, images: dict[str, Tensor], masks: dict[str, Tensor] | None = None):
        self.view = view = view_of(model)
        self.images = {name: covered(each, view) for name, each in tokens.as_bytes(images, view).items()}
        self.masks = {name: covered(mask, view) for name, mask in _checked(masks, images).items()}
        self.prefix, self.grid = view.num_prefix_tokens, view.grid_of(tokens.size_of(images))
        self.before, self._inputs = tokens.before(view), dict(images)
        self._rollout = lru_cache(self._rollout)
        self.ask_anew()
        self.shown = tiles.fitted(tuple(next(iter(self.images.values())).shape[-2:]), (PANEL, PANEL))
        self.distances = patch_distances(self.grid, view.patch_size)
        layers, _, heads, _, _ = self.weights.shape
        first = next(iter(images))
        controls = {
            "image": ipywidgets.Dropdown(options=list(images), value=first, description="image"),
            "layer": ipywidgets.IntSlider(1, 1, layers, description="layer"),
            "head": ipywidgets.IntSlider(0, 0, heads, description="head (0: mean)"),
            "query": self._query_slider(),
            "fusion": ipywidgets.Dropdown(
                options=["mean", "max", "min"], value="mean", description="rollout: heads"
            ),
            "discard": ipywidgets.SelectionSlider(
                options=DISCARDS, value=0.0, description="rollout: discard"
            ),
        }
        controls["layer"].value = layers
        super().__init__(self.draw, controls, size=(3 * PANEL + 2 * GAP, HEADER + PANEL + SCALE), fast=True)

    def models(self) -> list[nn.Module]:
        """The model whose attention is shown."""
        return [self.view.model]

    def ask_anew(self) -> None:
        """Record the attention to all images: (L, number of images, heads, T, T)."""
        self.weights, self.pooling = _recorded(self.view, self._inputs)
        self._rollout.cache_clear()

    def _rollout(self, image: str, layer: int, fusion: str, discard: float) -> Tensor:
        """(T, T), the rollout of one image through its first `layer` layers."""
        number = list(self.images).index(image)
        return attention_rollout(self.weights[:layer, number : number + 1], fusion, discard)[0]

    def _query_slider(self) -> ipywidgets.IntSlider:
        """Patches count from 1; what stands before them from 0 downwards, where it begins."""
        least, last, names = 1 - len(self.before), self.grid[0] * self.grid[1], list(self.before)
        ends = [f"0: {tokens.bare(names[0])}"] if names else []
        ends += [f"{least}: {tokens.bare(names[-1])}"] if least < 0 else []
        words = f"query ({', '.join(ends)})" if names else "query patch"
        return ipywidgets.IntSlider(max(least, 0), least, last, description=words)

    def _row(self, attention: Tensor, image: str, query: int) -> Tensor:
        """What a query attends to, (T, T) -> (T,)."""
        token = query - 1 + self.prefix if query > 0 else list(self.before.values())[-query]
        if token is not None:
            return attention[token]
        number = list(self.images).index(image)
        pooling = None if self.pooling is None else self.pooling[number : number + 1]
        return read_row(attention[None], self.view, pooling)[0]

    def draw(
        self, image: str, layer: int, head: int, query: int, fusion: str, discard: float
    ) -> tuple[Image.Image, str]:
        """The three panels; `query` counts patches from 1, and what stands before them from 0 downwards."""
        heads = self.weights[layer - 1, list(self.images).index(image)]  # (heads, T, T)
        row = self._row(heads.mean(0) if head == 0 else heads[head - 1], image, query)
        whole = self._rollout(image, layer, fusion, discard)
        rolled = self._row(whole, image, query)
        under = tiles.resize(pixels(self.images[image]), *self.shown)
        which = f"layer {layer}, " + ("mean of heads" if head == 0 else f"head {head}")
        picture = Image.new("RGB", self.size, "white")
        self._panel(picture, 0, f"{tokens.brief(self._asking(query))} asks", under, query)
        self._panel(picture, 1, which, under, query, row)
        self._panel(picture, 2, f"rollout, layers 1 to {layer}", under, query, rolled)
        if image in self.masks:
            for number in range(3):
                _outline(picture, (number * (PANEL + GAP), HEADER), self.shown, self.masks[image])
        caption = (
            f"{image}, query: {self._place(query)}. {which.capitalize()}: {self._words(row, query)}\n"
            f"Rollout through layer {layer} (heads: {fusion}, discarded: {discard:.0%}): "
            f"{self._words(rolled, query)}{self._own(whole, query)}{self._on_the_object(image, rolled)}"
        )
        return picture, caption

    def areas(self) -> list[Area]:
        """A patch of any of the three panels is the query."""
        height, width = self.shown

        def chosen(row: int, column: int) -> dict:
            return {"query": row * self.grid[1] + column + 1}

        return [Area((n * (PANEL + GAP), HEADER, width, height), self.grid, chosen) for n in range(3)]

    def _own(self, rollout: Tensor, query: int) -> str:
        """Whether a token's row of the rollout (T, T) says anything of it; nothing of a mean of rows."""
        token = query - 1 + self.prefix if query > 0 else list(self.before.values())[-query]
        if token is None:
            return ""
        difference = row_difference(rollout[token], rollout.mean(dim=0), self.prefix)
        return f" It {difference_in_words(float(difference))}."

    def _on_the_object(self, image: str, row: Tensor) -> str:
        """How much of what a row (T,) gives to patches lies on the object, where its mask is known."""
        if image not in self.masks:
            return ""
        pieces = in_patches(self.masks[image], self.view.patch_size)
        cover = pieces.float().mean(dim=-1).flatten()  # (N,), the share of each patch that is object
        patches = row[self.prefix :]
        share, area = float(patches @ cover / patches.sum()), float(cover.mean())
        top = float(cover[patches.argmax()])
        return (
            f" On the object: {share:.1%} of it, where chance is {area:.1%}; "
            f"its brightest patch is object to {top:.0%}."
        )

    def _asking(self, query: int) -> str:
        return f"patch {query}" if query > 0 else list(self.before)[-query]

    def _place(self, query: int) -> str:
        if query <= 0:
            return self._asking(query)
        row, column = divmod(query - 1, self.grid[1])
        return f"patch {query} (row {row + 1}, column {column + 1})"

    def _words(self, row: Tensor, query: int) -> str:
        """A row (T,) in numbers: where most of it goes, what other tokens get, and how far it looks."""
        patches = row[self.prefix :]
        most = int(patches.argmax())
        parts = [f"most to patch {most + 1} ({patches[most]:.1%})"]
        for name, numbers in tokens.groups(self.view).items():
            itself = query <= 0 and [list(self.before.values())[-query]] == numbers
            parts.append(f"{row[numbers].sum():.1%} to {name}" + (" itself" if itself else ""))
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
            tiles.frame(picture, (left, HEADER), self.shown, self.grid, query - 1)


@torch.no_grad()
def _recorded(view: View, images: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """The weights of all images, and the rows of a pooling of its own, (images, keys), or None."""
    if len({*view.heads}) > 1:
        raise ValueError(f"the layers have {view.heads} heads, which one slider cannot offer")
    device = next(view.model.parameters()).device
    floats = [
        view.prepare(each[None].to(device)) if each.dtype == torch.uint8 else each[None].float().to(device)
        for each in images.values()
    ]
    inputs = torch.cat(floats)
    with looking_at(view, inputs), record_attention(view) as record:
        view(inputs)
    pooling = pooling_of(record)
    return record.weights.cpu(), None if pooling is None else pooling.cpu()


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
