"""How pictures are prepared for published weights: logits against the source's own processor and model."""

import itertools
import json
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

import vitlab
from vitlab import data
from vitlab.checkpoints import preparing
from vitlab.training import command

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZE = 32


@pytest.fixture
def pixels() -> torch.Tensor:
    """Two colour pictures, uint8."""
    return torch.randint(
        0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where weights and what describes them lie."""
    (tmp_path / "theirs").mkdir()
    return tmp_path / "theirs"


def ours(path: Path, pixels: torch.Tensor, **fields) -> torch.Tensor:
    """vitlab's logits of pictures as `image_folder` gives them."""
    with torch.no_grad():
        return vitlab.load_checkpoint(path, **fields)(data.normalise(pixels))


def timm_folder(folder: Path, in_chans: int = 3, **pretrained_cfg) -> torch.nn.Module:
    """A small model of timm's in a folder that timm wrote, but for these entries."""
    torch.manual_seed(0)
    arguments = dict(img_size=SIZE, depth=1, num_classes=5, in_chans=in_chans)
    model = timm.create_model("vit_tiny_patch16_224", **arguments).eval()
    torch.nn.init.normal_(model.head.weight, std=0.05)
    config = dict(architecture="vit_tiny_patch16_224", model_args=arguments, num_classes=5)
    config |= dict(pretrained_cfg=dict(input_size=[in_chans, SIZE, SIZE]) | pretrained_cfg)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    return model


def by_timm(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    """The logits of the model and the transform that timm makes of a folder."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    wanted = resolve_model_data_config(model) | dict(crop_pct=1.0)
    *_, normalise = create_transform(**wanted).transforms
    with torch.no_grad():
        return model(normalise(pixels.float() / 255))


@pytest.mark.parametrize(
    ("mean", "std"), [(MEAN, STD), ([0.0] * 3, [1.0] * 3), ([0.5] * 3, [0.5] * 3), (0.3, 0.25)]
)
def test_timm_s_mean_and_deviation_on_every_way_in(folder, pixels, mean, std):
    timm_folder(folder, mean=mean, std=std)
    wanted = by_timm(folder, pixels)
    assert wanted.std() > 0.01
    for path in (folder, str(folder), folder / "model.safetensors"):
        torch.testing.assert_close(ours(path, pixels), wanted, rtol=0, atol=2e-5)


def test_a_mean_of_zero_is_no_missing_one(folder, pixels):
    theirs = timm_folder(folder, mean=0.0, std=0.4)
    with torch.no_grad():
        wanted = theirs(pixels / 255 / 0.4)
    torch.testing.assert_close(ours(folder, pixels), wanted, rtol=0, atol=2e-5)


def test_older_files_of_timm_say_it_beside_the_architecture(folder, pixels):
    theirs = timm_folder(folder)
    flat = dict(architecture="vit_tiny_patch16_224", input_size=[3, SIZE, SIZE], mean=MEAN, std=STD)
    (folder / "config.json").write_text(json.dumps(flat))
    loaded = timm.create_model(f"local-dir:{folder}", img_size=SIZE, depth=1)
    assert list(resolve_model_data_config(loaded)["mean"]) == MEAN
    with torch.no_grad():
        wanted = theirs((pixels / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])
    torch.testing.assert_close(ours(folder, pixels), wanted, rtol=0, atol=2e-5)


def test_without_an_architecture_its_preparation_counts_all_the_same(folder, pixels):
    timm_folder(folder, mean=MEAN, std=STD)
    wanted = by_timm(folder, pixels)
    (folder / "config.json").write_text(json.dumps(dict(pretrained_cfg=dict(mean=MEAN, std=STD))))
    torch.testing.assert_close(ours(folder, pixels, num_heads=3), wanted, rtol=0, atol=2e-5)


def test_what_only_one_of_two_numbers_says(folder, pixels):
    """timm then takes ImageNet's for the other."""
    timm_folder(folder, mean=[0.1, 0.2, 0.3])
    torch.testing.assert_close(ours(folder, pixels), by_timm(folder, pixels), rtol=0, atol=2e-5)


def test_grey_pictures(folder, pixels):
    timm_folder(folder, in_chans=1, mean=[0.286], std=[0.353])
    wanted = by_timm(folder, pixels[:, :1])
    torch.testing.assert_close(ours(folder, pixels[:, :1]), wanted, rtol=0, atol=2e-5)
    timm_folder(folder, in_chans=1, mean=[0.286])  # timm's default for the deviation is of three channels
    with pytest.raises(ValueError, match=r"with 1 channels that is one number, or 1"):
        vitlab.load_checkpoint(folder)


def test_a_size_of_one_s_own_changes_nothing_about_it(folder, pixels):
    timm_folder(folder, mean=MEAN, std=STD)
    larger = pixels.repeat(1, 1, 2, 2)
    config = json.loads((folder / "config.json").read_text())
    plain = vitlab.load_checkpoint(folder.joinpath("model.safetensors").rename(folder / "m.safetensors"))
    config["pretrained_cfg"] |= dict(mean=[0.5] * 3, std=[0.5] * 3)
    assert not torch.equal(plain.patch_embed.proj.bias, torch.zeros(192))
    prepared = ours(folder, larger, image_size=2 * SIZE)
    (folder / "config.json").write_text(json.dumps(config))
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    with torch.no_grad():
        raw = vitlab.load_checkpoint(folder, image_size=2 * SIZE)((larger / 255 - mean) / std)
    torch.testing.assert_close(prepared, raw, rtol=0, atol=2e-5)


def test_a_file_alone_takes_minus_one_to_one(folder, tmp_path, pixels):
    theirs = timm_folder(folder, mean=MEAN, std=STD)
    alone = (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("error", message=".*images are taken to be")
        wanted = theirs(data.normalise(pixels))
        torch.testing.assert_close(ours(alone, pixels), wanted, rtol=0, atol=2e-5)


def test_a_config_of_timm_without_a_word_is_warned_of(folder, pixels):
    theirs = timm_folder(folder)
    with pytest.warns(UserWarning, match=r"taken to be in \[-1, 1\].*timm would take ImageNet's"):
        found = ours(folder, pixels)
    with torch.no_grad():
        torch.testing.assert_close(found, theirs(data.normalise(pixels)), rtol=0, atol=2e-5)


# ---------------------------------------------------------------------------------------------- Hugging Face


@pytest.fixture(scope="module")
def transformers_model():
    """A small model of transformers', and the library."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (the bench extra has it)"
    )
    torch.manual_seed(0)
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80)
    config = transformers.ViTConfig(**sizes, num_labels=5, image_size=SIZE, patch_size=8)
    return transformers.ViTForImageClassification(config).eval(), transformers


@pytest.fixture
def hugging_face(transformers_model, folder):
    """The model in a folder; a function saves its processor there and gives logits."""
    model, transformers = transformers_model
    model.save_pretrained(folder)

    def logits(pixels: torch.Tensor, **steps) -> torch.Tensor:
        size = dict(height=SIZE, width=SIZE)
        transformers.ViTImageProcessor(**steps, size=size).save_pretrained(folder)
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        inputs = processor(list(pixels), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            return model(inputs.float()).logits

    return logits


STEPS = [
    dict(zip(("do_normalize", "do_rescale", "rescale_factor"), values, strict=True)) | numbers
    for values in itertools.product((True, False), (True, False), (1 / 255, 1 / 127.5, 1.0))
    for numbers in (
        dict(image_mean=MEAN, image_std=STD),
        dict(image_mean=0.0, image_std=1.0),
        dict(image_mean=0.25, image_std=[0.2, 0.3, 0.4]),
        dict(image_mean=[127.5] * 3, image_std=[127.5] * 3),
    )
]


@pytest.mark.parametrize("steps", STEPS)
def test_every_step_of_hugging_face_s_processor(folder, hugging_face, pixels, steps):
    wanted = hugging_face(pixels, **steps)
    for path in (folder, folder / "model.safetensors"):
        torch.testing.assert_close(ours(path, pixels), wanted, rtol=0, atol=2e-5)


def test_what_a_processor_leaves_out_or_calls_otherwise(folder, hugging_face, pixels):
    hugging_face(pixels)
    image_file = folder / "preprocessor_config.json"
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    raw = vitlab.load_checkpoint((folder / "model.safetensors").rename(folder / "m.safetensors"))
    image_file.write_text("{}")
    with torch.no_grad():
        half, imagenet = raw(pixels / 127.5 - 1), raw((pixels / 255 - mean) / std)
        zero = raw(pixels / 255 / 0.5)
    for steps, wanted in (
        (dict(feature_extractor_type="ViTFeatureExtractor", image_mean=MEAN, image_std=STD), imagenet),
        (dict(image_processor_type="ViTImageProcessorFast", image_mean=MEAN, image_std=STD), imagenet),
        (dict(image_processor_type="ViTImageProcessorPil"), half),
        (dict(image_processor_type="DINOv3ViTImageProcessor"), imagenet),
        (dict(image_mean=0), zero),
        (dict(do_normalize=None, rescale_factor=1 / 127.5), raw_of(raw, pixels / 127.5)),
        ({}, half),
    ):
        image_file.write_text(json.dumps(steps))
        torch.testing.assert_close(ours(folder, pixels), wanted, rtol=0, atol=2e-5)


def raw_of(model, images):
    with torch.no_grad():
        return model(images)


def test_a_nested_processor_comes_first(folder, hugging_face, pixels):
    hugging_face(pixels)
    steps = json.loads((folder / "preprocessor_config.json").read_text())
    nested = dict(image_processor=steps | dict(image_mean=MEAN, image_std=STD))
    (folder / "processor_config.json").write_text(json.dumps(nested))
    wanted = hugging_face(pixels)  # transformers reads the nested one
    torch.testing.assert_close(ours(folder, pixels), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", preparing.PROCESSORS)
def test_defaults_are_those_of_transformers(name):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    processor = getattr(transformers, f"{name}ImageProcessor")()
    mean, std = preparing.PROCESSORS[name]
    np.testing.assert_allclose(processor.image_mean, mean, atol=1e-7)
    np.testing.assert_allclose(processor.image_std, std, atol=1e-7)
    assert (processor.do_rescale, processor.do_normalize) == (True, True)
    assert processor.rescale_factor == 1 / 255


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (dict(image_processor_type="VivitImageProcessor"), "is of a VivitImageProcessor"),
        (dict(image_processor_type=3), "is of a 3"),
        (dict(rescale_factor=None), "rescale_factor=None"),
        (dict(rescale_factor=0), "rescale_factor=0"),
        (dict(rescale_factor="1/255"), "rescale_factor='1/255'"),
        (dict(do_normalize="false"), "do_normalize='false', which is neither"),
        (dict(do_rescale=1), "do_rescale=1, which is neither"),
        (dict(image_mean=None), "mean or the deviation of its images is None"),
        (dict(image_mean=[0.1, 0.2]), r"is \[0.1, 0.2\]; with 3 channels"),
        (dict(image_std=0.0), "is 0.0"),
        (dict(image_std=[0.2, float("nan"), 0.2]), "nan"),
        (dict(image_mean=[True, 0.5, 0.5]), "True"),
    ],
)
def test_what_is_no_preparation_is_refused_by_name(folder, steps, words):
    timm_folder(folder, mean=[0.5] * 3, std=[0.5] * 3)
    (folder / "config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(steps))
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json .*{words}"):
        vitlab.load_checkpoint(folder, num_heads=3)


def test_files_that_are_damaged_or_say_different_things(folder, pixels):
    timm_folder(folder, mean=MEAN, std=STD)
    wanted = ours(folder, pixels)
    images = folder / "preprocessor_config.json"
    images.write_text(json.dumps(dict(image_mean=MEAN, image_std=STD)))
    assert torch.equal(ours(folder, pixels), wanted)  # once, not twice
    images.write_text("{}")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json and config\.json beside it prepare"):
        vitlab.load_checkpoint(folder)
    images.write_text("{")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json is damaged"):
        vitlab.load_checkpoint(folder)
    (folder / "processor_config.json").write_text('{"image_processor": 3}')
    with pytest.raises(ValueError, match="image_processor is no object"):
        vitlab.load_checkpoint(folder)


def test_patches_that_are_normed_first_cannot_take_it(folder):
    vit_pytorch = pytest.importorskip("vit_pytorch", reason="vit-pytorch is not installed")
    sizes = dict(image_size=SIZE, patch_size=8, num_classes=5, dim=64, depth=1, heads=1, mlp_dim=96)
    safetensors.torch.save_file(vit_pytorch.ViT(**sizes).state_dict(), folder / "model.safetensors")
    images = folder / "preprocessor_config.json"
    images.write_text("{}")
    assert vitlab.load_checkpoint(folder).config.patch_norm
    images.write_text(json.dumps(dict(do_normalize=False)))
    with pytest.raises(ValueError, match="norms patches before"):
        vitlab.load_checkpoint(folder)


def test_a_stem_cannot_take_it_either(folder):
    model = vitlab.ViT(vitlab.ViTConfig(image_size=32, patch_size=16, in_chans=3, stem=(1,), stem_width=32))
    before = model.state_dict()
    images = folder / "preprocessor_config.json"
    images.write_text("{}")
    preparing.take_unit_range(model, folder)
    images.write_text(json.dumps(dict(image_mean=MEAN)))
    with pytest.raises(ValueError, match="into a hybrid"):
        preparing.take_unit_range(model, folder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_folder_in_the_hub_s_cache_may_lack_the_processor(tmp_path, folder, pixels):
    timm_folder(folder)
    (folder / "config.json").unlink()
    snapshot = tmp_path / "models--some--vit" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "model.safetensors").rename(snapshot / "model.safetensors")
    with pytest.warns(UserWarning, match=r"in the hub's cache and has no preprocessor_config\.json"):
        vitlab.load_checkpoint(snapshot)
    known = tmp_path / "models--some--vit" / ".no_exist" / "abc"
    known.mkdir(parents=True)
    (known / "preprocessor_config.json").touch()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*images are taken to be")
        vitlab.load_checkpoint(snapshot)


# ------------------------------------------------------------------------ vitlab's own files, and the command


def test_vitlab_s_own_files_are_not_touched(folder, pixels):
    timm_folder(folder, mean=MEAN, std=STD)
    model = vitlab.load_checkpoint(folder)
    vitlab.save_checkpoint(model, folder / "mine.safetensors")
    with torch.no_grad():
        assert torch.equal(ours(folder / "mine.safetensors", pixels), model(data.normalise(pixels)))


def test_names_of_timm_beside_a_file_that_prepares_otherwise(folder, tmp_path, pixels):
    timm_folder(folder, mean=MEAN, std=STD)
    model = vitlab.load_checkpoint(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = vitlab.save_checkpoint(model, tmp_path / "alone.safetensors", layout="timm")
    with torch.no_grad():
        assert torch.equal(ours(alone, pixels), model(data.normalise(pixels)))
    with pytest.warns(UserWarning, match=r"config\.json prepares images in another way than to \[-1, 1\]"):
        vitlab.save_checkpoint(model, folder / "model.safetensors", layout="timm")


def test_the_command_starts_from_a_file_or_its_folder(folder, tmp_path, pixels):
    timm_folder(folder, mean=MEAN, std=STD)
    for number in range(10):
        (tmp_path / "mine" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels[number % 2].permute(1, 2, 0).numpy())
        picture.save(tmp_path / "mine" / "ab"[number % 2] / f"{number}.png")
    cards = []
    for start in (folder, folder / "model.safetensors"):
        out = tmp_path / "made.safetensors"
        options = f"--steps 1 --batch_size 4 --learning_rate 1e-9 --image_size {SIZE} --precision fp32"
        command.main(
            shlex.split(f"--out {out} --data {tmp_path / 'mine'} --start {start} --num_heads 3 {options}")
        )
        made, theirs = vitlab.load_checkpoint(out), vitlab.load_checkpoint(folder)
        with torch.no_grad():
            torch.testing.assert_close(
                made.forward_features(data.normalise(pixels)),
                theirs.forward_features(data.normalise(pixels)),
                rtol=0,
                atol=2e-5,
            )
        cards.append(json.loads(out.with_suffix(".json").read_text()))
    assert cards[0]["start"] == cards[1]["start"]
