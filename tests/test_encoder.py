"""The encoder's parts against loops and torch's own layers."""

import math

import pytest
import torch
import torch.nn.functional as F

from vitlab.encoder import MLP, Attention, Block, CPUAttention, Encoder, attention_weights


def test_attention_weights_by_loop():
    q, k = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    weights = attention_weights(q, k)
    for b in range(2):
        for head in range(3):
            for i in range(4):
                scores = [float(q[b, head, i] @ k[b, head, j]) / math.sqrt(5) for j in range(4)]
                total = sum(math.exp(s) for s in scores)
                wanted = torch.tensor([math.exp(s) / total for s in scores])
                torch.testing.assert_close(weights[b, head, i], wanted)


def test_attention_is_torchs_multi_head_attention():
    ours = Attention(embed_dim=24, num_heads=3)
    theirs = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    x = torch.randn(2, 7, 24)
    wanted, weights = theirs(x, x, x, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(ours(x), wanted)
    recorded = []
    ours.observers.append(recorded.append)
    torch.testing.assert_close(ours(x), wanted)
    torch.testing.assert_close(recorded[0], weights)


@pytest.mark.parametrize("tokens", [3, 5, 50])
def test_cpu_attention_is_pytorchs_forward_and_backward(tokens):
    qkv = torch.randn(2, tokens, 96, dtype=torch.float64, requires_grad=True)
    attention = Attention(embed_dim=32, num_heads=4)
    fused = F.scaled_dot_product_attention(*attention.heads(qkv)).transpose(1, 2).flatten(2)
    explicit = attention.attend(qkv)
    torch.testing.assert_close(explicit, fused)
    direction = torch.randn_like(explicit)
    ours, theirs = (torch.autograd.grad(out, qkv, direction) for out in (explicit, fused))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("tokens", "gradients", "frozen", "times"),
    [
        (50, True, False, 1),
        (50, False, False, 0),
        (50, True, True, 0),
        (17, True, False, 1),
        (17, False, False, 1),
    ],
)
def test_cpu_attention_is_for_gradients_and_few_tokens(tokens, gradients, frozen, times, monkeypatch):
    calls, apply = [], CPUAttention.apply
    monkeypatch.setattr(CPUAttention, "apply", lambda parts: calls.append(parts) or apply(parts))
    attention = Attention(embed_dim=32, num_heads=4)
    attention.qkv.requires_grad_(not frozen)
    with torch.set_grad_enabled(gradients):
        attention(torch.randn(2, tokens, 32))
    assert len(calls) == times


def test_the_gradient_of_cpu_attention_is_its_slope():
    parts = torch.randn(3, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(CPUAttention.apply, parts)
    assert torch.autograd.gradgradcheck(CPUAttention.apply, parts)


def test_cpu_attention_in_bf16_is_as_near_as_its_digits():
    parts = torch.randn(3, 32, 50, 24)
    exact = CPUAttention.apply(parts.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = CPUAttention.apply(parts.bfloat16())
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), exact, rtol=0, atol=0.03)


@pytest.mark.parametrize("more", [{}, dict(qkv_bias=False), dict(head_dim=10)])
def test_the_class_token_alone_gets_what_it_gets_among_the_others(more):
    attention = Attention(embed_dim=32, num_heads=4, **more).double()
    if attention.qkv.bias is not None:
        torch.nn.init.normal_(attention.qkv.bias)
    x = torch.randn(3, 7, 32, dtype=torch.float64, requires_grad=True)
    theirs = F.scaled_dot_product_attention(*attention.heads(attention.qkv(x)))
    theirs = attention.proj(theirs.transpose(1, 2).flatten(2))[:, :1]
    ours, direction = attention(x, class_only=True), torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs)
    of = [x, *attention.parameters()]
    torch.testing.assert_close(*(torch.autograd.grad(out, of, direction) for out in (ours, theirs)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = attention.float()(x.float(), class_only=True)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), theirs, rtol=0, atol=0.05)


def test_attention_can_be_differentiated_twice():
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    attention = Attention(8, 2).double()
    ours = twice(lambda x: attention(x).square().sum(), x)
    assert ours.abs().max() > 1e-3

    def by_pytorch(x):
        q, k, v = attention.heads(attention.qkv(x))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return attention.proj(out.transpose(1, 2).flatten(2)).square().sum()

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        torch.testing.assert_close(ours, twice(by_pytorch, x))


def twice(function, x):
    """The gradient of the sum of the squares of a function's gradient."""
    (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), x)[0]


def test_weights_are_fp32_whatever_autocast_says():
    attention = Attention(embed_dim=32, num_heads=4)
    recorded = []
    attention.observers.append(recorded.append)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention(torch.randn(2, 9, 32))
    assert recorded[0].dtype == torch.float32
    torch.testing.assert_close(recorded[0].sum(-1), torch.ones(2, 4, 9), rtol=0, atol=1e-6)


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match="embed_dim 30 is not divisible by num_heads 4"):
        Attention(30, 4)


@pytest.mark.parametrize(("gelu", "largest"), [("erf", 1e-6), ("tanh", 1e-6)])
def test_gelu_is_the_one_asked_for(gelu, largest):
    mlp = MLP(1, 1, gelu)
    x = torch.linspace(-4, 4, 81)
    erf = x * (1 + torch.erf(x / math.sqrt(2))) / 2
    tanh = x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    wanted, other = (erf, tanh) if gelu == "erf" else (tanh, erf)
    assert (mlp.act(x) - wanted).abs().max() < largest
    assert (mlp.act(x) - other).abs().max() > 4e-4


def test_block_is_torchs_pre_norm_encoder_layer():
    ours = Block(embed_dim=24, num_heads=3, mlp_dim=40)
    theirs = torch.nn.TransformerEncoderLayer(
        24, 3, 40, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "norm1": "norm1",
        "norm2": "norm2",
        "self_attn.out_proj": "attn.proj",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
        "self_attn.in_proj": "attn.qkv",
    }
    state = ours.state_dict()
    for their, our in names.items():
        join = "_" if their.endswith("in_proj") else "."
        for kind in ("weight", "bias"):
            theirs.state_dict()[f"{their}{join}{kind}"].copy_(state[f"{our}.{kind}"])
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x), theirs(x))


def test_tokens_only_meet_in_attention():
    """A permutation of the tokens permutes the output: the encoder itself knows no order."""
    encoder = Encoder(3, embed_dim=16, num_heads=2, mlp_dim=24).double()
    x, order = torch.randn(2, 6, 16, dtype=torch.float64), torch.randperm(6)
    torch.testing.assert_close(encoder(x)[:, order], encoder(x[:, order]))


def test_dropout_only_while_training():
    block = Block(embed_dim=16, num_heads=2, mlp_dim=24, dropout=0.5)
    x = torch.randn(2, 6, 16)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))
