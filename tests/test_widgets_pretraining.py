"""The explorer of lesson 04 says what its recipe does, and the live curves what the training did."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

import vitlab
from vitlab import History, Recipe, ViT, ViTConfig
from vitlab.data import Dataset
from vitlab.training import Evaluation, NonFiniteLossError
from vitlab.widgets import DebugExplorer, LiveCurves, RecipeExplorer

CPU = vitlab.start(device="cpu", precision="fp32")


def halves(n: int, seed: int) -> Dataset:
    """Two classes that anything learns: bright at the left, bright at the right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 40, (n, 1, 8, 12), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels):
        images[i, :, :, 6 * label : 6 * label + 6] += 180
    return Dataset(images, labels, ["left", "right"])


@pytest.fixture
def explorer():
    return RecipeExplorer(halves(600, 0), halves(100, 1), CPU, patch_size=4)


def decoded(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)))


def row(step: int, loss: float = 2.0, accuracy: float = 0.25) -> dict:
    return dict(step=step, loss=loss, accuracy=accuracy, learning_rate=1e-3, images_per_second=640.0)


# --------------------------------------------------------------------------------------------- RecipeExplorer


def test_the_caption_has_the_numbers_of_the_schedule(explorer):
    explorer.set(peak=1e-3, warmup=50, steps=40, images=100)
    rising = [1e-3 * (k + 1) / 20 for k in range(20)]
    falling = [1e-3 * (1 + np.cos(np.pi * k / 20)) / 2 for k in range(20)]
    mean = np.mean(rising + falling)
    wanted = (
        "40 steps of 64 images: 2,560 images, 25.6 passes over 100. The learning rate starts at 5e-05, is at "
        f"its peak of 0.001 after 20 steps, ends at {falling[-1]:.1g}; its mean is {mean:.2g}."
    )
    assert explorer.caption.splitlines() == [wanted, "Not trained yet by this recipe."]


@pytest.mark.parametrize("moved", [{"peak": 1e-4}, {"warmup": 0}, {"steps": 200}])
def test_every_control_of_the_schedule_changes_the_picture(explorer, moved):
    before, said = decoded(explorer.picture), explorer.caption
    explorer.set(**moved)
    assert not np.array_equal(before, decoded(explorer.picture))
    assert explorer.caption != said


def test_sizes_are_those_that_the_data_has(explorer):
    assert explorer.controls["images"].options == (100, 500, 600)
    assert explorer.state["images"] == 600


def test_the_button_trains_by_the_recipe_shown(explorer):
    explorer.set(steps=40, images=100)
    before = decoded(explorer.picture)
    explorer.button.click()
    (history,) = explorer.trained.values()
    assert history.rows[-1]["step"] == 40
    assert max(r["learning_rate"] for r in history.rows) == pytest.approx(4e-3)
    assert history.accuracy > 0.9
    assert f"test accuracy at {history.accuracy:.1%}" in explorer.caption
    assert f"the loss ends at {history.rows[-1]['loss']:.2f}" in explorer.caption
    assert not np.array_equal(before, decoded(explorer.picture))
    assert not explorer.button.disabled


def test_the_number_of_images_decides_what_is_learnt_from(explorer):
    seen = []
    explorer.train_data = explorer.train_data._replace(labels=torch.zeros(600, dtype=torch.long))
    explorer.train_data.labels[100:] = 1  # the first hundred are all of one class
    for images in (100, 600):
        explorer.set(steps=40, images=images)
        seen.append(explorer.train().accuracy)
    assert seen[0] == 0.5  # it says "left" to everything
    assert explorer.trained.keys() == {(4e-3, 10, 40, 100), (4e-3, 10, 40, 600)}


def test_equal_controls_give_equal_trainings_and_leave_the_random_state(explorer):
    explorer.set(steps=40)
    state = torch.get_rng_state()
    first, second = explorer.train(), explorer.train()
    assert torch.equal(state, torch.get_rng_state())
    assert [r["loss"] for r in first.rows] == [r["loss"] for r in second.rows]
    assert len(explorer.trained) == 1


def test_the_last_three_trainings_are_kept(explorer):
    for warmup in (0, 10, 20, 30):
        explorer.set(steps=40, warmup=warmup)
        explorer.train()
    assert [key[1] for key in explorer.trained] == [10, 20, 30]
    explorer.set(warmup=0)
    assert explorer.caption.endswith("Not trained yet by this recipe.")


