"""What a figure shows, in words: the alternative text of its picture, for readers who do not see it.

In a notebook the text is put into the output, as `metadata["image/png"]["alt"]`, where IPython's own pictures
have it. Titles, labels, lines, bars and dots are read from the figure when it is shown, so that the text is
never older than the picture. What cannot be read there, such as what is on an image, is said by `describe`.
"""

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from vitlab.wording import LIMIT, between, counted, listed, number, one_line, sentence, shares, shortened

if TYPE_CHECKING:  # matplotlib is loaded by whoever draws
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW, MANY = 6, 10  # bars named, and values weighed, one by one; panels that are not all described
FLAT, CLEAR = 0.05, 0.2  # a line in less of the height is level; a turn is named that is more of the line's

_said: WeakKeyDictionary = WeakKeyDictionary()  # an Axes or a Figure -> its words, and what it held then


def describe(shown: "Axes | Figure", *words: "str | Callable[[Axes | Figure], str]") -> None:
    """Say what an Axes or a whole figure shows, in place of what can be read from its lines and bars.

    `words` may be a function of `shown`, which is asked when the figure is displayed. Several say the same in
    fewer and fewer words, for a picture that shares its 200 letters with others: the first that fits is
    taken, and the last is cut at the end of a sentence or a word where even that does not. The title of an
    Axes stays in front. What is cleared, or says "" then, loses its words. Raises ValueError for no words.

    >>> from matplotlib.figure import Figure
    >>> figure = Figure()
    >>> describe(figure.subplots(), "a circle beside a square")
    >>> alt_text(figure)
    'A circle beside a square.'
    """
    if not words or not all(callable(each) or each.strip() for each in words):
        raise ValueError(f"describe takes words that say what is shown; got {', '.join(map(repr, words))}")
    _said[shown] = words, WeakSet(held) if (held := _content(shown)) else None


def alt_text(figure: "Figure") -> str:
    """What `figure` shows, in at most 200 letters: its own words, or those of its Axes in reading order.

    >>> from matplotlib.figure import Figure
    >>> figure = Figure()
    >>> ax = figure.subplots()
    >>> line = ax.plot([1, 2, 3], [2.3, 1.2, 0.4], label="ViT")
    >>> ax.set(xlabel="step", ylabel="loss")[0]
    Text(0.5, 0, 'step')
    >>> alt_text(figure)
    'Loss over step from 1 to 3: ViT falling from 2.3 to 0.4.'
    """
    if own := said(figure):
        fitting = (words for words in map(sentence, own) if len(words) <= LIMIT)
        return next(fitting, shortened(sentence(own[-1])))
    shown = [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]
    title = one_line(figure.get_suptitle())
    panels = [[title], *([of_axes(ax, detail) for detail in (3, 2, 1, 0)] for ax in shown)]
    panels = [[sentence(text) for text in texts] for texts in panels if texts[0]]
    if len(panels) > MANY:
        return shortened(f"{counted(len(panels), 'panel')}, the first: {panels[0][0]}")
    return " ".join(shares(panels, LIMIT)) or "Empty axes."


def in_notebooks() -> None:
    """From here on, the figures that this kernel shows carry their text. Outside a notebook nothing happens.

    The text is added to whatever picture is made of a figure. Only the format "retina", which is not the
    default, takes it away again: IPython puts the picture's size in its place.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.display_formatter.mimebundle_formatter.for_type("matplotlib.figure.Figure", _metadata)


def _metadata(figure: "Figure") -> tuple[dict, dict]:
    """What IPython adds to a figure's picture: no data, and the text; nothing where nothing is drawn."""
    return {}, {"image/png": {"alt": alt_text(figure)}} if figure.axes else {}


# --- one Axes -----------------------------------------------------------------------------------------------


def of_axes(ax: "Axes", detail: int = 3) -> str:
    """The title of an Axes and what it shows, or "" for nothing.

    Lines are told with their numbers (`detail` 3), or by how they run (2), under a title also without what
    they run over (1), or are counted (0). What `describe` was told is taken from its longest words on.
    """
    title, own = one_line(ax.get_title()), said(ax)
    if own:
        body = own[min(3 - detail, len(own) - 1)]
    else:
        body = "; ".join([*_pictures(ax), *_curves(ax, detail)]) or _labels(ax)
    return f"{title}: {body}" if title and body else title or body


def said(shown: "Axes | Figure") -> list[str]:
    """What `describe` was told, longest words first; without empty ones; none once all is cleared."""
    words, held = _said.get(shown, ((), None))
    if held is not None and not held & set(_content(shown)):
        return []
    return list(filter(None, (one_line(each(shown) if callable(each) else each) for each in words)))


def _content(shown: "Axes | Figure") -> list:
    """What `clear` takes away."""
    kinds = (
        ("axes",)
        if hasattr(shown, "get_suptitle")
        else ("lines", "collections", "patches", "images", "texts")
    )
    return [artist for kind in kinds for artist in getattr(shown, kind)]


