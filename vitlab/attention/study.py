"""The study of lesson 06: every map scored against the true masks of scenes (claim 8).

`python -m vitlab.attention score` makes it, one row for each map of each checkpoint, and for each rival that
asks no model. On one core of a busy machine (AMD EPYC, bf16) the eleven rows of a checkpoint for 2,000 scenes
of 48 pixels take about 13 minutes of processor time: occlusion 4, with 37 forward passes for an image, and
each other map one, for its curves.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from vitlab import data
from vitlab.attention.baselines import BASELINES
from vitlab.attention.components import COMPONENTS
from vitlab.attention.maps import MAPS
from vitlab.attention.scores import (
    area_under,
    best_overlap,
    deletion_curve,
    energy_inside,
    insertion_curve,
    pointing_game,
    similarity,
)
from vitlab.checkpoints import bundled, load_checkpoint
from vitlab.data import Scenes
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.vit import ViT

BATCH = 25  # images looked at together, which is where a CPU is fastest
FEW = 200  # images of which maps for two classes are compared
STEPS = 6  # of the curves; they take most of the time, 14 forward passes for an image and a map
NAMES = tuple(dict.fromkeys([*MAPS, *BASELINES]))  # the model's maps, then the rivals that ask no model


def attention_scores(
    checkpoints: Mapping[str, Path | None],
    images: int = 2_000,
    maps: Sequence[str] = NAMES,
    seed: int = 0,
) -> Study:
    """Claim 8: do maps of attention lie on what the class depends on, and better than what asks no model?

    `checkpoints` maps names to files; None is for one that ships. The maps are asked about each scene's
    true class; scenes are those of the test split that `seed` draws. Raises ValueError for a map that there
    is not.

    >>> attention_scores({"scenes_vit": None, "scenes_vit_2": None}).varied
    ('checkpoint', 'map')
    """
    for name in maps:
        if name not in NAMES:
            raise ValueError(f"the maps are {', '.join(NAMES)}; got {name!r}")
    if images < 1:
        raise ValueError(f"images is at least 1; got {images}")
    runs = grid(seed=[seed], images=[images], checkpoint=checkpoints, map=maps)

    def measure(settings: Row, run: Run) -> Row:
        name = settings["checkpoint"]
        return measure_map(checkpoints[name] or bundled(name), settings, run)

    return Study("attention_scores", "Which maps find the object?", runs, measure)


def measure_map(path: Path, settings: Row, run: Run) -> Row:
    """One run of `attention_scores`: every score of one map, means over the images."""
    model = load_checkpoint(path).to(run.device)
    scenes = scenes_to_score(settings["images"], settings["seed"], model.config.image_size)
    which = dict(model_seed=seed_of(path), weights=fingerprint(path))
    return which | score(model, settings["map"], scenes, run)


def score(model: ViT, name: str, scenes: Scenes, run: Run) -> Row:
    """Every score of one map of a model, asked about the true classes, as means over the scenes.

    Maps and what is read off them are in fp32; the passes for the curves in the run's precision, as bf16
    moves their means by less than 0.001.
    """
    made, curves = [], []
    batches = zip(scenes.images.split(BATCH), scenes.labels.split(BATCH), strict=True)
    for pictures, labels in tqdm(batches, name, -(-len(scenes.labels) // BATCH), leave=False, disable=None):
        pictures, labels = pictures.to(run.device), labels.to(run.device)
        maps, images = map_of(model, name, pictures, labels), data.normalise(pictures)
        made.append(maps.cpu())
        with run.autocast():
            pair = [curve(model, images, maps, labels, STEPS) for curve in (deletion_curve, insertion_curve)]
        curves.append(torch.stack(pair).cpu())  # (2, B, STEPS + 1)
    maps, (deletion, insertion) = torch.cat(made), torch.cat(curves, dim=1)
    overlap = best_overlap(maps, scenes.masks)
    results = dict(
        pointing_game=pointing_game(maps, scenes.masks).mean(),
        mean_iou=overlap.mean_iou,
        iou_threshold=overlap.threshold,
        mean_iou_each=overlap.mean_iou_each,
        energy_inside=energy_inside(maps, scenes.masks).mean(),
        deletion=area_under(deletion).mean(),
        insertion=area_under(insertion).mean(),
        other_class=unmoved_by_the_class(model, name, maps, scenes, run),
        mask_share=scenes.masks.float().mean(),  # what pointing game and energy are by chance
        probability=deletion[:, 0].mean(),  # of the true class, where the image is whole
    )
    return {key: round(float(value), 4) for key, value in results.items()}


def map_of(model: ViT, name: str, pictures: Tensor, labels: Tensor) -> Tensor:
    """A map of `NAMES` of uint8 pictures (B, 3, H, W), asked about classes (B,): (B, h, w).

    Or one of `COMPONENTS`, which ask about none.
    """
    if name in COMPONENTS:
        return COMPONENTS[name](model, pictures)
    if name in MAPS:
        return MAPS[name](model, data.normalise(pictures), labels)
    return BASELINES[name](pictures, model.config.patch_size)


def unmoved_by_the_class(model: ViT, name: str, maps: Tensor, scenes: Scenes, run: Run) -> float:
    """The correlation of maps for the true class with those for the class after it; 1 is blind to the class.

    Mean over the first `FEW` scenes, as occlusion takes long.
    """
    few = [each[:FEW].to(run.device).split(BATCH) for each in (scenes.images, scenes.labels)]
    others = [
        map_of(model, name, pictures, (labels + 1) % model.config.num_classes)
        for pictures, labels in zip(*few, strict=True)
    ]
    return float(similarity(maps[:FEW], torch.cat(others)).mean())


@functools.lru_cache(maxsize=1)
def scenes_to_score(images: int, seed: int, image_size: int | tuple[int, int]) -> Scenes:
    """The scenes that all maps of all checkpoints are scored on."""
    return data.scenes(images, seed, image_size, split="test")


def fingerprint(path: Path) -> str:
    """What tells a checkpoint's file from others of the same name."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def seed_of(path: Path) -> int | None:
    """The seed that a checkpoint was trained with, where the card beside it says so."""
    card = path.with_suffix(".json")
    return json.loads(card.read_text()).get("recipe", {}).get("seed") if card.is_file() else None
