"""Find the fault, and open tasks: each part is judged, the number is said, and the best so far is kept."""

import inspect
import json
import textwrap

import pytest
import torch

from vitlab import checks
from vitlab.checks import engine
from vitlab.checks.engine import FindTheFault, OpenTask, Refused, checking, limits, records
from vitlab.checks.reports.submission import checked_in


def _cases(generator):
    for shape in ((2, 3), (4, 2)):
        yield (torch.randn(shape, generator=generator),)


def _right(x):
    return torch.stack([row / row.abs().sum() for row in x])


def _faulty(x):
    size = x.abs()
    total = size.sum(dim=0, keepdim=True)
    return x / total


def _mended(x):
    size = x.abs()
    total = size.sum(dim=1, keepdim=True)
    return x / total


def _not_absolute(x):
    return x / x.sum(dim=1, keepdim=True)


FAULT = FindTheFault(
    id="0.1",
    title="rows that sum to 1",
    oracle=_right,
    cases=_cases,
    mistakes=[(_not_absolute, "the signs were kept in the sum.")],
    faulty=_faulty,
    line=2,
    mend="total = size.sum(dim=1, keepdim=True)",
    sound={1: "sizes have no sign.", 3: "each number is divided by its row's total."},
)


def _measure(answer, generator):
    if not isinstance(answer, (list, tuple)):
        raise Refused("an entry is a list.")
    return sum(answer)


TASK = OpenTask(
    id="0.2", title="a small sum", measure=_measure, goal=10, best=[1, 2], refused=[], says="a sum of {:g}"
)


@pytest.fixture(autouse=True)
def made_up(monkeypatch, tmp_path):
    """FAULT and TASK are found by their ids; progress.json is new."""
    monkeypatch.setattr(checking, "find", lambda id: {"0.1": FAULT, "0.2": TASK}.get(id) or engine.find(id))
    monkeypatch.setattr(checking, "_shown", [])
    monkeypatch.setattr(records, "_said", set())
    monkeypatch.setenv("VITLAB_HOME", str(tmp_path))
    return tmp_path / "progress.json"


@pytest.mark.parametrize(
    ("line", "function", "words"),
    [
        (2, _mended, "correct. Line 2 it is. Your mended function is right (2 cases, "),
        (1, _mended, "not yet. Line 1 is sound: sizes have no sign. Your mended function is right"),
        (2, _faulty, "not yet. Line 2 it is. Your mended function is not right yet. With x (2, 3)"),
        (2, _not_absolute, "Likely cause: the signs were kept in the sum."),
        (None, _mended, "not yet. You have not named the line. Your mended function is right"),
        (2, None, "not yet. Line 2 it is. You have not mended it."),
        (9, _mended, "not yet. Name the line by its number, 1 to 3: this is 9."),
        ("2", _mended, "not yet. Name the line by its number, 1 to 3: this is '2'."),
        (2, 7, "Pass the function itself, not its result: this is 7."),
        (None, None, "not attempted"),
    ],
)
def test_line_and_mended_function_are_judged_each(line, function, words, capsys):
    checks.check("0.1", line, function)
    assert words in capsys.readouterr().out


def test_one_answer_alone_is_told_that_there_are_two():
    assert 'check("0.1", line, mended): got 2 alone' in str(checks.verdict("0.1", 2))


def test_a_fault_counts_only_when_both_are_right_and_are_the_learners(made_up):
    checks.check("0.1", 2, _mended, yours=False)
    checks.check("0.1", 2, _mended)
    assert not made_up.exists()
    checks.check("0.1", 1, lambda x: _mended(x))
    assert json.loads(made_up.read_text())["exercises"] == {"0.1": "not yet"}
    checks.check("0.1", 2, lambda x: _mended(x))
    assert json.loads(made_up.read_text())["exercises"] == {"0.1": "correct"}


def test_number_goal_and_the_best_so_far_are_said_and_kept(made_up, capsys):
    for entry in ([12], [3, 4], [8], [1]):
        checks.check("0.2", entry, yours=entry != [1])
    assert capsys.readouterr().out.splitlines() == [
        "Exercise 0.2: not yet. A sum of 12; the goal is at most a sum of 10. Your best so far: a sum of 12.",
        "Exercise 0.2: correct. A sum of 7; the goal is at most a sum of 10. Your best so far: a sum of 7.",
        "Exercise 0.2: correct. A sum of 8; the goal is at most a sum of 10. Your best so far: a sum of 7.",
        "Exercise 0.2: correct. A sum of 1; the goal is at most a sum of 10.",
    ]
    assert json.loads(made_up.read_text())["best"] == {"0.2": 7.0}
    assert records.record_best("0.2", 20, larger_wins=True)[0] == 20
    checks.reset_progress()
    assert json.loads(made_up.read_text())["best"] == {}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("text", "not yet. This entry does not count: an entry is a list."),
        ([float("nan")], "does not count: what it measures is nan, no finite number."),
        ([1, "a"], "not yet. Your code stopped with TypeError"),
        (None, "not attempted"),
    ],
)
def test_what_does_not_count_is_refused_by_name_and_not_kept(entry, words, made_up, capsys):
    checks.check("0.2", entry)
    assert words in capsys.readouterr().out
    assert not made_up.exists() or json.loads(made_up.read_text())["best"] == {}


