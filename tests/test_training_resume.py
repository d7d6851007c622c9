"""Checkpoints of a training under way: after any accident it ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
import safetensors.torch
import torch

import vitlab
import vitlab.training.resume
from vitlab import Recipe, ViT, ViTConfig
from vitlab.data import Dataset

CPU = dict(device="cpu", precision="fp32")
SMALL = dict(
    image_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, mlp_dim=12, num_classes=3, dropout=0.2
)


def noise(n: int = 50, seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Dataset(images, torch.randint(0, 3, (n,), generator=generator), ["a", "b", "c"])


def new_model(**config) -> ViT:
    vitlab.start(**CPU, seed=7)
    return ViT(ViTConfig(**(SMALL | config)))


def run(recipe: Recipe, folder=None, on_step=None, precision="fp32", model=None, data=None, **config):
    """A training from the start, with all that is random in one: augmentation, sampling, dropout."""
    model = model or new_model(**config)
    device = vitlab.runtime.here("cpu", precision)
    options = dict(on_step=on_step, progress=False, checkpoint_dir=folder)
    history = vitlab.train(model, data or noise(), noise(seed=1), recipe, device, **options)
    return model, history


def assert_same(one, other):
    """Bit for bit the same weights and history, but for times."""
    (model, history), (other_model, other_history) = one, other
    for (name, weight), (_, other_weight) in zip(
        model.state_dict().items(), other_model.state_dict().items(), strict=True
    ):
        assert torch.equal(weight, other_weight), name
    assert timeless(history.rows) == timeless(other_history.rows)
    assert history.evaluations == other_history.evaluations
    assert history.interrupted == other_history.interrupted


def timeless(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


class PowerCutError(Exception):
    pass


def power_cut(step: int):
    """An `on_step` that ends the training after `step`, before anything is written."""

    def cut(history):
        if history.rows[-1]["step"] == step:
            raise PowerCutError

    return cut


def cut_short(recipe, folder, step, **options):
    with pytest.raises(PowerCutError):
        run(recipe, folder, power_cut(step), **options)


KILLED = """
import json, os, signal, sys
import safetensors.torch
sys.path.insert(0, {tests!r})
from test_training_resume import Recipe, run

def kill(step):
    return lambda history: history.rows[-1]["step"] == step and os.kill(os.getpid(), signal.SIGKILL)

def attempt(folder, step=None):
    if not (child := os.fork()):
        model, history = run(Recipe(steps=60, batch_size=16), folder, kill(step))
        safetensors.torch.save_file(model.state_dict(), folder + "/weights")
        json.dump([history.rows, history.evaluations], open(folder + "/history", "w"))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

print(json.dumps([attempt("killed", step) for step in json.loads(sys.argv[1])] + [attempt("whole")]))
"""


@pytest.mark.slow
def test_killed_at_three_steps_it_ends_as_if_nothing_had_happened(tmp_path):
    steps = sorted(random.Random(0).sample(range(2, 60), 3))
    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    code = KILLED.format(tests=os.path.dirname(__file__))
    command = [sys.executable, "-c", code, json.dumps([*steps, None])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [-signal.SIGKILL] * 3 + [0, 0]
    weights = [safetensors.torch.load_file(tmp_path / end / "weights") for end in ("killed", "whole")]
    assert all(torch.equal(weights[0][name], weight) for name, weight in weights[1].items())
    (rows, evaluations), (all_rows, all_evaluations) = (
        json.loads((tmp_path / end / "history").read_text()) for end in ("killed", "whole")
    )
    assert [row["step"] for row in all_rows] == list(range(1, 61))
    assert timeless(rows) == timeless(all_rows)
    assert evaluations == all_evaluations


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        (Recipe(steps=30, batch_size=16, optimizer="sgd", learning_rate=0.1, augment=False), "fp32"),
        (Recipe(steps=30, batch_size=60, clip_norm=0.0), "bf16"),
        (Recipe(steps=250, batch_size=3), "fp16"),
        (Recipe(steps=30, batch_size=16, optimizer="muon"), "fp32"),
        (Recipe(steps=30, batch_size=16, patch_sizes=(1, 2, 4, 8)), "fp32"),
    ],
)
def test_every_recipe_goes_on_as_it_would_have(tmp_path, recipe, precision):
    cut_short(recipe, tmp_path, 18, precision=precision)
    again = run(recipe, tmp_path, precision=precision)
    assert_same(again, run(recipe, precision=precision))
    assert again[1].seconds > 0


def test_it_goes_on_where_it_was_and_not_from_the_start(tmp_path):
    recipe, seen = Recipe(steps=30, batch_size=16), []
    cut_short(recipe, tmp_path, 18)
    run(recipe, tmp_path, lambda history: seen.append(history.rows[-1]["step"]))
    assert min(seen) == 16
    model, history = run(recipe, tmp_path, power_cut(30))  # finished: no step is taken
    assert [row["step"] for row in history.rows] == list(range(1, 31))
    assert_same((model, history), run(recipe))


@pytest.fixture
def stop_button():
    """Ctrl-C as in a terminal or a notebook, also where the tests run as a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press_at(model, step: int):
    """Presses the stop button in the middle of a step, counted from here on."""
    left = [step]

    def press(*_):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGINT)

    return model.patch_embed.register_forward_hook(press)  # a hook on the blocks changes how they compute


