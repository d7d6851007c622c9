"""The names and shapes that other libraries give a ViT's weights, as tables."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor

from vitlab.checkpoints.stems import features, google_stem, timm_stem
from vitlab.checkpoints.tables import Row, pair, same


class Layout(NamedTuple):
    """How one library writes a ViT."""

    library: str
    block: str  # a regular expression that a block's arrays match
    table: Callable[[dict[str, Tensor]], dict[str, Row]]
    assumed: dict  # fields that the arrays do not say
    resize: str | None  # the library's own rule for position embeddings
    strangers: dict[str, str] = {}  # arrays of some of its models: a regular expression, and what it is


NORM, FC1, FC2 = same("d"), same("m d"), same("d m")


def layer_scales(attention: str, mlp: str) -> dict[str, Row]:
    """The rows of layer scale, D numbers that multiply what each half of a block adds (arXiv 2103.17239)."""
    return {
        f"blocks.*.{half}.scale": Row((name,), NORM) for half, name in (("attn", attention), ("mlp", mlp))
    }


def timm(arrays: dict[str, Tensor]) -> dict[str, Row]:
    """timm's VisionTransformer. With average pooling the final norm is `fc_norm`, unless told otherwise.

    Versions before 0.8 had the hidden layer of the pre-training head, `pre_logits`. DINOv2 and DeiT-III have
    layer scale, DeiT-III's authors under other names; `mask_token` stood for patches in DINOv2's training.
    VisionTransformerDistilled has a second class token, with a head.
    """
    stem = timm_stem(arrays)
    scales, mask = {}, {}
    for one, two in (("ls1.gamma", "ls2.gamma"), ("gamma_1", "gamma_2")):
        if any(name.startswith("blocks.") and name.endswith((f".{one}", f".{two}")) for name in arrays):
            scales = layer_scales(f"blocks.*.{one}", f"blocks.*.{two}")
            mask = {"mask_token": Row(("mask_token",), same("1 d"))}
    second = {}
    if any(name == "dist_token" or name.startswith("head_dist.") for name in arrays):
        second = {"dist_token": Row(("dist_token",), same("1 t d"))}
        second |= pair("head_dist", "head_dist", same("l d"))
    norm = "fc_norm" if any(name.startswith("fc_norm.") for name in arrays) else "norm"
    classes = "l r" if any(name.startswith("pre_logits.") for name in arrays) else "l d"
    return {
        "cls_token": Row(("cls_token",), same("1 t d")),
        "reg_token": Row(("reg_token",), same("1 g d")),
        "pos_embed": Row(("pos_embed",), same("1 n d")),
        **stem,
        **pair("patch_embed.proj", "patch_embed.proj", same(f"d {features(stem)} p q")),
        **pair("blocks.*.norm1", "blocks.*.norm1", NORM),
        **pair("blocks.*.attn.qkv", "blocks.*.attn.qkv", same("(s i) d"), same("(s i)")),
        **pair("blocks.*.attn.proj", "blocks.*.attn.proj", same("d i")),
        **pair("blocks.*.norm2", "blocks.*.norm2", NORM),
        **pair("blocks.*.mlp.fc1", "blocks.*.mlp.fc1", FC1),
        **pair("blocks.*.mlp.fc2", "blocks.*.mlp.fc2", FC2),
        **scales,
        **mask,
        **pair("norm", norm, NORM),
        **pair("pre_logits.fc", "pre_logits.fc", same("r d")),
        **pair("head", "head", same(classes)),
        **second,
    }


POSITIONS = "Transformer/posembed_input/pos_embedding"


def google(arrays: dict[str, Tensor]) -> dict[str, Row]:
    """Google's .npz: the released names, numbered through the block, or the current ones, by kind.

    big_vision, which has the current ones, calls positions `pos_embedding`. A SimpleViT has none, as they are
    fixed, and no class token.
    """
    released = any(re.search(r"/(MultiHeadDotProductAttention_1|LayerNorm_2|MlpBlock_3)/", n) for n in arrays)
    block, (attn, norm2, mlp) = "Transformer/encoderblock_*/", ((1, 2, 3) if released else (0, 1, 0))
    attn, mlp = f"{block}MultiHeadDotProductAttention_{attn}/", f"{block}MlpBlock_{mlp}/"

    def dense(ours: str, theirs: str, kernel: str, bias: str) -> dict[str, Row]:
        return {
            f"{ours}.weight": Row((f"{theirs}/kernel",), kernel),
            f"{ours}.bias": Row((f"{theirs}/bias",), same(bias)),
        }

    def norm(ours: str, theirs: str) -> dict[str, Row]:
        return {
            f"{ours}.weight": Row((f"{theirs}/scale",), NORM),
            f"{ours}.bias": Row((f"{theirs}/bias",), NORM),
        }

    qkv = [f"{attn}{part}" for part in ("query", "key", "value")]
    classes = "r" if any(name.startswith("pre_logits/") for name in arrays) else "d"
    embedding = "pos_embedding" if "pos_embedding" in arrays else POSITIONS
    tokens = {"cls_token": Row(("cls",), same("1 t d")), "pos_embed": Row((embedding,), same("1 n d"))}
    simple = not released and not {"cls", embedding} & set(arrays)
    channels = features(stem := google_stem(arrays))
    return {
        **({} if simple else tokens),
        **stem,
        **dense("patch_embed.proj", "embedding", f"p q {channels} d -> d {channels} p q", "d"),
        **norm("blocks.*.norm1", f"{block}LayerNorm_0"),
        "blocks.*.attn.qkv.weight": Row(tuple(f"{part}/kernel" for part in qkv), "d h k -> (h k) d"),
        "blocks.*.attn.qkv.bias": Row(tuple(f"{part}/bias" for part in qkv), "h k -> (h k)"),
        **dense("blocks.*.attn.proj", f"{attn}out", "h k d -> d (h k)", "d"),
        **norm("blocks.*.norm2", f"{block}LayerNorm_{norm2}"),
        **dense("blocks.*.mlp.fc1", f"{mlp}Dense_0", "d m -> m d", "m"),
        **dense("blocks.*.mlp.fc2", f"{mlp}Dense_1", "m d -> d m", "d"),
        **norm("norm", "Transformer/encoder_norm"),
        **dense("pre_logits.fc", "pre_logits", "d r -> r d", "r"),
        **dense("head", "head", f"{classes} l -> l {classes}", "l"),
    }


def hugging_face(arrays: dict[str, Tensor]) -> dict[str, Row]:
    """Hugging Face's ViT or DeiT: names as in its files or in memory, with classifiers or the model alone."""
    vit = next((lead for lead in ("vit.", "deit.") if any(name.startswith(lead) for name in arrays)), "")
    head = pair("pre_logits.fc", f"{vit}pooler.dense", same("r d"))
    if any(name.startswith("classifier.") for name in arrays):
        head = pair("head", "classifier", same("l d"))
    head |= distillation_token(f"{vit}embeddings.distillation_token", arrays)
    memory = any(".attention.q_proj." in name or ".mlp.fc1." in name for name in arrays)
    block = f"{vit}layers.*." if memory else f"{vit}encoder.layer.*."
    fc1, fc2 = ("mlp.fc1", "mlp.fc2") if memory else ("intermediate.dense", "output.dense")
    return {
        "cls_token": Row((f"{vit}embeddings.cls_token",), same("1 t d")),
        "pos_embed": Row((f"{vit}embeddings.position_embeddings",), same("1 n d")),
        **pair("patch_embed.proj", f"{vit}embeddings.patch_embeddings.projection", same("d c p q")),
        **pair("blocks.*.norm1", f"{block}layernorm_before", NORM),
        **hugging_face_attention(block, memory),
        **pair("blocks.*.norm2", f"{block}layernorm_after", NORM),
        **pair("blocks.*.mlp.fc1", f"{block}{fc1}", FC1),
        **pair("blocks.*.mlp.fc2", f"{block}{fc2}", FC2),
        **pair("norm", f"{vit}layernorm", NORM),
        **head,
    }


