"""Plots of what was measured: training's curves, results of many runs, distances of heads."""

import numpy as np
from matplotlib.axes import Axes

from vitlab.alt_text import describe
from vitlab.plots.drawing import COLOURS, MARKERS, as_array, axes, legend_below, style, titled, with_legend
from vitlab.wording import between, counted, listed, number

CURVES = {
    "loss": "loss (cross-entropy, nats)",
    "accuracy": "accuracy (%)",
    "learning_rate": "learning rate",
    "images_per_second": "images per second",
}
FEW = 12  # numbers of a line that have a marker each


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
    ax = axes(ax, (6, 3.6))
    histories = histories if isinstance(histories, dict) else {"": histories}
    scale, tested = (100 if what == "accuracy" else 1), {"loss": 1, "accuracy": 2}.get(what)
    for i, (name, history) in enumerate(histories.items()):
        colour, dash, marker = style(i)
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
    return titled(with_legend(ax), title)


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
    x, values = as_array(x), np.atleast_2d(as_array(values)).astype(np.float64)
    if values.ndim != 2 or values.shape[1] != len(x):
        raise ValueError(f"{len(x)} places on x take values of shape (runs, {len(x)}); got {values.shape}")
    ax = axes(ax, (6, 3.6))
    colour, dash, marker = style(len(ax.get_lines()))
    mean, runs = values.mean(0), len(values)
    spread = f"mean ± sd of {runs} runs" if runs > 1 else "one run"
    ax.plot(x, mean, dash, color=colour, marker=marker, label=f"{label} ({spread})".strip())
    if runs > 1:
        deviation = values.std(0, ddof=1)
        ax.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.18, linewidth=0)
    ax.set(xlabel=x_label or ax.get_xlabel(), ylabel=y_label or ax.get_ylabel())
    return titled(with_legend(ax), title)


def lines(x, values: dict, x_label="", y_label="", title: str | None = None, ax: Axes | None = None) -> Axes:
    """Numbers over x, a line a name: `values` maps names to (len(x),). On a logarithmic axis: `set_xscale`.

    Where there are few of them, each number has its marker. Raises ValueError for another number of them.

    >>> ax = lines([1, 2, 3], {"loss": [2.3, 1.2, 0.4]}, "step", "loss (nats)")
    >>> ax.get_lines()[0].get_ydata().tolist(), ax.get_lines()[0].get_label()
    ([2.3, 1.2, 0.4], 'loss')
    """
    x, ax = as_array(x), axes(ax, (6, 3.6))
    for i, (name, numbers) in enumerate(values.items()):
        numbers = as_array(numbers)
        if numbers.shape != x.shape:
            raise ValueError(f"{len(x)} places on x take as many numbers; {name!r} has {numbers.shape}")
        colour, dash, marker = style(i)
        ax.plot(x, numbers, dash, color=colour, marker=marker if len(x) <= FEW else None, label=name)
    ax.set(xlabel=x_label, ylabel=y_label)
    return titled(with_legend(ax), title)


def dots(values: dict, x_label="", y_label="", title: str | None = None, ax: Axes | None = None) -> Axes:
    """One number against another, a dot for each pair: `values` maps names to (x, y), both (n,).

    >>> ax = dots({"ViT": ([1, 2], [3, 4]), "ResNet": ([1], [5])}, "cost", "accuracy (%)")
    >>> [group.get_offsets().tolist() for group in ax.collections]
    [[[1.0, 3.0], [2.0, 4.0]], [[1.0, 5.0]]]
    """
    ax = axes(ax, (6, 3.6))
    for i, (name, (x, y)) in enumerate(values.items()):
        colour, _, marker = style(i)
        ax.scatter(as_array(x), as_array(y), s=36, color=colour, marker=marker, alpha=0.7, label=name)
    ax.set(xlabel=x_label, ylabel=y_label)
    return titled(with_legend(ax), title)


