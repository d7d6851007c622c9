"""Attention analysis against slow loops and against implementations that are not ours."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vitlab import ViT, ViTConfig, attention_rollout, mean_attention_distance, record_attention
from vitlab.attention import (
    class_map,
    class_token_share,
    discard_smallest,
    patch_distances,
    recording_bytes,
    uniform_attention_distance,
)
from vitlab.encoder import attention_scores

SMALL = dict(image_size=(8, 12), patch_size=4, embed_dim=12, depth=3, num_heads=2, mlp_dim=16)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ViT(ViTConfig(**SMALL)).eval()
    for parameter in model.parameters():  # far from the start, where the head is zero and attention flat
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture
def images():
    return torch.randn(5, 1, 8, 12, generator=torch.Generator().manual_seed(1))


def random_weights(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2)).mul(2).softmax(dim=-1)


def observers(model):
    return [block.attn.observers for block in model.blocks]


def hooks(model):
    return [(*module._forward_hooks, *module._forward_pre_hooks) for module in model.modules()]


EVERYTHING = ("queries", "keys", "values", "scores", "attention_outputs", "mlp_outputs", "block_outputs")


# ------------------------------------------------------------------------------------------- recording


def test_recorded_weights_by_loop(model, images):
    with record_attention(model) as record, torch.no_grad():
        model(images)
        tokens = model.embed(images)
    heads, width = 2, 6
    for layer, block in enumerate(model.blocks):
        qkv = block.attn.qkv(block.norm1(tokens)).detach()  # q, k and v, each head after head
        for b, head, i in itertools.product((0, 4), range(heads), range(7)):
            q = qkv[b, i, head * width : (head + 1) * width]
            scores = [
                float(q @ qkv[b, j, (heads + head) * width : (heads + head + 1) * width]) / math.sqrt(width)
                for j in range(7)
            ]
            wanted = torch.tensor(scores, dtype=torch.float64).softmax(0)
            torch.testing.assert_close(
                record.weights[layer, b, head, i].double(), wanted, atol=1e-5, rtol=1e-5
            )
        tokens = block(tokens)
    assert record.weights.shape == (3, 5, 2, 7, 7)
    torch.testing.assert_close(record.weights.sum(-1), torch.ones(3, 5, 2, 7), atol=1e-6, rtol=0)


def test_recording_changes_no_logits(model, images):
    with torch.no_grad():
        before = model(images)
        with record_attention(model):
            during = model(images)
        after = model(images)
    torch.testing.assert_close(during, before, atol=1e-6, rtol=1e-6)
    assert torch.equal(after, before)


def test_the_recorded_weights_are_those_in_use(model, images):
    """A gradient can be taken through them, and moving them moves the logits."""
    with record_attention(model) as record:
        logits = model(images)
    grads = torch.autograd.grad(logits.sum(), record.layers[0][0])
    assert grads[0].abs().max() > 0


def test_several_passes_are_joined(model, images):
    with record_attention(model) as record, torch.no_grad():
        model(images[:2])
        model(images[2:])
    with record_attention(model) as whole, torch.no_grad():
        model(images)
    torch.testing.assert_close(record.weights, whole.weights, atol=1e-6, rtol=1e-5)


def test_nothing_is_left_behind_after_an_exception(model, images):
    records = []
    with pytest.raises(ValueError, match="this model takes images"):
        fill_and_fail(model, images, records)
    (record,) = records
    assert observers(model) == [[], [], []]
    assert not any(hooks(model))
    assert record.weights.shape == (3, 5, 2, 7, 7)  # what was recorded before is kept
    model(images)
    assert record.weights.shape == (3, 5, 2, 7, 7)


def fill_and_fail(model, images, records):
    with record_attention(model, also=EVERYTHING) as record:
        records.append(record)
        model(images)
        model(torch.zeros(1, 1, 28, 28))


def test_recordings_nest(model, images):
    with record_attention(model) as outer, torch.no_grad():
        model(images[:1])
        with record_attention(model) as inner:
            model(images[1:3])
        assert [len(attached) for attached in observers(model)] == [1, 1, 1]
        model(images[3:])
    assert (outer.weights.shape[1], inner.weights.shape[1]) == (5, 2)
    assert torch.equal(inner.weights, outer.weights[:, 1:3])
    assert observers(model) == [[], [], []]


def test_weights_are_fp32_under_autocast(model, images):
    with record_attention(model) as record, torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(images)
    assert record.weights.dtype == torch.float32
    torch.testing.assert_close(record.weights.sum(-1), torch.ones(3, 5, 2, 7), atol=1e-6, rtol=0)


@pytest.mark.parametrize("layers", [[0], [2, 0], [-1], [-1, 1], range(1, 3)])
def test_layers_are_chosen_in_the_order_asked_for(model, images, layers):
    with record_attention(model) as whole, torch.no_grad():
        model(images)
    with record_attention(model, iter(layers), also=["block_outputs"]) as record, torch.no_grad():
        model(images)
    torch.testing.assert_close(record.weights, whole.weights[list(layers)], atol=1e-6, rtol=1e-5)
    assert len(record["block_outputs"]) == len(layers)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([3], "layers are 0 to 2, or -1 to -3 from the end; got 3"),
        ([-4], "got -4"),
        ([1.0], "got 1.0"),
        ([], "one or more different layers"),
        ([0, -3], "one or more different layers"),
    ],
)
def test_layers_that_are_not_there(model, layers, words):
    with pytest.raises(ValueError, match=words), record_attention(model, layers):
        pass
    assert not any(observers(model) + hooks(model))


def test_intermediates_by_hand(model, images):
    """Every name, against the parts of the blocks called one after the other."""
    with record_attention(model, also=EVERYTHING) as record, torch.no_grad():
        logits = model(images)
    with torch.no_grad():
        x = model.embed(images)
        for layer, block in enumerate(model.blocks):
            qkv = block.attn.qkv(block.norm1(x))
            for i, name in enumerate(("queries", "keys", "values")):  # a head after a head in each third
                heads = [
                    qkv[..., 12 * i + 6 * head : 12 * i + 6 * (head + 1)].unsqueeze(1) for head in range(2)
                ]
                torch.testing.assert_close(record[name][layer], torch.cat(heads, dim=1))
            attended = block.attn(block.norm1(x))
            torch.testing.assert_close(record["attention_outputs"][layer], attended)
            x = x + attended
            torch.testing.assert_close(record["mlp_outputs"][layer], block.mlp(block.norm2(x)))
            x = x + block.mlp(block.norm2(x))
            torch.testing.assert_close(record["block_outputs"][layer], x)
        torch.testing.assert_close(logits, model.head(model.norm(x)[:, 0]))
        torch.testing.assert_close(logits, model(images))
    scores = attention_scores(record["queries"], record["keys"])
    torch.testing.assert_close(record["scores"], scores)
    assert torch.equal(record["scores"].softmax(-1), record.weights)
    assert observers(model) == [[], [], []]
    assert not any(hooks(model))


def test_only_the_class_tokens_row(model, images):
    with record_attention(model, also=["scores"]) as whole, torch.no_grad():
        model(images)
    with record_attention(model, also=["scores"], rows="class") as record, torch.no_grad():
        model(images)
    assert record.weights.shape == (3, 5, 2, 1, 7)
    assert torch.equal(record.weights, whole.weights[..., :1, :])
    assert torch.equal(record["scores"], whole["scores"][..., :1, :])
    assert torch.equal(class_map(record.weights, (2, 3)), class_map(whole.weights, (2, 3)))
    assert record.weights.untyped_storage().nbytes() == 3 * 5 * 2 * 7 * 4  # no view of the whole


@pytest.mark.parametrize("fields", [{}, dict(head_dim=5, qkv_bias=False)])
@pytest.mark.parametrize("rows", ["all", "class"])
@pytest.mark.parametrize("also", [(), EVERYTHING])
def test_a_recording_takes_the_bytes_it_says(images, also, rows, fields):
    model = ViT(ViTConfig(**SMALL, **fields))
    with record_attention(model, [0, -1], also, rows) as record, torch.no_grad():
        model(images)
    kept = sum(
        tensor.untyped_storage().nbytes()
        for layers in record.passes.values()
        for tensor in itertools.chain(*layers)
    )
    assert kept == recording_bytes(model, 5, [0, -1], also, rows)
    shown = [record[name].untyped_storage().nbytes() for name in record.passes]
    assert sum(shown) == kept
    for name, layers in record.passes.items():  # they were moved, not copied
        assert layers[0][0].data_ptr() == record[name].data_ptr() == record[name].data_ptr()


def test_what_does_not_fit_is_refused_beforehand(model, images):
    needed = recording_bytes(model, batch_size=5)
    with record_attention(model, memory_limit=2 * needed) as record, torch.no_grad():
        model(images)
        model(images)
        assert record.weights.shape[1] == 10
        with pytest.raises(ValueError, match="3 layers for 5 images of 7 tokens .* 0.00 GB are left"):
            model(images)
    assert record.weights.shape[1] == 10
    with record_attention(model, memory_limit=needed, rows="class"), torch.no_grad():
        for _ in range(7):
            model(images)


def test_much_is_told_beforehand(model, images, monkeypatch):
    monkeypatch.setattr("vitlab.attention.memory.MUCH", recording_bytes(model, batch_size=5) - 1)
    with record_attention(model) as record, torch.no_grad():
        with pytest.warns(UserWarning, match="recording weights in 3 layers for 5 images of 7 tokens takes"):
            model(images)
    assert record.weights.shape[1] == 5
    monkeypatch.setattr("vitlab.attention.memory.MUCH", recording_bytes(model, batch_size=5))
    with record_attention(model), torch.no_grad(), warnings.catch_warnings(action="error"):
        model(images)


def test_what_was_not_asked_for_is_not_there(model, images):
    with record_attention(model, also="keys") as record, torch.no_grad():
        model(images)
    with pytest.raises(ValueError, match="'scores' was not recorded, only weights, keys"):
        record["scores"]
    with pytest.raises(ValueError, match="also takes queries, .*; got 'logits'"):
        with record_attention(model, also=["logits"]):
            pass
    with pytest.raises(ValueError, match="'all' or 'class'; got 'cls'"):
        with record_attention(model, rows="cls"):
            pass
    with pytest.raises(ValueError, match="no class token"):
        with record_attention(ViT(ViTConfig(**SMALL, pool="mean")), rows="class"):
            pass


def test_a_layer_that_took_no_part_is_told(model, images):
    with record_attention(model) as record, torch.no_grad():
        model.blocks[0](model.embed(images))
    with pytest.raises(ValueError, match=r"every recorded layer .*\[1, 0, 0\] times"):
        record.weights  # noqa: B018


def test_one_layer_by_its_number(model, images):
    with record_attention(model, layers=1) as record, torch.no_grad():
        model(images)
    assert record.weights.shape == (1, 5, 2, 7, 7)


def test_an_encoder_alone_is_recorded(model, images):
    with record_attention(model.blocks, also=["block_outputs"]) as record, torch.inference_mode():
        tokens = model.blocks(model.embed(images))
    torch.testing.assert_close(record["block_outputs"][-1], tokens)
    assert record.weights.shape == (3, 5, 2, 7, 7)


def test_recording_without_class_token(images):
    model = ViT(ViTConfig(**SMALL, pool="mean"))
    with record_attention(model) as record, torch.no_grad():
        model(images)
    assert record.weights.shape == (3, 5, 2, 6, 6)


def test_recording_errors(model):
    with pytest.raises(ValueError, match="Linear does not say image_size"):
        with record_attention(torch.nn.Linear(2, 2)):
            pass
    with pytest.raises(ValueError, match="no vitlab.Block layer, so there is no output of a block"):
        with record_attention(model.blocks[0].attn, also=["block_outputs"]):
            pass
    with record_attention(model) as record:
        pass
    with pytest.raises(ValueError, match="no forward pass"):
        record.weights  # noqa: B018


def test_on_the_meta_device_no_tensor_is_made_elsewhere():
    with torch.device("meta"):
        model, images = ViT(ViTConfig(**SMALL)), torch.empty(2, 1, 8, 12)
    with record_attention(model) as record:
        model(images)
    assert record.weights.is_meta
    assert attention_rollout(record.weights, "max", 0.5).is_meta
    assert mean_attention_distance(record.weights, (2, 3), 4, cls="renormalise").is_meta


# --------------------------------------------------------------------------------------------- rollout


def rollout_by_loops(weights, fuse, discard):
    """One image's rollout, entry by entry in Python floats: weights (L, heads, T, T) -> (T, T)."""
    T = weights.shape[-1]
    joint = [[float(i == j) for j in range(T)] for i in range(T)]
    for layer in weights.tolist():
        fused = [[fuse([head[i][j] for head in layer]) for j in range(T)] for i in range(T)]
        order = sorted((fused[i][j], i, j) for i in range(T) for j in range(T))
        for _, i, j in order[: int(T * T * discard)]:
            fused[i][j] = fused[i][j] if (i, j) == (0, 0) else 0.0
        half = [[fused[i][j] / 2 + (i == j) / 2 for j in range(T)] for i in range(T)]
        step = [[value / sum(row) for value in row] for row in half]
        joint = [[sum(step[i][k] * joint[k][j] for k in range(T)) for j in range(T)] for i in range(T)]
    return torch.tensor(joint, dtype=torch.float64)


