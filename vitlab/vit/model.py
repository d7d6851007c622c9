"""The Vision Transformer (figure 1, equations 1 to 4)."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from vitlab.embeddings import PatchEmbed, resize_pos_embed, sincos2d
from vitlab.encoder import Attention, Encoder, is_hooked, is_untouched
from vitlab.norms import LayerNorm, full_precision
from vitlab.patches import as_pair, drop_patches
from vitlab.resnet import Bottleneck, HybridEmbed, StemConv2d
from vitlab.vit.config import ViTConfig

ENCODERS = {Encoder}  # what takes `class_only` and has a `last` block; a subclass may do something else


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
            sizes = c.kernel_size, c.resize_method
            self.patch_embed = PatchEmbed(*patches, c.patch_norm, c.norm_eps, *sizes)
        else:
            self.patch_embed = HybridEmbed(*patches, c.stem, c.stem_width, c.stem_rule)
        if c.num_class_tokens:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, c.embed_dim))
        if c.distilled:
            self.dist_token = nn.Parameter(torch.empty(1, 1, c.embed_dim))
        if c.num_registers:
            self.reg_token = nn.Parameter(torch.empty(1, c.num_registers, c.embed_dim))
        if c.pos_embed == "learned":
            self.pos_embed = nn.Parameter(torch.empty(1, c.num_positions, c.embed_dim))
        elif c.pos_embed == "sincos2d":
            self.register_buffer("pos_embed", fixed_positions(c))
        self.dropout = nn.Dropout(c.dropout)
        block = dict(embed_dim=c.embed_dim, num_heads=c.num_heads, mlp_dim=c.mlp_dim, gelu=c.gelu)
        block |= dict(norm_eps=c.norm_eps, dropout=c.dropout, qkv_bias=c.qkv_bias, head_dim=c.head_dim)
        block |= dict(rotary=c.rotary)
        self.blocks = Encoder(c.depth, **block)
        self.norm = LayerNorm(c.embed_dim, eps=c.norm_eps)
        width = c.representation_size or c.pooled_dim
        if c.representation_size:
            self.pre_logits = nn.Sequential()
            self.pre_logits.add_module("fc", nn.Linear(c.pooled_dim, width))
            self.pre_logits.add_module("act", nn.Tanh())
        self.head = nn.Linear(width, c.num_classes) if c.num_classes else nn.Identity()
        if c.distilled:
            self.head_dist = nn.Linear(width, c.num_classes) if c.num_classes else nn.Identity()
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
        if self.config.num_registers:
            nn.init.normal_(self.reg_token, std=0.02)  # two that began alike would stay alike
        if self.config.distilled:
            nn.init.normal_(self.dist_token, std=0.02)  # and this one like the class token
        for head in self.heads if self.config.num_classes else ():
            nn.init.zeros_(head.weight)

    @property
    def heads(self) -> list[nn.Module]:
        """The head that reads the class token or the mean, and the distillation token's, if there is one."""
        return [self.head, self.head_dist] if self.config.distilled else [self.head]

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

        The class token is put in front, the distillation token after it, and positions are added, in the
        precision that the patches have. Registers come between, and have none. With `patch_dropout`, in
        training mode, some patches are left out after that: (B, N, D) -> (B, T - dropped, D).
        """
        x, c = patches, self.config
        if c.num_class_tokens:
            first = [self.cls_token, self.dist_token] if c.distilled else [self.cls_token]
            first = [token.to(x.dtype).expand(x.shape[0], -1, -1) for token in first]
            x = torch.cat([*first, x], dim=1)  # (B, N+1, D)
        if c.pos_embed in ("learned", "sincos2d"):
            x = x + self.positions().to(x.dtype)
        if c.num_registers:
            registers = self.reg_token.to(x.dtype).expand(x.shape[0], -1, -1)
            x = torch.cat([x[:, : c.num_class_tokens], registers, x[:, c.num_class_tokens :]], dim=1)
        if c.patch_dropout and self.training:
            x = drop_patches(x, c.num_kept_patches, c.num_prefix_tokens)
        return self.dropout(x)

    def positions(self) -> Tensor:
        """Position embeddings of class tokens and patches, (1, class tokens + N, D), made of those kept."""
        c = self.config
        if c.pos_embed == "sincos2d":
            return self.pos_embed
        return resize_pos_embed(self.pos_embed, c.kept_grid, c.grid_size, c.num_class_tokens, c.resize_method)

    def at(
        self,
        patch_size: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        method: str | None = None,
    ) -> "ViT":
        """This model at another patch size or image size: a ViT of these very parameters, not of copies.

        FlexiViT (arXiv 2212.08013, section 3): what depends on the size, the kernel and the position
        embeddings, is made in each call of those kept here, to which gradients flow; `state_dict` is this
        model's, but for the table of "sincos2d". Modules and modes are its own, and hooks as in a copy, so
        make it anew where a part of this model is replaced. By `method` "flexivit" (default) or "timm" sizes
        are changed; "sincos2d" positions are computed for the places that patches have on this model's grid,
        and so are those of "rope2d" at another patch size, but a larger image extends their grid by whole
        steps.
        `fine_tuning.adapt` makes a copy. Raises ValueError for a size that does not divide the image, for an
        unknown method, and for another patch size of a hybrid, of a model with `patch_norm`, or of one whose
        projection was replaced.

        >>> model = ViT(ViTConfig())
        >>> finer = model.at(patch_size=2)
        >>> finer.config.num_tokens, finer.head.weight is model.head.weight
        (197, True)
        """
        c = self.config
        model = copy.deepcopy(self, {id(p): p for p in self.parameters()})
        model.config = new = replace(
            c,
            patch_size=c.patch_size if patch_size is None else patch_size,
            image_size=c.image_size if image_size is None else image_size,
            kernel_size=c.kernel_size or c.patch_size,
            pos_grid=None if c.pos_embed == "none" else c.kept_grid,
            resize_method=method or c.resize_method,
        )
        if c.pos_embed == "rope2d":
            model.config = new = replace(new, pos_grid=c.grid_as_far_apart(new.image_size))
        if new.patch_size != c.patch_size and type(self.patch_embed) is not PatchEmbed:
            raise ValueError(
                f"this model's patches are embedded by a {type(self.patch_embed).__name__} that came in the "
                f"place of its own, for patches of {c.patch_size} pixels; leave patch_size at that"
            )
        if new.stem is None:
            model.patch_embed.patch_size, model.patch_embed.method = new.patch_size, new.resize_method
        if new.pos_embed == "sincos2d":
            model.pos_embed = fixed_positions(new).to(self.pos_embed)
        for module in model.blocks.modules():
            if isinstance(module, Attention):
                module.rotary = new.rotary
        return model

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the final norm: (B, C, H, W) -> (B, T, D) (equation 4's LN, on every token).

        With `norm_after_pool` the tokens are as the encoder leaves them: that norm is for their mean alone.
        """
        x = self.blocks(self.embed(images))
        return x if self.config.norm_after_pool else self.norm(x)

    def pool(self, tokens: Tensor) -> Tensor:
        """What the head reads: (B, T, D) -> (B, D), class token or mean (equation 4, appendix D.3).

        Both side by side, (B, 2D), with "token+mean". With `distilled`, whose two heads read a token each,
        the mean of the two.
        """
        if self.config.distilled:
            return tokens[:, :2].mean(dim=1)
        if self.config.pool == "token":
            return tokens[:, 0]
        mean = tokens[:, self.config.num_prefix_tokens :].mean(dim=1)
        return torch.cat([tokens[:, 0], mean], dim=1) if self.config.pool == "token+mean" else mean

    def pooled_features(self, images: Tensor) -> Tensor:
        """What the head reads: (B, C, H, W) -> (B, D or 2D), fp32.

        With a class token the last block makes that token alone, unless someone else may read the others.
        """
        x = self.embed(images)
        x = self.blocks(x, class_only=True) if self.reads_one_token() else self.blocks(x)
        pooled = self.norm(self.pool(x)) if self.config.norm_after_pool else self.pool(self.norm(x))
        return pooled.to(self.norm.weight.dtype)

    def reads_one_token(self) -> bool:
        """Whether nobody sees what the last block makes of the patches: a hook, or what is another's."""
        if self.config.pool != "token" or self.config.distilled or type(self.blocks) not in ENCODERS:
            return False
        if getattr(self.pool, "__func__", None) is not ViT.pool:
            return False
        return is_untouched(self.blocks.last) and not is_hooked(self.blocks) and not is_hooked(self.norm)

    def logits_by_head(self, tokens: Tensor) -> Tensor:
        """What the two heads of a `distilled` model say of a token each: (B, T, D) -> (B, 2, classes), fp32.

        `tokens` are those of `forward_features`. The class token's come first; the model's logits are the
        mean of the two. Without classes they are the two tokens.
        """
        with full_precision(tokens.device):
            own = tokens[:, :2].to(self.norm.weight.dtype).unbind(dim=1)
            return torch.stack([head(token) for head, token in zip(self.heads, own, strict=True)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        if self.config.distilled:
            return self.logits_by_head(self.forward_features(images)).mean(dim=1)
        x = self.pooled_features(images)  # (B, D)
        if self.config.representation_size:
            x = self.pre_logits(x)
        with full_precision(x.device):
            return self.head(x.to(self.norm.weight.dtype))


def fixed_positions(config: ViTConfig) -> Tensor:
    """The table of "sincos2d", (1, T, D) without registers; the class token has no place, and a zero row."""
    table = torch.zeros(1, config.num_positions, config.embed_dim)
    table[:, config.num_class_tokens :] = sincos2d(
        config.grid_size, config.embed_dim, old_grid=config.kept_grid
    )
    return table


def lecun_normal_(weight: Tensor) -> Tensor:
    """Fill with a normal cut at two deviations whose variance is 1 / inputs, as Flax's default, in place."""
    std = (weight[0].numel() ** -0.5) / 0.87962566103423978  # the cut lowers the deviation by this factor
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
