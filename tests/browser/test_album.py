"""Albums of ten pictures, by models of three libraries and our own, in a browser: wide, narrow, dark."""

import json

import lab
import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.attention import __main__

pytestmark = pytest.mark.slow

TORCHVISION = """
import torchvision
def small():
    return torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 24, num_classes=5)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten pictures, wide, high, grey, of four channels, with names that HTML would read, and a broken one."""
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    shapes = {"wide": (30, 140, 3), "high": (140, 30, 3), "grey": (40, 40), "four channels": (40, 40, 4)}
    shapes |= {"a_name_without_a_place_to_break_it_" * 3: (40, 50, 3), "<b>&": (50, 40, 3)}
    shapes |= {f"plain {n}": (40, 40, 3) for n in range(4)}
    for name, shape in shapes.items():
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes((folder / "wide.png").read_bytes()[:60])
    return folder


def a_model(library, folder):
    """The command's words for a model of a library."""
    known = ["--mean", "0.5", "--std", "0.5"]
    if library == "timm":
        return ["timm:test_vit.r160_in1k", "--random"]
    if library == "torchvision":
        (folder / "mine.py").write_text(TORCHVISION)
        return [f"{folder / 'mine.py'}:small", *known]
    if library == "transformers":
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
        config = transformers.ViTConfig(
            image_size=32, patch_size=8, id2label={0: "a" * 90, 1: "dog"}, **sizes
        )
        transformers.ViTForImageClassification(config).save_pretrained(folder / "model")
        return [f"hf:{folder / 'model'}", *known]
    return ["fashion_mnist_vit"]


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers", "vitlab"])
def test_an_album_to_look_through(library, browser, pictures, tmp_path):
    model, *known = a_model(library, tmp_path)
    words = [model, str(pictures), "--out", str(tmp_path / "out"), "--maps", "rollout", *known]
    with pytest.raises(SystemExit) as stopped:
        __main__.main(["maps", *words])
    assert stopped.value.code == 1  # one picture was broken
    page, errors = lab.new_page(browser)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "out" / "index.html").as_uri())
    grounds = set()
    for scheme, width in (("light", 1400), ("dark", 1400), ("light", 900), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    images = page.locator("figure img")
    assert images.count() == page.locator("nav a").count() == 10
    for number in range(10):
        image = images.nth(number)
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")  # fails where it cannot be shown
        found = image.evaluate(
            "i => [i.naturalWidth, i.naturalHeight, i.alt, i.getBoundingClientRect().width]"
        )
        assert found[:2] == [int(image.get_attribute("width")), int(image.get_attribute("height"))]
        assert "rollout" in found[2]
        assert found[3] >= min(found[0], 800)  # wide enough to be read, on a telephone too
    page.locator("nav a", has_text="<b>&.png").click()
    box = page.locator("figure", has_text="<b>&.png").bounding_box()
    assert -1 <= box["y"] < 450
    assert "broken.png" in page.locator("body > ul").inner_text()
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert errors == []
    page.close()
    with np.load(tmp_path / "out" / "wide.png.npz", allow_pickle=False) as numbers:
        assert json.loads(str(numbers["about"]))["shown"]["name"] == "wide.png"