FUSIONS = {"mean": lambda values: sum(values) / len(values), "max": max, "min": min}


@pytest.mark.parametrize("discard", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("tokens", [7, 8])  # 6 patches with a class token; 8 without one
def test_rollout_by_loops(fusion, discard, tokens):
    weights = random_weights(3, 2, 4, tokens, tokens)
    rollout = attention_rollout(weights, head_fusion=fusion, discard_ratio=discard)
    assert rollout.shape == (2, tokens, tokens)
    for b in range(2):
        wanted = rollout_by_loops(weights[:, b], FUSIONS[fusion], discard)
        torch.testing.assert_close(rollout[b].double(), wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rollout.sum(-1), torch.ones(2, tokens))


@pytest.mark.parametrize("discard", [0.1, 0.5, 0.9])
def test_rollout_where_many_entries_are_equal(discard):
    """Each image of a batch, uniform or in three values: equal entries go in reading order."""
    weights = torch.full((2, 3, 2, 7, 7), 1 / 7)
    weights[:, 1:] = random_weights(2, 2, 2, 7, 7).mul(6).round().div(6)
    rollout = attention_rollout(weights, "max", discard)
    for b in range(3):
        wanted = rollout_by_loops(weights[:, b], max, discard)
        torch.testing.assert_close(rollout[b].double(), wanted, atol=1e-6, rtol=1e-5)


def test_rollout_keeps_its_precision_through_a_deep_model():
    weights = random_weights(24, 2, 3, 50, 50)
    for discard in (0.0, 0.9):
        rollout, exact = (attention_rollout(w, "max", discard) for w in (weights, weights.double()))
        torch.testing.assert_close(rollout.double(), exact, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(rollout.sum(-1), torch.ones(2, 50), atol=1e-5, rtol=0)


def test_rollout_treats_each_image_alone():
    weights = random_weights(3, 4, 2, 6, 6)
    alone = torch.cat([attention_rollout(weights[:, b : b + 1], "max", 0.7) for b in range(4)])
    torch.testing.assert_close(attention_rollout(weights, "max", 0.7), alone)


def test_rollout_is_the_sum_over_all_paths():
    weights = random_weights(3, 1, 1, 3, 3)
    step = (weights[:, 0, 0] + torch.eye(3)) / 2
    for i, j in itertools.product(range(3), repeat=2):
        paths = (step[2, i, a] * step[1, a, b] * step[0, b, j] for a in range(3) for b in range(3))
        torch.testing.assert_close(attention_rollout(weights)[0, i, j], sum(paths))


def test_rollout_changes_no_input():
    weights = random_weights(2, 1, 2, 5, 5)
    before = weights.clone()
    attention_rollout(weights, "min", 0.9)
    assert torch.equal(weights, before)


def test_discarding_keeps_the_first_entry_and_no_more():
    maps = torch.tensor([[[0.1, 0.4], [0.3, 0.2]], [[0.4, 0.1], [0.2, 0.3]]])
    kept = discard_smallest(maps, 0.5)
    assert torch.equal(kept, torch.tensor([[[0.1, 0.4], [0.3, 0.0]], [[0.4, 0.0], [0.0, 0.3]]]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(2, 1, 4, 5, 6),), r"\(2, 1, 4, 5, 6\)"),
        ((torch.zeros(2, 4, 5, 5),), r"\(L, B, heads, T, T\), .*; got \(2, 4, 5, 5\)"),
        ((torch.zeros(2, 1, 4, 1, 5),), r"all rows of at least one layer; got \(2, 1, 4, 1, 5\)"),
        ((torch.zeros(0, 1, 4, 5, 5),), r"at least one layer; got \(0, 1, 4, 5, 5\)"),
        ((torch.zeros(2, 1, 4, 5, 5), "sum"), "mean, max, min; got 'sum'"),
        ((torch.zeros(2, 1, 4, 5, 5), "mean", 1.0), "below 1; got 1.0"),
        ((torch.zeros(2, 1, 4, 5, 5), "mean", -0.1), "got -0.1"),
    ],
)
def test_rollout_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        attention_rollout(*arguments)


