"""Files that are damaged, hostile or of another kind: every one gets its own ValueError, and nothing runs."""

import copy
import json
import os
import pickle
import random
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from test_checkpoints_published import (
    as_npz,
    as_safetensors,
    google_arrays,
    hf_config,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    stirred,
    timm_model,
    transformers,  # noqa: F401
)

import vitlab
from vitlab import ViT, ViTConfig

FILE = Path("weights.file")


def refused(match: str, path: Path | str = FILE, kind=ValueError, **fields) -> None:
    with pytest.raises(kind, match="(?s)" + match):
        vitlab.load_checkpoint(path, **fields)


def every_file() -> dict[str, bytes]:
    """A good file of each format, as bytes."""
    np.savez_compressed("compressed.npz", **google_arrays())
    files = [as_npz(google_arrays(), Path("plain.npz")), Path("compressed.npz")]
    files += [as_safetensors(timm_model().state_dict(), Path("timm.safetensors"))]
    files += [vitlab.save_checkpoint(ViT(ViTConfig()), "ours.safetensors")]
    return {file.name: file.read_bytes() for file in files}


def test_a_file_cut_short_anywhere():
    places = random.Random(0)
    for name, content in every_file().items():
        for at in [0, 1, 8, *(places.randrange(len(content)) for _ in range(20)), len(content) - 1]:
            FILE.write_bytes(content[:at])
            refused(r"weights\.file is .*(cut short|whose end is missing)")
        FILE.write_bytes(content)
        vitlab.load_checkpoint(FILE, **dict(num_heads=4) if name == "timm.safetensors" else {})


def test_single_bits_that_flipped():
    """A changed bit of a .npz is noticed, or stands where nothing is read; it is never another exception."""
    places, content = random.Random(0), every_file()["compressed.npz"]
    good = vitlab.load_checkpoint("compressed.npz").state_dict()
    said = []
    for _ in range(60):
        at = places.randrange(len(content))
        FILE.write_bytes(content[:at] + bytes([content[at] ^ 1 << places.randrange(8)]) + content[at + 1 :])
        try:
            model = vitlab.load_checkpoint(FILE)
        except ValueError as error:
            said.append(str(error))
        else:
            assert all(torch.equal(good[name], array) for name, array in model.state_dict().items())
    assert len(said) > 40
    assert all("weights.file" in message for message in said)


def test_the_list_of_contents_is_damaged():
    content = bytearray(every_file()["plain.npz"])
    content[content.index(b"PK\x01\x02")] ^= 1
    FILE.write_bytes(content)
    refused("zip archive whose list of contents is damaged")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "cut short or not a safetensors file"),
        (b"<html><head>404</head></html>", "a web page"),
        (b"\xef\xbb\xbf<!DOCTYPE html>\n<html>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
        (b"Entry not found", "cut short or not a safetensors file"),
        (b'{"error": "not found"}', "cut short or not a safetensors file"),
        (pickle.dumps({"head.weight": [1.0]}), "a pickle"),
        (bytes(1000), "cut short or not a safetensors file"),
    ],
)
def test_other_content(content, what):
    FILE.write_bytes(content)
    refused(what)


