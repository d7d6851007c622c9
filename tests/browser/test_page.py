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
NOTEBOOK = "document.querySelector('.jp-NotebookPanel .jp-WindowedPanel-outer')"
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


def test_lists_show_their_choices_whole_and_lines_break_between_words(ran):
    page, _ = ran
    assert page.evaluate(CUT_CHOICES) == []
    tracks = page.locator(".vitlab-explorer .noUi-target").evaluate_all(
        "all => all.filter(track => track.offsetWidth).map(track => track.offsetWidth)"
    )
    assert min(tracks, default=60) >= 60  # pixels to drag a handle along
    breaks = "all => all.map(printed => getComputedStyle(printed).wordBreak)"
    assert set(page.locator(".jp-RenderedText pre").evaluate_all(breaks)) <= {"normal"}


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
    assert min(scales) >= 0.7 - 1e-3  # of letters of 9 points, 12.5 pixels: nearly nine are left
    assert page.evaluate(SCROLLED) == []
    assert page.evaluate(SCROLLED_EXPLORERS) == []
    assert page.evaluate(f"{NOTEBOOK}.scrollWidth <= {NOTEBOOK}.clientWidth")
    page.set_viewport_size(before)


# Cells of a number or a few words whose text stands in more than one line.
BROKEN_CELLS = """() => [...document.querySelectorAll('.jp-RenderedMarkdown :is(td, th)')].filter(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const line = parseFloat(getComputedStyle(cell).lineHeight) || 20;
    return cell.innerText.length <= 32 && range.getBoundingClientRect().height > 1.9 * line
        && !cell.querySelector('br, mjx-container, img');
}).map(cell => cell.innerText)"""

# Figures that are scrolled although they would be large enough if they were shown whole.
SCROLLED = """() => [...document.querySelectorAll('.jp-RenderedImage')].filter(box => box.offsetWidth
    && box.scrollWidth > box.clientWidth + 2
    && 0.7 * box.querySelector('img').naturalWidth < box.clientWidth - 20)
    .map(box => [box.clientWidth, box.querySelector('img').naturalWidth])"""

# Explorers that are scrolled, though their pictures shrink.
SCROLLED_EXPLORERS = """() => [...document.querySelectorAll('.vitlab-explorer')].filter(
    explorer => explorer.offsetWidth && explorer.scrollWidth > explorer.clientWidth
).map(explorer => [explorer.clientWidth, explorer.scrollWidth, explorer.innerText.slice(0, 60)])"""

# Choices in lists that are cut where they are shown: an arrow and its margins take 24 pixels.
CUT_CHOICES = """() => [...document.querySelectorAll('.vitlab-explorer select')].flatMap(list => {
    const pen = document.createElement('canvas').getContext('2d');
    pen.font = getComputedStyle(list).font;
    return list.offsetWidth && !list.multiple ? [...list.options].map(option => option.text)
        .filter(text => pen.measureText(text).width > list.clientWidth - 24) : [];
})"""

# Text and formulas that reach over the edge of what they are in, and cannot be scrolled to.
CUT = """() => [...document.querySelectorAll(
    '.jp-RenderedMarkdown, .jp-RenderedMarkdown mjx-container, .jp-OutputArea-output pre'
)].filter(part => part.offsetWidth && part.scrollWidth > part.clientWidth + 2
    && !['auto', 'scroll'].includes(getComputedStyle(part).overflowX)
    && getComputedStyle(part).display !== 'inline').map(part => part.innerText.slice(0, 60))"""


# How JupyterLab sends what controls say: past the running cell, or, as on Colab, behind it.
COMMS = "@jupyterlab/apputils-extension/kernels-settings"
BUSY = "import time\nend = time.monotonic() + seconds\nwhile time.monotonic() < end: time.sleep(0.02)"
CELLS = [
    START,
    all_explorers.SETUP + "\nfrom vitlab import plots\nseconds = 0",
    "HeadExplorer(model, images)",
    "from vitlab.checks import predict",
    'predict("1.a")',
    BUSY,
    "import matplotlib.pyplot as plt\nplt.figure(figsize=(9, 2)).add_axes((0, 0, 1, 1));",
]
PANEL_CELLS = [
    START,
    all_explorers.SETUP + "\nseconds = 0",
    "TrainingPanel(test, test.subset(50), run, steps=5000)",
]