# ------------------------------------------------------------------------------------------- class map


def test_class_map_by_loop():
    attention = random_weights(2, 3, 13, 13)
    shown = class_map(attention, (3, 4))
    assert shown.shape == (2, 3, 3, 4)
    for row, column in itertools.product(range(3), range(4)):
        assert torch.equal(shown[..., row, column], attention[:, :, 0, 1 + row * 4 + column])


def test_class_map_and_share_with_registers():
    weights = random_weights(2, 3, 4, 17, 17)
    shown, share = class_map(weights, (3, 4), num_prefix_tokens=5), class_token_share(weights, "patches", 5)
    for row, column in itertools.product(range(3), range(4)):
        assert torch.equal(shown[..., row, column], weights[..., 0, 5 + row * 4 + column])
    wanted = sum(weights[:, b, :, query, 0] for b in range(3) for query in range(5, 17)) / 36
    torch.testing.assert_close(share, wanted)
    with pytest.raises(ValueError, match="5 prefix tokens and a 3 x 4 grid make 17 tokens; got 13"):
        class_map(torch.zeros(1, 13, 13), (3, 4), 5)
    for prefix in (0, 17):
        with pytest.raises(ValueError, match=f"it is from 1 to 16; got {prefix}"):
            class_token_share(weights, num_prefix_tokens=prefix)
    with pytest.raises(ValueError, match="first is a class token"):
        class_map(torch.zeros(1, 12, 12), (3, 4), 0)


