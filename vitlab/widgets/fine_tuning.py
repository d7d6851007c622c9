"""Lesson 05: a trained model at other resolutions, and what few labels are worth."""

import math
from collections.abc import Sequence
from functools import lru_cache

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_hex
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab import plots
from vitlab.data import Dataset, normalise
from vitlab.fine_tuning import adapt, at_resolution, few_per_class
from vitlab.training import as_the_model_knows
from vitlab.vit import ViT
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer, figure, places
from vitlab.widgets.pictures import fit

RULES = {
    "resized, Google's rule": "jax",
    "resized, timm's rule": "timm",
    "resized, Hugging Face's rule": "hf",
    "repeated in reading order (wrong)": None,
}
PANEL, GAP, HEADER, SCALE = 276, 24, 26, 34  # sides of the panels, and what is between, above, below them
STEP = PANEL + GAP
WIDTH, HEIGHT = 900, 400
MOSAIC, NAMES = 450, 92  # width of the images with few labels, and of the names beside them
SHOWN = 12  # images of one class beside each other, at most


class ResolutionExplorer(Explorer):
    """One image at another resolution, what the position embeddings then say, and the model's answer.

    Left the image under its grid; in the middle how alike the position of the middle patch is to all others;
    right the probabilities. `model` is a ViT with learned position embeddings, `dataset` has the images to
    choose from, one name each in `names`; `sizes` are sides or (height, width), each divisible by the patch
    size. What a size needs is computed when it is first asked for, and kept.

    >>> from vitlab import ViTConfig
    >>> blank = Dataset(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.tensor([3]), list("abcdefghij"))
    >>> ResolutionExplorer(ViT(ViTConfig()), blank, ["blank"], sizes=[28, 56]).caption[:58]
    'blank at 28 × 28: 7 × 7 patches, T = 50 tokens, 2,500 atte'
    """

    def __init__(
        self, model: ViT, dataset: Dataset, names: Sequence[str], sizes: Sequence[int | tuple[int, int]]
    ):
        if model.config.pos_embed != "learned":
            raise ValueError(f"only a learned table is resized; this model's is {model.config.pos_embed!r}")
        self.model, self.dataset, self.names = model, as_the_model_knows(model, dataset), list(names)
        self._at = lru_cache(self._at)
        pairs = [(size, size) if isinstance(size, int) else tuple(size) for size in sizes]
        native = model.config.image_size
        native = (native, native) if isinstance(native, int) else native
        controls = {
            "image": ipywidgets.Dropdown(options=self.names, description="image"),
            "size": ipywidgets.SelectionSlider(
                options=[(f"{height} × {width}", (height, width)) for height, width in pairs],
                value=native if native in pairs else pairs[0],
                description="resolution (pixels)",
            ),
            "table": ipywidgets.Dropdown(options=list(RULES), description="position embeddings"),
        }
        super().__init__(self.draw, controls, size=(WIDTH, HEADER + PANEL + SCALE))

    def models(self) -> list[ViT]:
        """The model that other sizes are made of."""
        return [self.model]

    def ask_anew(self) -> None:
        """Drop what was made for each size."""
        self._at.cache_clear()

    def _at(self, size: tuple[int, int], table: str) -> tuple[Dataset, ViT, Tensor]:
        """The images, the model and its probabilities (n, classes) at one size with one kind of table."""
        resized = at_resolution(self.dataset, size)
        model = adapt(self.model, image_size=size, method=RULES[table] or "jax").eval()
        if RULES[table] is None:
            with torch.no_grad():
                model.pos_embed.copy_(
                    repeated(self.model.positions(), model.config.num_patches, prefix(model))
                )
        with torch.inference_mode():
            logits = model(normalise(resized.images).to(model.pos_embed.device))
        return resized, model, logits.softmax(dim=-1).cpu()

    def draw(self, image: str, size: tuple[int, int], table: str) -> tuple[Image.Image, str]:
        """The three panels for one image."""
        resized, model, probabilities = self._at(size, table)
        number, config = self.names.index(image), model.config
        shares, label = probabilities[number], int(self.dataset.labels[number])
        (rows, columns), classes = config.grid_size, self.dataset.classes
        middle = rows // 2 * columns + columns // 2
        unit = F.normalize(model.pos_embed[0, prefix(model) :].detach().cpu(), dim=-1)
        similar = (unit @ unit[middle]).reshape(rows, columns).numpy()
        names = [f"{name} (true)" if i == label else name for i, name in enumerate(classes)]
        picture, below = Image.new("RGB", self.size, "white"), HEADER + PANEL
        for left, title in ((0, image), (STEP, "positions like the middle one"), (2 * STEP, "the answer")):
            tiles.write(picture, (left, 4), title)
        array = plots.pixels(resized.images[number])
        picture.paste(tiles.gridded(array, rows, columns, (PANEL, PANEL), first=None), (0, HEADER))
        coloured = tiles.resize(tiles.colour(similar, -1, 1), *tiles.fitted(similar.shape, (PANEL, PANEL)))
        picture.paste(Image.fromarray(coloured), (STEP, HEADER))
        tiles.scale(picture, (STEP, below + 4), PANEL, "cosine −1", "1")
        tiles.bars(picture, (2 * STEP, HEADER, WIDTH, below), dict(zip(names, shares.tolist(), strict=True)))
        guess = int(shares.argmax())
        right_or_not = "right" if guess == label else f"wrong: it is {classes[label]}"
        tokens = config.num_tokens
        caption = (
            f"{image} at {size[0]} × {size[1]}: {rows} × {columns} patches, T = {tokens} tokens, "
            f"{tokens**2:,} attention entries a head. Position embeddings: {table}.\n"
            f"The model says {classes[guess]}, {shares[guess]:.1%} ({right_or_not})."
        )
        return picture, caption


