"""The training panel trains beside its notebook; its buttons act at once and change nothing it learns."""

import io
import threading
import time

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import vitlab
from vitlab import Recipe, ViT, ViTConfig
from vitlab.data import Dataset
from vitlab.widgets import TrainingPanel
from vitlab.widgets.pictures import fit, png

CPU = vitlab.start(device="cpu", precision="fp32")
FOR_LONG = 2000  # steps: more than any test waits for


def halves(n: int, seed: int) -> Dataset:
    """Two classes that anything learns: bright at the left, bright at the right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 40, (n, 1, 8, 12), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels):
        images[i, :, :, 6 * label : 6 * label + 6] += 180
    return Dataset(images, labels, ["left", "right"])


@pytest.fixture
def make():
    """A function that makes panels; none of them goes on training after the test."""
    panels = []

    def new(train_data=None, steps=FOR_LONG) -> TrainingPanel:
        panels.append(TrainingPanel(train_data or halves(128, 0), halves(20, 1), CPU, 4, steps))
        return panels[-1]

    yield new
    for panel in panels:
        panel.stop()
        panel.join()


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def click(panel: TrainingPanel, name: str) -> None:
    (button,) = (b for b in panel.widget.children[0].children if b.description == name)
    assert not button.disabled
    button.click()


def enabled(panel: TrainingPanel) -> list[str]:
    """The controls that can be moved or pressed, by their visible names."""
    return [c.description for c in panel.widget.children[0].children if not c.disabled]


def passes(panel: TrainingPanel) -> list[int]:
    """A list that grows by one at every forward pass of the panel's model."""
    seen = []
    panel.model.register_forward_hook(lambda *_: seen.append(1))
    return seen


def trained_by_the_loop(steps: int) -> tuple[ViT, vitlab.History]:
    """What lesson 04's recipe, written out, makes of the model that the panel should begin with."""
    torch.manual_seed(0)
    model = ViT(ViTConfig(image_size=(8, 12), patch_size=4, num_classes=2))
    recipe = Recipe(steps=steps, batch_size=64, learning_rate=1.5e-3, augment=False)
    return model, vitlab.train(model, halves(128, 0), halves(20, 1), recipe, CPU, progress=False)


def assert_same_training(panel: TrainingPanel, steps: int) -> None:
    model, history = trained_by_the_loop(steps)
    for (name, wanted), found in zip(model.named_parameters(), panel.model.parameters(), strict=True):
        assert torch.equal(wanted, found), name
    assert [row["loss"] for row in panel.history.rows] == [row["loss"] for row in history.rows]
    assert panel.history.evaluations == history.evaluations


def shown(panel: TrainingPanel) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(panel.picture)))


def test_before_the_start_there_is_one_thing_to_press(make):
    panel = make(steps=50)
    assert enabled(panel) == ["steps", "Start"]
    assert panel.caption == "Ready.\nStart trains a new model for 50 steps."
    panel.set(steps=100)
    assert panel.caption == "Ready.\nStart trains a new model for 100 steps."


def test_start_returns_at_once_and_the_training_goes_on_beside(make):
    panel = make()
    click(panel, "Start")
    assert panel.status == "training"
    assert threading.active_count() > 1
    wait_for(lambda: len(panel.history.rows) >= 2)  # while this thread does something else
    assert enabled(panel) == ["Pause", "Stop"]
    assert panel.history.rows[-1]["step"] < FOR_LONG


def test_paused_there_is_no_step_and_no_picture_until_resume(make):
    panel = make()
    click(panel, "Start")
    seen = passes(panel)
    wait_for(lambda: len(panel.history.rows) >= 2)
    click(panel, "Pause")
    time.sleep(1)  # the step under way may end, and is shown
    assert enabled(panel) == ["Resume", "Stop"]
    assert panel.caption.startswith("Paused. Step ")
    count, picture, caption = len(seen), panel.picture, panel.caption
    weights = [parameter.clone() for parameter in panel.model.parameters()]
    time.sleep(0.5)
    assert len(seen) == count
    assert (panel.picture, panel.caption) == (picture, caption)
    assert all(map(torch.equal, weights, panel.model.parameters()))
    click(panel, "Resume")
    wait_for(lambda: len(seen) > count + 10)
    assert enabled(panel) == ["Pause", "Stop"]


def test_a_pause_waits_for_one_step_at_most(make):
    """Rows are added every 20 steps here: a pause that waited for a row would come far too late."""
    panel = make()
    panel.start()
    seen = passes(panel)
    wait_for(lambda: len(panel.history.rows) == 1 and len(seen) > 5)
    panel.pause()
    count = len(seen)
    time.sleep(0.5)
    assert len(seen) <= count + 1


