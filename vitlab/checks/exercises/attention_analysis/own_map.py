"""Exercise 6.6, an open task: a map of one's own that fits the garments best."""

import torch
import torch.nn.functional as F

from vitlab.checks.engine import OpenTask, Refused

SCENES = 150
BATCH = 50  # attention of all scenes at once is 0.7 GB, and an entry may take 1 GB
GRID = (12, 12)


def measure(entry, generator) -> float:
    """The mean IoU of a map with the true masks of 150 scenes, at the threshold that is best for all."""
    from vitlab.attention import record_attention, scores
    from vitlab.checkpoints import bundled, load_checkpoint
    from vitlab.data import normalise, scenes

    drawn = scenes(SCENES, seed=66, image_size=48, split="test")
    model = load_checkpoint(bundled("scenes_vit"))
    made = []
    for images in drawn.images.split(BATCH):
        with torch.no_grad(), record_attention(model) as recording:
            model(normalise(images))
        made.append(_a_map(entry(images.clone(), recording.weights)))
    return scores.best_overlap(torch.cat(made), drawn.masks).mean_iou


def _a_map(made):
    if not isinstance(made, torch.Tensor):
        raise Refused("maps are one tensor, (B, 12, 12): `torch.stack` or `torch.as_tensor`?")
    if made.shape != (BATCH, *GRID):
        raise Refused(f"maps of {BATCH} scenes are ({BATCH}, 12, 12); these are {tuple(made.shape)}.")
    if not made.is_floating_point() or not made.isfinite().all():
        raise Refused("a map has float numbers, all of them finite.")
    return made.detach()


def _rollout(weights):
    """Class rows (B, 12, 12), heads averaged."""
    identity = torch.eye(weights.shape[-1])
    joint = identity
    for layer in weights.mean(2):
        joint = (layer + identity) / 2 @ joint
    return joint[:, 0, 1:].unflatten(-1, GRID)


def _chroma(images):
    """How far the colour of a patch is from the picture's median colour."""
    share = images.float() / images.float().sum(1, keepdim=True).clamp(min=1)
    median = share.flatten(2).median(-1).values[..., None, None]
    return F.avg_pool2d((share - median).norm(dim=1)[:, None], images.shape[-1] // GRID[1])[:, 0]


def _apart(maps):
    """Each map with mean 0 and deviation 1."""
    return (maps - maps.mean((1, 2), keepdim=True)) / maps.std((1, 2), keepdim=True)


def _both(images, weights):
    return _apart(_rollout(weights).log()) + 0.3 * _apart(_chroma(images))


def _no_tensor(images, weights):
    return images.tolist()


def _of_pixels(images, weights):
    return images.float().mean(1)


def _whole_numbers(images, weights):
    return _both(images, weights).long()


EXERCISE = OpenTask(
    id="6.6",
    title="a map of your own",
    measure=measure,
    goal=0.83,
    best=_both,
    refused=[
        (_no_tensor, "maps are one tensor, (B, 12, 12): `torch.stack` or `torch.as_tensor`?"),
        (_of_pixels, "maps of 50 scenes are (50, 12, 12); these are (50, 48, 48)."),
        (_whole_numbers, "a map has float numbers, all of them finite."),
    ],
    larger_wins=True,
    says="IoU {:.3f}",
    seconds=60,
)
