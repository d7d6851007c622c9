"""Saving and loading: what comes back, what is refused, and that an old file survives every accident."""

import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import safetensors.torch
import torch

import vitlab
from vitlab import ViT, ViTConfig
from vitlab.checkpoints import bundled, card
from vitlab.resnet import ResNet, ResNetConfig


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(),
        ViTConfig(image_size=(28, 56), pool="mean", pos_embed="sincos2d", gelu="tanh", norm_eps=1e-5),
        ViTConfig(pos_embed="none", representation_size=24, num_classes=0),
    ],
)
def test_what_comes_back_is_what_was_saved(config, tmp_path):
    model = ViT(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = vitlab.save_checkpoint(model, tmp_path / "new folder" / "vit.safetensors")
    again = vitlab.load_checkpoint(path)
    height, width = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
    images = torch.randn(2, 1, height, width)
    assert again.config == config
    assert not again.training
    assert torch.equal(again(images), model(images))
    assert os.listdir(path.parent) == ["vit.safetensors"]


def test_half_precision_comes_back_as_fp32(tmp_path):
    path = vitlab.save_checkpoint(ViT(ViTConfig()).bfloat16(), tmp_path / "vit.safetensors")
    assert {p.dtype for p in vitlab.load_checkpoint(path).parameters()} == {torch.float32}


def saved(tmp_path):
    return vitlab.save_checkpoint(ViT(ViTConfig()), tmp_path / "vit.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 5_000, -1])
def test_a_file_cut_short_is_named(tmp_path, keep):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"vit\.safetensors is cut short or not a safetensors file"):
        vitlab.load_checkpoint(path)


class Bomb:
    def __reduce__(self):
        return os.system, ("echo unpickled > bomb",)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    plain, zipped = tmp_path / "a.safetensors", tmp_path / "b.pt"
    plain.write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    torch.save({"weight": torch.zeros(2)}, zipped)
    for path in (plain, zipped):
        with pytest.raises(ValueError, match="never does it"):
            vitlab.load_checkpoint(path)
    assert not (tmp_path / "bomb").exists()


@pytest.mark.parametrize("beginning", [b"\x80\x05", b"\x80\x20", b"PK"])
def test_a_header_whose_length_looks_like_a_pickle_or_a_zip(beginning, tmp_path):
    """A safetensors file begins with its header's length, whose bytes may be those of another format."""
    path, tensors = tmp_path / "vit.safetensors", {"w": torch.zeros(2)}
    metadata = {"format": "vitlab", "config": json.dumps({"depth": 1}), "note": ""}
    if beginning != b"\x80\x05":  # too short for a whole model
        tensors = dict(ViT(ViTConfig(depth=1)).state_dict())
    header = int.from_bytes(safetensors.torch.save(tensors, metadata)[:8], "little")
    metadata["note"] = " " * (int.from_bytes(beginning, "little") - header)
    safetensors.torch.save_file(tensors, path, metadata)
    assert path.read_bytes()[:2] == beginning
    if len(tensors) > 1:
        assert vitlab.load_checkpoint(path).config.depth == 1
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        vitlab.load_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="holds no ViT that vitlab knows: its arrays, 'weight'"):
        vitlab.load_checkpoint(path)
    np.savez(tmp_path / "other.npz", weight=np.zeros(2))
    with pytest.raises(ValueError, match="holds no ViT that vitlab knows: its arrays, 'weight'"):
        vitlab.load_checkpoint(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        vitlab.load_checkpoint(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("metadata", [{}, {"config": "{"}, {"config": "3"}])
def test_a_damaged_config_is_named(tmp_path, metadata):
    path = tmp_path / "damaged.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, {"format": "vitlab"} | metadata)
    with pytest.raises(ValueError, match=r"the config in .*damaged\.safetensors cannot be read"):
        vitlab.load_checkpoint(path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    tensors = ViT(ViTConfig(depth=3)).state_dict()
    config = json.dumps({"depth": 4})
    path = tmp_path / "mixed.safetensors"
    safetensors.torch.save_file(dict(tensors), path, {"format": "vitlab", "config": config})
    with pytest.raises(ValueError, match=r"do not fit the config(.|\n)*blocks\.3"):
        vitlab.load_checkpoint(path)


def test_fields_must_agree_with_the_file(tmp_path):
    path = saved(tmp_path)
    assert vitlab.load_checkpoint(path, num_heads=4, image_size=28).config == ViTConfig()
    with pytest.raises(ValueError, match="says num_heads=4; got num_heads=2"):
        vitlab.load_checkpoint(path, num_heads=2)
    with pytest.raises(ValueError, match="no field heads"):
        vitlab.load_checkpoint(path, heads=4)


def test_a_resnet_comes_back_as_it_was_saved(tmp_path):
    model = ResNet(ResNetConfig(in_chans=3, num_classes=5, width=8, blocks=(1, 2))).eval()
    torch.nn.init.normal_(model.head.weight)
    path = vitlab.save_checkpoint(model, tmp_path / "resnet.safetensors")
    again, images = vitlab.load_checkpoint(path, blocks=[1, 2]), torch.randn(2, 3, 20, 24)
    assert again.config == model.config
    assert torch.equal(again(images), model(images))
    with pytest.raises(ValueError, match=r"says blocks=\(1, 2\); got blocks=\(1, 1\)"):
        vitlab.load_checkpoint(path, blocks=(1, 1))
    with pytest.raises(ValueError, match="ResNetConfig has no field depth"):
        vitlab.load_checkpoint(path, depth=2)


def test_a_file_that_does_not_say_its_model_is_a_vit(tmp_path):
    model, path = ViT(ViTConfig(depth=1)), tmp_path / "old.safetensors"
    metadata = {"format": "vitlab", "config": json.dumps({"depth": 1})}
    safetensors.torch.save_file(dict(model.state_dict()), path, metadata)
    assert isinstance(vitlab.load_checkpoint(path), ViT)
    safetensors.torch.save_file(dict(model.state_dict()), path, metadata | {"model": "Mixer"})
    with pytest.raises(ValueError, match="holds a Mixer; this vitlab knows ViT and ResNet"):
        vitlab.load_checkpoint(path)


def test_only_known_models_are_saved(tmp_path):
    with pytest.raises(ValueError, match="takes vitlab's ViT, ResNet, MaskedPatchViT; got Linear"):
        vitlab.save_checkpoint(torch.nn.Linear(2, 2), tmp_path / "x.safetensors")
    stranger = type("ViT", (torch.nn.Linear,), {})(2, 2)
    with pytest.raises(ValueError, match="takes vitlab's ViT, ResNet, MaskedPatchViT; got ViT"):
        vitlab.save_checkpoint(stranger, tmp_path / "x.safetensors")


def run_python(code: str, *arguments, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], **options)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path):
    path = saved(tmp_path)
    before = path.read_bytes()
    code = """
        import sys, vitlab
        try:
            vitlab.save_checkpoint(vitlab.ViT(vitlab.ViTConfig(depth=8)), sys.argv[1])
        except OSError as error:
            sys.exit(27 if error.errno == 27 else 1)
    """

    def small_disk():  # writing more than this fails, as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    assert run_python(code, path, preexec_fn=small_disk).wait() == 27
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["vit.safetensors"]


def test_a_kill_while_saving_leaves_a_whole_file(tmp_path):
    path = saved(tmp_path)
    code = """
        import sys, vitlab
        model = vitlab.ViT(vitlab.ViTConfig(embed_dim=384, mlp_dim=1536, depth=6))
        print("ready", flush=True)
        while True:
            vitlab.save_checkpoint(model, sys.argv[1])
    """
    for delay in (0.0, 0.05, 0.11):
        process = run_python(code, path, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.wait()
        assert vitlab.load_checkpoint(path).config.num_classes == 10


def test_shipped_checkpoints_are_what_their_cards_say():
    names = [path.stem for path in bundled("fashion_mnist_vit").parent.glob("*.safetensors")]
    assert "fashion_mnist_vit" in names
    for name in names:
        assert card(name)["sha256"] == hashlib.sha256(bundled(name).read_bytes()).hexdigest()
        assert card(name)["command"].startswith("python -m vitlab.")
        assert vitlab.count_parameters(vitlab.load_checkpoint(bundled(name))) == card(name)["parameters"]


def test_an_unknown_shipped_checkpoint_names_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"there are: .*fashion_mnist_vit"):
        bundled("imagenet")


@pytest.mark.slow
def test_the_shipped_checkpoint_is_as_good_as_its_card_says():
    """Measured on all 10,000 test images: at least 90 %, and the card's accuracy up to rounding."""
    model = vitlab.load_checkpoint(bundled("fashion_mnist_vit"))
    run = vitlab.start(device="cpu", precision="fp32")
    _, accuracy = vitlab.evaluate(model, vitlab.data.fashion_mnist("test"), run)
    assert accuracy >= 0.90
    assert accuracy == pytest.approx(card("fashion_mnist_vit")["test_accuracy"], abs=0.003)


def test_a_folder_is_no_place_for_weights(tmp_path):
    with pytest.raises(ValueError, match="is a folder; name a file in it, such as .*vit.safetensors"):
        vitlab.save_checkpoint(ViT(ViTConfig()), tmp_path)
    assert list(tmp_path.iterdir()) == []
