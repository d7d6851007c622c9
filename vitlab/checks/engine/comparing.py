"""Compare what a function returned with what was wanted, and say the difference in words."""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import torch

SINGLE = torch.finfo(torch.float32).eps  # how finely 32 bits tell numbers apart


class Comparison(NamedTuple):
    """How two outputs compare: "exact", "close" (within the tolerance) or "wrong"; then `words` say how."""

    grade: str
    words: str = ""
    largest: float = 0.0


def compare(got, wanted, tolerance: float = 1e-5) -> Comparison:
    """Compare type, shape, dtype and values; `tolerance` is relative to the largest finite wanted value.

    Whole numbers have to be equal; floats that 32 bits cannot tell apart are close at any tolerance. Another
    floating dtype is as good, and for the bytes of a picture any that holds numbers, if the values are right;
    in a dict dtypes have to be equal. A one-dimensional tensor or array says as much as a tuple.

    >>> compare(torch.zeros(2, 3), torch.zeros(3, 2)).words
    'the result is (2, 3) float32, wanted (3, 2) float32'
    """
    if got is None and wanted is not None:
        return Comparison("wrong", "the result is None: is a `return` missing?")
    if isinstance(wanted, torch.Tensor):
        return _compare_tensors(got, wanted, tolerance)
    if isinstance(wanted, (tuple, list)):
        return _compare_sequences(got, wanted, tolerance)
    if isinstance(wanted, Mapping):
        return _compare_mappings(got, wanted, tolerance)
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        return _compare_numbers(got, wanted, tolerance)
    if type(got) is type(wanted) and repr(got) == repr(wanted):
        return Comparison("exact")
    if isinstance(wanted, str) and not isinstance(got, str):
        return Comparison("wrong", f"the result is {_kind(got)}, wanted the text {wanted!r}")
    spelling = ": mind the spelling" if isinstance(wanted, str) and _letters(got) == _letters(wanted) else ""
    return Comparison("wrong", f"the result is {got!r}, wanted {wanted!r}{spelling}")


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def describe(value) -> str:
    """A value in a few words: a tensor by shape and dtype, anything short as it prints."""
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, torch.nn.Module):
        return f"a {type(value).__name__}"
    if callable(value):
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    if isinstance(value, (tuple, list, Mapping)) and any(isinstance(item, torch.Tensor) for item in value):
        return f"a {type(value).__name__} of {len(value)} tensors"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _compare_tensors(got, wanted, tolerance):
    if not isinstance(got, torch.Tensor):
        words = f"the result is {_kind(got)}, wanted a tensor {describe(wanted)}"
        return Comparison("wrong", words + _way_to_a_tensor(got))
    if got.shape != wanted.shape:
        return Comparison("wrong", f"the result is {describe(got)}, wanted {describe(wanted)}")
    tolerance = max(tolerance, SINGLE) if wanted.is_floating_point() else 0
    if got.dtype != wanted.dtype and not _as_good(got.dtype, wanted.dtype):
        return _other_dtype(got, wanted, tolerance)
    values = _compare_values(got.double(), wanted.double(), tolerance)
    exact = values.grade == "exact" and got.dtype != wanted.dtype
    return values._replace(grade="close") if exact else values


def _way_to_a_tensor(value) -> str:
    if _is_array(value):
        return ": `torch.from_numpy`?" if value.ndim else ": `torch.tensor`?"
    if isinstance(value, (list, tuple)) and value:
        tensors = all(isinstance(item, torch.Tensor) for item in value)
        return ": `torch.stack`?" if tensors else ": `torch.tensor`?"
    return ""


def _is_array(value) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "shape")


def _as_good(dtype, wanted) -> bool:
    if wanted == torch.uint8:
        return dtype != torch.bool and not dtype.is_complex
    return dtype.is_floating_point and wanted.is_floating_point


def _other_dtype(got, wanted, tolerance) -> Comparison:
    values = _compare_values(got.double(), wanted.double(), max(tolerance, 1e-5))
    right = "the values are right, but " if values.grade != "wrong" else ""
    return Comparison("wrong", f"{right}the result is {describe(got)}, wanted {describe(wanted)}")


