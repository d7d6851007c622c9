"""`attach` and what is seen through it, on models written here: what it takes, and what it refuses."""

import contextlib
import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vitlab
from vitlab.attention.seeing import Seeing

SIZES = dict(image_size=(16, 24), patch_size=8, num_prefix_tokens=1)  # a 2 x 3 grid, 7 tokens
TOKENS, DEPTH, HEADS, WIDTH = 7, 3, 2, 8


class Heads(nn.Module):
    """Attention whose weights multiply the values as `way` says."""

    def __init__(self, way: str):
        super().__init__()
        self.qkv, self.way, self.mix = nn.Linear(WIDTH, 3 * WIDTH), way, nn.Linear(HEADS, HEADS)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        weights = self.weigh(scores)
        out = {
            "sdpa": lambda: F.scaled_dot_product_attention(q, k, v),
            "matmul": lambda: torch.matmul(weights, v),
            "at": lambda: weights @ v,
            "method": lambda: weights.matmul(v),
            "named": lambda: torch.matmul(other=v, input=weights),
            "named method": lambda: weights.matmul(other=v),
            "torch.linalg": lambda: torch.linalg.matmul(torch.special.softmax(scores, -1), v),
            "dropout in place": lambda: F.dropout(weights, 0.3, self.training, inplace=True) @ v,
            "written": lambda: written(weights.clone()) @ v,
            "a view written": lambda: (weights[..., 0].mul_(0), weights @ v)[1],
            "bmm": lambda: torch.bmm(weights.flatten(0, 1), v.flatten(0, 1)).unflatten(0, (-1, HEADS)),
            "three axes": lambda: in_one_axis(q, k, v),
            "einsum": lambda: torch.einsum("bhqk,bhkd->bhqd", weights, v),
            "values first": lambda: torch.einsum("bhkd,bhqk->bhqd", v, weights),
            "torch.softmax": lambda: torch.softmax(scores, -1) @ v,
            "nn.Softmax": lambda: nn.Softmax(dim=-1)(scores) @ v,
            "F.softmax": lambda: F.softmax(scores, dim=3) @ v,
            "dropout": lambda: F.dropout(weights, 0.3, self.training) @ v,
            "in halves": lambda: scores.float().softmax(-1, dtype=torch.float32).to(v.dtype) @ v,
            "masked": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask_of(q)),
            "causal": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            "scaled": lambda: F.scaled_dot_product_attention(q, k, v, scale=0.1),
            "biased": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=torch.eye(q.shape[-2])),
            "talking": lambda: self.mix(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v,
            "gated": lambda: (weights * 0.5) @ v,
            "renormalised": lambda: F.normalize(weights, p=1, dim=-1) @ v,
            "fewer keys": lambda: (q @ k[:, :, ::2].mT).softmax(-1) @ v[:, :, ::2],
            "linear": lambda: q.softmax(-1) @ (k.softmax(-2).mT @ v),
            "channels": lambda: ((q.mT @ k).softmax(-1) @ v.mT).mT,
            "windows": lambda: window(q, k, v),
            "none": lambda: v,
        }[self.way]()
        return out.transpose(1, 2).flatten(2)

    def weigh(self, scores):
        return scores.softmax(dim=-1)


def written(weights):
    weights[..., 0] = 0.1
    return weights


def mask_of(q):
    mask = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool)
    mask[:, 3] = False
    return mask


def in_one_axis(q, k, v):
    q, k, v = (each.flatten(0, 1) for each in (q, k, v))
    out = torch.bmm((torch.bmm(q, k.mT) / q.shape[-1] ** 0.5).softmax(-1), v)
    return out.unflatten(0, (-1, HEADS))


def window(q, k, v):
    parts = [
        F.scaled_dot_product_attention(*(each[:, :, at] for each in (q, k, v)))
        for at in (slice(0, 4), slice(4, 7))
    ]
    return torch.cat(parts, dim=2)


class Block(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(WIDTH), Heads(way), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)


