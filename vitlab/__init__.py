"""vitlab: Vision Transformers, built by hand and measured ("An Image is Worth 16x16 Words", 2010.11929).

One tensor's way through the package::

    image (B, C, H, W) -> patchify -> (B, N, P²C) -> PatchEmbed -> (B, N, D)
          -> + class token, + position -> (B, N+1, D) -> Block x L -> norm -> token 0 -> head -> (B, classes)
"""

from vitlab import checkpoints, data, paper, patches
from vitlab.attention import attention_rollout, mean_attention_distance, record_attention
from vitlab.checkpoints import load_checkpoint, save_checkpoint
from vitlab.embeddings import PatchEmbed, resize_pos_embed
from vitlab.encoder import MLP, Attention, Block, Encoder
from vitlab.patches import patchify, unpatchify
from vitlab.runtime import start
from vitlab.training import History, Recipe, evaluate, train
from vitlab.vit import ViT, ViTConfig, count_parameters

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "Attention",
    "Block",
    "Encoder",
    "History",
    "PatchEmbed",
    "Recipe",
    "ViT",
    "ViTConfig",
    "attention_rollout",
    "checkpoints",
    "count_parameters",
    "data",
    "evaluate",
    "load_checkpoint",
    "mean_attention_distance",
    "paper",
    "patches",
    "patchify",
    "record_attention",
    "resize_pos_embed",
    "save_checkpoint",
    "start",
    "train",
    "unpatchify",
]
