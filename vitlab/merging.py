"""Token merging (ToMe, arXiv 2210.09461): a trained ViT that joins patches which it sees as alike.

In each block, between attention and MLP, r tokens are averaged into others. Nothing is trained anew.
"""

import copy

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitlab.encoder import Attention, Block, Encoder, is_hooked
from vitlab.vit import ViT, evaluating
from vitlab.vit.model import ENCODERS


@torch.no_grad()
def pair_up(keys: Tensor, r: int, num_prefix_tokens: int = 1) -> Tensor:
    """Which tokens become one: keys (B, T, d) -> the place of each in a sequence of r fewer, int64 (B, T).

    Bipartite soft matching (section 3): every second patch looks among the others for the one whose key is
    most like its own, by cosine, and the r patches that are most like theirs go to its place. Prefix tokens
    (class token, registers) keep their places in front; then come the patches that could have gone and did
    not, then the others. At most half of the patches go. Raises ValueError for an r below 0.

    >>> keys = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.2], [0.1, 1.0]]])
    >>> pair_up(keys, r=1)  # token 4 goes to token 3; 2 could have gone to 1
    tensor([[0, 2, 1, 3, 3]])
    """
    check_r(r)
    p, (batch, tokens, _) = num_prefix_tokens, keys.shape
    r = min(r, (tokens - p) // 2)
    pairs = torch.arange(tokens, device=keys.device).repeat(batch, 1)
    if not r:
        return pairs
    keys = F.normalize(keys.float(), dim=-1)
    first, second = keys[:, p + p % 2 :: 2], keys[:, p + 1 - p % 2 :: 2]  # counted from the class token on
    likeness, partners = (first @ second.mT).max(dim=-1)  # (B, half)
    order = likeness.argsort(dim=1, descending=True, stable=True)
    goes = torch.zeros_like(partners, dtype=torch.bool).scatter(1, order[:, :r], True)
    staying = p + first.shape[1] - r
    pairs[:, p + p % 2 :: 2] = torch.where(goes, staying + partners, p - 1 + (~goes).cumsum(dim=1))
    pairs[:, p + 1 - p % 2 :: 2] = staying + torch.arange(second.shape[1], device=keys.device)
    return pairs


def merge(tokens: Tensor, sizes: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of one place become their mean, weighted by how many patches each stands for.

    Tokens (B, T, D), sizes (B, T) and what `pair_up` gives -> (B, T - r, D) and (B, T - r).

    >>> tokens, sizes = torch.tensor([[[0.0], [6.0], [9.0]]]), torch.tensor([[1.0, 2.0, 1.0]])
    >>> merge(tokens, sizes, torch.tensor([[0, 1, 1]]))
    (tensor([[[0.],
             [7.]]]), tensor([[1., 3.]]))
    """
    batch, count = len(pairs), int(pairs.max()) + 1
    rows = (pairs + count * torch.arange(batch, device=pairs.device)[:, None]).flatten()  # of all images
    merged = sizes.new_zeros(batch * count).index_add(0, rows, sizes.flatten())
    amounts = (tokens * sizes[..., None]).flatten(0, 1)  # in the precision of the sizes
    sums = amounts.new_zeros(batch * count, tokens.shape[2]).index_add(0, rows, amounts)
    means = (sums / merged[:, None]).to(tokens.dtype)
    return means.unflatten(0, (batch, count)), merged.unflatten(0, (batch, count))


def attended(block: Block, x: Tensor, sizes: Tensor, readers: int | None = None) -> tuple[Tensor, Tensor]:
    """A block's first half for the first `readers` tokens, or all, and the keys (B, heads, T, d).

    A token that stands for s patches gets the attention of s: log s is added to its scores (section 3,
    "proportional attention").
    """
    attn = block.attn
    q, k, v = attn.heads(attn.qkv(block.norm1(x)))
    log_sizes = sizes.log()[:, None, None].to(q.dtype)  # (B, 1, 1, T)
    mixed = F.scaled_dot_product_attention(q[:, :, :readers], k, v, attn_mask=log_sizes)
    mixed = rearrange(mixed, "b h t d -> b t (h d)")
    return x[:, :readers] + attn.dropout(attn.proj(mixed)), k


class MergingEncoder(nn.Module):
    """A model's blocks, which merge r tokens each: (B, T, D) -> (B, T, D), or (B, 1, D) with `class_only`.

    Each patch is given back as the token that it ended in, so that a mean over patches counts every one. With
    `class_only` the last block makes the class token alone, where nobody reads the others.
    """

    def __init__(self, blocks: Encoder, r: int, num_prefix_tokens: int):
        super().__init__()
        self.blocks, self.r, self.num_prefix_tokens = blocks, r, num_prefix_tokens

    def extra_repr(self) -> str:
        return f"r={self.r}"  # so that a training is resumed only with the same

    @property
    def last(self) -> Block:
        """The block that can make the class token alone."""
        return self.blocks.last

    def forward(self, x: Tensor, class_only: bool = False) -> Tensor:
        x, into = self.merged(x, class_only)
        return x if class_only else x.gather(1, into[..., None].expand(-1, -1, x.shape[2]))

    def merged(self, x: Tensor, class_only: bool = False) -> tuple[Tensor, Tensor]:
        """The tokens after all blocks, (B, T', D), and in which of them each of the first ended, (B, T)."""
        check_blocks(self.blocks)
        into = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        sizes = torch.ones_like(into, dtype=torch.promote_types(x.dtype, torch.float32))
        for number, block in enumerate(self.blocks, 1):
            last = class_only and number == len(self.blocks)
            x, keys = attended(block, x, sizes, 1 if last else None)
            if not last:
                pairs = pair_up(keys.mean(dim=1), self.r, self.num_prefix_tokens)
                x, sizes = merge(x, sizes, pairs)
                into = pairs.gather(1, into)
            x = x + block.mlp(block.norm2(x))
        return x, into


ENCODERS.add(MergingEncoder)


def check_blocks(blocks: nn.Module) -> None:
    """Raise ValueError for a model's blocks that do something which would be passed by."""
    if type(blocks) is not Encoder or is_hooked(blocks):
        own = "an Encoder with a hook or another `forward` on it"
        raise ValueError(
            "the blocks of an Encoder merge tokens one by one, past what is done by the whole; got "
            f"{own if type(blocks) is Encoder else f'a {type(blocks).__name__}'}: give a model with its own "
            "Encoder and nothing on it, that does not merge already"
        )
    for block in blocks:
        check_block(block)


def check_block(block: nn.Module) -> None:
    """Raise ValueError for a block that does something which would be passed by."""
    attn = getattr(block, "attn", None)
    if type(block) is not Block or type(attn) is not Attention:
        raise ValueError(
            f"tokens are merged within a Block with its Attention; got a {type(block).__name__} with a "
            f"{type(attn).__name__}: put the model's own back"
        )
    if is_hooked(block) or is_hooked(attn) or attn.observers:
        raise ValueError(
            "tokens are merged inside a block, past what records, changes or waits for its attention: leave "
            "record_attention, intervene or the hook first"
        )


def with_merging(model: ViT, r: int) -> ViT:
    """A model of the same weights, not of copies, whose blocks merge r tokens each; `model` stays as it is.

    Where r is more than half of the patches that are left, half of them go. Modules and modes are its own,
    and hooks as in a copy. Raises ValueError for what is no ViT, for "rope2d", which turns a token by its one
    place, for blocks or hooks that would be passed by, and inside `record_attention` and `intervene`; neither
    takes what is returned.

    >>> from vitlab import ViTConfig
    >>> with_merging(ViT(ViTConfig()), r=8)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    check_model(model, r)
    check_copied(model)
    same = copy.deepcopy(model, {id(p): p for p in model.parameters()})
    if r:
        same.blocks = MergingEncoder(same.blocks, r, model.config.num_prefix_tokens)
        same.blocks.training = model.blocks.training
    return same


def merged_logits(model: ViT, images: Tensor, r: int) -> Tensor:
    """The model's logits when r tokens are merged in each block: (B, C, H, W) -> (B, num_classes).

    With r = 0 they are the model's own, to the bit. Raises what `with_merging` raises.

    >>> from vitlab import ViTConfig
    >>> merged_logits(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), r=8).shape
    torch.Size([2, 10])
    """
    return with_merging(model, r)(images)


@torch.no_grad()
def merged_into(model: ViT, images: Tensor, r: int) -> Tensor:
    """Which token each patch ends in after all blocks, int64 (B, N): patches of equal numbers are one.

    What `plots.merged_tokens` draws. In evaluation mode, whatever mode the model is in. Raises what
    `with_merging` raises.

    >>> from vitlab import ViTConfig
    >>> into = merged_into(ViT(ViTConfig()), torch.rand(1, 1, 28, 28), r=8)
    >>> into.shape, len(into.unique())  # 49 patches, less 8 in each of 4 blocks, but at most half of them
    (torch.Size([1, 49]), 17)
    """
    check_model(model, r)
    prefix = model.config.num_prefix_tokens
    with evaluating(model):
        _, into = MergingEncoder(model.blocks, r, prefix).merged(model.embed(images))
    return into[:, prefix:]


def check_r(r: int) -> None:
    """Raise ValueError for what is no number of tokens."""
    if not isinstance(r, int) or isinstance(r, bool) or r < 0:
        raise ValueError(f"r, the tokens merged in each block, is a whole number of at least 0; got {r!r}")


def check_model(model: nn.Module, r: int) -> None:
    """Raise ValueError for a model whose tokens cannot be merged."""
    check_r(r)
    if not isinstance(model, ViT):
        raise ValueError(f"tokens of a ViT are merged; got a {type(model).__name__}")
    if model.config.pos_embed == "rope2d":
        raise ValueError("rope2d turns each token by its place, and merged ones have no single place")
    check_blocks(model.blocks)


def check_copied(model: nn.Module) -> None:
    """Raise ValueError inside a context whose hooks do nothing in a copy of the model."""
    for part in model.modules():
        hooks = (*part._forward_pre_hooks.values(), *part._forward_hooks.values())
        if any(hasattr(hook, "__deepcopy__") for hook in hooks):  # a function's copy is the function itself
            raise ValueError(
                "the model that merges tokens is another, which would be neither recorded nor changed: leave "
                "record_attention or intervene first"
            )


def refuse_merged(model: nn.Module) -> None:
    """Raise ValueError for a model whose blocks merge tokens, for what is of blocks that keep all of them."""
    if any(isinstance(part, MergingEncoder) for part in model.modules()):
        raise ValueError(
            "this model merges tokens (with_merging), so that its blocks have fewer and fewer; give the "
            "model that it was made of"
        )
