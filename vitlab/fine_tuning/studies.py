"""The studies of lesson 05: which learning rate and ridge, and what pre-training is worth with few labels.

`python -m vitlab.fine_tuning study NAME` runs one. The defaults are what `data/results/` holds.
"""

import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vitlab import data
from vitlab.checkpoints import bundled, load_checkpoint
from vitlab.data import Dataset
from vitlab.fine_tuning.few_labels import (
    Learner,
    Measure,
    cut_out,
    few_per_class,
    fine_tuned,
    from_scratch,
    pixel_probe,
    probe,
)
from vitlab.fine_tuning.recipes import LEARNING_RATES, fine_tuning_recipe
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.vit import ViT

POOL = 3000  # training scenes that few labels are drawn from
BATCH = 32
RIDGES = (0.01, 0.1, 1.0, 10.0)

# How each contender learns: the best in `fine_tuning_choices`, or within the spread of the best.
CHOICES = {
    "fine-tuned": dict(optimizer="adamw", learning_rate=1e-3, ridge=None),
    "scratch": dict(optimizer="adamw", learning_rate=1e-3, ridge=None),
    "probe": dict(optimizer=None, learning_rate=None, ridge=0.1),
    "pixels": dict(optimizer=None, learning_rate=None, ridge=1.0),
}


def few_labels(
    labels: Sequence[int] = (5, 10, 20, 50, 100),
    seeds: Iterable[int] = range(5),
    targets: Sequence[str] = ("cut-outs", "scenes"),
    methods: Sequence[str] = tuple(CHOICES),
    checkpoint: str = "fashion_mnist_vit",
    test_images: int = 1000,
) -> Study:
    """What is pre-training worth, label by label, on colour images that it has not seen?

    The checkpoint knows grey garments on black, 28 pixels wide. The targets are garments in colour, tilted,
    on photographs: "scenes" of 48 pixels, where they lie anywhere, and "cut-outs" of 28, where they fill the
    image. `labels` of each class are drawn by the seed. Test scenes lie on other photographs than those that
    labels are drawn from.

    >>> len(few_labels().runs)
    200
    """
    runs = [
        complete(settings, CHOICES[settings["method"]], checkpoint, test_images)
        for settings in grid(seed=seeds, target=targets, labels=labels, method=methods)
    ]
    return Study("few_labels", "What is pre-training worth, label by label?", runs, measure_few_labels)


def fine_tuning_choices(
    seeds: Iterable[int] = range(3),
    labels: int = 50,
    checkpoint: str = "fashion_mnist_vit",
    test_images: int = 1000,
) -> Study:
    """Which learning rate, for SGD as in table 4, for AdamW, and from scratch? Which ridge for the probes?

    Measured on cut-outs of scenes held out of training, never on the test set (appendix B.1.1).

    >>> [run["learning_rate"] for run in fine_tuning_choices(seeds=[0]).runs][:4]
    [0.01, 0.03, 0.1, 0.3]
    """
    contenders = [("fine-tuned", "sgd"), ("fine-tuned", "adamw"), ("scratch", "adamw")]
    tried = [
        (method, dict(optimizer=optimizer, learning_rate=rate, ridge=None))
        for method, optimizer in contenders
        for rate in LEARNING_RATES[optimizer]
    ] + [
        (method, dict(optimizer=None, learning_rate=None, ridge=ridge))
        for method in ("probe", "pixels")
        for ridge in RIDGES
    ]
    runs = [
        complete(
            dict(seed=seed, target="cut-outs", labels=labels, method=method), choice, checkpoint, test_images
        )
        for seed in seeds
        for method, choice in tried
    ]
    return Study("fine_tuning_choices", "Which learning rate, and which ridge?", runs, measure_choice)


def complete(settings: Row, choice: Row, checkpoint: str, test_images: int) -> Row:
    """The settings of a run, the rest of them added; more labels get more steps, a probe takes none."""
    steps = 50 + 3 * settings["labels"] if choice["optimizer"] else None
    return (
        settings
        | dict(checkpoint=checkpoint, test_images=test_images, batch_size=BATCH, steps=steps)
        | choice
    )


