"""Masked patch prediction: learning from images alone, as BERT from text (section 4.6, appendix B.1.2).

What is predicted of a hidden patch is its mean colour, as there, or its pixels (MAE, arXiv 2111.06377).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.norms import full_precision
from vitlab.patches import as_pair, patchify, unpatchify
from vitlab.training import Outcome
from vitlab.vit import ViT, ViTConfig, evaluating

CORRUPTED = 0.5  # the share of the patches that is corrupted, and predicted
MASKED, SWAPPED, KEPT = 0, 1, 2  # what may happen to a corrupted patch
SHARES = (0.8, 0.1, 0.1)  # how often each of the three does
TARGETS = ("mean colour", "pixels")


class Corruption(NamedTuple):
    """Which patches of a batch are corrupted, and how; each int64 (B, M).

    `patches` are the places of the corrupted ones, all different within an image. `kinds` says what happens
    to each: MASKED, SWAPPED or KEPT. `sources` are the places whose embeddings those not masked then have.
    """

    patches: Tensor
    kinds: Tensor
    sources: Tensor


def draw_corruption(
    batch_size: int, num_patches: int, generator: torch.Generator | None = None
) -> Corruption:
    """Choose half of the patches of each image, and what happens to each (B.1.2).

    80 % are masked; 10 % get the embedding of another patch of the same image; 10 % are kept as they are, so
    that the model cannot know which of the patches it sees are true. Drawn on the CPU, from PyTorch's global
    generator unless one is given. Raises ValueError for a single patch, which has no other.

    >>> [len(places) for places in draw_corruption(batch_size=2, num_patches=49).patches]
    [24, 24]
    """
    if num_patches < 2:
        raise ValueError(
            f"masked patch prediction needs 2 patches or more; got {num_patches}: use smaller patches"
        )
    count = int(CORRUPTED * num_patches)
    patches = torch.rand(batch_size, num_patches, generator=generator).argsort(dim=1)[:, :count]
    draws = torch.rand(batch_size, count, generator=generator)
    kinds = torch.bucketize(draws, torch.tensor(SHARES).cumsum(0)[:2], right=True)
    another = torch.randint(1, num_patches, (batch_size, count), generator=generator)  # never 0: never itself
    sources = torch.where(kinds == SWAPPED, (patches + another) % num_patches, patches)
    return Corruption(patches, kinds, sources)


def mean_colour_classes(images: Tensor, patch_size: int, bits: int = 3) -> Tensor:
    """What is to be predicted: the mean colour of each patch, in `bits` bits a channel (B.1.2).

    (B, C, H, W) in [-1, 1] -> int64 (B, N) in [0, 2 ** (bits * C)): 512 classes for colour images. For grey
    ones, which the paper does not have, the same rule gives the 8 classes of one channel. A channel's range
    is cut into 2 ** bits equal parts, each with its lower edge and the last also with 1; the first channel
    counts least. Raises ValueError for images that are no floats, and what `patchify` raises.

    >>> mean_colour_classes(torch.tensor([-1.0, -0.7, 0.0, 1.0]).view(4, 1, 1, 1).expand(4, 1, 4, 4), 4).T
    tensor([[0, 1, 4, 7]])
    """
    channels, levels = images.shape[1], 2**bits
    pixels = pixels_of(images, patch_size).unflatten(2, (channels, -1))  # (B, N, C, P²)
    parts = ((pixels.mean(dim=3) + 1) * (levels / 2)).long().clamp(0, levels - 1)  # (B, N, C)
    return (parts * levels ** torch.arange(channels, device=parts.device)).sum(dim=2)


def class_colours(classes: Tensor, channels: int, bits: int = 3) -> Tensor:
    """The middle of each class's colours, to look at predictions: int64 (...) -> (..., C) in [-1, 1].

    >>> class_colours(torch.tensor([0, 7]), channels=1)
    tensor([[-0.8750],
            [ 0.8750]])
    """
    levels = 2**bits
    parts = classes[..., None] // levels ** torch.arange(channels, device=classes.device) % levels
    return (parts + 0.5) * (2 / levels) - 1


def normalised_pixels(images: Tensor, patch_size: int) -> Tensor:
    """What is to be predicted by MAE: each patch's pixels less their mean, over their deviation.

    (B, C, H, W) -> (B, N, P²C), all channels of a patch together (arXiv 2111.06377, section 3; as in its code
    the deviation is that of a sample, with 1e-6 added to its square). A patch of one colour is 0. Raises
    ValueError for images that are no floats, and what `patchify` raises.

    >>> normalised_pixels(torch.tensor([[[[-1.0, 0.0], [0.0, 1.0]]]]), 2).round(decimals=4)
    tensor([[[-1.2247,  0.0000,  0.0000,  1.2247]]])
    """
    pixels = pixels_of(images, patch_size)
    return (pixels - pixels.mean(dim=2, keepdim=True)) / deviations(pixels)


def pixels_of(images: Tensor, patch_size: int) -> Tensor:
    """Each patch's pixels, (B, N, P²C) in at least fp32. Raises ValueError for images that are no floats."""
    if not images.is_floating_point():
        raise ValueError(
            f"images are floats in [-1, 1]; got {images.dtype}; use vitlab.data.normalise(images)"
        )
    return patchify(images.to(torch.promote_types(images.dtype, torch.float32)), patch_size)


