"""What tells one task from another, so that only the task that began a training goes on with it."""

import dis
import functools
import hashlib
import importlib.util
import os.path
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)
REMEDY = (
    "make the task a function of a module or of a cell, neither a lambda nor made in another function, or "
    "functools.partial of one with numbers, words and tensors; or leave checkpoint_dir out"
)


def fingerprint(task: object) -> str:
    """A task in one line: its name, the digest of its code, and the values that it is given or looks up.

    A model that it is given, if all of it is of a library's classes, is known by a digest of its weights.
    Raises ValueError for what another process cannot tell from its like: a lambda, a function that another
    one made, a callable object, or a task that is given or looks up anything with a state of its own, such as
    a module or a class of the user's, in which values and code stand that do not show here.

    >>> fingerprint(functools.partial(sorted, reverse=True))
    'functools.partial(builtins.sorted, reverse=True)'
    """
    return described(task, "the task", ())


def refuse_change(task: object, before: str) -> None:
    """Raise ValueError where a task has not the fingerprint any more that it had: it, or another, changed it.

    What it looks up then has a state, which no checkpoint keeps.
    """
    if (now := fingerprint(task)) != before:
        raise ValueError(
            f"the task's {changed(before, now)!r} is not what it was when the training began. What changes "
            "between steps is not in a checkpoint, so that nobody could go on from it: have the task change "
            "nothing that outlives a call, or leave checkpoint_dir out"
        )


def changed(before: str, now: str) -> str:
    """The name of the first value in which two fingerprints differ.

    >>> changed("task 1f with log=[], scale=2", "task 1f with log=[3], scale=2")
    'log'
    """
    common = len(os.path.commonprefix([before, now]))
    new = re.match(r"(?:,| with) '?(\w+)'?=", max(before, now, key=len)[common:])
    return new[1] if new else re.findall(r"(\w+)'?=", before[:common])[-1]


def described(value: object, what: str, within: tuple) -> str:
    """A value in one line; `what` it is in words, and the functions and collections `within` which it is."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        value = torch.as_tensor(value)
    if isinstance(value, Tensor) and value.layout is torch.strided:
        return described_array(value)
    given = isinstance(value, nn.Module) and bool(within)  # to a task, and not the task itself
    if given or isinstance(value, (tuple, list, dict, functools.partial)):
        if any(value is outer for outer in within):
            raise ValueError(
                f"{what} is a {type(value).__name__} that holds itself, which {UNKNOWN}: {REMEDY}"
            )
        within = (*within, value)
    if given:
        return described_model(value, what, within)
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
    if is_dataclass(value) and is_installed(type(value).__module__):
        values = {field.name: getattr(value, field.name) for field in fields(value)}
        return f"{type(value).__qualname__}({', '.join(described_pairs(values, what, within))})"
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


def described_pairs(values: dict, what: str, within: tuple) -> list[str]:
    """Each value by its name."""
    return [f"{name}={described(part, f'{name!r} of {what}', within)}" for name, part in values.items()]


def described_array(values: Tensor) -> str:
    """Type, shape and digest."""
    values = values.detach().cpu().resolve_conj().resolve_neg().contiguous()
    content = hashlib.sha256(values.flatten().view(torch.uint8).numpy()).hexdigest()
    return f"{values.dtype} {tuple(values.shape)} {content[:16]}"


def described_model(model: nn.Module, what: str, within: tuple) -> str:
    """A model by its class, its mode, and the digest of its weights and of what else stands on its parts.

    Raises ValueError where a part is of a class of the user's, or somebody's hook is on it, as their code
    does not show here.
    """
    lines, common = [], vars(nn.Module()).keys()
    modes = sorted({"training" if part.training else "evaluation" for part in model.modules()})
    for name, part in model.named_modules():
        where = f"{name!r} of {what}" if name else what
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        hooks = part._forward_hooks or part._forward_pre_hooks
        if hooks or not is_installed(type(part).__module__):
            of = "has a hook" if hooks else "is a module of a class of your own"
            raise ValueError(
                f"{where}, {kind}, {of}, which {UNKNOWN}: use a model of a library as it is, or leave "
                "checkpoint_dir out"
            )
        own = {key: value for key, value in vars(part).items() if key not in common}
        mode = part.training if len(modes) > 1 else ""
        lines += [f"{name} {kind} {mode}", *described_pairs(own, where, within)]
    for name, values in [*model.named_parameters(), *model.named_buffers()]:
        lines += described_pairs({name: values}, what, within)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"{type(model).__module__}.{type(model).__qualname__} in {' and '.join(modes)} mode {digest[:16]}"


def described_function(function: FunctionType, what: str, within: tuple) -> str:
    """A function by its name, the digest of its code, its attributes, defaults and what it looks up.

    Of a function of an installed package the name is enough.
    """
    name, installed = f"{function.__module__}.{function.__qualname__}", is_installed(function.__module__)
    if "<" in function.__qualname__ or (function.__closure__ and not installed):
        kind = "a lambda" if "<lambda>" in function.__qualname__ else "made by another function"
        raise ValueError(f"{what}, {name}, is {kind}, which {UNKNOWN}: {REMEDY}")
    if installed or any(function is outer for outer in within):
        return name
    if any(i.opname == "STORE_GLOBAL" for c in codes(function.__code__) for i in dis.get_instructions(c)):
        raise ValueError(f"{what}, {name}, changes global values, which checkpoints do not keep: {REMEDY}")
    if kept := written(function):
        raise ValueError(
            f"{what}, {name}, writes into {kept!r}, which outlives a call, and checkpoints do not keep it: "
            "have it write into nothing but values of its own, or leave checkpoint_dir out"
        )
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


WRITING = ("STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR")
METHODS = ("append", "extend", "insert", "pop", "popitem", "remove", "clear", "sort", "reverse", "update")
METHODS += ("setdefault",)


def written(function: FunctionType) -> str | None:
    """The name of a value outside of a function that it writes into, as far as its code shows; else None.

    That is an item or an attribute set or deleted, or a method that changes a list, a dict or a tensor. What
    is written by way of another name, `refuse_change` sees when it is done.
    """
    for code in codes(function.__code__):
        looked = {}  # names by where they stand: what is written begins with the name of what holds it
        for step in dis.get_instructions(code):
            where = step.positions and step.positions[0::2]  # line and column
            if step.opname == "LOAD_GLOBAL":
                looked[where] = step.argval
            name = looked.get(where)
            if name is None or None in where:
                continue
            if step.opname in WRITING or changes(function.__globals__.get(name), step):
                return name
    return None


def changes(value: object, step: dis.Instruction) -> bool:
    """Whether a step of some code takes a method that changes such a value."""
    if step.opname not in ("LOAD_METHOD", "LOAD_ATTR"):
        return False
    if isinstance(value, Tensor):
        return step.argval.endswith("_") and not step.argval.endswith("__")
    return isinstance(value, (list, dict)) and step.argval in METHODS


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
