"""Recording a view's attention: each forward pass of the model is held against the view's plan."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from vitlab.attention.probing import POOLING, shown
from vitlab.attention.refusing import check_global, check_unchanged, heads_of
from vitlab.attention.seeing import Seeing, Seen, uncompiled
from vitlab.attention.view import View

Take = Mapping[int, Callable[[Tensor], object]]
Before = Callable[[int, int, torch.device], None]


class Watch:
    """What is gathered from one forward pass to the next; hooks call it, a `Seeing` shows it the attention.

    `take` maps a layer to the function that is given its weights, (B, heads, queries, keys), as soon as they
    are there, or the first `rows` of each head; what the functions make goes to `done` by layer, after the
    pass.
    """

    def __init__(
        self,
        view: View,
        take: Take,
        done: Callable[[dict], object] = lambda gathered: None,
        before: Before = lambda *_: None,
        all_open: bool = False,
        rows: int | None = None,
    ):
        self.view, self.take, self.done, self.before, self.all_open = view, take, done, before, all_open
        self.depth = 0  # of calls of the model within each other
        self.step, self.images, self.grid = 0, 0, (0, 0)
        self.parts: list[Tensor] = []  # of a layer whose attentions run side by side
        self.gathered: dict[int, object] = {}
        self.seeing = Seeing(self.see, self.shape, self.wanted, rows)
        self.seeing.watching = False

    def enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Before the model: a pass begins."""
        self.depth += 1
        if self.depth > 1:
            return
        images = pictures(args, kwargs)
        self.view.description.check_call(args, kwargs)
        self.images, self.grid = len(images), self.view.grid_of(tuple(images.shape[-2:]))
        self.before(self.images, self.grid[0] * self.grid[1] + self.view.num_prefix_tokens, images.device)
        self.step, self.parts, self.gathered, self.seeing.watching = 0, [], {}, True

    def wanted(self) -> bool:
        """Whether anybody takes the weights that come next."""
        return self.all_open or any(layer in self.take for layer in self.view.plan[self.step : self.step + 1])

    def shape(self, weights: Tensor) -> Tensor:
        """Weights with an axis for the heads, where images and heads share one."""
        shared = weights.ndim == 3 and len(weights) % self.images == 0
        return heads_of(weights, self.images) if shared else weights

    def see(self, seen: Seen) -> None:
        """One attention: checked, and given to whoever takes its layer."""
        if torch.is_grad_enabled():
            check_not_checkpointed()
        if self.step == len(self.view.plan):
            self.different(f"more than {self.step}")
        check_unchanged(seen.changed)
        weights, layer = heads_of(seen.weights, self.images), self.view.plan[self.step]
        if layer != POOLING:
            queries = seen.queries or weights.shape[-2]
            check_global(queries, weights.shape[-1], self.grid, self.view.num_prefix_tokens)
        self.step += 1
        if layer in self.take:
            rows = self.seeing.rows  # without any, the tensor itself, for gradients with respect to it
            self.parts.append(weights if rows is None else weights[:, :, :rows])
            if layer not in self.view.plan[self.step : self.step + 1]:
                parts, self.parts = self.parts, []
                whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # as heads of one
                self.gathered[layer] = self.take[layer](whole)

    def leave(self, module: nn.Module, args: tuple, output) -> None:
        """After the model: the pass is recorded as a whole, or not at all."""
        self.depth -= 1
        if self.depth:
            return
        self.seeing.watching = False
        if output is None:  # the pass ended in an error, which goes its way
            return
        if self.step < len(self.view.plan):
            self.different(self.step)
        gathered, self.gathered = self.gathered, {}
        self.done(gathered)

    def different(self, number) -> None:
        raise ValueError(
            f"{number} attentions ran in this forward pass, where {len(self.view.plan)} did when the model "
            "was attached: blocks were left out, added or changed. Attach the model as it is now (some leave "
            "out blocks while they train)"
        )


def check_not_checkpointed() -> None:
    """Raises ValueError inside gradient checkpointing, which would go back another way than it came."""
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks("in use"):
            pass
    except RuntimeError as error:
        raise ValueError(
            "what is saved for the gradient is replaced by hooks, as gradient checkpointing does: switch it "
            "off while attention is recorded, or record under torch.no_grad()"
        ) from error


class Hook:
    """A hook on one model's layers: in a copy of the model, made while it is there, it does nothing."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *given):
        return self.function(*given)

    def __deepcopy__(self, memo: dict) -> "Hook":
        return Hook(lambda *given: None)


def pictures(args: tuple, kwargs: dict) -> Tensor:
    """The images among what a model is called with; raises ValueError where there are none."""
    for each in (*args, *kwargs.values()):
        if isinstance(each, Tensor) and each.ndim == 4 and each.is_floating_point():
            return each
    raise ValueError("the model was called without images, floats of shape (B, C, H, W)")


@contextmanager
def watching(
    view: View,
    take: Take,
    done: Callable[[dict], object],
    before: Before = lambda *_: None,
    all_open: bool = False,
    rows: int | None = None,
) -> Iterator[None]:
    """Give the weights of each forward pass of the view's model to `take`, by layer, while the block runs.

    They are given as they come, and what `take` makes of them goes to `done` after each pass that was seen as
    a whole. Layers that nobody takes run as they are, or, so that weights are the same to the last bit
    whichever others are taken, in the open as well (`all_open`). Where only the first `rows` of weights are
    asked for, all layers run as they are. `before` is called before a pass with the number of images, of
    tokens, and the device. Compiled parts run uncompiled meanwhile. Nothing is left in the model afterwards.
    """
    with under(Watch(view, take, done, before, all_open, rows)):
        yield


@contextmanager
def under(watch: Watch) -> Iterator[None]:
    """A watch over its view's model while the block runs."""
    model = watch.view.model
    with ExitStack() as undo:
        undo.enter_context(model.register_forward_pre_hook(Hook(watch.enter), with_kwargs=True))
        undo.enter_context(model.register_forward_hook(Hook(watch.leave), always_call=True))
        undo.enter_context(shown(model))
        undo.enter_context(uncompiled())
        undo.enter_context(watch.seeing)
        yield
