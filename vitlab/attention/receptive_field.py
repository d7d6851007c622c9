"""How far a unit sees (claim 7): the effective receptive field of a ViT and of a CNN, in the same pixels."""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from vitlab.attention.gradient_maps import differentiable
from vitlab.attention.reading import looking_at, view_of
from vitlab.attention.view import View
from vitlab.attention.watching import Hook
from vitlab.data import normalise
from vitlab.merging import refuse_merged
from vitlab.resnet import ResNet
from vitlab.runtime import Run
from vitlab.vit import ViT, evaluating


def effective_receptive_field(model: nn.Module | View, images: Tensor) -> Tensor:
    """What each pixel does to a unit at the centre, at each depth: (B, C, H, W) -> (depths, H, W).

    Luo et al. 2016 (arXiv 1701.04128, section 3): the gradient of the unit, here the sum of its channels,
    with respect to the pixels; its size, summed over the image's channels, mean over images, and made to sum
    to 1. The depths are, of a `ViT`, the patch embedding and each block, where the unit is the patch in the
    middle; of a `ResNet`, the stem and each block; of an `nn.Sequential`, its parts. The more images, the
    smoother. Raises ValueError for another model, or where a unit sees nothing.

    >>> box = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    >>> _ = nn.init.ones_(box.weight)
    >>> effective_receptive_field(nn.Sequential(box), torch.zeros(1, 1, 5, 5))[0, 2]
    tensor([0.0000, 0.1111, 0.1111, 0.1111, 0.0000])
    """
    fields = []
    if isinstance(model, View) and isinstance(model.model, ViT):
        model = model.model
    looking = looking_at(model, images) if isinstance(model, View) else evaluating(model)
    with looking, differentiable(images) as inputs:
        for output in outputs_by_depth(model, inputs):
            unit = central_unit(output, model, images)  # (B, channels)
            (gradient,) = torch.autograd.grad(unit.sum(), inputs, retain_graph=True)
            field = gradient.abs().sum(dim=1)  # (B, H, W)
            total = field.sum(dim=(1, 2), keepdim=True)
            if not (total > 0).all():
                raise ValueError(f"no pixel changes the unit at depth {len(fields)}, counted from 0")
            fields.append((field / total).mean(dim=0))
    return torch.stack(fields)


def box_filters(depth: int) -> nn.Sequential:
    """Convolutions of 3 × 3 that take means, stacked: what such a stack can see is known.

    >>> round(box_filters(2)(torch.ones(1, 1, 5, 5))[0, 0, 2, 2].item(), 6)
    1.0
    """
    boxes = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(depth)))
    for box in boxes:
        nn.init.constant_(box.weight, 1 / 9)
    return boxes


def fields_new_and_trained(network: ViT | ResNet, images: Tensor, run: Run) -> dict[str, Tensor]:
    """Effective receptive fields by depth for uint8 images: of a network, and of one like it, new."""
    torch.manual_seed(run.seed)
    both = {"new": type(network)(network.config), "trained": network}
    inputs = normalise(images.to(run.device))
    return {kind: effective_receptive_field(each.to(run.device), inputs).cpu() for kind, each in both.items()}


def field_table(fields: dict[str, dict[str, Tensor]]) -> str:
    """Of each network, name -> kind -> (depths, H, W), how far its units see, by depth, in pixels.

    >>> print(field_table({"ViT": {"new": torch.ones(2, 1, 2), "trained": torch.ones(2, 1, 4)}}))
    ViT    new      0.5  0.5
    ViT    trained  1.0  1.0
    """
    return "\n".join(
        f"{name:<6} {kind:<7} " + " ".join(f"{radius:4.1f}" for radius in field_radius(found).tolist())
        for name, of_both in fields.items()
        for kind, found in of_both.items()
    )


def field_radius(fields: Tensor) -> Tensor:
    """How far a field reaches in pixels, as attention's mean distance: (..., H, W) -> (...).

    The mean distance of its pixels from its centre of gravity, weighted by the field.

    >>> field_radius(torch.tensor([[0.0, 0.5, 0.0, 0.5]]))
    tensor(1.)
    """
    height, width = fields.shape[-2:]
    weights = fields.cpu().double()  # not every accelerator has doubles
    weights = weights / weights.sum(dim=(-2, -1), keepdim=True)
    y = torch.arange(height, dtype=weights.dtype)[:, None]
    x = torch.arange(width, dtype=weights.dtype)
    middle_y, middle_x = ((weights * axis).sum(dim=(-2, -1), keepdim=True) for axis in (y, x))
    distances = torch.hypot(y - middle_y, x - middle_x)
    return (weights * distances).sum(dim=(-2, -1)).to(fields)


