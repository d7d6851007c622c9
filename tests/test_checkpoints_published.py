"""Weights of other libraries: the same logits and attention, every fault named, and the way back to timm."""

import json
import math
import pickle
import re
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import timm
import torch
from torch import nn

import vitlab
from vitlab import ViT, ViTConfig
from vitlab.checkpoints import timm_arguments

ORACLES = Path(__file__).resolve().parents[2] / "shared" / "oracles"
LIBRARIES = ("jax", "timm", "vitpytorch", "hf")


def oracles(library: str) -> list[Path]:
    """The checkpoints of a library: expected values lie beside them, in io_<name>.npz."""
    folder = ORACLES / library
    found = [path for path in folder.iterdir() if path.is_dir()] if library == "hf" else folder.glob("ckpt_*")
    return sorted(found) if folder.is_dir() else []


ALL = [path for library in LIBRARIES if (ORACLES / library).is_dir() for path in oracles(library)]
needs_oracles = pytest.mark.skipif(not ALL, reason="the expected values (../shared/oracles) are not here")


def told(path: Path) -> dict:
    """What the file does not say, from the JSON beside it."""
    notes = path.parent / f"config_{name(path)}.json"
    if path.parent.name not in ("timm", "vitpytorch"):
        return {}
    notes = json.loads(notes.read_text())
    size = notes.get("img_size") or notes["image_size"]
    return dict(num_heads=notes.get("num_heads") or notes["heads"], image_size=size)


def name(path: Path) -> str:
    return path.stem.removeprefix("ckpt_").removesuffix("_linen")


def close(got, wanted, tolerance):
    torch.testing.assert_close(torch.as_tensor(got), torch.as_tensor(wanted), rtol=0, atol=tolerance)


def same_outputs(model: ViT, images, logits, tolerance=2e-5, attention=None):
    """The logits of a model, while it is recorded and while it is not, and its attention."""
    with torch.no_grad():
        close(model(images), logits, tolerance)
        with vitlab.record_attention(model) as record:
            close(model(images), logits, tolerance)
    if attention is not None:
        close(record.weights, attention, 1e-5)


@needs_oracles
@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_outputs_are_those_of_the_library(path):
    known = np.load(path.parent / f"io_{name(path)}.npz")
    images = torch.from_numpy(known["images"])
    if path.parent.name == "jax":
        images = images.permute(0, 3, 1, 2)
    model = vitlab.load_checkpoint(path, **told(path))
    same_outputs(model, images, known["logits"], attention=known["attn"])
    for output in {"features", "encoded", "last_hidden"} & set(known):
        close(model.forward_features(images).detach(), known[output], 2e-5)
    with torch.no_grad(), vitlab.record_attention(model, also=["block_outputs"]) as record:
        model.forward_features(images)
    inside = dict(tokens_in=model.embed(images)[None], block_out=record["block_outputs"])
    inside["patch_grid"] = model.patch_embed(images).unflatten(1, model.config.grid_size)[None]
    inside["hidden_states"] = torch.cat([inside["tokens_in"], record["block_outputs"]])
    inside["recorder_attn"] = record.weights.transpose(0, 1)
    for what in set(inside) & set(known):
        wanted = torch.from_numpy(known[what])
        close(inside[what].detach(), wanted if wanted.ndim == inside[what].ndim else wanted[None], 2e-5)
    if "images_lowcontrast" in known:
        same_outputs(model, torch.from_numpy(known["images_lowcontrast"]), known["logits_lowcontrast"])
    if "images_2x" in known:
        twice = torch.from_numpy(known["images_2x"])
        larger = vitlab.load_checkpoint(path, image_size=tuple(twice.shape[2:]))
        same_outputs(larger, twice, known["logits_2x"])
        close(larger.pos_embed.detach(), known["pos_2x"], 1e-5)


