"""Lesson 01: what the patch size does to the sequence, and to its cost."""

from functools import lru_cache, partial
from time import perf_counter

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitlab import data
from vitlab.encoder import Attention
from vitlab.patches import common_divisors, grid_size
from vitlab.plots import pixels
from vitlab.widgets import remedies, tiles
from vitlab.widgets.clicks import Area
from vitlab.widgets.explorer import Explorer

PANEL = 430  # side of each of the two panels, in pixels
HEADER = 26
NUMBERED = 24  # patches shown smaller than this carry no number: it would be wider than the patch
SMALLEST = 5  # patches are never shown smaller than this; a longer sequence is cut short
LONGEST_SIDE = 576  # an added picture is reduced to this, which is what the largest photo of the course has
FINE = 48  # and its sides are trimmed to multiples of this: it leaves ten sizes that divide
HEADS = 4
SECONDS = 0.02  # that all calls of a measurement take, unless one alone takes longer
MOST_TOKENS = 2500  # a longer sequence is not measured: a call takes more than about a tenth of a second


class ImageExplorer(Explorer):
    """The base of explorers that cut one of several images: image, patch size, further `controls`.

    `images` maps names to (C, H, W) images, uint8 or float in [-1, 1]; the slider offers the patch sizes that
    divide the one chosen, from `patch_size` on (default: about an eighth of the shorter side).
    """

    def __init__(
        self,
        images: dict[str, Tensor],
        patch_size: int | None,
        controls: dict[str, ipywidgets.ValueWidget],
        **options,
    ):
        self.images, first = images, next(iter(images))
        sizes = common_divisors(tuple(images[first].shape[-2:]))
        if patch_size is None:
            patch_size = nearest(sizes, min(images[first].shape[-2:]) / 8)
        grid_size(tuple(images[first].shape[-2:]), patch_size)  # the error about a size that does not divide
        image = ipywidgets.Dropdown(options=list(images), value=first, description="image")
        slider = ipywidgets.SelectionSlider(options=sizes, value=patch_size, description="patch size P")
        self.controls = {"image": image, "patch_size": slider, **controls}
        self.follow()
        for control in (image, slider):
            control.observe(lambda change: self._offer_sizes(change.owner), names="value")
        super().__init__(self.draw, self.controls, **options)

    def add(self, name: str) -> None:
        """Offer and choose a picture uint8 (3, H, W) that `images` has now, or has anew: a photo of any size.

        It is reduced to at most 576 pixels and trimmed to sides that many patch sizes divide.
        """
        height, width = self.images[name].shape[-2:]
        shrink = min(1, LONGEST_SIDE / max(height, width))
        size = tuple(_trimmed(max(1, round(side * shrink))) for side in (height, width))
        self.images[name] = data.fit_picture(self.images[name], size)
        with self.hold():
            self.offer("image", self.images, name)
            self._offer_sizes(self.controls["image"])  # the name may be the same, and the picture another

    def _offer_sizes(self, moved: ipywidgets.ValueWidget) -> None:
        """Another image, other sizes that divide it: keep P or the nearest to it."""
        slider = self.controls["patch_size"]
        with self.hold():
            if moved is not slider:
                before = slider.value
                slider.options = common_divisors(tuple(self.images[self.controls["image"].value].shape[-2:]))
                slider.value = nearest(slider.options, before)
            self.follow()

    def follow(self) -> None:
        """Bring the further controls in line with the image and the patch size chosen."""
        raise NotImplementedError


