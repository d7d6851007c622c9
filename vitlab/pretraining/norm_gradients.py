"""What it is worth that the norms' gradients are summed in fp32 where all else is bf16 (`vitlab.norms`)."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab import data
from vitlab.norms import LayerNorm
from vitlab.pretraining.outcome import first_test_images, outcome
from vitlab.runtime import Run
from vitlab.studies import Row, Study
from vitlab.training import Recipe, train_to_the_end
from vitlab.vit import ViT, ViTConfig

# Patch size and recipe of lesson 04, and of a tenth of the training that made `fashion_mnist_vit`.
RECIPES = {
    "lesson": (7, Recipe(steps=1700, batch_size=64, learning_rate=1.5e-3, augment=False)),
    "tenth": (4, Recipe(steps=2400, batch_size=128, learning_rate=3e-3, optimizer="muon")),
}


def norm_gradients(
    seeds: Iterable[int] = range(5),
    recipes: Sequence[str] = tuple(RECIPES),
    steps: int | None = None,
    test_images: int = 10_000,
) -> Study:
    """Does a training in bf16 suffer from gradients of its norms that PyTorch sums in bf16?

    Each seed trains in bf16 with sums in either, and by the lesson's short recipe all in fp32, too. `steps`
    shortens the recipes. The precision is the settings', whatever the run's is, and the device a CPU.

    >>> len(norm_gradients().runs)
    25
    """
    runs = [
        dict(seed=seed, recipe=recipe, precision=precision, norm_sums=sums)
        | dict(steps=steps or RECIPES[recipe][1].steps, test_images=test_images)
        for recipe in recipes
        for seed in seeds
        for precision, sums in (("bf16", "fp32"), ("bf16", "bf16"), ("fp32", "fp32"))
        if recipe == "lesson" or precision == "bf16"  # the long one would take as long as all others together
    ]
    return Study("norm_gradients", "What are norms' gradients in fp32 worth?", runs, measure_norm_gradients)


def measure_norm_gradients(settings: Row, run: Run) -> Row:
    """One training of `norm_gradients`."""
    if run.device.type != "cpu":
        raise ValueError("only a CPU sums the norms' gradients in bf16; run this study on one")
    patch_size, recipe = RECIPES[settings["recipe"]]
    recipe = replace(recipe, steps=settings["steps"], warmup_steps=None, seed=settings["seed"])
    run = replace(run, precision=settings["precision"])
    model = ViT(ViTConfig(patch_size=patch_size))
    if settings["norm_sums"] == "bf16":
        take_pytorch_norms(model)
    history = train_to_the_end(model, data.fashion_mnist("train"), recipe, run)
    return outcome(model, history, first_test_images(settings), run)


def norm_gradient(model: ViT, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The gradient of the first norm's scale on a CPU, (D,) fp64: exact, and in bf16 with either kind of sum.

    >>> exact, *_ = norm_gradient(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), torch.tensor([0, 1])).items()
    >>> exact[0], exact[1].shape
    ('fp64', torch.Size([96]))
    """
    found, images, labels = {}, images.cpu(), labels.cpu()
    for name in ("fp64", "bf16, sums in bf16", "bf16, sums in fp32"):
        twin = copy.deepcopy(model).to("cpu", torch.float64 if name == "fp64" else torch.float32)
        if name == "bf16, sums in bf16":
            take_pytorch_norms(twin)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name != "fp64"):
            loss = F.cross_entropy(twin(images.to(twin.norm.weight.dtype)), labels)
        (gradient,) = torch.autograd.grad(loss, twin.blocks[0].norm1.weight)
        found[name] = gradient.double()
    return found


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
