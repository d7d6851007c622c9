"""Interventions against weights edited by hand, and against slow loops; of other libraries against theirs."""

import copy

import pytest
import torch
from torch import nn

from vitlab import ViT, ViTConfig, attach, record_attention
from vitlab.attention import attention_rollout, intervene, maps

SIZES = dict(image_size=(8, 12), patch_size=4, embed_dim=12, depth=3, num_heads=2, mlp_dim=16, num_classes=5)
GRID = (2, 3)


def drawn(model):
    """A model with weights far from zero."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval().requires_grad_(False)


def own(**fields):
    return drawn(ViT(ViTConfig(**(SIZES | fields))))


@pytest.fixture
def images():
    return torch.randn(2, 1, 8, 12, generator=torch.Generator().manual_seed(1))


def state(model):
    """All that could be left behind: values bit for bit, hooks, and what modules hold."""
    values = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), m.training, sorted(map(str, vars(m))))
        for m in model.modules()
    ]
    flags = [(getattr(m, "visible", None), len(getattr(m, "observers", ()))) for m in model.modules()]
    return values, hooks, flags


def assert_untouched(model, before):
    values, *rest = state(model)
    assert all(torch.equal(values[name], before[0][name]) for name in before[0])
    assert tuple(rest) == before[1:]
    assert torch.overrides._get_current_function_mode_stack() == []


# --- heads ------------------------------------------------------------------------------------------------


def without_heads(model, heads, width):
    """A copy whose projections have zeros where these heads come in."""
    edited = copy.deepcopy(model)
    for layer, number in heads:
        edited.blocks[layer].attn.proj.weight[:, number * width : (number + 1) * width] = 0
    return edited


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ({1: 0}, [(1, 0)]),
        ({1: [1], -1: [0]}, [(1, 1), (2, 0)]),
        ([(0, 0), (0, 1)], [(0, 0), (0, 1)]),
        ({0: [0, 1], 2: [1]}, [(0, 0), (0, 1), (2, 1)]),
        ({}, []),
    ],
)
@pytest.mark.parametrize("fields", [{}, dict(pool="mean"), dict(head_dim=5), dict(qkv_bias=False)])
def test_heads_are_columns_of_the_projection(images, given, pairs, fields):
    model = own(**fields)
    before, plain = state(model), model(images)
    expected = without_heads(model, pairs, model.blocks[0].attn.head_dim)(images)
    with intervene(model, heads=given):
        torch.testing.assert_close(model(images), expected)
        torch.testing.assert_close(model.pool(model.forward_features(images)).shape, (2, 12))
    assert_untouched(model, before)
    assert torch.equal(model(images), plain)


def test_a_removed_head_is_recorded_as_zeros_and_others_as_they_are_then(images):
    model = own()
    other = without_heads(model, [(0, 1)], 6)
    with record_attention(other) as edited:
        other(images)
    with intervene(model, heads={0: 1}), record_attention(model) as inside:
        model(images)
    with record_attention(model) as outside, intervene(model, heads={0: 1}):
        model(images)
    for record in (inside, outside):
        assert (record.weights[0, :, 1] == 0).all()
        torch.testing.assert_close(record.weights[0, :, 0], edited.weights[0, :, 0])
        torch.testing.assert_close(record.weights[1:], edited.weights[1:])


def test_gradients_of_a_removed_head_are_zero(images):
    model = own().requires_grad_()
    with intervene(model, heads={1: 0}):
        model(images).sum().backward()
    rows = model.blocks[1].attn.qkv.weight.grad.unflatten(0, (3, 2, 6))
    assert (rows[:, 0] == 0).all()
    assert (rows[:, 1] != 0).any()


@pytest.mark.parametrize("name", ["rollout", "class_attention", "attention_gradient", "relevance"])
def test_maps_are_of_the_changed_model(images, name):
    """Attention × gradient of a removed head is zero, and the others' are those of the edited model."""
    model = own()
    with intervene(model, heads={2: 0, 0: 1}):
        found = maps.MAPS[name](model, images, 1)
    edited = without_heads(model, [(2, 0), (0, 1)], 6)
    with record_attention(edited) as record:
        edited(images)
    weights = record.weights.clone()
    weights[2, :, 0] = weights[0, :, 1] = 0
    if name == "rollout":
        expected = attention_rollout(weights)[:, 0, 1:]
    elif name == "class_attention":
        expected = weights[2].mean(1)[:, 0, 1:]
    else:
        expected = maps.MAPS[name](edited, images, 1).flatten(1)  # columns of zeros: no gradient either
    torch.testing.assert_close(found.flatten(1), expected)


