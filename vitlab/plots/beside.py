"""Maps beside the images that they are of, each on its own scale, from its least to its largest number."""

from collections.abc import Mapping
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes

from vitlab.alt_text import describe
from vitlab.plots.amounts import coloured
from vitlab.plots.drawing import as_array, axes, mosaic, pixels
from vitlab.wording import between, counted, listed

WIDE = 7.2  # inches: with names at the left and a bar at the right, what a page of a notebook is wide
GAP = 0.06  # between two pictures, whose side is 1


def maps_below(
    pictures,
    named: Mapping,
    titles=None,
    value_label="attention",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Images (n, C, H, W) side by side, and below each its maps: a row a name, name -> (n, h, w).

    `titles` stand above the images, names at the left of their maps. Raises ValueError for another number of
    maps than of images.

    >>> ax = maps_below(np.zeros((2, 3, 8, 8)), {"rollout": np.ones((2, 4, 4)), "centre": np.ones((2, 4, 4))})
    >>> len(ax.get_images()), [text.get_text() for text in ax.texts]
    (6, ['rollout', 'centre'])
    """
    images = [pixels(picture) for picture in pictures]
    values = {name: as_array(each).astype(np.float64) for name, each in named.items()}
    for name, each in [*values.items(), *([] if titles is None else [("titles", titles)])]:
        if len(each) != len(images):
            raise ValueError(f"{counted(len(images), 'image')} take as many {name}; got {len(each)}")
    if not values or not images:
        raise ValueError("nothing to show below the images; give a dict name -> maps with at least one name")
    inch = min(1.05, WIDE / len(images))
    above = 0 if titles is None else 0.2 * max(str(name).count("\n") + 1 for name in titles) / inch
    height = inch * ((1 + len(values)) * (1 + GAP) + above) + 0.3
    ax = axes(ax, (inch * len(images) * (1 + GAP) + 1.1, height))
    flat = [each for several in values.values() for each in several]
    ax, shown = mosaic([*images, *flat], None, len(images), title, ax, inch=inch)
    for artist, name in zip(shown, [] if titles is None else titles, strict=False):
        left, right, _, top = artist.get_extent()
        ax.text((left + right) / 2, top - 0.03, name, ha="center", va="bottom", fontsize=10)
    ax.set_ylim(top=ax.get_ylim()[1] - above)  # y grows downwards
    for row, name in enumerate(values, 1):
        words = fill(str(name), max(int(11 * inch), 8))  # so many letters are as long as a map is tall
        style = dict(rotation=90, ha="right", va="center", fontsize=10)
        ax.text(-GAP - 0.03, row * (1 + GAP) + 0.5, words, **style)
    coloured(ax, shown[len(images) :], flat, value_label, own_scale=True)
    rows = "; ".join(f"{name} {between(each)}" for name, each in values.items())
    names = "" if titles is None else f" ({listed(titles)})"
    shown = counted(len(images), "image")
    describe(
        ax,
        f"{shown}{names}, below each its maps: {rows}",
        f"{shown}, below each its maps: {rows}",
        f"{shown}, below each its maps: {listed(values)}",
    )
    return ax


def maps_beside(
    picture,
    values,
    titles=None,
    columns: int = 4,
    value_label="attention",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One image (C, H, W), and at its right its maps (n, h, w), `columns` to a row.

    >>> ax = maps_beside(np.zeros((3, 8, 8)), np.ones((8, 4, 4)), titles="abcdefgh")
    >>> [len(ax.get_images()), *(text.get_text() for text in ax.texts[:2])]
    [9, 'a', 'b']
    """
    image, values = pixels(picture), as_array(values).astype(np.float64)
    rows, titles = -(-len(values) // columns), None if titles is None else list(titles)
    side = min(rows, 1.5)
    inch = min(1.0, WIDE / (columns + side))
    lines = 0 if titles is None else max(str(name).count("\n") + 1 for name in titles)
    ax = axes(
        ax,
        (inch * (columns + side) * (1 + GAP) + 0.8, inch * rows * (1 + GAP) + 0.2 * lines * rows + 0.3),
    )
    ax, shown = mosaic(list(values), titles, columns, title, ax, inch=inch)
    middle, scale = sum(ax.get_ylim()) / 2, side / max(image.shape[:2])
    half, width = scale * image.shape[0] / 2, scale * image.shape[1]
    left = -2 * GAP - width
    smoothly = "antialiased" if max(image.shape) > 100 * inch * side else "nearest"
    ax.imshow(image, extent=(left, -2 * GAP, middle + half, middle - half), interpolation=smoothly)
    bottom, top = ((rows - 1) * (1 + GAP + 0.2 * lines / inch) + 1.03, -GAP - 0.2 * lines / inch)
    ax.set(xlim=(left - 0.03, columns * (1 + GAP) - 0.03), ylim=(bottom, top), aspect="equal")
    coloured(ax, shown, values, value_label, own_scale=True)
    names = f": {listed(titles)}" if titles else ""
    amounts = f"{value_label} {between(values)}"
    told = f"an image beside its {counted(len(values), 'map')}, {amounts}"
    describe(ax, f"{told}{names}", told)
    return ax
