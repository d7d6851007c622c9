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
from torch import Tensor, nn

from vitlab import data
from vitlab.attention import View, maps
from vitlab.attention.reading import check_reads, covered, looking_at, view_of
from vitlab.attention.rollout import difference_in_words
from vitlab.data.folders import why_skipped
from vitlab.data.pictures import ENDINGS, read_picture
from vitlab.patches import as_pair
from vitlab.plots import pixels
from vitlab.training import refuse_other_order
from vitlab.vit import ViT
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer
from vitlab.wording import counted

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

    `model` is a `ViT`, or a view of any other (`vitlab.attach`). `pictures` maps names to pictures uint8
    (3, H, W) of any size, such as `data.photos()`; each is cropped and resized by `data.fit_picture`, to
    `image_size` (default: the model's own). `classes` are the names of the model's classes, of which a model
    without a head has none; `asked` the numbers of those that can be asked for (default: all); `names` the
    maps offered, of `vitlab.attention.maps` (default: all that the model can have). A map is computed once,
    when it is first wanted, and kept. Raises ValueError where names and classes do not fit, and for a model
    of which a map or its images' mean and deviation cannot be known.

    >>> from vitlab import ViTConfig
    >>> blank = {"blank": torch.zeros(3, 40, 60, dtype=torch.uint8)}
    >>> explorer = MapExplorer(ViT(ViTConfig()), blank, list("abcdefghij"))
    >>> explorer.set(map="local_contrast")
    >>> explorer.caption[:55]
    'blank: the model says a 10.0%, then b 10.0%, c 10.0%. A'
    """

    def __init__(
        self,
        model: ViT | View,
        pictures: dict[str, Tensor],
        classes: Sequence[str] = (),
        asked: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        image_size: int | tuple[int, int] | None = None,
    ):
        self.view = view = view_of(model)
        self.size_taken = as_pair(view.image_size if image_size is None else image_size)
        self.pictures, self.classes = pictures, list(classes)
        self._input, self._answer = lru_cache(self._input), lru_cache(self._answer)
        self._map, self._rollout = lru_cache(maxsize=1024)(self._map), lru_cache(self._rollout)
        check_reads(view)
        refuse_other_order(view.model, classes)
        check_outputs(view, self._answer(next(iter(pictures))), classes)
        first = covered(self._input(next(iter(pictures))), view)
        self.shown = tiles.fitted(tuple(first.shape[-2:]), (PANEL, PANEL))
        offered = maps_of(view) if names is None else names
        controls = {
            "image": ipywidgets.Dropdown(options=list(pictures), description="picture"),
            "map": ipywidgets.Dropdown(
                options=[(name.replace("_", " "), name) for name in offered], description="map"
            ),
            "asked": self._classes_control(range(len(classes)) if asked is None else asked),
            "smooth": ipywidgets.Checkbox(value=False, description="smooth", indent=False),
        }
        super().__init__(self.draw, controls, size=(2 * PANEL + BARS + 2 * GAP, HEADER + PANEL + SCALE))

    def _classes_control(self, asked: Sequence[int]) -> ipywidgets.Dropdown:
        """The classes that can be asked for; of a model without any, the control says so."""
        own = [("the model's own choice", OWN_CHOICE)] if self.classes else [("it has none", OWN_CHOICE)]
        return ipywidgets.Dropdown(
            options=own + [(self.classes[c], c) for c in asked],
            value=OWN_CHOICE,
            description="class asked for",
            disabled=not self.classes,
        )

    def models(self) -> list[nn.Module]:
        """The model that is asked."""
        return [self.view.model]

    def ask_anew(self) -> None:
        """Drop inputs, answers and maps of all pictures."""
        for remembered in (self._input, self._answer, self._map, self._rollout):
            remembered.cache_clear()

    def add(self, name: str) -> None:
        """Offer and choose a picture that `pictures` has now, or has anew."""
        self.ask_anew()
        self.offer("image", self.pictures, name)

    def _input(self, image: str) -> Tensor:
        """A picture as the model takes it, (C, H, W) uint8."""
        return data.fit_picture(self.pictures[image], self.size_taken, self.view.channels)

    def _floats(self, image: str) -> Tensor:
        return self.view.prepare(self._input(image)[None].to(next(self.view.model.parameters()).device))

    def _answer(self, image: str) -> Tensor:
        """The model's output for a picture, such as its logits (classes,)."""
        inputs = self._floats(image)
        with torch.inference_mode(), looking_at(self.view, inputs):
            return self.view(inputs)[0].float().cpu()

    def _map(self, image: str, name: str, asked: int | None) -> Tensor:
        """One map (h, w)."""
        if name == "rollout":
            return self._rollout(image)[0][0].cpu()
        return maps.MAPS[name](self.view, self._floats(image), asked)[0].detach().cpu()

    def _rollout(self, image: str) -> tuple[Tensor, Tensor]:
        """A picture's rollout (1, h, w), and how far its row is from the mean row of all tokens, (1,)."""
        return maps.rollout_and_difference(self.view, self._floats(image))

    def draw(self, image: str, map: str, asked: int, smooth: bool) -> tuple[Image.Image, str]:
        """The three panels and the numbers in them."""
        output, blind = self._answer(image), map in CLASS_BLIND
        shares = output.softmax(dim=-1) if self.classes else None
        chosen = asked
        if self.classes and asked == OWN_CHOICE:
            chosen = int(shares.argmax())
        values = self._map(image, map, None if blind else chosen)
        under = tiles.resize(pixels(covered(self._input(image), self.view)), *self.shown)
        picture = Image.new("RGB", self.size, "white")
        tiles.write(picture, (0, 4), shortened(image))
        picture.paste(Image.fromarray(under), (0, HEADER))
        self._map_panel(picture, map, values, under, smooth)
        if not self.classes:
            tiles.write(picture, (2 * (PANEL + GAP), 4), "the model has no classes")
            said = f"{image}: the model gives {output.numel():,} numbers and no classes."
            return picture, f"{said}\n{map.replace('_', ' ')}; {self._told(values)}{self._remark(image, map)}"
        self._answer_panel(picture, shares, chosen)
        words = "its own choice" if asked == OWN_CHOICE else self.classes[asked]
        which = map.replace("_", " ")
        if blind:
            which += " is the same whichever class is asked for"
        else:
            which += f" for {self.classes[chosen]} ({shares[chosen]:.1%})"
        told = f"{self._told(values)}{self._remark(image, map)}"
        return picture, f"{self._said(image, shares, words)}\n{which}; {told}"

    def _said(self, image: str, shares: Tensor, asked: str) -> str:
        order = shares.argsort(descending=True, stable=True).tolist()
        first, *others = [f"{self.classes[c]} {shares[c]:.1%}" for c in order[:3]]
        return f"{image}: the model says {first}, then {', '.join(others)}. Asked for: {asked}."

    def _told(self, values: Tensor) -> str:
        (rows, columns), (row, column) = values.shape, divmod(int(values.argmax()), values.shape[1])
        return (
            f"from {values.min():.3g} to {values.max():.3g}, largest in row {row + 1} of {rows}, "
            f"column {column + 1} of {columns}; half of it lies on {half(values):.0%} of the patches."
        )

    def _remark(self, image: str, map: str) -> str:
        """Of a rollout, whether its row is that of the token which is read, or everybody's."""
        if map != "rollout" or self.view.reads not in ("token", "pair"):
            return ""
        return f" It {difference_in_words(float(self._rollout(image)[1]))}."

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


def maps_of(view: View) -> list[str]:
    """The maps that a view's model can have: those of a class where it has classes, and blocks to ask.

    >>> from vitlab import ViTConfig
    >>> maps_of(view_of(ViT(ViTConfig(num_classes=0))))
    ['rollout', 'class_attention', 'centred_gaussian', 'local_contrast']
    """
    without = ("attention_gradient", "relevance") if view.side_by_side else ()
    classes = view.classifies is not False
    return [name for name in maps.MAPS if name not in without and (classes or name in CLASS_BLIND)]


def check_outputs(view: View, output: Tensor, classes: Sequence[str]) -> None:
    """Raises ValueError where the names are not those of the outputs, (classes,), of a model with classes."""
    known = 0 if view.classifies is False else output.numel() if output.ndim == 1 else None
    if known is None:
        raise ValueError(f"the model gives {tuple(output.shape)} for an image, which are no classes")
    if len(classes) != known:
        raise ValueError(f"the model has {counted(known, 'class')}; got {counted(len(classes), 'name')}")


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
