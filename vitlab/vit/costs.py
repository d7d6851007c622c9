"""What a Vision Transformer costs: parameters, floating-point operations, bytes of attention weights."""

from torch import nn

from vitlab.resnet import stem_multiply_adds
from vitlab.vit.config import ViTConfig
from vitlab.vit.model import ViT

PARTS = {  # what the names of a part's parameters contain; the first part that fits has it
    "patch projection": ("patch_embed.",),
    "class token, positions": ("cls_token", "dist_token", "pos_embed", "reg_token"),
    "attention: qkv, proj": (".attn.",),
    "attention: scores, mixing": (),
    "MLP": (".mlp.",),
    "norms": ("norm",),
    "head": ("head.", "head_dist.", "pre_logits."),
}


def count_parameters(model: nn.Module) -> int:
    """The exact number of trainable numbers. On the meta device no memory is needed, whatever the size.

    >>> import torch
    >>> from vitlab import ViT
    >>> with torch.device("meta"):
    ...     count_parameters(ViT(ViTConfig.from_name("B/16")))
    86567656
    """
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_flops(config: ViTConfig) -> int:
    """Floating-point operations of one image's forward pass: two for each multiply-add of a matrix product.

    As published figures do, it counts all tokens in all layers (with a class token, `ViT` leaves out what
    nobody reads in the last one), and no norms, softmax, GELU or additions. Training takes three times it.

    >>> round(count_flops(ViTConfig.from_name("B/16")) / 1e9, 1)
    35.1
    """
    return 2 * sum(multiply_adds(config).values())


def multiply_adds(config: ViTConfig) -> dict[str, int]:
    """Multiply-adds of one image's forward pass by part: projection, qkv, scores, mixing, proj, mlp, head."""
    c, t, d, a = config, config.num_tokens, config.embed_dim, config.heads_dim
    pooled = c.representation_size or c.pooled_dim
    hidden = c.pooled_dim * pooled if c.representation_size else 0
    stem = 0 if c.stem is None else stem_multiply_adds(c.stem, c.stem_width, c.in_chans, c.image_size)
    return {
        "patch_embed": stem + c.num_patches * c.patch_dim * d,
        "qkv": c.depth * t * d * 3 * a,
        "scores": c.depth * t * t * a,
        "values": c.depth * t * t * a,
        "proj": c.depth * t * a * d,
        "mlp": c.depth * 2 * t * d * c.mlp_dim,
        "head": (1 + c.distilled) * pooled * c.num_classes + hidden,
    }


def costs_by_part(model: ViT) -> dict[str, tuple[int, int]]:
    """Parameters and multiply-adds of one image, part by part: name -> both; together they are the model's.

    Raises ValueError for a parameter that no ViT has. On the meta device no memory is needed.

    >>> costs_by_part(ViT(ViTConfig()))["attention: scores, mixing"]
    (0, 1920000)
    """
    numbers, work = dict.fromkeys(PARTS, 0), multiply_adds(model.config)
    for name, parameter in model.named_parameters():
        part = next((part for part, keys in PARTS.items() if any(key in name for key in keys)), None)
        if part is None:
            raise ValueError(f"{name!r} belongs to no part of a ViT; the parts are {', '.join(PARTS)}")
        numbers[part] += parameter.numel()
    adds = {
        "patch projection": work["patch_embed"],
        "attention: qkv, proj": work["qkv"] + work["proj"],
        "attention: scores, mixing": work["scores"] + work["values"],
        "MLP": work["mlp"],
        "head": work["head"],
    }
    return {part: (number, adds.get(part, 0)) for part, number in numbers.items()}


def attention_bytes(config: ViTConfig, batch_size: int = 1) -> int:
    """Bytes of all attention weights of one forward pass in fp32: L x B x heads x T x T x 4.

    >>> attention_bytes(ViTConfig())
    160000
    """
    return 4 * config.depth * batch_size * config.num_heads * config.num_tokens**2
