"""The model against timm, Google's table of sizes, and equations 1 to 4 written out."""

import math
import time

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import vitlab
from vitlab import ViT, ViTConfig
from vitlab.vit import attention_bytes, costs_by_part, count_flops, multiply_adds

SIZES = {"Ti/16": 5_717_416, "S/16": 22_050_664, "B/16": 86_567_656, "L/16": 304_326_632, "H/14": 632_045_800}


def test_parameter_counts_are_googles():
    with torch.device("meta"):
        ViT(ViTConfig())  # the first model also pays for what PyTorch loads lazily
        begin = time.process_time()  # other programs add nothing to it
        counts = {name: vitlab.count_parameters(ViT(ViTConfig.from_name(name))) for name in SIZES}
    assert counts == SIZES
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(("image_size", "patch_size", "classes"), [((32, 32), 8, 10), ((32, 48), 16, 3)])
def test_a_timm_state_dict_gives_the_same_logits(image_size, patch_size, classes):
    sizes = dict(embed_dim=48, depth=3, num_heads=4, num_classes=classes)
    theirs = timm.models.VisionTransformer(img_size=image_size, patch_size=patch_size, mlp_ratio=2, **sizes)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    config = ViTConfig(image_size=image_size, patch_size=patch_size, in_chans=3, mlp_dim=96, **sizes)
    ours = ViT(config).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(3, 3, *image_size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            ours.forward_features(images), theirs.forward_features(images), rtol=1e-5, atol=1e-5
        )


def test_equations_1_to_4_written_out():
    torch.manual_seed(0)
    model = ViT(ViTConfig(image_size=(8, 12), patch_size=4, in_chans=3, embed_dim=16, num_heads=2, depth=2))
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.cls_token)
    images = torch.randn(2, 3, 8, 12)
    patches = torch.nn.functional.unfold(images, 4, stride=4).transpose(1, 2)  # (B, N, P²C)
    projected = patches @ model.patch_embed.proj.weight.flatten(1).T + model.patch_embed.proj.bias
    z = torch.cat([model.cls_token.repeat(2, 1, 1), projected], dim=1) + model.pos_embed
    torch.testing.assert_close(model.embed(images), z)
    for block in model.blocks:
        z = block.attn(block.norm1(z)) + z
        z = block.mlp(block.norm2(z)) + z
    y = torch.nn.functional.layer_norm(z[:, 0], (16,), model.norm.weight, model.norm.bias, eps=1e-6)
    torch.testing.assert_close(model(images), y @ model.head.weight.T + model.head.bias)


@pytest.mark.parametrize("pool", ["token", "mean"])
@pytest.mark.parametrize("pos_embed", ["learned", "sincos2d", "none", "rope2d"])
@pytest.mark.parametrize("image_size", [28, (28, 56), (12, 8)])
def test_every_kind_takes_every_grid(pool, pos_embed, image_size):
    config = ViTConfig(image_size=image_size, pool=pool, pos_embed=pos_embed, num_classes=7)
    model = ViT(config)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    images = torch.randn(2, 1, height, width)
    tokens = (height // 4) * (width // 4) + (pool == "token")
    assert model.forward_features(images).shape == (2, tokens, 96)
    assert model(images).shape == (2, 7)
    assert config.num_tokens == tokens


def test_the_first_loss_is_exactly_the_log_of_the_classes():
    for classes in (2, 10, 1000):
        logits = ViT(ViTConfig(num_classes=classes))(torch.randn(4, 1, 28, 28))
        loss = torch.nn.functional.cross_entropy(logits, torch.randint(0, classes, (4,)))
        assert loss.item() == pytest.approx(math.log(classes), abs=1e-6)


def test_initial_values_are_googles():
    torch.manual_seed(0)
    model = ViT(ViTConfig(patch_size=7, embed_dim=192, mlp_dim=768, representation_size=96))
    assert not model.cls_token.any()
    assert not model.head.weight.any()
    assert not model.head.bias.any()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.patch_embed.proj.weight.std().item() == pytest.approx(1 / 7, rel=0.05)  # P²C = 49 inputs
    for matrix in model.blocks[0].attn.qkv.weight.chunk(3):  # Xavier over each 192 x 192 matrix, not over all
        assert matrix.abs().max().item() == pytest.approx(math.sqrt(6 / (192 + 192)), rel=0.01)
    assert model.blocks[0].mlp.fc1.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 960), rel=0.01)
    assert 0 < model.blocks[0].mlp.fc1.bias.abs().max().item() < 1e-5
    assert model.pre_logits.fc.weight.std().item() == pytest.approx(192**-0.5, rel=0.05)


