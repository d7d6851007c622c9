"""Plots of images and of the patches that they are cut into."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke

from vitlab.alt_text import describe
from vitlab.patches import grid_size
from vitlab.plots.drawing import around, as_array, axes, described_as_many, mosaic, pixels, size_of, titled
from vitlab.wording import between, counted


def image(picture, title: str | None = None, ax: Axes | None = None) -> Axes:
    """One image (C, H, W), pixel by pixel.

    >>> image(np.zeros((1, 28, 28))).get_images()[0].get_array().shape
    (28, 28, 3)
    """
    array = pixels(picture)
    ax = axes(ax, around(array, 4))
    ax.imshow(array, interpolation="nearest")
    ax.set_axis_off()
    describe(ax, f"an image of {size_of(array)} pixels")
    return titled(ax, title)


def images(
    pictures, titles=None, columns: int | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Many images as a mosaic in reading order; they may differ in size. `titles` stand above each.

    >>> ax = images(np.zeros((6, 1, 28, 28)), titles="abcdef", columns=3)
    >>> len(ax.get_images()), [text.get_text() for text in ax.texts][:2]
    (6, ['a', 'b'])
    """
    shown = [pixels(picture) for picture in pictures]
    ax = mosaic(shown, titles, columns, title, ax)[0]
    return described_as_many(ax, "image", len(shown), titles)


