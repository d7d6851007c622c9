"""A lesson's questions as data: what is written is asked, and what does not fit is refused by its place."""

import pytest

from vitlab.checks.asking.sheet import read

GOOD = """
[run]
power = 2.0

[[prediction]]
id = "9.a"
question = "A set {{1, 2}}
of two?"
option = [{text = "0", why = "none"}, {text = "1", why = "one", right = true}, {text = "2", why = "two"}]

[[quiz]]
id = "9.q1"
question = "To the power of {power:.2f}?"
option = [
    {text = "{four:,.0f}", why = "a", right = "steep"},
    {text = "flat", why = "b", right = "flat"},
    {text = "2", why = "c"},
]
""".replace('"A set {{1, 2}}\nof two?"', '"""A set {{1, 2}}\nof two?"""')


def derive(power):
    return dict(four=4 * power, steep=power > 1, flat=power <= 1)


@pytest.fixture
def sheet(tmp_path):
    """Reads a text as the file of a lesson."""

    def read_text(text):
        path = tmp_path / "09_made_up.toml"
        path.write_text(text, encoding="utf-8")
        return read(path, derive)

    return read_text


def test_numbers_are_filled_in_by_name_and_the_right_option_hangs_on_them(sheet):
    made = sheet(GOOD)
    assert made.predictions()[0].question == "A set {1, 2} of two?"
    (steep,), (flat,) = made.questions({}), made.questions({"power": 0.5})
    assert (steep.question, steep.right) == ("To the power of 2.00?", 0)
    assert (flat.question, flat.right) == ("To the power of 0.50?", 1)
    assert [text for text, _ in steep.options] == ["8", "flat", "2"]
    assert [text for text, _ in flat.options] == ["2", "flat"], "what reads like another is left out"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[run]", "[run", r"09_made_up\.toml: Expected .*at line 2"),
        ("power = 2.0", "power = [2.0]", r"\[run\]: each line is a name and a number"),
        ("[[quiz]]", "[[quizz]]", "'quizz' is unknown: 'quiz' is meant"),
        ('id = "9.a"', 'id = "9.b"', r"has the id '9\.b' where '9\.a' is next"),
        (
            'id = "9.q1"\nquestion',
            'id = "9.q1"\nqestion',
            r"9\.q1: 'qestion' is unknown: 'question' is meant",
        ),
        ('why = "none"', 'wy = "none"', r"9\.a, option 1: 'wy' is unknown: 'why' is meant"),
        (', why = "none"', "", r"9\.a, option 1: 'why' is missing"),
        (', {text = "2", why = "two"}', "", r"9\.a: it needs three or more \[\[prediction\.option\]\]"),
        (", right = true", "", r"9\.a: 0 options are right; one has to be"),
        ('"two"', '"two", right = true', r"9\.a: either one option has right = true"),
        ("right = true", "right = 1", r"9\.a, option 2: right is true or a condition"),
        ('"steep"', '"stepe"', r"9\.q1: there is no condition 'stepe': 'steep' is meant"),
        ('"flat"}', '"steep"}', r"9\.q1: 2 options are right"),
        ("{power:.2f}", "{powr:.2f}", r"9\.q1: there is no number 'powr': 'power' is meant"),
        ("{power:.2f}", "{power.real}", r"9\.q1: there is no number 'power\.real'"),
        ("{power:.2f}", "{power:d}", r"9\.q1: 'To the power of {power:d}\?' cannot be filled in"),
        ("{power:.2f}", "{power", r"9\.q1: 'To the power of {power\?' cannot be filled in"),
        ("{{1, 2}}", "{1, 2}", r"9\.a: there is no number '1, 2'"),
        ('"flat", why', f'"{"long" * 30}", why', r"9\.q1: the option 'long.*' is longer than 90 letters"),
        ('text = "0"', 'text = "1"', r"9\.a: two options read alike"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_question_and_reason(sheet, old, new, words):
    assert GOOD.count(old) >= 1
    with pytest.raises(ValueError, match=r"^09_made_up\.toml.*" * (not words.startswith("09")) + words):
        sheet(GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("power = 2.0", "", "there is no number 'power'. Others follow from it: add a line power = …"),
        ("power = 2.0", "powr = 2.0", "there is no number 'power': 'powr' is meant?"),
        ("power = 2.0", 'power = "2"', "nothing follows from power = '2': '>' not supported"),
        ("power = 2.0", "power = 0", "nothing follows from power = 0: division by zero"),
    ],
)
def test_numbers_of_the_run_that_do_not_do_are_refused_by_name(tmp_path, old, new, words):
    path = tmp_path / "09_made_up.toml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"^09_made_up\.toml, \[run\]: ") as refused:
        read(path, lambda power: derive(power) | dict(inverse=1 / power))
    assert words in str(refused.value)


def test_numbers_that_the_notebook_gives_and_that_do_not_do_are_no_fault_of_the_file(tmp_path):
    path = tmp_path / "09_made_up.toml"
    path.write_text(GOOD, encoding="utf-8")
    questions = read(path, lambda power: derive(power) | dict(inverse=1 / power)).questions
    with pytest.raises(
        ValueError, match=r"^the numbers given for 09_made_up\.toml: nothing follows from power"
    ):
        questions(dict(power=0))


def test_a_number_that_only_a_text_names_needs_no_derive(sheet):
    (question,) = sheet(
        GOOD.replace("power = 2.0", "power = 2.0\nsides = 3").replace("of {power:.2f}", "of {sides}")
    ).questions({})
    assert question.question == "To the power of 3?"
