"""The gradient of a number with respect to attention weights, layer by layer on the way back, and not kept.

What a map needs of a layer is A ⊙ ∂y/∂A. Where PyTorch's own attention runs, queries, keys and values are
kept and weights are made again when the gradient comes, for some images at a time; where a model makes its
weights itself, they are in the graph, and a hook waits there. Parameters and images have no gradient.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vitlab.attention.refusing import heads_of
from vitlab.attention.seeing import Seeing, Seen, open_weights, unmade
from vitlab.attention.view import View
from vitlab.attention.watching import Watch, under
from vitlab.norms import full_precision

Taker = Callable[[slice, Tensor], None]  # of which images, and A ⊙ ∂y/∂A of theirs, (B, heads, queries, keys)
AT_ONCE = {"cpu": 64_000_000}  # bytes of weights and what is made of them; few enough for a processor's cache
ELSEWHERE = 1_000_000_000


def at_once(bytes_each: int, device: torch.device) -> int:
    """How many images to work on together, where each takes so many bytes; at least one.

    >>> at_once(30_000_000, torch.device("cpu"))
    2
    """
    return max(1, AT_ONCE.get(device.type, ELSEWHERE) // max(bytes_each, 1))


class RemadeAttention(torch.autograd.Function):
    """softmax(q kᵀ · scale + mask) v of (B, heads, T, d), whose weights are made again for the gradient.

    On the way back `take` gets A ⊙ ∂y/∂A, some images at a time.
    """

    @staticmethod
    def forward(ctx, take: Taker, causal: bool, scale: float | None, query, key, value, mask) -> Tensor:
        ctx.take, ctx.causal, ctx.scale = take, causal, scale
        ctx.save_for_backward(query, key, value, mask)
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        query, key, value, mask = ctx.saved_tensors
        numbers = query[0].numel() // query.shape[-1] * key.shape[-2]  # in one image's weights
        step = at_once(4 * 4 * numbers, query.device)
        grads = [torch.empty_like(each) for each in (query, key, value)]
        with full_precision(grad.device):
            for start in range(0, len(query), step):
                which = slice(start, start + step)
                given = (each[which] for each in (grad, query, key, value))
                shared = mask is None or mask.ndim < 4 or len(mask) == 1
                part = mask if shared else mask[which]
                made = gradients(ctx.take, which, part, ctx.causal, ctx.scale, *given)
                for place, each in zip(grads, made, strict=True):
                    place[which] = each
        return None, None, None, *grads, None


def gradients(take: Taker, which: slice, mask, causal: bool, scale, grad, query, key, value) -> list[Tensor]:
    """Those of queries, keys and values of some images; `take` is shown the weights times theirs."""
    weights = open_weights(query, key, mask, causal, scale)
    grad, query, key, value = (each.to(weights.dtype) for each in (grad, query, key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    product = (grad @ value.mT).mul_(weights)
    take(which, product)
    grad_value = weights.mT @ grad
    grad_scores = product.sub_(weights.mul_(product.sum(dim=-1, keepdim=True)))  # through the softmax
    return [(grad_scores @ key) * scale, (grad_scores.mT @ query) * scale, grad_value]


class Trace(Watch):
    """A watch that gives A ⊙ ∂y/∂A to `take`, by layer, when the gradient comes; `root` is where it ends."""

    def __init__(self, view: View, take: Mapping[int, Taker]):
        super().__init__(view, {layer: lambda weights: None for layer in take})
        self.takers, self.root = take, None
        self.seeing = SeeingBack(self)
        self.seeing.watching = False

    def shape(self, weights: Tensor) -> Tensor:
        weights = super().shape(weights)
        if self.wanted() and torch.is_grad_enabled() and not weights.requires_grad:
            weights = weights.detach().requires_grad_()
        return weights

    def see(self, seen: Seen) -> None:
        layer = self.layer if self.wanted() else None
        super().see(seen)
        if layer is None or seen.weights.is_meta:
            return
        if not torch.is_grad_enabled():
            raise ValueError(
                f"the attention of layer {layer} runs where gradients are off (no_grad, or gradient "
                "checkpointing inside the model), so that it has none"
            )
        self.root = seen.weights if self.root is None else self.root
        weights, images = (
            seen.weights.detach(),
            self.images,
        )  # a hook that held its own tensor would hold it for good

        def back(gradient: Tensor) -> None:
            self.takers[layer](slice(None), heads_of(weights * gradient, images))

        seen.weights.register_hook(back)

    @property
    def layer(self) -> int:
        """Of the attention that comes next."""
        return self.view.plan[self.step]


class SeeingBack(Seeing):
    """A `Seeing` that has PyTorch's own attention make its weights on the way back."""

    def __init__(self, trace: Trace):
        super().__init__(trace.see, trace.shape, trace.wanted)
        self.trace = trace

    def attend(self, query, key, value, mask, dropout, causal, scale) -> Tensor:
        in_the_graph = mask is not None and mask.requires_grad
        if dropout or in_the_graph or query.ndim != 4 or not torch.is_grad_enabled():
            return super().attend(query, key, value, mask, dropout, causal, scale)
        take = self.trace.takers[self.trace.layer]
        self.see(Seen(unmade(query, key)))
        if not query.requires_grad:
            query = query.detach().requires_grad_()
        if self.trace.root is None:
            self.trace.root = query
        return RemadeAttention.apply(take, causal, scale, query, key, value, mask)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient, so that none is made and nothing is kept for one."""
    learning = [each for each in model.parameters() if each.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_()


def trace_back(
    view: View, images: Tensor, ask: Callable[[View, Tensor], Tensor], take: Mapping[int, Taker]
) -> None:
    """Give A ⊙ ∂y/∂A of some layers to `take`, the last layer first; y is what `ask` makes of each image.

    Costs a forward and a backward pass without gradients of parameters, and one product of queries and keys
    more in each of these layers.
    """
    trace = Trace(view, take)
    with torch.inference_mode(False), torch.enable_grad(), frozen(view.model):
        try:
            with under(trace):
                number = ask(view, images.detach().clone()).sum()
            torch.autograd.grad(number, trace.root)
        finally:
            trace.root = None  # a watch and its `Seeing` know each other, and would hold it for a while
