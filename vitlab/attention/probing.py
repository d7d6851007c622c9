"""One look at a model before anything is recorded: which attention is a layer, which token a patch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from vitlab.attention.describing import Description
from vitlab.attention.refusing import check_global, check_unchanged, heads_of
from vitlab.attention.seeing import Seeing, Seen, uncompiled
from vitlab.encoder import Attention
from vitlab.vit import evaluating

POOLING = -1  # in a plan, where a layer's number stands otherwise
PROBES = 3  # images: one, another, and the first with one patch changed


@torch.no_grad()
def probe(model: nn.Module, description: Description) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """For each attention of a forward pass, in order, the number of its layer, or `POOLING`; and its heads.

    Of each pooling also the rows, heads x queries, and how many of its keys are no patches.

    Raises ValueError where the model has no global attention, where something other than one layer a block
    and a pooling was seen, or where the patches are not in reading order behind the prefix.
    """
    grid, seen = description.grid(description.image_size), []
    with evaluating(model), torch.random.fork_rng(devices=[]), inside(model) as active:
        seeing = Seeing(lambda each: seen.append((kept_of(each, first=not seen), list(active))))
        with uncompiled(), torch.inference_mode(False), torch.no_grad(), seeing:
            images = probe_images(model, description)
            try:
                description.call(model, images)
            except (
                RuntimeError,
                AssertionError,
                LookupError,
                TypeError,
                ValueError,
                AttributeError,
            ) as error:
                raise ValueError(
                    f"{type(model).__name__} cannot be run on images of shape {tuple(images.shape)}: {error}"
                ) from error
    if not seen:
        raise ValueError(
            f"no attention was seen in {type(model).__name__}: it has none, or none that is a softmax over "
            "its last axis, or it goes through a kernel that no function of PyTorch shows (flash-attn, "
            "xFormers, flex_attention); load it with PyTorch's own, in transformers "
            "attn_implementation='sdpa'"
        )
    for each, _ in seen:
        check_unchanged(each.changed)
    weights_seen = [heads_of(each.weights, len(images)) for each, _ in seen]
    plan, kept, pooling = planned(model, description, seen), [], []
    for step, weights in zip(plan, weights_seen, strict=True):
        if step == POOLING:
            check_pooling(weights, grid, description.num_prefix_tokens)
            _, heads, queries, keys = weights.shape
            pooling.append((heads * queries, keys - grid[0] * grid[1]))
        else:
            check_global(*weights.shape[-2:], grid, description.num_prefix_tokens)
            kept.append(weights)
    check_order(kept[0], grid, description.num_prefix_tokens)
    return plan, [weights.shape[1] for weights in weights_seen], pooling


def kept_of(seen: Seen, first: bool) -> Seen:
    """What is kept of an attention: the weights of the first, whose order is looked at; else a shape."""
    return seen if first else Seen(torch.empty_like(seen.weights, device="meta"), seen.changed)


def probe_images(model: nn.Module, description: Description) -> Tensor:
    """Three images of noise, (3, C, H, W); the last is the first, but for the last patch of the first row."""
    numbers = [each for each in (*model.parameters(), *model.buffers()) if each.is_floating_point()]
    first = numbers[0] if numbers else torch.empty(0)
    size = (2, description.channels, *description.image_size)
    images = torch.randn(size, generator=torch.Generator().manual_seed(0))
    changed = images[:1].clone()
    (height, width), columns = description.patch_size, description.grid(description.image_size)[1]
    changed[:, :, :height, (columns - 1) * width : columns * width] = images[
        1:, :, :height, (columns - 1) * width : columns * width
    ]
    return torch.cat([images, changed]).to(first)


@contextmanager
def inside(model: nn.Module) -> Iterator[list[nn.Module]]:
    """A list of the modules whose forward pass is under way, the outermost first, kept up by hooks."""
    active: list[nn.Module] = []
    with ExitStack() as undo:
        for module in model.modules():
            undo.enter_context(module.register_forward_pre_hook(lambda module, args: active.append(module)))
            leave = module.register_forward_hook(lambda *_: void(active.pop()), always_call=True)
            undo.enter_context(leave)
        undo.enter_context(shown(model))
        yield active


@contextmanager
def shown(model: nn.Module) -> Iterator[None]:
    """Have vitlab's own layers go through PyTorch's attention, which can be seen, while the block runs."""
    layers = [each for each in model.modules() if isinstance(each, Attention) and not each.visible]
    try:
        for layer in layers:
            layer.visible = True
        yield
    finally:
        for layer in layers:
            layer.visible = False


@contextmanager
def observing(attention: Attention, observer: Callable[[Tensor], None]) -> Iterator[None]:
    """Have an attention layer call `observer` with its weights while the block runs."""
    attention.observers.append(observer)
    try:
        yield
    finally:
        attention.observers.remove(observer)


def void(_) -> None:
    """Nothing, as what a hook returns would take the output's place."""


