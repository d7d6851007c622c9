"""Lessons 00 and 03: one image's way through a whole model, step by step."""

from dataclasses import dataclass
from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab import data, plots
from vitlab.attention import attention_rollout, class_map, record_attention
from vitlab.attention.lens import said_of
from vitlab.patches import as_pair, patchify
from vitlab.training import refuse_other_order
from vitlab.vit import ViT, evaluating
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer, figure

PANEL, GAP, HEADER, SCALE = 300, 30, 26, 34  # side of the image, and what is beside, above and below it
RIGHT = PANEL + GAP  # where the right half begins
MARGIN = 36  # for the numbers at the left of its rows
SIZE = (900, HEADER + PANEL + SCALE)
WIDTH = SIZE[0] - RIGHT
LINE = 16  # height of a number under a patch
NUMBERED = 24  # patches shown smaller than this carry no number: it would be wider than the patch


@dataclass(frozen=True)
class Path:
    """Everything one image becomes on its way: each a tensor of a batch of one, on the CPU."""

    image: Tensor  # (1, C, H, W), in [-1, 1]
    patches: Tensor  # (1, N, P²C)
    projected: Tensor  # (1, N, D)
    with_class: Tensor  # (1, T, D), the class token in front
    tokens: Tensor  # (1, T, D), positions added: what enters the encoder
    blocks: Tensor  # (L, 1, T, D)
    lens: Tensor  # (L, 1, classes), what norm and head would say after each block
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
    with evaluating(model):
        with record_attention(model, also=["block_outputs"]) as record:
            normed = model.forward_features(images)
        projected = model.patch_embed(images)
        steps = dict(
            image=images,
            patches=patchify(images, model.config.patch_size),
            projected=projected,
            with_class=torch.cat([model.cls_token, projected], dim=1),
            tokens=model.embed(images),
            weights=record.weights,
            blocks=record["block_outputs"],
            lens=torch.stack([said_of(model, tokens) for tokens in record["block_outputs"]]),
            normed=normed,
            logits=model(images),
        )
    return Path(**{name: step.cpu() for name, step in steps.items()})


