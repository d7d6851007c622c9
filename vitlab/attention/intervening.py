"""Interventions: what a model answers without a head or a block, with patches hidden, moved or exchanged."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from vitlab.attention.altering import Altering
from vitlab.attention.block_tokens import check_count, check_positions, hidden, whole_block, with_tokens
from vitlab.attention.numbering import Heads, donor_asked, heads_asked, numbers, patches_of, rows_asked
from vitlab.attention.probing import shown
from vitlab.attention.reading import grey_of, looking_at, view_of
from vitlab.attention.seeing import uncompiled
from vitlab.attention.view import View, attach
from vitlab.attention.watching import Hook, pictures
from vitlab.vit import ViT


@contextmanager
def intervene(
    model: nn.Module | View,
    *,
    heads: Heads = (),
    blocks: int | Iterable[int] = (),
    patches: int | Iterable[int] = (),
    unseen: int | Iterable[int] = (),
    swap_rows: tuple[int, int] | None = None,
    donor: Tensor | None = None,
    donor_layer: int | None = None,
    donor_tokens: int | Iterable[int] | None = None,
) -> Iterator[None]:
    """While the block runs, `model` answers as if parts were taken away; afterwards it is as it was.

    Takes a `ViT`, a view of any other model, or a model that `attach` takes. Layers, heads, rows and patches
    count from 0, layers and blocks from the end as -1, -2, …; patches are in reading order, tokens begin with
    those before the patches.

    - `heads` are removed, {layer: heads} or (layer, head) pairs: what they add to the output is zero, as if
      their columns of the projection were; its bias stays.
    - `blocks` are skipped: what came in goes out.
    - `patches` are covered with the grey in the middle of what images hold.
    - `unseen` are patches whose keys get no weight from the class token's query, nor from the distillation
      token's where both are read, in any layer; what remains of the row is divided by its sum, as their
      scores are minus infinity before the softmax. Other tokens see them, and may tell.
    - `swap_rows` are two rows of the grid that exchange their position embeddings.
    - `donor` is one image (C, H, W), or one for each (B, C, H, W): what its tokens are as they enter block
      `donor_layer` takes the place of the image's own, all tokens or `donor_tokens`. The donor goes through
      the model as it is before this intervention.

    Contexts can be nested, and recordings and maps inside are of the changed model: a removed head's weights
    are zeros, in a skipped block each token sees itself alone. Raises ValueError for what is not there, and
    names what a view cannot do: blocks that are called in parts are not skipped, nor given other tokens.

    >>> from vitlab import ViTConfig
    >>> model = ViT(ViTConfig())
    >>> with intervene(model, heads={2: [0, 3]}, blocks=[-1], unseen=[24]):
    ...     logits = model(torch.zeros(2, 1, 28, 28))
    """
    view = seen_as_view(model)
    asked = Asked(
        view,
        heads_asked(view, heads),
        numbers(blocks, view.num_layers, "block", from_end=True),
        numbers(patches, patches_of(view), "patch"),
        numbers(unseen, patches_of(view), "patch"),
        None if swap_rows is None else rows_asked(view, swap_rows),
    )
    asked.check()
    layer, tokens = donor_asked(view, donor, donor_layer, donor_tokens)
    if donor is not None:
        asked.given = (layer, tokens, entering(view, donor, layer))
    with ExitStack() as undo:
        if "_orig_mod" in vars(view.model) or compiled(view.model):
            undo.enter_context(uncompiled())
        asked.attach(undo)
        yield


def seen_as_view(model: nn.Module | View) -> View:
    """A view of what `intervene` is given."""
    return view_of(model) if isinstance(model, View | ViT) else attach(model)


def compiled(model: nn.Module) -> bool:
    """Whether some part of a model was compiled in place."""
    return any(getattr(each, "_compiled_call_impl", None) is not None for each in model.modules())


def entering(view: View, donor: Tensor, layer: int) -> Tensor:
    """An image's tokens (B, T, D) as they enter a block."""
    kept: list[Tensor] = []
    images = donor[None] if donor.ndim == 3 else donor
    block = whole_block(view, layer, "other tokens cannot be put into it")
    keep = Hook(lambda module, args, kwargs: kept.append(hidden(view, args, kwargs)[2].clone()))
    with looking_at(view, images), torch.no_grad():
        handle = block.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            view(images)
        finally:
            handle.remove()
    return kept[-1]


