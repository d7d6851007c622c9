"""Seconds to 85, 88 and 90 % test accuracy on Fashion-MNIST, loading and evaluation counted: `make bench`.

vitlab's quick recipe beside vit-pytorch's model of the same sizes, trained as its examples train: Adam at a
constant rate, fp32. The quick recipe is Muon in bf16, from positions as large as the tokens of patches and
not the paper's 0.02, with steps that suit the accuracy wanted, as its schedule ends where the rate is zero.
All are measured on the whole test set after every 20,000 training images, and ours at its end. `--ablate`
takes the recipe's parts away one by one: what each is worth.
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from bench import clock, table
from peers import CASES, vit_pytorch
from torch import nn

from vitlab import Recipe, ViT, data, evaluate, train
from vitlab.runtime import Run, here

CONFIG = CASES["b"].config
EVERY = 20_000  # training images from one evaluation to the next
STEPS = {0.85: 220, 0.88: 750, 0.90: 2600}  # of the quick recipe, to such an accuracy
QUICK = Recipe(batch_size=128, learning_rate=3e-3, optimizer="muon", augment=False)


class Point(NamedTuple):
    """A model measured on the test images, after so many seconds and training images."""

    seconds: float
    images: int
    accuracy: float


class Watch:
    """The evaluations of one training, and when it has gone on for long enough."""

    def __init__(self, cap: float, target: float):
        self.cap, self.target, self.points = cap, target, []
        self.begin = clock()

    def add(self, images: int, accuracy: float) -> None:
        self.points.append(Point(clock() - self.begin, images, accuracy))

    @property
    def done(self) -> bool:
        if not self.points:
            return False
        return self.points[-1].accuracy >= self.target or clock() - self.begin > self.cap

    def seconds_to(self, accuracy: float) -> float | None:
        """Seconds to the first evaluation that reached an accuracy; None where none did."""
        return next((point.seconds for point in self.points if point.accuracy >= accuracy), None)


def with_vitlab(
    make: Callable[[], nn.Module], recipe: Recipe, cap: float, target: float, precision: str | None = None
) -> Watch:
    """Train with `vitlab.train`."""
    watch = Watch(cap, target)
    torch.manual_seed(recipe.seed)
    run = here(precision=precision)

    def look(history):
        if len(history.evaluations) > len(watch.points):
            step, _, accuracy = history.evaluations[-1]
            watch.add(step * recipe.batch_size, accuracy)
        if watch.done:
            raise KeyboardInterrupt  # as if Ctrl-C were pressed: `train` then ends early

    evaluations = max(1, recipe.steps * recipe.batch_size // EVERY)
    train(make(), *fashion(), recipe, run, on_step=look, progress=False, evaluations=evaluations)
    return watch


def as_examples_do(
    make: Callable[[], nn.Module], cap: float, target: float, seed: int = 0, precision: str = "fp32"
) -> Watch:
    """Train as vit-pytorch's README and examples do."""
    watch = Watch(cap, target)
    torch.manual_seed(seed)
    run = Run(here(precision=precision).device, precision)
    (train_data, test_data), model = (part.to(run.device) for part in fashion()), make().to(run.device)
    images, optimizer = data.normalise(train_data.images), torch.optim.Adam(model.parameters(), lr=3e-4)
    seen = 0
    for chosen in itertools.chain.from_iterable(shuffled(len(images), 64) for _ in itertools.count()):
        with run.autocast():
            loss = F.cross_entropy(model(images[chosen]), train_data.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(chosen)
        if seen // EVERY > (seen - len(chosen)) // EVERY:
            watch.add(seen, evaluate(model, test_data, run)[1])
        if watch.done:
            return watch
    raise AssertionError("an endless loop ended")


def shuffled(n: int, batch_size: int) -> tuple[torch.Tensor, ...]:
    return torch.randperm(n).split(batch_size)


def fashion() -> list[data.Dataset]:
    return [data.fashion_mnist(split) for split in ("train", "test")]


def in_words(seconds: float | None, cap: float) -> str:
    return f"{seconds:.0f} s" if seconds is not None else f"not within {cap:.0f} s"


def compare(cap: float, seed: int) -> None:
    """Ours, once for each target, beside the peer's, one after the other."""
    ours = {}
    for target, steps in STEPS.items():
        ours[target] = with_vitlab(quick_model, replace(QUICK, steps=steps, seed=seed), cap, target)
        print(f"vitlab, {steps} steps:", curve(ours[target]), flush=True)
    peers = as_examples_do(peer_model, cap, max(STEPS), seed)
    print("vit-pytorch:", curve(peers), end="\n\n")
    rows = []
    for target, watch in ours.items():
        fast, slow = watch.seconds_to(target), peers.seconds_to(target)
        ratio = "" if fast is None else f"{slow / fast:.1f}" if slow else f"> {cap / fast:.1f}"
        rows.append(
            (f"{target:.0%}", "vit-pytorch / vitlab", in_words(fast, cap), in_words(slow, cap), ratio)
        )
    print(table("test accuracy, , vitlab, vit-pytorch, ratio", rows))


def curve(watch: Watch) -> str:
    return ", ".join(f"{p.accuracy:.1%} after {p.seconds:.0f} s" for p in watch.points)


def ablate(cap: float, target: float, seed: int) -> None:
    """Our recipe to a target with one part changed at a time, then the examples' loop, likewise."""
    recipe = replace(QUICK, steps=STEPS[target], seed=seed)
    smaller = dict(batch_size=64, steps=recipe.steps * recipe.batch_size // 64)
    recipes = {
        "vitlab's quick recipe": recipe,
        "… with AdamW, at 1e-3": replace(recipe, optimizer="adamw", learning_rate=1e-3),
        "… with AdamW, at 3e-3": replace(recipe, optimizer="adamw"),
        "… at 1e-3": replace(recipe, learning_rate=1e-3),
        "… in batches of 64": replace(recipe, **smaller),
        "… without warm-up": replace(recipe, warmup_steps=0),
        "… at a constant rate": replace(recipe, steps=10**6, warmup_steps=recipe.warmup_steps),
        "… without clipping": replace(recipe, clip_norm=0),
    }
    trials = {name: partial(with_vitlab, quick_model, changed) for name, changed in recipes.items()}
    ours = partial(with_vitlab, recipe=recipe)
    trials["… in fp32"] = partial(ours, quick_model, precision="fp32")
    trials["… from the paper's initial values"] = partial(ours, paper_values)
    trials["… from PyTorch's initial values"] = partial(ours, pytorch_values)
    trials["… with vit-pytorch's patch norms"] = partial(ours, with_patch_norms)
    trials["vit-pytorch's examples"] = partial(as_examples_do, peer_model, seed=seed)
    trials["… in bf16"] = partial(as_examples_do, peer_model, seed=seed, precision="bf16")
    trials["… on vitlab's model"] = partial(as_examples_do, quick_model, seed=seed)
    rows = []
    for name, trial in trials.items():
        watch = trial(cap=cap, target=target)
        seconds, last = watch.seconds_to(target), watch.points[-1]
        took = f"{last.seconds:.0f} s" if seconds is None else f"{seconds:.0f} s to {target:.0%}"
        rows.append((name, took, f"{last.images:,}", f"{last.accuracy:.1%}"))
        print(*rows[-1], sep=", ", flush=True)
    print("\n" + table("training, took, images, accuracy then", rows))


def quick_model() -> nn.Module:
    model = ViT(CONFIG)
    nn.init.normal_(model.pos_embed)
    return model


def paper_values() -> nn.Module:
    return ViT(CONFIG)


def peer_model() -> nn.Module:
    return vit_pytorch(CONFIG)


def pytorch_values() -> nn.Module:
    """Our model with the initial values that PyTorch's layers give themselves, and standard normal tokens."""
    model = ViT(CONFIG)
    for layer in model.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    nn.init.normal_(model.cls_token)
    nn.init.normal_(model.pos_embed)
    return model


def with_patch_norms() -> nn.Module:
    """Ours with a LayerNorm before and after the patch projection, as vit-pytorch has them."""
    model = ViT(replace(CONFIG, patch_norm=True))
    nn.init.normal_(model.pos_embed)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cap", type=float, default=420, help="seconds for each training at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--ablate", action="store_true", help="our recipe without each of its parts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.ablate:
        ablate(options.cap, min(STEPS), options.seed)
    else:
        compare(options.cap, options.seed)


if __name__ == "__main__":
    main()
