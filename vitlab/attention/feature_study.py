"""The study of what features of patches show of the object, without a class and without a mask.

`python -m vitlab.attention score-features` makes it: the first principal component of each scene's patch
features, as a map, beside that of its pixels and that of an untrained ViT's features, and every map that asks
no model, "random" for chance and "centred_gaussian" for the middle among them. Scenes, scores, intervals and
precision are those of `camouflage_scores`; the threshold of `iou_half` is fixed and needs no mask.
"""

from collections.abc import Mapping
from pathlib import Path

from vitlab.attention.baselines import BASELINES
from vitlab.attention.camouflage_study import measure_map
from vitlab.attention.components import COMPONENTS
from vitlab.checkpoints import bundled
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid


def feature_pca(checkpoints: Mapping[str, Path | None], images: int = 500, seed: int = 0) -> Study:
    """Do patch features tell the object from its background, though nobody showed the model a mask?

    `checkpoints` maps names to files; None is for one that ships. Raises ValueError for fewer than two
    scenes, which leave nothing to resample.

    >>> feature_pca({"scenes_vit": None}).varied
    ('camouflage', 'map')
    """
    if images < 2:
        raise ValueError(f"an interval needs the scores of at least 2 images; got {images}")
    runs = grid(
        seed=[seed],
        images=[images],
        camouflage=[False, True],
        checkpoint=checkpoints,
        map=[*COMPONENTS, *BASELINES],
    )

    def measure(settings: Row, run: Run) -> Row:
        name = settings["checkpoint"]
        return measure_map(checkpoints[name] or bundled(name), settings, run)

    return Study("feature_pca", "Do patch features tell the object from its background?", runs, measure)
