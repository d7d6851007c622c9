"""`python -m vitlab.training`: what it trains on, what it writes, what it refuses."""

import json
import shlex

import pytest
import torch
from PIL import Image

import vitlab
from vitlab import ViT, ViTConfig, data
from vitlab.training import command

QUICK = "--steps 2 --batch_size 8 --precision fp32"
SMALL = "--embed_dim 16 --depth 1 --num_heads 2 --mlp_dim 24"


@pytest.fixture(scope="module")
def first_sixty() -> dict[str, data.Dataset]:
    return {split: data.fashion_mnist(split).subset(range(60)) for split in ("train", "test")}


@pytest.fixture(autouse=True)
def little_data(first_sixty, monkeypatch):
    """The same data, less of it."""
    monkeypatch.setattr(data, "fashion_mnist", first_sixty.__getitem__)
    monkeypatch.setattr(command, "SCENES", (30, 20))


def run(tmp_path, arguments: str):
    """The model and the card that the command writes."""
    path = tmp_path / "made.safetensors"
    command.main(["--out", str(path), *shlex.split(f"{QUICK} {arguments}")])
    return vitlab.load_checkpoint(path), json.loads(path.with_suffix(".json").read_text())


def test_checkpoint_and_card(tmp_path, capsys):
    model, card = run(tmp_path, f"{SMALL} --no-augment --seed 3")
    assert model.config == ViTConfig(embed_dim=16, depth=1, num_heads=2, mlp_dim=24)
    assert card["recipe"] == vars(vitlab.Recipe(steps=2, batch_size=8, augment=False, seed=3))
    assert card["parameters"] == vitlab.count_parameters(model)
    assert card["start"] is None
    assert card["data"].startswith("Fashion-MNIST, training split: T-shirt/top, Trouser")
    assert card["command"] == (
        f"python -m vitlab.training --out {tmp_path}/made.safetensors {QUICK} {SMALL} --no-augment --seed 3"
    )
    _, accuracy = vitlab.evaluate(model, data.fashion_mnist("test"), vitlab.start(precision="fp32"))
    assert card["test_accuracy"] == accuracy
    assert f"test accuracy {accuracy:.2%}" in capsys.readouterr().out


def test_its_weights_are_those_of_the_same_lines_in_a_notebook(tmp_path):
    model, _ = run(tmp_path, f"{SMALL} --images 20 --seed 4")
    device = vitlab.start(seed=4, precision="fp32")
    same = ViT(model.config)
    draw = data.fashion_mnist("train").subset(20, seed=4)
    vitlab.train(same, draw, None, vitlab.Recipe(steps=2, batch_size=8, seed=4), device, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.cpu().parameters(), strict=True))


def test_scenes_from_a_shipped_checkpoint(tmp_path):
    model, card = run(
        tmp_path, "--data scenes --image_size 32 --start fashion_mnist_vit --learning_rate 1e-9"
    )
    shipped = vitlab.load_checkpoint(vitlab.checkpoints.bundled("fashion_mnist_vit"))
    assert (model.config.in_chans, model.config.image_size) == (3, 32)
    for name in ("blocks.3.mlp.fc1.weight", "head.weight"):  # ten garments again, so the head is kept
        torch.testing.assert_close(model.state_dict()[name], shipped.state_dict()[name])
    assert card["data"].startswith("30 training scenes (seed 0) of 32 pixels: T-shirt/top")


def test_fewer_classes_have_a_new_head(tmp_path):
    model, card = run(tmp_path, "--classes 7 9 --start fashion_mnist_vit --learning_rate 1e-9")
    assert model.head.weight.shape == (2, 96)
    assert model.head.weight.abs().max() < 1e-7
    assert card["data"].endswith(": Sneaker, Ankle boot")


