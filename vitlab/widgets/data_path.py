"""Lessons 00 and 03: one image's way through a whole model, step by step."""

from dataclasses import dataclass
from functools import lru_cache

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vitlab import data, plots
from vitlab.attention import attention_rollout, class_map, record_attention
from vitlab.patches import as_pair, patchify
from vitlab.vit import ViT
from vitlab.widgets.explorer import Explorer, figure

SIZE = (900, 400)


@dataclass(frozen=True)
class Path:
    """Everything one image becomes on its way: each a tensor of a batch of one, on the CPU."""

    image: Tensor  # (1, C, H, W), in [-1, 1]
    patches: Tensor  # (1, N, P²C)
    projected: Tensor  # (1, N, D)
    with_class: Tensor  # (1, T, D), the class token in front
    tokens: Tensor  # (1, T, D), positions added: what enters the encoder
    blocks: list[Tensor]  # L times (1, T, D)
    weights: Tensor  # (L, 1, heads, T, T)
    normed: Tensor  # (1, T, D)
    logits: Tensor  # (1, classes)


@torch.no_grad()
def walk(model: ViT, image: Tensor) -> Path:
    """Send one image (C, H, W), uint8, through `model` and keep every step.

    >>> from vitlab import ViTConfig
    >>> walk(ViT(ViTConfig()), torch.zeros(1, 28, 28, dtype=torch.uint8)).projected.shape
    torch.Size([1, 49, 96])
    """
    device = next(model.parameters()).device
    images = data.normalise(image[None].to(device))
    blocks = []
    handles = [block.register_forward_hook(lambda _m, _x, y: blocks.append(y)) for block in model.blocks]
    try:
        with record_attention(model) as record:
            normed = model.forward_features(images)
    finally:
        for handle in handles:
            handle.remove()
    projected = model.patch_embed(images)
    steps = dict(
        image=images,
        patches=patchify(images, model.config.patch_size),
        projected=projected,
        with_class=torch.cat([model.cls_token, projected], dim=1),
        tokens=model.embed(images),
        weights=record.weights,
        normed=normed,
        logits=model(images),
    )
    return Path(**{name: step.cpu() for name, step in steps.items()}, blocks=[y.cpu() for y in blocks])