@dataclass
class Asked:
    """What is asked of a view, checked: see `intervene`."""

    view: View
    heads: dict[int, list[int]]
    blocks: list[int]
    patches: list[int]
    unseen: list[int]
    rows: tuple[int, int] | None
    given: tuple[int, list[int] | slice, Tensor] | None = None
    ran: set[int] = field(default_factory=set)  # layers whose block was called in this forward pass

    def check(self) -> None:
        """Raise ValueError for what this model cannot do."""
        view, name = self.view, type(self.view.model).__name__
        for layer in self.blocks:
            whole_block(view, layer, "none can be skipped")
        if len({id(each) for each in view.description.blocks}) < view.num_layers and self.masked:
            whole_block(view, self.masked[0], "one layer cannot be told from another")
        if self.unseen and view.reads not in ("token", "pair", "token+mean"):
            raise ValueError(
                f"this {name} reads {view.reads or 'what nobody says'}, no class token, so there is none to "
                "hide a patch from; cover it, with patches="
            )
        if self.rows and not isinstance(view.model, ViT):
            check_positions(view)
        if self.rows and isinstance(view.model, ViT) and not hasattr(view.model, "pos_embed"):
            raise ValueError(
                f"this model adds no position embeddings (pos_embed={view.model.config.pos_embed!r}), so "
                "there are none to swap"
            )

    @property
    def masked(self) -> list[int]:
        """The layers in which a query sees less than everything."""
        return sorted({*self.heads, *self.blocks, *(range(self.view.num_layers) if self.unseen else ())})

    def attach(self, undo: ExitStack) -> None:
        """Put hooks on the model, which `undo` takes away again."""
        view, blocks = self.view, list(self.view.description.blocks)
        before = partial(with_hook, undo)
        door = view.model.patch_embed if isinstance(view.model, ViT) else view.model
        if self.patches or (self.rows and not isinstance(view.model, ViT)):
            before(door.register_forward_pre_hook, self.redraw, with_kwargs=True)
        if self.rows and isinstance(view.model, ViT):
            before(door.register_forward_hook, lambda module, args, out: self.swapped(out, 0))
        if self.rows:
            block = whole_block(view, 0, "position embeddings cannot be swapped")
            before(block.register_forward_pre_hook, self.swap_back, with_kwargs=True)
        if self.given:
            before(blocks[self.given[0]].register_forward_pre_hook, self.put_in, with_kwargs=True)
        for layer in self.masked:
            self.alter(undo, layer, blocks[layer])
        for layer in self.blocks:
            before(blocks[layer].register_forward_hook, self.pass_by, with_kwargs=True)
        if self.masked:
            before(view.model.register_forward_pre_hook, lambda *_: self.ran.clear())
            before(view.model.register_forward_hook, self.check_all_ran)

    def check_all_ran(self, module: nn.Module, args: tuple, output: object) -> None:
        """Raise ValueError where a forward pass went around a block that is to be changed."""
        if missing := sorted({*self.masked} - self.ran):
            raise ValueError(
                f"block {missing[0]} of {type(module).__name__} did not take part in this forward pass, so "
                "that nothing could be changed in it (some leave out blocks while they train)"
            )

    def alter(self, undo: ExitStack, layer: int, block: nn.Module) -> None:
        """Have a block's attention run under an `Altering`, which is the innermost of all modes then."""
        mode = Altering(self.mask_of(layer), self.view.heads[layer])
        parts = list(block.children()) if isinstance(block, nn.ModuleList) else [block]
        entered: list[nn.Module] = []

        def enter(module: nn.Module, args: tuple) -> None:
            if module is parts[0]:
                mode.seen = 0
            mode.__enter__()
            entered.append(module)

        def leave(module: nn.Module, args: tuple, output: object) -> None:
            if entered and entered[-1] is module:
                entered.pop()
                mode.__exit__(None, None, None)
            if output is None:  # an error, which goes its way
                return
            if module is parts[-1]:
                self.ran.add(layer)
                if mode.seen != mode.heads:
                    raise ValueError(
                        f"{mode.seen} of {mode.heads} heads were seen in block {layer} of "
                        f"{type(self.view.model).__name__}: its attention is not one that can be changed"
                    )

        for part in parts:
            with_hook(undo, part.register_forward_pre_hook, enter)
            with_hook(undo, part.register_forward_hook, leave, always_call=True)
        undo.enter_context(shown(block))

    def mask_of(self, layer: int):
        """What each query of each head may see, as a function of the tokens and the device."""
        made: dict[tuple[int, torch.device], Tensor] = {}
        count, prefix = self.view.heads[layer], self.view.num_prefix_tokens

        def mask(tokens: int, device: torch.device) -> Tensor:
            if (tokens, device) not in made:
                sees = torch.ones(count, tokens, tokens, dtype=torch.bool, device=device)
                if self.unseen:
                    check_count(self.view, tokens)
                    reading = 2 if self.view.reads == "pair" else 1
                    sees[:, :reading, [prefix + patch for patch in self.unseen]] = False
                if layer in self.blocks:
                    sees &= torch.eye(tokens, dtype=torch.bool, device=device)
                sees[self.heads.get(layer, [])] = False
                made[tokens, device] = sees
            return made[tokens, device]

        return mask

    def redraw(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Before the model: patches covered, and of another library's model the rows' pixels exchanged."""
        view, images = self.view, pictures(args, kwargs)
        if view.grid_of(tuple(images.shape[-2:])) != view.grid_size:
            rows, columns = view.grid_size
            raise ValueError(
                f"patches and rows are counted on the {rows} x {columns} grid of images of "
                f"{tuple(view.image_size)} pixels; got images of {tuple(images.shape[-2:])}"
            )
        height, width = view.description.patch_size
        made, grey = images.clone(), grey_of(view, images)
        for patch in self.patches:
            row, column = divmod(patch, view.grid_size[1])
            top, left = row * height, column * width
            made[..., top : top + height, left : left + width] = grey
        if self.rows and not isinstance(view.model, ViT):
            one, other = (slice(row * height, (row + 1) * height) for row in self.rows)
            made[..., one, :], made[..., other, :] = made[..., other, :].clone(), made[..., one, :].clone()
        swap = lambda each: made if each is images else each  # noqa: E731
        return tuple(map(swap, args)), {name: swap(each) for name, each in kwargs.items()}

    def swapped(self, tokens: Tensor, prefix: int) -> Tensor:
        """Tokens (B, T, D) whose patches of two rows of the grid are exchanged."""
        columns = self.view.grid_size[1]
        order = torch.arange(tokens.shape[1], device=tokens.device)
        one, other = (slice(prefix + row * columns, prefix + (row + 1) * columns) for row in self.rows)
        order[one], order[other] = order[other].clone(), order[one].clone()
        return tokens[:, order]

    def swap_back(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Before the first block: patches that got each other's positions stand in their places again."""
        tokens = hidden(self.view, args, kwargs)
        return with_tokens(args, kwargs, tokens, self.swapped(tokens[2], self.view.num_prefix_tokens))

    def put_in(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Before a block: the donor's tokens in the place of the image's own."""
        _, tokens, donor = self.given
        found = hidden(self.view, args, kwargs)
        if len(donor) not in (1, len(found[2])):
            raise ValueError(
                f"there is one donor for all images, or one for each of {len(found[2])}; got {len(donor)}"
            )
        made = found[2].clone()
        made[:, tokens] = donor[:, tokens].to(made)
        return with_tokens(args, kwargs, found, made)

    def pass_by(self, module: nn.Module, args: tuple, kwargs: dict, output: object):
        """After a block that is skipped: what came in goes out.

        What the block made is added zero times, so that a gradient that is asked for of it is zero.
        """
        tokens = hidden(self.view, args, kwargs)[2]
        tokens = tokens[:, :1] if kwargs.get("class_only") else tokens  # as vitlab's own block is asked
        made = output if isinstance(output, Tensor) else output[0] if isinstance(output, tuple) else None
        if not isinstance(made, Tensor) or made.shape != tokens.shape:
            raise ValueError(
                f"a block of {type(self.view.model).__name__} gives {type(output).__name__}, no tokens like "
                "those that came in: it cannot be skipped"
            )
        out = tokens + 0 * made if made.requires_grad else tokens
        return out if made is output else (out, *output[1:])


def with_hook(undo: ExitStack, register, function, **options) -> None:
    """Register a hook that `undo` removes, and that a copy of the model does without."""
    undo.callback(register(Hook(function), **options).remove)
