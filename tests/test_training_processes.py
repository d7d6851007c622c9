"""One training in several processes: the same losses, each line and file once."""

import json
import os
import subprocess
import sys

import accelerate
import pytest
import safetensors
import torch
from PIL import Image

import vitlab
from vitlab import Recipe, ViT, ViTConfig, data
from vitlab.data.batching import Batches
from vitlab.training import command

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0", "-m"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of 40 images each, of 8 x 8 pixels."""
    folder, generator = tmp_path_factory.mktemp("images"), torch.Generator().manual_seed(0)
    for label, name in enumerate(("dark", "bright")):
        (folder / name).mkdir()
        for i in range(40):
            pixels = torch.randint(60 * label, 196 + 60 * label, (8, 8, 3), generator=generator)
            Image.fromarray(pixels.byte().numpy()).save(folder / name / f"{i}.png")
    return folder


def arguments(folder, out, steps=20) -> list[str]:
    sizes = "--image_size 8 --embed_dim 16 --depth 2 --num_heads 2 --mlp_dim 24 --precision fp32"
    return [
        *f"--data {folder} --steps {steps} --batch_size 16 {sizes}".split(),
        *f"--out {out}/made.safetensors --checkpoint_dir {out}/steps".split(),
    ]


def facts(out) -> dict:
    """What the last checkpoint says of the training."""
    with safetensors.safe_open(sorted((out / "steps").iterdir())[-1], framework="pt") as file:
        return json.loads(file.metadata()["facts"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "more"),
    [
        (TORCHRUN, []),
        (ACCELERATE, []),
        (TORCHRUN, ["--class_weights", "1", "9"]),
        (TORCHRUN, ["--patch_sizes", "1", "4", "8"]),
    ],
    ids=["torchrun", "accelerate launch", "torchrun, weighted", "torchrun, patch sizes"],
)
def test_two_processes_learn_what_one_does(launcher, more, folder, tmp_path, monkeypatch):
    """Also where the weights of one's part of a batch are not those of the other's."""
    one, two = tmp_path / "one", tmp_path / "two"
    command.main(arguments(folder, one) + more)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    start = [sys.executable, "-m", *launcher, "vitlab.training", *arguments(folder, two), *more]
    done = subprocess.run(start, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    rows, wanted = facts(two)["rows"], facts(one)["rows"]
    assert len(rows) == 20
    for name, within in (("loss", 1e-4), ("accuracy", 1e-9), ("learning_rate", 0)):
        ours, theirs = ([row[name] for row in some] for some in (rows, wanted))
        assert ours == pytest.approx(theirs, abs=within), name
    assert wanted[0]["loss"] - wanted[-1]["loss"] > 0.1  # so that there is something to compare
    assert [e[0] for e in facts(two)["evaluations"]] == [4, 8, 12, 16, 20]

    model, other = (vitlab.load_checkpoint(out / "made.safetensors") for out in (two, one))
    for name, weight in other.state_dict().items():
        apart = (model.state_dict()[name] - weight).abs()
        if name.endswith("qkv.bias"):  # softmax undoes the keys' bias: AdamW scales up what rounding leaves
            apart = torch.cat([apart.chunk(3)[i] for i in (0, 2)])
        assert apart.max() < 1e-4, name
    card = json.loads((two / "made.json").read_text())
    assert card["command"].startswith("torchrun --nproc-per-node=2 -m vitlab.training --data")
    assert card["machine"].startswith("2 processes, each on CPU")
    assert done.stdout.count("test accuracy") == 1
    assert done.stderr.count("| 0/20 [") == 1  # one progress bar


KILLED = """
import os
from vitlab.training import loop, main

end_step = loop.Training.end_step
loop.Training.end_step = lambda self, stop: os._exit(9) if self.step == 13 else end_step(self, stop)
main()
"""


@pytest.mark.slow
def test_two_processes_go_on_where_they_were(folder, tmp_path, monkeypatch):
    """Both die between two checkpoints, and are started again; each has dropout of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    again, whole, script = tmp_path / "again", tmp_path / "whole", tmp_path / "killed.py"
    script.write_text(KILLED)

    def start(what, out):
        command = [sys.executable, "-m", *what, *arguments(folder, out), "--dropout", "0.2"]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert start([*TORCHRUN[:-1], str(script)], again) != 0
    assert facts(again)["step"] == 10
    assert start([*TORCHRUN, "vitlab.training"], again) == 0
    assert start([*TORCHRUN, "vitlab.training"], whole) == 0
    model, other = (vitlab.load_checkpoint(out / "made.safetensors") for out in (again, whole))
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    losses, wanted = ([row["loss"] for row in facts(out)["rows"]] for out in (again, whole))
    assert losses == wanted


def test_the_parts_of_a_batch_are_the_batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 1, 6, 6), generator=generator, dtype=torch.uint8)
    some = data.Dataset(images, torch.arange(50) % 5, list("abcde"))

    def stream(part):
        return Batches(some, 12, torch.Generator().manual_seed(3), augment=True, part=part)

    whole, parts = stream((0, 1)), [stream((i, 3)) for i in range(3)]
    for _ in range(20):  # nearly five passes over the data
        images, labels = (torch.cat(tensors) for tensors in zip(*map(next, parts), strict=True))
        wanted_images, wanted_labels = next(whole)
        assert torch.equal(images, wanted_images)
        assert torch.equal(labels, wanted_labels)


@pytest.mark.parametrize(("batch_size", "fits"), [(128, "126 or 129"), (2, "3")])
def test_a_batch_that_cannot_be_shared_is_refused(batch_size, fits):
    some = data.Dataset(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.zeros(4, dtype=int), ["a"])
    with pytest.raises(
        ValueError, match=f"batch_size {batch_size} is not divisible by 3 processes; use {fits}$"
    ):
        Batches(some, batch_size, torch.Generator(), part=(0, 3))


def test_notebook_launcher_with_one_process(capsys):
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator(), dtype=torch.uint8)
    some = data.Dataset(images, torch.arange(40) % 2, ["a", "b"])
    sizes = dict(image_size=8, embed_dim=16, depth=1, num_heads=2, mlp_dim=24, num_classes=2)
    histories = []

    def train():
        device = vitlab.start(device="cpu", precision="fp32")
        recipe = Recipe(steps=5, batch_size=8)
        histories.append(vitlab.train(ViT(ViTConfig(**sizes)), some, some, recipe, device, progress=False))

    train()
    accelerate.notebook_launcher(train, num_processes=1)
    first, second = histories
    assert [row["loss"] for row in first.rows] == [row["loss"] for row in second.rows]
    assert "WORLD_SIZE" not in os.environ
