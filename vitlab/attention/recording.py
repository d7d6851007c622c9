"""Recording what a forward pass makes inside: attention weights, and more on request."""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from vitlab.attention.memory import bytes_of, check_memory, viewed_bytes
from vitlab.attention.probing import POOLING, observing
from vitlab.attention.view import View, attach
from vitlab.attention.watching import Hook, watching
from vitlab.encoder import Attention, Block, attention_scores
from vitlab.merging import refuse_merged
from vitlab.vit import ViT

HEADWISE = ("queries", "keys", "values", "scores")  # (B, heads, T, d), the scores (B, heads, T, T)
OUTPUTS = ("attention_outputs", "mlp_outputs", "block_outputs")  # (B, T, D)


@dataclass
class AttentionRecord:
    """Filled by the forward passes made inside `record_attention`.

    `record.weights` is also `record["weights"]`; what else was asked for has its name in the brackets.
    """

    passes: dict[str, list[list[Tensor]]]  # by name: one list a layer, one tensor a forward pass
    joined: dict[str, Tensor] = field(default_factory=dict)

    @property
    def weights(self) -> Tensor:
        """(L, B, heads, T, T) in fp32; rows are queries and sum to 1. Several passes are joined along B.

        With `rows="class"` the last two are (1, T). Raises ValueError while no forward pass was recorded.
        """
        return self["weights"]

    @property
    def layers(self) -> list[list[Tensor]]:
        """The weights as they came: one list a layer, one tensor (B, heads, T, T) a forward pass."""
        return self.passes["weights"]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.passes:
            raise ValueError(
                f"{name!r} was not recorded, only {', '.join(self.passes)}; record_attention(model, "
                f"also=[…]) takes {', '.join(HEADWISE + OUTPUTS)}"
            )
        layers = self.passes[name]
        if not any(layers):
            raise ValueError(
                "no forward pass was recorded; call model(images) inside `with record_attention(model)`"
            )
        if len({len(passes) for passes in layers}) > 1:
            raise ValueError(
                f"not every recorded layer took part in every forward pass ({[len(p) for p in layers]} times)"
            )
        if name not in self.joined or len(layers[0]) > 1:
            self.joined[name] = join(layers)
        return self.joined[name]


def join(layers: list[list[Tensor]]) -> Tensor:
    """Stack layers, each joined along B. Without gradients they are moved, so that memory holds them once."""
    if any(tensor.requires_grad for passes in layers for tensor in passes):
        return torch.stack([torch.cat(passes) for passes in layers])
    first = layers[0][0]
    images = sum(len(tensor) for tensor in layers[0])
    whole = first.new_empty(len(layers), images, *first.shape[1:])
    for place, passes in zip(whole, layers, strict=True):
        torch.cat(passes, out=place)
        passes[:] = [place]
    return whole


@contextmanager
def record_attention(
    model: nn.Module | View,
    layers: Iterable[int] | None = None,
    also: Iterable[str] = (),
    rows: str = "all",
    memory_limit: float | None = None,
) -> Iterator[AttentionRecord]:
    """Record the attention weights of every layer while the block runs; afterwards nothing is left behind.

    Takes any Vision Transformer: vitlab's own, or one that `attach` takes, or its view. The weights are
    those that the model uses, so gradients can be taken through them. `layers` chooses some, counted from 0,
    or from the end as -1, -2, …; the record has them in the order asked for. With `rows="class"` only the
    class token's row of weights and scores is kept, (L, B, heads, 1, T).

    Of vitlab's own ViT `also` names what else to keep: "queries", "keys", "values" (L, B, heads, T, d),
    "scores" before the softmax, made again from queries and keys, and "attention_outputs", "mlp_outputs",
    "block_outputs" (L, B, T, D). Of another model that pools by attention, `record["pooling"]` has the
    pooling's own weights, (1, B, heads, queries, keys).

    `recording_bytes` says what a recording will take. One of more than half a gigabyte warns before it
    starts, and one larger than `memory_limit` bytes (default: the memory that is free) is refused. Raises
    ValueError for that, for a model that `attach` refuses, and for a layer that is not there.

    >>> from vitlab import ViT, ViTConfig
    >>> model = ViT(ViTConfig())
    >>> with record_attention(model, layers=[0, -1], also=["block_outputs"]) as record, torch.no_grad():
    ...     logits = model(torch.zeros(2, 1, 28, 28))
    >>> record.weights.shape, record["block_outputs"].shape
    (torch.Size([2, 2, 4, 50, 50]), torch.Size([2, 2, 50, 96]))
    """
    also, layers = check_names(also, rows), None if layers is None else as_list(layers)
    own = model.model if isinstance(model, View) else model
    refuse_merged(own)
    if any(isinstance(module, Attention) for module in own.modules()):
        recording = observed(own, layers, also, rows, memory_limit)
    else:
        view = model if isinstance(model, View) else attach(model)
        recording = watched(view, layers, also, rows, memory_limit)
    with recording as record:
        yield record