@needs_oracles
def test_positions_are_resized_by_googles_rule():
    known = np.load(ORACLES / "jax" / "posembed_resize_jax.npz")
    arrays = dict(np.load(ORACLES / "jax" / "ckpt_a_token.npz"))
    for gap, table in (("", "pos_embedding_in"), ("gap_", "pos_embedding_in_gap")):
        arrays |= {"Transformer/posembed_input/pos_embedding": known[table]}
        if gap:
            del arrays["cls"]
        for key in (key for key in known if "out_" in key and ("gap" in key) == bool(gap)):
            size = [8 * int(side) for side in key.rpartition("_")[2].split("x")]
            model = vitlab.load_checkpoint(as_npz(arrays, Path(f"{gap}resized.npz")), image_size=size)
            close(model.pos_embed.detach(), known[key], 1e-5)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def as_npz(arrays: dict, path=Path("model.npz")) -> Path:
    np.savez(path, **arrays)
    return path


def as_safetensors(arrays: dict, path=Path("weights.safetensors")) -> Path:
    path.parent.mkdir(exist_ok=True)
    safetensors.torch.save_file({key: torch.as_tensor(value) for key, value in arrays.items()}, path)
    return path


def stirred(model: nn.Module) -> nn.Module:
    """The model with no parameter left at 0 or 1, in evaluation mode."""
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


# --- Google ------------------------------------------------------------------------------------------------

HEADS, WIDTH = 3, 10


def google_arrays(grid=(4, 4), token=True, hidden=None, released=True, classes=5, seed=0) -> dict:
    """A random checkpoint in Google's names and shapes: width 24, two layers, heads that are not 8 wide."""
    random = np.random.default_rng(seed)
    d, m = 24, 36

    def dense(path, *shape, axes=1):
        scale = math.prod(shape[:axes]) ** -0.5
        return {
            f"{path}/kernel": random.normal(0, scale, shape),
            f"{path}/bias": random.normal(0, 0.1, shape[axes:]),
        }

    def norm(path):
        return {f"{path}/scale": random.normal(1, 0.1, d), f"{path}/bias": random.normal(0, 0.1, d)}

    attn, norm2, mlp = (1, 2, 3) if released else (0, 1, 0)
    arrays = dense("embedding", 4, 4, 3, d, axes=3) | norm("Transformer/encoder_norm")
    for block in ("Transformer/encoderblock_0", "Transformer/encoderblock_1"):
        arrays |= norm(f"{block}/LayerNorm_0") | norm(f"{block}/LayerNorm_{norm2}")
        for part in ("query", "key", "value"):
            arrays |= dense(f"{block}/MultiHeadDotProductAttention_{attn}/{part}", d, HEADS, WIDTH)
        arrays |= dense(f"{block}/MultiHeadDotProductAttention_{attn}/out", HEADS, WIDTH, d, axes=2)
        arrays |= dense(f"{block}/MlpBlock_{mlp}/Dense_0", d, m) | dense(
            f"{block}/MlpBlock_{mlp}/Dense_1", m, d
        )
    arrays["Transformer/posembed_input/pos_embedding"] = random.normal(
        0, 0.5, (1, math.prod(grid) + token, d)
    )
    if token:
        arrays["cls"] = random.normal(0, 0.5, (1, 1, d))
    if hidden:
        arrays |= dense("pre_logits", d, hidden)
    if classes:
        arrays |= dense("head", hidden or d, classes)
    return {key: value.astype(np.float32) for key, value in arrays.items()}


