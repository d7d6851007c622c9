"""Training in an autocast of the caller's, and with weights in other layouts: it makes no difference."""

import pytest
import torch
from torch import nn

import vitlab
from vitlab import Recipe, ViT, ViTConfig, attention_rollout, data, evaluate
from vitlab.data import Dataset
from vitlab.resnet import ResNet, ResNetConfig
from vitlab.runtime import here, seeded
from vitlab.training import make_optimizer

SMALL = ViTConfig(image_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_dim=24, num_classes=3)
MODELS = {
    "vit": lambda: ViT(SMALL),
    "resnet": lambda: ResNet(ResNetConfig(width=8, num_classes=3, blocks=(1, 1))),
}


@pytest.fixture(scope="module")
def noise() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Dataset(images, torch.arange(60) % 3, ["a", "b", "c"])


def new(kind: str, layout=torch.contiguous_format) -> nn.Module:
    with seeded(0):
        return MODELS[kind]().to(memory_format=layout)


def train(model, data, precision="fp32", **options):
    recipe = Recipe(
        steps=20, batch_size=16, learning_rate=options.pop("learning_rate", 2e-3), **options.pop("recipe", {})
    )
    return vitlab.train(model, data, data, recipe, here("cpu", precision), progress=False, **options)


def assert_same(model, other):
    for (name, ours), theirs in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", MODELS)
def test_training_in_somebodys_autocast_is_the_same_training(kind, precision, noise):
    outside, inside = new(kind), new(kind)
    expected = train(outside, noise, precision)
    images = data.normalise(noise.images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside.train()(images).sum().backward()  # autocast now keeps rounded weights, and would use them on
        inside.zero_grad()
        history = train(inside, noise, precision)
        measured = evaluate(inside, noise, here("cpu", precision))
        after = inside.eval()(images)
    assert_same(inside, outside)
    assert [row["loss"] for row in history.rows] == [row["loss"] for row in expected.rows]
    assert history.evaluations == expected.evaluations
    assert measured == evaluate(outside, noise, here("cpu", precision))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(after, outside.eval()(images))


def test_backward_in_an_autocast_region_has_the_gradients_of_one_outside(noise):
    images, found = data.normalise(noise.images), {}
    for region in (True, False):
        model = new("vit")
        nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
        loss = model(images).square().sum()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=region):
            loss.backward()
        found[region] = [p.grad for p in model.parameters()]
    for inside, outside in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(inside, outside, rtol=0, atol=0.02 * float(outside.abs().max()) + 1e-6)


def test_a_rollout_in_an_autocast_region_is_not_rounded():
    weights = torch.rand(4, 2, 3, 9, 9, generator=torch.Generator().manual_seed(0)).softmax(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention_rollout(weights)
    torch.testing.assert_close(found, attention_rollout(weights.double()).float(), rtol=0, atol=1e-6)


class PowerCutError(Exception):
    pass


def cut(history):
    if history.rows[-1]["step"] == 11:
        raise PowerCutError


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_training_goes_on_bit_for_bit_whatever_its_layout(kind, optimizer, noise, tmp_path):
    if (kind, optimizer) == ("resnet", "muon"):
        return  # Muon is for blocks of a Transformer
    last, recipe = torch.channels_last, dict(recipe=dict(optimizer=optimizer))
    whole = new(kind, last)
    expected = train(whole, noise, **recipe)
    with pytest.raises(PowerCutError):
        train(new(kind, last), noise, checkpoint_dir=tmp_path, on_step=cut, **recipe)
    resumed = new(kind, last)
    history = train(resumed, noise, checkpoint_dir=tmp_path, **recipe)
    assert_same(resumed, whole)
    assert history.evaluations == expected.evaluations
    kernel = resumed.patch_embed.proj.weight if kind == "vit" else resumed.blocks[0].conv1.weight
    assert kernel.is_contiguous(memory_format=last)


@pytest.mark.parametrize("before", [torch.channels_last, torch.contiguous_format])
def test_a_training_goes_on_in_another_layout_than_it_began(before, noise, tmp_path):
    after = torch.contiguous_format if before is torch.channels_last else torch.channels_last
    whole = new("resnet", before)
    train(whole, noise)
    with pytest.raises(PowerCutError):
        train(new("resnet", before), noise, checkpoint_dir=tmp_path, on_step=cut)
    resumed = new("resnet", after)
    train(resumed, noise, checkpoint_dir=tmp_path)
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_model_with_another_layer_does_not_go_on(noise, tmp_path):
    with pytest.raises(PowerCutError):
        train(new("vit"), noise, checkpoint_dir=tmp_path, on_step=cut)
    changed = new("vit")
    changed.blocks[0].mlp.act = nn.ReLU()
    with pytest.raises(ValueError, match="is of another training: its modules"):
        train(changed, noise, checkpoint_dir=tmp_path)


def with_gaps(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, every other one of a larger tensor's."""
    wide = torch.full((*tensor.shape, 2), 7.0)
    wide[..., 0] = tensor
    return wide[..., 0]


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels last", "with gaps"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_layout_is_trained_alike(layout, optimizer):
    """Against AdamW written out; Muon's matrices against those that lie as usual."""
    generator, found = torch.Generator().manual_seed(0), {}
    first = torch.randn(4, 3, 2, 2, generator=generator), torch.randn(4, 3, 2, 2, generator=generator)
    for lies in ("contiguous", layout):
        model = new("vit")
        numbers = {
            "contiguous": first[0].clone(),
            "transposed": first[0].transpose(0, 1).contiguous().transpose(0, 1),
            "channels last": first[0].contiguous(memory_format=torch.channels_last),
            "with gaps": with_gaps(first[0]),
        }[lies]
        model.extra = nn.Parameter(numbers)
        made = make_optimizer(model, Recipe(steps=1, optimizer=optimizer, weight_decay=0.1))
        for _ in range(3):
            for p in model.parameters():
                p.grad = torch.zeros_like(p) + 0.01
            model.extra.grad = torch.empty_like(model.extra).copy_(first[1])
            made.step()
        found[lies] = model.extra.detach().clone()
    torch.testing.assert_close(found[layout], found["contiguous"])
    torch.testing.assert_close(found[layout], adamw_by_hand(*first, steps=3, rate=2e-3, decay=0.1))


def adamw_by_hand(x, gradient, steps, rate, decay):
    x, m, v = x.double(), 0.0, 0.0
    for step in range(1, steps + 1):
        m, v = 0.9 * m + 0.1 * gradient.double(), 0.999 * v + 0.001 * gradient.double() ** 2
        x = x * (1 - rate * decay) - rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    return x.float()
