"""What shapes a Vision Transformer, and the named variants (table 1, table 6)."""

import math
import re
from dataclasses import dataclass

from vitlab.embeddings import KERNEL_METHODS
from vitlab.patches import as_pair, grid_size
from vitlab.resnet import STEM_EPS, STEM_GROUPS, stem_channels, stem_stride
from vitlab.rotary import Rotary

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
CHOICES = {
    "pool": ("token", "mean", "token+mean"),
    "pos_embed": ("learned", "sincos2d", "none", "rope2d"),
    "gelu": ("erf", "tanh"),
    "stem_rule": tuple(STEM_EPS),
    "resize_method": tuple(KERNEL_METHODS),
}


@dataclass(frozen=True)
class ViTConfig:
    """Everything that shapes a `ViT`. The default is the course's model for 28 x 28 grey images.

    `image_size` is an int or (height, width) in pixels. `pool` is what the head reads: "token" (the class
    token), "mean" (the mean over patches; then there is no class token, appendix D.3), or "token+mean" (both,
    side by side, as DINOv2's classifiers do, arXiv 2304.07193). `pos_embed` is "learned", "sincos2d" or
    "none" (appendix D.4), added to tokens, or "rope2d", axial rotary ones that turn queries and keys instead
    (`Rotary`, arXiv 2403.13298). `representation_size` adds the hidden tanh layer that the pre-training head
    has (section 3.1). `num_classes=0` makes the model return the pooled features.
    `stem` makes it a hybrid (section 3.1): patches are cut from the features of a ResNet with that many
    bottlenecks in each stage, `stem_width` wide at first, and `patch_size` still counts pixels. `stem_rule`
    is "jax" or, for timm's own weights, "timm": in which of two ways norms avoid a division by zero.
    `num_registers` learnable tokens stand between the class token and the patches, without positions, and
    nothing reads them (arXiv 2309.16588).
    `distilled` adds a second class token after the first, the distillation token, with a position and a head
    of its own (DeiT, arXiv 2012.12877, section 4); the logits are the mean of the two heads'.
    In training mode the share `patch_dropout` of the patches, drawn for each image, is left out before the
    encoder (arXiv 2208.07220); in evaluation mode all are there.
    `kernel_size` and `pos_grid` are for weights that serve several patch sizes (FlexiViT, arXiv 2212.08013):
    the side of the patch projection's kernel and the (rows, columns) of the position embeddings, as they are
    kept; None: those of `patch_size`. What is needed is made of them by `resize_method`, "flexivit" or "timm"
    (`resize_patch_kernel`, `resize_pos_embed`); the table of "sincos2d" is made for the places that patches
    have on the kept grid. `ViT.at` sets them.
    Five are for weights of other libraries: `qkv_bias` False (vit-pytorch); `head_dim` other than
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
    patch_dropout: float = 0.0
    stem: tuple[int, ...] | None = None
    stem_width: int = 64
    stem_rule: str = "jax"
    qkv_bias: bool = True
    head_dim: int | None = None
    patch_norm: bool = False
    norm_after_pool: bool = False
    unread_class_token: bool = False
    num_registers: int = 0
    kernel_size: int | None = None
    pos_grid: tuple[int, int] | None = None
    resize_method: str = "flexivit"
    distilled: bool = False

    def __post_init__(self):
        if not isinstance(self.image_size, int):
            object.__setattr__(
                self, "image_size", as_pair(self.image_size)
            )  # a list from JSON becomes a tuple
        grid_size(self.image_size, self.patch_size)
        self.check_stem()
        self.check_kept_sizes()
        for field, least in dict(
            in_chans=1, num_classes=0, embed_dim=1, depth=1, num_heads=1, mlp_dim=1, num_registers=0
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
        for field in ("representation_size", "head_dim", "kernel_size"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{field} is None or a whole number of at least 1; got {value!r}")
        if self.pos_embed == "rope2d" and (width := self.heads_dim // self.num_heads) % 4:
            raise ValueError(
                f"rope2d position embeddings need heads of a width divisible by 4; got {width}, from "
                "embed_dim, num_heads and head_dim"
            )
        for field in ("qkv_bias", "patch_norm", "norm_after_pool", "unread_class_token", "distilled"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"{field} is True or False; got {getattr(self, field)!r}")
        if self.unread_class_token and self.pool != "mean":
            raise ValueError(f"pool={self.pool!r} reads the class token; unread_class_token goes with 'mean'")
        if self.norm_after_pool and self.pool == "token+mean":
            raise ValueError("pool='token+mean' is of normalised tokens; norm_after_pool goes with 'mean'")
        self.check_distilled()
        if not isinstance(self.norm_eps, int | float) or not self.norm_eps > 0:
            raise ValueError(f"norm_eps is above 0; got {self.norm_eps!r}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share of at least 0 and below 1; got {self.dropout!r}")
        self.check_patch_dropout()

    def check_patch_dropout(self) -> None:
        """Raise ValueError for a share of patches that cannot be left out."""
        share = self.patch_dropout
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"patch_dropout is a share of at least 0 and below 1; got {share!r}")
        if share and self.pos_embed == "rope2d":
            raise ValueError(
                "patch_dropout leaves patches out, and rope2d turns those of the whole grid by their places; "
                "take another pos_embed, or patch_dropout=0"
            )
        if not self.num_kept_patches:
            raise ValueError(
                f"patch_dropout {share} leaves none of {self.num_patches} patches; at most 1 - 1 / "
                f"{self.num_patches} leaves one"
            )

    def check_distilled(self) -> None:
        """Raise ValueError where two heads of one layer, each on its own token, do not fit the rest."""
        wanted = dict(pool="token", representation_size=None, norm_after_pool=False)
        for field, value in wanted.items() if self.distilled else ():
            if getattr(self, field) != value:
                raise ValueError(
                    "distilled=True has a head of one layer on the class token and one on the distillation "
                    f"token, so {field} is {value!r}; got {getattr(self, field)!r}"
                )

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

    def check_kept_sizes(self) -> None:
        """Raise ValueError where weights are kept at a size from which none of this model's can be made."""
        if self.kernel_size is not None and self.kernel_size == self.patch_size:
            object.__setattr__(self, "kernel_size", None)
        if self.kernel_size is not None and (self.patch_norm or self.stem is not None):
            what = "patch_norm has a scale and a shift for each of a patch's P²C numbers"
            if self.stem is not None:
                what = "a hybrid cuts its patches from a ResNet's features"
            raise ValueError(
                f"{what}, so its weights are for one patch size; got kernel_size {self.kernel_size} and "
                f"patch_size {self.patch_size}: make them equal"
            )
        if self.pos_grid is None:
            return
        if not isinstance(self.pos_grid, tuple | list):
            raise ValueError(f"pos_grid is None or (rows, columns); got {self.pos_grid!r}")
        object.__setattr__(self, "pos_grid", as_pair(self.pos_grid))
        if self.pos_embed == "none":
            raise ValueError(
                f"pos_embed='none' has no position embeddings to keep; got pos_grid {self.pos_grid}"
            )
        if self.pos_grid == self.grid_size:
            object.__setattr__(self, "pos_grid", None)

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
    def num_kept_patches(self) -> int:
        """Patches that enter the encoder in training mode: N·(1 - patch_dropout), rounded down."""
        left = self.num_patches * (1 - self.patch_dropout)
        return int(round(left, 6))  # 10·(1 - 0.9) is 0.9999999999999998

    @property
    def num_class_tokens(self) -> int:
        """1 with a class token, 2 with a distillation token after it, else 0."""
        return int(self.pool != "mean" or self.unread_class_token) + self.distilled

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: the class tokens, where there are any, and the registers."""
        return self.num_class_tokens + self.num_registers

    @property
    def kept_grid(self) -> tuple[int, int]:
        """Rows and columns of the position embeddings, as they are kept."""
        return self.pos_grid or self.grid_size

    def grid_as_far_apart(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
        """The grid in which places on an image of another size are counted, for steps as long as here.

        Raises ValueError where it has no whole number of rows and columns.

        >>> ViTConfig(patch_size=2, pos_grid=(7, 7)).grid_as_far_apart((56, 28))
        (14, 7)
        """
        old, new = as_pair(self.image_size), as_pair(image_size)
        sides = [kept * side / before for kept, side, before in zip(self.kept_grid, new, old, strict=True)]
        if any(side % 1 for side in sides):
            raise ValueError(
                f"the patches of this model's {old[0]} x {old[1]} images have their places on a grid of "
                f"{self.kept_grid}, and images of {new[0]} x {new[1]} are no whole number of its steps; take "
                "images whose sides are a multiple of them, or first adapt the model to another size"
            )
        return int(sides[0]), int(sides[1])

    @property
    def num_positions(self) -> int:
        """Position embeddings that are kept: the class tokens', where there are any, and the patches'.

        Those of "sincos2d" are made anew for every grid; "none" and "rope2d" keep none of these.
        """
        learned = self.pos_embed == "learned"
        return self.num_class_tokens + (math.prod(self.kept_grid) if learned else self.num_patches)

    @property
    def rotary(self) -> Rotary | None:
        """What turns queries and keys, if anything does."""
        if self.pos_embed != "rope2d":
            return None
        width = self.heads_dim // self.num_heads
        return Rotary(self.grid_size, self.kept_grid, self.num_prefix_tokens, width)

    @property
    def num_tokens(self) -> int:
        """T: class tokens, registers and patches."""
        return self.num_prefix_tokens + self.num_patches

    @property
    def heads_dim(self) -> int:
        """The width of all heads together: D, unless `head_dim` says otherwise."""
        return self.embed_dim if self.head_dim is None else self.num_heads * self.head_dim

    @property
    def pooled_dim(self) -> int:
        """How many numbers of an image the head reads: D, or twice that of class token and mean together."""
        return self.embed_dim * (2 if self.pool == "token+mean" else 1)

    @property
    def stem_stride(self) -> int:
        """Pixels from one place where patches are cut from to the next: 1, or that of a hybrid's features."""
        return 1 if self.stem is None else stem_stride(self.stem)

    @property
    def patch_dim(self) -> int:
        """P²C, the numbers in one patch; of a hybrid, those in one patch of features."""
        channels = self.in_chans if self.stem is None else stem_channels(self.stem, self.stem_width)
        return channels * (self.patch_size // self.stem_stride) ** 2
