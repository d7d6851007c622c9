"""The explorer of lesson 07: its numbers against the maps and against loops; uploads of both ipywidgets."""

import io
import time
from datetime import UTC, datetime

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from vitlab import ViT, ViTConfig, attention_rollout, record_attention
from vitlab.attention import maps
from vitlab.widgets import MapExplorer, PictureUpload, your_images
from vitlab.widgets.your_images import GAP, HEADER, PANEL

GRID = (2, 3)
CLASSES = ["ant", "bee", "cow", "dog"]


def trained(**fields):
    """A model whose attention is far from uniform, and whose answers are not."""
    torch.manual_seed(0)
    sizes = dict(
        image_size=(8, 12), patch_size=4, in_chans=3, num_classes=4, embed_dim=12, depth=2, num_heads=2
    )
    model = ViT(ViTConfig(**(sizes | dict(mlp_dim=16) | fields))).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture
def pictures():
    draw = torch.Generator().manual_seed(1)
    sizes = {"exact": (8, 12), "tall": (40, 31)}
    return {
        name: torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=draw)
        for name, size in sizes.items()
    }


@pytest.fixture
def explorer(pictures):
    return MapExplorer(trained(), pictures, CLASSES)


def floats(picture):
    return picture[None].float() / 127.5 - 1


def test_the_answer_in_the_caption(explorer, pictures):
    shares = trained()(floats(pictures["exact"])).softmax(-1)[0].tolist()
    best = sorted(range(4), key=lambda c: -shares[c])
    said = ", ".join(f"{CLASSES[c]} {shares[c]:.1%}" for c in best[1:3])
    assert explorer.caption.startswith(
        f"exact: the model says {CLASSES[best[0]]} {shares[best[0]]:.1%}, then {said}. "
        "Asked for: its own choice.\n"
    )


@pytest.mark.parametrize("name", maps.MAPS)
@pytest.mark.parametrize("asked", [0, 3])
def test_the_map_in_the_caption(explorer, pictures, name, asked):
    explorer.set(map=name, asked=asked)
    values = maps.MAPS[name](trained(), floats(pictures["exact"]), asked)[0].tolist()
    flat = [value for row in values for value in row]
    row, column = divmod(flat.index(max(flat)), GRID[1])
    above, held, count = sorted((value - min(flat) for value in flat), reverse=True), 0.0, 0
    while held < sum(above) / 2:
        held, count = held + above[count], count + 1
    line = explorer.caption.splitlines()[1]
    assert (
        f"from {min(flat):.3g} to {max(flat):.3g}, largest in row {row + 1} of 2, column {column + 1} "
        in line
    )
    assert f"half of it lies on {count / 6:.0%} of the patches" in line


@pytest.mark.parametrize("name", maps.MAPS)
def test_beside_a_rollout_stands_how_far_its_row_is_from_the_mean_row(explorer, pictures, name):
    explorer.set(map=name)
    model = trained()
    with torch.no_grad(), record_attention(model) as record:
        model(floats(pictures["exact"]))
    whole = attention_rollout(record.weights)[0, :, 1:].double()
    whole = whole / whole.sum(dim=1, keepdim=True)
    mean = attention_rollout(record.weights)[0].mean(dim=0)[1:].double()
    apart = (whole[0] - mean / mean.sum()).abs().sum().item() / 2
    said = f" It differs from the mean row by {apart:.1%}.".replace("%", " %")
    assert explorer.caption.endswith(said) == (name == "rollout")


def test_a_class_asked_for_by_name_is_said(explorer):
    explorer.set(asked=2)
    assert "Asked for: cow.\n" in explorer.caption


@pytest.mark.parametrize("name", maps.MAPS)
def test_only_maps_that_are_said_to_be_blind_are_the_same_for_every_class(explorer, name):
    explorer.set(map=name, asked=0)
    one = explorer._map("exact", name, 0)
    assert torch.equal(one, explorer._map("exact", name, 3)) == (name in your_images.CLASS_BLIND)
    assert ("is the same whichever class" in explorer.caption) == (name in your_images.CLASS_BLIND)


@pytest.mark.parametrize("change", [{"image": "tall"}, {"map": "occlusion"}, {"asked": 2}, {"smooth": True}])
def test_every_control_changes_the_picture(explorer, change):
    explorer.set(map="relevance", asked=1)
    picture = explorer.picture
    explorer.set(**change)
    assert explorer.picture != picture
    explorer.reset()
    explorer.set(map="relevance", asked=1)
    assert explorer.picture == picture


