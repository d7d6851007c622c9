"""Judge an answer to "find the fault": the wrong line's number, and the function mended."""

from vitlab.checks.engine.comparing import describe
from vitlab.checks.engine.judging import judge
from vitlab.checks.engine.kinds import FindTheFault, Verdict


def judge_fault(exercise: FindTheFault, answer, seed: int = 0) -> Verdict:
    """The verdict on a pair of a line and a mended function: a sentence on each."""
    if answer is None or answer is ...:
        return Verdict(exercise.id, "not attempted")
    if not isinstance(answer, tuple) or len(answer) != 2:
        words = f'This takes two answers, check("{exercise.id}", line, mended): got {describe(answer)} alone.'
        return Verdict(exercise.id, "not yet", words)
    line, mended = answer
    found = judge(exercise, mended, seed)
    if line is None and found.status == "not attempted":
        return found
    named = type(line) is int and line == exercise.line
    message = f"{_line_words(exercise, line)} {_mended_words(found)}"
    status = "correct" if named and found.status == "correct" else "not yet"
    return found._replace(status=status, message=message)


def _line_words(exercise, line) -> str:
    last = max(*exercise.sound, exercise.line)
    if line is None:
        return "You have not named the line."
    if isinstance(line, bool) or not isinstance(line, int) or not 1 <= line <= last:
        return f"Name the line by its number, 1 to {last}: this is {describe(line)}."
    if line == exercise.line:
        return f"Line {line} it is."
    return f"Line {line} is sound: {exercise.sound[line]}"


def _mended_words(found) -> str:
    if found.status == "not attempted":
        return "You have not mended it."
    if found.status == "correct":
        return f"Your mended function is right {found.message}."
    return f"Your mended function is not right yet. {found.message}"
