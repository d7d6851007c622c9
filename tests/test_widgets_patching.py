"""The explorers of lesson 01: one patch as a vector, sizes that do not divide, measured cost, own photos."""

import io
import re
import time
from datetime import UTC, datetime
from functools import lru_cache

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.widgets import PatchExplorer, PatchVectorExplorer, PictureUpload, patching, remedies
from vitlab.widgets.patch_vector import GAP, HEADER, IMAGE, LABEL, PANEL, RUNS, _fit
from vitlab.widgets.your_images import uploaded


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return {
        "garment": torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8, generator=generator),
        "photo": torch.randint(0, 256, (3, 48, 72), dtype=torch.uint8, generator=generator),
        "floats": torch.rand(3, 20, 12, generator=generator) * 2 - 1,
    }


def decoded(explorer) -> np.ndarray:
    image = Image.open(io.BytesIO(explorer.picture))
    assert image.size == explorer.size
    return np.asarray(image)


# ------------------------------------------------------------------------------------- one patch as a vector


def by_loops(image, size, number):
    """The numbers of patch `number` (from 1), channel after channel, row after row."""
    corners = [
        (y, x) for y in range(0, image.shape[1], size) for x in range(0, image.shape[2], size)
    ]  # reading order
    top, left = corners[number - 1]
    return [
        image[c, top + y, left + x].item()
        for c in range(image.shape[0])
        for y in range(size)
        for x in range(size)
    ]


@pytest.mark.parametrize(
    ("name", "size", "patch"),
    [("garment", 4, 25), ("garment", 28, 1), ("photo", 8, 17), ("photo", 1, 3456), ("photo", 24, 6)],
)
def test_the_caption_says_where_the_patch_lies_and_what_it_holds(images, name, size, patch):
    explorer = PatchVectorExplorer(images)
    explorer.set(image=name, patch_size=size, patch=patch)
    numbers = by_loops(images[name], size, patch)
    channels, height, width = images[name].shape
    n, columns = height // size * (width // size), width // size
    top, left = (patch - 1) // columns * size, (patch - 1) % columns * size
    assert explorer.caption.startswith(
        f"{name}, P = {size}: patch {patch:,} of {n:,}, patches[0, {patch - 1}] in code; its upper left "
        f"pixel is ({top}, {left}).\n"
    )
    assert f"P²C = {size**2:,} · {channels} = {len(numbers):,} numbers: " in explorer.caption
    listed = re.search(r"numbers: (.*)\.", explorer.caption)[1].removesuffix(" and so on").split(", ")
    assert listed == [str(number) for number in numbers[:8]]


def test_floats_are_written_as_floats(images):
    explorer = PatchVectorExplorer(images)
    explorer.set(image="floats", patch_size=2, patch=5)
    first = ", ".join(f"{number:.1f}" for number in by_loops(images["floats"], 2, 5)[:8])
    assert f"= 12 numbers: {first} and so on." in explorer.caption


def test_the_patch_slider_ends_at_the_last_patch(images):
    explorer = PatchVectorExplorer(images, patch_size=2, patch=100)
    patch = explorer.controls["patch"]
    assert (patch.value, patch.max) == (100, 14 * 14)
    explorer.controls["patch_size"].value = 7
    assert (patch.value, patch.max, explorer.error) == (16, 16, None)
    explorer.controls["image"].value = "photo"
    assert explorer.state["patch_size"] == 6
    assert patch.max == 8 * 12
    explorer.reset()
    assert explorer.state == {"image": "garment", "patch_size": 2, "patch": 100}


