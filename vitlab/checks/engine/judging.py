"""Judge a learner's answer against an independent oracle on seeded cases, and name the likely cause."""

import inspect

from vitlab.checks.engine.comparing import Comparison, compare, describe
from vitlab.checks.engine.kinds import Exercise, Verdict
from vitlab.checks.engine.running import draw_cases, parameter_names, run
from vitlab.checks.engine.source import from_the_notebook, no_power, one_line


def judge(exercise: Exercise, answer, seed: int = 0) -> Verdict:
    """The verdict on a function or value, on the cases that `seed` draws."""
    id = exercise.id
    if answer is None or answer is ...:
        return Verdict(id, "not attempted")
    if callable(answer) != bool(exercise.cases):
        asks_for_value = f"The answer is a value, and this is {describe(answer)}."
        return Verdict(id, "not yet", not_a_function(answer) if exercise.cases else asks_for_value)
    cases = draw_cases(exercise, seed)
    wanted = [_wanted(exercise, case) for case in cases]  # before any of the learner's code runs
    outcomes = list(_outcomes(exercise, answer, cases))
    if outcomes[0].stub:
        return Verdict(id, "not attempted")
    comparisons = [_judge(*pair, exercise.tolerance) for pair in zip(outcomes, wanted, strict=False)]
    failing = [i for i, comparison in enumerate(comparisons) if comparison.grade == "wrong"]
    if not failing:
        return Verdict(id, "correct", _praise(comparisons))
    off = [i for i in failing if _values(outcomes[i], wanted[i], exercise.tolerance).grade == "wrong"]
    diagnosis, explained = _recognise(exercise, {i: (cases[i], outcomes[i]) for i in off})
    first = (explained or failing)[0]  # the case that is shown is one that the cause explains
    words = comparisons[first].words
    if exercise.cases is None:  # telling the wanted value would give the answer away
        words = words.partition(", wanted")[0] + ", and that is not right"
    sentences = [
        _sentence(_case_words(exercise, cases[first]) + words),
        _cause(diagnosis or _constant(outcomes, wanted)),
        from_the_notebook(answer) if off and not diagnosis else "",
        no_power(answer) if off and not diagnosis else "",
        "(What your code printed is not shown here.)" if outcomes[first].printed else "",
    ]
    return Verdict(id, "not yet", one_line(" ".join(sentences), limit=1000), diagnosis)


def _outcomes(exercise, answer, cases):
    """What each call gave, up to the first that had to be ended: the next would take as long."""
    for case in cases:
        outcome = run(exercise, answer, case)
        yield outcome
        if outcome.ended:
            return


def _wanted(exercise, case):
    outcome = run(exercise, exercise.oracle, case, ours=True)
    if outcome.error:
        raise RuntimeError(f"the oracle of exercise {exercise.id} fails: {outcome.error}")
    return outcome.value


def _judge(outcome, wanted, tolerance) -> Comparison:
    comparison = _values(outcome, wanted, tolerance)
    if comparison.grade != "wrong" and outcome.used:
        return Comparison("wrong", f"the result is right, but made with PyTorch's {outcome.used}; do without")
    if comparison.grade != "wrong" and outcome.changed:
        return Comparison(
            "wrong", f"the result is right, but your code changed its input {outcome.changed}; copy it first"
        )
    return comparison


def _values(outcome, wanted, tolerance) -> Comparison:
    if outcome.error:
        return Comparison("wrong", f"your code {outcome.error}")
    return compare(outcome.value, wanted, tolerance)


def _recognise(exercise, failures) -> tuple[str, list[int]]:
    """The sentence of the known mistake that does what the learner's code does on most failing cases, and
    the numbers of these cases."""
    returned = {i: failure for i, failure in failures.items() if not failure[1].error} or failures
    best, most = ("", []), max(0, (len(returned) - 1) // 2)  # it must agree on at least half of them
    for wrong, sentence in exercise.mistakes:
        agree = [
            i
            for i, (case, got) in returned.items()
            if _agree(got, run(exercise, wrong, case, ours=True), exercise.tolerance)
        ]
        if len(agree) > most:
            best, most = (sentence, agree), len(agree)
    return best


def _agree(one, other, tolerance) -> bool:
    if one.error or other.error:
        return one.error.partition(", in your line")[0] == other.error.partition(", in your line")[0]
    return compare(one.value, other.value, max(tolerance, 1e-6)).grade != "wrong"


def _constant(outcomes, wanted) -> str:
    first, *rest = [outcome.value for outcome in outcomes]
    if not rest or first is None or any(compare(value, first, 0).grade != "exact" for value in rest):
        return ""
    if all(compare(value, wanted[0], 0).grade == "exact" for value in wanted):
        return ""
    return "the result is the same whatever the input."


def _praise(comparisons) -> str:
    count = "1 case" if len(comparisons) == 1 else f"{len(comparisons)} cases"
    largest = max(comparison.largest for comparison in comparisons)
    return f"({count}, exact)" if largest == 0 else f"({count}, largest difference {largest:.1g})"


def not_a_function(answer) -> str:
    """What to say of an answer that is a value where a function is asked for.

    >>> not_a_function((4, 8))
    'Pass the function itself, not its result: this is (4, 8).'
    """
    return f"Pass the function itself, not its result: this is {describe(answer)}."


def _cause(diagnosis) -> str:
    return f"Likely cause: {diagnosis}" if diagnosis else ""


def _sentence(words) -> str:
    return words[0].upper() + words[1:] + ("" if words.endswith((".", "?")) else ".")


def _case_words(exercise, case) -> str:
    """The arguments in words: "With images (2, 3, 8, 12) float32 and patch_size 4: "."""
    if not case:
        return ""
    named = zip(parameter_names(exercise), case, strict=True)
    parts = [name if inspect.isfunction(value) else f"{name} {describe(value)}" for name, value in named]
    head = ", ".join(parts[:-1])
    return f"With {head} and {parts[-1]}: " if head else f"With {parts[-1]}: "