def google_forward(arrays: dict, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and attention of Google's ViT in float64 einsums; images are (B, H, W, C)."""
    p = {key: value.astype(np.float64) for key, value in arrays.items()}
    attn = "MultiHeadDotProductAttention_" + ("1" if any("LayerNorm_2" in key for key in p) else "0")
    norm2, mlp = ("LayerNorm_2", "MlpBlock_3") if attn.endswith("1") else ("LayerNorm_1", "MlpBlock_0")

    def norm(x, path):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[f"{path}/scale"] + p[f"{path}/bias"]

    def dense(x, path, indices):
        return np.einsum(indices, x, p[f"{path}/kernel"]) + p[f"{path}/bias"]

    side, maps = p["embedding/kernel"].shape[0], []
    b, h, w, c = images.shape
    tiles = images.astype(np.float64).reshape(b, h // side, side, w // side, side, c)
    x = dense(tiles, "embedding", "bipjqc,pqcd->bijd").reshape(b, -1, p["embedding/bias"].size)
    if "cls" in p:
        x = np.concatenate([np.tile(p["cls"], (b, 1, 1)), x], axis=1)
    x = x + p["Transformer/posembed_input/pos_embedding"]
    for layer in range(sum(key.endswith("LayerNorm_0/bias") for key in p)):
        block = f"Transformer/encoderblock_{layer}"
        y = norm(x, f"{block}/LayerNorm_0")
        q, k, v = (dense(y, f"{block}/{attn}/{part}", "btd,dhk->bthk") for part in ("query", "key", "value"))
        weights = np.exp(np.einsum("bqhk,bthk->bhqt", q, k) / np.sqrt(q.shape[-1]))
        maps.append(weights / weights.sum(-1, keepdims=True))
        x = x + dense(np.einsum("bhqt,bthk->bqhk", maps[-1], v), f"{block}/{attn}/out", "bqhk,hkd->bqd")
        y = dense(norm(x, f"{block}/{norm2}"), f"{block}/{mlp}/Dense_0", "btd,dm->btm")
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + dense(y, f"{block}/{mlp}/Dense_1", "btm,md->btd")
    x = norm(x, "Transformer/encoder_norm")
    x = x[:, 0] if "cls" in p else x.mean(axis=1)
    if "pre_logits/bias" in p:
        x = np.tanh(dense(x, "pre_logits", "bd,dr->br"))
    return dense(x, "head", "bd,dl->bl") if "head/bias" in p else x, np.stack(maps)


@needs_oracles
def test_the_reference_for_google_is_googles():
    known = np.load(ORACLES / "jax" / "io_a_token.npz")
    logits, maps = google_forward(dict(np.load(ORACLES / "jax" / "ckpt_a_token.npz")), known["images"])
    close(logits, known["logits"].astype(np.float64), 2e-6)
    close(maps, known["attn"].astype(np.float64), 2e-6)


@pytest.mark.parametrize("released", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        dict(),
        dict(token=False),
        dict(hidden=7),
        dict(token=False, hidden=7, grid=(2, 3)),
        dict(grid=(3, 5)),
        dict(classes=0),
    ],
)
def test_google_npz(kind, released):
    arrays = google_arrays(released=released, **kind)
    height, width = (4 * side for side in kind.get("grid", (4, 4)))
    images = np.random.default_rng(1).normal(size=(2, height, width, 3)).astype(np.float32)
    fields = dict(image_size=(height, width)) if "grid" in kind else {}
    model = vitlab.load_checkpoint(as_npz(arrays, Path("any.thing.npz")), **fields)
    logits, maps = google_forward(arrays, images)
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    same_outputs(model, images, logits.astype(np.float32), attention=maps.astype(np.float32))
    assert (model.config.num_heads, model.config.head_dim, model.config.gelu) == (HEADS, WIDTH, "tanh")


def test_google_npz_in_bfloat16_compressed_and_with_backslashes():
    arrays = google_arrays()
    halves = {key: value.view(np.uint32) & 0xFFFF0000 for key, value in arrays.items()}
    short = {
        key.replace("/", "\\"): (value >> 16).astype(np.uint16).view("V2") for key, value in halves.items()
    }
    np.savez_compressed("bf16.npz", **short)
    model = vitlab.load_checkpoint("bf16.npz")
    exact = vitlab.load_checkpoint(as_npz({key: value.view(np.float32) for key, value in halves.items()}))
    for (key, got), wanted in zip(model.state_dict().items(), exact.state_dict().values(), strict=True):
        assert torch.equal(got, wanted), key


# --- timm --------------------------------------------------------------------------------------------------

SMALL = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, mlp_ratio=2, num_classes=5)
TIMM = [
    (dict(), dict()),
    (dict(global_pool="avg"), dict()),
    (dict(global_pool="avg", fc_norm=False), dict(pool="mean")),
    (dict(global_pool="avg", class_token=False), dict()),
    (dict(global_pool="avg", class_token=False, fc_norm=False), dict()),
    (dict(global_pool="token", fc_norm=True), dict(pool="token")),
    (dict(qkv_bias=False, num_classes=0), dict()),
    (dict(img_size=(24, 40)), dict(image_size=(24, 40))),
    (dict(in_chans=1, patch_size=4, act_layer="gelu_tanh"), dict(gelu="tanh")),
    (dict(norm_layer=partial(nn.LayerNorm, eps=1e-3)), dict(norm_eps=1e-3)),
]


