"""Fast pictures from arrays, for explorers that must redraw at once: numpy and PIL, no axes."""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINEST = 6  # patches shown smaller than this get no grid: the lines would hide what is between them
SMALL = 10  # patches shown smaller than this are framed from outside: a frame inside would hide them
NUMBERED = 32  # cells shown smaller than this carry no number: three digits would hide what is below
NAMES, NUMBERS = (
    128,
    58,
)  # widths of the columns beside bars: "100.0%" and a line at the end of its bar are apart


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """RGB uint8 (h, w, 3) -> (height, width, 3): squares when enlarged, means over areas when reduced.

    >>> resize(np.zeros((4, 4, 3), np.uint8), 8, 16).shape
    (8, 16, 3)
    """
    enlarge = height >= pixels.shape[0] and width >= pixels.shape[1]
    method = Image.Resampling.NEAREST if enlarge else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


def colour(
    values: np.ndarray, low: float | None = None, high: float | None = None, cmap="viridis"
) -> np.ndarray:
    """Numbers of any shape -> RGB uint8 with one more axis, from `low` (default: the least) to `high`.

    >>> colour(np.array([[0.0, 1.0]])).tolist()
    [[[68, 1, 84], [253, 231, 36]]]
    """
    values = np.asarray(values, dtype=np.float64)
    low = values.min() if low is None else low
    high = values.max() if high is None else high
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return _table(cmap)[(share.clip(0, 1) * 255).round().astype(np.uint8)]