def deviations(pixels: Tensor) -> Tensor:
    """What `normalised_pixels` divides each patch by: (B, N, P²C) -> (B, N, 1)."""
    return (pixels.var(dim=2, keepdim=True, correction=min(1, pixels.shape[2] - 1)) + 1e-6).sqrt()


class MaskedPatchViT(nn.Module):
    """A ViT that predicts what corrupted patches of images (B, C, H, W) show (B.1.2).

    `vit`, a `ViT` or the config of one, is what is kept afterwards; its own head is not used, so leave it out
    with `num_classes=0`. `target` is "mean colour", a class of `mean_colour_classes`, or "pixels",
    `normalised_pixels`; then every corrupted patch is masked, as in MAE. The encoder is the same for both: it
    sees masked patches as one learnt token, where MAE's leaves them out and a decoder follows. The linear
    head starts at zero: the first loss is ln(classes), or the pixels' mean square. Raises ValueError for
    another target, and for a hybrid.

    >>> model = MaskedPatchViT(ViTConfig(num_classes=0))
    >>> logits, classes = model(torch.zeros(2, 1, 28, 28))
    >>> logits.shape, classes.shape
    (torch.Size([2, 24, 8]), torch.Size([2, 24]))
    """

    def __init__(self, vit: ViT | ViTConfig, target: str = TARGETS[0]):
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f"target is {' or '.join(map(repr, TARGETS))}; got {target!r}")
        self.vit = vit if isinstance(vit, ViT) else ViT(vit)
        self.target = target
        config = self.vit.config
        if config.stem is not None:
            raise ValueError(
                "a hybrid's tokens see what is under the mask, as convolutions reach beyond a patch; give a "
                "ViT without a stem"
            )
        if config.patch_dropout:
            raise ValueError(
                "masked patches are to be predicted, and patch_dropout leaves some of them out; give a ViT "
                "with patch_dropout=0"
            )
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.embed_dim))
        outputs = config.patch_dim if target == "pixels" else 2 ** (3 * config.in_chans)
        self.head = nn.Linear(config.embed_dim, outputs)
        nn.init.normal_(self.mask_token, std=0.02)  # as positions: a norm would blow up gradients at zero
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def extra_repr(self) -> str:
        """What tells trainings for different targets apart when one is gone on with."""
        return "" if self.target == TARGETS[0] else f"target={self.target!r}"

    @property
    def config(self) -> ViTConfig:
        """The config of the ViT; the rest of the model follows from it."""
        return self.vit.config

    def draw(self, images: Tensor, generator: torch.Generator | None = None) -> Corruption:
        """Which patches of these images are corrupted, and how, as this model's target wants it."""
        drawn = draw_corruption(len(images), self.config.num_patches, generator)
        if self.target == "pixels":
            drawn = Corruption(drawn.patches, torch.full_like(drawn.kinds, MASKED), drawn.patches)
        return Corruption(*(part.to(images.device) for part in drawn))

    def forward(self, images: Tensor, corruption: Corruption | None = None) -> tuple[Tensor, Tensor]:
        """What is predicted of the corrupted patches, fp32, and what is true.

        Logits (B, M, classes) and classes (B, M); of "pixels" both are (B, M, P²C). Without `corruption` one
        is drawn; in evaluation mode always the same one for a batch of this size, so that measurements can be
        compared. Raises ValueError for images of another shape than the config's.
        """
        config = self.vit.config
        wanted = (config.in_chans, *as_pair(config.image_size))
        if tuple(images.shape[1:]) != wanted:
            raise ValueError(f"this model takes batches of images {wanted}; got {tuple(images.shape)}")
        if corruption is None:
            corruption = self.draw(images, None if self.training else torch.Generator().manual_seed(0))
        corruption = Corruption(*(part.to(images.device) for part in corruption))
        embeddings = corrupt(self.vit.patch_embed(images), self.mask_token, corruption)  # (B, N, D)
        tokens = self.vit.blocks(self.vit.sequence(embeddings))[:, config.num_prefix_tokens :]
        x = self.vit.norm(take(tokens, corruption.patches))  # (B, M, D)
        with full_precision(x.device):
            predicted = self.head(x.to(self.head.weight.dtype))
        to_predict = normalised_pixels if self.target == "pixels" else mean_colour_classes
        return predicted, take(to_predict(images, config.patch_size), corruption.patches)


