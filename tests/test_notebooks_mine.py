"""What a learner writes in one notebook is found in the next: 01, 02, 03, 04 and 06 in one VITLAB_HOME."""

import ast
import re
import symtable

import nbformat
import notebook_tools as tools
import pytest

from vitlab.checks import kept
from vitlab.checks.sources import free_names

ANSWERS = {
    "01": ["1.1"],
    "02": ["2.1", "2.2"],
    "03": ["3.1", "3.2", "3.3"],
    "04": ["4.1", "4.2"],
    "06": ["6.2"],
}
OWN = re.compile(r"\b(assemble|mine)\(")


def assigned(source: str) -> set[str]:
    """The names that a cell defines or changes in place."""
    table = symtable.symtable(source, "cell", "exec")
    return {
        symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()
    }


def needed(cells: list, wanted: list) -> list:
    """Of a notebook's code cells the wanted ones, and before them all that define what these read."""
    kept_cells, names = [], set()
    for cell in reversed(cells):
        parameters = "parameters" in tools.tags(cell)
        if cell in wanted or parameters or names & assigned(cell.source):
            kept_cells.insert(0, cell)
            names |= free_names(cell.source)
    return kept_cells


def lesson(number: str, home, answers: bool = True) -> nbformat.NotebookNode:
    """A notebook cut down to the exercises that become parts, answered or not, and to what uses them."""
    nb = tools.read(tools.find_notebook(number))
    ids = {}
    for cell in tools.tagged(nb, "check"):
        ids[ast.parse(cell.source).body[-1].value.args[0].value] = cell
    solved = {cell.id: cell.source for cell in tools.tagged(tools.solved(nb), "exercise")}
    code = [
        cell for cell in nb.cells if cell.cell_type == "code" and not tools.tags(cell) & {"colab", "solution"}
    ]
    wanted = [cell for cell in code if OWN.search(cell.source)]
    for id in ANSWERS[number]:
        check = ids[id]
        wanted += [code[code.index(check) - 1], check]
    for cell in code:
        if answers and "exercise" in tools.tags(cell):
            cell.source = solved[cell.id]
    chosen = needed(code, wanted)
    first = nbformat.v4.new_code_cell(f"import os\n\nos.environ['VITLAB_HOME'] = {str(home)!r}")
    return nbformat.v4.new_notebook(cells=[first, *chosen], metadata=tools.METADATA)


def lines_of(nb) -> list[str]:
    printed = "".join(tools.printed(cell) for cell in nb.cells if cell.cell_type == "code")
    return [line for line in printed.splitlines() if line.startswith("yours: ")]


@pytest.mark.slow
def test_a_learner_walks_from_01_to_06(tmp_path):
    home = tmp_path / "home"
    ran = {}
    for number, ids in ANSWERS.items():
        ran[number] = tools.execute(lesson(number, home), tmp_path, QUICK=True)
        assert tools.widget_errors(ran[number]) == []
        assert [pair for pair in tools.verdicts(ran[number]) if pair[0] in ids] == [
            (id, "correct") for id in ids
        ]
    found = {part.id: part.text for part in kept.read(home / "mine.py")}
    assert list(found) == [id for ids in ANSWERS.values() for id in ids]
    assert "def cut_with_loops(" in found["1.1"]  # a helper that the course's notebook has defined
    whole = "yours: 6 of 6 (patchify, project, to_sequence, attention_weights, many_heads, encoder_block)"
    assert lines_of(ran["03"]) == [whole, whole]  # the second with a mistake, insisted on
    assert lines_of(ran["04"]) == [whole, "yours: 2 of 2 (train_step, learning_rate)"]
    assert sorted(lines_of(ran["06"])) == ["yours: 1 of 1 (rollout)", whole]
    (cell,) = [cell for cell in ran["03"].cells if "logits off by up to" in cell.source]
    rows = re.findall(
        r"^(\S+) +([\d.]+)% of 1,000 garments; logits off by up to (\S+)$", tools.printed(cell), re.M
    )
    (_, library, _), (_, own, off), (_, broken, _) = rows
    assert own == library
    assert float(off) <= 1e-4
    assert float(broken) < float(own)
    (cell,) = [cell for cell in ran["04"].cells if "own_losses" in cell.source]
    first, last = re.search(r"loss ([\d.]+) at first, ([\d.]+) in the last", tools.printed(cell)).groups()
    assert first == "2.303"
    assert float(last) < 2.2
    assert len(tools.pictures(*ran["06"].cells)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", ["03", "04", "06"])
def test_without_a_learner_all_parts_are_the_courses(number, tmp_path):
    """Nobody's answers, and nothing of whoever runs this: their own home is not looked into."""
    nb = tools.execute(lesson(number, tmp_path / "empty", answers=False), tmp_path, QUICK=True)
    assert tools.widget_errors(nb) == []
    assert {verdict for _, verdict in tools.verdicts(nb)} == {"not attempted"}
    lines = lines_of(nb)
    assert lines
    assert "yours: 0 of " in lines[0]
    assert not (tmp_path / "empty" / "mine.py").exists()