def test_ctrl_c_ends_after_the_step_and_can_be_gone_on_with(tmp_path, stop_button):
    """At step 33 the row, of two steps, is half full."""
    recipe, model = Recipe(steps=250, batch_size=8), new_model()
    press_at(model, 33)
    _, history = run(recipe, tmp_path, model=model)
    assert history.interrupted
    assert signal.getsignal(signal.SIGINT) is stop_button
    assert "step-000000033-" in newest(tmp_path).name
    assert_same(run(recipe, tmp_path), run(recipe))


def test_ctrl_c_pressed_twice_ends_at_once(stop_button):
    model, taken = new_model(), []
    for _ in range(2):
        press_at(model, 3)
    model.register_forward_hook(lambda *_: taken.append(1))
    _, history = run(Recipe(steps=20, batch_size=8), model=model)
    assert history.interrupted
    assert len(taken) == 2  # the third never came out of the model
    assert [row["step"] for row in history.rows] == [1, 2]


def test_where_ctrl_c_is_ignored_it_stays_so(stop_button):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    model = new_model()
    press_at(model, 3)
    _, history = run(Recipe(steps=6, batch_size=8), model=model)
    assert not history.interrupted
    assert history.rows[-1]["step"] == 6


def newest(folder):
    return sorted(folder.iterdir())[-1]


def cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit_turned(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize("damage", [cut_in_half, one_bit_turned, lambda content: b""])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    recipe, seen = Recipe(steps=30, batch_size=16), []
    cut_short(recipe, tmp_path, 24)
    damaged = newest(tmp_path)
    damaged.write_bytes(damage(damaged.read_bytes()))
    (tmp_path / f".{damaged.name}.half").write_bytes(b"half-written")
    with pytest.warns(
        UserWarning, match=r"step-000000020-.* is damaged, so the checkpoint before it is used"
    ):
        again = run(recipe, tmp_path, lambda history: seen.append(history.rows[-1]["step"]))
    assert seen[0] == 16
    assert_same(again, run(recipe))
    assert [path.name[:14] for path in sorted(tmp_path.iterdir())] == ["step-000000025", "step-000000030"]


def test_with_all_checkpoints_damaged_it_begins_anew(tmp_path):
    recipe = Recipe(steps=12, batch_size=16)
    cut_short(recipe, tmp_path, 11)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        again = run(recipe, tmp_path)
    assert_same(again, run(recipe))


def test_checkpoints_are_safetensors_of_which_two_are_kept(tmp_path):
    run(Recipe(steps=30, batch_size=16), tmp_path)
    assert [path.name[:14] for path in sorted(tmp_path.iterdir())] == ["step-000000025", "step-000000030"]
    for path in tmp_path.iterdir():
        assert {"model/cls_token", "batches/generator", "random/cpu"} <= safetensors.torch.load_file(
            path
        ).keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            dict(recipe=Recipe(steps=12, batch_size=16, learning_rate=0.01)),
            "its learning_rate is 0.002, .* 0.01",
        ),
        (dict(recipe=Recipe(steps=12, batch_size=16, seed=3)), "its seed is 0, this one's is 3"),
        (dict(num_heads=4), "its num_heads is 2, this one's is 4"),
        (dict(depth=2), "its model is 'ViT with .* parameters', this one's is 'ViT with"),
        (dict(precision="bf16"), "its precision is 'fp32', this one's is 'bf16'"),
        (dict(data=noise(seed=2)), "its data is '50 images of 1×8×8, SHA-256 .*', this one's is '50 images"),
        (dict(data=noise()._replace(labels=noise().labels.flip(0))), "its data is '50 images"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, said):
    recipe = Recipe(steps=12, batch_size=16)
    cut_short(recipe, tmp_path, 11)
    with pytest.raises(
        ValueError, match=f"step-000000010-.*another training: {said}.*name another checkpoint_dir"
    ):
        run(**(dict(recipe=recipe, folder=tmp_path) | change))
    assert_same(run(recipe, tmp_path), run(recipe))  # which it has left as it was


