"""What explorers of attention say of tokens before the patches, and how they show a model's images."""

import torch
from torch import Tensor

from vitlab.attention import View
from vitlab.attention.reading import READ_WORDS
from vitlab.vit import ViT
from vitlab.wording import counted


def refuse_more_tokens(model: ViT) -> None:
    """Raise ValueError for a ViT with registers or a distillation token, for explorers that name class token
    and patches alone."""
    count = model.config.num_registers
    kinds = {"a distillation token": model.config.distilled, counted(count, "register"): count}
    if also := " and ".join(words for words, there in kinds.items() if there):
        raise ValueError(
            f"this explorer shows a class token and patches, and the model has {also} as well; "
            "AttentionMapExplorer shows them all"
        )


def before(view: View) -> dict[str, int | None]:
    """What can be asked before the patches, by name: a token's number, or None for what the head reads."""
    named = enumerate(view.description.prefix_names())
    tokens = {(name if name[-1].isdigit() else f"the {name}"): number for number, name in named}
    mixed = view.reads not in (None, "token", "tokens")
    return ({READ_WORDS[view.reads]: None} if mixed else {}) | tokens


def brief(name: str) -> str:
    """A name for a title.

    >>> brief("the mean of the patches, of which the head reads the maximum")
    'the mean of the patches'
    """
    return name.partition(",")[0]


def bare(name: str) -> str:
    """A name for a control.

    >>> bare("the class token")
    'class token'
    """
    return brief(name).removeprefix("the ")


def groups(view: View) -> dict[str, list[int]]:
    """The tokens before the patches, those that are numbered together: "the 4 registers" -> [1, 2, 3, 4]."""
    kinds: dict[str, list[int]] = {}
    for number, name in enumerate(view.description.prefix_names()):
        kinds.setdefault(name.rstrip("0123456789 "), []).append(number)
    return {
        f"the {name}" if len(tokens) == 1 else f"the {len(tokens)} {name}s": tokens
        for name, tokens in kinds.items()
    }


def size_of(images: dict[str, Tensor]) -> tuple[int, int]:
    """Height and width of the images; raises ValueError where they have not one."""
    sizes = {tuple(each.shape) for each in images.values()}
    if len(sizes) != 1 or len(shape := sizes.pop()) != 3:
        raise ValueError(
            f"images are (C, H, W), one or more, and all of one size; got {sorted(sizes) or 'none'}: "
            "vitlab.data.fit_picture makes them so"
        )
    return shape[1:]


def as_bytes(images: dict[str, Tensor], view: View) -> dict[str, Tensor]:
    """The images as they look, uint8; raises ValueError where nobody says what floats mean."""
    return {
        name: (image if image.dtype == torch.uint8 else view.pictures(image)).cpu()
        for name, image in images.items()
    }
