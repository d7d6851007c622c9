"""What `vitlab.start` tells the page: names, keys, what waits for a running cell, narrow and dark windows."""

import all_explorers
import lab
import nbformat
import notebook_tools as tools
import pytest
from playwright.sync_api import Page, expect

from vitlab.page import WAITING

pytestmark = pytest.mark.slow

NARROW = {"width": 900, "height": 1000}
START = "import vitlab\nrun = vitlab.start(quick=True, device='cpu', precision='fp32')"
FOCUSED = "document.activeElement.dataset.tabbed"


def names(page: Page, role: str) -> list[str]:
    """The names that a screen reader is given for everything of a role."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    seen = [node for node in nodes if not node["ignored"] and node["role"]["value"] == role]
    return [node.get("name", {}).get("value", "") for node in seen]


def lists(page: Page) -> list[str]:
    """Number the lists of the explorers in the page's order; returns the numbers."""
    return page.locator(f"{lab.EXPLORERS} select").evaluate_all(
        "all => all.map((list, i) => list.dataset.tabbed = `${i}`)"
    )


def test_groups_of_options_are_named_by_their_question(ran):
    page, _ = ran
    questions = page.locator(".vitlab-question").evaluate_all(
        "all => all.map(box => box.querySelector('.widget-html-content').innerText.trim())"
    )
    assert questions or "00_start_here" in page.url  # where nothing is asked
    assert all(questions)
    groups = names(page, "radiogroup")
    assert "" not in groups
    assert {" ".join(each.split()) for each in questions} <= {" ".join(each.split()) for each in groups}
    sliders = page.locator(f"{lab.EXPLORERS} .noUi-handle").count()
    assert len([name for name in names(page, "slider") if name]) >= sliders
    assert "" not in names(page, "combobox")


def test_tab_reaches_every_list(ran):
    """From the cell of an explorer, as its reader does; and on the list the arrow keys choose."""
    page, _ = ran
    unreached = lists(page)
    for explorer in page.locator(lab.EXPLORERS).filter(has=page.locator("select")).all():
        explorer.scroll_into_view_if_needed()
        explorer.evaluate("e => e.closest('.jp-Cell').focus()")
        for _ in range(40):
            page.keyboard.press("Tab")
            if (number := page.evaluate(FOCUSED)) in unreached:
                unreached.remove(number)
    assert unreached == []
    options = "all => all.map(list => list.dataset.lmSuppressShortcuts)"
    assert set(page.locator(f"{lab.EXPLORERS} select").evaluate_all(options)) <= {"true"}


def test_a_narrow_window_wraps_no_row_and_cuts_no_formula(ran):
    page, _ = ran
    before = page.viewport_size
    page.set_viewport_size(NARROW)
    page.wait_for_timeout(500)
    assert page.evaluate(BROKEN_CELLS) == []
    assert page.evaluate(CUT) == []
    scales = page.evaluate(
        """() => [...document.querySelectorAll('.jp-RenderedImage img, img.widget-image')]
            .filter(picture => picture.offsetWidth)
            .map(picture => picture.getBoundingClientRect().width / picture.naturalWidth)"""
    )
    assert min(scales) >= 0.7  # of letters of 9 points, 12.5 pixels: nearly nine are left
    page.set_viewport_size(before)


# Cells of a number or a few words whose text stands in more than one line.
BROKEN_CELLS = """() => [...document.querySelectorAll('.jp-RenderedMarkdown :is(td, th)')].filter(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const line = parseFloat(getComputedStyle(cell).lineHeight) || 20;
    return cell.innerText.length <= 32 && range.getBoundingClientRect().height > 1.9 * line
        && !cell.querySelector('br, mjx-container, img');
}).map(cell => cell.innerText)"""

