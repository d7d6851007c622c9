"""`attach`: a view of any Vision Transformer, through which its attention can be recorded and drawn."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vitlab.attention.describing import Description
from vitlab.attention.libraries import describe
from vitlab.attention.probing import POOLING, probe
from vitlab.patches import as_pair
from vitlab.vit import ViT

OUTPUTS = ("logits", "image_embeds", "pooler_output", "last_hidden_state")


class View:
    """A model with what is known of it; made by `attach`. The model itself stays as it is."""

    def __init__(
        self,
        model: nn.Module,
        description: Description,
        plan: list[int],
        heads: list[int],
        pooling: Sequence[tuple[int, int]] = (),
    ):
        self.model, self.description, self.plan, self.pooling = model, description, plan, pooling
        steps = [(number, count) for number, count in zip(plan, heads, strict=True) if number != POOLING]
        self.heads = [
            sum(count for number, count in steps if number == layer) for layer in range(max(plan) + 1)
        ]

    def __call__(self, images: Tensor) -> Tensor:
        """The model's own output for images (B, C, H, W), at any size that the model takes.

        Where it gives an object with names, this is the first of `logits`, `image_embeds`, `pooler_output`
        and `last_hidden_state` that it has.
        """
        return output_tensor(self.description.call(self.model, images), self.model)

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> floats as the model was trained on, (x / 255 - mean) / std.

        Raises ValueError for other images, and where neither object nor user said mean and deviation.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != self.channels:
            raise ValueError(
                f"images are uint8 of shape (B, {self.channels}, H, W); got {images.dtype} "
                f"{tuple(images.shape)}"
            )
        mean, std = self._normalised_with(images)
        return (images.float() / 255 - mean) / std

    def pictures(self, images: Tensor) -> Tensor:
        """The way back: images (..., C, H, W) as the model takes them -> uint8, as they look.

        Raises ValueError where neither object nor user said mean and deviation.
        """
        mean, std = self._normalised_with(images)
        return ((images.detach().float() * std + mean) * 255).round().clamp(0, 255).byte()

    def _normalised_with(self, images: Tensor) -> list[Tensor]:
        if self.mean is None or self.std is None:
            raise ValueError("nobody said what the images are normalised with: attach(model, mean=…, std=…)")
        return [torch.tensor(each, device=images.device)[:, None, None] for each in (self.mean, self.std)]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels, for which the model was made."""
        return self.description.image_size

    @property
    def patch_size(self) -> int | tuple[int, int]:
        """In pixels; (height, width) where they differ."""
        height, width = self.description.patch_size
        return height if height == width else (height, width)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches at `image_size`."""
        return self.grid_of(self.image_size)

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches in a picture of (height, width) pixels."""
        return self.description.grid(size)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: class, distillation, registers."""
        return self.description.num_prefix_tokens

    @property
    def num_layers(self) -> int:
        """The blocks, and the layers of a recording."""
        return len(self.heads)

    @property
    def reads(self) -> str | None:
        """What the output is made of, as in `Description`; None where neither object nor user said."""
        return self.description.reads

    @property
    def classifies(self) -> bool | None:
        """Whether the output is one logit a class; None where nobody says."""
        return self.description.classifies

    @property
    def side_by_side(self) -> bool:
        """Whether blocks have several attentions side by side."""
        return sum(step != POOLING for step in self.plan) > self.num_layers

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.description.channels

    @property
    def mean(self) -> tuple[float, ...] | None:
        """What the model's images were normalised with, for values in [0, 1]; None where nobody said."""
        return self.description.mean

    @property
    def std(self) -> tuple[float, ...] | None:
        """The deviation that goes with `mean`."""
        return self.description.std

    def __repr__(self) -> str:
        rows, columns = self.grid_size
        return (
            f"View({type(self.model).__name__}: {self.num_layers} layers, {rows} x {columns} patches of "
            f"{self.patch_size} px, {self.num_prefix_tokens} prefix tokens, reads {self.reads})"
        )


def attach(
    model: nn.Module,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    num_prefix_tokens: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    reads: str | None = None,
    channels: int | None = None,
) -> View:
    """A view of a Vision Transformer, any `nn.Module`, without a change to it.

    What an object of vitlab, timm, torchvision, transformers, open_clip or vit-pytorch says of itself is read
    from it; what it does not say is a keyword. The model is run once on three images of noise of
    `image_size`, to see that each block has one attention between all patches and the prefix, and that
    patches come in reading order after the prefix. Raises ValueError where that is not so (windows, linear
    attention, talking heads), naming what was seen, and where something has to be known that nobody says.
    `reads` is needed by maps only; its words are explained in `Description`.

    >>> from vitlab import ViT, ViTConfig
    >>> attach(ViT(ViTConfig()))
    View(ViT: 4 layers, 7 x 7 patches of 4 px, 1 prefix tokens, reads token)
    """
    if isinstance(model, View):
        raise ValueError("this is a view already; attach takes the model, view.model")
    if not isinstance(model, nn.Module):
        raise ValueError(f"attach takes an nn.Module; got a {type(model).__name__}")
    model = as_written(model)
    description = describe(model).with_keywords(
        image_size=image_size,
        patch_size=patch_size,
        num_prefix_tokens=num_prefix_tokens,
        mean=mean,
        std=std,
        reads=reads,
        channels=channels,
    )
    check_own_size(model, description.image_size)
    description.check(model)
    return View(model, description, *probe(model, description))


def check_own_size(model: nn.Module, image_size: tuple[int, int] | None) -> None:
    """Raises ValueError where a ViT of vitlab's, which takes images of one size, is to take another."""
    if isinstance(model, ViT) and image_size != as_pair(model.config.image_size):
        height, width = as_pair(model.config.image_size)
        raise ValueError(
            f"this ViT takes images of {height} x {width} pixels, and image_size says "
            f"{' x '.join(map(str, image_size))}: leave image_size out, and pictures are fitted to its own "
            f"size; or make a model for that size, vitlab.fine_tuning.adapt(model, image_size={image_size}), "
            "which stretches its position embeddings (from a shell: in a function, FILE.py:FUNCTION)"
        )


def as_written(model: nn.Module) -> nn.Module:
    """The model that `torch.compile` wrapped; raises ValueError for a program that no function call shows."""
    inner = getattr(model, "_orig_mod", None)  # what torch.compile gives holds the model under this name
    if inner is not None:
        return inner
    if any(isinstance(each, torch.jit.ScriptModule) for each in model.modules()):
        raise ValueError("a TorchScript program hides its attention; attach the model it was made from")
    for each in model.modules():
        if isinstance(each, torch.fx.GraphModule) and any(
            isinstance(node.target, torch._ops.OpOverload) for node in each.graph.nodes
        ):
            raise ValueError("an exported program hides its attention; attach the model it was made from")
    return model


def output_tensor(output, model: nn.Module) -> Tensor:
    """The tensor among a model's outputs; raises ValueError where it cannot be told which."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        for name in OUTPUTS:
            if isinstance(output.get(name), Tensor):
                return output[name]
    raise ValueError(
        f"{type(model).__name__} gives a {type(output).__name__}; a view needs a tensor, or an object with "
        f"one of {', '.join(OUTPUTS)}"
    )
