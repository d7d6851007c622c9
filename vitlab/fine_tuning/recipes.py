"""How to fine-tune: the recipe of table 4, AdamW beside it, and a learning rate chosen as the paper does."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from vitlab import data
from vitlab.data import Dataset
from vitlab.runtime import Run
from vitlab.training import Recipe, evaluate, train_to_the_end
from vitlab.vit import ViT

# Table 4's grid for SGD goes on upwards here, as our trainings are shorter; AdamW's is ours.
LEARNING_RATES = {"sgd": (0.01, 0.03, 0.1, 0.3), "adamw": (3e-4, 1e-3, 3e-3, 1e-2)}


def fine_tuning_recipe(
    steps: int, learning_rate: float, optimizer: str = "sgd", batch_size: int = 32, seed: int = 0
) -> Recipe:
    """Table 4's recipe: momentum 0.9, a cosine to zero, no weight decay, gradients clipped at norm 1.

    With `optimizer="adamw"` all but the optimizer is the same. As the published code has it, a short warm-up
    comes first, here a tenth of the steps. Raises what `Recipe` raises.

    >>> recipe = fine_tuning_recipe(steps=500, learning_rate=0.03)
    >>> recipe.optimizer, recipe.weight_decay, recipe.clip_norm
    ('sgd', 0.0, 1.0)
    """
    return Recipe(
        steps, batch_size, learning_rate, weight_decay=0.0, clip_norm=1.0, optimizer=optimizer, seed=seed
    )


def try_learning_rates(
    make_model: Callable[[], ViT],
    train_data: Dataset,
    held_out: Dataset,
    recipe: Recipe,
    learning_rates: Iterable[float],
    run: Run | None = None,
) -> dict[float, float]:
    """Accuracy on `held_out` for each learning rate: a new model, the recipe, that rate (appendix B.1.1).

    `held_out` is a part of the training data, never the test set; its classes are found by name.
    `max(found, key=found.get)` is the best.

    >>> from vitlab import ViTConfig
    >>> import torch
    >>> four = Dataset(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.zeros(4, dtype=torch.long), ["a"])
    >>> recipe = fine_tuning_recipe(steps=1, learning_rate=0.03, batch_size=2)
    >>> try_learning_rates(lambda: ViT(ViTConfig(num_classes=1)), four, four, recipe, [0.01, 0.03])
    {0.01: 1.0, 0.03: 1.0}
    """
    held_out = data.match_classes(held_out, train_data.classes, "held_out", "train_data")
    found = {}
    for rate in learning_rates:
        model = make_model()
        train_to_the_end(model, train_data, replace(recipe, learning_rate=rate), run)
        found[rate] = evaluate(model, held_out, run)[1]
    return found
