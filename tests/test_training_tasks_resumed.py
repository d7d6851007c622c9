"""Only the task that began a training goes on with it: what cannot be told apart is refused."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import test_training_resume
import torch
from test_training_resume import new_model, noise

import vitlab
from vitlab import Recipe
from vitlab.training import Outcome, classification
from vitlab.training.fingerprint import fingerprint

SCALE = 2.0


def scaled(model, images, labels, scale=1.0, shift=None):
    outcome = classification(model, images, labels)
    return outcome._replace(loss=outcome.loss * scale + (0 if shift is None else shift.sum()))


def looks_up(model, images, labels):
    outcome = classification(model, images, labels)
    return outcome._replace(loss=outcome.loss * SCALE)


def made(scale):
    def inner(model, images, labels):
        return scaled(model, images, labels, scale)

    return inner


def counts(model, images, labels):
    global SCALE
    SCALE += 1
    return looks_up(model, images, labels)


LOG, TABLE, WEIGHTS = [], {"n": {"a": 0}}, torch.ones(2)


def counts_on_itself(model, images, labels):
    counts_on_itself.calls = getattr(counts_on_itself, "calls", 0) + 1
    return scaled(model, images, labels, 1.0 + counts_on_itself.calls)


def adds_on_itself(model, images, labels):
    adds_on_itself.calls += 1
    return scaled(model, images, labels)


adds_on_itself.calls = 0


def appends(model, images, labels):
    LOG.append(len(labels))
    return scaled(model, images, labels, 1.0 + len(LOG))


def stores(model, images, labels):
    TABLE["n"]["a"] += 1
    return scaled(model, images, labels)


def deletes(model, images, labels):
    del TABLE["n"]["a"]
    TABLE["n"] = {"a": 0}
    return scaled(model, images, labels)


def in_place(model, images, labels):
    WEIGHTS.mul_(0.5)
    return scaled(model, images, labels, WEIGHTS[0])


def noted(log, value):
    log.append(value)


def appends_by_another_name(model, images, labels):
    noted(LOG, len(labels))
    return scaled(model, images, labels)


def keeps_by_a_default(model, images, labels, seen=[]):  # noqa: B006
    seen.append(len(labels))
    return scaled(model, images, labels)


def writes_into_its_own(model, images, labels):
    own, table = [], {}
    own.append(len(labels))
    table["n"] = own
    outcome = scaled(model, images, labels, TABLE.get("scale", 1.0))
    images.extra = 1
    return outcome._replace(counted=table["n"][0])


class Scaled(torch.nn.Module):
    def forward(self, model, images, labels):
        return scaled(model, images, labels)

    def method(self, model, images, labels):
        return scaled(model, images, labels)


def train(task, folder, recipe=None, model=None, data=None, test=None, **more):
    recipe, device = recipe or Recipe(steps=4, batch_size=8), vitlab.runtime.here("cpu", "fp32")
    options = dict(progress=False, task=task, checkpoint_dir=folder) | more
    return vitlab.train(model or new_model(), data or noise(), test, recipe, device, **options)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (functools.partial(scaled, scale=2.0), functools.partial(scaled, scale=3.0), "scale=2.0.*scale=3.0"),
        (functools.partial(scaled, shift=torch.zeros(2)), functools.partial(scaled, shift=torch.ones(2)),
         "shift=torch.float32 .*shift=torch.float32"),
        (functools.partial(scaled), scaled, "functools.partial.*scaled"),
        (functools.partial(classification, label_smoothing=0.1), None, "label_smoothing=0.1"),
        (scaled, looks_up, "scaled .*looks_up"),
    ],
)  # fmt: skip
def test_another_task_does_not_go_on(tmp_path, before, after, said):
    train(before, tmp_path)
    with pytest.raises(ValueError, match=f"another training: its task is .*{said}"):
        train(after, tmp_path)
    kept = sorted(tmp_path.iterdir())
    assert train(before, tmp_path).rows[-1]["step"] == 4
    assert sorted(tmp_path.iterdir()) == kept


def test_a_value_that_a_task_looks_up_belongs_to_it(tmp_path, monkeypatch):
    train(looks_up, tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 5.0)
    with pytest.raises(ValueError, match="SCALE=2.0.*SCALE=5.0"):
        train(looks_up, tmp_path)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (lambda model, images, labels: scaled(model, images, labels), "is a lambda"),
        (made(2.0), "made by another function"),
        (functools.partial(made(2.0), labels=None), "made by another function"),
        (Scaled(), "the task is a Scaled"),
        (Scaled().method, "the task is a method"),
        (functools.partial(scaled, scale=lambda loss: loss), "'scale' of the task, .*is a lambda"),
        (torch.no_grad()(scaled), "made by another function"),
        (counts, "changes global values"),
    ],
)
def test_a_task_that_cannot_be_told_from_another_is_not_kept(tmp_path, task, said):
    with pytest.raises(ValueError, match=f"{said}.*make the task a function of a module.*checkpoint_dir out"):
        train(task, tmp_path / "steps")
    assert not (tmp_path / "steps").exists()


@pytest.fixture
def untouched(monkeypatch):
    """What tasks write into, as it is before any does."""
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "LOG", [])
    monkeypatch.setattr(here, "TABLE", {"n": {"a": 0}})
    monkeypatch.setattr(here, "WEIGHTS", torch.ones(2))


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (counts_on_itself, "counts_on_itself"),
        (adds_on_itself, "adds_on_itself"),
        (appends, "LOG"),
        (stores, "TABLE"),
        (deletes, "TABLE"),
        (in_place, "WEIGHTS"),
        (functools.partial(appends), "LOG"),
    ],
)
def test_a_task_with_a_state_of_its_own_is_refused_before_it_begins(tmp_path, untouched, task, name):
    """A training that is gone on with would begin that state anew."""
    with pytest.raises(ValueError, match=f"writes into {name!r}.*leave checkpoint_dir out"):
        train(task, tmp_path / "steps")
    assert not (tmp_path / "steps").exists()
    assert train(task, None).rows[-1]["step"] == 4


@pytest.mark.parametrize(("task", "name"), [(appends_by_another_name, "LOG"), (keeps_by_a_default, "0")])
def test_a_state_that_code_does_not_show_is_seen_when_it_changes(tmp_path, untouched, task, name):
    with pytest.raises(ValueError, match=f"the task's {name!r} is not what it was.*leave checkpoint_dir out"):
        train(task, tmp_path / "steps")
    assert not list(tmp_path.glob("steps/*"))


def test_a_task_that_writes_into_nothing_but_its_own_values_is_kept(tmp_path, untouched):
    assert train(writes_into_its_own, tmp_path).rows[-1]["step"] == 4
    assert train(writes_into_its_own, tmp_path).rows[-1]["step"] == 4


def holding_themselves() -> list:
    row, table, given = [1], {"a": 1}, functools.partial(scaled, shift=[])
    row.append(row)
    table["b"] = [table]
    given.keywords["shift"].append(given)
    return [row, table, given]


@pytest.mark.parametrize("value", holding_themselves(), ids=["list", "dict", "partial"])
def test_what_holds_itself_is_refused_by_name(value):
    with pytest.raises(
        ValueError, match=f"'shift' of the task is a {type(value).__name__} that holds itself"
    ):
        fingerprint(functools.partial(scaled, shift=value))
    shared = [1, 2]
    assert fingerprint(functools.partial(scaled, shift=[shared, shared])) is not None


class Settings:
    scale = 2.0


def of_a_module(model, images, labels):
    return scaled(model, images, labels, test_training_resume.SCALE)


def of_a_class(model, images, labels):
    return scaled(model, images, labels, Settings.scale)


def imports_within(model, images, labels):
    from test_training_resume import SCALE

    return scaled(model, images, labels, SCALE)


def of_an_attribute(model, images, labels):
    return scaled(model, images, labels, of_an_attribute.scale)


def of_a_dict(model, images, labels):
    return scaled(model, images, labels, CHOSEN[1])


CHOSEN = {1: 2.0, "one": 3.0}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            of_a_module,
            "'test_training_resume' of the task is a module of your own.*from test_training_resume",
        ),
        (
            functools.partial(scaled, shift=test_training_resume),
            "'shift' of the task is a module of your own",
        ),
        (of_a_class, "'Settings' of the task is a class of your own"),
        (imports_within, "imports from test_training_resume within.*at the head of its file"),
        (functools.partial(scaled, shift=np.array(["a"])), "'shift' of the task is a ndarray"),
        (functools.partial(scaled, shift=torch.eye(2).to_sparse()), "'shift' of the task is a Tensor"),
    ],
)
def test_what_stands_in_a_module_or_class_of_ones_own_does_not_show(task, said):
    with pytest.raises(ValueError, match=said):
        fingerprint(task)


def test_attributes_keys_and_conjugates_tell_tasks_apart(monkeypatch):
    of_an_attribute.scale = 2.0
    before = fingerprint(of_an_attribute), fingerprint(of_a_dict)
    of_an_attribute.scale = 3.0
    monkeypatch.setattr(sys.modules[__name__], "CHOSEN", {"1": 2.0, "one": 3.0})
    assert fingerprint(of_an_attribute) != before[0]
    assert fingerprint(of_a_dict) != before[1]
    turned = torch.tensor([1 + 2j])
    assert len({fingerprint(functools.partial(scaled, shift=t)) for t in (turned, turned.conj())}) == 2


def test_without_checkpoints_any_task_will_do():
    assert train(lambda *batch: scaled(*batch), None).rows[-1]["step"] == 4


def cell(body: str) -> object:
    """A task as a notebook's cell defines it."""
    names = {"__name__": "__main__", "classification": classification, "Outcome": Outcome}
    exec(body, names)
    return names["task"]


