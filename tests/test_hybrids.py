"""A Transformer on a ResNet in everything that takes a ViT: right, or refused by name."""

import math

import pytest
import timm
import torch

import vitlab
from vitlab import ViT, ViTConfig, paper
from vitlab.attention import maps
from vitlab.fine_tuning import adapt
from vitlab.pretraining import MaskedPatchViT
from vitlab.widgets import DataPathExplorer, FilterExplorer

SMALL = ViTConfig(
    image_size=(16, 24), patch_size=8, in_chans=3, embed_dim=48, depth=2, stem=(1, 1), stem_width=32
)


@pytest.fixture
def model() -> ViT:
    torch.manual_seed(0)
    model = ViT(SMALL)
    torch.nn.init.normal_(model.head.weight)
    return model


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("R50+B/16", "vit_base_r50_s16_224"),
        ("R26+ViT-B/32", "vit_base_r26_s32_224"),
        ("R26+S/32", "vit_small_r26_s32_224"),
        ("R50+L/32", "vit_large_r50_s32_224"),
    ],
)
def test_named_hybrids_are_timms_array_by_array(name, theirs):
    with torch.device("meta"):
        ours = ViT(ViTConfig.from_name(name, num_classes=3))
    theirs = timm.create_model(theirs, num_classes=3)  # which looks at real images to know its own grid
    shapes = [{key: array.shape for key, array in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert ours.config.grid_size == theirs.patch_embed.grid_size


def test_the_papers_hybrids_have_names():
    """Table 6. At 16 pixels the fourth stage's bottlenecks are in the third (appendix B)."""
    named = {name for name, _ in paper.TABLE_6 if "+" in name}
    assert named == {f"R50+ViT-{size}" for size in ("B/32", "B/16", "L/32", "L/16")}
    for name in named:
        config = ViTConfig.from_name(name)
        assert sum(config.stem) == 16
        assert len(config.stem) == (3 if name.endswith("16") else 4)
        assert config.num_patches == (224 // config.patch_size) ** 2


def test_the_first_loss_is_ln_classes_and_all_that_can_learn_does():
    torch.manual_seed(0)
    model, images = ViT(SMALL), torch.randn(4, 3, 16, 24)
    loss = torch.nn.functional.cross_entropy(model(images), torch.arange(4))
    assert loss.item() == pytest.approx(math.log(10), abs=1e-6)
    stem = model.patch_embed.backbone
    assert stem.stem.conv.weight.var().item() == pytest.approx(1 / (49 * 3), rel=0.1)
    for stage in stem.stages:  # a bottleneck adds nothing at first
        assert not stage.blocks[0].norm3.weight.any()
    torch.nn.init.normal_(model.head.weight)
    for stage in stem.stages:
        torch.nn.init.ones_(stage.blocks[0].norm3.weight)
    torch.nn.functional.cross_entropy(model(images), torch.arange(4)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or name.endswith("qkv.bias"), name


def test_it_trains_through_the_same_loop():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    images = torch.randint(0, 60, (64, 1, 16, 16), generator=generator, dtype=torch.uint8)
    images[labels == 1, :, 4:12, 4:12] += 150
    data = vitlab.data.Dataset(images, labels, ["dark", "bright"])
    sizes = dict(image_size=16, patch_size=8, num_classes=2, embed_dim=32, depth=1, stem=(1,), stem_width=32)
    run = vitlab.start(device="cpu", precision="fp32")
    recipe = vitlab.Recipe(steps=20, batch_size=32, learning_rate=3e-3)
    history = vitlab.train(ViT(ViTConfig(**sizes)), data, data, recipe, run, progress=False)
    assert history.accuracy > 0.95


def test_places_and_distances_are_in_pixels(model):
    """A patch stands for `patch_size` pixels, whatever the stem did to them."""
    images = torch.randn(2, 3, 16, 24)
    assert (SMALL.grid_size, SMALL.num_tokens, SMALL.stem_stride, SMALL.patch_dim) == ((2, 3), 7, 8, 256)
    with torch.no_grad(), vitlab.record_attention(model) as record:
        model(images)
    assert record.weights.shape == (2, 2, 4, 7, 7)
    uniform = torch.full((1, 1, 1, 7, 7), 1 / 7)
    patches = [(8 * row, 8 * column) for row in range(2) for column in range(3)]
    mean = sum(math.dist(a, b) for a in patches for b in patches) / 36
    got = vitlab.mean_attention_distance(uniform, SMALL.grid_size, SMALL.patch_size, cls="renormalise")
    assert got.item() == pytest.approx(mean, rel=1e-5)
    for name, make in maps.MAPS.items():
        assert make(model, images, target=1).shape == (2, 2, 3), name


def test_occlusion_hides_the_pixels_of_a_patch(model):
    images = torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        whole = model.eval()(images).softmax(dim=-1)[0, 1]
        falls = maps.occlusion(model, images, target=1, window=1)
        for row in range(2):
            for column in range(3):
                hidden = images.clone()
                hidden[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = (
                    0.0  # grey, of images in [-1, 1]
                )
                wanted = whole - model(hidden).softmax(dim=-1)[0, 1]
                torch.testing.assert_close(falls[0, row, column], wanted)


def test_the_receptive_field_of_a_stem_reaches_beyond_a_patch(model):
    for block in model.patch_embed.backbone.stages:
        torch.nn.init.ones_(block.blocks[0].norm3.weight)
    plain = ViT(ViTConfig(image_size=(16, 24), patch_size=8, in_chans=3, embed_dim=48, depth=2))
    fields = [
        vitlab.attention.effective_receptive_field(m, torch.randn(8, 3, 16, 24)) for m in (model, plain)
    ]
    assert (fields[1][0] > 0).sum() == 64
    assert (fields[0][0] > 0).sum() > 100


def test_a_hybrid_is_adapted_to_classes_and_sizes_but_not_channels(model):
    images = torch.randn(2, 3, 32, 40)
    adapted = adapt(model, num_classes=3, image_size=(32, 40))
    assert adapted.config.grid_size == (4, 5)
    assert adapted(images).shape == (2, 3)
    for name, array in model.patch_embed.state_dict().items():
        assert torch.equal(adapted.patch_embed.state_dict()[name], array), name
    with pytest.raises(ValueError, match="is a hybrid, whose kernels are standardised over all channels"):
        adapt(model, in_chans=1)
    assert adapt(model, in_chans=3).config == SMALL


def test_what_is_about_patches_of_pixels_is_refused(model):
    with pytest.raises(ValueError, match="a hybrid's tokens see what is under the mask"):
        MaskedPatchViT(SMALL)
    image = {"blank": torch.zeros(3, 16, 24, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="projects patches of pixels, and a hybrid has none"):
        DataPathExplorer(model, image, list("abcdefghij"))
    with pytest.raises(ValueError, match="mine is of a hybrid: its filters are for features"):
        FilterExplorer({"mine": model.patch_embed}, image)