@pytest.mark.parametrize(("options", "taken"), [({}, True), (dict(num_registers=2), False)])
def test_a_setting_that_a_checkpoint_is_older_than_was_at_its_default(tmp_path, options, taken):
    recipe = Recipe(steps=12, batch_size=16)
    cut_short(recipe, tmp_path, 11, **options)
    path = newest(tmp_path)
    with safetensors.safe_open(path, framework="pt") as file:
        facts = file.metadata()
    before = json.loads(facts["identity"])
    for name in ("num_registers", "class_weights", "kernel_size", "pos_grid", "resize_method", "patch_sizes"):
        del before[name]
    content = safetensors.torch.save(
        safetensors.torch.load_file(path), facts | {"identity": json.dumps(before)}
    )
    path.unlink()
    digest = vitlab.training.resume.digest(content)
    (tmp_path / f"step-000000010-{digest}.safetensors").write_bytes(content)
    if taken:
        assert_same(run(recipe, tmp_path), run(recipe))
    else:
        with pytest.raises(ValueError, match="its num_registers is 0, this one's is 2"):
            run(recipe, tmp_path, **options)


@pytest.mark.parametrize("where", ["norm.weight", "head.bias"])
def test_a_broken_training_is_not_kept(tmp_path, where):
    """Weights break after step 14, such that with one of them the loss still is finite when they are kept."""
    recipe, (name, part) = Recipe(steps=30, batch_size=16), where.split(".")
    model = new_model()

    def break_it(history):
        if history.rows[-1]["step"] == (14 if name == "norm" else 15):
            getattr(model.get_submodule(name), part).data[0] = float("inf")

    with pytest.raises(
        vitlab.training.NonFiniteLossError, match=r"last good checkpoint is .*step-000000010-"
    ):
        run(recipe, tmp_path, break_it, model=model)
    assert "step-000000010-" in newest(tmp_path).name
    assert_same(run(recipe, tmp_path), run(recipe))


def test_files_of_the_users_stay(tmp_path):
    """Only what has a checkpoint's name, whole or half written, makes room for newer ones."""
    for name in ("my-step-1.safetensors", "step-best.safetensors"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".step-000000001-0123456789abcdef.safetensors.abc").write_text("half a checkpoint")
    run(Recipe(steps=2, batch_size=8), tmp_path)
    assert (tmp_path / "my-step-1.safetensors").exists()
    assert (tmp_path / "step-best.safetensors").exists()
    assert not list(tmp_path.glob(".step-*"))


def test_another_task_is_another_training(tmp_path):
    def another(model, images, labels):
        return vitlab.training.classification(model, images, labels)

    run(Recipe(steps=2, batch_size=8), tmp_path)
    with pytest.raises(ValueError, match="task"):
        vitlab.train(
            new_model(),
            noise(),
            None,
            Recipe(steps=2, batch_size=8),
            vitlab.runtime.here(**CPU),
            progress=False,
            task=another,
            checkpoint_dir=tmp_path,
        )


def test_a_refused_checkpoint_leaves_the_models_mode_alone(tmp_path):
    run(Recipe(steps=2, batch_size=8), tmp_path)
    model = new_model().eval()
    with pytest.raises(ValueError, match="steps"):
        run(Recipe(steps=3, batch_size=8), tmp_path, model=model)
    assert not any(module.training for module in model.modules())
