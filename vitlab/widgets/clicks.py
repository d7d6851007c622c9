"""Clicks on an explorer's picture, where the page can send them: what a control does, by mouse.

Needs `anywidget`, which is optional: without it, or in a page that does not know it, an explorer is as it is,
with its controls, and nothing looks as if it could be clicked. The code for the page is here, and fetches
nothing.
"""

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import ipywidgets

# It shows nothing itself, but stands in the same box as the picture; the pointer is a hand over areas alone.
PAGE = """
function render({ model, el }) {
  const picture = event => {
    const image = event.target;
    const box = el.closest(".vitlab-clicked");
    return box && image.tagName === "IMG" && image.closest(".vitlab-clicked") === box ? image : null;
  };
  const place = (event, image) => {  // where in the picture, from 0 to 1; it may be smaller than its box
    const box = image.getBoundingClientRect();
    const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const width = image.naturalWidth * scale, height = image.naturalHeight * scale;
    return [(event.clientX - box.left - (box.width - width) / 2) / width,
            (event.clientY - box.top - (box.height - height) / 2) / height];
  };
  const inside = ([x, y]) => model.get("areas").some(
    ([left, top, right, bottom]) => left <= x && x < right && top <= y && y < bottom);
  const move = event => {
    const image = picture(event);
    if (image) image.style.cursor = inside(place(event, image)) ? "pointer" : "";
  };
  const click = event => {
    const image = picture(event);
    if (!image || !inside(place(event, image))) return;
    model.set("clicked", [...place(event, image), model.get("clicked")[2] + 1]);
    model.save_changes();
  };
  document.addEventListener("mousemove", move);
  document.addEventListener("click", click);
  return () => {
    document.removeEventListener("mousemove", move);
    document.removeEventListener("click", click);
  };
}
export default { render };
"""


class Area(NamedTuple):
    """A part of a picture that can be clicked: a box (left, top, width, height) in pixels, cut into cells
    (rows, columns); `chosen` says to what a click on a cell sets which controls."""

    box: tuple[float, float, float, float]
    cells: tuple[int, int]
    chosen: Callable[[int, int], dict]

    def at(self, x: float, y: float) -> dict | None:
        """What a click at (x, y) sets; None where it is outside.

        >>> area = Area((10, 0, 20, 20), (2, 2), lambda row, column: {"patch": 2 * row + column + 1})
        >>> area.at(29.9, 5), area.at(30, 5)
        ({'patch': 2}, None)
        """
        left, top, width, height = self.box
        column, row = (x - left) / width * self.cells[1], (y - top) / height * self.cells[0]
        if not (0 <= row < self.cells[0] and 0 <= column < self.cells[1]):
            return None
        return self.chosen(int(row), int(column))


def clicks(clicked: Callable[[float, float], None]) -> tuple[ipywidgets.Widget, ...]:
    """The widget that calls `clicked` with a place in the picture, from 0 to 1; none without `anywidget`.

    It stands in a box that is not shown: a page that does not know it would write an error in its place.
    """
    if importlib.util.find_spec("anywidget") is None:
        return ()
    listening = _kind()()
    listening.observe(lambda change: clicked(*change.new[:2]), names="clicked")
    return (listening,)


@lru_cache
def _kind() -> type[ipywidgets.Widget]:
    import anywidget
    import traitlets

    class Clicks(anywidget.AnyWidget):
        _esm = PAGE
        areas = traitlets.List().tag(sync=True)  # (left, top, right, bottom), from 0 to 1
        clicked = traitlets.List([0.0, 0.0, 0]).tag(sync=True)  # x, y, and how many clicks there were

    return Clicks
