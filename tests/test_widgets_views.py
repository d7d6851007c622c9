"""Explorers of lessons 06 and 07 with other libraries' models: numbers and names by loops over the
libraries' own weights.
"""

import itertools
import math
import re

import pytest
import torch

import vitlab
from vitlab.attention import maps
from vitlab.data import fit_picture
from vitlab.widgets import AttentionMapExplorer, HeadDistanceExplorer, MapExplorer

pytest.importorskip("open_clip")
pytest.importorskip("vit_pytorch")
transformers = pytest.importorskip("transformers")

import timm  # noqa: E402
import torchvision  # noqa: E402
from attach_kinds import all_kinds, randomised  # noqa: E402

KINDS = {kind.id: kind for kind in all_kinds()}
REGISTERS = [f"register {number}" for number in (1, 2, 3, 4)]
SIZE, GRID = (24, 48), (3, 6)
# What may be asked from query 0 downwards, and the rows of the weights that it stands for.
ASKED = {
    "timm: ViT": {"the class token": [0]},
    "timm: DINOv2, registers": {"the class token": [0]} | {r: [n] for n, r in enumerate(REGISTERS, 1)},
    "timm: DeiT, distilled": {
        "the mean of class and distillation token": [0, 1],
        "the class token": [0],
        "the distillation token": [1],
    },
    "timm: ViT, global_pool avg": {"the mean of the patches": range(1, 19), "the class token": [0]},
    "timm: ViT, avg with prefix": {"the mean of all tokens": range(19), "the class token": [0]},
    "timm: DINOv3": {"the mean of the patches": range(5, 23), "the class token": [0]}
    | {r: [n] for n, r in enumerate(REGISTERS, 1)},
    "timm: ViT, relative positions": {"the mean of the patches": range(18)},
    "timm: SigLIP": {"the attention pooling": None},
    "timm: NaFlex": {"the attention pooling": None},
    "timm: ViT, two attentions a block": {"the class token": [0]},
    "transformers: DINOv3 (sdpa)": {"the class token": [0]} | {r: [n] for n, r in enumerate(REGISTERS, 1)},
    "transformers: DeiT (sdpa)": {
        "the mean of class and distillation token": [0, 1],
        "the class token": [0],
        "the distillation token": [1],
    },
    "transformers: SigLIP (sdpa)": {"the attention pooling": None},
    "transformers: ViT-MAE (sdpa)": {"the class token": [0]},
    "open_clip: ViT": {"the class token": [0]},
    "vit-pytorch: SimpleViT": {"the mean of the patches": range(18)},
}


def attached(name, size=SIZE):
    kind = KINDS[name]
    torch.manual_seed(0)
    model = randomised(kind.build(size))
    keywords = {key: size if value is ... else value for key, value in kind.keywords.items()}
    return kind, vitlab.attach(model, **keywords, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])


@pytest.fixture
def pictures():
    draw = torch.Generator().manual_seed(1)
    return {n: torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=draw) for n in "ab"}


def by_hand(picture):
    """A picture as these models take it."""
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    return ((picture.double() / 255 - mean[:, None, None]) / std[:, None, None]).float()[None]


def told(row, prefix):
    """The begin of what is said of a row: its largest patch."""
    patches = row[prefix:].tolist()
    best = max(range(len(patches)), key=patches.__getitem__)
    return f"most to patch {best + 1} ({patches[best]:.1%})"


@pytest.mark.parametrize("name", ASKED)
def test_queries_have_their_names_and_rows(name, pictures):
    kind, view = attached(name)
    reference = kind.reference(view.model, by_hand(pictures["b"]))
    layers = [each[0].double() for each in reference[:2]]
    pooling = reference[2][0].double().mean(dim=(0, 1)) if kind.pools else None
    rolled = torch.eye(layers[0].shape[-1], dtype=torch.float64)
    for layer in layers:
        rolled = (layer.mean(dim=0) / 2 + torch.eye(len(rolled)) / 2) @ rolled
    explorer = AttentionMapExplorer(view, pictures)
    slider = explorer.controls["query"]
    assert (slider.min, slider.max) == (1 - len(ASKED[name]), 18)
    first = next(iter(ASKED[name])).removeprefix("the ")
    assert slider.description.startswith(f"query (0: {first}")
    explorer.set(image="b", layer=2, head=1)
    for down, (asked, rows) in enumerate(ASKED[name].items()):
        explorer.set(query=-down)
        assert explorer.caption.startswith(f"b, query: {asked}. Layer 2, head 1: ")
        for matrix, line in zip((layers[1][0], rolled), explorer.caption.splitlines(), strict=True):
            row = pooling @ matrix[-len(pooling) :] if rows is None else matrix[list(rows)].mean(dim=0)
            assert told(row, kind.prefix) in line
    explorer.set(query=11)
    assert "query: patch 11 (row 2, column 5)" in explorer.caption
    assert told(layers[1][0][kind.prefix + 10], kind.prefix) in explorer.caption


