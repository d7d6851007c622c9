"""Quizzes ask about the run's own numbers, and progress is the learner's own: counted, kept, reset."""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import notebook_tools as tools
import pytest
import torch

import vitlab
from vitlab import checks, paper
from vitlab.checks import engine
from vitlab.checks.asking import box
from vitlab.checks.asking.box import QuestionBox
from vitlab.checks.asking.lessons import find, questions
from vitlab.checks.asking.lessons import stored as defaults
from vitlab.checks.asking.prediction import Question
from vitlab.checks.engine import checking, records

each_lesson = pytest.mark.parametrize("number", list(engine.LESSONS))


# -------------------------------------------------------------------------------------------- quizzes


@each_lesson
def test_a_quiz_has_five_questions(number):
    asked = questions(number)
    assert [question.id for question in asked] == [f"{number}.q{i}" for i in range(1, 6)]
    assert all(isinstance(question, Question) and len(question.options) == 4 for question in asked)


@each_lesson
def test_a_quiz_asks_about_the_values_given(number):
    """Other numbers make other questions; the same numbers, given as a notebook has them, the same."""
    stored = defaults(number)
    as_tensors = {
        k: torch.tensor(v, dtype=torch.float64) if isinstance(v, float) else v for k, v in stored.items()
    }
    assert questions(number, **as_tensors) == questions(number)
    for name, value in stored.items():
        other = value + " 2" if isinstance(value, str) else 2 * value if isinstance(value, int) else value / 2
        assert questions(number, **stored | {name: other}) != questions(number), (
            f"{name} is asked for in vain"
        )


@each_lesson
def test_values_that_do_not_fit_are_refused(number):
    stored = defaults(number)
    first, *others = stored
    with pytest.raises(ValueError, match=f"quiz {number} has no 'tokns'; it takes {first}, "):
        questions(number, **stored, tokns=3)
    with pytest.raises(ValueError, match=f"quiz {number} also needs {first}"):
        questions(number, **{name: stored[name] for name in others})
    for wrong in (
        None,
        float("nan"),
        [1, 2],
        torch.zeros(2),
        "many" if not isinstance(stored[first], str) else 3,
    ):
        with pytest.raises(ValueError, match=f"{first} is .*such as {stored[first]}; got"):
            questions(number, **stored | {first: wrong})


@pytest.mark.parametrize("number", ["0", "8", "one", "", 1])
def test_an_unknown_lesson_is_named(number):
    for call in (checks.quiz, checks.progress, checks.reset_progress):
        with pytest.raises(ValueError, match="there is no lesson .*; there are 1, 2, 3, 4, 5, 6, 7"):
            call(number)


def test_options_that_read_alike_are_left_out():
    options = [("4", "as N"), ("2", "as its root"), ("4", "the answer"), ("2", "again"), ("8", "no")]
    question = Question("0.q1", "?", options, right=2)
    assert question.options == [("2", "as its root"), ("4", "the answer"), ("8", "no")]
    assert question.options[question.right] == ("4", "the answer")


@pytest.mark.parametrize("P", [1, 2, 4, 7, 14, 28])
@pytest.mark.parametrize("photo_P", [1, 8, 96, 192])
def test_the_sizes_of_quiz_1_are_those_of_vitlab(P, photo_P):
    asked = answers("1", patch_size=P, photo_patch_size=photo_P, attention_power=2.0)
    N = vitlab.ViTConfig(image_size=(56, 84), patch_size=P).num_patches
    assert asked["1.q1"] == f"{N}"
    _, columns = vitlab.patches.grid_size((384, 576), photo_P)
    assert asked["1.q2"] == f"Patch {columns + 1}"
    assert asked["1.q4"] == "About 16 times"
    cut = torch.nn.Conv2d(3, 1, 14, stride=14, device="meta")(torch.empty(1, 3, 512, 512, device="meta"))
    rows, columns = cut.shape[2:]
    assert (
        asked["1.q5"]
        == f"It makes {rows} × {columns} patches and leaves out {512 - 14 * rows} rows and columns"
    )