def test_zip_archives_of_other_things():
    inner = every_file()["plain.npz"]
    for members, what in (
        ({}, "a zip archive of other things than arrays"),
        ({"a.txt": b"x"}, "other things than arrays"),
        ({"model.npz": inner}, r"other things than arrays \(model\.npz\); unpack it"),
        ({"archive/data.pkl": pickle.dumps(1), "archive/data/0": b""}, "a pickle in a zip archive"),
    ):
        with zipfile.ZipFile(FILE, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        refused(what)


# --- one array of an .npz ----------------------------------------------------------------------------------


def npz_with(member: bytes, name="cls") -> None:
    """A good .npz, of which one array is these bytes."""
    with zipfile.ZipFile(as_npz({k: v for k, v in google_arrays().items() if k != name}), "a") as archive:
        archive.writestr(f"{name}.npy", member)
    Path("model.npz").rename(FILE)


def npy(shape: str, descr="'<f4'", body=bytes(64)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    ("member", "what"),
    [
        (npy("(nan, 1, 24)"), "'cls' .* is damaged"),
        (npy("(1.0, 1, 24)"), "'cls' .* is damaged"),
        (npy("(-1, 1, 24)"), "'cls' .* is damaged"),
        (npy("(1, 1, 10_000_000_000_000)"), "'cls' .* is damaged"),
        (npy(f"(1, 1, {10**30})"), "'cls' .* is damaged"),
        (npy("(1, 1, 4_000)"), "'cls' .* is damaged .*EOF"),
        (npy("(1, 1, 24"), "'cls' .* is damaged"),
        (npy("(" * 5_000), "'cls' .* is damaged"),
        (npy("(1,)" + " " * 20_000), "'cls' .* is damaged"),
        (npy("(1, 1, 24)", "'zz'"), "'cls' .* is damaged"),
        (npy("(1, 1, 1)", "'|O'", pickle.dumps([1])), "'cls' .* holds Python objects, and so a pickle"),
        (npy("(1,)", "[('a', '<f4'), ('b', 'O')]"), "'cls' .* holds Python objects, and so a pickle"),
        (npy("(1, 1, 8)", "'<M8[s]'"), "'cls' .* holds no numbers but datetime64"),
        (npy("(0, 1, 24)"), "'cls'"),
        (npy("()"), r"'cls' .* has shape \(\); it should have 3 axes"),
        (b"", "'cls' .* is damaged"),
        (b"\x93NUMPY\x09\x00", "'cls' .* is damaged"),
        (pickle.dumps([1]), "'cls' .* is damaged"),
    ],
    ids=range(18),
)
def test_an_array_of_an_npz_is_damaged(member, what):
    npz_with(member)
    refused(what)


def test_objects_are_not_unpickled():
    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("bomb",)

    np.savez("model.npz", **google_arrays() | {"cls": np.array([Bomb()], dtype=object)})
    refused("array 'cls' .* holds Python objects", "model.npz")
    npz_with(pickle.dumps(Bomb()))
    refused("array 'cls' .* is damaged")
    FILE.write_bytes(pickle.dumps(Bomb(), protocol=0))
    refused("not a safetensors file")
    assert not Path("bomb").exists()


# --- kinds of numbers --------------------------------------------------------------------------------------

INTEGERS = ("int64", "int32", "int8", "uint8", "uint16", "bool", ">i4")


@pytest.mark.parametrize("kind", INTEGERS)
def test_whole_numbers_are_no_weights(kind):
    name = {">i4": "int32"}.get(kind, kind)
    arrays = google_arrays()
    file = as_npz(arrays | {"cls": np.ones((1, 1, 24), kind)})
    refused(f"array 'cls' .* is of {name}, and weights are floats", file)
    state = timm_model().state_dict()
    state["cls_token"] = torch.ones(1, 1, 48).to(getattr(torch, name))
    refused(f"array 'cls_token' .* is of {name}", as_safetensors(state), num_heads=4)
    state = ViT(ViTConfig()).state_dict() | {"cls_token": torch.ones(1, 1, 96).to(getattr(torch, name))}
    metadata = {"format": "vitlab", "model": "ViT", "config": "{}"}
    safetensors.torch.save_file(state, FILE, metadata)
    refused(f"array 'cls_token' .* is of {name}")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_fp32(kind):
    state = timm_model().state_dict()
    rounded = {name: array.to(kind) for name, array in state.items()}
    model = vitlab.load_checkpoint(as_safetensors(rounded), num_heads=4)
    for name, array in model.state_dict().items():
        assert array.dtype == torch.float32
        assert torch.equal(array, rounded[name].float()), name


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8"])
def test_other_floats_of_an_npz_become_fp32(kind):
    arrays = google_arrays()
    model = vitlab.load_checkpoint(as_npz({name: array.astype(kind) for name, array in arrays.items()}))
    wanted = arrays["cls"].astype(kind).astype(np.float32)
    assert np.array_equal(model.cls_token.detach().numpy(), wanted)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(value):
    arrays = google_arrays()
    arrays["head/bias"][2] = value
    refused("array 'head/bias' .* has NaN or infinite numbers", as_npz(arrays))


# --- the header of a safetensors file ----------------------------------------------------------------------


def with_header(change, length=None) -> None:
    """A good safetensors file with another header: `change` takes its JSON and gives another, or bytes."""
    content = safetensors.torch.save(timm_model().state_dict())
    size = int.from_bytes(content[:8], "little")
    header = change(copy.deepcopy(json.loads(content[8 : 8 + size])))
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    FILE.write_bytes((length or len(header)).to_bytes(8, "little") + header + content[8 + size :])


def entry(**changes):
    return lambda header: header | {"cls_token": header["cls_token"] | changes}


@pytest.mark.parametrize(
    "change",
    [
        entry(shape=[1, 1, 49]),
        entry(shape=[-1, 1, 48]),
        entry(shape=[float("nan"), 1, 48]),
        entry(shape="all"),
        entry(dtype="F12"),
        entry(dtype="O"),
        entry(data_offsets=[0, 10**12]),
        entry(data_offsets=[10, 2]),
        lambda header: {name: value for name, value in header.items() if name != "cls_token"},
        lambda header: header | {"__metadata__": {"format": 1}},
        lambda header: [header],
        lambda header: b"{{{{",
        lambda header: b'{"\xff": 1}',
    ],
    ids=range(13),
)
def test_a_wrong_header(change):
    with_header(change)
    refused(r"weights\.file is cut short or not a safetensors file", num_heads=4)


def test_a_header_of_another_length():
    for length in (2**60, 10**6, 10):
        with_header(lambda header: header, length)
        refused(r"weights\.file is cut short or not a safetensors file", num_heads=4)


# --- what a file says of itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (dict(depth="four"), "depth is a whole number"),
        (dict(patch_size="x"), "patch_size is a positive whole number"),
        (dict(norm_eps="a"), "norm_eps is above 0; got 'a'"),
        (dict(image_size=[28]), "a size is a positive whole number or a pair"),
        (dict(representation_size="x"), "representation_size is None or a whole number"),
        (dict(dropout=None), "dropout is a share"),
        (dict(head_dim=1.5), "head_dim is None or a whole number"),
        (dict(qkv_bias="no"), "qkv_bias is True or False; got 'no'"),
        (dict(colour=3), "ViTConfig has no field colour"),
        (dict(depth=5), "do not fit the config"),
    ],
)
def test_our_own_config_is_damaged(change, what):
    config = json.dumps({"num_classes": 10} | change)
    metadata = {"format": "vitlab", "model": "ViT", "config": config}
    safetensors.torch.save_file(ViT(ViTConfig()).state_dict(), FILE, metadata)
    refused(what)
    refused(r"weights\.file")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "the config in .* cannot be read"),
        ("[1]", "the config in .* cannot be read"),
        ('{"num_heads": "x"}', "num_heads cannot be 'x'"),
        ('{"num_heads": 4, "image_size": [32]}', r"image_size cannot be \[32\]"),
        ('{"num_heads": 4, "depth": 2}', "the config in .* has depth"),
        ('{"num_heads": 4, "pool": "max"}', "pool is one of token, mean, token.mean; got 'max'"),
        ('{"num_heads": 5}', "num_heads=5 does not divide"),
    ],
)
def test_the_config_of_an_exported_file_is_damaged(text, what):
    safetensors.torch.save_file(timm_model().state_dict(), FILE, {"format": "pt", "vitlab": text})
    refused(what)