# --- blocks, patches, positions, the class token's view, a donor -------------------------------------------


@pytest.mark.parametrize("blocks", [0, [1], [-1], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("fields", [{}, dict(pool="mean")])
def test_a_skipped_block_is_the_identity(images, blocks, fields):
    model = own(**fields)
    skipped = {each % 3 for each in ([blocks] if isinstance(blocks, int) else blocks)}
    x = model.embed(images)
    for number, block in enumerate(model.blocks):
        x = x if number in skipped else block(x)
    expected, before = model.head(model.pool(model.norm(x))), state(model)
    with intervene(model, blocks=blocks):
        torch.testing.assert_close(model(images), expected)
        with record_attention(model) as record:
            model(images)
        rolled = maps.rollout(model, images)
        related = maps.relevance(model, images, 0)
    assert_untouched(model, before)
    tokens = record.weights.shape[-1]
    for layer in skipped:
        assert torch.equal(record.weights[layer], torch.eye(tokens).expand(2, 2, tokens, tokens))
    joint = torch.eye(tokens).expand(2, tokens, tokens)
    for layer in sorted({0, 1, 2} - skipped):
        joint = (record.weights[layer].mean(1) + torch.eye(tokens)) / 2 @ joint
    row = joint.mean(1) if fields else joint[:, 0, 1:]
    torch.testing.assert_close(rolled.flatten(1), row)
    assert related.isfinite().all()


def test_covered_patches_are_grey(images):
    model, covered = own(), images.clone()
    covered[:, :, 0:4, 8:12] = 0  # patch 2
    covered[:, :, 4:8, 0:4] = 0  # patch 3
    with intervene(model, patches=[3, 2]):
        assert torch.equal(model(images), model(covered))
        assert torch.equal(model.forward_features(images), model.forward_features(covered))


def test_unseen_patches_have_no_weight_and_the_rest_is_divided_by_its_sum(images):
    model, unseen = own(), [1, 4]
    with intervene(model, unseen=unseen), record_attention(model, also=["values"]) as record:
        logits = model(images)
    x = model.embed(images)
    for layer, block in enumerate(model.blocks):  # by hand: zero, and divide
        qkv = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, 2, 6))
        out = torch.zeros(2, 7, 12)
        for image in range(2):
            for head in range(2):
                q, k, v = (qkv[image, :, part, head] for part in range(3))
                weights = (q @ k.T / 6**0.5).softmax(-1)
                for patch in unseen:
                    weights[0, 1 + patch] = 0
                weights[0] /= weights[0].sum()
                torch.testing.assert_close(record.weights[layer, image, head], weights)
                out[image, :, head * 6 : head * 6 + 6] = weights @ v
        x = x + block.attn.proj(out)
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(logits, model.head(model.norm(x)[:, 0]))


