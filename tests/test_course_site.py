"""The static pages: all there, with what their notebooks hold, and whole before they replace others."""

import base64
import re
from html.parser import HTMLParser

import course_site
import nbformat
import notebook_tools as tools
import pytest
from PIL import Image
from sphinx.errors import SphinxWarning

from vitlab.widgets.pictures import png

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("site") / "site"
    course_site.build(folder)
    paths = [*folder.glob("*.html"), *folder.glob("reference/*.html")]
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_every_notebook_is_a_page_and_on_the_first(pages):
    for path in tools.notebook_paths():
        assert f"{path.stem}.html" in pages
        assert f'href="{path.stem}.html"' in pages["index.html"]


def test_every_page_of_the_reference_is_there_with_its_table(pages):
    assert course_site.reference_paths()
    for path in course_site.reference_paths():
        name = f"reference/{path.stem}.html"
        assert f'href="{name}"' in pages["index.html"]
        rows = re.findall(r"^\| (?!---)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert pages[name].count("<tr") == len(rows)


@pytest.mark.parametrize("path", tools.notebook_paths(), ids=lambda path: path.stem)
def test_a_page_has_the_notebook_s_pictures_and_folded_solutions(pages, path):
    page, nb = pages[f"{path.stem}.html"], tools.read(path)
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert len(re.findall(r'<img [^>]*src="_images/', page)) >= pictures
    folded = sum("solution" in cell.metadata.get("tags", []) for cell in nb.cells)
    assert len(re.findall(r'<details class="[^"]*hide', page)) == folded


class Images(HTMLParser):
    """The attributes of every <img> of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(dict(attributes))


@pytest.mark.parametrize("path", tools.notebook_paths(), ids=lambda path: path.stem)
def test_every_picture_of_a_page_says_what_it_shows(pages, path):
    images = Images(pages[f"{path.stem}.html"]).found
    stored = [tools.alternative_text(picture) for picture in tools.pictures(*tools.read(path).cells)]
    assert [image.get("alt") for image in images] == stored
    assert all(len(text.split()) >= 3 for text in stored)


def test_pictures_of_the_other_pages_have_words(pages):
    notebooks = {f"{path.stem}.html" for path in tools.notebook_paths()}
    images = [image for name in pages.keys() - notebooks for image in Images(pages[name]).found]
    assert all(len((image.get("alt") or "").split()) >= 3 for image in images)


def test_pictures_of_one_cell_keep_their_own_texts(monkeypatch, tmp_path):
    """Two in one cell, one of which reads as markup; and one that has no text of its own."""
    texts = ['A boot, 5 < 7 & "bag".', "Another boot, on its side.", ""]
    cells = [nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell("draw()")]
    nb = nbformat.v4.new_notebook(cells=cells, metadata=tools.METADATA)
    for shade, text in enumerate(texts):
        data = {"image/png": base64.b64encode(png(Image.new("RGB", (4, 4), (shade, 0, 0)))).decode()}
        output = nbformat.v4.new_output("display_data", data, metadata={"image/png": {"alt": text}})
        nb.cells[1].outputs.append(output)
    tools.write(nb, tmp_path / "01_page.ipynb")
    monkeypatch.setattr(tools, "NOTEBOOKS", tmp_path)
    course_site.build(tmp_path / "site")
    images = Images((tmp_path / "site" / "01_page.html").read_text(encoding="utf-8")).found
    assert [image["alt"] for image in images] == texts


def test_no_page_names_another_host_to_load_from(pages):
    for name, page in pages.items():
        loads = re.findall(r'<(?:script|img|iframe)[^>]*src="([^"]+)"|<link[^>]*href="([^"]+)"', page)
        assert not [url for pair in loads for url in pair if "//" in url], name


def test_formulas_are_mathml(pages):
    assert "<math " in pages["01_patching.html"]
    assert not any("mathjax.js" in page.lower() for page in pages.values())


def test_what_is_there_stays_when_a_link_leads_nowhere(monkeypatch, tmp_path):
    (tmp_path / "index.html").write_text("the pages before")
    (tmp_path / "notebooks").mkdir()
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A page")], metadata=tools.METADATA)
    tools.write(nb, tmp_path / "notebooks" / "01_page.ipynb")
    monkeypatch.setattr(tools, "NOTEBOOKS", tmp_path / "notebooks")
    write = course_site.write_source

    def with_a_broken_link(folder):
        write(folder)
        index = folder / "index.md"
        index.write_text(index.read_text() + "\n[nothing](08_nothing.ipynb)\n")

    monkeypatch.setattr(course_site, "write_source", with_a_broken_link)
    with pytest.raises(SphinxWarning, match="08_nothing"):
        course_site.build(tmp_path)
    assert (tmp_path / "index.html").read_text() == "the pages before"