class Model(nn.Module):
    """A ViT that says nothing of itself."""

    def __init__(self, *ways, order=lambda tokens: tokens, head=lambda x: x[:, 0]):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 8, 8)
        self.first, self.order, self.head = nn.Parameter(torch.randn(1, 1, WIDTH)), order, head
        self.blocks = nn.ModuleList(Block(way) for way in ways)
        self.classes = nn.Linear(WIDTH, 5)

    def forward(self, images):
        x = self.stem(images).flatten(2).mT
        x = self.order(torch.cat([self.first.expand(len(x), -1, -1), x], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.classes(self.head(x)).softmax(-1)  # a softmax over classes is no attention


def made(*ways, **given):
    torch.manual_seed(0)
    return Model(*(ways or ["sdpa"] * DEPTH), **given).eval()


def pictures(n=3):
    return torch.randn(n, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def by_hand(model, images):
    """The weights of each layer in fp64, by hooks on the queries and keys."""
    model, layers = copy.deepcopy(model).double(), []
    for block in model.blocks:

        def hook(module, args, qkv, way=block.attention.way):
            q, k, _ = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            scores = q @ k.mT * (0.1 if way == "scaled" else q.shape[-1] ** -0.5)
            scores = scores + (torch.eye(TOKENS) if way == "biased" else 0)
            if way == "masked":
                scores = scores.masked_fill(~mask_of(q), -torch.inf)
            if way == "causal":
                scores = scores.masked_fill(torch.ones(TOKENS, TOKENS).triu(1).bool(), -torch.inf)
            layers.append(scores.softmax(-1))

        block.attention.qkv.register_forward_hook(hook)
    model(images.double())
    return torch.stack(layers)


WAYS = (
    "three axes",
    "sdpa",
    "matmul",
    "at",
    "method",
    "named",
    "named method",
    "torch.linalg",
    "dropout in place",
    "bmm",
    "einsum",
    "values first",
    "torch.softmax",
    "nn.Softmax",
)
WAYS += ("F.softmax", "dropout", "in halves", "masked", "causal", "scaled", "biased")


@pytest.mark.parametrize("way", WAYS)
def test_weights_by_hand(way):
    model, images = made(way, way, "sdpa"), pictures()
    view = vitlab.attach(model, **SIZES)
    with torch.no_grad():
        plain = model(images)
        with vitlab.record_attention(view) as record:
            outputs = model(images)
    assert record.weights.dtype == torch.float32
    torch.testing.assert_close(record.weights.double(), by_hand(model, images), atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs, plain, atol=1e-6, rtol=0)


REFUSED = {
    "talking": "changed \\(.*linear.*\\) before they multiply",
    "gated": "changed \\(mul\\)",
    "renormalised": "changed \\(normalize",
    "written": "changed \\(written in place\\)",
    "a view written": "changed \\(written in place\\)",
    "fewer keys": "7 queries to 4 keys",
    "linear": "7 queries to 4 keys",
    "channels": "attention between 4 tokens was seen, where a 2 x 3 grid and 1 prefix tokens make 7",
    "windows": "\\[2, 1, 1\\]",
    "none": "\\[0, 1, 1\\]",
}


@pytest.mark.parametrize("way", REFUSED)
def test_what_is_not_global_is_refused(way):
    with pytest.raises(ValueError, match=REFUSED[way]):
        vitlab.attach(made(way, "sdpa", "sdpa"), **SIZES)


def test_changes_in_place_are_seen_in_inference_mode():
    with torch.inference_mode(), pytest.raises(ValueError, match="written in place"):
        vitlab.attach(made("written", "sdpa"), **SIZES)


def test_what_dropout_wrote_in_place_is_not_recorded_as_weights():
    view = vitlab.attach(made("dropout in place", "sdpa").train(), **SIZES)
    with pytest.raises(ValueError, match="written in place"), vitlab.record_attention(view):
        with torch.no_grad():
            view(pictures())
    with (
        torch.inference_mode(),
        vitlab.record_attention(view) as recording,
    ):  # where nobody counts, a copy is kept
        view(pictures())
    sums = recording.weights.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_weights_that_are_written_to_after_a_copy_are_refused():
    def emptied(weights):
        copied = weights.clone()
        weights.zero_()
        return copied

    seen = []
    with Seeing(seen.append):
        weights = torch.randn(2, 3, 4, 4).softmax(-1)
        _ = emptied(weights) @ torch.randn(2, 3, 4, 8)
    assert seen[0].changed == ["written in place"]


def test_an_error_of_the_models_own_says_what_it_was_run_on():
    def unpacking(x):
        images, frames, tokens, width = x.shape  # as of a video

    with pytest.raises(
        ValueError, match="Model cannot be run on images of shape \\(3, 3, 16, 24\\): not enough"
    ):
        vitlab.attach(made(head=unpacking), **SIZES)


@pytest.mark.parametrize(("way", "words"), [("linear", "linear attention"), ("channels", "between channels")])
def test_as_many_channels_as_tokens(way, words):
    """A head is 4 wide and there are 4 tokens: every shape is as it would be with global attention."""
    with pytest.raises(ValueError, match=words):
        vitlab.attach(made(way, way), image_size=(8, 24), patch_size=8, num_prefix_tokens=1)


def test_no_attention_at_all():
    with pytest.raises(ValueError, match="no attention was seen in Model"):
        vitlab.attach(made("none", "none"), **SIZES)


@pytest.mark.parametrize(
    "order",
    [
        lambda tokens: tokens.roll(-1, dims=1),  # the class token behind the patches
        lambda tokens: tokens[:, [0, 1, 4, 2, 5, 3, 6]],  # column by column
        lambda tokens: tokens[:, torch.randperm(7, generator=torch.Generator().manual_seed(2))],
    ],
)
def test_tokens_in_another_order_are_refused(order):
    with pytest.raises(ValueError, match="is token [0-6], not 3: the tokens are not 1 prefix"):
        vitlab.attach(made(order=order), **SIZES)


def test_what_nobody_says_is_asked_for():
    words = re.escape("attach(model, image_size=…, patch_size=…, num_prefix_tokens=…)")
    with pytest.raises(ValueError, match=words):
        vitlab.attach(made())
    with pytest.raises(ValueError, match="give the right num_prefix_tokens"):
        vitlab.attach(made(), image_size=(16, 24), patch_size=8, num_prefix_tokens=2)
    with pytest.raises(ValueError, match="num_prefix_tokens=1; got num_prefix_tokens=2"):
        vitlab.attach(vitlab.ViT(vitlab.ViTConfig()), num_prefix_tokens=2)
    with pytest.raises(ValueError, match="reads is one of token"):
        vitlab.attach(made(), **SIZES, reads="cls")
    with pytest.raises(ValueError, match="one number for each of 3 channels"):
        vitlab.attach(made(), **SIZES, mean=(0.5, 0.5))
    with pytest.raises(ValueError, match="cannot be run on images of shape \\(3, 3, 4, 4\\)"):
        vitlab.attach(made(), image_size=4, patch_size=8, num_prefix_tokens=1)


def test_what_was_said_is_there():
    view = vitlab.attach(made(), **SIZES, mean=[0.5] * 3, std=[0.2] * 3, reads="token")
    assert (view.grid_size, view.patch_size, view.num_prefix_tokens) == ((2, 3), 8, 1)
    assert (view.reads, view.channels, view.num_layers, view.heads) == ("token", 3, DEPTH, [HEADS] * DEPTH)
    assert (view.mean, view.std) == ((0.5,) * 3, (0.2,) * 3)
    assert vitlab.attach(made(), **SIZES).reads is None


def test_nothing_is_left_in_the_model():
    model = made()
    model.train()
    model.blocks[1].eval()

    def state():
        return [
            (module.training, dict(module._forward_hooks), dict(module._forward_pre_hooks), set(vars(module)))
            for module in model.modules()
        ]

    before, weights, chance = state(), copy.deepcopy(model.state_dict()), torch.get_rng_state()
    view = vitlab.attach(model, **SIZES)
    with pytest.raises(RuntimeError), vitlab.record_attention(view):
        model(pictures()[:, :2])
    assert state() == before
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert not torch.overrides._get_current_function_mode_stack()


@pytest.mark.parametrize("way", ["sdpa", "matmul", "three axes"])
def test_gradients_flow_through_the_weights(way):
    """As through weights that are made in the open: the same number by differences in fp64."""
    model, images = made(way, "matmul", "sdpa").double(), pictures().double()
    with vitlab.record_attention(vitlab.attach(model, **SIZES)) as record:
        outputs = model(images)
    (gradient,) = torch.autograd.grad(outputs[:, 2].sum(), record.layers[0])
    step = 1e-6 * torch.randn(gradient.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values = []
    for sign in (1, -1):
        changed = copy.deepcopy(model)
        changed.blocks[0].attention.way = "at"
        changed.blocks[0].attention.weigh = lambda scores, sign=sign: scores.softmax(-1) + sign * step
        values.append(float(changed(images)[:, 2].detach().sum()))
    assert float((gradient * step).sum()) == pytest.approx((values[0] - values[1]) / 2, rel=1e-5)


def test_autocast_is_honoured():
    model, images = made("sdpa", "matmul", "sdpa"), pictures()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        plain = model(images)
        with vitlab.record_attention(vitlab.attach(model, **SIZES)) as record:
            outputs = model(images)
    assert outputs.dtype == plain.dtype
    torch.testing.assert_close(outputs, plain, atol=2**-7, rtol=0)
    torch.testing.assert_close(record.weights.double(), by_hand(model, images), atol=2**-6, rtol=0)
    torch.testing.assert_close(record.weights.sum(-1), torch.ones(3, 3, 2, 7), atol=1e-6, rtol=0)


def test_dropout_drops_what_it_drops_without_recording():
    model, images = made("dropout", "sdpa"), pictures()
    view = vitlab.attach(model, **SIZES)
    model.train()
    torch.manual_seed(5)
    plain = model(images)
    torch.manual_seed(5)
    with vitlab.record_attention(view) as record:
        outputs = model(images)
    torch.testing.assert_close(outputs, plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        record.weights.double(), by_hand_before_dropout(model, images), atol=0.2, rtol=0
    )
    torch.testing.assert_close(record.weights.sum(-1), torch.ones(2, 3, 2, 7), atol=1e-6, rtol=0)


def by_hand_before_dropout(model, images):
    return by_hand(model.eval(), images)


def test_the_record_is_of_calls_of_the_model_alone():
    model, other, images = made(), made("matmul", "sdpa"), pictures()
    with vitlab.record_attention(vitlab.attach(model, **SIZES)) as record, torch.no_grad():
        other(images)
        q = torch.randn(1, 2, 7, 4)
        F.scaled_dot_product_attention(q, q, q)
        with pytest.raises(ValueError, match="no forward pass was recorded"):
            _ = record.weights
        model(images)
        other(images)
        model(images[:2])
    assert record.weights.shape == (DEPTH, 5, HEADS, TOKENS, TOKENS)
    model(images)
    assert record.weights.shape[1] == 5


def test_a_copy_of_the_model_is_another_model():
    model, images = made(), pictures()
    with vitlab.record_attention(vitlab.attach(model, **SIZES)) as record, torch.no_grad():
        copied = copy.deepcopy(model)
        torch.testing.assert_close(copied(images), model(images), atol=1e-6, rtol=0)
    assert record.weights.shape[1] == 3
    torch.testing.assert_close(copied(images), model(images))


def test_two_records_at_once():
    model, other, images = made(), made("matmul", "sdpa"), pictures()
    with vitlab.record_attention(vitlab.attach(model, **SIZES)) as first, torch.no_grad():
        with vitlab.record_attention(vitlab.attach(other, **SIZES)) as second:
            model(images)
            other(images)
        model(images[:1])
    torch.testing.assert_close(first.weights[:, :3].double(), by_hand(model, images), atol=1e-6, rtol=0)
    torch.testing.assert_close(second.weights.double(), by_hand(other, images), atol=1e-6, rtol=0)
    assert len(first.weights[0]) == 4


def test_a_pass_that_fails_leaves_no_part():
    model, images = made(), pictures()
    view = vitlab.attach(model, **SIZES)
    with vitlab.record_attention(view) as record, torch.no_grad():
        model(images)
        with pytest.raises(RuntimeError):
            model(images[:, :2])
        model.blocks[2].attention.way = "no such way"
        with pytest.raises(KeyError):
            model(images)
        model.blocks[2].attention.way = "sdpa"
        model(images)
    assert record.weights.shape == (DEPTH, 6, HEADS, TOKENS, TOKENS)


def test_a_model_that_changed_is_refused():
    model, images = made(), pictures()
    view = vitlab.attach(model, **SIZES)
    model.blocks[1].attention.way = "none"
    with pytest.raises(ValueError, match="2 attentions ran in this forward pass, where 3 did"):
        with vitlab.record_attention(view):
            model(images)
    model.blocks[1].attention.way = "windows"
    with pytest.raises(ValueError, match="attention between 4 tokens"), vitlab.record_attention(view):
        model(images)


def test_some_layers_and_rows():
    model, images = made(), pictures()
    view = vitlab.attach(model, **SIZES)
    with vitlab.record_attention(view) as whole, torch.no_grad():
        model(images)
    with vitlab.record_attention(view, layers=[-1, 0], rows="class") as record, torch.no_grad():
        model(images)
    assert torch.equal(record.weights, whole.weights[[2, 0]][..., :1, :])
    with pytest.raises(ValueError, match="layers are 0 to 2"), vitlab.record_attention(view, layers=[3]):
        pass
    with (
        pytest.raises(ValueError, match="also is for vitlab's own"),
        vitlab.record_attention(view, also="keys"),
    ):
        pass
    needed = 4 * DEPTH * 3 * HEADS * TOKENS**2
    with vitlab.record_attention(view, memory_limit=needed), torch.no_grad():
        model(images)
    with pytest.raises(ValueError, match="0.00 GB are left"):
        with vitlab.record_attention(view, memory_limit=needed - 1):
            model(images)


def test_heads_without_an_axis_of_their_own():
    """`nn.MultiheadAttention` in all its ways, the fast path of evaluation included."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)

    class Fast(Model):
        def __init__(self):
            super().__init__()
            self.blocks = nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False).layers

    model, images = Fast().eval(), pictures()
    expected = []

    def ask(module, args):
        norm = args[0]
        expected.append(module.self_attn(norm, norm, norm, average_attn_weights=False)[1])

    with torch.no_grad():
        plain = model(images)
        hooks = [block.register_forward_pre_hook(ask) for block in model.blocks]
        model(images)
        for hook in hooks:
            hook.remove()
        with vitlab.record_attention(vitlab.attach(model, **SIZES)) as record:
            outputs = model(images)
    assert torch.backends.mha.get_fastpath_enabled()
    torch.testing.assert_close(record.weights, torch.stack(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs, plain, atol=1e-5, rtol=0)


def test_a_block_used_again_and_again():
    model, images = made("sdpa"), pictures()
    model.blocks = nn.ModuleList([model.blocks[0]] * 4)
    with vitlab.record_attention(vitlab.attach(model, **SIZES)) as record, torch.no_grad():
        model(images)
    assert record.weights.shape[0] == 4
    assert not torch.allclose(record.weights[0], record.weights[3])


def test_compiled_models_run_as_written():
    model, images = made(), pictures()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(images)
        with vitlab.record_attention(vitlab.attach(compiled, **SIZES)) as record:
            compiled(images)
        torch.testing.assert_close(record.weights.double(), by_hand(model, images), atol=1e-6, rtol=0)
        model.compile(backend="eager")
        with vitlab.record_attention(vitlab.attach(model, **SIZES)) as again:
            model(images)
    assert torch.equal(again.weights, record.weights)


def test_on_the_meta_device():
    with torch.device("meta"):
        model, images = made(), torch.empty(2, 3, 16, 24)
    with vitlab.record_attention(vitlab.attach(model, **SIZES)) as record:
        model(images)
    assert record.weights.is_meta
    assert record.weights.shape == (DEPTH, 2, HEADS, TOKENS, TOKENS)


def test_programs_are_refused():
    model, images = made(), pictures()
    with pytest.raises(ValueError, match="TorchScript program hides its attention"):
        vitlab.attach(torch.jit.trace(model, images, check_trace=False), **SIZES)
    with pytest.raises(ValueError, match="exported program hides its attention"):
        vitlab.attach(torch.export.export(model, (images,)).module(), **SIZES)
    with pytest.raises(ValueError, match="takes an nn.Module; got a str"):
        vitlab.attach("vit")


def test_grouped_heads():
    q, k, v = (torch.randn(2, n, 5, 4, generator=torch.Generator().manual_seed(n)) for n in (6, 2, 2))
    seen = []
    with Seeing(seen.append):
        out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    for head in range(6):
        expected = (q[:, head] @ k[:, head // 3].mT / 2).softmax(-1)
        torch.testing.assert_close(seen[0].weights[:, head], expected)


def test_a_query_that_may_see_nothing():
    q = torch.randn(1, 1, 3, 4)
    mask = torch.tensor([[True, False, True], [False] * 3, [True] * 3])
    seen = []
    with Seeing(seen.append):
        out = F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, q, q, attn_mask=mask))
    assert seen[0].weights.sum(-1).flatten().tolist() == pytest.approx([1, 0, 1])


HIDING = torch.tensor([[True, False, True], [False] * 3, [True] * 3])
CALLS = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"is_causal": True},
    "of each query": {"attn_mask": HIDING},
    "of keys": {"attn_mask": torch.tensor([[True, False, True], [True, True, False]])[:, None, None]},
    "bias": {"attn_mask": torch.arange(18.0).reshape(1, 2, 3, 3)},
    "grouped": {"enable_gqa": True},
}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_the_first_rows_beside_attention_as_it_is(call, precision):
    q, k, v = torch.randn(3, 2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    if call == "grouped":
        k, v = k[:, :1], v[:, :1]
    given, seen, whole = dict(CALLS[call]), [], []
    with torch.autocast("cpu", enabled=precision == torch.bfloat16):
        expected = F.scaled_dot_product_attention(q, k, v, **given)
        with Seeing(whole.append):
            F.scaled_dot_product_attention(q, k, v, **given)
        with Seeing(seen.append, rows=2):
            out = F.scaled_dot_product_attention(q, k, v, **given)
    assert torch.equal(out, expected)
    assert (seen[0].queries, seen[0].weights.dtype) == (3, torch.float32)
    torch.testing.assert_close(seen[0].weights, whole[0].weights[..., :2, :], atol=1e-7, rtol=0)


def test_the_first_rows_beside_dropout():
    q = torch.randn(2, 2, 3, 4)
    seen, outs = [], []
    for rows in (contextlib.nullcontext(), Seeing(seen.append, rows=1)):
        with torch.random.fork_rng(devices=[]), rows:
            torch.manual_seed(0)
            outs.append(F.scaled_dot_product_attention(q, q, q, dropout_p=0.5))
    assert torch.equal(*outs)
    torch.testing.assert_close(seen[0].weights, (q[:, :, :1] @ q.mT / 2).softmax(-1))


def test_own_model_through_a_view():
    model = vitlab.ViT(vitlab.ViTConfig()).eval()
    view, images = vitlab.attach(model), torch.randn(2, 1, 28, 28)
    with vitlab.record_attention(view, also="values") as record, torch.no_grad():
        outputs = view(images)
    with vitlab.record_attention(model) as direct, torch.no_grad():
        assert torch.equal(model(images), outputs)
    assert torch.equal(record.weights, direct.weights)
    assert (view.grid_size, view.patch_size, view.num_prefix_tokens, view.reads) == ((7, 7), 4, 1, "token")
