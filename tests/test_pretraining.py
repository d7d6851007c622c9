"""The studies of lesson 04."""

import inspect
import math
import shlex
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import vitlab
from vitlab import Recipe, ViT, ViTConfig, count_parameters, data, files, resnet, studies, train
from vitlab.pretraining import (
    MATCHED_RESNET,
    STUDIES,
    __main__,
    after,
    data_size,
    learnt_by_class,
    training_flops,
)
from vitlab.pretraining.masked_targets import masked_targets
from vitlab.resnet import ResNet, ResNetConfig
from vitlab.runtime import here
from vitlab.studies import grid, read_rows, run_study

CPU = here("cpu", "fp32")


def counted(model, *shape) -> int:
    """FLOPs of a forward pass on one image, as PyTorch counts them: none of those of fused attention."""
    counter, unfused = FlopCounterMode(display=False), sdpa_kernel(SDPBackend.MATH)
    with unfused, counter, torch.no_grad():
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


def test_the_two_models_of_the_data_size_study_are_matched():
    vit, conv = ViT(ViTConfig()), ResNet(MATCHED_RESNET)
    assert counted(vit, 1, 28, 28) == pytest.approx(counted(conv, 1, 28, 28), rel=0.05)
    assert training_flops(vit) == pytest.approx(training_flops(conv), rel=0.05)
    assert count_parameters(vit) == pytest.approx(count_parameters(conv), rel=0.01)


def test_a_training_step_costs_about_three_forward_passes():
    for model in (ViT(ViTConfig()), ResNet(MATCHED_RESNET)):
        forward = counted(model, 1, 28, 28)
        assert 2.9 * forward < training_flops(model) < 3 * forward  # the images need no gradient
        assert all(p.grad is None for p in model.parameters())


TINY = dict(seeds=[0, 3], steps=2, batch_size=8, test_images=50)
SIZES = {
    "data_size": dict(images=[100, 200]),
    "position_embeddings": {},
    "pooling": dict(learning_rates=[1e-3, 2e-3], validation_images=20),
    "patch_size": dict(patch_sizes=[7, 28], learning_rates=[2e-3], validation_images=20),
    "masked_patches": dict(labels=[10, 30], learning_rates=[1e-3], pretraining_steps=3),
    "masked_targets": dict(labels=10, learning_rates=[1e-3], pretraining_steps=3, validation_images=20),
    "scrambled": dict(learning_rates=[1e-3], validation_images=20),
    "norm_gradients": {},
    "crossing_rates": dict(images=[100], tasks=["same"], sizes=["small"], learning_rates=[1e-3])
    | dict(validation_images=20),
    "after_the_paper": dict(arms=["plain", "rope"], learning_rates=[1e-3], validation_images=20),
    "flexi": dict(trained_at=["every", 7, 14], learning_rates=[1e-3], start_steps=2, validation_images=20),
}
SEEDS = dict.fromkeys(STUDIES, 3) | dict(norm_gradients=5, scrambled=6)


def tiny(name: str) -> studies.Study:
    """A study as small as it goes; not each has a size for everything."""
    sizes = (TINY | SIZES[name]).items()
    known = inspect.signature(STUDIES[name]).parameters
    return STUDIES[name](**{size: value for size, value in sizes if size in known})


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_from_end_to_end(name, tmp_path, monkeypatch):
    """Tiny: interrupted at the second run, gone on with, a run that failed made again."""
    study, path = tiny(name), tmp_path / f"{name}.csv"
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
    assert all(0 <= row.get("test_accuracy", row.get("validation_accuracy")) <= 1 for row in rows)


@pytest.mark.parametrize("name", ["data_size", "masked_patches"])
def test_ctrl_c_in_a_training_is_no_result(name, tmp_path, monkeypatch):
    """`train` takes Ctrl-C for a decision to end early; a study must not take that for a measurement."""
    study, path = tiny(name), tmp_path / f"{name}.csv"
    pretrained = name == "masked_patches"
    run_study(
        study,
        path,
        CPU,
        only=dict(seed=0, pretraining_steps=0) if pretrained else dict(seed=0),
        progress=False,
    )
    before = read_rows(path)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.batching, "normalise", stop)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, path, CPU, progress=False)
    assert read_rows(path) == before