OF_HUGGING_FACE = [
    (dict(num_attention_heads="x"), "num_heads cannot be 'x'"),
    (dict(num_attention_heads=0), "num_heads cannot be 0"),
    (dict(num_attention_heads=5), "num_heads=5 does not divide"),
    (dict(layer_norm_eps=-1), "norm_eps cannot be -1"),
    (dict(image_size=[32, "a"]), "image_size cannot be"),
    (dict(image_size=33), "33 is not divisible by 8"),
    (dict(image_size=64), "its config says image_size=64"),
    (dict(hidden_size=64), "says embed_dim=48; its config says embed_dim=64"),
    (dict(patch_size=16), "says patch_size=8; its config says patch_size=16"),
    (dict(num_channels=1), "says in_chans=3; its config says in_chans=1"),
    (dict(intermediate_size=99), "says mlp_dim=80; its config says mlp_dim=99"),
    (dict(num_hidden_layers=1), "says depth=2; its config says depth=1"),
    (dict(qkv_bias=False), "says qkv_bias=True; its config says qkv_bias=False"),
    (dict(qkv_bias="yes"), "qkv_bias cannot be 'yes'"),
    (dict(id2label={"0": "a", "1": "b"}), "says num_classes=5; its config says num_classes=2"),
    (dict(hidden_act=["gelu"]), "hidden_act"),
    (dict(model_type="deit"), "model_type='deit'"),
]


