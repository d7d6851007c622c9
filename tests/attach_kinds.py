"""The kinds of models whose attention is recorded, tiny and random, and what each library says of it.

Each kind's reference comes from the library's own way to show weights, on a copy of the model: timm without
its fused attention, seen before the dropout of the weights; transformers' eager attention with its
`output_attentions`; `nn.MultiheadAttention` asked for its weights; the softmax module of vit-pytorch, or
queries and keys taken by hooks and multiplied by hand.
"""

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

import open_clip
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

SQUARE, WIDE = (32, 32), (24, 48)
DEPTH, HEADS, WIDTH = 2, 4, 32


@dataclass
class Kind:
    """One row of the table. `reference(model, images)` gives the weights of each layer, and of a pooling."""

    library: str
    name: str
    build: Callable[[tuple[int, int]], nn.Module]
    reference: Callable[[nn.Module, Tensor], list[Tensor]]
    prefix: int
    reads: str
    sizes: tuple = (SQUARE, WIDE)
    one_model: bool = False  # does one object take both sizes?
    keywords: dict = field(default_factory=dict)  # what the object does not say
    pools: bool = False

    @property
    def id(self) -> str:
        return f"{self.library}: {self.name}"


def randomised(model: nn.Module) -> nn.Module:
    """Weights far from the start, where attention is flat and layer scales are nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.15 if parameter.ndim > 1 else 0.1))
    return model.eval()


@torch.no_grad()
def hooked(model: nn.Module, images: Tensor, call, modules: list[nn.Module], take) -> list[Tensor]:
    """What `take(module, args, kwargs, output)` gives, in the order of the calls."""
    found: list[Tensor] = []
    hooks = [
        each.register_forward_hook(lambda *given: found.append(take(*given)), with_kwargs=True)
        for each in modules
    ]
    call(model, images)
    for hook in hooks:
        hook.remove()
    return found


# --------------------------------------------------------------------------------------------------- timm


def of_timm(model: nn.Module, images: Tensor) -> list[Tensor]:
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    drops = [module for name, module in model.named_modules() if name.endswith("attn_drop")]
    weights = hooked(model, images, lambda m, x: m(x), drops, lambda module, args, kwargs, out: args[0])
    pool = getattr(model, "attn_pool", None)
    if pool is not None:
        (tokens,) = hooked(
            model, images, lambda m, x: m(x), [pool], lambda module, args, kwargs, out: args[0]
        )
        weights = weights[:DEPTH] + [pooled_by_hand(pool, tokens)]
    return weights


@torch.no_grad()
def pooled_by_hand(pool: nn.Module, tokens: Tensor) -> Tensor:
    """The weights of timm's pooling by a latent query: (B, heads, 1, N)."""
    split = lambda each: each.unflatten(-1, (pool.num_heads, -1)).transpose(-3, -2)  # noqa: E731
    keys = split(pool.kv(tokens)[..., : pool.num_heads * pool.head_dim])
    query = split(pool.q(pool.latent.expand(len(tokens), -1, -1)))
    return (query.float() @ keys.float().mT * pool.scale).softmax(dim=-1)


def timm_kind(label: str, name: str, prefix: int, reads: str, one_model=False, **kwargs) -> Kind:
    def build(size):
        given = dict(patch_size=8, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=5)
        return timm.create_model(name, img_size=size, **given | kwargs)

    keywords = dict(image_size=SQUARE) if name.startswith("naflex") else {}
    pools = reads == "attention"
    return Kind("timm", label, build, of_timm, prefix, reads, (SQUARE, WIDE), one_model, keywords, pools)


