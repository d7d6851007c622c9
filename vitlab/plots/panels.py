"""Figures of several Axes: lines in panels of two to a row, and a query's scores above its weights."""

import numpy as np
from matplotlib.axes import Axes

from vitlab import alt_text
from vitlab.plots.drawing import as_array, titled, with_legend
from vitlab.plots.results import series

WIDTH = 9  # inches: a wider figure is shrunk on a page until its labels cannot be read


def panels(wanted: dict, log: str = "") -> list[Axes]:
    """Lines in panels, two to a row: `wanted` maps titles to (x, {name: values}, x label, y label).

    `values` are those of `series`, (runs, len(x)) or (len(x),); "x", "y" or "xy" in `log` are logarithmic.
    Panels that have one y label have one range, so that heights can be compared. Raises ValueError for no
    panels.

    >>> lines = {"ViT": [[1, 2], [3, 4]], "ResNet": [2, 2]}
    >>> axes = panels({"before": ([1, 2], lines, "step", "loss"), "after": ([1, 2], lines, "step", "loss")})
    >>> [ax.get_title() for ax in axes], axes[0].get_ylim() == axes[1].get_ylim()
    (['before', 'after'], True)
    """
    if not wanted:
        raise ValueError("nothing to show; give a dict title -> (x, lines, x label, y label)")
    import matplotlib.pyplot as plt

    alt_text.in_notebooks()
    columns = min(len(wanted), 2)
    rows = -(-len(wanted) // columns)
    figure = plt.figure(figsize=(WIDTH / 2 * columns, 3.4 * rows), layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(wanted))]
    for ax, (title, (x, lines, x_label, y_label)) in zip(axes, wanted.items(), strict=True):
        for name, values in lines.items():
            series(x, values, name, x_label, y_label, title, ax=ax)
        if "x" in log:
            ax.set(xscale="log", xticks=list(x), xticklabels=list(x))
            ax.minorticks_off()
        if "y" in log:
            ax.set_yscale("log")
    for ax in axes:
        alike = [other.get_ylim() for other in axes if other.get_ylabel() == ax.get_ylabel()]
        ax.set_ylim(min(low for low, _ in alike), max(high for _, high in alike))
    return axes


def scores_and_weights(scores, weights, title: str | None = None) -> list[Axes]:
    """One query's scores, and below them the weights in per cent that a softmax makes of them: a bar a token.

    The dashed line is an even share. Raises ValueError where there are not as many of both.

    >>> above, below = scores_and_weights([0.0, 1.0], [0.27, 0.73])
    >>> [round(float(bar.get_height())) for bar in below.patches]
    [27, 73]
    """
    import matplotlib.pyplot as plt

    scores, weights = (as_array(each).astype(np.float64) for each in (scores, weights))
    if scores.ndim != 1 or scores.shape != weights.shape:
        raise ValueError(f"a token has one score and one weight; got {scores.shape} and {weights.shape}")
    alt_text.in_notebooks()
    _, (above, below) = plt.subplots(2, 1, figsize=(8, 3.6), sharex=True, layout="constrained")
    above.bar(range(len(scores)), scores, color="0.35")
    below.bar(range(len(weights)), 100 * weights, color="0.35")
    below.axhline(100 / len(weights), color="black", linestyle="--", label="an even share")
    above.set_ylabel("score")
    below.set(ylabel="weight (%)", xlabel="token (0 is the class token)")
    titled(above, title)
    with_legend(below)
    return [above, below]
