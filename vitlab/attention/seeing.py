"""Seeing the attention of any PyTorch code: the functions that attention goes through, while a block runs."""

import sys
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary
from torch.utils.weak import WeakIdKeyDictionary

from vitlab.norms import full_precision


@dataclass
class Seen:
    """Weights that multiplied values, (…, queries, keys) in at least fp32, and what was done to them before.

    `changed` names what came between the softmax and the values, other than dropout, a shape or a precision;
    it is empty where these are the weights that were used. Where only the first queries' are there, `queries`
    says how many there were.
    """

    weights: Tensor
    changed: list[str] = field(default_factory=list)
    queries: int | None = None


class InPlace(TorchFunctionMode):
    """Methods in the place of the functions that attention goes through: `fused`, `softmax`, and `other`."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self.fused(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return unwatched_multi_head(*args, **kwargs)
        if func in SOFTMAXES:
            return self.softmax(func, *args, **kwargs)
        return self.other(func, args, kwargs)


class Seeing(InPlace):
    """Calls `see` with each `Seen` attention that runs inside the block; the outputs stay what they are.

    Fused attention is computed in the open, from the same queries, keys, mask and scale. A softmax counts
    where its result multiplies something, as weights do values. Gradients flow through the weights. What no
    function of PyTorch in Python shows (kernels of other libraries, exported programs) is not seen. While
    `watching` is False everything passes through. `shape` gives weights the shape that they are to be seen
    in; what is computed comes from that tensor, so that a gradient can be taken with respect to it. Where
    `wanted` says that nobody will look at the next weights, fused attention stays as it is, and what is seen
    of them is their shape, on the meta device. With `rows` it stays as it is, too, and the weights of so many
    queries, the first, are made beside it: nothing follows from them, so that no gradient comes to them.

    >>> seen = []
    >>> with Seeing(seen.append):
    ...     _ = F.scaled_dot_product_attention(*torch.zeros(3, 1, 2, 4, 8))
    >>> seen[0].weights.shape
    torch.Size([1, 2, 4, 4])
    """

    def __init__(
        self,
        see: Callable[[Seen], None],
        shape: Callable[[Tensor], Tensor] = lambda weights: weights,
        wanted: Callable[[], bool] = lambda: True,
        rows: int | None = None,
    ):
        super().__init__()
        self.see, self.shape, self.wanted, self.rows = see, shape, wanted, rows
        self.watching = True
        # A tensor made of weights -> what was seen, and how often it and the weights were written to.
        self.after_softmax = WeakIdKeyDictionary()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if not self.watching:
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)

    def other(self, func, args: tuple, kwargs: dict):
        """Any other function: what becomes of weights on their way to the values."""
        used = [each for each in tensors(args, kwargs) if each in self.after_softmax]
        if not used:
            return func(*args, **kwargs)
        if multiplies(func, args, kwargs, self.after_softmax):
            self.see(self.kept(used[0]))
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        for each in tensors((out,), {}):
            if each.is_floating_point():
                self.keep(each, passed_on(func, self.kept(used[0]), each))
        return out

    def keep(self, tensor: Tensor, seen: Seen) -> None:
        """A tensor is what was seen, until it or the weights are written to."""
        self.after_softmax[tensor] = seen, times_written(tensor, seen.weights)

    def kept(self, tensor: Tensor) -> Seen:
        """What a tensor is, with a change more where it, or the weights, were written to since."""
        seen, before = self.after_softmax[tensor]
        if times_written(tensor, seen.weights) == before:
            return seen
        return Seen(seen.weights, [*seen.changed, "written in place"])

    def fused(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **kwargs):
        """`F.scaled_dot_product_attention`, as it is or in the open."""
        given = query, key, value, attn_mask, dropout_p, is_causal
        if not self.wanted():
            self.see(Seen(unmade(query, key)))
            return F.scaled_dot_product_attention(*given, scale=scale, **kwargs)
        if kwargs.get("enable_gqa"):  # each head of keys and values serves several of queries
            key, value = (repeated(each, query.shape[-3]) for each in (key, value))
        if query.device.type != "meta" and torch.is_autocast_enabled(query.device.type):
            dtype = torch.get_autocast_dtype(query.device.type)
            query, key, value = (each.to(dtype) for each in (query, key, value))
        with full_precision(query.device):
            if self.rows is None:
                return self.attend(query, key, value, attn_mask, dropout_p, is_causal, scale)
            weights = open_weights(query, key, attn_mask, is_causal, scale, self.rows)
            self.see(Seen(self.shape(weights), queries=query.shape[-2]))
        return F.scaled_dot_product_attention(*given, scale=scale, **kwargs)

    def attend(self, query, key, value, mask, dropout, causal, scale) -> Tensor:
        """Attention in the open: (…, queries, d), (…, keys, d), (…, keys, d) -> (…, queries, d)."""
        weights = open_weights(query, key, mask, causal, scale)
        seen = self.shape(weights)
        self.see(Seen(seen))
        return F.dropout(seen.reshape(weights.shape), dropout).to(value.dtype) @ value

    def softmax(self, func, *args, **kwargs):
        """A softmax as it is; of a low precision it is made in fp32, and rounded afterwards."""
        out = func(*args, **kwargs)
        given = args[0] if args else kwargs["input"]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if out.ndim < 3 or dim not in (-1, out.ndim - 1) or not out.is_floating_point():
            return out
        low = torch.finfo(out.dtype).bits < 32
        weights = self.shape(func(given, dim=-1, dtype=torch.float32) if low else out)
        out = weights.reshape(out.shape).to(out.dtype)
        if weights.is_inference():  # whose changes are not counted: what is seen is what they are now
            weights = weights.clone()
        self.keep(out, Seen(weights))
        return out


def uncompiled() -> AbstractContextManager:
    """A context in which what `torch.compile` made runs as it was written.

    Where nothing was compiled, the compiler is not imported for it, which takes seconds and 150 MB.
    """
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def open_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
    rows: int | None = None,
) -> Tensor:
    """softmax(q kᵀ · scale + mask) in at least fp32; a query that may see nothing has a row of zeros.

    Of the first `rows` queries alone, or of all.

    >>> open_weights(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), None, True, None)[0, 1]
    tensor([0.5000, 0.5000, 0.0000])
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query[..., :rows, :].to(dtype) * scale) @ key.to(dtype).mT
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is None:
        return scores.softmax(dim=-1)
    if mask.ndim > 1:
        mask = mask[..., :rows, :]
    hidden = mask.dtype == torch.bool
    return softmax_or_nothing(scores.masked_fill(~mask, -torch.inf) if hidden else scores + mask.to(dtype))


