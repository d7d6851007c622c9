"""Figures from arrays: every function takes `ax=None` (a new figure), returns the Axes and knows no model.
`panels` and `scores_and_weights` always make a new figure, and return the list of its Axes.

Images are (C, H, W), uint8 or float in [-1, 1], grey or RGB; all arrays may be torch tensors or numpy.
Patches are numbered from 1, as in the paper's figure 1, where 0 is the class token. Colours survive grey
and colour-blindness: one map (viridis) for amounts, and different markers and dashes for lines. What a plot
shows is also said in words, the alternative text of its picture; `describe` does it for what a caller draws.
"""

from vitlab.alt_text import describe
from vitlab.plots.amounts import filters, first_component, maps, matrix, overlay, position_similarity
from vitlab.plots.beside import maps_below, maps_beside
from vitlab.plots.drawing import COLOURS, DASHES, MARKERS, legend_below, pixels
from vitlab.plots.panels import panels, scores_and_weights
from vitlab.plots.pictures import image, images, merged_tokens, patch_grid, patch_sequence, patch_vector
from vitlab.plots.results import (
    CURVES,
    attention_distance,
    bars,
    by_labels,
    curves,
    dots,
    level,
    lines,
    runs,
    series,
    spread,
)

__all__ = [
    "COLOURS",
    "CURVES",
    "DASHES",
    "MARKERS",
    "attention_distance",
    "bars",
    "by_labels",
    "curves",
    "describe",
    "dots",
    "filters",
    "first_component",
    "image",
    "images",
    "legend_below",
    "level",
    "lines",
    "maps",
    "maps_below",
    "maps_beside",
    "matrix",
    "merged_tokens",
    "overlay",
    "panels",
    "patch_grid",
    "patch_sequence",
    "patch_vector",
    "pixels",
    "position_similarity",
    "runs",
    "scores_and_weights",
    "series",
    "spread",
]