def mosaic(pictures: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """n RGB tiles (n, h, w, 3) -> one RGB array, in reading order, white between and after them.

    >>> mosaic(np.zeros((5, 8, 8, 3), np.uint8), columns=3, gap=2).shape
    (18, 28, 3)
    """
    n, height, width, _ = pictures.shape
    rows = -(-n // columns)
    padded = np.full((rows * columns, height + gap, width + gap, 3), 255, np.uint8)
    padded[:n, :height, :width] = pictures
    padded = padded.reshape(rows, columns, height + gap, width + gap, 3).swapaxes(1, 2)
    return padded.reshape(rows * (height + gap), columns * (width + gap), 3)[: -gap or None, : -gap or None]


def grid(pixels: np.ndarray, rows: int, columns: int) -> None:
    """Draw the lines between `rows` × `columns` patches into RGB uint8 (H, W, 3), unless they are finer than
    `FINEST`: white beside black, which is seen on any ground.

    >>> square = np.full((14, 14, 3), 128, np.uint8)
    >>> grid(square, 1, 2)
    >>> square[0, 6:10, 0].tolist()
    [128, 255, 0, 128]
    """
    height, width = pixels.shape[:2]
    if min(height / rows, width / columns) >= FINEST:
        for edge, shade in ((0, 255), (1, 0)):
            pixels[[i * height // rows + edge for i in range(1, rows)]] = shade
            pixels[:, [i * width // columns + edge for i in range(1, columns)]] = shade


def write(image: Image.Image, place: tuple[float, float], text: str, size: int = 14, halo=False, anchor="la"):
    """Write `text` on a PIL image at (x, y): black, or white with a black edge (`halo`).

    `size` is in pixels; `anchor` is PIL's: first letter l, m or r, second a (top), m (middle) or d (bottom).

    >>> canvas = Image.new("RGB", (40, 20), "white")
    >>> write(canvas, (20, 10), "49", anchor="mm")
    >>> canvas.getextrema()[0]
    (0, 255)
    """
    style = {"fill": "white", "stroke_width": 2, "stroke_fill": "black"} if halo else {"fill": "black"}
    ImageDraw.Draw(image).text(place, text, font=_font(size), anchor=anchor, **style)


def gridded(
    pixels: np.ndarray, rows: int, columns: int, room: tuple[int, int], first: int | None = 1
) -> Image.Image:
    """RGB uint8 (h, w, 3) under a grid of rows x columns, as large as `room` (height, width) allows.

    Cells are numbered from `first` where they leave something to see; None: never.

    >>> gridded(np.zeros((28, 14, 3), np.uint8), 4, 2, room=(200, 200)).size
    (100, 200)
    """
    height, width = fitted(pixels.shape, room)
    shown = resize(pixels, height, width).copy()
    grid(shown, rows, columns)
    picture = Image.fromarray(shown)
    if first is not None and width / columns >= NUMBERED:
        for i in range(rows * columns):
            place = (i % columns + 0.5) * width / columns, (i // columns + 0.5) * height / rows
            write(picture, place, str(i + first), size=13, halo=True, anchor="mm")
    return picture


def fitted(shape: tuple[int, ...], room: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the shape (h, w, ...) scaled to be as large as `room` (height, width) allows.

    >>> fitted((28, 56, 3), (100, 100))
    (50, 100)
    """
    scale = min(room[0] / shape[0], room[1] / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def frame(
    picture: Image.Image,
    corner: tuple[int, int],
    shown: tuple[int, int],
    grid: tuple[int, int],
    patch: int,
) -> None:
    """Frame one patch of a panel in white on black, which is seen on any ground: a small one from outside."""
    (height, width), (rows, columns) = shown, grid
    row, column = divmod(patch, columns)
    left, top = corner[0] + column * width // columns, corner[1] + row * height // rows
    right, bottom = corner[0] + (column + 1) * width // columns, corner[1] + (row + 1) * height // rows
    if min(right - left, bottom - top) < SMALL:
        left, top, right, bottom = left - 4, top - 4, right + 4, bottom + 4
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left, top, right - 1, bottom - 1), outline="black", width=4)
    pen.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline="white", width=2)


def scale(picture: Image.Image, place: tuple[int, int], width: int, low: str, high: str) -> None:
    """The colours of a map as a strip at (x, y), what its two ends mean below it; 30 pixels high.

    >>> canvas = Image.new("RGB", (100, 30), "white")
    >>> scale(canvas, (0, 0), 100, "-1", "1")
    >>> canvas.getpixel((0, 5)), canvas.getpixel((99, 5))
    ((68, 1, 84), (253, 231, 36))
    """
    x, y = place
    strip = colour(np.broadcast_to(np.linspace(0, 1, width), (10, width)))
    picture.paste(Image.fromarray(strip), place)
    write(picture, (x, y + 12), low, size=13)
    write(picture, (x + width, y + 12), high, size=13, anchor="ra")


def bars(picture: Image.Image, box: tuple[int, int, int, int], shares: dict[str, float]) -> None:
    """Shares in [0, 1] by name as bars, from top to bottom in the box (left, top, right, bottom).

    >>> canvas = Image.new("RGB", (300, 40), "white")
    >>> bars(canvas, (0, 0, 300, 40), {"Dress": 0.9, "Bag": 0.1})
    >>> canvas.getpixel((150, 10)), canvas.getpixel((150, 30))
    ((64, 64, 64), (221, 221, 221))
    """
    left, top, right, bottom = box
    room, step = right - left - NAMES - NUMBERS, (bottom - top) / len(shares)
    for i, (name, share) in enumerate(shares.items()):
        middle = top + (i + 0.5) * step
        upper, lower, start = round(middle - step / 4), round(middle + step / 4), left + NAMES
        write(picture, (left, middle), name, size=13, anchor="lm")
        picture.paste("#dddddd", (start, upper, start + room, lower))
        picture.paste("#404040", (start, upper, start + round(room * share), lower))
        write(picture, (right, middle), f"{share:.1%}", size=13, anchor="rm")


@lru_cache
def _table(cmap: str) -> np.ndarray:
    """The 256 colours of a matplotlib colour map, (256, 3) uint8."""
    return matplotlib.colormaps[cmap](np.arange(256), bytes=True)[:, :3]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib ships and writes with, so that all pictures look alike on every machine."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def strip(values: np.ndarray, limit: float, cell: int, height: int) -> Image.Image:
    """Numbers as cells, from black (-limit) to white (+limit), in a thin frame: white is seen on white.

    >>> strip(np.array([-1.0, 0.0, 1.0]), 1.0, 10, 22).size
    (30, 22)
    """
    shades = colour(values[None], -limit, limit, cmap="gray")
    strip = Image.fromarray(resize(shades, height, cell * len(values)))
    ImageDraw.Draw(strip).rectangle((0, 0, strip.width - 1, strip.height - 1), outline="#808080")
    return strip


def columns(
    picture: Image.Image, box: tuple, values: np.ndarray, ink: str, bar: float, marked: int | None = None
) -> None:
    """Numbers as bars from a line at 0, in the box (left, top, width, height); the one marked is black.

    Each takes `bar` pixels of the width.

    >>> picture = Image.new("RGB", (40, 20), "white")
    >>> columns(picture, (0, 0, 40, 20), np.array([1.0, 2.0]), "#a8a8a8", 20, marked=1)
    >>> picture.getpixel((5, 15)), picture.getpixel((25, 15))
    ((168, 168, 168), (0, 0, 0))
    """
    left, top, width, height = box
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    scale = (height - 1) / max(high - low, 1e-12)
    zero, pen = top + high * scale, ImageDraw.Draw(picture)
    for i, value in enumerate(values.tolist()):
        ends = sorted((zero, zero - value * scale))
        right = max(left + i * bar, left + (i + 1) * bar - (2 if bar >= 4 else 0) - 1)
        fill = "black" if i == marked else ink
        pen.rectangle((left + i * bar, ends[0], right, max(ends[1], ends[0] + 1)), fill=fill)
    pen.line((left, round(zero), left + width - 1, round(zero)), fill="black")
