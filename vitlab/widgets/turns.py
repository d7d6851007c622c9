"""Explorers and cells take turns where a page sends what controls say past the running cell.

JupyterLab from 4.4 on does so with ipykernel 7, which then runs it in a thread of its own (a subshell).
Explorers ask models, and some change one for that moment: a cell that asks the same model meanwhile would see
it changed, and an explorer would record what the cell asks. So they wait for the running cell, as they do on
every other page.
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable

_turn, _cells = threading.RLock(), []


def watch_cells() -> None:
    """Have the cells of this kernel take turns with explorers; without IPython there are none."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and begin_cell not in shell.events.callbacks["pre_run_cell"]:
        shell.events.register("pre_run_cell", begin_cell)
        shell.events.register("post_run_cell", end_cell)


def begin_cell(info=None) -> None:
    """Wait for an explorer that is drawing. Cells of a subshell take no turns: they run beside others."""
    if threading.current_thread() is threading.main_thread():
        _turn.acquire()
        _cells.append(info)


def end_cell(result=None) -> None:
    """Let explorers draw. The cell in which `watch_cells` was called began without, and so does an empty one,
    of which IPython says no more than its end.
    """
    empty = result is not None and not (result.info.raw_cell or "").strip()
    if threading.current_thread() is threading.main_thread() and _cells and not empty:
        _cells.pop()
        _turn.release()


def turn() -> contextlib.AbstractContextManager:
    """A block that waits for the running cell, if a subshell is where it stands.

    >>> with turn():
    ...     "at once"
    'at once'
    """
    beside = threading.current_thread().name.startswith("subshell-")
    return _turn if beside else contextlib.nullcontext()


def in_turn(method: Callable) -> Callable:
    """A method that asks a model before anything is drawn, and so waits as drawing does."""

    @functools.wraps(method)
    def waits(*args, **kwargs):
        with turn():
            return method(*args, **kwargs)

    return waits
