"""The one training loop (appendix B.1 and table 3), as a function and as `python -m vitlab.training`."""

from vitlab.training.command import main
from vitlab.training.distilling import distillation
from vitlab.training.evaluation import (
    answers,
    as_the_model_knows,
    check_data,
    confusion,
    evaluate,
    refuse_other_order,
)
from vitlab.training.history import Evaluation, History, Meter
from vitlab.training.loop import evaluation_due, train, train_to_the_end
from vitlab.training.recipe import Recipe, learning_rate_at, make_optimizer
from vitlab.training.stepper import Stepper
from vitlab.training.stopping import NonFiniteLossError
from vitlab.training.tasks import Outcome, Task, by_recipe, classification, weights_of_classes

__all__ = [
    "Evaluation",
    "History",
    "Meter",
    "NonFiniteLossError",
    "Outcome",
    "Recipe",
    "Stepper",
    "Task",
    "answers",
    "as_the_model_knows",
    "by_recipe",
    "check_data",
    "classification",
    "confusion",
    "distillation",
    "evaluate",
    "evaluation_due",
    "learning_rate_at",
    "main",
    "make_optimizer",
    "refuse_other_order",
    "train",
    "train_to_the_end",
    "weights_of_classes",
]
