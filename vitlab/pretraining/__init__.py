"""Pre-training without labels (masked patches), and the studies of lesson 04."""

from vitlab.pretraining.bert import PostNormBlock, beside_bert, deep_vit, first_steps, text_layer
from vitlab.pretraining.by_class import learnt_by_class
from vitlab.pretraining.costs import training_flops
from vitlab.pretraining.masked import (
    Corruption,
    MaskedPatchViT,
    class_colours,
    draw_corruption,
    masked_patch_prediction,
    mean_colour_classes,
    normalised_pixels,
    seen_and_guessed,
)
from vitlab.pretraining.norm_gradients import norm_gradient, norm_gradients, take_pytorch_norms
from vitlab.pretraining.scrambled import permutations, scramble
from vitlab.pretraining.studies import (
    MATCHED_RESNET,
    STUDIES,
    data_size,
    masked_patches,
    patch_size,
    pooling,
    position_embeddings,
)
from vitlab.pretraining.unscaled import through_softmax

__all__ = [
    "MATCHED_RESNET",
    "STUDIES",
    "Corruption",
    "MaskedPatchViT",
    "PostNormBlock",
    "beside_bert",
    "class_colours",
    "data_size",
    "deep_vit",
    "draw_corruption",
    "first_steps",
    "learnt_by_class",
    "masked_patch_prediction",
    "masked_patches",
    "mean_colour_classes",
    "norm_gradient",
    "norm_gradients",
    "normalised_pixels",
    "patch_size",
    "permutations",
    "pooling",
    "position_embeddings",
    "scramble",
    "seen_and_guessed",
    "take_pytorch_norms",
    "text_layer",
    "through_softmax",
    "training_flops",
]
