"""The one training loop (appendix B.1)."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vitlab import data
from vitlab.data import Dataset
from vitlab.data.batching import Batches
from vitlab.data.classes import listed, repeated
from vitlab.runtime import Run, here
from vitlab.training.evaluation import check_data, evaluate, known_names, outputs_of
from vitlab.training.fingerprint import fingerprint, refuse_change
from vitlab.training.history import Evaluation, History, Meter, summary
from vitlab.training.recipe import Recipe, learning_rate_at, patch_size_at
from vitlab.training.resume import Keeper, identity, measured
from vitlab.training.stepper import Stepper
from vitlab.training.stopping import NonFiniteLossError, StopButton, likely_causes, out_of_memory
from vitlab.training.tasks import Task, by_recipe, classification, names_classes
from vitlab.vit import modes_kept


def train(
    model: nn.Module,
    train_data: Dataset,
    test_data: Dataset | None,
    recipe: Recipe,
    run: Run | None = None,
    on_step: Callable[[History], None] | None = None,
    progress: bool = True,
    evaluations: int = 5,
    task: Task | None = None,
    checkpoint_dir: str | Path | None = None,
) -> History:
    """Train `model` in place and return its `History`.

    Classes are compared by name: `test_data` may have fewer than `train_data`, or in another order. The model
    remembers them as `class_names`; one that knew these names before keeps its numbers for them.

    The data is moved to the device whole, as uint8, and batched there. `test_data` is measured
    `evaluations` times, evenly spread, the last time at the end; None measures nothing. `on_step` is
    called with the history whenever a row (100 to 200 of them) or an evaluation is added, for live
    curves. `task` is what is learnt, `task(model, images, labels) -> Outcome`, such as `distillation`; None
    is `classification` with the recipe's label smoothing and class weights, which `evaluate` goes without.
    Ctrl-C, or a notebook's stop button, ends the training after the step under way, and what there is is
    returned; pressed twice, it ends at once.

    In `checkpoint_dir` some 20 checkpoints are written, and one when Ctrl-C ends the training; the last two
    stay. The same call then goes on from the newest, and on a CPU it ends with the same weights and
    history, bit for bit, as a training that nothing interrupted. `progress` and `on_step` may be others. A
    task must be one that can be known again: a function of a module or a cell, or `functools.partial` of one,
    which changes nothing that outlives its call.

    Where `torchrun` or `accelerate launch` started several processes, they share every batch. The first one
    alone shows the progress, calls `on_step`, evaluates and writes.

    With the recipe's `patch_sizes` the model itself is measured, at its own size; another is measured by
    `evaluate(model.at(patch_size=7), …)`.

    Raises ValueError for labels that the model has no class for, a class's name that stands twice, classes of
    `test_data` that `train_data` does not have, a model with nothing to train, a checkpoint of another
    training or of other test data, settings that its task does not use, or a batch that the processes cannot
    share; NonFiniteLossError, which has the history, when the loss becomes NaN or infinite; MemoryError, with
    a batch size that is likely to fit.

    >>> from vitlab import ViT, ViTConfig
    >>> images, labels = torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.arange(8)
    >>> eight = Dataset(images, labels, list("abcdefgh"))
    >>> history = train(ViT(ViTConfig()), eight, eight, Recipe(steps=2, batch_size=8), progress=False)
    >>> f"{history.rows[0]['loss']:.4f}"  # ln(10), as the head starts at zero
    '2.3026'
    """
    run = run or here()
    if evaluations < 1:
        raise ValueError(f"evaluations is at least 1; got {evaluations}: test_data=None measures nothing")
    check_data(model, train_data, "train_data", task)
    if test_data is not None:
        check_data(model, test_data, "test_data", task)
        sizes = train_data.images.shape[1:], test_data.images.shape[1:]
        if sizes[0] != sizes[1]:
            raise ValueError("train_data has images of {}, test_data of {}".format(*map(tuple, sizes)))
    given, (train_data, test_data) = train_data, by_name(model, train_data, test_data, task)
    learnt = by_recipe(recipe, task, given, output_names(model, train_data))
    with modes_kept(model):
        stepper = Stepper(model, recipe, run, learnt)
        training = Training(stepper, train_data, checkpoint_dir, task, measured(test_data, evaluations))
        history = training.history
        if names_classes(task, train_data):
            model.class_names = list(train_data.classes)
        if not training.processes.is_main:
            test_data = on_step = None
        test_data = test_data and test_data.to(run.device)
        try:
            with StopButton() as button:
                for step in training.steps(progress):
                    if on_step and history.rows[-1]["step"] == step:
                        on_step(history)
                    if test_data and evaluation_due(step, recipe.steps, evaluations):
                        found = evaluate(model, test_data, run, min(500, 4 * recipe.batch_size), task)
                        history.evaluations.append(Evaluation(step, *found))
                        if on_step:
                            on_step(history)
                    training.end_step(button.pressed)
        except KeyboardInterrupt:  # the stop button is a decision, not a mistake: keep what has been learnt
            history.interrupted = True
        finally:
            history.seconds = training.seconds()
            torch.clear_autocast_cache()  # in a region of the caller's: rounded weights from before
    return history


def by_name(
    model: nn.Module, train_data: Dataset, test_data: Dataset | None, task: Task | None
) -> tuple[Dataset, Dataset | None]:
    """Training and test data whose labels have the same meaning: that of the model, if it knows the names.

    Where the model knows some other classes, it learns those of `train_data` in their stead.
    """
    if not names_classes(task, train_data):
        return train_data, test_data
    if same := repeated(train_data.classes):
        raise ValueError(
            f"train_data has {listed(same)} more than once among its classes: give each a name of its own"
        )
    names = known_names(model)
    if set(train_data.classes) <= set(names):
        train_data = data.match_classes(train_data, names, "train_data", "the model")
    if test_data is not None:
        test_data = data.match_classes(test_data, train_data.classes, "test_data", "train_data")
    return train_data, test_data


def output_names(model: nn.Module, train_data: Dataset) -> list[str | None]:
    """The name of the class of each of the model's outputs; None for those that are nothing."""
    names, outputs = list(train_data.classes), outputs_of(model, train_data)
    return (names + [None] * (outputs - len(names)))[:outputs]


