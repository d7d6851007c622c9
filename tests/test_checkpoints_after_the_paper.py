"""Weights of what came after the paper, by every way in and at two sizes, beside timm and transformers."""

import copy
import json
from pathlib import Path

import pytest
import timm
import torch
from test_checkpoints_hub import hub  # noqa: F401  (used by name)
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
from vitlab.attention import maps, pooled_features
from vitlab.fine_tuning import adapt
from vitlab.vit import costs_by_part, count_parameters, multiply_adds

pytest.importorskip("transformers")

from loading_kinds import TIMMS_SINCE, asked_of_hugging_face, hugging_faces_since, like_vit  # noqa: E402

SIZES = [(32, 32), (48, 40)]
OWN = SIZES[0]


def put_on(hub, folder: Path, repository: str) -> None:  # noqa: F811
    for file in folder.iterdir():
        hub.files[f"{repository}/{file.name}"] = file.read_bytes()


def at_size(size: tuple[int, int]) -> dict:
    return {} if size == OWN else dict(image_size=size)


# --- timm --------------------------------------------------------------------------------------------------


def of_timm(name: str, size: tuple[int, int], arguments: dict):
    """timm's small model of 32 px, images of a size, and what timm makes of them at that size."""
    own, other = small(name, **arguments), small(name, img_size=size, **arguments)
    weights = timm.models.vision_transformer.checkpoint_filter_fn(own.state_dict(), other)
    other.load_state_dict(weights)
    images = pictures(size)
    return own, images, other


@pytest.mark.filterwarnings("ignore:.*does not say all of its model")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["folder", "lone file", "pretrained", "at"])
@pytest.mark.parametrize(("label", "name", "arguments", "lone"), TIMMS_SINCE, ids=lambda each: str(each)[:24])
def test_timms(hub, label, name, arguments, lone, way, size):  # noqa: F811
    own, images, other = of_timm(name, size, arguments)
    folder = in_folder(own, name.partition(".")[0])
    if way == "folder":
        ours = vitlab.load_checkpoint(folder, **at_size(size))
    elif way == "lone file":
        given = dict(num_heads=4) | (lone or at_size(size))
        ours = vitlab.load_checkpoint(as_safetensors(own.state_dict()), **given)
        if lone and size != OWN:  # such a file does not say which grid is its own
            with pytest.raises(ValueError, match=r"give the file's own image_size=\(height, width\)"):
                vitlab.load_checkpoint(Path("weights.safetensors"), num_heads=4, image_size=size)
            ours = ours.at(image_size=size, method="timm")
    elif way == "pretrained":
        put_on(hub, folder, f"timm/{name}")
        ours = vitlab.pretrained(name, progress=False, **at_size(size))
    else:
        ours = vitlab.load_checkpoint(folder).at(image_size=size, method="timm")
    with torch.no_grad():
        same_outputs(ours, images, other(images))
        close(ours.forward_features(images), other.forward_features(images), 2e-5)


@pytest.mark.parametrize("patch_size", [4, 16])
@pytest.mark.parametrize("way", ["folder", "pretrained"])
def test_a_flexivit_at_any_size(hub, way, patch_size):  # noqa: F811
    own = small("flexivit_small")
    other = small("flexivit_small", patch_size=patch_size, img_size=48)
    other.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(own.state_dict(), other))
    folder, images = in_folder(own, "flexivit_small"), pictures((48, 48))
    put_on(hub, folder, "timm/flexivit_small.made_up")
    ours = (
        vitlab.load_checkpoint(folder)
        if way == "folder"
        else vitlab.pretrained("flexivit_small.made_up", progress=False)
    )
    with torch.no_grad():
        same_outputs(ours.at(patch_size, (48, 48), method="timm"), images, other(images))


@pytest.mark.parametrize("arguments", [{}, dict(num_classes=0)])
def test_timms_distilled_and_back(arguments):
    theirs, images = small("deit_tiny_distilled_patch16_224", **arguments), pictures(OWN)
    with pytest.warns(UserWarning, match="Assumed: gelu='erf'") as told:
        ours = vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4)
    assert "pool" not in str(told[0].message)  # it has no other
    assert ours.config.distilled
    vitlab.save_checkpoint(ours, "again.safetensors", layout="timm")
    again = timm.models.deit.VisionTransformerDistilled(**vitlab.checkpoints.timm_arguments(ours.config))
    again.load_state_dict(vitlab.checkpoints.reading.read_arrays(Path("again.safetensors"))[0])
    with torch.no_grad():
        close(again.eval()(images), theirs(images), 2e-5)
        same_outputs(vitlab.load_checkpoint("again.safetensors"), images, theirs(images))


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("head_dist.", "lacks 'head_dist.weight', 'head_dist.bias'"),
        ("dist_token", "lacks 'dist_token'"),
        ("head.", "lacks 'head.weight', 'head.bias'"),
        ("cls_token", "lacks 'cls_token'"),
    ],
)
def test_half_of_a_distilled_model_is_incomplete(gone, said):
    arrays = small("deit_tiny_distilled_patch16_224").state_dict()
    file = as_safetensors({name: array for name, array in arrays.items() if not name.startswith(gone)})
    with pytest.warns(UserWarning, match="Assumed: gelu"), pytest.raises(ValueError, match=said):
        vitlab.load_checkpoint(file, num_heads=4, image_size=32)


