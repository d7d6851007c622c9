"""ViT's encoder beside BERT's: the same numbers, the norm before a layer or after the sum (lesson 03)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.data import Dataset, normalise
from vitlab.encoder import Block
from vitlab.paper import BERT_BASE, TABLE_1
from vitlab.runtime import Run, here
from vitlab.training import Recipe, train
from vitlab.vit import ViT, ViTConfig


class PostNormBlock(Block):
    """BERT's block: the same parameters as ViT's, the norms after the sums: (B, T, D) -> (B, T, D)."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x))
        return self.norm2(x + self.mlp(x))


class Beginning(NamedTuple):
    """A run's first steps: gradients (depth,) by block before and after them, and the losses (steps,)."""

    before: Tensor
    losses: Tensor
    after: Tensor


def beside_bert(vit: ViT) -> dict[str, tuple[int, int]]:
    """What the papers print of BERT-Base and ViT-Base, then parameters counted: name -> BERT's, ViT's.

    `vit` is a ViT-B, on the meta device if there is no need of its weights; BERT's parameters are counted
    from its shapes, and its blocks have those of a ViT's. Raises ValueError for a ViT of other sizes.

    >>> with torch.device("meta"):
    ...     beside_bert(ViT(ViTConfig.from_name("B/16")))["words, or patches, to D"]
    (23440896, 589824)
    """
    bert, printed, D = BERT_BASE, TABLE_1["ViT-Base"], BERT_BASE["embed_dim"]
    sizes = {"layers": vit.config.depth} | {
        key: getattr(vit.config, key) for key in ("embed_dim", "mlp_dim", "num_heads")
    }
    if any(size != bert[key] for key, size in sizes.items()):
        wanted = ", ".join(f"{key} {bert[key]}" for key in sizes)
        raise ValueError(f"ViT-Base has {wanted}; got {', '.join(f'{k} {n}' for k, n in sizes.items())}")
    # `count_parameters` counts what can be trained; here frozen ones count, too.
    blocks, whole = (sum(map(torch.numel, part.parameters())) for part in (vit.blocks, vit))
    words = bert["vocabulary"] * D
    in_front = words + (bert["positions"] + bert["segments"] + 2) * D  # a row each; the last two are a norm's
    pooler = (D + 1) * D
    return {
        **{key: (bert[key], printed[key]) for key in sizes},
        "millions, printed": (bert["parameters"], printed["parameters"]),
        "all, counted": (in_front + blocks + pooler, whole),
        f"{bert['layers']} blocks": (blocks, blocks),
        "words, or patches, to D": (words, vit.patch_embed.proj.weight.numel()),
    }


def text_layer(block: Block, norm_first: bool = True) -> nn.TransformerEncoderLayer:
    """PyTorch's encoder layer, made for text, with the weights of a ViT's block; no gradients.

    With `norm_first` it computes what the block computes, else what BERT's would with these weights. Raises
    ValueError for a block with rotary positions, which PyTorch's layer has not.

    >>> x, block = torch.ones(1, 3, 8), Block(embed_dim=8, num_heads=2, mlp_dim=16)
    >>> torch.allclose(text_layer(block)(x), block(x), atol=1e-6)
    True
    """
    if block.attn.rotary is not None:
        raise ValueError(
            "PyTorch's layer turns no queries and keys by their places, as this block does (rope2d); give a "
            "block of a model with other position embeddings"
        )
    fc1, fc2 = block.mlp.fc1, block.mlp.fc2
    layer = nn.TransformerEncoderLayer(
        fc1.in_features,
        block.attn.num_heads,
        fc1.out_features,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=block.norm1.eps,
        batch_first=True,
        norm_first=norm_first,
        device=fc1.weight.device,
        dtype=fc1.weight.dtype,
    )
    layer.self_attn.in_proj_weight.data.copy_(block.attn.qkv.weight)
    layer.self_attn.in_proj_bias.data.copy_(block.attn.qkv.bias)
    layer.self_attn.out_proj.load_state_dict(block.attn.proj.state_dict())
    theirs = (layer.linear1, layer.linear2, layer.norm1, layer.norm2)
    for part, ours in zip(theirs, (fc1, fc2, block.norm1, block.norm2), strict=True):
        part.load_state_dict(ours.state_dict())
    return layer.requires_grad_(False)


def deep_vit(kind: type[Block], seed: int = 0, depth: int = 16) -> ViT:
    """A narrow and deep ViT of blocks of one kind, the same initial weights for every kind.

    Its head does not start at zero, as a head of zeros would let no gradient through at first.
    """
    with torch.random.fork_rng(devices=[]):
        model = ViT(ViTConfig(patch_size=7, embed_dim=64, mlp_dim=128, depth=depth))
        model.blocks = nn.Sequential(*(kind(embed_dim=64, num_heads=4, mlp_dim=128) for _ in range(depth)))
        torch.manual_seed(seed)
        model.reset_parameters()
        nn.init.xavier_uniform_(model.head.weight)
    return model


def gradient_lengths(model: ViT, images: Tensor, labels: Tensor) -> Tensor:
    """Length of the loss's gradient in each block's first MLP matrix, (depth,) on the CPU."""
    matrices = [block.mlp.fc1.weight for block in model.blocks]
    found = torch.autograd.grad(F.cross_entropy(model(images), labels), matrices)
    return torch.stack([gradient.norm() for gradient in found]).cpu()


def first_steps(
    kind: type[Block],
    train_data: Dataset,
    run: Run | None = None,
    steps: int = 60,
    seed: int = 0,
    depth: int = 16,
) -> Beginning:
    """A deep ViT's first steps at full learning rate: no warm-up, no clipping, batches of 32.

    Gradients are measured on the data's first 64 images.
    """
    run, model = run or here(), deep_vit(kind, seed, depth)
    model.to(run.device)
    images = normalise(train_data.images[:64]).to(run.device)
    labels = train_data.labels[:64].to(run.device)
    recipe = Recipe(steps=steps, batch_size=32, warmup_steps=0, clip_norm=0, augment=False, seed=seed)
    before = gradient_lengths(model, images, labels)
    history = train(model, train_data, None, recipe, run, progress=False)
    losses = torch.tensor([row["loss"] for row in history.rows])
    return Beginning(before, losses, gradient_lengths(model, images, labels))