def train_to_the_end(
    model: nn.Module, train_data: Dataset, recipe: Recipe, run: Run | None = None, task: Task | None = None
) -> History:
    """`train` unseen, where half a training is no result: raises KeyboardInterrupt if it was ended early."""
    history = train(model, train_data, None, recipe, run, progress=False, task=task)
    if history.interrupted:
        raise KeyboardInterrupt
    return history


def evaluation_due(step: int, steps: int, evaluations: int) -> bool:
    """Whether to measure the test data after `step`: `evaluations` times, evenly spread, last at the end."""
    return step == steps or step * evaluations // steps > (step - 1) * evaluations // steps


class Training:
    """A training under way: everything that changes with its steps, taken up again where it was left."""

    def __init__(
        self,
        stepper: Stepper,
        train_data: Dataset,
        checkpoint_dir: str | Path | None = None,
        task: Task | None = None,
        measured: dict | None = None,
    ):
        self.stepper, self.recipe, self.run = stepper, stepper.recipe, stepper.run
        self.processes = stepper.processes
        self.batches = Batches(
            train_data.to(self.run.device),
            self.recipe.batch_size,
            torch.Generator().manual_seed(self.recipe.seed),
            self.recipe.augment,
            part=(self.processes.index, self.processes.count),
        )
        self.step, self.history, self.meter = 0, History(), Meter()
        self.rows_every = max(1, self.recipe.steps // 100)
        self.keeper, self.task = None, task or classification
        if self.processes.count > 1 or checkpoint_dir is not None:
            name = getattr(
                self.task, "__name__", type(self.task).__name__
            )  # enough, where no other call goes on
            said = name if checkpoint_dir is None else fingerprint(self.task)
            what = identity(stepper.model, train_data, self.recipe, self.run, self.processes.count, said)
            self.processes.refuse_disagreement(what)
        if checkpoint_dir is not None:
            measured = measured or {}
            if self.processes.count > 1:  # the first one measures, and the others need no test data
                measured = self.processes.of_the_first(measured)
            self.keeper = Keeper(checkpoint_dir, what | measured)
            if found := self.keeper.newest():
                self.restore(*found)
        self.begin = time.perf_counter() - self.history.seconds

    def seconds(self) -> float:
        """How long it has taken, with the time before an interruption."""
        return time.perf_counter() - self.begin

    def steps(self, progress: bool) -> Iterator[int]:
        """Take the steps that are left one by one, adding rows to the history; yields how many were taken."""
        from tqdm.auto import tqdm

        total = self.recipe.steps
        hidden = not (progress and self.processes.is_main)
        bar = tqdm(total=total, initial=self.step, disable=hidden, unit="step", dynamic_ncols=True)
        with bar, out_of_memory(self.recipe.batch_size, "batch_size", self.processes.count):
            while self.step < total and not self.history.interrupted:
                images, labels = next(self.batches)
                learning_rate = learning_rate_at(self.step, self.recipe)
                size = patch_size_at(self.step, self.recipe)
                self.meter.add(self.stepper.step(images, labels, learning_rate, size), len(labels))
                self.step += 1
                if self.step == 1 or self.step == total or self.step % self.rows_every == 0:
                    means = self.meter.read(self.processes.total)
                    row = {"step": self.step, "learning_rate": learning_rate, **means}
                    self.history.rows.append(row)
                    bar.update(self.step - bar.n)
                    bar.set_postfix_str(summary(row))
                    self.refuse_non_finite(row["loss"])
                yield self.step

    def end_step(self, stop: bool) -> None:
        """Stop if asked to, and write a checkpoint if one is due: when a row is full, or at the stop."""
        row_added = self.history.rows[-1]["step"] == self.step
        if self.keeper and row_added:
            refuse_change(self.task, self.keeper.identity["task"])
        if self.processes.count == 1:
            self.history.interrupted = stop
        elif row_added:  # together, as nobody can take a step alone
            self.history.interrupted = self.processes.total([stop]) != [0]
        due = row_added and (self.step // self.rows_every) % 5 == 0
        if self.keeper and (due or self.history.interrupted or self.step == self.recipe.steps):
            self.keep()

    def refuse_non_finite(self, *values: float | Tensor) -> None:
        """Raise NonFiniteLossError where a loss or a weight is NaN or infinite."""
        if all(bool(torch.as_tensor(value).isfinite().all()) for value in values):
            return
        message = (
            f"the loss became NaN or infinite by step {self.step}, at the learning rate "
            f"{learning_rate_at(self.step - 1, self.recipe):.3g}. Likely causes: "
            f"{likely_causes(self.history, self.recipe, self.run.precision)}."
        )
        if self.keeper and self.keeper.good:
            message += f" The last good checkpoint is {self.keeper.good[-1]}"
        raise NonFiniteLossError(message, self.history)

    def keep(self) -> None:
        """Write a checkpoint; all processes take part, and the first one writes."""
        self.refuse_non_finite(self.meter.loss, *self.stepper.model.parameters())
        self.history.seconds = self.seconds()
        tensors = {
            "model": self.stepper.model.state_dict(),
            "optimizer": self.stepper.optimizer.state_dict()["state"],
            "batches": self.batches.state(),
            "meter": self.meter.state(),
            "random": {name: self.processes.gather(state) for name, state in random_state(self.run).items()},
        }
        facts = {
            "step": self.step,
            "rows": self.history.rows,
            "evaluations": self.history.evaluations,
            "seconds": self.history.seconds,
            "scaler": self.stepper.scaler.state_dict(),
        }
        if self.processes.is_main:
            self.keeper.write(self.step, tensors, facts)

    def restore(self, tensors: dict[str, dict], facts: dict) -> None:
        """Go on from a checkpoint."""
        optimizer = {int(i): state for i, state in tensors.get("optimizer", {}).items()}
        self.stepper.restore(tensors["model"], optimizer, facts["scaler"])
        self.batches.restore(tensors["batches"])
        self.meter.restore(tensors["meter"], self.run.device)
        own = {name: states[self.processes.index].clone() for name, states in tensors["random"].items()}
        set_random_state(own, self.run)
        evaluations = [Evaluation(*evaluation) for evaluation in facts["evaluations"]]
        self.step, self.history = facts["step"], History(facts["rows"], evaluations, facts["seconds"])


def random_state(run: Run) -> dict[str, Tensor]:
    """The state of PyTorch's random generators, of the CPU and of the device, each uint8 (n,)."""
    states = {"cpu": torch.get_rng_state()}
    if run.device.type != "cpu":
        states[run.device.type] = getattr(torch, run.device.type).get_rng_state()
    return states


def set_random_state(states: dict[str, Tensor], run: Run) -> None:
    """Give PyTorch's random generators the state that `random_state` returned (views they misread)."""
    torch.set_rng_state(states["cpu"])
    if run.device.type != "cpu":
        getattr(torch, run.device.type).set_rng_state(states[run.device.type])