def test_the_button_comes_back_when_a_training_fails(explorer):
    explorer.test_data = explorer.test_data._replace(labels=explorer.test_data.labels + 5)
    with pytest.raises(ValueError, match="test_data"):
        explorer.train()
    assert not explorer.button.disabled
    assert explorer.button.description.startswith("Train")


def test_a_training_that_breaks_leaves_its_curve(explorer, monkeypatch):
    broken = History(rows=[row(1), row(2, loss=float("nan"))])

    def train(*_arguments, **_options):
        raise NonFiniteLossError("the loss is nan", broken)

    monkeypatch.setattr("vitlab.widgets.pretraining.train", train)
    assert explorer.train() is broken
    assert "the loss ends at nan" in explorer.caption
    assert not explorer.button.disabled


def test_a_patch_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="not divisible by 5"):
        RecipeExplorer(halves(100, 0), halves(100, 1), patch_size=5)


# --------------------------------------------------------------------------------------------- LiveCurves


def test_before_the_first_step_it_says_that_it_waits():
    live = LiveCurves(Recipe(steps=1500))
    assert live.caption == "Waiting for the first of 1,500 steps."
    assert len(live.widget.children) == 2  # picture and caption; no controls


def test_the_caption_has_the_history_s_numbers():
    live = LiveCurves(Recipe(steps=10, batch_size=64))
    before = decoded(live.picture)
    live(History(rows=[row(4)], evaluations=[Evaluation(2, 1.5, 0.5)]))
    assert live.caption == (
        "Step 4 of 10: training loss 2.000, training accuracy 25.0%, 640 images/s, about 1 s left. "
        "Test accuracy after 2 steps: 50.0% (loss 1.500)."
    )
    assert not np.array_equal(before, decoded(live.picture))


def test_the_last_marker_is_whole():
    live = LiveCurves(Recipe(steps=10))
    live.history = History(rows=[row(10)], evaluations=[Evaluation(10, 1.5, 0.5)])
    drawing, _ = live.draw()
    for ax in drawing.axes:
        marker = ax.get_lines()[-1]
        middle = ax.transData.transform(marker.get_xydata()[-1])[0]
        radius = marker.get_markersize() / 2 * drawing.dpi / 72
        assert middle + radius <= ax.bbox.x1


