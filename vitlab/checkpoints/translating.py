"""A `ViT` from another library's file: its config from arrays, config.json and the caller; its weights."""

import math
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from vitlab.checkpoints.assuming import rectangles, tell
from vitlab.checkpoints.describing import described
from vitlab.checkpoints.foreign import Foreign
from vitlab.checkpoints.layouts import POSITIONS
from vitlab.checkpoints.remedies import instead
from vitlab.embeddings import resize_pos_embed
from vitlab.patches import as_pair, grid_size
from vitlab.resnet import stem_stride
from vitlab.vit import ViT, ViTConfig

# Widths of published models whose heads are not 64 wide (H: 80). vit-pytorch's are, whatever the width.
HEAD_DIMS = {width: width // 16 for width in (1152, 1280, 1408, 1536, 1664)}


def translate(
    path: Path,
    arrays: dict[str, Tensor],
    metadata: dict[str, str],
    given: dict,
    resize: str | None = None,
    plain: bool | None = None,
) -> ViT:
    """The ViT that another library wrote, from its arrays and metadata and the fields that the caller gives.

    `resize` names the rule for position embeddings; with `plain`, the caller says that the model has nothing
    that its arrays do not show. Raises ValueError for what is no ViT, does not fit, or
    cannot be known without another field.
    """
    file = Foreign(path, arrays)
    if unknown := given.keys() - {field.name for field in fields(ViTConfig)}:
        raise ValueError(f"ViTConfig has no field {', '.join(sorted(unknown))}")
    said = described(path, file.layout.library, metadata, given)
    known = {"plain": True} if said.pop("plain", plain) else {}
    config = config_of(file, said, given)
    tell(file, config, given | said | known)
    if not file.fixed_positions:
        file.place_prefix(config)
    tensors = file.convert(config)
    if "image_size" in given:
        wanted = replace(config, image_size=given["image_size"])
        tensors["pos_embed"] = resized(file, tensors["pos_embed"], config, wanted, resize)
        config = wanted
    with torch.device("meta"):  # no memory and no time for initial values
        model = ViT(config)
    model.load_state_dict(tensors, assign=True)
    return model


def config_of(file: Foreign, said: dict, given: dict) -> ViTConfig:
    """The config at the file's own image size; `said` is what the file states beside its arrays."""
    claims, library, table = given | said, file.layout.library, file.table
    fixed = dict(
        embed_dim=file.size("d"),
        mlp_dim=file.size("m"),
        depth=file.sizes["depth"],
        num_classes=file.sizes.get("l", 0),
        representation_size=file.sizes.get("r"),
        qkv_bias=file.has("blocks.*.attn.qkv.bias"),
        patch_norm="patch_embed.norms.1.weight" in table,
        num_registers=file.sizes.get("g", 0),
        distilled="dist_token" in table,
        norm_after_pool=table["norm.weight"].names == ("fc_norm.weight",),
        pos_embed="learned",
        kernel_size=None,
        pos_grid=None,
        **stem(file),
        **patch(file, claims),
        **heads(file, claims),
    )
    # in the files of three libraries the array is always there, if perhaps empty
    always = library in ("Hugging Face", "vit-pytorch", "torchvision")
    token = "cls_token" in table and bool(file.sizes.get("t", always))
    pool = "token" if token and not fixed["norm_after_pool"] else "mean"
    if "o" in file.sizes:  # DINOv2's classifier
        pool = "token+mean"
    assumed = dict(file.layout.assumed)
    if token and library == "timm" and not fixed["distilled"]:  # its arrays are the same, whichever is read
        assumed["pool"], pool = pool, claims.get("pool", pool)
    else:
        fixed["pool"] = pool
    if fixed["distilled"] and fixed["num_registers"]:
        raise ValueError(
            f"{file.path} has a distillation token and registers, and timm's distilled model leaves its "
            f"registers out: {instead(library)}"
        )
    fixed["unread_class_token"] = token and pool == "mean"
    if not file.sizes.get("l"):
        said = {name: value for name, value in said.items() if name != "num_classes"}
    check_agreement(file, fixed, said, given)
    known = assumed | claims | fixed
    tokens = token + fixed["distilled"]
    return ViTConfig(**known | dict(image_size=stored_size(file, fixed["patch_size"], tokens, said, given)))


def stem(file: Foreign) -> dict:
    """What a hybrid has before its patches. Google's norms and timm's avoid division by zero in two ways."""
    if file.stem is None:
        return dict(stem=None)
    rule = "timm" if file.layout.library == "timm" else "jax"
    return dict(stem=file.stem, stem_width=file.size("w"), stem_rule=rule)


def patch(file: Foreign, claims: dict) -> dict:
    """Patch size and channels. Of flat patches they are taken for colour, else grey, if nobody says."""
    if file.layout.library != "vit-pytorch":
        height, width = file.size("p"), file.size("q")
        if height != width:
            no_squares(file, f"{file.table['patch_embed.proj.weight'].names[0]!r}", f"{height} × {width}")
        pixels = 1 if file.stem is None else stem_stride(file.stem)  # that a feature stands for
        return dict(patch_size=height * pixels, in_chans=file.size("c"))
    return flat_patch(file, claims)


def flat_patch(file: Foreign, claims: dict) -> dict:
    """`patch` where a patch's pixels and channels are along one axis, so that only its area is known."""
    numbers, size = file.size("(p q c)"), claims.get("image_size")
    if isinstance(claims.get("patch_size"), tuple | list):
        no_squares(file, "the call", str(claims["patch_size"]))
    for channels in [claims["in_chans"]] if "in_chans" in claims else (3, 1):
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"in_chans is a whole number of at least 1; got {channels!r}")
        side = math.isqrt(numbers // channels)
        if side**2 * channels != numbers:
            continue
        whole_squares = size is None or not any(length % side for length in as_pair(size))
        if not whole_squares and (fit := rectangles(side**2, size)):
            shapes = " or ".join(f"{height} × {width}" for height, width in fit)
            no_squares(file, f"image_size={size!r}", shapes)
        return dict(patch_size=side, in_chans=channels)
    raise ValueError(
        f"a patch in {file.path} has {numbers} numbers, no square of pixels with "
        f"{claims.get('in_chans', '3 channels or 1')}: give in_chans. Patches of another shape vitlab's ViT "
        f"does not have: {instead(file.layout.library)}"
    )


def no_squares(file: Foreign, who: str, shapes: str) -> None:
    """Raise the ValueError for patches that are rectangles."""
    raise ValueError(
        f"{who} says that the patches of {file.path}, a {file.layout.library} ViT, have {shapes} pixels, and "
        f"those of vitlab's are squares: {instead(file.layout.library)}, or copy the file again if it is "
        "damaged"
    )


def heads(file: Foreign, claims: dict) -> dict:
    """How many heads, and how wide where that is not D / heads. If nobody says, they are 64 wide."""
    if file.layout.library == "Google":
        number, together = file.size("h"), file.size("h") * file.size("k")
    else:
        together = file.size("i")
        widths = {} if file.layout.library == "vit-pytorch" else HEAD_DIMS
        usual = together if file.without_proj else widths.get(together, 64)
        width = claims.get("head_dim") or usual
        number = claims.get("num_heads", together // width if isinstance(width, int) else None)
        for name, value in (("head_dim", width), ("num_heads", number)):
            if not isinstance(value, int):
                raise ValueError(f"{name} is a whole number; got {claims[name]!r}")
        if "num_heads" not in claims and number * width != together:
            raise ValueError(
                f"{file.path} does not say how many heads it has, and the {together} numbers that they have "
                f"together are no multiple of {width}: give num_heads"
            )
        if number < 1 or together % number:
            raise ValueError(
                f"num_heads={number} does not divide the {together} numbers of {file.path}'s heads"
            )
    return dict(num_heads=number, head_dim=None if together == file.size("d") else together // number)


def check_agreement(file: Foreign, fixed: dict, said: dict, given: dict) -> None:
    """Raise ValueError where the caller says other things than the file, or its config than its arrays."""
    width = fixed["head_dim"] or fixed["embed_dim"] // fixed["num_heads"]
    arrays = fixed | dict(head_dim=width)
    for who, claims, truth in (("its config says", said, arrays), ("got", given, said | arrays)):
        for name, value in claims.items():
            if name != "image_size" and truth.get(name, value) != value:
                raise ValueError(f"{file.path} says {name}={truth[name]!r}; {who} {name}={value!r}")


def stored_size(file: Foreign, patch_size: int, tokens: int, said: dict, given: dict):
    """The image size of the weights: what the file says, else the caller, else a square of patches.

    The class tokens, so many, may have entries of their own among the position embeddings or none (timm's
    no_embed_class, big_vision, FlexiViT), and so may registers; which it is, the number of patches says.
    """
    size = said.get("image_size", given.get("image_size"))
    if file.fixed_positions:
        if size is None:
            raise ValueError(
                f"{file.path} has no position embeddings, neither 'pos_embedding' nor {POSITIONS!r}, as a "
                "SimpleViT, whose positions are sines and cosines. It does not say for which images: give "
                "image_size. If it is no SimpleViT, the file is incomplete"
            )
        return whole(size)
    entries, who = file.size("n") - tokens, "its config" if "image_size" in said else "the call"
    patches = None if size is None else math.prod(grid_size(size, patch_size))
    with_registers = entries - file.sizes.get("g", 0)
    if patches in (entries, with_registers):
        return whole(size)
    if entries != with_registers:
        squares = [n for n in {entries, entries + tokens, with_registers} if is_square(n)]
        if len(squares) == 1 and "image_size" not in said:
            return math.isqrt(squares[0]) * patch_size
    elif is_square(entries) and "image_size" not in said:
        return math.isqrt(entries) * patch_size
    if tokens and patches == entries + tokens:
        return whole(size)
    (name,), (cls_token,) = file.table["pos_embed"].names, file.table["cls_token"].names
    what = f"{name!r} in {file.path} has {entries} entries for patches"
    if not tokens and (patches == entries - 1 or is_square(entries - 1)):
        what += f", one more than a grid has: {cls_token!r} seems to be missing. If it is not"
    elif size is None:
        what += ", which are no square grid"
        if tokens and is_square(entries + tokens):
            what += f" (or {entries + tokens}, a square one, if the class token has none, as in a FlexiViT)"
    else:
        what += f"; {who} says image_size={size!r}, which has {patches}"
    raise ValueError(
        f"{what}: give the file's own image_size=(height, width); fine_tuning.adapt then resizes the model"
    )


def whole(size: int | tuple[int, int]) -> int | tuple[int, int]:
    """An image size as `ViTConfig` has it: one number for a square.

    >>> whole([32, 32])
    32
    """
    height, width = as_pair(size)
    return height if height == width else (height, width)


def is_square(number: int) -> bool:
    """Whether a number is that of a square grid's patches.

    >>> is_square(196), is_square(0)
    (True, False)
    """
    return number > 0 and math.isqrt(number) ** 2 == number


def resized(file: Foreign, pos_embed: Tensor, old: ViTConfig, new: ViTConfig, rule: str | None) -> Tensor:
    """Position embeddings for another image size, by the library's own rule unless one is named."""
    rule = rule or file.resize
    if old.grid_size == new.grid_size:
        return pos_embed
    if rule is None:
        raise ValueError(
            f"{file.path} is for images of {old.image_size}, not {new.image_size}, and {file.layout.library} "
            "has no rule of its own to resize position embeddings: give resize='jax', 'timm', 'hf', "
            "'torchvision' or 'flexivit'"
        )
    return resize_pos_embed(pos_embed, old.grid_size, new.grid_size, old.num_class_tokens, rule)
