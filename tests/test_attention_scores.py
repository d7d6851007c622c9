"""Scores of maps against loops over pixels, and the study that makes the table."""

import csv
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.color import rgb2lab
from torch import nn

from vitlab import ViT, ViTConfig, data, load_checkpoint, save_checkpoint, studies
from vitlab.attention import baselines
from vitlab.attention import maps as attention_maps
from vitlab.attention.__main__ import main
from vitlab.attention.scores import (
    THRESHOLDS,
    area_under,
    best_overlap,
    blurred,
    deletion_curve,
    energy_inside,
    insertion_curve,
    levels,
    order,
    overlaps,
    pointing_game,
    similarity,
)
from vitlab.attention.study import attention_scores
from vitlab.resnet import ResNet, ResNetConfig

SIZE = (6, 8)


def random(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def masks():
    masks = random(5, *SIZE) > 0.6
    masks[0] = False
    masks[0, 1:3, 2:6] = True
    return masks


@pytest.fixture
def maps():
    return torch.randn(5, *SIZE, generator=torch.Generator().manual_seed(4))


# --------------------------------------------------------------------------------------------- enlarging


def test_enlarged_by_loop():
    """A grid's value stands at the centre of its patch; between centres it changes in a straight line."""
    maps, (height, width) = random(2, 2, 3), (8, 12)
    made = levels(maps, (height, width)).double()
    for image in range(2):
        wanted = torch.zeros(height, width, dtype=torch.float64)
        for y, x in itertools.product(range(height), range(width)):
            v, u = (y + 0.5) / 4 - 0.5, (x + 0.5) / 4 - 0.5  # in patches, from the first patch's centre
            for row, column in itertools.product(range(2), range(3)):
                v_kept, u_kept = min(max(v, 0), 1), min(max(u, 0), 2)
                weight = max(0, 1 - abs(v_kept - row)) * max(0, 1 - abs(u_kept - column))
                wanted[y, x] += weight * float(maps[image, row, column])
        wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min()) * 1_000_000
        torch.testing.assert_close(made[image], wanted, atol=1.0, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.3, -1 / 3, 1e-9, 1e9])
def test_a_flat_map_stays_flat(value):
    assert levels(torch.full((1, 3, 5), value), (30, 40)).count_nonzero() == 0


# ------------------------------------------------------------------------------------------------ scores


def test_pointing_game_by_loop(maps, masks):
    wanted = []
    for values, mask in zip(maps.tolist(), masks.tolist(), strict=True):
        best = max(itertools.product(range(6), range(8)), key=lambda place: values[place[0]][place[1]])
        wanted.append(float(mask[best[0]][best[1]]))
    assert pointing_game(maps, masks).tolist() == wanted
    assert len({*wanted}) == 2


def test_pointing_with_ties_is_what_a_random_choice_hits(masks):
    maps = torch.zeros(5, *SIZE)
    torch.testing.assert_close(pointing_game(maps, masks), masks.float().mean(dim=(1, 2)))
    maps[0, 1, 2] = maps[0, 5, 7] = maps[0, 0, 0] = 2.0  # the first of them is on the object
    assert pointing_game(maps, masks)[0] == pytest.approx(1 / 3)


def test_energy_by_loop(maps, masks):
    made = energy_inside(maps, masks)
    for image in range(5):
        inside = whole = 0.0
        for y, x in itertools.product(range(6), range(8)):
            positive = max(0.0, float(maps[image, y, x]))
            inside += positive * float(masks[image, y, x])
            whole += positive
        assert made[image].item() == pytest.approx(inside / whole, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, -1.0, 0.25])
def test_energy_of_a_flat_map_is_the_objects_share(masks, value):
    made = energy_inside(torch.full((5, 2, 2), value), masks)
    torch.testing.assert_close(made, masks.float().mean(dim=(1, 2)))


