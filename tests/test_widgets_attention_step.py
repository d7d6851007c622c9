"""One step of attention: its numbers against sums written out in fp64, its controls, clicks and errors."""

import math
import re
from dataclasses import replace

import pytest
import torch

from vitlab import ViT, ViTConfig
from vitlab.widgets import AttentionStepExplorer
from vitlab.widgets.attention_step import TEMPERATURES, shuffled_positions

CONFIG = ViTConfig(
    image_size=(12, 16), patch_size=4, in_chans=3, embed_dim=24, depth=3, num_heads=2, mlp_dim=40
)
STATE = dict(image="two", layer=3, head=2, query=7, key=3)


def build(config=CONFIG):
    torch.manual_seed(0)
    model = ViT(config).eval()
    for parameter in model.parameters():  # scores of a fresh model are all alike
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def model():
    return build()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randint(256, (3, 12, 16), dtype=torch.uint8, generator=generator)
        for name in ("one", "two")
    }


@pytest.fixture
def explorer(model, images):
    return AttentionStepExplorer(model, images)


class ByHand:
    """The encoder in loops over tokens, in fp64; layers and heads count from 1, tokens from 0."""

    def __init__(self, model, image, order=None):
        self.p = {name: value.detach().double() for name, value in model.state_dict().items()}
        c, self.heads = model.config, model.config.num_heads
        P, (rows, columns) = c.patch_size, c.grid_size
        pixels, kernel = image.double() / 127.5 - 1, self.p["patch_embed.proj.weight"]
        tokens = [self.p["cls_token"][0, 0]]
        for i in range(rows * columns):
            y, x = i // columns * P, i % columns * P
            patch = pixels[:, y : y + P, x : x + P]
            tokens.append((kernel * patch).sum(dim=(1, 2, 3)) + self.p["patch_embed.proj.bias"])
        table = self.p["pos_embed"][0]
        if order is not None:
            table = torch.stack([table[0], *(table[1 + i] for i in order)])
        self.x = [token + place for token, place in zip(tokens, table, strict=True)]
        self.width = len(tokens[0]) // self.heads

    def linear(self, x, name):
        return self.p[f"{name}.weight"] @ x + self.p[f"{name}.bias"]

    def norm(self, x, name):
        centred = x - x.sum() / len(x)
        return (
            centred / ((centred**2).sum() / len(x) + 1e-6).sqrt() * self.p[f"{name}.weight"]
            + self.p[f"{name}.bias"]
        )

    def qkv(self, layer, head):
        """Lists of queries, keys and values, one a token."""
        name, d = f"blocks.{layer - 1}", self.width
        made = [self.linear(self.norm(x, f"{name}.norm1"), f"{name}.attn.qkv") for x in self.x]
        starts = [part * d * self.heads + (head - 1) * d for part in range(3)]
        return [[row[start : start + d] for row in made] for start in starts]

    def attend(self, layer, head, token, divisor, temperature=1.0):
        """Scores, weights and output of one query."""
        queries, keys, values = self.qkv(layer, head)
        scores = [math.fsum((queries[token] * key).tolist()) / divisor / temperature for key in keys]
        parts = [math.exp(score - max(scores)) for score in scores]
        weights = [part / math.fsum(parts) for part in parts]
        return scores, weights, sum(w * value for w, value in zip(weights, values, strict=True))

    def attention(self, layer):
        """What attention adds to each token."""
        scale = math.sqrt(self.width)
        outputs = [
            torch.cat([self.attend(layer, head, token, scale)[2] for head in range(1, self.heads + 1)])
            for token in range(len(self.x))
        ]
        return [self.linear(output, f"blocks.{layer - 1}.attn.proj") for output in outputs]

    def go_to(self, layer):
        """Forward to the tokens that enter `layer`."""
        for i in range(1, layer):
            between = [x + added for x, added in zip(self.x, self.attention(i), strict=True)]
            name = f"blocks.{i - 1}"
            self.x = []
            for x in between:
                hidden = self.linear(self.norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
                hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
                self.x.append(x + self.linear(hidden, f"{name}.mlp.fc2"))
        return self


def close(got, wanted):
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(torch.as_tensor(got).double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.25, 4.0])
@pytest.mark.parametrize("query", [0, 7])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_number_by_hand(explorer, model, images, scale, temperature, query, shuffled):
    state = STATE | dict(query=query, scale=scale, temperature=temperature, shuffled=shuffled)
    step = explorer.step(**state)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist() if shuffled else None
    hand = ByHand(model, images["two"], order).go_to(3)
    queries, keys, _ = hand.qkv(3, 2)
    close(step.products, [a * b for a, b in zip(queries[query].tolist(), keys[3].tolist(), strict=True)])
    divisor = math.sqrt(12) if scale else 1.0
    scores, weights, output = hand.attend(3, 2, query, divisor, temperature)
    close(step.scores, scores)
    close(step.weights, weights)
    close(step.output, output)
    close(step.before, hand.x[query])
    proj = hand.p["blocks.2.attn.proj.weight"]
    close(step.head, [math.fsum((row[12:] * output).tolist()) for row in proj])
    other = hand.attend(3, 1, query, math.sqrt(12))[2]
    close(step.others, proj[:, :12] @ other + hand.p["blocks.2.attn.proj.bias"])
    close(step.before + step.head + step.others, hand.x[query] + step.head.double() + step.others.double())


