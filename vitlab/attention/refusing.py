"""What is no global attention over patches and prefix, by name and by what was seen."""

from torch import Tensor, nn

LIBRARIES = {"timm", "torchvision", "transformers", "open_clip", "vit_pytorch"}
WINDOWS = "it attends within windows, so no patch sees all others"
FEWER = "its keys are of fewer, merged patches, and its grid shrinks from stage to stage"
CHANNELS = "it attends between channels, not between patches"
TALKING = "its heads are mixed after the softmax, and its class token joins in the last layers alone"
MIXING = "it has none"
BRANCHES = "it attends in branches of different patch sizes, so there is no one grid"
STAGES = "its grid shrinks from stage to stage, so there is no one grid"
KNOWN = {
    WINDOWS: ("Swin", "MaxVit", "MaxxVit", "Nest", "NesT", "GlobalContextVit", "DaVit", "Twins", "SepViT")
    + ("RegionViT", "CrossFormer", "ScalableViT", "Hiera", "VOLO", "TinyVit"),
    FEWER: ("Pvt", "PyramidVisionTransformer", "CvT", "Cvt", "MultiScaleVit", "Segformer"),
    CHANNELS: ("Xcit", "XCiT"),
    TALKING: ("Cait", "CaiT"),
    MIXING: (
        "ConvNext",
        "ConvNeXt",
        "MlpMixer",
        "ResNet",
        "EfficientNet",
        "RegNet",
        "ConvMixer",
        "MetaFormer",
    ),
    BRANCHES: ("CrossVit", "CrossViT"),
    STAGES: ("CoaT", "Levit", "LeViT", "PoolingVisionTransformer", "PiT", "MobileViT", "MobileVit")
    + ("ByobNet", "EdgeNeXt", "EfficientFormer", "EfficientVit", "FastVit", "LowFormer", "NextViT", "SHViT")
    + ("SwiftFormer", "Visformer", "IFormer", "CPUBone"),
}


def refuse_known(model: nn.Module) -> None:
    """Raises ValueError for a class of one of the libraries that is known to attend in another way.

    >>> import torchvision
    >>> refuse_known(torchvision.models.convnext_tiny())
    Traceback (most recent call last):
    ValueError: ConvNeXt is no Vision Transformer with global attention: it has none
    """
    for kind in type(model).__mro__:
        if kind.__module__.partition(".")[0] in LIBRARIES:
            for reason, names in KNOWN.items():
                if kind.__name__.startswith(names):
                    name = type(model).__name__
                    raise ValueError(f"{name} is no Vision Transformer with global attention: {reason}")


def heads_of(weights: Tensor, images: int) -> Tensor:
    """Weights with an axis for images and one for heads, (B, heads, queries, keys).

    Raises ValueError where there are groups besides images and heads, which are windows, and where all images
    are one sequence.

    >>> import torch
    >>> heads_of(torch.zeros(6, 5, 5), images=3).shape
    torch.Size([3, 2, 5, 5])
    """
    if weights.ndim == 3 and len(weights) % images == 0:
        return weights.unflatten(0, (images, -1))
    if weights.ndim == 4 and len(weights) == images:
        return weights
    keys = weights.shape[-1]
    if weights.ndim == 4 and len(weights) == 1 and keys % images == 0:
        raise ValueError(
            f"the {images} images of a batch were laid end to end in one sequence of {keys} tokens, as in a "
            "Pixtral, behind a mask: its weights are of all images together, and are not taken apart"
        )
    raise ValueError(
        f"attention within windows or groups was seen: weights of shape {tuple(weights.shape)} for {images} "
        f"images are of {keys} tokens at a time, not of all"
    )


def check_global(queries: int, keys: int, grid: tuple[int, int], prefix: int) -> None:
    """Raises ValueError where so many queries and keys are not all patches and the prefix."""
    tokens = grid[0] * grid[1] + prefix
    whole = f"a {grid[0]} x {grid[1]} grid and {prefix} prefix tokens make {tokens}"
    if queries != keys:
        raise ValueError(
            f"attention of {queries} queries to {keys} keys was seen, where {whole}: it is over something "
            "other than the patches and the prefix"
        )
    if keys != tokens:
        raise ValueError(
            f"attention between {keys} tokens was seen, where {whole}. Windows, merged or dropped patches "
            "cannot be recorded; for global attention give the right num_prefix_tokens and patch_size"
        )


def check_unchanged(changed: list[str]) -> None:
    """Raises ValueError where weights were changed between the softmax and the values."""
    if changed:
        raise ValueError(
            f"the attention weights are changed ({', '.join(changed[:6])}) before they multiply the values, "
            "as by talking heads: they are not what the model sums with"
        )
