"""Explorers wait for a running cell where a page sends what controls say past it, in a thread of its own."""

import threading
import time

import ipywidgets
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

from vitlab.widgets import turns
from vitlab.widgets.explorer import Explorer

drawn: list[int] = []


@pytest.fixture
def shell():
    shell = InteractiveShell.instance()
    yield shell
    InteractiveShell.clear_instance()


def explorer(beside: bool = False) -> Explorer:
    def draw(level):
        drawn.append(level)
        return np.full((8, 8, 3), level, np.uint8), f"level {level}"

    kind = type("Kind", (Explorer,), dict(beside=beside))
    return kind(draw, {"level": ipywidgets.IntSlider(0, 0, 255, description="level")})


def moved(explorer: Explorer, level: int, name: str = "subshell-1") -> threading.Thread:
    thread = threading.Thread(target=lambda: explorer.set(level=level), name=name)
    thread.start()
    return thread


def test_a_subshell_waits_for_the_cell_and_draws_what_is_newest_then(shell):
    made = explorer()
    turns.begin_cell()
    try:
        threads = [moved(made, level) for level in (5, 9)]
        time.sleep(0.3)
        assert made.caption == "level 0"
    finally:
        turns.end_cell()
    for thread in threads:
        thread.join(10)
    assert made.caption == f"level {made.controls['level'].value}"


def test_a_cell_waits_for_the_explorer_that_draws(shell):
    begun, order = threading.Event(), []
    made = explorer()
    made.draw = lambda level: (
        (begun.set(), time.sleep(0.3), order.append("drawn"))
        and (
            np.zeros((8, 8, 3), np.uint8),
            "",
        )
    )
    thread = moved(made, 3)
    assert begun.wait(10)
    turns.begin_cell()
    order.append("cell")
    turns.end_cell()
    thread.join(10)
    assert order == ["drawn", "cell"]


def test_a_reset_while_a_cell_draws_the_same_explorer(shell):
    """Both are drawn, one after the other, and the explorer goes on."""
    made, begun = explorer(), threading.Event()
    draw = made.draw
    made.draw = lambda level: (begun.set(), time.sleep(0.3), draw(level))[-1]
    turns.begin_cell()
    thread = threading.Thread(target=lambda: begun.wait(10) and made.reset(), name="subshell-1")
    thread.start()
    made.set(level=7)
    assert made.caption == "level 7"
    turns.end_cell()
    thread.join(10)
    assert made.caption == "level 0"
    made.set(level=9)
    assert made.caption == "level 9"


@pytest.mark.parametrize(("beside", "name"), [(True, "subshell-1"), (False, "a cell's own thread")])
def test_panels_and_threads_of_a_cell_do_not_wait(shell, beside, name):
    made = explorer(beside)
    turns.begin_cell()
    try:
        moved(made, 5, name).join(10)
        assert made.caption == "level 5"
        made.set(level=6)  # the cell itself
        assert made.caption == "level 6"
    finally:
        turns.end_cell()


def test_cells_of_ipython_take_turns_from_the_next_one_on(shell):
    shell.user_ns["explorer"], shell.user_ns["turns"] = explorer, turns
    cells = [
        "made = explorer(); assert turns._cells == []",  # this cell began before
        "assert len(turns._cells) == 1",
        "get_ipython().run_cell('assert len(turns._cells) == 2', store_history=True)",
        "1 / 0",
        "assert len(turns._cells) == 1",
        "get_ipython().run_cell(''); get_ipython().run_cell(' \\n'); assert len(turns._cells) == 1",
        "",
        "get_ipython().run_cell('1 / 0'); get_ipython().run_cell('('); assert len(turns._cells) == 1",
        "assert len(turns._cells) == 1",
    ]
    outcomes = [shell.run_cell(cell).success for cell in cells]
    assert outcomes == [True, True, True, False, True, True, True, True, True]
    assert turns._cells == []
    explorer()
    assert shell.events.callbacks["pre_run_cell"].count(turns.begin_cell) == 1


def test_a_method_may_wait_as_drawing_does(shell):
    order = []
    method = turns.in_turn(lambda: order.append("method"))
    turns.begin_cell()
    thread = threading.Thread(target=method, name="subshell-1")
    thread.start()
    time.sleep(0.2)
    order.append("cell")
    turns.end_cell()
    thread.join(10)
    method()
    assert order == ["cell", "method", "method"]
