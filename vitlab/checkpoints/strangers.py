"""What a file holds that no ViT of vitlab's is: whose model, which kind by its arrays, and what to do."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from vitlab.checkpoints.remedies import instead


class Kind(NamedTuple):
    """A kind of model: what its arrays are called, what it is, and of which library alone, if of one."""

    names: str  # a regular expression
    what: str
    library: str | None = None
    attention: bool = True  # whether there is any to be seen
    weak: bool = False  # whether it counts only where there is no other


# Whose model has such names; the first that fits.
LIBRARIES = {
    "Google": r"Transformer/encoderblock|(^|/)embedding/kernel$|MixerBlock_|^params/",
    "vit-pytorch": r"to_patch|\.to_(qkv|kv|q|keys)\b|\.to_qkv_and_mask\.|^(layers|attn_pool)\..*\.g(amma)?$",
    "torchvision": r"encoder\.layers\.encoder_layer_\d+\.|^conv_proj\.",
    "open_clip": r"(^|\.)visual\.",
    "Hugging Face": r"embeddings\.(cls|class|patch|position|register|mask)_?|self_attn\.[kqv]_proj|"
    r"attention\.[kqvo]_proj|(embed_tokens|word_embeddings|lm_head)\.|(^|\.)encoder\.layers?\.\d|"
    r"^(model\.)?layers?\.\d+\.(attention|layer_?norm)",
    "timm": r"(^|\.)(patch_embed|blocks\.\d+|stem|stages)\.|^conv1\.weight$",
}
GATED = "a ViT with a gated MLP (SwiGLU)"
OTHER = "another model of Hugging Face than its ViT"
HF, LUCID = "Hugging Face", "vit-pytorch"
KINDS = (
    Kind(r"patch_embed\.backbone\.", "a hybrid on another stem than Google's ResNets (R26, R50)"),
    Kind(r"dist_token|distillation_token", "a distilled DeiT, with a second class token"),
    Kind(
        r"relative_position_(bias_table|index)|cpb_mlp\.|continuous_position_bias_mlp\.",
        "a Swin Transformer or a BEiT, with relative positions",
    ),
    Kind(r"(?<!relative_)(rel_pos|pos_proj)", "a ViT with relative positions"),
    Kind(r"reg_token|register_tokens|storage_tokens", "a ViT with register tokens (DINOv2 and later)"),
    Kind(r"^blocks_token_only\.|attn\.proj_[lw]\.", "a CaiT, with mixed heads and a late class token"),
    Kind(r"(norm_pre|pre_layrnorm)\.|visual\.ln_pre\.", "a CLIP, with a norm before its first block"),
    Kind(
        r"visual\.|vision_model\.|self_attn\.|class_embedding", "the image half of a CLIP, a SigLIP or a BLIP"
    ),
    Kind(
        r"attn_pool(\.|_queries)|MAPHead_0/|(^|\.)head\.(probe|attention)",
        "a ViT whose head pools by attention (SigLIP, big_vision)",
    ),
    Kind(
        r"\.(q_norm|k_norm|norm_q|norm_k|q_scale|k_scale|key_norm|query_norm)\b",
        "a ViT that normalises queries and keys",
    ),
    Kind(r"(^|[._])(rope|rotary)|freqs|inv_freq|\.periods$", "a ViT with rotary positions (RoPE)"),
    Kind(r"mlp\.(fc1_[gx]|w\d+|gate_proj|weights_in)\.", GATED),
    Kind(
        r"attn\.[qv]_bias|attention\.[qv]_bias",
        "a BEiT, an EVA or a VideoMAE, whose queries and values alone have biases",
    ),
    Kind(r"\.attns\.|attn_out_proj|in_proj\.", "a ViT whose blocks have attention and MLP side by side"),
    Kind(r"attn\.temperature$", "an XCiT, whose channels attend to each other", "timm"),
    Kind(r"attn_in\.", "a TNT, with Transformers within its patches", "timm"),
    Kind(r"attn\.lambda_", "a ViT whose attention is a difference of two (DiffAttention)"),
    Kind(r"\.(attn|mlp)\.norm\.", "a ViT with norms within attention or MLP, as in a BEiT-3", "timm"),
    Kind(
        r"Transformer/encoderblock/",
        "a ViT of big_vision with all layers in one array (scan); save each apart",
    ),
    Kind(r"^embeddings\.projection\.", "a VitDet, for detection", HF),
    Kind(r"embeddings\.patch_embed\.", "an AIMv2, with RMSNorm and gated MLPs", HF),
    Kind(r"(?<!encoder\.)layers\.\d+\.layer_norm1", "a SAM 3 or the like, with rotary positions", HF),
    Kind(
        r"(^|\.)(radio_model|input_conditioner)\.|cls_register_token",
        "a RADIO, which normalises images itself and has class tokens and registers in one array",
        HF,
    ),
    Kind(r"^patch_conv\.", "a Pixtral, with rotary positions", HF),
    Kind(r"detection_tokens", "a YOLOS, for detection"),
    Kind(r"^beit\.", f"a BEiT, {OTHER}"),
    Kind(r"^data2vec_vision\.", f"a Data2Vec, {OTHER}"),
    Kind(r"^ijepa\.", f"an I-JEPA, {OTHER}"),
    Kind(r"^pixio\.|encoder\.embeddings\.cls_token", f"a Pixio, {OTHER}", HF),
    Kind(r"^(videomae|vivit|dpt|pvt)\.", OTHER),
    Kind(
        r"(encoder\.layer|layers)\.\d+\.lambda_[12]",
        f"a BEiT, a Data2Vec or an InternVL, {OTHER}",
        HF,
        weak=True,
    ),
    Kind(r"^(model\.)?layer\.\d+\.(attention|mlp|layer_scale)", "a DINOv3, with rotary positions", HF),
    Kind(
        r"encoder\.layer\.\d+\.attention\.attention\.key\.",
        f"a VitPose, for poses, or {OTHER}",
        HF,
        weak=True,
    ),
    Kind(r"time_embeddings|temporal", "a Transformer for video", HF),
    Kind(r"mlp_tokens\.|MixerBlock_|token_mixing", "an MLP-Mixer", attention=False),
    Kind(
        r"decoder|(?<!embeddings\.)mask_token",
        "a masked auto-encoder with its decoder, or a model for masked images",
    ),
    Kind(
        r"layer\d\.\d+\.conv\d|stages\.\d.*conv|root_block/|(^|\.)bn\d\.|running_mean",
        "a convolutional network",
        attention=False,
    ),
    Kind(r"(^|\.)(wte|wpe|embed_tokens|word_embeddings|lm_head)\.", "a language model", attention=False),
    # vit-pytorch's modules, with what tells each
    Kind(r"norm\.fns\.", "simple_vit_with_specialized_cls, with norms of its own for class tokens", LUCID),
    Kind(r"\.\d\.fns\.", "parallel_vit, with branches side by side", LUCID),
    Kind(r"reattn_", "deepvit, which mixes the weights of all heads", LUCID),
    Kind(r"to_patch_tokens", "vit_for_small_dataset, with shifted patches", LUCID),
    Kind(r"to_q\.conv\.", "rvt, with convolutions and rotary positions", LUCID),
    Kind(r"memories|memory", "learnable_memory_vit, with tokens of memory", LUCID),
    Kind(r"to_freq_", "simple_vit_with_fft, with patches of frequencies", LUCID),
    Kind(r"to_residual_mix", "simple_vit_with_value_residual", LUCID),
    Kind(r"to_qkv_and_mask", "simple_vit_with_sparse_gating", LUCID),
    Kind(r"dynamic_alpha", "simple_vit_with_hyper_connections", LUCID),
    Kind(r"\.block\.(norm|net)\.", "simple_vit_orthog_residual_update", LUCID),
    Kind(r"attn_res|final_pool", "simple_vit_attn_residual, which reads all earlier layers", LUCID),
    Kind(r"post_norms", "vit_with_keel_post_ln, with norms behind each half of a block", LUCID),
    Kind(r"patch_merger", "vit_with_patch_merger", LUCID),
    Kind(r"to_patch_embedding\.\d+\.layers\.", "t2t, whose patches come from Transformers", LUCID),
    Kind(r"fn\.fn\.net\.3\.net", "local_vit, with convolutions in the MLP", LUCID),
    Kind(r"\.options\.", "jet_vit, with several kinds of attention", LUCID),
    Kind(r"^jumbo_", "jumbo_vit, with a wide class token", LUCID),
    Kind(r"loop(ed)?\.layers", "looped_vit", LUCID),
    Kind(r"^(spatial|temporal)_", "vivit, for video", LUCID),
    Kind(r"^(cls|patch|xcit)_transformer\.", "cait or xcit", LUCID),
    Kind(r"parametrizations\.", "normalized_vit", LUCID),
    Kind(r"to_kv\.net\.", "cvt, with convolutions before attention", LUCID),
    Kind(r"^multi_scale_encoder\.", "cross_vit, with patches of two sizes", LUCID),
    Kind(r"\.dpb\.", "crossformer, with relative positions", LUCID),
    Kind(r"^layers\.\d+\.0\.proj\.", "twins_svt", LUCID),
    Kind(r"^layers\.\d+\.\d\.pos_emb$", "nest, with blocks of patches", LUCID),
    Kind(r"\.downsample\.|\.cls_ff\.", "pit, with pooling between layers", LUCID),
    Kind(r"window_tokens", "sep_vit, with windows", LUCID),
    Kind(r"local_interactive_module", "scalable_vit, with windows", LUCID),
    Kind(r"^backbone\.\d+\.layers\.\d+\.0\.to_k\.", "levit, with convolutions", LUCID),
    Kind(r"^trunk\.\d+\.\d+\.transformer\.", "mobile_vit, with convolutions", LUCID),
    Kind(r"^highres_norm\.", "look_vit, with patches of two sizes", LUCID),
    Kind(
        r"to_(q|kv|keys)\b",
        "a ViT whose queries come apart from keys and values (such as learnable_memory_vit)",
        LUCID,
        weak=True,
    ),
    Kind(
        r"layers\.\d+\.1\.norm\.",
        "a ViT whose MLP has its norm outside (such as vit_with_decorr)",
        LUCID,
        weak=True,
    ),
    Kind(
        r"_head\.1\.",
        "a ViT with a norm in its head, as older versions and vit_with_patch_dropout have",
        LUCID,
        weak=True,
    ),
)
# What a ViT is whose every block, or which itself, lacks such arrays.
ABSENCES = {
    "timm": {
        r"norm\d?\.bias$": "one with RMSNorm, or with norms without bias",
        r"(attn\.proj|mlp\.fc\d)\.bias$": "one without biases in its projections (proj_bias=False)",
        r"^(fc_)?norm\.weight$": "one without a norm at the end (final_norm=False)",
        r"^pos_embed$": "one without position embeddings (pos_embed='none', or rotary)",
    },
    HF: {
        r"embeddings\.cls_token$": "one without a class token, as an I-JEPA",
        r"layer_scale\d\.lambda1$": "a Pixio, or another of its models without layer scale",
        r"embeddings\.position_embeddings$": "one without position embeddings",
    },
    LUCID: {
        r"^pos_embedding$": "one without position embeddings",
        r"^transformer\.norm\.": "one without a norm at the end, as its ViTs for video",
    },
}
LEFTOVERS = r"^(ema|opt|optim\w*|sched\w*|criterion|loss|step|epoch|global_step|scaler|queue)([._/]|$)"


def library_of(names: Iterable[str]) -> str | None:
    """The library whose models have such names, or None.

    >>> library_of(["visual.ln_pre.weight"])
    'open_clip'
    """
    names = list(names)
    found = (library for library, pattern in LIBRARIES.items() if any(re.search(pattern, n) for n in names))
    return next(found, None)


def kinds(
    names: Iterable[str], library: str | None = None, more: dict[str, str] | None = None
) -> dict[str, Kind]:
    """A name of every kind that no ViT of vitlab's is, and the kind; `more` are a layout's own.

    A weak one, or one without attention, counts where there is no other.

    >>> [kind.what for kind in kinds(["cls_token", "dist_token"]).values()]
    ['a distilled DeiT, with a second class token']
    """
    names, found = list(names), {}
    own = [Kind(pattern, what) for pattern, what in (more or {}).items()]
    for kind in [kind for kind in (*KINDS, *own) if kind.library in (None, library)]:
        if (name := next((n for n in names if re.search(kind.names, n)), None)) is not None:
            found.setdefault(name, kind)
    return {name: kind for name, kind in found.items() if kind.attention and not kind.weak} or found


def listed(names: list[str]) -> str:
    """At most three names, and how many more there are.

    >>> listed(["a", "b", "c", "d"])
    "'a', 'b', 'c' and 1 more"
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def stranger(
    arrays: dict[str, Tensor], extra: list[str], layout, known: str, named: tuple | None, prefix: str = ""
) -> str:
    """What to say of a file with arrays that vitlab's ViT has no place for, after the file's name.

    `layout` is that of its blocks, if any is; `named` the library and what its config.json calls the model;
    `prefix` what stands before all that a layout would fit.
    """
    library = named[0] if named else library_of(arrays) or (layout and layout.library)
    whose = f" is of {library} ({named[1]}). It" if named else ""
    # an empty array stands for what the model could have, and does not
    telling = [name for name in extra if arrays[name].numel()] or extra
    found = kinds(telling, library, layout.strangers if layout else {})
    what = told(found) or (f"another model of {library} than its ViT" if library else "")
    load = instead(library, attention=all(kind.attention for kind in found.values()))
    load = f"{load[0].upper()}{load[1:]}"
    if layout:
        whose += (
            f" has names as of a {layout.library} ViT, but also arrays that vitlab's ViT has no place for"
        )
        if all(re.search(LEFTOVERS, name) for name in extra):
            load = "Load it with the library that made it, or take them out if nothing reads them"
            return f"{whose}: {listed(extra)}. {load}"
        by = f" of {library}" if library != layout.library and library not in what and not named else ""
        return f"{whose}: {listed(extra)}. It seems to be {what}{by}. {load}"
    if prefix and not found:
        return (
            f"{whose} has the names of a ViT behind {prefix!r}, as of a part of another model, or as "
            "training in parallel writes them: save that part's own state dict, with no prefix to its names"
        )
    if what:
        by = f", of {library}" if library and not named and library not in what else ""
        return f"{whose} holds {what}{by}, not a ViT that vitlab knows ({known}). {load}"
    return (
        f"{whose} holds no ViT that vitlab knows: its arrays, {listed(extra) or 'none at all'}, are called "
        f"as in none of vitlab, {known}. Save the model's own state dict, with no prefix to its names"
    )


