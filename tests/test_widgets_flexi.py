"""The explorer of patch sizes against models at each size, asked directly."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

import vitlab
from vitlab import ViT, ViTConfig, runtime
from vitlab.data import Dataset, fit_picture, normalise
from vitlab.vit import count_flops
from vitlab.widgets import FlexiExplorer, flexi

SIZES = [2, 4, 7, 14]


def new(seed: int, **changes) -> ViT:
    torch.manual_seed(seed)
    made = ViT(ViTConfig(num_classes=3, depth=1, **changes)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return Dataset(images, torch.arange(30) % 3, ["a", "b", "c"])


@pytest.fixture(autouse=True)
def in_full_precision(monkeypatch):
    monkeypatch.setattr(runtime, "pick_precision", lambda device: "fp32")


@pytest.fixture
def explorer(dataset) -> FlexiExplorer:
    return FlexiExplorer(new(0), {"one": dataset.images[0]}, dataset, SIZES, {"rival": new(1)})


@pytest.mark.parametrize("size", SIZES)
def test_each_size_answers_as_the_model_at_it(explorer, dataset, size):
    explorer.set(patch_size=size)
    logits = explorer.model.at(patch_size=size)(normalise(dataset.images))
    guess = "abc"[int(logits[0].argmax())]
    share = logits[0].softmax(dim=0).max().item()
    right = (logits.argmax(dim=1) == dataset.labels).float().mean().item()
    assert f"The model says {guess}, {share:.1%}." in explorer.caption
    assert f"Of 30 images {right:.1%} are right" in explorer.caption
    assert f"{28 // size} × {28 // size} patches" in explorer.caption
    rival = explorer.rivals["rival"].at(patch_size=size)(normalise(dataset.images))
    (other,) = explorer.measured[size].rivals
    assert other == pytest.approx((rival.argmax(dim=1) == dataset.labels).float().mean().item())
    assert f"{right:.1%} are right at this size, {other:.1%} by rival; an image" in explorer.caption
    flops = count_flops(ViTConfig(num_classes=3, depth=1, patch_size=size)) / 1e6
    assert f"an image takes {flops:,.1f} million FLOPs" in explorer.caption


def test_the_map_is_the_class_token_s_row_of_the_last_layer(explorer, dataset):
    _, looked, _ = explorer._look("one", 7)
    model = explorer.model.at(patch_size=7)
    with torch.no_grad(), vitlab.attention.record_attention(model) as recording:
        model(normalise(dataset.images[:1]))
    torch.testing.assert_close(looked.flatten(), recording.weights[-1, 0].mean(0)[0, 1:])


def test_every_size_is_another_picture_with_its_line_on_grey(explorer):
    pictures = []
    for place, size in enumerate(SIZES):
        explorer.set(patch_size=size)
        pixels = np.asarray(Image.open(io.BytesIO(explorer.picture)).convert("RGB"))
        pictures.append(pixels)
        grey = np.flatnonzero((pixels[:, 899] == 0xE4).all(axis=-1))
        assert len(grey) == 20
        assert grey[0] == pixels.shape[0] - 20 * (len(SIZES) - place) - 10
    assert len({picture.tobytes() for picture in pictures}) == len(SIZES)


def test_the_columns_of_three_rivals_are_on_the_picture(dataset, monkeypatch):
    written, own = [], flexi.tiles.write
    write = lambda canvas, at, *more, **how: written.append((at, more)) or own(canvas, at, *more, **how)  # noqa: E731
    monkeypatch.setattr(flexi.tiles, "write", write)
    rivals = {f"rival {i}": new(i) for i in (1, 2, 3)}
    explorer = FlexiExplorer(new(0), {"one": dataset.images[0]}, dataset, [4], rivals)
    places = [at[0] for at, (words, *_) in written if words in rivals]
    assert len({*places}) == 3
    assert max(places) < 900
    for name, share in zip(rivals, explorer.measured[4].rivals, strict=True):
        assert f", {share:.1%} by {name}" in explorer.caption


def test_a_picture_of_one_s_own_is_fitted(explorer):
    photo = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    explorer.pictures["photo"] = photo
    explorer.add("photo")
    assert explorer.caption.startswith("photo at P = 4")
    picture, _, shares = explorer._look("photo", 4)
    assert torch.equal(picture, fit_picture(photo, 28, in_chans=1))
    torch.testing.assert_close(shares, explorer.model(normalise(picture[None]))[0].softmax(dim=0))


def test_a_training_is_noticed(explorer):
    before = explorer.caption
    with torch.no_grad():
        explorer.model.head.weight.neg_()
        explorer.model.head.bias.neg_()
    explorer.redraw()
    assert re.search(r"says (\w)", explorer.caption)[1] != re.search(r"says (\w)", before)[1]


def test_answers_shares_and_times_are_of_one_precision(dataset, monkeypatch):
    asked, kinds, model = [], [], new(0)
    own, layer = flexi.evaluate, model.blocks[0].attn.qkv
    layer.register_forward_hook(lambda module, args, out: kinds.append(out.dtype))
    monkeypatch.setattr(flexi, "evaluate", lambda *given: asked.append(given[2].precision) or own(*given))
    monkeypatch.setattr(runtime, "pick_precision", lambda device: "bf16")
    explorer = FlexiExplorer(model, {"one": dataset.images[0]}, dataset, [4, 7], {"rival": new(1)})
    assert asked == ["bf16"] * 4
    assert len(kinds) >= 2 * (3 + 1) + 2
    assert {*kinds} == {torch.bfloat16}
    _, looked, shares = explorer._look("one", 4)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = model(normalise(dataset.images[:1]))[0].softmax(dim=0)
    assert torch.equal(shares, wanted)
    assert looked.dtype == torch.float32


def test_what_cannot_be_shown_is_refused_by_name(dataset):
    pictures = {"one": dataset.images[0]}
    with pytest.raises(ValueError, match="the model has a distillation token"):
        FlexiExplorer(new(0, distilled=True), pictures, dataset, SIZES)
    with pytest.raises(ValueError, match="taught has a distillation token"):
        FlexiExplorer(new(0), pictures, dataset, SIZES, {"one": new(1), "taught": new(0, distilled=True)})
    with pytest.raises(ValueError, match="room for 3 rivals beside the model; leave out r4, r5, or others"):
        FlexiExplorer(new(0), pictures, dataset, SIZES, {f"r{i}": new(i) for i in range(1, 6)})
    with pytest.raises(ValueError, match="28 is not divisible by 5"):
        FlexiExplorer(new(0), pictures, dataset, [4, 5])
    with pytest.raises(ValueError, match="the class token's attention"):
        FlexiExplorer(new(0, pool="mean"), pictures, dataset, SIZES)
    for nothing in (({}, dataset, SIZES), (pictures, dataset, [])):
        with pytest.raises(ValueError, match="nothing to choose from"):
            FlexiExplorer(new(0), *nothing)
    named = new(0)
    named.class_names = ["c", "b", "a"]
    with pytest.raises(ValueError, match="class_names"):
        FlexiExplorer(named, pictures, dataset, SIZES)
