"""Lessons 03 and 06: parts of a trained model taken away, and what it answers then."""

from functools import lru_cache

import ipywidgets
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab import data
from vitlab.attention import intervene, maps
from vitlab.attention.intervening import entering
from vitlab.attention.reading import view_of
from vitlab.data import Dataset
from vitlab.patches import as_pair
from vitlab.plots import pixels
from vitlab.runtime import here
from vitlab.training import as_the_model_knows, refuse_other_order
from vitlab.vit import ViT, evaluating
from vitlab.widgets import tiles
from vitlab.widgets.clicks import Area
from vitlab.widgets.explorer import Explorer
from vitlab.widgets.measured import Away, Measured
from vitlab.wording import token_name

PANEL, GAP, HEADER, SCALE = 280, 20, 26, 34
BARS = 340  # width of the classes' bars
SIZE = (2 * PANEL + BARS + 2 * GAP, HEADER + PANEL + SCALE)
MEASURED = 200  # images of which the accuracy is
NONE = "none"
MAPS = ("class_attention", "rollout", "relevance")
TOKENS = ("class token", "patches", "all tokens")  # of another image, that can be put in


class InterventionExplorer(Explorer):
    """Heads, blocks, patches, positions taken away from a trained model, or another image's tokens put in.

    `model` is a `ViT` with a class token and position embeddings, `images` maps names to uint8 images
    (C, H, W) of its size, and `measured` has labelled ones, of which the first 200 are asked at every move:
    what enters each block is kept, and a move goes on from the first block that it changes. The picture shows
    the image as the model gets it, a map of the changed model, and its classes; lines in the bars are the
    whole model's. "Undo" goes one move back. Raises ValueError for another model or other images.

    >>> import torch
    >>> from vitlab import ViTConfig
    >>> images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    >>> measured = Dataset(images, torch.tensor([0, 1]), list("abcdefghij"))
    >>> explorer = InterventionExplorer(ViT(ViTConfig()), {"blank": images[0]}, measured)
    >>> explorer.set(heads=((0, 1),), block=2)
    >>> explorer.caption[:55]
    'blank without head 2 of layer 1, block 2: it says a, wi'
    """

    def __init__(self, model: ViT, images: dict[str, Tensor], measured: Dataset):
        c = model.config
        if c.pool != "token" or c.distilled or c.pos_embed in ("none", "rope2d"):
            raise ValueError(
                "this explorer hides patches from the class token, which alone is read, and swaps positions "
                "that are added: give it a ViT with both, pool='token' and position embeddings, and no "
                "distillation token"
            )
        if not images:
            raise ValueError("there is no image to look at; give a dict from names to uint8 images (C, H, W)")
        refuse_other_order(model, measured.classes)
        self.model, self.images, self.classes = model, images, measured.classes
        self.measured = as_the_model_knows(model, measured.subset(range(min(MEASURED, len(measured.labels)))))
        self.grid = model.config.grid_size
        self._answers, self._one = lru_cache(64)(self._answers), lru_cache(64)(self._one)
        self._entering = lru_cache(64)(self._entering)
        self.ask_anew()
        self._past: list[dict] = []
        self._undoing = False
        super().__init__(self.draw, self._controls(), size=SIZE)
        undo = ipywidgets.Button(description="Undo", layout={"width": "auto"})
        undo.on_click(lambda _button: self.undo())
        controls = self.widget.children[0]
        controls.children = (*controls.children, undo)

    def _controls(self) -> dict[str, ipywidgets.ValueWidget]:
        config, names = self.model.config, list(self.images)
        heads = {
            f"layer {layer + 1}, head {head + 1}": (layer, head)
            for layer in range(config.depth)
            for head in range(config.num_heads)
        }
        count, rows = config.num_patches, self.grid[0]
        squares = {f"patch {patch + 1}": patch for patch in range(count)}
        block = [(NONE, 0), *((f"block {number}", number) for number in range(1, config.depth + 1))]

        places = [(NONE, "")] + [
            (f"{tokens}, block {layer + 1}", (tokens, layer))
            for tokens in TOKENS
            for layer in range(config.depth)
        ]

        def several(options: dict, words: str) -> ipywidgets.SelectMultiple:
            return ipywidgets.SelectMultiple(options=list(options.items()), rows=5, description=words)

        return {
            "image": ipywidgets.Dropdown(options=names, description="image"),
            "map": ipywidgets.Dropdown(options=MAPS, description="map"),
            "heads": several(heads, "removed heads"),
            "patches": several(squares, "covered patches"),
            "block": ipywidgets.Dropdown(options=block, value=0, description="skipped block"),
            "unseen": ipywidgets.IntSlider(
                0, 0, count, description="patch unseen by the class token (0: none)"
            ),
            "row": ipywidgets.IntSlider(1, 1, rows, description="positions: this row"),
            "with_row": ipywidgets.IntSlider(1, 1, rows, description="swapped with row"),
            "donor": ipywidgets.Dropdown(options=names, value=names[-1], description="other image"),
            "place": ipywidgets.Dropdown(options=places, value="", description="put in from it"),
        }

    def models(self) -> list[ViT]:
        """The model that parts are taken away from."""
        return [self.model]

    def ask_anew(self) -> None:
        """Drop all answers, and ask the whole model about the measured images."""
        for asked in (self._answers, self._one, self._entering):
            asked.cache_clear()
        self.run = here(device=next(self.model.parameters()).device)
        self._measure = Measured(self.model, self.measured, self.run)

    def undo(self) -> None:
        """Go back to the state before the last move, if there is one."""
        if self._past:
            self._undoing = True
            try:
                self.set(**self._past.pop())
            finally:
                self._undoing = False

    def areas(self) -> list[Area]:
        """A click on the image covers or uncovers a patch; one on the map hides it from the class token."""
        height, width = tiles.fitted(as_pair(self.model.config.image_size), (PANEL, PANEL))

        def covered(row: int, column: int) -> dict:
            patch, now = row * self.grid[1] + column, set(self.state["patches"])
            return {"patches": tuple(sorted(now ^ {patch}))}

        def hidden(row: int, column: int) -> dict:
            patch = row * self.grid[1] + column + 1
            return {"unseen": 0 if self.state["unseen"] == patch else patch}

        return [
            Area((left, HEADER, width, height), self.grid, chosen)
            for left, chosen in ((0, covered), (PANEL + GAP, hidden))
        ]

    def _show(self, state: dict) -> None:
        if getattr(self, "_now", state) != state and not self._undoing:
            self._past.append(self._now)
        self._now = state
        super()._show(state)

    def draw(
        self,
        image: str,
        map: str,
        heads: tuple,
        patches: tuple,
        block: int,
        unseen: int,
        row: int,
        with_row: int,
        donor: str,
        place: tuple[str, int] | str,
    ) -> tuple[Image.Image, str]:
        """The three panels and the words; blocks, rows and the unseen patch count from 1, what is chosen in
        lists as `intervene` counts."""
        tokens, layer = place or (None, None)
        which = {
            "class token": (0,),
            "patches": tuple(range(self.model.config.num_prefix_tokens, self.model.config.num_tokens)),
        }
        away = Away(
            heads=tuple(in_order(heads)),
            blocks=(block - 1,) if block else (),
            patches=tuple(patches),
            unseen=(unseen - 1,) if unseen else (),
            swap_rows=(row - 1, with_row - 1) if row != with_row else None,
            donor=donor if place else None,
            donor_layer=layer,
            donor_tokens=which.get(tokens),
        )
        shares, seen = self._one(image, map, away)
        whole, _ = self._one(image, map, Away())
        picture = self._picture(image, map, away, shares, whole, seen)
        words = self._words(image, map, away, shares, whole, seen)
        return picture, words + ("" if place else f" Nothing of {donor} is put in.")

    def _one(self, image: str, name: str, away: Away) -> tuple[Tensor, Tensor]:
        """Of one image the classes' probabilities, and a map (h, w) about the class that is said then."""
        logits: list[Tensor] = []
        with self._changed(away), evaluating(self.model):
            keep = lambda model, images, out: logits.append(out.detach()[0])  # noqa: E731
            watched = self.model.register_forward_hook(keep)  # the map's own pass says them: no second one
            try:
                seen = maps.MAPS[name](self.model, self._inputs(image))[0]
            finally:
                watched.remove()
        return logits[-1].softmax(dim=0).cpu(), seen.float().cpu()

    def _inputs(self, image: str) -> Tensor:
        return data.normalise(self.images[image][None].to(self.run.device))

    def _changed(self, away: Away):
        """The context in which the model is without what is taken away."""
        asked = away._asdict() | dict(donor=None if away.donor is None else self._inputs(away.donor))
        return intervene(self.model, **asked)

    def _answers(self, away: Away) -> tuple[float, float]:
        """Accuracy and loss of the measured images."""
        if away.donor is None:
            return self._measure(away)
        return self._measure(away, self._entering(away.donor, away.donor_layer))

    def _entering(self, image: str, layer: int) -> Tensor:
        """The tokens of an image that enter a block, (1, T, D)."""
        return entering(view_of(self.model), self._inputs(image), layer)

    def _picture(self, image, name, away, shares, whole, seen) -> Image.Image:
        picture = Image.new("RGB", SIZE, "white")
        under = self._covered(image, away)
        shown = tiles.fitted(under.shape[:2], (PANEL, PANEL))
        grey = under.mean(axis=-1, keepdims=True).astype(np.uint8).repeat(3, axis=-1)  # while it is small
        picture.paste(Image.fromarray(tiles.resize(under, *shown)), (0, HEADER))
        tiles.write(picture, (0, 4), "what the model gets")
        values, left = seen.numpy(), PANEL + GAP
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-9)
        coloured = tiles.resize(tiles.colour(values, low, high), *shown)
        coloured, grey = (Image.fromarray(each) for each in (coloured, tiles.resize(grey, *shown)))
        picture.paste(Image.blend(coloured, grey, 0.25), (left, HEADER))
        tiles.write(picture, (left, 4), name.replace("_", " "))
        tiles.scale(picture, (left, HEADER + PANEL + 4), PANEL, f"{low:.2g}", f"{high:.2g}")
        for patch in away.unseen:
            for corner in ((0, HEADER), (left, HEADER)):
                tiles.frame(picture, corner, shown, self.grid, patch)
        left += PANEL + GAP
        box = (left, HEADER, SIZE[0], HEADER + PANEL)
        tiles.write(picture, (left, 4), "its classes now; lines: the whole model")
        tiles.bars(picture, box, dict(zip(self.classes, shares.tolist(), strict=True)))
        pen, room, step = ImageDraw.Draw(picture), BARS - tiles.NAMES - tiles.NUMBERS, PANEL / len(shares)
        for place, share in enumerate(whole.tolist()):
            x, middle = left + tiles.NAMES + room * share, HEADER + (place + 0.5) * step
            pen.line((x, middle - step / 3, x, middle + step / 3), fill="black", width=2)
        return picture

    def _covered(self, image: str, away: Away) -> np.ndarray:
        """The image with its covered patches grey, RGB uint8."""
        shown, side = pixels(self.images[image]).copy(), self.model.config.patch_size
        for patch in away.patches:
            row, column = divmod(patch, self.grid[1])
            shown[row * side : (row + 1) * side, column * side : (column + 1) * side] = 128
        return shown

    def _words(self, image, name, away, shares, whole, seen) -> str:
        best, before = int(shares.argmax()), int(whole.argmax())
        (right, loss), (right_whole, loss_whole) = self._answers(away), self._answers(Away())
        top = token_name(int(seen.argmax()), 0, self.grid[1], place=True)
        asked = f"{len(self.measured.labels)} images"
        return (
            f"{image}{in_words(away)}: it says {self.classes[best]}, with {shares[best]:.1%}; the whole "
            f"model says {self.classes[before]}, with {whole[before]:.1%} (now {shares[before]:.1%}).\n"
            f"Of {asked} {right:.1%} are right, loss {loss:.3f}; by the whole model {right_whole:.1%}, "
            f"loss {loss_whole:.3f}. {name.replace('_', ' ').capitalize()} is largest on {top}."
        )


