"""Maps of other libraries' models through a view, by loops over what the library itself says."""

import copy
import re
from pathlib import Path

import pytest
import torch

import vitlab
from vitlab.attention import maps
from vitlab.attention.scores import deletion_curve

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
pytest.importorskip("vit_pytorch")

import timm  # noqa: E402
from attach_kinds import all_kinds, randomised  # noqa: E402

KINDS = {kind.id: kind for kind in all_kinds()}
ONE_OF_EACH_READING = [
    "timm: ViT",
    "timm: DINOv2, registers",
    "timm: DeiT, distilled",
    "timm: EVA-02",
    "timm: ViT, avg with prefix",
    "timm: ViT, global_pool map",
    "timm: SigLIP",
    "timm: ViT, two attentions a block",
    "torchvision: vit_b_16",
    "transformers: DINOv2, registers (sdpa)",
    "transformers: SigLIP (sdpa)",
    "open_clip: CoCa, attention pooling",
    "vit-pytorch: SimpleViT",
]


def prepared(name, size):
    kind = KINDS[name]
    torch.manual_seed(0)
    model = randomised(kind.build(size))
    keywords = {key: size if value is ... else value for key, value in kind.keywords.items()}
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
    return kind, vitlab.attach(model, **keywords), images


def read_by_loop(attention, kind, pooling):
    """The row that stands for what the head reads, (B, T), one image after the other."""
    rows = []
    for b, image in enumerate(attention):
        tokens = len(image)
        read = {
            "token": [0],
            "pair": [0, 1],
            "mean": range(kind.prefix, tokens),
            "mean_all": range(tokens),
        }
        if kind.reads == "attention":
            first = tokens - pooling.shape[-1]
            rows.append(sum(float(pooling[b, k]) * image[first + k] for k in range(pooling.shape[-1])))
        elif kind.reads == "token+mean":
            patches = range(kind.prefix, tokens)
            rows.append((image[0] + sum(image[t] for t in patches) / len(patches)) / 2)
        else:
            rows.append(sum(image[t] for t in read[kind.reads]) / len(read[kind.reads]))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ONE_OF_EACH_READING)
def test_rollout_and_class_attention(name):
    size = KINDS[name].sizes[1]
    kind, view, images = prepared(name, size)
    reference = [each.double() for each in kind.reference(view.model, images)]
    layers, pooling = reference[:2], reference[2].mean(dim=(1, 2)) if kind.pools else None
    tokens = layers[0].shape[-1]
    rolled = torch.eye(tokens, dtype=torch.float64).expand(3, -1, -1)
    for layer in layers:
        rolled = (layer.mean(dim=1) / 2 + torch.eye(tokens) / 2) @ rolled
    rows, columns = view.grid_of(size)
    assert rows * columns + kind.prefix == tokens
    expected = read_by_loop(rolled, kind, pooling)[:, kind.prefix :].reshape(3, rows, columns)
    torch.testing.assert_close(maps.rollout(view, images).double(), expected, atol=1e-6, rtol=0)
    last = pooling if kind.pools else read_by_loop(layers[-1].mean(dim=1), kind, None)
    expected = last[:, -rows * columns :].reshape(3, rows, columns)
    torch.testing.assert_close(maps.class_attention(view, images).double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["timm: ViT", "timm: DINOv2, registers", "timm: EVA-02"])
def test_relevance_by_loop(name):
    """Chefer's rule over timm's own weights, which are in its graph without the fused kernel."""
    kind, view, images = prepared(name, (24, 48))
    model, kept = copy.deepcopy(view.model), []

    def keep(module, args):
        args[0].retain_grad()
        kept.append(args[0])

    for part, module in model.named_modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
        if part.endswith("attn_drop"):
            module.register_forward_pre_hook(keep)
    classes = [0, 4, 2]
    logits = model(images)
    sum(logits[b, c] for b, c in enumerate(classes)).backward()
    weighted = [(each.detach() * each.grad).clamp(min=0).mean(dim=1) for each in kept]
    relevance = torch.eye(weighted[0].shape[-1])
    for each in weighted:
        relevance = relevance + each @ relevance
    for made, matrix in [(maps.relevance, relevance), (maps.attention_gradient, weighted[-1])]:
        expected = read_by_loop(matrix, kind, None)[:, kind.prefix :].reshape(3, 3, 6)
        torch.testing.assert_close(made(view, images, classes), expected, atol=1e-6, rtol=1e-4)


