"""The Vision Transformer (figure 1, equations 1 to 4), its named variants (table 1), and what it costs."""

from vitlab.vit.config import VARIANTS, ViTConfig
from vitlab.vit.costs import attention_bytes, costs_by_part, count_flops, count_parameters, multiply_adds
from vitlab.vit.model import ViT
from vitlab.vit.modes import evaluating, modes_kept

__all__ = [
    "VARIANTS",
    "ViT",
    "ViTConfig",
    "attention_bytes",
    "costs_by_part",
    "count_flops",
    "count_parameters",
    "evaluating",
    "modes_kept",
    "multiply_adds",
]