def test_unchanged_the_residual_is_what_the_model_makes(explorer, model, images):
    hand = ByHand(model, images["two"]).go_to(3)
    step = explorer.step(**STATE)
    close(step.before + step.head + step.others, hand.x[7] + hand.attention(3)[7])


def test_the_caption_tells_the_numbers_of_the_state(explorer, model, images):
    explorer.set(**STATE, temperature=2.0)
    hand = ByHand(model, images["two"]).go_to(3)
    scores, weights, output = hand.attend(3, 2, 7, math.sqrt(12), 2.0)
    total = scores[3] * 2 * math.sqrt(12)
    after = hand.x[7] + explorer.step(**explorer.state).head + explorer.step(**explorer.state).others
    cosine = float(hand.x[7] @ after / hand.x[7].norm() / after.norm())
    for words in (
        "two, layer 3, head 2: patch 7 asks patch 3 (row 1, column 3). ",
        f"The 12 products add up to {total:.2f}; divided by √12 = 3.46 that is {total / math.sqrt(12):.2f}, "
        f"and by the temperature 2 {scores[3]:.2f}: the score.",
        f"number {sorted(scores, reverse=True).index(scores[3]) + 1} of 13 scores",
        f"from {min(scores):.2f} to {max(scores):.2f}; the softmax makes it {weights[3]:.1%} of the weight",
        f"an even share: {1 / 13:.1%}; the largest: {max(weights):.1%}",
        f"has length {output.norm():.2f}.",
        f"of length {hand.x[7].norm():.2f}, this head adds",
        f"is {cosine:.2f}.",
    ):
        assert words in explorer.caption


def test_without_the_scale_and_with_shuffled_positions_the_caption_says_so(explorer):
    explorer.set(scale=False, shuffled=True)
    assert ", positions shuffled: patch" in explorer.caption
    assert re.search(r"add up to (-?[\d.]+), which is not scaled: the score", explorer.caption)


@pytest.mark.parametrize(
    "change",
    [{"image": "two"}, {"layer": 2}, {"head": 2}, {"query": 0}, {"query": 12}, {"key": 0}, {"key": 12}]
    + [{"temperature": t} for t in (TEMPERATURES[0], TEMPERATURES[-1])]
    + [{"scale": False}, {"shuffled": True}],
)
def test_every_control_changes_picture_and_caption(explorer, change):
    picture, caption = explorer.picture, explorer.caption
    explorer.set(**change)
    assert explorer.picture != picture
    assert explorer.caption != caption
    explorer.reset()
    assert (explorer.picture, explorer.caption) == (picture, caption)


def test_a_click_does_what_the_sliders_do(explorer):
    side = 49  # 196 pixels for four columns
    explorer.click(3 * side + 5, 24 + 2 * side + 5)
    assert explorer.state["query"] == 12
    explorer.click(216 + side + 5, 24 + 5)
    assert explorer.state["key"] == 2
    explorer.click(5, 24 + 196 + 10)
    assert (explorer.state["query"], explorer.state["key"]) == (0, 2)
    explorer.click(216 + 5, 24 + 196 + 10)
    assert explorer.state["key"] == 0
    explorer.click(18 * 5 + 3, 24 + 196 + 22 + 18 + 30)  # the bar of token 5
    assert explorer.state["key"] == 5
    before = explorer.state
    for nowhere in ((800, 30), (0, 24 + 3 * side + 20), (-1, 40), (13 * 18 + 1, 24 + 196 + 22 + 18 + 30)):
        explorer.click(*nowhere)
        assert explorer.state == before


def test_shuffled_positions_are_a_permutation_and_the_model_stays(model):
    before = model.pos_embed.detach().clone()
    other = shuffled_positions(model)
    assert torch.equal(model.pos_embed, before)
    assert not torch.equal(other.pos_embed, before)
    assert torch.equal(other.pos_embed[0, 0], before[0, 0])
    rows = [sorted(map(tuple, table[0].tolist())) for table in (other.pos_embed, before)]
    assert rows[0] == rows[1]


def test_models_without_class_token_or_positions(images):
    explorer = AttentionStepExplorer(build(replace(CONFIG, pool="mean")), images)
    assert explorer.controls["query"].min == explorer.controls["key"].min == 1
    assert "class" not in explorer.caption
    bare = AttentionStepExplorer(build(replace(CONFIG, pos_embed="none")), images)
    assert "shuffled" not in bare.controls
    bare.set(query=12)
    assert "patch 12 asks" in bare.caption
    fixed = AttentionStepExplorer(build(replace(CONFIG, pos_embed="sincos2d")), images)
    before = fixed.caption
    fixed.set(shuffled=True)
    assert fixed.caption != before


def test_images_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="there is no image"):
        AttentionStepExplorer(model, {})
    with pytest.raises(ValueError, match=r"takes images of shape \(B, 3, 12, 16\); got \(1, 1, 28, 28\)"):
        AttentionStepExplorer(model, {"grey": torch.zeros(1, 28, 28, dtype=torch.uint8)})
