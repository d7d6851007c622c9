"""The one training loop (appendix B.1 and table 3), as a function and as `python -m vitlab.training`."""

import argparse
import functools
import hashlib
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab import checkpoints, data
from vitlab.data import Dataset
from vitlab.runtime import Run, here, start
from vitlab.vit import ViT, ViTConfig, count_parameters


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults suit the course's model on Fashion-MNIST; tables 3 and 4 are the paper's.

    `learning_rate` is reached after `warmup_steps` in a straight line and falls to zero as a cosine.
    `optimizer` is "adamw" (betas 0.9 and 0.999) or "sgd" (momentum 0.9). `augment` shifts and flips images.
    `clip_norm` is the largest gradient norm (0: no clipping). Raises ValueError for values out of range.

    >>> Recipe(steps=200).warmup_steps
    20
    """

    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int | None = None  # None: a tenth of the steps
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    optimizer: str = "adamw"
    augment: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", self.steps // 10)
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1; got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is above 0; got {self.learning_rate}")
        for name in ("weight_decay", "clip_norm", "label_smoothing", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is at least 0; got {getattr(self, name)}")
        if self.label_smoothing >= 1:
            raise ValueError(f"label_smoothing is below 1; got {self.label_smoothing}")
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer is 'adamw' or 'sgd'; got {self.optimizer!r}")


class Outcome(NamedTuple):
    """A task on one batch: mean loss, a number in fp32; how many predictions were right; out of how many."""

    loss: Tensor
    correct: Tensor
    counted: int


Task = Callable[[nn.Module, Tensor, Tensor], Outcome]


def classification(model: nn.Module, images: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Outcome:
    """The task of naming each image's class (section 4.1): cross-entropy in nats against labels (B,).

    `model` maps images (B, C, H, W) in [-1, 1] to logits (B, classes).

    >>> images, labels = torch.zeros(2, 1, 28, 28), torch.tensor([0, 3])
    >>> loss, correct, counted = classification(ViT(ViTConfig()), images, labels)
    >>> round(loss.item(), 4), correct.item(), counted  # an untrained head ties, and a tie goes to class 0
    (2.3026, 1, 2)
    """
    logits = model(images).float()
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return Outcome(loss, (logits.argmax(dim=-1) == labels).sum(), len(labels))


class Evaluation(NamedTuple):
    """A model measured on a data set after `step` steps: mean cross-entropy in nats, accuracy in [0, 1]."""

    step: int
    loss: float
    accuracy: float


@dataclass
class History:
    """What happened in a training. A row is a dict: step, loss, accuracy, learning_rate, images_per_second.

    A row's loss and accuracy are means over the training batches since the row before it.

    >>> History(evaluations=[Evaluation(step=100, loss=0.5, accuracy=0.8)]).accuracy
    0.8
    """

    rows: list[dict] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def accuracy(self) -> float:
        """Test accuracy at the last evaluation, in [0, 1]; nan before the first."""
        return self.evaluations[-1].accuracy if self.evaluations else math.nan


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of step 0, 1, …: linear warm-up, then half a cosine down to zero (table 3, table 4).

    >>> recipe = Recipe(steps=100, warmup_steps=10, learning_rate=1.0)
    >>> [round(learning_rate_at(step, recipe), 3) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD with weight decay on matrices only: not on norms, biases, class token or positions."""
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    spared = {name for name, p in trainable if p.ndim < 2 or name.endswith(("cls_token", "pos_embed"))}
    groups = [
        {"params": [p for name, p in trainable if name not in spared], "weight_decay": recipe.weight_decay},
        {"params": [p for name, p in trainable if name in spared], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.999), fused=True)


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
) -> History:
    """Train `model` in place and return its `History`.

    The data is moved to the device whole, as uint8, and batched there. `test_data` is measured
    `evaluations` times, evenly spread, the last time at the end; None measures nothing. `on_step` is
    called with the history whenever a row is added (about 100 times), for live curves. `task` is what
    is learnt, `task(model, images, labels) -> Outcome`; None is `classification` with the recipe's label
    smoothing. Ctrl-C, or a notebook's stop button, ends the training early and returns what there is.
    Raises ValueError for labels that the model has no class for.

    >>> images, labels = torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.arange(8)
    >>> eight = Dataset(images, labels, list("abcdefgh"))
    >>> history = train(ViT(ViTConfig()), eight, eight, Recipe(steps=2, batch_size=8), progress=False)
    >>> f"{history.rows[0]['loss']:.4f}"  # ln(10), as the head starts at zero
    '2.3026'
    """
    run = run or here()
    check_data(model, train_data, "train_data")
    if test_data is not None:
        check_data(model, test_data, "test_data")
        test_data = test_data.to(run.device)
    history, begin = History(), time.perf_counter()
    was_training = model.training
    try:
        for step in training_steps(model, train_data.to(run.device), recipe, run, history, progress, task):
            if on_step and history.rows[-1]["step"] == step:
                on_step(history)
            if test_data is not None and evaluation_due(step, recipe.steps, evaluations):
                history.evaluations.append(Evaluation(step, *evaluate(model, test_data, run, task=task)))
                if on_step:
                    on_step(history)
    except KeyboardInterrupt:  # the stop button is a decision, not a mistake: keep what has been learnt
        history.interrupted = True
    finally:
        model.train(was_training)
        history.seconds = time.perf_counter() - begin
    return history


