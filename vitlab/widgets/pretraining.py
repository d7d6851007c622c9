"""Lesson 04: a recipe and what it does to a small model, and five trainings that fail."""

import time
from functools import lru_cache
from typing import NamedTuple

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vitlab import plots
from vitlab.data import Dataset, batches, match_classes
from vitlab.runtime import Run, here, seeded
from vitlab.training import (
    History,
    NonFiniteLossError,
    Recipe,
    evaluate,
    learning_rate_at,
    make_optimizer,
    train,
)
from vitlab.vit import ViT, ViTConfig
from vitlab.widgets.explorer import Explorer, figure
from vitlab.widgets.pictures import fit
from vitlab.widgets.turns import in_turn

SIZE = (880, 330)
PANEL = (SIZE[0] // 2, SIZE[1])
KEPT = 3  # trainings whose curves stay on the picture: more cannot be told apart
BATCH = 64
HIGHEST = 4  # of the losses shown of a run that fails; what is above is cut off
DECAY = 20  # of the norms that are decayed: in 100 steps it does what a usual one does in 100,000

# What is wrong with a run: changes to its recipe, and to its model.
FAULTS = {
    "healthy": ({}, {}),
    "rate too high": ({"learning_rate": 2e-2}, {}),
    "norms decayed": ({}, {}),
    "heads too thin": ({}, {"num_heads": 48}),
    "no warm-up": ({"learning_rate": 2e-2, "warmup_steps": 0}, {}),
    "patch too large": ({}, {"patch_size": 28}),
}


class RecipeExplorer(Explorer):
    """A recipe's learning-rate curve and its numbers, and a button that trains a small ViT by it.

    Training takes a few seconds and stays small whatever the controls say: a ViT of two layers and D = 48 on
    the first so many of `train_data`, without augmentation, measured on `test_data`. The last three trainings
    are kept for comparison. The same controls give the same training.

    >>> blank = Dataset(torch.zeros(64, 1, 28, 28).byte(), torch.arange(64) % 10, list("abcdefghij"))
    >>> RecipeExplorer(blank, blank).caption[:58]
    '120 steps of 64 images: 7,680 images, 120.0 passes over 64'
    """

    def __init__(self, train_data: Dataset, test_data: Dataset, run: Run | None = None, patch_size: int = 7):
        test_data = match_classes(test_data, train_data.classes, "test_data", "train_data")
        self.train_data, self.test_data, self.run = train_data, test_data, run
        self.config = ViTConfig(
            image_size=tuple(train_data.images.shape[-2:]),
            in_chans=train_data.images.shape[1],
            num_classes=len(train_data.classes),
            patch_size=patch_size,
            embed_dim=48,
            depth=2,
            mlp_dim=96,
        )
        self.trained: dict[tuple, History] = {}
        _, self._rates_axes = _panel("learning rate", "this recipe")
        self._losses_panel = lru_cache(1)(self._draw_losses)  # a slider changes the other panel only
        sizes = [n for n in (100, 500, 2_000, 10_000, 60_000) if n < len(train_data.labels)]
        sizes.append(len(train_data.labels))
        rates = [1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 1e-2, 3e-2, 1e-1]
        controls = {
            "peak": ipywidgets.SelectionSlider(options=rates, value=4e-3, description="peak learning rate"),
            "warmup": ipywidgets.IntSlider(10, 0, 50, 5, description="warm-up (% of steps)"),
            "steps": ipywidgets.IntSlider(120, 40, 240, 20, description="steps"),
            "images": ipywidgets.SelectionSlider(
                options=sizes, value=sizes[-1], description="training images"
            ),
        }
        super().__init__(self.draw, controls, size=SIZE)
        self.button = ipywidgets.Button(
            description="Train a small ViT by this recipe", button_style="primary", layout={"width": "auto"}
        )
        self.button.on_click(lambda _button: self.train())
        box = self.widget.children[0]
        box.children = (*box.children, self.button)

    def recipe(self, peak: float, warmup: int, steps: int, images: int) -> Recipe:
        """The recipe that the controls stand for."""
        return Recipe(
            steps=steps,
            batch_size=min(BATCH, images),
            learning_rate=peak,
            warmup_steps=steps * warmup // 100,
            augment=False,
        )

    @in_turn
    def train(self) -> History:
        """What the button does: train by the recipe shown, and draw the curve beside those before it."""
        state = self.state
        recipe, key = self.recipe(**state), tuple(state.values())
        with seeded(recipe.seed):
            model = ViT(self.config)
        self.button.disabled, self.button.description = True, "Training …"
        try:
            data = self.train_data.subset(range(state["images"]))
            history = train(
                model, data, self.test_data, recipe, self.run or here(), progress=False, evaluations=1
            )
        except NonFiniteLossError as error:  # a rate that is far too high: its curve is worth a look as well
            history = error.history
        finally:
            self.button.disabled, self.button.description = False, "Train a small ViT by this recipe"
        self.trained.pop(key, None)
        self.trained = dict([*self.trained.items(), (key, history)][-KEPT:])
        self._losses_panel.cache_clear()
        self.redraw()
        return history

    def draw(self, peak: float, warmup: int, steps: int, images: int) -> tuple[Image.Image, str]:
        """The learning rate left, the trainings kept right; in words the recipe and how it ended."""
        recipe = self.recipe(peak, warmup, steps, images)
        rates = [learning_rate_at(step, recipe) for step in range(steps)]
        picture = Image.new("RGB", SIZE, "white")
        picture.paste(self._draw_rates(rates, recipe))
        picture.paste(self._losses_panel(tuple(self.trained)), (SIZE[0] // 2, 0))
        seen = steps * recipe.batch_size
        caption = (
            f"{steps} steps of {recipe.batch_size} images: {seen:,} images, {seen / images:,.1f} passes over "
            f"{images:,}. The learning rate starts at {rates[0]:.2g}, is at its peak of {peak:g} after "
            f"{recipe.warmup_steps} steps, ends at {rates[-1]:.1g}; its mean is {sum(rates) / steps:.2g}.\n"
        )
        history = self.trained.get((peak, warmup, steps, images))
        return picture, caption + (_ending(history) if history else "Not trained yet by this recipe.")

    def _draw_rates(self, rates: list[float], recipe: Recipe) -> Image.Image:
        """The learning rate of every step; the warm-up is grey. The axes stay, as new ones take time."""
        ax = self._rates_axes
        for artist in (*ax.lines, *ax.patches):
            artist.remove()
        ax.plot(range(1, recipe.steps + 1), rates, color="black")
        ax.axvspan(0, recipe.warmup_steps, color="0.9")
        ax.set(xlim=(0, recipe.steps), ylim=(0, 1.05 * max(rates)))
        return fit(ax.figure, PANEL)

    def _draw_losses(self, trained: tuple) -> Image.Image:
        """The losses of the trainings kept, `trained` their keys."""
        drawing, ax = _panel("training loss (nats)", "trained so far: test accuracy")
        for i, (key, history) in enumerate(self.trained.items()):
            xs, losses = zip(*((row["step"], row["loss"]) for row in history.rows), strict=True)
            dash, colour = plots.DASHES[i], plots.COLOURS[i]
            ax.plot(xs, losses, dash, color=colour, label=f"{_name(key)}: {history.accuracy:.1%}")
        ax.set_ylim(0, 3)
        if trained:
            ax.legend(fontsize=9)
        else:
            ax.text(0.5, 1.5, "press the button", ha="center", transform=ax.get_yaxis_transform())
        return fit(drawing, PANEL)


def _panel(ylabel: str, title: str) -> tuple[Figure, Axes]:
    """Half of a picture; axes and title have fixed places, as finding the best ones takes long."""
    drawing = figure(PANEL)
    drawing.set_layout_engine("none")
    ax = drawing.add_axes((0.17, 0.16, 0.8, 0.74), xlabel="step", ylabel=ylabel)
    ax.set_title(title, y=1)
    ax.grid(alpha=0.3)
    return drawing, ax


class Signs(NamedTuple):
    """What a training leaves to judge it by."""

    losses: Tensor  # (steps,), in nats
    norm_scale: float  # mean size of the LayerNorms' scales at the end; 1 at the start
    tokens: int
    head_width: int  # D / heads
    accuracy: float  # on test images, in [0, 1]
    seconds: float  # of the processor


class DebugExplorer(Explorer):
    """Five trainings that fail, A to E, each for a reason of its own, beside a healthy one.

    All are trained when it is made: ViTs of 28 x 28 grey images with D = 96 and four layers. The controls
    choose a run and a diagnosis; the caption has the run's signs, and says whether the diagnosis is right.
    `signs` maps "healthy" and the letters to `Signs`.

    >>> blank = Dataset(torch.zeros(64, 1, 28, 28).byte(), torch.arange(64) % 10, list("abcdefghij"))
    >>> explorer = DebugExplorer(blank, blank, steps=2)
    >>> explorer.signs["A"].tokens, explorer.signs["A"].head_width
    (17, 24)
    """

    def __init__(self, train_data: Dataset, test_data: Dataset, run: Run | None = None, steps: int = 100):
        run = run or here()
        test_data = match_classes(test_data, train_data.classes, "test_data", "train_data")
        trained = [_trained_with(fault, train_data, test_data, run, steps) for fault in FAULTS]
        self.signs = dict(zip(["healthy", *"ABCDE"], trained, strict=True))
        self._curves = lru_cache(len(FAULTS))(self._draw_curves)  # they stay, whatever the diagnosis
        causes = [fault for fault in FAULTS if fault != "healthy"]
        controls = {
            "name": ipywidgets.ToggleButtons(options=list("ABCDE"), description="run"),
            "diagnosis": ipywidgets.Dropdown(options=["?", *sorted(causes)], description="your diagnosis"),
        }
        super().__init__(self.draw, controls, size=SIZE)

    def draw(self, name: str, diagnosis: str) -> tuple[Image.Image, str]:
        """Left the chosen run's loss beside the healthy one's, right all five; in words its signs."""
        picture = Image.new("RGB", SIZE, "white")
        picture.paste(self._curves(name, f"run {name}"))
        picture.paste(self._curves("ABCDE", "all five"), (SIZE[0] // 2, 0))
        verdict = "Choose a diagnosis."
        if diagnosis != "?":
            right_one = list(FAULTS)[1 + "ABCDE".index(name)]
            verdict = f"Your diagnosis, {diagnosis}: " + ("right." if diagnosis == right_one else "not so.")
        return picture, _in_words(name, self.signs[name], self.signs["healthy"]) + verdict

    def _draw_curves(self, names: str, title: str) -> Image.Image:
        """The losses of the runs named, each a letter, and of the healthy one."""
        drawing, ax = _panel("training loss (nats)", title)
        ax.plot(self.signs["healthy"].losses, "--", color="0.5", lw=2, label="healthy")
        for i, letter in enumerate(names):
            dash, colour = plots.DASHES[i % 4], plots.COLOURS[i % 4]
            ax.plot(self.signs[letter].losses, dash, color=colour, label=letter, lw=1.2 + 0.8 * (i > 3))
        ax.set_ylim(0, HIGHEST)
        ax.legend(fontsize=9, ncols=3)
        return fit(drawing, PANEL)


def _trained_with(fault: str, train_data: Dataset, test_data: Dataset, run: Run, steps: int) -> Signs:
    """Train a ViT with one thing wrong; the loop is written out, as `train` does not decay norms."""
    in_recipe, in_model = FAULTS[fault]
    recipe = Recipe(**({"steps": steps, "batch_size": BATCH, "augment": False} | in_recipe))
    with seeded(recipe.seed):
        model = ViT(ViTConfig(**({"patch_size": 7} | in_model))).to(run.device)
    optimizer, losses, begin = make_optimizer(model, recipe), [], time.process_time()
    if fault == "norms decayed":
        optimizer.param_groups[1]["weight_decay"] = DECAY
    data = batches(train_data.to(run.device), BATCH, recipe.seed, augment=False, steps=steps)
    for step, (images, labels) in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, recipe)
        with run.autocast():
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        losses.append(loss.detach())
    seconds, config = time.process_time() - begin, model.config
    scales = [p for name, p in model.named_parameters() if "norm" in name and name.endswith("weight")]
    return Signs(
        torch.stack(losses).cpu(),
        float(torch.cat(scales).detach().abs().mean()),
        config.num_tokens,
        config.embed_dim // config.num_heads,
        evaluate(model, test_data, run)[1],
        seconds,
    )


def _in_words(name: str, signs: Signs, healthy: Signs) -> str:
    """The signs of a run, those of the healthy one in brackets; those of its losses say the picture."""
    learnt = [
        ("highest of the first ten losses {:.2f}", [x.losses[:10].max() for x in (signs, healthy)]),
        ("mean of the last ten {:.2f}", [x.losses[-10:].mean() for x in (signs, healthy)]),
        ("test accuracy {:.0%}", [signs.accuracy, healthy.accuracy]),
    ]
    inside = [
        ("mean scale of the norms {:.2f}", [signs.norm_scale, healthy.norm_scale]),
        ("tokens {}", [signs.tokens, healthy.tokens]),
        ("numbers in a head {}", [signs.head_width, healthy.head_width]),
        ("processor time {:.1f}", [signs.seconds / healthy.seconds, 1]),
    ]
    said = (f"Run {name}, in brackets the healthy one: {_beside(learnt)}.", f"Inside: {_beside(inside)}.")
    return "\n".join(said) + "\n"


def _beside(pairs: list[tuple[str, list]]) -> str:
    """Numbers of a run, each with the healthy run's in brackets."""
    return "; ".join(
        f"{text.format(own)} ({text[text.index('{') :].format(other)})" for text, (own, other) in pairs
    )


def _name(key: tuple) -> str:
    peak, warmup, _, images = key
    return f"{peak:g}, warm-up {warmup} %, {images:,} images"


def _ending(history: History) -> str:
    last = history.rows[-1]
    return (
        f"Trained in {history.seconds:.1f} s: the loss ends at {last['loss']:.2f}, training accuracy at "
        f"{last['accuracy']:.1%}, test accuracy at {history.accuracy:.1%}."
    )
