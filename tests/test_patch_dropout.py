"""Patch dropout (arXiv 2208.07220): who is left out, against timm's layer, and trainings with it."""

import copy

import pytest
import torch
from test_flexi import SMALL, close, stirred_vit, three_classes
from test_training_resume import assert_same, cut_short, run
from timm.layers import PatchDropout
from torch.utils.flop_counter import FlopCounterMode

import vitlab
from vitlab import Recipe, ViT, ViTConfig, fine_tuning
from vitlab.attention import intervene
from vitlab.patches import drop_patches
from vitlab.pretraining import MaskedPatchViT
from vitlab.pretraining.__main__ import to_predict_patches
from vitlab.training.command import make_parser


def numbered(images: int, patches: int, prefix: int) -> torch.Tensor:
    """Tokens (B, T, 2) that say which image and which place they are of."""
    image = torch.arange(images)[:, None].expand(-1, prefix + patches)
    return torch.stack([image, torch.arange(prefix + patches).expand(images, -1)], dim=-1).float()


@pytest.mark.parametrize(
    ("patches", "share", "prefix"), [(49, 0.5, 1), (9, 0.25, 0), (16, 0.75, 4), (5, 0.1, 2)]
)
def test_so_many_of_each_image_as_timm_keeps_in_reading_order(patches, share, prefix):
    kept = ViTConfig(image_size=(1, patches), patch_size=1, patch_dropout=share).num_kept_patches
    tokens = numbered(50, patches, prefix)
    found = drop_patches(tokens, kept, prefix)
    assert found.shape == PatchDropout(share, prefix)(tokens).shape == (50, prefix + kept, 2)
    assert torch.equal(found[:, :prefix], tokens[:, :prefix])
    for image, tokens in enumerate(found):
        whose, places = tokens.unbind(dim=1)
        assert (whose == image).all()
        assert (places.diff() > 0).all()  # no place twice
        assert places[-1] < prefix + patches
    assert len({tuple(places) for places in found[:, prefix:, 1].tolist()}) > 1  # each image has its own


def test_every_set_of_patches_is_as_likely_as_by_timms_layer():
    """All ten ways to keep two of five, in 20,000 draws: each 2,000 times, give or take 4 deviations."""
    tokens = numbered(20_000, 5, 1)
    for found in (drop_patches(tokens, 2, 1), PatchDropout(0.6, 1, ordered=True)(tokens)):
        sets, counts = found[:, 1:, 1].unique(dim=0, return_counts=True)
        assert len(sets) == 10
        assert counts.min() > 2000 - 170
        assert counts.max() < 2000 + 170


@pytest.mark.parametrize(
    ("patches", "share", "kept"),
    [(10, 0.9, 1), (100, 0.9, 10), (49, 0.5, 24), (49, 0, 49), (3, 0.66, 1), (49, 0.97, 1)],
)
def test_numbers_are_rounded_down_as_fractions_are(patches, share, kept):
    """100·(1 - 0.9) is 9.999999999999998 in fp64, and ten patches on paper."""
    config = ViTConfig(image_size=(1, patches), patch_size=1, patch_dropout=share)
    assert config.num_kept_patches == kept


@pytest.mark.parametrize(
    "fields", [dict(), dict(pool="mean"), dict(num_registers=2), dict(pos_embed="sincos2d")]
)
def test_positions_are_added_before_and_the_rest_goes_through_the_encoder(fields):
    model = stirred_vit(patch_dropout=0.4, **fields).train()
    prefix, images = model.config.num_prefix_tokens, torch.randn(4, 3, 12, 12, dtype=torch.float64)
    whole = model.eval().embed(images)
    assert whole.shape[1] == prefix + 9
    torch.manual_seed(3)
    left = model.train().embed(images)
    assert left.shape[1] == prefix + 5
    assert torch.equal(left[:, :prefix], whole[:, :prefix])
    for image, own in zip(left, whole, strict=True):  # each with the position of its own place
        places = [int((own == token).all(dim=1).nonzero().squeeze(1)[0]) for token in image]
        assert places == sorted(places)
    torch.manual_seed(3)
    logits = model(images)
    close(logits, model.head(model.pool(model.norm(model.blocks(left)))), 1e-12)
    assert not torch.allclose(model(images), logits)  # others are drawn
    with torch.no_grad():
        plain = stirred_vit(**fields)
        assert torch.equal(model.eval()(images), plain(images))  # in evaluation mode all are there


def test_gradients_reach_what_was_kept_alone():
    model = ViT(ViTConfig(patch_dropout=0.5))
    torch.nn.init.normal_(model.head.weight)
    images = torch.randn(2, 1, 28, 28, requires_grad=True)
    model(images).square().sum().backward()
    seen = vitlab.patchify(images.grad, 4).abs().sum(dim=-1) > 0
    assert seen.sum(dim=1).tolist() == [24, 24]