def told(found: dict[str, Kind]) -> str:
    """Kinds in words, each with a name that says so.

    >>> told(kinds(["reg_token"]))
    "a ViT with register tokens (DINOv2 and later) ('reg_token')"
    """
    words = []
    for name, kind in found.items():
        module = kind.library == LUCID and not kind.weak  # the others begin with "a"
        words.append(f"{LUCID}'s {kind.what} ({name!r})" if module else f"{kind.what} ({name!r})")
    return ", and ".join(words)


def without(library: str, missing: list[str], depth: int) -> str:
    """What a model of a library is that lacks these arrays, or nothing where it may be a damaged file.

    >>> without("timm", ["pos_embed"], depth=2)
    "one without position embeddings (pos_embed='none', or rotary)"
    """
    patterns, gone = ABSENCES.get(library, {}), set(missing)
    missing = [n for n in missing if not n.endswith(".bias") or f"{n.removesuffix('bias')}weight" not in gone]
    rows = [re.sub(r"(?<=\.)\d+(?=\.)", "*", name, count=1) for name in missing]
    whole = all(
        "*" in name or "*" not in row or rows.count(row) == depth
        for name, row in zip(missing, rows, strict=True)
    )
    found = [[what for pattern, what in patterns.items() if re.search(pattern, name)][:1] for name in missing]
    return " and ".join(dict.fromkeys(what for (what,) in found)) if whole and all(found) else ""
