"""Exercise 4.4, an open task: the recipe that comes to 84 % with the fewest images."""

from collections.abc import Mapping

import torch

from vitlab.checks.engine import OpenTask, Refused

LEAST = 0.84  # of the garments held out
MOST = 60_000  # images: a minute is enough for an entry


def measure(entry, generator) -> float:
    """The images that a recipe shows, each as often as it is shown; it has to come to 84 %."""
    from vitlab import Recipe, ViT, ViTConfig, data, evaluate, train
    from vitlab.training import NonFiniteLossError

    made = entry() if callable(entry) else entry
    if not isinstance(made, (Recipe, Mapping)):
        raise Refused("a Recipe is wanted, such as `return Recipe(steps=100)`.")
    try:
        recipe = Recipe(**made) if isinstance(made, Mapping) else made
    except (TypeError, ValueError) as error:
        raise Refused(f"it makes no Recipe: {error}.") from None
    shown = recipe.steps * recipe.batch_size
    if shown > MOST:
        raise Refused(f"it shows {shown:,} images; {MOST:,} are the most that are tried.")
    learnt, held_out = data.hold_out(data.fashion_mnist("train"), share=1 / 12, seed=4)
    torch.manual_seed(recipe.seed)
    model = ViT(ViTConfig(patch_size=14))
    try:
        history = train(model, learnt, None, recipe, progress=False)
    except NonFiniteLossError:
        raise Refused("the loss became infinite: is the rate too high?") from None
    if history.interrupted:
        raise KeyboardInterrupt
    accuracy = evaluate(model, held_out)[1]
    if accuracy < LEAST:
        raise Refused(f"it comes to {accuracy:.1%} of the garments held out; {LEAST:.0%} are wanted.")
    return shown


def _by_muon():
    return dict(steps=300, batch_size=64, learning_rate=6e-3, optimizer="muon", augment=False)


def _no_recipe():
    return 300


def _no_steps():
    return dict(steps=0)


def _longer():
    return dict(steps=1000)


EXERCISE = OpenTask(
    id="4.4",
    title="the shortest recipe",
    measure=measure,
    goal=20_000,
    best=_by_muon,
    refused=[
        (_no_recipe, "a Recipe is wanted, such as `return Recipe(steps=100)`."),
        (_no_steps, "it makes no Recipe: steps is at least 1; got 0."),
        (_longer, "it shows 128,000 images; 60,000 are the most that are tried."),
    ],
    says="{:,.0f} images",
    seconds=300,
)