def level(ax: Axes, height: float, words: str, below: bool = False) -> Axes:
    """A thin line right across at `height`, and what it means, such as chance, above its right end or below.

    >>> level(lines([1, 2], {"model": [10.0, 80.0]}), 10, "chance").texts[0].get_text()
    'chance'
    """
    ax.axhline(height, color="black", lw=0.8, label=words)
    ax.annotate(
        words,
        (1, height),
        (-4, -2 if below else 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        fontsize=9,
    )
    return ax


def by_labels(per_class, results: dict, title: str | None = None, ax: Axes | None = None) -> Axes:
    """What `few_label_study` found: name -> (draws, len(per_class)) in [0, 1], over labels per class.

    >>> by_labels([5, 20], {"probe": [[0.25, 0.5]]}).get_lines()[0].get_ydata().tolist()
    [25.0, 50.0]
    """
    if not results:
        raise ValueError("nothing to show; give a dict name -> (draws, labels per class)")
    for name, table in results.items():
        table = 100 * as_array(table).astype(np.float64)
        ax = series(per_class, table, name, "labels per class", "test accuracy (%)", ax=ax)
    ax.set_xscale("log")
    ax.set_xticks(per_class, [str(count) for count in per_class])
    ax.minorticks_off()
    return titled(legend_below(ax), title)


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
    arrays = [as_array(numbers).reshape(-1).astype(np.float64) for numbers in values.values()]
    places = np.arange(1, len(arrays) + 1)
    cuts = np.transpose([np.percentile(array, (5, 25, 50, 75, 95)) for array in arrays])  # (5, names)
    ax = axes(ax, (7.5, 0.38 * len(arrays) + 1))
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
    return titled(ax, title)


def bars(values: dict, x_label="value", title: str | None = None, ax: Axes | None = None) -> Axes:
    """One number a name as lying bars, the first name on top, and a line at 0.

    >>> ax = bars({"rollout": 0.5, "relevance": -0.25}, "rank correlation")
    >>> [float(bar.get_width()) for bar in ax.patches]
    [0.5, -0.25]
    """
    if not values:
        raise ValueError("nothing to show; give a dict name -> number with at least one name")
    ax = axes(ax, (6, 0.28 * len(values) + 0.9))
    ax.barh(list(values), [float(number) for number in values.values()], color="0.35")
    ax.axvline(0, color="black", linewidth=1)
    ax.invert_yaxis()
    ax.set(xlabel=x_label, ylabel=" ")
    ax.grid(alpha=0.3, axis="x")
    return titled(ax, title)


def runs(values: dict, y_label="", title: str | None = None, ax: Axes | None = None) -> Axes:
    """A column of dots per name, one per run, and a bar at their mean: how far chance alone scatters them.

    `values` maps names to the results of their runs, as many as there are.

    >>> ax = runs({"none": [1.0, 2.0], "learned": [3.0]}, "accuracy (%)")
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['none', 'learned']
    """
    ax = axes(ax, (5, 3.6))
    for i, results in enumerate(values.values()):
        results, (colour, _, marker) = as_array(results).astype(np.float64), style(i)
        ax.scatter(np.full(len(results), i), results, s=36, color=colour, marker=marker, alpha=0.7)
        ax.hlines(results.mean(), i - 0.25, i + 0.25, color=colour, linewidth=2)
    alone = all(len(results) == 1 for results in values.values())  # as a paper prints them
    words = "one number each" if alone else "a dot per run, a bar at the mean"
    ax.set(xlim=(-0.6, len(values) - 0.4), xlabel=words, ylabel=y_label)
    ax.set_xticks(range(len(values)), list(values))
    ax.grid(axis="y", alpha=0.3)
    means = listed(f"{name} {number(as_array(found).mean(dtype=float))}" for name, found in values.items())
    mean = "" if alone else "mean "
    describe(ax, lambda ax: f"{mean}{ax.get_ylabel() or 'of the runs'}: {means}")
    return titled(ax, title)


def attention_distance(
    distances, uniform: float | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Mean attention distance (layers, heads) in pixels against depth, one dot a head (figure 11).

    `distances` may map names to such arrays, to compare: each has its own colour and marker, side by side.
    `uniform` is the distance of a head that looks everywhere alike, drawn as a dashed line: what a dot has to
    be compared with.

    >>> attention_distance(np.ones((4, 3)), uniform=14.6).collections[0].get_offsets().shape
    (12, 2)
    """
    named = distances if isinstance(distances, dict) else {"one head": distances}
    named = {name: as_array(each) for name, each in named.items()}
    for each in named.values():
        if each.ndim != 2:
            raise ValueError(f"distances have the shape (layers, heads); got {each.shape}")
    if not named or len({each.shape for each in named.values()}) > 1:
        raise ValueError("distances to compare are of the same layers and heads, under at least one name")
    ax = axes(ax, (5.5, 3.8))
    layers, heads = next(iter(named.values())).shape
    for i, (name, each) in enumerate(named.items()):
        depth = np.repeat(np.arange(1, layers + 1), heads) + 0.3 * (i - (len(named) - 1) / 2)
        look = dict(color=COLOURS[(i + 1) % len(COLOURS)], marker=MARKERS[i % len(MARKERS)])
        ax.scatter(depth, each.reshape(-1), s=36, edgecolor="black", alpha=0.8, label=name, **look)
    if uniform is not None:
        ax.axhline(uniform, color="black", linestyle="--", label="uniform attention")
    ax.set(xlabel="depth (layer)", ylabel="mean attention distance (pixels)")
    ax.set_xticks(range(1, layers + 1))
    ax.set_ylim(0, 1.06 * max(*(each.max() for each in named.values()), uniform or 0) or 1)
    line = "" if uniform is None else f", uniform {number(uniform)}"
    told = listed(f"{name} {between(each)}" for name, each in named.items())
    told = between(next(iter(named.values()))) if len(named) == 1 else told
    words = f"{counted(layers * heads, 'head')} in {counted(layers, 'layer')}"
    describe(ax, f"{words}, attention distance {told} pixels{line}")
    return titled(with_legend(ax), title)
