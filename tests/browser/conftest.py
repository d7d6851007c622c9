"""One JupyterLab and one browser for all browser tests of a worker; skipped where there is no Chromium."""

import os

import lab
import pytest


@pytest.fixture(scope="session")
def browser():
    if not lab.find_browser():
        reason = "no Chromium or Chrome on the PATH; on Debian: apt install chromium"
        pytest.fail(reason) if os.environ.get("VITLAB_BROWSER") == "required" else pytest.skip(reason)
    with lab.chromium() as running:
        yield running


@pytest.fixture(scope="session")
def served(browser, tmp_path_factory):
    """(address of a JupyterLab in quick mode, folder of the notebooks that it serves)"""
    with lab.jupyterlab(tmp_path_factory.mktemp("jupyterlab")) as address_and_folder:
        yield address_and_folder