OTHER_WAYS = [
    "timm: ViT, relative positions",
    "timm: BEiT-v2",
    "timm: DINOv3",
    "timm: NaFlex",
    "transformers: MSN (eager)",
    "transformers: DINOv2, registers (eager)",
    "vit-pytorch: SimpleViT, flash",
    "vit-pytorch: for small data, mean with prefix",
]


@pytest.mark.parametrize("name", [*(each for each in ONE_OF_EACH_READING if "two" not in each), *OTHER_WAYS])
def test_gradient_maps_are_those_of_the_recorded_weights(name):
    """With biases, rotations, poolings, weights in the open: autograd over all that is recorded."""
    size = KINDS[name].sizes[1]
    kind, view, images = prepared(name, size)

    def ask(output):
        return output.flatten(1)[:, :3].sum(dim=1)

    with vitlab.record_attention(view) as record:
        number = ask(view(images.requires_grad_())).sum()
    weights = [passes[0] for passes in record.layers + record.passes.get("pooling", [])]
    gradients = torch.autograd.grad(number, weights)
    products = [(w * g).clamp(min=0).detach() for w, g in zip(weights, gradients, strict=True)]
    pooling = products.pop().mean(dim=(1, 2)) if kind.pools else None
    weighted = [each.mean(dim=1) for each in products]
    relevance = torch.eye(weighted[0].shape[-1])
    for each in weighted:
        relevance = relevance + each @ relevance
    grid = view.grid_of(size)
    patches = grid[0] * grid[1]
    wanted = read_by_loop(relevance, kind, pooling)[:, -patches:].reshape(3, *grid)
    made = maps.relevance(view, images, ask)
    torch.testing.assert_close(made, wanted, atol=1e-6 * float(wanted.abs().max()), rtol=1e-4)
    last = pooling if kind.pools else read_by_loop(weighted[-1], kind, None)
    made, wanted = maps.attention_gradient(view, images, ask), last[:, -patches:].reshape(3, *grid)
    torch.testing.assert_close(made, wanted, atol=1e-6 * float(wanted.abs().max()), rtol=1e-4)


@pytest.mark.parametrize("name", ["timm: SigLIP", "transformers: MSN (eager)", "torchvision: vit_b_16"])
def test_every_map_of_other_models(name):
    size = KINDS[name].sizes[1]
    _, view, images = prepared(name, size)
    for each in maps.MAPS.values():
        made = each(view, images, 1)
        assert made.shape == (3, *view.grid_of(size))
        assert made.isfinite().all()
        alone = each(view, images[1:2], 1)
        torch.testing.assert_close(made[1:2], alone, atol=1e-5, rtol=1e-3)


