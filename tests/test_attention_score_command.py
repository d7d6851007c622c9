"""`python -m vitlab.attention score MODEL FOLDER`: masks, scores and intervals by other ways."""

import csv
import itertools
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from vitlab.attention import __main__, attach, scoring
from vitlab.attention.baselines import BASELINES
from vitlab.attention.scores import area_under, best_overlap, deletion_curve, energy_inside, pointing_game
from vitlab.data.masks import fit_mask, pictures_and_masks, read_mask

transformers = pytest.importorskip("transformers")

SIZE = (24, 32)
TINY = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)


def randomised(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small classifier as transformers saves it."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(5)
    config = transformers.ViTConfig(image_size=SIZE, patch_size=8, **TINY)
    randomised(transformers.ViTForImageClassification(config)).save_pretrained(folder)
    steps = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3, image_processor_type="ViTImageProcessor")
    (folder / "preprocessor_config.json").write_text(json.dumps(steps))
    return folder


def save_pair(picture, mask, size, seed):
    """A picture of noise and a mask of one rectangle."""
    draw = np.random.default_rng(seed)
    for path in (picture, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(picture)
    there = np.zeros(size, bool)
    top, left = draw.integers(2, size[0] // 2), draw.integers(2, size[1] // 2)
    there[top : top + size[0] // 3, left : left + size[1] // 3] = True
    Image.fromarray(there).save(mask)


@pytest.fixture
def folder(tmp_path):
    """Six pictures with masks: four that fit the model, one wide, one in a folder of its own."""
    root = tmp_path / "mine"
    for n in range(4):
        save_pair(root / f"{n}.bmp", root / f"{n}.png", SIZE, n)
    save_pair(root / "wide.jpg", root / "wide.png", (30, 70), 4)
    save_pair(root / "more" / "0.bmp", root / "more" / "0.png", (48, 64), 5)
    return root


def run(*words) -> int | str:
    """The exit status of the command, or what it says as it is stopped."""
    try:
        __main__.main(["score", *map(str, words)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def rows_in(out):
    with open(out / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


NAMES = ["0.bmp", "1.bmp", "2.bmp", "3.bmp", "more--0.bmp", "wide.jpg"]


def by_hand(path, mask_path):
    """A picture and its mask as the model takes them, by Pillow and loops."""
    image, mask = Image.open(path).convert("RGB"), np.asarray(Image.open(mask_path)).astype(float)
    (width, height), (rows, columns) = image.size, SIZE
    part = min(width / columns, height / rows)
    left, top = (width - part * columns) / 2, (height - part * rows) / 2
    box = left, top, left + part * columns, top + part * rows
    image = image.resize((columns, rows), Image.Resampling.BICUBIC, box)
    there = np.zeros(SIZE)
    for y, x in itertools.product(range(rows), range(columns)):
        cover = []
        for length, start, at in ((height, top, y), (width, left, x)):
            begin, end = start + at * part, start + (at + 1) * part
            cover.append([max(0.0, min(end, n + 1) - max(begin, n)) for n in range(length)])
        there[y, x] = np.outer(*cover).ravel() @ mask.ravel() / part**2
    images = torch.from_numpy(np.array(image) / 127.5 - 1).permute(2, 0, 1)[None].float()
    return images, torch.from_numpy(there >= 0.5)[None]


def test_the_scores_of_each_picture(folder, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(f"hf:{model}", folder, "--out", out, "--maps", "class_attention", "relevance") == 0
    said, rows = capsys.readouterr().out, rows_in(out)
    assert [(row["picture"], row["map"]) for row in rows] == list(
        itertools.product(NAMES, ["class_attention", "relevance", *BASELINES])
    )
    eager = transformers.ViTForImageClassification.from_pretrained(model, attn_implementation="eager").eval()
    view = attach(eager, mean=[0.5], std=[0.5])
    attention, masks, deletion = [], [], []
    for name in NAMES:
        path = folder / name.replace("--", "/")
        images, mask = by_hand(path, path.with_suffix(".png"))
        with torch.no_grad():
            last = eager(images, output_attentions=True).attentions[-1][0].mean(dim=0)
        attention.append(last[0, 1:].reshape(1, 3, 4))
        masks.append(mask)
        curve = deletion_curve(view, images, attention[-1], None, 6)
        deletion.append(float(area_under(curve)))
    attention, masks = torch.cat(attention), torch.cat(masks)
    found = {
        key: [float(row[key]) for row in rows if row["map"] == "class_attention"]
        for key in rows[0]
        if key[0] in "pemi" and key not in ("picture", "map")
    }
    assert found["mask_share"] == pytest.approx(masks.float().mean(dim=(1, 2)).tolist(), abs=1e-5)
    assert found["pointing_game"] == pytest.approx(pointing_game(attention, masks).tolist(), abs=1e-5)
    assert found["energy_inside"] == pytest.approx(energy_inside(attention, masks).tolist(), abs=1e-5)
    best = best_overlap(attention, masks)
    assert np.mean(found["iou"]) == pytest.approx(best.mean_iou, abs=1e-5)
    assert found["iou_threshold"] == pytest.approx([best.threshold] * 6)
    line = re.search(r"best for all pictures\n  class_attention +([\d.]+) ", said)
    assert float(line[1]) == pytest.approx(best.mean_iou, abs=6e-4)
    told = [float(row["deletion"]) for row in rows if row["map"] == "class_attention"]
    assert told == pytest.approx(deletion, abs=1e-4)


def test_intervals_by_scipy(folder, model, tmp_path, capsys):
    for n in range(10, 30):
        save_pair(folder / f"{n}.bmp", folder / f"{n}.png", SIZE, n)
    out = tmp_path / "out"
    assert run(f"hf:{model}", folder, "--out", out, "--no-curves", "--seed", 3) == 0
    said = capsys.readouterr().out
    assert "10,000 resamples of the pictures, which are the same for all maps (seed 3)" in said
    block = said.partition("energy: ")[2].partition("\n\n")[0]
    of_map = {
        name: np.array([float(row["energy_inside"]) for row in rows_in(out) if row["map"] == name])
        for name in ("rollout", *BASELINES)
    }
    best = max(BASELINES, key=lambda name: of_map[name].mean())
    assert re.search(rf"^  {best} .*baseline, the best$", block, re.MULTILINE)
    numbers = [
        float(n) for n in re.findall(r"[+-]?\d\.\d+", re.search(r"^  rollout .*$", block, re.MULTILINE)[0])
    ]
    for values, (value, low, high) in (
        (of_map["rollout"], numbers[:3]),
        (of_map["rollout"] - of_map[best], numbers[3:]),
    ):
        assert value == pytest.approx(values.mean(), abs=1e-3)
        limits = stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=10_000, rng=1
        ).confidence_interval
        width = limits.high - limits.low
        assert (low, high) == pytest.approx((limits.low, limits.high), abs=0.05 * width + 1e-3)
    assert "deletion" not in said
    assert "deletion" not in rows_in(out)[0]


def test_it_goes_on_where_it_was_stopped(folder, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = (f"hf:{model}", folder, "--out", out, "--maps", "rollout", "--no-curves")
    write, written = scoring.write_whole, []

    def stopped(path, content):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, content)

    monkeypatch.setattr(scoring, "write_whole", stopped)
    assert "goes on from there" in run(*words)
    assert not (out / "scores.csv").exists()
    monkeypatch.setattr(
        scoring, "write_whole", lambda path, content: (written.append(path.name), write(path, content))
    )
    assert run(*words) == 0
    files = [f"{name}.scores.npz" for name in NAMES]
    assert written == files
    whole = (out / "scores.csv").read_text()
    assert run(*words) == 0
    assert written == files
    (out / files[1]).write_bytes((out / files[1]).read_bytes()[:-30])
    save_pair(folder / "2.bmp", tmp_path / "unused.png", SIZE, 77)
    Image.fromarray(np.ones(SIZE, bool)).save(folder / "3.png")
    assert run(*words) == 0
    assert written[6:] == files[1:4]  # cut off, another picture, another mask
    assert (out / "scores.csv").read_text() != whole
    assert run(*words, "--above", 0) == 0
    assert written[9:] == files


def test_pictures_that_cannot_be_scored_are_named(folder, model, tmp_path, capsys):
    (folder / "broken.jpg").write_bytes((folder / "wide.jpg").read_bytes()[:200])
    Image.fromarray(np.ones((9, 9), bool)).save(folder / "broken.png")
    save_pair(folder / "small.bmp", folder / "small.png", (50, 50), 1)
    Image.fromarray(np.ones((9, 9), bool)).save(folder / "small.png")
    save_pair(folder / "empty.bmp", folder / "empty.png", SIZE, 1)
    Image.fromarray(np.zeros(SIZE, bool)).save(folder / "empty.png")
    save_pair(folder / "cut.bmp", folder / "cut.png", (24, 90), 1)
    edge = np.zeros((24, 90), bool)
    edge[:, :20] = True
    Image.fromarray(edge).save(folder / "cut.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "lonely.png")
    (folder / "soft.bmp").write_bytes((folder / "0.bmp").read_bytes())
    Image.fromarray(np.arange(768).reshape(SIZE).astype(np.uint8)).save(folder / "soft.png")
    (folder / "notes.txt").write_text("words")
    assert run(f"hf:{model}", folder, "--out", folder / "scores", "--no-curves", "--maps", "rollout") == 1
    said = capsys.readouterr()
    assert "6 of 11 pictures with masks are in" in said.out
    assert re.search(r"^skipped broken.jpg: .", said.err, re.MULTILINE)
    for name, why in {
        "small.bmp": "its mask has 9 × 9 pixels, the picture 50 × 50",
        "empty.bmp": "its mask shows no object in the part that the model is shown",
        "cut.bmp": "its mask shows no object in the part that the model is shown",
        "lonely.png": "there is no mask lonely.png for it",
        "soft.bmp": "its mask soft.png: a mask has two values, 0 and that of the object; this one has 256",
        "notes.txt": "no picture, by the ending of its name",
    }.items():
        assert f"skipped {name}: {why}" in said.err
    assert run(f"hf:{model}", folder, "--out", folder / "scores", "--no-curves", "--maps", "rollout") == 1
    assert "6 of 11 pictures" in capsys.readouterr().out  # what was written is no picture


TORCHVISION = """
import torch, torchvision
def small():
    torch.manual_seed(3)
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5)
"""


def test_a_model_of_torchvision_and_an_encoder(folder, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(TORCHVISION)
    words = [f"{tmp_path / 'mine.py'}:small", folder, "--out", tmp_path / "one", "--mean", 0.5, "--std", 0.5]
    assert run(*words) == 0
    assert {"rollout", "relevance", "chroma"} < {row["map"] for row in rows_in(tmp_path / "one")}
    torch.manual_seed(0)
    config = transformers.Dinov2Config(image_size=32, patch_size=8, **TINY)
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "model")
    words = [f"hf:{tmp_path / 'model'}", folder, "--out", tmp_path / "two", "--mean", 0.5, "--std", 0.5]
    assert run(*words) == 0
    rows = rows_in(tmp_path / "two")
    assert {row["map"] for row in rows} == {"rollout", "class_attention", *BASELINES}
    assert "insertion" not in rows[0]
    capsys.readouterr()
    assert run(*words, "--curves") == 2
    assert "has no classes, whose probability --curves would watch" in capsys.readouterr().err
    assert run(*words, "--image_size", 30, 44) == 2
    assert "are no whole number of 8 x 8 patches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fashion_mnist_vit"], "scores your pictures; give FOLDER"),
        (["fashion_mnist_vit", "here"], "scores your pictures; give --out"),
        (["fashion_mnist_vit", "here", "--out", "here"], "--out here is the folder of the pictures"),
        (["fashion_mnist_vit", "here", "--out", "o", "--images", "5"], "--images is for scenes"),
        (["fashion_mnist_vit", "here", "--out", "o", "--only", "a=b"], "--only is for scenes"),
        (["--out", "o"], "--out goes with MODEL and FOLDER"),
        (["--above", "3"], "--above goes with MODEL and FOLDER"),
        (
            ["fashion_mnist_vit", "no_such", "--out", "o"],
            "no_such is no folder; a folder has pictures and masks",
        ),
    ],
)
def test_what_is_missing_or_does_not_belong(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert run(*words) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_one_picture_has_numbers_but_no_table(tmp_path, model, capsys):
    save_pair(tmp_path / "one" / "0.bmp", tmp_path / "one" / "0.png", SIZE, 0)
    assert run(f"hf:{model}", tmp_path / "one", "--out", tmp_path / "out", "--no-curves") == 0
    assert "at least 2 pictures are needed" in capsys.readouterr().out
    assert len(rows_in(tmp_path / "out")) == 9


# --------------------------------------------------------------------------------------------------- masks


def png(path, values, mode=None, **more):
    image = Image.fromarray(values, mode) if mode else Image.fromarray(values)
    image.save(path, **more)
    return path


OBJECT = np.array([[0, 1, 1], [0, 0, 1]])


def palette(values):
    image = Image.fromarray(values.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(OBJECT.astype(bool)),
        Image.fromarray((OBJECT * 255).astype(np.uint8)),
        Image.fromarray(OBJECT.astype(np.uint8)),
        Image.fromarray((OBJECT * 40_000).astype(np.uint16)),
        palette(OBJECT * 2),
        Image.fromarray((OBJECT[..., None] * [255, 255, 255]).astype(np.uint8)),
        Image.fromarray((OBJECT[..., None] * [220, 20, 60]).astype(np.uint8)),
    ],
    ids=["1 bit", "8 bit", "0 and 1", "16 bit", "palette", "RGB, grey", "RGB, red"],
)
def test_masks_of_every_kind(image, tmp_path):
    image.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == OBJECT.astype(bool).tolist()


def test_a_threshold_is_for_soft_masks_and_kinds(tmp_path):
    png(tmp_path / "soft.png", np.array([[0, 100, 200], [90, 101, 255]], np.uint8))
    wanted = [[False, False, True], [False, True, True]]
    assert read_mask(tmp_path / "soft.png", above=100).tolist() == wanted
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees, clockwise
    Image.fromarray(OBJECT.astype(bool)).save(tmp_path / "turned.png", exif=turned)
    assert read_mask(tmp_path / "turned.png").tolist() == np.rot90(OBJECT, -1).astype(bool).tolist()


@pytest.mark.parametrize(
    ("image", "ending", "said"),
    [
        (Image.fromarray((OBJECT * 255).astype(np.uint8)), "jpg", "a mask is a PNG; this is JPEG"),
        (Image.fromarray(np.full((2, 2, 4), 9, np.uint8)), "png", "transparent pixels"),
        (Image.fromarray(np.array([[0, 1, 2]], np.uint8)), "png", r"has 3 values, 0, 1, 2: say above"),
        (Image.fromarray(np.array([[7, 9]], np.uint8)), "png", "has 7 and 9: say above"),
        (Image.fromarray(np.array([[[9, 0, 0], [0, 9, 0]]], np.uint8)), "png", "this one has 2 colours"),
    ],
)
def test_masks_that_are_not_clear(image, ending, said, tmp_path):
    image.save(tmp_path / f"mask.{ending}")
    with pytest.raises(ValueError, match=said):
        read_mask(tmp_path / f"mask.{ending}")


def test_a_fitted_mask_by_loop():
    mask = torch.rand(12, 30, generator=torch.Generator().manual_seed(0)) > 0.5
    made = fit_mask(mask, (4, 6))  # the part from column 6 to 24, three pixels each
    for y, x in itertools.product(range(4), range(6)):
        piece = mask[3 * y : 3 * y + 3, 6 + 3 * x : 9 + 3 * x]
        assert made[y, x] == (piece.sum() >= 4.5)


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


@pytest.mark.parametrize(
    ("files", "pairs"),
    [
        (["a.jpg", "a.png", "b/a.webp", "b/a.png"], {"a.jpg": "a.png", "b--a.webp": "b/a.png"}),
        (["pictures/a.png", "masks/a.png", "x.jpg"], {"a.png": "masks/a.png"}),
        (
            ["a.png", "b/c.JPG", "masks/a.PNG", "masks/b/c.png"],
            {"a.png": "masks/a.PNG", "b--c.JPG": "masks/b/c.png"},
        ),
        (["a.jpg", "a.png", "a.json", ".hidden.jpg"], {"a.jpg": "a.png"}),
    ],
)
def test_where_masks_lie(files, pairs, tmp_path):
    touch(tmp_path, *files)
    found, _ = pictures_and_masks(tmp_path)
    assert {name: mask.relative_to(tmp_path).as_posix() for name, (_, mask) in found.items()} == pairs


def test_layouts_that_are_refused(tmp_path):
    touch(tmp_path, "one/a.jpg", "one/a.webp", "one/a.png", "two/a.jpg", "two/b.png")
    with pytest.raises(ValueError, match="have one name, so that it is no picture's own"):
        pictures_and_masks(tmp_path / "one")
    with pytest.raises(
        ValueError, match="no picture in .* has a mask; a folder has pictures and masks either"
    ):
        pictures_and_masks(tmp_path / "two")
    touch(tmp_path, "three/pictures/a.jpg", "three/masks/a.png", "three/masks/b.png")
    _, without = pictures_and_masks(tmp_path / "three")
    assert without == {"masks--b.png": "a mask without a picture"}
