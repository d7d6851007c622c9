"""What the tables of other libraries' names are made of.

A table maps vitlab's name, with * for a block's number, to a `Row`: the names there, and an einops pattern
from the shape there to vitlab's. Letters mean the same in all tables, so that every array in a file is also a
vote on the model's sizes: d embed_dim, m mlp_dim, h heads, k width of a head, i = h·k, c channels, p and q
height and width of a patch, n position embeddings, r representation_size, l classes, t class tokens,
g registers, o what the head of a DINOv2 reads; s is 3, for queries, keys and values in one array. `stems` has
letters of its own.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """Where one of vitlab's arrays comes from: names in the file (joined along axis 0), and how."""

    names: tuple[str, ...]
    pattern: str


def pair(ours: str, theirs: str, weight: str, bias: str | None = None) -> dict[str, Row]:
    """The rows of a layer's weight and bias; `bias` where its pattern is not that of one axis.

    >>> pair("norm", "layernorm", "d -> d")["norm.bias"].names
    ('layernorm.bias',)
    """
    return {
        f"{ours}.weight": Row((f"{theirs}.weight",), weight),
        f"{ours}.bias": Row((f"{theirs}.bias",), bias or same(weight.split()[0])),
    }


def same(axes: str) -> str:
    """The pattern of an array that has the same shape there and here.

    >>> same("d c p q")
    'd c p q -> d c p q'
    """
    return f"{axes} -> {axes}"