def test_what_tokens_before_the_patches_get(pictures):
    kind, view = attached("timm: DINOv2, registers")
    (weights, _) = kind.reference(view.model, by_hand(pictures["a"]))
    explorer = AttentionMapExplorer(view, pictures)
    explorer.set(image="a", layer=1, head=2, query=0)
    row = weights[0, 1, 0]
    to_registers = f"{row[1:5].sum():.1%} to the 4 registers"
    assert f"; {row[0]:.1%} to the class token itself; {to_registers}." in explorer.caption
    explorer.set(query=-2)
    row = weights[0, 1, 2]
    assert f"; {row[0]:.1%} to the class token; {row[1:5].sum():.1%} to the 4 reg" in explorer.caption


def test_tokens_that_nobody_names_are_counted(pictures):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            sizes = dict(img_size=SIZE, patch_size=8, depth=2)
            self.inner = randomised(timm.create_model("vit_tiny_patch16_224", **sizes))

        def forward(self, images):
            return self.inner(images)

    given = dict(image_size=SIZE, patch_size=8, num_prefix_tokens=1, mean=[0.5], std=[0.5])
    explorer = AttentionMapExplorer(vitlab.attach(Plain(), **given), pictures)
    explorer.set(query=0)
    assert explorer.caption.startswith("a, query: prefix token 1. ")


def test_floats_are_shown_as_they_look(pictures):
    _, view = attached("timm: ViT")
    floats = {name: by_hand(each)[0] for name, each in pictures.items()}
    assert AttentionMapExplorer(view, floats).picture == AttentionMapExplorer(view, pictures).picture
    silent = vitlab.attach(torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 24))
    square = {"a": pictures["a"][:, :, :24]}
    for images in (square, {"a": torch.zeros(3, 32, 32)}):
        with pytest.raises(ValueError, match=r"nobody said what the images are normalised with"):
            AttentionMapExplorer(silent, images)


def test_pictures_of_several_sizes_are_refused(pictures):
    _, view = attached("timm: ViT, dynamic size")
    with pytest.raises(ValueError, match=r"all of one size; got \[\(3, 24, 48\), \(3, 32, 32\)\]"):
        AttentionMapExplorer(view, pictures | {"c": torch.zeros(3, 32, 32, dtype=torch.uint8)})


def test_another_size_than_the_models_own():
    kind, view = attached("timm: ViT, dynamic size", (32, 32))
    picture = torch.randint(0, 256, (3, 16, 40), dtype=torch.uint8)
    mask = torch.zeros(16, 40, dtype=torch.bool)
    mask[4:12, 4:20] = True
    explorer = AttentionMapExplorer(view, {"wide": picture}, {"wide": mask})
    explorer.set(layer=1, head=1, query=10)
    (weights, _) = kind.reference(view.model, by_hand(picture))
    assert "patch 10 (row 2, column 5)" in explorer.caption
    assert told(weights[0, 0, 10], 1) in explorer.caption
    assert "where chance is 20.0%" in explorer.caption  # 8 x 16 of 16 x 40 pixels
    with vitlab.record_attention(view) as record, torch.no_grad():
        view(by_hand(picture))
    distances = HeadDistanceExplorer(record.weights, view, image_size=(16, 40))
    expected = vitlab.mean_attention_distance(weights[None], (2, 5), 8)[0, 0]
    assert f"mean attention distance {expected:.1f} pixels" in distances.caption


def ragged():
    """A model of pictures whose sides are no whole number of patches: the last pixels are not looked at."""
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    torch.manual_seed(0)
    config = transformers.Dinov2Config(image_size=32, patch_size=8, **sizes)
    return vitlab.attach(randomised(transformers.Dinov2Model(config)), mean=[0.5], std=[0.5])


def test_pixels_that_no_patch_holds_are_not_under_a_map(pictures):
    picture = torch.randint(0, 256, (3, 30, 45), dtype=torch.uint8)
    mask = torch.zeros(30, 45, dtype=torch.bool)
    mask[16:, 8:] = True
    explorer = AttentionMapExplorer(ragged(), {"a": picture}, {"a": mask})
    same = AttentionMapExplorer(ragged(), {"a": picture[:, :24, :40]}, {"a": mask[:24, :40]})
    assert explorer.grid == (3, 5)
    assert explorer.shown == same.shown
    assert torch.equal(explorer.images["a"], picture[:, :24, :40])
    assert "where chance is 26.7%" in explorer.caption  # 4 of 15 patches