def test_the_brightest_patch_of_the_picture_is_the_one_named(explorer):
    explorer.set(map="occlusion", asked=2)
    drawn = np.asarray(Image.open(io.BytesIO(explorer.picture))).astype(int)
    side = PANEL // GRID[1]
    middles = [
        drawn[HEADER + row * side + side // 2, PANEL + GAP + column * side + side // 2]
        for row in range(2)
        for column in range(3)
    ]
    yellow = [red + green - blue for red, green, blue in middles]  # viridis' upper end
    row, column = divmod(yellow.index(max(yellow)), 3)
    assert f"largest in row {row + 1} of 2, column {column + 1} of 3" in explorer.caption


def test_smooth_is_linear_between_the_middles_of_patches():
    values = torch.tensor([[0.0, 1.0, 3.0]])
    line = your_images.smoothly(values, (1, 12))[0]
    wanted = []
    for x in range(12):
        place = min(max((x + 0.5) / 4 - 0.5, 0), 2)
        left = min(int(place), 1)
        wanted.append(float(values[0, left] + (place - left) * (values[0, left + 1] - values[0, left])))
    np.testing.assert_allclose(line, wanted, atol=1e-6)


def test_a_map_is_computed_once(explorer, monkeypatch):
    def visit():
        for name in maps.MAPS:
            for asked in range(4):
                explorer.set(map=name, asked=asked)

    visit()
    monkeypatch.setattr(ViT, "forward", None)
    explorer._render.cache_clear()
    visit()
    assert explorer.error is None


def test_a_move_back_is_immediate():
    model = trained(image_size=48, embed_dim=96, depth=4, num_heads=4, mlp_dim=192)
    explorer = MapExplorer(model, {"blank": torch.zeros(3, 48, 48, dtype=torch.uint8)}, CLASSES)
    explorer.set(map="occlusion")
    explorer._render.cache_clear()
    begin = time.process_time()
    explorer.set(map="rollout")
    explorer.set(map="occlusion")
    assert time.process_time() - begin <= 0.2


def test_a_grey_model_sees_grey(pictures):
    explorer = MapExplorer(trained(in_chans=1, image_size=12), pictures, CLASSES, names=["local_contrast"])
    assert explorer._input("tall").shape == (1, 12, 12)
    assert [name for _, name in explorer.controls["map"].options] == ["local_contrast"]


def test_few_classes_may_be_asked_for(pictures):
    explorer = MapExplorer(trained(), pictures, CLASSES, asked=[1, 3])
    assert explorer.controls["asked"].options == (("the model's own choice", -1), ("bee", 1), ("dog", 3))


def test_names_that_do_not_fit_are_refused(pictures):
    with pytest.raises(ValueError, match="the model has 4 classes; got 2 names"):
        MapExplorer(trained(), pictures, CLASSES[:2])


# ------------------------------------------------------------------------------------------------- uploads


def png(picture) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(content, "PNG")
    return content.getvalue()


def browser_sends(button: ipywidgets.FileUpload, name: str, content: bytes) -> None:
    """What choosing a file does to the button, in the ipywidgets installed."""
    if ipywidgets.__version__.startswith("7"):
        button.set_trait("value", {name: {"metadata": {"name": name}, "content": content}})
    else:
        file = {"name": name, "type": "image/png", "size": len(content), "last_modified": datetime.now(UTC)}
        button.value = (file | {"content": memoryview(content)},)


def test_an_uploaded_picture_is_shown(explorer, pictures):
    upload = PictureUpload(pictures, then=explorer.add)
    new = pictures["tall"].flip(0)
    browser_sends(upload.button, "mine.png", png(new))
    assert torch.equal(pictures["mine.png"], new)
    assert upload.said == "mine.png: 40 × 31 pixels, added."
    assert explorer.state["image"] == "mine.png"
    assert explorer.caption.startswith("mine.png: the model says ")


def test_another_picture_of_the_same_name_takes_its_place(explorer, pictures):
    upload = PictureUpload(pictures, then=explorer.add)
    upload.take([("mine.png", png(pictures["tall"]))])
    shown = explorer.picture
    upload.take([("mine.png", png(pictures["tall"].flip(1)))])
    assert explorer.picture != shown
    assert explorer.controls["image"].options == ("exact", "tall", "mine.png")


def test_what_cannot_be_read_is_named_and_the_rest_is_taken(pictures):
    upload = PictureUpload(pictures)
    whole = png(pictures["tall"])
    upload.take([("<notes>.txt", b"text"), ("cut.png", whole[: len(whole) // 2]), ("good.png", whole)])
    assert upload.said.startswith("<notes>.txt: no picture; what is read is JPEG, PNG, ")
    assert upload.said.endswith(" good.png: 40 × 31 pixels, added.")
    assert "<notes>" not in upload.widget.children[1].value  # as text, not as a tag
    assert set(pictures) == {"exact", "tall", "good.png"}


def test_without_a_kernel_the_upload_says_what_it_is(pictures):
    bundle = PictureUpload(pictures)._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert bundle["text/plain"].startswith("In a live notebook")