def test_registers_that_timms_distilled_model_leaves_out():
    theirs, images = small("deit_tiny_distilled_patch16_224", reg_tokens=2), pictures(OWN)
    with torch.no_grad():
        before = theirs(images)
        theirs.reg_token.data += 1
        assert torch.equal(theirs(images), before)
    with pytest.raises(ValueError, match="a distillation token and registers.*leaves its registers out"):
        vitlab.load_checkpoint(as_safetensors(theirs.state_dict()), num_heads=4)


@pytest.mark.parametrize("pool", ["avg", "map"])
def test_a_distilled_model_has_one_pool(pool):
    folder = in_folder(small("deit_tiny_distilled_patch16_224"), "deit_tiny_distilled_patch16_224")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | dict(global_pool=pool)))
    with pytest.raises(ValueError, match="pool"):
        vitlab.load_checkpoint(folder)


# --- transformers ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*does not say all of its model")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["folder", "lone file", "pretrained"])
@pytest.mark.parametrize("name", hugging_faces_since())
def test_hugging_faces(hub, name, way, size):  # noqa: F811
    make, read = hugging_faces_since()[name]
    theirs, images = make(), pictures(size)
    if way == "lone file":
        eps = {} if name.startswith("Dinov2") else dict(norm_eps=1e-12)
        path = as_safetensors(theirs.state_dict())
        ours = vitlab.load_checkpoint(path, num_heads=4, **eps, **at_size(size))
    else:
        theirs.save_pretrained("folder")
        put_on(hub, Path("folder"), "some/model")
        load = dict(folder=vitlab.load_checkpoint, pretrained=vitlab.pretrained)[way]
        ours = load("folder" if way == "folder" else "some/model", **at_size(size))
    with torch.no_grad():
        same_outputs(ours, images, asked_of_hugging_face(theirs, images, read))


def test_a_distillation_token_that_no_head_reads_is_a_register():
    for name in ("DeiTModel", "DeiTForImageClassification"):
        theirs, images = like_vit(name), pictures(OWN)
        theirs.save_pretrained("folder")
        ours = vitlab.load_checkpoint("folder")
        assert (ours.config.num_registers, ours.config.distilled) == (1, False)
        base = getattr(theirs, "deit", theirs)
        with torch.no_grad():  # all tokens, in their order
            close(ours.forward_features(images), base(images).last_hidden_state, 2e-5)


@pytest.mark.parametrize(("name", "kind", "has"), [("DeiTModel", "vit", "a"), ("ViTModel", "deit", "no")])
def test_a_config_of_another_kind_is_refused(name, kind, has):
    like_vit(name).save_pretrained("folder")
    config = json.loads(Path("folder/config.json").read_text())
    Path("folder/config.json").write_text(json.dumps(config | dict(model_type=kind)))
    with pytest.raises(ValueError, match=f"has {has} distillation token.*says model_type='{kind}'"):
        vitlab.load_checkpoint("folder")


def test_both_of_a_teachers_heads_are_read():
    theirs, images = like_vit("DeiTForImageClassificationWithTeacher", num_labels=5), pictures(OWN)
    theirs.save_pretrained("folder")
    ours = vitlab.load_checkpoint("folder")
    with torch.no_grad():
        both, wanted = ours.logits_by_head(ours.forward_features(images)), theirs(images)
        close(both[:, 0], wanted.cls_logits, 2e-5)
        close(both[:, 1], wanted.distillation_logits, 2e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["Dinov2Backbone", "Dinov2WithRegistersBackbone"])
def test_a_backbones_map_is_the_vits_patches(name, size):
    theirs, images = like_vit(name), pictures(size)
    theirs.save_pretrained("folder")
    ours = vitlab.load_checkpoint("folder", **at_size(size))
    with torch.no_grad():
        (wanted,) = theirs(images).feature_maps  # (B, D, h, w)
        patches = ours.forward_features(images)[:, ours.config.num_prefix_tokens :]
        close(patches.mT.unflatten(2, ours.config.grid_size), wanted, 2e-5)


@pytest.mark.parametrize("fields", [dict(apply_layernorm=False), dict(out_features=["stage1"])])
def test_a_backbone_of_other_features_is_refused(fields):
    theirs = like_vit("Dinov2Backbone", **fields)
    theirs.save_pretrained("folder")
    (name,) = fields
    with pytest.raises(ValueError, match=f"of a Dinov2Backbone with {name}=.*last block, after its norm"):
        vitlab.load_checkpoint("folder")
    like_vit("Dinov2Model", apply_layernorm=False).save_pretrained("other")  # which does not use it
    assert vitlab.load_checkpoint("other").config.depth == 2