def test_it_draws_at_most_four_times_a_second_and_the_end_always(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("vitlab.widgets.live_curves.time.perf_counter", lambda: clock[0])
    live, drawn = LiveCurves(Recipe(steps=1000)), []
    draw = live.draw
    live.draw = lambda: drawn.append(clock[0]) or draw()
    with live:
        for step in range(1, 101):
            clock[0] += 0.01
            live(History(rows=[row(step)]))
        during = list(drawn)
        live(History(rows=[row(1000)]))
    assert 3 <= len(during) <= 5
    assert min(np.diff(during)) >= 0.25
    assert len(drawn) == len(during) + 1
    assert live.caption.startswith("Step 1,000 of 1,000")


def test_drawing_takes_at_most_a_tenth_of_the_time(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("vitlab.widgets.live_curves.time.perf_counter", lambda: clock[0])
    live, spent = LiveCurves(Recipe(steps=1000)), []
    draw = live.draw

    def slow():
        clock[0] += 2.0
        spent.append(2.0)
        return draw()

    live.draw = slow
    for step in range(1, 1001):
        clock[0] += 0.1
        live(History(rows=[row(step)]))
    assert len(spent) >= 2
    assert sum(spent) <= 0.1 * (clock[0] - 100.0) + 2.0


def test_in_a_training_it_ends_with_the_training_s_last_numbers():
    recipe = Recipe(steps=12, batch_size=16, augment=False)
    model = ViT(ViTConfig(image_size=(8, 12), patch_size=4, embed_dim=16, depth=1, num_classes=2))
    with LiveCurves(recipe) as live:
        history = vitlab.train(model, halves(64, 0), halves(32, 1), recipe, CPU, on_step=live, progress=False)
    assert live.error is None
    assert f"training loss {history.rows[-1]['loss']:.3f}" in live.caption
    assert f"Test accuracy after 12 steps: {history.accuracy:.1%}" in live.caption
    assert "left" not in live.caption
    assert re.match("Step 12 of 12", live.caption)


def test_the_stored_output_is_the_last_picture(monkeypatch):
    shown = []

    class Handle:
        def update(self, thing):
            shown.append(DisplayFormatter().format(thing)[0])

    monkeypatch.setattr("IPython.display.display", lambda thing, display_id: Handle())
    with LiveCurves(Recipe(steps=10)) as live:
        live.history = History(rows=[row(10)])
    (bundle,) = shown
    assert bundle["text/plain"] == live.caption
    assert bundle["text/plain"].startswith("Step 10 of 10")
    stored = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert stored.size == live.size
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == live.widget.model_id


# --------------------------------------------------------------------------------------------- DebugExplorer

CAUSES = dict(
    A="rate too high", B="norms decayed", C="heads too thin", D="no warm-up", E="patch too large"
)  # what the lesson's text and its exercise rely on


def greys() -> Dataset:
    """Noise with a grey stripe at the left that tells the class."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (256, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.arange(256) % 10
    images[:, :, :, :10] = 25 * labels.to(torch.uint8)[:, None, None, None]
    return Dataset(images, labels, list("abcdefghij"))


@pytest.fixture(scope="module")
def patients():
    return DebugExplorer(greys(), greys(), CPU, steps=30)


def test_each_run_has_the_one_fault_that_it_stands_for(patients):
    shapes = {name: (signs.tokens, signs.head_width) for name, signs in patients.signs.items()}
    sound = (17, 24)
    assert shapes == dict(healthy=sound, A=sound, B=sound, C=(17, 2), D=sound, E=(2, 24))
    scales = {name: signs.norm_scale for name, signs in patients.signs.items()}
    assert scales.pop("B") < 0.8
    assert min(scales.values()) > 0.9
    first = {name: signs.losses[:10].max() for name, signs in patients.signs.items()}
    assert max(first, key=first.get) == "D"
    assert {len(signs.losses) for signs in patients.signs.values()} == {30}


def test_the_healthy_run_is_the_one_that_train_makes(patients):
    """All but the fault is the lesson's loop: the healthy run's losses are those of `vitlab.train`."""
    torch.manual_seed(0)
    recipe = Recipe(steps=30, batch_size=64, augment=False)
    history = vitlab.train(ViT(ViTConfig(patch_size=7)), greys(), None, recipe, CPU, progress=False)
    losses = torch.tensor([row["loss"] for row in history.rows])
    torch.testing.assert_close(patients.signs["healthy"].losses, losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", "ABCDE")
def test_only_the_right_diagnosis_is_called_right(patients, name):
    patients.set(name=name)
    said = {}
    for cause in patients.controls["diagnosis"].options:
        patients.set(diagnosis=cause)
        said[cause] = patients.caption.splitlines()[-1]
    assert said.pop("?") == "Choose a diagnosis."
    assert said.pop(CAUSES[name]) == f"Your diagnosis, {CAUSES[name]}: right."
    assert said == {cause: f"Your diagnosis, {cause}: not so." for cause in said}
    assert len(said) == 4


def test_the_caption_has_the_signs_and_every_run_its_picture(patients):
    pictures = set()
    for name in "ABCDE":
        patients.set(name=name, diagnosis="?")
        signs, healthy = patients.signs[name], patients.signs["healthy"]
        last = [sum(run.losses[-10:].tolist()) / 10 for run in (signs, healthy)]
        assert f"mean of the last ten {last[0]:.2f} ({last[1]:.2f})" in patients.caption
        assert f"test accuracy {signs.accuracy:.0%} ({healthy.accuracy:.0%})" in patients.caption
        assert f"numbers in a head {signs.head_width} (24)" in patients.caption
        pictures.add(decoded(patients.picture).tobytes())
    assert len(pictures) == 5


def test_another_diagnosis_draws_no_curve(patients, monkeypatch):
    """Curves take most of a move's time, and are the same whatever is said of them."""
    patients.set(name="B", diagnosis="?")
    drawn, picture = [], patients.picture
    monkeypatch.setattr("vitlab.widgets.pretraining.figure", lambda size: drawn.append(size) or 1 / 0)
    patients.set(diagnosis="no warm-up")
    assert (drawn, patients.picture) == ([], picture)


def test_the_picture_is_said_whole(patients):
    """All that its curves show fits into the alternative text: none of it is cut off."""
    for name in "ABCDE":
        patients.set(name=name)
        alt = patients._repr_mimebundle_()[1]["image/png"]["alt"]
        assert alt == patients.caption.splitlines()[0]
        assert all(sign in alt for sign in ("first ten losses", "last ten", "test accuracy"))
