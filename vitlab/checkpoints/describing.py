"""What a file, or the config.json beside it, says of a model beyond its arrays, in `ViTConfig`'s words."""

import json
from pathlib import Path

from vitlab.checkpoints.architectures import told_by_name
from vitlab.checkpoints.reading import read_json
from vitlab.checkpoints.remedies import instead
from vitlab.checkpoints.saving import TOLD

GELUS = {  # names of the two kinds in Hugging Face and timm
    **dict.fromkeys(("gelu", "gelu_python"), "erf"),
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_tanh"), "tanh"),
}
HUGGING_FACE = {  # its names of fields, and its defaults where an older config.json leaves them out
    "num_heads": ("num_attention_heads", 12),
    "norm_eps": ("layer_norm_eps", 1e-12),
    "image_size": ("image_size", 224),
    "embed_dim": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12),
    "mlp_dim": ("intermediate_size", 3072),
    "in_chans": ("num_channels", 3),
    "patch_size": ("patch_size", 16),
    "qkv_bias": ("qkv_bias", True),
}
DINOV2 = HUGGING_FACE | {"norm_eps": ("layer_norm_eps", 1e-6), "patch_size": ("patch_size", 14)}
REGISTERS = DINOV2 | {"num_registers": ("num_register_tokens", 4), "patch_size": ("patch_size", 16)}
VITS = {  # Hugging Face's models that are this ViT, without masking
    **dict.fromkeys(("vit", "deit", "vit_msn", "vit_mae"), HUGGING_FACE),
    **dict(dinov2=DINOV2, dinov2_with_registers=REGISTERS),
}
KINDS_OF = {  # of fields; the others have whole numbers
    **dict(qkv_bias=bool, gelu=str, pool=str, plain=bool),
    **dict.fromkeys(("norm_eps", "dropout", "patch_dropout"), (int, float)),
}


MOST = 10**6  # no ViT has a larger number in its config; a file that says so must not make us reserve memory


def described(path: Path, library: str, metadata: dict[str, str], given: dict) -> dict:
    """The fields that a file's metadata or the config.json in its folder states, and whether it is `plain`.

    `path` is the file or its folder; config.json counts only if `library` wrote it. Raises ValueError for a
    damaged one, and for what vitlab's ViT cannot be.
    """
    if "vitlab" in metadata:  # written by save_checkpoint(layout="timm")
        return of_vitlab(path, metadata["vitlab"])
    file = (path if path.is_dir() else path.parent) / "config.json"
    if library not in ("Hugging Face", "timm") or not file.is_file():
        return {}
    config = read_json(file)
    said = {}
    if library == "Hugging Face" and "hidden_size" in config:
        said = of_hugging_face(file, config)
    if library == "timm" and "architecture" in config:
        said = of_timm(file, config, given)
    return checked(file, said)


def named(path: Path) -> tuple[str, str] | None:
    """The library whose config.json lies with a file, and what it calls the model; None without one."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    config = read_json(file) if file.is_file() else {}
    for key, library in (("architecture", "timm"), ("model_type", "Hugging Face")):
        if isinstance(config.get(key), str):
            return library, config[key]
    return None


def checked(file: Path, said: dict) -> dict:
    """The fields as they are. Raises ValueError for one whose value is not of its kind."""
    for name, value in said.items():
        numbers = value if name == "image_size" and isinstance(value, list) and len(value) == 2 else [value]
        kind = KINDS_OF.get(name, int)
        if not all(
            isinstance(number, kind) and (kind in (bool, str) or 0 < number <= MOST or "dropout" in name)
            for number in numbers
        ):
            raise ValueError(f"{file} is damaged: {name} cannot be {value!r}; copy or download it again")
    return said


def of_vitlab(path: Path, text: str) -> dict:
    """The fields that `save_checkpoint(layout="timm")` wrote into a file's metadata."""
    try:
        said = dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the config in {path} cannot be read ({error!r}); save the model again") from error
    if unknown := said.keys() - set(TOLD):
        raise ValueError(
            f"the config in {path} has {', '.join(sorted(unknown))}; it has only {', '.join(TOLD)}"
        )
    return checked(path, said) | dict(plain=True)