def distillation_token(name: str, arrays: dict[str, Tensor]) -> dict[str, Row]:
    """The rows of a DeiT's second class token, with its head, or as a register where nothing reads it."""
    if any(each.startswith(("cls_classifier", "distillation_classifier")) for each in arrays):
        heads = pair("head", "cls_classifier", same("l d"))
        heads |= pair("head_dist", "distillation_classifier", same("l d"))
        return {"dist_token": Row((name,), same("1 t d")), **heads}
    return {"reg_token": Row((name,), same("1 g d"))} if name in arrays else {}


def hugging_face_attention(block: str, memory: bool) -> dict[str, Row]:
    """The rows of its attention, whose names are others in memory than in files."""
    names = [f"attention.{part}_proj" for part in "qkvo"]
    if not memory:
        names = [f"attention.attention.{part}" for part in ("query", "key", "value")]
        names += ["attention.output.dense"]
    *qkv, proj = (block + name for name in names)
    return {
        "blocks.*.attn.qkv.weight": Row(tuple(f"{part}.weight" for part in qkv), same("i d")),
        "blocks.*.attn.qkv.bias": Row(tuple(f"{part}.bias" for part in qkv), same("i")),
        **pair("blocks.*.attn.proj", proj, same("d i")),
    }


def dinov2(arrays: dict[str, Tensor]) -> dict[str, Row]:
    """Hugging Face's Dinov2Model, with registers or without: a ViT with layer scale.

    Its `mask_token` is for training. A classifier's head reads class token and mean side by side.
    """
    lead = next((found[0] for name in arrays if (found := re.match(r"dinov2\w*\.", name))), "")
    embeddings, block = f"{lead}embeddings.", f"{lead}encoder.layer.*."
    return {
        "cls_token": Row((f"{embeddings}cls_token",), same("1 t d")),
        "reg_token": Row((f"{embeddings}register_tokens",), same("1 g d")),
        "mask_token": Row((f"{embeddings}mask_token",), same("1 d")),
        "pos_embed": Row((f"{embeddings}position_embeddings",), same("1 n d")),
        **pair("patch_embed.proj", f"{embeddings}patch_embeddings.projection", same("d c p q")),
        **pair("blocks.*.norm1", f"{block}norm1", NORM),
        **hugging_face_attention(block, any(".attention.q_proj." in name for name in arrays)),
        **pair("blocks.*.norm2", f"{block}norm2", NORM),
        **pair("blocks.*.mlp.fc1", f"{block}mlp.fc1", FC1),
        **pair("blocks.*.mlp.fc2", f"{block}mlp.fc2", FC2),
        **layer_scales(f"{block}layer_scale1.lambda1", f"{block}layer_scale2.lambda1"),
        **pair("norm", f"{lead}layernorm", NORM),
        **pair("head", "classifier", same("l o")),
    }