@contextmanager
def observed(
    model: nn.Module, layers: list[int] | None, also: list[str], rows: str, memory_limit: float | None
) -> Iterator[AttentionRecord]:
    """`record_attention` of vitlab's own layers, which call their observers.

    On a CPU their gradient is written out in one function, inside which no function of PyTorch leads from the
    weights to the output; so what sees other models' attention would see weights without a gradient here.
    """
    numbers, attentions = chosen(model, Attention, layers)
    blocks = chosen(model, Block, layers)[1] if {*also} & {*OUTPUTS} else []
    if rows == "class" and isinstance(model, ViT) and not model.config.num_prefix_tokens:
        raise ValueError("this model has no class token; record all rows, with rows='all'")
    record = AttentionRecord({name: [[] for _ in attentions] for name in ("weights", *also)})
    first = attentions[numbers.index(min(numbers))]
    with ExitStack() as undo:
        guard = partial(check_own_memory, record, attentions, rows, memory_limit)
        undo.enter_context(first.register_forward_pre_hook(Hook(guard)))
        for layer, attention in enumerate(attentions):
            keep = {name: passes[layer].append for name, passes in record.passes.items()}
            undo.enter_context(observing(attention, partial(keep_weights, keep, rows)))
            if {*also} & {*HEADWISE}:
                keep_these = Hook(partial(keep_heads, attention, keep, rows))
                undo.enter_context(attention.qkv.register_forward_hook(keep_these))
        for layer, block in enumerate(blocks):
            undo.enter_context(block.register_forward_pre_hook(Hook(all_tokens), with_kwargs=True))
            for name, module in zip(OUTPUTS, (block.attn, block.mlp, block), strict=True):
                if name in also:
                    keep = record.passes[name][layer].append
                    undo.enter_context(module.register_forward_hook(Hook(partial(keep_output, keep))))
        yield record


@contextmanager
def watched(
    view: View, layers: list[int] | None, also: list[str], rows: str, memory_limit: float | None
) -> Iterator[AttentionRecord]:
    """`record_attention` of any other model, through the functions that it calls."""
    check_recordable(view, also, rows)
    numbers = checked_layers(layers, view.num_layers)
    record = AttentionRecord({"weights": [[] for _ in numbers]})
    places = dict(zip(numbers, record.passes["weights"], strict=True))
    take = dict.fromkeys(numbers, partial(rows_kept, rows))
    if POOLING in view.plan:
        record.passes["pooling"] = [[]]
        places[POOLING] = record.passes["pooling"][0]
        take[POOLING] = partial(rows_kept, "all")

    def before(images: int, tokens: int, device: torch.device) -> None:
        needed = viewed_bytes(view, numbers, rows, images, tokens)
        check_memory(record.passes, needed, len(numbers), images, tokens, device, memory_limit)

    def done(gathered: dict) -> None:
        for number, weights in gathered.items():
            places[number].append(weights)

    with watching(view, take, done, before, all_open=True):
        yield record


def check_recordable(view: View, also: list[str], rows: str) -> None:
    """Raises ValueError for what is not recorded of a model that is not made of vitlab's layers."""
    if also:
        raise ValueError(
            f"also is for vitlab's own ViT; of a {type(view.model).__name__} weights are recorded"
        )
    if rows == "class" and view.reads not in (None, "token", "pair", "token+mean"):
        raise ValueError(f"this model reads {view.reads}, no class token; record all rows, with rows='all'")


def as_list(one_or_more) -> list:
    """A list of what is a number, a word, or several."""
    return [one_or_more] if isinstance(one_or_more, int | str) else list(one_or_more)


