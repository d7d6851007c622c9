"""The study of maps and rivals where colour says nothing, against loops and SciPy's paired bootstrap."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.color import rgb2lab
from torch import nn

from vitlab import ViT, ViTConfig, data, record_attention, save_checkpoint, studies
from vitlab.attention import baselines, maps
from vitlab.attention.__main__ import main
from vitlab.attention.camouflage_study import camouflage_scores

IMAGES = 12
RIVALS = ("random", "centred_gaussian", "local_contrast", "chroma", "centred_chroma")
SCORES = ("pointing_game", "energy_inside", "iou", "iou_half")


@pytest.fixture
def model():
    torch.manual_seed(0)
    small = dict(image_size=32, patch_size=8, in_chans=3, embed_dim=12, depth=2, num_heads=2, mlp_dim=16)
    vit = ViT(ViTConfig(**small)).eval()
    nn.init.normal_(vit.head.weight, std=0.5)
    return vit


@pytest.fixture
def checkpoint(model, tmp_path):
    path = save_checkpoint(model, tmp_path / "small.safetensors")
    path.with_suffix(".json").write_text('{"recipe": {"seed": 7}}')
    return str(path)


def score(checkpoint, folder, *arguments):
    chosen = ["--checkpoint", checkpoint, "--folder", str(folder), "--precision", "fp32"]
    main(["score-camouflage", *chosen, "--images", str(IMAGES), *arguments])
    return studies.read_rows(folder / "camouflage_scores.csv")


def loop_scores(made, masks):
    """Pointing, energy, and overlap at half and at 101 thresholds, picture by picture, in NumPy."""
    found = {name: [] for name in SCORES}
    side, size = made.shape[-1], masks.shape[-1]
    for values, mask in zip(np.asarray(made, dtype=float), masks.numpy(), strict=True):
        centres = (np.arange(size) + 0.5) * side / size - 0.5
        down = np.stack([np.interp(centres, np.arange(side), column) for column in values.T], axis=1)
        large = np.stack([np.interp(centres, np.arange(side), row) for row in down])
        spread = (large - large.min()) / (large.max() - large.min())
        highest = spread >= 1 - 1e-6
        overlaps = []
        for step in range(101):
            bright = spread >= step / 100 - 1e-9
            overlaps.append((bright & mask).sum() / (bright | mask).sum())
        found["pointing_game"].append((highest & mask).sum() / highest.sum())
        found["energy_inside"].append(large[mask].sum() / large.sum())
        found["iou"].append(overlaps)
        found["iou_half"].append(overlaps[50])
    return {name: np.array(each) for name, each in found.items()}


def best(values):
    """The mean over pictures, of overlaps at the threshold that is best for all."""
    return values.mean(axis=0).max()


def test_rows_say_what_loops_say(model, checkpoint, tmp_path):
    rows = score(checkpoint, tmp_path / "results")
    assert [(row["camouflage"], row["map"]) for row in rows] == [
        *itertools.product((False, True), dict.fromkeys([*maps.MAPS, *RIVALS]))
    ]
    assert {(row["status"], row["checkpoint"], row["model_seed"]) for row in rows} == {("done", "small", 7)}
    for camouflage in (False, True):
        scenes = data.scenes(IMAGES, 0, 32, split="test", camouflage=camouflage)
        table = {row["map"]: row for row in rows if row["camouflage"] == camouflage}
        inputs = data.normalise(scenes.images)
        with torch.no_grad(), record_attention(model) as record:
            right = (model(inputs).argmax(dim=1) == scenes.labels).float().mean()
        made = {name: baselines.BASELINES[name](scenes.images, 8) for name in RIVALS}
        made["class_attention"] = record.weights[-1, :, :, 0, 1:].mean(dim=1).unflatten(-1, (4, 4))
        each = {name: loop_scores(values, scenes.masks) for name, values in made.items()}
        for name in made:
            assert table[name]["accuracy"] == pytest.approx(float(right), abs=1e-4)
            for key in SCORES:
                assert table[name][key] == pytest.approx(best(each[name][key]), abs=2e-3), (name, key)
        mine = table["class_attention"]
        for key in SCORES:
            means = {name: best(each[name][key]) for name in RIVALS}
            assert means[mine[f"{key}_best_baseline"]] == pytest.approx(max(means.values()), abs=2e-3)
        for key in ("pointing_game", "energy_inside", "iou_half"):
            apart = each["class_attention"][key] - each[mine[f"{key}_best_baseline"]][key]
            ends = stats.bootstrap((apart,), np.mean, method="percentile", rng=0).confidence_interval
            assert mine[f"{key}_over_baseline"] == pytest.approx(apart.mean(), abs=2e-3)
            assert mine[f"{key}_over_baseline_low"] == pytest.approx(ends.low, abs=0.02)
            assert mine[f"{key}_over_baseline_high"] == pytest.approx(ends.high, abs=0.02)


def test_it_goes_on_and_one_row_is_made_again_by_its_command(checkpoint, tmp_path):
    rows = score(checkpoint, tmp_path / "one", "--only", "camouflage=True", "map=rollout")
    assert [(row["camouflage"], row["map"]) for row in rows] == [(True, "rollout")]
    file = tmp_path / "one" / "camouflage_scores.csv"
    file.write_text(file.read_text().replace(rows[0]["machine"], "another machine"))
    rows = score(checkpoint, tmp_path / "one", "--only", "camouflage=True", "map=rollout", "map=chroma")
    assert [row["machine"] == "another machine" for row in rows] == [True, False]
    arguments = rows[1]["command"].split()[3:]
    main([*arguments, "--folder", str(tmp_path / "again"), "--precision", "fp32"])
    (again,) = studies.read_rows(tmp_path / "again" / "camouflage_scores.csv")
    assert {**again, "seconds": 0} == {**rows[1], "seconds": 0}


def test_camouflage_takes_the_rivals_their_colour(checkpoint, tmp_path):
    rows = score(checkpoint, tmp_path, "--images", "100", "--only", "map=chroma", "map=centred_gaussian")
    found = {(row["camouflage"], row["map"]): row for row in rows}
    assert found[False, "chroma"]["pointing_game_low"] > 0.6
    assert found[True, "chroma"]["pointing_game_high"] < 0.4
    both = [found[hidden, "centred_gaussian"]["iou"] for hidden in (False, True)]
    assert both[0] == both[1]  # the masks are the same


def test_what_cannot_be_scored_is_refused(checkpoint, tmp_path, capsys):
    with pytest.raises(ValueError, match="at least 2 images; got 1"):
        camouflage_scores({"scenes_vit": None}, 1)
    with pytest.raises(SystemExit):
        score("fashion_mnist_vit", tmp_path)
    assert "is not a ViT for colour images of 10 garments" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "camouflage_scores.csv").exists()


# -------------------------------------------------------------------------------------- the table that ships


@pytest.fixture(scope="module")
def shipped():
    """(checkpoint, camouflage, map) -> row."""
    rows = studies.read_results("camouflage_scores")
    return {(row["checkpoint"], row["camouflage"], row["map"]): row for row in rows}


def test_every_model_has_every_map_and_rival(shipped):
    names = [f"scenes_vit{end}" for end in ("", "_2", "_3")]
    every = {*itertools.product(names, (False, True), [*maps.MAPS, *RIVALS])}
    assert shipped.keys() == every
    assert {row["images"] for row in shipped.values()} == {500}


def test_what_the_table_that_ships_says(shipped):
    """Garments in colours of their own are found by a rival as well; in their backgrounds', by maps alone."""
    for (_, camouflage, name), row in shipped.items():
        assert (row["accuracy"] < 0.7) if camouflage else (row["accuracy"] > 0.8)
        if name == "class_attention" and not camouflage:
            assert row["pointing_game_over_baseline_low"] < 0 < row["pointing_game_over_baseline_high"]
            assert row["iou_over_baseline_high"] < -0.05
        if name == "rollout" and not camouflage:
            assert row["iou_over_baseline_low"] > 0.05
            assert row["iou_half_over_baseline_low"] < 0 < row["iou_half_over_baseline_high"]
        if name == "chroma":
            assert (row["pointing_game_high"] < 0.25) if camouflage else (row["pointing_game_low"] > 0.8)
        if name in ("rollout", "class_attention", "attention_gradient", "relevance") and camouflage:
            assert row["pointing_game_best_baseline"] == "centred_gaussian"
            assert row["pointing_game_over_baseline_low"] > 0.1
            assert row["iou_over_baseline_low"] > 0.08
        if name in maps.MAPS.keys() - maps.BASELINES and camouflage:
            leads = name != "occlusion"  # as lesson 06 says
            assert (row["pointing_game_over_baseline_low"] > 0) == leads
            assert (row["iou_over_baseline_low"] > 0) == leads


