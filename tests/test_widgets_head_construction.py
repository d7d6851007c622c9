"""The head to construct: its tokens and maps by hand, its sliders, what it says of right and wrong heads."""

import math
import re

import pytest
import torch

from vitlab.checks import verdict
from vitlab.widgets import HeadConstructionExplorer
from vitlab.widgets.head_construction import AIMS, BRIGHTNESS, head_map, tiny_tokens, wanted_map

SOLUTIONS = {
    "left": dict(q_place=5, turn=-1, k_place=6),
    "alike": dict(q_brightness=4, k_brightness=4),
    "class": dict(q_one=5, k_class=5),
}
WRONG = {  # the aim, the sliders, and to whom the worst patch then gives most
    "right neighbour": ("left", dict(q_place=5, turn=1, k_place=6), "patch"),
    "itself": ("left", dict(q_place=5, k_place=6), "itself"),
    "too weak": ("left", dict(q_place=1, turn=-1, k_place=1), "patch"),
    "unlike": ("alike", dict(q_brightness=-4, k_brightness=4), "several alike"),
    "the brightest": ("alike", dict(q_one=4, k_brightness=4), "several alike"),
    "the class token is not asked": ("class", dict(q_one=5), "several alike"),
    "away from it": ("class", dict(q_one=-5, k_class=5), "several alike"),
}
RIGHT = "That is the head that was wanted."


@pytest.fixture
def explorer():
    return HeadConstructionExplorer()


def by_hand(W_q, W_k):
    """The map in plain numbers, fp64: tokens, queries, keys, scores, softmax."""
    tokens = [[0, 0, 0, 1, 1]]
    for place, brightness in enumerate(BRIGHTNESS):
        angle = place * math.pi / 4
        tokens.append([brightness, math.cos(angle), math.sin(angle), 0, 1])
    times = [
        [
            [math.fsum(x * w for x, w in zip(t, column, strict=True)) for column in matrix.T.tolist()]
            for t in tokens
        ]
        for matrix in (W_q, W_k)
    ]
    rows = []
    for q in times[0]:
        scores = [math.fsum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q)) for k in times[1]]
        parts = [math.exp(score) for score in scores]
        rows.append([part / math.fsum(parts) for part in parts])
    return rows


def test_the_map_by_hand():
    W_q, W_k = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor(by_hand(W_q, W_k), dtype=torch.float64)
    torch.testing.assert_close(head_map(W_q, W_k, tiny_tokens()).double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("aim", AIMS)
def test_a_head_of_a_few_numbers_does_it(explorer, aim):
    explorer.set(aim=aim, **SOLUTIONS[aim])
    assert explorer.caption.endswith(RIGHT)
    numbers = {name: explorer.state[name] for name in explorer.state if name != "aim"}
    rows = by_hand(*explorer.matrices(**numbers))
    for patch in range(1, 9):
        if aim == "left":
            kept = rows[patch][patch - 1 or 8]
        elif aim == "class":
            kept = rows[patch][0]
        else:
            alike = [i + 1 for i, b in enumerate(BRIGHTNESS) if b == BRIGHTNESS[patch - 1]]
            kept = sum(rows[patch][other] for other in alike)
            assert max(rows[patch]) == pytest.approx(1 / len(alike), abs=0.01)
        assert kept > 0.95
    for other in AIMS.keys() - {aim}:
        explorer.set(aim=other)
        assert RIGHT not in explorer.caption


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_head_is_told_where_its_weight_goes(explorer, name):
    aim, numbers, most = WRONG[name]
    explorer.set(aim=aim, **numbers)
    assert explorer.caption.endswith("It is not yet the head that is wanted.")
    numbers = {name: explorer.state[name] for name in explorer.state if name != "aim"}
    rows, wanted = by_hand(*explorer.matrices(**numbers)), wanted_map(aim, tiny_tokens())
    kept = [
        sum(w for w, is_one in zip(row, ones, strict=True) if is_one)
        for row, ones in zip(rows, (wanted > 0).tolist(), strict=True)
    ][1:]
    average, least = re.search(
        r"On average ([\d.]+)% .* there, ([\d.]+)% at least", explorer.caption
    ).groups()
    assert float(average) == pytest.approx(100 * sum(kept) / 8, abs=0.06)
    assert float(least) == pytest.approx(100 * min(kept), abs=0.06)
    assert f"gives most to {most}" in explorer.caption


@pytest.mark.parametrize("name", list(HeadConstructionExplorer().controls))
def test_every_control_changes_picture_and_caption(explorer, name):
    start = {n: 2 for n in explorer.controls if n != "aim"}
    explorer.set(**start)
    picture, caption = explorer.picture, explorer.caption
    explorer.set(**{name: "class" if name == "aim" else 3})
    assert explorer.picture != picture
    assert explorer.caption != caption


@pytest.mark.parametrize("name", [name for name in HeadConstructionExplorer().controls if name != "aim"])
def test_a_slider_that_changes_no_weight_is_still_told(explorer, name):
    """Alone, a query or a key of zeros leaves all shares even; the caption says what was moved."""
    caption = explorer.caption
    explorer.set(**{name: 1})
    assert explorer.caption != caption


def test_each_patch_wants_one_whole(explorer):
    for aim in AIMS:
        wanted = wanted_map(aim, tiny_tokens())
        torch.testing.assert_close(wanted[1:].sum(dim=1), torch.ones(8))
        assert wanted[0].sum() == 0


@pytest.mark.parametrize("right", [True, False])
def test_sliders_and_exercise_agree(explorer, right):
    """The matrices of the sliders, given to the check, are right where the explorer says so."""

    def construct(aim):
        numbers = {name: 0 for name in explorer.controls if name != "aim"} | SOLUTIONS[aim]
        W_q, W_k = explorer.matrices(**numbers)
        return (W_q, W_k) if right else (W_k, W_q)

    assert (verdict("3.0", construct).status == "correct") == right