class PatchExplorer(ImageExplorer):
    """An image under its grid, beside the sequence of its patches in reading order (paper, section 3.1).

    One patch, counted from 1, is framed in both.

    `images` maps names to (C, H, W) images, uint8 or float in [-1, 1]. The slider offers only patch sizes
    that divide the image; in the box beside it any size may be tried, and for one that does not divide, crop,
    pad and resize are shown side by side. `embed_dim` is the projection's D. The cost of one attention layer
    is measured on `device` as soon as a length is on offer.

    >>> import torch
    >>> explorer = PatchExplorer({"blank": torch.zeros(1, 28, 28)}, patch_size=4)
    >>> explorer.set(typed=5)
    >>> explorer.caption[:47]
    '28 is not divisible by 5; use 1, 2, 4, 7, 14 or'
    """

    def __init__(
        self,
        images: dict[str, Tensor],
        patch_size: int | None = None,
        embed_dim: int = 96,
        device: str | torch.device = "cpu",
    ):
        self.embed_dim, self.device = embed_dim, torch.device(device)
        patch = ipywidgets.IntSlider(1, 1, 1, description="patch")
        typed = ipywidgets.IntText(description="or type any size")
        typed.observe(lambda change: self._slide(change.new), names="value")
        super().__init__(
            images, patch_size, {"typed": typed, "patch": patch}, size=(2 * PANEL + 20, HEADER + PANEL)
        )
        for shown in images.values():
            self._measure(shown)

    def _measure(self, shown: Tensor) -> None:
        """Have it known what each size that divides an image costs, before a control moves."""
        size = tuple(shown.shape[-2:])
        for rows, columns in (grid_size(size, each) for each in common_divisors(size)):
            if rows * columns < MOST_TOKENS:
                attention_cost(rows * columns + 1, self.embed_dim, self.device)

    def follow(self) -> None:
        """The box shows the slider's size."""
        slider = self.controls["patch_size"]
        self._measure(self.images[self.controls["image"].value])  # one that was added is new
        self.controls["typed"].value = slider.value
        rows, columns = grid_size(tuple(self.images[self.controls["image"].value].shape[-2:]), slider.value)
        self.controls["patch"].max = rows * columns

    def _slide(self, size: int) -> None:
        """The slider follows the typed size where it can."""
        if size in self.controls["patch_size"].options:
            self.controls["patch_size"].value = size

    def draw(self, image: str, patch_size: int, typed: int, patch: int = 1) -> tuple[Image.Image, str]:
        """Both panels and the numbers for `typed`; `patch_size` differs only if it does not divide."""
        size = tuple(self.images[image].shape[-2:])
        try:
            rows, columns = grid_size(size, typed)
        except ValueError as error:
            why = f"{error} (nearest: {nearest(common_divisors(size), typed)})"
            if not 1 <= typed <= max(size):
                raise ValueError(why) from None
            shown = remedies.draw(pixels(self.images[image]), typed, self.size)
            return shown, f"{why}.\n{_remedies(size, typed)}"
        picture = Image.new("RGB", self.size, "white")
        array = pixels(self.images[image])
        whole = tiles.gridded(array, rows, columns, (PANEL, PANEL))
        picture.paste(whole, (0, HEADER))
        tiles.frame(picture, (0, HEADER), whole.size[::-1], (rows, columns), patch - 1)
        sequence, shown = _sequence_panel(array, rows, columns)
        picture.paste(sequence, (PANEL + 20, HEADER))
        n = rows * columns
        if patch <= shown:
            left, top, side = _in_sequence(patch - 1, n, columns)
            tiles.frame(picture, (PANEL + 20 + left, HEADER + top), (side, side), (1, 1), 0)
        tiles.write(picture, (0, 4), f"{image}: {rows} × {columns} patches")
        part = f"{n:,} patches" if shown == n else f"the first {shown:,} of {n:,} patches"
        tiles.write(picture, (PANEL + 20, 4), f"in reading order: {part}")
        place = f"Patch {patch:,} is in row {(patch - 1) // columns + 1}, column {(patch - 1) % columns + 1}."
        caption = f"{self._sizes(image, typed, rows, columns)} {place}\n{self._cost(n + 1)}"
        caption += _too_fine(PANEL, size, typed)
        return picture, caption + (f"\nOnly the first {shown:,} patches are shown." if shown < n else "")

    def areas(self) -> list[Area]:
        """A patch in the image, or in the sequence, is the one that is framed."""
        image, size = self.controls["image"].value, self.controls["patch_size"].value
        if self.controls["typed"].value != size:
            return []
        shape = tuple(self.images[image].shape[-2:])
        (rows, columns), (height, width) = grid_size(shape, size), tiles.fitted(shape, (PANEL, PANEL))
        found = [
            Area((0, HEADER, width, height), (rows, columns), lambda r, c: {"patch": r * columns + c + 1})
        ]
        side, across, down = _fit_sequence(rows * columns, columns)
        wide, high = side + _gap(side), side + _label(side) + _gap(side)
        full, rest = divmod(min(rows * columns, across * down), across)
        for lines, length, first in ((full, across, 0), (1, rest, full)):
            if lines and length:
                box = (PANEL + 20, HEADER + first * high, length * wide, lines * high)
                choose = partial(_nth, across, first)
                found.append(Area(box, (lines, length), choose))
        return found

    def _sizes(self, image: str, patch_size: int, rows: int, columns: int) -> str:
        channels, height, width = self.images[image].shape
        numbers, n = channels * patch_size**2, rows * columns
        return (
            f"{image}: {height} × {width} pixels, {channels} channel{'s' * (channels > 1)}, cut with "
            f"P = {patch_size} into {rows} × {columns} patches: N = {n:,}, each a vector of "
            f"P²C = {numbers:,} numbers.\n"
            f"The projection to D = {self.embed_dim} has P²C·D + D = {(numbers + 1) * self.embed_dim:,} "
            f"parameters; one head's attention over N + 1 tokens has (N + 1)² = {(n + 1) ** 2:,} entries."
        )

    def _cost(self, tokens: int) -> str:
        layer = f"One attention layer of {HEADS} heads"
        if tokens > MOST_TOKENS:
            weight_bytes, multiply_adds = 4 * HEADS * tokens**2, 2 * tokens**2 * self.embed_dim
            return (
                f"{layer}: not measured, it would take long. By the formulas, its weights, {HEADS}·(N + 1)² "
                f"numbers of 4 bytes, fill {_bytes(weight_bytes)}; scores and weighted sum, 2·(N + 1)²·D, "
                f"are {multiply_adds / 1e9:,.1f} · 10⁹ multiply-adds."
            )
        seconds, weight_bytes = attention_cost(tokens, self.embed_dim, self.device)
        where = "one thread of this machine's CPU" if self.device.type == "cpu" else "this machine's GPU"
        return (
            f"{layer}, measured on {where}: {1000 * seconds:.3g} ms; its weights fill {_bytes(weight_bytes)}."
        )


