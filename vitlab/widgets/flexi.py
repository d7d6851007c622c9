"""One trained model at several patch sizes: what each sees, answers, gets right and costs."""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import ipywidgets
import torch
from PIL import Image
from torch import Tensor

from vitlab import plots
from vitlab.attention.maps import class_attention
from vitlab.data import Dataset, normalise
from vitlab.runtime import here
from vitlab.training import as_the_model_knows, evaluate, refuse_other_order
from vitlab.vit import ViT, count_flops, evaluating
from vitlab.widgets import tiles
from vitlab.widgets.data_path import as_taken
from vitlab.widgets.explorer import Explorer

PANEL, GAP, HEADER, SCALE, LINE = 276, 24, 26, 34, 20  # sides of the panels, what is between and around them
STEP, WIDTH = PANEL + GAP, 900
TIMED = 20  # images in the batch whose time is taken
LEAST_TIMED = 0.2  # seconds: the least time of several is not one that another program has held up
HEADINGS = ["P", "tokens", "million FLOPs", "ms an image", "right"]
PLACES = [12, 100, 220, 340, 440]  # of the columns' right ends but the first, in pixels
MOST, APART = 3, 150  # rivals for which there is room, and pixels from one's column to the next


class Measured(NamedTuple):
    """A model at one patch size, and what it was found to be worth there."""

    model: ViT
    accuracy: float
    rivals: list[float]  # the accuracy of each rival at this size
    milliseconds: float  # of a forward pass, for an image


