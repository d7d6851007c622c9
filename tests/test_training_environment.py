"""What a launcher's variables, or an Accelerator of an earlier cell, do to a training: nothing in silence."""

import json
import subprocess
import sys

import pytest
import torch

import vitlab
from vitlab import Recipe
from vitlab.data import Dataset
from vitlab.training.processes import Processes

CPU = dict(device="cpu", precision="fp32")
VARIABLES = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_USE_CPU": "true",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_USE_SAGEMAKER": "true",
    "ACCELERATE_FP8_BACKEND": "TE",
    "FORK_LAUNCHED": "1",
    "LOCAL_RANK": "0",
    "RANK": "1",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "nowhere",
    "OMPI_COMM_WORLD_SIZE": "2",
}


def trained() -> list[float]:
    """The losses of four steps of SGD with momentum, without clipping: a shorter gradient shows."""
    model, data = linear(), blocks()
    recipe = Recipe(4, 24, 0.1, 0.0, warmup_steps=0, clip_norm=0.0, optimizer="sgd", augment=False)
    history = vitlab.train(model, data, None, recipe, vitlab.start(**CPU), progress=False)
    return [row["loss"] for row in history.rows]


def linear() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))


def blocks() -> Dataset:
    images = torch.randint(0, 256, (24, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    return Dataset(images.byte(), torch.arange(24) % 3, ["a", "b", "c"])


def by_hand() -> list[float]:
    """The same with PyTorch alone; a batch is all the data, in whatever order."""
    model, data, losses = linear(), blocks(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(model(data.images / 127.5 - 1), data.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", VARIABLES)
def test_a_launchers_variable_changes_nothing_for_one_process(name, monkeypatch):
    monkeypatch.setenv(name, VARIABLES[name])
    assert trained() == pytest.approx(by_hand(), rel=1e-5)


EARLIER = """
import json, sys
sys.path.insert(0, {tests!r})
from accelerate import Accelerator
from test_training_environment import trained
mine = Accelerator({options})
print(json.dumps(trained()))
print(mine.mixed_precision, mine.gradient_accumulation_steps)
"""


@pytest.mark.parametrize("options", ["mixed_precision='bf16', gradient_accumulation_steps=4, cpu=True"])
def test_an_accelerator_of_an_earlier_cell_changes_nothing_and_stays(options):
    code = EARLIER.format(tests=str(__file__).rpartition("/")[0], options=options)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses, kept = done.stdout.splitlines()
    assert json.loads(losses) == pytest.approx(by_hand(), rel=1e-5)
    assert kept == "bf16 4"


TWO = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"WORLD_SIZE": "2"},
            "no RANK, MASTER_ADDR, MASTER_PORT: start them by .* unset WORLD_SIZE",
        ),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "no MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE says how many .* a whole number of 1 or more; .* 'two'.*unset"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE says how many processes .* of 1 or more; .* '0'"),
        ({"WORLD_SIZE": "²"}, "WORLD_SIZE says how many processes .* of 1 or more; .* '²'"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE says how many processes .* of 1 or more; .* '2.0'"),
        (TWO | {"RANK": "2"}, "RANK says which .* from 0 to 1; .* '2': start them by torchrun"),
        (TWO | {"RANK": "²"}, "RANK says which .* from 0 to 1; .* '²': start them by torchrun"),
        (TWO | {"RANK": "first"}, "RANK says which .* from 0 to 1; .* 'first'"),
        (TWO | {"RANK": "-1"}, "RANK says which .* from 0 to 1; .* '-1'"),
        (TWO | {"RANK": "0", "MASTER_PORT": "http"}, "MASTER_PORT says where .* from 1 to 65535; .* 'http'"),
    ],
)
def test_several_processes_that_cannot_meet_are_refused(environment, said, monkeypatch):
    """Where they were waited for, half an hour passed."""
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said):
        trained()


def test_several_processes_need_gpus_of_their_own(monkeypatch):
    for name, value in dict(WORLD_SIZE="2", RANK="1", MASTER_ADDR="localhost", MASTER_PORT="1").items():
        monkeypatch.setenv(name, value)
    cuda = vitlab.runtime.Run(torch.device("cuda"), "fp32")
    with pytest.raises(ValueError, match="no LOCAL_RANK"):
        Processes(cuda)
    for wrong in ("gpu0", "²", "1.0", "-1"):
        monkeypatch.setenv("LOCAL_RANK", wrong)
        with pytest.raises(
            ValueError, match=f"LOCAL_RANK says which GPU .* 0 or more; .* {wrong!r}.*torchrun"
        ):
            Processes(cuda)
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(ValueError, match="has no GPU of its own"):
        Processes(cuda)
    with pytest.raises(ValueError, match="on CUDA or on CPUs; this run is on mps"):
        Processes(vitlab.runtime.Run(torch.device("mps"), "fp32"))
