"""How fast the sliders answer: python tests/browser/latency.py [--readme] [01 06 ...]

Every slider of every explorer is moved by arrow key, and the page itself times each move: from the key's
event until picture and caption are the new ones and the picture is decoded. Explorers remember what they have
drawn; here that is switched off, so that each move is drawn anew.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # notebook_tools stands one folder up

import lab  # noqa: E402
import nbformat  # noqa: E402
import notebook_tools as tools  # noqa: E402
import numpy as np  # noqa: E402
from playwright.sync_api import Locator, Page  # noqa: E402

MOVES = 50  # of each slider
PAUSE = 60  # milliseconds between two moves, so that none waits for the one before
MARKERS = "<!-- latency: begin -->\n", "<!-- latency: end -->\n"

FORGET = "from vitlab.widgets import explorer\n\nexplorer.REMEMBERED = 0"

# The caption is sent after the picture, and says every state in words: when it has changed, both are there.
TIME_NEXT_KEY = """explorer => {
    let pressed;
    const note = event => { pressed = event.timeStamp; };
    explorer.addEventListener('keydown', note, {capture: true, once: true});
    window.answered = new Promise(resolve => {
        const observer = new MutationObserver(async () => {
            observer.disconnect();
            await explorer.querySelector('img').decode();
            resolve(performance.now() - pressed);
        });
        observer.observe(explorer.querySelector('.widget-html'), {childList: true, subtree: true});
        setTimeout(() => resolve(null), 10000);
    });
}"""


class Answers(NamedTuple):
    """What was measured of one slider."""

    notebook: str
    explorer: str
    control: str
    milliseconds: np.ndarray  # (moves,)

    @property
    def median(self) -> float:
        return float(np.median(self.milliseconds))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.milliseconds, 95))


def forgetful_copy(folder: Path, name: str) -> str:
    """A copy of a served notebook whose explorers remember no picture; returns its name."""
    nb = tools.read(folder / f"{name}.ipynb")
    nb.cells.insert(0, nbformat.v4.new_code_cell(FORGET))
    tools.write(nb, folder / f"{name}_anew.ipynb")
    return f"{name}_anew"


def measure(page: Page, notebook: str, moves: int = MOVES) -> Iterator[Answers]:
    """Time `moves` moves of every slider of the notebook that is open and has run."""
    for explorer in page.locator(lab.EXPLORERS).all():
        explorer.scroll_into_view_if_needed()
        for handle in explorer.locator(".noUi-handle").all():
            times = [timed_move(page, explorer, handle, key) for key in arrow_keys(handle, moves)]
            yield Answers(notebook, lab.explorer_name(page, explorer), lab.label(handle), np.array(times))


def arrow_keys(handle: Locator, moves: int) -> Iterator[str]:
    """Keys that each move the slider: to its upper end, back to its lower end, and so on."""
    key = "ArrowRight"
    for _ in range(moves):
        now, low, high = (float(handle.get_attribute(f"aria-value{name}")) for name in ("now", "min", "max"))
        key = "ArrowLeft" if now >= high else "ArrowRight" if now <= low else key
        yield key


def timed_move(page: Page, explorer: Locator, handle: Locator, key: str) -> float:
    """Milliseconds from a key press to the new picture and caption."""
    page.wait_for_timeout(PAUSE)
    explorer.evaluate(TIME_NEXT_KEY)
    handle.press(key)
    milliseconds = page.evaluate("window.answered")
    if milliseconds is None:
        raise AssertionError(f"{lab.label(handle)}: no answer to {key} within 10 s")
    return milliseconds


def markdown(rows: list[Answers], version: str) -> str:
    """The table, and under it what was measured and where."""
    lines = ["| notebook | explorer | slider | median (ms) | 95th percentile (ms) |"]
    lines += ["|---|---|---|---:|---:|"]
    lines += [
        f"| {row.notebook[:2]} | {row.explorer} | {row.control} | {row.median:.0f} | {row.p95:.0f} |"
        for row in rows
    ]
    moves = len(rows[0].milliseconds)
    lines += ["", f"{moves} moves of each slider, Chromium {version}, {os.cpu_count()} processor cores."]
    return "\n".join(lines) + "\n"


def write_readme(table: str) -> None:
    begin, end = MARKERS
    text = tools.README.read_text(encoding="utf-8")
    text = re.sub(
        f"(?<={re.escape(begin)}).*(?={re.escape(end)})", lambda _: f"\n{table}\n", text, flags=re.S
    )
    tools.README.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast the notebooks' sliders answer.")
    parser.add_argument("names", nargs="*", help="01, or 01_patching; all notebooks by default")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    paths = [tools.find_notebook(name) for name in arguments.names] or tools.notebook_paths()
    rows = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        lab.jupyterlab(Path(scratch)) as (address, folder),
        lab.chromium() as browser,
    ):
        for path in paths:
            with lab.running(browser, address, forgetful_copy(folder, path.stem)) as (page, _):
                for row in measure(page, path.stem):
                    print(f"{row.notebook:<24}{row.explorer:<22}{row.control:<24}", end="")
                    print(f"median {row.median:4.0f} ms   p95 {row.p95:4.0f} ms", flush=True)
                    rows.append(row)
        table = markdown(rows, browser.version)
    if arguments.readme:
        write_readme(table)


if __name__ == "__main__":
    main()