def timm_model(**arguments):
    return stirred(timm.models.VisionTransformer(**SMALL | arguments))


def pictures(model_or_size, channels=3):
    return torch.randn(2, channels, *model_or_size)


@pytest.mark.parametrize(("arguments", "fields"), TIMM)
def test_timm(arguments, fields):
    theirs = timm_model(**arguments)
    ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4, **fields)
    images = pictures(theirs.patch_embed.img_size, arguments.get("in_chans", 3))
    with torch.no_grad():
        same_outputs(ours, images, theirs(images))
        close(ours.forward_features(images), theirs.forward_features(images), 2e-5)


@pytest.mark.parametrize("size", [(48, 64), (16, 64), (8, 8)])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_timms_own_resizing(size, pool):
    """(16, 64) has as many patches as the file's (32, 32); that the file is square, its config says."""
    theirs, larger = timm_model(global_pool=pool), timm_model(global_pool=pool, img_size=size)
    from timm.models.vision_transformer import checkpoint_filter_fn

    larger.load_state_dict(checkpoint_filter_fn(theirs.state_dict(), larger))
    if math.prod(size) == 32 * 32:
        larger.pos_embed.data = timm.layers.resample_abs_pos_embed(theirs.pos_embed.data, (2, 8), (4, 4))
    file = as_safetensors(theirs.state_dict(), Path("folder/model.safetensors"))
    of_timm = dict(architecture="vit", model_args=dict(num_heads=4, img_size=32), global_pool=pool)
    file.with_name("config.json").write_text(json.dumps(of_timm))
    images = pictures(size)
    with torch.no_grad():
        same_outputs(vitlab.load_checkpoint(file.parent, image_size=size), images, larger(images))
    rules = [vitlab.load_checkpoint(file, image_size=size, resize=rule) for rule in ("timm", "jax", "hf")]
    assert torch.equal(rules[0].pos_embed, vitlab.load_checkpoint(file, image_size=size).pos_embed)
    assert not torch.equal(rules[0].pos_embed, rules[1].pos_embed)


def test_what_only_the_architectures_name_says():
    """Heads of another width, another kind of block, another GELU, all with the arrays of a plain ViT."""
    theirs = timm.create_model("vit_base_patch16_gap_224", img_size=32, depth=1, num_classes=2)
    file = as_safetensors(stirred(theirs).state_dict(), Path("folder/model.safetensors"))

    def of(architecture):
        file.with_name("config.json").write_text(json.dumps(dict(architecture=architecture)))

    of("vit_base_patch16_gap_224")
    images = pictures((32, 32))
    with torch.no_grad():
        same_outputs(vitlab.load_checkpoint("folder"), images, theirs(images))
    of("vit_base_patch16_rpn_224")
    refused("vit_base_patch16_rpn_224, whose norms stand behind each half of a block", "folder")
    of("vit_base_patch16_siglip_gap_224")
    refused("some of which have a tanh GELU: give gelu='tanh' or 'erf'", "folder")
    assert vitlab.load_checkpoint("folder", gelu="tanh").config.gelu == "tanh"
    file.with_name("config.json").write_text(json.dumps(dict(architecture="vit", global_pool="map")))
    refused("global_pool='map'; vitlab's ViT has 'token' and 'avg'", "folder")


