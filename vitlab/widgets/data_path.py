"""Lessons 00 and 03: one image's way through a whole model, step by step."""

from dataclasses import dataclass
from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vitlab import data, plots
from vitlab.attention import alike, record_attention
from vitlab.attention.lens import said_of
from vitlab.patches import as_pair, patchify
from vitlab.training import refuse_other_order
from vitlab.vit import ViT, ViTConfig, evaluating
from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer
from vitlab.widgets.sequence import BELOW, MOST, Sequence
from vitlab.widgets.tokens import refuse_more_tokens

PANEL, GAP, HEADER, SCALE = 240, 30, 26, 34  # side of the image, and what is beside, above and below it
RIGHT = PANEL + GAP  # where the right half begins
MARGIN = 44  # for the numbers at the left of its bars
LINE = HEADER + PANEL + SCALE + 26  # height at which the sequence stands, all of it in one line
COLUMNS = 96  # pixels for what stands under each patch
SIZE = (900, LINE + MOST + BELOW + COLUMNS + 18)


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

    @property
    def followed(self) -> int:
        """The patch whose pixels differ most, counted from 1: it is shown number by number."""
        return int(self.patches[0].std(dim=-1).argmax()) + 1

    @property
    def cut_out(self) -> np.ndarray:
        """The patches as pictures, RGB uint8 (N, P, P, 3)."""
        channels, length = self.image.shape[1], self.patches.shape[-1]
        side = round((length / channels) ** 0.5)
        patches = self.patches[0].unflatten(-1, (channels, side, side))
        return np.stack([plots.pixels(patch) for patch in patches])


@torch.no_grad()
def walk(model: ViT, image: Tensor) -> Path:
    """Send one image (C, H, W), uint8, through `model` and keep every step.

    >>> from vitlab import ViTConfig
    >>> walk(ViT(ViTConfig()), torch.zeros(1, 28, 28, dtype=torch.uint8)).projected.shape
    torch.Size([1, 49, 96])
    """
    refuse_more_tokens(model)
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


