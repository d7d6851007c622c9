"""Exercise checks, predictions, quizzes: `check("1.1", patchify)`, `predict("1.a")`, `quiz("1")`.

In a notebook, `check` prints one verdict line, `predict` shows a question and `quiz` five; none raises
because of the learner's code. `verdict` is `check` without the printing. `report` marks a submitted notebook,
and `python -m vitlab.checks report FOLDER` those of a class.

`progress` shows what was attempted and what is right, `reset_progress` forgets it. It is kept in a file of
the learner's, `~/.vitlab/progress.json` (or in the folder that VITLAB_HOME names), and goes nowhere else.

What a check finds right is kept as source, too, in `mine.py` beside it: `parts` shows it, `remove_parts` and
`restore_parts` take it out and put it back, and nothing runs it but `assemble`, which makes a model of it,
and `mine`, which hands it over.

For authors. Lesson 1 lives in `patching.py`, lesson 2 in `embeddings.py`, … (`engine.LESSONS`). A lesson file
has two lists, `EXERCISES` and `PREDICTIONS`, and a function `quiz` that returns five questions about numbers
of a run, its keywords; their defaults are those of the stored run. `patching.py` is the example to follow::

    EXERCISES = [
        Exercise("2.1", "projection by convolution", cases=_cases, oracle=_by_loops,
                 mistakes=[(_no_bias, "the bias was forgotten."), ...]),           # at least three
    ]

- `cases(generator)` yields tuples of arguments drawn from that torch.Generator: B > 1, non-square, C ≠ 3, and
  one case in float64. Put the plainest case first: the first that fails is the one that is reported.
- `oracle` takes those arguments: slow loops or another library, not vitlab. Verdicts use its parameter names.
- `mistakes` are wrong functions, each with a sentence in lower case that names what was done instead of what.
- Where no mistake is recognised, the verdict names what the answer reads from the notebook; cases of other
  sizes than the notebook's bring that out.
- `tolerance` is relative to the largest wanted value; 0 asks for equality (rearranging computes nothing).
- `call(answer, argument, ...)` says how to use an answer that is not just called (a class, a training step).
- Without `cases` the answer is a value; so are `oracle` and the mistakes then, and the stub is None.

Outputs may be tensors, numbers, text, and tuples or dicts of them. A stub raises NotImplementedError.
`tests/test_checks.py` runs over all lessons: each mistake must earn its own diagnosis, each oracle pass.
"""

from vitlab.checks.assembling import assemble, mine
from vitlab.checks.engine import check, verdict
from vitlab.checks.kept import parts, remove_parts, restore_parts
from vitlab.checks.predictions import predict, quiz
from vitlab.checks.progress import progress, reset_progress
from vitlab.checks.report import report

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
