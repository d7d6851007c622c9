"""What others do with a model: `torch.func`, export, tracing, ONNX, hooks, copies; against plain autograd."""

import copy
import io

import onnxruntime
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from vitlab import ViT, ViTConfig, record_attention

SMALL = dict(image_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_dim=24, num_classes=3)


@pytest.fixture(
    params=[dict(), dict(pool="mean"), dict(pos_embed="rope2d")], ids=["class token", "mean", "rotary"]
)
def model(request) -> ViT:
    torch.manual_seed(0)
    model = ViT(ViTConfig(**SMALL | request.param)).double().eval()
    nn.init.normal_(model.head.weight)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def slope(model, images, k=0):
    """The gradient of the sum of the k-th logits by plain autograd."""
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, k].sum(), leaf)[0]


def test_func_grad(model, images):
    torch.testing.assert_close(grad(lambda x: model(x)[:, 0].sum())(images), slope(model, images))


def test_vmap_of_grad_gives_each_images_own_gradients(model, images):
    def loss(parameters, image):
        return functional_call(model, parameters, (image[None],)).square().sum()

    each = vmap(grad(loss), (None, 0))(dict(model.named_parameters()), images)
    for i, image in enumerate(images):
        model.zero_grad()
        model(image[None]).square().sum().backward()
        for name, p in model.named_parameters():
            expected = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(each[name][i], expected, msg=name)


@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians(jacobian, model, images):
    found = jacobian(lambda x: model(x[None])[0])(images[0])  # (classes, C, H, W)
    for k in range(3):
        torch.testing.assert_close(found[k], slope(model, images[:1], k)[0])


def test_jvp_and_forward_mode(model, images):
    direction = torch.ones_like(images)
    expected = torch.stack([(slope(model, images, k) * direction).flatten(1).sum(1) for k in range(3)], dim=1)
    torch.testing.assert_close(jvp(model, (images,), (direction,))[1], expected)
    with torch.autograd.forward_ad.dual_level():
        dual = model(torch.autograd.forward_ad.make_dual(images, direction))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, expected)


def test_second_derivatives(model, images):
    def logit(pixels):
        return model(pixels.view(1, 1, 8, 8))[0, 0]

    pixels = images[0].flatten()
    found = hessian(logit)(pixels)
    torch.testing.assert_close(found, torch.autograd.functional.hessian(logit, pixels))
    step, row = 1e-5, 20
    ahead, behind = (
        pixels.index_add(0, torch.tensor([row]), torch.tensor([s * step]).double()) for s in (1, -1)
    )
    slopes = [slope(model, p.view(1, 1, 8, 8)).flatten() for p in (ahead, behind)]
    torch.testing.assert_close(found[row], (slopes[0] - slopes[1]) / (2 * step), rtol=1e-5, atol=1e-8)


def test_export_with_a_batch_of_any_size(model, images):
    model = model.float()
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(model, (images.float(),), dynamic_shapes=(batch,))
    for n in (1, 2, 7):
        some = torch.randn(n, 1, 8, 8)
        torch.testing.assert_close(program.module()(some), model(some))


@pytest.mark.filterwarnings("ignore:.*(torch.jit|trace|Tracer).*")
def test_jit_trace(model, images, tmp_path):
    torch.jit.trace(model, images).save(tmp_path / "traced.pt")
    traced = torch.jit.load(tmp_path / "traced.pt")
    torch.testing.assert_close(traced(images.flip(0)), model(images.flip(0)))
    with torch.no_grad():
        some = torch.randn(5, 1, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(traced(some), model(some))


@pytest.mark.filterwarnings("ignore:.*(torch.jit|trace|Tracer).*")
def test_jit_trace_in_bf16_needs_autocast_without_its_cache_as_any_model_does(model, images):
    """PyTorch's autocast keeps rounded weights, which a trace takes for constants and refuses.

    Nor does it trace where autocast is off, as for our head: traced logits are rounded, too.
    """
    model, images = model.float(), images.float()
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    for each in (plain, model):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            traced = torch.jit.trace(each, images)
            got, wanted = traced(images.flip(0)), each(images.flip(0))
            torch.testing.assert_close(got.float(), wanted.float(), rtol=0.05, atol=0.05)
    for each in (plain, model):
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="requires grad as a"):
            torch.jit.trace(each, images)