class DataPathExplorer(Explorer):
    """From image to class, one step at a time, with picture, shape and words (paper, figure 1).

    `model` is a trained `ViT` with a class token, `pictures` maps names to images (C, H, W), uint8, of its
    size, or to pictures in colour of any size, which `data.fit_picture` fits to it; `classes` names its
    classes. The arrow keys move the step forwards and backwards. Raises ValueError for a model without a
    class token, or with the stem of a hybrid.

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
        if model.config.stem is not None:
            raise ValueError("this explorer projects patches of pixels, and a hybrid has none; give it a ViT")
        refuse_other_order(model, classes)
        self.config, self.classes, self.pictures = model.config, classes, pictures
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
        self.offer("image", self.pictures, name)

    def _fitted(self, picture: Tensor) -> Tensor:
        """A picture as the model takes it, (C, H, W) uint8."""
        c = self.config
        if tuple(picture.shape) == (c.in_chans, *as_pair(c.image_size)):
            return picture
        return data.fit_picture(picture, c.image_size, c.in_chans)

    def draw(self, image: str, step: str) -> tuple[Image.Image, str]:
        """The picture of one step, and what happens in it."""
        picture, tensor, words = self.steps[step](self._walk(image))
        number = list(self.steps).index(step) + 1
        shape = tuple(tensor.shape)
        return picture, f"Step {number} of {len(self.steps)}, {step}: {shape} is {words}"

    def _canvas(self, path: Path, title: str, grid: bool = True) -> Image.Image:
        """The image at the left, under its grid or not, and a title over the room at the right."""
        picture = Image.new("RGB", SIZE, "white")
        rows, columns = self.config.grid_size if grid else (1, 1)
        shown = tiles.gridded(
            plots.pixels(path.image[0]), rows, columns, (PANEL, PANEL), first=1 if grid else None
        )
        picture.paste(shown, (0, HEADER))
        tiles.write(picture, (RIGHT, 4), title)
        return picture

    def _image(self, path: Path):
        words = "(batch, channels, height, width): pixels, scaled to lie between -1 and 1."
        picture = self._canvas(path, "", grid=False)
        tiles.write(picture, (0, 4), "one image")
        return picture, path.image, words

    def _patches(self, path: Path):
        picture = self._canvas(path, "the sequence")
        n, length = path.patches.shape[1:]
        shape = self.config.in_chans, self.config.patch_size, self.config.patch_size
        columns = 2 * self.config.grid_size[1]
        side = WIDTH // columns - 4
        patches = [plots.pixels(patch) for patch in path.patches[0].unflatten(-1, shape)]
        large = np.stack([tiles.resize(patch, side, side) for patch in patches])
        large = np.pad(large, ((0, 0), (0, LINE), (0, 0), (0, 0)), constant_values=255)
        picture.paste(Image.fromarray(tiles.mosaic(large, columns, gap=4)), (RIGHT, HEADER))
        for i in range(n if side >= NUMBERED else 0):
            place = RIGHT + (i % columns) * (side + 4) + side / 2, HEADER + (i // columns) * (side + LINE + 4)
            tiles.write(picture, (place[0], place[1] + side), str(i + 1), size=12, anchor="ma")
        words = f"(batch, N, P²C): the image cut into N = {n} patches of {length} numbers each."
        return picture, path.patches, words

    def _projection(self, path: Path):
        picture = self._canvas(path, "projected patches: a row each")
        self._paste_tokens(picture, path.projected, 1)  # counted as in the image: token 0 comes next
        length, width = path.patches.shape[-1], path.projected.shape[-1]
        words = (
            f"(batch, N, D): every patch, {length} numbers, times one matrix of {length} × {width}, plus "
            f"a bias. A row is a patch; it is now a vector of D = {width} numbers."
        )
        return picture, path.projected, words

    def _class_token(self, path: Path):
        picture = self._canvas(path, "a class token in front: row 0")
        self._paste_tokens(picture, path.with_class)
        words = "(batch, N + 1, D): one more row, at the top. It stands for no patch; it is a learned vector."
        return picture, path.with_class, words

    def _position(self, path: Path):
        picture = self._canvas(path, "with positions: the encoder's input")
        self._paste_tokens(picture, path.tokens)
        words = (
            "(batch, N + 1, D): to each row the embedding of its position is added. Without it the model "
            "could not tell where a patch was."
        )
        return picture, path.tokens, words

    def _block(self, path: Path, i: int):
        said = path.lens[i, 0].softmax(dim=0)
        best = int(said.argmax())
        lens = f"{self.classes[best]}, {said[best]:.1%}"
        picture = self._canvas(path, f"after block {i + 1}: the head would say {lens}", grid=False)
        attention = class_map(path.weights[i].mean(dim=1), self.config.grid_size)[0]
        self._paste_attention(picture, path, attention.numpy())
        self._paste_tokens(picture, path.blocks[i])
        strongest = int(attention.argmax()) + 1
        words = (
            f"(batch, N + 1, D): attention let the tokens look at each other, then an MLP worked on each "
            f"alone. The class token gave {attention.sum():.0%} of its attention (mean of "
            f"{path.weights.shape[2]} heads) to the patches, the largest share, {attention.max():.1%}, to "
            f"patch {strongest}. Norm and head, put here at once, would say {lens}."
        )
        return picture, path.blocks[i], words

    def _norm(self, path: Path):
        picture = self._canvas(path, "the class token after the last norm: a bar for each number")
        values = path.normed[0, 0].numpy()
        low, high = min(values.min(), 0), max(values.max(), 1e-9)
        level = HEADER + (high - np.array([*values, 0])) / (high - low) * PANEL
        pen, step = ImageDraw.Draw(picture), (SIZE[0] - RIGHT - MARGIN) / len(values)
        for i, y in enumerate(level[:-1]):
            x = RIGHT + MARGIN + i * step
            pen.rectangle((x, min(y, level[-1]), x + 0.6 * step, max(y, level[-1])), fill="#595959")
        for value, y, anchor in ((high, HEADER, "ra"), (0, level[-1], "rm"), (low, HEADER + PANEL, "rd")):
            tiles.write(picture, (RIGHT + MARGIN - 6, y), f"{value:.1f}", size=12, anchor=anchor)
        words = (
            f"(batch, N + 1, D): every row normalised. Of these only row 0 goes on: the class token, "
            f"{len(values)} numbers, is all that the head will read."
        )
        return picture, path.normed, words

    def _class(self, path: Path):
        picture = self._canvas(path, "probabilities", grid=False)
        probabilities = path.logits[0].softmax(dim=0).numpy()
        shares = dict(zip(self.classes, probabilities.tolist(), strict=True))
        tiles.bars(picture, (RIGHT, HEADER, SIZE[0], HEADER + PANEL), shares)
        best = int(probabilities.argmax())
        words = (
            f"(batch, classes): one number a class, from the class token times a last matrix; softmax makes "
            f"them probabilities. It says {self.classes[best]}, with {probabilities[best]:.1%}."
        )
        return picture, path.logits, words

    def _paste_tokens(self, picture: Image.Image, tokens: Tensor, first: int = 0) -> None:
        """The rows of (1, T, D) as a map of colours at the right, counted from `first`."""
        values, bound = tokens[0].numpy(), _bound(tokens)
        room = SIZE[0] - RIGHT - MARGIN
        height, width = (
            most // side * side or most  # whole pixels for each number, where there is room
            for side, most in zip(values.shape, (PANEL, room), strict=True)
        )
        coloured = tiles.resize(tiles.colour(values, -bound, bound), height, width)
        picture.paste(Image.fromarray(coloured), (RIGHT + MARGIN, HEADER))
        for row in range(0, len(values), self.config.grid_size[1]):
            y = HEADER + (row + 0.5) * height / len(values)
            tiles.write(picture, (RIGHT + MARGIN - 6, y), str(row + first), size=12, anchor="rm")
        ends = RIGHT + MARGIN, HEADER + PANEL + 4
        tiles.scale(picture, ends, width, f"≤ {-bound:.2f}", f"≥ {bound:.2f}")

    def _paste_attention(self, picture: Image.Image, path: Path, attention: np.ndarray) -> None:
        """The class token's attention (rows, columns) laid over the image at the left."""
        under = np.asarray(picture)[HEADER : HEADER + PANEL, :PANEL].mean(-1, keepdims=True)
        size = tiles.fitted(path.image.shape[-2:], (PANEL, PANEL))
        coloured = tiles.resize(tiles.colour(attention, 0), *size)
        shown = (0.75 * coloured + 0.25 * under[: size[0], : size[1]]).astype(np.uint8)
        picture.paste(Image.fromarray(shown), (0, HEADER))
        tiles.write(picture, (0, 4), "where the class token looks")
        tiles.scale(picture, (0, HEADER + PANEL + 4), PANEL, "0", f"{attention.max():.1%}")


