"""Axial 2-D rotary positions (arXiv 2403.13298): against complex numbers, timm, and what they are for."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from test_flexi import SMALL, close, stirred_vit
from timm.layers import RotaryEmbeddingCat, apply_rot_embed_cat
from timm.models.eva import Eva
from torch import Tensor

import vitlab
from vitlab import Recipe, ViT, ViTConfig, fine_tuning
from vitlab.attention import attention_rollout, class_token_share, head_outputs, intervene, maps
from vitlab.checks import assemble
from vitlab.data import Dataset
from vitlab.encoder import Attention, attention_weights
from vitlab.rotary import Rotary
from vitlab.training.recipe import learning_rate_at
from vitlab.widgets import AttentionStepExplorer, InterventionExplorer

ROPE = dict(pos_embed="rope2d")
KINDS = [dict(), dict(pool="mean"), dict(num_registers=2), dict(head_dim=4, qkv_bias=False)]
KINDS += [dict(distilled=True)]


def rope_vit(**fields) -> ViT:
    """Small, random, fp64; not square, so that rows and columns cannot be taken for each other."""
    return stirred_vit(**ROPE | dict(image_size=(12, 20)) | fields)


def turned(vector: Tensor, row: float, column: float) -> Tensor:
    """One query or key as complex numbers, each times e^(i·angle), one after the other."""
    half, out = len(vector) // 4, []
    for pair in range(2 * half):
        place = column if pair < half else row
        angle = place * 100.0 ** (-(pair % half) / half)
        point = complex(*vector[2 * pair : 2 * pair + 2].tolist()) * complex(math.cos(angle), math.sin(angle))
        out += [point.real, point.imag]
    return torch.tensor(out, dtype=torch.float64)


def slow_logits(model: ViT, image: Tensor) -> Tensor:
    """What a ViT answers to one image (C, H, W) in fp64, query by query; patches are one step apart."""
    c = model.config
    tokens, (_, columns) = model.embed(image[None])[0], c.grid_size
    for block in model.blocks:
        x, width = block.norm1(tokens), block.attn.head_dim
        mixed = torch.empty(len(x), c.num_heads, width, dtype=torch.float64)
        for head in range(c.num_heads):
            qkv = block.attn.qkv(x).unflatten(-1, (3, c.num_heads, width))[:, :, head]  # (T, 3, d)
            queries, keys, values = (part.clone() for part in qkv.unbind(1))
            for i in range(c.num_patches):
                for vectors in (queries, keys):
                    vectors[c.num_prefix_tokens + i] = turned(
                        vectors[c.num_prefix_tokens + i], *divmod(i, columns)
                    )
            for t, query in enumerate(queries):
                scores = torch.stack([query @ key for key in keys]) / math.sqrt(width)
                mixed[t, head] = scores.softmax(dim=0) @ values
        tokens = tokens + block.attn.proj(mixed.flatten(1))
        tokens = tokens + block.mlp(block.norm2(tokens))
    tokens = model.norm(tokens)
    if c.distilled:
        return (model.head(tokens[0]) + model.head_dist(tokens[1])) / 2
    return model.head(tokens[c.num_prefix_tokens :].mean(dim=0) if c.pool == "mean" else tokens[0])


@pytest.mark.parametrize("fields", KINDS)
def test_a_loop_of_complex_numbers_gives_the_same_logits(fields):
    model = rope_vit(**fields)
    images = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    with torch.no_grad():
        wanted = torch.stack([slow_logits(model, image) for image in images])
        close(model(images), wanted, 1e-11)
        plain = stirred_vit(**fields | dict(pos_embed="none", image_size=(12, 20)))
        plain.load_state_dict(model.state_dict())
        assert (plain(images) - wanted).abs().max() > 1e-3  # positions tell


@pytest.mark.parametrize("shape", [(3, 5), (7, 7), (1, 4)])
def test_timms_rotation_is_the_same(shape):
    """Where it is: consecutive pairs, columns first, base 100, places counted from 0, as `vit_*_rope_224`."""
    given = dict(in_pixels=False, temperature=100.0)
    theirs = RotaryEmbeddingCat(24, feat_shape=list(shape), grid_indexing="xy", **given)
    patches = torch.randn(2, 4, math.prod(shape), 24)
    turn = Rotary(shape, shape, 0, 24)
    close(turn(patches), apply_rot_embed_cat(patches, theirs.get_embed()), 1e-6)
    rows_first = RotaryEmbeddingCat(24, feat_shape=list(shape), grid_indexing="ij", **given)
    if shape != (1, 4):
        assert (turn(patches) - apply_rot_embed_cat(patches, rows_first.get_embed())).abs().max() > 0.1


@pytest.mark.parametrize("fields", [dict(), dict(num_registers=3)])
def test_timms_model_of_the_same_weights_gives_the_same_logits(fields):
    ours = rope_vit(**fields).float()
    theirs = Eva(
        img_size=(12, 20), patch_size=4, num_classes=5, embed_dim=16, depth=2, num_heads=2, mlp_ratio=1.5,
        attn_type="rope", init_values=None, global_pool="token", use_abs_pos_emb=False, use_rot_pos_emb=True,
        rope_grid_indexing="xy", rope_temperature=100.0, num_reg_tokens=fields.get("num_registers", 0),
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(3, 3, 12, 20)
    with torch.no_grad():
        close(ours(images), theirs(images), 2e-5)
        close(ours.forward_features(images), theirs.forward_features(images), 2e-5)


def test_scores_depend_on_the_offset_alone():
    """One query and one key everywhere on a 6 x 9 grid, with two tokens in front that have no place."""
    turn = Rotary((6, 9), (6, 9), 2, 16)
    query, key = torch.randn(2, 16, dtype=torch.float64)
    queries, keys = turn(query.expand(56, -1)), turn(key.expand(56, -1))
    scores = (queries @ keys.mT)[2:, 2:].view(6, 9, 6, 9)
    found = {}
    for row in range(6):
        for column in range(9):
            for other_row in range(6):
                for other_column in range(9):
                    offset = (other_row - row, other_column - column)
                    found.setdefault(offset, []).append(float(scores[row, column, other_row, other_column]))
    assert len(found) == 11 * 17
    assert max(max(same) - min(same) for same in found.values()) < 1e-12
    assert len({round(same[0], 6) for same in found.values()}) == len(found)  # and offsets tell
    assert torch.equal(queries[:2], query.expand(2, -1))  # without a place: not turned
    close(queries.norm(dim=-1), query.norm().expand(56), 1e-12)


def test_no_parameters_and_nothing_kept():
    with_rope, without = (ViT(ViTConfig(**SMALL, pos_embed=kind)) for kind in ("rope2d", "none"))
    shapes = [{name: t.shape for name, t in model.state_dict().items()} for model in (with_rope, without)]
    assert shapes[0] == shapes[1]
    assert vitlab.count_parameters(with_rope) == vitlab.count_parameters(without)
    assert not [*with_rope.buffers()]


# --- every way in which attention is computed ---------------------------------------------------------------


@pytest.mark.parametrize("fields", KINDS)
def test_every_way_to_attend_is_the_same(fields, monkeypatch):
    model = rope_vit(**fields)
    images = torch.randn(3, 3, 12, 20, dtype=torch.float64)

    def logits_and_gradients() -> list[Tensor]:
        logits = model(images)
        return [logits, *torch.autograd.grad(logits.square().sum(), [*model.parameters()], allow_unused=True)]

    fast = logits_and_gradients()
    with monkeypatch.context() as patch:
        patch.setattr("vitlab.encoder.is_transformed", lambda: True)  # `plain_attention`
        plain = logits_and_gradients()
    for block in model.blocks:
        block.attn.visible = True  # PyTorch's own
    own = logits_and_gradients()
    for block in model.blocks:
        block.attn.visible = False
        block.attn.observers.append(lambda weights: None)  # in the open
    opened = logits_and_gradients()
    for others in (plain, own, opened):
        for one, other in zip(fast, others, strict=True):
            close(one, other, 1e-9)


def test_the_last_block_can_make_the_class_token_alone():
    model = rope_vit()
    tokens = torch.randn(2, 16, 16, dtype=torch.float64)
    last = model.blocks[-1]
    close(last(tokens, class_only=True), last(tokens)[:, :1], 1e-12)
    images = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    close(model(images), model.head(model.forward_features(images)[:, 0]), 1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_rounds_only_what_comes_out(dtype):
    turn = Rotary((28, 28), (28, 28), 1, 24)
    vectors = torch.randn(785, 24).to(dtype)
    assert turn(vectors).dtype == dtype
    assert torch.equal(turn(vectors), turn(vectors.float()).to(dtype))
    close(turn(vectors.float()).double(), turn(vectors.double()), 2e-6)


def test_bf16_is_near_fp32():
    model = rope_vit().float()
    images = torch.randn(4, 3, 12, 20)
    with torch.no_grad():
        wanted = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            near = model(images)
        whole = copy.deepcopy(model).bfloat16()(images.bfloat16())
    scale = wanted.abs().max().item()
    close(near, wanted, 0.05 * scale)
    close(whole.float(), wanted, 0.05 * scale)
    assert model(images).equal(model(images))


def test_it_trains_in_the_fast_path_as_in_plain_pytorch():
    """SGD steps of `train` against a loop in fp64 whose attention is spelt out."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 12, 20), generator=generator, dtype=torch.uint8)
    data = Dataset(images, torch.arange(20) % 5, list("abcde"))
    recipe = Recipe(
        steps=4, batch_size=20, optimizer="sgd", learning_rate=0.05, warmup_steps=0, clip_norm=0.0,
        weight_decay=0.0, augment=False,
    )  # fmt: skip
    model = rope_vit().float()
    other = copy.deepcopy(model).double()
    run = vitlab.start(device="cpu", precision="fp32")
    history = vitlab.train(model, data, None, recipe, run, progress=False)
    for block in other.blocks:
        block.attn.observers.append(lambda weights: None)
    optimizer, losses = torch.optim.SGD(other.parameters(), lr=0.05, momentum=0.9), []
    for step in range(4):
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, recipe)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(other(images.double() / 127.5 - 1), data.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [row["loss"] for row in history.rows] == pytest.approx(losses, abs=1e-3)


def test_where_a_bright_patch_stands_from_another_is_learnt_without_other_positions():
    """Whether the dark mark is left or right of the bright one: a bag of patches does not tell."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((256, 1, 8, 16), 128, dtype=torch.uint8)
    labels = torch.arange(256) % 2
    for image, label in zip(images, labels, strict=True):
        left, right = sorted(torch.randperm(4, generator=generator)[:2].tolist())
        row = int(torch.randint(2, (), generator=generator))
        bright, dark = (left, right) if label else (right, left)
        image[0, 4 * row : 4 * row + 4, 4 * bright : 4 * bright + 4] = 255
        image[0, 4 * row : 4 * row + 4, 4 * dark : 4 * dark + 4] = 0
    data, run = Dataset(images, labels, ["left", "right"]), vitlab.start(device="cpu", precision="bf16")
    found = {}
    for kind in ("rope2d", "none"):
        torch.manual_seed(0)
        fields = dict(image_size=(8, 16), in_chans=1, num_classes=2, pos_embed=kind)
        model = ViT(ViTConfig(**SMALL | fields))
        recipe = Recipe(steps=120, batch_size=64, learning_rate=4e-3, augment=False)
        vitlab.train(model, data, None, recipe, run, progress=False)
        found[kind] = vitlab.evaluate(model, data, run)[1]
    assert found["rope2d"] > 0.95
    assert found["none"] < 0.7


# --- what looks at attention --------------------------------------------------------------------------------


def test_recorded_are_the_vectors_that_meet():
    model = rope_vit(num_registers=1)
    images = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    also = ["queries", "keys", "values", "scores"]
    with torch.no_grad(), vitlab.record_attention(model, also=also) as record:
        model(images)
    close(record.weights.double(), attention_weights(record["queries"], record["keys"]), 1e-6)
    close(record["scores"].double(), record["queries"] @ record["keys"].mT / math.sqrt(8), 1e-12)
    attention = model.blocks[0].attn
    plain = attention.qkv(model.blocks[0].norm1(model.embed(images))).view(2, 17, 3, 2, 8)
    for i in range(15):
        wanted = turned(plain[1, 2 + i, 1, 0].detach(), *divmod(i, 5))
        close(record["keys"][0, 1, 0, 2 + i], wanted, 1e-12)
    close(record["keys"][0, :, :, :2], plain[:, :2, 1].transpose(1, 2).detach(), 1e-12)
    close(record["values"][0], plain[:, :, 2].transpose(1, 2).detach(), 1e-12)


def test_maps_interventions_and_views():
    model = rope_vit().float()
    images = torch.randn(2, 3, 12, 20)
    with torch.no_grad():
        logits = model(images)
    view = vitlab.attach(model)
    with vitlab.record_attention(view) as record:
        view(images)
    assert record.weights.shape == (2, 2, 2, 16, 16)
    rolled = attention_rollout(record.weights)
    assert rolled.shape == (2, 16, 16)
    for name, found in maps.compute(model, images).items():
        close(found, maps.compute(view, images, names=[name])[name], 1e-5)
    assert class_token_share(record.weights).shape[0] == 2
    made = head_outputs(model, images, layer=1).sum(dim=0) + model.blocks[1].attn.proj.bias
    with vitlab.record_attention(model, also=["attention_outputs"]) as record, torch.no_grad():
        model(images)
    close(made, record["attention_outputs"][1], 1e-5)
    with torch.no_grad(), intervene(model, heads={0: [0, 1], 1: [0, 1]}):
        assert not torch.allclose(model(images), logits)
    with torch.no_grad(), intervene(model, unseen=[3]), vitlab.record_attention(model) as record:
        model(images)
    assert not record.weights[:, :, :, 0, 4].any()
    with torch.no_grad():
        assert torch.equal(model(images), logits)


def test_a_head_that_is_hidden_is_removed_as_by_hand():
    model = rope_vit()
    images = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[1].attn.proj.weight[:, 8:] = 0
        with intervene(model, heads={1: [1]}):
            close(model(images), other(images), 1e-9)


def test_what_needs_added_positions_says_so():
    model = ViT(ViTConfig(**ROPE))
    with pytest.raises(ValueError, match=r"adds no position embeddings \(pos_embed='rope2d'\)"):
        intervene(model, swap_rows=(0, 1)).__enter__()
    images = {"blank": torch.zeros(1, 28, 28, dtype=torch.uint8)}
    measured = Dataset(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1]), list("abcdefghij"))
    with pytest.raises(ValueError, match="swaps positions that are added"):
        InterventionExplorer(model, images, measured)
    assert "shuffled" not in AttentionStepExplorer(model, images).controls
    with pytest.raises(ValueError, match="pos_embed='learned'; got 'rope2d'"):
        assemble(model)


# --- other sizes --------------------------------------------------------------------------------------------


def test_a_larger_image_extends_the_grid():
    """Steps stay one: scores of patches that were there are what they were, and new places follow."""
    model = rope_vit()
    larger = model.at(image_size=(24, 40))
    assert larger.config.grid_size == larger.config.kept_grid == (6, 10)
    plain = ViT(replace(model.config, image_size=(24, 40))).double().eval()
    plain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    with torch.no_grad():
        close(larger(images), plain(images), 1e-12)
        close(larger(images)[0], slow_logits(larger, images[0]), 1e-11)
    assert larger.blocks[0].attn.qkv.weight is model.blocks[0].attn.qkv.weight
    assert model.blocks[0].attn.rotary == model.config.rotary  # itself it stays what it was
    adapted = fine_tuning.adapt(model, image_size=(24, 40))
    with torch.no_grad():
        close(adapted.double()(images), larger(images), 1e-6)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_smaller_patches_stand_between_the_places_of_larger_ones(patch_size):
    model = rope_vit()
    finer = model.at(patch_size=patch_size)
    assert finer.config.kept_grid == (3, 5)
    per_side, width = 4 // patch_size, finer.config.grid_size[1]
    vector = torch.randn(8, dtype=torch.float64)
    found = finer.blocks[1].attn.rotary(vector.expand(finer.config.num_tokens, -1))
    close(found[0], vector, 0)
    for i, each in enumerate(found[1:]):
        row, column = ((place + 0.5) / per_side - 0.5 for place in divmod(i, width))
        close(each, turned(vector, row, column), 1e-12)


def test_both_at_once_and_there_and_back():
    model = rope_vit()
    both = model.at(patch_size=2, image_size=(24, 20))
    assert (both.config.grid_size, both.config.kept_grid) == ((12, 10), (6, 5))
    assert both.at(patch_size=4, image_size=(12, 20)).config == model.config
    images = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    with torch.no_grad():
        close(both.at(patch_size=4, image_size=(12, 20))(images), model(images), 1e-12)
    finer = model.at(patch_size=2)
    assert finer.at(image_size=(24, 40)).config.kept_grid == (6, 10)
    with pytest.raises(ValueError, match=r"14 x 20 are no whole number of its steps"):
        finer.at(image_size=(14, 20))
    with pytest.raises(ValueError, match="14 x 20 are no whole number of its steps"):
        fine_tuning.adapt(finer, image_size=(14, 20))
    with pytest.raises(ValueError, match="13 is not divisible by 4"):
        model.at(image_size=13)


def test_training_at_drawn_patch_sizes():
    images = torch.randint(0, 256, (20, 3, 12, 20), dtype=torch.uint8)
    data = Dataset(images, torch.arange(20) % 5, list("abcde"))
    model, run = rope_vit().float(), vitlab.start(device="cpu", precision="fp32")
    recipe = Recipe(steps=6, batch_size=10, learning_rate=1e-3, patch_sizes=(1, 2, 4))
    history = vitlab.train(model, data, None, recipe, run, progress=False)
    assert all(math.isfinite(row["loss"]) for row in history.rows)


@pytest.mark.parametrize("patch_size", [4, 2])
def test_saved_and_loaded(tmp_path, patch_size):
    model = rope_vit(num_registers=1).float().at(patch_size=patch_size)
    path, images = tmp_path / "rope.safetensors", torch.randn(2, 3, 12, 20)
    vitlab.save_checkpoint(model, path)
    again = vitlab.load_checkpoint(path)
    assert again.config == model.config
    with torch.no_grad():
        assert torch.equal(again.eval()(images), model(images))
    with pytest.raises(
        ValueError, match="no rotary position embeddings" if patch_size == 4 else "kernel_size"
    ):
        vitlab.save_checkpoint(model, tmp_path / "timm.safetensors", layout="timm")


# --- what cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "width"), [(dict(embed_dim=24, num_heads=4), 6), (dict(head_dim=5), 5), (dict(head_dim=2), 2)]
)
def test_heads_whose_width_four_does_not_divide_are_refused(fields, width):
    with pytest.raises(ValueError, match=f"heads of a width divisible by 4; got {width}"):
        ViTConfig(**ROPE | fields)
    with pytest.raises(ValueError, match=f"heads of a width divisible by 4; got {width}"):
        Rotary((2, 2), (2, 2), 0, width)(torch.zeros(4, width))


def test_another_number_of_tokens_is_refused():
    attention = Attention(16, 2, rotary=Rotary((2, 3), (2, 3), 1, 8))
    assert attention(torch.zeros(2, 7, 16)).shape == (2, 7, 16)
    for tokens in (6, 8, 1):
        with pytest.raises(ValueError, match=f"1 tokens and 2 x 3 patches; got {tokens} tokens"):
            attention(torch.zeros(2, tokens, 16))


def test_the_shell_knows_it():
    from vitlab.training.command import make_parser

    options = make_parser("x").parse_args(["--out", "a.safetensors", "--pos_embed", "rope2d"])
    assert options.pos_embed == "rope2d"
