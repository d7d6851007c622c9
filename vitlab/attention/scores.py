"""How well maps of importance fit the truth: an object's mask, and what the model does without the pixels.

Maps are (B, h, w), larger where a part matters more; they are enlarged to the images' pixels, so that a map
with one number a patch and one with one a pixel are scored alike. Masks are bool (B, H, W), true on the
object. Equal values have equal chances: where several pixels share a place in the order, a score is what one
gets on average (in the curves, for one random order of them). All raise ValueError for maps, masks and images
that do not fit each other.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention.reading import Target, grey_of, question
from vitlab.attention.view import View
from vitlab.vit import evaluating

THRESHOLDS = 101  # 0, 0.01, …, 1
TOGETHER = 10  # maps that are scored at a time
LEVELS = 1_000_000  # what differs by less than this part of a map's range, rounding may have made


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Is the largest value on the object? (B,), 1 or 0; of several largest, the share that is on it.

    Zhang et al. 2016 (arXiv 1608.00507), to the pixel, without their margin of 15 pixels.

    >>> masks = torch.tensor([[[True, False], [False, False]]])
    >>> pointing_game(torch.tensor([[[0.9, 0.1], [0.1, 0.1]]]), masks)
    tensor([1.])
    >>> pointing_game(torch.ones(1, 2, 2), masks)
    tensor([0.2500])
    """
    inside = checked(masks, maps)
    highest = (levels(maps, masks.shape[1:]) == LEVELS).flatten(1)
    highest |= ~highest.any(dim=1, keepdim=True)  # a flat map: no pixel is below another
    return (highest & inside).sum(dim=1) / highest.sum(dim=1)


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of a map's positive values that lies on the object, (B,).

    The energy-based pointing game (Wang et al. 2020, arXiv 1910.01279, section 4.3). A map without positive
    values gets what a flat one gets, the object's share of the image.

    >>> masks = torch.tensor([[[True, False], [False, False]]])
    >>> energy_inside(torch.tensor([[[3.0, 1.0], [0.0, -1.0]]]), masks)
    tensor([0.7500])
    """
    inside = checked(masks, maps)
    values = enlarge(maps.cpu().double().clamp(min=0), masks.shape[1:]).flatten(1)
    values[values.sum(dim=1) == 0] = 1.0
    return ((values * inside).sum(dim=1) / values.sum(dim=1)).float()


class Overlap(NamedTuple):
    """What `best_overlap` finds: mean overlaps in [0, 1], and the threshold as a share of a map's range."""

    mean_iou: float
    threshold: float
    mean_iou_each: float


def best_overlap(maps: Tensor, masks: Tensor) -> Overlap:
    """Mean intersection over union of thresholded maps and masks, at the threshold that is best for all.

    A map counts from its threshold up, after it was stretched to [0, 1]. `mean_iou_each` is what each image's
    own best threshold would give, which nobody knows without the mask.

    >>> masks = torch.tensor([[[True, False], [False, False]]])
    >>> best_overlap(torch.tensor([[[0.9, 0.1], [0.5, 0.1]]]), masks)
    Overlap(mean_iou=1.0, threshold=0.51, mean_iou_each=1.0)
    """
    ious = overlaps(maps, masks)
    mean, best = ious.mean(dim=0).max(dim=0)
    return Overlap(float(mean), float(best) / (THRESHOLDS - 1), float(ious.amax(dim=1).mean()))


