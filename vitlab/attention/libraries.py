"""How five libraries say what their Vision Transformers are; only what stands on the object is read."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitlab.attention.describing import Description, first_channels, prefix_of
from vitlab.attention.refusing import refuse_known
from vitlab.merging import refuse_merged
from vitlab.vit import ViT


def describe(model: nn.Module) -> Description:
    """What a model's object says of itself; raises ValueError for one that is known to be something else.

    >>> from vitlab import ViTConfig
    >>> describe(ViT(ViTConfig())).num_prefix_tokens
    1
    """
    refuse_known(model)
    refuse_merged(model)
    for kind in type(model).__mro__:  # a subclass says what its library's class says
        reader = READERS.get(kind.__module__.partition(".")[0])
        if reader:
            return reader(model)
    return Description(channels=first_channels(model))


def of_vitlab(model: nn.Module) -> Description:
    if not isinstance(model, ViT):
        return Description()
    config = model.config
    return Description(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_prefix_tokens=config.num_prefix_tokens,
        prefix=prefix_of(config.num_class_tokens, config.num_registers),
        reads="pair" if config.distilled else config.pool,
        channels=config.in_chans,
        mean=(0.5,) * config.in_chans,  # its images are in [-1, 1]
        std=(0.5,) * config.in_chans,
        blocks=model.blocks,
        classifies=bool(config.num_classes),
    )


def of_timm(model: nn.Module) -> Description:
    embed = getattr(model, "embeds", None) or getattr(model, "patch_embed", None)
    config = getattr(model, "pretrained_cfg", None) or {}
    channels = getattr(model, "in_chans", None) or first_channels(model)
    size = getattr(embed, "default_img_size", None) or getattr(embed, "img_size", None)
    if size is None and config.get("input_size"):
        size = config["input_size"][1:]
    patch = embed.feat_ratio() if hasattr(embed, "feat_ratio") else getattr(embed, "patch_size", None)
    segmenting = type(model).__name__ == "VisionTransformerSAM"  # patches alone, global or within windows
    known = config.get("mean") is not None and len(config["mean"]) == channels
    return Description(
        image_size=size,
        patch_size=patch,
        num_prefix_tokens=0 if segmenting else getattr(model, "num_prefix_tokens", None),
        prefix=timm_prefix(model),
        reads=timm_reads(model),
        channels=channels,
        mean=config["mean"] if known else None,
        std=config["std"] if known else None,
        blocks=getattr(model, "blocks", None),
        rounds_up=bool(getattr(embed, "dynamic_img_pad", False)),
        classifies=bool(getattr(model, "num_classes", 0)) and getattr(model, "global_pool", "") != "",
        parallel=any(type(each).__name__ == "ParallelThingsBlock" for each in model.modules()),
    )


def timm_prefix(model: nn.Module) -> tuple[str, ...]:
    """The tokens before the patches by name, in the order in which timm puts them there."""
    holder = getattr(model, "embeds", None) or model
    kinds = dict(cls_token="class token", dist_token="distillation token")
    names = [name for each, name in kinds.items() if getattr(holder, each, None) is not None]
    registers = getattr(holder, "reg_token", None)
    count = 0 if registers is None else registers.shape[1]
    return (*names, *(f"register {number + 1}" for number in range(count)))


def timm_reads(model: nn.Module) -> str | None:
    if hasattr(model, "dist_token"):
        return "pair"
    pool = getattr(model, "global_pool", None)
    over = {"avg": "mean", "max": "max", "avgmax": "mean+max"}.get(pool)
    if over:
        return over + ("_all" if getattr(model, "pool_include_prefix", False) else "")
    return {"token": "token", "map": "attention", "": "tokens"}.get(pool)


def of_torchvision(model: nn.Module) -> Description:
    stem = getattr(model, "conv_proj", None)
    return Description(
        image_size=getattr(model, "image_size", None),
        patch_size=getattr(model, "patch_size", None),
        num_prefix_tokens=1 if hasattr(model, "class_token") else None,
        prefix=("class token",),
        reads="token" if hasattr(model, "class_token") else None,
        channels=None if stem is None else first_channels(stem),
        blocks=model.encoder.layers if hasattr(model, "class_token") else None,
        classifies=hasattr(model, "class_token") or None,
    )


def of_open_clip(model: nn.Module) -> Description:
    if hasattr(model, "visual"):
        raise ValueError(f"{type(model).__name__} looks at pictures and words; attach its model.visual")
    if hasattr(model, "trunk"):
        return of_timm_in_open_clip(model)
    if not hasattr(model, "class_embedding"):
        return Description(channels=first_channels(model))
    pooled = "attention" if model.attn_pool is not None else None
    return Description(
        image_size=model.image_size,
        patch_size=model.patch_size,
        num_prefix_tokens=1,
        prefix=("class token",),
        reads=pooled or {"tok": "token", "avg": "mean", "none": "tokens"}[model.pool_type],
        channels=first_channels(model),
        mean=getattr(model, "image_mean", None),
        std=getattr(model, "image_std", None),
        blocks=model.transformer.resblocks,
        classifies=False,
        call=lambda model, images: model(images)[0] if model.output_tokens else model(images),
    )


def of_timm_in_open_clip(model: nn.Module) -> Description:
    inner = describe(model.trunk)
    inner.classifies = False
    inner.image_size = inner.image_size or tuple(model.image_size)
    inner.mean = getattr(model, "image_mean", None) or inner.mean
    inner.std = getattr(model, "image_std", None) or inner.std
    return inner


def of_vit_pytorch(model: nn.Module) -> Description:
    """No kind keeps the size of its images, and what stands before the patches is known of these alone."""
    room = type(model).__module__.rpartition(".")[2]
    found = vit_pytorch_patches(model)
    if room == "simple_vit_with_register_tokens":
        raise ValueError("this SimpleViT's registers stand behind its patches, where no prefix is")
    if room in VIT_PYTORCH_WITHOUT_PREFIX:
        found.num_prefix_tokens, found.reads = 0, "mean"
        found.classifies = isinstance(model.linear_head, nn.Linear)  # of one kind it is a norm
    elif room in VIT_PYTORCH_WITH_CLASS_TOKEN and isinstance(getattr(model, "cls_token", None), Tensor):
        found.num_prefix_tokens, found.prefix = model.cls_token.shape[-2], ("class token",)
        mean = "mean_all" if found.num_prefix_tokens else "mean"
        found.reads = mean if getattr(model, "pool", "cls") == "mean" else "token"
        found.classifies = model.mlp_head is not None
        if not found.classifies:
            found.reads = "tokens"
    if hasattr(model, "transformer"):
        found.blocks = getattr(model.transformer, "layers", None)
    found.parallel = room == "parallel_vit"
    return found


VIT_PYTORCH_WITHOUT_PREFIX = {
    "simple_vit",
    "simple_flash_attn_vit",
    "simple_vit_with_patch_dropout",
    "simple_vit_with_qk_norm",
    "simple_vit_with_value_residual",
    "simple_vit_orthog_residual_update",
}
VIT_PYTORCH_WITH_CLASS_TOKEN = {
    "vit",
    "vit_for_small_dataset",
    "vit_with_patch_dropout",
    "parallel_vit",
    "learnable_memory_vit",
    "deepvit",
}


def vit_pytorch_patches(model: nn.Module) -> Description:
    """The patch size and channels, which the layer that cuts images into patches carries."""
    from einops.layers.torch import Rearrange

    modules = list(getattr(model, "to_patch_embedding", nn.Identity()).modules())
    for place, cut in enumerate(modules):
        if isinstance(cut, Rearrange) and {"p1", "p2"} <= cut.axes_lengths.keys():
            patch = cut.axes_lengths["p1"], cut.axes_lengths["p2"]
            width = next((each.in_features for each in modules[place:] if isinstance(each, nn.Linear)), None)
            copies = 5 if hasattr(model.to_patch_embedding, "to_patch_tokens") else 1  # shifted pictures
            channels = None if width is None else width // (patch[0] * patch[1] * copies)
            return Description(patch_size=patch, channels=channels)
    return Description()


def of_transformers(model: nn.Module) -> Description:
    config, name = vision_config(model), type(model).__name__
    kind = getattr(config, "model_type", None)
    if hasattr(model, "decoder") and kind == "vit_mae":
        raise ValueError(f"{name} sees a part of the patches and paints the others; attach its model.vit")
    found = Description(
        image_size=getattr(config, "image_size", None),
        patch_size=getattr(config, "patch_size", None),
        num_prefix_tokens=transformers_prefix(kind, config),
        prefix=transformers_names(kind, config),
        reads=transformers_reads(model, kind, name),
        channels=getattr(config, "num_channels", None),
        blocks=transformers_blocks(model, config),
        classifies="ForImageClassification" in name,
    )
    if kind == "vit_mae":
        if config.mask_ratio:
            raise ValueError(
                f"{name} hides {config.mask_ratio:.0%} of the patches, in an order of chance; load it with "
                "mask_ratio=0.0"
            )
        found.call, found.check_call = in_order, check_in_order
    else:
        found.call = at_any_size
    return found


def vision_config(model: nn.Module):
    """The configuration of what looks at pictures; raises ValueError for a model that takes words as well."""
    config = getattr(model, "config", None)
    if not hasattr(config, "vision_config"):
        return config
    if "ForImageClassification" not in type(model).__name__:
        raise ValueError(
            f"{type(model).__name__} looks at pictures and words; attach its model.vision_model, or a class "
            "for pictures alone"
        )
    return config.vision_config


def transformers_prefix(kind: str | None, config) -> int | None:
    """Tokens before the patches, by the type of model: a type's embeddings put them there."""
    registers = getattr(config, "num_register_tokens", 0)
    return {
        "vit": 1,
        "deit": 2,
        "dinov2": 1,
        "dinov2_with_registers": 1 + registers,
        "dinov3_vit": 1 + registers,
        "clip_vision_model": 1,
        "clip": 1,
        "siglip_vision_model": 0,
        "siglip": 0,
        "aimv2_vision_model": 0,
        "vit_mae": 1,
        "vit_msn": 1,
        "ijepa": 0,
        "beit": 1,
        "data2vec-vision": 1,
        "sam_vision_model": 0,
    }.get(kind)