def test_without_a_word_heads_are_64_wide_and_published_widths_are_known():
    for width, heads in ((64, 1), (128, 2), (1280, 16)):
        arrays = timm_model(embed_dim=width, num_heads=1, depth=1, mlp_ratio=0.1).state_dict()
        assert vitlab.load_checkpoint(as_safetensors(arrays)).config.num_heads == heads
    assert vitlab.load_checkpoint("weights.safetensors", head_dim=64).config.num_heads == 20
    small = as_safetensors(timm_model().state_dict())
    with pytest.raises(ValueError, match="48 numbers .* are no multiple of 64: give num_heads"):
        vitlab.load_checkpoint(small)
    with pytest.raises(ValueError, match="num_heads=5 does not divide the 48 numbers"):
        vitlab.load_checkpoint(small, num_heads=5)


def test_what_is_no_square_needs_image_size():
    file = as_safetensors(timm_model(img_size=(24, 40)).state_dict())
    with pytest.raises(
        ValueError, match=r"'pos_embed' .* has 15 entries for patches, which are no square.*image_size"
    ):
        vitlab.load_checkpoint(file, num_heads=4)
    with pytest.raises(ValueError, match=r"image_size=\(24, 24\), which has 9: give the file's own"):
        vitlab.load_checkpoint(file, num_heads=4, image_size=(24, 24))


# --- Hugging Face ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers():
    library = pytest.importorskip(
        "transformers", reason="transformers is not installed (the bench extra has it)"
    )
    library.utils.logging.disable_progress_bar()
    return library


def hf_config(transformers, **fields):
    sizes = dict(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, num_labels=5
    )
    return transformers.ViTConfig(
        **dict(image_size=32, patch_size=8, attn_implementation="eager") | sizes | fields
    )


HUGGING_FACE = [
    dict(),
    dict(qkv_bias=False, layer_norm_eps=1e-3),
    dict(hidden_act="gelu_pytorch_tanh", num_channels=1),
    dict(image_size=[24, 40]),
]


@pytest.mark.parametrize("fields", HUGGING_FACE)
def test_hugging_face(transformers, fields):
    theirs = stirred(transformers.ViTForImageClassification(hf_config(transformers, **fields)))
    theirs.save_pretrained("folder")
    size = fields.get("image_size", (32, 32))
    images = pictures(size, fields.get("num_channels", 3))
    with torch.no_grad():
        wanted = theirs(images, output_attentions=True)
    for path in ("folder", "folder/model.safetensors"):
        same_outputs(
            vitlab.load_checkpoint(path), images, wanted.logits, attention=torch.stack(wanted.attentions)
        )
    alone = as_safetensors(theirs.state_dict())  # names as in memory, and no config.json
    said = dict(num_heads=4, norm_eps=fields.get("layer_norm_eps", 1e-12), image_size=size)
    said |= dict(gelu="tanh") if "hidden_act" in fields else {}
    same_outputs(vitlab.load_checkpoint(alone, **said), images, wanted.logits)


