"""A block's tokens from outside: where they are in its call, and what can be said of their places."""

import torch
from torch import Tensor, nn

from vitlab.attention.numbering import patches_of
from vitlab.attention.probing import probe_images
from vitlab.attention.seeing import uncompiled
from vitlab.attention.view import View
from vitlab.attention.watching import Hook
from vitlab.vit import evaluating


def whole_block(view: View, layer: int, cannot: str) -> nn.Module:
    """A block that is called as one; raises ValueError that names one that is not."""
    blocks = list(view.description.blocks)
    block = blocks[layer]
    if isinstance(block, nn.ModuleList):
        raise ValueError(
            f"the blocks of this {type(view.model).__name__} are lists of parts, which nobody calls as one: "
            f"{cannot}; its heads can be removed"
        )
    if sum(each is block for each in blocks) > 1:
        raise ValueError(
            f"the blocks of this {type(view.model).__name__} are one module, used again and again: {cannot}"
        )
    return block


def hidden(view: View, args: tuple, kwargs: dict) -> tuple[str | None, int | None, Tensor]:
    """The tokens (B, T, D) among what a block is called with: the keyword or the place, and the tensor."""
    for place, each in enumerate(args):
        if isinstance(each, Tensor) and each.ndim == 3 and each.is_floating_point():
            return None, place, check_tokens(view, each)
    for name, each in kwargs.items():
        if isinstance(each, Tensor) and each.ndim == 3 and each.is_floating_point():
            return name, None, check_tokens(view, each)
    raise ValueError(f"no tokens (B, T, D) were found in a call of a block of {type(view.model).__name__}")


def check_tokens(view: View, tokens: Tensor) -> Tensor:
    """The tokens; raises ValueError for others than the patches and the prefix of the model's own size."""
    count = patches_of(view) + view.num_prefix_tokens
    if tokens.shape[1] != count:
        raise ValueError(
            f"the blocks of {type(view.model).__name__} get tokens of shape {tuple(tokens.shape)}, where "
            f"(B, {count}, D) was wanted: images of the size that the model was made for, images first, and "
            "evaluation mode where training leaves patches out"
        )
    return tokens


def check_count(view: View, tokens: int) -> None:
    """Raises ValueError for another number of tokens than the grid's and the prefix's."""
    if tokens != patches_of(view) + view.num_prefix_tokens:
        raise ValueError(
            f"patches are counted on the grid of images of {tuple(view.image_size)} pixels, which make "
            f"{patches_of(view) + view.num_prefix_tokens} tokens; got {tokens}"
        )


def with_tokens(args: tuple, kwargs: dict, found: tuple, made: Tensor) -> tuple[tuple, dict]:
    """A call's arguments with other tokens in the place that `hidden` found."""
    name, place, _ = found
    if name is not None:
        return args, kwargs | {name: made}
    return (*args[:place], made, *args[place + 1 :]), kwargs


@torch.no_grad()
def check_positions(view: View) -> None:
    """Raises ValueError where positions are not added to separate patches before the first block.

    Only then does a row that is cut out and put elsewhere, and whose tokens are put back, get the other
    row's positions and nothing else. Seen on images of noise.
    """
    block, name = whole_block(view, 0, "position embeddings cannot be swapped"), type(view.model).__name__
    for part, _ in [*view.model.named_modules(), *view.model.named_parameters(), *view.model.named_buffers()]:
        if any(word in part.lower() for word in ("rope", "rotary", "rel_pos", "relative_position")):
            raise ValueError(
                f"this {name} tells positions inside its attention ({part}), so that rows of position "
                "embeddings cannot be swapped before it"
            )
    images, kept = probe_images(view.model, view.description), []
    grid, (height, _) = view.grid_size, view.description.patch_size
    turned = torch.cat([images[:, :, height:], images[:, :, :height]], dim=2)
    keep = Hook(lambda module, args, kwargs: kept.append(hidden(view, args, kwargs)[2].clone()))
    handle = block.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with evaluating(view.model), uncompiled():
            for each in (images, turned):
                view.description.call(view.model, each)
    finally:
        handle.remove()
    plain, moved = (each[:, view.num_prefix_tokens :] for each in kept)
    changed = (plain[0] != plain[2]).any(dim=-1)
    if changed.sum() != 1 or not changed[grid[1] - 1]:
        raise ValueError(f"the patches of this {name} are not embedded one by one, so rows cannot be moved")
    if torch.allclose(plain.roll(-grid[1], dims=1), moved, atol=1e-6):
        raise ValueError(f"this {name} adds no positions before its first block, so there are none to swap")
