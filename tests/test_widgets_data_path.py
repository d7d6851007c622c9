"""The data-path explorer: every step's numbers are the model's own."""

import io
import re

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import vitlab
from vitlab import ViT, ViTConfig
from vitlab.widgets import DataPathExplorer, PictureUpload
from vitlab.widgets.data_path import LINE, walk
from vitlab.widgets.overview import overview
from vitlab.widgets.sequence import Sequence

CLASSES = list("abcdefghij")


@pytest.fixture
def model() -> ViT:
    torch.manual_seed(0)
    model = ViT(ViTConfig())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


@pytest.fixture
def images() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8, generator=generator)
        for name in ("one", "two")
    }


def test_every_step_of_the_walk_is_the_models(model, images):
    path = walk(model, images["one"])
    x = images["one"][None] / 127.5 - 1
    torch.testing.assert_close(path.image, x)
    flat = torch.nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
    torch.testing.assert_close(path.patches, flat)
    matrix = model.patch_embed.proj.weight.flatten(1).T
    torch.testing.assert_close(path.projected, flat @ matrix + model.patch_embed.proj.bias)
    torch.testing.assert_close(path.with_class[:, 0], model.cls_token[:, 0])
    torch.testing.assert_close(path.tokens, path.with_class + model.pos_embed)
    z = path.tokens
    for block, wanted in zip(model.blocks, path.blocks, strict=True):
        z = block(z)
        torch.testing.assert_close(wanted, z)
    torch.testing.assert_close(path.normed, model.norm(z))
    torch.testing.assert_close(path.logits, model.head(path.normed[:, 0]))
    assert not any(block._forward_hooks for block in model.blocks)  # nothing is left behind


def test_every_step_shows_a_picture_of_its_own_and_its_shape(model, images):
    explorer = DataPathExplorer(model, images, CLASSES)
    shapes = [(1, 1, 28, 28), (1, 49, 16), (1, 49, 96)] + [(1, 50, 96)] * 7 + [(1, 10)]
    seen = set()
    for number, (step, shape) in enumerate(zip(explorer.steps, shapes, strict=True), start=1):
        explorer.set(step=step)
        assert explorer.error is None
        assert explorer.caption.startswith(f"Step {number} of 11, {step}: {shape} is ")
        assert Image.open(io.BytesIO(explorer.picture)).size == explorer.size
        seen.add(explorer.picture)
    assert len(seen) == 11


def shown(explorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture)).convert("RGB")).astype(float)


