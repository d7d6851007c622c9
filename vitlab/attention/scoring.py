"""Maps of one's own pictures, scored against one's own masks: a file a picture, a table, and a CSV.

A picture's file is written last and whole, and says what it was made with, so that a score that was stopped
goes on, and nothing of other settings is taken for what was asked.
"""

import functools
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitlab.attention.album import Album, sha256
from vitlab.attention.baselines import BASELINES
from vitlab.attention.keeping import kept_or_made
from vitlab.attention.maps import compute
from vitlab.attention.scores import area_under, deletion_curve, insertion_curve, scores_each
from vitlab.checkpoints import write_whole
from vitlab.data.folders import why_skipped
from vitlab.data.masks import fit_mask, read_mask
from vitlab.data.pictures import fit_picture, read_picture

STEPS = 6  # of the curves; they take most of the time

Scored = dict[str, np.ndarray]  # a score -> one number a map, and for each threshold of the overlap


@dataclass(frozen=True)
class Scoring:
    """What is scored and how: an album's folder, model and maps, and what the scores depend on besides."""

    album: Album
    curves: bool  # deletion and insertion, of the class that the model names
    above: int | None = None  # the value of a mask's pixel above which it is the object

    def __post_init__(self):
        view, name = self.album.view, self.album.model
        (height, width), (rows, columns) = view.description.patch_size, view.grid_size
        if (rows * height, columns * width) != view.image_size:
            raise ValueError(
                f"pictures of {view.image_size} pixels are no whole number of {height} x {width} patches, so "
                f"that a map of {name} would not lie on its mask; give another --image_size, if it takes one"
            )
        if self.curves and not view.classifies:
            raise ValueError(f"{name} has no classes, whose probability --curves would watch")

    @property
    def maps(self) -> tuple[str, ...]:
        """The model's maps, then those that ask no model."""
        return (*self.of_model, *BASELINES)

    @property
    def of_model(self) -> tuple[str, ...]:
        """The maps asked for, without those that are scored anyway."""
        return tuple(name for name in self.album.maps if name not in BASELINES)

    @functools.cached_property
    def settings(self) -> dict:
        """All that a picture's file depends on, but for picture and mask."""
        own = dict(scored=self.maps, curves=STEPS if self.curves else None, above=self.above)
        return self.album.settings | json.loads(json.dumps(own))


def score_pictures(
    scoring: Scoring, pairs: dict[str, tuple[Path, Path]]
) -> tuple[dict[str, Scored], dict[str, str]]:
    """The scores of each picture, made where they are not there yet, and name -> why of those skipped.

    Raises ValueError where the model, not a picture, is at fault, and where no picture can be read.
    """

    def found(name: str, files: tuple[Path, Path]) -> tuple[Scored | None, list[str]]:
        source = [sha256(file.read_bytes()) for file in files]
        return find(scoring, name, source), source

    scoring.album.folder.mkdir(parents=True, exist_ok=True)
    read = lambda files: read_pair(scoring, *files)  # noqa: E731
    return kept_or_made(pairs, found, read, functools.partial(make, scoring))


def read_pair(scoring: Scoring, path: Path, mask_path: Path) -> tuple[Tensor, Tensor, str]:
    """A picture and its mask as the model is shown them, (C, H, W) and (H, W), and a remark on the picture.

    Raises ValueError where they do not belong together, or no object is to be seen.
    """
    view = scoring.album.view
    picture, remark = read_picture(path)
    try:
        mask = read_mask(mask_path, scoring.above)
    except Exception as error:
        raise ValueError(f"its mask {mask_path.name}: {why_skipped(error)}") from error
    if mask.shape != picture.shape[-2:]:
        (height, width), (rows, columns) = mask.shape, picture.shape[-2:]
        raise ValueError(f"its mask has {height} × {width} pixels, the picture {rows} × {columns}")
    mask = fit_mask(mask, view.image_size)
    if not mask.any():
        raise ValueError("its mask shows no object in the part that the model is shown")
    return fit_picture(picture, view.image_size, view.channels), mask, remark


def make(scoring: Scoring, name: str, picture: Tensor, mask: Tensor, source: list[str]) -> Scored:
    """The scores of one picture, uint8 (C, H, W), kept in its file; `source` are its files' digests."""
    album, view = scoring.album, scoring.album.view
    shown = picture[None].to(next(view.model.parameters()).device)
    images = view.prepare(shown)
    with torch.no_grad():
        if not view(images).isfinite().all():
            raise ValueError(f"the output of {album.model} for {name} has values that are no numbers")
    made = compute(view, images, None, scoring.of_model)
    made |= {key: baseline(shown, view.patch_size) for key, baseline in BASELINES.items()}
    maps = torch.cat([made[key].float() for key in scoring.maps]).cpu()  # (maps, h, w)
    scores = scores_each(maps, mask.expand(len(maps), -1, -1))
    if scoring.curves:
        many = images.expand(len(maps), -1, -1, -1)
        for key, curve in dict(deletion=deletion_curve, insertion=insertion_curve).items():
            scores[key] = area_under(curve(view, many, maps, None, STEPS)).cpu()
    kept = {key: values.numpy() for key, values in scores.items()}
    kept["mask_share"] = mask.float().mean().numpy()
    about = json.dumps(dict(settings=scoring.settings, source=source))
    numbers = io.BytesIO()
    np.savez_compressed(numbers, maps=maps.numpy(), about=about, **kept)
    write_whole(file_of(scoring, name), numbers.getvalue())
    return kept


def file_of(scoring: Scoring, name: str) -> Path:
    """Where a picture's scores lie."""
    return scoring.album.file(name, "scores.npz")


def find(scoring: Scoring, name: str, source: list[str]) -> Scored | None:
    """A picture's scores whose file is whole and of the same settings; None where they have to be made."""
    try:
        with np.load(file_of(scoring, name), allow_pickle=False) as numbers:
            kept = {key: numbers[key] for key in numbers.files}  # each with a check sum
        about = json.loads(str(kept.pop("about")))
        del kept["maps"]
        return kept if about == dict(settings=scoring.settings, source=source) else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None  # missing or damaged
