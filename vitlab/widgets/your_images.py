"""Lesson 07: one's own pictures, the model's answer, and what each map says that it rests on."""

import html
import io
from collections.abc import Callable, Sequence
from functools import lru_cache

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vitlab import data
from vitlab.attention import maps
from vitlab.data.folders import why_skipped
from vitlab.data.pictures import ENDINGS, read_picture
from vitlab.patches import as_pair
from vitlab.plots import pixels
from vitlab.training import refuse_other_order
from vitlab.vit import ViT
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer

PANEL = 288  # the longer side of the picture and of its map, in pixels
BARS = 240  # width of the panel with the model's answer
GAP = 20
HEADER = 26
SCALE = 34  # the strip of colours under a map, with its two numbers
SHOWN = 5  # classes in the answer
OWN_CHOICE = -1  # the class asked for: the one that the model predicts
CLASS_BLIND = ("rollout", "class_attention", *maps.BASELINES)  # the same map whatever the class


class MapExplorer(Explorer):
    """A picture as the model takes it, a map of what its answer rests on, and the answer itself.

    `pictures` maps names to pictures uint8 (3, H, W) of any size, such as `data.photos()`; each is cropped
    and resized by `data.fit_picture`. `classes` are the names of the model's classes, `asked` the numbers of
    those that can be asked for (default: all), `names` the maps offered, of `vitlab.attention.maps`. A map is
    computed once, when it is first wanted, and kept. Raises ValueError where names and classes do not fit.

    >>> from vitlab import ViTConfig
    >>> blank = {"blank": torch.zeros(3, 40, 60, dtype=torch.uint8)}
    >>> explorer = MapExplorer(ViT(ViTConfig()), blank, list("abcdefghij"))
    >>> explorer.set(map="local_contrast")
    >>> explorer.caption[:55]
    'blank: the model says a 10.0%, then b 10.0%, c 10.0%. A'
    """

    def __init__(
        self,
        model: ViT,
        pictures: dict[str, Tensor],
        classes: Sequence[str],
        asked: Sequence[int] | None = None,
        names: Sequence[str] = tuple(maps.MAPS),
    ):
        config = model.config
        if len(classes) != config.num_classes:
            raise ValueError(f"the model has {config.num_classes} classes; got {len(classes)} names")
        refuse_other_order(model, classes)
        self.model, self.pictures, self.classes = model, pictures, list(classes)
        self.shown = tiles.fitted(as_pair(config.image_size), (PANEL, PANEL))
        self._input, self._answer = lru_cache(self._input), lru_cache(self._answer)
        self._map = lru_cache(maxsize=1024)(self._map)
        asked = range(len(classes)) if asked is None else asked
        own = [("the model's own choice", OWN_CHOICE)]
        controls = {
            "image": ipywidgets.Dropdown(options=list(pictures), description="picture"),
            "map": ipywidgets.Dropdown(
                options=[(name.replace("_", " "), name) for name in names], description="map"
            ),
            "asked": ipywidgets.Dropdown(
                options=own + [(classes[c], c) for c in asked],
                value=OWN_CHOICE,
                description="class asked for",
            ),
            "smooth": ipywidgets.Checkbox(value=False, description="smooth", indent=False),
        }
        super().__init__(self.draw, controls, size=(2 * PANEL + BARS + 2 * GAP, HEADER + PANEL + SCALE))

    def add(self, name: str) -> None:
        """Offer and choose a picture that `pictures` has now, or has anew."""
        for remembered in (self._input, self._answer, self._map):
            remembered.cache_clear()
        self.offer("image", self.pictures, name)

    def _input(self, image: str) -> Tensor:
        """A picture as the model takes it, (C, H, W) uint8."""
        return data.fit_picture(
            self.pictures[image], self.model.config.image_size, self.model.config.in_chans
        )

    def _floats(self, image: str) -> Tensor:
        return data.normalise(self._input(image)[None]).to(next(self.model.parameters()).device)

    def _answer(self, image: str) -> Tensor:
        """The probability of each class, (classes,)."""
        inputs = self._floats(image)
        with torch.inference_mode(), maps.looking_at(self.model, inputs):
            return self.model(inputs).softmax(dim=-1)[0].cpu()

    def _map(self, image: str, name: str, asked: int | None) -> Tensor:
        """One map (h, w)."""
        return maps.MAPS[name](self.model, self._floats(image), asked)[0].detach().cpu()

    def draw(self, image: str, map: str, asked: int, smooth: bool) -> tuple[Image.Image, str]:
        """The three panels and the numbers in them."""
        shares = self._answer(image)
        blind, own = map in CLASS_BLIND, int(shares.argmax())
        words = "its own choice" if asked == OWN_CHOICE else self.classes[asked]
        asked = own if asked == OWN_CHOICE else asked
        values = self._map(image, map, None if blind else asked)
        under = tiles.resize(pixels(self._input(image)), *self.shown)
        picture = Image.new("RGB", self.size, "white")
        tiles.write(picture, (0, 4), shortened(image))
        picture.paste(Image.fromarray(under), (0, HEADER))
        self._map_panel(picture, map, values, under, smooth)
        self._answer_panel(picture, shares, asked)
        said = self._said(image, shares, words)
        return picture, f"{said}\n{self._told(map, values, shares, asked)}"

    def _said(self, image: str, shares: Tensor, asked: str) -> str:
        order = shares.argsort(descending=True, stable=True).tolist()
        first, *others = [f"{self.classes[c]} {shares[c]:.1%}" for c in order[:3]]
        return f"{image}: the model says {first}, then {', '.join(others)}. Asked for: {asked}."

    def _told(self, map: str, values: Tensor, shares: Tensor, asked: int) -> str:
        (rows, columns), (row, column) = values.shape, divmod(int(values.argmax()), values.shape[1])
        name = map.replace("_", " ")
        if map in CLASS_BLIND:
            which = f"{name} is the same whichever class is asked for"
        else:
            which = f"{name} for {self.classes[asked]} ({shares[asked]:.1%})"
        return (
            f"{which}; from {values.min():.3g} to {values.max():.3g}, largest in row {row + 1} of {rows}, "
            f"column {column + 1} of {columns}; half of it lies on {half(values):.0%} of the patches."
        )

    def _map_panel(
        self, picture: Image.Image, name: str, values: Tensor, under: np.ndarray, smooth: bool
    ) -> None:
        left, low, high = PANEL + GAP, float(values.min()), float(values.max())
        if smooth:
            coloured = tiles.colour(smoothly(values, self.shown), low, high)
        else:
            coloured = tiles.resize(tiles.colour(values.numpy(), low, high), *self.shown)
        shown = (0.7 * coloured + 0.3 * under.mean(-1, keepdims=True)).astype(np.uint8)
        tiles.write(picture, (left, 4), name.replace("_", " "))
        picture.paste(Image.fromarray(shown), (left, HEADER))
        tiles.scale(picture, (left, HEADER + PANEL + 4), PANEL, f"{low:.3g}", f"{high:.3g}")

    def _answer_panel(self, picture: Image.Image, shares: Tensor, asked: int) -> None:
        """The likeliest classes, and the one asked for if it is not among them, as bars."""
        left = 2 * (PANEL + GAP)
        order = shares.argsort(descending=True, stable=True).tolist()[:SHOWN]
        tiles.write(picture, (left, 4), "the model's answer")
        for i, c in enumerate(order if asked in order else [*order[:-1], asked]):
            top, share = HEADER + 50 * i, float(shares[c])
            mark = " (asked for)" if c == asked else ""
            tiles.write(picture, (left, top), f"{shortened(self.classes[c], 18)} {share:.1%}{mark}", size=13)
            picture.paste("#dddddd", (left, top + 20, left + BARS, top + 34))
            picture.paste("#404040", (left, top + 20, left + round(BARS * share), top + 34))


