"""Words for those who do not see a picture: numbers, lists and ranges, and how a text is cut to fit."""

import re
from collections.abc import Callable, Iterable

import numpy as np

LIMIT = 200  # letters: screen readers read a text in one go


def one_line(text: str) -> str:
    r"""
    >>> one_line("pixels mixed,\n the same way")
    'pixels mixed, the same way'
    """
    return " ".join(text.split())


def number(value: float) -> str:
    """A number as one says it: three digits, and commas from a thousand on.

    >>> [number(v) for v in (0.123456, 12.0, 5317.4, 2e-7)]
    ['0.123', '12', '5,317', '2e-07']
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def counted(count: int, thing: str) -> str:
    """
    >>> counted(1, "map"), counted(7, "patch"), counted(2, "class")
    ('1 map', '7 patches', '2 classes')
    """
    return f"{count:,} {thing}" + ("" if count == 1 else "es" if thing.endswith(("ch", "s")) else "s")


def token_name(token: int, prefix: int, columns: int, place: bool = False) -> str:
    """A token in words, a patch with its number from 1 and on request its place on a grid of so many columns.

    `prefix` is 1 where the class token is token 0, else 0.

    >>> token_name(0, 1, 7), token_name(9, 1, 7, place=True), token_name(9, 0, 7)
    ('the class token', 'patch 9 (row 2, column 2)', 'patch 10')
    """
    patch = token - prefix
    if patch < 0:
        return "the class token"
    row, column = divmod(patch, columns)
    return f"patch {patch + 1}" + (f" (row {row + 1}, column {column + 1})" if place else "")


def between(values, say: Callable[[float], str] = number) -> str:
    """The range of many numbers, those that are none left out; `say` puts one into words.

    >>> between([3, float("nan"), 1]), between([2, 2])
    ('from 1 to 3', '2 everywhere')
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return "without a number"
    low, high = values.min(), values.max()
    return f"{say(low)} everywhere" if low == high else f"from {say(low)} to {say(high)}"


def listed(names: Iterable) -> str:
    """Names one after the other; three and more that count up, as the first with the last one's number.

    >>> listed(["bag", "coat"]), listed(["layer 1, head 1", "layer 1, head 2"])
    ('bag, coat', 'layer 1, head 1; layer 1, head 2')
    >>> listed(range(1, 50)), listed(["seen 1", "seen 2", "seen 3", "true 1"])
    ('1 to 49', 'seen 1 to 3, true 1')
    """
    runs: list[list[str]] = []
    for name in filter(None, (one_line(str(name)) for name in names)):
        if runs and name == _next(runs[-1][-1]):
            runs[-1].append(name)
        else:
            runs.append([name])
    short = [[f"{run[0]} to {_last_number(run[-1])}"] if len(run) > 2 else run for run in runs]
    found = [name for run in short for name in run]
    return ("; " if any("," in name for name in found) else ", ").join(found)


def _last_number(name: str) -> str:
    """The whole number at the end of a name, or "".

    >>> _last_number("head 12"), _last_number("mean")
    ('12', '')
    """
    return re.search(r"[0-9]*\Z", name)[0]


def _next(name: str) -> str:
    """The name that comes after one that ends on a whole number, or ""."""
    digits = _last_number(name)
    return f"{name.removesuffix(digits)}{int(digits) + 1}" if digits else ""


def sentence(text: str) -> str:
    """With a capital at its begin and a full stop.

    >>> sentence("7 x 7 patches"), sentence("what is seen?")
    ('7 x 7 patches.', 'What is seen?')
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def shortened(text: str, limit: int = LIMIT) -> str:
    """`text` on one line in at most `limit` letters, cut at the end of a sentence, a clause or a word.

    >>> shortened("A boot. Its sole is in the last row.", 20), shortened("A boot with a heel", 12)
    ('A boot.', 'A boot with…')
    """
    text = one_line(text)
    if len(text) <= limit:
        return text
    for end, least in ((r"[.?!](?=\s)", limit // 3), (r"(?=[,;]\s)", 2 * limit // 3), (r"(?=\s)", 1)):
        ends = [match.end() for match in re.finditer(end, text[:limit]) if least <= match.end() < limit]
        if ends:
            cut = text[: ends[-1]]
            return cut if cut.endswith((".", "?", "!")) else cut.rstrip(",;:") + "…"
    return text[: limit - 1] + "…"


def shares(texts: list[list[str]], limit: int) -> list[str]:
    """Texts, each in shorter and shorter words, made to fit together: the long ones use what the short leave.

    >>> shares([["A boot."], ["Loss falls from 2.3 to 0.4 over 300 steps.", "Loss falls."]], 40)
    ['A boot.', 'Loss falls.']
    """
    room, fitted = limit - len(texts), {}
    for left, i in enumerate(sorted(range(len(texts)), key=lambda i: len(texts[i][0]))):
        share = room // (len(texts) - left)
        fitted[i] = next((text for text in texts[i] if len(text) <= share), shortened(texts[i][-1], share))
        room -= len(fitted[i])
    return [fitted[i] for i in range(len(texts))]