def outputs_by_depth(model: nn.Module | View, images: Tensor) -> list[Tensor]:
    """What the parts of a model make one after the other."""
    if isinstance(model, View):
        return tokens_by_depth(model, images)
    if isinstance(model, ViT):
        refuse_merged(model)
        outputs, parts = [model.embed(images)], model.blocks
    elif isinstance(model, ResNet):
        outputs, parts = [model.stem(images)], model.blocks
    elif isinstance(model, nn.Sequential):
        outputs, parts = [model[0](images)], model[1:]
    else:
        raise ValueError(
            f"effective_receptive_field takes a vitlab ViT or ResNet, an nn.Sequential, or a view of another "
            f"ViT, attach(model); got a {type(model).__name__}"
        )
    for part in parts:
        outputs.append(part(outputs[-1]))
    return outputs


def tokens_by_depth(view: View, images: Tensor) -> list[Tensor]:
    """What the first block of a view's model is given, and what each block makes: each (B, T, D)."""
    blocks = list(dict.fromkeys(view.description.blocks))  # one may be used again and again
    in_parts = all(isinstance(block, nn.ModuleList) for block in blocks)
    outputs = of_parts(view, images, blocks) if in_parts else of_blocks(view, images, blocks)
    (rows, columns), name = view.grid_of(tuple(images.shape[-2:])), type(view.model).__name__
    if len(outputs) != view.num_layers + 1:
        raise ValueError(
            f"the blocks of this {name} are not called as a whole, so what each makes is not seen: of "
            f"{view.num_layers}, {max(len(outputs) - 1, 0)} were"
        )
    expected = (len(images), view.num_prefix_tokens + rows * columns)
    for output in outputs:
        if output.ndim != 3 or output.shape[:2] != expected:
            raise ValueError(
                f"a block of this {name} makes {tuple(output.shape)}, where tokens are {expected} and a width"
            )
    return outputs


def of_blocks(view: View, images: Tensor, blocks: list[nn.Module]) -> list[Tensor]:
    """The tokens before and after each block, of blocks that are called as a whole."""
    outputs: list[Tensor] = []

    def before(block: nn.Module, args: tuple, kwargs: dict) -> None:
        if not outputs:
            outputs.append(first_tensor(args, kwargs))

    def after(block: nn.Module, args: tuple, output) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as undo:
        for block in blocks:
            undo.enter_context(block.register_forward_pre_hook(Hook(before), with_kwargs=True))
            undo.enter_context(block.register_forward_hook(Hook(after)))
        view(images)
    return outputs


ENDS = (lambda given, made: given + made, lambda given, made: made)  # what a block's last part may leave


def of_parts(view: View, images: Tensor, blocks: list[nn.ModuleList]) -> list[Tensor]:
    """The same of blocks that are lists of parts, as vit-pytorch's, which no call shows as a whole.

    What a block makes is what the next one's first part is given. That of the last is what the model makes of
    its last part's input and output, their sum or the output, as is seen in the blocks before it. Raises
    ValueError where that is not seen.
    """
    given: list[Tensor] = []
    last: list[tuple[Tensor, Tensor]] = []
    begin = Hook(lambda part, args, kwargs: given.append(first_tensor(args, kwargs)))
    end = Hook(lambda part, args, kwargs, made: last.append((first_tensor(args, kwargs), made)))
    with ExitStack() as undo:
        for block in blocks:
            undo.enter_context(block[0].register_forward_pre_hook(begin, with_kwargs=True))
            undo.enter_context(block[-1].register_forward_hook(end, with_kwargs=True))
        view(images)
    whole = len(given) == len(last) > 1 and all(isinstance(made, Tensor) for _, made in last)
    for left in ENDS if whole else ():
        pairs = [(left(*end), tokens) for end, tokens in zip(last, given[1:], strict=False)]
        if all(made.shape == tokens.shape and torch.allclose(made, tokens) for made, tokens in pairs):
            return [*given, left(*last[-1])]
    raise ValueError(
        f"the blocks of this {type(view.model).__name__} are lists of parts, and what their model makes of a "
        f"block's last part is not seen{'' if len(given) > 1 else ', as there is one block alone'}"
    )


def first_tensor(args: tuple, kwargs: dict) -> Tensor:
    """The tokens among what a block is called with."""
    return next(each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))


def central_unit(output: Tensor, model: nn.Module | View, images: Tensor) -> Tensor:
    """The unit in the middle of a ViT's tokens (B, T, D) or a feature map (B, channels, h, w)."""
    if isinstance(model, ViT | View):
        view = view_of(model)
        rows, columns = view.grid_of(tuple(images.shape[-2:]))
        return output[:, view.num_prefix_tokens + rows // 2 * columns + columns // 2]
    return output[:, :, output.shape[2] // 2, output.shape[3] // 2]
