"""The course as a map: links between notebooks and documents, claims and where they are shown, objectives."""

import re
import urllib.parse
from pathlib import Path

import nbformat
import notebook_tools as tools
import pytest

from vitlab.checks.progress import ids_of

DOCUMENTS = [tools.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
LESSONS = [path for path in tools.notebook_paths() if path.stem[:2] != "00"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
TESTED = re.compile(r"\b(exercise|prediction|question)s? ((?:\d\.\w+(?:, )?)+)")  # "exercises 1.1, 1.2"
KINDS = {"exercise": "exercises", "prediction": "predictions", "question": "quiz"}


def prose(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in tools.read(path).cells if cell.cell_type == "markdown")


def headings(text: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)  # in code, # begins a comment
    return [re.sub(r"[*`]", "", heading) for heading in re.findall(r"^#+ +(.+?) *$", text, flags=re.M)]


def anchors(path: Path) -> set[str]:
    """Headings as JupyterLab names those of a notebook, and GitHub those of a document."""
    if path.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in headings(prose(path))}
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings(prose(path))}


def broken_links(path: Path) -> list[str]:
    """The links that lead to no file, or in a notebook or document to no heading."""
    broken = []
    for target in LINK.findall(prose(path)):
        if target.startswith(("https://", "http://", "attachment:")):
            continue
        file, _, anchor = urllib.parse.unquote(target).partition("#")
        linked = path.parent / file if file else path
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    return broken


def section(path: Path, anchor: str) -> list:
    """The cells from the one with this heading up to the next that has a heading as high."""
    cells, found, level = tools.read(path).cells, [], 7
    for cell in cells:
        marks = (
            re.findall(r"^(#+) +(.+?) *$", cell.source, flags=re.M) if cell.cell_type == "markdown" else []
        )
        names = {re.sub(r"[*`]", "", name).replace(" ", "-"): len(mark) for mark, name in marks}
        if found and any(mark <= level for mark in names.values()):
            return found
        if anchor in names:
            level = names[anchor]
        if found or anchor in names:
            found.append(cell)
    return found


# --- links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*tools.notebook_paths(), *DOCUMENTS], ids=lambda path: path.name)
def test_links_lead_to_a_file_and_a_heading(path):
    assert broken_links(path) == []


