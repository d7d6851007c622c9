"""The Vision Transformer (figure 1, equations 1 to 4), its named variants (table 1), and what it costs."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitlab.embeddings import PatchEmbed, sincos2d
from vitlab.encoder import Encoder, full_precision, is_hooked, is_untouched
from vitlab.norms import LayerNorm
from vitlab.patches import as_pair, grid_size
from vitlab.resnet import (
    STEM_EPS,
    STEM_GROUPS,
    Bottleneck,
    HybridEmbed,
    StemConv2d,
    stem_channels,
    stem_multiply_adds,
    stem_stride,
)

# name: layers, width D, MLP width, heads. B, L and H are table 1; Ti and S are DeiT's, and Google's releases.
VARIANTS = {
    "Ti": (12, 192, 768, 3),
    "S": (12, 384, 1536, 6),
    "B": (12, 768, 3072, 12),
    "L": (24, 1024, 4096, 16),
    "H": (32, 1280, 5120, 16),
}
# Bottlenecks in each stage of a hybrid's ResNet. At 16 pixels a patch those of the fourth are in the third.
STEMS = {"R26": (2, 2, 2, 2), "R50": (3, 4, 6, 3)}


@dataclass(frozen=True)
class ViTConfig:
    """Everything that shapes a `ViT`. The default is the course's model for 28 x 28 grey images.

    `image_size` is an int or (height, width) in pixels. `pool` is what the head reads: "token" (the class
    token) or "mean" (the mean over patches; then there is no class token, appendix D.3). `pos_embed` is
    "learned", "sincos2d" or "none" (appendix D.4). `representation_size` adds the hidden tanh layer that the
    pre-training head has (section 3.1). `num_classes=0` makes the model return the pooled features.
    `stem` makes it a hybrid (section 3.1): patches are cut from the features of a ResNet with that many
    bottlenecks in each stage, `stem_width` wide at first, and `patch_size` still counts pixels. `stem_rule`
    is "jax" or, for timm's own weights, "timm": in which of two ways norms avoid a division by zero.
    The last five are for weights of other libraries: `qkv_bias` False (vit-pytorch); `head_dim` other than
    D / heads; `patch_norm`, a LayerNorm before and after the patch projection (vit-pytorch);
    `norm_after_pool`, where the mean is normalised and not what it is taken of, and `unread_class_token`, one
    that is there although the mean over patches is read (both timm's average pooling).
    Raises ValueError on creation where the numbers do not fit together.

    >>> ViTConfig(image_size=(28, 56), patch_size=7).grid_size
    (4, 8)
    """

    image_size: int | tuple[int, int] = 28
    patch_size: int = 4
    in_chans: int = 1
    num_classes: int = 10
    embed_dim: int = 96
    depth: int = 4
    num_heads: int = 4
    mlp_dim: int = 192
    pool: str = "token"
    pos_embed: str = "learned"
    gelu: str = "erf"
    norm_eps: float = 1e-6
    representation_size: int | None = None
    dropout: float = 0.0
    stem: tuple[int, ...] | None = None
    stem_width: int = 64
    stem_rule: str = "jax"
    qkv_bias: bool = True
    head_dim: int | None = None
    patch_norm: bool = False
    norm_after_pool: bool = False
    unread_class_token: bool = False

    def __post_init__(self):
        if not isinstance(self.image_size, int):
            object.__setattr__(
                self, "image_size", as_pair(self.image_size)
            )  # a list from JSON becomes a tuple
        grid_size(self.image_size, self.patch_size)
        self.check_stem()
        for field, least in dict(
            in_chans=1, num_classes=0, embed_dim=1, depth=1, num_heads=1, mlp_dim=1
        ).items():
            value = getattr(self, field)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{field} is a whole number of at least {least}; got {value!r}")
        if self.head_dim is None and self.embed_dim % self.num_heads:
            fits = [n for n in range(1, self.embed_dim + 1) if self.embed_dim % n == 0]
            near = sorted(sorted(fits, key=lambda n: abs(n - self.num_heads))[:4])
            raise ValueError(
                f"embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}; near it, "
                f"{', '.join(map(str, near))} heads would fit"
            )
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise ValueError(f"{field} is one of {', '.join(choices)}; got {getattr(self, field)!r}")
        if self.pos_embed == "sincos2d" and self.embed_dim % 4:
            raise ValueError(
                f"sincos2d position embeddings need embed_dim divisible by 4; got {self.embed_dim}"
            )
        for field in ("representation_size", "head_dim"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{field} is None or a whole number of at least 1; got {value!r}")
        for field in ("qkv_bias", "patch_norm", "norm_after_pool", "unread_class_token"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"{field} is True or False; got {getattr(self, field)!r}")
        if self.unread_class_token and self.pool == "token":
            raise ValueError("pool='token' reads the class token; unread_class_token goes with pool='mean'")
        if not isinstance(self.norm_eps, int | float) or not self.norm_eps > 0:
            raise ValueError(f"norm_eps is above 0; got {self.norm_eps!r}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share of at least 0 and below 1; got {self.dropout!r}")

    def check_stem(self) -> None:
        """Raise ValueError where the stem of a hybrid does not fit."""
        if self.stem is None:
            return
        given = self.stem if isinstance(self.stem, (tuple, list)) else [None]
        if not all(isinstance(blocks, int) and blocks > 0 for blocks in given):
            raise ValueError(f"stem has at least one bottleneck for each stage; got {self.stem}")
        object.__setattr__(self, "stem", tuple(self.stem))
        if not isinstance(self.stem_width, int) or self.stem_width < 1 or self.stem_width % STEM_GROUPS:
            raise ValueError(
                f"stem_width is a multiple of {STEM_GROUPS}, the groups of a norm; got {self.stem_width!r}"
            )
        if self.patch_size % self.stem_stride:
            raise ValueError(
                f"with this stem a feature stands for {self.stem_stride} pixels, of which patch_size is a "
                f"multiple; got {self.patch_size}"
            )
        if self.patch_norm:
            raise ValueError("patch_norm is for patches of pixels, and with a stem there are none")

    @classmethod
    def from_name(cls, name: str, image_size: int | tuple[int, int] = 224, num_classes: int = 1000, **fields):
        """The config of a named variant: Ti, S, B, L or H, a slash, and the patch size (table 1).

        In front of it "R50+" or "R26+" is a hybrid's ResNet (table 6); a patch is then 16 or 32 pixels.

        >>> ViTConfig.from_name("B/16").num_tokens
        197
        >>> ViTConfig.from_name("R50+ViT-B/16").stem
        (3, 4, 9)
        """
        match = re.fullmatch(r"(?:(R26|R50)\+)?(?:ViT-)?(Ti|S|B|L|H)/(\d+)", name)
        if not match or match[1] and match[3] not in ("16", "32"):
            raise ValueError(
                f"a variant is one of {', '.join(VARIANTS)} and a patch size, such as 'B/16', or a hybrid of "
                f"16 or 32 pixels a patch, such as 'R50+B/16'; got {name!r}"
            )
        depth, embed_dim, mlp_dim, num_heads = VARIANTS[match[2]]
        sizes = dict(depth=depth, embed_dim=embed_dim, mlp_dim=mlp_dim, num_heads=num_heads)
        own = dict(image_size=image_size, patch_size=int(match[3]), in_chans=3, num_classes=num_classes)
        if match[1]:
            *stages, fourth = STEMS[match[1]]
            own["stem"] = (*stages, fourth) if match[3] == "32" else (*stages[:-1], stages[-1] + fourth)
        return cls(**(own | sizes | fields))

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return grid_size(self.image_size, self.patch_size)

    @property
    def num_patches(self) -> int:
        """N."""
        return math.prod(self.grid_size)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: 1 with a class token, else 0."""
        return int(self.pool == "token" or self.unread_class_token)

    @property
    def num_tokens(self) -> int:
        """T: the patches and, where there is one, the class token."""
        return self.num_patches + self.num_prefix_tokens

    @property
    def heads_dim(self) -> int:
        """The width of all heads together: D, unless `head_dim` says otherwise."""
        return self.embed_dim if self.head_dim is None else self.num_heads * self.head_dim

    @property
    def stem_stride(self) -> int:
        """Pixels from one place where patches are cut from to the next: 1, or that of a hybrid's features."""
        return 1 if self.stem is None else stem_stride(self.stem)

    @property
    def patch_dim(self) -> int:
        """P²C, the numbers in one patch; of a hybrid, those in one patch of features."""
        channels = self.in_chans if self.stem is None else stem_channels(self.stem, self.stem_width)
        return channels * (self.patch_size // self.stem_stride) ** 2


CHOICES = {"pool": ("token", "mean"), "pos_embed": ("learned", "sincos2d", "none"), "gelu": ("erf", "tanh")}
CHOICES["stem_rule"] = tuple(STEM_EPS)


class ViT(nn.Module):
    """A Vision Transformer: images (B, C, H, W) in [-1, 1] -> logits (B, num_classes), fp32.

    Parameters carry timm's names. Initial values follow Google's code: Xavier-uniform matrices, position
    embeddings with deviation 0.02, class token and head zero, so that the first loss is exactly ln(classes).
    `class_names`, of the logits, are known once training or a checkpoint has told them.

    >>> ViT(ViTConfig())(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    class_names: list[str] | None = None

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = c = config
        patches = c.patch_size, c.in_chans, c.embed_dim
        if c.stem is None:
            self.patch_embed = PatchEmbed(*patches, c.patch_norm, c.norm_eps)
        else:
            self.patch_embed = HybridEmbed(*patches, c.stem, c.stem_width, c.stem_rule)
        if c.num_prefix_tokens:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, c.embed_dim))
        if c.pos_embed == "learned":
            self.pos_embed = nn.Parameter(torch.empty(1, c.num_tokens, c.embed_dim))
        elif c.pos_embed == "sincos2d":
            table = torch.zeros(
                1, c.num_tokens, c.embed_dim
            )  # the class token has no place: its row stays zero
            table[:, c.num_prefix_tokens :] = sincos2d(c.grid_size, c.embed_dim)
            self.register_buffer("pos_embed", table)
        self.dropout = nn.Dropout(c.dropout)
        block = dict(embed_dim=c.embed_dim, num_heads=c.num_heads, mlp_dim=c.mlp_dim, gelu=c.gelu)
        block |= dict(norm_eps=c.norm_eps, dropout=c.dropout, qkv_bias=c.qkv_bias, head_dim=c.head_dim)
        self.blocks = Encoder(c.depth, **block)
        self.norm = LayerNorm(c.embed_dim, eps=c.norm_eps)
        width = c.representation_size or c.embed_dim
        if c.representation_size:
            self.pre_logits = nn.Sequential()
            self.pre_logits.add_module("fc", nn.Linear(c.embed_dim, width))
            self.pre_logits.add_module("act", nn.Tanh())
        self.head = nn.Linear(width, c.num_classes) if c.num_classes else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set Google's initial values (vit_jax/models_vit.py) in place; on the meta device there are none."""
        if self.norm.weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, StemConv2d):
                lecun_normal_(module.weight)
            elif isinstance(module, Bottleneck):  # which adds nothing at first
                nn.init.zeros_(module.norm3.weight)
        lecun_normal_(self.patch_embed.proj.weight)
        nn.init.zeros_(self.patch_embed.proj.bias)
        if self.config.representation_size:
            lecun_normal_(self.pre_logits.fc.weight)
        for block in self.blocks:
            q, k, v = block.attn.qkv.weight.chunk(3)  # three matrices in the original, each with its own fan
            for matrix in (q, k, v):
                nn.init.xavier_uniform_(matrix)
            for layer in (block.mlp.fc1, block.mlp.fc2):
                nn.init.normal_(layer.bias, std=1e-6)
        if self.config.pos_embed == "learned":
            nn.init.normal_(self.pos_embed, std=0.02)
        if self.config.num_classes:
            nn.init.zeros_(self.head.weight)

    def embed(self, images: Tensor) -> Tensor:
        """The tokens that enter the encoder: (B, C, H, W) -> (B, T, D) (equation 1).

        Raises ValueError for images of another shape or type than the model's.
        """
        self.check_images(images)
        return self.sequence(self.patch_embed(images))

    def check_images(self, images: Tensor) -> None:
        """Raise ValueError for images that this model does not take."""
        c, dtype = self.config, self.norm.weight.dtype
        height, width = as_pair(c.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != (c.in_chans, height, width):
            raise ValueError(
                f"this model takes images of shape (B, {c.in_chans}, {height}, {width}); "
                f"got {tuple(images.shape)}; resize the images, or make the model for their size"
            )
        if not images.is_floating_point():
            raise ValueError(
                f"images are floats in [-1, 1]; got {images.dtype}; use vitlab.data.normalise(images)"
            )
        if images.dtype != dtype and not torch.is_autocast_enabled(images.device.type):
            raise ValueError(
                f"this model takes images of {dtype}; got {images.dtype}; use images.to({dtype})"
            )

    def sequence(self, patches: Tensor) -> Tensor:
        """Embedded patches as the encoder reads them: (B, N, D) -> (B, T, D) (equation 1).

        The class token is put in front and positions are added, in the precision that the patches have.
        """
        x = patches
        if self.config.num_prefix_tokens:
            x = torch.cat([self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)  # (B, N+1, D)
        if self.config.pos_embed != "none":
            x = x + self.pos_embed.to(x.dtype)
        return self.dropout(x)

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the final norm: (B, C, H, W) -> (B, T, D) (equation 4's LN, on every token).

        With `norm_after_pool` the tokens are as the encoder leaves them: that norm is for their mean alone.
        """
        x = self.blocks(self.embed(images))
        return x if self.config.norm_after_pool else self.norm(x)

    def pool(self, tokens: Tensor) -> Tensor:
        """What the head reads: (B, T, D) -> (B, D), class token or mean (equation 4, appendix D.3)."""
        if self.config.pool == "token":
            return tokens[:, 0]
        return tokens[:, self.config.num_prefix_tokens :].mean(dim=1)

    def pooled_features(self, images: Tensor) -> Tensor:
        """What the head reads: (B, C, H, W) -> (B, D), fp32.

        With a class token the last block makes that token alone, unless someone else may read the others.
        """
        x = self.embed(images)
        x = self.blocks(x, class_only=True) if self.reads_one_token() else self.blocks(x)
        pooled = self.norm(self.pool(x)) if self.config.norm_after_pool else self.pool(self.norm(x))
        return pooled.to(self.norm.weight.dtype)

    def reads_one_token(self) -> bool:
        """Whether nobody sees what the last block makes of the patches: a hook, or what is another's."""
        if self.config.pool != "token" or type(self.blocks) is not Encoder:
            return False
        if getattr(self.pool, "__func__", None) is not ViT.pool:
            return False
        return is_untouched(self.blocks[-1]) and not is_hooked(self.blocks) and not is_hooked(self.norm)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pooled_features(images)  # (B, D)
        if self.config.representation_size:
            x = self.pre_logits(x)
        with full_precision(x.device):
            return self.head(x.to(self.norm.weight.dtype))


def lecun_normal_(weight: Tensor) -> Tensor:
    """Fill with a normal cut at two deviations whose variance is 1 / inputs, as Flax's default, in place."""
    std = (weight[0].numel() ** -0.5) / 0.87962566103423978  # the cut lowers the deviation by this factor
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def count_parameters(model: nn.Module) -> int:
    """The exact number of trainable numbers. On the meta device no memory is needed, whatever the size.

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
    pooled = c.representation_size or d
    stem = 0 if c.stem is None else stem_multiply_adds(c.stem, c.stem_width, c.in_chans, c.image_size)
    return {
        "patch_embed": stem + c.num_patches * c.patch_dim * d,
        "qkv": c.depth * t * d * 3 * a,
        "scores": c.depth * t * t * a,
        "values": c.depth * t * t * a,
        "proj": c.depth * t * a * d,
        "mlp": c.depth * 2 * t * d * c.mlp_dim,
        "head": pooled * c.num_classes + (d * pooled if c.representation_size else 0),
    }


def attention_bytes(config: ViTConfig, batch_size: int = 1) -> int:
    """Bytes of all attention weights of one forward pass in fp32: L x B x heads x T x T x 4.

    >>> attention_bytes(ViTConfig())
    160000
    """
    return 4 * config.depth * batch_size * config.num_heads * config.num_tokens**2


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Each part of the model is afterwards in the mode, training or evaluation, that it had before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and for each part of the model afterwards the mode that it had."""
    with modes_kept(model):
        model.eval()
        yield