def planned(
    model: nn.Module, description: Description, seen: Sequence[tuple[Seen, list[nn.Module]]]
) -> list[int]:
    """The plan of `probe`, from the blocks that the object names, or those that are found in it."""
    if description.blocks is not None and len(description.blocks):
        return by_block(description.blocks, description.parallel, seen)
    lists = [each for each in model.modules() if isinstance(each, nn.ModuleList | nn.Sequential)]
    problems = []
    for blocks in lists:
        if len(blocks) and len({type(block) for block in blocks}) == 1:
            try:
                plan = by_block(blocks, description.parallel, seen)
            except ValueError as error:
                problems.append((sum(owner != POOLING for owner in owners(blocks, seen)), error))
            else:
                description.blocks = blocks  # known from here on
                return plan
    if problems:
        raise max(problems, key=lambda problem: problem[0])[1]
    raise ValueError(
        f"{type(model).__name__} has no list of blocks (nn.ModuleList or nn.Sequential), so it cannot be "
        "told whether each of its layers was seen"
    )


def by_block(blocks: Sequence[nn.Module], parallel: bool, seen: Sequence[tuple]) -> list[int]:
    """A plan for blocks each of which has one attention, or several side by side where that is known."""
    plan = owners(blocks, seen)
    repeated = {id(block) for block in blocks}
    if len(repeated) < len(blocks):  # one block used again and again: its calls are the layers
        plan = in_turn(plan)
    counts = [plan.count(number) for number in range(len(blocks))]
    each = counts[0] if parallel else 1
    if each == 0 or any(count != each for count in counts):
        alike = counts[0] > 1 and len({*counts}) == 1
        why = "several in each, as where a block takes the difference of two (differential attention)"
        raise ValueError(
            f"of {len(blocks)} blocks ({type(blocks[0]).__name__}), each with one attention between all "
            f"patches, these numbers of attentions were seen: {counts}; "
            + (why if alike else "not all of this is global attention")
        )
    layers = [step for step in plan if step != POOLING]
    if layers != sorted(layers) or plan[: len(layers)] != layers:
        raise ValueError("attention was seen outside the blocks, before or between them")
    return plan


def owners(blocks: Sequence[nn.Module], seen: Sequence[tuple]) -> list[int]:
    """For each attention the number of the block that was under way, or `POOLING` where none was."""
    owner: dict[int, int] = {}
    for number, block in enumerate(blocks):
        for part in block.modules():
            owner.setdefault(id(part), number)
    return [next((owner[id(part)] for part in active if id(part) in owner), POOLING) for _, active in seen]


def in_turn(plan: list[int]) -> list[int]:
    """Layers counted as they come, poolings left.

    >>> in_turn([0, 0, 0, -1])
    [0, 1, 2, -1]
    """
    return [POOLING if step == POOLING else number for number, step in enumerate(plan)]


def check_pooling(weights: Tensor, grid: tuple[int, int], prefix: int) -> None:
    """Raises ValueError for weights outside the blocks that are not a pooling's over the patches."""
    queries, keys = weights.shape[-2:]
    patches = grid[0] * grid[1]
    if keys not in (patches, patches + prefix) or queries >= patches:
        raise ValueError(
            f"attention of {queries} queries to {keys} keys was seen outside the blocks; what pools the "
            f"patches has few queries and {patches} keys, or {patches + prefix} with the prefix"
        )


def check_order(weights: Tensor, grid: tuple[int, int], prefix: int) -> None:
    """Raises ValueError where the patch that was changed is not the token that reading order says.

    The row of the changed token changes as a whole; that of another by its normalisation alone, but for the
    one column. Where no other row changes at all, queries do not meet keys: so it is with linear attention.
    `weights` (3, heads, T, T) are the first layer's for `probe_images`.
    """
    if weights.is_meta or weights.shape[-1] < 3:
        return
    before, after = (each.double().clamp(min=1e-30).log() for each in (weights[0], weights[2]))
    change, expected = after - before, prefix + grid[1] - 1
    others = torch.arange(len(change[0])) != expected
    if change.any() and not change[:, others].any() and weights[0, :, others, expected].any():
        raise ValueError("the weights of other queries do not change with a patch: this is linear attention")
    change = (change - change.median(dim=-1, keepdim=True).values).abs().median(dim=-1).values.sum(dim=0)
    here, found = float(change[expected]), int(change.argmax())
    if float(change[others].median()) > max(here / 2, 1e-6):
        raise ValueError(
            "one patch changes the weights of all tokens alike: the attention is not between patches, as "
            "between channels, or they were mixed before"
        )
    if found != expected and float(change[found]) > max(10 * here, 1e-6):
        raise ValueError(
            f"the last patch of the first row is token {found}, not {expected}: the tokens are not {prefix} "
            f"prefix tokens and then a {grid[0]} x {grid[1]} grid in reading order"
        )
