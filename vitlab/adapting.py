"""A trained model made ready for another task: new head, new resolution, other channels (section 3.2)."""

from dataclasses import replace

import torch
from torch import Tensor

from vitlab.data import Dataset
from vitlab.embeddings import resize_pos_embed
from vitlab.merging import refuse_merged
from vitlab.patches import as_pair
from vitlab.vit import ViT

HEADS = ("head.", "head_dist.", "pre_logits.")


def adapt(
    model: ViT,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    method: str = "jax",
) -> ViT:
    """A copy of a pre-trained ViT for another task, resolution or kind of image; `model` is left as it is.

    With `num_classes` the whole head, hidden layer included, is replaced by one zero-initialised linear
    layer (of a `distilled` model each of the two), whose classes have no names yet; with `image_size` the
    patch size stays, so there are more patches or fewer, and learned position embeddings are interpolated to
    the new grid by `resize_pos_embed`'s `method` (section 3.2).
    With `in_chans` a model for grey images (1) takes colour (3), or the other way round, such that a grey
    image in three equal channels gives the same tokens. Raises ValueError where the patch size does not
    divide the new size, for a model that merges tokens, and for channels that cannot be had: other numbers,
    or any others with `patch_norm` or the stem of a hybrid.

    >>> from vitlab import ViTConfig
    >>> adapt(ViT(ViTConfig()), num_classes=3, image_size=(28, 56))(torch.zeros(2, 1, 28, 56)).shape
    torch.Size([2, 3])
    """
    refuse_merged(model)
    config = model.config
    if image_size is not None and as_pair(image_size) != as_pair(config.image_size):
        config = replace(config, image_size=image_size, pos_grid=None)
        if config.pos_embed in ("sincos2d", "rope2d"):  # which have a place for every patch there may be
            config = replace(config, pos_grid=model.config.grid_as_far_apart(image_size))
    if num_classes is not None:
        config = replace(config, num_classes=num_classes, representation_size=None)
    if in_chans is not None:
        if (config.patch_norm or config.stem is not None) and in_chans != config.in_chans:
            what = f"norms each patch's {config.patch_dim} numbers (patch_norm)"
            if config.stem is not None:
                what = "is a hybrid, whose kernels are standardised over all channels"
            raise ValueError(
                f"this model {what}, so in_chans stays {config.in_chans}; got {in_chans}: bring the images "
                f"to {config.in_chans} channels"
            )
        config = replace(config, in_chans=in_chans)
    weights = model.state_dict()
    if config.stem is None:
        weights["patch_embed.proj.weight"] = for_channels(weights["patch_embed.proj.weight"], config.in_chans)
    if num_classes is not None:
        weights = {name: w for name, w in weights.items() if not name.startswith(HEADS)}
    if config.pos_embed == "learned":
        if (
            config.kept_grid != model.config.kept_grid
        ):  # of what the model has at its size, not of what it keeps
            table, grids = model.positions().detach(), (model.config.grid_size, config.grid_size)
            weights["pos_embed"] = resize_pos_embed(table, *grids, config.num_class_tokens, method)
    elif config.pos_embed == "sincos2d":
        weights.pop("pos_embed")  # the formula gives the new grid's table
    adapted = ViT(config).to(next(model.parameters()).device)
    adapted.load_state_dict(adapted.state_dict() | weights)
    if num_classes is None and model.class_names:
        adapted.class_names = list(model.class_names)
    return adapted


def for_channels(weight: Tensor, in_chans: int) -> Tensor:
    """A projection's weight (D, C, P, P) for grey images made one for colour, or the other way round.

    >>> for_channels(torch.full((96, 1, 4, 4), 0.75), 3)[0, :, 0, 0]
    tensor([0.2500, 0.2500, 0.2500])
    """
    old = weight.shape[1]
    if old == in_chans:
        return weight
    if (old, in_chans) == (1, 3):
        return weight.repeat(1, 3, 1, 1) / 3
    if (old, in_chans) == (3, 1):
        return weight.sum(dim=1, keepdim=True)
    raise ValueError(
        f"in_chans goes from 1 (grey) to 3 (colour) or back; got {in_chans} for a model that takes {old}"
    )


def adapt_to(model: ViT, dataset: Dataset, method: str = "jax") -> ViT:
    """`adapt` with a zero head for a data set's classes, for its images' size and its channels.

    >>> from vitlab import ViTConfig
    >>> two = Dataset(torch.zeros(2, 3, 48, 32, dtype=torch.uint8), torch.arange(2), ["cat", "dog"])
    >>> adapt_to(ViT(ViTConfig()), two).config.grid_size
    (12, 8)
    """
    _, channels, *size = dataset.images.shape
    size = size[0] if size[0] == size[1] else tuple(size)
    return adapt(model, len(dataset.classes), size, channels, method)


def at_resolution(dataset: Dataset, image_size: int | tuple[int, int]) -> Dataset:
    """The same images at another size, stretched where the sides' ratio changes (bicubic, antialiased).

    >>> at_resolution(Dataset(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), None, []), (28, 56)).images.shape
    torch.Size([2, 1, 28, 56])
    """
    images = torch.nn.functional.interpolate(
        dataset.images.float(), size=image_size, mode="bicubic", antialias=True
    )
    return dataset._replace(images=images.round_().clamp_(0, 255).byte())