def test_a_loss_that_breaks_is_a_failed_run(tmp_path, monkeypatch):
    monkeypatch.setattr(data.batching, "normalise", lambda images: images.float() * math.nan)
    study = data_size(**(TINY | dict(images=[100], seeds=[0])))
    rows = run_study(study, tmp_path / "s.csv", CPU, progress=False)
    assert [row["status"] for row in rows] == ["failed"] * 2
    assert rows[0]["message"].startswith("NonFiniteLossError: ")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_several_seeds_at_every_point(name):
    study = STUDIES[name]()
    points = [tuple(v for k, v in settings.items() if k != "seed") for settings in study.runs]
    assert set(map(points.count, points)) == {SEEDS[name]}


@pytest.mark.parametrize("name", STUDIES)
def test_what_ships_was_made_by_the_study_as_it_is(name):
    """Every row has settings that the study has today, is done, and stands beside all other seeds."""
    path = files.root("results") / "results" / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"no results of {name} ship")
    study, rows = STUDIES[name](), studies.read_results(name)
    assert rows == studies.rows_of(study, path)
    assert {row["status"] for row in rows} == {"done"}
    points = [tuple(row[setting] for setting in study.settings if setting != "seed") for row in rows]
    assert set(map(points.count, points)) == {SEEDS[name]}
    assert all(
        row["command"].startswith(f"python -m vitlab.pretraining study {name} --only ") for row in rows
    )
    assert not [row["commit"] for row in rows if row["commit"].endswith("+")]


def test_arms_of_masked_targets_begin_alike_and_take_as_many_steps(monkeypatch):
    """From scratch as many as the others take together; and what is trained at last is what came before."""
    begun, learnt = {}, []

    def noted(model, images, settings, run, augment):
        begun[settings["arm"]] = {name: p.detach().clone() for name, p in model.named_parameters()}
        learnt.append(
            (settings["arm"], settings["steps"] + settings["pretraining_steps"], len(images.labels))
        )
        return {}

    monkeypatch.setattr("vitlab.pretraining.masked_targets.trained", noted)
    study = masked_targets(
        seeds=[7], learning_rates=[1e-3], labels=20, pretraining_steps=2, steps=3, batch_size=8
    )
    for settings in study.runs:
        run = vitlab.start(seed=7, device="cpu", precision="fp32")
        study.measure(settings, run)
    assert learnt == [(arm, 5, 20) for arm in ("scratch", "mean colour", "pixels")]
    name = "blocks.0.mlp.fc1.weight"
    colours, pixels = begun["mean colour"][name], begun["pixels"][name]
    assert 0 < float((colours - pixels).abs().max()) < 0.05, "they began alike; two steps do not lead far"


def test_a_setting_of_several_words_is_one_in_the_command(tmp_path):
    study = studies.Study(
        "arms", "Which?", grid(seed=[0, 1, 2], arm=["mean colour", "pixels"]), lambda s, run: {"side": 1}
    )
    rows = run_study(study, tmp_path / "arms.csv", CPU, command="python -m lab study arms", progress=False)
    words = shlex.split(rows[0]["command"])
    assert words[-2:] == ["seed=0", "arm=mean colour"]
    assert studies.read_only(words[-2:]) == dict(seed=[0], arm=["mean colour"])
    assert "record" not in studies.shortcomings(tmp_path / "arms.csv")


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


# --- class by class ----------------------------------------------------------------------------------------


def test_learnt_by_class_is_what_trainings_of_that_length_come_to():
    """Each moment again, as a training that is stopped there and asked image by image."""
    config = ViTConfig(
        image_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, mlp_dim=8, num_classes=3
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=generator)
    some = data.Dataset(images, torch.arange(60) % 3, list("abc"))
    recipe = Recipe(steps=6, batch_size=16, learning_rate=0.03, augment=False)
    found = learnt_by_class(config, some, some, recipe, [2, 6], [5, 1], CPU)
    assert found.shape == (2, 2, 3)
    for i, seed in enumerate((5, 1)):
        for j, moment in enumerate((2, 6)):
            torch.manual_seed(seed)
            model = ViT(config)

            def stop(history, moment=moment):
                if history.rows[-1]["step"] == moment:
                    raise KeyboardInterrupt

            train(model, some, None, replace(recipe, seed=seed), CPU, on_step=stop, progress=False)
            said = model.eval()(data.normalise(images)).argmax(1)
            for label in range(3):
                mine = said[some.labels == label] == label
                assert found[i, j, label] == pytest.approx(mine.float().mean().item())

    none_of_c = some._replace(labels=torch.arange(60) % 2)
    with pytest.raises(ValueError, match="test_data has no image of c: how many are right cannot be said"):
        learnt_by_class(config, some, none_of_c, recipe, [2], [0], CPU)