@pytest.mark.parametrize("tokens", [12, 14])
def test_class_map_needs_one_class_token(tokens):
    with pytest.raises(ValueError, match=f"3 x 4 grid make 13 tokens; got {tokens}"):
        class_map(torch.zeros(1, tokens, tokens), (3, 4))


# -------------------------------------------------------------------------------------------- distance


def distance_by_loops(weights, rows, columns, patch_size, renormalise):
    """weights (B, T, T) of one head -> pixels, in Python floats."""
    prefix = weights.shape[-1] - rows * columns
    places = list(itertools.product(range(rows), range(columns)))
    means = []
    for image in weights[:, prefix:, prefix:].tolist():
        for (y, x), row in zip(places, image, strict=True):
            total = sum(row) if renormalise else 1.0
            gaps = [math.hypot(y - v, x - u) * patch_size for v, u in places]
            means.append(sum(w * gap for w, gap in zip(row, gaps, strict=True)) / total)
    return sum(means) / len(means)


@pytest.mark.parametrize("cls", ["drop", "renormalise"])
@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("grid", [(3, 5), (4, 2), (1, 6)])
def test_distance_by_loops(grid, prefix, cls):
    rows, columns = grid
    weights = random_weights(2, 3, 2, rows * columns + prefix, rows * columns + prefix)
    distances = mean_attention_distance(weights, grid, patch_size=7, cls=cls)
    assert distances.shape == (2, 2)
    for layer, head in itertools.product(range(2), repeat=2):
        wanted = distance_by_loops(weights[layer, :, head], rows, columns, 7, cls == "renormalise")
        assert distances[layer, head].item() == pytest.approx(wanted, rel=1e-5)