def test_the_sequence_is_one_line(model, images):
    """49 patches and a place for the class token, 18 pixels each: every one on the same line, in order."""
    explorer = DataPathExplorer(model, images, CLASSES)
    explorer.set(step="patches")
    picture, pixels = shown(explorer), images["one"][0].float().numpy()
    for i in range(49):
        row, column = 4 * (i // 7), 4 * (i % 7)
        there = picture[LINE : LINE + 16, 18 * (i + 1) : 18 * (i + 1) + 16, 0]
        enlarged = pixels[row : row + 4, column : column + 4].repeat(4, 0).repeat(4, 1)
        assert abs(there - enlarged).max() <= 1  # to [-1, 1] and back


def test_a_long_sequence_says_how_much_of_it_is_shown():
    line = Sequence(np.zeros((196, 4, 4, 3), np.uint8), (0, 0), 900)
    assert (line.shown, line.words) == (150, " (the first 149 of 196 patches)")
    assert Sequence(np.zeros((4, 4, 4, 3), np.uint8), (0, 0), 900).words == ""


def test_under_the_sequence_stand_the_tokens_vectors(model, images):
    explorer = DataPathExplorer(model, images, CLASSES)
    explorer.set(step="class token")
    picture, tokens = shown(explorer), walk(model, images["one"]).with_class[0].numpy()
    bound = np.quantile(abs(tokens), 0.98)
    for token, number in ((0, 0), (1, 95), (30, 40), (49, 7)):
        share = (tokens[token, number] / bound + 1) / 2
        wanted = np.array(matplotlib.colormaps["viridis"](share)[:3]) * 255
        there = picture[LINE + 18 + 4 + number, 18 * token + 9]
        assert abs(there - wanted).max() <= 5  # one of 256 colours


@pytest.mark.parametrize("block", [0, 3])
def test_a_block_shows_attention_likeness_and_what_the_head_would_say(model, images, block):
    explorer = DataPathExplorer(model, images, CLASSES)
    explorer.set(step=f"block {block + 1}")
    picture, path = shown(explorer), walk(model, images["one"])
    spread = [float(np.std(patch, ddof=1)) for patch in path.patches[0].numpy()]
    followed = spread.index(max(spread))
    tokens = path.blocks[block, 0, 1:].double().numpy()
    lengths = np.sqrt((tokens**2).sum(1))
    cosines = tokens @ tokens[followed] / lengths / lengths[followed]
    for i in set(range(49)) - {followed}:
        row, column = 4 * (i // 7) + 3, 4 * (i % 7) + 1  # a pixel of the patch
        y, x = int((row + 0.5) * 240 / 28), int((column + 0.5) * 240 / 28)
        grey = images["one"][0, row, column].item()
        colour = np.array(matplotlib.colormaps["viridis"](max(0, cosines[i]))[:3]) * 255
        assert abs(picture[26 + y, 270 + x] - (0.75 * colour + 0.25 * grey)).max() <= 5  # one of 256 colours
    row = path.weights[block, 0].mean(0)[0].numpy()
    bars = [(picture[LINE + 22 + 2 : LINE + 22 + 97, 18 * token + 8, 1] < 120).sum() for token in range(50)]
    np.testing.assert_allclose(bars, 95 * row / row.max(), atol=2)
    cosines[followed] = -2
    said = model.head(model.norm(path.blocks[block]))[0, 0].softmax(0)
    assert f"like that of patch {cosines.argmax() + 1} (cosine {cosines.max():.2f})" in explorer.caption
    assert f"would say {CLASSES[said.argmax()]}, {said.max():.1%}." in explorer.caption


def test_the_last_step_names_the_models_answer(model, images):
    explorer = DataPathExplorer(model, images, CLASSES)
    for name, image in images.items():
        explorer.set(image=name, step="class")
        with torch.no_grad():
            probabilities = model(image[None] / 127.5 - 1).softmax(-1)[0]
        best = int(probabilities.argmax())
        assert f"It says {CLASSES[best]}, with {probabilities[best]:.1%}." in explorer.caption


def test_back_and_forth(model, images):
    explorer = DataPathExplorer(model, images, CLASSES)
    first = explorer.picture
    explorer.set(step="block 2")
    explorer.set(step="image")
    assert explorer.picture == first
    explorer.set(image="two", step="norm")
    explorer.reset()
    assert explorer.picture == first


def test_a_model_without_a_class_token_is_refused(images):
    with pytest.raises(ValueError, match="pool='token'"):
        DataPathExplorer(ViT(ViTConfig(pool="mean")), images, CLASSES)


def test_the_overview_names_the_three_likeliest_classes(model, images):
    picture = overview(model, images["one"], CLASSES)
    with torch.no_grad():
        probabilities = model(images["one"][None] / 127.5 - 1).softmax(-1)[0]
    values, best = probabilities.topk(3)
    bars = next(ax for ax in picture.axes if ax.get_title() == "and is named")
    assert [label.get_text() for label in bars.get_yticklabels()] == [CLASSES[i] for i in best]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(values.tolist(), rel=1e-5)


def test_the_overview_shows_the_sequence_in_one_line_above_its_tokens(model, images):
    picture = overview(model, images["one"], CLASSES)
    tokens = next(ax for ax in picture.axes if ax.get_xlabel() == "token")
    line = next(ax for ax in tokens.child_axes if ax.get_xlim() == tokens.get_xlim())
    row = line.get_images()[0].get_array()
    wanted = images["one"][0].view(7, 4, 7, 4).permute(1, 0, 2, 3).reshape(4, 49, 4)  # side by side
    assert np.array_equal(row[..., 0].reshape(4, 49, 5)[..., :4], wanted)
    assert line.get_xlim() == tokens.get_xlim() == (-0.5, 49.5)
    assert tuple(line.get_images()[0].get_extent())[:2] == (0.5, 49.5)


def test_an_uploaded_photo_takes_the_way_of_the_model(model, images):
    """Cropped to a square, made 28 x 28 and grey; a second one of the same name takes its place."""
    explorer = DataPathExplorer(model, images, CLASSES)
    upload = PictureUpload(explorer.pictures, then=explorer.add)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    captions = []
    for shown in (pixels, 255 - pixels):
        file = io.BytesIO()
        Image.fromarray(shown).save(file, format="png")
        upload.take([("mine.png", file.getvalue())])
        assert explorer.state["image"] == "mine.png"
        explorer.set(step="class")
        small = ImageOps.fit(Image.fromarray(shown), (28, 28), Image.Resampling.BICUBIC).convert("L")
        with torch.no_grad():
            shares = model(torch.tensor(np.array(small))[None, None] / 127.5 - 1).softmax(dim=-1)[0]
        assert f"It says {CLASSES[shares.argmax()]}, with {shares.max():.1%}" in explorer.caption
        captions.append(explorer.caption)
        explorer.set(step="image")
    assert captions[0] != captions[1]


def test_the_readmes_picture_is_of_the_model_that_ships():
    """The picture names the weights that it was drawn with; pixels depend on Matplotlib's version."""
    with Image.open(vitlab.data.find("results/overview.png")) as picture:
        sha256 = vitlab.checkpoints.card("fashion_mnist_vit")["sha256"]
        assert picture.text["Source"] == f"fashion_mnist_vit {sha256}"
        assert picture.size == (1180, 300)


def test_a_model_in_training_is_looked_at_in_evaluation_and_goes_on_in_training(images):
    model = ViT(ViTConfig(dropout=0.5)).train()
    one, other = (walk(model, images["one"]) for _ in range(2))
    assert torch.equal(one.blocks, other.blocks)
    assert all(module.training for module in model.modules())


def test_one_patch_alone_has_no_other_to_be_like(images):
    explorer = DataPathExplorer(ViT(ViTConfig(patch_size=28, depth=1)).eval(), images, CLASSES)
    explorer.set(step="block 1")
    assert explorer.error is None
    assert "There is no other patch to be like. Norm and head" in explorer.caption


def test_a_patch_is_never_said_to_be_like_itself():
    """On an image of one grey, without positions, all tokens are alike."""
    model = ViT(ViTConfig(patch_size=14, depth=1, pos_embed="none")).eval()
    picture = torch.full((1, 28, 28), 60, dtype=torch.uint8)
    explorer = DataPathExplorer(model, {"grey": picture}, CLASSES)
    explorer.set(step="block 1")
    own, other = re.search(
        r"The token of patch (\d) is most like that of patch (\d) ", explorer.caption
    ).groups()
    assert own != other
    assert "(cosine 1.00)" in explorer.caption
