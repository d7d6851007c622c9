"""The course as static pages, from the stored outputs of the notebooks: `make site`.

Sphinx with MyST-NB reads the notebooks and runs nothing. The pages ask no other host for anything: formulas
become MathML here, and the theme brings its own styles and scripts.
"""

import argparse
import base64
import hashlib
import shutil
import tempfile
from pathlib import Path

import latex2mathml.converter
import notebook_tools as tools
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

REFERENCE = tools.NOTEBOOKS / "reference"
INDEX = """# Vision Transformers, built and measured

Notebooks on *An Image is Worth 16x16 Words* (arXiv 2010.11929), with the outputs of a run on a CPU. These
pages are for reading; to run the code, answer the exercises and move the sliders, get the project and type
`make lab`.

```{toctree}
PAGES
```

```{toctree}
:caption: Reference
REFERENCE
```
"""
SETTINGS = dict(
    project="vitlab",
    extensions=["myst_nb", "course_site"],
    nb_execution_mode="off",
    nb_merge_streams=True,
    myst_enable_extensions=["dollarmath"],
    myst_heading_anchors=3,
    myst_heading_slug_func="course_site.anchor",
    html_theme="furo",
    html_title="vitlab",
    html_math_renderer="mathml",
    html_copy_source=False,
    html_show_copyright=False,
)


def build(out: Path) -> None:
    """Write the pages into a folder, in place of what is there.

    Raises SphinxWarning where a link leads nowhere, for one; what is there then stays.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source, pages, work = (Path(scratch, name) for name in ("source", "pages", "work"))
        write_source(source)
        options = dict(confoverrides=SETTINGS, status=None, exception_on_warning=True)
        with docutils_namespace():  # forgets what Sphinx has registered, so that one process can build twice
            Sphinx(source, None, pages, work, "html", **options).build()
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(pages, out)


def write_source(folder: Path) -> None:
    """The notebooks as the pages show them, the reference, and a first page that lists both."""
    folder.mkdir()
    for path in tools.notebook_paths():
        nb = tools.read(path)
        nb.cells = [cell for cell in nb.cells if "colab" not in cell.metadata.get("tags", [])]
        for cell in nb.cells:
            if cell.metadata.get("jupyter", {}).get("source_hidden"):
                cell.metadata.tags = [*cell.metadata.get("tags", []), "hide-input"]
        tools.write(nb, folder / path.name)
    shutil.copytree(REFERENCE, folder / "reference")
    pages = "\n".join(path.stem for path in tools.notebook_paths())
    reference = "\n".join(f"reference/{path.stem}" for path in reference_paths())
    index = INDEX.replace("PAGES", pages).replace("REFERENCE", reference)
    (folder / "index.md").write_text(index, encoding="utf-8")


def reference_paths() -> list[Path]:
    """The pages to look things up in."""
    return sorted(REFERENCE.glob("*.md"))


def anchor(heading: str) -> str:
    """How JupyterLab names a heading."""
    return heading.replace(" ", "-")


def mathml(display: str):
    """How Sphinx writes a formula, in the line or on its own."""

    def visit(translator, node: nodes.math | nodes.math_block) -> None:
        translator.body.append(latex2mathml.converter.convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit, None


def say_what_pictures_show(app: Sphinx, doctree: nodes.document) -> None:
    """Give each picture of a notebook the alternative text of its output, which MyST-NB does not read.

    MyST-NB knows one text for all pictures of a cell, in the cell's metadata, and names the files of pictures
    by the SHA-256 of what is in them.
    """
    path = Path(app.env.doc2path(app.env.docname))
    said = alternative_texts(path) if path.suffix == ".ipynb" else {}
    for image in doctree.findall(nodes.image):
        if (name := Path(image["uri"]).stem) in said:
            image["alt"] = said[name]


def alternative_texts(path: Path) -> dict[str, str]:
    """SHA-256 of a PNG in the notebook's outputs -> what it shows."""
    said = {}
    for output in tools.pictures(*tools.read(path).cells):
        name = hashlib.sha256(base64.b64decode(output.data["image/png"])).hexdigest()
        said[name] = tools.alternative_text(output)
    return said


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("mathml", mathml("inline"), mathml("block"))
    app.connect("doctree-read", say_what_pictures_show)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=tools.ROOT / "site")
    folder = parser.parse_args().out
    build(folder)
    print(f"open {folder / 'index.html'}")