def transformers_names(kind: str | None, config) -> tuple[str, ...]:
    """The names of the tokens before the patches."""
    count = transformers_prefix(kind, config) or 0
    return prefix_of(2) if kind == "deit" else prefix_of(min(count, 1), count - 1)


def transformers_reads(model: nn.Module, kind: str | None, name: str) -> str | None:
    """What the tensor that a view gives is made of; see `output_tensor` for which that is."""
    if name.endswith("WithTeacher"):
        return "pair"
    if name.endswith("ForImageClassification"):
        by_kind = {"clip": "mean", "clip_vision_model": "mean", "siglip": "mean", "ijepa": "mean"} | {
            "siglip_vision_model": "mean",
            "dinov2": "token+mean",
            "dinov2_with_registers": "token+mean",
            "beit": "mean" if getattr(model.config, "use_mean_pooling", False) else "token",
        }
        by_kind["data2vec-vision"] = by_kind["beit"]
        return by_kind.get(kind, "token" if kind in ("vit", "deit", "vit_msn") else None)
    if name.endswith(("Model", "ModelWithProjection")):
        if kind in ("siglip_vision_model", "siglip", "aimv2_vision_model"):
            return "attention" if getattr(model, "use_head", False) else "tokens"
        if kind in ("beit", "data2vec-vision") and getattr(model, "pooler", None) is not None:
            return "mean" if model.config.use_mean_pooling else "token"
        if kind in ("vit", "deit", "ijepa", "beit", "data2vec-vision"):
            return "tokens" if getattr(model, "pooler", None) is None else "token"
        if kind in ("vit_mae", "vit_msn"):
            return "tokens"
        if kind in ("dinov2", "dinov2_with_registers", "dinov3_vit", "clip_vision_model", "clip"):
            return "token"
    return None