def test_a_cell_that_was_changed_defines_another_task(tmp_path):
    body = "def task(model, images, labels):\n    {}\n    o = classification(model, images, labels)\n    {}\n"
    plain = body.format("# of one", "return o")
    assert fingerprint(cell(plain)) == fingerprint(cell("\n\n" + body.format("'''Said.'''", "return o")))
    train(cell(plain), tmp_path)
    train(cell(plain), tmp_path)
    with pytest.raises(ValueError, match="its task is '?__main__.task .*, this one's.*__main__.task "):
        train(cell(body.format("# of one", "return o._replace(loss=2 * o.loss)")), tmp_path)


def test_a_fingerprint_is_the_same_in_every_process():
    """Names in sets and dicts come in an order that Python draws anew for each process."""
    code = "import test_training_tasks_resumed as here; print(here.fingerprint(here.in_a_set))"
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=str(__file__).rpartition("/")[0],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert found == [fingerprint(in_a_set)] * 2


def in_a_set(model, images, labels):
    return len(labels) not in {"none", "one", "two", "three"} and scaled(model, images, labels)


# --- what else tells a training from another ----------------------------------------------------------------


def plain(activation) -> torch.nn.Module:
    torch.manual_seed(0)
    linear = torch.nn.Linear
    return torch.nn.Sequential(torch.nn.Flatten(), linear(64, 8), activation, linear(8, 3))