@pytest.mark.parametrize("rows", [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("fields", [{}, dict(pool="mean"), dict(pos_embed="sincos2d")])
def test_swapped_rows_are_those_of_the_table(images, rows, fields):
    model = own(**fields)
    edited, first = copy.deepcopy(model), int(fields.get("pool") != "mean")
    table = model.pos_embed[0]
    one, other = (slice(first + row * 3, first + row * 3 + 3) for row in rows)
    edited.pos_embed[0, one], edited.pos_embed[0, other] = table[other], table[one]
    before = state(model)
    with intervene(model, swap_rows=rows):
        torch.testing.assert_close(model(images), edited(images))
    assert_untouched(model, before)


@pytest.mark.parametrize("tokens", [None, [0], [0, 3, 6], 2])
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_a_donors_tokens_take_the_place(images, layer, tokens):
    model, donor = own(), torch.randn(1, 8, 12, generator=torch.Generator().manual_seed(2))
    own_tokens, given = model.embed(images), model.embed(donor[None])
    for number, block in enumerate(model.blocks):
        if number == layer % 3:
            for token in range(7) if tokens is None else [tokens] if isinstance(tokens, int) else tokens:
                own_tokens[:, token] = given[0, token]
        own_tokens, given = block(own_tokens), block(given)
    with intervene(model, donor=donor, donor_layer=layer, donor_tokens=tokens):
        torch.testing.assert_close(model(images), model.head(model.norm(own_tokens)[:, 0]))
    with intervene(model, donor=images.flip(0), donor_layer=layer):  # one donor for each image
        swapped = model(images)
    torch.testing.assert_close(swapped, model(images).flip(0))


def test_everything_at_once_is_each_in_turn(images):
    model = own()
    edited = without_heads(model, [(1, 1)], 6)
    covered = images.clone()
    covered[:, :, :4, :4] = 0
    with intervene(model, heads={1: 1}, patches=0, unseen=[2]):
        together = model(images)
    with intervene(model, heads={1: 1}), intervene(model, unseen=2), intervene(model, patches=0):
        nested = model(images)
    with intervene(edited, unseen=2):
        expected = edited(covered)
    torch.testing.assert_close(together, expected)
    torch.testing.assert_close(nested, expected)


# --- nothing is left behind --------------------------------------------------------------------------------

ALL = dict(heads={0: 0}, blocks=1, patches=0, unseen=1, swap_rows=(0, 1), donor_layer=2, donor_tokens=[0])


def test_nothing_is_left_behind_after_an_error(images):
    model = own()
    before, plain = state(model), model(images)

    def stops():
        with intervene(model, donor=images[0], **ALL):
            model(images)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stops()
    assert_untouched(model, before)

    def broken(*_):
        raise RuntimeError("inside")

    for part in (model.blocks[0].attn, model.blocks[1].mlp, model.blocks[2], model.norm):
        handle = part.register_forward_hook(broken)
        with (
            pytest.raises(RuntimeError, match="inside"),
            intervene(model, heads={0: 0}, blocks=1, unseen=1),
        ):
            model(images)
        handle.remove()
        assert_untouched(model, before)
    assert torch.equal(model(images), plain)


def test_nested_contexts_end_in_any_order(images):
    model = own()
    before = state(model)
    outer, inner = intervene(model, heads={0: 0}), intervene(model, heads={1: 1})
    outer.__enter__(), inner.__enter__()
    outer.__exit__(None, None, None)
    torch.testing.assert_close(model(images), without_heads(model, [(1, 1)], 6)(images))
    inner.__exit__(None, None, None)
    assert_untouched(model, before)


def test_a_copy_made_inside_is_the_whole_model(images):
    model = own()
    plain = model(images)
    with intervene(model, heads={0: 0}, blocks=2, unseen=0, patches=0):
        copied = copy.deepcopy(model)
    torch.testing.assert_close(copied(images), plain)


def test_modes_and_gradients_stay(images):
    model = own().requires_grad_().train()
    before = state(model)
    with intervene(model, donor=images[0], **ALL):
        model(images)
        assert model.training
    assert_untouched(model, before)
    assert all(each.grad is None and each.requires_grad for each in model.parameters())


def test_bf16(images):
    model = own()
    with torch.autocast("cpu", torch.bfloat16):
        with intervene(model, heads={1: 0}):
            found = model(images)
        expected = without_heads(model, [(1, 0)], 6)(images)
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.1)


# --- other libraries ---------------------------------------------------------------------------------------


def timm_model(fused=True, **fields):
    import timm

    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        embed_dim=12,
        depth=3,
        num_heads=2,
        num_classes=5,
        **fields,
    )
    for block in model.blocks:
        block.attn.fused_attn = fused
    return drawn(model)