@pytest.mark.parametrize("P", [1, 2, 4, 7, 14, 28])
def test_the_sizes_of_quizzes_2_and_3_are_those_of_vitlab(P):
    asked = answers("2", **defaults("2") | {"patch_size": P})
    model = vitlab.ViT(vitlab.ViTConfig(patch_size=P))
    assert asked["2.q1"] == f"{vitlab.count_parameters(model.patch_embed):,}"
    larger = vitlab.ViT(vitlab.ViTConfig(patch_size=P, image_size=56))
    rows = [len(each.pos_embed[0]) for each in (larger, model)]
    assert asked["2.q2"] == f"The positions: {rows[0]} rows instead of {rows[1]}"
    with vitlab.record_attention(model) as record, torch.no_grad():
        model(torch.randn(8, 1, 28, 28))
    total = record.weights[0].double().sum().item()
    asked = answers("3", **defaults("3") | {"tokens": rows[1], "num_heads": model.config.num_heads})
    assert float(asked["3.q1"].replace(",", "")) == pytest.approx(total, rel=1e-5)


def gains(*values) -> dict[str, float]:
    """What learned and what sin-cos positions were worth, each with its spread."""
    return dict(zip(("learned_gain", "learned_spread", "sincos_gain", "sincos_spread"), values, strict=True))


def answers(number, **values) -> dict[str, str]:
    """The right options' texts."""
    return {question.id: question.options[question.right][0] for question in questions(number, **values)}


@pytest.mark.parametrize(
    ("number", "id", "values", "words"),
    [
        ("2", "2.q4", gains(2.0, 0.5, 2.4, 0.5), "stays open"),
        ("2", "2.q4", gains(2.0, 0.1, 2.4, 0.1), "one kind"),
        ("2", "2.q4", gains(0.9, 0.5, 2.4, 0.1), "Not even"),
        ("3", "3.q4", dict(pre_norm_worst=1.5, post_norm_best=2.1), "learns faster"),
        ("3", "3.q4", dict(pre_norm_worst=2.2, post_norm_best=2.1), "overlap"),
        ("5", "5.q1", dict(features=0.28, pixels=0.279), "Neither"),
        ("5", "5.q1", dict(features=0.40, pixels=0.279), "from the features"),
        ("5", "5.q1", dict(features=0.28, pixels=0.40), "from the pixels"),
        ("6", "6.q3", dict(rollout_hits=0.9, centre_hits=0.6), "better than the centre"),
        ("6", "6.q3", dict(rollout_hits=0.6, centre_hits=0.9), "as well, or better"),
        ("7", "7.q1", dict(held_out=18, fine_tuned=0.89, from_scratch=0.39), "they are told apart"),
        ("7", "7.q1", dict(held_out=18, fine_tuned=0.7, from_scratch=0.5), "cannot be told apart"),
    ],
)  # fmt: skip
def test_what_follows_is_worked_out_from_the_numbers(number, id, values, words):
    assert words in answers(number, **defaults(number) | values)[id]


def test_the_paper_says_what_the_quizzes_say():
    """Where the paper contradicts itself, by the tables as data."""
    column = {name: row["ViT-L/16 JFT"][0] - row["BiT-L R152x4"][0] for name, row in paper.TABLE_2.items()}
    del column["TPUv3-core-days"]
    assert sum(lead > 0 for lead in column.values()) == 5  # and not all seven
    assert answers("4")["4.q4"] == "Five"
    decays = {data: row["weight_decay"] for (_, data), row in paper.TABLE_3.items()}
    said = answers("4")["4.q5"]
    assert all(
        f"{decay:g} on {'JFT' if data == 'JFT-300M' else data}" in said for data, decay in decays.items()
    )
    assert 0.06 in paper.TABLE_4["ImageNet"]["learning_rates"]
    assert (paper.TABLE_5["JFT-300M"]["H/14"], paper.TABLE_6["ViT-H/14", 14][0]) == (88.04, 88.08)


