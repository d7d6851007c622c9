"""The base of all explorers: state -> (picture, caption), shown by one Image and one line of text."""

import base64
import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache

import ipywidgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from vitlab import page
from vitlab.widgets import turns
from vitlab.widgets.clicks import Area, clicks
from vitlab.widgets.pictures import Picture, fit, light, png
from vitlab.widgets.weights import weights_mark
from vitlab.wording import shortened

DPI = 100  # 9 pt letters are 12.5 pixels high
REMEMBERED = 64  # pictures kept per explorer, so that going back to a state is immediate
SLIDERS = (ipywidgets.IntSlider, ipywidgets.FloatSlider, ipywidgets.SelectionSlider)


def figure(size: tuple[int, int]) -> Figure:
    """An empty matplotlib figure of `size` (width, height) in pixels, unknown to pyplot.

    >>> figure((880, 440)).get_size_inches().tolist()
    [8.8, 4.4]
    """
    width, height = size
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")


def places(ax: Axes, points: np.ndarray) -> np.ndarray:
    """Where data points (n, 2) lie in the picture of a figure that was drawn: (n, 2), pixels (x, y) from its
    top left. With it, a plot is drawn once and marked by PIL at every move.

    >>> ax = figure((200, 100)).add_axes((0, 0, 1, 1), xlim=(0, 2), ylim=(0, 1))
    >>> places(ax, np.array([[1, 1], [2, 0]])).tolist()
    [[100.0, 0.0], [200.0, 100.0]]
    """
    found = ax.transData.transform(points)
    found[:, 1] = ax.figure.bbox.height - found[:, 1]
    return found