def transformers_model(implementation="sdpa"):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        num_labels=5,
        attn_implementation=implementation,
    )
    return drawn(transformers.ViTForImageClassification(config))


def torchvision_model():
    from torchvision.models import VisionTransformer

    return drawn(VisionTransformer(32, 8, 3, 2, 12, 16, num_classes=5))


def vit_pytorch_model():
    from vit_pytorch import ViT as Theirs

    return drawn(
        Theirs(image_size=32, patch_size=8, num_classes=5, dim=12, depth=3, heads=2, mlp_dim=16, dim_head=6)
    )


def seen(model):
    """A view, with what vit-pytorch does not say."""
    return attach(model, image_size=32) if "vit_pytorch" in type(model).__module__ else attach(model)


def their_projection(model, layer):
    """The matrix after the heads of a layer of each library's model."""
    kind = type(model).__module__.partition(".")[0]
    if kind == "timm":
        return model.blocks[layer].attn.proj.weight
    if kind == "torchvision":
        return model.encoder.layers[layer].self_attention.out_proj.weight
    if kind == "vit_pytorch":
        return model.transformer.layers[layer][0].to_out[0].weight
    named = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.shape == (12, 12) and ("attention.output.dense" in name or "o_proj" in name)
    ]
    return named[layer]


LIBRARIES = {
    "timm": timm_model,
    "timm in the open": lambda: timm_model(fused=False),
    "transformers": transformers_model,
    "transformers eager": lambda: transformers_model("eager"),
    "torchvision": torchvision_model,
    "vit-pytorch": vit_pytorch_model,
}


@pytest.fixture(params=LIBRARIES)
def theirs(request):
    return LIBRARIES[request.param]()


@pytest.fixture
def colours():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def test_heads_of_other_libraries_are_columns_of_their_projections(theirs, colours):
    view, before = seen(theirs), state(theirs)
    edited = copy.deepcopy(theirs)
    their_projection(edited, 0)[:, :6] = 0
    their_projection(edited, 2)[:, 6:] = 0
    plain, expected = view(colours), seen(edited)(colours)
    assert (expected - plain).abs().max() > 1e-3
    with intervene(view, heads={0: 0, 2: 1}):
        torch.testing.assert_close(view(colours), expected)
        with record_attention(view) as record:
            torch.testing.assert_close(view(colours), expected)
        made = maps.relevance(view, colours, 1) if view.reads else None
    with record_attention(view) as outside, intervene(view, heads={0: 0, 2: 1}):
        view(colours)
    for each in (record, outside):
        assert (each.weights[0, :, 0] == 0).all()
        assert (each.weights[2, :, 1] == 0).all()
        torch.testing.assert_close(each.weights[1].sum(-1), torch.ones(2, 2, 17))
    torch.testing.assert_close(record.weights, outside.weights)
    torch.testing.assert_close(made, maps.relevance(seen(edited), colours, 1))
    assert_untouched(theirs, before)
    assert torch.equal(view(colours), plain)


def blocks_of(model):
    kind = type(model).__module__.partition(".")[0]
    if kind == "timm":
        return model, "blocks"
    if kind == "torchvision":
        return model.encoder, "layers"
    inner = model.vit.encoder if hasattr(model.vit, "encoder") else model.vit
    return inner, "layer" if hasattr(inner, "layer") else "layers"


