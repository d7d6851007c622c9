"""Exercise 3.0: a head to construct."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from vitlab.checks.engine import Exercise

# Nine tokens of five numbers: brightness (1 or -1), cosine and sine of the place, class token's mark, one.


@dataclass(frozen=True)
class _Wanted:
    """What the head of an aim is to do, token by token, instead of its matrices."""

    rule: Callable


def _cases(generator):
    for aim in ("left", "alike", "class"):
        for _ in range(2):
            bright = torch.randperm(8, generator=generator) < torch.randint(3, 6, (), generator=generator)
            tokens = torch.zeros(9, 5)
            for patch in range(8):
                angle = 2 * math.pi * patch / 8
                place = math.cos(angle), math.sin(angle)
                tokens[patch + 1] = torch.tensor([1.0 if bright[patch] else -1.0, *place, 0, 1])
            tokens[0] = torch.tensor([0.0, 0, 0, 1, 1])
            yield aim, tokens


def _call(answer, aim, tokens):
    """What each patch attends to, (8, 9), by the two matrices that `answer` gives for an aim."""
    made = answer(aim)
    if isinstance(made, _Wanted):
        return made.rule(tokens)
    if not isinstance(made, (tuple, list)) or len(made) != 2:
        raise ValueError("wanted are two matrices, `return W_q, W_k`")
    W_q, W_k = (torch.as_tensor(matrix).double() for matrix in made)
    if W_q.ndim != 2 or W_q.shape[0] != 5 or W_q.shape != W_k.shape:
        shapes = f"{tuple(W_q.shape)} and {tuple(W_k.shape)}"
        raise ValueError(f"W_q and W_k are both (5, d), a row for each number of a token; got {shapes}")
    queries, keys = tokens.double() @ W_q, tokens.double() @ W_k
    return (queries @ keys.mT / W_q.shape[1] ** 0.5).softmax(dim=-1)[1:]


def _map(tokens, wanted):
    """Equal shares over the tokens for which `wanted(patch, other)` holds; both count from 0, the class."""
    weights = torch.zeros(8, 9, dtype=torch.float64)
    for patch in range(1, 9):
        others = [other for other in range(9) if wanted(patch, other)]
        for other in others:
            weights[patch - 1, other] = 1 / len(others)
    return weights


def _construct(aim):
    def left(tokens):
        return _map(tokens, lambda patch, other: other == (patch - 1 or 8))

    def alike(tokens):
        return _map(tokens, lambda patch, other: other > 0 and tokens[other, 0] == tokens[patch, 0])

    def only_class(tokens):
        return _map(tokens, lambda patch, other: other == 0)

    return _Wanted({"left": left, "alike": alike, "class": only_class}[aim])


# The wrong answers are matrices, as a learner has them; each is right for the other two aims.


def _right_heads(aim):
    W_q, W_k = torch.zeros(5, 2), torch.zeros(5, 2)
    if aim == "left":
        cos = math.cos(math.pi / 4)
        W_q[1:3] = 40 * torch.tensor([[cos, -cos], [cos, cos]])
        W_k[1:3] = torch.eye(2)
    elif aim == "alike":
        W_q[0, 0], W_k[0, 0] = 40, 1
    else:
        W_q[4, 0], W_k[3, 0] = 40, 1
    return W_q, W_k


def _swapped_places(aim):
    W_q, W_k = _right_heads(aim)
    return (W_k, W_q) if aim == "left" else (W_q, W_k)


def _itself(aim):
    W_q, W_k = _right_heads(aim)
    if aim == "left":
        W_q[1:3] = 40 * torch.eye(2)
    return W_q, W_k


def _two_to_the_left(aim):
    W_q, W_k = _right_heads(aim)
    if aim == "left":
        W_q[1:3] = 40 * torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    return W_q, W_k


def _opposite(aim):
    W_q, W_k = _right_heads(aim)
    return (-W_q, W_k) if aim == "left" else (W_q, W_k)


def _mirrored(aim):
    W_q, W_k = _right_heads(aim)
    if aim == "left":
        W_q[2] = -W_q[2]
    return W_q, W_k


def _too_soft(aim):
    W_q, W_k = _right_heads(aim)
    return (W_q / 40, W_k) if aim == "left" else (W_q, W_k)


def _unlike(aim):
    W_q, W_k = _right_heads(aim)
    return (-W_q, W_k) if aim == "alike" else (W_q, W_k)


def _to_the_brightest(aim):
    W_q, W_k = _right_heads(aim)
    if aim == "alike":
        W_q[4, 0], W_q[0, 0] = 40, 0
    return W_q, W_k


def _to_the_darkest(aim):
    W_q, W_k = _right_heads(aim)
    if aim == "alike":
        W_q[4, 0], W_q[0, 0] = -40, 0
    return W_q, W_k


def _likeness_too_soft(aim):
    W_q, W_k = _right_heads(aim)
    return (W_q / 40, W_k) if aim == "alike" else (W_q, W_k)


def _likeness_of_places(aim):
    W_q, W_k = _right_heads(aim)
    if aim == "alike":
        W_q[1:3], W_k[1:3], W_q[0, 0] = 40 * torch.eye(2), torch.eye(2), 0
    return W_q, W_k


def _only_the_class_token_asks(aim):
    W_q, W_k = _right_heads(aim)
    return (W_k, W_q) if aim == "class" else (W_q, W_k)


def _class_too_soft(aim):
    W_q, W_k = _right_heads(aim)
    return (W_q / 40, W_k) if aim == "class" else (W_q, W_k)


def _away_from_the_class_token(aim):
    W_q, W_k = _right_heads(aim)
    return (-W_q, W_k) if aim == "class" else (W_q, W_k)


def _by_brightness(aim):
    W_q, W_k = _right_heads(aim)
    if aim == "class":
        W_q[0, 0], W_q[4, 0] = 40, 0
    return W_q, W_k


def _soft_throughout(aim):
    W_q, W_k = _right_heads(aim)
    return W_q / 40, W_k


def _zeros(aim):
    return torch.zeros(5, 2), torch.zeros(5, 2)


EXERCISE = Exercise(
    "3.0",
    "a head to construct",
    cases=_cases,
    oracle=_construct,
    mistakes=[
        (
            _swapped_places,
            "with 'left', each patch attends to its right neighbour: the query is turned the other way, or "
            "W_q and W_k are swapped, which makes columns of rows.",
        ),
        (
            _itself,
            "with 'left', each patch attends to itself: query and key are the same place; turn one of them.",
        ),
        (
            _two_to_the_left,
            "with 'left', the query is turned by a quarter; a patch is an eighth of a turn.",
        ),
        (_opposite, "with 'left', a sign is wrong: each patch attends to the place across the circle."),
        (
            _mirrored,
            "with 'left', the place is mirrored, not turned: to turn by t takes [[cos t, sin t], "
            "[-sin t, cos t]].",
        ),
        (
            _too_soft,
            "with 'left', the direction is right, and the scores are too alike: make the numbers larger.",
        ),
        (_unlike, "with 'alike', a sign is wrong: bright patches attend to dark ones."),
        (
            _to_the_brightest,
            "with 'alike', every patch attends to the bright ones: its query does not say how bright it is.",
        ),
        (
            _to_the_darkest,
            "with 'alike', every patch attends to the dark ones: its query does not say how bright it is.",
        ),
        (
            _likeness_too_soft,
            "with 'alike', the direction is right, and the scores are too alike: make the numbers larger.",
        ),
        (
            _likeness_of_places,
            "with 'alike', each patch attends to itself: places are compared; compare brightness.",
        ),
        (
            _only_the_class_token_asks,
            "with 'class', patches share evenly: to them all keys are alike. The key reads the class token's "
            "mark, the query the one that every token has; W_q and W_k may be swapped.",
        ),
        (
            _class_too_soft,
            "with 'class', the direction is right, and the scores are too alike: make the numbers larger.",
        ),
        (
            _away_from_the_class_token,
            "with 'class', a sign is wrong: each patch attends to all but the class token.",
        ),
        (
            _by_brightness,
            "with 'class', dark patches turn away: their brightness is negative; the last number, 1, is "
            "the same in every token.",
        ),
        (
            _soft_throughout,
            "the directions are right, and the scores are too alike: make the numbers larger.",
        ),
        (
            _zeros,
            "all scores of a row are equal, so every token gets an even share: something must differ from "
            "key to key, and be asked for.",
        ),
    ],
    tolerance=0.05,
    call=_call,
)
