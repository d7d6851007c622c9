"""Exercise checks, predictions, quizzes: `check("1.1", patchify)`, `predict("1.a")`, `quiz("1")`.

In a notebook, `check` prints one verdict line, `predict` shows a question and `quiz` five; none raises
because of the learner's code. `verdict` is `check` without the printing. `report` marks a submitted notebook,
and `python -m vitlab.checks report FOLDER` those of a class.

`progress` shows what was attempted and what is right, `reset_progress` forgets it. It is kept in a file of
the learner's, `~/.vitlab/progress.json` (or in the folder that VITLAB_HOME names), and goes nowhere else.

What a check finds right is kept as source, too, in `mine.py` beside it: `parts` shows it, `remove_parts` and
`restore_parts` take it out and put it back, and nothing runs it but `assemble`, which makes a model of it,
and `mine`, which hands it over.

For authors. What is asked lies in `questions/01_patching.toml` and is edited without Python (`asking.sheet`
says how it is written). Each exercise is a small module, `exercises/patching/divide.py`, with `EXERCISE`::

    EXERCISE = Exercise(
        "2.1", "projection by convolution", cases=_cases, oracle=_by_loops,
        mistakes=[(_no_bias, "the bias was forgotten."), ...],                        # at least four
    )

- `cases(generator)` yields tuples of arguments drawn from that torch.Generator: B > 1, non-square, C ≠ 3, and
  one case in float64. Put the plainest case first: the first that fails is the one that is reported.
- `oracle` takes those arguments: slow loops or another library, not vitlab. Verdicts use its parameter names.
- `mistakes` are wrong functions, each with a sentence in lower case that names what was done instead of what.
- Where no mistake is recognised, the verdict names what the answer reads from the notebook; cases of other
  sizes than the notebook's bring that out.
- `tolerance` is relative to the largest wanted value; 0 asks for equality, but for what 32 bits cannot tell
  apart (rearranging computes nothing). `engine.comparing` says which dtypes are as good as the wanted one.
- `call(answer, argument, ...)` says how to use an answer that is not just called (a class, a training step).
- `without` names functions of PyTorch that an answer is to do without: one that is right but calls them is
  told so. Oracle and mistakes are not watched.
- Without `cases` the answer is a value; so are `oracle` and the mistakes then, and the stub is None.

Outputs may be tensors, numbers, text, and tuples or dicts of them. A stub raises NotImplementedError.

Two more kinds stand beside `Exercise`; their ids go on with the same count:

- `FindTheFault(..., faulty=, line=, mend=, sound={...})`: the learner sees the body of `faulty`, up to five
  lines that run and are wrong, counted from 1, and what it makes. `check("1.5", line, mended)` judges both:
  the line's number, where `sound` says of each other line why it is right, and the mended function, as any
  answer is, with `cases`, `oracle` and `mistakes`. `mend` is the line as it has to be: a test puts it in.
- `OpenTask(id, title, measure=, goal=, best=, refused=[...])`: `check("1.6", entry)` states the number that
  `measure(entry, generator)` gives, the goal, and the learner's best so far, which progress.json keeps. The
  smaller number wins, or with `larger_wins=True` the larger. `measure` raises `Refused("the reason.")` where
  an entry does not count; it is the one function here that may import the rest of vitlab. `says="{:g} bits"`
  puts a number into words, `seconds` is a longer limit than ten. `best` is an entry that reaches the goal,
  `refused` has pairs of an entry and its reason: tests try them.

`tests/test_checks.py` runs over all lessons: each mistake must earn its own diagnosis, each oracle pass.
"""

from vitlab.checks.asking.box import predict, quiz
from vitlab.checks.assembling import assemble, mine
from vitlab.checks.engine import check, verdict
from vitlab.checks.kept import parts, remove_parts, restore_parts
from vitlab.checks.progress import progress, reset_progress
from vitlab.checks.reports.report import report

__all__ = [
    "assemble",
    "check",
    "mine",
    "parts",
    "predict",
    "progress",
    "quiz",
    "remove_parts",
    "report",
    "reset_progress",
    "restore_parts",
    "verdict",
]
