"""Exercise checks and predictions: `checks.check("1.1", patchify)` and `checks.predict("1.a")`.

In a notebook, `check` prints one verdict line and `predict` shows a question; neither ever raises because of the
learner's code, and neither depends on it. `verdict` is `check` without the printing, for tests and for marking.

For authors. Lesson 1 lives in `patching.py`, lesson 2 in `embeddings.py`, … (`engine.LESSONS`). A lesson file holds
two lists, `EXERCISES` and `PREDICTIONS`; `patching.py` is the example to follow::

    EXERCISES = [
        Exercise("2.1", "projection by convolution", cases=_cases, oracle=_by_loops,
                 mistakes=[(_no_bias, "the bias was forgotten."), ...]),           # at least three
    ]

- `cases(generator)` yields tuples of arguments drawn from that torch.Generator: B > 1, non-square, C ≠ 3, one float64.
- `oracle` takes those arguments: slow loops or another library, never vitlab. Its parameter names appear in verdicts.
- `mistakes` are wrong functions, each with a sentence that begins in lower case and names what was done.
- `tolerance` is relative to the largest wanted value; 0 means equal to the last bit (for pure rearrangements).
- `call(answer, *arguments)` says how to use an answer that is not just called (a class, a training step).
- Without `cases` the answer is a value: `oracle` and the mistakes are then values too; a stub's value is None.

Outputs may be tensors, numbers, text, and tuples or dicts of them. The exercise's stub raises NotImplementedError.
`tests/test_checks.py` runs over all lessons: each mistake must earn its own diagnosis, each oracle must be accepted.
"""

from vitlab.checks.engine import check, verdict
from vitlab.checks.predictions import predict

__all__ = ["check", "predict", "verdict"]
