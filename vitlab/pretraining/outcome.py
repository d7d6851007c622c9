"""One training of a study on Fashion-MNIST: its images, and what it came to, as a row has it."""

import copy
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from vitlab import data
from vitlab.data import Dataset
from vitlab.runtime import Run
from vitlab.studies import Row
from vitlab.training import History, Recipe, Task, evaluate, train_to_the_end


def parted(validation_images: int) -> tuple[Dataset, Dataset]:
    """Fashion-MNIST's training images: those to train on, and the last ones, for validation."""
    images = data.fashion_mnist("train")
    number = len(images.labels)
    first = number - validation_images
    return images.subset(range(first)), images.subset(range(first, number))


def first_test_images(settings: Row) -> Dataset:
    """As many of Fashion-MNIST's test images as the settings say."""
    return data.fashion_mnist("test").subset(range(settings["test_images"]))


def validated(model: nn.Module, kept: Dataset, run: Run) -> Row:
    """The accuracy by which learning rates are chosen."""
    return dict(validation_accuracy=round(evaluate(model, kept, run)[1], 4))


def trained(
    model: nn.Module,
    images: Dataset,
    settings: Row,
    run: Run,
    augment: bool = False,
    change: Callable[[Dataset], Dataset] = lambda images: images,
) -> Row:
    """Train by the settings; accuracy and loss on the first test images, and how fast it was.

    `change` is made to the test images, as it was to those of the training.
    """
    recipe = Recipe(
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        augment=augment,
        seed=settings["seed"],
    )
    history, seconds = timed(model, images, recipe, run)
    speed = round(recipe.steps * recipe.batch_size / seconds)
    test = change(first_test_images(settings))
    return outcome(model, history, test, run) | dict(images_per_second=speed)


def timed(
    model: nn.Module, images: Dataset, recipe: Recipe, run: Run, task: Task | None = None
) -> tuple[History, float]:
    """Train to the end; the history, and the seconds that it took."""
    first = replace(recipe, steps=1)
    train_to_the_end(copy.deepcopy(model), images, first, run, task)  # imports and first calls
    clock = time.process_time if run.device.type == "cpu" else time.perf_counter
    begin = clock()  # on a CPU one that stands still while other programs run
    history = train_to_the_end(model, images, recipe, run, task)
    return history, (clock() - begin) / (torch.get_num_threads() if run.device.type == "cpu" else 1)


def outcome(model: nn.Module, history: History, test: Dataset, run: Run) -> Row:
    """Accuracy and loss on the test images, and at the end of the training on its last batch."""
    loss, accuracy = evaluate(model, test, run)
    return dict(
        test_accuracy=round(accuracy, 4),
        test_loss=round(loss, 4),
        train_accuracy=round(history.rows[-1]["accuracy"], 4),
        train_loss=round(history.rows[-1]["loss"], 4),
    )