def transformers_blocks(model: nn.Module, config) -> nn.ModuleList | None:
    """The list that has as many parts as the configuration has hidden layers."""
    layers = getattr(config, "num_hidden_layers", None)
    lists = [each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each) == layers]
    return lists[0] if lists else None


def at_any_size(model: nn.Module, images: Tensor):
    """A call that has positions resized where the model does so on request only."""
    size = getattr(vision_config(model), "image_size", None)
    other = size is not None and tuple(images.shape[-2:]) != tuple(Description(image_size=size).image_size)
    if other and "interpolate_pos_encoding" in inspect.signature(model.forward).parameters:
        return model(images, interpolate_pos_encoding=True)
    return model(images)


def in_order(model: nn.Module, images: Tensor):
    """A call of an MAE encoder that keeps the patches in their order: without noise it shuffles them."""
    rows, columns = Description(patch_size=model.config.patch_size).grid(images.shape[-2:])
    noise = torch.arange(rows * columns, dtype=torch.float32, device=images.device).expand(len(images), -1)
    other = tuple(images.shape[-2:]) != Description(image_size=model.config.image_size).image_size
    return model(images, noise=noise, interpolate_pos_encoding=other)


def check_in_order(args: tuple, kwargs: dict) -> None:
    """Raises ValueError where an MAE encoder is called without a noise that keeps the patches in order."""
    noise = args[1] if len(args) > 1 else kwargs.get("noise")
    if noise is None or not bool((noise.diff(dim=-1) > 0).all()):
        raise ValueError(
            "called like this the model shuffles its patches, so that tokens would be drawn elsewhere: call "
            "view(images)"
        )


READERS: dict[str, Callable[[nn.Module], Description]] = {
    "vitlab": of_vitlab,
    "timm": of_timm,
    "torchvision": of_torchvision,
    "open_clip": of_open_clip,
    "vit_pytorch": of_vit_pytorch,
    "transformers": of_transformers,
}
