"""The source of what a learner wrote, with all that it needs to run in another notebook."""

import ast
import builtins
import inspect
import linecache
import symtable
import sys
import sysconfig
import textwrap
import types
from pathlib import Path
from typing import NamedTuple

import torch

LIBRARIES = (
    str(Path(__file__).parents[1]),
    str(Path(torch.__file__).parents[1]),
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
)
SHORT = 500  # characters of a constant; what is longer is data, which a function takes as an argument
BUILTINS = {*dir(builtins), "__name__", "__doc__"}


class Source(NamedTuple):
    """Python that defines an answer; `name` is what to call it by, such as "patchify" or "Patches.cut"."""

    name: str
    text: str


def source_of(answer) -> Source:
    """An answer's own source, after the imports, functions, classes and short constants that it reads.

    Takes a function, a lambda, a class, and a function of a class. Raises ValueError, in one sentence, for
    what cannot stand alone: it was made inside another function, it is an object with a state, it reads names
    of the notebook that are data, or its source is no longer there.

    >>> source_of(lambda image: image / 255).text.strip()
    'answer = lambda image: image / 255'
    """
    bound = getattr(answer, "__self__", None)
    if isinstance(bound, type):
        answer = answer.__func__
    elif bound is not None and not inspect.isbuiltin(answer):
        raise ValueError(
            f"it is a function of one object, a {type(bound).__name__}, whose state is not source"
        )
    found = definition(inspect.unwrap(answer))
    parts: dict[str, str] = {}
    missing = needs(found, parts)
    if missing:
        names = ", ".join(f"`{name}`" for name in sorted(missing))
        raise ValueError(f"it reads {names} from the notebook, which no source in it defines")
    imports = sorted(part for part in parts.values() if part.startswith(("import ", "from ")))
    others = [part for part in parts.values() if part not in imports]
    pieces = ["\n".join(imports)] * bool(imports) + [*others, found.text]
    return Source(found.name, "\n\n\n".join(pieces) + "\n")


class Definition(NamedTuple):
    """One statement of the learner's, and the names that it is looked up among."""

    name: str
    text: str
    names: dict


def definition(value) -> Definition:
    """The statement that defines a function or a class; ValueError where there is none."""
    function = value if inspect.isfunction(value) else _any_function(value)
    if function is None:
        kind = f"an object, a {type(value).__name__}" if callable(value) else f"a {type(value).__name__}"
        raise ValueError(f"it is {kind}, and only a function or a class has source of its own")
    filename = function.__code__.co_filename
    if filename.startswith(LIBRARIES):
        raise ValueError(f"it comes from {function.__module__}, and is not written by you")
    if inspect.isfunction(value) and value.__closure__:
        read = ", ".join(f"`{name}`" for name in value.__code__.co_freevars)
        raise ValueError(f"it was made inside another function, of which it reads {read}")
    text = "".join(linecache.getlines(filename, function.__globals__))
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise ValueError("its cell cannot be read as Python") from error
    name, node = _lookup(tree, value, function)
    if isinstance(node, ast.Lambda):
        name, code = name or "answer", ast.get_source_segment(text, node)
        code = f"{name} = {code}"
    else:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        code = textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno]))
    return Definition(name, code, function.__globals__)


def _any_function(value):
    """A function by which the file of a class is found: its first own one."""
    if not isinstance(value, type):
        return None
    own = [getattr(item, "__func__", item) for item in vars(value).values()]
    return next(
        (item for item in own if inspect.isfunction(item) and item.__module__ == value.__module__), None
    )


