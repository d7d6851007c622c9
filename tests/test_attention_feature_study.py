"""The study of the first principal component of patch features, against NumPy, loops and what ships."""

import itertools

import numpy as np
import pytest
import torch
from test_attention_camouflage_study import (  # noqa: F401
    IMAGES,
    RIVALS,
    SCORES,
    best,
    checkpoint,
    loop_scores,
    model,
)

from vitlab import data, files, load_checkpoint, patchify, studies
from vitlab.attention.__main__ import main
from vitlab.attention.components import principal_untrained
from vitlab.attention.feature_study import feature_pca

MAPS = ("principal_features", "principal_pixels", "principal_untrained", *RIVALS)


def score(checkpoint, folder, *arguments):  # noqa: F811
    chosen = ["--checkpoint", checkpoint, "--folder", str(folder), "--precision", "fp32"]
    main(["score-features", *chosen, "--images", str(IMAGES), *arguments])
    return studies.read_rows(folder / "feature_pca.csv")


def by_numpy(patches: torch.Tensor, grid: tuple[int, int]) -> np.ndarray:
    """Each picture's component by NumPy's singular vectors, its edge below: (n, N, D) -> (n, h, w)."""
    edge = np.ones(grid, dtype=bool)
    edge[1:-1, 1:-1] = False
    made = []
    for own in patches.double().numpy():
        centred = own - own.mean(axis=0)
        component = (centred @ np.linalg.svd(centred)[2][0]).reshape(grid)
        component = -component if component[edge].mean() > component[~edge].mean() else component
        made.append(component - component.min())  # no score that is compared changes by that
    return np.stack(made)


def test_rows_say_what_loops_say(model, checkpoint, tmp_path):  # noqa: F811
    rows = score(checkpoint, tmp_path)
    assert [(row["camouflage"], row["map"]) for row in rows] == [*itertools.product((False, True), MAPS)]
    assert {(row["status"], row["checkpoint"], row["model_seed"]) for row in rows} == {("done", "small", 7)}
    for camouflage in (False, True):
        scenes = data.scenes(IMAGES, 0, 32, split="test", camouflage=camouflage)
        images = data.normalise(scenes.images)
        with torch.no_grad():
            tokens = model.forward_features(images)[:, 1:]
        parts = dict(principal_features=tokens, principal_pixels=patchify(images, 8))
        table = {row["map"]: row for row in rows if row["camouflage"] == camouflage}
        for name, patches in parts.items():
            found = loop_scores(by_numpy(patches, (4, 4)), scenes.masks)
            for key in ("pointing_game", "iou", "iou_half"):  # energy is of the values above 0 alone
                assert table[name][key] == pytest.approx(best(found[key]), abs=2e-3), (name, key)
        for key in SCORES:
            assert table["principal_untrained"][key] != table["principal_features"][key]


def test_an_untrained_rival_is_another_for_each_model_and_the_same_again(model):  # noqa: F811
    pictures = data.scenes(3, 0, 32, split="test").images
    first, again = (principal_untrained(model, pictures) for _ in range(2))
    state = torch.get_rng_state()
    assert torch.equal(first, again)
    with torch.no_grad():
        model.cls_token += 1
    assert not torch.allclose(principal_untrained(model, pictures), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_row_is_made_again_by_its_command(checkpoint, tmp_path):  # noqa: F811
    rows = score(checkpoint, tmp_path / "one", "--only", "camouflage=True", "map=principal_features")
    main([*rows[0]["command"].split()[3:], "--folder", str(tmp_path / "again"), "--precision", "fp32"])
    (again,) = studies.read_rows(tmp_path / "again" / "feature_pca.csv")
    assert {**again, "seconds": 0} == {**rows[0], "seconds": 0}


def test_what_cannot_be_scored_is_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="at least 2 images; got 1"):
        feature_pca({"scenes_vit": None}, 1)
    with pytest.raises(SystemExit):
        score("fashion_mnist_vit", tmp_path)
    assert "is not a ViT for colour images of 10 garments" in " ".join(capsys.readouterr().err.split())


# -------------------------------------------------------------------------------------- the table that ships


@pytest.fixture(scope="module")
def shipped():
    """(checkpoint, camouflage, map) -> row."""
    rows = studies.read_results("feature_pca")
    return {(row["checkpoint"], row["camouflage"], row["map"]): row for row in rows}


CHECKPOINTS = [f"scenes_vit{end}" for end in ("", "_2", "_3")]


def test_every_model_has_every_map_and_rival(shipped):
    assert shipped.keys() == {*itertools.product(CHECKPOINTS, (False, True), MAPS)}
    assert {row["images"] for row in shipped.values()} == {500}


def test_what_the_table_that_ships_says(shipped):
    """Features find the garment far better than chance, the middle, pixels and an untrained model do.

    Where its colour gives it away, a map of colours is better yet; where it does not, none is.
    """
    for which, camouflage in itertools.product(CHECKPOINTS, (False, True)):
        own = shipped[which, camouflage, "principal_features"]
        for name in ("principal_pixels", "principal_untrained", "random", "centred_gaussian"):
            for key in ("iou", "pointing_game") if name != "centred_gaussian" else ("iou",):
                assert own[f"{key}_low"] > shipped[which, camouflage, name][f"{key}_high"]
        # half of a map's range, a threshold that needs no mask
        assert own["iou_half_low"] > shipped[which, camouflage, "centred_gaussian"]["iou_half_high"]
        assert own["iou_best_baseline"] == ("centred_gaussian" if camouflage else "chroma")
        assert (own["iou_over_baseline_low"] > 0.1) if camouflage else (own["iou_over_baseline_high"] < 0)


@pytest.mark.parametrize("camouflage", [False, True])
def test_rows_that_ship_by_loops(camouflage, shipped):
    scenes = data.scenes(500, 0, 48, split="test", camouflage=camouflage)
    images = data.normalise(scenes.images)
    vit = load_checkpoint(files.find("checkpoints/scenes_vit_2.safetensors"))
    with torch.no_grad():
        tokens = torch.cat([vit.forward_features(part)[:, 1:] for part in images.split(100)])
    parts = dict(principal_features=tokens, principal_pixels=patchify(images, 4))
    for name, patches in parts.items():
        row = shipped["scenes_vit_2", camouflage, name]
        found = loop_scores(by_numpy(patches, (12, 12)), scenes.masks)
        for key in ("pointing_game", "iou", "iou_half"):
            assert row[key] == pytest.approx(best(found[key]), abs=4e-3), (name, key)
        assert row["mask_share"] == pytest.approx(float(scenes.masks.float().mean()), abs=1e-4)