def test_without_class_token_dropping_and_renormalising_agree():
    weights = random_weights(2, 2, 2, 6, 6)
    torch.testing.assert_close(*(mean_attention_distance(weights, (2, 3), 4, cls) for cls in CLS))


CLS = ("drop", "renormalise")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_the_class_tokens_share_makes_a_uniform_head_seem_local(share):
    weights = torch.full((1, 1, 1, 197, 197), (1 - share) / 196)
    weights[..., 0] = share
    dropped, renormalised = (mean_attention_distance(weights, (14, 14), 16, cls).item() for cls in CLS)
    assert dropped == pytest.approx((1 - share) * 116.5, abs=0.05)
    assert renormalised == pytest.approx(116.5, abs=0.05)


def test_a_head_that_looks_at_itself_has_distance_zero():
    assert mean_attention_distance(torch.eye(6)[None, None, None], (2, 3), 16).item() == 0


def test_patch_distances_by_loop():
    distances = patch_distances((3, 4), 5)
    places = list(itertools.product(range(3), range(4)))
    wanted = [[math.dist(one, other) * 5 for other in places] for one in places]
    torch.testing.assert_close(distances, torch.tensor(wanted))


@pytest.mark.parametrize("grid", [(3, 5), (14, 14), (1, 1)])
def test_uniform_distance_is_that_of_uniform_attention(grid):
    patches = grid[0] * grid[1]
    weights = torch.full((1, 1, 1, patches, patches), 1 / patches)
    measured = mean_attention_distance(weights, grid, 16).item()
    assert uniform_attention_distance(grid, 16) == pytest.approx(measured, rel=1e-5)