def test_skipped_blocks_of_other_libraries_are_models_without_them(theirs, colours):
    view = seen(theirs)
    if "vit_pytorch" in type(theirs).__module__:
        with pytest.raises(
            ValueError, match="lists of parts, which nobody calls as one: none can be skipped"
        ):
            intervene(view, blocks=1).__enter__()
        return
    edited = copy.deepcopy(theirs)
    holder, name = blocks_of(edited)
    kept = [block for number, block in enumerate(getattr(holder, name)) if number != 1]
    kind = type(getattr(holder, name))
    setattr(holder, name, kind(*kept) if kind is nn.Sequential else kind(kept))
    with intervene(view, blocks=1):
        found = view(colours)
        with record_attention(view) as record:
            view(colours)
        maps.relevance(view, colours, 1)
    out = edited(colours)
    torch.testing.assert_close(found, out if isinstance(out, torch.Tensor) else out.logits)
    assert torch.equal(record.weights[1], torch.eye(17).expand(2, 2, 17, 17))


def test_what_the_class_token_of_other_libraries_does_not_see(theirs, colours):
    view = seen(theirs)
    with intervene(view, unseen=[3, 5]), record_attention(view) as record:
        found = view(colours)
    with record_attention(view) as plain:
        view(colours)
    whole, row = plain.weights[0, :, :, 0].clone(), record.weights[0, :, :, 0]
    whole[..., [4, 6]] = 0
    torch.testing.assert_close(row, whole / whole.sum(-1, keepdim=True))
    torch.testing.assert_close(record.weights[0, :, :, 1:], plain.weights[0, :, :, 1:])
    assert (record.weights[:, :, :, 0, [4, 6]] == 0).all()
    assert (found - view(colours)).abs().max() > 1e-4


def test_covered_patches_of_other_libraries(theirs, colours):
    view, covered = seen(theirs), colours.clone()
    grey = 0.0
    if view.mean is not None:
        grey = ((0.5 - torch.tensor(view.mean)) / torch.tensor(view.std))[:, None, None]
    covered[:, :, 8:16, 16:24] = grey  # patch 6 of 4 x 4
    with intervene(view, patches=6):
        torch.testing.assert_close(view(colours), view(covered))


def test_swapped_rows_of_other_libraries(theirs, colours):
    view = seen(theirs)
    if "vit_pytorch" in type(theirs).__module__:
        with pytest.raises(ValueError, match="position embeddings cannot be swapped"):
            intervene(view, swap_rows=(0, 1)).__enter__()
        return
    edited = copy.deepcopy(theirs)
    names = ("pos_embed", "pos_embedding", "position_embeddings")
    (table,) = [p for name, p in edited.named_parameters() if name.endswith(names) and p.shape == (1, 17, 12)]
    kept = table.clone()
    table[0, 1:5], table[0, 13:17] = kept[0, 13:17], kept[0, 1:5]
    with intervene(view, swap_rows=(0, 3)):
        torch.testing.assert_close(view(colours), seen(edited)(colours))


def test_a_donor_of_other_libraries(theirs, colours):
    view = seen(theirs)
    if "vit_pytorch" in type(theirs).__module__:
        with pytest.raises(ValueError, match="other tokens cannot be put into it"):
            intervene(view, donor=colours[0], donor_layer=1).__enter__()
        return
    with intervene(view, donor=colours[0], donor_layer=1):
        found = view(colours)
    torch.testing.assert_close(found, view(colours[:1]).expand(2, -1))
    with intervene(view, donor=colours[0], donor_layer=2, donor_tokens=range(1, 17)):
        partly = view(colours)
    assert (partly[1] - view(colours)[1]).abs().max() > 1e-4
    torch.testing.assert_close(partly[0], view(colours)[0])


def test_rotary_positions_are_refused():
    import timm

    model = timm.create_model(
        "vit_small_patch16_rope_224", img_size=64, embed_dim=24, depth=2, num_heads=2, num_classes=3
    )
    with pytest.raises(ValueError, match="tells positions inside its attention"):
        intervene(attach(model), swap_rows=(0, 1)).__enter__()


