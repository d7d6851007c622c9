"""A real JupyterLab in a real browser: start both, open a notebook, run it, read what the page shows."""

import ast
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import notebook_tools as tools
from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are there too
}
PANEL = "window.jupyterapp.shell.currentWidget"
EXPLORERS = ".jp-OutputArea-output .widget-vbox:has(> .widget-image)"  # the box round one picture


def find_browser() -> str | None:
    """Chromium or Chrome as the system has it; Playwright's own download is not needed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


@contextlib.contextmanager
def jupyterlab(folder: Path, quick: bool = True, more: dict | None = None) -> Iterator[tuple[str, Path]]:
    """JupyterLab on a free port, perhaps with more settings; yields its address and the folder it serves:
    copies of the notebooks."""
    served, settings = folder / "course" / "notebooks", folder / "settings"
    shutil.copytree(tools.NOTEBOOKS, served, ignore=shutil.ignore_patterns(".*", "*.part"))
    for name, values in {**SETTINGS, **(more or {})}.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    places |= {
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    command += [f"--ServerApp.root_dir={folder / 'course'}", *(["--allow-root"] if is_root() else [])]
    with tools.kernel_environment(**places, VITLAB_QUICK=str(int(quick))), open(folder / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_served(f"http://127.0.0.1:{port}/api", server, folder / "log")
            yield f"http://127.0.0.1:{port}", served
        finally:
            server.terminate()
            server.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def wait_until_served(address: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if is_root() else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=arguments)
        yield browser
        browser.close()


def new_page(browser: Browser, width: int = 1280, height: int = 1000) -> tuple[Page, list[str]]:
    """A page, and the list to which the errors that it reports are added."""
    page = browser.new_page(viewport={"width": width, "height": height})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console", lambda m: errors.append(f"{m.text} ({m.location['url']})") if m.type == "error" else None
    )
    return page, errors


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook and wait for its kernel: run before it is ready, and a dialog would ask for one."""
    page.goto(f"{address}/doc/tree/notebooks/{name}.ipynb?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-CodeCell", timeout=60_000)
    page.evaluate(f"async () => {{ await {PANEL}.sessionContext.ready; }}")


def run_all(page: Page, seconds: float = 300) -> None:
    """Clear the outputs, run every cell, wait for the last one or for an error."""
    page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")  # not awaited
    page.wait_for_function(
        f"""() => {{
            const code = {PANEL}.content.widgets.filter(c => c.model.type === 'code');
            const cells = code.filter(c => c.model.sharedModel.source.trim());
            const failed = cells.some(c => c.model.outputs.toJSON().some(o => o.output_type === 'error'));
            const done = failed || cells.every(c => c.model.executionCount !== null);
            return done && {PANEL}.sessionContext.session.kernel.status === 'idle';
        }}""",
        timeout=seconds * 1000,
    )


def output_errors(page: Page) -> list[str]:
    """The errors in the notebook's outputs, those inside widgets too."""
    errors = page.evaluate(
        f"""() => {PANEL}.content.widgets.filter(c => c.model.type === 'code')
            .flatMap(c => c.model.outputs.toJSON()).filter(o => o.output_type === 'error')
            .map(o => `${{o.ename}}: ${{o.evalue}}`)"""
    )
    shown = page.locator(".jp-Notebook").inner_text()
    signs = (
        "Traceback (most recent call last)",
        "Error displaying widget",
        "Error rendering",
        "model not found",
    )
    return errors + [sign for sign in signs if sign in shown]


@contextlib.contextmanager
def running(browser: Browser, address: str, name: str, **size: int) -> Iterator[tuple[Page, list[str]]]:
    """A page with a notebook that has run, and the errors that the page reports; its kernel ends with it."""
    page, errors = new_page(browser, **size)
    try:
        open_notebook(page, address, name)
        run_all(page)
        yield page, errors
    finally:  # also of a test that fails: a kernel would go on holding its memory
        with contextlib.suppress(Error):  # the page shows no notebook
            page.evaluate(f"async () => {{ await {PANEL}.sessionContext.shutdown(); }}")
        page.close()


