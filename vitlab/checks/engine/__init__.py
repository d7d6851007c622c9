"""The engine: how answers are run, compared, judged and remembered, whatever the lesson.

`kinds` says what an exercise is, `lessons` finds it, `running` runs a learner's code within `limits` and in
silence, `comparing` compares what it gave, `judging`, `faults` and `goals` make the verdict of each kind,
`source` reads the learner's lines, `records` keeps the learner's file, `checking` is `check` and `verdict`.
"""

from vitlab.checks.engine.checking import check, verdict
from vitlab.checks.engine.kinds import Exercise, FindTheFault, OpenTask, Refused, Verdict
from vitlab.checks.engine.lessons import LESSONS, exercises, find
from vitlab.checks.engine.running import draw_cases, run

__all__ = [
    "LESSONS",
    "Exercise",
    "FindTheFault",
    "OpenTask",
    "Refused",
    "Verdict",
    "check",
    "draw_cases",
    "exercises",
    "find",
    "run",
    "verdict",
]