def test_a_config_json_that_contradicts_or_is_damaged(transformers):  # noqa: F811
    stirred(transformers.ViTForImageClassification(hf_config(transformers))).save_pretrained("folder")
    file = Path("folder/config.json")
    good = json.loads(file.read_text())
    assert vitlab.load_checkpoint("folder").config.num_heads == 4
    for change, what in OF_HUGGING_FACE:
        file.write_text(json.dumps(good | change))
        refused(what, "folder")
    for content in (b"\xff\xfe", b"[]", b"[" * 100_000, b"", b"<html>"):
        file.write_bytes(content)
        refused(r"config\.json is damaged", "folder")
    file.unlink()  # without it, what the arrays do not say has to be given
    refused("does not say how many heads it has, .*: give num_heads", "folder")
    assert vitlab.load_checkpoint("folder", num_heads=4).config.depth == 2


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (dict(architecture=3), "is damaged: architecture is a text"),
        (dict(model_args=[1]), "model_args and pretrained_cfg are objects"),
        (dict(model_args=dict(num_heads="x")), "num_heads cannot be 'x'"),
        (dict(model_args=dict(num_heads=4, act_layer=3)), "act_layer=3"),
        (dict(pretrained_cfg=dict(input_size=[3])), r"image_size cannot be \[\]"),
        (dict(pretrained_cfg=dict(input_size=[3, 64, 64])), r"its config says image_size=\[64, 64\]"),
        (dict(global_pool=3), "global_pool=3"),
    ],
)
def test_timms_config_json_contradicts_or_is_damaged(config, what):
    file = as_safetensors(timm_model().state_dict(), Path("folder/model.safetensors"))
    config = dict(architecture="vit", model_args=dict(num_heads=4)) | config
    file.with_name("config.json").write_text(json.dumps(config))
    refused(what, "folder")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "is damaged"),
        ("{}", "names no files beside it"),
        ('{"weight_map": 3}', "names no files beside it"),
        ('{"weight_map": {"a": 3}}', "names no files beside it"),
        ('{"weight_map": {"a": "../outside.safetensors"}}', "names no files beside it"),
    ],
)
def test_the_index_of_a_folder_is_damaged(text, what):
    as_safetensors(timm_model().state_dict(), Path("outside.safetensors"))
    Path("folder").mkdir()
    Path("folder/model.safetensors.index.json").write_text(text)
    refused(re.escape("model.safetensors.index.json") + ".*" + what, "folder")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (dict(num_heads="four"), "num_heads is a whole number; got 'four'"),
        (dict(head_dim="x"), "head_dim is a whole number; got 'x'"),
        (dict(num_heads=4, norm_eps="x"), "norm_eps is above 0; got 'x'"),
        (dict(num_heads=4, dropout="x"), "dropout is a share"),
        (dict(num_heads=4, image_size="x"), "a size is a positive whole number or a pair"),
        (
            dict(num_heads=4, image_size=64, resize="x"),
            "method is one of 'jax', 'timm', 'hf', 'torchvision', 'flexivit'; got 'x'",
        ),
    ],
)
def test_a_field_given_of_another_kind(fields, what):
    refused(what, as_safetensors(timm_model().state_dict()), **fields)


def test_vitlabs_own_numbers_that_are_none(tmp_path):
    model = ViT(ViTConfig())
    model.norm.bias.data[3] = float("nan")
    with pytest.raises(ValueError, match="norm.bias"):
        vitlab.load_checkpoint(vitlab.save_checkpoint(model, tmp_path / "nan.safetensors"))


def test_a_model_that_its_config_does_not_make_is_not_saved(tmp_path):
    model, path = ViT(ViTConfig()), tmp_path / "vit.safetensors"
    before = vitlab.save_checkpoint(model, path).read_bytes()
    model.head = torch.nn.Linear(96, 3)
    with pytest.raises(ValueError, match="head.weight"):
        vitlab.save_checkpoint(model, path)
    assert path.read_bytes() == before
