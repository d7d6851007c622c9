"""The explorer of lesson 06: its numbers against loops, and every control moves the picture."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab import ViT, ViTConfig, record_attention
from vitlab.widgets import AttentionMapExplorer, HeadDistanceExplorer
from vitlab.widgets.attention_analysis import GAP, HEADER, PANEL
from vitlab.widgets.head_distances import mean_by_offset

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


def own(weights, query):
    """How far a row of the rollout is from the mean row, by loops over the patches."""
    joint = rolled(weights)
    row, mean = (each[1:] / each[1:].sum() for each in (joint[query], joint.mean(0)))
    apart = sum(abs(float(p) - float(q)) for p, q in zip(row, mean, strict=True)) / 2
    return f" It differs from the mean row by {apart:.1%}.".replace("%", " %")


def test_the_captions_numbers(explorer, images):
    weights = recorded(trained(), images["floats"])
    explorer.set(image="floats", layer=2, head=2, query=5)
    assert explorer.caption.splitlines() == [
        f"floats, query: patch 5 (row 2, column 2). Layer 2, head 2: {words(weights[1, 1, 5], 5)}",
        "Rollout through layer 2 (heads: mean, discarded: 0%): "
        + words(rolled(weights[:2])[5], 5)
        + own(weights[:2], 5),
    ]
    explorer.set(layer=3, head=0, query=0)
    assert explorer.caption.splitlines() == [
        f"floats, query: the class token. Layer 3, mean of heads: {words(weights[2].mean(0)[0], 0)}",
        "Rollout through layer 3 (heads: mean, discarded: 0%): "
        + words(rolled(weights)[0], 0)
        + own(weights, 0),
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


def test_without_class_token_query_0_is_the_mean_that_is_read(images):
    model = trained(pool="mean")
    explorer = AttentionMapExplorer(model, images)
    assert explorer.controls["query"].description == "query (0: mean of the patches)"
    assert "class token" not in explorer.caption
    explorer.set(image="floats", layer=2, head=1, query=0)
    row = recorded(model, images["floats"])[1, 0].mean(0)
    best = int(row.argmax())
    assert f"query: the mean of the patches. Layer 2, head 1: most to patch {best + 1} " in explorer.caption
    assert f"({row[best]:.1%})" in explorer.caption


def test_attention_is_recorded_once(images, monkeypatch):
    model = trained()
    explorer = AttentionMapExplorer(model, images)
    monkeypatch.setattr(model, "forward", None)
    for query in range(7):
        explorer.set(query=query, layer=1 + query % 3)
    assert explorer.error is None


def test_errors():
    with pytest.raises(ValueError, match=r"takes floats in \[-1, 1\] of shape \(B, 1, 8, 12\)"):
        AttentionMapExplorer(trained(), {"other": torch.zeros(1, 28, 28)})


def test_a_mask_is_outlined_and_scored(images):
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[2:6, 4:12] = True
    plain = AttentionMapExplorer(trained(), images)
    explorer = AttentionMapExplorer(trained(), images, {"floats": mask})
    assert "On the object" not in explorer.caption  # "bytes" has no mask
    assert explorer.picture == plain.picture
    for each in (plain, explorer):
        each.set(image="floats", layer=3, query=2)
    row = rolled(recorded(trained(), images["floats"]))[2, 1:].tolist()
    cover = [0, 0.5, 0.5, 0, 0.5, 0.5]  # of the six patches, as one reads
    share = sum(r * c for r, c in zip(row, cover, strict=True)) / sum(row)
    top = cover[max(range(6), key=row.__getitem__)]
    assert explorer.caption == (
        f"{plain.caption} On the object: {share:.1%} of it, where chance is 33.3%; "
        f"its brightest patch is object to {top:.0%}."
    )
    one, other = (np.asarray(Image.open(io.BytesIO(each.picture))).astype(int) for each in (explorer, plain))
    changed = np.argwhere((one != other).any(-1)[HEADER : HEADER + PANEL, :PANEL])
    scale = PANEL / 12
    assert changed.min(0) == pytest.approx([2 * scale, 4 * scale], abs=3)
    assert changed.max(0) == pytest.approx([6 * scale, 12 * scale], abs=3)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"other": torch.zeros(8, 12, dtype=torch.bool)}, "there is no image 'other'"),
        ({"floats": torch.zeros(8, 12)}, "bool of shape"),
        ({"floats": torch.zeros(12, 8, dtype=torch.bool)}, r"bool of shape \(8, 12\)"),
    ],
)
def test_masks_that_do_not_fit(images, masks, said):
    with pytest.raises(ValueError, match=said):
        AttentionMapExplorer(trained(), images, masks)


# --- the heads' distances ----------------------------------------------------------------------------------


@pytest.fixture
def weights(images):
    model = trained()
    with record_attention(model) as record, torch.no_grad():
        model(torch.stack([images["bytes"].float() / 127.5 - 1, images["floats"]]))
    return record.weights  # (L, 2, heads, T, T)


def by_offset(weights, cls):
    """One head's attention (B, T, T) by offset, and its mean distance, by loops."""
    sums, distance, B = np.zeros((3, 5)), 0.0, len(weights)
    for image in weights.double().tolist():
        for query in range(6):
            row = image[1 + query][1:]
            row = [w / sum(row) for w in row] if cls == "renormalise" else row
            for key, weight in enumerate(row):
                down, right = key // 3 - query // 3, key % 3 - query % 3
                sums[1 + down, 2 + right] += weight / (6 * B)
                distance += weight * 4 * math.hypot(down, right) / (6 * B)
    return sums, distance


