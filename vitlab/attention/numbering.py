"""The layers, heads, patches, rows and tokens that an intervention names, checked against a view."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vitlab.attention.view import View

Heads = Mapping[int, int | Iterable[int]] | Iterable[tuple[int, int]]


def patches_of(view: View) -> int:
    """N at the size for which the model was made."""
    rows, columns = view.grid_size
    return rows * columns


def whole(value: object) -> bool:
    """Whether this is a whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def one(value: int, count: int, what: str, from_end: bool = False) -> int:
    """A number from 0 to `count` - 1; raises ValueError for another, and names the nearest.

    >>> one(-1, 4, "block", from_end=True)
    3
    >>> one(4, 4, "head")
    Traceback (most recent call last):
    ValueError: a head is a whole number from 0 to 3; got 4, the nearest is 3
    """
    least = -count if from_end else 0
    if whole(value) and least <= value < count:
        return value % count
    ends = f"0 to {count - 1}" + (f", or -1 to {-count} from the end" if from_end else "")
    near = f", the nearest is {min(max(value, least), count - 1)}" if whole(value) else ""
    raise ValueError(f"a {what} is a whole number from {ends}; got {value!r}{near}")


def numbers(given: int | Iterable[int], count: int, what: str, from_end: bool = False) -> list[int]:
    """One or several numbers, each once, in order; raises ValueError for one that is not there."""
    if isinstance(given, Tensor) and given.dtype == torch.bool:
        raise ValueError(f"give the numbers of {what}s, such as mask.flatten().nonzero()[:, 0]; got a mask")
    if isinstance(given, Tensor):
        given = given.tolist()
    single = isinstance(given, str) or not isinstance(given, Iterable)
    return sorted({one(each, count, what, from_end) for each in ([given] if single else given)})


def heads_asked(view: View, heads: Heads) -> dict[int, list[int]]:
    """The heads to remove, by layer; raises ValueError for another form or one that is not there."""
    if isinstance(heads, Mapping):
        pairs = list(heads.items())
    else:
        pairs = list(heads) if isinstance(heads, Iterable) else [heads]
        if not all(isinstance(each, tuple | list) and len(each) == 2 for each in pairs):
            raise ValueError(
                f"heads are {{layer: heads}}, such as {{2: [0, 3]}}, or pairs (layer, head); got {heads!r}"
            )
    found: dict[int, list[int]] = {}
    for layer, given in pairs:
        layer = one(layer, view.num_layers, "layer", from_end=True)
        found.setdefault(layer, []).extend(numbers(given, view.heads[layer], f"head of layer {layer}"))
    return {layer: sorted({*given}) for layer, given in found.items() if given}


def rows_asked(view: View, rows: tuple[int, int]) -> tuple[int, int]:
    """Two rows of the grid; raises ValueError for anything else."""
    if not isinstance(rows, tuple | list) or len(rows) != 2:
        raise ValueError(f"swap_rows are two rows of the grid, such as (0, 6); got {rows!r}")
    first, second = (one(each, view.grid_size[0], "row of the grid") for each in rows)
    return first, second


def donor_asked(view: View, donor, layer, tokens) -> tuple[int, list[int] | slice]:
    """Where a donor's tokens go; raises ValueError for half of a donor."""
    if donor is None:
        if layer is not None or tokens is not None:
            raise ValueError("donor_layer and donor_tokens go with a donor, an image as the model takes it")
        return 0, slice(None)
    if layer is None:
        raise ValueError(
            f"say at which block the donor's tokens come in: donor_layer, 0 to {view.num_layers - 1}"
        )
    layer = one(layer, view.num_layers, "donor_layer", from_end=True)
    if tokens is None:
        return layer, slice(None)
    return layer, numbers(tokens, patches_of(view) + view.num_prefix_tokens, "token")
