"""Models that do not attend to all patches are refused with the reason: no record is empty or partial."""

import importlib

import pytest
import timm
import torch
import torchvision
from torch import nn

import vitlab

transformers = pytest.importorskip("transformers")
pytest.importorskip("vit_pytorch")

TIMM = {
    "swin_tiny_patch4_window7_224": "SwinTransformer .* within windows",
    "swinv2_tiny_window8_256": "SwinTransformerV2 .* within windows",
    "swinv2_cr_tiny_224": "within windows",
    "maxvit_tiny_rw_224": "MaxxVit .* within windows",
    "gcvit_xxtiny": "within windows",
    "davit_tiny": "within windows",
    "nest_tiny": "within windows",
    "twins_svt_small": "within windows",
    "hiera_tiny_224": "within windows",
    "volo_d1_224": "within windows",
    "cait_xxs24_224": "Cait .* mixed after the softmax",
    "pvt_v2_b0": "PyramidVisionTransformerV2 .* merged patches",
    "mvitv2_tiny": "merged patches",
    "convnext_atto": "ConvNeXt .* it has none",
    "mixer_s32_224": "MlpMixer .* it has none",
    "resnet18": "ResNet .* it has none",
    "crossvit_tiny_240": "CrossVit .* branches",
    "xcit_nano_12_p16_224": "Xcit .* between channels",
    "coat_tiny": "CoaT .* grid shrinks",
    "levit_128s": "grid shrinks",
    "pit_ti_224": "grid shrinks",
    "convit_tiny": "weights are changed",
    "mobilevit_xxs": "ByobNet .* grid shrinks",
    "edgenext_xx_small": "grid shrinks",
    "efficientformer_l1": "grid shrinks",
    "efficientformerv2_s0": "grid shrinks",
    "efficientvit_b0": "grid shrinks",
    "efficientvit_m0": "grid shrinks",
    "fastvit_t8": "grid shrinks",
    "lowformer_b0": "grid shrinks",
    "nextvit_small": "grid shrinks",
    "shvit_s1": "grid shrinks",
    "swiftformer_xs": "grid shrinks",
    "visformer_tiny": "grid shrinks",
    "iformer_t": "grid shrinks",
    "cpubone_b3": "grid shrinks",
    "tiny_vit_5m_224": "within windows",
    "samvit_base_patch16": "attention between 196 tokens was seen, where a 64 x 64 grid",
}


@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    small = dict(embed_dim=16, depth=3, num_heads=2, global_attn_indexes=(2,)) if "samvit" in name else {}
    with torch.device("meta"):
        model = timm.create_model(name, **small)
    with pytest.raises(ValueError, match=TIMM[name]):
        vitlab.attach(model)


@pytest.mark.parametrize("fused", [True, False])
def test_differences_of_two_attentions(fused):
    small = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4)
    model = timm.create_model("vit_tiny_patch16_224", attn_layer="diff", **small).eval()
    for block in model.blocks:
        block.attn.fused_attn = fused
    words = "\\[2, 2\\]; several in each, .*differential attention" if fused else "weights are changed"
    with pytest.raises(ValueError, match=words):
        vitlab.attach(model)


def test_it_is_refused_before_anything_is_recorded():
    model = timm.create_model("swin_tiny_patch4_window7_224").eval()
    keywords = dict(image_size=224, patch_size=4, num_prefix_tokens=0)
    with pytest.raises(ValueError, match="within windows"):
        vitlab.attach(model, **keywords)
    with pytest.raises(ValueError, match="within windows"), vitlab.record_attention(model):
        pass


