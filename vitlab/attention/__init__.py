"""What a ViT attends to (section 4.5, appendices D.7, D.8): recording, maps, distances, scores of maps."""

from vitlab.attention import baselines, maps, scores, shipped_tables
from vitlab.attention.bootstrap import best_of, paired_bootstrap
from vitlab.attention.distance import (
    class_token_share,
    largest_gap,
    mean_attention_distance,
    patch_distances,
    uniform_attention_distance,
)
from vitlab.attention.features import pooled_features
from vitlab.attention.head_outputs import head_outputs
from vitlab.attention.importances import head_correlation, head_importance, spearman
from vitlab.attention.intervening import intervene
from vitlab.attention.lens import logit_lens
from vitlab.attention.patch_features import alike, patch_features, principal_colours, principal_map
from vitlab.attention.receptive_field import (
    box_filters,
    effective_receptive_field,
    field_radius,
    field_table,
    fields_new_and_trained,
)
from vitlab.attention.recording import AttentionRecord, record_attention, recording_bytes
from vitlab.attention.rollout import attention_rollout, class_map, discard_smallest, row_difference
from vitlab.attention.view import View, attach

__all__ = [
    "AttentionRecord",
    "View",
    "alike",
    "attach",
    "attention_rollout",
    "baselines",
    "best_of",
    "box_filters",
    "class_map",
    "class_token_share",
    "discard_smallest",
    "effective_receptive_field",
    "field_radius",
    "field_table",
    "fields_new_and_trained",
    "head_correlation",
    "head_importance",
    "head_outputs",
    "intervene",
    "largest_gap",
    "logit_lens",
    "maps",
    "mean_attention_distance",
    "paired_bootstrap",
    "patch_distances",
    "patch_features",
    "pooled_features",
    "principal_colours",
    "principal_map",
    "record_attention",
    "recording_bytes",
    "row_difference",
    "scores",
    "shipped_tables",
    "spearman",
    "uniform_attention_distance",
]
