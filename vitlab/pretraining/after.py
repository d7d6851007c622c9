"""What came after the paper, one option of the same small ViT each, on Fashion-MNIST."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from vitlab import checkpoints, data
from vitlab.adapting import at_resolution
from vitlab.data import Dataset
from vitlab.merging import with_merging
from vitlab.pretraining.outcome import first_test_images, parted, timed, validated
from vitlab.runtime import Run, here
from vitlab.studies import Row, Study, grid
from vitlab.training import Recipe, Task, distillation, evaluate
from vitlab.vit import ViT, ViTConfig, count_parameters, evaluating

ARMS = {  # what each changes of the default model
    "plain": {},
    "registers": dict(num_registers=4),
    "soft distillation": dict(distilled=True),
    "hard distillation": dict(distilled=True),
    "rope": dict(pos_embed="rope2d"),
    "patch dropout": dict(patch_dropout=0.5),
}
TEACHER = "fashion_mnist_resnet"
IMAGE_SIZES = (40, 56)  # not trained at; patches of 4 pixels divide them
MERGED = (2, 4, 8)  # tokens in each block
AT_ONCE = 128  # images that a processor's cache holds the attention of; 500 of 56 pixels take twice as long


def after_the_paper(
    seeds: Iterable[int] = range(3),
    arms: Sequence[str] = tuple(ARMS),
    learning_rates: Sequence[float] = (2e-3, 4e-3, 8e-3),
    steps: int = 400,
    batch_size: int = 128,
    validation_images: int = 5_000,
    test_images: int = 5_000,
) -> Study:
    """What do registers, distillation, rotary positions and patch dropout change in a short training?

    Each has a grid of learning rates, judged on training images kept back, which the teacher of two arms has
    seen: the shipped ResNet learnt all of them. `train_seconds` are of one core, with what the teacher's
    answers take, and without its own training. Every model is then asked at image sizes that it was not
    trained at, by `ViT.at`, and with tokens merged (`merged_2`: two in each block), but for rotary positions,
    which merging refuses. For these a larger image has places beyond those learnt; `..._stretched` has them
    on the old grid instead.

    >>> len(after_the_paper().runs)
    54
    """
    runs = grid(
        seed=seeds,
        arm=arms,
        learning_rate=learning_rates,
        steps=[steps],
        batch_size=[batch_size],
        validation_images=[validation_images],
        test_images=[test_images],
    )
    return Study("after_the_paper", "What do ideas since the paper change?", runs, measure_after)


def measure_after(settings: Row, run: Run) -> Row:
    """One run of `after_the_paper`."""
    model = ViT(ViTConfig(**ARMS[settings["arm"]]))
    images, kept = parted(settings["validation_images"])
    recipe = Recipe(
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        augment=False,
        seed=settings["seed"],
    )
    _, seconds = timed(model, images, recipe, run, task_of(settings["arm"]))
    spent = dict(parameters=count_parameters(model), train_seconds=round(seconds, 2))
    return spent | validated(model, kept, run) | asked(model, first_test_images(settings), run)


def task_of(arm: str) -> Task | None:
    """What an arm learns: None is what labels say, the others also what the teacher says."""
    kind, _, rest = arm.partition(" ")
    if rest != "distillation":
        return None
    teacher = checkpoints.load_checkpoint(checkpoints.bundled(TEACHER))
    return functools.partial(distillation, teacher=teacher, kind=kind)


def asked(model: ViT, test: Dataset, run: Run) -> Row:
    """What a trained model answers, at its own size and at others, and with its tokens merged."""
    rope = model.config.pos_embed == "rope2d"

    def accuracy(model: ViT, images: Dataset = test) -> float:
        return evaluate(model, images, run, AT_ONCE)[1]

    found = dict(test_accuracy=accuracy(model))
    for side in IMAGE_SIZES:
        name, larger = f"test_accuracy_at_{side}px", at_resolution(test, side)
        found[name] = accuracy(model.at(image_size=side), larger)
        found[f"{name}_stretched"] = accuracy(stretched(model, side), larger) if rope else None
    found["norm_ratio"] = norm_ratio(model, test, run)
    for r in MERGED:
        found[f"merged_{r}"] = None if rope else accuracy(with_merging(model, r))
    return {name: value if value is None else round(value, 4) for name, value in found.items()}


def stretched(model: ViT, image_size: int) -> ViT:
    """A copy of a model with rotary positions for larger images, whose places are between those learnt.

    >>> stretched(ViT(ViTConfig(pos_embed="rope2d")), 56).config.rotary
    Rotary(grid=(14, 14), kept_grid=(7, 7), num_prefix_tokens=1, head_dim=24)
    """
    larger = ViT(replace(model.config, image_size=image_size, pos_grid=model.config.kept_grid))
    larger.load_state_dict(model.state_dict())
    return larger


@torch.inference_mode()
def norm_ratio(model: ViT, dataset: Dataset, run: Run | None = None, batch_size: int = AT_ONCE) -> float:
    """How many times the median of an image's patch tokens the longest is, after the last block; the mean.

    Artefact tokens (arXiv 2309.16588, section 2) are several times as long; of patches all alike it is 1.

    >>> blank = Dataset(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1]), ["a", "b"])
    >>> norm_ratio(ViT(ViTConfig(pos_embed="none", num_classes=2)), blank)  # all patches alike
    1.0
    """
    run, ratios = run or here(), []
    with evaluating(model), run.autocast():
        for images in dataset.images.split(batch_size):
            tokens = model.blocks(model.embed(data.normalise(images.to(run.device))))
            lengths = tokens[:, model.config.num_prefix_tokens :].float().norm(dim=-1)  # (B, N)
            ratios.append(lengths.amax(dim=1) / lengths.median(dim=1).values)
    return float(torch.cat(ratios).mean())
