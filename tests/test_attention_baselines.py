"""Baselines that ask no model, and the paired bootstrap, against loops, scikit-image and SciPy."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.color import rgb2lab

from vitlab import ViT, ViTConfig
from vitlab.attention import baselines, best_of, maps, paired_bootstrap
from vitlab.attention.baselines import BASELINES
from vitlab.attention.scores import overlaps, pointing_game

SIZE, PATCH, GRID = (9, 15), (3, 5), (3, 3)


@pytest.fixture
def pictures():
    draw = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8, generator=draw)


# ----------------------------------------------------------------------------------------------- baselines


def patches_of(values, row, column):
    return values[3 * row : 3 * row + 3, 5 * column : 5 * column + 5]


def test_chroma_by_scikit_image(pictures):
    made = baselines.chroma(pictures, PATCH)
    for picture, found in zip(pictures.numpy(), made.numpy(), strict=True):
        colours = rgb2lab(picture.transpose(1, 2, 0))[..., 1:]
        away = np.sqrt(((colours - np.median(colours, axis=(0, 1))) ** 2).sum(axis=-1))
        for row, column in itertools.product(range(3), range(3)):
            assert found[row, column] == pytest.approx(patches_of(away, row, column).mean(), abs=0.05)
    assert made.min() > 10


def test_brightness_is_no_chroma():
    grey = torch.randint(0, 256, (2, 1, *SIZE), dtype=torch.uint8).expand(-1, 3, -1, -1)
    assert baselines.chroma(grey, PATCH).max() < 0.05
    assert baselines.chroma(grey[:, :1], PATCH).eq(0).all()
    with pytest.raises(ValueError, match=r"before normalisation; got torch.float32"):
        baselines.chroma(grey.float(), PATCH)


def test_the_others_by_loop(pictures):
    contrast, bell = baselines.local_contrast(pictures, PATCH), baselines.centred_gaussian(pictures, PATCH)
    for b, row, column in itertools.product(range(4), range(3), range(3)):
        y, x = (row + 0.5) / 3 - 0.5, (column + 0.5) / 3 - 0.5
        assert bell[b, row, column].item() == pytest.approx(np.exp(-(y**2 + x**2) * 8))
        wanted = np.mean([patches_of(channel, row, column).std() for channel in pictures[b].numpy()])
        assert contrast[b, row, column].item() == pytest.approx(wanted, rel=1e-5)
    product = baselines.chroma(pictures, PATCH) * bell
    assert torch.equal(baselines.centred_chroma(pictures, PATCH), product)


def test_chance_is_fair_and_goes_with_the_picture(pictures):
    made = baselines.random(pictures, PATCH)
    assert torch.equal(baselines.random(pictures.flip(0), PATCH).flip(0), made)  # whatever it stands beside
    assert len({tuple(each.flatten().tolist()) for each in made}) == 4
    many = torch.arange(400 * 3 * 64).view(400, 3, 8, 8).remainder(251).to(torch.uint8)
    many[:, 0, 0, 0] = torch.arange(400).remainder(256).to(torch.uint8)
    many[:, 0, 0, 1] = torch.arange(400) // 256
    drawn = baselines.random(many, 2)
    assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 0.01
    masks = torch.zeros(400, 8, 8, dtype=torch.bool)
    masks[:, :4, :4] = True
    assert pointing_game(drawn, masks).mean().item() == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("name", BASELINES)
def test_what_no_whole_patch_holds_is_left_out(pictures, name):
    inner = pictures[:, :, :8, :14].contiguous()
    made = BASELINES[name](inner, 4)
    assert made.shape == (4, 2, 3)
    if "chroma" not in name and name != "random":  # whose median, or seed, is that of the whole picture
        assert torch.equal(made, BASELINES[name](inner[..., :12], 4))
    with pytest.raises(ValueError, match="no whole patch of 3 x 16"):
        BASELINES[name](pictures, (3, 16))


def test_several_are_each_as_alone_and_another_is_refused(pictures):
    made = baselines.compute(pictures, 4, ["chroma", "random"])
    assert list(made) == ["chroma", "random"]
    assert torch.equal(made["chroma"], baselines.chroma(pictures, 4))
    assert torch.equal(made["random"], baselines.random(pictures, 4))
    with pytest.raises(ValueError, match="the baselines are random, .*; got 'colour'"):
        baselines.compute(pictures, 4, ["colour"])


def test_those_of_maps_are_the_same(pictures):
    config = ViTConfig(image_size=(9, 15), patch_size=3, in_chans=3, embed_dim=12, num_heads=2, depth=1)
    images, model = pictures.float(), ViT(config)
    for name in ("centred_gaussian", "local_contrast"):
        assert torch.equal(maps.MAPS[name](model, images), BASELINES[name](pictures, 3))


# ----------------------------------------------------------------------------------------------- bootstrap


def scores_of(n, seed=0):
    """Two maps whose scores go up and down together, and one that has nothing to do with them."""
    draw = np.random.default_rng(seed)
    hard = draw.normal(0.5, 0.2, n)
    columns = hard + draw.normal(0.02, 0.02, n), hard, draw.uniform(0, 1, n)
    return {
        name: torch.tensor(each) for name, each in zip(("better", "worse", "other"), columns, strict=True)
    }


def test_intervals_by_scipy():
    scores = scores_of(40)
    alone, apart = paired_bootstrap(scores), paired_bootstrap(scores, minus="worse")
    for name, each in scores.items():
        for found, values in ((alone, each), (apart, each - scores["worse"])):
            assert found[name].value == pytest.approx(float(values.mean()))
            if values.any():
                limits = stats.bootstrap(
                    (values.numpy(),), np.mean, method="percentile", n_resamples=20_000, rng=1
                ).confidence_interval
                width = limits.high - limits.low
                assert found[name][1:] == pytest.approx((limits.low, limits.high), abs=0.04 * width)
    assert apart["worse"] == (0, 0, 0)
    assert alone["better"].low < alone["worse"].high  # not told apart by their own intervals
    assert apart["better"].low > 0  # but by the difference on the same images


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(300):
        found = paired_bootstrap(scores_of(60, seed), minus="worse", resamples=400, seed=seed)["better"]
        held += found.low <= 0.02 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_the_threshold_is_sought_anew_in_each_resample():
    draw = torch.Generator().manual_seed(0)
    masks = torch.rand(12, 6, 8, generator=draw) > 0.6
    made = {name: torch.rand(12, 3, 4, generator=draw) for name in ("one", "two")}
    tables = {name: overlaps(each, masks) for name, each in made.items()}
    found = paired_bootstrap(tables, resamples=700, seed=5, level=0.9)
    apart = paired_bootstrap(tables, minus="two", resamples=700, seed=5, level=0.9)
    chance = torch.Generator().manual_seed(5)
    drawn = torch.cat([torch.randint(12, (n, 12), generator=chance) for n in (500, 200)]).numpy()
    best = {
        name: np.array([table.double().numpy()[chosen].mean(axis=0).max() for chosen in drawn])
        for name, table in tables.items()
    }
    assert found["one"].value == pytest.approx(float(tables["one"].mean(0).max()))
    assert found["one"][1:] == pytest.approx(np.quantile(best["one"], [0.05, 0.95]))
    assert apart["one"][1:] == pytest.approx(np.quantile(best["one"] - best["two"], [0.05, 0.95]))


def test_the_same_seed_gives_the_same():
    scores = scores_of(20)
    assert paired_bootstrap(scores) == paired_bootstrap(scores)
    assert paired_bootstrap(scores, seed=1)["other"] != paired_bootstrap(scores)["other"]
    alone = {"other": scores["other"]}
    assert paired_bootstrap(alone)["other"] == pytest.approx(paired_bootstrap(scores)["other"])


def test_the_best_of_some():
    scores = scores_of(20)
    assert best_of(scores, ["worse", "better"]) == "better"
    assert best_of(scores, ["worse", "better"], least=True) == "worse"
    tables = {"flat": torch.full((4, 3), 0.5), "peak": torch.tensor([[0.0, 0.6, 0.0]]).expand(4, 3)}
    assert best_of(tables, ["flat", "peak"]) == "peak"  # at its best threshold


@pytest.mark.parametrize(
    ("scores", "options", "said"),
    [
        ({}, {}, "there are scores of nothing"),
        ({"a": [0.5, 1.0]}, dict(minus="b"), "there are scores of a; got minus='b'"),
        ({"a": [0.5, 1.0], "b": [0.5]}, {}, r"of the same images, \(2,\) or .*; got \(1,\) for b"),
        ({"a": [0.5]}, {}, "at least 2 images; got 1"),
        ({"a": [0.5, float("nan")]}, {}, "scores of a are not all numbers"),
        ({"a": [0.5, 1.0]}, dict(resamples=0), "resamples is at least 1"),
        ({"a": [0.5, 1.0]}, dict(level=95), "level between 0 and 1, such as 0.95; got 10000 and 95"),
    ],
)
def test_scores_that_do_not_fit(scores, options, said):
    with pytest.raises(ValueError, match=said):
        paired_bootstrap({name: torch.tensor(each) for name, each in scores.items()}, **options)