def as_taken(picture: Tensor, config: ViTConfig) -> Tensor:
    """An image of a model's size as it is, or a picture in colour fitted to it: (C, H, W) uint8.

    >>> as_taken(torch.zeros(3, 40, 60, dtype=torch.uint8), ViTConfig()).shape
    torch.Size([1, 28, 28])
    """
    if tuple(picture.shape) == (config.in_chans, *as_pair(config.image_size)):
        return picture
    return data.fit_picture(picture, config.image_size, config.in_chans)


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
        self.model, self.config, self.classes, self.pictures = model, model.config, classes, pictures
        self._walk = lru_cache(lambda name: walk(model, as_taken(pictures[name], model.config)))
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

    def models(self) -> list[ViT]:
        """The model that images go through."""
        return [self.model]

    def ask_anew(self) -> None:
        """Drop every way that was followed."""
        self._walk.cache_clear()

    def add(self, name: str) -> None:
        """Offer and choose a picture that `pictures` has now, or has anew."""
        self.ask_anew()
        self.offer("image", self.pictures, name)

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
        if grid:
            tiles.frame(picture, (0, HEADER), shown.size[::-1], self.config.grid_size, path.followed - 1)
        tiles.write(picture, (RIGHT, 4), title)
        return picture

    def _image(self, path: Path):
        words = "(batch, channels, height, width): pixels, scaled to lie between -1 and 1."
        picture = self._canvas(path, "", grid=False)
        tiles.write(picture, (0, 4), "one image")
        return picture, path.image, words

    def _patches(self, path: Path):
        n, length = path.patches.shape[1:]
        k = path.followed
        picture = self._canvas(path, f"patch {k}: its {length} numbers, a bar each")
        _bars(picture, path.patches[0, k - 1].numpy())
        self._line(picture, path, "the sequence: patch after patch, row by row", class_token=False, under=0)
        words = (
            f"(batch, N, P²C): the image cut into N = {n} patches of {length} numbers each. From here on "
            f"there are no rows and columns, only a sequence. Follow patch {k}, framed on the left."
        )
        return picture, path.patches, words

    def _projection(self, path: Path):
        length, width = path.patches.shape[-1], path.projected.shape[-1]
        k = path.followed
        picture = self._canvas(path, f"patch {k}, projected: {width} numbers")
        _bars(picture, path.projected[0, k - 1].numpy())
        self._columns(picture, path, path.projected, "under each patch its vector, a number a line")
        words = (
            f"(batch, N, D): every patch, {length} numbers, times one matrix of {length} × {width}, plus "
            f"a bias. A column is a patch; it is now a vector of D = {width} numbers. Patches that are alike "
            "have columns that are alike."
        )
        return picture, path.projected, words

    def _class_token(self, path: Path):
        picture = self._canvas(path, "the class token: the same for every image")
        _bars(picture, path.with_class[0, 0].numpy())
        self._columns(picture, path, path.with_class, "the class token in front: number 0, orange")
        words = "(batch, N + 1, D): one more vector, in front. It stands for no patch; it was learned."
        return picture, path.with_class, words

    def _position(self, path: Path):
        k = path.followed
        picture = self._canvas(path, f"patch {k} with its position: what the encoder gets of it")
        _bars(picture, path.tokens[0, k].numpy())
        self._columns(picture, path, path.tokens, "each with its position added")
        words = (
            "(batch, N + 1, D): to each token the embedding of its position is added. Without it the model "
            "could not tell where a patch was."
        )
        return picture, path.tokens, words

    def _block(self, path: Path, i: int):
        said = path.lens[i, 0].softmax(dim=0)
        best = int(said.argmax())
        picture = self._canvas(path, "", grid=False)
        row = path.weights[i, 0].mean(dim=0)[0]  # what the class token takes, mean over heads (T,)
        attention = row[1:].unflatten(0, self.config.grid_size)
        self._paste_map(picture, path, attention.numpy(), (0, "where the class token looks"))
        k, patches = path.followed, path.blocks[i, 0, 1:]
        close = alike(patches[k - 1], patches.unflatten(0, self.config.grid_size))
        size = self._paste_map(picture, path, close.numpy(), (RIGHT, f"whose token is like patch {k}'s"), 1.0)
        tiles.frame(picture, (RIGHT, HEADER), size, self.config.grid_size, k - 1)
        left = 2 * RIGHT
        tiles.write(picture, (left, 4), f"after block {i + 1} the head would say")
        shares = dict(zip(self.classes, said.tolist(), strict=True))
        tiles.bars(picture, (left, HEADER, SIZE[0], HEADER + PANEL), shares)
        strongest = int(attention.argmax()) + 1
        others = close.flatten().index_fill(0, torch.tensor(k - 1), -torch.inf)  # all but the patch itself
        like = "There is no other patch to be like. "
        if len(others) > 1:
            like = (
                f"The token of patch {k} is most like that of patch {int(others.argmax()) + 1} (cosine "
                f"{others.max():.2f}). "
            )
        line = self._line(picture, path, "the class token's attention, to each token a bar")
        line.bars(picture, row.numpy(), COLUMNS)
        words = (
            f"(batch, N + 1, D): attention let the tokens look at each other, then an MLP worked on each "
            f"alone. The class token gave {attention.sum():.0%} of its attention (mean of "
            f"{path.weights.shape[2]} heads) to the patches, the largest share, {attention.max():.1%}, to "
            f"patch {strongest}. {like}"
            f"Norm and head, put here at once, would say {self.classes[best]}, {said[best]:.1%}."
        )
        return picture, path.blocks[i], words

    def _norm(self, path: Path):
        values = path.normed[0, 0].numpy()
        picture = self._canvas(path, "the class token after the last norm: a bar for each number")
        _bars(picture, values)
        alone = path.normed[:, :1]
        self._columns(picture, path, alone, "of all the columns only number 0 goes on")
        words = (
            f"(batch, N + 1, D): every token normalised. Of these only number 0 goes on: the class token, "
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

    def _line(self, picture, path: Path, title: str, class_token=True, under: int = COLUMNS) -> Sequence:
        """The sequence along the foot of the picture, numbered at each row of the image, below what is to
        stand `under` it, so many pixels high."""
        line = Sequence(path.cut_out, (0, LINE), SIZE[0])
        line.paste(picture, class_token)
        line.number(picture, self.config.grid_size[1], class_token, line.under + under + 4)
        tiles.write(picture, (0, LINE - 22), title + line.words)
        return line

    def _columns(self, picture: Image.Image, path: Path, tokens: Tensor, title: str) -> None:
        """The sequence with vectors (1, tokens, D) under it as colours, of all patches or of all tokens."""
        patches, bound = path.patches.shape[1], bound_of(tokens)
        first = int(tokens.shape[1] == patches)
        line = self._line(picture, path, title, class_token=not first)
        line.columns(picture, tokens[0].numpy(), bound, COLUMNS, first)
        tiles.scale(picture, (SIZE[0] - 200, HEADER + PANEL + 12), 200, f"≤ {-bound:.2f}", f"≥ {bound:.2f}")

    def _paste_map(self, picture, path: Path, values: np.ndarray, head: tuple[int, str], top=None):
        """Numbers from 0 to `top`, one a patch (rows, columns), laid over the image, under (left, title);
        returns (height, width) in pixels."""
        left, title = head
        size = tiles.fitted(path.image.shape[-2:], (PANEL, PANEL))
        under = tiles.resize(plots.pixels(path.image[0]), *size).mean(-1, keepdims=True)
        coloured = tiles.resize(tiles.colour(values, 0, top), *size)
        shown = (0.75 * coloured + 0.25 * under).astype(np.uint8)
        picture.paste(Image.fromarray(shown), (left, HEADER))
        tiles.write(picture, (left, 4), title)
        ends = ("0", f"{values.max():.1%}") if top is None else ("≤ 0", f"{top:.0f}")
        tiles.scale(picture, (left, HEADER + PANEL + 4), PANEL, *ends)
        return size


def _bars(picture: Image.Image, values: np.ndarray) -> None:
    """The numbers of one vector at the right, a bar each, from its least to its largest."""
    low, high = min(values.min(), 0), max(values.max(), 1e-9)
    level = HEADER + (high - np.array([*values, 0])) / (high - low) * PANEL
    pen, step = ImageDraw.Draw(picture), min((SIZE[0] - RIGHT - MARGIN) / len(values), 12)
    for i, y in enumerate(level[:-1]):
        x = RIGHT + MARGIN + i * step
        pen.rectangle((x, min(y, level[-1]), x + 0.6 * step, max(y, level[-1])), fill="#595959")
    for value, y, anchor in ((high, HEADER, "ra"), (0, level[-1], "rm"), (low, HEADER + PANEL, "rd")):
        tiles.write(picture, (RIGHT + MARGIN - 6, y), f"{value:.1f}", size=12, anchor=anchor)


def bound_of(tokens: Tensor) -> float:
    """The size that 98 of 100 numbers stay below: colours run to here."""
    return float(tokens.abs().flatten().quantile(0.98))