def side_by_side(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Two attentions of a block as the heads of one."""
    weights = of_timm(model, images)
    return [torch.cat(weights[at : at + 2], dim=1) for at in range(0, len(weights), 2)]


def timm_kinds() -> list[Kind]:
    tiny = "vit_tiny_patch16_224"
    parallel = timm_kind("ViT, two attentions a block", "vit_small_patch16_18x2_224", 1, "token")
    parallel.reference = side_by_side
    scaling = timm.models.vision_transformer.ParallelScalingBlock
    return [
        timm_kind("ViT", tiny, 1, "token"),
        timm_kind("ViT, dynamic size", tiny, 1, "token", one_model=True, dynamic_img_size=True),
        timm_kind("ViT, global_pool avg", tiny, 1, "mean", global_pool="avg"),
        timm_kind("ViT, registers, avgmax", tiny, 3, "mean+max", global_pool="avgmax", reg_tokens=2),
        timm_kind("ViT, avg with prefix", tiny, 1, "mean_all", global_pool="avg", pool_include_prefix=True),
        timm_kind("ViT, global_pool map", tiny, 1, "attention", global_pool="map"),
        timm_kind("ViT, QK-norm", tiny, 1, "token", qk_norm=True),
        timm_kind("ViT, attention and MLP in parallel", tiny, 1, "token", block_fn=scaling),
        parallel,
        timm_kind("ViT, relative positions", "vit_relpos_small_patch16_224", 0, "mean"),
        timm_kind("DeiT, distilled", "deit_tiny_distilled_patch16_224", 2, "pair"),
        timm_kind("DeiT-III", "deit3_small_patch16_224", 1, "token"),
        timm_kind("DINOv2", "vit_small_patch14_dinov2", 1, "token"),
        timm_kind("DINOv2, registers", "vit_small_patch14_reg4_dinov2", 5, "token"),
        timm_kind("DINOv3", "vit_small_patch16_dinov3", 5, "mean", one_model=True),
        timm_kind("EVA-02", "eva02_tiny_patch14_224", 1, "mean"),
        timm_kind("BEiT-v2", "beitv2_base_patch16_224", 1, "mean"),
        timm_kind("SigLIP", "vit_base_patch16_siglip_224", 0, "attention"),
        timm_kind("CLIP", "vit_base_patch16_clip_224", 1, "token"),
        timm_kind("NaFlex", "naflexvit_base_patch16_siglip", 0, "attention", one_model=True),
    ]


# ------------------------------------------------------------------------------ torchvision and open_clip


def of_multi_head(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Each `nn.MultiheadAttention` of a copy, called again on what it was called with, for its weights."""
    model = copy.deepcopy(model)
    layers = [each for each in model.modules() if isinstance(each, nn.MultiheadAttention)]

    def take(module, args, kwargs, output):
        asked = kwargs | dict(need_weights=True, average_attn_weights=False)
        return nn.MultiheadAttention.forward(module, *args, **asked)[1]

    return hooked(model, images, lambda m, x: m(x), layers, take)


def torchvision_kind(name: str, patch: int) -> Kind:
    def build(size):
        return torchvision.models.VisionTransformer(size[0], patch, DEPTH, HEADS, WIDTH, 48, num_classes=5)

    sizes = ((2 * patch, 2 * patch), (3 * patch, 3 * patch))  # its images are square
    return Kind("torchvision", name, build, of_multi_head, 1, "token", sizes)


def open_clip_kind(label: str, reads: str, **kwargs) -> Kind:
    def build(size):
        width = dict(width=WIDTH, layers=DEPTH, heads=HEADS, mlp_ratio=1.5, output_dim=12)
        return open_clip.transformer.VisionTransformer(size, 8, **width | kwargs)

    pools = reads == "attention"
    return Kind("open_clip", label, build, of_multi_head, 1, reads, pools=pools)


def clip_kinds() -> list[Kind]:
    return [
        open_clip_kind("ViT", "token"),
        open_clip_kind("ViT, mean", "mean", pool_type="avg", final_ln_after_pool=True),
        open_clip_kind(
            "CoCa, attention pooling",
            "attention",
            attentional_pool=True,
            attn_pooler_queries=3,
            attn_pooler_heads=2,
        ),
    ]


# ------------------------------------------------------------------------------------------- transformers


def of_transformers(model: nn.Module, images: Tensor) -> list[Tensor]:
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    given = dict(output_attentions=True)
    if model.config.model_type == "vit_mae":  # keeps the patches in their order
        patches = images.shape[-1] * images.shape[-2] // 64
        given["noise"] = torch.linspace(0, 1, patches).expand(len(images), -1)
    if "dino" not in model.config.model_type:
        given["interpolate_pos_encoding"] = True
    with torch.no_grad():
        weights = list(model(images, **given).attentions)
    if getattr(model, "use_head", False):
        weights += hooked(
            model, images, lambda m, x: m(x, interpolate_pos_encoding=True), *pooling_head(model)
        )
    return weights


def pooling_head(model: nn.Module):
    attention = model.head.attention
    return [attention], lambda module, args, kwargs, output: nn.MultiheadAttention.forward(
        module, *args, **kwargs, average_attn_weights=False
    )[1]


def transformers_kind(label: str, name: str, prefix: int, reads: str, attention: str, **given) -> Kind:
    def build(size):
        config = getattr(transformers, name[0])(
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=48,
            image_size=SQUARE[0],
            patch_size=8,
            **given,
        )
        model = getattr(transformers, name[1])(config)
        model.set_attn_implementation(attention)
        return model

    pools = reads == "attention"
    label = f"{label} ({attention})"
    return Kind("transformers", label, build, of_transformers, prefix, reads, one_model=True, pools=pools)


def transformers_kinds() -> list[Kind]:
    names = [
        ("ViT", ("ViTConfig", "ViTForImageClassification"), 1, "token", {}),
        ("DeiT", ("DeiTConfig", "DeiTForImageClassificationWithTeacher"), 2, "pair", {}),
        ("DINOv2", ("Dinov2Config", "Dinov2Model"), 1, "token", {}),
        (
            "DINOv2, registers",
            ("Dinov2WithRegistersConfig", "Dinov2WithRegistersForImageClassification"),
            5,
            "token+mean",
            {},
        ),
        ("DINOv3", ("DINOv3ViTConfig", "DINOv3ViTModel"), 5, "token", dict(num_register_tokens=4)),
        ("CLIP", ("CLIPVisionConfig", "CLIPVisionModelWithProjection"), 1, "token", {}),
        ("SigLIP", ("SiglipVisionConfig", "SiglipVisionModel"), 0, "attention", {}),
        ("ViT-MAE", ("ViTMAEConfig", "ViTMAEModel"), 1, "tokens", dict(mask_ratio=0.0)),
        ("MSN", ("ViTMSNConfig", "ViTMSNForImageClassification"), 1, "token", {}),
        ("I-JEPA", ("IJepaConfig", "IJepaForImageClassification"), 0, "mean", {}),
    ]
    return [
        transformers_kind(label, name, prefix, reads, attention, **given)
        for label, name, prefix, reads, given in names
        for attention in ("sdpa", "eager")
    ]


# --------------------------------------------------------------------------------------------- vit-pytorch


def of_softmax_module(model: nn.Module, images: Tensor) -> list[Tensor]:
    model = copy.deepcopy(model)
    softmaxes = [module for module in model.modules() if isinstance(module, nn.Softmax)]
    return hooked(model, images, lambda m, x: m(x), softmaxes, lambda module, args, kwargs, output: output)


def of_queries_and_keys(model: nn.Module, images: Tensor) -> list[Tensor]:
    model = copy.deepcopy(model)
    layers = [module for name, module in model.named_modules() if name.endswith("to_qkv")]

    def take(module, args, kwargs, qkv):
        q, k, _ = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).float()
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)

    return hooked(model, images, lambda m, x: m(x), layers, take)


