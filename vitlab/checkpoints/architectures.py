"""What the name of one of timm's architectures says of a ViT, where its config.json has no more than that."""

import re
from pathlib import Path

from vitlab.checkpoints.remedies import instead

HEADS = {  # by the name of the size, which is that of the width as well
    **dict(tiny=3, wee=4, little=5, small=6, medium=8, mediumd=8, betwixt=10, base=12, so150m2=13, so150m=14),
    **dict.fromkeys(("large", "huge", "giant", "giantopt", "gigantic", "so400m", "intern300m"), 16),
}
UNUSUAL = {  # of heads, for the size that the name gives
    **dict(vit_base_patch16_gap_224=16, vit_base_patch16_plus_240=14, vit_base_patch32_plus_256=14),
    **dict.fromkeys(("test_vit", "test_vit2"), 2),
}
SAME_ARRAYS = {  # parts of a name, and what such a model has that its arrays do not show
    "_rpn_": "norms stand behind each half of a block; vitlab's ViT has them in front",
    "_rope_": "queries and keys are turned by their positions (RoPE); vitlab's ViT adds positions to tokens",
}
PLAIN = re.compile(
    r"(?!vit_giant_patch14_(?:reg\d+_)?(?:dinov2|tipsv2))"  # which has 24 heads
    rf"(?:vit|deit3?|flexivit|eva(?=_large))_({'|'.join(HEADS)})(?:(?:_distilled)?_patch\d+|_r(?:26|50)?_s\d+(?:_p8)?)?"
    r"(?:_reg\d+(?=_gap|_dinov2|_tipsv2))?(?:(?:_siglip)?_gap|_36x1)?"
    r"(?:_\d+(?:_miil)?|_dinov2|(?<=_reg1)_tipsv2)?"
)


def told_by_name(file: Path, architecture: str) -> dict:
    """The fields that an architecture of timm's fixes, and that it is `plain`; of one not known, none.

    Raises ValueError for one whose arrays are those of a plain ViT, though it is not.

    >>> told_by_name(Path("config.json"), "vit_base_patch16_gap_224")["num_heads"]
    16
    """
    for part, what in SAME_ARRAYS.items():
        if part in architecture:
            raise ValueError(
                f"{file} is of {architecture}, whose {what}, and the arrays look the same: {instead('timm')}"
            )
    if not (size := PLAIN.fullmatch(architecture)) and architecture not in UNUSUAL:
        return {}
    heads = UNUSUAL.get(architecture) or HEADS[size[1]]
    pool = "mean" if "_gap_" in architecture or architecture.startswith(("eva_", "test_vit2")) else "token"
    said = dict(num_heads=heads, norm_eps=1e-6, pool=pool, plain=True)
    return said if "siglip" in architecture else said | dict(gelu="erf")
