"""What a file, or the config.json beside it, says of a model beyond its arrays, in `ViTConfig`'s words."""

import json
from pathlib import Path

from vitlab.checkpoints.reading import read_json

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
    "qkv_bias": ("qkv_bias", True),
}


def described(path: Path, library: str, metadata: dict[str, str], given: dict) -> dict:
    """The fields that a file's metadata or the config.json in its folder states.

    `path` is the file or its folder; config.json counts only if `library` wrote it. Raises ValueError for a
    damaged one, and for what vitlab's ViT cannot be.
    """
    if "vitlab" in metadata:  # written by save_checkpoint(layout="timm")
        return json.loads(metadata["vitlab"])
    file = (path if path.is_dir() else path.parent) / "config.json"
    if library not in ("Hugging Face", "timm") or not file.is_file():
        return {}
    config = read_json(file)
    if library == "Hugging Face" and "hidden_size" in config:
        return of_hugging_face(file, config)
    if library == "timm" and "architecture" in config:
        return of_timm(file, config, given)
    return {}


def of_hugging_face(file: Path, config: dict) -> dict:
    """The fields in a config.json of transformers."""
    said = {field: config.get(name, default) for field, (name, default) in HUGGING_FACE.items()}
    if config.get("pooler_act", "tanh") != "tanh":
        raise ValueError(f"{file} says pooler_act={config['pooler_act']!r}; vitlab's hidden layer has tanh")
    return said | dict(gelu=gelu(file, "hidden_act", config.get("hidden_act", "gelu")))


def of_timm(file: Path, config: dict, given: dict) -> dict:
    """The fields in a config.json of timm. It names the architecture, but not what that is."""
    arguments, pretrained = config.get("model_args", {}), config.get("pretrained_cfg", {})
    architecture = config["architecture"]
    if "_rpn_" in architecture:
        raise ValueError(
            f"{file} is of {architecture}, whose norms stand behind each half of a block; its arrays look "
            "the same, but vitlab's ViT has them in front. Load it with timm"
        )
    said = {"num_heads": 16} if architecture.startswith("vit_base_patch16_gap_") else {}
    said |= {name: arguments[name] for name in ("num_heads",) if name in arguments}
    if pool := arguments.get("global_pool", config.get("global_pool")):
        if pool not in ("token", "avg"):
            raise ValueError(f"{file} says global_pool={pool!r}; vitlab's ViT has 'token' and 'avg' (mean)")
        said["pool"] = {"token": "token", "avg": "mean"}[pool]
    if size := arguments.get("img_size") or pretrained.get("input_size", [])[1:]:
        said["image_size"] = size
    if "act_layer" in arguments:
        said["gelu"] = gelu(file, "act_layer", arguments["act_layer"])
    elif "siglip" in architecture and "gelu" not in given:
        raise ValueError(f"{file} is of a SigLIP, some of which have a tanh GELU: give gelu='tanh' or 'erf'")
    return said


def gelu(file: Path, key: str, name: str) -> str:
    """The kind of GELU that another library calls by this name."""
    if name not in GELUS:
        raise ValueError(f"{file} says {key}={name!r}; vitlab's ViT has a GELU: {', '.join(GELUS)}")
    return GELUS[name]