# Text and formulas that reach over the edge of what they are in, and cannot be scrolled to.
CUT = """() => [...document.querySelectorAll(
    '.jp-RenderedMarkdown, .jp-RenderedMarkdown mjx-container, .jp-OutputArea-output pre'
)].filter(part => part.offsetWidth && part.scrollWidth > part.clientWidth + 2
    && !['auto', 'scroll'].includes(getComputedStyle(part).overflowX)
    && getComputedStyle(part).display !== 'inline').map(part => part.innerText.slice(0, 60))"""


@pytest.fixture(scope="module")
def two_cells(browser, served):
    """An explorer, a question, and a cell that runs for some seconds."""
    cells = [START, all_explorers.SETUP, "HeadExplorer(model, images)", "from vitlab.checks import predict"]
    cells += [
        'predict("1.a")',
        "import time\nfor _ in range(40 * slow): time.sleep(0.1)",
        "plots.image(images['first'])",
    ]
    cells[1] += "\nfrom vitlab import plots\nslow = 0"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=tools.METADATA
    )
    tools.write(notebook, served[1] / "waiting.ipynb")
    with lab.running(browser, served[0], "waiting") as (page, errors):
        yield page
        assert lab.output_errors(page) == []
        assert errors == []


def test_what_waits_for_a_running_cell_says_so(two_cells):
    page, waiting = two_cells, two_cells.locator(".vitlab-waiting")
    explorer = page.locator(lab.EXPLORERS)
    slider = lab.control(explorer, "layer")
    slider.press("ArrowRight")
    lab.wait_until_true(page, explorer)
    expect(waiting).to_have_count(0)  # no cell runs

    lab.kernel_value(page, "None", "slow = 1")
    before = lab.caption(explorer)
    page.evaluate(
        f"""() => {{
            const notebook = {lab.PANEL}.content;
            notebook.activeCellIndex = notebook.widgets.findIndex(
                cell => cell.model.sharedModel.source.startsWith('import time'));
            window.jupyterapp.commands.execute('notebook:run-cell');  // not awaited
        }}"""
    )
    expect(page.locator(".jp-InputPrompt", has_text="*")).to_have_count(1)
    expect(waiting).to_have_count(0)  # nothing was moved
    slider.press("ArrowRight")
    expect(waiting).to_have_text(WAITING)
    assert lab.caption(explorer) == before
    expect(waiting).to_have_count(0, timeout=20_000)
    assert "layer 3" in lab.wait_until_true(page, explorer)


def test_arrow_keys_choose_in_lists_and_in_groups(two_cells):
    page = two_cells
    explorer = page.locator(lab.EXPLORERS)
    lab.control(explorer, "image").press("ArrowDown")
    expect(lab.control(explorer, "image")).to_have_value("second")
    lab.wait_until_true(page, explorer)
    group = page.get_by_role("radiogroup")
    group.locator("input").first.press("Space")
    page.keyboard.press("ArrowDown")
    expect(group.locator("input").nth(1)).to_be_checked()
    expect(group.locator("input").first).not_to_be_checked()


def test_in_a_dark_theme_a_figure_sits_on_a_card(two_cells):
    """No picture is white there; letters on it keep the contrast that readers need, 4.5 to 1."""
    page = two_cells
    grounds = []
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})")
        expect(page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
        for picture in page.locator(".jp-RenderedImage img, img.widget-image").all():
            picture.scroll_into_view_if_needed()
            style = picture.evaluate("p => [getComputedStyle(p).filter, getComputedStyle(p).boxShadow]")
            grounds.append(style)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    light, dark = grounds[: len(grounds) // 2], grounds[len(grounds) // 2 :]
    assert len(light) == len(dark) == 2
    assert all(style == ["none", "none"] for style in light)
    for shade, card in dark:
        grey = float(shade.removeprefix("brightness(").removesuffix(")"))
        assert "rgb(255, 255, 255)" in card
        assert 0.6 < grey < 0.9
        assert (grey**2.2 + 0.05) / 0.05 > 4.5  # of black letters on this grey, by WCAG's formula
