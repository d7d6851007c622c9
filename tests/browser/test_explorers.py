"""All explorers in one page: how fast they answer, the last move wins, the keyboard is enough."""

import os
import re

import lab
import latency
import pytest
from all_explorers import EXPLORERS, find

pytestmark = pytest.mark.slow

TYPICAL = (
    250  # milliseconds: the median of every slider stays below; where others work too, as many times this
)
QUIET = 300  # milliseconds after the last key: by then the last picture is there, and none follows
CONTROLS = ".noUi-handle, select, input:not([type=file]), button"

# Which captions an explorer has shown, and when; the page's own clock starts at the last key.
WATCH = """explorer => {
    const text = explorer.querySelector('.widget-html');
    window.seen = [];
    explorer.addEventListener('keydown', event => { window.pressed = event.timeStamp; }, {capture: true});
    window.watcher?.disconnect();
    window.watcher = new MutationObserver(() => window.seen.push([performance.now(), text.innerText]));
    window.watcher.observe(text, {childList: true, subtree: true});
}"""


# Which of its controls has the focus: -1 for something else in it, nothing where the focus is elsewhere.
FOCUSED = """(explorer, controls) => explorer.contains(document.activeElement)
    ? Array.from(explorer.querySelectorAll(controls)).indexOf(document.activeElement) : null"""


def test_sliders_answer_fast(page):
    rows = list(latency.measure(page, "all", moves=8))
    print()
    for row in rows:
        print(f"{row.explorer:<22}{row.control:<24}median {row.median:4.0f} ms   p95 {row.p95:4.0f} ms")
    assert len(rows) == 41
    assert [row for row in rows if row.median > TYPICAL * busy()] == []


@pytest.mark.parametrize("name", [name for name in EXPLORERS if name not in ("DebugExplorer", "MapExplorer")])
def test_rapid_moves_end_on_the_last_state(page, name):
    explorer = find(page, name)
    pressed = press_rapidly(page, explorer, keys=20)
    last = lab.wait_until_true(page, explorer)
    changes = page.evaluate("window.seen.length")
    page.wait_for_timeout(QUIET)
    assert page.evaluate("window.seen.length") == changes, "still redrawing"
    assert lab.wait_until_true(page, explorer, seconds=0) == last
    after = page.evaluate("window.seen.at(-1)[0]") - pressed
    print(f"\n{name}: {changes} redrawings for 20 keys, the last {after:.0f} ms after the last key")
    assert after <= QUIET * busy()


def test_a_late_event_is_never_drawn_over_a_newer_one(page):
    explorer = find(page, "HeadExplorer")
    press_rapidly(page, explorer, keys=40)
    lab.wait_until_true(page, explorer)
    captions = [caption for _, caption in page.evaluate("window.seen")]
    queries = [int(re.search(r"query: patch (\d+)", caption)[1]) for caption in captions]
    assert queries == sorted(set(queries))
    assert queries[-1] == 40


def busy() -> float:
    """How many programs share a processor core now, this one among them; 1 on a quiet machine."""
    return max(1, os.getloadavg()[0] / os.cpu_count())


def press_rapidly(page, explorer, keys: int) -> float:
    """Press so many arrow keys on the last slider, from its lower end; returns when the last was pressed."""
    explorer.locator(".noUi-handle").last.press("Home")
    lab.wait_until_true(page, explorer)
    explorer.evaluate(WATCH)
    for _ in range(keys):
        page.keyboard.press("ArrowRight")
    return page.evaluate("window.pressed")


@pytest.mark.parametrize("name", EXPLORERS)
def test_the_keyboard_is_enough(page, name):
    """Tab reaches every control, in the order in which they stand; each has a name that can be read."""
    explorer = find(page, name)
    controls = explorer.locator(CONTROLS)
    controls.first.focus()
    reached = []
    while (place := explorer.evaluate(FOCUSED, CONTROLS)) is not None:
        reached.append(place)
        page.keyboard.press("Tab")
    reached = [place for place in reached if place >= 0]  # the number beside a slider is reached too: to type
    assert reached == list(range(controls.count()))
    for control in controls.all():
        assert control.evaluate("c => c.innerText") or lab.label(control)