def check_names(also: Iterable[str], rows: str) -> list[str]:
    """`also` as a list without repetition; raises ValueError for names that there are not."""
    also = list(dict.fromkeys(as_list(also)))
    for name in also:
        if name not in HEADWISE + OUTPUTS:
            raise ValueError(f"also takes {', '.join(HEADWISE + OUTPUTS)}; got {name!r}")
    if rows not in ("all", "class"):
        raise ValueError(f"rows is 'all' or 'class'; got {rows!r}")
    return also


def chosen(
    model: nn.Module, kind: type[nn.Module], layers: Iterable[int] | None
) -> tuple[list[int], list[nn.Module]]:
    """The numbers, from 0, of the layers asked for, and the module of this kind in each."""
    found = [module for module in model.modules() if isinstance(module, kind)]
    if not found:
        what = "attention" if kind is Attention else "output of a block"
        raise ValueError(
            f"{type(model).__name__} has no vitlab.{kind.__name__} layer, so there is no {what} to record"
        )
    numbers = checked_layers(layers, len(found))
    return numbers, [found[number] for number in numbers]


def checked_layers(layers: Iterable[int] | None, depth: int) -> list[int]:
    """The numbers, from 0, of the layers asked for; raises ValueError for one that is not there.

    >>> checked_layers([0, -1], 12), checked_layers(None, 3)
    ([0, 11], [0, 1, 2])
    """
    numbers = list(range(depth)) if layers is None else as_list(layers)
    for number in numbers:
        if not isinstance(number, int) or not -depth <= number < depth:
            raise ValueError(
                f"this model's layers are 0 to {depth - 1}, or -1 to {-depth} from the end; got {number!r}"
            )
    numbers = [number % depth for number in numbers]
    if not numbers or len({*numbers}) < len(numbers):
        raise ValueError(f"layers names one or more different layers; got {layers!r}")
    return numbers


def rows_kept(rows: str, weights: Tensor) -> Tensor:
    return weights if rows == "all" else weights[:, :, :1].clone()


def keep_weights(keep: dict, rows: str, weights: Tensor) -> None:
    keep["weights"](rows_kept(rows, weights))


def keep_heads(attention: Attention, keep: dict, rows: str, module, args, qkv: Tensor) -> None:
    """A hook on the one matrix from which queries, keys and values come."""
    made = dict(zip(HEADWISE, attention.heads(qkv), strict=False))
    if "scores" in keep:
        scores = attention_scores(made["queries"], made["keys"])
        made["scores"] = scores if rows == "all" else scores[:, :, :1]
    for name in made.keys() & keep.keys():
        keep[name](made[name].clone())  # the three are views of one tensor, which would be kept whole


def keep_output(keep, module, args, output: Tensor) -> None:
    keep(output)


def all_tokens(block: Block, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """A hook that has the last block make all tokens, where the model would read the class token alone."""
    return args[:1], {}


def recording_bytes(
    model: nn.Module | View,
    batch_size: int,
    layers: Iterable[int] | None = None,
    also: Iterable[str] = (),
    rows: str = "all",
) -> int:
    """Bytes that `record_attention` with the same arguments keeps of one forward pass, in fp32.

    Of images of the size that the model was made for. For a model on the meta device, too. Raises ValueError
    where `record_attention` does.

    >>> from vitlab import ViTConfig
    >>> with torch.device("meta"):
    ...     model = ViT(ViTConfig.from_name("B/16"))
    >>> recording_bytes(model, batch_size=32), recording_bytes(model, batch_size=32, rows="class")
    (715327488, 3631104)
    """
    also, own = check_names(also, rows), model.model if isinstance(model, View) else model
    refuse_merged(own)
    if isinstance(own, ViT):
        tokens = own.config.num_tokens
    else:
        view = model if isinstance(model, View) else attach(model)
        tokens = math.prod(view.grid_size) + view.num_prefix_tokens
    if any(isinstance(module, Attention) for module in own.modules()):
        return bytes_of(chosen(own, Attention, layers)[1], ["weights", *also], rows, batch_size, tokens)
    check_recordable(view, also, rows)
    return viewed_bytes(view, checked_layers(layers, view.num_layers), rows, batch_size, tokens)


def check_own_memory(
    record: AttentionRecord, attentions: list[Attention], rows: str, limit: float | None, module, args: tuple
) -> None:
    """A hook before a forward pass's first attention."""
    images, tokens, _ = args[0].shape
    needed = bytes_of(attentions, record.passes, rows, images, tokens)
    check_memory(record.passes, needed, len(attentions), images, tokens, args[0].device, limit)