@pytest.mark.parametrize("pooler", [True, False])
def test_hugging_face_without_a_classifier(transformers, pooler):
    config = hf_config(transformers, pooler_output_size=20)
    theirs, images = stirred(transformers.ViTModel(config, add_pooling_layer=pooler)), pictures((32, 32))
    theirs.save_pretrained("folder", max_shard_size="40KB")
    assert len(list(Path("folder").glob("*.safetensors"))) > 1
    with torch.no_grad():
        wanted = theirs(images)
        same_outputs(vitlab.load_checkpoint("folder"), images, wanted[1] if pooler else wanted[0][:, 0])
    next(Path("folder").glob("*.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match=r"index\.json names model-0000"):
        vitlab.load_checkpoint("folder")


def test_hugging_faces_own_resizing(transformers):
    theirs = stirred(transformers.ViTForImageClassification(hf_config(transformers)))
    theirs.save_pretrained("folder")
    for size in ((64, 48), (16, 64)):  # the second has as many patches as the file's
        images = pictures(size)
        with torch.no_grad():
            wanted = theirs(images, interpolate_pos_encoding=True).logits
            same_outputs(vitlab.load_checkpoint("folder", image_size=size), images, wanted)


def test_a_config_that_contradicts_is_refused(transformers):
    stirred(transformers.ViTForImageClassification(hf_config(transformers))).save_pretrained("folder")
    config = json.loads(Path("folder/config.json").read_text())

    def refused(match, given=(), **changes):
        Path("folder/config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ValueError, match=match):
            vitlab.load_checkpoint("folder", **dict(given))

    refused("says depth=2; its config says depth=3", num_hidden_layers=3)
    refused("says num_heads=4; got num_heads=2", dict(num_heads=2))
    refused("says norm_eps=1e-12; got norm_eps=1e-06", dict(norm_eps=1e-6))
    refused("ViTConfig has no field heads", dict(heads=2))
    refused("hidden_act='relu'; vitlab's ViT has a GELU", hidden_act="relu")
    refused(
        r"'vit\.embeddings\.position_embeddings' .* has 16 .*its config says image_size=48", image_size=48
    )
    Path("folder/config.json").write_text('{"hidden_size": ')
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        vitlab.load_checkpoint("folder")


# --- vit-pytorch -------------------------------------------------------------------------------------------

VIT_PYTORCH = [
    (dict(), dict(num_heads=4)),
    (dict(pool="mean", dim_head=7), dict(num_heads=4)),
    (dict(dim_head=64), dict()),  # its own default
    (dict(heads=1, dim_head=48), dict()),  # then it has no output projection
    (dict(image_size=(24, 40), channels=1), dict(num_heads=4, image_size=(24, 40))),
    (dict(num_classes=1), dict(num_heads=4)),
]


@pytest.fixture(scope="module")
def vit_pytorch():
    return pytest.importorskip("vit_pytorch", reason="vit-pytorch is not installed (the bench extra has it)")


def lucid(vit_pytorch, **arguments):
    sizes = dict(
        image_size=32, patch_size=8, num_classes=5, dim=48, depth=2, heads=4, mlp_dim=80, dim_head=12
    )
    return stirred(vit_pytorch.ViT(**sizes | arguments))


@pytest.mark.parametrize(("arguments", "fields"), VIT_PYTORCH)
def test_vit_pytorch(vit_pytorch, arguments, fields):
    theirs = lucid(vit_pytorch, **arguments)
    size, channels = arguments.get("image_size", (32, 32)), arguments.get("channels", 3)
    images = pictures(size, channels) * 0.01  # of little contrast, so that the norms' eps matters
    ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), **fields)
    with torch.no_grad():
        same_outputs(ours, images, theirs(images))


def test_vit_pytorch_has_no_rule_for_positions(vit_pytorch):
    file = as_safetensors(lucid(vit_pytorch).state_dict())
    with pytest.raises(
        ValueError, match="no rule of its own .* give resize='jax', 'timm', 'hf', 'torchvision' or 'flexivit'"
    ):
        vitlab.load_checkpoint(file, num_heads=4, image_size=64)
    assert vitlab.load_checkpoint(file, num_heads=4, image_size=64, resize="jax").config.num_tokens == 65
    with pytest.raises(ValueError, match="192 numbers, no square of pixels with 5: give in_chans"):
        vitlab.load_checkpoint(file, num_heads=4, in_chans=5)
    assert vitlab.load_checkpoint(file, num_heads=4, in_chans=12, image_size=16).config.patch_size == 4


# --- what is missing, extra, of another shape ---------------------------------------------------------------


def libraries() -> list[tuple]:
    torch.manual_seed(0)
    timms = {key: value.numpy() for key, value in timm_model(global_pool="avg").state_dict().items()}
    found = [(as_npz, google_arrays(hidden=7), {}), (as_safetensors, timms, dict(num_heads=4))]
    if ALL:
        files = oracles("hf")[0] / "model.safetensors", oracles("vitpytorch")[0]
        heads = [dict(num_heads=4), dict(num_heads=4)]
        found += [
            (as_safetensors, safetensors.numpy.load_file(f), h) for f, h in zip(files, heads, strict=True)
        ]
    return found


@pytest.mark.parametrize("which", range(4))
def test_every_array_that_is_missing_or_misshapen_is_named(which):
    """One array at a time: left out, one number longer along each axis, and with another axis."""
    cases = libraries()
    if which >= len(cases):
        pytest.skip("the expected values (../shared/oracles) are not here")
    save, arrays, fields = cases[which]
    vitlab.load_checkpoint(save(arrays), **fields)
    for key, value in arrays.items():
        if re.search(r"(blocks|layers?)\.[12]\.|encoderblock_1", key):
            continue  # block 0 stands for all
        changed = {
            "missing": {k: v for k, v in arrays.items() if k != key},
            "more": arrays | {key: value[None]},
        }
        changed |= {axis: arrays | {key: longer(value, axis)} for axis in range(value.ndim)}
        for change, content in changed.items():
            if (key, change) in FINE or (key, len(value.shape), change) in FINE:
                continue
            with pytest.raises(ValueError, match=re.escape(repr(key))):
                vitlab.load_checkpoint(save(content), **fields)


# Changes after which the file is another good one: images of four channels, an older version's class token.
FINE = {
    ("embedding/kernel", 2),
    ("patch_embed.proj.weight", 1),
    ("vit.embeddings.patch_embeddings.projection.weight", 1),
    ("cls_token", 2, "more"),
    ("pos_embedding", "more"),
}


def longer(array: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate([array, array.take([0], axis)], axis)


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("blocks_token_only.0.norm1.weight", "a CaiT"),
        ("blocks.0.attn.relative_position_bias_table", "a Swin Transformer or a BEiT"),
        ("norm_pre.weight", "a CLIP"),
        ("blocks.0.attn.q_norm.weight", "normalises queries and keys"),
        ("attn_pool.latent", "pools by attention"),
        ("ema.decay", "Load it with the library that made it"),
    ],
)
def test_arrays_that_a_vit_does_not_have(extra, what):
    file = as_safetensors(timm_model().state_dict() | {extra: torch.zeros(48)})
    with pytest.raises(ValueError, match=rf"no place for: '{extra}'.*{what}"):
        vitlab.load_checkpoint(file, num_heads=4)


