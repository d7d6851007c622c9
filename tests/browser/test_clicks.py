"""Clicks on pictures in JupyterLab do what the controls do; without anywidget the controls do all."""

import contextlib

import all_explorers
import lab
import nbformat
import notebook_tools as tools
import pytest
from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow

WITHOUT = "import sys\n\nsys.modules['anywidget'] = None  # as where it is not installed"
NAMES = ("HeadExplorer", "AttentionStepExplorer", "PatchVectorExplorer", "AttentionMapExplorer")


@pytest.fixture(scope="module", params=[1280, 900], ids=["wide", "narrow"])
def clicked(request, browser, served):
    """A page with the explorers that can be clicked; in a narrow one their pictures are smaller."""
    with opened(browser, served, request.param) as page:
        yield page


def opened(browser, served, width, *before: str):
    """A page with these explorers, after cells with the code `before`."""
    address, folder = served
    sources = [*before, all_explorers.SETUP, *(all_explorers.EXPLORERS[name] for name in NAMES)]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    tools.write(nbformat.v4.new_notebook(cells=cells, metadata=tools.METADATA), folder / "clicked.ipynb")
    return no_error(browser, address, width)


@contextlib.contextmanager
def no_error(browser, address, width):
    with lab.running(browser, address, "clicked", width=width) as (page, errors):
        yield page
        assert lab.output_errors(page) == []
        assert errors == []


def find(page: Page, name: str) -> Locator:
    explorer = page.locator(lab.EXPLORERS).nth(NAMES.index(name))
    explorer.locator("img").scroll_into_view_if_needed()
    return explorer


def go_to(page: Page, explorer: Locator, x: float, y: float) -> None:
    """The mouse over a place of the picture, in its own pixels."""
    box = explorer.locator("img").bounding_box()
    width = explorer.locator("img").evaluate("image => image.naturalWidth")
    page.mouse.move(box["x"] + x * box["width"] / width, box["y"] + y * box["width"] / width)


def click(page: Page, explorer: Locator, x: float, y: float) -> None:
    go_to(page, explorer, x, y)
    page.mouse.down()
    page.mouse.up()


def pointer(explorer: Locator) -> str:
    return explorer.locator("img").evaluate("image => getComputedStyle(image).cursor")


def value(explorer: Locator, name: str) -> float:
    return float(lab.control(explorer, name).get_attribute("aria-valuenow"))


def settled(page: Page, explorer: Locator, name: str, wanted: float) -> str:
    """Wait until a slider stands there; returns the caption, which is then of that state."""
    for _ in range(100):
        if value(explorer, name) == wanted:
            break
        page.wait_for_timeout(50)
    assert value(explorer, name) == wanted
    return lab.wait_until_true(page, explorer)


PLACES = [  # explorer, a place in its picture, the slider and where it then stands, words of the caption
    ("HeadExplorer", (3 * 37 + 10, 24 + 2 * 37 + 10), "query token", 18, "query: patch 18 (row 3, column 4)"),
    ("HeadExplorer", (288 + 10, 24 + 264 + 8 + 10), "query token", 0, "query: the class token"),
    ("AttentionStepExplorer", (28 * 4 + 9, 24 + 28 * 5 + 9), "query token", 40, ": patch 40 asks"),
    ("AttentionStepExplorer", (216 + 9, 24 + 9), "key token", 1, "asks patch 1 (row 1, column 1)"),
    ("PatchVectorExplorer", (150, 26 + 100), "patch", None, None),
    (
        "AttentionMapExplorer",
        (300 + 6 * 40 + 9, 26 + 9),
        "query (0: class token)",
        7,
        "query: patch 7 (row 1",
    ),
]


@pytest.mark.parametrize(("name", "place", "slider", "wanted", "words"), PLACES)
def test_a_click_chooses_what_is_there(clicked, name, place, slider, wanted, words):
    explorer = find(clicked, name)
    if wanted is None:  # which patch it is depends on the photo: what is asked is that it is another
        before = value(explorer, slider)
        click(clicked, explorer, *place)
        for _ in range(100):
            if value(explorer, slider) != before:
                break
            clicked.wait_for_timeout(50)
        assert value(explorer, slider) != before
        assert f"patch {value(explorer, slider):.0f} of" in lab.wait_until_true(clicked, explorer)
        return
    click(clicked, explorer, *place)
    assert words in settled(clicked, explorer, slider, wanted)


def test_the_same_by_keyboard(clicked):
    """A click, then an arrow key from there; and the state is one that the slider alone reaches."""
    explorer = find(clicked, "HeadExplorer")
    click(clicked, explorer, 10, 24 + 10)
    by_click = settled(clicked, explorer, "query token", 1)
    lab.control(explorer, "query token").press("End")
    settled(clicked, explorer, "query token", 49)
    lab.control(explorer, "query token").press("Home")
    settled(clicked, explorer, "query token", 0)
    lab.control(explorer, "query token").press("ArrowRight")
    assert settled(clicked, explorer, "query token", 1) == by_click


def test_only_what_can_be_clicked_looks_so(clicked):
    explorer = find(clicked, "HeadExplorer")
    go_to(clicked, explorer, 60, 60)
    assert pointer(explorer) == "pointer"
    go_to(clicked, explorer, 60, 24 + 264 + 44 + 60)  # the sum below the panels
    assert pointer(explorer) != "pointer"
    before = value(explorer, "query token"), lab.caption(explorer)
    click(clicked, explorer, 60, 24 + 264 + 44 + 60)
    clicked.wait_for_timeout(300)
    assert (value(explorer, "query token"), lab.caption(explorer)) == before


def test_without_anywidget_the_controls_do_all(browser, served):
    with opened(browser, served, 1280, WITHOUT) as page:
        for name in NAMES:
            explorer = find(page, name)
            go_to(page, explorer, 60, 60)
            assert pointer(explorer) != "pointer"
            caption = lab.caption(explorer)
            click(page, explorer, 10, 40)
            page.wait_for_timeout(300)
            assert lab.caption(explorer) == caption
            for handle in explorer.locator(".noUi-handle").all():
                now, high = (float(handle.get_attribute(f"aria-value{part}")) for part in ("now", "max"))
                handle.press("ArrowLeft" if now == high else "ArrowRight")
                lab.wait_until_true(page, explorer)
                assert float(handle.get_attribute("aria-valuenow")) != now
            assert lab.caption(explorer) != caption