def test_no_classes_gives_the_pooled_features():
    token, mean = (ViT(ViTConfig(num_classes=0, pool=pool)).eval() for pool in ("token", "mean"))
    images = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(token(images), token.forward_features(images)[:, 0])
    torch.testing.assert_close(mean(images), mean.forward_features(images).mean(dim=1))


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(),
        ViTConfig(pool="mean"),
        ViTConfig(depth=1),
        ViTConfig(head_dim=10, qkv_bias=False, patch_norm=True),
    ],
)
def test_the_last_block_leaves_out_only_what_nobody_reads(config):
    torch.manual_seed(0)
    model = ViT(config).double()
    torch.nn.init.normal_(model.head.weight)
    images = torch.randn(3, 1, 28, 28).double()
    logits, full = model(images), model.head(model.pool(model.forward_features(images)))
    torch.testing.assert_close(logits, full)
    gradients = [torch.autograd.grad(out.square().sum(), list(model.parameters())) for out in (logits, full)]
    for short, long in zip(*gradients, strict=True):
        torch.testing.assert_close(short, long)
    last = model.blocks[-1]
    with FlopCounterMode(display=False) as of_one:
        last(torch.randn(2, config.num_tokens, config.embed_dim).double(), class_only=True)
    with FlopCounterMode(display=False) as of_all:
        last(torch.randn(2, config.num_tokens, config.embed_dim).double())
    assert of_one.get_total_flops() < 0.3 * of_all.get_total_flops()


def test_blocks_can_be_replaced_by_others():
    class Own(vitlab.Block):
        def forward(self, x):
            return super().forward(x)

    model, images = ViT(ViTConfig()).double(), torch.randn(2, 1, 28, 28).double()
    torch.nn.init.normal_(model.head.weight)
    logits, sizes = model(images), dict(embed_dim=96, num_heads=4, mlp_dim=192)
    own = torch.nn.Sequential(*(Own(**sizes) for _ in range(4))).double()
    own.load_state_dict(model.blocks.state_dict())
    model.blocks = own
    torch.testing.assert_close(model(images), logits)


def test_mean_pooling_beside_a_class_token_and_a_norm_after_it():
    torch.manual_seed(0)
    model = ViT(ViTConfig(pool="mean", unread_class_token=True, norm_after_pool=True, num_classes=0)).double()
    torch.nn.init.normal_(model.cls_token)
    images = torch.randn(2, 1, 28, 28).double()
    tokens = model.forward_features(images)
    assert tokens.shape == (2, 50, 96)
    torch.testing.assert_close(tokens, model.blocks(model.embed(images)))
    torch.testing.assert_close(model(images), model.norm(tokens[:, 1:].mean(dim=1)))


def test_logits_are_fp32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ViT(ViTConfig(pos_embed="none"))(torch.randn(2, 1, 28, 28)).dtype == torch.float32


def test_double_precision_stays_double():
    assert ViT(ViTConfig()).double()(torch.randn(2, 1, 28, 28).double()).dtype == torch.float64


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(),
        ViTConfig(head_dim=40, qkv_bias=False),
        ViTConfig.from_name("Ti/16", image_size=(64, 96), num_classes=5),
        ViTConfig.from_name("R26+S/32", image_size=(64, 96), num_classes=5),
        ViTConfig(image_size=(32, 16), patch_size=8, stem=(), stem_width=32),
    ],
)
def test_flops_are_torchs_count(config):
    model = ViT(config).to("meta")
    height, width = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
    with FlopCounterMode(display=False) as counter:  # of all tokens in all layers, as FLOPs are published
        model.head(
            model.pool(model.forward_features(torch.zeros(1, config.in_chans, height, width, device="meta")))
        )
    assert count_flops(config) == counter.get_total_flops()
    assert sum(multiply_adds(config).values()) * 2 == count_flops(config)


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(pos_embed="sincos2d", num_registers=2, representation_size=24),
        ViTConfig(pool="mean", head_dim=40, qkv_bias=False, patch_norm=True),
        ViTConfig(image_size=(32, 16), patch_size=8, stem=(), stem_width=32),
    ],
)
def test_the_parts_of_a_vit_are_all_of_it(config):
    model = ViT(config).to("meta")
    numbers, adds = zip(*costs_by_part(model).values(), strict=True)
    assert (sum(numbers), 2 * sum(adds)) == (vitlab.count_parameters(model), count_flops(config))
    norms = [m for m in [*model.blocks.modules(), model.norm] if isinstance(m, torch.nn.LayerNorm)]
    found = costs_by_part(model)
    assert found["norms"][0] == sum(norm.weight.numel() + norm.bias.numel() for norm in norms)
    assert found["patch projection"][0] == sum(p.numel() for p in model.patch_embed.parameters())


