"""Pictures of a notebook in JupyterLab, to look at: python tests/browser/screenshots.py 01 out_folder"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # notebook_tools stands one folder up

import lab  # noqa: E402
import notebook_tools as tools  # noqa: E402

WIDTH, HEIGHT = 1200, 1500
SCROLLER = "document.querySelector('.jp-NotebookPanel .jp-WindowedPanel-outer')"


def take(name: str, folder: Path, quick: bool) -> None:
    """Run a notebook and save what the window shows, from the top down, as NAME_01.png, NAME_02.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        lab.jupyterlab(Path(scratch), quick) as (address, _),
        lab.chromium() as browser,
    ):
        page, page_errors = lab.new_page(browser, WIDTH, HEIGHT)
        lab.open_notebook(page, address, name)
        lab.run_all(page, seconds=600)
        height, window = page.evaluate(f"[{SCROLLER}.scrollHeight, {SCROLLER}.clientHeight]")
        for number, top in enumerate(range(0, height, window - 60), start=1):
            page.evaluate(f"top => {{ {SCROLLER}.scrollTop = top; }}", top)
            page.wait_for_timeout(300)
            page.screenshot(path=folder / f"{name}_{number:02d}.png")
        for error in lab.output_errors(page) + page_errors:
            print(error)


def main() -> None:
    parser = argparse.ArgumentParser(description="Save pictures of a notebook as JupyterLab shows it.")
    parser.add_argument("notebook", help="01, or 01_patching")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="run in quick mode")
    arguments = parser.parse_args()
    take(tools.find_notebook(arguments.notebook).stem, arguments.folder, arguments.quick)


if __name__ == "__main__":
    main()