def opened(browser, address, folder, name, cells):
    """A page with these cells, run."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    tools.write(nbformat.v4.new_notebook(cells=cells, metadata=tools.METADATA), folder / f"{name}.ipynb")
    return lab.running(browser, address, name)


@pytest.fixture(scope="module")
def two_cells(browser, served):
    """An explorer, a question, and a cell that runs as long as it is told to."""
    with opened(browser, *served, "waiting", CELLS) as (page, errors):
        yield page
        assert lab.output_errors(page) == []
        assert errors == []


@pytest.fixture(scope="module")
def behind(browser, tmp_path_factory):
    """A JupyterLab in which controls wait for the running cell."""
    more = {COMMS: {"commsOverSubshells": "disabled"}}
    with lab.jupyterlab(tmp_path_factory.mktemp("behind"), more=more) as address_and_folder:
        yield address_and_folder


def run_for(page: Page, seconds: float) -> None:
    """Let a cell run for so long, beside which the controls are moved."""
    lab.kernel_value(page, "None", f"seconds = {seconds}")
    page.evaluate(
        f"""() => {{
            const notebook = {lab.PANEL}.content;
            notebook.activeCellIndex = notebook.widgets.findIndex(
                cell => cell.model.sharedModel.source.startsWith('import time'));
            window.jupyterapp.commands.execute('notebook:run-cell');  // not awaited
        }}"""
    )
    expect(page.locator(".jp-InputPrompt", has_text="*")).to_have_count(1)


@pytest.mark.parametrize("place", ["beside", "behind"])
def test_what_waits_for_a_running_cell_says_so(browser, served, behind, place):
    """Also where the page sends what a slider says past the cell: explorers and cells take turns."""
    address = served if place == "beside" else behind
    with opened(browser, *address, f"waiting_{place}", CELLS) as (page, errors):
        waiting, explorer = page.locator(".vitlab-waiting"), page.locator(lab.EXPLORERS)
        slider = lab.control(explorer, "layer")
        slider.press("ArrowRight")
        lab.wait_until_true(page, explorer)
        expect(waiting).to_have_count(0)  # no cell runs

        before = lab.caption(explorer)
        run_for(page, 6)
        expect(waiting).to_have_count(0)  # nothing was moved
        slider.press("ArrowRight")
        expect(waiting).to_have_text(WAITING)
        assert lab.caption(explorer) == before
        expect(waiting).to_have_count(0, timeout=60_000)
        assert "layer 3" in lab.wait_until_true(page, explorer)
        assert errors == []


@pytest.mark.parametrize("place", ["beside", "behind"])
def test_pause_while_a_cell_runs(browser, served, behind, place):
    """As the panel's docstring says: at once, or, behind the cell, as it ends; till then it says so."""
    address = served if place == "beside" else behind
    with opened(browser, *address, f"pause_{place}", [*PANEL_CELLS, BUSY]) as (page, errors):
        panel, star = page.locator(lab.EXPLORERS), page.locator(".jp-InputPrompt", has_text="*")
        caption = panel.locator(".widget-html")
        button = {
            name: panel.get_by_role("button", name=name, exact=True) for name in ("Start", "Pause", "Stop")
        }
        button["Start"].press("Enter")
        expect(caption).to_contain_text("Training. Step", timeout=60_000)
        run_for(page, 20 if place == "beside" else 6)
        button["Pause"].press("Enter")
        if place == "beside":
            expect(caption).to_contain_text("Paused. Step", timeout=15_000)
            expect(page.locator(".vitlab-waiting")).to_have_count(0)  # it has been answered
            expect(star).to_have_count(1)
        else:
            expect(page.locator(".vitlab-waiting")).to_have_text(WAITING)
            before = caption.inner_text()
            expect(caption).not_to_have_text(before, timeout=5_000)  # the training goes on
            expect(page.locator(".vitlab-waiting")).to_have_text(WAITING)  # which is no answer to the button
            assert "Training. Step" in caption.inner_text()
            expect(star).to_have_count(0, timeout=60_000)
            expect(caption).to_contain_text("Paused. Step", timeout=15_000)
        expect(page.locator(".vitlab-waiting")).to_have_count(0)
        panel.get_by_role("button", name="Stop", exact=True).press("Enter")
        expect(caption).to_contain_text("Stopped.", timeout=60_000)
        assert lab.output_errors(page) == errors == []


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
    """No picture is white there; letters on it keep the contrast that readers need, 4.5 to 1. In a narrow
    window the card is there whole."""
    page = two_cells
    grounds, before = [], page.viewport_size
    page.set_viewport_size(NARROW)
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})")
        expect(page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
        for picture in page.locator(".jp-RenderedImage img, img.widget-image").all():
            picture.scroll_into_view_if_needed()
            style = picture.evaluate("p => [getComputedStyle(p).filter, getComputedStyle(p).boxShadow]")
            grounds.append(style)
        assert page.evaluate(SCROLLED) == []
    page.set_viewport_size(before)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    light, dark = grounds[: len(grounds) // 2], grounds[len(grounds) // 2 :]
    assert len(light) == len(dark) == 2
    assert all(style == ["none", "none"] for style in light)
    for shade, card in dark:
        grey = float(shade.removeprefix("brightness(").removesuffix(")"))
        assert "rgb(255, 255, 255)" in card
        assert 0.6 < grey < 0.9
        assert (grey**2.2 + 0.05) / 0.05 > 4.5  # of black letters on this grey, by WCAG's formula