def patch_grid(
    picture, patch_size: int, numbers: bool | None = None, title=None, ax: Axes | None = None
) -> Axes:
    """The image (C, H, W) under the grid that cuts it, its patches numbered where there are at most 100.

    Raises ValueError where `patch_size` does not divide the image.

    >>> ax = patch_grid(np.zeros((3, 8, 12)), 4)
    >>> [text.get_text() for text in ax.texts]
    ['1', '2', '3', '4', '5', '6']
    """
    array = pixels(picture)
    height, width = array.shape[:2]
    rows, columns = grid_size((height, width), patch_size)
    ax = image(picture, title, axes(ax, around(array, 5)))
    across = [((-0.5, y - 0.5), (width - 0.5, y - 0.5)) for y in range(0, height + 1, patch_size)]
    upright = [((x - 0.5, -0.5), (x - 0.5, height - 0.5)) for x in range(0, width + 1, patch_size)]
    for colour, thickness in (("black", 2.4), ("white", 0.9)):  # white on black: seen on any ground
        ax.add_collection(
            LineCollection(across + upright, colors=colour, linewidths=thickness), autolim=False
        )
    if rows * columns <= 100 if numbers is None else numbers:
        for i in range(rows * columns):
            x, y = (i % columns + 0.5) * patch_size - 0.5, (i // columns + 0.5) * patch_size - 0.5
            text = ax.text(x, y, i + 1, color="white", ha="center", va="center", fontsize=9)
            text.set_path_effects([withStroke(linewidth=2, foreground="black")])
    describe(ax, f"{size_of(array)} pixels cut into {rows} × {columns} patches")
    return ax


def merged_tokens(
    picture, merged_into, patch_size: int, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """The image (C, H, W) with its patches joined as tokens were merged: each token in its mean colour.

    `merged_into` has one number for each patch, (N,) or (rows, columns); patches of equal numbers are one
    token, and a line parts neighbours that are not. A patch that is alone is shown as it is. Raises
    ValueError where it is of another number of patches than the image.

    >>> ax = merged_tokens(np.zeros((1, 8, 8)), [0, 0, 1, 2], 4)
    >>> len(ax.get_images()), len(ax.collections)
    (1, 2)
    """
    array = pixels(picture)
    grid = grid_size(array.shape[:2], patch_size)
    tokens = as_array(merged_into)
    if tokens.shape not in (grid, (grid[0] * grid[1],)):
        raise ValueError(
            f"merged_into has one number for each of {grid[0]} × {grid[1]} patches of {patch_size} pixels; "
            f"got the shape {tokens.shape}; of several images, pick one"
        )
    tokens = tokens.reshape(grid)
    names, sizes = np.unique(tokens, return_counts=True)
    shown, places = array.copy(), tokens.repeat(patch_size, axis=0).repeat(patch_size, axis=1)
    for name in names[sizes > 1]:
        shown[places == name] = array[places == name].mean(axis=0).round()
    ax = axes(ax, around(array, 5))
    ax.imshow(shown, interpolation="nearest")
    ax.set_axis_off()
    edges = np.array(borders(tokens)).reshape(-1, 2, 2) * patch_size - 0.5
    for colour, thickness in (("black", 2.4), ("white", 0.9)):  # white on black: seen on any ground
        ax.add_collection(LineCollection(edges, colors=colour, linewidths=thickness), autolim=False)
    many = f"{counted(tokens.size, 'patch')} as {counted(len(names), 'token')}"
    describe(ax, f"{many}, up to {sizes.max()} in one")
    return titled(ax, title)


def borders(tokens: np.ndarray) -> list:
    """The sides, as pairs of corners (x, y), between neighbours (rows, columns) that are not alike.

    >>> borders(np.array([[0, 0], [0, 1]]))
    [((1, 1), (1, 2)), ((1, 1), (2, 1))]
    """
    upright = np.argwhere(tokens[:, 1:] != tokens[:, :-1]).tolist()
    across = np.argwhere(tokens[1:] != tokens[:-1]).tolist()
    return [((x + 1, y), (x + 1, y + 1)) for y, x in upright] + [
        ((x, y + 1), (x + 1, y + 1)) for y, x in across
    ]


def patch_sequence(
    picture, patch_size: int, columns: int = 16, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """The patches of an image (C, H, W) one after the other in reading order, numbered, `columns` to a line.

    >>> len(patch_sequence(np.zeros((1, 28, 28)), 7).get_images())
    16
    """
    array = pixels(picture)
    rows, across = grid_size(array.shape[:2], patch_size)
    shape = (rows, patch_size, across, patch_size, 3)
    patches = array.reshape(shape).swapaxes(1, 2).reshape(-1, patch_size, patch_size, 3)
    numbers = range(1, len(patches) + 1)
    ax = mosaic(list(patches), numbers, min(columns, len(patches)), title, ax, size=9)[0]
    size = f"{patch_size} × {patch_size}"
    describe(ax, f"the {counted(len(patches), 'patch')} of an image, {size} pixels each, one after the other")
    return ax


def patch_vector(patch, title: str | None = None, ax: Axes | None = None) -> Axes:
    """One patch (C, P, P) as the vector of P²C numbers that the model reads, channel after channel.

    The height of a bar is the pixel's value; the strip under the bars shows the same value as its grey.

    >>> ax = patch_vector(np.linspace(-1, 1, 16).reshape(1, 4, 4))
    >>> len(ax.patches)
    16
    """
    array = as_array(patch)
    values = array.reshape(-1).astype(np.float64)
    low, high = (0, 255) if array.dtype == np.uint8 else (-1, 1)
    ax = axes(ax, (8, 2.6))
    ax.bar(
        np.arange(len(values)),
        values - low,
        bottom=low,
        width=0.9 if len(values) <= 64 else 1.0,
        color="0.35",
    )
    strip = low - 0.16 * (high - low), low - 0.04 * (high - low)
    extent = (-0.5, len(values) - 0.5, *strip)
    ax.imshow(
        values[None], cmap="gray", vmin=low, vmax=high, extent=extent, aspect="auto", interpolation="nearest"
    )
    ax.set(
        xlim=(-0.5, len(values) - 0.5),
        ylim=(strip[0], high),
        xlabel="place in the vector",
        ylabel="pixel value",
    )
    names = ("red", "green", "blue") if len(array) == 3 else [f"channel {c}" for c in range(len(array))]
    for c, name in enumerate(names if len(array) > 1 else ()):
        start = c * array[0].size
        ax.axvline(start - 0.5, color="black", linestyle="--", linewidth=1)
        ax.text(start + array[0].size / 2, high, name, ha="center", va="bottom")
    describe(
        ax, f"{counted(len(values), 'bar')}, pixel values {between(values)} by their place in the vector"
    )
    return titled(ax, title, pad=18 if len(array) > 1 else None)
