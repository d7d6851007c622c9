"""The explorer of lesson 06: its numbers against loops, and every control moves the picture."""

import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab import ViT, ViTConfig, record_attention
from vitlab.widgets import AttentionMapExplorer
from vitlab.widgets.attention_analysis import GAP, HEADER, PANEL

GRID = (2, 3)


def trained(**fields):
    """A model whose attention is far from uniform."""
    torch.manual_seed(0)
    sizes = dict(image_size=(8, 12), patch_size=4, embed_dim=12, depth=3, num_heads=2, mlp_dim=16)
    model = ViT(ViTConfig(**sizes, **fields)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(1)
    return {
        "bytes": torch.randint(0, 256, (1, 8, 12), dtype=torch.uint8, generator=draw),
        "floats": torch.rand(1, 8, 12, generator=draw) * 2 - 1,
    }


@pytest.fixture
def explorer(images):
    return AttentionMapExplorer(trained(), images)


def recorded(model, image):
    with record_attention(model) as record, torch.no_grad():
        model(image[None])
    return record.weights[:, 0].double()  # (L, heads, T, T)


def rolled(weights):
    joint = torch.eye(weights.shape[-1], dtype=torch.float64)
    for layer in weights.mean(1):
        joint = (layer + torch.eye(len(layer), dtype=torch.float64)) / 2 @ joint
    return joint


def words(row, query):
    """What the caption says about one row (T,), by loops."""
    patches = row[1:].tolist()
    best = max(range(len(patches)), key=patches.__getitem__)
    if query == 0:
        return f"most to patch {best + 1} ({patches[best]:.1%}); {row[0]:.1%} to the class token itself."
    places = [(i // GRID[1], i % GRID[1]) for i in range(len(patches))]
    away = [4 * math.dist(places[query - 1], place) for place in places]
    mean = sum(p * a for p, a in zip(patches, away, strict=True)) / sum(patches)
    return (
        f"most to patch {best + 1} ({patches[best]:.1%}); {row[0]:.1%} to the class token; "
        f"mean distance {mean:.1f} pixels (uniform attention: {sum(away) / len(away):.1f})."
    )


def test_the_captions_numbers(explorer, images):
    weights = recorded(trained(), images["floats"])
    explorer.set(image="floats", layer=2, head=2, query=5)
    assert explorer.caption.splitlines() == [
        f"floats, query: patch 5 (row 2, column 2). Layer 2, head 2: {words(weights[1, 1, 5], 5)}",
        "Rollout through layer 2 (heads: mean, discarded: 0%): " + words(rolled(weights[:2])[5], 5),
    ]
    explorer.set(layer=3, head=0, query=0)
    assert explorer.caption.splitlines() == [
        f"floats, query: the class token. Layer 3, mean of heads: {words(weights[2].mean(0)[0], 0)}",
        "Rollout through layer 3 (heads: mean, discarded: 0%): " + words(rolled(weights)[0], 0),
    ]


def test_bytes_are_normalised(explorer, images):
    weights = recorded(trained(), images["bytes"].float() / 127.5 - 1)
    explorer.set(image="bytes", layer=1, head=1, query=3)
    assert words(weights[0, 0, 3], 3) in explorer.caption


@pytest.mark.parametrize(
    "change",
    [
        {"image": "floats"},
        {"layer": 1},
        {"head": 2},
        {"query": 6},
        {"fusion": "max"},
        {"discard": 0.9},
    ],
)
def test_every_control_changes_picture_and_caption(explorer, change):
    picture, caption = explorer.picture, explorer.caption
    explorer.set(**change)
    assert explorer.picture != picture
    assert explorer.caption != caption
    explorer.reset()
    assert (explorer.picture, explorer.caption) == (picture, caption)


def test_the_brightest_patch_of_the_picture_is_the_one_named(explorer):
    explorer.set(layer=2, head=1, query=0)
    pixels = np.asarray(Image.open(io.BytesIO(explorer.picture))).astype(int)
    side = PANEL // 3  # of one patch: the image is 2 x 3 patches
    left = PANEL + GAP
    middles = [
        pixels[HEADER + row * side + side // 2, left + column * side + side // 2]
        for row in range(2)
        for column in range(3)
    ]
    yellow = [red + green - blue for red, green, blue in middles]  # viridis' upper end
    assert f"most to patch {yellow.index(max(yellow)) + 1} " in explorer.caption


def test_without_class_token_queries_count_from_one(images):
    explorer = AttentionMapExplorer(trained(pool="mean"), images)
    assert explorer.controls["query"].min == 1
    assert "class token" not in explorer.controls["query"].description
    assert "class token" not in explorer.caption
    shares = [float(share) for share in re.findall(r"most to patch \d \(([\d.]+)%\)", explorer.caption)]
    assert len(shares) == 2


def test_attention_is_recorded_once(images, monkeypatch):
    model = trained()
    explorer = AttentionMapExplorer(model, images)
    monkeypatch.setattr(model, "forward", None)
    for query in range(7):
        explorer.set(query=query, layer=1 + query % 3)
    assert explorer.error is None


def test_errors():
    with pytest.raises(ValueError, match=r"takes images of shape \(B, 1, 8, 12\)"):
        AttentionMapExplorer(trained(), {"other": torch.zeros(1, 28, 28)})