@pytest.mark.parametrize(
    ("architecture", "what"),
    [
        ("resnet18", "a convolutional network"),
        ("swin_tiny_patch4_window7_224", "a Swin Transformer"),
        ("mixer_s32_224", "an MLP-Mixer"),
        ("vit_small_resnet50d_s16_224", "a hybrid on another stem"),
        ("convnext_atto", "a convolutional network"),
    ],
)
def test_other_architectures_are_named(architecture, what):
    arrays = timm.create_model(architecture, num_classes=2).state_dict()
    file = as_safetensors({key: value.contiguous() for key, value in arrays.items()})
    with pytest.raises(ValueError, match=what):
        vitlab.load_checkpoint(file)


# --- damaged files -----------------------------------------------------------------------------------------


def refused(match: str, path="model.npz", kind=ValueError):
    with pytest.raises(kind, match=match):
        vitlab.load_checkpoint(path)


def test_what_is_no_npz_at_all():
    file = Path("model.npz")
    for content, match in (
        (b"\n<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page .HTML., not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a pointer of Git LFS"),
        (b"\x93NUMPY\x01\x00v\x00", "a single array"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(100), "compressed with gzip"),
        (b"", "cut short"),
        (bytes(range(256)), "cut short"),
    ):
        file.write_bytes(content)
        refused(match)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "weights inside")
    refused("a zip archive of other things than arrays")


def test_a_damaged_npz():
    file = as_npz(google_arrays())
    whole = file.read_bytes()
    for share in (0.1, 0.5, 0.999):
        file.write_bytes(whole[: int(share * len(whole))])
        refused("whose end is missing")
    at = whole.index(b"Transformer/encoder_norm/scale.npy") + 200  # inside that array
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    refused(r"array 'Transformer/encoder_norm/scale' in model\.npz is damaged")


class Bomb:
    def __reduce__(self):
        return open, ("bomb", "w")


