"""What all plots share: arrays of any library, Axes, colours, mosaics."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.transforms import Bbox

from vitlab import alt_text
from vitlab.alt_text import describe
from vitlab.wording import counted, listed

DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73")  # of Okabe and Ito's palette: told apart by every eye


def pixels(picture) -> np.ndarray:
    """One image (C, H, W), uint8 or float in [-1, 1] -> RGB uint8 (H, W, 3), as screens want it.

    >>> pixels(np.array([[[-1.0, 0.0, 1.0]]]))[0].tolist()
    [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    """
    array = as_array(picture)
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        fix = {4: "; pick one with images[0]", 2: "; add the channel with image[None]"}.get(array.ndim, "")
        raise ValueError(f"an image has the shape (C, H, W) with C = 1 or 3; got {array.shape}{fix}")
    if array.dtype != np.uint8:
        if array.dtype.kind != "f":
            raise ValueError(f"an image is uint8, or float in [-1, 1]; got {array.dtype}")
        array = ((array.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    return np.broadcast_to(array.transpose(1, 2, 0), (*array.shape[1:], 3)).copy()


def as_array(values) -> np.ndarray:
    """numpy from torch (any device, any precision), numpy or lists."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The Axes given, or new ones that the notebook shows by itself at the end of the cell."""
    alt_text.in_notebooks()
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def around(array: np.ndarray, width: float, room: float = 0.0) -> tuple[float, float]:
    """Size in inches of a figure that an image just fills, with `room` at its right for a colour bar."""
    return width + room, min(2 * width, width * array.shape[0] / array.shape[1]) + 0.3


def titled(ax: Axes, title: str | None, pad: float | None = None) -> Axes:
    if title:
        ax.set_title(title, fontsize=11, pad=pad)
    return ax


def legend_below(ax: Axes) -> Axes:
    """Move the legend below the axes, where lines leave no corner free.

    >>> ax = axes(None, (4, 3))
    >>> _ = ax.plot([1, 2], label="loss")
    >>> legend_below(ax).get_legend().get_texts()[0].get_text()
    'loss'
    """
    if ax.get_legend_handles_labels()[1]:
        columns = 2 if ax.figure.get_figwidth() > 5 else 1  # inches; a legend squeezes narrower axes
        ax.legend(fontsize=9, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    return ax


def with_legend(ax: Axes) -> Axes:
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=9)
    ax.grid(alpha=0.3)
    return ax


def style(i: int) -> tuple[str, str, str]:
    """Colour, dashes and marker of the i-th line: each alone tells it from its neighbours."""
    return COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]


def size_of(array: np.ndarray) -> str:
    return f"{array.shape[0]} × {array.shape[1]}"


def colour_bar(ax: Axes, shown, label: str) -> Colorbar:
    """A bar at the right of what is drawn, and as tall: Axes of pictures are often lower than their room."""
    bar = ax.inset_axes((1, 0, 0, 1))

    def beside(bar: Axes, renderer) -> Bbox:
        drawn = ax.get_position()
        inch = drawn.width * ax.figure.dpi / ax.bbox.width  # the figure's own width changes as it is cropped
        return Bbox.from_bounds(drawn.x1 + 0.1 * inch, drawn.y0, 0.12 * inch, drawn.height)

    bar.set_axes_locator(beside)
    return ax.figure.colorbar(shown, cax=bar, label=label)


def described_as_many(ax: Axes, thing: str, count: int, titles, more: str = "") -> Axes:
    """The same Axes, described as so many images or maps, with the names that stand above them."""
    names = listed([] if titles is None else titles)
    describe(ax, f"{counted(count, thing)}{more}" + (f": {names}" if names else ""))
    return ax


def mosaic(arrays, titles, columns, title, ax, size=10, inch=None) -> tuple[Axes, list]:
    """Arrays as images in reading order on one Axes: each fills a cell of 1 x 1, its title above it.

    `inch` is the side of a cell on an Axes that is given: so that a title, which has a size of its own, fits.
    """
    if len(arrays) == 0:
        raise ValueError("no pictures to show; give at least one")
    columns = columns or min(len(arrays), 8)
    rows = -(-len(arrays) // columns)
    titles = [None] * len(arrays) if titles is None else list(titles)
    if len(titles) != len(arrays):
        raise ValueError(f"{len(arrays)} pictures take as many titles; got {len(titles)}")
    inch = inch or min(1.8, 8.5 / columns)
    lines = max(str(name).count("\n") + 1 if name is not None else 0 for name in titles)
    step = 1.06 + 0.2 * lines / inch  # a line of text is 0.2 inches high, however small the pictures
    ax = axes(ax, (max(inch * columns, 2.5), inch * rows * step + 0.3))
    shown = []
    for i, (array, name) in enumerate(zip(arrays, titles, strict=True)):
        height, width = array.shape[0] / max(array.shape[:2]), array.shape[1] / max(array.shape[:2])
        x, y = i % columns * 1.06 + 0.5, i // columns * step + 0.5
        extent = (x - width / 2, x + width / 2, y + height / 2, y - height / 2)
        smoothly = max(array.shape[:2]) > 100 * inch  # else a photograph shown smaller gets moiré
        interpolation = "antialiased" if smoothly else "nearest"
        shown.append(ax.imshow(array, extent=extent, interpolation=interpolation))
        if name is not None:
            ax.text(x, y - height / 2 - 0.03, name, ha="center", va="bottom", fontsize=size)
    ax.set(xlim=(-0.03, columns * 1.06 - 0.03), ylim=((rows - 1) * step + 1.03, 1 - step), aspect="equal")
    ax.set_axis_off()
    return titled(ax, title), shown
