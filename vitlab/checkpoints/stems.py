"""The tables of a hybrid's ResNet stem: its names in Google's files and in timm's."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from torch import Tensor

from vitlab.checkpoints.tables import Row, same

BACKBONE = "patch_embed.backbone."
UNIT = re.compile(r"patch_embed\.backbone\.stages\.(\d+)\.blocks\.(\d+)\.|block(\d+)/unit(\d+)/")


def google_stem(arrays: dict[str, Tensor]) -> dict[str, Row]:
    """The stem's rows in Google's .npz, none without one. Scales and biases may have four axes there."""
    if not any(re.match(r"(conv|gn)_root/|block\d+/unit\d+/", name) for name in arrays):
        return {}
    rows = {}
    for ours, out, into, sides in layers(stages(arrays)):
        conv, norm = (google_name(ours, kind) for kind in ("conv", "gn"))
        rows[weight(ours, "conv")] = Row((f"{conv}/kernel",), f"{sides} {into} {out} -> {out} {into} {sides}")
        for part, theirs in (("weight", "scale"), ("bias", "bias")):
            theirs = f"{norm}/{theirs}"
            lead = "1 1 1 " if theirs in arrays and arrays[theirs].ndim == 4 else ""
            rows[weight(ours, "norm", part)] = Row((theirs,), f"{lead}{out} -> {out}")
    return rows


def timm_stem(arrays: dict[str, Tensor]) -> dict[str, Row]:
    """The stem's rows in timm's files, which has vitlab's names; none if there is no such stem."""
    inside = {name.removeprefix(BACKBONE).split(".")[0] for name in arrays if name.startswith(BACKBONE)}
    alone = bool(inside) and inside <= {"conv", "norm"}  # a stem without stages
    if not alone and not inside & {"stem", "stages"}:
        return {}
    rows = {}
    for ours, out, into, sides in layers(stages(arrays)):
        for kind, axes in (("conv", f"{out} {into} {sides}"), ("norm", out)):
            for part in ("weight",) if kind == "conv" else ("weight", "bias"):
                name = weight(ours, kind, part)
                theirs = name.replace("backbone.stem.", "backbone.") if alone else name
                rows[name] = Row((theirs,), same(axes))
    return rows


def layers(blocks: tuple[int, ...]) -> Iterator[tuple[str, str, str, str]]:
    """Every convolution of a `Stem` with its norm: their name, letters for channels out and in, the sides."""
    yield "stem.{}", "w", "c", "y x"
    channels = "w"
    for stage, depth in enumerate(blocks):
        narrow, wide = f"narrow{stage}", f"wide{stage}"
        for block in range(depth):
            at = f"stages.{stage}.blocks.{block}."
            yield f"{at}{{}}1", narrow, channels, "1 1"
            yield f"{at}{{}}2", narrow, f"inner{stage}", "u v"
            yield f"{at}{{}}3", wide, narrow, "1 1"
            if not block:
                yield f"{at}downsample.{{}}", wide, channels, "1 1"
            channels = wide


def features(stem: dict[str, Row]) -> str:
    """The letter for the channels that patches are cut from, with these rows of a stem or none.

    >>> features({})
    'c'
    """
    if not stem:
        return "c"
    return f"wide{depth - 1}" if (depth := len(stages(stem))) else "w"


def weight(layer: str, kind: str, part: str = "weight") -> str:
    """vitlab's name of an array of the stem.

    >>> weight("stem.{}", "norm", "bias")
    'patch_embed.backbone.stem.norm.bias'
    """
    return f"{BACKBONE}{layer.format(kind)}.{part}"


def google_name(layer: str, kind: str) -> str:
    """Google's name of a convolution ("conv") or a norm ("gn").

    >>> google_name("stages.0.blocks.1.{}3", "gn"), google_name("stages.2.blocks.0.downsample.{}", "conv")
    ('block1/unit2/gn3', 'block3/unit1/conv_proj')
    """
    if layer == "stem.{}":
        return f"{kind}_root"
    stage, block, part = re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.(.*)", layer).groups()
    part = part.replace("downsample.{}", "{}_proj").format(kind)
    return f"block{int(stage) + 1}/unit{int(block) + 1}/{part}"


def stages(names: Iterable[str]) -> tuple[int, ...]:
    """How many bottlenecks each stage has, by names of either library.

    >>> stages(["block1/unit1/conv1/kernel", "block1/unit2/conv1/kernel", "block2/unit1/gn1/bias"])
    (2, 1)
    """
    units = {match.groups() for match in map(UNIT.match, names) if match}
    counted = Counter((timm or google) for timm, _, google, _ in units)
    return tuple(counted[stage] for stage in sorted(counted, key=int))