def two_branches(model: nn.Module, images: Tensor) -> list[Tensor]:
    weights = of_softmax_module(model, images)
    return [torch.cat(weights[at : at + 2], dim=1) for at in range(0, len(weights), 2)]


def vit_pytorch_kind(
    label: str, room: str, name: str, prefix: int, reads: str, reference=of_softmax_module, **given
) -> Kind:
    def build(size):
        sizes = dict(
            image_size=size, patch_size=8, num_classes=5, dim=WIDTH, depth=DEPTH, heads=HEADS, dim_head=8
        )
        kind = getattr(importlib.import_module(f"vit_pytorch.{room}"), name)
        return kind(mlp_dim=48, **sizes | given)

    kind = Kind("vit-pytorch", label, build, reference, prefix, reads)
    kind.keywords = dict(
        image_size=...
    )  # it keeps no size of images; the test gives the one it was built for
    return kind


def vit_pytorch_kinds() -> list[Kind]:
    kind = vit_pytorch_kind
    return [
        kind("ViT", "vit", "ViT", 1, "token"),
        kind("ViT, mean", "vit", "ViT", 0, "mean", pool="mean"),
        kind("SimpleViT", "simple_vit", "SimpleViT", 0, "mean"),
        kind("SimpleViT, flash", "simple_flash_attn_vit", "SimpleViT", 0, "mean", of_queries_and_keys),
        kind("SimpleViT, QK-norm", "simple_vit_with_qk_norm", "SimpleViT", 0, "mean"),
        kind("for small data, mean with prefix", "vit_for_small_dataset", "ViT", 1, "mean_all", pool="mean"),
        kind("parallel branches", "parallel_vit", "ViT", 1, "token", two_branches),
        kind("with memory tokens", "learnable_memory_vit", "ViT", 1, "token"),
    ]


def all_kinds() -> list[Kind]:
    torchvision_kinds = [
        torchvision_kind(name, patch)
        for name, patch in dict(vit_b_16=16, vit_b_32=32, vit_l_16=16, vit_l_32=32, vit_h_14=14).items()
    ]
    return timm_kinds() + torchvision_kinds + transformers_kinds() + clip_kinds() + vit_pytorch_kinds()