@pytest.mark.parametrize("moments", [[], [0, 1], [3, 2], [2, 2], [7]])
def test_moments_that_a_training_does_not_come_to_are_refused(moments):
    with pytest.raises(ValueError, match="moments are steps from 1 to 6 in rising order"):
        learnt_by_class(ViTConfig(), None, None, Recipe(steps=6), moments, [0], CPU)


@pytest.mark.parametrize("arm", after.ARMS)
def test_an_arm_of_after_the_paper_is_what_it_says(arm, tmp_path):
    study = STUDIES["after_the_paper"](**TINY | dict(arms=[arm], learning_rates=[1e-3], validation_images=20))
    row = run_study(study, tmp_path / "a.csv", CPU, only=dict(seed=3), progress=False)[0]
    assert row["status"] == "done"
    wanted = count_parameters(ViT(ViTConfig())) + {
        "registers": 4 * 96,  # tokens
        **dict.fromkeys(("soft distillation", "hard distillation"), 2 * 96 + 96 * 10 + 10),  # and its head
        "rope": -50 * 96,  # no table
    }.get(arm, 0)
    assert row["parameters"] == wanted
    assert row["norm_ratio"] >= 1
    assert row["train_seconds"] > 0
    for name in ("test_accuracy", "test_accuracy_at_40px", "test_accuracy_at_56px"):
        assert 0 <= row[name] <= 1
    for r in (2, 4, 8):
        assert (row[f"merged_{r}"] is None) == (arm == "rope")
    for side in (40, 56):
        assert (row[f"test_accuracy_at_{side}px_stretched"] is None) == (arm != "rope")
    task = after.task_of(arm)
    assert (task is None) == (arm.split()[-1] != "distillation")
    assert task is None or arm == f"{task.keywords['kind']} distillation"


def test_the_commands_of_arms_of_two_words_make_their_rows(tmp_path):
    sizes = dict(arms=["patch dropout", "rope"], learning_rates=[1e-3], validation_images=20)
    study = STUDIES["after_the_paper"](**TINY | sizes)
    path = tmp_path / "after_the_paper.csv"
    rows = run_study(
        study, path, CPU, command="python -m vitlab.pretraining study after_the_paper", progress=False
    )
    assert shlex.split(rows[0]["command"])[-3:] == ["--only", "seed=0", "arm=patch dropout"]
    assert "record" not in studies.shortcomings(path)


def test_the_norm_ratio_by_a_loop():
    model, images = ViT(ViTConfig(num_registers=2)), data.fashion_mnist("test").subset(range(7))
    torch.nn.init.normal_(model.pos_embed)
    ratios = []
    with torch.no_grad():
        for image in images.images:
            tokens = model.blocks(model.embed(image[None].float() / 127.5 - 1))[0, 3:]
            lengths = sorted(token.square().sum().sqrt().item() for token in tokens)
            ratios.append(lengths[-1] / lengths[24])
    for batch_size in (3, 100):
        found = after.norm_ratio(model, images, CPU, batch_size)
        assert found == pytest.approx(sum(ratios) / 7, rel=1e-5)


def test_stretched_places_are_those_of_smaller_patches_on_the_image_before():
    """A 56-pixel image in patches of 4 has its places where one of 28 has them in patches of 2."""
    model = ViT(ViTConfig(pos_embed="rope2d"))
    larger, finer = after.stretched(model, 56), model.at(patch_size=2)
    assert larger.config.rotary == finer.config.rotary != model.at(image_size=56).config.rotary
    tokens = torch.randn(2, 197, 96)
    for one, other in zip(larger.blocks, finer.blocks, strict=True):
        assert torch.equal(one(tokens), other(tokens))