def test_occlusion_hides_with_the_grey_of_the_models_images():
    model = randomised(timm.create_model("vit_tiny_patch16_224", img_size=(32, 48), depth=2, num_classes=5))
    view, images = vitlab.attach(model), torch.randn(2, 3, 32, 48)
    mean, std = torch.tensor(view.mean)[:, None, None], torch.tensor(view.std)[:, None, None]
    with torch.no_grad():
        before = model(images).softmax(-1)[:, 3]
        falls = torch.zeros(2, 2, 3)
        for row in range(2):
            for column in range(3):
                hidden = images * std + mean
                hidden[:, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 0.5
                falls[:, row, column] = before - model((hidden - mean) / std).softmax(-1)[:, 3]
    made = maps.occlusion(view, images, 3, window=1)
    torch.testing.assert_close(made, falls, atol=1e-5, rtol=0)


def test_the_readmes_lines(monkeypatch):
    """As they stand, but with random weights, which are no file on another machine."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import timm, vitlab\n.*?)```", readme, re.DOTALL)
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: create(name, depth=2))
    told = {}
    exec(lines, told)
    view, picture = told["view"], told["picture"]
    assert view.grid_size == (14, 14)
    expected = (picture / 255 - 0.5) / 0.5
    torch.testing.assert_close(view.prepare(picture[None])[0], expected)
    with pytest.raises(ValueError, match="uint8 of shape \\(B, 3, H, W\\); got torch.float32"):
        view.prepare(expected[None])


def test_what_the_head_reads_has_to_be_known():
    model = randomised(KINDS["transformers: ViT-MAE (sdpa)"].build((32, 32)))
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match="pools no tokens.*reads='token'"):
        maps.rollout(vitlab.attach(model), images)
    assert maps.rollout(vitlab.attach(model, reads="mean"), images).shape == (1, 4, 4)
    with pytest.raises(ValueError, match="attach\\(model\\) makes a view"):
        maps.rollout(model, images)


def test_distances_with_registers():
    """By a loop over pairs of patches of 8 x 4 pixels, five tokens before them."""
    weights = torch.rand(2, 1, 3, 5 + 6, 5 + 6).softmax(-1)
    for cls in ("drop", "renormalise"):
        expected = torch.zeros(2, 3)
        for i in range(6):
            row = weights[:, 0, :, 5 + i, 5:]
            row = row / row.sum(-1, keepdim=True) if cls == "renormalise" else row
            for j in range(6):
                down, across = 8 * (i // 3 - j // 3), 4 * (i % 3 - j % 3)
                expected += row[..., j] * (down**2 + across**2) ** 0.5 / 6
        made = vitlab.mean_attention_distance(weights, (2, 3), (8, 4), cls, num_prefix_tokens=5)
        torch.testing.assert_close(made, expected)
    with pytest.raises(ValueError, match="say num_prefix_tokens"):
        vitlab.mean_attention_distance(weights, (2, 3), 8)
    with pytest.raises(ValueError, match="and 4 before"):
        vitlab.mean_attention_distance(weights, (2, 3), 8, num_prefix_tokens=4)


def test_a_number_of_ones_own_is_asked_for():
    """One logit minus another: where the output is linear in it, the difference of two classes' gradients."""
    _, view, images = prepared("timm: ViT", (32, 32))
    minus = lambda logits: logits[:, 1] - 2 * logits[:, 3]  # noqa: E731
    pixels = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(minus(view.model(pixels)).sum(), pixels)
    expected = gradient.abs().amax(dim=1).unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(-2, -1))
    torch.testing.assert_close(maps.input_gradient(view, images, minus), expected)
    with torch.no_grad():
        hidden = images.clone()
        hidden[:, :, :8, 24:] = 0.0
        fall = minus(view(images)) - minus(view(hidden))
    made = maps.occlusion(view, images, minus, window=1)
    torch.testing.assert_close(made[:, 0, 3], fall, atol=1e-5, rtol=0)
    curve = deletion_curve(view, images, made, minus, steps=2)
    torch.testing.assert_close(curve[:, 0], minus(view(images)).detach())
    with pytest.raises(ValueError, match="one number an image, \\(3,\\); got \\(3, 5\\)"):
        maps.relevance(view, images, lambda logits: logits)


@pytest.mark.parametrize(
    "name", ["open_clip: ViT", "transformers: DINOv2 (sdpa)", "transformers: SigLIP (sdpa)"]
)
def test_features_are_no_classes(name):
    _, view, images = prepared(name, (32, 32))
    for made in (maps.relevance, maps.input_gradient, maps.occlusion):
        with pytest.raises(ValueError, match="no classes to ask about"):
            made(view, images, 1)
        assert made(view, images, lambda features: features[:, 0]).shape == (3, 4, 4)


def test_attentions_side_by_side_have_no_gradient_maps():
    _, view, images = prepared("timm: ViT, two attentions a block", (32, 32))
    with pytest.raises(ValueError, match="side by side"):
        maps.relevance(view, images)