def test_what_no_list_of_names_knows_is_seen():
    """The same models under names of their own, as a user's subclass or copy has them."""

    class Mine(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            return self.inner(images)

    for name, size, patch, words in [
        ("swin_tiny_patch4_window7_224", 224, 4, "seen"),
        ("pvt_v2_b0", 224, 4, "seen"),
        ("xcit_nano_12_p16_224", 224, 16, "seen|is token"),
        ("cait_xxs24_224", 224, 16, "changed"),
        ("convnext_atto", 224, 4, "no attention was seen"),
        ("crossvit_tiny_240", 240, 12, "seen"),
        ("coat_tiny", 224, 4, "seen|changed"),
        ("maxvit_tiny_rw_224", 224, 4, "seen"),
        ("tnt_s_legacy_patch16_224", 224, 16, "seen"),
    ]:
        with torch.device("meta"):
            model = Mine(timm.create_model(name))
        with pytest.raises(ValueError, match=words):
            vitlab.attach(model, image_size=size, patch_size=patch, num_prefix_tokens=0)


def test_torchvision():
    for name in ("swin_t", "swin_v2_t", "convnext_tiny", "resnet18"):
        with torch.device("meta"):
            model = getattr(torchvision.models, name)()
        with pytest.raises(ValueError, match="no Vision Transformer with global attention"):
            vitlab.attach(model)
    with torch.device("meta"):
        model = torchvision.models.maxvit_t()
    with pytest.raises(ValueError, match="within windows"):
        vitlab.attach(model)


SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32)
SMALL |= dict(patch_size=8)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_transformers(attention):
    def refused(config, model, words, **given):
        config = getattr(transformers, config)(**given)
        config._attn_implementation = attention
        with pytest.raises(ValueError, match=words):
            vitlab.attach(getattr(transformers, model)(config).eval())

    refused("ViTMAEConfig", "ViTMAEModel", "hides 75% of the patches.*mask_ratio=0.0", **SMALL)
    refused("ViTMAEConfig", "ViTMAEForPreTraining", "attach its model.vit", **SMALL, mask_ratio=0.0)
    refused("SamVisionConfig", "SamVisionModel", "seen", **SMALL, window_size=2, global_attn_indexes=[1])
    refused("SwinConfig", "SwinModel", "within windows", depths=[1, 1], num_heads=[1, 2], embed_dim=16)
    if attention == "eager":  # the only one that these have
        refused("Swinv2Config", "Swinv2Model", "within windows", depths=[1], num_heads=[2], embed_dim=16)
        refused("PvtConfig", "PvtModel", "merged patches")
        refused("ConvNextConfig", "ConvNextModel", "it has none", depths=[1], hidden_sizes=[8], num_stages=1)
    text = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    refused("CLIPConfig", "CLIPModel", "model.vision_model", vision_config=SMALL, text_config=text)


def test_tokens_behind_the_patches():
    config = transformers.YolosConfig(**SMALL | dict(image_size=[32, 32]), num_detection_tokens=3)
    with pytest.raises(ValueError, match="does not say num_prefix_tokens"):
        vitlab.attach(transformers.YolosModel(config))
    with pytest.raises(ValueError, match="the last patch of the first row is token 4, not 7"):
        vitlab.attach(transformers.YolosModel(config), num_prefix_tokens=4)
    with pytest.raises(ValueError, match="behind its patches"):
        vitlab.attach(vit_pytorch_model("simple_vit_with_register_tokens", "SimpleViT"), image_size=32)


def vit_pytorch_model(room, name, **given):
    sizes = dict(image_size=32, patch_size=8, num_classes=5, dim=32, depth=2, heads=4, dim_head=8, mlp_dim=48)
    return getattr(importlib.import_module(f"vit_pytorch.{room}"), name)(**sizes | given)


def test_vit_pytorch():
    with pytest.raises(ValueError, match="changed \\(einsum, .*before they multiply"):
        vitlab.attach(vit_pytorch_model("deepvit", "DeepViT"), image_size=32)
    with pytest.raises(ValueError, match="CaiT .* mixed after the softmax"):
        vitlab.attach(vit_pytorch_model("cait", "CaiT", cls_depth=1), image_size=32)
    with pytest.raises(ValueError, match="does not say image_size .*attach\\(model, image_size=…\\)"):
        vitlab.attach(vit_pytorch_model("vit", "ViT"))


def test_an_encoder_that_shuffles_its_patches():
    """Without a noise of one's own ViT-MAE shuffles them, even where it hides none."""
    config = transformers.ViTMAEConfig(**SMALL, mask_ratio=0.0)
    model = transformers.ViTMAEModel(config).eval()
    view, images = vitlab.attach(model), torch.randn(2, 3, 32, 32)
    with vitlab.record_attention(view), torch.no_grad():
        with pytest.raises(ValueError, match="shuffles"):
            model(images)
        with pytest.raises(ValueError, match="shuffles"):
            model(images, noise=torch.rand(2, 16))
        view(images)


def test_patches_that_are_dropped_in_training():
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, embed_dim=16, depth=2, num_heads=2, patch_drop_rate=0.5
    )
    view = vitlab.attach(model.train())
    with pytest.raises(ValueError, match="attention between 9 tokens was seen, where a 4 x 4 grid and 1"):
        with vitlab.record_attention(view):
            view(torch.randn(2, 3, 64, 64))


def test_checkpointed_gradients():
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, embed_dim=16, depth=2, num_heads=2)
    model.set_grad_checkpointing()
    view, images = vitlab.attach(model.train()), torch.randn(2, 3, 64, 64)
    with pytest.raises(ValueError, match="gradient checkpointing"), vitlab.record_attention(view):
        view(images)
    with vitlab.record_attention(view) as record, torch.no_grad():
        view(images)
    assert record.weights.shape == (2, 2, 2, 17, 17)