# ------------------------------------------------------------------------------------------------ distances


@pytest.mark.parametrize("name", ["timm: DINOv2, registers", "timm: DeiT, distilled", "timm: SigLIP"])
def test_distances_leave_all_prefix_tokens_out(name, pictures):
    kind, view = attached(name)
    images = torch.cat([by_hand(each) for each in pictures.values()])
    weights = torch.stack(kind.reference(view.model, images)[:2])
    explorer = HeadDistanceExplorer(weights, view)
    explorer.set(layer=2, head=3)
    patches = weights[1, :, 2, kind.prefix :, kind.prefix :].double()
    places = [(n // 6, n % 6) for n in range(18)]
    total = 0.0
    for q, k in itertools.product(range(18), repeat=2):
        total += float(patches[:, q, k].mean()) * 8 * math.dist(places[q], places[k])
    assert f"mean attention distance {total / 18:.1f} pixels" in explorer.caption
    assert ("cls" in explorer.controls) == (kind.prefix > 0)
    before = {
        "timm: DINOv2, registers": {"The class token gets": [0], "The 4 registers get": [1, 2, 3, 4]},
        "timm: DeiT, distilled": {"The class token gets": [0], "The distillation token gets": [1]},
    }.get(name, {})
    for words, tokens in before.items():
        share = weights[1, :, 2, kind.prefix :][..., tokens].sum(-1).mean()
        assert f" {words} {share:.1%}." in explorer.caption
    assert len(re.findall(r"\bgets? ", explorer.caption)) == len(before)


# ------------------------------------------------------------------------------------------ lesson 07's maps


@pytest.mark.parametrize(
    "name", ["timm: ViT, registers, avgmax", "torchvision: vit_b_16", "transformers: MSN (sdpa)"]
)
def test_maps_and_answers(name, pictures):
    size = KINDS[name].sizes[1]
    _, view = attached(name, size)
    given = dict(interpolate_pos_encoding=True) if "transformers" in name else {}
    classes = ["ant", "bee", "cow", "dog", "elk"][: 2 if given else 5]
    explorer = MapExplorer(view, pictures, classes, image_size=size)
    images = by_hand(fit_picture(pictures["b"], size))
    with torch.no_grad():
        output = view.model(images, **given)
        shares = getattr(output, "logits", output).softmax(-1)[0]
    for each in maps.MAPS:
        explorer.set(image="b", map=each, asked=1)
        best = int(shares.argmax())
        assert explorer.caption.startswith(f"b: the model says {classes[best]} {shares[best]:.1%}, then ")
        values = maps.MAPS[each](view, images, 1)[0]
        row, column = divmod(int(values.argmax()), values.shape[1])
        assert (
            f"largest in row {row + 1} of {size[0] // view.patch_size}, column {column + 1} "
            in explorer.caption
        )
        assert f"from {values.min():.3g} to {values.max():.3g}, " in explorer.caption


def test_an_encoder_has_maps_without_classes(pictures):
    _, view = attached("transformers: DINOv2 (sdpa)")
    explorer = MapExplorer(view, pictures)
    names = [name for _, name in explorer.controls["map"].options]
    assert names == ["rollout", "class_attention", "centred_gaussian", "local_contrast"]
    assert explorer.controls["asked"].disabled
    for name in names:
        explorer.set(image="b", map=name)
        assert explorer.caption.startswith("b: the model gives 32 numbers and no classes.\n")
        assert explorer.error is None
    with pytest.raises(ValueError, match="the model has 0 classes; got 2 names"):
        MapExplorer(view, pictures, ["one", "two"])


def test_blocks_with_two_attentions_offer_no_gradient_of_one(pictures):
    _, view = attached("timm: ViT, two attentions a block")
    explorer = MapExplorer(view, pictures, list("abcde"))
    assert {"relevance", "attention_gradient"}.isdisjoint(dict(explorer.controls["map"].options).values())
    with pytest.raises(ValueError, match="several attentions side by side"):
        MapExplorer(view, pictures, list("abcde"), names=["relevance"])


def test_what_cannot_be_known_is_asked_for(pictures):
    _, view = attached("transformers: ViT-MAE (sdpa)")
    with pytest.raises(ValueError, match="pools no tokens.*attach"):
        MapExplorer(view, pictures)
    _, view = attached("timm: ViT")
    with pytest.raises(ValueError, match="the model has 5 classes; got 4 names"):
        MapExplorer(view, pictures, list("abcd"))
    small = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 24, num_classes=2)
    with pytest.raises(ValueError, match="nobody said what the images are normalised with"):
        MapExplorer(vitlab.attach(small), pictures, ["a", "b"])