class Explorer:
    """Controls, a picture of fixed size and a caption, the last two always for the same state.

    `draw(**state)` gets one value per control and returns (picture, caption): a figure, a PIL image or an
    RGB uint8 array (H, W, 3), and plain text that says what the picture shows now. `controls` maps each
    name in the state to an ipywidgets control with a visible description. A picture that is not of `size`
    (width, height in pixels) is scaled to fit on white. Sliders redraw when let go, or while they move
    where `draw` is `fast` (under 50 ms).

    Where `areas` says what a click on the picture sets, the picture can be clicked in pages that can send
    clicks (see `clicks.py`); whatever a click does, a control does too.

    An explorer that keeps what models answer says which ones in `models` and drops it in `ask_anew`: that is
    called before it draws, when the weights of one are not what they were, as after a training.

    A ValueError from `draw` is shown as the caption and the old picture stays; any other error is a defect:
    it is shown and raised. `error` holds it until the next state that can be drawn.

    >>> level = ipywidgets.IntSlider(0, 0, 255, description="level")
    >>> def draw(level):
    ...     return np.full((8, 8, 3), level, np.uint8), f"level {level}"
    >>> explorer = Explorer(draw, {"level": level})
    >>> explorer.set(level=7)
    >>> explorer.caption
    'level 7'
    """

    beside = False  # whether it may draw beside a running cell, as it asks no model that a cell may ask

    def __init__(
        self,
        draw: Callable[..., tuple[Picture, str]],
        controls: dict[str, ipywidgets.ValueWidget],
        size: tuple[int, int] = (880, 440),
        fast: bool = False,
    ):
        self.draw, self.controls, self.size = draw, dict(controls), size
        self.caption, self.error, self._held, self._marks = "", None, False, {}
        self._render = lru_cache(REMEMBERED)(self._render)
        for name, control in self.controls.items():
            _prepare(name, control, fast)
            control.observe(self._refresh, names="value")
        turns.watch_cells()
        self._initial = self.state
        self._image, self._text, self.widget = self._layout()
        self._clicks = self._listen()
        self._refresh()
        if self.error is not None:  # nothing could be drawn yet: whoever builds the explorer must know
            raise self.error

    @property
    def state(self) -> dict:
        """The value of every control, by name."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def picture(self) -> bytes:
        """The picture shown now, as PNG."""
        return self._image.value

    def set(self, **values) -> None:
        """Move the controls named, in the order in which they are shown, and redraw once."""
        if unknown := values.keys() - self.controls.keys():
            raise ValueError(
                f"no control named {', '.join(sorted(unknown))}; there are {', '.join(self.controls)}"
            )
        with self.hold():
            for name in filter(values.__contains__, self.controls):
                self.controls[name].value = values[name]

    def models(self) -> Sequence[nn.Module]:
        """The models whose answers are kept."""
        return ()

    def ask_anew(self) -> None:
        """Drop what the models have answered, or ask for it again: it was of other weights."""

    def areas(self) -> list[Area]:
        """What a click on the picture as it is now chooses; an explorer of one's own may override it."""
        return []

    def click(self, x: float, y: float) -> None:
        """Do what a click at (x, y) does, in pixels of the picture; outside of all areas, nothing."""
        found = next((values for area in self.areas() if (values := area.at(x, y)) is not None), {})
        self.set(**found)

    def reset(self) -> None:
        """Go back to the state at the start."""
        self.set(**self._initial)

    def redraw(self) -> None:
        """Draw the same state anew, for explorers whose picture also shows what happened since."""
        self._render.cache_clear()
        self._refresh()

    def offer(self, control: str, options: Iterable, value) -> None:
        """Give a list other options, choose one, and draw it anew: an old name may mean something new."""
        self._render.cache_clear()
        with self.hold():
            self.controls[control].options = list(options)
            if self.controls[control].layout.width.startswith("max("):  # it was chosen here
                _make_room(self.controls[control])
            self.controls[control].value = value

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let several controls change inside the block, and redraw once after it."""
        with self._turn():  # whose whole it takes: what is held is one explorer's, whoever moves its controls
            outer, self._held = self._held, True
            try:
                yield
            finally:
                self._held = outer
            self._refresh()

    def _turn(self) -> AbstractContextManager:
        return nullcontext() if self.beside else turns.turn()

    def _refresh(self, _change=None) -> None:
        """Draw the state of the controls as they are now, not as they were when the event was sent."""
        with self._turn():
            self._draw_newest()

    def _draw_newest(self) -> None:
        if self._held:
            return
        self._held, drawn = True, None
        try:
            while (state := self.state) != drawn:  # again if a control moved meanwhile: the newest state wins
                self._show(state)
                drawn = state
        finally:
            self._held = False

    def _keep_up(self) -> None:
        """Keep nothing of weights that a model no longer has."""
        marks = {model: weights_mark(model) for model in self.models()}
        if any(self._marks.get(model, mark) != mark for model, mark in marks.items()):
            self._render.cache_clear()
            self.ask_anew()
        self._marks = marks

    def _show(self, state: dict) -> None:
        try:
            self._keep_up()
            picture, caption = self._render(**state)
        except ValueError as error:
            self._tell(f"{error}. The picture is still the one before.", error)
        except Exception as error:
            self._tell(f"{type(error).__name__}: {error}", error)
            raise
        else:
            self._image.value = picture
            self._tell(caption)
            self._show_areas()

    def _tell(self, caption: str, error: Exception | None = None) -> None:
        self.caption, self.error = caption, error
        role = 'role="status"' if error is None else 'role="alert" class="vitlab-error"'
        text = html.escape(caption).replace("\n", "<br>")
        text = text if error is None else f"<b>{text}</b>"
        self._text.value = f'<div {role} style="line-height: 1.5">{text}</div>'

    def _render(self, **state) -> tuple[bytes, str]:
        picture, caption = self.draw(**state)
        return png(fit(picture, self.size)), caption

    def _layout(self) -> tuple[ipywidgets.Image, ipywidgets.HTML, ipywidgets.VBox]:
        width, height = self.size
        reset = ipywidgets.Button(description="Reset", layout={"width": "auto"})
        reset.on_click(lambda _button: self.reset())
        image = ipywidgets.Image(
            format="png",
            width=width,
            height=height,
            # 4 pixels are its margins: as wide as the page, it would be scrolled by them
            layout={"max_width": "calc(100% - 4px)", "object_fit": "contain", "flex": "0 0 auto"},
        )
        text = ipywidgets.HTML(layout={"max_width": f"{width}px", "min_height": "4em"})
        controls = ipywidgets.Box(
            [*self.controls.values(), reset],
            layout={"display": "flex", "flex_flow": "row wrap", "grid_gap": "2px 16px"},
        )
        box = ipywidgets.VBox([controls, image, text])
        box.add_class(page.EXPLORER)
        return image, text, box

    def _listen(self) -> tuple[ipywidgets.Widget, ...]:
        """Add what listens for clicks to the widget, where there is something to click and a way."""
        width, height = self.size
        listening = clicks(lambda x, y: self.click(x * width, y * height)) if self.areas() else ()
        if listening:
            self.widget.add_class("vitlab-clicked")
            self.widget.children += (ipywidgets.Box(listening, layout={"display": "none"}),)
        return listening

    def _show_areas(self) -> None:
        """Tell the page which parts of the picture can be clicked now, as shares of its width and height."""
        for listening in self._clicks:
            width, height = self.size
            boxes = [area.box for area in self.areas()]
            listening.areas = [
                [left / width, top / height, (left + right) / width, (top + bottom) / height]
                for left, top, right, bottom in boxes
            ]

    def _repr_mimebundle_(self, **_kwargs) -> tuple[dict, dict]:
        """The live widget and, in the same output, picture and caption for readers without a kernel."""
        if self.models():
            self._refresh()  # they may have been trained since the last move
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        bundle = {
            "application/vnd.jupyter.widget-view+json": view,
            "image/png": base64.b64encode(light(self.picture)).decode(),
            "text/plain": self.caption,
        }
        return bundle, {"image/png": {"alt": shortened(self.caption)}}


def _room(control: ipywidgets.ValueWidget) -> int:
    """How many letters a list's longest choice and arrow take, or a slider's track and value."""
    if not isinstance(control, ipywidgets.Dropdown):
        return 20
    names = [option[0] if isinstance(option, tuple) else option for option in control.options]
    return 4 + max((len(str(name)) for name in names), default=0)


def _make_room(control: ipywidgets.ValueWidget) -> None:
    letters = len(control.description) + _room(control)
    control.layout.width, control.layout.max_width = f"max(300px, {letters}ch)", "100%"


def _prepare(name: str, control: ipywidgets.ValueWidget, fast: bool) -> None:
    if not getattr(control, "description", ""):
        raise ValueError(f"the control {name!r} has no visible name; give it a description, such as {name!r}")
    if hasattr(control.style, "description_width"):
        control.style.description_width = "initial"  # long names are shown whole
    if isinstance(control, (ipywidgets.Dropdown, *SLIDERS)) and not control.layout.width:
        _make_room(control)
    if hasattr(control, "continuous_update"):
        control.continuous_update = fast
