"""What was scored, as a CSV with a row for each picture and map, and as a table with intervals."""

import csv
import io
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitlab.attention.baselines import BASELINES
from vitlab.attention.bootstrap import Interval, best_of, paired_bootstrap
from vitlab.attention.scores import THRESHOLDS
from vitlab.attention.scoring import Scored
from vitlab.wording import counted

SCORES = {
    "pointing_game": "pointing game: how often is the brightest place on the object?",
    "energy_inside": "energy: which share of the map lies on the object?",
    "iou": "IoU of bright part and object, at the threshold that is best for all pictures",
    "iou_half": "IoU at a threshold of half of the map's range",
    "deletion": "deletion: the class's probability as the brightest goes first (less is better)",
    "insertion": "insertion: the same as the brightest comes first",
}
LEAST = ("deletion",)  # the less, the better
BY_CHANCE = ("pointing_game", "energy_inside")  # what a flat map gets is the object's share
RESAMPLES, LEVEL = 10_000, 0.95


def columns_of(scored: dict[str, Scored], maps: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Score -> map -> one number a picture, (pictures,), and of the overlap (pictures, thresholds)."""
    first = next(iter(scored.values()))
    tables = {
        score: torch.from_numpy(np.stack([each[score] for each in scored.values()]))
        for score in SCORES
        if score in first
    }
    return {
        score: {name: table[:, place] for place, name in enumerate(maps)} for score, table in tables.items()
    }


def table(scored: dict[str, Scored], maps: Sequence[str], seed: int) -> str:
    """Each score of each map with its interval, and how far each is ahead of the best baseline."""
    share = float(np.mean([each["mask_share"] for each in scored.values()]))
    lines = [
        f"{counted(len(scored), 'picture')} with masks. In brackets are {LEVEL:.0%} intervals, of "
        f"{RESAMPLES:,} resamples of the pictures, which are the same for all maps (seed {seed}).",
        "Behind each map of the model is its score less that of the best baseline, with its own interval.",
    ]
    for score, each in columns_of(scored, maps).items():
        lines += ["", SCORES[score], *block(each, score in LEAST, seed)]
        if score in BY_CHANCE:
            lines.append(f"  {'(a flat map)':<20}{share:6.3f}")
        if score == "iou":
            best = {
                name: float(values.mean(dim=0).argmax()) / (THRESHOLDS - 1) for name, values in each.items()
            }
            words = ", ".join(f"{name} {value:.2f}" for name, value in best.items())
            lines.append(f"  best thresholds, as shares of a map's range: {words}")
    return "\n".join(lines)


def block(scores: dict[str, Tensor], least: bool, seed: int) -> list[str]:
    """One score: a line for each map, the baselines last."""
    rival = best_of(scores, [name for name in scores if name in BASELINES], least)
    alone = paired_bootstrap(scores, None, RESAMPLES, seed, LEVEL)
    apart = paired_bootstrap(scores, rival, RESAMPLES, seed, LEVEL)
    lines = []
    for name in scores:
        words = f"  {name:<20}{alone[name].value:6.3f} [{alone[name].low:.3f}, {alone[name].high:.3f}]"
        if name in BASELINES:
            words += "   baseline" + (", the best" if name == rival else "")
        else:
            value, low, high = apart[name]
            words += f"   {value:+.3f} [{low:+.3f}, {high:+.3f}] {verdict(apart[name], least)}"
        lines.append(words)
    return lines


def verdict(difference: Interval, least: bool) -> str:
    """What a difference to the best baseline says.

    >>> verdict(Interval(0.2, 0.1, 0.3), False), verdict(Interval(0.2, 0.1, 0.3), True)
    ('better', 'worse')
    >>> verdict(Interval(0.2, -0.1, 0.3), False)
    'not told apart'
    """
    if difference.low <= 0 <= difference.high:
        return "not told apart"
    return "better" if (difference.low > 0) != least else "worse"


def as_csv(scored: dict[str, Scored], maps: Sequence[str]) -> str:
    """A row for each picture and map; `iou` is at the threshold that is best for all pictures."""
    columns = columns_of(scored, maps)
    best = {name: int(values.mean(dim=0).argmax()) for name, values in columns["iou"].items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "map", "baseline", "mask_share", *columns, "iou_threshold"])
    for number, (picture, each) in enumerate(scored.items()):
        for name in maps:
            values = []
            for score, by_map in columns.items():
                value = by_map[name][number]
                values.append(f"{float(value[best[name]] if score == 'iou' else value):.6g}")
            threshold = best[name] / (THRESHOLDS - 1)
            writer.writerow(
                [picture, name, name in BASELINES, f"{float(each['mask_share']):.6g}", *values, threshold]
            )
    return text.getvalue()