def of_hugging_face(file: Path, config: dict) -> dict:
    """The fields in a config.json of transformers."""
    kind = config.get("model_type", "vit")
    if kind not in VITS:
        raise ValueError(
            f"{file} is of Hugging Face's model_type={kind!r}, and vitlab knows its {', '.join(VITS)}: the "
            f"names are the same, but the model is another. L{instead('Hugging Face')[1:]}"
        )
    check_backbone(file, config)
    said = {field: config.get(name, default) for field, (name, default) in VITS[kind].items()}
    if kind.startswith("dinov2"):  # it says how many times as wide as the model the MLP is
        ratio, width = config.get("mlp_ratio", 4), said["embed_dim"]
        numbers = isinstance(width, int) and isinstance(ratio, int | float)
        said["mlp_dim"] = int(width * ratio) if numbers and max(width, ratio) <= MOST and ratio > 0 else ratio
    if config.get("pooler_act", "tanh") != "tanh":
        raise ValueError(
            f"{file} says pooler_act={config['pooler_act']!r}; vitlab's hidden layer has tanh: "
            f"{instead('Hugging Face')}"
        )
    if isinstance(patch := said["patch_size"], list) and all(type(side) is int for side in patch):
        if len(patch) == 2 and patch[0] != patch[1]:
            raise ValueError(
                f"{file} says that patches of this Hugging Face ViT have {patch[0]} × {patch[1]} pixels; "
                f"vitlab's are squares: {instead('Hugging Face')}"
            )
        said["patch_size"] = patch[0] if len(set(patch)) == 1 else patch
    if isinstance(labels := config.get("id2label"), dict) and labels:  # of a classifier, if there is one
        said["num_classes"] = len(labels)
    return said | dict(gelu=gelu(file, "hidden_act", config.get("hidden_act", "gelu")), plain=True)


def check_backbone(file: Path, config: dict) -> None:
    """Raise ValueError for a backbone whose last features are not the ViT's, those of its last norm."""
    made, stages, named = (config.get(key) for key in ("architectures", "out_features", "stage_names"))
    if not any(str(name).endswith("Backbone") for name in (made if isinstance(made, list) else ())):
        return
    earlier = isinstance(stages, list) and isinstance(named, list) and stages[-1:] != named[-1:]
    if config.get("apply_layernorm") is False or earlier:
        key = "out_features" if earlier else "apply_layernorm"
        raise ValueError(
            f"{file} is of a {made[0]} with {key}={config[key]!r}, and vitlab's ViT gives the features of "
            f"its last block, after its norm: {instead('Hugging Face')}, or save the backbone anew without it"
        )


def of_timm(file: Path, config: dict, given: dict) -> dict:
    """The fields in a config.json of timm. It names the architecture, but not what that is."""
    arguments, pretrained = config.get("model_args") or {}, config.get("pretrained_cfg", config)
    architecture = config["architecture"]
    if not (isinstance(arguments, dict) and isinstance(pretrained, dict) and isinstance(architecture, str)):
        raise ValueError(
            f"{file} is damaged: architecture is a text, model_args and pretrained_cfg are objects; copy or "
            "download it again"
        )
    said = {k: value for k, value in told_by_name(file, architecture).items() if k not in given}
    said |= {name: arguments[name] for name in ("num_heads",) if name in arguments}
    pool = arguments.get("global_pool", config.get("global_pool", pretrained.get("global_pool")))
    if pool is not None:
        if pool not in ("token", "avg"):
            raise ValueError(
                f"{file} says global_pool={pool!r}; vitlab's ViT has 'token' and 'avg' (mean): "
                f"{instead('timm')}"
            )
        said["pool"] = {"token": "token", "avg": "mean"}[pool]
    check_arguments(file, config | arguments, said)
    channels_and_size = pretrained.get("input_size")
    if isinstance(channels_and_size, list):
        said["image_size"] = channels_and_size[1:]
    if "img_size" in arguments:
        said["image_size"] = arguments["img_size"]
    if arguments.get("act_layer") is not None:
        said["gelu"] = gelu(file, "act_layer", arguments["act_layer"])
    elif "siglip" in architecture and "gelu" not in given:
        raise ValueError(f"{file} is of a SigLIP, some of which have a tanh GELU: give gelu='tanh' or 'erf'")
    return said


def check_arguments(file: Path, arguments: dict, said: dict) -> None:
    """Raise ValueError for arguments of timm's that change what a model computes, if not its arrays."""
    norm, attention = (arguments.get(f"{layer}_layer") for layer in ("norm", "attn"))
    plain = {
        "norm_layer": norm is None
        or str(norm).replace("_", "").lower() in ("", "layernorm", "layernormfp32"),
        "attn_layer": attention in (None, "", "attn"),
        "pool_include_prefix": not arguments.get("pool_include_prefix")
        or said.get("pool") == "token"
        or arguments.get("class_token") is False,
        **{name: arguments.get(name) is None for name in ("block_fn", "mlp_layer", "embed_layer")},
    }
    for name in (name for name, fine in plain.items() if not fine):
        raise ValueError(
            f"{file} says {name}={arguments[name]!r}, which vitlab's ViT does not have: {instead('timm')}"
        )


def gelu(file: Path, key: str, name: str) -> str:
    """The kind of GELU that another library calls by this name."""
    if not isinstance(name, str) or name not in GELUS:
        package = "timm" if key == "act_layer" else "Hugging Face"
        raise ValueError(
            f"{file} says {key}={name!r}; vitlab's ViT has a GELU ({', '.join(GELUS)}): {instead(package)}"
        )
    return GELUS[name]
