"""The static pages: all there, with what their notebooks hold, and whole before they replace others."""

import re

import course_site
import notebook_tools as tools
import pytest
from sphinx.errors import SphinxWarning

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("site") / "site"
    course_site.build(folder)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}


def test_every_notebook_is_a_page_and_on_the_first(pages):
    for path in tools.notebook_paths():
        assert f"{path.stem}.html" in pages
        assert f'href="{path.stem}.html"' in pages["index.html"]


@pytest.mark.parametrize("path", tools.notebook_paths(), ids=lambda path: path.stem)
def test_a_page_has_the_notebook_s_pictures_and_folded_solutions(pages, path):
    page, nb = pages[f"{path.stem}.html"], tools.read(path)
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert len(re.findall(r'<img [^>]*src="_images/', page)) >= pictures
    folded = sum("solution" in cell.metadata.get("tags", []) for cell in nb.cells)
    assert len(re.findall(r'<details class="[^"]*hide', page)) == folded


def test_no_page_names_another_host_to_load_from(pages):
    for name, page in pages.items():
        loads = re.findall(r'<(?:script|img|iframe)[^>]*src="([^"]+)"|<link[^>]*href="([^"]+)"', page)
        assert not [url for pair in loads for url in pair if "//" in url], name


def test_formulas_are_mathml(pages):
    assert "<math " in pages["01_patching.html"]
    assert not any("mathjax.js" in page.lower() for page in pages.values())


def test_what_is_there_stays_when_a_link_leads_nowhere(monkeypatch, tmp_path):
    (tmp_path / "index.html").write_text("the pages before")
    write = course_site.write_source

    def with_a_broken_link(folder):
        write(folder)
        index = folder / "index.md"
        index.write_text(index.read_text() + "\n[nothing](08_nothing.ipynb)\n")

    monkeypatch.setattr(course_site, "write_source", with_a_broken_link)
    with pytest.raises(SphinxWarning, match="08_nothing"):
        course_site.build(tmp_path)
    assert (tmp_path / "index.html").read_text() == "the pages before"
