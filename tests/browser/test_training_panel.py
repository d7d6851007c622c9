"""Lesson 04's training panel in JupyterLab: while it trains the kernel answers, and its buttons act."""

import re

import by_hand
import lab
import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.slow

SECONDS = 60_000  # ms that anything may take on a busy machine


def run_a_cell(page: Page, beginning: str) -> int:
    """Run the code cell whose source begins so and wait for the answer; the number that it then has."""
    return page.evaluate(
        f"""async beginning => {{
            const notebook = {lab.PANEL}.content;
            const found = notebook.widgets.findIndex(c => c.model.sharedModel.source.startsWith(beginning));
            notebook.activeCellIndex = found;
            await window.jupyterapp.commands.execute('notebook:run-cell');
            return notebook.widgets[found].model.executionCount;
        }}""",
        beginning,
    )


def shown(panel: Locator) -> tuple[str, str]:
    """The picture's address, which changes with the picture, and the caption."""
    return panel.locator("img").get_attribute("src"), panel.locator(".widget-html").inner_text()


def test_the_kernel_answers_while_the_panel_trains(browser, served):
    with lab.running(browser, served[0], "04_pretraining") as (page, page_errors):
        begin = page.get_by_role("button", name="Start", exact=True)
        panel = page.locator(".jp-OutputArea-output .widget-vbox:has(> .widget-image)").filter(has=begin)
        caption = panel.locator(".widget-html")
        pause, stop = (panel.get_by_role("button", name=name, exact=True) for name in ("Pause", "Stop"))
        resume = panel.get_by_role("button", name="Resume", exact=True)
        panel.scroll_into_view_if_needed()
        panel.locator(".noUi-handle").press("End")
        expect(caption).to_contain_text("Start trains a new model for 5,000 steps", timeout=SECONDS)
        expect(pause).to_be_disabled()

        begin.press("Enter")  # by keyboard, as all of it can be done
        expect(caption).to_contain_text("Training. Step", timeout=SECONDS)
        expect(begin).to_be_disabled()
        _, before = shown(panel)
        last = page.evaluate(
            f"Math.max(...{lab.PANEL}.content.widgets.map(c => c.model.executionCount ?? 0))"
        )
        assert run_a_cell(page, "def new(") == last + 1
        expect(caption).to_contain_text("Training. Step")  # it went on beside the cell
        expect(caption).not_to_have_text(before, timeout=SECONDS)

        pause.press("Space")
        expect(caption).to_contain_text("Paused. Step", timeout=SECONDS)
        expect(resume).to_be_enabled()
        page.wait_for_timeout(1000)  # the step under way may end, and is shown
        paused = shown(panel)
        page.wait_for_timeout(2000)
        assert shown(panel) == paused

        resume.click()
        expect(caption).to_contain_text("Training. Step", timeout=SECONDS)
        expect(panel.locator("img")).not_to_have_attribute("src", paused[0], timeout=SECONDS)
        stop.click()
        expect(caption).to_contain_text("Stopped. Step", timeout=SECONDS)
        expect(begin).to_be_enabled()
        expect(pause).to_be_disabled()
        expect(stop).to_be_disabled()

        panel.locator(".noUi-handle").press("Home")
        expect(caption).to_contain_text("Start trains a new model for 50 steps", timeout=SECONDS)
        begin.press("Enter")
        expect(caption).to_contain_text("Finished. Step 50 of 50", timeout=SECONDS)
        said = re.search(r"Test accuracy after 50 steps: ([\d.]+)% \(loss ([\d.]+)\)", caption.inner_text())
        training = "_by_hand(train_data, small_test, run, dict(patch_size=PATCH_SIZE), 50, 64, 1.5e-3, 5)"
        accuracy, loss, _ = lab.kernel_value(page, training, by_hand.CODE)
        assert 0.2 < accuracy < 1
        assert float(said[1]) / 100 == pytest.approx(accuracy, abs=0.02)
        assert float(said[2]) == pytest.approx(loss, abs=0.05)
        assert lab.output_errors(page) == []
        assert page_errors == []