@pytest.mark.filterwarnings("ignore")
def test_onnx_with_a_batch_of_any_size(model, images, tmp_path):
    model, batch = model.float(), {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.onnx.export(model, (images.float(),), dynamo=True, dynamic_shapes=(batch,), verbose=False)
    program.save(tmp_path / "vit.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "vit.onnx", providers=["CPUExecutionProvider"])
    for n in (1, 5):
        some = torch.randn(n, 1, 8, 8)
        (found,) = session.run(None, {session.get_inputs()[0].name: some.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model(some).detach(), rtol=1e-4, atol=1e-5)


def test_compiled_whole(model, images):
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


WATCHED = ["blocks", "norm", "blocks.1", *(f"blocks.1.{part}" for part in ("norm1", "attn", "norm2", "mlp"))]
WATCHED += [
    "blocks.1.attn.qkv",
    "blocks.1.attn.proj",
    "blocks.1.mlp.fc1",
    "blocks.1.mlp.act",
    "blocks.1.mlp.fc2",
]


@pytest.mark.parametrize("name", WATCHED)
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_get_all_tokens(name, kind, model, images):
    """What captum, Grad-CAM tools and feature extractors attach: each must see T = 1 + 4 tokens, or 4."""
    seen, plain = [], model(images)
    part = model.get_submodule(name)
    register = getattr(part, f"register_{kind}_hook")
    handle = register(lambda module, *given: seen.append(given[-1]))
    out = model(images)
    out.sum().backward()
    torch.testing.assert_close(out, plain)
    tensor = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    assert tensor.shape[:2] == (3, model.config.num_tokens)
    handle.remove()
    torch.testing.assert_close(model(images), plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", WATCHED)
@pytest.mark.parametrize("low", [False, True], ids=["exact", "bf16"])
def test_a_forward_that_somebody_has_put_in_place_is_called(name, low, model, images):
    """What tools that know no hooks do: no shortcut leads past it, and it gets all tokens."""
    model, images, seen = model.float(), images.float(), []
    part = model.get_submodule(name)
    inner = part.forward
    part.forward = lambda *given, **options: seen.append(given[0]) or inner(*given, **options)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        model(images)
    assert seen[0].shape[:2] == (3, model.config.num_tokens)


class MeanOfPatches(ViT):
    def pool(self, tokens):
        return tokens[:, 1:].mean(dim=1)


def test_a_pooling_of_ones_own_gets_all_tokens(images):
    model = MeanOfPatches(ViTConfig(**SMALL)).double()
    nn.init.normal_(model.head.weight)
    right = model.head(model.forward_features(images)[:, 1:].mean(dim=1))
    torch.testing.assert_close(model(images), right)
    plain = ViT(model.config).double()
    plain.load_state_dict(model.state_dict())
    plain.pool = model.pool
    torch.testing.assert_close(plain(images), right)


def test_a_hook_sees_what_the_layer_makes_of_all_tokens(model, images):
    tokens = model.embed(images)
    for block in model.blocks:
        tokens = tokens + block.attn(block.norm1(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens))
    seen = []
    model.blocks[-1].register_forward_hook(lambda module, given, out: seen.append(out))
    model(images)
    torch.testing.assert_close(seen[0], tokens)


class LowRank(nn.Module):
    """A layer with something of the reader's own added, as LoRA has it."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer, self.weight, self.bias = layer, layer.weight, layer.bias
        self.down, self.up = nn.Linear(16, 2, bias=False), nn.Linear(2, layer.out_features, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


@pytest.mark.parametrize("bf16", [False, True])
def test_a_layer_of_ones_own_in_the_last_block_counts(bf16, model, images):
    """The shortcut for the class token would read the weight and never call the layer."""
    model = model.float()
    attention = model.blocks[-1].attn
    attention.qkv = LowRank(attention.qkv)
    expected = ViT(model.config).eval()
    expected.load_state_dict({n: p for n, p in model.state_dict().items() if n in expected.state_dict()})
    with torch.no_grad():
        added = attention.qkv.up.weight @ attention.qkv.down.weight
        expected.blocks[-1].attn.qkv.weight += added
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            torch.testing.assert_close(
                model(images.float()), expected(images.float()), rtol=0, atol=0.2 if bf16 else 1e-4
            )


def test_a_weight_that_is_made_anew_in_each_pass_is_made(model, images):
    nn.utils.parametrizations.spectral_norm(model.blocks[-1].attn.qkv)
    model.eval()
    out = model(images)
    twin = copy.deepcopy(model)
    nn.utils.parametrize.remove_parametrizations(twin.blocks[-1].attn.qkv, "weight")
    torch.testing.assert_close(out, twin(images))


@pytest.mark.parametrize("also", [[], ["queries", "block_outputs"]])
def test_a_copy_made_while_recording_is_not_recorded(also, model, images):
    with record_attention(model, also=also) as record:
        logits = model(images)
        twin = copy.deepcopy(model)
        torch.testing.assert_close(twin(images), logits)
        stored = io.BytesIO()
        torch.save(twin.state_dict(), stored)
    assert record.weights.shape[1] == 3  # the images of one pass, not of two
    assert not any(block.attn.observers for block in twin.blocks)
    torch.testing.assert_close(twin(images), model(images))
    with record_attention(twin) as another:
        twin(images)
    torch.testing.assert_close(another.weights, record.weights)
