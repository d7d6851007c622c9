"""What the learner's source says: the line that an error comes from, and what it reads from the notebook."""

import dis
import inspect
import linecache
import re
import sysconfig
from pathlib import Path

import torch

from vitlab.checks.engine.limits import LimitPassed

_LIBRARIES = (
    str(Path(__file__).parents[2]),
    str(Path(torch.__file__).parents[1]),
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
)


def learners_line(error) -> str:
    """The deepest line of the traceback that is not in a library: the learner's."""
    line, step = "", error.__traceback__
    while step:
        filename = step.tb_frame.f_code.co_filename
        if not filename.startswith(_LIBRARIES):
            line = linecache.getline(filename, step.tb_lineno, step.tb_frame.f_globals).strip() or line
        step = step.tb_next
    return line


def error_words(error, line) -> str:
    """What the code did, after the words "your code"; a hint comes last."""
    message, hint = one_line(str(error)), ""
    if len(message) > 100:  # what counts is mostly at the end
        message = f"{message[:30]} … {message[-67:]}"
    words = f"stopped with {type(error).__name__}" + f": {message}" * bool(message)
    if isinstance(error, LimitPassed):
        words, hint = error.args
    elif refused := re.search(r"tried to allocate (\d+) bytes", str(error)):  # PyTorch's words
        words, hint = f"asked for {int(refused[1]) / 1e9:,.0f} GB of memory at once", ": is a size off?"
    elif isinstance(error, MemoryError):
        hint = ": is a size off?"
    elif isinstance(error, RuntimeError) and re.search("same dtype|scalar type", str(error)):
        hint = ": two dtypes meet; give a new tensor the `dtype` of an argument"
    elif isinstance(error, RecursionError):
        words, hint = "stopped with RecursionError", ": does a function call itself without end?"
    return words + f", in your line `{one_line(line, 60)}`" * bool(line) + hint


def from_the_notebook(answer) -> str:
    """What a function reads that is none of its arguments: it may fit the notebook's shapes and no others."""
    if not inspect.isfunction(answer):
        return ""
    read = {step.argval for step in dis.get_instructions(answer) if step.opname == "LOAD_GLOBAL"}
    names = [f"`{name}`" for name in sorted(read) if _is_data(answer.__globals__.get(name))]
    return f"(Your code reads {', '.join(names)} from the notebook, not from its arguments.)" if names else ""


def no_power(answer) -> str:
    """Of a `^` in a function that reckons: in other languages it is a power."""
    steps = dis.get_instructions(answer) if inspect.isfunction(answer) else ()
    powers = any(step.opname == "BINARY_OP" and step.argrepr in ("^", "^=") for step in steps)
    return "(In Python `^` is no power; that is `**`.)" if powers else ""


def _is_data(value) -> bool:
    tool = inspect.ismodule(value) or callable(value)
    return value is not None and (not tool or isinstance(value, torch.nn.Module))


def one_line(text, limit=None) -> str:
    text = " ".join(text.split())
    return text if limit is None or len(text) <= limit else text[:limit] + " …"
