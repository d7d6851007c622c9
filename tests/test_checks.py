"""The checks accept right answers, give wrong ones their diagnosis, and survive whatever a learner writes.

The first two parts run over the checks of every lesson, the others over lesson 01 and the engine.
"""

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from vitlab import checks
from vitlab.checks import engine
from vitlab.checks.asking import box as boxes
from vitlab.checks.asking.lessons import predictions, questions
from vitlab.checks.asking.prediction import Prediction
from vitlab.checks.engine import LESSONS, Exercise, FindTheFault, checking
from vitlab.checks.engine.comparing import compare, describe

FOLDER = Path(checks.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
EXERCISES = [it for number in LESSONS for it in engine.exercises(number) if isinstance(it, Exercise)]
PREDICTIONS = [prediction for number in LESSONS for prediction in predictions(number)]
QUESTIONS = [question for number in LESSONS for question in questions(number)]
MISTAKES = [
    pytest.param(exercise, *mistake, id=f"{exercise.id}-{getattr(mistake[0], '__name__', mistake[0])}")
    for exercise in EXERCISES
    for mistake in exercise.mistakes
]
each_lesson = pytest.mark.parametrize("number", LESSONS)
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
each_function = pytest.mark.parametrize(
    "exercise", [exercise for exercise in EXERCISES if exercise.cases], ids=lambda exercise: exercise.id
)
each_prediction = pytest.mark.parametrize(
    "prediction", PREDICTIONS + QUESTIONS, ids=lambda prediction: prediction.id
)


# -------------------------------------------------------------------------------------------- every lesson


def judge_as(exercise, function, seed=0):
    """The verdict on a function; where a fault has to be found, the line is named rightly beside it."""
    answer = (exercise.line, function) if isinstance(exercise, FindTheFault) else function
    return checks.verdict(exercise.id, answer, seed)


@each_lesson
def test_ids_count_up(number):
    exercises = [exercise.id for exercise in engine.exercises(number)]
    asked = [prediction.id for prediction in predictions(number)]
    first = int(exercises[0][2:])  # 0 comes before the lesson's first section
    assert first in (0, 1)
    assert exercises == [f"{number}.{i}" for i in range(first, first + len(exercises))]
    assert asked == [f"{number}.{letter}" for letter in "abcdefghijklmnop"[: len(asked)]]
    assert min(len(exercises), len(asked)) >= 2


@pytest.mark.parametrize(
    "path", sorted(FOLDER.rglob("*.py")), ids=lambda path: f"{path.parent.stem}-{path.stem}"
)
def test_an_oracle_cannot_reach_the_code_it_checks(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") != "measure"]  # is no oracle
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        others = r"vitlab(?!\.checks|\.files|\.page)|vitlab\.checks\.assembling"
        code = [name for name in names if re.match(others, name)]
        # what makes a model of the learner's parts judges nothing, and no module that judges knows it
        assert not code or path in (FOLDER / "assembling.py", FOLDER / "__init__.py")


@each_exercise
@pytest.mark.parametrize("seed", [0, 1])
def test_the_oracle_is_accepted(exercise, seed):
    verdict = judge_as(exercise, exercise.oracle, seed)
    assert verdict.status == "correct", verdict


@pytest.mark.parametrize(("exercise", "wrong", "sentence"), MISTAKES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_known_mistake_gets_its_own_diagnosis(exercise, wrong, sentence, seed):
    verdict = judge_as(exercise, wrong, seed)
    assert verdict.status == "not yet"
    assert verdict.diagnosis == sentence
    assert str(verdict).endswith(f"Likely cause: {sentence}")


@each_exercise
def test_mistakes_are_at_least_three_and_told_apart(exercise):
    sentences = [sentence for _, sentence in exercise.mistakes]
    assert len(set(sentences)) == len(sentences) >= 3
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in sentences)


@each_function
def test_cases_differ_and_are_drawn_from_the_seed(exercise):
    cases = engine.draw_cases(exercise, 0)
    wanted = [engine.run(exercise, exercise.oracle, case).value for case in cases]
    assert any(compare(value, wanted[0], 0).grade == "wrong" for value in wanted), "a constant would pass"
    again = engine.draw_cases(exercise, 0)
    assert [describe(item) for item in again[0]] == [describe(item) for item in cases[0]]


def _stub(*arguments, **named):
    raise NotImplementedError


def _nothing(*arguments, **named):
    pass


def _raising(*arguments, **named):
    raise KeyError("no such patch")


@each_function
def test_a_stub_is_not_attempted(exercise):
    assert judge_as(exercise, _stub).status == (
        "not yet" if isinstance(exercise, FindTheFault) else "not attempted"
    )


@each_exercise
def test_none_is_not_attempted(exercise):
    assert str(checks.verdict(exercise.id, None)) == f"Exercise {exercise.id}: not attempted"


@each_function
@pytest.mark.parametrize("answer", [_nothing, _raising, lambda *a, **k: 7, 7, "text", torch.zeros(2)])
def test_nothing_errors_and_constants_are_not_yet(exercise, answer):
    verdict = judge_as(exercise, answer)
    assert verdict.status == "not yet"
    assert "\n" not in str(verdict)
    assert "Traceback" not in str(verdict)


@each_function
def test_a_right_answer_to_one_case_is_not_yet(exercise):
    cases = engine.draw_cases(exercise, 0)
    for case in (cases[0], cases[-1]):
        value = engine.run(exercise, exercise.oracle, case).value
        assert judge_as(exercise, lambda *a, _value=value, **k: _value).status == "not yet"


# -------------------------------------------------------------------------------------------- predictions


@each_prediction
def test_a_prediction_has_one_right_option_and_explains_each(prediction):
    texts, explanations = zip(*prediction.options, strict=True)
    assert len(set(texts)) == len(texts) >= 3
    assert len(set(explanations)) == len(explanations)
    assert prediction.right in range(len(texts))
    assert max(map(len, texts)) <= 90, "radio buttons show one line"
    assert min(map(len, explanations)) >= 20


@each_lesson
def test_the_right_option_is_not_always_at_the_same_place(number):
    for asked in (predictions(number), questions(number)):
        assert len({prediction.right for prediction in asked}) > 1


ASKED = Prediction(
    "0.a",
    "What is 2 < 3?",
    [
        ("0", "Because of nought."),
        ("1", "Because of one."),
        ("True", "Because of <."),
        ("4", "Because of four."),
    ],
    right=2,
)


@pytest.fixture
def box(monkeypatch):
    """Makes the box of ASKED, in a session that has committed to nothing."""
    monkeypatch.setattr(boxes, "_committed", {})
    return lambda: boxes.QuestionBox(ASKED)


@each_prediction
def test_the_text_form_asks_and_does_not_tell(prediction, monkeypatch):
    monkeypatch.setattr(boxes, "_committed", {prediction.id: (prediction, prediction.right)})
    bundle = boxes.QuestionBox(prediction).bundle()
    for kind in ("text/plain", "text/markdown"):
        assert prediction.question in bundle[kind]
        assert all(f"{i}. {text}" in bundle[kind] for i, (text, _) in enumerate(prediction.options, start=1))
        assert not any(explanation in bundle[kind] for _, explanation in prediction.options)


def test_nothing_is_chosen_or_told_at_first(box):
    question = box()
    assert question.choice.value is None
    question.choice.value = 2
    assert question.answer.value == ""
    assert question.commit.description == "Commit"


def test_committing_without_a_choice_asks_for_one(box):
    question = box()
    question.commit.click()
    assert "Choose one" in question.answer.value
    assert question.commit.description == "Commit"
    assert boxes._committed == {}


def test_a_right_choice_is_explained_once(box):
    question = box()
    question.choice.value = 2
    question.commit.click()
    text = question.answer.value
    assert "Right." in text
    assert text.count("Because of &lt;.") == 1
    assert "Not so" not in text


def test_a_wrong_choice_gets_its_explanation_and_the_right_one(box):
    question = box()
    question.choice.value = 1
    question.commit.click()
    assert "Not so." in question.answer.value
    assert "Because of one." in question.answer.value
    assert "Because of &lt;." in question.answer.value
    assert "Because of four." not in question.answer.value


def test_the_first_choice_is_kept(box):
    question = box()
    question.choice.value = 1
    question.commit.click()
    question.choice.value = 2
    question.commit.click()
    assert "Not so." in question.answer.value
    again = box()
    assert again.choice.value == 1
    assert "Not so." in again.answer.value
    again.choice.value = 3
    assert "Because of four." in again.answer.value


def test_predict_is_one_output_with_a_widget_and_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append((sorted(bundle), raw)))
    assert checks.predict("1.a") is None
    assert shown == [(["application/vnd.jupyter.widget-view+json", "text/markdown", "text/plain"], True)]


# -------------------------------------------------------------------------------------------- lesson 01


def _patchify_einops(images, patch_size):
    return rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=patch_size, q=patch_size)


