"""Clicks on pictures: what they choose, what the page is told, and how it is without anywidget."""

import importlib.util
import subprocess
import sys

import ipywidgets
import numpy as np
import pytest

from vitlab.widgets import Explorer
from vitlab.widgets import clicks as module
from vitlab.widgets.clicks import PAGE, Area

there = pytest.mark.skipif(importlib.util.find_spec("anywidget") is None, reason="anywidget is not installed")


class Squares(Explorer):
    """Three rows of four squares, 10 pixels each, from (20, 30) on; the last row cannot be clicked."""

    def __init__(self):
        controls = {"square": ipywidgets.IntSlider(1, 1, 12, description="square")}
        super().__init__(self.draw, controls, size=(100, 80))

    def draw(self, square):
        return np.full((80, 100, 3), square, np.uint8), f"square {square}"

    def areas(self):
        return [Area((20, 30, 40, 20), (2, 4), lambda row, column: {"square": 4 * row + column + 1})]


def test_each_cell_is_where_it_is_seen():
    squares = Squares()
    for y in range(0, 80, 5):
        for x in range(0, 100, 5):
            squares.set(square=12)
            squares.click(x + 0.5, y + 0.5)
            inside = 20 <= x < 60 and 30 <= y < 50
            wanted = 4 * ((y - 30) // 10) + (x - 20) // 10 + 1 if inside else 12
            assert squares.state["square"] == wanted, (x, y)


def test_the_first_area_that_holds_a_point_answers():
    lower = Area((0, 0, 10, 10), (1, 1), lambda _row, _column: {"a": 1})
    upper = Area((5, 0, 10, 10), (1, 1), lambda _row, _column: {"a": 2})
    found = [next((v for area in (lower, upper) if (v := area.at(x, 5))), None) for x in (4, 6, 12, 16)]
    assert found == [{"a": 1}, {"a": 1}, {"a": 2}, None]


@there
def test_the_page_is_told_the_areas_and_its_click_is_done():
    squares = Squares()
    (listening,) = squares._clicks
    assert listening.areas == [[0.2, 0.375, 0.6, 0.625]]
    listening.clicked = [0.55, 0.6, 1]
    assert squares.state["square"] == 8
    assert squares.caption == "square 8"
    listening.clicked = [0.05, 0.6, 2]
    assert squares.state["square"] == 8
    squares.set(square=3)
    listening.clicked = [0.55, 0.6, 3]  # the same place again
    assert squares.state["square"] == 8


@there
def test_what_listens_is_in_a_box_that_is_not_shown():
    squares = Squares()
    *shown, hidden = squares.widget.children
    assert [type(child).__name__ for child in shown] == ["Box", "Image", "HTML"]
    assert hidden.layout.display == "none"
    assert squares.widget._dom_classes == ("vitlab-clicked",)


def test_an_explorer_without_areas_listens_to_nothing():
    level = ipywidgets.IntSlider(0, 0, 9, description="level")
    plain = Explorer(lambda level: (np.full((8, 8, 3), level, np.uint8), f"level {level}"), {"level": level})
    assert [type(child).__name__ for child in plain.widget.children] == ["Box", "Image", "HTML"]
    assert plain.widget._dom_classes == ()


def test_without_anywidget_an_explorer_is_as_it_is(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: None if name == "anywidget" else find(name)
    )
    squares = Squares()
    assert [type(child).__name__ for child in squares.widget.children] == ["Box", "Image", "HTML"]
    assert squares.widget._dom_classes == ()
    squares.set(square=5)
    assert squares.caption == "square 5"


def test_anywidget_is_not_imported_before_it_is_needed():
    code = "import sys, vitlab.widgets; sys.exit('anywidget' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_code_for_the_page_fetches_nothing():
    for word in ("http", "import", "fetch", "XMLHttpRequest", "src", "link", "eval"):
        assert word not in PAGE
