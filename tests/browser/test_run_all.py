"""Every notebook in JupyterLab as a learner runs it: Run All, and no error in the kernel or in the page."""

import lab
import nbformat
import notebook_tools as tools
import pytest

pytestmark = pytest.mark.slow


def test_run_all_shows_no_error(ran):
    page, page_errors = ran
    assert lab.output_errors(page) == []
    assert page_errors == []
    pictures = page.locator(".jp-Notebook .jp-OutputArea img")
    assert pictures.count() > 0
    assert pictures.evaluate_all("all => all.every(picture => picture.complete && picture.naturalWidth > 0)")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import ipywidgets\nout = ipywidgets.Output()\ndisplay(out)\nwith out:\n    1 / 0", "Traceback"),
        ("display({'application/javascript': 'console.error(\"a fault\")'}, raw=True)", "a fault"),
    ],
    ids=["in a cell", "in a widget", "in the page"],
)
def test_an_error_would_be_seen(browser, served, source, error):
    """And the kernel ends with its page: left alone, each would hold on to a gigabyte."""
    address, folder = served
    cells = [nbformat.v4.new_code_cell(source), nbformat.v4.new_code_cell("2")]
    tools.write(nbformat.v4.new_notebook(cells=cells, metadata=tools.METADATA), folder / "faulty.ipynb")
    before = lab.kernels(address)
    with lab.running(browser, address, "faulty") as (page, page_errors):
        assert any(error in seen for seen in lab.output_errors(page) + page_errors)
        assert len(lab.kernels(address) - before) == 1
    assert lab.kernels(address) == before