def corrupt(embeddings: Tensor, mask_token: Tensor, corruption: Corruption) -> Tensor:
    """Embedded patches (B, N, D) with the corrupted ones replaced, in the precision that they have."""
    masked = (corruption.kinds == MASKED)[..., None]  # (B, M, 1)
    sources = take(embeddings, corruption.sources)  # (B, M, D)
    replacements = torch.where(masked, mask_token.to(embeddings.dtype), sources)
    return embeddings.index_put((rows_of(embeddings), corruption.patches), replacements)


def take(sequences: Tensor, places: Tensor) -> Tensor:
    """What stands at these places of each sequence: (B, N, …), (B, M) -> (B, M, …)."""
    return sequences[rows_of(sequences), places]


def rows_of(sequences: Tensor) -> Tensor:
    """0, 1, … for each sequence of a batch: (B, 1)."""
    return torch.arange(len(sequences), device=sequences.device)[:, None]


def masked_patch_prediction(model: nn.Module, images: Tensor, labels: Tensor) -> Outcome:
    """The task of predicting corrupted patches, in a loss over these alone; `labels` are not used.

    Of mean colours it is the cross-entropy in nats (B.1.2), of pixels the mean squared error (MAE), where a
    patch counts as right that is nearer than a flat one of its mean would be; a flat one never is. Counted
    are the corrupted patches.

    >>> loss, correct, counted, _ = masked_patch_prediction(
    ...     MaskedPatchViT(ViTConfig(num_classes=0)), torch.zeros(2, 1, 28, 28), labels=None
    ... )
    >>> round(loss.item(), 4), counted  # ln(8), for 24 of 49 patches in each image
    (2.0794, 48)
    """
    predicted, true = model(images)
    predicted, true = predicted.flatten(0, 1).float(), true.flatten(0, 1)
    if true.is_floating_point():  # pixels (B·M, P²C)
        errors = (predicted - true).square().mean(dim=1)
        loss, correct = errors.mean(), (errors < true.square().mean(dim=1)).sum()
    else:
        loss, correct = F.cross_entropy(predicted, true), (predicted.argmax(dim=1) == true).sum()
    return Outcome(loss, correct, len(true), divisor=len(true))


masked_patch_prediction.uses_labels = False


@torch.no_grad()
def seen_and_guessed(model: MaskedPatchViT, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, C, H, W) as the model sees them, with its guesses, and with what it should have guessed.

    Each is like `images` but for the corrupted patches, which the seed draws: masked ones are mid-grey, the
    others what their sources show; then the mean colours guessed, and the true ones, as `class_colours`. Of
    "pixels", which are guessed without a patch's mean and deviation, these are the true ones.

    >>> pictures = seen_and_guessed(MaskedPatchViT(ViTConfig(num_classes=0)), torch.ones(2, 1, 28, 28))
    >>> [picture.shape == (2, 1, 28, 28) for picture in pictures]
    [True, True, True]
    """
    config = model.config
    hidden = model.draw(images, torch.Generator().manual_seed(seed))
    with evaluating(model):
        predicted, true = model(images, hidden)
    patches = patchify(images, config.patch_size)
    masked = (hidden.kinds == MASKED)[..., None]
    fillings = [torch.where(masked, 0.0, take(patches, hidden.sources))]
    if model.target == "pixels":
        shown = take(patches, hidden.patches).float()  # (B, M, P²C)
        guessed = predicted * deviations(shown) + shown.mean(dim=2, keepdim=True)
        fillings += [guessed.clamp(-1, 1), shown]
    else:
        for classes in (predicted.argmax(dim=-1), true):
            colours = class_colours(classes, config.in_chans)  # (B, M, C)
            fillings.append(colours.repeat_interleave(patches.shape[2] // config.in_chans, dim=2))
    filled = [
        patches.index_put((rows_of(patches), hidden.patches), filling.to(patches)) for filling in fillings
    ]
    return tuple(unpatchify(each, config.patch_size, config.image_size, config.in_chans) for each in filled)
