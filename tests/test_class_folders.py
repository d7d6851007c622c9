"""Folders of classes: which are classes, their numbers, and what is done about those without a picture."""

import random
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

import vitlab
from vitlab import ViT, ViTConfig, data, fine_tuning
from vitlab.training import command


def fill(folder: Path, names, each: int = 1) -> Path:
    """A picture in each class's folder, its grey ten times the name's place in `names`."""
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            Image.new("L", (8, 8), 10 * place).save(folder / name / f"{number}.png")
    return folder


def read_quietly(folder: Path) -> data.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return data.image_folder(folder, 8)


@pytest.mark.parametrize(
    "names",
    [
        [str(number) for number in range(12)],
        ["1", "2", "10", "20", "100"],
        ["08", "09", "10", "011"],
        ["-10", "-2", "0", "0.5", "1.5", "10.25"],
        ["2", "10", "cat", "dog"],  # numbers, then names
        ["class10", "class2", "n01440764", "n01443537"],  # by letters, as other libraries sort them
        ["1e3", "B", "a", "²", "١"],  # no numbers, though Python's str.isdigit has it that some are
    ],
)
def test_numbers_stand_in_their_order_and_names_in_that_of_their_letters(tmp_path, names):
    fill(tmp_path, names)
    dataset = read_quietly(tmp_path)
    assert dataset.classes == names
    assert dataset.labels.tolist() == list(range(len(names)))
    assert dataset.images[:, 0, 0, 0].tolist() == [10 * place for place in range(len(names))]


def test_names_that_are_the_same_number_are_two_classes(tmp_path):
    names = ["01", "1", "1.0", "2"]
    fill(tmp_path, random.Random(0).sample(names, 4))
    assert data.image_folder(tmp_path, 8).classes == names


def test_a_class_without_a_picture_keeps_its_number_and_is_warned_of(tmp_path):
    fill(tmp_path / "train", "abc", each=4)
    fill(tmp_path / "val", "abc", each=2)
    for file in (tmp_path / "val" / "b").iterdir():
        file.unlink()
    train = read_quietly(tmp_path / "train")
    with pytest.warns(UserWarning, match=r"no readable picture in .*val for 'b' \(label 1\)") as caught:
        val = data.image_folder(tmp_path / "val", 8)
    assert caught[0].filename == __file__
    assert val.classes == train.classes == ["a", "b", "c"]
    assert val.labels.tolist() == [0, 0, 2, 2]
    assert val.images[:, 0, 0, 0].tolist() == [0, 0, 20, 20]


def test_a_class_of_unreadable_files_alone_keeps_its_number_too(tmp_path):
    fill(tmp_path, "ac")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photo.jpg").write_text("no picture")
    with pytest.warns(UserWarning) as caught:  # noqa: PT030
        dataset = data.image_folder(tmp_path, 8)
    assert [str(each.message).partition(" in ")[0] for each in caught] == ["skipped", "no readable picture"]
    assert (dataset.classes, dataset.labels.tolist()) == (["a", "b", "c"], [0, 2])


def test_one_class_with_pictures_is_enough_where_others_are_named(tmp_path):
    fill(tmp_path, "b", each=3)
    with pytest.raises(ValueError, match=r"readable images of 1 class \(b\); 2 or more"):
        data.image_folder(tmp_path, 8)
    (tmp_path / "a").mkdir()
    with pytest.warns(UserWarning, match=r"'a' \(label 0\)"):
        assert data.image_folder(tmp_path, 8).labels.tolist() == [1, 1, 1]
    for file in (tmp_path / "b").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"no readable image of 2 classes \(a, b\)"):
        data.image_folder(tmp_path, 8)


def test_what_programs_leave_behind_is_no_class_and_no_warning(tmp_path):
    fill(tmp_path, "ab")
    for name in ("__MACOSX/a", ".ipynb_checkpoints", ".git", "@eaDir", "a/.ipynb_checkpoints", "b/@eaDir"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("Thumbs.db", "a/Thumbs.db", "b/desktop.ini", ".DS_Store", "a/.DS_Store", "a/._0.png"):
        (tmp_path / name).write_bytes(b"\0")
    (tmp_path / "__MACOSX" / "a" / "._0.png").write_bytes(b"\0")
    dataset = read_quietly(tmp_path)
    assert (dataset.classes, len(dataset.labels)) == (["a", "b"], 2)


# ------------------------------------------------------------------------------ what goes through all classes


@pytest.fixture
def holey() -> data.Dataset:
    """Classes a to d, of which b and d have no image."""
    labels = torch.tensor([0] * 6 + [2] * 6)
    images = (labels * 60).byte()[:, None, None, None].expand(12, 3, 8, 8).contiguous()
    return data.Dataset(images, labels, list("abcd"))


def test_parts_and_draws_leave_out_a_class_without_images(holey):
    kept, held = data.hold_out(holey, share=0.5)
    assert kept.labels.tolist() == held.labels.tolist() == [0, 0, 0, 2, 2, 2]
    assert kept.classes == held.classes == holey.classes
    drawn = fine_tuning.few_per_class(holey, 2)
    assert drawn.labels.tolist() == [0, 0, 2, 2]
    with pytest.raises(ValueError, match="class 'a' has 6 images, fewer than the 7"):
        fine_tuning.few_per_class(holey, 7)
    one = holey.subset([0, 6, 7])
    with pytest.raises(ValueError, match="class 'a' has 1 image; 2 or more"):
        data.hold_out(one)
    part = data.select_classes(holey, [3, 2])
    assert (part.classes, part.labels.tolist()) == (["d", "c"], [1] * 6)


def test_an_empty_data_set_is_refused_in_words(holey):
    empty = holey.subset([])
    for call in (lambda: data.hold_out(empty), lambda: fine_tuning.few_per_class(empty, 1)):
        with pytest.raises(ValueError, match="the data set is empty"):
            call()


def test_training_and_studies_with_a_class_without_images(holey):
    model = ViT(ViTConfig(image_size=8, patch_size=4, in_chans=3, num_classes=4, embed_dim=16, depth=1))
    recipe = vitlab.Recipe(steps=12, batch_size=12, learning_rate=1e-2, seed=0)
    history = vitlab.train(model, holey, holey, recipe, progress=False)
    assert history.accuracy == 1.0
    pixels = holey.images.flatten(1) / 255
    assert fine_tuning.linear_probe(pixels, holey.labels, pixels, holey.labels) == 1.0
    learners = {"pixels": fine_tuning.pixel_probe(ridge=1.0)}
    assert fine_tuning.few_label_study(learners, holey, holey, [1, 3], draws=2)["pixels"].min() == 1.0
    assert fine_tuning.adapt_to(model, holey).config.num_classes == 4


def test_the_command_trains_on_a_folder_with_a_class_without_images(tmp_path):
    fill(tmp_path / "mine", ["2", "10"], each=6)
    (tmp_path / "mine" / "3").mkdir()
    out = tmp_path / "made.safetensors"
    options = (
        "--steps 2 --batch_size 4 --image_size 8 --embed_dim 16 --depth 1 --num_heads 2 --precision fp32"
    )
    with pytest.warns(UserWarning, match=r"'3' \(label 1\)"):
        command.main(["--out", str(out), "--data", str(tmp_path / "mine"), *options.split()])
    assert vitlab.load_checkpoint(out).config.num_classes == 3
    assert ": 2, 3, 10" in out.with_suffix(".json").read_text()
