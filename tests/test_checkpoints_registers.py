"""Registers: a ViT's own against a slow loop, and weights of timm and transformers that have them."""

import copy
import json

import pytest
import timm
import torch
from test_checkpoints_layer_scale import in_folder, small
from test_checkpoints_published import (
    as_safetensors,
    close,
    in_an_empty_folder,  # noqa: F401  (used by every test here)
    pictures,
    same_outputs,
    stirred,
    transformers,  # noqa: F401
)

import vitlab
from vitlab import ViT, ViTConfig
from vitlab.checks import assemble
from vitlab.fine_tuning import adapt
from vitlab.training import Recipe, make_optimizer
from vitlab.widgets import AttentionStepExplorer, DataPathExplorer, HeadExplorer

# --- the model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [dict(), dict(pool="mean"), dict(pool="mean", unread_class_token=True)])
@pytest.mark.parametrize("pos_embed", ["learned", "sincos2d", "none"])
def test_the_sequence_is_class_token_registers_patches(fields, pos_embed):
    model = stirred(ViT(ViTConfig(num_registers=3, pos_embed=pos_embed, **fields)))
    images, classes = pictures((28, 28), 1), int(hasattr(model, "cls_token"))
    assert model.config.num_tokens == classes + 3 + 49
    with torch.no_grad():
        patches, tokens = model.patch_embed(images), model.embed(images)
        table = torch.zeros(1, classes + 49, 96) if pos_embed == "none" else model.pos_embed
        for b in range(len(images)):
            wanted = [model.cls_token[0, 0] + table[0, 0]] if classes else []
            wanted += list(model.reg_token[0])
            wanted += [patch + table[0, classes + i] for i, patch in enumerate(patches[b])]
            close(tokens[b], torch.stack(wanted), 1e-6)
        features = model.norm(model.blocks(tokens))
        pooled = features[:, classes + 3 :].mean(dim=1) if fields else features[:, 0]
        close(model(images), model.head(pooled), 1e-5)


def test_registers_start_apart_learn_and_are_not_decayed():
    model = ViT(ViTConfig(num_registers=2))
    assert not torch.equal(*model.reg_token[0])
    model.head.weight.data.normal_(std=0.1)
    model(pictures((28, 28), 1)).square().sum().backward()
    assert (model.reg_token.grad.abs().sum(dim=2) > 0).all()
    decayed, spared = make_optimizer(model, Recipe()).param_groups
    assert any(p is model.reg_token for p in spared["params"])
    assert not any(p is model.reg_token for p in decayed["params"])


def test_they_are_counted_and_named():
    with_two, without = (ViT(ViTConfig(num_registers=n)) for n in (2, 0))
    assert vitlab.count_parameters(with_two) - vitlab.count_parameters(without) == 2 * 96
    assert vitlab.attach(with_two).description.prefix_names() == ("class token", "register 1", "register 2")
    mean = vitlab.attach(ViT(ViTConfig(num_registers=2, pool="mean")))
    assert mean.description.prefix_names() == ("register 1", "register 2")
    with vitlab.record_attention(with_two) as record:
        with_two(pictures((28, 28), 1))
    assert record.weights.shape[-1] == 52


@pytest.mark.parametrize("number", [-1, 1.5, "4"])
def test_other_numbers_of_registers_are_refused(number):
    with pytest.raises(ValueError, match="num_registers is a whole number of at least 0; got"):
        ViTConfig(num_registers=number)


def test_another_image_size_keeps_the_registers():
    model = stirred(ViT(ViTConfig(num_registers=3)))
    larger = adapt(model, image_size=40)
    assert torch.equal(larger.reg_token, model.reg_token)
    assert larger.pos_embed.shape[1] == 1 + 10 * 10
    same = adapt(model, image_size=28)
    images = pictures((28, 28), 1)
    with torch.no_grad():
        close(same(images), model(images), 1e-6)


def test_saved_and_loaded_again():
    model, images = stirred(ViT(ViTConfig(num_registers=3))), pictures((28, 28), 1)
    vitlab.save_checkpoint(model, "own.safetensors")
    with torch.no_grad():
        again = vitlab.load_checkpoint("own.safetensors")
        assert torch.equal(again(images), model(images))