def test_a_model_without_a_view_is_attached(colours):
    model = timm_model()
    with intervene(model, heads={0: 0}):
        found = model(colours)
    torch.testing.assert_close(found, without_heads(model, [(0, 0)], 6)(colours))


# --- what is not there -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(heads={0: 2}), "a head of layer 0 is a whole number from 0 to 1; got 2, the nearest is 1"),
        (dict(heads={3: 0}), "a layer is a whole number from 0 to 2, or -1 to -3 from the end; got 3"),
        (dict(heads=[0, 1]), r"pairs \(layer, head\); got \[0, 1\]"),
        (dict(heads=[(0, True)]), "a head of layer 0 is a whole number from 0 to 1; got True"),
        (dict(heads={0: "1"}), "got '1'"),
        (dict(blocks=-4), "a block is a whole number from 0 to 2, or -1 to -3 from the end; got -4"),
        (dict(blocks=1.5), "got 1.5"),
        (dict(patches=6), "a patch is a whole number from 0 to 5; got 6, the nearest is 5"),
        (dict(patches=-1), "got -1, the nearest is 0"),
        (dict(patches=torch.ones(6, dtype=torch.bool)), "got a mask"),
        (dict(unseen=[9]), "a patch is a whole number from 0 to 5; got 9"),
        (dict(swap_rows=(0, 2)), "a row of the grid is a whole number from 0 to 1; got 2"),
        (dict(swap_rows=1), "two rows of the grid"),
        (dict(donor_layer=1), "go with a donor"),
        (dict(donor=torch.zeros(1, 8, 12)), "say at which block the donor's tokens come in: donor_layer"),
        (dict(donor=torch.zeros(1, 8, 12), donor_layer=3), "a donor_layer is a whole number from 0 to 2"),
        (dict(donor=torch.zeros(1, 8, 8), donor_layer=0), "this model takes"),
        (
            dict(donor=torch.zeros(1, 8, 12), donor_layer=0, donor_tokens=[7]),
            "a token is a whole number from 0 to 6; got 7",
        ),
    ],
)
def test_wrong_values_are_named(given, said):
    model = own()
    before = state(model)
    with pytest.raises(ValueError, match=said):
        intervene(model, **given).__enter__()
    assert_untouched(model, before)


def test_what_a_model_has_not(images):
    with pytest.raises(ValueError, match="reads mean, no class token"):
        intervene(own(pool="mean"), unseen=0).__enter__()
    with pytest.raises(ValueError, match="no position embeddings"):
        intervene(own(pos_embed="none"), swap_rows=(0, 1)).__enter__()
    model = own()
    with (
        pytest.raises(ValueError, match="one for each of 3; got 2"),
        intervene(model, donor=images, donor_layer=0),
    ):
        model(torch.zeros(3, 1, 8, 12))


def test_a_block_that_is_gone_around_is_told(images, monkeypatch):
    model = own()
    around = lambda x, class_only=False: model.blocks[2](model.blocks[1](x))  # noqa: E731
    monkeypatch.setattr(model.blocks, "forward", around)
    with pytest.raises(ValueError, match="block 0 of ViT did not take part"), intervene(model, heads={0: 0}):
        model(images)


def test_without_its_last_block_the_head_reads_the_class_token_that_entered_it():
    torch.manual_seed(0)
    model = ViT(ViTConfig(depth=2, embed_dim=24, num_heads=2, mlp_dim=40)).eval()
    torch.nn.init.normal_(model.head.weight)
    images = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        wanted = model.head(model.norm(model.blocks[0](model.embed(images)))[:, 0])
        with intervene(model, blocks=[1]):
            torch.testing.assert_close(model(images), wanted)
            entering = model.blocks[0](model.embed(images))
            torch.testing.assert_close(model.blocks[1](entering, class_only=True), entering[:, :1])
