"""Plots in which colour is an amount: matrices, maps over images, filters, likeness of positions."""

import numpy as np
from matplotlib.axes import Axes

from vitlab.alt_text import describe, place
from vitlab.plots.drawing import (
    around,
    as_array,
    axes,
    colour_bar,
    described_as_many,
    mosaic,
    pixels,
    size_of,
    titled,
)
from vitlab.plots.pictures import images
from vitlab.wording import between, counted


def matrix(
    values,
    row_label="row",
    column_label="column",
    value_label="value",
    title=None,
    low: float | None = None,
    high: float | None = None,
    ax: Axes | None = None,
    row_names=None,
    column_names=None,
) -> Axes:
    """A matrix (rows, columns) as a heat map with a colour bar, from `low` to `high` (default: its range).

    Rows and columns are numbered from 0, or have the names given, such as `range(1, 13)` for layers.

    >>> matrix(np.eye(3), "query", "key", "weight").get_ylabel()
    'query'
    """
    values = as_array(values)
    if values.ndim != 2:
        raise ValueError(f"a matrix has the shape (rows, columns); got {values.shape}")
    ax = axes(ax, (5.2, 4.2))
    shown = ax.imshow(values, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
    ax.set(xlabel=column_label, ylabel=row_label)
    if row_names is not None:
        ax.set_yticks(range(len(values)), row_names)
    if column_names is not None:
        slanted = max(len(str(name)) for name in column_names) > 3
        turn = dict(rotation=40, ha="right", rotation_mode="anchor") if slanted else {}
        ax.set_xticks(range(values.shape[1]), column_names, **turn)
    colour_bar(ax, shown, value_label)
    amounts, size, largest = (
        f"heat map of {value_label} {between(values)}",
        size_of(values),
        largest_in(values),
    )
    describe(
        ax,
        lambda ax: f"{amounts}, {size}, {along(ax)}, largest at ({places_of(ax, largest)})",
        lambda ax: f"{amounts}, {size}, {along(ax)}",
        amounts,
    )
    return titled(ax, title)


def overlay(
    picture, values, value_label="attention", title: str | None = None, ax: Axes | None = None
) -> Axes:
    """A map (h, w), one number a patch, laid smoothly over its image (C, H, W), which turns pale grey.

    The image keeps little contrast, so that the brightness seen is the map's, not the image's.

    >>> len(overlay(np.zeros((3, 32, 48)), np.ones((4, 6))).get_images())
    2
    """
    under = 80 + pixels(picture).mean(-1) / 2
    height, width = under.shape
    ax = axes(ax, around(under, 4, room=0.8))
    ax.imshow(under, cmap="gray", vmin=0, vmax=255)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    values = as_array(values)
    shown = ax.imshow(values, cmap="viridis", alpha=0.6, extent=extent, interpolation="bilinear")
    ax.set_axis_off()
    colour_bar(ax, shown, value_label)
    row, column = largest_in(values)
    size = size_of(values)
    where = f"largest in row {row + 1}, column {column + 1}"
    amounts = f"{value_label} {between(values)}"
    describe(ax, f"{amounts} on the {size} patches of an image, {where}", f"{amounts}, {where}", amounts)
    return titled(ax, title)


def maps(
    values,
    titles=None,
    columns: int | None = None,
    value_label="attention",
    title=None,
    ax: Axes | None = None,
    own_scale: bool = False,
) -> Axes:
    """Many maps (n, h, w) as a mosaic with one colour bar.

    All are on one scale, so that brightness can be compared; or each from its least to its largest number
    with `own_scale`, as one bright map turns the others black.

    >>> two = np.arange(8).reshape(2, 2, 2)
    >>> [shown.get_clim() for shown in maps(two).get_images()]
    [(0.0, 7.0), (0.0, 7.0)]
    >>> [shown.get_clim() for shown in maps(two, own_scale=True).get_images()]
    [(0.0, 3.0), (4.0, 7.0)]
    """
    values = as_array(values).astype(np.float64)
    ax, shown = mosaic(list(values), titles, columns, title, ax)
    coloured(ax, shown, values, value_label, own_scale)
    amounts = f"{value_label} {between(values)}" + (", each on its own scale" if own_scale else "")
    return described_as_many(ax, "map", len(values), titles, f", {amounts}")


def coloured(
    ax: Axes, shown: list, values: list[np.ndarray], value_label: str, own_scale: bool = False
) -> None:
    """Maps that were drawn get their colours, all on one scale or each on its own, and one bar for all."""
    together = min(each.min() for each in values), max(each.max() for each in values)
    for artist, each in zip(shown, values, strict=True):
        artist.set(cmap="viridis", clim=(each.min(), each.max()) if own_scale else together)
    bar = colour_bar(ax, shown[0], value_label)
    if own_scale:
        bar.set_ticks(shown[0].get_clim(), labels=("least", "most"))
        bar.ax.yaxis.labelpad = -18  # points: the label has room between the two


def first_component(
    tables: dict, columns: int | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Tables of vectors on grids as maps of one number each: where a vector lies along one direction.

    `tables` maps names to (h, w, D), of any grids. The direction is that in which the vectors of the first
    table differ most, its first principal component; its sign means nothing.

    >>> ax = first_component({"trained": np.eye(4).reshape(2, 2, 4), "larger": np.ones((4, 4, 4))})
    >>> [shown.get_array().shape for shown in ax.get_images()]
    [(2, 2), (4, 4)]
    """
    if not tables:
        raise ValueError("nothing to show; give a dict name -> (h, w, D)")
    arrays = [as_array(table).astype(np.float64) for table in tables.values()]
    vectors = arrays[0].reshape(-1, arrays[0].shape[-1])
    direction = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2][0]  # (D,)
    seen = [array @ direction for array in arrays]
    every = np.concatenate([array.reshape(-1) for array in seen])
    ax, shown = mosaic(seen, list(tables), columns, title, ax)
    coloured(ax, shown, seen, "first component")
    return described_as_many(ax, "map", len(seen), tables, f", first component {between(every)}")


def filters(
    weight, count: int = 28, columns: int = 7, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """The first `count` filters of the patch projection, (D, C, P, P), as images.

    The paper's figure 7 (left) shows the principal components of such filters. Each is scaled alone:
    mid-grey is a weight of zero, black and white are its largest size.

    >>> len(filters(np.ones((96, 1, 4, 4)), count=8).get_images())
    8
    """
    weight = as_array(weight)[:count].astype(np.float64)
    largest = abs(weight).max(axis=(1, 2, 3), keepdims=True)
    ax = images(weight / np.where(largest > 0, largest, 1), columns=columns, title=title, ax=ax)
    size = size_of(weight[0, 0])
    told = f"{counted(len(weight), 'filter')} of {size} weights"
    describe(ax, f"{told}, the largest {between(largest)}", told)
    return ax


def position_similarity(
    pos_embed, grid: tuple[int, int], title: str | None = None, ax: Axes | None = None, every: int = 1
) -> Axes:
    """Cosine similarity of each position embedding to all others (the paper's figure 7, centre).

    `pos_embed` is (N, D) without the class token, on a `grid` of (rows, columns). The small map at row i,
    column j is for the patch at row i, column j; its brightest spot is that patch itself. On a large grid
    `every` shows the maps of each second, third, … row and column of patches alone.

    >>> ax = position_similarity(np.eye(6), (2, 3))
    >>> ax.get_images()[0].get_array().shape
    (5, 11)
    """
    rows, columns = grid
    embeddings = as_array(pos_embed).astype(np.float64)
    if embeddings.ndim != 2 or len(embeddings) != rows * columns:
        raise ValueError(
            f"a grid of {rows} x {columns} takes position embeddings of shape ({rows * columns}, D), without "
            f"the class token; got {embeddings.shape}"
        )
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    alike = (unit @ unit.T).reshape(rows, columns, rows, columns)[::every, ::every]
    down, across = alike.shape[:2]
    gaps = np.full((down, rows + 1, across, columns + 1), np.nan)  # one line of nothing between the maps
    gaps[:, :rows, :, :columns] = alike.swapaxes(1, 2)
    tiled = gaps.reshape(down * (rows + 1), across * (columns + 1))[:-1, :-1]
    ax = axes(ax, (6, 5))
    shown = ax.imshow(tiled, cmap="viridis", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_xticks(np.arange(across) * (columns + 1) + (columns - 1) / 2, range(1, columns + 1, every))
    ax.set_yticks(np.arange(down) * (rows + 1) + (rows - 1) / 2, range(1, rows + 1, every))
    ax.set(xlabel="patch column", ylabel="patch row")
    colour_bar(ax, shown, "cosine similarity")
    others = (unit @ unit.T)[~np.eye(len(unit), dtype=bool)]
    maps_there, size = f"{down} × {across} maps", f"{rows} × {columns}"
    describe(
        ax,
        f"{maps_there}, cosine similarity of a patch's position to all {size}, {between(others)} to others",
        f"{maps_there} of cosine similarity",
    )
    return titled(ax, title)


def largest_in(values: np.ndarray) -> tuple[int, int]:
    """Row and column of the largest value, from 0."""
    row, column = np.unravel_index(np.where(np.isnan(values), -np.inf, values).argmax(), values.shape)
    return int(row), int(column)


def along(ax: Axes) -> str:
    """What stands along the axes of a matrix now."""
    return f"{ax.get_ylabel() or 'rows'} by {ax.get_xlabel() or 'columns'}"


def places_of(ax: Axes, index: tuple[int, int]) -> str:
    """A row and a column of a matrix by the labels that the axes have now."""
    return ", ".join(place(axis, i) for axis, i in zip((ax.yaxis, ax.xaxis), index, strict=True))