def test_the_parts_of_vit_base_by_its_shapes():
    with torch.device("meta"):
        model = ViT(ViTConfig.from_name("B/16"))
    D, T = 768, 197
    assert costs_by_part(model) == {
        "patch projection": (769 * D, 196 * D * D),
        "class token, positions": ((1 + T) * D, 0),
        "attention: qkv, proj": (12 * 4 * (D + 1) * D, 12 * 4 * T * D * D),
        "attention: scores, mixing": (0, 12 * 2 * T * T * D),
        "MLP": (12 * (8 * D * D + 5 * D), 12 * T * 8 * D * D),
        "norms": (25 * 2 * D, 0),
        "head": (1000 * (D + 1), 1000 * D),
    }
    model.adapter = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"'adapter.weight' belongs to no part of a ViT"):
        costs_by_part(model)


def test_attention_bytes_are_those_of_a_recording():
    model = ViT(ViTConfig(image_size=(12, 16)))
    with vitlab.record_attention(model) as record, torch.no_grad():
        model(torch.zeros(3, 1, 12, 16))
    assert record.weights.nbytes == attention_bytes(model.config, batch_size=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(patch_size=5), "28 is not divisible by 5; use 1, 2, 4, 7, 14 or 28"),
        (dict(embed_dim=96, num_heads=5), "embed_dim 96 is not divisible by num_heads 5"),
        (dict(pool="max"), "pool is one of token, mean, token.mean; got 'max'"),
        (dict(pos_embed="rotary"), "pos_embed is one of learned, sincos2d, none, rope2d; got 'rotary'"),
        (dict(gelu="relu"), "gelu is one of erf, tanh"),
        (dict(depth=0), "depth is a whole number of at least 1; got 0"),
        (dict(embed_dim=96.0), "embed_dim is a whole number"),
        (dict(num_classes=-1), "num_classes is a whole number of at least 0; got -1"),
        (dict(dropout=1.0), "dropout"),
        (dict(norm_eps=0.0), "norm_eps is above 0"),
        (dict(head_dim=0), "head_dim is None or a whole number of at least 1; got 0"),
        (dict(unread_class_token=True), "reads the class token; unread_class_token goes with 'mean'"),
        (dict(stem=3), "at least one bottleneck for each stage; got 3"),
        (dict(stem=(1, 0), patch_size=14), r"at least one bottleneck for each stage; got \(1, 0\)"),
        (dict(stem=(1,), stem_width=48), "stem_width is a multiple of 32, the groups of a norm; got 48"),
        (dict(stem=(1, 1)), "a feature stands for 8 pixels, of which patch_size is a multiple; got 4"),
        (dict(stem=(1,), stem_rule="hf"), "stem_rule is one of jax, timm; got 'hf'"),
        (dict(stem=(1,), patch_norm=True), "patch_norm is for patches of pixels"),
        (dict(representation_size=0), "representation_size is None or a whole number of at least 1; got 0"),
        (dict(image_size=28.0), "positive whole number or a pair"),
        (dict(image_size=(28, 28, 28)), "positive whole number or a pair"),
        (dict(embed_dim=90, num_heads=3, pos_embed="sincos2d"), "divisible by 4; got 90"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ViTConfig(**fields)


@pytest.mark.parametrize("name", ["B16", "X/16", "B/", "b/16", "B/16/16", "R34+B/16", "R50+H/14"])
def test_unknown_variants_are_refused(name):
    with pytest.raises(ValueError, match="such as 'B/16'"):
        ViTConfig.from_name(name)


def test_images_of_another_shape_or_type_are_refused():
    model = ViT(ViTConfig())
    with pytest.raises(ValueError, match=r"\(B, 1, 28, 28\); got \(2, 3, 28, 28\)"):
        model(torch.zeros(2, 3, 28, 28))
    with pytest.raises(ValueError, match=r"got \(2, 1, 32, 32\)"):
        model(torch.zeros(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"floats in \[-1, 1\].*normalise"):
        model(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))


def test_images_of_another_precision_are_refused():
    with pytest.raises(ValueError, match=r"takes images of torch.float32; got torch.float64; use images.to"):
        ViT(ViTConfig())(torch.zeros(1, 1, 28, 28, dtype=torch.float64))
    with torch.autocast("cpu", dtype=torch.bfloat16):  # which casts them itself
        assert ViT(ViTConfig())(torch.zeros(1, 1, 28, 28, dtype=torch.bfloat16)).shape == (1, 10)
