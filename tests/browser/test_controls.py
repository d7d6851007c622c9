"""Every control of every explorer does something, by keyboard, and what is shown then is true."""

import lab
import pytest

pytestmark = pytest.mark.slow


def shown(explorer) -> tuple[str, str]:
    """What an explorer shows: its picture's address, which changes with the picture, and its caption."""
    return explorer.locator("img").first.get_attribute("src"), explorer.locator(".widget-html").inner_text()


def wait_for_change(page, explorer, before: tuple[str, str]) -> bool:
    for _ in range(100):
        if shown(explorer) != before:
            return True
        page.wait_for_timeout(50)
    return False


def moved(page, explorer, *ways) -> bool:
    """Whether one of the ways to move a control, tried in turn, changes what is shown."""
    for way in ways:
        before = shown(explorer)
        way()
        if wait_for_change(page, explorer, before):
            return True
    return False


def slider_moves(explorer):
    for handle in explorer.locator(".noUi-handle").all():
        keys = ("ArrowRight", "ArrowLeft")
        yield lab.label(handle), [lambda key=key, handle=handle: handle.press(key) for key in keys]


def list_moves(explorer):
    for select in explorer.locator("select").all():
        yield lab.label(select), [lambda key=key, select=select: select.press(key) for key in ("End", "Home")]


def button_moves(explorer):
    """Every box to tick, and every button that is not pressed already.

    An upload is left out: it opens a window of the system. So are buttons that make no sense yet, such as
    Stop before Start: test_training_panel.py presses them.
    """
    buttons = "button:not(.mod-active, .widget-upload, :disabled)"
    for control in explorer.locator(f"input[type=checkbox], {buttons}").all():
        name = control.evaluate("c => c.innerText || c.parentElement.innerText")
        yield name, [lambda control=control: control.press("Space")]


def test_every_control_changes_what_is_shown(ran):
    page, page_errors = ran
    explorers = page.locator(lab.EXPLORERS).all()
    assert explorers or "04b" in page.url  # which has none
    idle = []
    for explorer in explorers:
        explorer.scroll_into_view_if_needed()
        controls = [*slider_moves(explorer), *list_moves(explorer), *button_moves(explorer)]
        for control, ways in controls:
            if not moved(page, explorer, *ways):
                idle.append(control)
            lab.wait_until_true(page, explorer, seconds=60)  # one of the buttons trains a model
        assert explorer.locator(".vitlab-error").count() == 0, shown(explorer)[1]
    assert idle == []
    assert lab.output_errors(page) == []
    assert page_errors == []