def test_nothing_is_unpickled():
    np.savez("model.npz", **google_arrays(), extra=np.array([Bomb(), None], dtype=object))
    refused("array 'extra' .* holds Python objects, and so a pickle")
    Path("model.npz").write_bytes(pickle.dumps({"head.weight": Bomb()}))
    refused("a pickle, not safetensors")
    torch.save({"head.weight": torch.zeros(2)}, "model.npz")
    refused("a pickle in a zip archive, as of torch.save")
    Path("folder").mkdir()
    torch.save({}, "folder/pytorch_model.bin")
    refused("has weights only as a pickle, pytorch_model.bin", "folder")
    np.savez("text.npz", **google_arrays(), note=np.array("hello"))
    refused("array 'note' .* holds no numbers", "text.npz")
    assert not Path("bomb").exists()


def test_a_folder_without_weights():
    Path("folder").mkdir()
    refused("has no model.safetensors; it has no .safetensors and no .npz file", "folder", FileNotFoundError)
    as_npz(google_arrays(), Path("folder/a.npz"))
    assert isinstance(vitlab.load_checkpoint("folder"), ViT)
    as_npz(google_arrays(), Path("folder/b.npz"))
    refused("it has a.npz, b.npz; name the file", "folder", FileNotFoundError)


# --- the way back ------------------------------------------------------------------------------------------

BACK = [
    dict(),
    dict(pool="mean"),
    dict(pool="mean", unread_class_token=True, norm_after_pool=True, qkv_bias=False),
    dict(pos_embed="sincos2d", image_size=(28, 56), gelu="tanh", norm_eps=1e-3),
    dict(pos_embed="none", num_classes=0, mlp_dim=97, embed_dim=60),
    dict(dropout=0.2, norm_after_pool=True),
]


@pytest.mark.parametrize("fields", BACK)
def test_timm_loads_what_is_exported_to_it(fields):
    ours = stirred(ViT(ViTConfig(**dict(in_chans=3) | fields)))
    path = vitlab.save_checkpoint(ours, "for_timm.safetensors", layout="timm")
    theirs = timm.models.VisionTransformer(**timm_arguments(ours.config)).eval()
    theirs.load_state_dict(safetensors.torch.load_file(path))
    images = pictures((28, 56) if "image_size" in fields else (28, 28))
    with torch.no_grad():
        close(theirs(images), ours(images), 2e-5)
    again = vitlab.load_checkpoint(path)
    assert again.config == ViTConfig(**dict(in_chans=3) | fields | dict(pos_embed="learned"))
    assert torch.equal(again(images), ours(images))


def test_timm_makes_its_own_model_with_an_exported_file():
    ours = stirred(ViT(ViTConfig.from_name("Ti/16", image_size=32, num_classes=7)))
    path = vitlab.save_checkpoint(ours, "tiny.safetensors", layout="timm")
    options = dict(img_size=32, num_classes=7, checkpoint_path=str(path))
    theirs, images = timm.create_model("vit_tiny_patch16_224", **options).eval(), pictures((32, 32))
    with torch.no_grad():
        close(theirs(images), ours(images), 2e-5)


def test_what_timm_does_not_have_is_not_exported():
    for field in (dict(representation_size=8), dict(patch_norm=True), dict(head_dim=7)):
        with pytest.raises(ValueError, match=f"timm's VisionTransformer has no {next(iter(field))}"):
            vitlab.save_checkpoint(ViT(ViTConfig(**field)), "x.safetensors", layout="timm")
    with pytest.raises(ValueError, match="layout is 'vitlab' or 'timm'; got 'hf'"):
        vitlab.save_checkpoint(ViT(ViTConfig()), "x.safetensors", layout="hf")
    masked = vitlab.pretraining.MaskedPatchViT(ViT(ViTConfig()))
    with pytest.raises(ValueError, match="is a ViT; got MaskedPatchViT"):
        vitlab.save_checkpoint(masked, "x.safetensors", layout="timm")
    assert not Path("x.safetensors").exists()
