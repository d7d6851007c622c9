"""What loads and how close it comes: every kind against its own library, and the table in the docs.

`python tests/test_what_loads.py` writes the table anew.
"""

import contextlib
import functools
import re
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import vitlab

pytest.importorskip("transformers")
pytest.importorskip("vit_pytorch")

from loading_kinds import Kind, all_kinds  # noqa: E402

from vitlab.checkpoints.layouts import LAYOUTS  # noqa: E402
from vitlab.data.pictures import READ  # noqa: E402

PAGE = Path(__file__).parents[1] / "notebooks" / "reference" / "what_loads.md"
LIBRARIES = ("timm", "transformers", "vit-pytorch", "torchvision")
KINDS = {kind.id: kind for kind in all_kinds()}
CLOSE = 2e-5


@functools.cache
def difference(name: str) -> float:
    """The largest difference of a kind's logits."""
    kind = KINDS[name]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), torch.no_grad():
        path, images, wanted = kind.build()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a lone file leaves things open, other tests hold
            model = vitlab.load_checkpoint(path, **kind.given)
        logits = (model.at(**kind.at) if kind.at else model)(images)
    assert logits.shape == wanted.shape
    assert wanted.abs().max() > 0.1  # else they would be close whatever was loaded
    return float((logits.double() - wanted.double()).abs().max())


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_those_of_the_library(name):
    assert difference(name) < CLOSE


def row(kind: Kind, differs: float) -> str:
    """A line of the table. Below the bound all is rounding, which no two machines share."""
    given = ", ".join(f"`{name}={value!r}`" for name, value in kind.given.items()) or "–"
    close = "< 2e-5" if differs < CLOSE else f"{differs:.0e}"
    return f"| {kind.library} | {kind.name} | {kind.tried} | {given} | {close} |"


def page() -> str:
    """The page with its table made anew."""
    head = "| library | kind | model tried | keywords given | logits differ by |"
    lines = [head, "| --- | --- | --- | --- | --- |"]
    lines += [row(kind, difference(name)) for name, kind in KINDS.items()]
    return PAGE.read_text(encoding="utf-8").partition(head)[0] + "\n".join(lines) + "\n"


def test_page():
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/test_what_loads.py writes it anew"


def test_the_page_of_file_formats_has_every_library_and_every_format_of_pictures():
    formats = PAGE.with_name("file_formats.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in formats.splitlines() if line.startswith("| ")]
    libraries = dict.fromkeys(layout.library for layout in LAYOUTS)
    assert [library for library in libraries if not any(row.startswith(library) for row in rows)] == []
    assert [kind for kind in re.split(", | and ", READ) if kind not in formats] == []


def test_page_names_the_versions():
    words = PAGE.read_text(encoding="utf-8")
    for library in LIBRARIES:
        assert f"{library} {version(library)}" in words


def test_every_table_of_names_has_rows():
    """Nothing that `load_checkpoint` knows by its names is missing from the page."""
    libraries = {kind.library.partition(" (")[0] for kind in KINDS.values()}
    layouts = {layout.library for layout in vitlab.checkpoints.layouts.LAYOUTS}
    assert layouts | {"big_vision"} == libraries
    names = " ".join(KINDS)
    for kind in (
        "FlexiViT",
        "SimpleViT",
        "ViTMAEModel",
        "hybrid",
        "DINOv2",
        "DeiT-III",
        "Dinov2Model",
        "vit_h_14",
    ):
        assert kind in names


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
