"""Exercise 1.6, an open task: how few patches of a garment still tell a trained model what it is."""

import torch

from vitlab.checks.engine import OpenTask, Refused

GARMENTS = 200
RIGHT = 0.85  # of them are to be named rightly


def measure(entry, generator) -> float:
    """The mean number of patches kept of 200 garments, if the shipped model then names enough of them."""
    from vitlab import checkpoints, data, patchify

    model = checkpoints.load_checkpoint(checkpoints.bundled("fashion_mnist_vit"))
    test = data.fashion_mnist("test").subset(GARMENTS)
    patches = patchify(test.images, model.config.patch_size)  # (200, 49, 16)
    kept = [_places(entry(one.clone()), len(one)) for one in patches]
    right = 0
    with torch.inference_mode():
        tokens = model.embed(data.normalise(test.images))  # (200, 50, D)
        for sequence, places, label in zip(tokens, kept, test.labels, strict=True):
            left = sequence[[0, *(1 + place for place in places)]]
            right += int(model.head(model.norm(model.blocks(left[None])[:, 0])).argmax() == label)
    if right < RIGHT * GARMENTS:
        raise Refused(f"the model names {right / GARMENTS:.1%} of the garments rightly, and 85 % are wanted.")
    return sum(map(len, kept)) / GARMENTS


def _places(chosen, number) -> list[int]:
    """The answer as a list of whole numbers; Refused says what is wrong with it."""
    chosen = chosen.tolist() if hasattr(chosen, "tolist") else chosen
    if not isinstance(chosen, (list, tuple, range, set)):
        raise Refused("a list of patch numbers is wanted for each garment.")
    places = list(chosen)
    if any(isinstance(place, bool) or not isinstance(place, int) for place in places):
        raise Refused("patch numbers are whole numbers: is this a mask, or a grid of rows?")
    if any(place not in range(number) for place in places):
        raise Refused(f"patch numbers are 0 to {number - 1}.")
    if len(set(places)) < len(places):
        raise Refused("a patch is kept once or not at all.")
    return places


def _every_second(patches):
    return range(1, 49, 2)


def _mask(patches):
    return torch.arange(49) % 2 == 1


def _one_number(patches):
    return 24


def _from_one(patches):
    return range(1, 50)


EXERCISE = OpenTask(
    id="1.6",
    title="the fewest patches",
    measure=measure,
    goal=25,
    best=_every_second,
    refused=[
        (_mask, "patch numbers are whole numbers: is this a mask, or a grid of rows?"),
        (_one_number, "a list of patch numbers is wanted for each garment."),
        (_from_one, "patch numbers are 0 to 48."),
    ],
    says="{:.1f} patches",
    seconds=60,
)
