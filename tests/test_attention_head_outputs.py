"""What a head adds: against the layer's own output, and against the model without that head."""

import pytest
import torch

from vitlab import ViT, ViTConfig, mean_attention_distance
from vitlab.attention import head_outputs, intervene, largest_gap, record_attention


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ViT(ViTConfig(image_size=(8, 12), patch_size=4, embed_dim=12, depth=3, num_heads=2, mlp_dim=16))
    for parameter in model.parameters():  # far from the start, where attention is flat
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def attention_output(model, images, layer):
    with torch.no_grad(), record_attention(model, layers=[layer], also=["attention_outputs"]) as record:
        model(images)
    return record["attention_outputs"][0]


@pytest.mark.parametrize("layer", [0, 2])
def test_heads_and_bias_together_are_what_the_layer_makes(model, layer):
    images = torch.randn(4, 1, 8, 12)
    added = head_outputs(model, images, layer)
    assert added.shape == (2, 4, 7, 12)
    whole = added.sum(dim=0) + model.blocks[layer].attn.proj.bias
    torch.testing.assert_close(whole, attention_output(model, images, layer), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head", [0, 1])
def test_without_a_head_the_layer_lacks_what_the_head_adds(model, head):
    images = torch.randn(4, 1, 8, 12)
    whole, added = attention_output(model, images, 1), head_outputs(model, images, 1)
    with intervene(model, heads=[(1, head)]):
        without = attention_output(model, images, 1)
    torch.testing.assert_close(whole - without, added[head], atol=1e-5, rtol=1e-4)


def test_a_model_in_training_is_asked_without_its_dropout():
    model = ViT(
        ViTConfig(image_size=8, patch_size=4, embed_dim=12, depth=1, num_heads=2, dropout=0.5)
    ).train()
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(head_outputs(model, images, 0), head_outputs(model.eval(), images, 0))
    assert head_outputs(model.train(), images, 0) is not None
    assert model.training


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="got a Linear"):
        head_outputs(torch.nn.Linear(2, 2), torch.zeros(1, 1, 8, 8), 0)


def test_the_largest_gap_is_the_one_that_a_loop_finds():
    weights = torch.randn(3, 2, 4, 7, 7, generator=torch.Generator().manual_seed(1)).mul(3).softmax(dim=-1)
    ways = [mean_attention_distance(weights, (2, 3), 5, cls) for cls in ("drop", "renormalise")]
    gaps = {
        (layer, head): (ways[1][layer, head] - ways[0][layer, head]).item()
        for layer in range(3)
        for head in range(4)
    }
    gap = largest_gap(weights, (2, 3), 5)
    assert (gap.layer, gap.head) == max(gaps, key=gaps.get)
    assert gap.renormalised - gap.dropped == pytest.approx(max(gaps.values()), abs=1e-5)
    assert gap.class_share == pytest.approx(weights[gap.layer, :, gap.head, 1:, 0].mean().item())
    places = [(row * 5, column * 5) for row in range(2) for column in range(3)]
    apart = [((a - c) ** 2 + (b - d) ** 2) ** 0.5 for a, b in places for c, d in places]
    assert gap.uniform == pytest.approx(sum(apart) / len(apart))