@pytest.mark.parametrize("queries", ["patches", "class", "all"])
def test_class_tokens_share_by_loop(queries):
    weights = random_weights(2, 3, 2, 7, 7)
    share = class_token_share(weights, queries)
    asked = {"patches": range(1, 7), "class": [0], "all": range(7)}[queries]
    for layer, head in itertools.product(range(2), repeat=2):
        shares = [float(weights[layer, b, head, i, 0]) for b in range(3) for i in asked]
        assert share[layer, head].item() == pytest.approx(sum(shares) / len(shares), rel=1e-5)


def test_the_share_is_what_dropping_takes_from_a_uniform_head():
    weights = torch.full((1, 1, 1, 197, 197), 0.6 / 196)
    weights[..., 0] = 0.4
    dropped = mean_attention_distance(weights, (14, 14), 16).item()
    kept = 1 - class_token_share(weights).item()
    assert dropped == pytest.approx(kept * uniform_attention_distance((14, 14), 16), rel=1e-4)


def test_share_errors():
    with pytest.raises(ValueError, match=r"got \(2, 4, 5, 5\)"):
        class_token_share(torch.zeros(2, 4, 5, 5))
    with pytest.raises(ValueError, match="'patches', 'class' or 'all'; got 'cls'"):
        class_token_share(torch.zeros(2, 1, 4, 5, 5), "cls")


@pytest.mark.parametrize(
    ("weights", "grid", "cls", "words"),
    [
        (torch.zeros(1, 1, 1, 8, 8), (2, 3), "drop", r"T = 6, or one more with a class token"),
        (torch.zeros(1, 1, 7, 7), (2, 3), "drop", r"got \(1, 1, 7, 7\)"),
        (torch.zeros(1, 1, 1, 7, 7), (2, 3), "keep", "'drop' or 'renormalise'; got 'keep'"),
    ],
)
def test_distance_errors(weights, grid, cls, words):
    with pytest.raises(ValueError, match=words):
        mean_attention_distance(weights, grid, 4, cls)


# ------------------------------------------------------------ implementations that are not ours


@pytest.fixture
def oracle(shared):
    return lambda name: {key: torch.from_numpy(a) for key, a in np.load(shared / "oracles" / name).items()}


