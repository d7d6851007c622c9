"""The names that lessons not yet laid out in `questions` import."""

from vitlab.checks.asking.prediction import Prediction, Question

__all__ = ["Prediction", "Question"]
