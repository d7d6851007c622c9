"""What tells one task from another, so that only the task that began a training goes on with it."""

import dis
import functools
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

import numpy as np
import torch
from torch import Tensor

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)
REMEDY = (
    "make the task a function of a module or of a cell, neither a lambda nor made in another function, or "
    "functools.partial of one with numbers, words and tensors; or leave checkpoint_dir out"
)


def fingerprint(task: object) -> str:
    """A task in one line: its name, the digest of its code, and the values that it is given or looks up.

    Raises ValueError for what another process cannot tell from its like: a lambda, a function that another
    one made, a callable object, or a task that is given or looks up anything with a state of its own, such as
    a module or a class of the user's, in which values and code stand that do not show here.

    >>> fingerprint(functools.partial(sorted, reverse=True))
    'functools.partial(builtins.sorted, reverse=True)'
    """
    return described(task, "the task", ())


def described(value: object, what: str, within: tuple[FunctionType, ...]) -> str:
    """A value in one line; `what` it is in words, and the functions `within` which it was found."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        value = torch.as_tensor(value)
    if isinstance(value, Tensor) and value.layout is torch.strided:
        return described_array(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(described(part, f'a part of {what}', within) for part in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(described_pairs({repr(key): v for key, v in value.items()}, what, within))}}}"
    if isinstance(value, ModuleType) and is_installed(value.__name__):
        return value.__name__
    if (isinstance(value, type) and is_installed(value.__module__)) or (
        isinstance(value, BuiltinFunctionType) and not bound(value)
    ):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, functools.partial):
        given = {**dict(enumerate(value.args)), **value.keywords}
        inner = [described(value.func, what, within), *described_pairs(given, what, within)]
        return f"functools.partial({', '.join(inner)})"
    if isinstance(value, FunctionType):
        return described_function(value, what, within)
    if isinstance(value, ModuleType):
        remedy = f"import names from it (from {value.__name__} import …), or leave checkpoint_dir out"
        raise ValueError(f"{what} is a module of your own, which {UNKNOWN}: {remedy}")
    kind = "class of your own" if isinstance(value, type) else type(value).__name__
    raise ValueError(f"{what} is a {kind}, which {UNKNOWN}: {REMEDY}")


UNKNOWN = "cannot be told from another such one when the training is gone on with"


def described_pairs(values: dict, what: str, within: tuple[FunctionType, ...]) -> list[str]:
    """Each value by its name."""
    return [f"{name}={described(part, f'{name!r} of {what}', within)}" for name, part in values.items()]


def described_array(values: Tensor) -> str:
    """Type, shape and digest."""
    values = values.detach().cpu().resolve_conj().resolve_neg().contiguous()
    content = hashlib.sha256(values.flatten().view(torch.uint8).numpy()).hexdigest()
    return f"{values.dtype} {tuple(values.shape)} {content[:16]}"


def described_function(function: FunctionType, what: str, within: tuple[FunctionType, ...]) -> str:
    """A function by its name, the digest of its code, its attributes, defaults and what it looks up.

    Of a function of an installed package the name is enough.
    """
    name, installed = f"{function.__module__}.{function.__qualname__}", is_installed(function.__module__)
    if "<" in function.__qualname__ or (function.__closure__ and not installed):
        kind = "a lambda" if "<lambda>" in function.__qualname__ else "made by another function"
        raise ValueError(f"{what}, {name}, is {kind}, which {UNKNOWN}: {REMEDY}")
    if installed or function in within:
        return name
    if any(i.opname == "STORE_GLOBAL" for c in codes(function.__code__) for i in dis.get_instructions(c)):
        raise ValueError(f"{what}, {name}, changes global values, which checkpoints do not keep: {REMEDY}")
    if own := [module for module in imported(function.__code__) if not is_installed(module)]:
        raise ValueError(
            f"{what}, {name}, imports from {own[0] or 'its package'} within, which {UNKNOWN}: have the "
            "import at the head of its file, or leave checkpoint_dir out"
        )
    defaults = {**dict(enumerate(function.__defaults__ or ())), **(function.__kwdefaults__ or {})}
    there = {n: function.__globals__[n] for n in looked_up(function.__code__) if n in function.__globals__}
    within = (*within, function)
    inner = [*described_pairs(defaults | vars(function), what, within), *described_pairs(there, what, within)]
    code = hashlib.sha256(repr(list(instructions(function.__code__))).encode()).hexdigest()
    return f"{name} {code[:16]}" + (f" with {', '.join(inner)}" if inner else "")


def is_installed(module: str) -> bool:
    """Whether a module is Python's, vitlab's or an installed package's, and not one of the user's own files.

    >>> is_installed("math"), is_installed("torch.nn.functional"), is_installed("__main__")
    (True, True, False)
    """
    top = module.partition(".")[0]
    if top in ("", "__main__"):  # the file that was started, though what runs it is installed
        return False
    if top == "vitlab" or module in sys.builtin_module_names:
        return True
    found = sys.modules.get(module)
    file = (
        getattr(found, "__file__", None) if found else getattr(importlib.util.find_spec(top), "origin", None)
    )
    places = {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")}
    return file is not None and any(Path(file).is_relative_to(place) for place in places)


def bound(function: BuiltinFunctionType) -> bool:
    """Whether a built-in function belongs to an object, which may have a state."""
    return not isinstance(function.__self__, (type, ModuleType, type(None)))


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those within it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from codes(part)


def looked_up(code: CodeType) -> list[str]:
    """The names that some code looks up in its module, sorted."""
    lookups = ("LOAD_GLOBAL", "LOAD_NAME")
    return sorted({i.argval for c in codes(code) for i in dis.get_instructions(c) if i.opname in lookups})


def imported(code: CodeType) -> list[str]:
    """The modules that some code imports when it runs; "" for the package that it is in."""
    return [i.argval for c in codes(code) for i in dis.get_instructions(c) if i.opname == "IMPORT_NAME"]


def instructions(code: CodeType) -> Iterator[tuple[str, str]]:
    """What some code does, whichever lines of whichever file it stands in."""
    for part in codes(code):
        for step in dis.get_instructions(part):
            value = step.argval
            if isinstance(value, frozenset):
                value = sorted(map(repr, value))
            yield step.opname, part.co_name if isinstance(value, CodeType) else repr(value)
