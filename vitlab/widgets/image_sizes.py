"""Lesson 06: the same explorer at several image sizes, each with what it costs."""

import time
from collections.abc import Callable, Mapping

import ipywidgets

from vitlab.widgets.attention_analysis import AttentionMapExplorer
from vitlab.widgets.turns import in_turn


class ImageSizeExplorer:
    """An `AttentionMapExplorer` for each of some image sizes, made when first chosen, and what that cost.

    `sizes` maps sides in pixels to functions that make an explorer; the first is made at once. Under the
    choice stands how many patches there are, how long it took and how much memory the attention takes. Where
    one cannot be made, that is said there, and the one before stays. Raises ValueError without a size.

    >>> import torch
    >>> from vitlab import ViT, ViTConfig
    >>> def at(side):
    ...     return AttentionMapExplorer(ViT(ViTConfig(side)), {"blank": torch.zeros(1, side, side)})
    >>> sizes = ImageSizeExplorer({28: lambda: at(28), 56: lambda: at(56)})
    >>> sizes.choose(56)
    >>> sizes.explorer.grid, sizes.cost.partition(";")[0]
    ((14, 14), '56 × 56 pixels: 14 × 14 patches, 197 tokens')
    """

    def __init__(self, sizes: Mapping[int, Callable[[], AttentionMapExplorer]]):
        if not sizes:
            raise ValueError("sizes maps at least one side in pixels to a function that makes an explorer")
        self._make, self._made = dict(sizes), {}
        first = next(iter(self._make))
        options = [(f"{side} × {side} pixels", side) for side in self._make]
        self.control = ipywidgets.Dropdown(options=options, value=first, description="image size")
        self.control.style.description_width = "initial"
        self._text, self._place = ipywidgets.HTML(), ipywidgets.VBox()
        self.widget = ipywidgets.VBox([ipywidgets.HBox([self.control, self._text]), self._place])
        self.cost, self._shown = "", first
        self._show(first)
        self.control.observe(lambda change: self._show(change["new"]), names="value")

    @property
    def explorer(self) -> AttentionMapExplorer:
        """The explorer that is shown."""
        return self._made[self._shown][0]

    def choose(self, side: int) -> None:
        """Show another size, as the control does."""
        self.control.value = side

    @in_turn
    def _show(self, side: int) -> None:
        if side not in self._made:
            self._tell(f"{side} × {side} pixels: recording the attention …")
            begin = time.perf_counter()
            try:
                explorer = self._make[side]()
            except Exception as error:
                self._tell(f"{side} × {side} pixels: {error}. The picture is still the one before.")
                raise
            self._made[side] = explorer, time.perf_counter() - begin
        self._shown = side
        explorer, seconds = self._made[side]
        (rows, columns), tokens = explorer.grid, explorer.weights.shape[-1]
        images, weights = explorer.weights.shape[1], explorer.weights.nbytes
        self._tell(
            f"{side} × {side} pixels: {rows} × {columns} patches, {tokens} tokens; made in {seconds:.1f} s, "
            f"{weights / images / 1e6:.0f} MB of attention for each of {images} images"
        )
        self._place.children = [explorer.widget]

    def _tell(self, words: str) -> None:
        self.cost = words
        self._text.value = f'<div role="status">{words}</div>'

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        """The widget, and for readers without a kernel the picture of the explorer that is shown."""
        bundle, about = self.explorer._repr_mimebundle_(**kwargs)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return bundle | {"application/vnd.jupyter.widget-view+json": view}, about
