"""Tools for the notebooks: record outputs, stamp the Colab cell, put solutions in, read verdicts.

From a shell, in the project's folder:

    python tests/notebook_tools.py record 01_patching 06     run in full on the CPU, store the outputs
    python tests/notebook_tools.py stamp owner/name          write that repository into the Colab cells, links
    python tests/notebook_tools.py stamp ""                  and take it out again
"""

import argparse
import ast
import base64
import contextlib
import copy
import io
import json
import os
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import papermill
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
PROJECT = ROOT / "pyproject.toml"
README = ROOT / "README.md"
TAGS = {"colab", "parameters", "exercise", "check", "solution"}
CELL_METADATA = {"tags", "jupyter", "cellView"}  # the last two fold a cell, in JupyterLab and on Colab
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
PROGRESS = r"\d+%\||\dit/s|s/it"  # what a bar of tqdm looks like
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

COLAB_STAMPED = """\
# On Google Colab this installs the course; where vitlab is already there, it does nothing.
import importlib.util

if importlib.util.find_spec("vitlab") is None:
    %pip install --quiet "vitlab[real] @ git+https://github.com/{repository}\""""

COLAB_UNSTAMPED = """\
# Only for Google Colab, and not set up yet: `make colab REPO=owner/name` writes into this cell, in every
# notebook, the repository to install the course from. Where vitlab is already there, the cell does nothing.
import importlib.util

if importlib.util.find_spec("vitlab") is None:
    raise ModuleNotFoundError("vitlab is not installed: start with `make lab`, or see README.md for pip")"""

COLAB = "https://colab.research.google.com/github"
# GitHub shows a notebook in a frame, in which Colab refuses to open; hence `target`.
COLAB_LINK = (
    '<a href="{colab}/{repository}/blob/main/notebooks/{name}" target="_parent">Open in Google Colab</a>'
)


# --- finding and reading ------------------------------------------------------------------------------------


def notebook_paths() -> list[Path]:
    """The course's notebooks in reading order: the lessons, and after 04 its optional half, 04b."""
    return sorted([*NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"), *NOTEBOOKS.glob("[0-9][0-9][a-z]_*.ipynb")])


def optional(path: Path) -> bool:
    """Whether a notebook is a lesson's optional half: it shares the lesson's checks and has no quiz."""
    return path.stem[2] != "_"


def find_notebook(name: str) -> Path:
    """The notebook that `name` (`01`, `04b`, `01_patching`, a file name or a path) stands for."""
    wanted = Path(name).stem
    matches = [path for path in notebook_paths() if path.stem.startswith(wanted)]
    matches = [path for path in matches if path.stem.partition("_")[0] == wanted] or matches
    if len(matches) != 1:
        known = ", ".join(path.stem for path in notebook_paths())
        raise ValueError(f"{name!r} names {len(matches)} notebooks; use one of {known}")
    return matches[0]


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def write(nb: nbformat.NotebookNode, path: Path) -> None:
    """Write all or nothing: a run that is interrupted leaves the old file whole."""
    nbformat.validate(nb)
    part = path.with_suffix(".ipynb.part")
    nbformat.write(nb, part)
    os.replace(part, path)


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def tagged(nb, tag: str) -> list:
    return [cell for cell in nb.cells if tag in tags(cell)]


def parameters(nb) -> dict[str, object]:
    """The names and default values that a notebook's `parameters` cell assigns."""
    (cell,) = tagged(nb, "parameters")
    assigned = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}


# --- running ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def kernel_environment(**changes: str):
    """What a kernel inherits: no GPU, no quick mode, none of the caller's settings, a new learner's home."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("VITLAB_QUICK", "MPLBACKEND"):
            os.environ.pop(name, None)
        os.environ.update(
            {"CUDA_VISIBLE_DEVICES": "", "IPYTHONDIR": folder, "VITLAB_HOME": folder, **changes}
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def execute(nb, folder: Path, timeout: int = 600, **values) -> nbformat.NotebookNode:
    """Run a copy of `nb` in `folder`, top to bottom, with `values` as its parameters; an error raises."""
    unknown = values.keys() - parameters(nb).keys()
    if unknown:  # papermill only warns, and the value would be lost
        raise ValueError(f"the notebook has no parameters {sorted(unknown)}; it has {sorted(parameters(nb))}")
    for name, value in values.items():
        for stranger in strangers(value):
            raise ValueError(
                f"{name}: {stranger!r}, of type {type(stranger).__name__}, would reach the notebook as text; "
                "use None, bool, int, float, str, and lists and dicts (whose keys are str) of these"
            )
    with tempfile.TemporaryDirectory() as scratch, kernel_environment():
        before, after = Path(scratch, "before.ipynb"), Path(scratch, "after.ipynb")
        nbformat.write(nb, before)
        options = dict(cwd=folder, kernel_name="python3", language="python", progress_bar=False)
        papermill.execute_notebook(before, after, values, execution_timeout=timeout, **options)
        return read(after)


def strangers(value) -> Iterator:
    """The parts of a parameter that papermill would hand over as text, such as a tuple or NumPy's numbers."""
    if type(value) is dict:
        yield from (key for key in value if type(key) is not str)
        value = list(value.values())
    if type(value) is list:
        for part in value:
            yield from strangers(part)
    elif value is not None and type(value) not in (bool, int, float, str):
        yield value


def record(path: Path) -> float:
    """Run a notebook in full on the CPU and store its outputs, cleaned; returns the seconds that it took."""
    nb = read(path)
    set_colab(nb, stamped_repository(), path.name)
    begin = time.perf_counter()
    nb = execute(nb, NOTEBOOKS)
    seconds = time.perf_counter() - begin
    nb = clean(nb)
    shrink_pictures(nb)
    write(nb, path)
    return seconds


# --- cleaning what a run leaves -----------------------------------------------------------------------------


def clean(nb) -> nbformat.NotebookNode:
    """A copy with what readers see, and nothing that changes from run to run or that needs a kernel."""
    nb = copy.deepcopy(nb)
    nb.metadata = nbformat.from_dict(METADATA)
    count = 0
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in CELL_METADATA and v}
        )
        if cell.cell_type != "code":
            continue
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        cell.outputs = clean_outputs(cell.outputs, cell.execution_count)
    return nb