@pytest.mark.parametrize(
    "kind", [HeadExplorer, AttentionStepExplorer, lambda *a: DataPathExplorer(*a, list("abcdefghij"))]
)
def test_explorers_that_name_no_registers_refuse_them(kind):
    model, blank = ViT(ViTConfig(num_registers=2)), {"blank": torch.zeros(1, 28, 28, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="the model has 2 registers as well; AttentionMapExplorer shows"):
        kind(model, blank)


def test_the_exercises_make_no_registers():
    with pytest.raises(ValueError, match="a ViT with num_registers=0; got 2"):
        assemble(ViT(ViTConfig(num_registers=2)))


# --- timm --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [dict(), dict(pool="mean"), dict(pool="mean", norm_after_pool=True)])
@pytest.mark.parametrize("pos_embed", ["learned", "none"])
def test_as_timm_writes_them_and_back(fields, pos_embed):
    config = ViTConfig(image_size=32, patch_size=8, in_chans=3, embed_dim=48, depth=2, num_registers=3)
    config = ViTConfig(**vars(config) | dict(pos_embed=pos_embed, **fields))
    model, images = stirred(ViT(config)), pictures((32, 32))
    vitlab.save_checkpoint(model, "timm.safetensors", layout="timm")
    theirs = timm.models.VisionTransformer(**vitlab.checkpoints.timm_arguments(config)).eval()
    theirs.load_state_dict(vitlab.checkpoints.read_arrays("timm.safetensors")[0])
    with torch.no_grad():
        close(theirs(images), model(images), 2e-5)
        again = vitlab.load_checkpoint("timm.safetensors")
        close(again(images), model(images), 2e-5)
    assert again.config.num_registers == 3


REGISTERS = {
    "vit_small_patch14_reg4_dinov2": dict(num_classes=0),  # no entry for the class token or registers
    "vit_base_patch14_reg4_dinov2": dict(no_embed_class=False),  # an entry for all of them
    "vit_little_patch16_reg1_gap_256": dict(),  # registers and no class token
    "vit_medium_patch16_reg4_gap_256": dict(no_embed_class=False),
}


@pytest.mark.parametrize("name", REGISTERS)
def test_timms_models(name):
    theirs = small(name, **REGISTERS[name])
    folder = in_folder(theirs, name)
    with torch.no_grad():
        for size in ((32, 32), (48, 64)):
            resized, images = copy.deepcopy(theirs), pictures(size)
            resized.set_input_size(size)
            ours = vitlab.load_checkpoint(folder, image_size=size)
            assert ours.config.num_registers == theirs.num_reg_tokens
            same_outputs(ours, images, resized(images))
            close(ours.forward_features(images), resized.forward_features(images), 2e-5)


def test_a_file_alone_says_its_size_where_one_square_fits():
    theirs, images = small("vit_small_patch14_reg4_dinov2"), pictures((32, 32))
    with torch.no_grad():
        ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4)
        same_outputs(ours, images, theirs(images))
    both = small("vit_small_patch14_reg4_dinov2", img_size=24)  # 9 entries: 3 x 3, or 2 x 2 and five more
    file = as_safetensors(both.state_dict())
    with pytest.raises(ValueError, match="'pos_embed' in .* image_size="):
        vitlab.load_checkpoint(file, num_heads=4)
    with torch.no_grad():
        images = pictures((24, 24))
        same_outputs(vitlab.load_checkpoint(file, num_heads=4, image_size=24), images, both(images))


def test_positions_of_registers_without_a_class_token():
    """9 patches and 16 entries: a square by chance; and 4 and 9, where both would be one."""
    theirs, images = small("vit_medium_patch16_reg4_gap_256", no_embed_class=False), pictures((32, 32))
    with torch.no_grad():
        ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4)
        same_outputs(ours, images, theirs(images))
    other = small("vit_medium_patch16_reg4_gap_256", no_embed_class=False, img_size=16, reg_tokens=5)
    file = as_safetensors(other.state_dict())
    with pytest.raises(ValueError, match="image_size="):
        vitlab.load_checkpoint(file, num_heads=4)
    assert vitlab.load_checkpoint(file, num_heads=4, image_size=16).config.num_patches == 4


# --- transformers ------------------------------------------------------------------------------------------


def with_registers(transformers, **fields):  # noqa: F811
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=3, image_size=32)
    sizes |= dict(patch_size=8, num_register_tokens=3, attn_implementation="eager")
    config = transformers.Dinov2WithRegistersConfig(**sizes | fields)
    return stirred(transformers.Dinov2WithRegistersModel(config))


@pytest.mark.parametrize("size", [(32, 32), (48, 64), (16, 16)])
def test_hugging_faces_dinov2_with_registers(transformers, size):  # noqa: F811
    """At another size, too: its rule has antialiasing, which that of its DINOv2 without registers has not.

    So it is in transformers 5.23 (`interpolate_pos_encoding` of modeling_dinov2 and _with_registers).
    """
    theirs, images = with_registers(transformers), pictures(size)
    theirs.save_pretrained("folder")
    with torch.no_grad():
        wanted = theirs(images, output_attentions=True)
        ours = vitlab.load_checkpoint("folder", image_size=size)
        same_outputs(ours, images, wanted.pooler_output, attention=torch.stack(wanted.attentions))
        close(ours.forward_features(images), wanted.last_hidden_state, 2e-5)
        alone = as_safetensors(theirs.state_dict())
        same_outputs(
            vitlab.load_checkpoint(alone, num_heads=4, image_size=size), images, wanted.pooler_output
        )
    assert ours.config.num_registers == 3


def test_a_config_that_says_another_number(transformers):  # noqa: F811
    with_registers(transformers).save_pretrained("folder")
    with open("folder/config.json", encoding="utf-8") as file:
        config = json.load(file)
    with open("folder/config.json", "w", encoding="utf-8") as file:
        json.dump(config | dict(num_register_tokens=4), file)
    with pytest.raises(ValueError, match="says num_registers=3; its config says num_registers=4"):
        vitlab.load_checkpoint("folder")