class LabelsExplorer(Explorer):
    """The images of one draw of few labels, beside what was measured with them.

    `dataset` is what was drawn from, `results` what `few_label_study` returned for `per_class`.

    >>> data = Dataset(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6) % 2, ["cat", "dog"])
    >>> LabelsExplorer(data, {"probe": torch.tensor([[0.5, 0.75]])}, [1, 3]).caption
    '1 label per class, draw 1: 2 images of 2 classes. Accuracy with this draw: probe 50.0%.'
    """

    def __init__(self, dataset: Dataset, results: dict[str, Tensor], per_class: Sequence[int]):
        self.dataset, self.results, self.per_class = dataset, results, list(per_class)
        draws = len(next(iter(results.values())))
        controls = {
            "labels": ipywidgets.SelectionSlider(options=self.per_class, description="labels per class"),
            "draw": ipywidgets.Dropdown(options=range(1, draws + 1), description="draw"),
        }
        self._plot = lru_cache(self._plot)
        super().__init__(self._draw, controls, size=(WIDTH, HEIGHT))

    def _plot(self) -> tuple[Image.Image, list[np.ndarray], list[str]]:
        """The results of all draws, the same at every move; of each method the places (draws, labels, 2) of
        its results in the picture, in pixels, and its colour.
        """
        size = WIDTH - MOSAIC - GAP, HEIGHT
        drawn = figure(size)
        ax = drawn.subplots()
        plots.by_labels(self.per_class, self.results, ax=ax)
        tables = [100 * table.double().numpy() for table in self.results.values()]
        ax.set_ylim(0.9 * np.nanmin(tables), 1.05 * np.nanmax(tables))  # every draw's ring is inside
        picture = fit(drawn, size)
        points = [np.stack(np.broadcast_arrays(self.per_class, table), -1) for table in tables]
        found = [places(ax, each.reshape(-1, 2)).reshape(each.shape) for each in points]
        return picture, found, [to_hex(line.get_color()) for line in ax.get_lines()]

    def _draw(self, labels: int, draw: int) -> tuple[Image.Image, str]:
        chosen = few_per_class(self.dataset, labels, draw - 1)
        place, classes = self.per_class.index(labels), self.dataset.classes
        columns = min(labels, SHOWN)
        rows = chosen.images.unflatten(0, (len(classes), labels))[:, :columns].flatten(0, 1)
        part = "" if labels <= SHOWN else f" (the first {SHOWN} of each)"
        picture = Image.new("RGB", self.size, "white")
        tiles.write(picture, (0, 4), f"draw {draw}: {labels} per class{part}")
        mosaic = tiles.mosaic(np.stack([plots.pixels(image) for image in rows]), columns)
        scale = min((MOSAIC - NAMES) / mosaic.shape[1], (HEIGHT - HEADER) / mosaic.shape[0])
        height, width = (round(side * scale) for side in mosaic.shape[:2])
        picture.paste(Image.fromarray(tiles.resize(mosaic, height, width)), (NAMES, HEADER))
        for i, name in enumerate(classes):
            tiles.write(picture, (0, HEADER + (i + 0.5) * height / len(classes)), name, 13, anchor="lm")
        plot, where, colours = self._plot()
        plot = plot.copy()
        pen = ImageDraw.Draw(plot)
        for spots, ink in zip(where, colours, strict=True):
            x, y = spots[draw - 1, place]
            if np.isfinite(y):  # a study that is not finished has no result here
                pen.ellipse((x - 8, y - 8, x + 8, y + 8), outline=ink, width=2)
        picture.paste(plot, (MOSAIC + GAP, 0))
        found = ", ".join(f"{name} {table[draw - 1, place]:.1%}" for name, table in self.results.items())
        caption = (
            f"{labels} label{'s' * (labels > 1)} per class, draw {draw}: {len(chosen.labels)} images of "
            f"{len(classes)} classes. Accuracy with this draw: {found}."
        )
        return picture, caption


def prefix(model: ViT) -> int:
    """Positions before those of the patches."""
    return model.config.num_class_tokens


def repeated(pos_embed: Tensor, num_patches: int, num_prefix_tokens: int = 1) -> Tensor:
    """What not to do: the patches' embeddings in reading order, again from the start when they run out.

    >>> repeated(torch.arange(4.0).view(1, 4, 1), 7)[0, :, 0].tolist()
    [0.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]
    """
    table = pos_embed[:, num_prefix_tokens:]
    times = math.ceil(num_patches / table.shape[1])
    return torch.cat([pos_embed[:, :num_prefix_tokens], table.repeat(1, times, 1)[:, :num_patches]], dim=1)
