#!/usr/bin/env bash
# The alternative text of a picture in a notebook is lost on the way to a page.
#
# IPython's documentation of display.Image says that `alt` is "alternative text for the image, for use by screen
# readers". It is stored in the output, as metadata["image/png"]["alt"], beside the width and height, and one expects
# every page made from the notebook to have it. It depends on the template instead:
#   - nbconvert, template `classic`: the <img> has the text.
#   - nbconvert, template `lab`, which is the default: width and height are read from the same place, the text is
#     not. The <img> says "No description has been provided for this image", although one has.
#   - MyST-NB (Sphinx, Jupyter Book): width and height are read from the output, the text is not. The <img> has the
#     name of the picture's file, a hash. Only `mystnb: {image: {alt: ...}}` in the cell's metadata is read, which
#     is one text for all pictures of a cell.
# Hit are blind readers of pages whose authors did say what is in the pictures, and authors, who are not told.
#
# Versions below. Exits non-zero once one of the pages behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    ipython==9.10.1 ipykernel==7.1.0 nbclient==0.10.4 nbconvert==7.17.2 myst-nb==1.4.0 sphinx==9.0.4
export PATH="$folder/env/bin:$PATH" IPYTHONDIR="$folder/ipython" PYTHONWARNINGS=ignore PYDEVD_DISABLE_FILE_VALIDATION=1
cd "$folder" && mkdir source

python - <<'PYTHON'
import nbclient
import nbformat

draw = """\
import base64
from IPython.display import Image
png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
Image(base64.b64decode(png), format="png", alt="A single red pixel", width=40)"""
kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
cells = [nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell(draw)]
nb = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
nbclient.NotebookClient(nb, kernel_name="python3").execute()
print("output.metadata:", dict(nb.cells[1].outputs[0].metadata))
assert nb.cells[1].outputs[0].metadata["image/png"]["alt"] == "A single red pixel"
nbformat.write(nb, "source/page.ipynb")
PYTHON
echo 'extensions = ["myst_nb"]; nb_execution_mode = "off"; root_doc = "page"' > source/conf.py
for template in classic lab; do
    jupyter nbconvert --log-level=ERROR --to html --template "$template" --output "../$template.html" source/page.ipynb
done
sphinx-build -q -b html source pages

python - <<'PYTHON'
import re
from importlib.metadata import version
from pathlib import Path

print(*(f"{name} {version(name)}" for name in ("ipython", "nbconvert", "myst-nb", "sphinx")), sep=", ")
found = {}
for name, path in {"classic": "classic.html", "lab": "lab.html", "MyST-NB": "pages/page.html"}.items():
    (image,) = re.findall(r"<img[^>]*>", Path(path).read_text(encoding="utf-8"))
    found[name] = "A single red pixel" in image
    print(f"{name:<8} text {'kept' if found[name] else 'LOST'}:", re.sub(r"base64,[^\"]*", "base64,...", image))
assert found == {"classic": True, "lab": False, "MyST-NB": False}, "behaves otherwise now"
PYTHON