def clean_outputs(outputs: list, count: int | None) -> list:
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = (final_text if output.name == "stdout" else without_progress)(output.text)
            if not output.text:
                continue
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
                continue
        elif output.output_type in ("display_data", "execute_result"):
            strip_widget_view(output.data)
            if "vitlab" in output.metadata:  # what `vitlab.page` tells the page: nothing to read
                continue
            shown = {kind: value for kind, value in output.metadata.items() if kind in output.data}
            output.metadata = nbformat.from_dict(shown)
            if not output.data:
                continue
        if output.output_type == "execute_result":
            output.execution_count = count
        kept.append(output)
    return kept


def final_text(text: str) -> str:
    """What a terminal shows in the end: a carriage return writes over the line."""
    return "".join(re.split(r"\r(?!\n)", line)[-1] for line in text.splitlines(keepends=True))


def without_progress(text: str) -> str:
    """stderr without progress bars; a warning stays, and the style test asks for its cause to be mended."""
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    return "".join(f"{line}\n" for line in lines if not re.search(PROGRESS, line))


def strip_widget_view(data) -> None:
    """Take the live view, which needs a kernel, out of a mime bundle; its picture and its caption stay."""
    if data.pop(WIDGET_VIEW, None) and re.search(rf"^[A-Z]\w*\(|{PROGRESS}", data.get("text/plain", "")):
        del data["text/plain"]  # a bare `VBox(children=...)` or an empty progress bar tells a reader nothing


def shrink_pictures(nb) -> None:
    """Encode every stored picture as small as the same pixels allow."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                png = base64.b64decode(output.data["image/png"])
                output.data["image/png"] = base64.b64encode(smaller_png(png)).decode()


def smaller_png(png: bytes) -> bytes:
    """The same pixels in fewer bytes: no alpha where all is opaque, a palette for up to 256 colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    if picture.getextrema()[3][0] < 255:
        return png
    picture = picture.convert("RGB")
    codes = np.asarray(picture).astype(int) @ (1 << 16, 1 << 8, 1)
    colours, index = np.unique(codes, return_inverse=True)
    if len(colours) <= 256:  # Pillow's own quantize picks a near colour, not always the same one
        picture = Image.frombytes("P", picture.size, index.astype(np.uint8).tobytes())
        picture.putpalette(b"".join(int(colour).to_bytes(3, "big") for colour in colours))
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", optimize=True)
    return min(png, encoded.getvalue(), key=len)


# --- the Colab cell and link --------------------------------------------------------------------------------


def stamped_repository() -> str:
    """The `owner/name` that the Colab cells install from, or "" (kept in pyproject.toml and nowhere else)."""
    return tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["vitlab"]["repository"]