@pytest.mark.parametrize("cls", ["drop", "renormalise"])
def test_the_distances_captions_numbers(weights, cls):
    explorer = HeadDistanceExplorer(weights, trained().config)
    explorer.set(layer=2, head=2, cls=cls)
    sums, distance = by_offset(weights[1, :, 1], cls)
    found = mean_by_offset(weights, GRID, cls)[1, 1]
    np.testing.assert_allclose(found, sums, atol=1e-6)
    uniform = np.mean([4 * math.hypot(a // 3 - b // 3, a % 3 - b % 3) for a in range(6) for b in range(6)])
    assert explorer.caption == (
        f"Layer 2, head 2: mean attention distance {distance:.1f} pixels, uniform attention {uniform:.1f}. "
        f"{sums[1, 2]:.1%} stays on the patch itself, {sums[:, 1:4].sum():.1%} on it and its eight "
        "neighbours. "
        f"The class token gets {weights[1, :, 1, 1:, 0].mean():.1%}."
    )


@pytest.mark.parametrize("change", [{"layer": 3}, {"head": 2}, {"cls": "renormalise"}])
def test_every_control_of_the_distances_does_something(weights, change):
    explorer = HeadDistanceExplorer(weights, trained().config)
    picture, caption = explorer.picture, explorer.caption
    explorer.set(**change)
    assert explorer.picture != picture
    assert explorer.caption != caption


def test_the_ring_is_round_its_dot(weights):
    explorer = HeadDistanceExplorer(weights, trained().config)
    places = explorer._dots("drop")[1]
    assert places[0, :, 0] == pytest.approx(places[0, 0, 0])  # one layer, one depth
    assert (np.diff(places[:, 0, 0]) > 50).all()  # deeper stands further right
    order = explorer.distances["drop"].flatten().argsort(descending=True)
    assert (np.diff(places.reshape(-1, 2)[order, 1]) >= 0).all()  # the further, the higher
    bare = np.asarray(explorer._dots("drop")[0])
    x, y = places[0, 0].round().astype(int)
    red, green, blue = bare[y, x].astype(int)
    assert blue > red + 40  # a dot is blue, the ground white
    shown = np.asarray(Image.open(io.BytesIO(explorer.picture)))
    rows, columns = np.nonzero((shown[:, : explorer.PLOT] != bare).any(-1))
    assert (rows.mean(), columns.mean()) == pytest.approx((y, x), abs=2)


def test_without_class_token_there_is_nothing_to_drop(images):
    model = trained(pool="mean")
    with record_attention(model) as record, torch.no_grad():
        model(images["floats"][None])
    explorer = HeadDistanceExplorer(record.weights, model.config)
    assert "cls" not in explorer.controls
    assert "class token" not in explorer.caption