def test_the_cells_are_as_bright_as_the_numbers_in_their_order():
    """With P = 2 each cell is wide: its corner, away from the number in it, shows the level."""
    image = (torch.arange(4 * 4 * 3, dtype=torch.uint8) * 5).view(3, 4, 4)
    picture = decoded(PatchVectorExplorer({"ramp": image}, patch_size=2, patch=4))
    numbers = by_loops(image, 2, 4)
    shown = []
    for c in range(3):
        top = HEADER + PANEL + GAP + c * (RUNS // 3) + LABEL
        shown += [picture[top + 2, 60 * i + 2, 0] for i in range(4)]
    assert shown == numbers


def test_the_patch_is_shown_enlarged_in_its_colours(images):
    explorer = PatchVectorExplorer(images)
    explorer.set(image="photo", patch_size=2, patch=37 + 36)
    side = PANEL // 2
    picture = decoded(explorer)[HEADER : HEADER + PANEL, IMAGE + GAP : IMAGE + GAP + PANEL]
    patch = images["photo"][:, 4:6, 0:2].permute(1, 2, 0).numpy()
    for y in range(2):
        for x in range(2):
            np.testing.assert_array_equal(picture[y * side + 10, x * side + 10], patch[y, x])


def test_every_patch_is_marked_in_another_place(images):
    explorer = PatchVectorExplorer({"blank": torch.full((3, 40, 60), 128, dtype=torch.uint8)}, patch_size=10)
    seen = set()
    for patch in range(1, 25):
        explorer.set(patch=patch)
        seen.add(decoded(explorer)[HEADER : HEADER + PANEL, :IMAGE].tobytes())
    assert len(seen) == 24


@pytest.mark.parametrize("side", [7, 8, 10, 16, 28, 96])
def test_a_run_never_wraps_where_the_patch_does(side):
    across = _fit(side**2, side, RUNS // 3 - LABEL)[0]
    assert across == side**2 or across % side


def test_a_patch_with_more_numbers_than_pixels_on_the_screen_is_cut_short():
    explorer = PatchVectorExplorer({"large": torch.zeros(3, 384, 384, dtype=torch.uint8)}, patch_size=384)
    assert "P²C = 147,456 · 3 = 442,368 numbers" in explorer.caption
    assert "Only the first 30,800 of each run are shown." in explorer.caption


# ------------------------------------------------------------------------------- sizes that do not divide


@pytest.mark.parametrize(("name", "size"), [("garment", 5), ("garment", 27), ("photo", 7), ("photo", 50)])
def test_crop_pad_and_resize_are_compared(images, name, size):
    explorer = PatchExplorer(images)
    explorer.set(image=name, typed=size)
    _, height, width = images[name].shape
    assert explorer.error is None
    assert f"not divisible by {size}; use " in explorer.caption
    ones = torch.ones(1, 1, height, width)
    cropped = torch.nn.functional.unfold(ones, size, stride=size) if size <= height else ones[:, :, 0, :0]
    n = cropped.shape[-1] if size <= height else 0
    lost = height * width - int(cropped.sum())
    assert f"loses {lost:,} of {height * width:,} pixels" in explorer.caption
    assert re.findall(r"patches: N = (\d+)", explorer.caption)[0] == str(n)
    padded = torch.nn.functional.pad(ones, (0, -width % size, 0, -height % size))
    assert f"Pad to {padded.shape[2]} × {padded.shape[3]}: adds {padded.numel() - ones.numel():,} pixels" in (
        explorer.caption
    )
    n = torch.nn.functional.unfold(padded, size, stride=size).shape[-1]
    assert re.findall(r"patches: N = (\d+)", explorer.caption)[1] == str(n)


def test_resizing_goes_to_the_nearest_multiples(images):
    assert remedies.remedies((28, 56), 5)["resize"] == (30, 55)
    assert remedies.remedies((4, 100), 10)["resize"] == (10, 100)  # never to nothing
    assert remedies.told((28, 56), 5)["resize"] == f"scales height by {30 / 28:.3f}, width by {55 / 56:.3f}"


def test_what_is_cut_off_or_added_is_striped_and_the_rest_is_as_it_was():
    image = torch.full((1, 28, 28), 200, dtype=torch.uint8)
    explorer = PatchExplorer({"plain": image}, patch_size=4)
    explorer.controls["typed"].value = 5
    picture, scale = decoded(explorer)[remedies.HEADER :, :, 0], remedies.SIDE / 30
    crop, pad, resized = (picture[:280, 300 * i : 300 * i + 280] for i in range(3))
    edge = round(scale)
    assert set(np.unique(crop[2 : edge - 1, : round(28 * scale)])) == {100, 228}  # one row of pixels is lost
    assert set(np.unique(pad[2 : edge - 1])) == {0, 128, 255}  # one is added, under the grid
    for shown in (crop[edge : round(26 * scale), edge : round(26 * scale)], resized):
        assert set(np.unique(shown)) == {0, 200, 255}  # the image and its grid
    lines = (resized[4] == 255).sum(), (crop[edge + 4] == 255)[: round(28 * scale)].sum()
    assert lines == (5, 4)  # 6 and 5 patches in a row


def test_a_patch_larger_than_the_image_is_an_error(images):
    explorer = PatchExplorer(images)
    explorer.set(typed=29)
    assert isinstance(explorer.error, ValueError)
    explorer.set(image="photo", typed=60)  # larger than the height: there is nothing to crop to
    assert explorer.error is None
    assert "Crop to 0 × 60: loses 3,456 of 3,456 pixels (100.0%); 0 × 1 patches: N = 0." in explorer.caption


@pytest.mark.parametrize(("typed", "fine"), [(4, True), (6, False), (5, True), (100, False)])
def test_where_no_grid_is_drawn_the_caption_says_so(typed, fine):
    explorer = PatchExplorer({"blank": torch.full((1, 384, 384), 128, dtype=torch.uint8)})
    explorer.controls["typed"].value = typed
    assert ("The grid is too fine to be drawn." in explorer.caption) == fine
    shown = decoded(explorer)[200:220, :270, 0]  # inside the first panel, whichever it is
    assert ((shown == 255).any() and (shown == 0).any()) == (not fine)


# --------------------------------------------------------------------------------------------- measured cost


def test_all_costs_are_measured_before_a_control_moves(images, monkeypatch):
    asked, measure = [], lru_cache(lambda *arguments: asked.append(arguments) or (0.00325, 2**20))
    monkeypatch.setattr(patching, "attention_cost", measure)
    explorer = PatchExplorer(images, patch_size=4)
    assert (
        "measured on one thread of this machine's CPU: 3.25 ms; its weights fill 1 MiB." in explorer.caption
    )
    before = sorted(asked)
    for name in images:
        explorer.set(image=name)
        for size in explorer.controls["patch_size"].options:
            explorer.set(patch_size=size)
    sides = [image.shape[1:] for image in images.values()]
    every = {(h // p) * (w // p) for h, w in sides for p in range(1, h + 1) if h % p == w % p == 0}
    lengths = sorted(1 + patches for patches in every if patches < patching.MOST_TOKENS)
    assert sorted(asked) == before == [(tokens, 96, torch.device("cpu")) for tokens in lengths]


def test_the_measurement_leaves_the_random_numbers_alone_and_is_kept():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    first = patching.attention_cost(33, 96, torch.device("cpu"))
    assert torch.equal(torch.rand(2), wanted)
    assert torch.get_num_threads() == threads
    assert patching.attention_cost(33, 96, torch.device("cpu")) is first
    queries = torch.zeros(4, 33, 24)
    assert first[1] == (queries @ queries.mT).nbytes
    assert 0 < first[0] < 1


def test_a_long_sequence_is_not_measured(monkeypatch):
    def measured(tokens, *_):
        assert tokens <= patching.MOST_TOKENS
        return 0.001, 1

    monkeypatch.setattr(patching, "attention_cost", measured)
    explorer = PatchExplorer({"large": torch.zeros(1, 384, 384)}, patch_size=2)
    tokens = 192 * 192 + 1
    assert "not measured, it would take long. By the formulas" in explorer.caption
    assert f"fill {4 * 4 * tokens**2 / 2**30:,.1f} GiB" in explorer.caption
    scores = torch.nn.functional.linear(
        torch.empty(tokens, 96, device="meta"), torch.empty(tokens, 96, device="meta")
    )
    assert f"are {2 * scores.numel() * 96 / 1e9:,.1f} · 10⁹" in explorer.caption


# ------------------------------------------------------------------------------------------------- own photo


def png(picture) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(content, "PNG")
    return content.getvalue()


def values_of_both(name, content):
    """What FileUpload.value is in ipywidgets 7 and in 8."""
    file = {"name": name, "type": "image/png", "size": len(content), "last_modified": datetime.now(UTC)}
    return [
        {name: {"metadata": {"name": name}, "content": content}},
        (file | {"content": memoryview(content)},),
    ]


@pytest.mark.parametrize("kind", [PatchExplorer, PatchVectorExplorer])
@pytest.mark.parametrize("version", [0, 1])
def test_an_own_photo_is_shown(images, kind, version):
    explorer = kind(dict(images))
    upload = PictureUpload(explorer.images, then=explorer.add)
    photo = torch.randint(
        0, 256, (3, 101, 153), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    upload.take(uploaded(values_of_both("mine.png", png(photo))[version]))
    assert explorer.state["image"] == "mine.png"
    assert explorer.error is None
    assert explorer.images["mine.png"].shape == (3, 96, 144)
    assert explorer.caption.startswith("mine.png")
    assert list(explorer.controls["patch_size"].options) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 48]


@pytest.mark.parametrize(
    ("size", "kept"),
    [((3000, 4000), (432, 576)), ((20, 31), (20, 31)), ((60, 60), (48, 48)), ((5, 2000), (1, 576))],
)
def test_a_large_photo_is_reduced_and_a_small_one_is_not_enlarged(images, size, kept):
    explorer = PatchExplorer(dict(images))
    explorer.images["mine"] = torch.zeros(3, *size, dtype=torch.uint8)
    explorer.add("mine")
    assert explorer.images["mine"].shape == (3, *kept)
    assert explorer.error is None


def test_another_photo_of_the_same_name_takes_its_place():
    explorer = PatchExplorer({"mine": torch.zeros(3, 48, 48, dtype=torch.uint8)}, patch_size=16)
    before = explorer.picture
    explorer.images["mine"] = torch.full((3, 28, 28), 99, dtype=torch.uint8)
    explorer.add("mine")
    assert explorer.picture != before
    assert explorer.caption.startswith("mine: 28 × 28 pixels, 3 channels, cut with P = 14 ")


def test_a_broken_file_changes_nothing(images):
    explorer = PatchExplorer(dict(images))
    upload = PictureUpload(explorer.images, then=explorer.add)
    before = explorer.state
    upload.take([("cut.png", png(images["photo"])[:200])])
    assert upload.said.startswith("cut.png: ")
    assert len(upload.said) < 100
    assert explorer.state == before
    assert "cut.png" not in explorer.images


# ----------------------------------------------------------------------------------------------- the controls


@pytest.mark.parametrize("kind", [PatchExplorer, PatchVectorExplorer])
def test_every_control_has_a_name(images, kind):
    names = [control.description for control in kind(images).controls.values()]
    assert all(names)
    assert len(set(names)) == len(names)
    assert all(isinstance(control, ipywidgets.ValueWidget) for control in kind(images).controls.values())


def test_each_move_is_fast():
    generator = torch.Generator().manual_seed(0)
    photo = torch.randint(0, 256, (3, 384, 576), dtype=torch.uint8, generator=generator)
    small = photo[:, :32, :48].contiguous()
    vector = PatchVectorExplorer({"photo": photo, "small": small, "grey": photo[:1, :96, :96]})
    patches = PatchExplorer({"photo": photo})
    moves = [(vector, dict(image="photo", patch_size=size, patch=2)) for size in (1, 16, 48, 192)]
    moves += [(vector, dict(image="small", patch_size=8, patch=9))]
    moves += [(vector, dict(image="grey", patch_size=12, patch=9))]  # the most to write
    moves += [(patches, dict(image="photo", patch_size=4, typed=typed)) for typed in (4, 16, 48, 5, 100)]
    for explorer, state in moves:
        explorer.draw(**state)  # measures and reads the font
        assert min(seconds_of_a_draw(explorer, state) for _ in range(3)) <= 0.1, state


def seconds_of_a_draw(explorer, state) -> float:
    """Processor seconds; other programs only add to them, so that the least of several is the explorer's."""
    begin = time.process_time()
    explorer.draw(**state)
    return time.process_time() - begin
