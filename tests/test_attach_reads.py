"""What a view says that the head reads, against which tokens after the last block change the output."""

import pytest
import torch
from torch import nn

import vitlab

pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")
pytest.importorskip("vit_pytorch")

from attach_kinds import all_kinds, randomised, timm_kind  # noqa: E402

SIZES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=32)
SIZES |= dict(patch_size=8)


def of_transformers(config, model, **given):
    def build():
        return getattr(transformers, model)(getattr(transformers, config)(**SIZES | given))

    return build


def of_pictures_and_words(config, model):
    def build():
        return getattr(transformers, model)(getattr(transformers, config)(vision_config=SIZES))

    return build


def timm_with_prefix(pool):
    kind = timm_kind(pool, "vit_tiny_patch16_224", 1, "", global_pool=pool, pool_include_prefix=True)
    return lambda: kind.build((32, 32))


BUILDERS = {
    kind.id: (lambda kind=kind: kind.build(kind.sizes[0]))
    for kind in all_kinds()
    if "(eager)" not in kind.id and not kind.name.startswith("vit_l") and kind.reads != "tokens"
} | {
    "ViTModel": of_transformers("ViTConfig", "ViTModel"),
    "DeiTForImageClassification": of_transformers("DeiTConfig", "DeiTForImageClassification"),
    "Dinov2ForImageClassification": of_transformers("Dinov2Config", "Dinov2ForImageClassification"),
    "CLIPForImageClassification": of_pictures_and_words("CLIPConfig", "CLIPForImageClassification"),
    "SiglipForImageClassification": of_pictures_and_words("SiglipConfig", "SiglipForImageClassification"),
    "BeitModel": of_transformers("BeitConfig", "BeitModel", use_mean_pooling=False),
    "BeitForImageClassification": of_transformers("BeitConfig", "BeitForImageClassification"),
    "Data2VecVisionForImageClassification": of_transformers(
        "Data2VecVisionConfig", "Data2VecVisionForImageClassification"
    ),
    "Aimv2VisionModel": of_transformers("Aimv2VisionConfig", "Aimv2VisionModel"),
    "timm, max with prefix": timm_with_prefix("max"),
    "timm, avgmax with prefix": timm_with_prefix("avgmax"),
}


def moved(view, images, tokens):
    """How far the output moves when something is added to these tokens after the last block."""
    last = view.description.blocks[-1]
    last = last[-1] if isinstance(last, nn.ModuleList) else last

    def add(module, args, output):
        changed = (output[0] if isinstance(output, tuple) else output).clone()
        noise = torch.randn(changed[:, tokens].shape, generator=torch.Generator().manual_seed(2))
        changed[:, tokens] += noise
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with torch.no_grad():
        before = view(images)
        hook = last.register_forward_hook(add)
        after = view(images)
        hook.remove()
    return float((after - before).abs().max())


@pytest.mark.parametrize("name", BUILDERS)
def test_what_is_read(name):
    torch.manual_seed(0)
    model = randomised(BUILDERS[name]())
    keywords = dict(image_size=32) if name.startswith("vit-pytorch") else {}
    view = vitlab.attach(model, **keywords)
    images = torch.randn(2, 3, *view.image_size, generator=torch.Generator().manual_seed(1))
    rows, columns = view.grid_size
    prefix = list(range(view.num_prefix_tokens))
    patches = list(range(len(prefix), len(prefix) + rows * columns))
    unread = {
        "token": prefix[1:] + patches,
        "pair": prefix[2:] + patches,
        "mean": prefix,
        "mean+max": prefix,
        "token+mean": prefix[1:],
        "mean_all": [],
        "max_all": [],
        "mean+max_all": [],
        "attention": [],
    }[view.reads]
    if unread:
        assert moved(view, images, unread) == 0
    for token in {*prefix, *patches[:1], *patches[-1:]} - {*unread}:
        if view.reads != "attention" or token in patches:
            assert moved(view, images, [token]) > 1e-4