def torchvision(arrays: dict[str, Tensor]) -> dict[str, Row]:
    """torchvision's VisionTransformer. Version 0.12 called the layers of an MLP otherwise."""
    block = "encoder.layers.encoder_layer_*."
    old = any(".mlp.linear_" in name for name in arrays)
    fc1, fc2 = ("mlp.linear_1", "mlp.linear_2") if old else ("mlp.0", "mlp.3")
    hidden = any(name.startswith("heads.pre_logits.") for name in arrays)
    head = "heads.head" if any(name.startswith("heads.head.") for name in arrays) else "heads"
    return {
        "cls_token": Row(("class_token",), same("1 t d")),
        "pos_embed": Row(("encoder.pos_embedding",), same("1 n d")),
        **pair("patch_embed.proj", "conv_proj", same("d c p q")),
        **pair("blocks.*.norm1", f"{block}ln_1", NORM),
        "blocks.*.attn.qkv.weight": Row((f"{block}self_attention.in_proj_weight",), same("(s i) d")),
        "blocks.*.attn.qkv.bias": Row((f"{block}self_attention.in_proj_bias",), same("(s i)")),
        **pair("blocks.*.attn.proj", f"{block}self_attention.out_proj", same("d i")),
        **pair("blocks.*.norm2", f"{block}ln_2", NORM),
        **pair("blocks.*.mlp.fc1", f"{block}{fc1}", FC1),
        **pair("blocks.*.mlp.fc2", f"{block}{fc2}", FC2),
        **pair("norm", "encoder.ln", NORM),
        **pair("pre_logits.fc", "heads.pre_logits", same("r d")),
        **pair("head", head, same("l r" if hidden else "l d")),
    }