def test_pauses_change_nothing_in_what_is_learnt(make):
    panel = make(steps=100)
    panel.start()
    for rows in (5, 30, 60):
        wait_for(lambda rows=rows: len(panel.history.rows) >= rows)
        panel.pause()
        time.sleep(0.05)
        panel.resume()
    panel.join()
    assert panel.status == "finished"
    assert_same_training(panel, 100)


def test_without_a_thread_it_is_the_same_training(make):
    panel, threads = make(steps=50), threading.active_count()
    history = panel.train()
    assert threading.active_count() == threads
    assert history is panel.history
    assert_same_training(panel, 50)
    assert panel.caption.startswith(f"Finished. Step 50 of 50: training loss {history.rows[-1]['loss']:.3f}")
    assert f"Test accuracy after 50 steps: {history.accuracy:.1%}" in panel.caption
    assert "images/s" in panel.caption
    assert enabled(panel) == ["steps", "Start"]


def test_stop_keeps_what_is_learnt_and_start_begins_anew(make):
    panel = make()
    click(panel, "Start")
    wait_for(lambda: len(panel.history.rows) >= 3)
    click(panel, "Stop")
    panel.join()
    assert (panel.status, panel.history.interrupted) == ("stopped", True)
    assert 40 <= panel.history.rows[-1]["step"] < FOR_LONG
    assert panel.caption.startswith("Stopped. Step ")
    assert enabled(panel) == ["steps", "Start"]
    stopped, learnt = panel.model, panel.history
    panel.set(steps=50)
    click(panel, "Start")
    panel.join()
    assert panel.model is not stopped
    assert len(learnt.rows) >= 3
    assert_same_training(panel, 50)


def test_a_paused_training_can_be_stopped(make):
    panel = make()
    panel.start()
    panel.pause()
    click(panel, "Stop")
    panel.join()
    assert panel.status == "stopped"
    assert panel.caption.startswith("Stopped.")


def test_a_second_start_does_nothing(make):
    panel = make()
    panel.start()
    model, threads = panel.model, threading.active_count()
    panel.start()
    panel.pause()
    panel.start()
    assert (panel.model, threading.active_count(), panel.status) == (model, threads, "paused")


@pytest.mark.parametrize("how", ["made", "started", "trained"])
def test_a_new_panel_stops_the_one_before(make, how):
    old, other = make(), make(steps=10)
    old.start()
    old.pause()
    if how == "made":  # as when the panel's cell is run again
        make()
    else:
        other.start() if how == "started" else other.train()
    assert old.status == "stopped"
    assert not old._thread.is_alive()


def test_it_draws_at_most_four_times_a_second_and_for_a_tenth_of_the_time(make):
    panel, changes, spent = make(), [], []
    panel._image.observe(lambda _change: changes.append(time.perf_counter()), names="value")
    draw = panel._answer_and_redraw

    def timed():
        begin = time.perf_counter()
        draw()
        spent.append(time.perf_counter() - begin)

    panel._answer_and_redraw = timed
    panel.start()
    changes.clear()  # the button's own drawing
    wait_for(lambda: len(spent) >= 3)
    drawn, elapsed = list(changes), time.perf_counter() - panel._pace.begin
    assert len(drawn) >= 2
    assert np.diff(drawn).min() >= 0.25
    assert sum(spent[:2]) <= 0.1 * elapsed  # else there would have been no third


def test_the_random_state_is_left_alone(make):
    panel = make(steps=10)
    state = torch.get_rng_state()
    panel.start()
    panel.join()
    panel.train()
    assert torch.equal(state, torch.get_rng_state())


def test_an_error_in_the_thread_is_shown_and_kept(make):
    data = halves(128, 0)
    panel = make(data._replace(labels=data.labels + 5), steps=50)
    panel.start()
    panel.join()
    assert panel.status == "failed"
    assert panel.caption.startswith("Failed. ValueError: the labels of train_data run from 5 to 6, but")
    assert isinstance(panel.error, ValueError)
    assert 'role="alert"' in panel.widget.children[2].value
    panel.set(steps=100)  # a control that is moved does not wipe it away
    assert "the labels of train_data" in panel.caption
    assert isinstance(panel.error, ValueError)
    assert enabled(panel) == ["steps", "Start"]
    panel.train_data = data
    panel.set(steps=50)
    panel.start()
    panel.join()
    assert (panel.status, panel.error) == ("finished", None)


def test_without_a_thread_an_error_is_raised_as_well(make):
    data = halves(128, 0)
    panel = make(data._replace(labels=data.labels + 5))
    with pytest.raises(ValueError, match="train_data"):
        panel.train()
    assert panel.status == "failed"


def test_a_loss_that_is_no_number_leaves_its_curve(make, monkeypatch):
    monkeypatch.setattr(
        "vitlab.widgets.training_panel._recipe",
        lambda steps: Recipe(steps=steps, batch_size=64, learning_rate=1e30, clip_norm=0, augment=False),
    )
    panel = make(steps=50)
    panel.start()
    panel.join()
    assert panel.caption.startswith("Failed. NonFiniteLossError: the loss became NaN or infinite by step")
    assert panel.history.rows