def label(control: Locator) -> str:
    """The visible name of a control of an explorer."""
    return control.evaluate("c => c.closest('.widget-inline-hbox').querySelector('.widget-label').innerText")


def control(explorer: Locator, name: str) -> Locator:
    """The slider, list, box or first button with this visible name."""
    named = explorer.locator(".widget-inline-hbox", has=explorer.page.get_by_text(name, exact=True))
    return named.locator(".noUi-handle, select, input, button").first


def explorer_name(page: Page, explorer: Locator) -> str:
    """The class of an explorer, from the source of the cell that shows it."""
    source = explorer.evaluate(
        f"""e => {PANEL}.content.widgets.find(c => c.node.contains(e)).model.sharedModel.source"""
    )
    return re.search(r"\b(?:\w+Explorer|LiveCurves|TrainingPanel)(?=\()", source)[0]


def kernels(address: str) -> set[str]:
    """The kernels that a JupyterLab runs, by their ids."""
    with urllib.request.urlopen(f"{address}/api/kernels", timeout=30) as answer:
        return {kernel["id"] for kernel in json.load(answer)}


def kernel_value(page: Page, expression: str, code: str = ""):
    """The value of a Python expression in the notebook's kernel, after `code` and what the page has sent."""
    reply = page.evaluate(
        f"""async ([expression, code]) => {{
            const kernel = {PANEL}.sessionContext.session.kernel;
            const asked = {{code, silent: true, store_history: false,
                           user_expressions: {{value: expression}}}};
            return (await kernel.requestExecute(asked).done).content.user_expressions.value;
        }}""",
        [expression, code],
    )
    if reply["status"] != "ok":
        raise AssertionError(f"{expression}: {reply['ename']}: {reply['evalue']}")
    return ast.literal_eval(reply["data"]["text/plain"])


# Where sliders and lists stand in the kernel, and the explorer's picture and caption, drawn anew: of all
# explorers of a class, as a lesson may have the same for two models.
DRAWN_ANEW = """
def _drawn_anew(name):
    import gc, hashlib
    from vitlab.widgets.pictures import fit, png

    states = []
    for explorer in [thing for thing in gc.get_objects() if type(thing).__name__ == name]:
        kinds = ("Slider", "Dropdown", "SelectMultiple")
        chosen = [c for c in explorer.controls.values() if type(c).__name__.endswith(kinds)]
        places = [c.index if hasattr(c, "index") else c.value for c in chosen]
        places = [(p or (-1,))[0] if isinstance(p, tuple) else p for p in places]  # of several, the first
        picture, caption = explorer.draw(**explorer.state)
        digest = hashlib.sha256(png(fit(picture, explorer.size))).hexdigest()
        states.append((places, digest, caption.split()))
    return states
"""

PICTURE = """async explorer => {
    const bytes = await (await fetch(explorer.querySelector('img').src)).arrayBuffer();
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
}"""


def positions(explorer: Locator) -> list[float]:
    """Where sliders and lists stand in the page: their numbers, or the places of what they choose from."""
    controls = explorer.locator(".noUi-handle, select")
    return controls.evaluate_all("all => all.map(c => c.selectedIndex ?? Number(c.ariaValueNow))")


def caption(explorer: Locator) -> str:
    return explorer.locator(".widget-html").inner_text()


def wait_until_true(page: Page, explorer: Locator, seconds: float = 10) -> str:
    """Wait until picture and caption are those of the explorer's state in the kernel; returns the caption."""
    name = explorer_name(page, explorer)
    kernel_value(page, "None")  # it may have been busy for longer than we would wait
    end = time.monotonic() + seconds
    while True:
        wanted = kernel_value(page, f"_drawn_anew({name!r})", DRAWN_ANEW)
        shown = positions(explorer), explorer.evaluate(PICTURE), caption(explorer).split()
        if shown in wanted:
            return caption(explorer)
        if time.monotonic() > end:
            raise AssertionError(f"{name} shows {shown}; its state in the kernel gives {wanted}")
        page.wait_for_timeout(50)