def in_order(heads: tuple) -> list[tuple[int, int]]:
    """Pairs in order, whatever the order in which they were chosen.

    >>> in_order(((1, 0), (0, 2)))
    [(0, 2), (1, 0)]
    """
    return sorted(tuple(each) for each in heads)


def in_words(away: Away) -> str:
    """What is taken away, as it stands behind an image's name; counted from 1.

    >>> in_words(Away(heads=((0, 1), (0, 3)), swap_rows=(0, 6)))
    ' without head 2 of layer 1, head 4 of layer 1; positions of rows 1 and 7 swapped'
    """
    gone = [f"head {head + 1} of layer {layer + 1}" for layer, head in away.heads]
    gone += [f"block {block + 1}" for block in away.blocks]
    patches = ", ".join(str(patch + 1) for patch in away.patches)
    parts = [f" without {', '.join(gone)}"] if gone else []
    if patches:
        parts.append(f" patch{'es' if len(away.patches) > 1 else ''} {patches} covered")
    if away.unseen:
        parts.append(f" patch {away.unseen[0] + 1} unseen by the class token")
    if away.swap_rows:
        one, other = away.swap_rows
        parts.append(f" positions of rows {one + 1} and {other + 1} swapped")
    if away.donor:
        which = {None: "all tokens", (0,): "the class token"}.get(away.donor_tokens, "the patches")
        parts.append(f" with {which} of {away.donor} from block {away.donor_layer + 1} on")
    words = ";".join(parts)
    return words if words.startswith(" with") or not words else f",{words}"
