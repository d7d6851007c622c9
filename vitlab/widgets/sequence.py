"""A sequence of patches as one line; what an explorer shows for each token stands under its patch."""

import numpy as np
from PIL import Image, ImageDraw

from vitlab.widgets import tiles

LEAST, MOST = 6, 28  # pixels that a token is wide: below, nothing is seen of its patch
BELOW = 4  # pixels between a patch and what stands under it


class Sequence:
    """Where each token of a line stands, from the left: a place for the class token, then the patches.

    `patches` are RGB uint8 (N, h, w, 3), `place` the upper left corner of the line and `width` its length in
    pixels; tokens that do not fit are left out, and `shown` says how many are there.

    >>> line = Sequence(np.zeros((49, 4, 4, 3), np.uint8), (0, 0), 900)
    >>> line.side, line.shown, line.left(1)
    (18, 50, 18)
    """

    def __init__(self, patches: np.ndarray, place: tuple[int, int], width: int):
        self.patches, self.place = patches, place
        self.side = min(max(width // (len(patches) + 1), LEAST), MOST)
        self.shown = min(len(patches) + 1, width // self.side)

    def left(self, token: int) -> int:
        """The left edge of a token's place."""
        return self.place[0] + token * self.side

    @property
    def under(self) -> int:
        """The height at which what stands under the patches begins."""
        return self.place[1] + self.side + BELOW

    @property
    def words(self) -> str:
        """What a title adds where not all tokens are shown."""
        tokens = len(self.patches) + 1
        return "" if self.shown == tokens else f" (the first {self.shown - 1} of {tokens - 1} patches)"

    def paste(self, picture: Image.Image, class_token: bool) -> None:
        """The patches side by side, with a gap between them; in front the class token's square."""
        gap = 2 if self.side > 2 * LEAST else 1
        side = self.side - gap
        for token in range(1, self.shown):
            patch = Image.fromarray(tiles.resize(self.patches[token - 1], side, side))
            picture.paste(patch, (self.left(token), self.place[1]))
        if class_token:
            corner = self.left(0), self.place[1]
            outer = corner[0] + side - 1, corner[1] + side - 1
            ImageDraw.Draw(picture).rectangle((*corner, *outer), fill="#D55E00")

    def columns(self, picture: Image.Image, values: np.ndarray, bound: float, height: int, first: int = 0):
        """Vectors (tokens, D) as colours from -bound to bound, each a column under its patch, from token
        `first` on."""
        values = values[: self.shown - first]
        coloured = tiles.colour(values.T, -bound, bound)  # (D, tokens, 3)
        coloured = tiles.resize(coloured, max(height, 1), self.side * len(values))
        picture.paste(Image.fromarray(coloured), (self.left(first), self.under))

    def bars(self, picture: Image.Image, shares: np.ndarray, height: int) -> None:
        """A share for each token (tokens,) as a bar under its patch, hanging down; the largest fills it."""
        pen, most = ImageDraw.Draw(picture), max(float(shares.max()), 1e-9)
        pen.line((self.left(0), self.under, self.left(self.shown), self.under), fill="#999999")
        for token, share in enumerate(shares[: self.shown]):
            box = self.left(token), self.under, self.left(token + 1) - 2, self.under + share / most * height
            pen.rectangle(box, fill="#D55E00" if token == 0 else "#404040")

    def number(self, picture: Image.Image, step: int, class_token: bool, top: int) -> None:
        """The numbers of patch 1 and every `step`-th after it, and of the class token, at this height."""
        crowded = class_token and self.side < 18  # then 1 would stand on 0
        for token in [0] * class_token + list(range(1 + step * crowded, self.shown, step)):
            tiles.write(picture, (self.left(token) + self.side / 2, top), str(token), size=12, anchor="ma")