def _compare_values(got, wanted, tolerance):
    equal = (got == wanted) | (got.isnan() & wanted.isnan())
    if equal.all():
        return Comparison("exact")
    gaps = torch.where(equal, 0.0, (got - wanted).abs()).nan_to_num(nan=torch.inf)
    finite = wanted[wanted.isfinite()].abs()
    allowed = tolerance * (finite.max().item() if finite.any() else 1.0)
    largest = gaps.max().item()
    if largest <= allowed:
        return Comparison("close", largest=largest)
    where = tuple(int(i) for i in torch.unravel_index(gaps.argmax(), gaps.shape))
    place = f" at {list(where)}" if where else ""
    size = allowed / tolerance if tolerance else 0.0
    close = largest <= min(1000 * allowed, 0.1 * size)
    near = f"close, but not within {allowed:.1g}: " if close else ""
    words = (
        f"{near}{int((gaps > allowed).sum())} of {gaps.numel()} values differ, the most{place}: "
        f"{got[where].item():.6g}, wanted {wanted[where].item():.6g}, a difference of {largest:.2g}"
    )
    return Comparison("wrong", words, largest)


def _compare_numbers(got, wanted, tolerance):
    if getattr(got, "ndim", None) == 0 and hasattr(got, "item"):  # a tensor or numpy array with one number
        got = got.item()
    got = float(got) if isinstance(got, Fraction) else got
    if isinstance(got, bool) or not isinstance(got, (int, float)):
        return Comparison("wrong", f"the result is {_kind(got)}, wanted one number")
    if isinstance(wanted, int):
        tolerance = 0
    values = _compare_values(torch.tensor(got).double(), torch.tensor(wanted).double(), tolerance)
    if values.grade == "wrong":
        return Comparison("wrong", f"the result is {got:.10g}, wanted {wanted:.10g}", values.largest)
    if isinstance(wanted, int) and isinstance(got, float):
        return Comparison("wrong", f"the result is the float {got}, wanted an int: `//` instead of `/`?")
    return values


def _compare_sequences(got, wanted, tolerance):
    if getattr(got, "ndim", None) == 1 and hasattr(got, "tolist"):  # a tensor or numpy array
        found = _compare_sequences(tuple(got.tolist()), wanted, tolerance)
        return found._replace(grade="close") if found.grade == "exact" else found
    if not isinstance(got, (tuple, list)):
        return Comparison("wrong", f"the result is {_kind(got)}, wanted a tuple of {len(wanted)}")
    if len(got) != len(wanted):
        return Comparison("wrong", f"the result has {len(got)} items, wanted {len(wanted)}")
    items = _worst({f"item {i}": pair for i, pair in enumerate(zip(got, wanted, strict=True))}, tolerance)
    if items.grade == "wrong" and all(type(item) is int for item in (*got, *wanted)):
        return items._replace(words=f"the result is {tuple(got)}, wanted {tuple(wanted)}")
    return items


def _compare_mappings(got, wanted, tolerance):
    if not isinstance(got, Mapping):
        return Comparison("wrong", f"the result is {_kind(got)}, wanted a dict with the keys {list(wanted)}")
    if got.keys() != wanted.keys():
        return Comparison("wrong", f"the keys are {list(got)}, wanted {list(wanted)}")
    for key, value in wanted.items():  # tensors by name are stored as they are
        tensors = isinstance(value, torch.Tensor) and isinstance(got[key], torch.Tensor)
        if tensors and got[key].dtype != value.dtype and got[key].shape == value.shape:
            other = _other_dtype(got[key], value, tolerance)
            return other._replace(words=f"in entry {key!r}, {other.words}")
    return _worst({f"entry {key!r}": (got[key], wanted[key]) for key in wanted}, tolerance)


def _worst(named_pairs, tolerance):
    """The first wrong comparison, with the name of the place; else the one with the largest difference."""
    worst = Comparison("exact")
    for name, (got, wanted) in named_pairs.items():
        one = compare(got, wanted, tolerance)
        if one.grade == "wrong":
            if one.words.startswith("in item "):  # of a sequence in a sequence
                return one._replace(words=one.words.replace(", ", f" of {name}, ", 1))
            return one._replace(words=f"in {name}, {one.words}")
        if one.grade == "close" and one.largest >= worst.largest:
            worst = one
    return worst


def _kind(value):
    """The type and, where short, the value: "the int 7", "a tensor (2, 3) float32"."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {describe(value)}"
    if _is_array(value) and value.shape:
        return f"a NumPy array {value.shape} {value.dtype}"
    text = repr(value)
    return f"the {type(value).__name__} {text}" if len(text) <= 40 else f"a {type(value).__name__}"