class PictureUpload:
    """A button that reads picture files into `pictures` under their names, and says what it did.

    `then` is called with each new name. Works with ipywidgets 7 and 8; by keyboard: Tab, then Space.

    >>> pictures = {}
    >>> upload = PictureUpload(pictures)
    >>> upload.take([("notes.txt", b"no picture")])
    >>> upload.said
    'notes.txt: no picture; what is read is JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF.'
    """

    def __init__(self, pictures: dict[str, Tensor], then: Callable[[str], None] | None = None):
        self.pictures, self.then, self.said = pictures, then, ""
        self.button = ipywidgets.FileUpload(
            accept=ENDINGS, multiple=True, description="Add a picture", layout={"width": "auto"}
        )
        self._text = ipywidgets.HTML()
        self.widget = ipywidgets.HBox([self.button, self._text], layout={"flex_flow": "row wrap"})
        self.button.observe(lambda change: self.take(uploaded(change.new)), names="value")

    def take(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Read these files, given as (name, content)."""
        words = []
        for name, content in files:
            try:
                picture, remark = read_picture(io.BytesIO(content))
            except Exception as error:  # Pillow raises nearly anything for a damaged file
                words.append(f"{name}: {why_skipped(error)}.")
                continue
            self.pictures[name] = picture
            doubt = f", but {remark}" if remark else ""
            words.append(f"{name}: {picture.shape[1]} × {picture.shape[2]} pixels, added{doubt}.")
            if self.then is not None:
                self.then(name)
        self.said = " ".join(words)
        self._text.value = f'<div role="status">{html.escape(self.said)}</div>'

    def _repr_mimebundle_(self, **_kwargs) -> dict:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/plain": "In a live notebook: a button that adds a picture of yours.",
        }


def uploaded(value: dict | Sequence[dict]) -> list[tuple[str, bytes]]:
    """What a FileUpload holds, as (name, content): a dict by name in ipywidgets 7, dicts with names in 8.

    >>> uploaded({"a.png": {"content": b"7"}}) + uploaded(({"name": "b.png", "content": memoryview(b"8")},))
    [('a.png', b'7'), ('b.png', b'8')]
    """
    files = value.items() if isinstance(value, dict) else [(file["name"], file) for file in value]
    return [(name, bytes(file["content"])) for name, file in files]


def smoothly(values: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) as an image (H, W), linear between the middles of the patches.

    >>> smoothly(torch.tensor([[0.0, 1.0]]), (1, 4)).round(2).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    return F.interpolate(values[None, None], size=size, mode="bilinear", align_corners=False)[0, 0].numpy()


def half(values: Tensor) -> float:
    """The least share of the patches that hold half of a map, counted from its least value.

    >>> half(torch.tensor([[1.0, 1.0], [1.0, 9.0]]))
    0.25
    """
    above = (values - values.min()).flatten().sort(descending=True).values.double()
    held = above.cumsum(0) >= above.sum() / 2
    return (int(held.int().argmax()) + 1) / len(above)


def shortened(text: str, length: int = 36) -> str:
    """At most `length` letters, so that a file's name fits over its picture.

    >>> shortened("a long name", 7)
    'a long…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"
