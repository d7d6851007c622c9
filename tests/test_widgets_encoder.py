"""The explorer of one head: its numbers against attention computed another way, its controls, its errors."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from vitlab import ViT, ViTConfig, record_attention
from vitlab.data import normalise
from vitlab.widgets import HeadExplorer
from vitlab.widgets.encoder import record_heads

CONFIG = ViTConfig(
    image_size=(12, 16), patch_size=4, in_chans=3, embed_dim=24, depth=3, num_heads=2, mlp_dim=40
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ViT(CONFIG).eval()
    for parameter in model.parameters():  # scores of a fresh model are all alike
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randint(256, (3, 12, 16), dtype=torch.uint8, generator=generator)
        for name in ("one", "two")
    }


@pytest.fixture
def explorer(model, images):
    return HeadExplorer(model, images)


def batch(images):
    return normalise(torch.stack(list(images.values())))


def test_the_record_is_what_the_model_computes(model, images):
    outputs = []
    hooks = [
        block.attn.proj.register_forward_pre_hook(lambda _module, inputs: outputs.append(inputs[0]))
        for block in model.blocks
    ]
    with record_attention(model) as attention, torch.no_grad():
        model.forward_features(batch(images))
    for hook in hooks:
        hook.remove()
    record = record_heads(model, batch(images))
    torch.testing.assert_close(record.weights, attention.weights)
    mixed = record.weights @ record.values  # (L, B, heads, T, d)
    torch.testing.assert_close(mixed.transpose(2, 3).flatten(3), torch.stack(outputs))


def test_the_scores_of_the_first_layer_by_another_way(model, images):
    x = F.layer_norm(
        model.embed(batch(images)), (24,), model.blocks[0].norm1.weight, model.blocks[0].norm1.bias, 1e-6
    )
    qkv = model.blocks[0].attn.qkv(x).detach()
    second = slice(12, 24)  # head 2's columns among the queries and among the keys
    by_hand = torch.einsum("bid,bjd->bij", qkv[..., :24][..., second], qkv[..., 24:48][..., second]) / 12**0.5
    torch.testing.assert_close(record_heads(model, batch(images)).scores[0, :, 1], by_hand)


@pytest.mark.parametrize("query", [0, 1, 7, 12])
def test_the_caption_tells_the_numbers_of_the_state(explorer, model, images, query):
    explorer.set(image="two", layer=2, head=2, query=query)
    with record_attention(model) as attention, torch.no_grad():
        model(batch(images))
    weights = attention.weights[1, 1, 1, query]
    spread = torch.special.entr(weights).sum().exp()
    caption = explorer.caption
    assert caption.startswith(
        "two, layer 2, head 2, query: " + ("the class token" if query == 0 else f"patch {query} ")
    )
    assert f"the largest, {weights.max():.1%}, goes to " in caption
    assert f"the class token gets {weights[0]:.1%}." in caption
    assert f"an even share over {spread:.1f} of 13 tokens" in caption
    low, high = map(float, re.search(r"Scores from (\S+) to (\S+?)\. ", caption).groups())
    ratio = (weights.max() / weights.min()).log().item()  # what a softmax keeps of the scores
    assert high - low == pytest.approx(ratio, abs=0.011)
    most = int(weights.argmax())
    where = (
        "the class token"
        if most == 0
        else f"patch {most} (row {(most - 1) // 4 + 1}, column {(most - 1) % 4 + 1})"
    )
    assert f"goes to {where}" in caption


@pytest.mark.parametrize("change", [{"image": "two"}, {"layer": 2}, {"head": 2}, {"query": 0}, {"query": 12}])
def test_every_control_changes_picture_and_caption(explorer, change):
    picture, caption = explorer.picture, explorer.caption
    explorer.set(**change)
    assert explorer.picture != picture
    assert explorer.caption != caption
    explorer.reset()
    assert (explorer.picture, explorer.caption) == (picture, caption)


def test_the_query_is_framed_in_the_image(explorer):
    def shown(query):
        explorer.set(query=query)
        return np.asarray(Image.open(io.BytesIO(explorer.picture)).convert("L")).astype(int)[24:222, :264]

    difference = np.argwhere(shown(12) != shown(0))  # 12 is the last patch of 3 rows of 4, 66 pixels each
    assert difference.min() >= 2 * 66 - 2
    assert difference[:, 1].min() >= 3 * 66 - 2


def test_a_model_without_class_token(images):
    config = ViTConfig(image_size=(12, 16), patch_size=4, in_chans=3, embed_dim=24, num_heads=2, pool="mean")
    explorer = HeadExplorer(ViT(config), images)
    assert explorer.controls["query"].min == 1
    assert "class" not in explorer.caption
    explorer.set(query=12)
    assert "patch 12 (row 3, column 4)" in explorer.caption


def test_images_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="there is no image"):
        HeadExplorer(model, {})
    with pytest.raises(ValueError, match=r"takes images of shape \(B, 3, 12, 16\); got \(1, 1, 28, 28\)"):
        HeadExplorer(model, {"grey": torch.zeros(1, 28, 28, dtype=torch.uint8)})
