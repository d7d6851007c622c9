"""Lesson 03: a head to construct: W_q and W_k of few numbers on a sequence of nine tokens."""

import math
from functools import lru_cache

import ipywidgets
import torch
from PIL import Image
from torch import Tensor

from vitlab.widgets import tiles
from vitlab.widgets.explorer import Explorer

FEATURES = ("brightness", "cos", "sin", "class", "one")
PATCHES = 8
BRIGHTNESS = (1, -1, -1, 1, 1, -1, 1, -1)
AIMS = {
    "left": "its left neighbour",
    "alike": "the patches as bright as itself",
    "class": "the class token",
}
CLOSE = 0.05  # a map this close to the wanted one, in shares of its largest weight, is right

SIZE = (880, 380)
CELL, TOP = 28, 78  # side of a cell of a map, and where the maps begin
MAPS = (316, 614)  # where the two maps begin, from the left
NAMES, ABOVE = 24, 48  # room of a map for its rows' names, and for title and columns' names
ROW = 24  # height of a row of W_q and of W_k


def tiny_tokens(brightness: tuple[float, ...] = BRIGHTNESS) -> Tensor:
    """The class token and eight patches, each of five numbers (`FEATURES`): (9, 5).

    Brightness is 1 or -1. A patch's position is a point on a circle, an eighth of a turn from its
    neighbours: its cosine and sine. The class token has no place, and is neither dark nor bright; the
    last number is 1 in all of them.

    >>> tiny_tokens()[:2]
    tensor([[0., 0., 0., 1., 1.],
            [1., 1., 0., 0., 1.]])
    """
    angles = torch.arange(PATCHES) * 2 * math.pi / PATCHES
    patches = torch.stack([torch.tensor(brightness).float(), angles.cos(), angles.sin()], dim=1)
    tokens = torch.zeros(1 + PATCHES, len(FEATURES))
    tokens[1:, :3], tokens[0, 3], tokens[:, 4] = patches, 1, 1
    return tokens


def head_map(W_q: Tensor, W_k: Tensor, tokens: Tensor) -> Tensor:
    """What a head of these two matrices (5, d) makes of tokens (T, 5): its weights (T, T).

    >>> round(head_map(torch.zeros(5, 2), torch.zeros(5, 2), tiny_tokens())[0, 0].item(), 4)
    0.1111
    """
    queries, keys = tokens @ W_q, tokens @ W_k
    return (queries @ keys.T / math.sqrt(W_q.shape[1])).softmax(dim=-1)


def wanted_map(aim: str, tokens: Tensor) -> Tensor:
    """What each patch is to attend to, in equal shares: (T, T), the class token's own row all zeros.

    >>> wanted_map("left", tiny_tokens())[1:3].argmax(dim=1)
    tensor([8, 1])
    """
    wanted, number = torch.zeros(len(tokens), len(tokens)), len(tokens) - 1
    for patch in range(1, number + 1):
        if aim == "left":
            wanted[patch, patch - 1 or number] = 1  # before the first comes the last
        elif aim == "class":
            wanted[patch, 0] = 1
        else:
            alike = tokens[1:, 0] == tokens[patch, 0]
            wanted[patch, 1:] = alike / alike.sum()
    return wanted


