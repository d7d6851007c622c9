"""Clicks on pictures: what they choose, what the page is told, and how it is without anywidget."""

import importlib.util
import subprocess
import sys

import ipywidgets
import numpy as np
import pytest
import torch

from vitlab import ViT, ViTConfig
from vitlab.widgets import (
    AlikePatchesExplorer,
    AttentionMapExplorer,
    Explorer,
    HeadDistanceExplorer,
    HeadExplorer,
    PatchExplorer,
    PatchVectorExplorer,
    PositionExplorer,
)
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
    assert "vitlab-clicked" in squares.widget._dom_classes


def test_an_explorer_without_areas_listens_to_nothing():
    level = ipywidgets.IntSlider(0, 0, 9, description="level")
    plain = Explorer(lambda level: (np.full((8, 8, 3), level, np.uint8), f"level {level}"), {"level": level})
    assert [type(child).__name__ for child in plain.widget.children] == ["Box", "Image", "HTML"]
    assert "vitlab-clicked" not in plain.widget._dom_classes


def test_without_anywidget_an_explorer_is_as_it_is(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: None if name == "anywidget" else find(name)
    )
    squares = Squares()
    assert [type(child).__name__ for child in squares.widget.children] == ["Box", "Image", "HTML"]
    assert "vitlab-clicked" not in squares.widget._dom_classes
    squares.set(square=5)
    assert squares.caption == "square 5"


def test_anywidget_is_not_imported_before_it_is_needed():
    code = "import sys, vitlab.widgets; sys.exit('anywidget' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_code_for_the_page_fetches_nothing():
    for word in ("http", "import", "fetch", "XMLHttpRequest", "src", "link", "eval"):
        assert word not in PAGE


# --- the explorers ----------------------------------------------------------------------------------------

CONFIG = ViTConfig(
    image_size=(12, 16), patch_size=4, in_chans=3, embed_dim=24, depth=2, num_heads=2, mlp_dim=40
)
IMAGE = torch.arange(3 * 12 * 16).view(3, 12, 16).remainder(251).to(torch.uint8)
WEIGHTS = torch.rand(2, 1, 2, 13, 13, generator=torch.Generator().manual_seed(0)).softmax(-1)
EXPLORERS = {  # the explorer, then places in the picture and what a click there sets
    "head": (
        lambda: HeadExplorer(ViT(CONFIG), {"a": IMAGE}),  # panels of 264 pixels, 24 apart and from the top
        [((200, 160), {"query": 12}), ((288 + 70, 24 + 70), {"query": 6}), ((576 + 5, 24 + 5), {"query": 1})]
        + [((288 + 10, 24 + 264 + 18), {"query": 0}), ((576 + 10, 24 + 264 + 18), {"query": 0})],
    ),
    "maps": (
        lambda: AttentionMapExplorer(ViT(CONFIG), {"a": IMAGE}),  # 280 wide, 20 apart, 26 from the top
        [
            ((75, 26 + 145), {"query": 10}),
            ((300 + 215, 30), {"query": 4}),
            ((600 + 5, 26 + 75), {"query": 5}),
        ],
    ),
    "patches": (
        lambda: PatchExplorer({"a": IMAGE}, patch_size=4),  # the image is 430 wide
        [((120, 26 + 120), {"patch": 6}), ((425, 26 + 320), {"patch": 12})],
    ),
    "vector": (
        lambda: PatchVectorExplorer({"a": IMAGE}, patch_size=4),  # 290 high, so 387 wide
        [((100, 26 + 100), {"patch": 6}), ((380, 26 + 285), {"patch": 12})],
    ),
    "alike": (
        lambda: AlikePatchesExplorer(
            lambda size: ViT(ViTConfig(size, 4, in_chans=3)), {"a": IMAGE}, [16, 24]
        ),  # 270 wide, 26 from the top
        [((10, 26 + 260), {"row": 4, "column": 1}), ((265, 30), {"row": 1, "column": 4})],
    ),
    "positions": (
        lambda: PositionExplorer({"a": torch.eye(12)}, (3, 4)),  # 420 wide, 20 apart, in the middle
        [((440 + 5, 26 + 60), {"row": 1, "column": 1}), ((440 + 415, 26 + 360), {"row": 3, "column": 4})],
    ),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_click_chooses_what_is_seen_there(name):
    build, clicked = EXPLORERS[name]
    explorer = build()
    for place, chosen in clicked:
        before = explorer.state
        explorer.click(*place)
        assert explorer.state == before | chosen
        assert explorer.error is None


@pytest.mark.parametrize("name", EXPLORERS)
def test_whatever_is_clicked_a_control_does_too(name):
    """Each area's corners lie in the picture, set controls that there are, and leave the state as asked."""
    explorer = EXPLORERS[name][0]()
    width, height = explorer.size
    for area in explorer.areas():
        left, top, wide, high = area.box
        assert 0 <= left < left + wide <= width + 1e-6
        assert 0 <= top < top + high <= height + 12  # the last line of a sequence has a gap below it, too
        for x in (left + 0.5, left + wide - 0.5):
            for y in (top + 0.5, top + high - 0.5):
                explorer.reset()
                explorer.click(x, y)
                assert explorer.state == explorer.state | area.at(x, y)


def test_the_sequence_is_clicked_where_its_patches_are():
    """The frame that a patch gets is round the place of the click, in every line of the sequence."""
    explorer = PatchExplorer({"a": IMAGE}, patch_size=2)  # 48 patches
    found = set()
    for x in range(455, 880, 10):
        for y in range(30, 450, 10):
            explorer.reset()
            explorer.click(x, y)
            found.add(explorer.state["patch"])
    assert found == set(range(1, 49))


def test_a_size_that_does_not_divide_leaves_nothing_to_click():
    explorer = PatchExplorer({"a": IMAGE}, patch_size=4)
    explorer.set(typed=5)
    assert explorer.areas() == []
    explorer.click(100, 100)
    assert explorer.state["patch"] == 1


def test_a_dot_chooses_its_head():
    explorer = HeadDistanceExplorer(WEIGHTS, CONFIG)
    _, where = explorer._dots("drop")
    for layer in range(2):
        for head in range(2):
            explorer.click(*where[layer, head])
            assert (explorer.state["layer"], explorer.state["head"]) == (layer + 1, head + 1)
