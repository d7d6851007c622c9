"""A map's scores as columns of a study: each with its interval, and how far it is ahead of its rivals."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from vitlab.attention.baselines import BASELINES
from vitlab.attention.bootstrap import Interval, best_of, paired_bootstrap
from vitlab.attention.scores import THRESHOLDS
from vitlab.studies import Row

SCORES = ("pointing_game", "energy_inside", "iou", "iou_half")


def compared(name: str, scored: Mapping[str, Mapping[str, Tensor]], also: Sequence[str] = ()) -> Row:
    """Every score of one map, and how far it is ahead of the best baseline's and of the maps in `also`.

    `scored` has what `scores_each` gives of the map, of all `BASELINES` and of `also`, for the same pictures.
    Each number is a mean with its 95 % interval over pictures, which are resampled for all maps alike. The
    strongest rival is chosen for each score; IoU is at each map's own best threshold.

    >>> import torch
    >>> each = dict.fromkeys(SCORES[:2] + SCORES[3:], torch.tensor([0.5, 0.7]))
    >>> each["iou"] = torch.rand(2, THRESHOLDS)
    >>> row = compared("chroma", dict.fromkeys(BASELINES, each))
    >>> row["iou_half"], row["iou_half_low"], row["iou_half_over_baseline"]
    (0.6, 0.5, 0.0)
    """
    results = {}
    for score in SCORES:
        each = {map_name: scores[score] for map_name, scores in scored.items()}
        best = best_of(each, list(BASELINES))
        results |= named(score, paired_bootstrap({name: each[name]})[name])
        results[f"{score}_best_baseline"] = best
        for rival, word in ((best, "baseline"), *zip(also, also, strict=True)):
            pair = {key: each[key] for key in (name, rival)}
            results |= named(f"{score}_over_{word}", paired_bootstrap(pair, minus=rival)[name])
    curve = scored[name]["iou"].mean(dim=0)
    return results | dict(iou_threshold=float(curve.argmax()) / (THRESHOLDS - 1))


def named(name: str, interval: Interval) -> Row:
    """An interval as three columns.

    >>> named("iou", Interval(0.51234, 0.4, 0.6))
    {'iou': 0.5123, 'iou_low': 0.4, 'iou_high': 0.6}
    """
    value, low, high = (round(number, 4) for number in interval)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
