"""What it is worth that the norms' gradients are summed in fp32 where all else is bf16 (`vitlab.norms`)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn

from vitlab import data
from vitlab.norms import LayerNorm
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, evaluate, train_to_the_end
from vitlab.vit import ViT, ViTConfig

# Lesson 04's training, and a tenth of the one that made the checkpoint `fashion_mnist_vit`; with the patch size.
RECIPES = {
    "lesson": (7, Recipe(steps=1700, batch_size=64, learning_rate=1.5e-3, augment=False)),
    "tenth": (4, Recipe(steps=2400, batch_size=128, learning_rate=3e-3, optimizer="muon")),
}
# Precision of the products, and of the sums in the norms' gradients. PyTorch on a CPU has the middle one.
ARITHMETIC = {"bf16, sums in fp32": "bf16", "bf16, sums in bf16": "bf16", "fp32": "fp32"}


def norm_gradients(
    seeds: Iterable[int] = range(5),
    recipes: Sequence[str] = tuple(RECIPES),
    steps: int | None = None,
    test_images: int = 10_000,
) -> Study:
    """Does a training in bf16 suffer from gradients of its norms that PyTorch sums in bf16?

    Each seed trains with both sums, and with the lesson's short recipe in fp32, too; `steps` shortens all
    recipes. Device and arithmetic are the settings', whatever the run's precision is: a CPU.

    >>> len(norm_gradients().runs)
    25
    """
    runs = [
        dict(seed=seed, recipe=recipe, arithmetic=arithmetic, steps=steps or RECIPES[recipe][1].steps)
        | dict(test_images=test_images)
        for recipe in recipes
        for seed in seeds
        for arithmetic in ARITHMETIC
        if recipe == "lesson" or arithmetic != "fp32"  # the long one would take twice as long as all others
    ]
    return Study("norm_gradients", "What are norms' gradients in fp32 worth?", runs, measure_norm_gradients)


def measure_norm_gradients(settings: Row, run: Run) -> Row:
    """One training of `norm_gradients`."""
    if run.device.type != "cpu":
        raise ValueError("only a CPU sums the norms' gradients in bf16; run this study on one")
    patch_size, recipe = RECIPES[settings["recipe"]]
    recipe = replace(recipe, steps=settings["steps"], warmup_steps=None, seed=settings["seed"])
    run = replace(run, precision=ARITHMETIC[settings["arithmetic"]])
    model = ViT(ViTConfig(patch_size=patch_size))
    if settings["arithmetic"] == "bf16, sums in bf16":
        take_pytorch_norms(model)
    history = train_to_the_end(model, data.fashion_mnist("train"), recipe, run)
    loss, accuracy = evaluate(model, data.fashion_mnist("test").subset(range(settings["test_images"])), run)
    return dict(
        test_accuracy=round(accuracy, 4),
        test_loss=round(loss, 4),
        train_accuracy=round(history.rows[-1]["accuracy"], 4),
        train_loss=round(history.rows[-1]["loss"], 4),
    )


def take_pytorch_norms(model: nn.Module) -> None:
    """Put PyTorch's own LayerNorm, with the same parameters, in the place of every one of vitlab's.

    >>> model = ViT(ViTConfig())
    >>> take_pytorch_norms(model)
    >>> type(model.norm) is nn.LayerNorm
    True
    """
    for module in list(model.modules()):
        for name, norm in module.named_children():
            if isinstance(norm, LayerNorm):
                plain = nn.LayerNorm(norm.normalized_shape, norm.eps, device="meta")
                plain.weight, plain.bias = norm.weight, norm.bias
                setattr(module, name, plain)