def _bound(tokens: Tensor) -> float:
    """The size that 98 of 100 numbers stay below: colours run to here."""
    return float(tokens.abs().flatten().quantile(0.98))


def overview(model: ViT, image: Tensor, classes: list[str]) -> Figure:
    """One image's way through `model` in one picture: patches, tokens, attention rollout, class.

    Takes what `DataPathExplorer` takes, with one image (C, H, W), uint8.

    >>> from vitlab import ViTConfig
    >>> blank = torch.zeros(1, 28, 28, dtype=torch.uint8)
    >>> len(overview(ViT(ViTConfig()), blank, list("abcdefghij")).axes) >= 5
    True
    """
    path, config = walk(model, image), model.config
    picture = figure((1180, 280))
    grid, sequence, tokens, rollout, answer = picture.subplots(1, 5, width_ratios=(1.2, 1.3, 1.3, 1.3, 0.7))
    plots.patch_grid(path.image[0], config.patch_size, numbers=False, title="an image, cut", ax=grid)
    side = (config.in_chans, config.patch_size, config.patch_size)
    plots.images(path.patches[0].unflatten(-1, side), columns=8, title="into patches", ax=sequence)
    bound = _bound(path.tokens)
    label = "number in the vector"
    plots.matrix(path.tokens[0], "token", label, "value", "becomes tokens,", -bound, bound, ax=tokens)
    tokens.set_aspect("auto")
    seen = class_map(attention_rollout(path.weights), config.grid_size)[0]
    plots.overlay(path.image[0], seen, "rollout", "looks around,", ax=rollout)
    probabilities = path.logits[0].softmax(dim=0).numpy()
    best = probabilities.argsort()[::-1][:3]
    answer.barh([classes[i] for i in best], probabilities[best], color="0.35")
    answer.invert_yaxis()
    answer.set(xlim=(0, 1), xlabel="probability", title="and is named")
    row, column = np.unravel_index(int(seen.argmax()), config.grid_size)
    plots.describe(
        picture,
        f"One image's way through the model: cut into {config.num_patches} patches, made "
        f"{path.tokens.shape[1]} tokens, rollout largest in row {row + 1}, column {column + 1}, and named "
        f"{classes[best[0]]} with {probabilities[best[0]]:.1%}.",
    )
    return picture