class HeadConstructionExplorer(Explorer):
    """Sliders for W_q and W_k, the map that they make, and beside it the map that is wanted.

    The head is three numbers wide. Into the first go brightness, the class token's mark and the constant
    one; the other two are a place on the circle, which the query may turn by whole patches. All other
    numbers of the two matrices stay 0.

    >>> explorer = HeadConstructionExplorer()
    >>> explorer.set(aim="class", q_one=6, k_class=6)
    >>> explorer.caption.rpartition(". ")[2]
    'That is the head that was wanted.'
    """

    def __init__(self, brightness: tuple[float, ...] = BRIGHTNESS):
        self.tokens = tiny_tokens(brightness)
        self._wanted = lru_cache(self._wanted)  # a slider changes the other map only

        def slider(name: str, least: int, most: int) -> ipywidgets.IntSlider:
            return ipywidgets.IntSlider(0, least, most, description=name)

        controls = {
            "aim": ipywidgets.Dropdown(
                options=[(f"to {words}", aim) for aim, words in AIMS.items()],
                description="each patch attends",
            ),
            "q_brightness": slider("query: brightness", -6, 6),
            "q_one": slider("query: one", -6, 6),
            "q_place": slider("query: place", -6, 6),
            "turn": slider("query: turned by (patches)", -4, 4),
            "k_brightness": slider("key: brightness", -6, 6),
            "k_class": slider("key: class", -6, 6),
            "k_place": slider("key: place", -6, 6),
        }
        super().__init__(self.draw, controls, size=SIZE, fast=True)

    @staticmethod
    def matrices(q_brightness, q_one, q_place, turn, k_brightness, k_class, k_place) -> tuple[Tensor, Tensor]:
        """W_q and W_k, (5, 3) each, rows in the order of `FEATURES`."""
        angle = turn * 2 * math.pi / PATCHES
        W_q, W_k = torch.zeros(2, len(FEATURES), 3)
        W_q[0, 0], W_q[4, 0] = q_brightness, q_one
        W_q[1, 1:] = q_place * torch.tensor([math.cos(angle), math.sin(angle)])
        W_q[2, 1:] = q_place * torch.tensor([-math.sin(angle), math.cos(angle)])
        W_k[0, 0], W_k[3, 0], W_k[1, 1], W_k[2, 2] = k_brightness, k_class, k_place, k_place
        return W_q, W_k

    def draw(self, aim: str, **numbers: int) -> tuple[Image.Image, str]:
        """The sequence, the two matrices and the two maps; how far they are apart in words."""
        W_q, W_k = self.matrices(**numbers)
        made, (wanted, wanted_panel) = head_map(W_q, W_k, self.tokens), self._wanted(aim)
        picture = Image.new("RGB", SIZE, "white")
        self._sequence(picture)
        for number, (name, matrix) in enumerate((("W_q", W_q), ("W_k", W_k))):
            _matrix(picture, (0, TOP + number * (len(FEATURES) + 1.2) * ROW), name, matrix)
        panels = _map("your head: rows ask, columns answer", made), wanted_panel
        for left, panel in zip(MAPS, panels, strict=True):
            picture.paste(panel, (left - NAMES, TOP - ABOVE))
        return picture, f"{_numbers(**numbers)} {self._words(aim, made, wanted)}"

    def _wanted(self, aim: str) -> tuple[Tensor, Image.Image]:
        """The map that is wanted, (T, T), as numbers and as a picture."""
        weights = wanted_map(aim, self.tokens)
        return weights, _map(f"wanted: to {AIMS[aim]}", weights)

    def _words(self, aim: str, made: Tensor, wanted: Tensor) -> str:
        kept = (made * (wanted > 0)).sum(dim=1)[1:]  # what each patch gives to where it is wanted
        patch = int(kept.argmin()) + 1
        most = made[patch].argmax().item()
        alone = (made[patch] == made[patch].max()).sum() == 1
        where = ("to itself" if most == patch else f"to {_token(most)}") if alone else "to several alike"
        begin = (
            f"Each patch is to attend to {AIMS[aim]}. On average {kept.mean():.1%} of a patch's weight goes "
            f"there, {kept.min():.1%} at least: patch {patch} gives most {where} "
            f"({made[patch].max():.1%})."
        )
        gap = float((made - wanted)[1:].abs().max() / wanted.max())
        right = "That is the head that was wanted."
        return f"{begin} {right if gap <= CLOSE else 'It is not yet the head that is wanted.'}"

    def _sequence(self, picture: Image.Image) -> None:
        """The tokens as squares: the class token, then the patches as bright as they are."""
        tiles.write(picture, (0, 4), "the tokens: class (C) and patches 1 to 8, bright or dark", size=13)
        for number, token in enumerate(self.tokens):
            left = number * (CELL + 4)
            picture.paste("#808080", (left, 26, left + CELL, 26 + CELL))
            shade = "#b8b8b8" if number == 0 else "white" if token[0] > 0 else "black"
            picture.paste(shade, (left + 1, 27, left + CELL - 1, 25 + CELL))
            place = left + CELL / 2, 26 + CELL / 2
            tiles.write(picture, place, _short(number), size=13, halo=bool(token[0] < 0), anchor="mm")


def _numbers(q_brightness, q_one, q_place, turn, k_brightness, k_class, k_place) -> str:
    """The sliders' numbers in words.

    >>> _numbers(0, 1, 2, -1, 0, 0, 3)
    'Query: brightness 0, one 1, place 2 turned by -1. Key: brightness 0, class 0, place 3.'
    """
    query = f"brightness {q_brightness}, one {q_one}, place {q_place} turned by {turn}"
    return f"Query: {query}. Key: brightness {k_brightness}, class {k_class}, place {k_place}."


def _map(title: str, weights: Tensor) -> Image.Image:
    """Weights (T, T) from 0 to 1, in per cent; the class token's row is nobody's wish and pale."""
    picture = Image.new("RGB", (NAMES + SIZE[0] - MAPS[1], ABOVE + len(weights) * CELL), "white")
    tiles.write(picture, (NAMES, ABOVE - 44), title, size=13)
    shades = tiles.colour(weights.numpy(), 0, 1).tolist()
    for row, shares in enumerate(weights.tolist()):
        middle = ABOVE + (row + 0.5) * CELL
        tiles.write(picture, (NAMES - 6, middle), _short(row), size=13, anchor="rm")
        tiles.write(picture, (NAMES + (row + 0.5) * CELL, ABOVE - 12), _short(row), size=13, anchor="mm")
        for column, share in enumerate(shares):
            x, y = NAMES + column * CELL, ABOVE + row * CELL
            shade = tuple(shades[row][column]) if row else (225, 225, 225)
            picture.paste(shade, (x, y, x + CELL - 1, y + CELL - 1))
            if row and share >= 0.005:
                place = x + CELL / 2, y + CELL / 2
                tiles.write(picture, place, f"{100 * share:.0f}", size=11, halo=True, anchor="mm")
    return picture


def _matrix(picture: Image.Image, place: tuple[int, float], name: str, matrix: Tensor) -> None:
    """A matrix (5, d) as numbers, zeros as dots, a row for each feature."""
    left, top = place
    tiles.write(picture, (left, top), name, size=14)
    for row, (feature, numbers) in enumerate(zip(FEATURES, matrix.tolist(), strict=True)):
        y = top + (row + 0.9) * ROW
        tiles.write(picture, (left, y), feature, size=13)
        for column, number in enumerate(numbers):
            text = "·" if abs(number) < 1e-6 else f"{number:.1f}".replace("-", "−")
            tiles.write(picture, (left + 150 + column * 52, y), text, size=13, anchor="ra")


def _short(token: int) -> str:
    return str(token) if token else "C"


def _token(token: int) -> str:
    return f"patch {token}" if token else "the class token"
