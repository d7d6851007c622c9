"""The studies of lesson 04."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitlab import ViT, ViTConfig, resnet, vit
from vitlab.pretraining import MATCHED_RESNET, STUDIES, __main__, data_size
from vitlab.pretraining.studies import forward_flops
from vitlab.resnet import ResNet, ResNetConfig
from vitlab.runtime import here
from vitlab.studies import read_rows, run_study

CPU = here("cpu", "fp32")


def counted(model, *shape) -> int:
    """What PyTorch itself counts while the model runs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("config", "image_size"),
    [(ResNetConfig(), 28), (MATCHED_RESNET, 28), (ResNetConfig(3, 7, 8, (2, 3)), 27),
     (ResNetConfig(in_chans=3, width=24, blocks=(1, 2, 1, 1)), (21, 34))],
)  # fmt: skip
def test_the_resnets_flops_are_those_that_pytorch_counts(config, image_size):
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    assert resnet.count_flops(config, image_size) == counted(ResNet(config), config.in_chans, height, width)


@pytest.mark.parametrize("fields", [{}, dict(pool="mean", patch_size=7), dict(image_size=(28, 56))])
def test_the_vits_flops_are_those_that_pytorch_counts(fields):
    config = ViTConfig(**fields)
    shape = config.image_size if isinstance(config.image_size, tuple) else (28, 28)
    assert vit.count_flops(config) == counted(ViT(config), 1, *shape)


def test_the_two_models_of_the_data_size_study_are_matched():
    models = ViT(ViTConfig()), ResNet(MATCHED_RESNET)
    a, b = (forward_flops(model) for model in models)
    assert a == pytest.approx(b, rel=0.01)
    a, b = (vit.count_parameters(model) for model in models)
    assert a == pytest.approx(b, rel=0.02)


SIZES = {"data_size": dict(images=[100, 200], seeds=[0, 3], steps=2, batch_size=8, test_images=50)}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_from_end_to_end(name, tmp_path, monkeypatch):
    """Tiny: interrupted at the second run, gone on with, a run that failed made again."""
    study, path = STUDIES[name](**SIZES[name]), tmp_path / f"{name}.csv"
    measure, seen = study.measure, []

    def troubled(settings, run):
        seen.append(settings)
        if len(seen) == 2:
            raise KeyboardInterrupt
        if len(seen) == 3:
            raise RuntimeError("a bad day")
        return measure(settings, run)

    object.__setattr__(study, "measure", troubled)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, path, CPU, progress=False)
    assert [row["status"] for row in read_rows(path)] == ["done"]
    rows = run_study(study, path, CPU, progress=False)
    assert [row["status"] for row in rows] == ["done", "failed"] + ["done"] * (len(study.runs) - 2)
    rows = run_study(study, path, CPU, rerun_failed=True, progress=False)
    assert len(seen) == len(study.runs) + 2
    assert [row["status"] for row in rows] == ["done"] * len(study.runs)
    assert all(0 <= row["test_accuracy"] <= 1 for row in rows)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_three_seeds_at_every_point(name):
    study = STUDIES[name]()
    points = [tuple(v for k, v in settings.items() if k != "seed") for settings in study.runs]
    assert set(map(points.count, points)) == {3}


def test_a_run_gives_the_same_result_again(tmp_path):
    study = data_size(images=[100], seeds=[5], steps=2, batch_size=8, test_images=50)
    a, b = (run_study(study, tmp_path / f"{i}.csv", CPU, progress=False) for i in range(2))
    for one, other in zip(a, b, strict=True):
        assert one["test_loss"] == other["test_loss"]
        assert one["train_loss"] == other["train_loss"]


def test_the_command_line_lists_the_studies(tmp_path, capsys):
    __main__.main(["study", "--list", "--folder", str(tmp_path)])
    listed = capsys.readouterr().out
    assert [line.split(" (")[0] for line in listed.splitlines()] == list(STUDIES)
    assert "0 of 30 runs done" in listed


@pytest.mark.parametrize("wrong", ["study nonsense", "study --only widht=3", "study --nonsense", "", "sudy"])
def test_the_command_line_refuses_what_is_not_there(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(wrong.split())
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err