def test_recorded_attention_is_timms(shared, oracle):
    arrays = oracle("timm/io_t1_token.npz")
    model = ViT(
        ViTConfig(image_size=32, patch_size=8, in_chans=3, embed_dim=64, depth=3, num_heads=4, mlp_dim=128)
    ).eval()
    model.load_state_dict(load_file(shared / "oracles/timm/ckpt_t1_token.safetensors"))
    with record_attention(model) as record, torch.no_grad():
        logits = model(arrays["images"])
    torch.testing.assert_close(record.weights, arrays["attn"], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, arrays["logits"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("discard", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_rollout_is_the_published_recipe_with_rows_normalised(oracle, fusion, discard):
    weights = oracle("timm/io_t1_token.npz")["attn"]
    name = f"t1_token__{fusion}_{discard}__row_normalised"
    shown = class_map(attention_rollout(weights, fusion, discard), (4, 4))
    shown = shown / shown.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(shown, oracle("rollout/rollout_t1_token.npz")[name], atol=1e-5, rtol=0)


def test_rollout_is_abnars_at_every_depth(oracle):
    weights = oracle("timm/io_t1_token.npz")["attn"]
    joint = oracle("rollout/rollout_t1_token.npz")["t1_token__abnar_joint"]
    for depth in (1, 2, 3):
        torch.testing.assert_close(attention_rollout(weights[:depth]), joint[depth - 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("discard", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_published_fault_is_the_one_that_the_lesson_shows(oracle, fusion, discard):
    """vit-explain divides column j by the sum of row j; `attention_rollout` does not, and so differs."""
    weights = oracle("timm/io_t1_token.npz")["attn"]
    wanted = oracle("rollout/rollout_t1_token.npz")[f"t1_token__{fusion}_{discard}__vit_explain"]
    fuse = dict(mean=torch.Tensor.mean, max=torch.Tensor.amax, min=torch.Tensor.amin)[fusion]
    for image in range(2):
        as_published = torch.eye(17)
        for layer in discard_smallest(fuse(weights[:, image], dim=1), discard):
            mixing = layer / 2 + torch.eye(17) / 2
            as_published = mixing / mixing.sum(dim=-1) @ as_published
        shown = class_map(as_published, (4, 4))
        torch.testing.assert_close(shown / shown.max(), wanted[image], atol=1e-5, rtol=0)
    ours = class_map(attention_rollout(weights, fusion, discard), (4, 4))
    ours = ours / ours.amax(dim=(1, 2), keepdim=True)
    away = (ours - wanted).abs().max()
    whole_rows = (fusion, discard) == ("mean", 0.0)  # sum to 1 already: there is nothing to divide
    assert away < 1e-5 if whole_rows else away > 1e-3


def test_rollout_without_the_residual(oracle):
    """What the lesson leaves out: the layers' head means alone, multiplied."""
    weights = oracle("timm/io_t1_token.npz")["attn"]
    alone = oracle("rollout/rollout_t1_token.npz")["t1_token__abnar_joint_noresidual"]
    product = torch.eye(17)
    for layer, wanted in zip(weights.mean(dim=2), alone, strict=True):
        product = layer @ product
        torch.testing.assert_close(product, wanted, atol=1e-5, rtol=0)
    assert (attention_rollout(weights) - product).abs().max() > 0.1


def test_rollout_as_it_is_shown(oracle):
    shown = class_map(attention_rollout(oracle("timm/io_t1_token.npz")["attn"]), (4, 4))
    shown = shown / shown.amax(dim=(1, 2), keepdim=True)
    wanted = oracle("rollout/rollout_t1_token.npz")["t1_token__abnar_cls_mask_over_max"]
    torch.testing.assert_close(shown, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("grid", "patch_size"), [((7, 7), 32), ((5, 7), 16)])
def test_distance_is_the_independent_ones(oracle, grid, patch_size):
    arrays = oracle("attdist/synthetic_attention_distance.npz")
    name = f"{grid[0]}x{grid[1]}_p{patch_size}__"
    for cls, key in zip(CLS, ("px_raw", "px_renorm"), strict=True):
        ours = mean_attention_distance(arrays[name + "attn"][None], grid, patch_size, cls=cls)
        torch.testing.assert_close(ours.double(), arrays[name + key], atol=0, rtol=1e-5)


def test_an_int_stands_for_a_square_grid():
    weights = torch.rand(2, 1, 2, 10, 10).softmax(dim=-1)
    ours, wanted = (mean_attention_distance(weights, grid, 4) for grid in (3, (3, 3)))
    assert torch.equal(ours, wanted)