def test_the_samples_have_what_the_model_says_now(make):
    panel = make(steps=50)
    before = shown(panel)
    assert [panel._answer_in_words(i, i) for i in (0, 1)] == [["left"], ["right"]]
    panel.train()
    images = vitlab.data.normalise(panel.samples.images)
    with torch.no_grad():
        wanted = panel.model.eval()(images).softmax(dim=-1)
    torch.testing.assert_close(panel.answers, wanted)
    assert panel.samples.labels.tolist() == [0, 1]
    assert panel._answer_in_words(0, 0) == ["✓ left", f"{wanted[0, 0]:.0%} sure"]
    assert panel._answer_in_words(0, 1) == ["✗ left", f"{wanted[0, 0]:.0%} sure", "is right"]
    assert "Of the 2 test images shown, 2 are named rightly." in panel.caption
    row = slice(300, None)
    assert not np.array_equal(before[row], shown(panel)[row])
    assert not np.array_equal(before[:300], shown(panel)[:300])


def test_other_cells_may_draw_meanwhile(make):
    panel = make()
    panel.start()
    for _ in range(10):
        drawing, ax = plt.subplots()
        ax.plot([0, 1], label="a line")
        ax.legend()
        drawing.savefig(io.BytesIO())
        plt.close(drawing)
    assert panel.status == "training"
    panel.stop()
    panel.join()
    assert panel.error is None


def test_what_is_shown_in_a_pause_is_all_that_there_is(make):
    """The pause comes in the middle of a step, which then adds its row: the picture must have it."""
    panel, had = make(steps=100), []  # a row for every step

    def pause_within_a_step(*_):
        if panel.status == "training" and len(panel.history.rows) >= 2:
            had.append(len(panel.history.rows))
            panel.pause()

    panel.start()
    panel.model.register_forward_hook(pause_within_a_step)
    wait_for(lambda: panel.status == "paused")
    wait_for(lambda: len(panel.history.rows) == had[0] + 1)  # the step under way has ended
    picture, caption = panel.draw(**panel.state)
    wait_for(lambda: panel.caption == caption)  # it is drawn after its end, on a busy machine long after it
    assert panel.picture == png(fit(picture, panel.size))


def test_a_loss_that_is_no_number_is_drawn_as_well(make):
    panel = make()
    row = dict(step=1, accuracy=0.1, learning_rate=1.0, images_per_second=10.0)
    panel.recipe, panel.history = Recipe(steps=3), vitlab.History(rows=[row | {"loss": 2.3}])
    drawn = panel.draw(**panel.state)[0]
    panel.history.rows.append(row | {"step": 2, "loss": float("nan")})
    picture, caption = panel.draw(**panel.state)
    assert picture.size == drawn.size
    assert "training loss nan" in caption


def test_what_was_drawn_before_leaves_no_trace(make):
    panel = make()
    empty = panel.draw(**panel.state)[0].tobytes()
    row = dict(step=1, loss=5.0, accuracy=0.1, learning_rate=1.0, images_per_second=10.0)
    panel.recipe, panel.history = Recipe(steps=3), vitlab.History(rows=[row, row | {"step": 2, "loss": 2.0}])
    assert panel.draw(**panel.state)[0].tobytes() != empty
    panel.history = vitlab.History()
    assert panel.draw(**panel.state)[0].tobytes() == empty


def test_a_state_set_while_a_picture_is_drawn_does_not_freeze_the_panel(make):
    """The training thread draws slowly, and meanwhile the notebook sets a control."""
    panel, drawing = make(), threading.Event()
    show = panel._show

    def slow(state):
        drawing.set()
        time.sleep(0.3)
        show(state)

    panel._show = slow
    thread = threading.Thread(target=panel.redraw)
    thread.start()
    drawing.wait(10)
    panel.set(steps=min(panel.controls["steps"].options))  # its picture waits for the one under way
    thread.join()
    panel._show = show
    assert not panel._held


def test_no_gpu_is_reseeded(make, monkeypatch):
    seeded = []
    monkeypatch.setattr("torch.cuda.manual_seed_all", seeded.append)
    make(steps=1).train()
    assert seeded == []


@pytest.mark.parametrize("steps", [100, 5000])
def test_the_number_under_the_last_tick_is_whole(make, steps):
    panel = make(steps=steps)
    panel.draw(steps)
    for ax in panel._axes.values():
        ax.figure.draw_without_rendering()
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            assert len(shown) > 2
            for box in (label.get_window_extent() for label in shown):
                assert ax.figure.bbox.fully_contains(box.x0, box.y0)
                assert ax.figure.bbox.fully_contains(box.x1, box.y1)