def softmax_or_nothing(input: Tensor, dim: int = -1, dtype: torch.dtype | None = None) -> Tensor:
    """A softmax in which a row that is minus infinity throughout becomes zeros, and no NaN.

    Modes are shown it as one function, as they are any softmax.

    >>> softmax_or_nothing(torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]]))
    tensor([[0.5000, 0.5000],
            [0.0000, 0.0000]])
    """
    if has_torch_function_unary(input):
        return handle_torch_function(softmax_or_nothing, (input,), input, dim=dim, dtype=dtype)
    nothing = (input == -torch.inf).all(dim=dim, keepdim=True)
    return input.masked_fill(nothing, 0).softmax(dim=dim, dtype=dtype).masked_fill(nothing, 0)


def unmade(query: Tensor, key: Tensor) -> Tensor:
    """A tensor without numbers of the shape that the weights would have, (…, queries, keys)."""
    return torch.empty(*query.shape[:-1], key.shape[-2], device="meta")


def repeated(heads: Tensor, number: int) -> Tensor:
    """Each head several times in a row, (…, h, T, d) -> (…, number, T, d)."""
    return heads.repeat_interleave(number // heads.shape[-3], dim=-3)


SOFTMAXES = {F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax, softmax_or_nothing}
PRODUCTS = {torch.matmul, torch.linalg.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}
FACTORS = ("input", "other", "mat2")  # as their parameters are named, in order
# What leaves weights what they are: dropout, precision and shape.
KEEPING = {
    F.dropout,
    torch.dropout,
    Tensor.to,
    Tensor.type,
    Tensor.type_as,
    Tensor.float,
    Tensor.half,
    Tensor.bfloat16,
    Tensor.double,
    Tensor.contiguous,
    Tensor.clone,
    torch.clone,
    Tensor.view,
    Tensor.reshape,
    torch.reshape,
    Tensor.flatten,
    torch.flatten,
    Tensor.unflatten,
    Tensor.unsqueeze,
    torch.unsqueeze,
    Tensor.squeeze,
    torch.squeeze,
}


def times_written(*tensors: Tensor) -> int:
    """How often tensors, or views of them, were changed in place; those of inference mode do not count it."""
    return sum(0 if tensor.is_inference() else tensor._version for tensor in tensors)


def passed_on(func: Callable, seen: Seen, out: Tensor) -> Seen:
    """What a tensor is that a function made of weights: the weights still, or something changed."""
    if func in KEEPING and out.shape[-2:] == seen.weights.shape[-2:]:
        return seen
    name = getattr(func, "__name__", str(func)).strip("_")
    return Seen(seen.weights, [*seen.changed, name])


def multiplies(func: Callable, args: tuple, kwargs: dict, weights: WeakIdKeyDictionary) -> bool:
    """Is this a product in which weights sum over what follows them, as over values?"""
    if func in PRODUCTS:
        first, second = (*args, *(kwargs[name] for name in FACTORS if name in kwargs))[:2]
        return first in weights and second.ndim > 1
    if func is torch.einsum and isinstance(args[0], str):
        return summed_over(args[0], [each in weights for each in flat(args[1:])])
    return False


def summed_over(equation: str, from_weights: list[bool]) -> bool:
    """Does an einsum of two sum over the last axis of the one that comes from weights?

    >>> summed_over("bhij,bhjd->bhid", [True, False]), summed_over("bhij,hg->bgij", [True, False])
    (True, False)
    """
    inputs, _, output = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    if len(names) != 2 or sum(from_weights) != 1:
        return False
    mine, other = names if from_weights[0] else reversed(names)
    return mine[-1] in other and mine[-1] not in output


def flat(args) -> list:
    """Arguments and what lies in lists of them."""
    return [each for arg in args for each in (arg if isinstance(arg, list | tuple) else [arg])]


def tensors(args: tuple, kwargs: dict) -> list[Tensor]:
    """The tensors among the arguments of a call."""
    return [each for each in flat([*args, *kwargs.values()]) if isinstance(each, Tensor)]


# The function's own code, told that nobody watches: called as it is, it would hand itself back to the mode.
unwatched_multi_head = types.FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda args: False},
    "multi_head_attention_forward",
    F.multi_head_attention_forward.__defaults__,
)
