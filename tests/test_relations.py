"""Relations: two garments in one scene, against the backgrounds without them and against counts by hand."""

import time

import numpy as np
import pytest
import torch

from vitlab import data
from vitlab.data import pairs as module


@pytest.fixture(scope="module", params=["same", "order"])
def many(request) -> data.Relations:
    return data.relations(2003, seed=3, relation=request.param)


@pytest.mark.parametrize("size", [32, 48, (33, 57), (64, 32)])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("relation", ["same", "order"])
def test_types_shapes_and_ranges(size, split, relation):
    found = data.relations(5, image_size=size, split=split, relation=relation)
    height, width = (size, size) if isinstance(size, int) else size
    assert (found.images.shape, found.images.dtype) == ((5, 3, height, width), torch.uint8)
    assert (found.labels.shape, found.labels.dtype) == ((5,), torch.int64)
    assert (found.masks.shape, found.masks.dtype) == ((5, 2, height, width), torch.bool)
    assert (found.garments.shape, found.garments.dtype) == ((5, 2), torch.int64)
    assert int(found.images.max()) - int(found.images.min()) > 100
    assert found.masks.flatten(2).any(dim=2).all()
    assert len(found.dataset.classes) == 2


def test_the_answers_are_true_of_the_garments(many):
    left, right = many.garments.T
    if many.relation == "same":
        assert torch.equal(many.labels, (left == right).long())
    else:
        assert not (left == right).any()
        assert torch.equal(many.labels, (left < right).long())


def test_half_of_the_answers_are_yes_and_every_class_is_as_likely(many):
    n = len(many.labels)
    assert abs(many.labels.float().mean() - 0.5) < 4 * 0.5 / n**0.5
    for side in many.garments.T:
        shares = side.bincount(minlength=10) / n
        assert (shares - 0.1).abs().max() < 4 * (0.09 / n) ** 0.5


def test_what_one_garment_alone_tells():
    """Of "same" nothing; of "order" the share that the docstring says, counted over all pairs by hand."""
    same, order = (data.relations(20_000, seed=1, image_size=32, relation=r) for r in ("same", "order"))
    for found, wanted in ((same, 0.5), (order, 70 / 90)):
        counts = torch.zeros(10, 2).index_put_(
            (found.garments[:, 0], found.labels), torch.ones(20_000), accumulate=True
        )
        assert abs(counts.amax(dim=1).sum() / 20_000 - wanted) < 0.015
    assert sum(max(k, 9 - k) for k in range(10)) == 70


def test_a_pair_of_one_class_is_never_one_garment_twice():
    labels = torch.tensor([1, 0, 1, 0, 1, 1])
    pairs, draws = torch.tensor([[0, 0]] * 300 + [[1, 1]] * 300 + [[0, 1]] * 300), torch.rand(900, 2).double()
    draws[0], draws[300] = 0, 1 - 1e-9
    chosen = module.pick(labels, pairs, draws)
    assert torch.equal(labels[chosen], pairs)
    assert (chosen[:600, 0] != chosen[:600, 1]).all()
    assert {tuple(pair) for pair in chosen[:300].tolist()} == {(1, 3), (3, 1)}
    assert len({tuple(pair) for pair in chosen[300:600].tolist()}) == 4 * 3


@pytest.mark.parametrize("size", [48, (64, 40)])
def test_masks_are_where_the_image_differs_from_its_background(monkeypatch, size):
    found = data.relations(60, seed=2, image_size=size)
    real = data.fashion_mnist
    monkeypatch.setattr(
        module,
        "fashion_mnist",
        lambda split: real(split)._replace(images=torch.zeros_like(real(split).images)),
    )
    grounds = data.relations(60, seed=2, image_size=size).images
    differs = (found.images != grounds).any(dim=1)
    near = torch.nn.functional.max_pool2d(found.masks.any(dim=1)[:, None].float(), 5, 1, padding=2)[:, 0] > 0
    assert not (differs & ~near).any()
    assert differs[found.masks.any(dim=1)].float().mean() > 0.97


def test_the_two_are_far_apart_and_each_on_its_side(many):
    columns = torch.arange(48.0) + 0.5
    weights = many.masks.any(dim=2).float()  # columns that a garment covers
    middles = (weights * columns).sum(dim=2) / weights.sum(dim=2)  # (n, 2)
    assert (middles[:, 0] < 24).all()
    assert (middles[:, 1] > 24).all()
    assert np.quantile(middles[:, 1] - middles[:, 0], 0.01) > 0.35 * 48
    assert not (many.masks[:, 0] & many.masks[:, 1]).any()
    assert (many.masks.flatten(2).sum(dim=2) > 20).float().mean() > 0.99


def test_the_seed_decides_and_more_go_on_where_fewer_end(many):
    again = data.relations(501, seed=3, relation=many.relation)
    for few, all_of_them in zip(again[:4], many[:4], strict=True):
        assert torch.equal(few, all_of_them[:501])
    other = data.relations(501, seed=4, relation=many.relation)
    assert not torch.equal(other.labels, again.labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(n=0), "at least 1; got 0"),
        (dict(n=2.5), "whole number of scenes, at least 1; got 2.5"),
        (dict(n=3, image_size=31), "at least 32 pixels high and wide; got 31"),
        (dict(n=3, split="validation"), '"train" or "test"; got \'validation\''),
        (dict(n=3, relation="left"), "relation is one of same, order; got 'left'"),
    ],
)
def test_what_makes_no_relation_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.relations(**arguments)


def test_five_thousand_a_second_on_two_cores():
    """Processor time of one thread, which others hardly touch: two cores give two seconds of it in one."""
    threads, n, spent = torch.get_num_threads(), 4000, []
    data.relations(1)  # reads the files
    torch.set_num_threads(1)
    try:
        for _ in range(3):
            before = time.process_time()
            data.relations(n)
            spent.append(time.process_time() - before)
    finally:
        torch.set_num_threads(threads)
    assert n / (min(spent) / 2) >= 5000, f"{n / (min(spent) / 2):,.0f} a second"