def test_no_one_way_of_counting_gives_the_three_numbers_of_table_1():
    printed = [row["parameters"] for row in paper.TABLE_1.values()]
    for names in (("B/16", "L/16", "H/14"), ("B/32", "L/32", "H/14")):
        for classes in (1000, 0):
            with torch.device("meta"):
                models = [vitlab.ViT(vitlab.ViTConfig.from_name(name, num_classes=classes)) for name in names]
            counted = [round(vitlab.count_parameters(model) / 1e6) for model in models]
            assert counted != printed
            said = {"B/16 1000": [87, 304, 632], "B/16 0": [86, 303, 631]}.get(f"{names[0]} {classes}")
            assert said in (None, counted)


def test_quiz_shows_one_output_for_each_question(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    assert checks.quiz("1") is None
    assert [bundle["text/plain"].partition(".")[0] for bundle in shown] == ["Question 1"] * 5
    assert all("application/vnd.jupyter.widget-view+json" in bundle for bundle in shown)


# -------------------------------------------------------------------------------------------- progress


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty VITLAB_HOME, in a session without a past; returns where progress.json will be."""
    monkeypatch.setenv("VITLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(box, "_committed", {})
    monkeypatch.setattr(checking, "_shown", [])
    monkeypatch.setattr(records, "_said", set())
    return tmp_path / "home" / "progress.json"


def right(images, patch_size):
    return torch.nn.functional.unfold(images.float(), patch_size, stride=patch_size).mT


def also_right(images, patch_size):
    return right(images, patch_size)


def wrong(images, patch_size):
    return right(images.mT, patch_size)


def stub(images, patch_size):
    raise NotImplementedError


def counts(number="1") -> list[tuple[int, int]]:
    """(attempted, correct) of exercises, predictions, quiz."""
    return [(count.attempted, count.correct) for count in checks.progress(number).counts[number].values()]


def test_a_check_counts_once_attempted_and_stays_correct(home):
    for answer in (None, stub):
        checks.check("1.1", answer)
        assert not home.exists()
    checks.check("1.1", wrong)
    assert counts() == [(1, 0), (0, 0), (0, 0)]
    checks.check("1.1", right)
    checks.check("1.1", wrong)
    checks.check("1.2", right)
    assert counts() == [(2, 1), (0, 0), (0, 0)]
    assert json.loads(home.read_text())["exercises"] == {"1.1": "correct", "1.2": "not yet"}


def test_a_solution_does_not_count_and_not_when_checked_again(home):
    checks.check("1.1", right, yours=False)
    checks.check(
        "1.1", right
    )  # the check cell, run again after the solution's: the name is now the solution's
    assert not home.exists()
    checks.check("1.1", also_right)
    assert counts()[0] == (1, 1)


def test_verdicts_are_not_recorded(home):
    checks.verdict("1.1", right)
    assert not home.exists()


def commit(question, option):
    box = QuestionBox(question)
    box.choice.value = option
    box.commit.click()
    return box


def test_of_a_question_the_first_answer_counts(home):
    prediction, question = find("1.a"), questions("1")[0]
    assert not home.exists()
    commit(prediction, (prediction.right + 1) % 4)
    commit(prediction, prediction.right)
    commit(question, question.right)
    assert counts() == [(0, 0), (1, 0), (1, 1)]
    box.forget(None)  # another session
    commit(prediction, prediction.right)
    commit(question, (question.right + 1) % 4)
    assert counts() == [(0, 0), (1, 0), (1, 1)]


def test_a_quiz_on_other_numbers_is_asked_anew(home):
    before, after = (questions("1", **defaults("1") | {"patch_size": P})[0] for P in (4, 7))
    commit(before, 0)
    assert QuestionBox(before).choice.value == 0
    assert QuestionBox(after).choice.value is None


def test_reset_forgets_one_lesson_or_all(home, capsys):
    for id, answer in (("1.1", right), ("1.2", wrong), ("2.1", wrong)):
        checks.check(id, answer)
    prediction = find("1.a")
    commit(prediction, 0)
    capsys.readouterr()
    checks.reset_progress("1")
    assert capsys.readouterr().out == "3 results forgotten\n"
    assert (counts("1"), counts("2")) == ([(0, 0)] * 3, [(1, 0), (0, 0), (0, 0)])
    assert QuestionBox(prediction).choice.value is None
    checks.reset_progress()
    assert counts("2") == [(0, 0)] * 3


def test_the_file_is_text_in_the_folder_given(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert checks.progress().path == tmp_path / ".vitlab" / "progress.json"
    assert checks.progress(folder="~/mine").path == tmp_path / "mine" / "progress.json"
    checks.check("1.1", right)
    lines = (tmp_path / ".vitlab" / "progress.json").read_text().splitlines()
    assert '    "1.1": "correct"' in lines
    names = [path.name for path in (tmp_path / ".vitlab").iterdir()]
    assert sorted(names) == ["mine.py", "progress.json"]


def test_the_panel_as_text_and_as_html(home):
    checks.check("1.1", right)
    panel = checks.progress("1")
    assert repr(panel).splitlines() == [
        "your progress   exercises                     predictions     quiz",
        "01 patching     1 of 6 attempted, 1 correct   none of 5 yet   none of 5 yet",
    ]
    assert '<td style="text-align: left">1 of 6 attempted, 1 correct</td>' in panel._repr_html_()
    assert len(repr(checks.progress()).splitlines()) == 8
    assert str(home.parent) not in repr(panel) + panel._repr_html_()  # a stored output tells no path


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"exercises": []}', b'{"quiz": {"1.q1": 3}}', b"[" * 100_000],
)
def test_a_damaged_file_is_set_aside_and_stops_nothing(home, capsys, damage):
    home.parent.mkdir()
    home.write_bytes(damage)
    checks.check("1.1", right)
    verdict, message = capsys.readouterr().out.splitlines()
    assert verdict.startswith("Exercise 1.1: correct")
    assert "could not be read" in message
    assert "set aside as progress.damaged.json" in message
    assert home.with_name("progress.damaged.json").read_bytes() == damage
    assert counts()[0] == (1, 1)
    home.write_bytes(damage)
    assert "progress.damaged-2.json" in repr(checks.progress("1"))
    assert home.with_name("progress.damaged.json").read_bytes() == damage


def test_what_another_version_has_written_is_kept(home):
    home.parent.mkdir()
    home.write_text('{"exercises": {"99.1": "correct"}, "notes": "mine"}')
    checks.check("1.1", right)
    found = json.loads(home.read_text())
    assert found["exercises"] == {"1.1": "correct", "99.1": "correct"}
    assert found["notes"] == "mine"


def test_a_home_that_cannot_be_used_is_said_once(home, capsys):
    home.parent.write_text("a file where the folder should be")
    checks.check("1.1", wrong)
    checks.check("1.1", right)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "Exercise 1.1", "Your progress could not be kept",
        "Exercise 1.1", "(Right, but not kept for other notebooks",
    ]  # fmt: skip
    checks.check("1.1", right)
    assert len(capsys.readouterr().out.splitlines()) == 1
    box = commit(questions("1")[0], 0)
    assert "You chose" in box.answer.value
    assert "could not be read" in repr(checks.progress("1"))


def test_no_home_at_all_stops_nothing(monkeypatch, capsys):
    def no_home(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.setattr(records, "_said", set())
    checks.check("1.1", right)
    assert "could not be kept: Could not determine home" in capsys.readouterr().out
    assert "Could not determine home" in repr(checks.progress("1"))


def test_an_interrupted_write_leaves_the_old_file_whole(home, monkeypatch):
    checks.check("1.1", wrong)
    before = home.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    checks.check("1.1", right)
    assert home.read_bytes() == before
    assert [path.name for path in home.parent.iterdir()] == ["progress.json"]


def test_tests_do_not_write_into_the_real_home():
    assert records.place().parent != Path.home() / ".vitlab"
    assert Path(os.environ["VITLAB_HOME"]).is_relative_to(tempfile.gettempdir())


def test_a_fresh_process_reads_what_another_wrote(home):
    checks.check("1.1", right)
    code = "from vitlab.checks import progress; print(progress('1'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "1 of 6 attempted, 1 correct" in done.stdout


# -------------------------------------------------------------------------------------------- the notebooks

each_notebook = pytest.mark.parametrize("path", tools.notebook_paths()[1:], ids=lambda path: path.stem)


@each_notebook
def test_each_exercise_has_two_folded_hints(path):
    nb = tools.read(path)
    for stub in tools.tagged(nb, "exercise"):
        task = nb.cells[nb.cells.index(stub) - 1].source
        folded = re.findall(r"<details><summary>(.+?)</summary>\n\n(.+?)\n\n</details>", task, flags=re.S)
        assert [title for title, _ in folded] == ["Hint 1", "Hint 2"], task[:80]
        # a smaller problem, and no expression of the answer
        assert len(folded[1][1].split()) >= 8
        assert not re.search(r"`[^`]*\w\([^`]*`", folded[0][1] + folded[1][1])


@each_notebook
def test_each_solution_says_why_and_does_not_count(path):
    for cell in tools.tagged(tools.read(path), "solution"):
        tree = ast.parse(cell.source)
        (solution,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert len((ast.get_docstring(solution) or "").split()) >= 8, solution.name
        call = tree.body[-1].value
        assert [(word.arg, ast.literal_eval(word.value)) for word in call.keywords] == [("yours", False)]


@each_notebook
def test_the_quiz_is_the_last_code_and_takes_the_runs_own_numbers(path):
    number = path.stem[1]
    nb = tools.read(path)
    last = [cell for cell in nb.cells if cell.cell_type == "code"][-1]
    assert nb.cells[nb.cells.index(last) + 1].source.startswith("## Summary")
    *others, panel = ast.parse(last.source).body
    assert ast.unparse(panel) == f"progress('{number}')"
    if tools.optional(path):
        assert not others, "the quiz is in the lesson itself"
        return
    shown = others[-1]
    assert ast.unparse(shown.value.func) == "quiz"
    assert [argument.value for argument in shown.value.args] == [number]
    given = [word.arg for word in shown.value.keywords if word.arg]
    assert given
    assert set(given) <= defaults(number).keys()
    assert not [word.arg for word in shown.value.keywords if isinstance(word.value, ast.Constant)]


def test_elsewhere_than_in_a_check_nothing_counts_as_the_learners():
    """00 shows a verdict on a wrong answer; that is no attempt of the learner's."""
    for path in tools.notebook_paths():
        for cell in tools.read(path).cells:
            if cell.cell_type == "code" and "check" not in tools.tags(cell):
                for call in re.findall(r"^check\(.*\)$", cell.source, flags=re.M):
                    assert "yours=False" in call, (path.stem, call)


def test_a_run_of_a_notebook_leaves_no_trace_at_home(tmp_path):
    source = "from vitlab.checks import check, progress\ncheck('1.3', max)\nprint(progress('1').path)"
    nb = nbformat.v4.new_notebook(metadata=tools.METADATA)
    parameters = nbformat.v4.new_code_cell("QUICK = False", metadata={"tags": ["parameters"]})
    nb.cells = [parameters, nbformat.v4.new_code_cell(source)]
    verdict, path = tools.printed(tools.execute(nb, tmp_path).cells[-1]).splitlines()
    assert verdict.startswith("Exercise 1.3: not yet")
    assert Path(path).parent != Path(os.environ["VITLAB_HOME"])
    assert Path.home() not in Path(path).parents or Path.home() == Path("/")
    assert not Path(path).exists()