def test_a_maes_decoder_is_left_out_of_its_authors_file():
    """Meta's names are timm's, and begin with decoder_ where they are the decoder's."""
    theirs, images = small("vit_base_patch16_224.mae", num_classes=0), pictures(OWN)
    decoder = {
        "mask_token": (1, 1, 16),
        "decoder_embed.weight": (16, 48),
        "decoder_pos_embed": (1, 17, 16),
        "decoder_blocks.0.norm1.weight": (16,),
        "decoder_pred.bias": (192,),
    }
    file = as_safetensors(theirs.state_dict() | {name: torch.randn(shape) for name, shape in decoder.items()})
    with torch.no_grad(), pytest.warns(UserWarning, match="does not say all"):
        same_outputs(vitlab.load_checkpoint(file, num_heads=4), images, theirs(images))


def test_a_radio_is_called_one(transformers):  # noqa: F811
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    config = transformers.RadioConfig(**sizes, max_img_size=64, num_registers=2, num_cls_tokens=2)
    theirs = transformers.RadioModel(config)
    theirs.save_pretrained("folder")
    for path in ("folder", as_safetensors(theirs.state_dict())):
        with pytest.raises(ValueError, match="a RADIO, which normalises images itself") as error:
            vitlab.load_checkpoint(path)
        assert "prefix" not in str(error.value)
        assert "Load it with transformers" in str(error.value)


def test_images_in_one_sequence_are_no_windows(transformers):  # noqa: F811
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80)
    theirs = transformers.PixtralVisionModel(
        transformers.PixtralVisionConfig(**sizes, image_size=32, patch_size=8)
    ).eval()
    with pytest.raises(ValueError, match="images of a batch were laid end to end in one sequence") as error:
        vitlab.attach(theirs, num_prefix_tokens=0, reads="tokens")
    assert "window" not in str(error.value)


# --- a head on class token and mean ------------------------------------------------------------------------


def both_read(**fields) -> ViT:
    sizes = dict(image_size=32, patch_size=8, in_chans=3, embed_dim=48, depth=2, num_heads=4, mlp_dim=80)
    return stirred(ViT(ViTConfig(**sizes | dict(num_classes=5, pool="token+mean") | fields)))


@pytest.mark.parametrize("fields", [{}, dict(num_registers=3), dict(representation_size=7)])
def test_it_reads_the_class_token_and_the_mean(fields):
    model, images = both_read(**fields), pictures(OWN)
    with torch.no_grad():
        tokens = model.norm(model.blocks(model.embed(images)))
        for b in range(2):
            patches = tokens[b, 1 + fields.get("num_registers", 0) :]
            read = torch.cat([tokens[b, 0], sum(patches) / 16])
            read = model.pre_logits(read) if "representation_size" in fields else read
            close(model(images)[b], model.head.weight @ read + model.head.bias, 1e-5)


def test_what_a_head_on_both_costs():
    model = both_read()
    assert model.head.in_features == 96
    assert multiply_adds(model.config)["head"] == 96 * 5
    assert multiply_adds(both_read(representation_size=7).config)["head"] == 96 * 7 + 7 * 5
    assert sum(numbers for numbers, _ in costs_by_part(model).values()) == count_parameters(model)


def test_a_head_on_both_is_kept_and_changed():
    model, images = both_read(), pictures(OWN)
    vitlab.save_checkpoint(model, "own.safetensors")
    again = vitlab.load_checkpoint("own.safetensors")
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
        assert adapt(model, num_classes=3)(images).shape == (2, 3)
        assert model.pooled_features(images).shape == (2, 96)
    with pytest.raises(ValueError, match="has no head on class token and mean side by side"):
        vitlab.save_checkpoint(model, "timm.safetensors", layout="timm")


@pytest.mark.parametrize("field", ["norm_after_pool", "unread_class_token", "distilled"])
def test_what_does_not_go_with_it(field):
    with pytest.raises(ValueError, match=f"{field}.*pool|pool.*{field}"):
        both_read(**{field: True})


@pytest.mark.parametrize("name", ["Dinov2", "Dinov2WithRegisters"])
def test_maps_of_a_dinov2_classifier_are_those_seen_in_transformers(name):
    theirs, images = like_vit(f"{name}ForImageClassification"), pictures(OWN)
    theirs.save_pretrained("folder")
    ours, view = vitlab.load_checkpoint("folder"), vitlab.attach(copy.deepcopy(theirs))
    assert vitlab.attach(ours).reads == view.reads == "token+mean"
    for kind in ("rollout", "class_attention", "attention_gradient", "relevance", "input_gradient"):
        close(maps.MAPS[kind](ours, images), maps.MAPS[kind](view, images), 1e-5)
    with torch.no_grad():
        close(pooled_features(vitlab.attach(ours), images), pooled_features(view, images), 2e-5)