def test_the_card_tells_what_made_the_weights_that_it_went_on_from(tmp_path):
    _, first = run(tmp_path, "--start fashion_mnist_vit")
    shipped = json.loads(vitlab.checkpoints.bundled("fashion_mnist_vit").with_suffix(".json").read_text())
    assert first["start"] == {name: shipped[name] for name in ("sha256", "command")}
    made = tmp_path / "made.safetensors"
    before = first["sha256"]
    _, second = run(tmp_path, f"--start {made}")  # and replaces it
    assert second["sha256"] != before
    assert second["start"] == {"sha256": before, "command": first["command"], "start": first["start"]}
    made.with_suffix(".json").unlink()
    _, third = run(tmp_path, f"--start {made}")
    assert third["start"] == {"sha256": second["sha256"]}


def test_a_folder_of_images_and_a_resnet(tmp_path):
    for name, grey in (("dark", 20), ("bright", 220)):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (40, 30), (grey, grey, grey + i)).save(tmp_path / "mine" / name / f"{i}.png")
    model, card = run(
        tmp_path, f"--data {tmp_path}/mine --image_size 16 --model resnet --width 8 --blocks 1 2"
    )
    assert model.config == vitlab.resnet.ResNetConfig(in_chans=3, num_classes=2, width=8, blocks=(1, 2))
    assert card["data"] == f"{tmp_path}/mine, four fifths: bright, dark"


def test_started_again_it_goes_on_from_its_checkpoints(tmp_path, monkeypatch):
    arguments = f"{SMALL} --checkpoint_dir {tmp_path}/steps"
    model, card = run(tmp_path, arguments)
    monkeypatch.setattr(vitlab.training.Stepper, "step", None)  # so that a further step would fail
    again, same_card = run(tmp_path, arguments)
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    assert same_card["test_accuracy"] == card["test_accuracy"]


def test_a_broken_loss_ends_with_its_causes_and_without_a_checkpoint(tmp_path):
    with pytest.raises(
        SystemExit, match="vitlab.training: the loss became NaN or infinite by step 2.*clip_norm=1"
    ):
        run(tmp_path, f"{SMALL} --optimizer sgd --learning_rate 1e38 --clip_norm 0 --warmup_steps 0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--step 3", "no option --step; did you mean --steps?"),
        ("--learning-rate 1", "no option --learning-rate; did you mean --learning_rate?"),
        ("--batchsize=3", "no option --batchsize=3; did you mean --batch_size?"),
        ("--zzz", "no option --zzz; --help lists them all"),
        ("--steps many", "invalid int value: 'many'"),
        ("--steps 0", "steps is at least 1; got 0"),
        ("--class_weights even", "invalid balanced_or_number value: 'even'"),
        ("--class_weights 1 0", "a number above 0 for each class; got [1.0, 0.0]"),
        ("--class_weights balanced 2", "class_weights is None, 'balanced', or a number above 0"),
        ("--stem 2 2 --patch_size 7", "a feature stands for 8 pixels"),
        ("--patch_sizes 2 half", "invalid int value: 'half'"),
        ("--patch_sizes 2 2", "different whole numbers of pixels, as (2, 4, 7); got [2, 2]"),
        ("--pos_grid 7", "a pair (height, width); got [7]"),
        ("--num_heads 5", "96 is not divisible by num_heads 5"),
        ("--model resnet --depth 3", "--depth is of --model vit; this is --model resnet"),
        ("--model resnet --start fashion_mnist_vit", "goes on from a ViT"),
        ("--start fashion_mnist_vit --depth 3", "says depth=4; got depth=3"),
        ("--start imagenet", "there are: "),
        ("--data scene", "fashion_mnist, scenes or a folder of images; got 'scene'"),
        ("--image_size 32", "Fashion-MNIST has 28 pixels; got --image_size 32"),
        ("--data scenes --image_size 16", "scenes are at least 32 pixels"),
        ("--images 0", "a subset of 60 images has 1 to 60"),
        ("--images 100", "a subset of 60 images has 1 to 60"),
        ("--out model.pt", r"a file named *.safetensors; got model.pt"),
    ],
)
def test_what_cannot_be_done_is_refused(wrong, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command.main(["--out", "made.safetensors", *wrong.split()])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_class_weights_are_learnt_with_told_and_gone_on_with(tmp_path):
    """As in a notebook, and not with other weights."""
    shape, ten = f"{SMALL} --checkpoint_dir {tmp_path}/steps", " ".join(map(str, range(1, 11)))
    model, card = run(tmp_path, f"{shape} --class_weights {ten}")
    assert card["recipe"]["class_weights"] == list(range(1, 11))
    device = vitlab.start(precision="fp32")
    same, recipe = ViT(model.config), vitlab.Recipe(steps=2, batch_size=8, class_weights=range(1, 11))
    vitlab.train(same, data.fashion_mnist("train"), None, recipe, device, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.cpu().parameters(), strict=True))
    run(tmp_path, f"{shape} --class_weights {ten}")
    with pytest.raises(SystemExit, match="class_weights"):
        run(tmp_path, f"{shape} --class_weights balanced")
    assert run(tmp_path, f"{SMALL} --class_weights balanced")[1]["recipe"]["class_weights"] == "balanced"
    with pytest.raises(SystemExit, match="for each of 10 classes .*; got 2"):
        run(tmp_path, f"{SMALL} --class_weights 1 2")