def measure_few_labels(settings: Row, run: Run) -> Row:
    """Test accuracy of one contender with one draw."""
    _, _, test = datasets(settings["target"], settings["test_images"])
    return dict(test_accuracy=round(learn(settings, run)(test), 4))


def measure_choice(settings: Row, run: Run) -> Row:
    """The same, on images held out of training instead of the test."""
    _, held_out, _ = datasets(settings["target"], settings["test_images"])
    return dict(held_out_accuracy=round(learn(settings, run)(held_out), 4))


def contenders(model: ViT, steps: int, run: Run | None = None) -> dict[str, Learner]:
    """The four of `few_labels`, for `few_label_study`: each learns as it was found best (`CHOICES`).

    `steps` are those of the two that are trained, in batches of 32.

    >>> from vitlab import ViTConfig
    >>> list(contenders(ViT(ViTConfig()), steps=10))
    ['fine-tuned', 'scratch', 'probe', 'pixels']
    """
    return {
        name: learner(model, dict(method=name, steps=steps, batch_size=BATCH) | choice, run)
        for name, choice in CHOICES.items()
    }


def learn(settings: Row, run: Run) -> Measure:
    """What the contender that the settings name makes of the draw of their seed."""
    pool, _, _ = datasets(settings["target"], settings["test_images"])
    draw = few_per_class(pool, settings["labels"], settings["seed"])
    model = load_checkpoint(bundled(settings["checkpoint"]))
    return learner(model, settings, run)(draw, settings["seed"])


def learner(model: ViT, settings: Row, run: Run | None) -> Learner:
    """A contender by its name, with the settings' recipe or ridge."""
    if settings["method"] == "pixels":
        return pixel_probe(settings["ridge"])
    if settings["method"] == "probe":
        return probe(model, settings["ridge"], run)
    names = ("steps", "learning_rate", "optimizer", "batch_size")
    recipe = fine_tuning_recipe(**{name: settings[name] for name in names})
    return {"fine-tuned": fine_tuned, "scratch": from_scratch}[settings["method"]](model, recipe, run)


@functools.lru_cache(maxsize=2)
def datasets(target: str, test_images: int) -> tuple[Dataset, Dataset, Dataset]:
    """The images of a target: to draw labels from, held out of training, and to test on."""
    training = data.scenes(POOL + test_images, seed=0)
    test = data.scenes(test_images, seed=0, split="test")
    if target == "cut-outs":
        training, test = cut_out(training, 28), cut_out(test, 28)
    else:
        training, test = training.dataset, test.dataset
    return training.subset(range(POOL)), training.subset(range(POOL, POOL + test_images)), test


def few_label_results(rows: list[Row], target: str) -> tuple[list[int], dict[str, Tensor]]:
    """The rows of `few_labels` as `few_label_study` returns them: labels, and method -> (seeds, len(labels)).

    What is missing or failed is nan. Raises ValueError where no row has the target.

    >>> common = dict(status="done", target="scenes", method="probe", labels=5)
    >>> rows = [common | dict(seed=seed, test_accuracy=0.25 * seed) for seed in (1, 2)]
    >>> few_label_results(rows, "scenes")
    ([5], {'probe': tensor([[0.2500],
            [0.5000]])})
    """
    rows = [row for row in rows if row["target"] == target]
    if not rows:
        raise ValueError(f"no row has the target {target!r}")
    labels, seeds = (sorted({row[name] for row in rows}) for name in ("labels", "seed"))
    methods = dict.fromkeys(row["method"] for row in rows)
    tables = {method: torch.full((len(seeds), len(labels)), torch.nan) for method in methods}
    for row in rows:
        if row["status"] == "done":
            place = seeds.index(row["seed"]), labels.index(row["labels"])
            tables[row["method"]][place] = row["test_accuracy"]
    return labels, tables


STUDIES = {study.__name__: study for study in (fine_tuning_choices, few_labels)}