def vit_pytorch(arrays: dict[str, Tensor]) -> dict[str, Row]:
    """vit-pytorch's ViT or SimpleViT. Pixels come before channels in patches; older ones lack patch norms.

    A SimpleViT has fixed positions, no class token, no dropout layers and no bias in `attn.proj`.
    """
    simple = any(name.startswith("linear_head.") for name in arrays)
    norms = any(name.startswith(("to_patch_embedding.2.", "to_patch_embedding.3.")) for name in arrays)
    lead = {name: "1 " if array.ndim == 3 else "" for name, array in arrays.items()}
    layers = "transformer.layers.*"
    projection, flat = f"to_patch_embedding.{2 if norms else 1}", "(p q c) -> (c p q)"
    around = pair("patch_embed.norms.0", "to_patch_embedding.1", flat, flat)
    around |= pair("patch_embed.norms.1", "to_patch_embedding.3", NORM)
    tokens = {
        "cls_token": Row(("cls_token",), f"{lead.get('cls_token', '')}t d -> 1 t d"),
        "pos_embed": Row(("pos_embedding",), f"{lead.get('pos_embedding', '')}n d -> 1 n d"),
    }
    proj = pair("blocks.*.attn.proj", f"{layers}.0.to_out.0", same("d i"))
    if simple:
        proj = {"blocks.*.attn.proj.weight": Row((f"{layers}.0.to_out.weight",), same("d i"))}
    return {
        **({} if simple else tokens),
        **pair("patch_embed.proj", projection, "d (p q c) -> d c p q"),
        **(around if norms else {}),
        **pair("blocks.*.norm1", f"{layers}.0.norm", NORM),
        **pair("blocks.*.attn.qkv", f"{layers}.0.to_qkv", same("(s i) d"), same("(s i)")),
        **proj,
        **pair("blocks.*.norm2", f"{layers}.1.net.0", NORM),
        **pair("blocks.*.mlp.fc1", f"{layers}.1.net.1", FC1),
        **pair("blocks.*.mlp.fc2", f"{layers}.1.net.{3 if simple else 4}", FC2),
        **pair("norm", "transformer.norm", NORM),
        **pair("head", "linear_head" if simple else "mlp_head", same("l d")),
    }


LAYOUTS = (
    Layout("Google", r"Transformer/encoderblock_\d+/", google, dict(gelu="tanh", norm_eps=1e-6), "jax"),
    Layout("timm", r"blocks\.\d+\.", timm, dict(gelu="erf", norm_eps=1e-6), "timm"),
    Layout(
        "torchvision",
        r"encoder\.layers\.encoder_layer_\d+\.",
        torchvision,
        dict(gelu="erf", norm_eps=1e-6),
        "torchvision",
        {r"^conv_proj\.conv_": "a ViT whose patches come from a stem of convolutions (arXiv 2106.14881)"},
    ),
    Layout(
        "Hugging Face",
        r"(dinov2(_with_registers)?\.)?encoder\.layer\.\d+\.(norm[12]|layer_scale[12])\.",
        dinov2,
        dict(gelu="erf", norm_eps=1e-6),
        "hf",
    ),
    Layout(
        "Hugging Face",
        r"((vit|deit)\.)?(encoder\.layer|layers)\.\d+\.(attention|layernorm_|intermediate|output|mlp)",
        hugging_face,
        dict(gelu="erf", norm_eps=1e-12),
        "hf",
    ),
    Layout(
        "vit-pytorch",
        r"transformer\.layers\.\d+\.",
        vit_pytorch,
        dict(gelu="erf", norm_eps=1e-5),
        None,
    ),
)


def recognise(names: Iterable[str]) -> Layout | None:
    """The layout that has such names, or None. Only what blocks are called counts: any other may be missing.

    >>> recognise(["blocks.0.norm1.weight"]).library
    'timm'
    """
    names = list(names)
    return next((layout for layout in LAYOUTS if any(re.match(layout.block, n) for n in names)), None)


DECODER = r"decoder[._]|mask_token$"  # of a masked auto-encoder, its authors' or Hugging Face's


def alone(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's arrays by their own names, without those of its training.

    Google's code wrote both to one file. transformers has a wrapper around timm's models, and writes a prefix
    before half of the names of a ViT-MSN with a classifier. A masked auto-encoder's decoder is for training.

    >>> list(alone({"params/Transformer/encoderblock_0/LayerNorm_0/bias": 1, "opt/step": 2}))
    ['Transformer/encoderblock_0/LayerNorm_0/bias']
    """
    for prefix in ("params/", "opt/target/"):
        if any(name.startswith(f"{prefix}Transformer/") for name in arrays):
            return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    if any(re.match(r"(decoder\.)?decoder_pos_embed$", name) for name in arrays):
        arrays = {name: array for name, array in arrays.items() if not re.match(DECODER, name)}
    wrapped = bool(arrays) and all(name.startswith("timm_model.") for name in arrays)
    half = any(n.startswith("vit.embeddings.") for n in arrays) and any(
        n.startswith("encoder.") for n in arrays
    )
    prefix = "timm_model." if wrapped else "vit." if half else ""
    plain = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return plain if len(plain) == len(arrays) else arrays