def _lookup(tree, value, function) -> tuple[str, ast.AST]:
    """Where a value is defined in a cell: its name, and the statement, of a method its whole class."""
    if not inspect.isfunction(value):
        nodes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == value.__name__]
        return value.__name__, _last(nodes)
    line, parents = function.__code__.co_firstlineno, {}
    for parent in ast.walk(tree):
        parents.update(dict.fromkeys(ast.iter_child_nodes(parent), parent))
    if function.__name__ == "<lambda>":
        nodes = [node for node in parents if isinstance(node, ast.Lambda) and node.lineno == line]
        if len(nodes) > 1:
            raise ValueError("there are several lambdas in its line, of which it could be any")
        node = _last(nodes)
        target = parents[node].targets[0] if isinstance(parents[node], ast.Assign) else None
        return target.id if isinstance(target, ast.Name) else "", node
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in parents if isinstance(node, kinds) and node.name == function.__name__]
    node = _last([
        node for node in nodes if line in {node.lineno, *(each.lineno for each in node.decorator_list)}
    ])  # fmt: skip
    owner, path = parents[node], [node.name]
    while isinstance(owner, ast.ClassDef):
        node, path = owner, [owner.name, *path]
        owner = parents[owner]
    if len(path) > 1 and not isinstance(owner, ast.Module):
        raise ValueError("it belongs to a class that was made inside a function")
    return ".".join(path), node


def _last(nodes):
    if not nodes:
        raise ValueError("its source is no longer there")
    return nodes[-1]


def needs(found: Definition, parts: dict[str, str]) -> set[str]:
    """Put the statements that a definition needs into `parts`, by name, in order; returns what is missing."""
    missing, own = set(), found.name.partition(".")[0]
    for name in sorted(free_names(found.text) - parts.keys() - {own}):
        if name in found.names:
            missing |= _need(name, found.names[name], parts)
        elif name not in BUILTINS:
            missing.add(name)
    return missing


def _need(name: str, value, parts: dict[str, str]) -> set[str]:
    if line := _as_import(name, value) or _as_constant(name, value):
        parts[name] = line
        return set()
    try:
        helper = definition(inspect.unwrap(value) if callable(value) else value)
    except ValueError:
        return {name}
    if "." in helper.name or helper.name != name and helper.name in parts:  # it would take another's place
        return {name}
    parts[name] = ""  # so that two which call each other come to an end
    missing = needs(helper, parts)
    del parts[name]  # after what it needs
    parts[name] = helper.text if helper.name == name else f"{helper.text}\n\n\n{name} = {helper.name}"
    return missing


def free_names(text: str) -> set[str]:
    """The names that a piece of Python reads and does not define: in bodies, defaults and decorators.

    >>> sorted(free_names("def mean(x, over=ROWS): return torch.mean(x, dim=over)"))
    ['ROWS', 'torch']
    """
    top = symtable.symtable(text, "<answer>", "exec")
    defined = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned()}
    read = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    tables = top.get_children()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        read |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return read - defined


def _as_import(name: str, value) -> str:
    """The import that makes `name` this value, where it is a library's."""
    if isinstance(value, types.ModuleType):
        return f"import {value.__name__}" + f" as {name}" * (value.__name__ != name)
    own = getattr(value, "__name__", None)
    if isinstance(value, torch.dtype):
        own = str(value).removeprefix("torch.")
    home = getattr(value, "__module__", None) or "torch"  # many of PyTorch's functions do not tell
    if not isinstance(own, str) or not isinstance(home, str) or home == "__main__":
        return ""
    parts = home.split(".")
    places = [".".join(parts[: i + 1]) for i in range(len(parts))] + ["torch.nn.functional"]
    for place in places:
        module = sys.modules.get(place)
        file = getattr(module, "__file__", None) or LIBRARIES[0]  # built in: no file
        if module and getattr(module, own, None) is value and file.startswith(LIBRARIES):
            return f"from {place} import {own}" + f" as {name}" * (own != name)
    return ""


def _as_constant(name: str, value) -> str:
    """The assignment that makes `name` this value, where it is short and plain: numbers, text, tuples …"""
    text = repr(value)
    try:
        read = ast.literal_eval(text) if len(text) <= SHORT else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ""
    same = type(read) is type(value) and read == value
    return f"{name} = {text}" if same and len(text) <= SHORT else ""


def load(source: Source, filename: str):
    """Run a source in a namespace of its own and return the answer that it defines.

    Whatever it raises, it raises. Its lines are kept, so that an error can name the one in which it arose.
    """
    lines = source.text.splitlines(keepends=True)
    linecache.cache[filename] = (len(source.text), None, lines, filename)
    names = {"__name__": filename, "__builtins__": builtins}
    exec(compile(source.text, filename, "exec"), names)
    found = names[source.name.partition(".")[0]]
    for part in source.name.split(".")[1:]:
        found = getattr(found, part)
    return found
