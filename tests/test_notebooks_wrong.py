"""Every known wrong answer, put into its cell of the notebook: "not yet", and what is wrong with it."""

import ast
import inspect
import re
import types

import nbformat
import notebook_tools as tools
import pytest

from vitlab.checks import engine
from vitlab.checks.engine import Exercise, FindTheFault, OpenTask

LESSONS = [path for path in tools.notebook_paths() if path.stem[:2] != "00"]
MODULES = {  # what the checks call these modules, and how a learner would import them
    "np": "import numpy as np",
    "math": "import math",
    "torch": "import torch",
    "nn": "from torch import nn",
    "F": "import torch.nn.functional as F",
}


def as_a_cell(name: str, exercise, number: int) -> str:
    """The source of an exercise's wrong answer with this number, as a learner would write it: called `name`.

    What it calls comes along. One that a function made, and so has no source of its own, is imported.
    """
    answer, _ = exercise.mistakes[number]
    if answer.__closure__:
        return (
            f'from vitlab.checks import engine\n\n{name} = engine.find("{exercise.id}").mistakes[{number}][0]'
        )
    parts = with_helpers(answer, {})
    parts[answer.__name__] = re.sub(rf"\bdef {answer.__name__}\b", f"def {name}", parts[answer.__name__])
    return "\n\n".join(parts.values())


def with_helpers(function, parts: dict[str, str]) -> dict[str, str]:
    """The sources of a function and of all it uses, by name, each after what it needs."""
    source = inspect.getsource(function)
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    for used in sorted(names & set(function.__globals__)):
        value = function.__globals__[used]
        if used in parts or value is function:
            continue
        if isinstance(value, types.ModuleType):
            parts[used] = MODULES[used]
        elif isinstance(value, types.FunctionType):
            with_helpers(value, parts)
        else:
            parts[used] = f"{used} = {value!r}"
    parts[function.__name__] = source
    return parts


def asked_in(nb) -> list:
    """The exercises that a notebook checks, in order."""
    found = [re.search(r'check\("([^"]+)"', cell.source)[1] for cell in tools.tagged(nb, "check")]
    return [engine.find(id) for id in found]


def wrong_everywhere(nb) -> tuple[nbformat.NotebookNode, list[tuple[str, str]]]:
    """The beginning of a notebook, then each exercise's cell and check once for every wrong answer.

    Also returns the exercise and the sentence that each check has to print, in order.
    """
    (parameters,) = tools.tagged(nb, "parameters")
    start = next(cell for cell in nb.cells if cell.cell_type == "code" and "vitlab.start(" in cell.source)
    cells, expected = [parameters, start], []
    exercises = asked_in(nb)
    stubs, checks = tools.tagged(nb, "exercise"), tools.tagged(nb, "check")
    assert len(stubs) == len(checks) == len(exercises)
    for stub, check, exercise in zip(stubs, checks, exercises, strict=True):
        call = ast.parse(check.source).body[-1].value
        id, name = call.args[0].value, call.args[-1].id
        assert id == exercise.id
        if isinstance(exercise, OpenTask):
            continue
        assert f"def {name}(" in stub.source
        if isinstance(exercise, FindTheFault):  # the line is named rightly, the function mended wrongly
            cells.append(nbformat.v4.new_code_cell(f"{call.args[1].id} = {exercise.line}"))
        for i, (_, sentence) in enumerate(exercise.mistakes):
            cells.append(nbformat.v4.new_code_cell(as_a_cell(name, exercise, i)))
            cells.append(nbformat.v4.new_code_cell(check.source, metadata=dict(tags=["check"])))
            expected.append((id, sentence))
    return nbformat.v4.new_notebook(cells=cells, metadata=tools.METADATA), expected


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_known_wrong_answer_in_its_cell_gets_its_diagnosis(path, tmp_path):
    exercises = asked_in(tools.read(path))
    nb, expected = wrong_everywhere(tools.read(path))
    nb = tools.execute(nb, tmp_path, QUICK=True)
    printed = [tools.printed(cell).strip().splitlines()[0] for cell in tools.tagged(nb, "check")]
    asking = [exercise for exercise in exercises if isinstance(exercise, Exercise)]
    assert len(printed) == len(expected) >= 4 * len(asking)
    for line, (id, sentence) in zip(printed, expected, strict=True):
        assert line.startswith(f"Exercise {id}: not yet"), f"{sentence} -> {line}"
        assert line.endswith(f"Likely cause: {sentence}"), line


def test_most_wrong_answers_are_put_in_as_source():
    """The others are made by a function of the checks; were there many, the sweep would prove less."""
    cells = [
        as_a_cell("answer", exercise, i)
        for path in LESSONS
        for exercise in asked_in(tools.read(path))
        if isinstance(exercise, Exercise)
        for i in range(len(exercise.mistakes))
    ]
    written = [cell for cell in cells if "def answer(" in cell]
    assert all(ast.parse(cell) for cell in cells)
    assert all("def answer(" in cell or "mistakes[" in cell for cell in cells)
    assert len(written) >= 0.85 * len(cells)
