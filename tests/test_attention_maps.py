"""Maps against slow loops, finite differences, and images hidden one part after the other."""

import itertools
import math

import pytest
import torch
from torch import nn

from vitlab import ViT, ViTConfig, record_attention
from vitlab.attention import attention_rollout, maps
from vitlab.attention.scores import deletion_curve
from vitlab.resnet import ResNet, ResNetConfig

SMALL = dict(
    image_size=(8, 12),
    patch_size=4,
    in_chans=2,
    num_classes=5,
    embed_dim=12,
    depth=3,
    num_heads=2,
    mlp_dim=16,
)
GRADIENT_MAPS = ("attention_gradient", "relevance", "input_gradient")
UNREAD = dict(pool="mean", unread_class_token=True)
BY_CLASS = (*GRADIENT_MAPS, "occlusion")


def far_from_the_start(**fields):
    torch.manual_seed(0)
    model = ViT(ViTConfig(**SMALL | fields)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture
def model():
    return far_from_the_start()


@pytest.fixture
def images():
    return torch.randn(3, 2, 8, 12, generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------------------------- what all have


@pytest.mark.parametrize("name", maps.MAPS)
def test_one_signature(model, images, name):
    for classes in (None, 2, [0, 1, 4], torch.tensor([0, 1, 4])):
        made = maps.MAPS[name](model, images, classes)
        assert made.shape == (3, 2, 3)
        assert made.isfinite().all()
        assert not made.requires_grad


@pytest.mark.parametrize("name", maps.MAPS)
def test_each_image_has_a_map_of_its_own(model, images, name):
    whole = maps.MAPS[name](model, images, [4, 0, 2])
    alone = [maps.MAPS[name](model, image[None], c)[0] for image, c in zip(images, (4, 0, 2), strict=True)]
    torch.testing.assert_close(whole, torch.stack(alone), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", maps.MAPS)
def test_the_model_stays_as_it_was(model, images, name):
    model.blocks[1].train()
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    maps.MAPS[name](model, images)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(block.attn.observers for block in model.blocks)


@pytest.mark.parametrize("name", maps.MAPS)
def test_where_gradients_are_off_or_weights_frozen(model, images, name):
    wanted = maps.MAPS[name](model, images, 1)
    with torch.no_grad():
        torch.testing.assert_close(maps.MAPS[name](model, images, 1), wanted)
    with torch.inference_mode():
        torch.testing.assert_close(maps.MAPS[name](model, images.clone(), 1), wanted)
    torch.testing.assert_close(maps.MAPS[name](model.requires_grad_(False), images, 1), wanted)


def test_dropout_is_off_while_looking(images):
    model = far_from_the_start(dropout=0.5).train()
    for name in maps.MAPS:
        assert torch.equal(maps.MAPS[name](model, images), maps.MAPS[name](model, images))


@pytest.mark.parametrize("fields", [dict(pool="mean"), UNREAD, dict(head_dim=5, qkv_bias=False)])
@pytest.mark.parametrize("name", maps.MAPS)
def test_of_models_of_other_makes(images, name, fields):
    assert maps.MAPS[name](far_from_the_start(**fields), images, 1).shape == (3, 2, 3)


@pytest.mark.parametrize("name", BY_CLASS)
def test_the_class_asked_about_matters(model, images, name):
    one, other = (maps.MAPS[name](model, images, c) for c in (0, 1))
    assert ((one - other).flatten(1).norm(dim=1) > 0.05 * one.flatten(1).norm(dim=1)).all()
    predicted = model(images).argmax(-1)
    assert torch.equal(maps.MAPS[name](model, images), maps.MAPS[name](model, images, predicted))


@pytest.mark.parametrize("name", sorted({*maps.MAPS} - {*BY_CLASS}))
def test_the_class_asked_about_is_ignored(model, images, name):
    assert torch.equal(maps.MAPS[name](model, images, 0), maps.MAPS[name](model, images, 1))


@pytest.mark.parametrize("name", maps.MAPS)
def test_what_does_not_fit_is_told(model, images, name):
    with pytest.raises(ValueError, match="vitlab.ViT's patches; got a ResNet"):
        maps.MAPS[name](ResNet(ResNetConfig(in_chans=2)), images)
    with pytest.raises(ValueError, match=r"\(B, 2, 8, 12\); got \(3, 2, 12, 8\)"):
        maps.MAPS[name](model, images.transpose(2, 3))
    with pytest.raises(ValueError, match="got .* torch.uint8"):
        maps.MAPS[name](model, images.byte())


@pytest.mark.parametrize("classes", [5, -1, [0, 1], 1.0, True, torch.zeros(3)])
@pytest.mark.parametrize("name", BY_CLASS)
def test_classes_that_are_not_there(model, images, name, classes):
    with pytest.raises(
        ValueError, match="0 to 4, or one for each of 3 images, or a function of the output; got"
    ):
        maps.MAPS[name](model, images, classes)


@pytest.mark.parametrize("name", BY_CLASS)
def test_a_model_without_classes(images, name):
    with pytest.raises(ValueError, match="no classes to ask about"):
        maps.MAPS[name](ViT(ViTConfig(**SMALL | dict(num_classes=0))), images)


def test_computing_in_batches(model, images):
    made = maps.compute(model, images, [4, 0, 2], batch_size=2)
    assert made.keys() == maps.MAPS.keys()
    for name, values in made.items():
        torch.testing.assert_close(values, maps.MAPS[name](model, images, [4, 0, 2]), atol=1e-6, rtol=1e-4)
    for classes in (None, 3):
        made = maps.compute(model, images, classes, ["relevance"], batch_size=2)
        torch.testing.assert_close(
            made["relevance"], maps.relevance(model, images, classes), atol=1e-6, rtol=1e-4
        )
    with pytest.raises(ValueError, match="the maps are rollout, .*; got 'rolout'"):
        maps.compute(model, images, names=["rolout"])


# ------------------------------------------------------------------------------------------- each alone


def recorded(model, images):
    with record_attention(model) as record, torch.no_grad():
        model(images)
    return record.weights


def test_rollout_and_class_attention_by_loop(model, images):
    weights = recorded(model, images)
    rolled, last = maps.rollout(model, images), maps.class_attention(model, images)
    strict = maps.rollout(model, images, head_fusion="max", discard_ratio=0.5)
    for b, row, column in itertools.product(range(3), range(2), range(3)):
        token = 1 + 3 * row + column
        torch.testing.assert_close(rolled[b, row, column], attention_rollout(weights)[b, 0, token])
        torch.testing.assert_close(
            strict[b, row, column], attention_rollout(weights, "max", 0.5)[b, 0, token]
        )
        mean = sum(weights[-1, b, head, 0, token] for head in range(2)) / 2
        torch.testing.assert_close(last[b, row, column], mean)


def slow_weighted_attention(model, image, target):
    """(L, T, T): positive parts of attention × its gradient, mean over heads; gradients by differences.

    The attention of a layer also changes what the later layers attend to: those are made from queries and
    keys again after each change.
    """
    model = model.double()
    L, heads, T = model.config.depth, model.config.num_heads, model.config.num_tokens

    def logit(layer, change):
        x = model.embed(image[None].double())
        for number, block in enumerate(model.blocks):
            q, k, v = block.attn.heads(block.attn.qkv(block.norm1(x)))
            weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
            if number == layer:
                weights = weights + change
            x = x + block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
            x = x + block.mlp(block.norm2(x))
        x = model.norm(x)[0]
        read = x[0] if model.config.pool == "token" else x[model.config.num_prefix_tokens :].mean(0)
        return float(model.head(read)[target])

    with torch.no_grad():
        weights = recorded(model, image[None].double())[:, 0]  # (L, heads, T, T)
        found, step = torch.zeros(L, T, T, dtype=torch.float64), 1e-5
        for layer, head, i, j in itertools.product(range(L), range(heads), range(T), range(T)):
            change = torch.zeros(1, heads, T, T, dtype=torch.float64)
            change[0, head, i, j] = step
            gradient = (logit(layer, change) - logit(layer, -change)) / (2 * step)
            found[layer, i, j] += max(0.0, float(weights[layer, head, i, j]) * gradient) / heads
    model.float()
    return found


@pytest.mark.parametrize("fields", [dict(pool="token"), dict(pool="mean"), UNREAD])
def test_relevance_and_attention_gradient_by_differences(images, fields):
    model = far_from_the_start(**fields)
    prefix, tokens = model.config.num_prefix_tokens, model.config.num_tokens
    layers = slow_weighted_attention(model, images[0], target=3)
    relevances = [[float(i == j) for j in range(tokens)] for i in range(tokens)]
    for layer in layers.tolist():
        more = [
            [sum(layer[i][k] * relevances[k][j] for k in range(tokens)) for j in range(tokens)]
            for i in range(tokens)
        ]
        relevances = [[relevances[i][j] + more[i][j] for j in range(tokens)] for i in range(tokens)]
    for made, matrix in (
        (maps.relevance(model, images[:1], 3), torch.tensor(relevances)),
        (maps.attention_gradient(model, images[:1], 3), layers[-1].float()),
    ):
        wanted = matrix[0, 1:] if fields["pool"] == "token" else matrix[prefix:, prefix:].mean(0)
        torch.testing.assert_close(made[0].flatten(), wanted, atol=1e-5, rtol=1e-3)
        assert wanted.std() > 1e-3


def test_input_gradient_by_differences(model, images):
    made, step = maps.input_gradient(model, images[:1], 2), 1e-5
    model.double()
    image = images[:1].double()
    steepest = torch.zeros(8, 12)
    for y, x in itertools.product(range(8), range(12)):
        slopes = []
        for channel in range(2):
            change = torch.zeros_like(image)
            change[0, channel, y, x] = step
            with torch.no_grad():
                slopes.append(float(model(image + change)[0, 2] - model(image - change)[0, 2]) / (2 * step))
        steepest[y, x] = max(abs(slope) for slope in slopes)
    for row, column in itertools.product(range(2), range(3)):
        wanted = steepest[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean()
        torch.testing.assert_close(made[0, row, column], wanted, atol=1e-5, rtol=1e-3)


def covering(length, window, stride):
    """Windows one after the other until the whole length is covered, as sets of places."""
    windows = [{*range(window)}]
    while max(windows[-1]) < length - 1:
        windows.append({place + stride for place in windows[-1]})
    return windows


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 2), (2, 1), (3, 2), (9, 4)])
def test_occlusion_by_hiding_one_part_after_the_other(model, images, window, stride):
    made = maps.occlusion(model, images, [1, 2, 3], window, stride)
    falls = {place: [] for place in itertools.product(range(3), range(2), range(3))}
    squares = itertools.product(covering(2, window, stride), covering(3, window, stride))
    for (rows, columns), (b, target) in itertools.product(squares, enumerate((1, 2, 3))):
        hidden = images[b : b + 1].clone()
        for y, x in itertools.product(range(8), range(12)):
            if y // 4 in rows and x // 4 in columns:
                hidden[0, :, y, x] = 0
        with torch.no_grad():
            before, after = (model(each).softmax(-1)[0, target] for each in (images[b : b + 1], hidden))
        for row, column in itertools.product({0, 1} & rows, {0, 1, 2} & columns):
            falls[b, row, column].append(float(before - after))
    for place, values in falls.items():
        wanted = torch.tensor(sum(values) / len(values))
        torch.testing.assert_close(made[place], wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("of", ["probability", "logit"])
def test_occlusion_of_probabilities_and_of_logits(model, images, of):
    made, falls = maps.occlusion(model, images, [1, 2, 3], window=1, of=of), torch.zeros(3, 2, 3)
    model.double()
    for row, column, (b, target) in itertools.product(range(2), range(3), enumerate((1, 2, 3))):
        hidden = images.double()
        hidden[b, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
        with torch.no_grad():
            before, after = model(images.double())[b].tolist(), model(hidden)[b].tolist()
        if of == "logit":
            falls[b, row, column] = before[target] - after[target]
        else:
            shares = [math.exp(each[target]) / sum(map(math.exp, each)) for each in (before, after)]
            falls[b, row, column] = shares[0] - shares[1]
    torch.testing.assert_close(made, falls, atol=1e-5, rtol=1e-4)


def test_of_two_classes_probabilities_know_one_map_alone_and_logits_two(images):
    model = far_from_the_start(num_classes=2)
    one, other = (maps.occlusion(model, images, c) for c in (0, 1))
    torch.testing.assert_close(one, -other, atol=1e-6, rtol=1e-4)  # what one class loses the other gains
    one, other = (maps.occlusion(model, images, c, of="logit") for c in (0, 1))
    apart = maps.occlusion(model, images, lambda logits: logits[:, 0] - logits[:, 1])
    torch.testing.assert_close(one - other, apart, atol=1e-5, rtol=1e-4)
    assert (one + other).abs().max() > 0.1 * one.abs().max()


def test_occlusion_of_something_else(model, images):
    with pytest.raises(ValueError, match="of is 'probability' or 'logit'; got 'logits'"):
        maps.occlusion(model, images, of="logits")


def test_the_probability_of_a_regression_is_refused(images):
    """With one output alone it is 1 whatever is hidden, so a map would be nothing everywhere."""
    model = far_from_the_start(num_classes=1)
    with pytest.raises(ValueError, match="always 1; ask for the number itself with a function"):
        maps.occlusion(model, images)
    with pytest.raises(ValueError, match="always 1; ask for the number itself with a function"):
        deletion_curve(model, images, torch.rand(3, 2, 3))
    made = maps.occlusion(model, images, lambda output: output[:, 0])
    torch.testing.assert_close(made, maps.occlusion(model, images, of="logit"))
    assert made.abs().max() > 1e-3


@pytest.mark.parametrize("name", BY_CLASS)
def test_target_is_any_number_of_the_output(model, images, name):
    """A logit as a function is that class; a cosine with a text by the rule for its own derivative."""
    chosen = maps.MAPS[name](model, images, target=lambda logits: logits[:, 2])
    of = dict(of="logit") if name == "occlusion" else {}
    torch.testing.assert_close(chosen, maps.MAPS[name](model, images, target=2, **of))
    made = maps.compute(model, images, target=lambda logits: logits[:, 2], names=[name], batch_size=2)[name]
    torch.testing.assert_close(made, chosen, atol=1e-6, rtol=1e-4)


def test_similarity_to_a_text_by_differences(model, images):
    text = torch.tensor([1.0, -2.0, 0.5, 0.0, 1.5])
    made = maps.input_gradient(
        model, images[:1], target=lambda output: torch.cosine_similarity(output, text, dim=-1)
    )
    model.double()
    steepest = torch.zeros(8, 12)

    def cosine(shown):
        with torch.no_grad():
            output = model(shown)[0]
        return float(output @ text.double() / (output @ output) ** 0.5 / (text @ text) ** 0.5)

    for channel, y, x in itertools.product(range(2), range(8), range(12)):
        change = torch.zeros(1, 2, 8, 12, dtype=torch.float64)
        change[0, channel, y, x] = 1e-5
        slope = (cosine(images[:1] + change) - cosine(images[:1] - change)) / 2e-5
        steepest[y, x] = max(float(steepest[y, x]), abs(slope))
    wanted = steepest.view(2, 4, 3, 4).mean(dim=(1, 3))
    torch.testing.assert_close(made[0], wanted, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", GRADIENT_MAPS)
def test_a_function_without_a_gradient_is_refused(model, images, name):
    with pytest.raises(ValueError, match="no gradient .*; occlusion needs none"):
        maps.MAPS[name](model, images, target=lambda logits: logits.detach()[:, 0])
    made = maps.occlusion(model, images, target=lambda logits: logits.argmax(-1).float())
    assert made.shape == (3, 2, 3)


@pytest.mark.parametrize(("window", "stride"), [(0, None), (2, 3), (2, 0)])
def test_windows_that_leave_gaps(model, images, window, stride):
    with pytest.raises(ValueError, match="window is at least 1 patch and stride 1 to window"):
        maps.occlusion(model, images, None, window, stride)


def test_baselines_by_loop(model, images):
    gaussian, contrast = maps.centred_gaussian(model, images), maps.local_contrast(model, images)
    for b, row, column in itertools.product(range(3), range(2), range(3)):
        y, x = (row + 0.5) / 2 - 0.5, (column + 0.5) / 3 - 0.5
        wanted = torch.tensor(-(y**2 + x**2) / (2 * 0.25**2)).exp()
        torch.testing.assert_close(gaussian[b, row, column], wanted)
        deviations = []
        for channel in range(2):
            patch = images[b, channel, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten().tolist()
            mean = sum(patch) / 16
            deviations.append((sum((value - mean) ** 2 for value in patch) / 16) ** 0.5)
        torch.testing.assert_close(contrast[b, row, column], torch.tensor(sum(deviations) / 2))