def training_steps(
    model: nn.Module,
    train_data: Dataset,
    recipe: Recipe,
    run: Run,
    history: History,
    progress: bool,
    task: Task | None,
) -> Iterator[int]:
    """Take the recipe's steps one by one, adding rows to the history; yields the number of steps taken."""
    from tqdm.auto import tqdm

    stepper, meter = Stepper(model, recipe, run, task), Meter()
    batches = data.batches(train_data, recipe.batch_size, recipe.seed, recipe.augment, recipe.steps)
    log_every = max(1, recipe.steps // 100)
    with tqdm(total=recipe.steps, disable=not progress, unit="step", dynamic_ncols=True) as bar:
        for step, (images, labels) in enumerate(batches, start=1):
            learning_rate = learning_rate_at(step - 1, recipe)
            meter.add(stepper.step(images, labels, learning_rate), len(labels))
            if step == 1 or step % log_every == 0 or step == recipe.steps:
                row = {"step": step, "learning_rate": learning_rate, **meter.read()}
                history.rows.append(row)
                bar.update(step - bar.n)
                bar.set_postfix_str(summary(row))
                if not math.isfinite(row["loss"]):
                    warnings.warn(
                        f"the loss is {row['loss']} at step {step}, so training stopped; lower learning_rate "
                        f"({recipe.learning_rate}) or lengthen warmup_steps ({recipe.warmup_steps})",
                        stacklevel=3,
                    )
                    return
            yield step


def summary(row: dict) -> str:
    """A row of the history in a few words, for the progress bar."""
    speed = f"{row['images_per_second']:,.0f} images/s"
    return f"loss {row['loss']:.3f}, accuracy {row['accuracy']:.1%}, {speed}"


class Stepper:
    """Takes training steps: forward, backward, clipping and a move of the weights, in the run's precision."""

    def __init__(self, model: nn.Module, recipe: Recipe, run: Run, task: Task | None = None):
        from accelerate import Accelerator

        self.recipe, self.run = recipe, run
        self.task = task or functools.partial(classification, label_smoothing=recipe.label_smoothing)
        self.accelerator = Accelerator(mixed_precision="no", device_placement=False)  # `run` decides both
        self.model = self.accelerator.prepare_model(model.to(run.device))
        self.optimizer = make_optimizer(self.model, recipe)
        self.scaler = torch.amp.GradScaler(run.device.type, enabled=run.precision == "fp16")

    def step(self, images: Tensor, labels: Tensor, learning_rate: float) -> Outcome:
        """One step on one batch; returns the task's outcome, detached."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with self.run.autocast():
            outcome = self.task(self.model, images, labels)
        self.accelerator.backward(self.scaler.scale(outcome.loss))
        if self.recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return outcome._replace(loss=outcome.loss.detach())


class Meter:
    """Running means of loss and accuracy, summed on the device so that no step waits for the CPU."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self.loss, self.correct, self.counted, self.images, self.steps = 0.0, 0.0, 0, 0, 0
        self.begin = time.perf_counter()

    def add(self, outcome: Outcome, images: int) -> None:
        """Count one batch of so many images."""
        self.loss, self.correct = self.loss + outcome.loss, self.correct + outcome.correct
        self.counted += outcome.counted
        self.images, self.steps = self.images + images, self.steps + 1

    def read(self) -> dict[str, float]:
        """The means since the last reading, and start again."""
        values = {
            "loss": float(self.loss) / self.steps,
            "accuracy": float(self.correct) / self.counted,
            "images_per_second": self.images / (time.perf_counter() - self.begin),
        }
        self.reset()
        return values


def evaluation_due(step: int, steps: int, evaluations: int) -> bool:
    """Whether to measure the test data after `step`: `evaluations` times, evenly spread, last at the end."""
    return step == steps or step * evaluations // steps > (step - 1) * evaluations // steps


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    run: Run | None = None,
    batch_size: int = 500,
    task: Task | None = None,
) -> tuple[float, float]:
    """Mean loss and accuracy in [0, 1] of a task over a whole data set, without augmentation.

    Without a `task` it is `classification`, and the loss is the cross-entropy in nats.

    >>> images, labels = torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.zeros(8, dtype=torch.long)
    >>> loss, accuracy = evaluate(ViT(ViTConfig()), Dataset(images, labels, ["only"]))
    >>> round(loss, 4), accuracy
    (2.3026, 1.0)
    """
    run = run or here()
    check_data(model, dataset, "the data set")
    was_training = model.training
    model.eval().to(run.device)
    task, loss, correct, counted = task or classification, 0.0, 0.0, 0
    for images, labels in zip(
        dataset.images.split(batch_size), dataset.labels.split(batch_size), strict=True
    ):
        with run.autocast():
            outcome = task(model, data.normalise(images.to(run.device)), labels.to(run.device))
        loss, correct = loss + outcome.loss * outcome.counted, correct + outcome.correct
        counted += outcome.counted
    model.train(was_training)
    return float(loss) / counted, float(correct) / counted


