"""One JupyterLab and one browser for all browser tests; skipped where there is no Chromium."""

import os

import all_explorers
import lab
import notebook_tools as tools
import pytest


@pytest.fixture(scope="package")
def browser():
    if not lab.find_browser():
        reason = "no Chromium or Chrome on the PATH; on Debian: apt install chromium"
        pytest.fail(reason) if os.environ.get("VITLAB_BROWSER") == "required" else pytest.skip(reason)
    with lab.chromium() as running:
        yield running


@pytest.fixture(scope="package")
def served(browser, tmp_path_factory):
    """(address of a JupyterLab in quick mode, folder of the notebooks that it serves)"""
    with lab.jupyterlab(tmp_path_factory.mktemp("jupyterlab")) as address_and_folder:
        yield address_and_folder


@pytest.fixture(scope="package", params=[path.stem for path in tools.notebook_paths()])
def ran(request, browser, served):
    """(page with a notebook that has run, list of the errors that the page reports), each notebook in turn"""
    with lab.running(browser, served[0], request.param) as page_and_errors:
        yield page_and_errors


@pytest.fixture(scope="module")
def page(browser, served):
    """A page with every explorer, run; at the end, neither kernel nor page may have reported an error."""
    address, folder = served
    with lab.running(browser, address, all_explorers.write(folder)) as (page, errors):
        yield page
        assert lab.output_errors(page) == []
        assert errors == []
