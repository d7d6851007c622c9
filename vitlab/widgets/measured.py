"""What a ViT answers of many images when parts of it are taken away, from what is kept of the whole."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab import data
from vitlab.attention.lens import said_of
from vitlab.attention.reading import GREY
from vitlab.data import Dataset
from vitlab.encoder import Block
from vitlab.norms import fold, is_rounded
from vitlab.runtime import Run
from vitlab.vit import ViT, evaluating


class Away(NamedTuple):
    """What is taken away, counted from 0 as `intervene` counts; hashable, so that answers are remembered."""

    heads: tuple[tuple[int, int], ...] = ()
    blocks: tuple[int, ...] = ()
    patches: tuple[int, ...] = ()
    unseen: tuple[int, ...] = ()
    swap_rows: tuple[int, int] | None = None
    donor: str | None = None
    donor_layer: int | None = None
    donor_tokens: tuple[int, ...] | None = None

    @property
    def first(self) -> int:
        """The first block that is different; what enters the ones before it stays as it was."""
        if self.patches or self.unseen or self.swap_rows:
            return 0
        layers = [*(layer for layer, _ in self.heads), *self.blocks]
        return min(layers + ([self.donor_layer] if self.donor else []), default=-1)


class Measured:
    """Accuracy and loss of a ViT with a class token on labelled images, whole or without parts.

    It answers as the model does inside `vitlab.attention.intervene`, in a fraction of the time: what enters
    each block and what its heads mix is kept, so that a removed head costs what comes behind it, a skipped
    block nothing, and a patch that the class token does not see a row of the first block, and a row more in
    each of the others.

    >>> from vitlab import ViTConfig
    >>> from vitlab.runtime import here
    >>> two = Dataset(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.arange(2), ["a", "b"])
    >>> accuracy, loss = Measured(ViT(ViTConfig()), two, here("cpu", "fp32"))(Away(heads=((3, 0),)))
    >>> accuracy, round(loss, 4)
    (0.5, 2.3026)
    """

    def __init__(self, model: ViT, images: Dataset, run: Run):
        self.model, self.run = model, run
        self.labels = images.labels.to(run.device)
        self.inputs = data.normalise(images.images.to(run.device))
        self.entering, self.mixed = [], []  # (B, T, D) and (B, T, h·d), of the last block (B, 1, h·d)
        with torch.inference_mode(), evaluating(model), run.autocast():
            model.check_images(self.inputs)
            self.patches = model.patch_embed(self.inputs)  # (B, N, D)
            x = model.sequence(self.patches)
            for layer, block in enumerate(model.blocks):
                self.entering.append(x)
                self.mixed.append(mixed_by(block, x, self.is_last(layer)))
                x = after(block, x, self.mixed[-1])

    def __call__(self, away: Away, donor: Tensor | None = None) -> tuple[float, float]:
        """Accuracy and loss; `donor` (1, T, D) is what of the other image enters block `away.donor_layer`."""
        model, first = self.model, away.first % len(self.entering)
        with torch.inference_mode(), evaluating(model), self.run.autocast():
            x = self.embedded(away) if away.patches or away.swap_rows else self.entering[first]
            for layer in range(first, len(model.blocks)):
                if away.donor and layer == away.donor_layer:
                    x = put_in(x, donor, away.donor_tokens)
                if layer not in away.blocks:
                    x = self.through(away, layer, x)
            logits = said_of(model, x).float().expand(len(self.labels), -1)  # of all, if they are alike
        right = (logits.argmax(dim=-1) == self.labels).float().mean()
        return float(right), float(F.cross_entropy(logits, self.labels))

    def through(self, away: Away, layer: int, x: Tensor) -> Tensor:
        """What a block makes of tokens, (B, T or 1, D), with what is taken away."""
        block, mixed = self.model.blocks[layer], self.mixed_without(away, layer, x)
        whole = x is self.entering[layer] and not any(of == layer for of, _ in away.heads)
        if away.unseen and whole and not self.is_last(layer):  # patches do what they did: the rest is kept
            return torch.cat([after(block, x, mixed[:, :1]), self.entering[layer + 1][:, 1:]], dim=1)
        return after(block, x, mixed)

    def is_last(self, layer: int) -> bool:
        """Whether it is the last block, of which the class token alone is read."""
        return layer == len(self.model.blocks) - 1

    def mixed_without(self, away: Away, layer: int, x: Tensor) -> Tensor:
        """What the heads of a block mix of tokens, (B, T or 1, h·d), with what is taken away."""
        block, last = self.model.blocks[layer], self.is_last(layer)
        if away.unseen:
            prefix = self.model.config.num_prefix_tokens
            row = class_row(block, x, [prefix + patch for patch in away.unseen])
        if away.unseen and last:
            mixed = row
        else:
            mixed = self.mixed[layer] if x is self.entering[layer] else mixed_by(block, x, last)
            mixed = torch.cat([row, mixed[:, 1:]], dim=1) if away.unseen else mixed
        width, heads = block.attn.head_dim, [head for of, head in away.heads if of == layer]
        if heads:
            mixed = mixed.unflatten(-1, (-1, width)).clone()  # (B, T or 1, h, d)
            mixed[:, :, heads] = 0
            mixed = mixed.flatten(-2)
        return mixed

    def embedded(self, away: Away) -> Tensor:
        """The tokens that enter the first block, with covered patches and positions of rows swapped."""
        model, (_, columns), patches = self.model, self.model.config.grid_size, self.patches
        if away.patches:
            images, side = self.inputs.clone(), model.config.patch_size
            for patch in away.patches:
                top, left = (side * place for place in divmod(patch, columns))
                images[:, :, top : top + side, left : left + side] = GREY
            patches = model.patch_embed(images)
        if not away.swap_rows:
            return model.sequence(patches)
        order = torch.arange(patches.shape[1], device=patches.device)
        one, other = (slice(row * columns, (row + 1) * columns) for row in away.swap_rows)
        order[one], order[other] = order[other].clone(), order[one].clone()
        x, prefix = model.sequence(patches[:, order]), model.config.num_prefix_tokens
        return torch.cat([x[:, :prefix], x[:, prefix:][:, order]], dim=1)  # patches in their places again


def put_in(x: Tensor, donor: Tensor, tokens: tuple[int, ...] | None) -> Tensor:
    """Tokens (B, T, D) with some of the donor's, (1, T, D); all of them make all images alike: (1, T, D)."""
    if tokens is None:
        return donor.to(x)
    x = x.clone()
    x[:, tokens] = donor[:, tokens].to(x)
    return x


def mixed_by(block: Block, x: Tensor, class_only: bool = False) -> Tensor:
    """What a block's heads mix, its norm folded as in `Block`: (B, T, D) -> (B, T or 1, h·d)."""
    if is_rounded(x):
        return block.attn.mixed(x, class_only, block.norm1)
    return block.attn.mixed(block.norm1(x), class_only)


def class_row(block: Block, x: Tensor, unseen: Sequence[int]) -> Tensor:
    """`mixed_by` for the class token, which does not see some tokens: (B, T, D) -> (B, 1, h·d)."""
    attention = block.attn
    x, qkv = fold(block.norm1, attention.qkv, x) if is_rounded(x) else (block.norm1(x), attention.qkv)
    return attention.attend_from_class(x, qkv, unseen)


def after(block: Block, x: Tensor, mixed: Tensor) -> Tensor:
    """What a block makes of tokens (B, T, D) whose values are mixed already: (B, T or 1, D)."""
    x = x[:, : mixed.shape[1]] + block.attn.proj(mixed)
    return x + (block.mlp(x, block.norm2) if is_rounded(x) else block.mlp(block.norm2(x)))
