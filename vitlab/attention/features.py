"""What the head of a model reads, through a view: the numbers that a probe is trained on."""

import torch
from torch import Tensor, nn

from vitlab.attention.reading import check_reads
from vitlab.attention.view import View
from vitlab.attention.watching import Hook
from vitlab.vit import ViT


def pooled_features(view: View, images: Tensor) -> Tensor:
    """What the head of a view's model reads: (B, C, H, W) as the model takes them -> (B, D).

    Of a model with classes, what its last linear layer is given; of one with two heads whose logits are
    averaged, for class and distillation, what both are given, side by side. Of a model without classes, its
    output; where that is all tokens, those that `attach(model, reads=…)` says, with "pair" side by side.
    Raises ValueError where it cannot be told.

    >>> from vitlab import ViTConfig, attach
    >>> pooled_features(attach(ViT(ViTConfig())), torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 96])
    """
    if isinstance(view.model, ViT) and view.reads != "pair":
        return view.model.pooled_features(images)
    calls: list[tuple[Tensor, Tensor]] = []  # what a linear layer was given, and what it made
    keep = Hook(lambda layer, given, made: calls.append((given[0], made)))
    layers = [each for each in view.model.modules() if isinstance(each, nn.Linear)]
    hooks = [each.register_forward_hook(keep) for each in layers]
    try:
        output = view(images)
    finally:
        for hook in hooks:
            hook.remove()
    if output.ndim == 3:
        return pooled_tokens(output, view)
    return output if view.classifies is False else given_to_head(calls, output, view)


def given_to_head(calls: list[tuple[Tensor, Tensor]], output: Tensor, view: View) -> Tensor:
    """What the layer was given whose numbers are the output, or the two layers whose mean is."""
    alike = [(given, made) for given, made in calls if made.shape == output.shape]
    if alike and torch.equal(alike[-1][1], output):
        return alike[-1][0]
    if view.reads == "pair" and len(alike) > 1:
        (given, made), (given_too, made_too) = alike[-2:]
        if torch.allclose((made + made_too) / 2, output):
            return torch.cat([given, given_too], dim=-1)
    raise ValueError(
        f"the output of this {type(view.model).__name__} is not what a linear layer makes, so it cannot be "
        "told what its head reads; if it gives features itself, linear_probe takes view(images) as they are"
    )


def pooled_tokens(tokens: Tensor, view: View) -> Tensor:
    """All tokens (B, T, D) made one vector an image, by what is read of them."""
    check_reads(view)
    pooled = tokens if view.reads.endswith("_all") else tokens[:, view.num_prefix_tokens :]
    ways = {
        "token": lambda: [tokens[:, 0]],
        "pair": lambda: [tokens[:, 0], tokens[:, 1]],
        "mean": lambda: [pooled.mean(dim=1)],
        "max": lambda: [pooled.amax(dim=1)],
        "mean+max": lambda: [(pooled.mean(dim=1) + pooled.amax(dim=1)) / 2],
        "token+mean": lambda: [tokens[:, 0], pooled.mean(dim=1)],
    }
    way = ways.get(view.reads.removesuffix("_all"))
    if way is None:
        raise ValueError(f"this model gives all tokens; its head, of which it has none, reads {view.reads!r}")
    return torch.cat(way(), dim=-1)