def test_a_model_from_elsewhere_is_told_by_its_modules(tmp_path):
    """As many parameters, of the same shapes: nothing but the activation differs."""
    train(None, tmp_path, model=plain(torch.nn.ReLU()))
    train(None, tmp_path, model=plain(torch.nn.ReLU()))
    with pytest.raises(ValueError, match="its modules is"):
        train(None, tmp_path, model=plain(torch.nn.Tanh()))


def test_a_training_of_other_parts_of_the_model_is_another(tmp_path):
    """The optimizer's state goes by place: it would have gone to other parameters of the same shape."""
    frozen = [new_model(depth=2) for _ in range(2)]
    for i, model in enumerate(frozen):
        model.blocks[i].requires_grad_(False)
    train(None, tmp_path, model=frozen[0])
    with pytest.raises(ValueError, match=r"its frozen is \['blocks.0.norm1.weight'.*blocks.1.norm1.weight"):
        train(None, tmp_path, model=frozen[1])


def test_images_of_other_classes_are_another_training(tmp_path):
    train(None, tmp_path)
    with pytest.raises(ValueError, match=r"its classes is \['a', 'b', 'c'\], .* \['b', 'a', 'c'\]"):
        train(None, tmp_path, data=noise()._replace(classes=["b", "a", "c"]))


def test_other_test_data_are_another_training(tmp_path):
    """Its history would have evaluations of both, in one line."""
    train(None, tmp_path, test=noise(seed=1), evaluations=2)
    for other, evaluations, said in (
        (noise(seed=2), 2, "its test data is '50 images of .*, this one's is '50 images of"),
        (noise(20, seed=1), 2, "its test data is '50 images of .*, this one's is '20 images of"),
        (None, 2, "its test data is '50 images of .*, this one's is None"),
        (noise(seed=1), 4, "its evaluations is 2, this one's is 4"),
    ):
        with pytest.raises(ValueError, match=f"another training: {said}"):
            train(None, tmp_path, test=other, evaluations=evaluations)
    seen = []
    again = train(None, tmp_path, test=noise(seed=1), evaluations=2, progress=True, on_step=seen.append)
    assert [found.step for found in again.evaluations] == [2, 4]
    train(None, tmp_path / "none", evaluations=2)
    train(None, tmp_path / "none", evaluations=4)  # of nothing
    with pytest.raises(ValueError, match="its test data is None"):
        train(None, tmp_path / "none", test=noise(seed=1))
