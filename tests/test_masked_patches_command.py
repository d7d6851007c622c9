"""`python -m vitlab.pretraining masked`, and checkpoints of what it trains."""

import json
import math
import shlex

import pytest
import torch

import vitlab
from vitlab import Recipe, ViT, ViTConfig, data
from vitlab.fine_tuning import adapt
from vitlab.pretraining import MaskedPatchViT, __main__, masked_patch_prediction
from vitlab.training import command

QUICK = "--steps 2 --batch_size 8 --precision fp32 --embed_dim 16 --depth 1 --num_heads 2 --mlp_dim 24"


@pytest.fixture(autouse=True)
def little_data(monkeypatch):
    few = {split: data.fashion_mnist(split).subset(range(60)) for split in ("train", "test")}
    monkeypatch.setattr(data, "fashion_mnist", few.__getitem__)
    monkeypatch.setattr(command, "SCENES", (30, 20))


def make(tmp_path, arguments: str) -> tuple[MaskedPatchViT, dict]:
    """The model and the card that the command writes."""
    path = tmp_path / "made.safetensors"
    __main__.main(["masked", "--out", str(path), *shlex.split(f"{QUICK} {arguments}")])
    return vitlab.load_checkpoint(path), json.loads(path.with_suffix(".json").read_text())


def test_checkpoint_and_card(tmp_path):
    model, card = make(tmp_path, "--no-augment --seed 3")
    assert isinstance(model, MaskedPatchViT)
    assert model.vit.config == ViTConfig(num_classes=0, embed_dim=16, depth=1, num_heads=2, mlp_dim=24)
    assert card["task"] == "masked_patch_prediction"
    assert card["parameters"] == vitlab.count_parameters(model)
    assert card["command"].startswith("python -m vitlab.pretraining masked --out ")
    run = vitlab.start(device="cpu", precision="fp32")
    test = data.fashion_mnist("test")
    loss, accuracy = vitlab.evaluate(model, test, run, batch_size=32, task=masked_patch_prediction)
    assert card["test_accuracy"] == accuracy
    assert loss < math.log(8)  # two steps away from guessing
    assert adapt(model.vit, num_classes=10)(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_its_weights_are_those_of_the_same_lines_in_a_notebook(tmp_path):
    model, _ = make(tmp_path, "--seed 4")
    run = vitlab.start(seed=4, device="cpu", precision="fp32")
    same = MaskedPatchViT(
        adapt(ViT(ViTConfig(embed_dim=16, depth=1, num_heads=2, mlp_dim=24)), num_classes=0)
    )
    recipe = Recipe(steps=2, batch_size=8, seed=4)
    vitlab.train(
        same, data.fashion_mnist("train"), None, recipe, run, progress=False, task=masked_patch_prediction
    )
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_scenes_in_colour(tmp_path):
    model, card = make(tmp_path, "--data scenes --images 24 --image_size 32 --patch_size 8 --pool mean")
    assert model.head.out_features == 512
    assert model.vit.config.num_patches == 16
    assert "24 training scenes" in card["data"]


def test_a_checkpoint_gives_the_same_predictions(tmp_path):
    torch.manual_seed(0)
    model = MaskedPatchViT(ViTConfig(image_size=(12, 20), num_classes=0, embed_dim=16, num_heads=2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    again = vitlab.load_checkpoint(vitlab.save_checkpoint(model, tmp_path / "m.safetensors"))
    images = torch.rand(3, 1, 12, 20) * 2 - 1
    assert torch.equal(model.eval()(images)[0], again(images)[0])


def test_a_model_without_classes_learns_only_what_needs_none():
    few, recipe = data.fashion_mnist("train"), Recipe(steps=1, batch_size=8)
    config = ViTConfig(num_classes=0, embed_dim=16, num_heads=2)
    with pytest.raises(ValueError, match="the model knows 0 classes"):
        vitlab.train(ViT(config), few, few, recipe, progress=False)
    model = MaskedPatchViT(config)
    history = vitlab.train(model, few, few, recipe, progress=False, task=masked_patch_prediction)
    assert 0 <= history.accuracy <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--model resnet", "only a ViT has patches to mask; got a ResNet"),
        ("--step 3", "did you mean --steps?"),
        ("--representation_size 8", "--representation_size 8 is not used for this task"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(["masked", "--out", str(tmp_path / "m.safetensors"), *wrong.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["--label_smoothing 0.1", "--class_weights balanced"])
def test_settings_of_classification_are_not_dropped_in_silence(setting, tmp_path):
    with pytest.raises(SystemExit, match=f"{setting.split()[0][2:]} is of the task classification"):
        make(tmp_path, setting)
    assert list(tmp_path.iterdir()) == []


def test_help_is_for_masked_patches(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["masked", "--help"])
    assert "usage: python -m vitlab.pretraining masked" in capsys.readouterr().out