class FlexiExplorer(Explorer):
    """One trained ViT at several patch sizes (FlexiViT, arXiv 2212.08013): `model.at(patch_size)` at each.

    Above the image under its grid, what the class token attends to in the last layer, and the answer; below
    a line for each size: tokens, FLOPs and time of a forward pass, and the share of `dataset` that is right.
    `pictures` maps names to images (C, H, W), uint8, of the model's size, or to pictures in colour of any
    size. `rivals` maps names to up to three other ViTs, such as one trained at a single size; their share
    stands beside. All sizes are measured at once, in one precision, so that a move is immediate. Raises
    ValueError for a size that the image cannot be cut into, for other classes, for a model without a class
    token, for models with a distillation token, for more rivals, and without pictures or sizes.

    >>> from vitlab import ViTConfig
    >>> blank = Dataset(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.tensor([3]), list("abcdefghij"))
    >>> FlexiExplorer(ViT(ViTConfig()), {"blank": blank.images[0]}, blank, [4, 7]).caption[:48]
    'blank at P = 4: 7 × 7 patches of 4 × 4 pixels, T'
    """

    def __init__(
        self,
        model: ViT,
        pictures: dict[str, Tensor],
        dataset: Dataset,
        patch_sizes: Sequence[int],
        rivals: Mapping[str, ViT] | None = None,
    ):
        if model.config.pool != "token":
            raise ValueError("this explorer shows the class token's attention; give it a model with one")
        rivals = dict(rivals or {})
        for name, each in {"the model": model, **rivals}.items():
            if each.config.distilled:
                raise ValueError(
                    f"this explorer shows what the class token alone is asked, and {name} has a distillation "
                    "token as well; give it a ViT without one"
                )
        if len(rivals) > MOST:
            more = ", ".join(list(rivals)[MOST:])
            raise ValueError(f"there is room for {MOST} rivals beside the model; leave out {more}, or others")
        if not pictures or not patch_sizes:
            raise ValueError("there is nothing to choose from: give it pictures by name, and patch sizes")
        refuse_other_order(model, dataset.classes)
        self.model, self.pictures, self.rivals = model, pictures, rivals
        self.dataset = as_the_model_knows(model, dataset)
        self.patch_sizes = list(patch_sizes)
        self._look = lru_cache(self._look)
        self._measure()
        own = model.config.patch_size
        controls = {
            "image": ipywidgets.Dropdown(options=list(pictures), description="image"),
            "patch_size": ipywidgets.SelectionSlider(
                options=self.patch_sizes,
                value=own if own in self.patch_sizes else self.patch_sizes[0],
                description="patch size P",
            ),
        }
        height = HEADER + PANEL + SCALE + LINE * (2 + len(self.patch_sizes))
        super().__init__(self.draw, controls, size=(WIDTH, height), fast=True)

    def models(self) -> list[ViT]:
        """The model that is shown, and its rivals."""
        return [self.model, *self.rivals.values()]

    def ask_anew(self) -> None:
        """Measure all sizes again, and look at each image again."""
        self._look.cache_clear()
        self._measure()

    def add(self, name: str) -> None:
        """Offer and choose a picture that `pictures` has now, or has anew."""
        self._look.cache_clear()
        self.offer("image", self.pictures, name)

    def _measure(self) -> None:
        self.run = here(device=next(self.model.parameters()).device)
        self.measured = {size: self._measured_at(size) for size in self.patch_sizes}

    def _measured_at(self, size: int) -> Measured:
        model, took = self.model.at(patch_size=size), []
        inputs = normalise(self.dataset.images[:TIMED].to(self.run.device))
        with torch.inference_mode(), evaluating(model), self.run.autocast():
            while len(took) < 3 or sum(took) < LEAST_TIMED:
                begin = time.perf_counter()
                model(inputs).cpu()
                took.append(time.perf_counter() - begin)
        models = [model, *(rival.at(patch_size=size) for rival in self.rivals.values())]
        accuracy, *rivals = (evaluate(each, self.dataset, self.run)[1] for each in models)
        return Measured(model, accuracy, rivals, 1e3 * min(took) / len(inputs))

    def _look(self, image: str, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """The image (C, H, W), its class attention (rows, columns), and the shares of the classes."""
        model = self.measured[size].model
        picture = as_taken(self.pictures[image], model.config)
        inputs = normalise(picture[None].to(self.run.device))
        with torch.inference_mode(), evaluating(model), self.run.autocast():
            shares = model(inputs)[0].softmax(dim=0).cpu()
            looked = class_attention(model, inputs)[0].cpu()
        return picture, looked, shares

    def draw(self, image: str, patch_size: int) -> tuple[Image.Image, str]:
        """The three panels, and the table with the chosen size in dark letters."""
        picture, looked, shares = self._look(image, patch_size)
        chosen, config = self.measured[patch_size], self.measured[patch_size].model.config
        rows, columns = config.grid_size
        canvas, below = Image.new("RGB", self.size, "white"), HEADER + PANEL
        titles = (f"{image}, P = {patch_size}", "the class token attends to", "the answer")
        for number, title in enumerate(titles):
            tiles.write(canvas, (number * STEP, 4), title)
        cut = tiles.gridded(plots.pixels(picture), rows, columns, (PANEL, PANEL), first=None)
        canvas.paste(cut, (0, HEADER))
        coloured = tiles.resize(
            tiles.colour(looked.numpy(), low=0), *tiles.fitted(looked.shape, (PANEL, PANEL))
        )
        canvas.paste(Image.fromarray(coloured), (STEP, HEADER))
        tiles.scale(canvas, (STEP, below + 4), PANEL, "0", f"{looked.max():.1%} of its attention")
        answers = dict(zip(self.dataset.classes, shares.tolist(), strict=True))
        tiles.bars(canvas, (2 * STEP, HEADER, WIDTH, below), answers)
        self._table(canvas, below + SCALE + LINE // 2, patch_size)
        best = max(answers, key=answers.get)
        found = zip(self.rivals, chosen.rivals, strict=True)
        others = "".join(f", {share:.1%} by {name}" for name, share in found)
        caption = (
            f"{image} at P = {patch_size}: {rows} × {columns} patches of {patch_size} × {patch_size} pixels, "
            f"T = {config.num_tokens} tokens. The model says {best}, {answers[best]:.1%}.\n"
            f"Of {len(self.dataset.labels)} images {chosen.accuracy:.1%} are right at this size{others}; "
            f"an image takes {count_flops(config) / 1e6:,.1f} million FLOPs and {chosen.milliseconds:.2f} ms."
        )
        return canvas, caption

    def _table(self, canvas: Image.Image, top: int, chosen: int) -> None:
        """A line for each size; that of the chosen one on grey."""
        headings = [*HEADINGS, *self.rivals]
        lines = [headings, *(self._line(size) for size in self.patch_sizes)]
        places = PLACES + [PLACES[-1] + APART * (i + 1) for i in range(len(self.rivals))]
        for number, line in enumerate(lines):
            y = top + number * LINE
            if number and self.patch_sizes[number - 1] == chosen:
                canvas.paste("#e4e4e4", (0, y, WIDTH, y + LINE))
            for place, words in zip(places, line, strict=True):
                anchor = "lm" if place == PLACES[0] else "rm"
                tiles.write(canvas, (place, y + LINE // 2), words, 13, anchor=anchor)

    def _line(self, size: int) -> list[str]:
        found = self.measured[size]
        config = found.model.config
        cost = [f"{config.num_tokens}", f"{count_flops(config) / 1e6:,.1f}", f"{found.milliseconds:.2f}"]
        return [f"{size}", *cost, *(f"{share:.1%}" for share in (found.accuracy, *found.rivals))]