def test_a_model_for_several_patch_sizes_is_the_notebooks_and_gone_on_with(tmp_path, capsys):
    shape = f"{SMALL} --checkpoint_dir {tmp_path}/steps --patch_sizes 7 14 28"
    model, card = run(tmp_path, f"{shape} --kernel_size 14 --pos_grid 5 5")
    assert card["recipe"]["patch_sizes"] == [7, 14, 28]
    assert model.patch_embed.proj.weight.shape[2:] == (14, 14)
    device = vitlab.start(precision="fp32")
    same, recipe = ViT(model.config), vitlab.Recipe(steps=2, batch_size=8, patch_sizes=(7, 14, 28))
    vitlab.train(same, data.fashion_mnist("train"), None, recipe, device, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.cpu().parameters(), strict=True))
    with pytest.raises(SystemExit, match=r"patch_sizes is \[7, 14, 28\], this one's is None"):
        run(tmp_path, f"{SMALL} --checkpoint_dir {tmp_path}/steps --kernel_size 14 --pos_grid 5 5")
    with pytest.raises(SystemExit, match="28 is not divisible by 5; use"):
        run(tmp_path, f"{SMALL} --patch_sizes 4 5")
    with pytest.raises(SystemExit, match="patch_sizes are for a ViT, and this model is a ResNet"):
        run(tmp_path, "--images 40 --steps 2 --batch_size 8 --model resnet --width 8 --patch_sizes 4")


def test_checkpoints_of_another_recipe_get_a_line_and_no_traceback(tmp_path, capsys):
    run(tmp_path, f"{SMALL} --checkpoint_dir {tmp_path}/steps")
    with pytest.raises(SystemExit, match="learning_rate"):
        run(tmp_path, f"{SMALL} --checkpoint_dir {tmp_path}/steps --learning_rate 0.5")


def test_another_start_does_not_go_on_from_anothers_checkpoints(tmp_path):
    again = f"{SMALL} --checkpoint_dir {tmp_path}/steps"
    run(tmp_path, again)
    with pytest.raises(SystemExit):
        run(tmp_path, again + f" --start {tmp_path}/made.safetensors")
    run(tmp_path, again)


@pytest.mark.parametrize("start", ["fashion_mnist_resnet", "fashion_mnist_masked"])
def test_a_start_that_is_no_vit_is_refused(tmp_path, start, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, f"--start {start}")
    assert "goes on from a ViT" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_found_before_the_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(vitlab.training.Stepper, "step", None)
    (tmp_path / "made.safetensors").mkdir()
    with pytest.raises(SystemExit):
        run(tmp_path, SMALL)
    assert "--out" in capsys.readouterr().err
