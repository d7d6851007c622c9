"""Loading a model from a file that vitlab or another library wrote; which one is told by the content."""

import json
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor, nn

from vitlab.checkpoints.describing import MOST
from vitlab.checkpoints.naming import class_names
from vitlab.checkpoints.preparing import take_unit_range
from vitlab.checkpoints.reading import check_finite, check_floats, read_arrays, weight_files
from vitlab.checkpoints.remedies import instead
from vitlab.checkpoints.saving import BESIDE, KINDS, classes
from vitlab.checkpoints.strangers import library_of
from vitlab.checkpoints.translating import translate


def load_checkpoint(
    path: str | Path, resize: str | None = None, plain: bool | None = None, **config_fields
) -> nn.Module:
    """The model in fp32 on the CPU, in evaluation mode, from a file of vitlab or of another library.

    `path` is a .safetensors or .npz file, or a folder as Hugging Face and timm write it. What is in it is
    told by the names of its arrays: `save_checkpoint`'s own, Google's .npz (the paper's released models, both
    numberings of layers, hybrids on a ResNet, and big_vision's), timm's VisionTransformer and the same
    hybrids, Hugging Face's ViT and DINOv2, torchvision's and vit-pytorch's ViT. GELU and norm eps are the
    library's, so that logits agree with it to 2e-5. Layer scale (DINOv2, DeiT-III) is multiplied into the
    weights. A FlexiViT is the ViT of the patch size and grid that its file has; `ViT.at` makes others of it.
    A SimpleViT (big_vision, vit-pytorch) needs `image_size`; its sines and cosines become position embeddings
    like learned ones.

    The names of the classes, where the file or the config.json in its folder says them, are the model's
    `class_names`, by which data sets are compared with it.

    `config_fields` say what a file does not, and otherwise must agree with it: `num_heads` in timm,
    torchvision and vit-pytorch files (without it heads are 64 wide), a non-square `image_size` (without it a
    square is assumed), `pool="mean"` where timm's model averages over patches and has no fc_norm, `in_chans`
    for vit-pytorch's flat patches. Another `image_size` than the file's resizes the position embeddings by
    the library's own rule, or by the one that `resize` names, "jax", "timm", "hf", "torchvision" or
    "flexivit" (see `resize_pos_embed`). What is open after that, because the library has other models with
    the same arrays, is assumed to be what most of them have: one warning names it, with the keywords that
    settle it. `plain` is the one for what no field says: True where a model has no more than its arrays show,
    so no norms behind each half of a block, no rotary positions, no attention in windows.

    The model takes images in [-1, 1], as every ViT here. What the folder of another library's weights says of
    their preparation is worked into the patch projection: mean and deviation in timm's config.json, rescaling
    too in Hugging Face's preprocessor_config.json. A lone file says nothing, and is taken to be for [-1, 1],
    as Google's and vitlab's own are. A hybrid has only patches of features, into which nothing can be worked.
    How pictures get their size is `vitlab.data`'s affair.

    Raises FileNotFoundError, or ValueError for a file that is cut short, a pickle (never unpickled), of
    another kind or architecture, with arrays missing, extra or wrongly shaped, or in need of another field.

    >>> from vitlab.checkpoints import bundled
    >>> load_checkpoint(bundled("fashion_mnist_vit")).config.num_patches
    49
    """
    path = Path(path)
    arrays, metadata = {}, {}
    for file in weight_files(path):
        tensors, metadata = read_arrays(file)
        arrays |= tensors
    if plain not in (None, True):
        raise ValueError(
            f"plain={plain!r} says that the model of {path} has what its arrays do not show, such as norms "
            "behind each half of a block or rotary positions, and vitlab's ViT has not: "
            f"{instead(library_of(arrays))}"
        )
    if metadata.get("format") != "vitlab":
        model = translate(path, arrays, metadata, config_fields, resize, plain)
        take_unit_range(model, path)
        model.class_names = class_names(path, metadata, model.config.num_classes)
        return model.eval()
    model = read_model(path, metadata, config_fields, arrays)
    check_floats(path, arrays)
    check_finite(path, arrays)
    try:
        model.load_state_dict(arrays, assign=True)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit the config that it names: {error}") from error
    if names := class_names(path, metadata, getattr(model.config, "num_classes", 0)):
        model.class_names = names
    return model.eval()


def read_model(
    path: Path, metadata: dict[str, str], config_fields: dict, arrays: dict[str, Tensor]
) -> nn.Module:
    """The model that a vitlab file's metadata describes, checked against the fields the caller gave.

    It takes no memory: whatever the metadata says, only what the file has is to be held.
    """
    try:
        stored = dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the config in {path} cannot be read ({error!r}); save the model again") from error
    kind = metadata.get("model", "ViT")  # older files do not say it, and are ViTs
    if kind not in KINDS:
        raise ValueError(f"{path} holds a {kind}; this vitlab knows {' and '.join(KINDS)}")
    model, make_config = classes(kind)
    known = {field.name for field in fields(make_config)}
    if unknown := (set(config_fields) | set(stored)) - known:
        names, there = ", ".join(sorted(unknown)), ", ".join(sorted(known))
        raise ValueError(f"{path}: {make_config.__name__} has no field {names}; it has {there}")
    check_sizes(path, stored, arrays)
    try:
        config = make_config(**stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the config in {path} is damaged ({error}); save the model again") from error
    for name, value in config_fields.items():
        if getattr(make_config(**(stored | {name: value})), name) != getattr(config, name):
            also = "; fine_tuning.adapt changes it once loaded" if name == "image_size" else ""
            raise ValueError(f"{path} says {name}={getattr(config, name)!r}; got {name}={value!r}{also}")
    # an older file has none of these words, and is of the first choice
    words = {name: metadata[name] for name in BESIDE.get(kind, ()) if name in metadata}
    try:
        with torch.device("meta"):
            return model(config, **words)
    # a shape that no array can have, or a word that means nothing
    except (RuntimeError, TypeError, OverflowError, ValueError) as error:
        raise ValueError(
            f"the config in {path}, {stored | words}, is of no model ({error}); save it again"
        ) from error


def check_sizes(path: Path, stored: dict, arrays: dict[str, Tensor]) -> None:
    """Raise ValueError for a number that no model of these arrays has, before anything is made by it."""
    for name, value in stored.items():
        numbers = [
            number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)
        ]
        deep = name in ("depth", "blocks", "stem") and sum(numbers) > len(arrays)
        if deep or any(number > MOST for number in numbers):
            there = f"it has {len(arrays)} arrays" if deep else f"no model has more than {MOST:,}"
            raise ValueError(
                f"the config in {path} says {name}={str(value)[:60]}, and {there}: the file is damaged; copy "
                "or save it again"
            )