def check_data(model: nn.Module, dataset: Dataset, what: str) -> None:
    """Raise ValueError for an empty data set, or for labels outside the classes that the model knows."""
    if not len(dataset.labels):
        raise ValueError(f"{what} is empty")
    lowest, highest = int(dataset.labels.min()), int(dataset.labels.max())
    config = getattr(model, "config", None)  # a model from elsewhere need not say how many classes it has
    classes = len(dataset.classes) if config is None else config.num_classes
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"the labels of {what} run from {lowest} to {highest}, but the model knows {classes} classes, "
            f"0 to {classes - 1}; set num_classes"
        )


def main(arguments: list[str] | None = None) -> None:
    """Train a ViT on Fashion-MNIST from the shell, and save checkpoint and card."""
    parser = argparse.ArgumentParser(
        prog="python -m vitlab.training", description=main.__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the .safetensors file to write; its card goes beside"
    )
    parser.add_argument(
        "--classes", type=int, nargs="+", help="train on these classes only, renumbered from 0"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="default: the fastest here")
    for kind in (Recipe, ViTConfig):
        for option in fields(kind):
            if option.default is MISSING or option.name in ("image_size", "in_chans", "num_classes"):
                continue  # the data decides these
            parser.add_argument(f"--{option.name}", **argument_options(option))
    options = vars(parser.parse_args(arguments))
    train_data, test_data = (fashion_classes(split, options["classes"]) for split in ("train", "test"))
    recipe = Recipe(**{f.name: options[f.name] for f in fields(Recipe)})
    sizes = {f.name: options[f.name] for f in fields(ViTConfig) if f.name in options}
    config = ViTConfig(**sizes, num_classes=len(train_data.classes))
    run = start(seed=recipe.seed, precision=options["precision"])
    print(run)
    model = ViT(config)
    history = train(model, train_data, test_data, recipe, run)
    path = checkpoints.save_checkpoint(model, options["out"])
    card = {
        "data": "Fashion-MNIST, training split, " + ", ".join(train_data.classes),
        "command": "python -m vitlab.training " + " ".join(sys.argv[1:] if arguments is None else arguments),
        "parameters": count_parameters(model),
        "test_accuracy": history.accuracy,
        "training_images": recipe.steps * recipe.batch_size,
        "minutes": round(history.seconds / 60, 1),
        "interrupted": history.interrupted,
        "machine": repr(run),
        "recipe": asdict(recipe),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    checkpoints.write_whole(path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
    print(f"test accuracy {history.accuracy:.2%}; wrote {path} and its card")


def argument_options(option) -> dict:
    """How argparse reads a dataclass field: a switch for a bool, else a value of the default's type."""
    if isinstance(option.default, bool):
        return {"action": argparse.BooleanOptionalAction, "default": option.default}
    return {"type": type(option.default) if option.default is not None else int, "default": option.default}


def fashion_classes(split: str, classes: list[int] | None) -> Dataset:
    """Fashion-MNIST, or the part of it that has these labels, renumbered from 0 in the given order."""
    whole = data.fashion_mnist(split)
    return whole if classes is None else data.select_classes(whole, classes)


if __name__ == "__main__":
    main()
