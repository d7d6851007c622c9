"""How surely scores are known, and which of two maps is better: a bootstrap over images, paired."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

TOGETHER = 500  # resamples that are made at a time


class Interval(NamedTuple):
    """A mean, or a difference of two, and the limits between which it lies with some confidence."""

    value: float
    low: float
    high: float


def paired_bootstrap(
    scores: Mapping[str, Tensor],
    minus: str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Name -> the mean of each map's scores with its interval, or of its difference to those of `minus`.

    The percentile bootstrap (Efron & Tibshirani 1993, sections 13.3 and 8.3): images are drawn with
    replacement, the same for all maps, so that what makes an image hard for all of them cancels in a
    difference. `scores` are (images,), one number an image; or (images, thresholds), of which the threshold
    with the best mean counts, sought anew in each resample. The intervals say how the scores would change
    with other images of the kind, not with another model. The same seed gives the same resamples. Raises
    ValueError for scores of different images, fewer than two, or that are no numbers.

    >>> scores = {"a map": torch.tensor([0.5, 0.7, 0.9]), "centre": torch.tensor([0.4, 0.6, 0.8])}
    >>> [round(number, 3) for number in paired_bootstrap(scores)["a map"]]
    [0.7, 0.5, 0.9]
    >>> [round(number, 3) for number in paired_bootstrap(scores, minus="centre")["a map"]]
    [0.1, 0.1, 0.1]
    """
    images = check_scores(scores, minus)
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"resamples is at least 1 and level between 0 and 1, such as 0.95; got {resamples} and {level}"
        )
    tables = {name: each.detach().cpu().double().view(images, -1) for name, each in scores.items()}
    whole = means(tables, torch.ones(1, images, dtype=torch.float64))
    drawn = torch.cat([means(tables, counts) for counts in resampled(images, resamples, seed)])
    if minus is not None:
        place = list(scores).index(minus)
        whole, drawn = (each - each[:, place : place + 1] for each in (whole, drawn))
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = drawn.quantile(ends, dim=0).tolist()
    return {name: Interval(*each) for name, *each in zip(scores, whole[0].tolist(), low, high, strict=True)}


def best_of(scores: Mapping[str, Tensor], names: list[str], least: bool = False) -> str:
    """The name with the largest mean, or the least; `scores` as for `paired_bootstrap`.

    >>> best_of({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.0, 4.0])}, ["a", "b"])
    'b'
    """
    images = check_scores(scores, None)
    tables = {name: scores[name].detach().cpu().double().view(images, -1) for name in names}
    found = means(tables, torch.ones(1, images, dtype=torch.float64))[0]
    return names[int(found.argmin() if least else found.argmax())]


def check_scores(scores: Mapping[str, Tensor], minus: str | None) -> int:
    """The number of images. Raises ValueError where scores do not belong to the same images."""
    if not scores or (minus is not None and minus not in scores):
        raise ValueError(f"there are scores of {', '.join(scores) or 'nothing'}; got minus={minus!r}")
    images = len(next(iter(scores.values())))
    for name, each in scores.items():
        if each.ndim not in (1, 2) or len(each) != images or not each.numel():
            raise ValueError(
                f"scores of all maps are of the same images, ({images},) or ({images}, thresholds); got "
                f"{tuple(each.shape)} for {name}"
            )
        if not each.isfinite().all():
            raise ValueError(f"scores of {name} are not all numbers; leave these images out, for all maps")
    if images < 2:
        raise ValueError(f"an interval needs the scores of at least 2 images; got {images}")
    return images


def resampled(images: int, resamples: int, seed: int) -> Iterator[Tensor]:
    """How often each image was drawn, (up to `TOGETHER` resamples, images), until there are enough."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, resamples, TOGETHER):
        drawn = torch.randint(images, (min(TOGETHER, resamples - start), images), generator=generator)
        counts = torch.zeros(drawn.shape, dtype=torch.float64)
        yield counts.scatter_add_(1, drawn, torch.ones_like(counts))


def means(tables: Mapping[str, Tensor], counts: Tensor) -> Tensor:
    """Mean scores of images that count so often, at the best threshold: (resamples, names)."""
    sums = counts @ torch.cat(list(tables.values()), dim=1)  # (resamples, all thresholds)
    parts = (sums / counts.shape[1]).split([each.shape[1] for each in tables.values()], dim=1)
    return torch.stack([part.amax(dim=1) for part in parts], dim=1)
