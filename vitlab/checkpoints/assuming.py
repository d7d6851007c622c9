"""What the arrays of a library's model do not say and nobody else does: assumed, and named in one warning."""

import warnings

from vitlab.checkpoints.foreign import Foreign
from vitlab.checkpoints.remedies import instead
from vitlab.patches import as_pair, divisors
from vitlab.vit import ViTConfig

# Fields in which a library's models with the same arrays differ. Google's files leave nothing open.
UNSAID = {
    "timm": ("num_heads", "pool", "gelu", "norm_eps", "plain"),
    "Hugging Face": ("num_heads", "gelu", "norm_eps", "plain"),
    "torchvision": ("num_heads",),
    "vit-pytorch": ("num_heads", "patch_size", "pool"),
}
PLAIN = {  # what no field says, and vitlab's ViT always is: the caller's plain=True, or plain=False
    "timm": "norms in front of each half of a block, not behind; no rotary positions",
    "Hugging Face": "attention over the whole image, not in windows, as RF-DETR's",
}
NOT = {  # what else is common, by what is assumed
    ("gelu", "erf"): "not tanh, quick GELU or ReLU",
    ("gelu", "tanh"): "not erf, quick GELU or ReLU",
    ("pool", "token"): "not a mean or maximum over tokens",
    ("pool", "mean"): "over patches alone, with no maximum",
}


def tell(file: Foreign, config: ViTConfig, claims: dict) -> None:
    """Warn, once, of what was assumed; `claims` are the fields that the file or the caller states."""
    library = file.layout.library
    assumed = {name: getattr(config, name, True) for name in unsaid(file, config, claims)}
    if not assumed:
        return
    notes = {name: NOT.get((name, value), "") for name, value in assumed.items()}
    notes |= {"num_heads": f"each {config.heads_dim // config.num_heads} wide", "plain": PLAIN.get(library)}
    if "patch_size" in assumed:
        notes["patch_size"] = "not {} × {}".format(*others(config, claims)[0])
    words = [f"{name}={value!r}" + f" ({notes[name]})" * bool(notes[name]) for name, value in assumed.items()]
    folder = ", or load the folder with its config.json" if library in ("timm", "Hugging Face") else ""
    warnings.warn(
        f"{file.path} does not say all of its model, and other models of {library} have the same arrays. "
        f"Assumed: {', '.join(words)}. To settle it, give these keywords, or the right ones{folder}. If the "
        f"model is one that vitlab's ViT cannot be, {instead(library)}",
        stacklevel=4,
    )


def unsaid(file: Foreign, config: ViTConfig, claims: dict) -> list[str]:
    """The fields that are open: neither stated, nor the only ones that the arrays allow."""
    names = [name for name in UNSAID.get(file.layout.library, ()) if name not in claims]
    settled = {"pool"} if config.distilled else set()
    settled |= {"num_heads"} if file.without_proj or "head_dim" in claims else set()
    if not maybe_other(file):
        settled.add("plain")
    if file.layout.library == "vit-pytorch":
        token = file.arrays.get("cls_token")
        if token is None or token.ndim == 2:  # newer versions have none where the mean is read
            settled.add("pool")
        if not others(config, claims):
            settled.add("patch_size")
    return [name for name in names if name not in settled]


def maybe_other(file: Foreign) -> bool:
    """Whether a file may be of another kind of ViT whose arrays are called like those of its library's ViT.

    timm has layer scale by this name only where norms stand in front and nothing is rotated: its other blocks
    have none, or one called `gamma_1`. Hugging Face has windows only in a DINOv2, which has layer scale.
    """
    scale = file.table.get("blocks.*.attn.scale")
    if file.layout.library == "timm":
        return scale is None or not scale.names[0].endswith(".ls1.gamma")
    return scale is not None


def others(config: ViTConfig, claims: dict) -> list[tuple[int, int]]:
    """Patches of another shape that the arrays allow, for images of the size that somebody states."""
    size = claims.get("image_size")
    known = size is not None and as_pair(size) == as_pair(config.image_size)
    return rectangles(config.patch_size**2, size if known else None)


def rectangles(area: int, image_size: int | tuple[int, int] | None = None) -> list[tuple[int, int]]:
    """Heights and widths of patches of so many pixels that are no squares, and fit an image; squarest first.

    As many of them fit an image as do of squares, so that the number of positions does not tell them apart.

    >>> rectangles(16), rectangles(16, (8, 12))
    ([(2, 8), (8, 2), (1, 16), (16, 1)], [(8, 2)])
    """
    height, width = (area, area) if image_size is None else as_pair(image_size)
    sides = [(side, area // side) for side in divisors(area) if side**2 != area]
    fit = [(a, b) for a, b in sides if image_size is None or not (height % a or width % b)]
    return sorted(fit, key=lambda pair: (abs(pair[0] - pair[1]), pair))
