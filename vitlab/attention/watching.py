"""Recording a view's attention: each forward pass of the model is held against the view's plan."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from vitlab.attention.probing import POOLING
from vitlab.attention.refusing import check_global, check_unchanged, heads_of
from vitlab.attention.seeing import Seeing, Seen, uncompiled
from vitlab.attention.view import View


class Watch:
    """What is gathered from one forward pass to the next; hooks call it, a `Seeing` shows it the attention.

    `keep` maps a step of the plan to the function that takes its weights, (B, heads, queries, keys).
    """

    def __init__(self, view: View, keep: dict, before):
        self.view, self.keep, self.before = view, keep, before
        self.depth = 0  # of calls of the model within each other
        self.step, self.images, self.grid = 0, 0, (0, 0)
        self.gathered: list[tuple[int, Tensor]] = []
        self.seeing = Seeing(self.see, self.shape)
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
        self.step, self.gathered, self.seeing.watching = 0, [], True

    def shape(self, weights: Tensor) -> Tensor:
        """Weights with an axis for the heads, where images and heads share one."""
        shared = weights.ndim == 3 and len(weights) % self.images == 0
        return heads_of(weights, self.images) if shared else weights

    def see(self, seen: Seen) -> None:
        """One attention: checked, and kept where its layer was asked for."""
        if torch.is_grad_enabled():
            check_not_checkpointed()
        if self.step == len(self.view.plan):
            self.different(f"more than {self.step}")
        check_unchanged(seen.changed)
        weights, layer = heads_of(seen.weights, self.images), self.view.plan[self.step]
        if layer != POOLING:
            check_global(weights, self.grid, self.view.num_prefix_tokens)
        self.gathered.append((layer, weights))
        self.step += 1

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
        for layer, keep in self.keep.items():
            found = [weights for number, weights in self.gathered if number == layer]
            keep(found[0] if len(found) == 1 else torch.cat(found, dim=1))  # side by side: as heads of one
        self.gathered = []

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
def watching(view: View, keep: dict, before) -> Iterator[None]:
    """Give the weights of each forward pass of the view's model to `keep`, by layer, while the block runs.

    Compiled parts run uncompiled meanwhile. Afterwards nothing is left in the model.
    """
    watch = Watch(view, keep, before)
    with ExitStack() as undo:
        undo.enter_context(view.model.register_forward_pre_hook(Hook(watch.enter), with_kwargs=True))
        undo.enter_context(view.model.register_forward_hook(Hook(watch.leave), always_call=True))
        undo.enter_context(uncompiled())
        undo.enter_context(watch.seeing)
        yield
