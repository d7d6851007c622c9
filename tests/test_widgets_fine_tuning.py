"""The explorers of lesson 05 against models evaluated directly, and results they were given."""

import io
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vitlab
from vitlab import ViT, ViTConfig, fine_tuning
from vitlab.data import Dataset
from vitlab.widgets import LabelsExplorer, ResolutionExplorer
from vitlab.widgets.fine_tuning import RULES, repeated

NAMES = ["first", "second"]
SIZES = [20, 28, (28, 56)]
*RESIZED, REPEATED = RULES


@pytest.fixture(scope="module")
def model() -> ViT:
    torch.manual_seed(0)
    made = ViT(ViTConfig(num_classes=3, depth=1)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return Dataset(images, torch.tensor([0, 2]), ["a", "b", "c"])


@pytest.fixture
def resolution(model, dataset) -> ResolutionExplorer:
    return ResolutionExplorer(model, dataset, NAMES, SIZES)


def answer(explorer) -> tuple[str, float]:
    name, share = re.search(r"The model says (\w+), ([\d.]+)%", explorer.caption).groups()
    return name, float(share)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("table", RULES)
@pytest.mark.parametrize("number", [0, 1])
def test_the_answer_is_that_of_the_model_at_this_size(resolution, model, dataset, size, table, number):
    pair = (size, size) if isinstance(size, int) else size
    resolution.set(image=NAMES[number], size=pair, table=table)
    weights = model.state_dict()
    grid = pair[0] // 4, pair[1] // 4
    if table == REPEATED:
        rows = [0] + [1 + i % 49 for i in range(grid[0] * grid[1])]
        weights["pos_embed"] = weights["pos_embed"][:, rows]
    else:
        method = RULES[table]
        weights["pos_embed"] = vitlab.resize_pos_embed(weights["pos_embed"], (7, 7), grid, method=method)
    other = ViT(ViTConfig(image_size=pair, num_classes=3, depth=1)).eval()
    other.load_state_dict(weights)
    images = fine_tuning.at_resolution(dataset, pair).images / 127.5 - 1
    with torch.no_grad():
        shares = F.softmax(other(images), dim=-1)[number]
    name, share = answer(resolution)
    assert name == dataset.classes[shares.argmax()]
    assert share == pytest.approx(100 * shares.max().item(), abs=0.06)
    verdict = "right" if shares.argmax() == dataset.labels[number] else "wrong: it is "
    assert f"({verdict}" in resolution.caption
    assert f"{pair[0]} × {pair[1]}: {grid[0]} × {grid[1]} patches" in resolution.caption
    assert f"T = {grid[0] * grid[1] + 1} tokens" in resolution.caption


def test_it_starts_as_the_model_was_trained(resolution):
    assert resolution.state == {"image": "first", "size": (28, 28), "table": RESIZED[0]}


@pytest.mark.parametrize("move", [{"image": "second"}, {"size": (28, 56)}, {"table": REPEATED}])
def test_every_control_of_the_resolution_changes_the_picture(resolution, move):
    resolution.set(size=(20, 20))
    before, words = resolution.picture, resolution.caption
    resolution.set(**move)
    assert resolution.picture != before
    assert resolution.caption != words


def test_at_the_trained_size_all_tables_are_the_same(resolution):
    answers = set()
    for table in RULES:
        resolution.set(table=table)
        answers.add(answer(resolution))
    assert len(answers) == 1


def test_the_explorer_leaves_the_model_as_it_was(model, dataset):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    ResolutionExplorer(model, dataset, NAMES, SIZES).set(size=(20, 20), table=REPEATED)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_what_has_no_table_to_resize_is_refused(dataset):
    with pytest.raises(ValueError, match="learned table.*'sincos2d'"):
        ResolutionExplorer(ViT(ViTConfig(pos_embed="sincos2d", num_classes=3)), dataset, NAMES, SIZES)


def test_a_size_that_does_not_divide_is_told(model, dataset):
    explorer = ResolutionExplorer(model, dataset, NAMES, [28, 30])
    explorer.set(size=(30, 30))
    assert "30 is not divisible by 4" in explorer.caption
    assert isinstance(explorer.error, ValueError)


def test_repeated_keeps_the_class_token_apart():
    table = torch.arange(5.0).view(1, 5, 1)
    assert repeated(table, 6)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 1, 2]
    assert repeated(table, 2)[0, :, 0].tolist() == [0, 1, 2]
    assert repeated(table, 7, num_prefix_tokens=0)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 0, 1]


@pytest.fixture
def labels() -> LabelsExplorer:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (90, 1, 8, 8), dtype=torch.uint8, generator=generator)
    data = Dataset(images, torch.arange(90) % 3, ["a", "b", "c"])
    results = {
        "tuned": torch.tensor([[0.5, 0.6], [0.7, 0.8]]),
        "probe": torch.tensor([[0.1, 0.2], [0.3, 0.4]]),
    }
    return LabelsExplorer(data, results, [2, 20])


@pytest.mark.parametrize(
    ("state", "images", "accuracies"),
    [
        ({"labels": 2, "draw": 1}, 6, "tuned 50.0%, probe 10.0%."),
        ({"labels": 20, "draw": 1}, 60, "tuned 60.0%, probe 20.0%."),
        ({"labels": 2, "draw": 2}, 6, "tuned 70.0%, probe 30.0%."),
        ({"labels": 20, "draw": 2}, 60, "tuned 80.0%, probe 40.0%."),
    ],
)
def test_the_labels_caption_has_the_results_of_the_draw(labels, state, images, accuracies):
    labels.set(**state)
    assert labels.caption.startswith(
        f"{state['labels']} labels per class, draw {state['draw']}: {images} images"
    )
    assert labels.caption.endswith(accuracies)


def test_every_control_of_the_labels_changes_the_picture(labels):
    pictures = [labels.picture]
    for move in ({"labels": 20}, {"draw": 2}):
        labels.set(**move)
        pictures.append(labels.picture)
    assert len(set(pictures)) == 3


def test_the_images_shown_are_those_of_the_draw(labels, monkeypatch):
    seen = []
    mosaic = vitlab.widgets.tiles.mosaic
    monkeypatch.setattr(
        "vitlab.widgets.fine_tuning.tiles.mosaic",
        lambda tiles, columns: seen.append(tiles) or mosaic(tiles, columns),
    )
    labels.set(labels=20, draw=2)
    wanted = fine_tuning.few_per_class(labels.dataset, 20, seed=1).images.view(3, 20, 8, 8)[:, :12]
    assert torch.equal(torch.from_numpy(seen[-1][..., 0]), wanted.flatten(0, 1))


def test_labels_of_colour_images_and_a_study_that_is_not_finished():
    images = torch.zeros(8, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = 200
    data = Dataset(images, torch.arange(8) % 2, ["a", "b"])
    explorer = LabelsExplorer(data, {"probe": torch.tensor([[0.5, torch.nan], [0.7, 0.8]])}, [1, 3])
    assert explorer.error is None
    pixels = np.asarray(Image.open(io.BytesIO(explorer.picture)).convert("RGB"))
    assert ((pixels == (200, 0, 0)).all(axis=-1)).sum() > 1000  # red stays red
    explorer.set(labels=3)
    assert explorer.error is None
    assert "probe nan%" in explorer.caption
