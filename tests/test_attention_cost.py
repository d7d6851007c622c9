"""What maps keep while they are made, what a recording will take, and that neither changes a number."""

import copy
import itertools
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import vitlab
from vitlab import ViT, ViTConfig, attach, record_attention
from vitlab.attention import maps, recording_bytes, tracing
from vitlab.attention.reading import view_of
from vitlab.attention.watching import Watch

timm = pytest.importorskip("timm")

DEPTH, HEADS, TOKENS, IMAGES = 6, 3, 26, 4
SIZES = dict(embed_dim=24, depth=DEPTH, num_heads=HEADS, num_classes=5)
GRADIENT_MAPS = ("attention_gradient", "relevance")


def randomised(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def own():
    return randomised(ViT(ViTConfig(20, 4, in_chans=3, mlp_dim=48, **SIZES)))


def of_timm(**fields):
    sizes = dict(img_size=20, patch_size=4, mlp_ratio=2.0) | SIZES | fields
    return attach(randomised(timm.create_model("vit_tiny_patch16_224", **sizes)))


@pytest.fixture
def images():
    return torch.randn(IMAGES, 3, 20, 20, generator=torch.Generator().manual_seed(1))


class Squares(TorchDispatchMode):
    """How many numbers are at most held at once in tensors that end in (T, T), and the largest of these."""

    def __init__(self):
        super().__init__()
        self.held, self.most, self.largest = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, torch.Tensor) and each.shape[-2:] == (TOKENS, TOKENS) and not each.is_meta:
                storage = each.untyped_storage()
                self.held[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes() // each.itemsize)
                self.largest = max(self.largest, each.numel())
        self.held = {place: kept for place, kept in self.held.items() if not kept[0].expired()}
        self.most = max(self.most, sum(numbers for _, numbers in self.held.values()))
        return out


ONE = HEADS * TOKENS**2  # the weights of one image in one layer


@pytest.mark.parametrize("make", [own, of_timm])
@pytest.mark.parametrize("name", ["rollout", "class_attention", *GRADIENT_MAPS])
def test_no_map_holds_all_weights(make, images, name, monkeypatch):
    """One image at a time: a few matrices of all heads of one layer, and in a rollout one more a layer.

    Of a class token's row alone, none: the attention runs as it is.
    """
    monkeypatch.setitem(tracing.AT_ONCE, "cpu", 1)
    model = make()
    with Squares() as squares:
        made = maps.MAPS[name](model, images, 1)
    assert squares.largest == (0 if name == "class_attention" else ONE)
    assert squares.most <= 3 * ONE + DEPTH * TOKENS**2
    assert made.untyped_storage().nbytes() <= 4 * IMAGES * TOKENS  # a row, and no view of a matrix
    with Squares() as squares, record_attention(model) as record:
        view_of(model)(images)
    assert squares.most >= IMAGES * DEPTH * ONE == record.weights.numel()  # so are they counted


def loop_rollout(layers, fuse, discard):
    """(L, heads, T, T) of one image -> the first row of the product, with Python's numbers alone."""
    row = None
    for heads in reversed(layers.tolist()):
        tokens = range(len(heads[0]))
        fused = [[fuse([head[i][j] for head in heads]) for j in tokens] for i in tokens]
        smallest = sorted((fused[i][j], i, j) for i in tokens for j in tokens)
        for _, i, j in smallest[: int(len(tokens) ** 2 * discard)]:
            fused[i][j] = fused[i][j] if i == j == 0 else 0.0
        mixed = [[fused[i][j] / 2 + (i == j) / 2 for j in tokens] for i in tokens]
        mixed = [[value / sum(line) for value in line] for line in mixed]
        row = mixed[0] if row is None else [sum(row[i] * mixed[i][j] for i in tokens) for j in tokens]
    return torch.tensor(row, dtype=torch.float64)


@pytest.mark.parametrize("discard", [0.0, 0.6])
@pytest.mark.parametrize(
    ("fusion", "fuse"), [("mean", lambda v: sum(v) / len(v)), ("max", max), ("min", min)]
)
@pytest.mark.parametrize("at_once", [1, 10**9])
def test_rollout_is_the_definition(images, fusion, fuse, discard, at_once, monkeypatch):
    """In float64 from timm's own weights, and the model in fp32."""
    monkeypatch.setitem(tracing.AT_ONCE, "cpu", at_once)
    view = of_timm()
    model, kept = copy.deepcopy(view.model).double(), []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    with torch.no_grad():
        model(images.double())
    weights = torch.stack(kept, dim=1)  # (B, L, heads, T, T)
    expected = torch.stack([loop_rollout(image, fuse, discard)[1:] for image in weights])
    made = maps.rollout(view, images, head_fusion=fusion, discard_ratio=discard)
    torch.testing.assert_close(made.flatten(1).double(), expected, atol=1e-6, rtol=0)


# ------------------------------------------------------------------------------- gradients on the way back


@pytest.mark.parametrize("kind", ["plain", "causal", "hidden", "each image's", "bias"])
@pytest.mark.parametrize("at_once", [1, 10**9])
def test_remade_attention_by_differences(kind, at_once, monkeypatch):
    monkeypatch.setitem(tracing.AT_ONCE, "cpu", at_once)
    torch.manual_seed(0)
    given = [torch.randn(3, 2, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = {
        "hidden": (torch.rand(5, 5) > 0.4) | torch.eye(5).bool(),
        "each image's": torch.rand(3, 1, 5, 5) > 0.5,
        "bias": torch.randn(1, 2, 5, 5, dtype=torch.float64),
    }.get(kind)
    if kind == "each image's":
        mask[1, 0, 2] = False  # a query that may see nothing
    shown = {}

    def take(which, product):
        shown.update(zip(range(3)[which], product.clone(), strict=True))

    def attend(*parts):
        return tracing.RemadeAttention.apply(take, kind == "causal", 0.7, *parts, mask)

    causal = dict(is_causal=kind == "causal", scale=0.7)
    torch.testing.assert_close(attend(*given), F.scaled_dot_product_attention(*given, mask, **causal))
    assert torch.autograd.gradcheck(attend, given)
    pull = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    torch.autograd.grad(attend(*given), given, pull)
    q, k, v = (each.detach() for each in given)
    for b, h, i, j in itertools.product(range(3), range(2), range(5), range(5)):
        scores = [0.7 * float(q[b, h, i] @ k[b, h, n]) for n in range(5)]
        if kind == "bias":
            scores = [score + float(mask[0, h, i, n]) for n, score in enumerate(scores)]
        sees = [n <= i for n in range(5)] if kind == "causal" else [True] * 5
        if kind in ("hidden", "each image's"):
            sees = mask[i].tolist() if kind == "hidden" else mask[b, 0, i].tolist()
        powers = [2.718281828459045**score * seen for score, seen in zip(scores, sees, strict=True)]
        weight = powers[j] / sum(powers) if any(sees) else 0.0
        assert float(shown[b][h, i, j]) == pytest.approx(weight * float(pull[b, h, i] @ v[b, h, j]), abs=1e-9)


@pytest.mark.parametrize("name", [*GRADIENT_MAPS, "input_gradient"])
def test_parameters_learn_afterwards_as_before(images, name):
    model = own()
    model.head.weight.requires_grad_(False)
    before = [parameter.requires_grad for parameter in model.parameters()]
    maps.MAPS[name](model, images)
    with pytest.raises(ValueError, match="one number an image"):
        maps.MAPS[name](model, images, lambda logits: logits)
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert not any(block.attn.visible for block in model.blocks)


@pytest.mark.parametrize("name", GRADIENT_MAPS)
def test_attention_without_gradients_is_refused(images, name):
    """A block under `no_grad`, as one inside reentrant checkpointing is: its map would be another's."""
    view = of_timm()
    last = view.model.blocks[-1]
    last.forward = torch.no_grad()(last.forward)
    with pytest.raises(ValueError, match="attention of layer 5 runs where gradients are off"):
        maps.MAPS[name](view, images, 1)


def test_a_hook_leaves_no_weights_behind(images):
    """Of a model that makes its weights itself."""
    view = of_timm()
    for block in view.model.blocks:
        block.attn.fused_attn = False
    with Squares() as squares:
        maps.relevance(view, images, 1)
        torch.zeros(TOKENS, TOKENS)
    assert sum(numbers for _, numbers in squares.held.values()) == TOKENS**2


# ------------------------------------------------------------------------------------ pictures and bytes


def test_occlusion_goes_in_groups(images, monkeypatch):
    view, sizes = of_timm(), []
    view.model.register_forward_pre_hook(lambda model, args: sizes.append(len(args[0])))
    labels = torch.tensor([0, 4, 2, 2])

    def own_class(logits):
        return logits.gather(1, labels[:, None])[:, 0]  # of all images, whichever squares are hidden

    together = maps.occlusion(view, images, own_class, window=2)
    assert sizes == [4, 9 * 4]
    monkeypatch.setitem(tracing.AT_ONCE, "cpu", 1)
    one_by_one = maps.occlusion(view, images, own_class, window=2)
    assert sizes[2:] == [4] + [4] * 9
    torch.testing.assert_close(together, one_by_one, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rows", ["all", "class"])
@pytest.mark.parametrize("fields", [{}, dict(reg_tokens=2), dict(global_pool="map", class_token=False)])
def test_a_views_recording_takes_the_bytes_it_says(images, fields, rows):
    view = of_timm(**fields)
    if rows == "class" and view.reads == "attention":
        with pytest.raises(ValueError, match="no class token"):
            recording_bytes(view, IMAGES, rows=rows)
        return
    with record_attention(view, [0, -1], rows=rows) as record, torch.no_grad():
        view(images)
    kept = [each for layers in record.passes.values() for passes in layers for each in passes]
    assert sum(each.nbytes for each in kept) == recording_bytes(view, IMAGES, [0, -1], rows=rows)
    assert recording_bytes(view.model, IMAGES) == recording_bytes(view, IMAGES)
    with pytest.raises(ValueError, match="also is for vitlab's own"):
        recording_bytes(view, IMAGES, also=["keys"])


def test_an_own_models_view_takes_as_much_as_the_model():
    model = own()
    for given in (dict(), dict(also=["keys"]), dict(rows="class", layers=[-1])):
        assert recording_bytes(vitlab.attach(model), 3, **given) == recording_bytes(model, 3, **given)


@pytest.mark.parametrize("fused", [True, False])
def test_without_gradients_no_layer_s_weights_outlive_it(fused, monkeypatch):
    """All that is left of a pass are the rows that were asked for, even while the recording is open."""
    view, images, made = of_timm(), torch.randn(IMAGES, 3, 20, 20), []
    for block in view.model.blocks:
        block.attn.fused_attn = fused
    see = Watch.see

    def watched(self, seen):
        assert not any(weights() is not None for weights in made)  # those of the layers before
        made.append(weakref.ref(seen.weights))
        see(self, seen)

    monkeypatch.setattr(Watch, "see", watched)
    with torch.no_grad(), record_attention(view, rows="class") as record:
        view(images)
        assert len(made) == DEPTH
        assert not any(weights() is not None for weights in made)
    assert record.weights.shape[-2] == 1
    assert not record.weights.requires_grad
    monkeypatch.undo()
    with record_attention(view, rows="class") as record:  # asked for, they are there to go back through
        view(images)
        assert all(passes[0].requires_grad for passes in record.layers)