class DataPathExplorer(Explorer):
    """From image to class, one step at a time, with picture, shape and words (paper, figure 1).

    `model` is a trained `ViT` with a class token, `pictures` maps names to images (C, H, W), uint8, of its
    size, or to pictures in colour of any size, which `data.fit_picture` fits to it; `classes` names its
    classes. The arrow keys move the step forwards and backwards. Raises ValueError for a model without a
    class token.

    >>> from vitlab import ViTConfig
    >>> images = {"blank": torch.zeros(1, 28, 28, dtype=torch.uint8)}
    >>> explorer = DataPathExplorer(ViT(ViTConfig()), images, list("abcdefghij"))
    >>> explorer.set(step="patches")
    >>> explorer.caption[:38]
    'Step 2 of 11, patches: (1, 49, 16) is '
    """

    def __init__(self, model: ViT, pictures: dict[str, Tensor], classes: list[str]):
        if model.config.pool != "token":
            raise ValueError("this explorer follows the class token; give it a model with pool='token'")
        self.config, self.classes, self.pictures = model.config, classes, pictures
        model.eval()
        self._walk = lru_cache(lambda name: walk(model, self._fitted(pictures[name])))
        self.steps = {
            "image": self._image,
            "patches": self._patches,
            "projection": self._projection,
            "class token": self._class_token,
            "position": self._position,
        }
        for i in range(self.config.depth):
            self.steps[f"block {i + 1}"] = lambda path, i=i: self._block(path, i)
        self.steps |= {"norm": self._norm, "class": self._class}
        controls = {
            "image": ipywidgets.Dropdown(options=list(pictures), description="image"),
            "step": ipywidgets.SelectionSlider(options=list(self.steps), description="step"),
        }
        super().__init__(self.draw, controls, size=SIZE)

    def add(self, name: str) -> None:
        """Offer and choose a picture that `pictures` has now, or has anew."""
        self._walk.cache_clear()
        self._render.cache_clear()
        with self.hold():
            self.controls["image"].options = list(self.pictures)
            self.controls["image"].value = name

    def _fitted(self, picture: Tensor) -> Tensor:
        """A picture as the model takes it, (C, H, W) uint8."""
        c = self.config
        if tuple(picture.shape) == (c.in_chans, *as_pair(c.image_size)):
            return picture
        return data.fit_picture(picture, c.image_size, c.in_chans)

    def draw(self, image: str, step: str) -> tuple[Figure, str]:
        """The picture of one step, and what happens in it."""
        picture, tensor, words = self.steps[step](self._walk(image))
        number = list(self.steps).index(step) + 1
        shape = tuple(tensor.shape)
        return picture, f"Step {number} of {len(self.steps)}, {step}: {shape} is {words}"

    def _panels(self, path: Path) -> tuple[Figure, object, object]:
        """A figure with the image under its grid at the left and room at the right."""
        picture = figure(SIZE)
        left, right = picture.subplots(1, 2, width_ratios=(1, 1.7))
        numbers = self.config.num_patches <= 64
        plots.patch_grid(path.image[0], self.config.patch_size, numbers=numbers, ax=left)
        return picture, left, right

    def _image(self, path: Path):
        picture = figure(SIZE)
        plots.image(path.image[0], "one image", ax=picture.subplots())
        return (
            picture,
            path.image,
            "(batch, channels, height, width): pixels, scaled to lie between -1 and 1.",
        )

    def _patches(self, path: Path):
        picture, _, right = self._panels(path)
        columns = 2 * self.config.grid_size[1]
        plots.patch_sequence(path.image[0], self.config.patch_size, columns, "the sequence", ax=right)
        n, length = path.patches.shape[1:]
        words = f"(batch, N, P²C): the image cut into N = {n} patches of {length} numbers each."
        return picture, path.patches, words

    def _projection(self, path: Path):
        picture, _, right = self._panels(path)
        self._table(path.projected, right, "projected patches", "patch")
        n, columns = self.config.num_patches, self.config.grid_size[1]
        right.set_yticks(
            range(0, n, columns), range(1, n + 1, columns)
        )  # as in the image: token 0 comes next
        length, width = path.patches.shape[-1], path.projected.shape[-1]
        words = (
            f"(batch, N, D): every patch, {length} numbers, times one matrix of {length} × {width}, plus "
            f"a bias. A row is a patch; it is now a vector of D = {width} numbers."
        )
        return picture, path.projected, words

    def _class_token(self, path: Path):
        picture, _, right = self._panels(path)
        self._table(path.with_class, right, "a class token in front", "token")
        words = "(batch, N + 1, D): one more row, at the top. It stands for no patch; it is a learned vector."
        return picture, path.with_class, words

    def _position(self, path: Path):
        picture, _, right = self._panels(path)
        self._table(path.tokens, right, "with positions: the encoder's input", "token")
        words = (
            "(batch, N + 1, D): to each row the embedding of its position is added. Without it the model "
            "could not tell where a patch was."
        )
        return picture, path.tokens, words

    def _block(self, path: Path, i: int):
        picture, left, right = self._panels(path)
        attention = class_map(path.weights[i].mean(dim=1), self.config.grid_size)[0]
        left.clear()
        plots.overlay(path.image[0], attention, "weight", "where the class token looks", ax=left)
        self._table(path.blocks[i], right, f"after block {i + 1}", "token")
        strongest = int(attention.argmax()) + 1
        words = (
            f"(batch, N + 1, D): attention let the tokens look at each other, then an MLP worked on each "
            f"alone. The class token gave {attention.sum():.0%} of its attention (mean of "
            f"{path.weights.shape[2]} heads) to the patches, most of it to patch {strongest}."
        )
        return picture, path.blocks[i], words

    def _norm(self, path: Path):
        picture, _, right = self._panels(path)
        values = path.normed[0, 0].numpy()
        right.bar(range(len(values)), values, color="0.35")
        right.set(xlabel="number in the vector", ylabel="value", title="the class token after the last norm")
        words = (
            f"(batch, N + 1, D): every row normalised. Of these only row 0 goes on: the class token, "
            f"{len(values)} numbers, is all that the head will read."
        )
        return picture, path.normed, words

    def _class(self, path: Path):
        picture = figure(SIZE)
        left, right = picture.subplots(1, 2, width_ratios=(1, 1.7))
        plots.image(path.image[0], ax=left)
        probabilities = path.logits[0].softmax(dim=0).numpy()
        right.barh(self.classes, probabilities, color="0.35")
        right.invert_yaxis()
        right.set(xlim=(0, 1), xlabel="probability")
        best = int(probabilities.argmax())
        words = (
            f"(batch, classes): one number a class, from the class token times a last matrix; softmax makes "
            f"them probabilities. It says {self.classes[best]}, with {probabilities[best]:.1%}."
        )
        return picture, path.logits, words

    @staticmethod
    def _table(tokens: Tensor, ax, title: str, row: str) -> None:
        bound = float(tokens.abs().flatten().quantile(0.98))
        plots.matrix(tokens[0], row, "number in the vector", "value", title, low=-bound, high=bound, ax=ax)
        ax.set_aspect("auto")


def overview(model: ViT, image: Tensor, classes: list[str]) -> Figure:
    """One image's way through `model` in one picture: patches, tokens, attention rollout, class.

    Takes what `DataPathExplorer` takes, with one image (C, H, W), uint8.

    >>> from vitlab import ViTConfig
    >>> blank = torch.zeros(1, 28, 28, dtype=torch.uint8)
    >>> len(overview(ViT(ViTConfig()), blank, list("abcdefghij")).axes) >= 5
    True
    """
    path, config = walk(model.eval(), image), model.config
    picture = figure((1180, 280))
    grid, sequence, tokens, rollout, answer = picture.subplots(1, 5, width_ratios=(1.2, 1.3, 1.3, 1.3, 0.7))
    plots.patch_grid(path.image[0], config.patch_size, numbers=False, title="an image, cut", ax=grid)
    side = (config.in_chans, config.patch_size, config.patch_size)
    plots.images(path.patches[0].unflatten(-1, side), columns=8, title="into patches", ax=sequence)
    DataPathExplorer._table(path.tokens, tokens, "becomes tokens,", "token")
    seen = class_map(attention_rollout(path.weights), config.grid_size)[0]
    plots.overlay(path.image[0], seen, "rollout", "looks around,", ax=rollout)
    probabilities = path.logits[0].softmax(dim=0).numpy()
    best = probabilities.argsort()[::-1][:3]
    answer.barh([classes[i] for i in best], probabilities[best], color="0.35")
    answer.invert_yaxis()
    answer.set(xlim=(0, 1), xlabel="probability", title="and is named")
    return picture