def _patchify_unfold(images, patch_size):
    return torch.nn.functional.unfold(images.float(), patch_size, stride=patch_size).mT


def _patchify_windows(images, patch_size):
    windows = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def _unpatchify_einops(patches, patch_size, image_size, channels):
    pattern = "b (h w) (c p q) -> b c (h p) (w q)"
    return rearrange(patches, pattern, h=image_size[0] // patch_size, p=patch_size, q=patch_size)


def _unpatchify_fold(patches, patch_size, image_size, channels):
    return torch.nn.functional.fold(patches.float().mT, image_size, patch_size, stride=patch_size)


def _corner_by_divmod(index, image_size, patch_size):
    row, column = divmod(index, image_size[1] // patch_size)
    return row * patch_size, column * patch_size


def _corner_by_table(index, image_size, patch_size):
    rows, columns = (torch.arange(0, side, patch_size) for side in image_size)
    return torch.cartesian_prod(rows, columns)[index].tolist()


def _count_by_formula(image_size, patch_size, channels):
    number = (image_size[0] // patch_size) * (image_size[1] // patch_size)
    return number, channels * patch_size**2, (number + 1) ** 2


def _count_by_shape(image_size, patch_size, channels):
    _, number, length = _patchify_einops(torch.empty(1, channels, *image_size), patch_size).shape
    return [torch.tensor(number), length, torch.ones(number + 1, number + 1).numel()]


@pytest.mark.parametrize(
    ("id", "answer"),
    [
        ("1.1", _patchify_einops),
        ("1.1", _patchify_unfold),
        ("1.1", _patchify_windows),
        ("1.2", _unpatchify_einops),
        ("1.2", _unpatchify_fold),
        ("1.3", _corner_by_divmod),
        ("1.3", _corner_by_table),
        ("1.4", _count_by_formula),
        ("1.4", _count_by_shape),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_right_answers_of_lesson_01(id, answer, seed):
    assert checks.verdict(id, answer, seed).status == "correct"


@pytest.mark.parametrize(
    ("id", "answer", "cause"),
    [
        ("1.1", lambda x, p: rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p), "(P, P, C) order"),
        ("1.1", lambda x, p: rearrange(x, "b c (h p) (w q) -> b (w h) (c p q)", p=p, q=p), "the columns"),
        ("1.1", lambda x, p: rearrange(x, "b c (h p) (w q) -> b (h w) (c q p)", p=p, q=p), "transposed"),
        ("1.1", lambda x, p: rearrange(x, "b c (h p) (w q) -> (b h w) (c p q)", p=p, q=p), "joined"),
        ("1.1", lambda x, p: rearrange(x, "b c (p h) (q w) -> b (h w) (c p q)", p=p, q=p), "(row p), not"),
        ("1.1", lambda x, p: torch.nn.functional.unfold(x.float(), p, stride=p), "last two axes are swapped"),
        ("1.2", lambda x, p, size, c: x.reshape(len(x), c, *size), "plain reshape"),
        ("1.3", lambda i, size, p: (i - i % p, i % p * p), "divides by P"),
        ("1.3", lambda i, size, p: (i * p // size[1], i % (size[1] // p)), "counted in patches"),
        ("1.4", lambda size, p, c: (math.prod(size) // p**2, p * p * c, math.prod(size) ** 2 // p**4), "T²"),
    ],
)  # fmt: skip
def test_wrong_answers_written_otherwise_are_recognised(id, answer, cause):
    assert cause in checks.verdict(id, answer).diagnosis


def test_the_verdict_names_the_case_the_difference_and_the_place(capsys):
    def answer(images, patch_size):
        patches = _patchify_einops(images, patch_size)
        patches[1, 2, 3] += 2 * (images.shape[1] == 4)  # wrong in the third case only
        return patches

    assert checks.check("1.1", answer) is None
    line = capsys.readouterr().out
    begin = (
        "Exercise 1.1: not yet. With images (2, 4, 9, 6) float64 and patch_size 3: 1 of 432 values differ, "
    )
    assert line.startswith(begin + "the most at [1, 2, 3]: ")
    assert line.endswith(", a difference of 2.\n")
    assert line.count("\n") == 1


# -------------------------------------------------------------------------------------------- the engine


def _cases(generator):
    for shape, dtype in (((2, 3), torch.float32), ((3, 2), torch.float64)):
        yield tuple(torch.randn(shape, dtype=dtype, generator=generator) for _ in range(2))


def _two(x, y):
    return torch.stack([2 * a + b for a, b in zip(x, y, strict=True)])


def _sum(x, y):
    return x + y


DOUBLING = Exercise("0.1", "twice x plus y", _two, [(_sum, "x is taken once.")], _cases)
NUMBER = Exercise("0.2", "a number", 49, [(50, "the class token is not a patch.")])


@pytest.fixture
def judge(monkeypatch):
    """The verdict on an answer to DOUBLING, as text."""
    monkeypatch.setattr(checking, "find", lambda id: {"0.1": DOUBLING, "0.2": NUMBER}[id])
    return lambda answer, id="0.1": str(checks.verdict(id, answer))


def test_the_case_shown_is_one_that_the_cause_explains(judge):
    def answer(x, y):
        return x + y if len(x) == 3 else x.no_such_name

    words = judge(answer)  # the error comes first, but the sum is what is recognised
    assert "With x (3, 2) float64" in words
    assert words.endswith("Likely cause: x is taken once.")
    assert "no_such_name" not in words
    error = judge(lambda x, y: x * y if len(x) == 3 else x.no_such_name)
    assert re.search(r"With x \(2, 3\) float32.*no_such_name", error)
    assert "cause" not in error


def test_exact_close_and_nearly(judge):
    assert judge(lambda x, y: x + x + y) == "Exercise 0.1: correct (2 cases, exact)"
    assert re.fullmatch(r"Exercise 0.1: correct \(2 cases, largest difference \de-0\d\)", judge(_hair_off))
    assert "close, but not within" in judge(lambda x, y: 2 * x + y + 1e-3)
    assert "close, but not within" not in judge(lambda x, y: 2 * x + y + 1)


def _hair_off(x, y):
    return 2 * x + y + 1e-6


def test_the_largest_difference_is_placed(judge):
    def answer(x, y):
        result = 2 * x + y
        result[1, 0] += 5
        result[0, 1] -= 7
        return result

    assert "2 of 6 values differ, the most at [0, 1]: " in judge(answer)
    assert "a difference of 7." in judge(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, y: (2 * x + y).mT, "the result is (3, 2) float32, wanted (2, 3) float32."),
        (lambda x, y: (2 * x + y).half(), "close, but not within "),
        (lambda x, y: (2 * x + y).int(), "the result is (2, 3) int32, wanted (2, 3) float32."),
        (
            lambda x, y: (2 * x + y).tolist(),
            "the result is a list, wanted a tensor (2, 3) float32: `torch.tensor`?",
        ),
        (
            lambda x, y: (2 * x + y).numpy(),
            "the result is a NumPy array (2, 3) float32, wanted a tensor (2, 3) float32: `torch.from_numpy`?",
        ),
        (lambda x, y: (2 * x + y).to("meta"), "your code stopped with NotImplementedError"),
        (lambda x, y: None, "the result is None: is a `return` missing?"),
        (lambda x, y: 7, "the result is the int 7, wanted a tensor (2, 3) float32."),
        (lambda x, y: torch.zeros(2, 3), "Likely cause: the result is the same whatever the input."),
        (lambda x, y: (2 * x + y) / 0, "6 of 6 values differ"),
        (lambda x, y: (2 * x + y) * torch.nan, "6 of 6 values differ"),
        (lambda x: x, "TypeError: "),
        (_sum, "Likely cause: x is taken once."),
    ],
)
def test_what_went_wrong_is_said(judge, answer, words):
    assert judge(answer).startswith("Exercise 0.1: not yet. ")
    assert words in judge(answer)


def test_changing_an_input_is_not_correct(judge):
    assert "the result is right, but your code changed its input x; copy it first." in judge(
        lambda x, y: x.mul_(2).add_(y).clone()
    )


def test_a_right_result_with_a_changed_input_gets_no_cause():
    """Gradients that are always scaled give the right result, too, where there is something to clip."""

    def in_place(weights, gradients, velocities, learning_rate, clip_norm):
        norm = sum((gradient**2).sum() for gradient in gradients) ** 0.5
        for w, g, v in zip(weights, gradients, velocities, strict=True):
            w.sub_(learning_rate * v.mul_(0.9).add_(min(1, clip_norm / norm) * g))
        return weights, velocities

    line = str(checks.verdict("5.3", in_place))
    assert line.endswith(
        "the result is right, but your code changed its input weights, velocities; copy it first."
    )


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("torch.sin(x) + d", "(Your code reads `d` from the notebook, not from its arguments.)"),
        ("layer(x).sum() + d", "(Your code reads `d`, `layer` from the notebook, not from its arguments.)"),
        ("helper(x).T", ""),  # tools may come from the notebook, and an attribute is not read from there
        ("x + y", ""),
    ],
)
def test_what_is_read_from_the_notebook_is_named(judge, line, note):
    notebook = dict(torch=torch, helper=torch.sin, d=24, T=50, layer=torch.nn.Identity())
    exec(f"def answer(x, y):\n    return {line}", notebook)
    said = judge(notebook["answer"])
    assert said.startswith("Exercise 0.1: not yet. ")
    assert said.endswith(note) if note else "from the notebook" not in said


def test_an_error_is_short_and_shows_the_learners_line(judge):
    def answer(x, y):
        return torch.nn.functional.linear(x, y.mT)

    line = judge(answer)
    assert "your code stopped with RuntimeError: " in line
    assert "in your line `return torch.nn.functional.linear(x, y.mT)`." in line
    assert len(line) < 400


def test_a_long_message_is_cut(judge):
    def answer(x, y):
        raise ValueError("many words\n" * 1000)

    assert len(judge(answer)) < 500
    assert "\n" not in judge(answer)


def test_leaving_python_is_only_an_error(judge):
    assert "your code stopped with SystemExit" in judge(lambda x, y: exit())


def test_only_a_stub_counts_as_not_attempted(judge):
    def part_done(x, y):
        if x.shape == (3, 2):
            raise NotImplementedError
        return 2 * x + y

    assert judge(_stub) == "Exercise 0.1: not attempted"
    assert "your code stopped with NotImplementedError" in judge(part_done)
    assert "your code stopped with NotImplementedError" in judge(torch.nn.Module())


def test_prints_are_swallowed_and_mentioned(judge, capsys):
    def answer(x, y):
        for i in range(1000):
            print("flood", i)
        return x

    assert judge(answer).endswith("(What your code printed is not shown here.)")
    assert capsys.readouterr().out == ""


def test_the_random_state_is_the_same_each_time_and_given_back(judge):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seen = []
    judge(lambda x, y: seen.append(torch.rand(()).item()))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(seen)) == 1


def test_a_value_can_be_asked_for(judge):
    for right in (49, np.int64(49), torch.tensor(49)):
        assert judge(right, "0.2") == "Exercise 0.2: correct (1 case, exact)"
    for missing in (None, ...):
        assert judge(missing, "0.2") == "Exercise 0.2: not attempted"
    assert "The answer is a value, and this is the function _sum." in judge(_sum, "0.2")


@pytest.mark.parametrize("wrong", [50, 48.5, "48", True, [48], torch.zeros(2)])
def test_a_wrong_value_is_not_told_the_right_one(judge, wrong):
    line = judge(wrong, "0.2")
    assert line.startswith("Exercise 0.2: not yet. The result is ")
    assert "and that is not right." in line
    assert "49" not in line
    assert ("Likely cause: the class token is not a patch." in line) == (repr(wrong) == "50")


def test_replacing_functions_passes_nothing(monkeypatch):
    def yes(*arguments, **named):
        return True

    for module, name in ((torch, "equal"), (torch, "allclose"), (torch.testing, "assert_close")):
        monkeypatch.setattr(module, name, yes)
    monkeypatch.setattr("vitlab.patchify", lambda images, patch_size: images)
    assert checks.verdict("1.1", lambda images, patch_size: images).status == "not yet"


def test_a_tensor_that_claims_to_equal_everything_is_seen_through():
    class Yes(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, arguments=(), named=None):
            result = super().__torch_function__(function, types, arguments, named or {})
            return torch.ones_like(result) if function is torch.Tensor.__eq__ else result

    def answer(images, patch_size):
        return torch.zeros_like(_patchify_einops(images, patch_size)).as_subclass(Yes)

    assert checks.verdict("1.1", answer).status == "not yet"


def test_an_answer_that_uses_one_buffer_again_is_judged_as_it_was():
    buffers = {dtype: torch.zeros(1000, dtype=dtype) for dtype in (torch.float32, torch.float64, torch.uint8)}

    def answer(images, patch_size):
        right = _patchify_einops(images, patch_size)
        return buffers[images.dtype][: right.numel()].copy_(right.flatten()).view_as(right)

    assert checks.verdict("1.1", answer).status == "correct"


@pytest.mark.parametrize("id", ["1.99", "9.1", "one", ""])
def test_an_unknown_id_names_the_known_ones(id):
    with pytest.raises(ValueError, match=re.escape(f"there is no {id!r}") + ".*there are (1.1|lessons 1)"):
        checks.verdict(id, None)


def test_a_broken_oracle_is_not_blamed_on_the_learner(judge, monkeypatch):
    broken = Exercise("0.3", "broken", lambda x, y: x @ y, [], _cases)
    monkeypatch.setattr(checking, "find", lambda id: broken)
    with pytest.raises(RuntimeError, match="oracle of exercise 0.3"):
        checks.verdict("0.3", _sum)


def test_a_class_is_used_as_the_exercise_says(monkeypatch):
    def use(layer, x, y):
        return layer(x.shape[1])(x)

    scaled = Exercise("0.4", "a layer", lambda width: torch.nn.Identity(), [], _cases, call=use)
    monkeypatch.setattr(checking, "find", lambda id: scaled)
    assert checks.verdict("0.4", lambda width: torch.nn.Identity()).status == "correct"
    wrong = checks.verdict("0.4", lambda width: torch.nn.Linear(width, 5).double())
    assert "With x (2, 3) float32 and y (2, 3) float32: your code stopped with RuntimeError" in wrong.message


def test_dicts_and_tuples_name_the_entry():
    wanted = {"loss": torch.zeros(2), "pair": (1, torch.ones(2))}
    assert compare({"loss": torch.zeros(2), "pair": [1, torch.ones(2)]}, wanted).grade == "exact"
    wrong = compare({"loss": torch.zeros(2), "pair": (1, torch.zeros(2))}, wanted)
    assert wrong.words.startswith("in item 1 of entry 'pair', 2 of 2 values differ")
    assert "the keys are ['loss']" in compare({"loss": 0}, wanted).words
    assert compare((1, 2, 3), (1, 2)).words == "the result has 3 items, wanted 2"
    assert compare((1, 3), (1, 2)).words == "the result is (1, 3), wanted (1, 2)"


def test_infinities_in_the_same_places_are_equal():
    wanted = torch.tensor([1.0, -torch.inf, torch.nan])
    assert compare(wanted.clone(), wanted).grade == "exact"
    assert compare(torch.tensor([1.0, torch.inf, torch.nan]), wanted).grade == "wrong"
    assert compare(torch.tensor([1.0, 0.0, torch.nan]), wanted).grade == "wrong"
