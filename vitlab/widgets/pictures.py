"""Pictures as explorers show them: of one size, and as PNG for the page and for the notebook."""

import io
import struct
import zlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

Picture = Figure | Image.Image | np.ndarray


def fit(picture: Picture, size: tuple[int, int]) -> Image.Image:
    """`picture` as an RGB image of exactly `size` (width, height): scaled, centred on white.

    Small pictures are enlarged by a whole factor without smoothing, so that a pixel stays a square.

    >>> fit(np.zeros((28, 28, 3), np.uint8), (100, 60)).size
    (100, 60)
    """
    image = _as_pil(picture)
    if image.size == tuple(size):
        return image
    factor = min(size[0] / image.width, size[1] / image.height)
    factor = int(factor) if factor >= 1 else factor
    scaled = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    image = image.resize(scaled, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
    canvas = Image.new("RGB", tuple(size), "white")
    canvas.paste(image, ((size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2))
    return canvas


def png(image: Image.Image) -> bytes:
    """An RGB `image` as PNG, compressed lightly: it travels to the browser at every move of a slider.

    Of each row the difference to the one above is kept (filter 2 of the PNG specification, section 9). PIL
    tries every filter on every row, and takes half as long again for a photo, and twice as long for a plot.

    >>> picture = Image.new("RGB", (4, 3), "teal")
    >>> Image.open(io.BytesIO(png(picture))).tobytes() == picture.tobytes()
    True
    """
    width, height = image.size
    pixels = np.asarray(image).reshape(height, 3 * width)
    rows = np.full((height, 1 + 3 * width), 2, np.uint8)  # each row begins with its filter
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])  # modulo 256
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits of red, green and blue
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG file: length, kind, content and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def light(picture: bytes) -> bytes:
    """The same PNG in 256 colours: a third of the size, for the picture that is stored in the notebook."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture)).quantize(256).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _as_pil(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if isinstance(picture, Figure):
        canvas = FigureCanvasAgg(picture)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,):
        return Image.fromarray(picture)
    raise TypeError(
        "draw returns a matplotlib Figure, a PIL image or an RGB uint8 array (H, W, 3); got "
        + (f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__)
    )
