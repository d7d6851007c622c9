"""Lesson 00 and the README: one image's way through a whole model in one picture."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vitlab import plots
from vitlab.attention import attention_rollout, class_map
from vitlab.vit import ViT
from vitlab.widgets import tiles
from vitlab.widgets.data_path import bound_of, walk


def overview(model: ViT, image: Tensor, classes: list[str]) -> Figure:
    """One image's way through `model` in one picture: patches, tokens, attention rollout, class.

    Takes what `DataPathExplorer` takes, with one image (C, H, W), uint8.

    >>> import torch
    >>> from vitlab import ViTConfig
    >>> blank = torch.zeros(1, 28, 28, dtype=torch.uint8)
    >>> len(overview(ViT(ViTConfig()), blank, list("abcdefghij")).axes) >= 4
    True
    """
    path, config = walk(model, image), model.config
    picture = plt.figure(figsize=(11.8, 3), dpi=100, layout="constrained")  # pyplot's, for notebooks to show
    grid, tokens, rollout, answer = picture.subplots(1, 4, width_ratios=(1.1, 3.1, 1.3, 0.7))
    plots.patch_grid(path.image[0], config.patch_size, numbers=False, title="an image, cut", ax=grid)
    bound = bound_of(path.tokens)
    columns, label = path.tokens[0].T, "number in the vector"
    plots.matrix(columns, label, "token", "value", None, -bound, bound, ax=tokens)
    tokens.set_aspect("auto")
    _patches_above(tokens, path.cut_out)
    seen = class_map(attention_rollout(path.weights), config.grid_size)[0]
    plots.overlay(path.image[0], seen, "rollout", "looks around,", ax=rollout)
    probabilities = path.logits[0].softmax(dim=0).numpy()
    best = probabilities.argsort()[::-1][:3]
    answer.barh([classes[i] for i in best], probabilities[best], color="0.35")
    answer.invert_yaxis()
    answer.set(xlim=(0, 1), xlabel="probability", title="and is named")
    row, column = np.unravel_index(int(seen.argmax()), config.grid_size)
    plots.describe(
        picture,
        f"One image's way through the model: cut into {config.num_patches} patches, made "
        f"{path.tokens.shape[1]} tokens, rollout largest in row {row + 1}, column {column + 1}, and named "
        f"{classes[best[0]]} with {probabilities[best[0]]:.1%}.",
    )
    return picture


def _patches_above(ax: Axes, patches: np.ndarray) -> None:
    """Above each column of tokens the patch that it was made of, all in one line."""
    line = tiles.mosaic(
        np.pad(patches, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255), len(patches), 0
    )
    above = ax.inset_axes((0, 1.02, 1, 0.2))
    above.imshow(line, extent=(0.5, len(patches) + 0.5, 0, 1))
    above.set(
        xlim=(-0.5, len(patches) + 0.5),
        anchor="S",
        title="in a row, patch after patch: each becomes a token,",
    )
    above.set_axis_off()
