"""torchvision's five ViTs: the same logits, its own rule for positions, and what is missing or extra."""

import re
from dataclasses import replace
from functools import partial

import pytest
import torch
import torchvision
from test_checkpoints_published import (
    as_safetensors,
    close,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    pictures,
    same_outputs,
    stirred,
)
from torch import nn
from torchvision.models import VisionTransformer, list_models
from torchvision.models.vision_transformer import ConvStemConfig, interpolate_embeddings

import vitlab

SMALL = dict(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=48, mlp_dim=80, num_classes=5)
KINDS = [
    (dict(), dict(num_heads=4)),
    (dict(representation_size=7), dict(num_heads=4)),
    (dict(num_classes=1), dict(num_heads=4)),
    (dict(hidden_dim=128, num_heads=2), dict()),  # 64 wide, as in four of the five
    (dict(hidden_dim=1280, num_heads=16, num_layers=1), dict()),  # 80 wide, as in H/14
    (dict(patch_size=16, image_size=48), dict(num_heads=4)),
    (dict(norm_layer=partial(nn.LayerNorm, eps=1e-3)), dict(num_heads=4, norm_eps=1e-3)),
]


def torchvisions(**arguments) -> nn.Module:
    return stirred(VisionTransformer(**SMALL | arguments))


@pytest.mark.parametrize(("arguments", "fields"), KINDS)
def test_torchvision(arguments, fields):
    theirs = torchvisions(**arguments)
    ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), **fields)
    images = pictures((theirs.image_size, theirs.image_size)) * 0.1  # so that the norms' eps matters
    tokens = torch.cat([theirs.class_token.expand(2, -1, -1), theirs._process_input(images)], dim=1)
    with torch.no_grad():
        same_outputs(ours, images, theirs(images))
        close(ours.forward_features(images), theirs.encoder(tokens), 2e-5)
    assert ours.config.num_heads == theirs.encoder.layers[0].num_heads


@pytest.mark.parametrize("name", [name for name in list_models() if name.startswith("vit_")])
def test_all_five_have_the_sizes_that_the_paper_gives_them(name):
    with torch.device("meta"):  # names and shapes are all that counts, and one layer is like another
        theirs = getattr(torchvision.models, name)(num_classes=3)
    kept = {key: a for key, a in theirs.state_dict().items() if not re.search(r"encoder_layer_[1-9]", key)}
    arrays = {key: torch.zeros(array.shape) for key, array in kept.items()}
    config = vitlab.load_checkpoint(as_safetensors(arrays)).config
    size, patch = name.upper().removeprefix("VIT_").split("_")
    assert replace(config, depth=len(theirs.encoder.layers)) == vitlab.ViTConfig.from_name(
        f"{size}/{patch}", num_classes=3
    )
    assert config.num_heads == theirs.encoder.layers[0].num_heads


@pytest.mark.parametrize("size", [48, 64, 24])
def test_torchvisions_own_resizing(size):
    theirs, larger = torchvisions(), torchvisions(image_size=size)
    file, images = as_safetensors(theirs.state_dict()), pictures((size, size))
    larger.load_state_dict(interpolate_embeddings(size, 8, theirs.state_dict()))
    ours = vitlab.load_checkpoint(file, num_heads=4, image_size=size)
    with torch.no_grad():
        same_outputs(ours, images, larger(images))
        close(ours.pos_embed, larger.encoder.pos_embedding, 1e-6)
    rules = ("torchvision", "jax", "timm", "hf")
    tables = [vitlab.load_checkpoint(file, rule, num_heads=4, image_size=size).pos_embed for rule in rules]
    assert torch.equal(tables[0], ours.pos_embed)
    assert not any(torch.equal(tables[0], other) for other in tables[1:])


def test_heads_that_were_replaced():
    """By a layer of one's own, as in fine-tuning, or by nothing."""
    theirs, images = torchvisions(), pictures((32, 32))
    for head in (nn.Linear(48, 3), nn.Identity()):
        theirs.heads = head
        with torch.no_grad():
            ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4)
            same_outputs(ours, images, theirs(images))


def test_names_as_in_version_0_12():
    theirs, images = torchvisions(), pictures((32, 32))
    old = {
        re.sub(r"mlp\.([03])", lambda found: f"mlp.linear_{1 + int(found[1]) // 3}", name): array
        for name, array in theirs.state_dict().items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_2.weight" in old
    torchvisions().load_state_dict(old)  # torchvision itself takes them
    with torch.no_grad():
        same_outputs(vitlab.load_checkpoint(as_safetensors(old), num_heads=4), images, theirs(images))


def test_what_is_missing_extra_or_of_another_shape_is_named():
    arrays = torchvisions(representation_size=7).state_dict()
    for name, array in arrays.items():
        without = {key: value for key, value in arrays.items() if key != name}
        for changed in (without, arrays | {name: array[None]}):
            with pytest.raises(ValueError, match=re.escape(repr(name))):
                vitlab.load_checkpoint(as_safetensors(changed), num_heads=4)
    config = [ConvStemConfig(8, 3, 4), ConvStemConfig(8, 3, 2)]
    with pytest.raises(ValueError, match="as of a torchvision ViT.*'conv_proj.conv_.*a stem of convolutions"):
        vitlab.load_checkpoint(as_safetensors(torchvisions(conv_stem_configs=config).state_dict()))
    with pytest.raises(ValueError, match="48 numbers .* are no multiple of 64: give num_heads"):
        vitlab.load_checkpoint(as_safetensors(arrays))