@pytest.mark.parametrize("camouflage", [False, True])
def test_rivals_that_ship_by_loops(camouflage, shipped):
    scenes = data.scenes(500, 0, 48, split="test", camouflage=camouflage)
    places = (np.arange(12) + 0.5) / 12 - 0.5
    bell = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 0.25**2))
    away = []
    for picture in scenes.images.permute(0, 2, 3, 1).numpy():
        colours = rgb2lab(picture)[..., 1:]
        distance = np.linalg.norm(colours - np.median(colours, axis=(0, 1)), axis=-1)
        away.append(distance.reshape(12, 4, 12, 4).mean(axis=(1, 3)))
    made = {"chroma": np.stack(away), "centred_chroma": np.stack(away) * bell}
    made["centred_gaussian"] = np.broadcast_to(bell, (500, 12, 12))
    for name, values in made.items():
        each = loop_scores(values, scenes.masks)
        for checkpoint in ("scenes_vit", "scenes_vit_2", "scenes_vit_3"):
            row = shipped[checkpoint, camouflage, name]
            assert {key: row[key] for key in SCORES} == pytest.approx(
                {key: best(each[key]) for key in SCORES}, abs=4e-3
            )


def test_a_row_that_ships_is_made_again_within_its_spread(shipped, tmp_path):
    row = shipped["scenes_vit_2", True, "rollout"]
    main([*row["command"].split()[3:], "--folder", str(tmp_path)])
    (again,) = studies.read_rows(tmp_path / "camouflage_scores.csv")
    for key in (*SCORES, *(f"{score}_over_baseline" for score in SCORES)):
        assert row[f"{key}_low"] <= again[key] <= row[f"{key}_high"]
        assert again[key] == pytest.approx(row[key], abs=0.01)  # another machine sums in another order
    assert again["weights"] == row["weights"]
