"""Figures from arrays: every function takes `ax=None` (a new figure), returns the Axes and knows no model.

Images are (C, H, W), uint8 or float in [-1, 1], grey or RGB; all arrays may be torch tensors or numpy.
Patches are numbered from 1, as in the paper's figure 1, where 0 is the class token. Colours survive grey
and colour-blindness: one map (viridis) for amounts, and different markers and dashes for lines. What a plot
shows is also said in words, the alternative text of its picture; `describe` does it for what a caller draws.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke

from vitlab import alt_text
from vitlab.alt_text import describe, place
from vitlab.patches import grid_size
from vitlab.wording import between, counted, listed, number

DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73")  # of Okabe and Ito's palette: told apart by every eye
CURVES = {
    "loss": "loss (cross-entropy, nats)",
    "accuracy": "accuracy (%)",
    "learning_rate": "learning rate",
    "images_per_second": "images per second",
}


def pixels(picture) -> np.ndarray:
    """One image (C, H, W), uint8 or float in [-1, 1] -> RGB uint8 (H, W, 3), as screens want it.

    >>> pixels(np.array([[[-1.0, 0.0, 1.0]]]))[0].tolist()
    [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    """
    array = _array(picture)
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        fix = {4: "; pick one with images[0]", 2: "; add the channel with image[None]"}.get(array.ndim, "")
        raise ValueError(f"an image has the shape (C, H, W) with C = 1 or 3; got {array.shape}{fix}")
    if array.dtype != np.uint8:
        if array.dtype.kind != "f":
            raise ValueError(f"an image is uint8, or float in [-1, 1]; got {array.dtype}")
        array = ((array.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    return np.broadcast_to(array.transpose(1, 2, 0), (*array.shape[1:], 3)).copy()


def image(picture, title: str | None = None, ax: Axes | None = None) -> Axes:
    """One image (C, H, W), pixel by pixel.

    >>> image(np.zeros((1, 28, 28))).get_images()[0].get_array().shape
    (28, 28, 3)
    """
    array = pixels(picture)
    ax = _axes(ax, _around(array, 4))
    ax.imshow(array, interpolation="nearest")
    ax.set_axis_off()
    describe(ax, f"an image of {_size(array)} pixels")
    return _titled(ax, title)


def images(
    pictures, titles=None, columns: int | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Many images as a mosaic in reading order; they may differ in size. `titles` stand above each.

    >>> ax = images(np.zeros((6, 1, 28, 28)), titles="abcdef", columns=3)
    >>> len(ax.get_images()), [text.get_text() for text in ax.texts][:2]
    (6, ['a', 'b'])
    """
    shown = [pixels(picture) for picture in pictures]
    ax = _mosaic(shown, titles, columns, title, ax)[0]
    return _described_as_many(ax, "image", len(shown), titles)


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
    ax = image(picture, title, _axes(ax, _around(array, 5)))
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
    describe(ax, f"{_size(array)} pixels cut into {rows} × {columns} patches")
    return ax


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
    ax = _mosaic(list(patches), numbers, min(columns, len(patches)), title, ax, size=9)[0]
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
    array = _array(patch)
    values = array.reshape(-1).astype(np.float64)
    low, high = (0, 255) if array.dtype == np.uint8 else (-1, 1)
    ax = _axes(ax, (8, 2.6))
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
    return _titled(ax, title, pad=18 if len(array) > 1 else None)


def matrix(
    values,
    row_label="row",
    column_label="column",
    value_label="value",
    title=None,
    low: float | None = None,
    high: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A matrix (rows, columns) as a heat map with a colour bar, from `low` to `high` (default: its range).

    >>> matrix(np.eye(3), "query", "key", "weight").get_ylabel()
    'query'
    """
    values = _array(values)
    if values.ndim != 2:
        raise ValueError(f"a matrix has the shape (rows, columns); got {values.shape}")
    ax = _axes(ax, (5.2, 4.2))
    shown = ax.imshow(values, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
    ax.set(xlabel=column_label, ylabel=row_label)
    _colour_bar(ax, shown, value_label)
    amounts, largest = f"{value_label} {between(values)}, {_size(values)}", _largest(values)
    describe(ax, lambda ax: f"heat map of {amounts}, {_along(ax)}, largest at ({_places(ax, largest)})")
    return _titled(ax, title)


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
    ax = _axes(ax, _around(under, 4, room=0.8))
    ax.imshow(under, cmap="gray", vmin=0, vmax=255)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    values = _array(values)
    shown = ax.imshow(values, cmap="viridis", alpha=0.6, extent=extent, interpolation="bilinear")
    ax.set_axis_off()
    _colour_bar(ax, shown, value_label)
    row, column = _largest(values)
    size = _size(values)
    where = f"largest in row {row + 1}, column {column + 1}"
    describe(ax, f"{value_label} {between(values)} on the {size} patches of an image, {where}")
    return _titled(ax, title)


def maps(
    values,
    titles=None,
    columns: int | None = None,
    value_label="attention",
    title=None,
    ax: Axes | None = None,
) -> Axes:
    """Many maps (n, h, w) as a mosaic on one scale, with one colour bar.

    >>> [shown.get_clim() for shown in maps(np.arange(8).reshape(2, 2, 2)).get_images()]
    [(0.0, 7.0), (0.0, 7.0)]
    """
    values = _array(values).astype(np.float64)
    ax, shown = _mosaic(list(values), titles, columns, title, ax)
    for artist in shown:
        artist.set(cmap="viridis", clim=(values.min(), values.max()))
    _colour_bar(ax, shown[0], value_label)
    return _described_as_many(ax, "map", len(values), titles, f", {value_label} {between(values)}")


def filters(
    weight, count: int = 28, columns: int = 7, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """The first `count` filters of the patch projection, (D, C, P, P), as images.

    The paper's figure 7 (left) shows the principal components of such filters. Each is scaled alone:
    mid-grey is a weight of zero, black and white are its largest size.

    >>> len(filters(np.ones((96, 1, 4, 4)), count=8).get_images())
    8
    """
    weight = _array(weight)[:count].astype(np.float64)
    largest = abs(weight).max(axis=(1, 2, 3), keepdims=True)
    ax = images(weight / np.where(largest > 0, largest, 1), columns=columns, title=title, ax=ax)
    size = _size(weight[0, 0])
    describe(ax, f"{counted(len(weight), 'filter')} of {size} weights, the largest {between(largest)}")
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
    embeddings = _array(pos_embed).astype(np.float64)
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
    ax = _axes(ax, (6, 5))
    shown = ax.imshow(tiled, cmap="viridis", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_xticks(np.arange(across) * (columns + 1) + (columns - 1) / 2, range(1, columns + 1, every))
    ax.set_yticks(np.arange(down) * (rows + 1) + (rows - 1) / 2, range(1, rows + 1, every))
    ax.set(xlabel="patch column", ylabel="patch row")
    _colour_bar(ax, shown, "cosine similarity")
    others = (unit @ unit.T)[~np.eye(len(unit), dtype=bool)]
    maps_there, size = f"{down} × {across} maps", f"{rows} × {columns}"
    describe(
        ax,
        f"{maps_there}, cosine similarity of a patch's position to all {size}, {between(others)} to others",
    )
    return _titled(ax, title)


def curves(histories, what: str = "loss", title: str | None = None, ax: Axes | None = None) -> Axes:
    """What training reported against the step: "loss", "accuracy", "learning_rate" or "images_per_second".

    `histories` is one History or a dict name -> History, to compare. Lines are measured on training batches,
    markers on the test set.

    >>> from types import SimpleNamespace
    >>> history = SimpleNamespace(rows=[{"step": 1, "loss": 2.3}], evaluations=[(1, 2.2, 0.1)])
    >>> [line.get_label() for line in curves(history).get_lines()]
    ['training', 'test']
    """
    if what not in CURVES:
        raise ValueError(f"no curve named {what!r}; there are {', '.join(CURVES)}")
    ax = _axes(ax, (6, 3.6))
    histories = histories if isinstance(histories, dict) else {"": histories}
    scale, tested = (100 if what == "accuracy" else 1), {"loss": 1, "accuracy": 2}.get(what)
    for i, (name, history) in enumerate(histories.items()):
        colour, dash, marker = _style(i)
        on_training, on_test = (f"{name}, training", f"{name}, test") if name else ("training", "test")
        points = [(row["step"], scale * row[what]) for row in history.rows if what in row]
        if points:
            ax.plot(
                *zip(*points, strict=True), dash, color=colour, lw=1.2, label=on_training if tested else name
            )
        points = [(row[0], scale * row[tested]) for row in history.evaluations] if tested else []
        if points:
            joined = dash if what == "accuracy" else "none"
            ax.plot(*zip(*points, strict=True), color=colour, marker=marker, ls=joined, label=on_test)
    ax.set(xlabel="step", ylabel=CURVES[what])
    return _titled(_with_legend(ax), title)


def series(
    x, values, label="", x_label="", y_label="", title: str | None = None, ax: Axes | None = None
) -> Axes:
    """The mean over runs with a band of one standard deviation.

    `values` is (runs, len(x)), or (len(x),) for one run. Call it again on the same Axes for the next
    series: it gets its own colour, dashes and marker. The legend says how many runs there were.

    >>> ax = series([1, 2], [[1, 2], [3, 4]], "ViT", "images", "accuracy (%)")
    >>> ax.get_lines()[0].get_ydata().tolist(), ax.get_lines()[0].get_label()
    ([2.0, 3.0], 'ViT (mean ± sd of 2 runs)')
    """
    x, values = _array(x), np.atleast_2d(_array(values)).astype(np.float64)
    if values.ndim != 2 or values.shape[1] != len(x):
        raise ValueError(f"{len(x)} places on x take values of shape (runs, {len(x)}); got {values.shape}")
    ax = _axes(ax, (6, 3.6))
    colour, dash, marker = _style(len(ax.get_lines()))
    mean, runs = values.mean(0), len(values)
    spread = f"mean ± sd of {runs} runs" if runs > 1 else "one run"
    ax.plot(x, mean, dash, color=colour, marker=marker, label=f"{label} ({spread})".strip())
    if runs > 1:
        deviation = values.std(0, ddof=1)
        ax.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.18, linewidth=0)
    ax.set(xlabel=x_label or ax.get_xlabel(), ylabel=y_label or ax.get_ylabel())
    return _titled(_with_legend(ax), title)


def spread(values, x_label="value", title: str | None = None, ax: Axes | None = None) -> Axes:
    """How numbers measured on many images spread: one box a name, the first name on top.

    `values` maps names to (n,). A box holds the middle half, its line is the median, the diamond the mean;
    whiskers reach from the 5th to the 95th percentile.

    >>> ax = spread({"rollout": [1, 2, 3], "uniform": [0, 1]}, "energy")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['rollout', 'uniform']
    """
    if not values:
        raise ValueError("nothing to show; give a dict name -> numbers with at least one name")
    arrays = [_array(numbers).reshape(-1).astype(np.float64) for numbers in values.values()]
    places = np.arange(1, len(arrays) + 1)
    cuts = np.transpose([np.percentile(array, (5, 25, 50, 75, 95)) for array in arrays])  # (5, names)
    ax = _axes(ax, (7.5, 0.38 * len(arrays) + 1))
    ax.hlines(places, cuts[0], cuts[4], color="black")
    ax.barh(places, cuts[3] - cuts[1], left=cuts[1], height=0.6, color="0.85", edgecolor="black", zorder=2)
    ax.vlines(cuts[2], places - 0.3, places + 0.3, color="black", linewidth=2, zorder=3)
    ax.plot([array.mean() for array in arrays], places, "D", color=COLOURS[1], markeredgecolor="black")
    ax.set_yticks(places, list(values))
    ax.invert_yaxis()
    ax.set(xlabel=x_label, ylabel="5 % to 95 %")
    ax.grid(alpha=0.3, axis="x")
    medians = listed(f"{name} {number(cut)}" for name, cut in zip(values, cuts[2], strict=True))
    describe(ax, lambda ax: f"{ax.get_xlabel()}, a box a name, medians: {medians}")
    return _titled(ax, title)


def runs(values: dict, y_label="", title: str | None = None, ax: Axes | None = None) -> Axes:
    """A column of dots per name, one per run, and a bar at their mean: how far chance alone scatters them.

    `values` maps names to the results of their runs, as many as there are.

    >>> ax = runs({"none": [1.0, 2.0], "learned": [3.0]}, "accuracy (%)")
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['none', 'learned']
    """
    ax = _axes(ax, (5, 3.6))
    for i, results in enumerate(values.values()):
        results, (colour, _, marker) = _array(results).astype(np.float64), _style(i)
        ax.scatter(np.full(len(results), i), results, s=36, color=colour, marker=marker, alpha=0.7)
        ax.hlines(results.mean(), i - 0.25, i + 0.25, color=colour, linewidth=2)
    ax.set(xlim=(-0.6, len(values) - 0.4), xlabel="a dot per run, a bar at the mean", ylabel=y_label)
    ax.set_xticks(range(len(values)), list(values))
    ax.grid(axis="y", alpha=0.3)
    means = listed(f"{name} {number(_array(found).mean(dtype=float))}" for name, found in values.items())
    describe(ax, lambda ax: f"mean {ax.get_ylabel() or 'of the runs'}: {means}")
    return _titled(ax, title)


def attention_distance(
    distances, uniform: float | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Mean attention distance (layers, heads) in pixels against depth, one dot a head (figure 11).

    `uniform` is the distance of a head that looks everywhere alike, drawn as a dashed line: what a dot has to
    be compared with.

    >>> attention_distance(np.ones((4, 3)), uniform=14.6).collections[0].get_offsets().shape
    (12, 2)
    """
    distances = _array(distances)
    if distances.ndim != 2:
        raise ValueError(f"distances have the shape (layers, heads); got {distances.shape}")
    ax = _axes(ax, (5.5, 3.8))
    depth = np.repeat(np.arange(1, len(distances) + 1), distances.shape[1])
    ax.scatter(
        depth, distances.reshape(-1), s=36, color=COLOURS[1], edgecolor="black", alpha=0.8, label="one head"
    )
    if uniform is not None:
        ax.axhline(uniform, color="black", linestyle="--", label="uniform attention")
    ax.set(xlabel="depth (layer)", ylabel="mean attention distance (pixels)")
    ax.set_xticks(range(1, len(distances) + 1))
    ax.set_ylim(0, 1.06 * max(distances.max(), uniform or 0) or 1)
    heads = f"{counted(distances.size, 'head')} in {counted(len(distances), 'layer')}"
    line = "" if uniform is None else f", uniform {number(uniform)}"
    describe(ax, f"{heads}, attention distance {between(distances)} pixels{line}")
    return _titled(_with_legend(ax), title)


def _array(values) -> np.ndarray:
    """numpy from torch (any device, any precision), numpy or lists."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The Axes given, or new ones that the notebook shows by itself at the end of the cell."""
    alt_text.in_notebooks()
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _around(array: np.ndarray, width: float, room: float = 0.0) -> tuple[float, float]:
    """Size in inches of a figure that an image just fills, with `room` at its right for a colour bar."""
    return width + room, min(2 * width, width * array.shape[0] / array.shape[1]) + 0.3


def _titled(ax: Axes, title: str | None, pad: float | None = None) -> Axes:
    if title:
        ax.set_title(title, fontsize=11, pad=pad)
    return ax


def _with_legend(ax: Axes) -> Axes:
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=9)
    ax.grid(alpha=0.3)
    return ax


def _style(i: int) -> tuple[str, str, str]:
    """Colour, dashes and marker of the i-th line: each alone tells it from its neighbours."""
    return COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} × {array.shape[1]}"