def colab_source(repository: str) -> str:
    return COLAB_STAMPED.format(repository=repository) if repository else COLAB_UNSTAMPED


def linked(text: str, repository: str, name: str) -> str:
    """`text` with a link under its title that opens the notebook `name` on Colab; without one for ""."""
    text = re.sub(rf'\n\n<a href="{re.escape(COLAB)}/.*</a>', "", text)
    link = COLAB_LINK.format(colab=COLAB, repository=repository, name=name)
    return re.sub(r"\A.*", lambda title: f"{title[0]}\n\n{link}", text) if repository else text


def set_colab(nb, repository: str, name: str) -> None:
    """Write `repository` ("" for none) into the Colab cell and link of the notebook whose file is `name`."""
    cells = tagged(nb, "colab")
    if len(cells) != 1:
        raise ValueError(f"a notebook has one cell tagged `colab`; this one has {len(cells)}")
    cells[0].source = colab_source(repository)
    nb.cells[0].source = linked(nb.cells[0].source, repository, name)


def stamp(repository: str) -> None:
    """Write the address into pyproject.toml, README.md, all Colab cells and links; "" takes it out."""
    if repository and not re.fullmatch(r"[\w-]+/[\w.-]+", repository):
        raise ValueError(f"a repository is given as owner/name, such as ada/vitlab; got {repository!r}")
    text = PROJECT.read_text(encoding="utf-8")
    text = re.sub(r'^repository = ".*"$', f'repository = "{repository}"', text, flags=re.M)
    PROJECT.write_text(text, encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(linked(readme, repository, notebook_paths()[0].name), encoding="utf-8")
    for path in notebook_paths():
        nb = read(path)
        set_colab(nb, repository, path.name)
        write(nb, path)


# --- pictures in words --------------------------------------------------------------------------------------


def pictures(*cells) -> list:
    """The outputs of these cells that have a picture, in order."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def alternative_text(output) -> str:
    """What the picture of an output shows, in words for readers who do not see it; "" where nobody says."""
    return output.get("metadata", {}).get("image/png", {}).get("alt", "")


# --- exercises, verdicts, errors ----------------------------------------------------------------------------


def solved(nb) -> nbformat.NotebookNode:
    """A copy in which each exercise cell holds what the solution cell after it defines."""
    nb = copy.deepcopy(nb)
    exercise = None
    for cell in nb.cells:
        if "exercise" in tags(cell):
            exercise = cell
        elif "solution" in tags(cell):
            exercise.source = definitions(cell.source)
    return nb


def definitions(source: str) -> str:
    """A cell's source without its bare calls, such as the check at the end of a solution."""
    nodes = [node for node in ast.parse(source).body if not isinstance(node, ast.Expr)]
    return "\n\n\n".join(segment_with_decorators(source, node) for node in nodes)


def segment_with_decorators(source: str, node: ast.stmt) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def verdicts(nb, tag: str = "check") -> list[tuple[str, str]]:
    """(exercise, verdict) in the order in which the cells with `tag` printed them."""
    pattern = r"^Exercise (\w+\.\w+): (not attempted|correct|not yet)"
    return [found for cell in tagged(nb, tag) for found in re.findall(pattern, printed(cell), flags=re.M)]


def printed(cell) -> str:
    """What a code cell printed, as one text."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def widget_errors(nb) -> list[str]:
    """Every error in an executed notebook that did not stop it: in cell outputs and inside widgets' state."""
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    state = nb.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    return [json.dumps(thing) for thing in [*outputs, *state.values()] if is_error(thing)]


def is_error(thing) -> bool:
    """Does an output or a widget's state hold an error, or the text of a traceback, at any depth?"""
    if isinstance(thing, dict):
        return thing.get("output_type") == "error" or any(is_error(value) for value in thing.values())
    if isinstance(thing, list):
        return any(is_error(value) for value in thing)
    return isinstance(thing, str) and "Traceback (most recent call last)" in thing


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Record the notebooks' outputs, or stamp their Colab cell and link."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser("record", help="run in full on the CPU and store the outputs")
    recorder.add_argument("names", nargs="+", help="01, or 01_patching")
    stamper = commands.add_parser("stamp", help="write the repository into every Colab cell and link")
    stamper.add_argument("repository", help='owner/name, or "" to take it out')
    arguments = parser.parse_args()
    try:
        if arguments.command == "stamp":
            stamp(arguments.repository)
        else:
            for path in [find_notebook(name) for name in arguments.names]:
                seconds = record(path)
                print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1e3:.0f} kB stored", flush=True)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
