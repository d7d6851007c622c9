"""Fast pictures from arrays, for explorers that must redraw at once: numpy and PIL, no axes."""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINEST = 6  # patches shown smaller than this get no grid: the lines would hide what is between them


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


@lru_cache
def _table(cmap: str) -> np.ndarray:
    """The 256 colours of a matplotlib colour map, (256, 3) uint8."""
    return matplotlib.colormaps[cmap](np.arange(256), bytes=True)[:, :3]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib ships and writes with, so that all pictures look alike on every machine."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
