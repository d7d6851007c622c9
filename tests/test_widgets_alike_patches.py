"""The explorer of alike patches: its words against loops over tokens, every control, other sizes, uploads."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab import ViT, ViTConfig
from vitlab.data import fit_picture
from vitlab.vit import count_flops
from vitlab.widgets import AlikePatchesExplorer
from vitlab.widgets.alike_patches import GAP, HEADER, PANEL

SIZES = (16, 24)


def model_at(size: int) -> ViT:
    torch.manual_seed(0)
    model = ViT(ViTConfig(size, 4, in_chans=3, embed_dim=12, depth=2, num_heads=2, mlp_dim=16)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture
def pictures():
    draw = torch.Generator().manual_seed(1)
    sizes = {"exact": (16, 16), "tall": (40, 31), "wide": (20, 50)}
    return {
        name: torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=draw)
        for name, size in sizes.items()
    }


@pytest.fixture
def explorer(pictures):
    return AlikePatchesExplorer(model_at, pictures, SIZES)


@torch.no_grad()
def tokens(picture, size: int) -> list[list[float]]:
    images = fit_picture(picture, size)[None].float() / 127.5 - 1
    return model_at(size).forward_features(images)[0, 1:].tolist()


def cosine(a, b) -> float:
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("size", "row", "column"), [(16, 1, 4), (24, 6, 2)])
def test_the_words_are_what_a_loop_finds(explorer, pictures, size, row, column):
    explorer.set(size=size)
    explorer.set(image="tall", other="wide", row=row, column=column)
    side = size // 4
    asked = tokens(pictures["tall"], size)[(row - 1) * side + column - 1]
    found = [cosine(asked, token) for token in tokens(pictures["wide"], size)]
    order = sorted(range(side**2), key=lambda patch: -found[patch])[:3]
    said = "; ".join(f"row {p // side + 1}, column {p % side + 1} ({found[p]:.2f})" for p in order)
    first, second = explorer.caption.split("\n")
    assert first == (
        f"tall, row {row} of {side}, column {column} of {side}. Most alike in wide, by cosine: {said}; "
        f"the mean of all is {np.mean(found):.2f}."
    )
    billions = count_flops(model_at(size).config) / 1e9
    assert second.startswith(f"{size} × {size} pixels are {side**2} patches: {billions:.1f} billion")
    assert f"{4 * 2 * 2 * (side**2 + 1) ** 2 / 1e6:.0f} MB" in second


def test_a_patch_is_most_like_itself(explorer):
    explorer.set(image="exact", other="exact", row=2, column=3)
    assert "by cosine: row 2, column 3 (1.00);" in explorer.caption


@pytest.mark.parametrize(
    "change", [{"image": "tall"}, {"other": "wide"}, {"row": 1}, {"column": 1}, {"size": 24}]
)
def test_every_control_changes_picture_and_words(explorer, change):
    before = explorer.picture, explorer.caption
    explorer.set(**change)
    assert explorer.error is None
    assert explorer.picture != before[0]
    assert explorer.caption != before[1]
    explorer.reset()
    assert (explorer.picture, explorer.caption) == before


def test_another_size_asks_for_the_same_place_and_back(explorer):
    explorer.set(row=4, column=1)
    explorer.set(size=24)
    assert (explorer.state["row"], explorer.state["column"]) == (
        6,
        1,
    )  # seven eighths down
    explorer.set(size=16)
    assert (explorer.state["row"], explorer.state["column"]) == (4, 1)
    assert explorer.controls["row"].max == 4


def test_the_most_alike_patch_is_the_brightest_of_the_panel(explorer):
    explorer.set(image="exact", other="exact", row=2, column=3)
    drawn = np.asarray(Image.open(io.BytesIO(explorer.picture))).astype(int)
    side = PANEL // 4
    middles = [
        drawn[HEADER + row * side + side // 2, PANEL + GAP + column * side + side // 2]
        for row in range(4)
        for column in range(4)
    ]
    yellow = [red + green - blue for red, green, blue in middles]  # viridis' upper end
    assert yellow.index(max(yellow)) == 1 * 4 + 2


def test_a_picture_that_was_added_is_the_other_one(explorer, pictures):
    explorer.set(image="wide")
    pictures["mine"] = torch.full((3, 30, 30), 9, dtype=torch.uint8)
    explorer.add("mine")
    assert explorer.state["image"] == "wide"
    assert explorer.state["other"] == "mine"
    assert "Most alike in mine" in explorer.caption


def test_a_model_is_made_once_for_each_size(pictures):
    asked = []
    explorer = AlikePatchesExplorer(lambda size: asked.append(size) or model_at(size), pictures, SIZES)
    explorer.set(row=1)
    explorer.set(size=24)
    explorer.set(size=16)
    assert asked == [16, 24]


def test_without_pictures_it_says_so():
    with pytest.raises(ValueError, match="no picture; give at least one"):
        AlikePatchesExplorer(model_at, {}, SIZES)