def place(axis, index: int) -> str:
    """What stands at a whole number of an axis: the label of its tick, else the number itself."""
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
    label = next((label.get_text() for at, label in ticks if at == index), "")
    written = re.fullmatch(rf"{index}\.0*|\$.*", label)  # the number itself, with more digits or as a formula
    return str(index) if written or not label else one_line(label)


def _pictures(ax: "Axes") -> list[str]:
    """Images and heat maps that were drawn by hand."""
    from matplotlib.collections import QuadMesh

    found, meshes = [], [mesh for mesh in ax.collections if isinstance(mesh, QuadMesh)]
    for image in filter(_visible, [*ax.get_images(), *meshes]):
        array = image.get_array()
        if array is None or array.ndim < 2:
            continue
        height, width = array.shape[:2]
        size = f"{height} × {width}"
        found.append(f"an image of {size} pixels" if array.ndim == 3 else f"{size} values {between(array)}")
    return found


def _labels(ax: "Axes") -> str:
    """The words on a drawing that is neither an image nor made of lines, bars and dots."""
    told = [text.get_text() for text in ax.texts]
    handles = zip(*ax.get_legend_handles_labels(), strict=True)
    told += [name for artist, name in handles if name not in told and artist.get_visible()]
    told += [cell.get_text().get_text() for table in ax.tables for cell in table.get_celld().values()]
    names = listed([*told, ax.get_ylabel(), ax.get_xlabel()])
    return f"a drawing labelled {names}" if names else "a drawing without words" if _content(ax) else ""


def _curves(ax: "Axes", detail: int) -> list[str]:
    """Bars, lines and dots, after what they show over what."""
    from matplotlib.container import BarContainer

    shown = [bars for bars in ax.containers if isinstance(bars, BarContainer) and any(map(_visible, bars))]
    bars = [_bars(ax, bars) for bars in shown]
    lines, dots, levels = _drawn(ax)
    if not lines and not dots:
        return bars + levels
    together: dict[str, list[str]] = {}  # how lines run -> their names; in brief, many run alike
    nameless = [points for name, points in lines if not name]
    say = _spoken(ax, ax.yaxis)
    if detail == 0:
        many = {"line": len(lines), "dot": sum(len(points) for _, points in dots)}
        drawn = [counted(count, thing) for thing, count in many.items() if count]
        up = between(np.concatenate([points[:, 1] for _, points in lines + dots]), say)
        where = "" if ax.get_title() else f"{one_line(ax.get_ylabel()) or 'values'}: "
        return [*bars, f"{where}{' and '.join(drawn)} {up}"]
    for (name, points), heights in zip(lines, _heights(ax, lines), strict=True):
        if name or len(nameless) <= FEW:
            together.setdefault(course(points[:, 1], heights, detail < 3, say), []).append(name)
        else:  # such as the parts of a box plot
            together[f"{len(nameless)} lines {between(np.concatenate(nameless)[:, 1], say)}"] = []
    words = [f"{listed(names)} {way}".strip() for way, names in together.items()]
    words += [_dots(name, points[:, 1], say) for name, points in dots]
    across = np.concatenate([points[:, 0] for _, points in lines + dots])
    over = "" if detail == 1 and ax.get_title() else f"{_over(ax, across, detail < 3)}: "
    return [*bars, over + "; ".join(words + levels)]


def _drawn(ax: "Axes") -> tuple[list, list, list[str]]:
    """Lines and dots as (name, points (n, 2)), dots of one name together; and levels drawn right across."""
    from matplotlib.collections import PathCollection

    lines, dots, levels = [], {}, []
    for line in filter(_visible, ax.get_lines()):
        name, points = _name(line), _finite(line.get_xydata())
        along_x, along_y = line.get_transform().contains_branch_seperately(ax.transData)
        if not along_x and along_y and name and len(points):
            levels.append(f"{name} at {_spoken(ax, ax.yaxis)(points[0, 1])}")
        elif along_x and along_y and len(points) > 1 and line.get_linestyle() != "None":
            backwards = (np.diff(points[:, 0]) < 0).all()  # and its course is said from left to right
            lines.append((name, points[::-1] if backwards else points))
        elif along_x and along_y:
            dots.setdefault(name, []).append(points)
    for collection in filter(_visible, ax.collections):
        if isinstance(collection, PathCollection):
            dots.setdefault(_name(collection), []).append(_finite(collection.get_offsets()))
    together = [(name, np.concatenate(parts)) for name, parts in dots.items()]
    return lines, [(name, points) for name, points in together if len(points)], levels


