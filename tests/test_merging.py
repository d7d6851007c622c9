"""Token merging against loops in fp64, image by image and token by token, and by what must stay the same."""

import copy
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import vitlab
from vitlab import ViT, ViTConfig, data, files, record_attention
from vitlab.adapting import adapt
from vitlab.attention import attach, effective_receptive_field, intervene, recording_bytes
from vitlab.merging import merge, merged_into, merged_logits, pair_up, with_merging
from vitlab.pretraining import PostNormBlock

SMALL = dict(image_size=(12, 20), in_chans=3, embed_dim=24, depth=3, num_heads=3, mlp_dim=40)  # 15 patches


def tiny(**fields) -> ViT:
    torch.manual_seed(1)
    model = ViT(ViTConfig(**(SMALL | fields))).eval().double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def pictures(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, 12, 20, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


def joined(keys: list[torch.Tensor], groups: list, r: int, prefix: int) -> tuple[list, list]:
    """One image's matching: (groups that go, where to) and the order of those that stay, by plain lists."""
    first = [i for i in range(prefix, len(groups)) if i % 2 == 0]
    second = [i for i in range(prefix, len(groups)) if i % 2 == 1]
    edges = []
    for i in first:
        likeness = [float(keys[i] @ keys[j] / (keys[i].norm() * keys[j].norm())) for j in second]
        if second:
            edges.append((max(likeness), i, second[likeness.index(max(likeness))]))
    edges.sort(key=lambda edge: -edge[0])
    gone = {i: j for _, i, j in edges[: min(r, (len(groups) - prefix) // 2)]}
    if not gone:
        return [], list(range(len(groups)))
    return list(gone.items()), [*range(prefix), *[i for i in first if i not in gone], *second]


def by_loops(model: ViT, image: torch.Tensor, r: int) -> tuple[torch.Tensor, list[list[int]]]:
    """Logits of one image and the patches of each token, with no batch and no tensor of tokens."""
    c = model.config
    prefix, width = c.num_prefix_tokens, c.embed_dim // c.num_heads
    tokens = list(model.embed(image[None])[0])
    groups = [[i] for i in range(len(tokens))]
    for block in model.blocks:
        qkv = [block.attn.qkv(block.norm1(token)).view(3, c.num_heads, width) for token in tokens]
        new = []
        for i, token in enumerate(tokens):
            heads = []
            for h in range(c.num_heads):
                # a token of s patches weighs as much as s tokens would
                scores = [float(qkv[i][0, h] @ other[1, h]) / math.sqrt(width) for other in qkv]
                amounts = [len(g) * math.exp(s) for s, g in zip(scores, groups, strict=True)]
                parts = [a * other[2, h] for a, other in zip(amounts, qkv, strict=True)]
                heads.append(sum(parts) / sum(amounts))
            new.append(token + block.attn.proj(torch.cat(heads)))
        keys = [other[1].mean(dim=0) for other in qkv]
        gone, order = joined(keys, groups, r, prefix)
        sums = [token * len(g) for token, g in zip(new, groups, strict=True)]
        sources = dict(gone)
        for i, j in sources.items():
            sums[j] = sums[j] + sums[i]
            groups[j] = groups[j] + groups[i]
        tokens = [sums[i] / len(groups[i]) for i in order]
        groups = [groups[i] for i in order]
        tokens = [token + block.mlp(block.norm2(token)) for token in tokens]
    patches = [[i - prefix for i in group] for group in groups]
    if c.distilled:
        return (model.head(model.norm(tokens[0])) + model.head_dist(model.norm(tokens[1]))) / 2, patches
    if c.pool == "token":
        pooled = model.norm(tokens[0])
    else:  # each patch counts once, whichever token it is in
        of = {i: token for token, group in zip(tokens, groups, strict=True) for i in group}
        pooled = torch.stack([model.norm(of[i]) for i in range(prefix, len(of))]).mean(dim=0)
    return model.head(pooled), patches


KINDS = {
    "class token": {},
    "mean": dict(pool="mean"),
    "registers": dict(num_registers=2),
    "registers, mean": dict(num_registers=3, pool="mean", unread_class_token=True),
    "no positions": dict(pos_embed="none"),
    "distillation token": dict(distilled=True),
}


@pytest.mark.parametrize("r", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_and_groups_against_loops(kind, r):
    model, images = tiny(**KINDS[kind]), pictures(3)
    logits, into = merged_logits(model, images, r), merged_into(model, images, r)
    for image, got, places in zip(images, logits, into.tolist(), strict=True):
        wanted, groups = by_loops(model, image, r)
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
        for patch, place in enumerate(places):
            assert patch in groups[place]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_nothing_merged_is_the_model_to_the_bit(kind):
    model, images = tiny(**KINDS[kind]), pictures(4)
    assert torch.equal(merged_logits(model, images, 0), model(images))
    assert (
        merged_into(model, images, 0).tolist()
        == [list(range(model.config.num_prefix_tokens, model.config.num_tokens))] * 4
    )


@torch.no_grad()
def test_patches_that_are_the_same_cost_nothing():
    """Equal patches without positions are equal tokens: one of size s is as s of them, whatever r is."""
    model = tiny(pos_embed="none")
    images = pictures(3)[:, :, :1, :1].expand(-1, -1, 12, 20)
    for r in (1, 4, 7):
        torch.testing.assert_close(merged_logits(model, images, r), model(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prefix", [0, 1, 2, 3])
@pytest.mark.parametrize("tokens", [4, 9, 10])
def test_every_place_is_filled_and_sizes_are_kept(tokens, prefix):
    keys = torch.randn(6, tokens, 5, generator=torch.Generator().manual_seed(tokens))
    x, sizes = torch.randn(6, tokens, 7), torch.randint(1, 5, (6, tokens)).float()
    for r in range(8):
        pairs = pair_up(keys, r, prefix)
        left = tokens - min(r, (tokens - prefix) // 2)
        for row in pairs.tolist():
            assert set(row) == set(range(left))
            assert row[:prefix] == list(range(prefix))
            assert not set(row[prefix:]) & set(range(prefix)), "no patch goes to a prefix token"
        merged, merged_sizes = merge(x, sizes, pairs)
        assert merged.shape == (6, left, 7)
        torch.testing.assert_close(merged_sizes.sum(dim=1), sizes.sum(dim=1))
        amounts = [(t * s[..., None]).sum(dim=1) for t, s in ((merged, merged_sizes), (x, sizes))]
        torch.testing.assert_close(*amounts, rtol=1e-4, atol=1e-4)


def test_most_alike_go_first_and_ties_to_the_first():
    keys = torch.tensor([[[9.0, 9.0], [1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, 3.0]]])
    # cosines: token 2 with 1: 0.89, with 3: 0.45; token 4 with 1: 0, with 3: 1
    assert pair_up(keys, 1).tolist() == [[0, 2, 1, 3, 3]]
    assert pair_up(keys, 2).tolist() == [[0, 1, 1, 2, 2]]
    assert pair_up(torch.zeros(1, 5, 2), 1).tolist() == [[0, 2, 2, 3, 1]]
    assert pair_up(torch.ones(2, 3, 2), 0).tolist() == [[0, 1, 2]] * 2


@torch.no_grad()
def test_the_model_stays_as_it_was():
    model, images = tiny(), pictures(2)
    before, state = model(images), copy.deepcopy(model.state_dict())
    model.train()
    merging = with_merging(model, 3)
    merging.eval()(images)
    merged_into(model.train(), images, 3)
    assert model.training
    assert all(part.training for part in model.blocks.modules())
    assert type(model.blocks) is vitlab.Encoder
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.eval()(images), before)
    copied = {id(p) for p in merging.parameters()} - {id(p) for p in model.parameters()}
    assert not copied, "no copy of the weights"


def test_what_is_done_to_the_one_is_not_done_to_the_other():
    model = tiny(pos_embed="sincos2d").train()
    merging, seen = with_merging(model, 3), []
    assert all(part.training for part in merging.modules())
    merging.eval().register_forward_hook(lambda *_: seen.append("hook"))
    merging.head = torch.nn.Identity()
    merging.pos_embed = torch.zeros_like(merging.pos_embed)
    merging.extra = torch.nn.Parameter(torch.zeros(1))
    merging.register_buffer("more", torch.zeros(1))
    assert all(part.training for part in model.modules())
    assert model.pos_embed.any()
    assert not hasattr(model, "extra")
    assert not hasattr(model, "more")
    assert model(pictures(1)).shape == (1, 10)
    assert not seen
    assert not any(part.training for part in with_merging(model.eval(), 3).modules())


@pytest.mark.parametrize("r", [0, 3])
@torch.no_grad()
def test_features_are_of_all_tokens_and_a_later_hook_sees_them(r):
    model, images, seen = tiny(), pictures(2), []
    merging = with_merging(model, r)
    logits, features = merging(images), merging.forward_features(images)
    assert features.shape == (2, 16, 24)
    torch.testing.assert_close(merging.head(features[:, 0]), logits, rtol=1e-9, atol=1e-9)
    for image, places, tokens in zip(images, merged_into(model, images, r), features[:, 1:], strict=True):
        _, groups = by_loops(model, image, r)
        assert len(tokens.unique(dim=0)) == len(places.unique()) == len(groups) - 1
    merging.norm.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    torch.testing.assert_close(merging(images), logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(merging.norm(seen[0]), features)


def test_how_many_are_merged_is_said():
    assert "r=4" in repr(with_merging(tiny(), 4))
    assert repr(with_merging(tiny(), 4)) != repr(with_merging(tiny(), 16))


class Halved(vitlab.Encoder):
    def forward(self, x, class_only=False):
        return super().forward(x, class_only) / 2


def test_what_stands_on_all_blocks_together_is_refused():
    images = pictures(1)
    for change in (
        lambda model: model.blocks.register_forward_hook(lambda *_: None),
        lambda model: setattr(model.blocks, "forward", lambda x, class_only=False: x),
        lambda model: setattr(model, "blocks", Halved(3, embed_dim=24, num_heads=3, mlp_dim=40).double()),
        lambda model: setattr(model, "blocks", with_merging(model, 1).blocks),
        lambda model: setattr(model, "blocks", torch.nn.Sequential(*model.blocks)),
    ):
        model = tiny()
        change(model)
        for merging in (merged_logits, merged_into):
            with pytest.raises(ValueError, match="past what is done by the whole; got an? "):
                merging(model, images, 2)
    merging = with_merging(tiny(), 2)
    merging.blocks.blocks.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="got an Encoder with a hook"):
        merging(images)


def test_what_asks_blocks_of_a_merging_model_is_refused():
    merging, images = with_merging(tiny(), 2), pictures(1)
    for ask in (
        lambda: intervene(merging, heads={0: 1}).__enter__(),
        lambda: intervene(merging, patches=[0]).__enter__(),
        lambda: record_attention(merging).__enter__(),
        lambda: recording_bytes(merging, 1),
        lambda: attach(merging),
        lambda: adapt(merging, num_classes=2),
        lambda: effective_receptive_field(merging, images),
    ):
        with pytest.raises(ValueError, match=r"this model merges tokens \(with_merging\)"):
            ask()


def test_a_change_that_a_copy_would_not_have_is_refused():
    model, images = tiny(), pictures(1)
    with (
        intervene(model, patches=[0]),
        pytest.raises(ValueError, match="leave record_attention or intervene"),
    ):
        merged_logits(model, images, 2)


def test_gradients_flow_to_every_weight():
    model = tiny(pool="mean")
    merged_logits(model, pictures(4), 3).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_bf16_is_near_and_gives_fp32_logits():
    model, images = tiny().float(), pictures(4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = merged_logits(model, images, 2)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, model(images), rtol=0.3, atol=0.5 * float(model(images).abs().max()))


@torch.no_grad()
def test_a_trained_model_keeps_most_of_what_it_knows_at_fewer_operations():
    model = vitlab.load_checkpoint(files.find("checkpoints/fashion_mnist_vit.safetensors")).eval()
    test = data.fashion_mnist("test").subset(range(500))
    images, found, flops = data.normalise(test.images), {}, {}
    for r in (0, 4, 12):
        merging = with_merging(model, r)
        found[r] = vitlab.evaluate(merging, test)[1]
        with FlopCounterMode(display=False) as counter:
            merging(images[:10])
        flops[r] = counter.get_total_flops()
    assert found[0] - 0.03 < found[4] <= found[0] + 0.01
    assert 0.5 < found[12] < found[0]
    assert flops[12] < 0.75 * flops[0]
    assert flops[4] < flops[0]
    sizes = torch.stack([each.unique(return_counts=True)[1] for each in merged_into(model, images[:5], 4)])
    assert sizes.shape == (5, 49 - 4 * 4)


def test_what_cannot_be_merged_is_refused():
    model, images = tiny(), pictures(1)
    for r in (-1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="whole number of at least 0; got"):
            merged_logits(model, images, r)
    with pytest.raises(ValueError, match="tokens of a ViT are merged; got a Linear"):
        with_merging(torch.nn.Linear(2, 2), 1)
    with pytest.raises(ValueError, match="rope2d turns each token by its place, and merged ones have no"):
        merged_logits(tiny(pos_embed="rope2d"), images, 1)
    with record_attention(model), pytest.raises(ValueError, match="leave record_attention"):
        merged_logits(model, images, 2)
    with intervene(model, heads={0: 1}), pytest.raises(ValueError, match="intervene or the hook first"):
        merged_logits(model, images, 2)
    handle = model.blocks[1].attn.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="the hook first"):
        merged_into(model, images, 2)
    handle.remove()
    model.blocks[0] = PostNormBlock(embed_dim=24, num_heads=3, mlp_dim=40).double()
    with pytest.raises(ValueError, match="within a Block with its Attention; got a PostNormBlock"):
        merged_logits(model, images, 2)