def test_overlap_by_loop(maps, masks):
    made = overlaps(maps, masks)
    ious = torch.zeros(5, THRESHOLDS)
    for image, step in itertools.product(range(5), range(0, THRESHOLDS, 7)):
        values = maps[image].double()
        values = (values - values.min()) / (values.max() - values.min())
        both = either = 0
        for y, x in itertools.product(range(6), range(8)):
            chosen, there = float(values[y, x]) >= step / 100, bool(masks[image, y, x])
            both, either = both + (chosen and there), either + (chosen or there)
        ious[image, step] = both / either
        assert made[image, step].item() == pytest.approx(both / either)
    found = best_overlap(maps, masks)
    assert found.mean_iou == pytest.approx(float(made.mean(0).max()))
    assert made.mean(0)[round(100 * found.threshold)] == pytest.approx(found.mean_iou)
    assert found.mean_iou_each == pytest.approx(float(made.max(1).values.mean()))
    assert found.mean_iou < found.mean_iou_each


def test_the_mask_itself_has_every_score(masks):
    maps = masks.float()
    assert pointing_game(maps, masks).tolist() == [1] * 5
    assert energy_inside(maps, masks).tolist() == [1] * 5
    assert best_overlap(maps, masks)[::2] == (1, 1)
    assert best_overlap(torch.zeros(5, 2, 2), masks).mean_iou == pytest.approx(
        float(masks.float().mean(dim=(1, 2)).mean())
    )


@pytest.mark.parametrize("score", [pointing_game, energy_inside, overlaps])
def test_scores_are_the_same_on_any_scale(maps, masks, score):
    torch.testing.assert_close(score(8 * maps, masks), score(maps, masks))


@pytest.mark.parametrize("score", [pointing_game, energy_inside, best_overlap])
def test_masks_that_do_not_fit(maps, masks, score):
    with pytest.raises(ValueError, match=r"masks are bool of shape \(5, H, W\).*got \(4, 6, 8\)"):
        score(maps, masks[:4])
    with pytest.raises(ValueError, match="torch.float32"):
        score(maps, masks.float())
    with pytest.raises(ValueError, match="5 of 5 masks show no object"):
        score(maps, masks & False)


@pytest.mark.parametrize("score", [pointing_game, best_overlap])
def test_maps_that_are_no_numbers(maps, masks, score):
    with pytest.raises(ValueError, match="maps are finite numbers"):
        score(maps / 0, masks)


def test_similarity_is_pearsons_correlation(maps):
    others = maps.flip(0) + 0.5 * maps
    wanted = np.corrcoef(maps.flatten(1), others.flatten(1)).diagonal(5)
    torch.testing.assert_close(similarity(maps, others).double(), torch.tensor(wanted), atol=1e-6, rtol=0)
    torch.testing.assert_close(similarity(1e-6 * maps + 1, -maps), -torch.ones(5), atol=0.02, rtol=0)
    assert similarity(maps, torch.full_like(maps, 0.3)).tolist() == [0] * 5
    with pytest.raises(ValueError, match=r"got \(5, 6, 8\) and \(5, 8, 6\)"):
        similarity(maps, maps.transpose(1, 2))


# ------------------------------------------------------------------------------------------------ curves