def course(
    values: np.ndarray, heights: np.ndarray, brief: bool = False, say: Callable[[float], str] = number
) -> str:
    """How a line runs from its first to its last value, with a peak or a low between them.

    `heights` says where the values are seen: the height of all lines of an Axes together is 1. `say` puts a
    value into words.

    >>> fall, peak = np.array([2.0, 1.0, 0.5]), np.array([0.0, 5.0, 1.0])
    >>> course(fall, fall), course(peak, peak / 5)
    ('falling from 2 to 0.5', 'rising from 0 to 1, with a peak of 5')
    >>> course(10 + fall / 100, fall / 100)
    'staying near 10'
    """
    seen = np.ptp(heights)
    if seen < FLAT:
        return f"staying {'at' if np.ptp(values) == 0 else 'near'} {say(values.mean())}"
    direction, ends = "rising" if values[-1] > values[0] else "falling", heights[[0, -1]]
    clear = seen * (FLAT if len(values) <= FEW else CLEAR)  # each of few values counts, of many some is noise
    peak, bottom = heights.max() > ends.max() + clear, heights.min() < ends.min() - clear
    if brief:
        return "up and down" if peak else "down and up" if bottom else direction
    turn = f", with a {'peak' if peak else 'low'} of {say(values.max() if peak else values.min())}"
    return f"{direction} from {say(values[0])} to {say(values[-1])}{turn if peak or bottom else ''}"


def _heights(ax: "Axes", lines: list[tuple[str, np.ndarray]]) -> list[np.ndarray]:
    """Where the values of each line are seen, as shares of the height of them all."""
    found = [points[:, 1] for _, points in lines]
    if ax.get_yscale() == "log":
        found = [np.log10(np.maximum(values, np.finfo(float).tiny)) for values in found]
    span = np.ptp(np.concatenate(found)) if found else 0
    return [values / (span or np.inf) for values in found]


def _dots(name: str, values: np.ndarray, say: Callable[[float], str]) -> str:
    where = f"at {say(values[0])}" if len(values) == 1 else between(values, say)
    return f"{counted(len(values), f'{name} dot'.strip())} {where}"


def _bars(ax: "Axes", bars) -> str:
    """Few bars by name and length, many by their range and the longest."""
    lying = bars.orientation == "horizontal"
    axis, label = (ax.yaxis, ax.get_xlabel()) if lying else (ax.xaxis, ax.get_ylabel())
    lengths = [bar.get_width() if lying else bar.get_height() for bar in bars]
    middles = [bar.get_center()[1 if lying else 0] for bar in bars]
    say = _spoken(ax, axis)
    labelled = [say is number and abs(at - round(at)) < 1e-6 for at in middles]
    pairs = zip(middles, labelled, strict=True)
    names = [place(axis, round(at)) if has_label else say(at) for at, has_label in pairs]
    label = ", ".join(filter(None, [one_line(label), _name(bars)]))
    label = f"{label}, " if label else ""
    if len(bars) <= FEW:
        pairs = zip(names, lengths, strict=True)
        return label + ", ".join(f"{name} {number(length)}" for name, length in pairs)
    longest = names[int(np.nan_to_num(lengths, nan=-np.inf).argmax())]
    return f"{label}{counted(len(bars), 'bar')} {between(lengths)}, the longest at {longest}"


def _over(ax: "Axes", across: np.ndarray, brief: bool) -> str:
    """What is drawn over what, and from where to where."""
    ends = [_spoken(ax, ax.xaxis)(x) for x in (across.min(), across.max())]
    up, along = one_line(ax.get_ylabel()) or "values", one_line(ax.get_xlabel()) or "places"
    return f"{up} over {along}" + ("" if brief else f" from {ends[0]} to {ends[1]}")


def _spoken(ax: "Axes", axis) -> Callable[[float], str]:
    """How a place on an axis is said: as the date, angle in degrees, word or number that it is."""
    from matplotlib.category import StrCategoryLocator
    from matplotlib.dates import DateLocator

    if isinstance(axis.get_major_locator(), DateLocator):
        return _date
    if isinstance(axis.get_major_locator(), StrCategoryLocator):
        return lambda at: one_line(axis.get_major_formatter()(at))
    if ax.name == "polar" and axis is ax.xaxis:
        return lambda at: f"{number(np.degrees(at))}°"
    return number


def _date(at: float) -> str:
    """A date of matplotlib's, with its time where it is not midnight."""
    from matplotlib.dates import num2date

    found = num2date(at)
    return f"{found:%Y-%m-%d}" if not (found.hour or found.minute) else f"{found:%Y-%m-%d %H:%M}"


def _name(artist) -> str:
    """The name in the legend without a remark in brackets, or "" where it has none."""
    label = str(artist.get_label())
    return "" if label.startswith("_") else one_line(label.partition(" (")[0])


def _visible(artist) -> bool:
    return artist.get_visible()


def _finite(points) -> np.ndarray:
    """The points (n, 2) that have a place; the others, masked or not a number, are not drawn."""
    points = np.ma.filled(np.ma.asarray(points, dtype=np.float64), np.nan)
    return points[np.isfinite(points).all(axis=1)]