def test_a_task_may_have_a_limit_of_its_own(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 60)

    def endless():
        while True:
            pass

    with pytest.raises(limits.LimitPassed, match="did not end within 0.2 seconds"):
        limits.limited(endless, 0.2)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('check("1.5", line, mended)', [("1.5", "line, mended")]),
        ('check("1.5", 3, mended)', [("1.5", "3, mended")]),
        ('check("1.5", line, mended, yours=False)', []),
        ('check("1.1", patchify)', [("1.1", "patchify")]),
        ('check("1.1", patchify, yours=True)', [("1.1", "patchify")]),
        ('check("1.1", patchify, yours=False)', []),
        ('check("1.1", lambda x, p: patchify(x, p))', [("1.1", "lambda x, p: patchify(x, p)")]),
        ('check("1.1", partial(patchify, flip=")"),)', [("1.1", 'partial(patchify, flip=")")')]),
        ('check("1.1", lambda x, p: x, yours=False)', []),
        ('check("1.3", [0, 1])\nplots.show(1)', [("1.3", "[0, 1]")]),
        ('check("1.1", *answers)', []),
        ('check("1.1", patchify', []),
        ('# see check("1.1", or (so\ncheck("1.1", patchify)', [("1.1", "patchify")]),
        ('"""\ncheck("1.1", patchify)  # )"""', [("1.1", "patchify")]),
        ('check("1.1", partial(patchify, # :)\n  3))', [("1.1", "partial(patchify, # :)\n  3)")]),
        ('check("1.1", [(patchify])) + check("1.3", f)', [("1.3", "f")]),
        (f'check("1.1", f{"()" * 1000})', [("1.1", f"f{'()' * 1000}")]),
    ],
)
def test_a_report_finds_checks_of_one_answer_and_of_two(source, found):
    assert checked_in(source) == found


def test_an_open_task_that_asks_for_a_function_says_what_to_pass(capsys):
    words = "not yet. Pass the function itself, not its result: this is {}."
    for task in (it for it in TASKS if callable(it.best)):
        for entry, said in (((4, 8), "(4, 8)"), (torch.zeros(2, 3), "(2, 3) float32")):
            assert str(checks.verdict(task.id, entry)) == f"Exercise {task.id}: {words.format(said)}"
    assert len([it for it in TASKS if callable(it.best)]) >= 5
    assert checks.verdict("0.2", [1]).status == "correct", "a task may ask for a value"


# ------------------------------------------------------------------------------------ those of the lessons

ALL = [FAULT, *(it for number in engine.LESSONS for it in engine.exercises(number))]
TASKS = [it for it in [TASK, *ALL] if isinstance(it, OpenTask)]


@pytest.mark.parametrize("fault", [it for it in ALL if isinstance(it, FindTheFault)], ids=lambda it: it.id)
def test_the_mended_line_alone_mends_the_function(fault):
    head, *body = textwrap.dedent(inspect.getsource(fault.faulty)).rstrip().splitlines()
    assert head.startswith("def ")
    assert 3 <= len(body) <= 5
    assert sorted([fault.line, *fault.sound]) == list(range(1, len(body) + 1))
    assert checks.verdict(fault.id, (fault.line, fault.faulty)).status == "not yet"
    body[fault.line - 1] = "    " + fault.mend.strip()
    names = dict(vars(inspect.getmodule(fault.faulty)))
    exec("\n".join([head, *body]), names)
    assert checks.verdict(fault.id, (fault.line, names[fault.faulty.__name__])).status == "correct"
    for line in fault.sound:
        assert checks.verdict(fault.id, (line, names[fault.faulty.__name__])).status == "not yet"


@pytest.mark.parametrize("task", TASKS, ids=lambda it: it.id)
def test_the_goal_can_be_reached_and_what_is_refused_has_its_reason(task):
    assert checks.verdict(task.id, task.best).status == "correct"
    for entry, reason in task.refused:
        assert checks.verdict(task.id, entry).diagnosis == reason
    assert len(task.refused) >= 3 or task is TASK