def overlaps(maps: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union at each of `THRESHOLDS` thresholds from 0 to 1, (B, THRESHOLDS).

    >>> overlaps(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[True, False]]]))[0, [0, 1, 100]]
    tensor([0.5000, 1.0000, 1.0000])
    """
    inside, values = checked(masks, maps), levels(maps, masks.shape[1:]).flatten(1)
    columns = []
    for step in range(THRESHOLDS):
        chosen = values >= LEVELS * step // (THRESHOLDS - 1)
        columns.append((chosen & inside).sum(dim=1) / (chosen | inside).sum(dim=1))
    return torch.stack(columns, dim=1)


def scores_each(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Every score of each map against its mask, (B,); `iou` at all thresholds, `iou_half` at the middle one.

    >>> masks = torch.tensor([[[True, False], [False, False]]])
    >>> scores_each(torch.tensor([[[0.9, 0.1], [0.6, 0.1]]]), masks)["iou_half"]
    tensor([0.5000])
    """
    pairs = list(zip(maps.split(TOGETHER), masks.split(TOGETHER), strict=True))
    iou = torch.cat([overlaps(*pair) for pair in pairs])  # (B, THRESHOLDS)
    return dict(
        pointing_game=torch.cat([pointing_game(*pair) for pair in pairs]),
        energy_inside=torch.cat([energy_inside(*pair) for pair in pairs]),
        iou=iou,
        iou_half=iou[:, (THRESHOLDS - 1) // 2],
    )


def similarity(maps: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation of two maps of each image, (B,), from -1 to 1; 0 where one of them is flat.

    Of the maps for two classes it says whether a map knows which class it is asked about.

    >>> similarity(torch.tensor([[[0.0, 1.0, 2.0]]]), torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([1.])
    """
    if maps.shape != others.shape or maps.ndim != 3:
        raise ValueError(
            f"maps to compare have one shape (B, h, w); got {tuple(maps.shape)} and {tuple(others.shape)}"
        )
    centred = [each.cpu().double().flatten(1) for each in (maps, others)]
    centred = [each - each.mean(dim=1, keepdim=True) for each in centred]
    flat = [each.amax(dim=(1, 2)) == each.amin(dim=(1, 2)) for each in (maps.cpu(), others.cpu())]
    correlation = F.cosine_similarity(*centred, dim=1, eps=0)
    return torch.where(flat[0] | flat[1], 0.0, correlation).float()


def deletion_curve(
    model: nn.Module, images: Tensor, maps: Tensor, target: Target = None, steps: int = 8
) -> Tensor:
    """The class's probability while pixels turn grey, the most important first: (B, steps + 1).

    Petsiuk et al. 2018 (RISE, arXiv 1806.07421, section 4.2). Where the map is right, it falls early.

    >>> from vitlab import ViT, ViTConfig
    >>> deletion_curve(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), torch.rand(2, 7, 7), steps=4).shape
    torch.Size([2, 5])
    """
    grey = torch.zeros_like(images) + grey_of(model, images)
    return replacing(model, images, images, grey, maps, target, steps)


def insertion_curve(
    model: nn.Module, images: Tensor, maps: Tensor, target: Target = None, steps: int = 8
) -> Tensor:
    """The class's probability while a blurred image gets its pixels back, the most important first.

    Petsiuk et al. 2018, as `deletion_curve`: (B, steps + 1). Where the map is right, it rises early.

    >>> from vitlab import ViT, ViTConfig
    >>> insertion_curve(ViT(ViTConfig()), torch.zeros(2, 1, 28, 28), torch.rand(2, 7, 7), steps=4).shape
    torch.Size([2, 5])
    """
    return replacing(model, images, blurred(images), images, maps, target, steps)


def area_under(curves: Tensor) -> Tensor:
    """The area under curves over a share that goes from 0 to 1 in equal steps: (..., steps + 1) -> (...).

    >>> area_under(torch.tensor([0.0, 1.0, 1.0]))
    tensor(0.7500)
    """
    return torch.trapezoid(curves, dim=-1) / (curves.shape[-1] - 1)


@torch.no_grad()
def replacing(
    model: nn.Module,
    images: Tensor,
    before: Tensor,
    after: Tensor,
    maps: Tensor,
    target: Target,
    steps: int,
) -> Tensor:
    """The class's probability from `before` to `after`, the maps' largest values first: (B, steps + 1)."""
    if steps < 1:
        raise ValueError(f"a curve has at least 1 step; got {steps}")
    if len(maps) != len(images):
        raise ValueError(f"there is one map for each image; got {len(maps)} and {len(images)}")
    places = order(maps, images.shape[-2:])[:, None].to(images.device)  # (B, 1, H, W)
    curve = []
    with evaluating(model.model if isinstance(model, View) else model):
        output = model(images)
        ask = question(model, target, output)
        for step in range(steps + 1):
            mixed = torch.where(places < round(places[0].numel() * step / steps), after, before)
            known = (step == 0 and before is images) or (step == steps and after is images)
            curve.append(ask(output if known else model(mixed)))
    return torch.stack(curve, dim=1)


def order(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The place of each pixel, from 0, the largest value first and equal ones at random: (B, H, W).

    >>> order(torch.tensor([[[0.0, 2.0, 1.0]]]), (1, 3)).tolist()
    [[[2, 0, 1]]]
    """
    values = levels(maps, size).flatten(1)
    chance = torch.rand(values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (values + chance).argsort(descending=True).argsort().view(-1, *size)


def blurred(images: Tensor) -> Tensor:
    """Images of which two by two smoothly joined colours are left, so that no object is to be recognised.

    Of finer blurs the scenes ViT knows too much: with 8 x 8 colours its class has 0.37 instead of 0.61, with
    these 0.12, as on grey (60 scenes).
    """
    return F.interpolate(F.adaptive_avg_pool2d(images, 2), size=images.shape[-2:], mode="bilinear")


def levels(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Each map enlarged, and stretched to whole numbers from 0 to `LEVELS`, on the CPU; a flat one is 0.

    >>> levels(torch.tensor([[[3.0, 4.0]]]), (1, 4))
    tensor([[[      0,  250000,  750000, 1000000]]])
    """
    if maps.ndim != 3 or not maps.isfinite().all():
        raise ValueError(f"maps are finite numbers of shape (B, h, w); got {tuple(maps.shape)}")
    stretched = unit(maps.detach().cpu().double())  # a flat map is flat already, before anything is rounded
    return (unit(enlarge(stretched, size)) * LEVELS).round().long()


def unit(maps: Tensor) -> Tensor:
    """Each map from 0 to 1; a flat one is 0 everywhere."""
    lowest, highest = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - lowest) / torch.where(highest > lowest, highest - lowest, 1)


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Values at the centres of a grid, smoothly joined on the pixels: (B, h, w) -> (B, H, W).

    >>> enlarge(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    tensor([[[0.0000, 0.2500, 0.7500, 1.0000]]])
    """
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


def checked(masks: Tensor, maps: Tensor) -> Tensor:
    """The masks as (B, H·W) on the CPU; raises ValueError where they do not fit, or show no object."""
    if masks.ndim != 3 or masks.dtype != torch.bool or len(masks) != len(maps):
        raise ValueError(
            f"masks are bool of shape ({len(maps)}, H, W), one for each map; got {tuple(masks.shape)}, "
            f"{masks.dtype}"
        )
    flat = masks.cpu().flatten(1)
    if empty := int((~flat.any(dim=1)).sum()):
        raise ValueError(f"{empty} of {len(masks)} masks show no object; leave these images out")
    return flat