def _largest(values: np.ndarray) -> tuple[int, int]:
    """Row and column of the largest value, from 0."""
    row, column = np.unravel_index(np.where(np.isnan(values), -np.inf, values).argmax(), values.shape)
    return int(row), int(column)


def _along(ax: Axes) -> str:
    """What stands along the axes of a matrix now."""
    return f"{ax.get_ylabel() or 'rows'} by {ax.get_xlabel() or 'columns'}"


def _places(ax: Axes, index: tuple[int, int]) -> str:
    """A row and a column of a matrix by the labels that the axes have now."""
    return ", ".join(place(axis, i) for axis, i in zip((ax.yaxis, ax.xaxis), index, strict=True))


def _described_as_many(ax: Axes, thing: str, count: int, titles, more: str = "") -> Axes:
    """The same Axes, described as so many images or maps, with the names that stand above them."""
    names = listed([] if titles is None else titles)
    describe(ax, f"{counted(count, thing)}{more}" + (f": {names}" if names else ""))
    return ax


def _colour_bar(ax: Axes, shown, label: str) -> None:
    ax.figure.colorbar(shown, ax=ax, label=label, shrink=0.85)


def _mosaic(arrays, titles, columns, title, ax, size=10) -> tuple[Axes, list]:
    """Arrays as images in reading order on one Axes: each fills a cell of 1 x 1, its title above it."""
    if len(arrays) == 0:
        raise ValueError("no pictures to show; give at least one")
    columns = columns or min(len(arrays), 8)
    rows = -(-len(arrays) // columns)
    titles = [None] * len(arrays) if titles is None else list(titles)
    if len(titles) != len(arrays):
        raise ValueError(f"{len(arrays)} pictures take as many titles; got {len(titles)}")
    inch = min(1.8, 8.5 / columns)
    lines = max(str(name).count("\n") + 1 if name is not None else 0 for name in titles)
    step = 1.06 + 0.2 * lines / inch  # a line of text is 0.2 inches high, however small the pictures
    ax = _axes(ax, (max(inch * columns, 2.5), inch * rows * step + 0.3))
    shown = []
    for i, (array, name) in enumerate(zip(arrays, titles, strict=True)):
        height, width = array.shape[0] / max(array.shape[:2]), array.shape[1] / max(array.shape[:2])
        x, y = i % columns * 1.06 + 0.5, i // columns * step + 0.5
        extent = (x - width / 2, x + width / 2, y + height / 2, y - height / 2)
        shown.append(ax.imshow(array, extent=extent, interpolation="nearest"))
        if name is not None:
            ax.text(x, y - height / 2 - 0.03, name, ha="center", va="bottom", fontsize=size)
    ax.set(xlim=(-0.03, columns * 1.06 - 0.03), ylim=((rows - 1) * step + 1.03, 1 - step), aspect="equal")
    ax.set_axis_off()
    return _titled(ax, title), shown