@pytest.fixture
def model():
    torch.manual_seed(0)
    small = dict(image_size=SIZE, patch_size=2, in_chans=3, num_classes=4, embed_dim=12, depth=2, num_heads=2)
    model = ViT(ViTConfig(**small, mlp_dim=16)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture
def images():
    return torch.randn(5, 3, *SIZE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_curves_by_loop(model, images, maps, steps):
    """Pixel after pixel in the maps' order, one image after the other."""
    classes = [0, 1, 2, 3, 0]
    deleted = deletion_curve(model, images, maps, classes, steps)
    inserted = insertion_curve(model, images, maps, classes, steps)
    assert deleted.shape == inserted.shape == (5, steps + 1)
    soft = F.interpolate(F.adaptive_avg_pool2d(images, 2), size=SIZE, mode="bilinear", align_corners=False)
    for image, target in enumerate(classes):
        places = sorted(
            itertools.product(range(6), range(8)), key=lambda p, m=maps[image]: -float(m[p[0], p[1]])
        )
        without, with_ = images[image].clone(), soft[image].clone()
        for step in range(steps + 1):
            for y, x in places[: round(48 * step / steps)]:
                without[:, y, x] = 0
                with_[:, y, x] = images[image, :, y, x]
            with torch.no_grad():
                for curve, shown in ((deleted, without), (inserted, with_)):
                    wanted = model(shown[None]).softmax(-1)[0, target]
                    torch.testing.assert_close(curve[image, step], wanted, atol=1e-5, rtol=1e-4)


def test_the_class_is_the_predicted_one_of_the_whole_image(model, images, maps):
    with torch.no_grad():
        predicted = model(images).argmax(-1)
    for curve in (deletion_curve, insertion_curve):
        assert torch.equal(curve(model, images, maps), curve(model, images, maps, predicted))
    ends = deletion_curve(model, images, maps)[:, 0], insertion_curve(model, images, maps)[:, -1]
    torch.testing.assert_close(ends[0], ends[1])
    assert (ends[0] > 0.25).all()  # of 4 classes the likeliest


def test_equal_values_go_in_random_order_and_the_same_each_time():
    flat = torch.ones(40, 2, 2)
    places = order(flat, (10, 10))
    assert torch.equal(places, order(flat, (10, 10)))
    assert places.flatten(1).sort(dim=1).values.equal(torch.arange(100).expand(40, 100))
    assert abs(float(places[:, :5].float().mean()) - 49.5) < 3  # neither half of the image comes first
    assert len({tuple(each.flatten().tolist()) for each in places}) == 40


def test_larger_values_go_first_however_close():
    values = torch.linspace(0, 1, 100).view(1, 10, 10)
    assert order(values, (10, 10)).flatten().tolist() == [*range(99, -1, -1)]


def test_area_under_by_loop():
    curve = random(3, 7)
    wanted = [sum((c[i] + c[i + 1]) / 2 / 6 for i in range(6)) for c in curve.tolist()]
    torch.testing.assert_close(area_under(curve), torch.tensor(wanted))
    assert area_under(torch.ones(4)) == 1


def test_blurring_keeps_the_mean_colour_and_loses_detail():
    images = torch.randn(2, 3, 48, 64)
    soft = blurred(images)
    assert soft.shape == images.shape
    torch.testing.assert_close(soft.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=0.02, rtol=0)
    assert soft.diff().abs().mean() < 0.1 * images.diff().abs().mean()


def test_curves_of_a_model_that_is_no_vit(maps, images):
    model = ResNet(ResNetConfig(in_chans=3, num_classes=4, width=8, blocks=(1,)))
    assert deletion_curve(model, images, maps, 2).eq(0.25).all()  # its head is zero
    assert model.training


def test_curves_that_cannot_be_made(model, images, maps):
    with pytest.raises(ValueError, match="at least 1 step; got 0"):
        deletion_curve(model, images, maps, steps=0)
    with pytest.raises(ValueError, match="one map for each image; got 5 and 4"):
        insertion_curve(model, images[:4], maps)
    with pytest.raises(ValueError, match="0 to 3, or one for each of 5 images, or a .*; got 4"):
        deletion_curve(model, images, maps, target=4)


# ------------------------------------------------------------------------------------------------- study


@pytest.fixture
def checkpoints(tmp_path):
    """Two ViTs for scenes of 32 pixels, small and untrained but for their heads."""
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        small = dict(image_size=32, patch_size=8, in_chans=3, embed_dim=12, depth=2, num_heads=2, mlp_dim=16)
        model = ViT(ViTConfig(**small))
        nn.init.normal_(model.head.weight, std=0.5)
        paths.append(save_checkpoint(model, tmp_path / f"vit_{seed}.safetensors"))
        paths[-1].with_suffix(".json").write_text(f'{{"recipe": {{"seed": {seed}}}}}')
    return [str(path) for path in paths]


def score(*arguments):
    main(["score", "--images", "12", "--precision", "fp32", *arguments])


def test_the_table(checkpoints, tmp_path, capsys):
    folder = tmp_path / "results"
    score("--checkpoint", checkpoints[0], "--folder", str(folder), "--only", "map=rollout", "map=occlusion")
    rows = studies.read_rows(folder / "attention_scores.csv")
    assert [(row["checkpoint"], row["map"]) for row in rows] == [("vit_0", "rollout"), ("vit_0", "occlusion")]
    score("--checkpoint", checkpoints[1], "--folder", str(folder))  # the first one's rows stay
    score("--checkpoint", *checkpoints, "--folder", str(folder))
    rows = studies.read_rows(folder / "attention_scores.csv")
    assert [(row["checkpoint"], row["map"]) for row in rows] == [
        *itertools.product(("vit_0", "vit_1"), [*attention_maps.MAPS, "random", "chroma", "centred_chroma"])
    ]
    assert {row["status"] for row in rows} == {"done"}
    assert [row["model_seed"] for row in rows] == [0] * 11 + [1] * 11
    for row in rows:
        for name in ("pointing_game", "mean_iou", "mean_iou_each", "energy_inside", "deletion", "insertion"):
            assert 0 <= row[name] <= 1
    blind = {row["map"]: row["other_class"] for row in rows[:11]}
    assert [blind[name] for name in ("rollout", "class_attention", *baselines.BASELINES)] == [1] * 7
    assert max(blind[name] for name in ("relevance", "input_gradient", "occlusion")) < 0.99
    command = rows[0]["command"]
    assert command.startswith("python -m vitlab.attention score --checkpoint ")
    assert command.endswith("vit_0.safetensors --images 12 --seed 0 --only map=rollout")
    assert "22 of 22 runs done, 0 failed" in capsys.readouterr().out
    scenes = data.scenes(12, 0, 32, split="test")
    model = ViT(ViTConfig(image_size=32, patch_size=8, in_chans=3))
    gaussian = attention_maps.centred_gaussian(model, data.normalise(scenes.images))
    rivals = {
        "centred_gaussian": gaussian,
        "chroma": by_scikit_image(scenes.images),
        "centred_chroma": by_scikit_image(scenes.images) * gaussian,
    }
    for row in (row for row in rows if row["map"] in rivals):
        made = rivals[row["map"]]
        assert row["pointing_game"] == pytest.approx(
            float(pointing_game(made, scenes.masks).mean()), abs=1e-4
        )
        assert row["mean_iou"] == pytest.approx(best_overlap(made, scenes.masks).mean_iou, abs=1e-3)
        assert row["mask_share"] == pytest.approx(float(scenes.masks.float().mean()), abs=1e-4)


def by_scikit_image(pictures):
    """Distance in a* and b* from the median, mean over patches of 8 x 8 pixels."""
    made = []
    for picture in pictures:
        colours = rgb2lab(picture.permute(1, 2, 0).numpy())[..., 1:]
        away = np.linalg.norm(colours - np.median(colours, axis=(0, 1)), axis=-1)
        made.append(away.reshape(4, 8, 4, 8).mean(axis=(1, 3)))
    return torch.from_numpy(np.stack(made)).float()


def test_rows_that_are_there_are_not_made_again(checkpoints, tmp_path):
    chosen = ["--checkpoint", checkpoints[0], "--folder", str(tmp_path), "--only", "map=local_contrast"]
    score(*chosen)
    path = tmp_path / "attention_scores.csv"
    before = path.read_text()
    score(*chosen)
    assert path.read_text() == before
    with open(path, newline="") as file:
        (row,) = csv.DictReader(file)
    again = tmp_path / "again"
    main([*row["command"].split()[3:], "--precision", "fp32", "--folder", str(again)])
    with open(again / "attention_scores.csv", newline="") as file:
        (same,) = csv.DictReader(file)
    assert {key: row[key] for key in row if key != "seconds"} == {
        key: same[key] for key in row if key != "seconds"
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--chekpoint", "a"], "unrecognized arguments: --chekpoint"),
        (["--check", "a"], "unrecognized arguments"),
        (["--checkpoint", "no_such"], "no checkpoint 'no_such' ships with vitlab; there are: "),
        (["--checkpoint", "nowhere/x.safetensors"], "there is no file nowhere/x.safetensors"),
        (["--checkpoint", "fashion_mnist_vit"], "is not a ViT for colour images of 10 garments"),
        (["--checkpoint", "CK", "CK"], "two checkpoints have the same name"),
        (["--checkpoint", "CK", "--only", "map=rolout"], "map is one of rollout, .*; got 'rolout'"),
        (["--checkpoint", "CK", "--only", "rollout"], "--only takes SETTING=VALUE"),
        (["--checkpoint", "CK", "--images", "many"], "invalid int value: 'many'"),
        (["--checkpoint", "CK", "--images", "0"], "images is at least 1; got 0"),
    ],
)
def test_what_is_misspelt_is_told_before_anything_runs(arguments, words, checkpoints, tmp_path, capsys):
    arguments = [checkpoints[0] if argument == "CK" else argument for argument in arguments]
    with pytest.raises(SystemExit) as ended:
        main(["score", *arguments, "--folder", str(tmp_path)])
    assert ended.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(words, error), error
    assert not (tmp_path / "attention_scores.csv").exists()


def test_a_checkpoint_that_numbers_the_garments_otherwise_is_refused(checkpoints, tmp_path, capsys):
    """Maps would be asked about another class than the one in the scene."""
    model = load_checkpoint(checkpoints[0])
    model.class_names = data.fashion_mnist("test").classes
    save_checkpoint(model, checkpoints[0])
    score("--checkpoint", checkpoints[0], "--folder", str(tmp_path / "right"), "--only", "map=local_contrast")
    model.class_names = model.class_names[::-1]
    save_checkpoint(model, checkpoints[0])
    with pytest.raises(SystemExit):
        score("--checkpoint", checkpoints[0], "--folder", str(tmp_path))
    assert "10 garments, numbered as in scenes: T-shirt/top, Trouser" in capsys.readouterr().err


def test_a_file_of_other_images_is_left_alone(checkpoints, tmp_path, capsys):
    chosen = ["--checkpoint", checkpoints[0], "--folder", str(tmp_path), "--only", "map=local_contrast"]
    score(*chosen)
    before = (tmp_path / "attention_scores.csv").read_text()
    with pytest.raises(SystemExit):
        score(*chosen, "--images", "20")
    assert "made with other settings" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "attention_scores.csv").read_text() == before


def test_another_file_of_the_same_name_is_not_taken_for_the_first(checkpoints, tmp_path, capsys):
    chosen = ["--checkpoint", checkpoints[0], "--folder", str(tmp_path / "results")]
    score(*chosen, "--only", "map=local_contrast")
    Path(checkpoints[0]).write_bytes(Path(checkpoints[1]).read_bytes())
    with pytest.raises(SystemExit):
        score(*chosen, "--only", "map=centred_gaussian")
    assert "has rows of another vit_0; write to another folder" in " ".join(capsys.readouterr().err.split())


def test_the_study_knows_its_maps():
    with pytest.raises(ValueError, match="the maps are rollout, .*; got 'grad_cam'"):
        attention_scores({"scenes_vit": None}, maps=["rollout", "grad_cam"])


@pytest.mark.slow
def test_the_command_as_a_shell_runs_it(checkpoints, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "vitlab.attention", "score", "--images", "10"]
    chosen = ["--checkpoint", checkpoints[0], "--only", "map=centred_gaussian", "--folder", str(tmp_path)]
    made = subprocess.run([*command, *chosen], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert "1 of 11 runs done" in made.stdout
    assert "map=centred_gaussian" in made.stderr  # the progress bar
