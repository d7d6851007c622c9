"""How to train: the numbers of tables 3 and 4, the schedule, and the optimizer."""

import math
import random
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch import nn

from vitlab.training.muon import MuonAndAdamW, adamw, apart


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults suit the course's model on Fashion-MNIST; tables 3 and 4 are the paper's.

    `learning_rate` is reached after `warmup_steps` in a straight line and falls to zero as a cosine.
    `optimizer` is "adamw" (betas 0.9 and 0.999), "sgd" (momentum 0.9) or "muon", which is younger than the
    paper and learns more from each image (`vitlab.training.muon`). `augment` shifts and flips images.
    `clip_norm` is the largest gradient norm (0: no clipping). `class_weights` is for classes of unequal size:
    how much an image of each class counts in the loss, one number a class in the order of the data's, or
    "balanced", inversely to how many images a class has. With `patch_sizes` every batch is learnt at one of
    them, drawn evenly, so that one `ViT` serves them all (FlexiViT, arXiv 2212.08013; `ViT.at`). Raises
    ValueError for values out of range.

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
    class_weights: str | tuple[float, ...] | None = None  # None: all alike
    optimizer: str = "adamw"
    augment: bool = True
    patch_sizes: tuple[int, ...] | None = None  # None: the model's own alone
    seed: int = 0

    def __post_init__(self):
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", self.steps // 10)
        for name in ("steps", "batch_size", "warmup_steps"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} is a whole number; got {getattr(self, name)!r}")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1; got {getattr(self, name)}")
        if not self.learning_rate > 0:  # NaN is not, either
            raise ValueError(f"learning_rate is above 0; got {self.learning_rate}")
        for name in ("weight_decay", "clip_norm", "label_smoothing", "warmup_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is at least 0; got {getattr(self, name)}")
        if not self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is below 1; got {self.label_smoothing}")
        if self.class_weights is not None and not is_balanced(self.class_weights):
            object.__setattr__(self, "class_weights", checked_weights(self.class_weights))
        if self.patch_sizes is not None:
            object.__setattr__(self, "patch_sizes", checked_sizes(self.patch_sizes))
        if self.optimizer not in ("adamw", "muon", "sgd"):
            raise ValueError(f"optimizer is 'adamw', 'muon' or 'sgd'; got {self.optimizer!r}")


def is_balanced(class_weights: str | Sequence[float]) -> bool:
    """Whether class weights follow from how many images there are."""
    return isinstance(class_weights, str) and class_weights == "balanced"


def checked_weights(class_weights: Sequence[float]) -> tuple[float, ...]:
    """The numbers as a tuple of floats. Raises ValueError unless each is finite and above 0."""
    in_a_row = not isinstance(class_weights, (str, Mapping, Set))
    try:
        weights = tuple(map(float, class_weights)) if in_a_row else ()
    except (TypeError, ValueError):
        weights = ()
    if not weights or not all(0 < w < math.inf for w in weights):
        raise ValueError(
            f"class_weights is None, 'balanced', or a number above 0 for each class; got {class_weights!r}"
        )
    return weights


def checked_sizes(patch_sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes as a tuple. Raises ValueError unless they are different whole numbers above 0."""
    sizes = tuple(patch_sizes) if isinstance(patch_sizes, tuple | list | range) else ()
    if not sizes or not all(type(p) is int and p > 0 for p in sizes) or len({*sizes}) < len(sizes):
        raise ValueError(
            f"patch_sizes is None, or different whole numbers of pixels, as (2, 4, 7); got {patch_sizes!r}"
        )
    return sizes


def patch_size_at(step: int, recipe: Recipe) -> int | None:
    """The patch size of step 0, 1, …, drawn evenly; None where the recipe has none.

    It hangs on seed and step alone, so that whoever goes on with a training, or shares it, draws alike, and
    the images of a batch are the same with it and without.

    >>> [patch_size_at(step, Recipe(patch_sizes=(2, 4, 7))) for step in range(8)]
    [2, 4, 7, 7, 2, 4, 2, 4]
    """
    if recipe.patch_sizes is None:
        return None
    return random.Random(f"patch size of step {step}, seed {recipe.seed}").choice(recipe.patch_sizes)


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


UNDECAYED = ("cls_token", "dist_token", "reg_token", "pos_embed")


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer. Weight decay is for matrices only: no norms, biases, class tokens, registers or
    positions.

    Raises ValueError where there is nothing to train, or for "muon" nothing in an encoder's blocks.
    """
    parameters = list(model.named_parameters())
    trainable = [(name, p) for name, p in parameters if p.requires_grad]
    if not trainable:
        raise ValueError(
            f"the model has nothing to train: all of its {len(parameters)} parameters are frozen; set "
            "requires_grad on those that are to learn"
            if parameters
            else "the model has nothing to train, as it has no parameters; evaluate measures it as it is"
        )
    spared = {name for name, p in trainable if p.ndim < 2 or name.endswith(UNDECAYED)}
    groups = [
        {"params": [p for name, p in trainable if name not in spared], "weight_decay": recipe.weight_decay},
        {"params": [p for name, p in trainable if name in spared], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9)
    if recipe.optimizer == "muon":
        return MuonAndAdamW(*apart(model, groups), recipe.learning_rate, recipe.weight_decay)
    return adamw(groups, recipe.learning_rate)