@lru_cache
def attention_cost(tokens: int, embed_dim: int, device: torch.device) -> tuple[float, int]:
    """Seconds that one attention layer of 4 heads takes with its weights made in the open, and their bytes.

    The least of several calls, as what disturbs a measurement only adds to it. On a CPU with one thread, as
    in the lesson's own measurement: on a busy machine, threads wait for each other. Kept for each length.

    >>> attention_cost(5, 96, torch.device("cpu"))[1] == 4 * 5 * 5 * 4  # heads, queries, keys, bytes
    True
    """
    threads, sizes, times = torch.get_num_threads(), [], []
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():  # the learner's random numbers stay
            attention = Attention(embed_dim, HEADS).to(device)
            x = torch.zeros(1, tokens, embed_dim, device=device)
            attention.observers.append(lambda weights: sizes.append(weights.nbytes))
            while not times or (sum(times) + times[-1] < SECONDS and len(times) < 20):
                begin = perf_counter()
                attention(x)[0, 0, 0].item()  # reading a number makes a GPU finish first
                times.append(perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return min(times), sizes[0]


def nearest(sizes: list[int], wanted: float) -> int:
    """The size that is nearest to the one wanted.

    >>> nearest([1, 2, 4, 7], 5)
    4
    """
    return min(sizes, key=lambda size: abs(size - wanted))


def _sequence_panel(array: np.ndarray, rows: int, columns: int) -> tuple[Image.Image, int]:
    """The patches one after the other, as large as the panel allows, and how many there is room for."""
    side, across, down = _fit_sequence(rows * columns, columns)
    shown = min(rows * columns, across * down)
    whole = tiles.resize(array, rows * side, columns * side)  # each patch becomes a tile of whole pixels
    patches = whole.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)[:shown]
    label, gap = _label(side), _gap(side)
    framed = np.full((shown, side + label, side, 3), 255, np.uint8)
    framed[:, :side] = patches
    picture = Image.fromarray(tiles.mosaic(framed, across, gap))
    if label:
        for i in range(shown):
            place = (i % across) * (side + gap) + side / 2, (i // across) * (side + label + gap) + side
            tiles.write(picture, place, str(i + 1), size=12, anchor="ma")
    return picture, shown


def _fit_sequence(n: int, columns: int) -> tuple[int, int, int]:
    """Side of a patch on the screen, patches across and down. Never wrapped where the image's own rows end:
    that would show the image again, and the sequence knows nothing of rows."""
    for side in range(PANEL // 2, SMALLEST - 1, -1):
        across = (PANEL + _gap(side)) // (side + _gap(side))
        across -= across == columns and columns < n
        down = (PANEL + _gap(side)) // (side + _label(side) + _gap(side))
        if across * down >= n:
            break
    return side, across, down


def _in_sequence(patch: int, n: int, columns: int) -> tuple[int, int, int]:
    """Left, top and side in the sequence's panel of a patch that is shown there."""
    side, across, _ = _fit_sequence(n, columns)
    high = side + _label(side) + _gap(side)
    return patch % across * (side + _gap(side)), patch // across * high, side


def _nth(across: int, first: int, line: int, place: int) -> dict:
    """The patch at a place of a line of the sequence."""
    return {"patch": (first + line) * across + place + 1}


def _label(side: int) -> int:
    return 15 if side >= NUMBERED else 0


def _gap(side: int) -> int:
    return max(1, side // 8)


def _remedies(size: tuple[int, int], patch_size: int) -> str:
    """The three remedies in words."""
    words = remedies.told(size, patch_size)
    lines = [
        f"{name.capitalize()} to {height} × {width}: {words[name]}; "
        f"{remedies.count((height, width), patch_size)}."
        for name, (height, width) in remedies.remedies(size, patch_size).items()
    ]
    lines += ["Striped is what is cut off, or added. Resizing computes every pixel anew."]
    padded = remedies.remedies(size, patch_size)["pad"]
    return "\n".join(lines) + _too_fine(remedies.SIDE, padded, patch_size)


def _too_fine(panel: int, size: tuple[int, int], patch_size: int) -> str:
    """A line for the caption if `size` (H, W), filling a panel, leaves no room for a grid."""
    fine = patch_size * panel / max(size) < tiles.FINEST
    return "\nThe grid is too fine to be drawn." if fine else ""


def _trimmed(side: int) -> int:
    return side // FINE * FINE if side >= FINE else side


def _bytes(count: float) -> str:
    """A number of bytes in a unit that leaves it readable."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
