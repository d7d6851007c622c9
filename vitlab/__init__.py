"""vitlab: Vision Transformers, built by hand and measured ("An Image is Worth 16x16 Words", 2010.11929).

One tensor's way through the package::

    image (B, C, H, W) -> patchify -> (B, N, P²C) -> PatchEmbed -> (B, N, D)
          -> + class token, + position -> (B, N+1, D) -> Block x L -> norm -> token 0 -> head -> (B, classes)
"""

import importlib

__version__ = "0.1.0"

# Loaded when first used, so that `python -m vitlab.training` runs a module that nothing has imported yet.
_NAMES = {
    "patches": ["patchify", "unpatchify"],
    "embeddings": ["PatchEmbed", "resize_patch_kernel", "resize_pos_embed"],
    "encoder": ["MLP", "Attention", "Block", "Encoder"],
    "vit": ["ViT", "ViTConfig", "count_parameters"],
    "attention": ["attach", "attention_rollout", "mean_attention_distance", "record_attention"],
    "checkpoints": ["load_checkpoint", "pretrained", "save_checkpoint"],
    "runtime": ["start"],
    "training": ["History", "Recipe", "evaluate", "train"],
    "data": [],
    "merging": [],
    "paper": [],
    "resnet": [],
    "studies": [],
    "pretraining": [],
    "fine_tuning": [],
    "plots": [],
    "widgets": [],
    "checks": [],
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted([*_MODULE_OF, *_NAMES])


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'vitlab' has no attribute {name!r}")
    module = importlib.import_module(f"vitlab.{_MODULE_OF.get(name, name)}")
    return getattr(module, name) if name in _MODULE_OF else module


def __dir__() -> list[str]:
    return __all__
