"""The study of claim 6's crossing: its three kinds of model, its images, and one run."""

import pytest
import torch

from vitlab import data
from vitlab.pretraining import training_flops
from vitlab.pretraining.crossing import IMAGE_SIZE, SHAPES, TASKS, crossing_rates, images_of, new_model
from vitlab.resnet import ResNet, ResNetConfig
from vitlab.runtime import here
from vitlab.studies import run_study
from vitlab.vit import count_parameters

CPU = here("cpu", "fp32")


@pytest.mark.parametrize(("size", "millions"), [("small", 0.3), ("large", 1.5)])
def test_the_three_have_as_many_parameters_and_flops(size, millions):
    models = [new_model(kind, size, 10) for of, kind in SHAPES if of == size]
    assert [count_parameters(model) / 1e6 for model in models] == pytest.approx([millions] * 3, rel=0.05)
    flops = [training_flops(model, (3, IMAGE_SIZE, IMAGE_SIZE)) for model in models]
    assert max(flops) < 1.12 * min(flops)


def test_a_hybrids_stem_is_the_first_stage_of_a_resnet():
    hybrid, resnet = new_model("hybrid", "small", 10), ResNet(ResNetConfig(3, 10, width=8, blocks=(1,)))
    features = torch.nn.Sequential(resnet.stem, resnet.blocks)
    names = zip(features.state_dict(), hybrid.stem.state_dict().values(), strict=True)
    features.load_state_dict(dict(names))
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(hybrid(images), hybrid.vit(features(images)))
    assert hybrid.vit.patch_embed.proj.in_channels == 8


@pytest.mark.parametrize("task", TASKS)
def test_no_two_seeds_or_parts_share_an_image(task, monkeypatch):
    monkeypatch.setattr("vitlab.pretraining.crossing.PART", 20)
    images = torch.cat([images_of(task, 50, seed).images for seed in (0, 1)])
    assert len(images.flatten(1).unique(dim=0)) == 100
    assert torch.equal(images_of(task, 30, 1).images, images[50:80]), "more images begin with the fewer"


def test_images_are_those_that_the_learner_makes():
    made = images_of("order", 8, seed=0, split="test")
    want = data.relations(8, seed=0, image_size=IMAGE_SIZE, split="test", relation="order")
    assert torch.equal(made.images, want.images)
    assert torch.equal(made.labels, want.labels)
    assert made.classes == want.dataset.classes


def test_a_run_made_twice_is_the_same(tmp_path):
    study = crossing_rates([200], [0], ["same"], ["small"], ["vit", "resnet", "hybrid"], [1e-3], 100)
    once, again = (run_study(study, tmp_path / name, CPU, progress=False) for name in ("a.csv", "b.csv"))
    assert [row["status"] for row in once] == ["done"] * 3, once
    for one, other in zip(once, again, strict=True):
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], abs=1e-3)
        assert one["validation_accuracy"] == pytest.approx(other["validation_accuracy"], abs=0.011)
