"""A pre-trained ViT for another task: new head, new resolution, linear probe, few labels (lesson 05)."""

from vitlab.adapting import adapt, adapt_to, at_resolution, for_channels
from vitlab.data import hold_out
from vitlab.fine_tuning.few_labels import (
    cut_out,
    few_label_study,
    few_per_class,
    fine_tuned,
    from_scratch,
    pixel_probe,
    probe,
)
from vitlab.fine_tuning.probing import features, knn, linear_probe, ridge_weights, wilson_interval
from vitlab.fine_tuning.recipes import LEARNING_RATES, fine_tuning_recipe, try_learning_rates
from vitlab.fine_tuning.studies import (
    STUDIES,
    contenders,
    few_label_results,
    few_labels,
    fine_tuning_choices,
)

__all__ = [
    "LEARNING_RATES",
    "STUDIES",
    "adapt",
    "adapt_to",
    "at_resolution",
    "contenders",
    "cut_out",
    "features",
    "few_label_results",
    "few_label_study",
    "few_labels",
    "few_per_class",
    "fine_tuned",
    "fine_tuning_choices",
    "fine_tuning_recipe",
    "for_channels",
    "from_scratch",
    "hold_out",
    "knn",
    "linear_probe",
    "pixel_probe",
    "probe",
    "ridge_weights",
    "try_learning_rates",
    "wilson_interval",
]