def test_without_it_nothing_is_drawn():
    model, images = ViT(ViTConfig()), torch.zeros(2, 1, 28, 28)
    before = torch.get_rng_state()
    model(images)
    assert torch.equal(torch.get_rng_state(), before)
    dropping = ViT(ViTConfig(patch_dropout=0.5))
    before = torch.get_rng_state()
    dropping.eval()(images)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_learns_goes_on_bit_for_bit_and_is_told_apart(tmp_path):
    recipe, dropping = Recipe(steps=30, batch_size=16), dict(patch_dropout=0.5)
    whole = run(recipe, **dropping)
    cut_short(recipe, tmp_path, 17, **dropping)
    assert_same(run(recipe, tmp_path, **dropping), whole)
    assert not torch.equal(run(recipe)[0].head.weight, whole[0].head.weight)
    with pytest.raises(ValueError, match="patch_dropout"):
        run(recipe, tmp_path, patch_dropout=0.25)


def test_at_drawn_patch_sizes_each_leaves_its_share():
    model = stirred_vit(patch_dropout=0.5).float().train()
    assert model.at(patch_size=2)(torch.zeros(2, 3, 12, 12)).shape == (2, 5)
    assert model.at(patch_size=2).config.num_kept_patches == 18
    recipe = Recipe(steps=6, batch_size=10, learning_rate=1e-3, patch_sizes=(2, 4))
    device = vitlab.start(device="cpu", precision="fp32")
    history = vitlab.train(model, three_classes(), None, recipe, device, progress=False)
    assert len(history.rows) > 0
    with pytest.raises(ValueError, match="patch_dropout 0.5 leaves none of 1 patches"):
        model.at(patch_size=12)


def test_func_asks_how_to_draw_as_for_any_dropout():
    model = stirred_vit(patch_dropout=0.5).train()
    images = torch.randn(3, 1, 3, 12, 12, dtype=torch.float64)
    found = torch.func.vmap(model, randomness="different")(images)
    assert found.shape == (3, 1, 5)
    with pytest.raises(RuntimeError, match="randomness"):
        torch.func.vmap(model)(images)


def test_kept_by_files_and_told_to_timm(tmp_path):
    import timm

    from vitlab.checkpoints.saving import timm_arguments

    model = ViT(ViTConfig(**SMALL, patch_dropout=0.25))
    for layout in ("vitlab", "timm"):
        path = tmp_path / f"{layout}.safetensors"
        vitlab.save_checkpoint(model, path, layout=layout)
        again = vitlab.load_checkpoint(path)
        assert again.config == model.config
    theirs = timm.models.VisionTransformer(**timm_arguments(model.config)).train()
    assert theirs.forward_features(torch.zeros(2, 3, 12, 12)).shape == (2, 7, 16)
    assert model.train().forward_features(torch.zeros(2, 3, 12, 12)).shape == (2, 7, 16)
    assert fine_tuning.adapt(model, image_size=24).config.patch_dropout == 0.25


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, "half", None, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match="patch_dropout is a share of at least 0 and below 1; got"):
        ViTConfig(patch_dropout=share)


def test_where_it_makes_no_sense_it_is_refused():
    with pytest.raises(ValueError, match="leaves none of 49 patches; at most 1 - 1 / 49 leaves one"):
        ViTConfig(patch_dropout=0.99)
    with pytest.raises(ValueError, match="rope2d turns those of the whole grid by their places"):
        ViTConfig(patch_dropout=0.5, pos_embed="rope2d")
    dropping = ViT(ViTConfig(patch_dropout=0.5))
    for make in (MaskedPatchViT, to_predict_patches):
        with pytest.raises(ValueError, match="masked patches are to be predicted, and patch_dropout"):
            make(copy.deepcopy(dropping), "pixels")
    images = torch.zeros(2, 1, 28, 28)
    for asked in (dict(swap_rows=(0, 1)), dict(unseen=[3]), dict(donor=images[0], donor_layer=1)):
        with intervene(dropping.train(), **asked), pytest.raises(ValueError, match=r"25|\(2, 25, 96\)"):
            dropping(images)
        with intervene(dropping.eval(), **asked):
            dropping(images)


def test_half_of_the_tokens_take_less_than_half_of_the_work():
    model, images = ViT(ViTConfig(patch_dropout=0.5)), torch.zeros(2, 1, 28, 28)
    work = []
    for mode in (True, False):
        with FlopCounterMode(display=False) as counter:
            model.train(mode)(images)
        work.append(counter.get_total_flops())
    assert 0.4 < work[0] / work[1] < 0.55  # all are embedded, and 25 of 50 tokens go on


def test_the_shell_knows_it():
    options = make_parser("x").parse_args(["--out", "a.safetensors", "--patch_dropout", "0.5"])
    assert options.patch_dropout == 0.5
