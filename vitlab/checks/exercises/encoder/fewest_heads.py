"""Exercise 3.6, an open task: how few of a trained model's heads still name garments that nobody chose by."""

import torch

from vitlab.checks.engine import OpenTask, Refused

CHOSEN_BY = slice(0, 300)  # test images that an entry may ask about
MEASURED_ON = slice(1000, 1300)  # others, which decide
RIGHT = 0.85  # of them are to be named rightly


def measure(entry, generator) -> float:
    """How many heads are kept, if the shipped model without the others still names enough garments."""
    from vitlab import checkpoints, data

    model = checkpoints.load_checkpoint(checkpoints.bundled("fashion_mnist_vit"))
    test, config = data.fashion_mnist("test"), model.config
    heads = [(block, head) for block in range(config.depth) for head in range(config.num_heads)]

    def share(kept, which) -> float:
        from vitlab.attention import intervene

        gone = [pair for pair in heads if pair not in kept]
        with torch.inference_mode(), intervene(model, heads=gone):
            said = model(data.normalise(test.images[which])).argmax(dim=1)
        return (said == test.labels[which]).float().mean().item()

    made = entry(lambda kept: share(_pairs(kept, heads), CHOSEN_BY)) if callable(entry) else entry
    kept = _pairs(made, heads)
    right = share(kept, MEASURED_ON)
    if kept and right < RIGHT <= share([pair for pair in heads if pair not in kept], MEASURED_ON):
        raise Refused("the model names enough without these, not with them alone: return those that stay.")
    if right < RIGHT:
        of = f"{len(kept)} of {len(heads)}"
        raise Refused(f"with these heads alone ({of}) the model names {right:.1%}, and 85 % are wanted.")
    return len(kept)


def _pairs(made, heads) -> list[tuple[int, int]]:
    """The answer as (block, head) pairs; Refused says what is wrong with it."""
    made = made.tolist() if hasattr(made, "tolist") else made
    if isinstance(made, (str, dict)) or not hasattr(made, "__iter__"):
        raise Refused("a list of pairs (block, head) is wanted, such as [(0, 2), (3, 1)].")
    pairs = list(made)
    if any(_whole(each) for each in pairs):
        raise Refused("a head is a pair (block, head): each block counts its heads from 0 again.")
    if any(isinstance(each, str) or not hasattr(each, "__len__") or len(each) != 2 for each in pairs):
        raise Refused("each head is a pair (block, head): is this a mask, or are these names?")
    pairs = [tuple(map(_plain, each)) for each in pairs]
    if not all(_whole(number) for pair in pairs for number in pair):
        raise Refused("block and head are whole numbers, one of each: a head is chosen by its own pair.")
    for pair in pairs:
        if pair not in heads:
            last = heads[-1]
            raise Refused(f"there are blocks 0 to {last[0]} with heads 0 to {last[1]}, and no {pair}.")
    if len(set(pairs)) < len(pairs):
        raise Refused("a head is kept once or not at all.")
    return pairs


def _plain(number):
    """A number of PyTorch's or NumPy's as one of Python's."""
    return number.item() if getattr(number, "ndim", None) == 0 else number


def _whole(number) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _in_rounds(accuracy):
    kept = [(block, head) for block in range(4) for head in range(4)]
    for count in (3, 2, 1):
        without = {pair: accuracy([other for other in kept if other != pair]) for pair in kept}
        kept = sorted(kept, key=without.get)[:-count]
    return kept


def _those_that_go(accuracy):
    return [(0, 1), (0, 2), (2, 2), (3, 1), (3, 3)]


def _in_one_count(accuracy):
    return [0, 3, 4, 5, 6, 7, 8, 9, 11, 14]


def _from_one(accuracy):
    return [(block, head) for block in range(1, 5) for head in range(1, 4)]


def _whole_layers(accuracy):
    return [(0, range(4)), (2, range(4))]


def _mask(accuracy):
    return torch.ones(4, 4, dtype=torch.bool)


def _by_block(accuracy):
    return {0: [0, 3], 1: [0, 1]}


def _by_name(accuracy):
    return ["blocks.0.attn"]


def _twice(accuracy):
    return [(0, 0), (0, 0)]


def _none(accuracy):
    return []


EXERCISE = OpenTask(
    id="3.6",
    title="the fewest heads",
    measure=measure,
    goal=10,
    best=_in_rounds,
    refused=[
        (
            _those_that_go,
            "the model names enough without these, not with them alone: return those that stay.",
        ),
        (_in_one_count, "a head is a pair (block, head): each block counts its heads from 0 again."),
        (_from_one, "there are blocks 0 to 3 with heads 0 to 3, and no (4, 1)."),
        (_whole_layers, "block and head are whole numbers, one of each: a head is chosen by its own pair."),
        (_mask, "each head is a pair (block, head): is this a mask, or are these names?"),
        (_by_block, "a list of pairs (block, head) is wanted, such as [(0, 2), (3, 1)]."),
        (_by_name, "each head is a pair (block, head): is this a mask, or are these names?"),
        (_twice, "a head is kept once or not at all."),
    ],
    says="{:.0f} heads",
    seconds=300,
)
