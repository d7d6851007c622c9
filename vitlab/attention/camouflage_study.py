"""The study of what is left of each map, and of its rivals, where colour does not tell where the object is.

`python -m vitlab.attention score-camouflage` makes it: every map of each checkpoint, and every rival that
asks no model, on scenes whose garments have a colour of their own, and on the same scenes with the garments
in colours of their backgrounds. The intervals are over scenes, for one model each; what another model would
give, the rows of several say. All is in fp32, but for `accuracy`, which is in the run's precision.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from vitlab import data
from vitlab.attention.baselines import BASELINES
from vitlab.attention.comparing import compared
from vitlab.attention.scores import scores_each
from vitlab.attention.study import BATCH, NAMES, fingerprint, map_of, seed_of
from vitlab.checkpoints import bundled, load_checkpoint
from vitlab.data import Scenes
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.training import evaluate


def camouflage_scores(checkpoints: Mapping[str, Path | None], images: int = 500, seed: int = 0) -> Study:
    """Claim 8 where colour says nothing: which maps still find the object, and do rivals?

    `checkpoints` maps names to files; None is for one that ships. The maps are asked about each scene's true
    class; scenes are those of the test split that `seed` draws, with `camouflage` and without. Raises
    ValueError for fewer than two scenes, which leave nothing to resample.

    >>> camouflage_scores({"scenes_vit": None}).varied
    ('camouflage', 'map')
    """
    if images < 2:
        raise ValueError(f"an interval needs the scores of at least 2 images; got {images}")
    runs = grid(seed=[seed], images=[images], camouflage=[False, True], checkpoint=checkpoints, map=NAMES)

    def measure(settings: Row, run: Run) -> Row:
        name = settings["checkpoint"]
        return measure_map(checkpoints[name] or bundled(name), settings, run)

    return Study("camouflage_scores", "What is left of maps where colour says nothing?", runs, measure)


def measure_map(path: Path, settings: Row, run: Run) -> Row:
    """One row: a map's scores, and how far each is ahead of the best baseline's."""
    which = settings["images"], settings["seed"], settings["camouflage"]
    names = dict.fromkeys([*BASELINES, settings["map"]])
    each = {name: scored(name, path, *which, run) for name in names}
    accuracy, mask_share = what_is_shown(path, *which, run)
    which = dict(model_seed=seed_of(path), weights=fingerprint(path), accuracy=accuracy)
    return which | compared(settings["map"], each) | dict(mask_share=mask_share)


@functools.cache
def what_is_shown(path: Path, images: int, seed: int, camouflage: bool, run: Run) -> tuple[float, float]:
    """How many of the scenes a model names rightly, and which share of them is garment."""
    model = load_checkpoint(path).to(run.device)
    scenes = scenes_of(images, seed, camouflage, model.config.image_size)
    accuracy = evaluate(model, scenes.dataset, run)[1]
    return round(accuracy, 4), round(float(scenes.masks.float().mean()), 4)


@functools.cache
def scored(name: str, path: Path, images: int, seed: int, camouflage: bool, run: Run) -> Mapping[str, Tensor]:
    """The scores of one map, scene by scene: (n,), and of the overlap (n, THRESHOLDS)."""
    model = load_checkpoint(path).to(run.device)
    scenes = scenes_of(images, seed, camouflage, model.config.image_size)
    batches = zip(scenes.images.split(BATCH), scenes.labels.split(BATCH), strict=True)
    made = [
        map_of(model, name, *(each.to(run.device) for each in batch)).cpu()
        for batch in tqdm(batches, name, -(-images // BATCH), leave=False, disable=None)
    ]
    return scores_each(torch.cat(made), scenes.masks)


@functools.lru_cache(maxsize=1)
def scenes_of(images: int, seed: int, camouflage: bool, image_size: int | tuple[int, int]) -> Scenes:
    """The scenes that all maps of all checkpoints are scored on."""
    return data.scenes(images, seed, image_size, split="test", camouflage=camouflage)