def test_a_broken_link_is_found(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# A title\n\n## 1. The `first` part")]
    tools.write(nbformat.v4.new_notebook(cells=cells, metadata=tools.METADATA), tmp_path / "01_a.ipynb")
    right = ["01_a.ipynb", "01_a.ipynb#1.-The-first-part", "#some-words", "https://a.org"]
    wrong = ["02_b.ipynb", "01_a.ipynb#1.-the-first-part", "#Some-words"]
    text = "# Some words\n\n" + "".join(f"[link]({target}) " for target in right + wrong)
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert broken_links(tmp_path / "README.md") == wrong


def test_every_lesson_leads_to_the_next():
    paths = tools.notebook_paths()
    for path, following in zip(paths, paths[1:], strict=False):
        assert following.name in LINK.findall(tools.read(path).cells[-1].source)


# --- claims ------------------------------------------------------------------------------------------------


def claims() -> dict[int, str]:
    """The numbered sentences of the section on the claims in notebook 00."""
    cells = section(tools.notebook_paths()[0], "2.-The-claims")
    text = "\n".join(cell.source for cell in cells if not cell.id.startswith("claims-out"))
    return {int(number): words for number, words in re.findall(r"^(\d)\. (.+)$", text, flags=re.M)}


def test_there_are_eight_claims():
    assert list(claims()) == list(range(1, 9))


@pytest.mark.parametrize("number", range(1, 9))
def test_a_claim_leads_to_sections_that_show_it(number):
    """Each link goes to a section with code that has printed or drawn something."""
    targets = LINK.findall(claims()[number])
    assert targets
    for target in targets:
        file, _, anchor = target.partition("#")
        cells = section(tools.NOTEBOOKS / file, anchor)
        assert any(cell.cell_type == "code" and cell.outputs for cell in cells), target


def test_a_section_without_code_shows_nothing():
    assert not [cell for cell in section(LESSONS[0], "References") if cell.cell_type == "code"]
    assert section(LESSONS[0], "No-such-heading") == []


# --- objectives --------------------------------------------------------------------------------------------


def objectives(path: Path) -> list[str]:
    return re.findall(r"^\d\. (.+)$", tools.read(path).cells[1].source, flags=re.M)


def checked_by(objective: str) -> list[tuple[str, str]]:
    """What an objective names as its tests: [("exercises", "1.1"), ("quiz", "1.q5")]."""
    found = TESTED.findall(objective)
    return [(KINDS[word], name) for word, names in found for name in re.findall(r"\d\.\w+", names)]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_an_objective_names_what_tests_it(path):
    known = ids_of(path.stem[1])
    assert 3 <= len(objectives(path)) <= 6
    for objective in objectives(path):
        assert checked_by(objective), f"what tests this? {objective}"
        for kind, name in checked_by(objective):
            assert name in known[kind], f"there is no {name} among the {kind}: {objective}"
        assert len(checked_by(objective)) == len(re.findall(r"\b\d\.\w", objective)), objective


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_exercise_serves_an_objective(path):
    named = {
        name for objective in objectives(path) for kind, name in checked_by(objective) if kind == "exercises"
    }
    assert named == set(exercises_in(path))


def exercises_in(path: Path) -> list[str]:
    return [
        re.search(r'check\("([^"]+)"', cell.source)[1] for cell in tools.tagged(tools.read(path), "check")
    ]


@pytest.mark.parametrize("number", sorted({path.stem[1] for path in LESSONS}))
def test_a_lessons_notebooks_have_its_predictions_and_its_exercises_counting_up(number):
    paths = [path for path in LESSONS if path.stem[1] == number]
    assert [id for path in paths for id in exercises_in(path)] == ids_of(number)["exercises"]  # counting up
    shown = [id for path in paths for id in re.findall(r'^predict\("(.+?)"\)', sources(path), flags=re.M)]
    assert sorted(shown) == sorted(ids_of(number)["predictions"])


def sources(path: Path) -> str:
    return "\n".join(cell.source for cell in tools.read(path).cells if cell.cell_type == "code")


def test_names_of_tests_are_read():
    words = "predict patches (claim 7; exercises 1.1, 1.2, prediction 1.a, question 1.q5);"
    named = [("exercises", "1.1"), ("exercises", "1.2"), ("predictions", "1.a"), ("quiz", "1.q5")]
    assert checked_by(words) == named
    assert checked_by("compute a prediction in 1.5 hours") == []


def test_how_claims_came_out_has_the_numbers_of_the_lessons():
    """One line for each of the eight claims; each number in it stands in what its lesson has printed."""
    (start,) = tools.ROOT.glob("notebooks/00_*.ipynb")
    cells = [cell.source for cell in tools.read(start).cells if cell.id.startswith("claims-out")]
    lines = re.findall(r"^(\d)\. \*\*(.+?)\*\*(.+) → (\w+)$", "\n".join(cells), re.MULTILINE)
    assert [number for number, *_ in lines] == list("12345678")
    for _, verdict, words, lesson in lines:
        (path,) = tools.ROOT.glob(f"notebooks/{lesson}_*.ipynb")
        outputs = tools.read(path).cells
        printed = "\n".join(
            part.get("text", "") for cell in outputs for part in cell.get("outputs", []) if "text" in part
        )
        stated = re.findall(r"(?<![-\w$])\d[\d,.]*\d|(?<![-\w$])\d", words)
        assert stated or verdict == "Holds exactly."
        for number in stated:
            assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![.,]?\d)", printed), (lesson, number)
