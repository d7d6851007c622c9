"""Explorers are driven as a learner drives them, by a control's value, and judged by what they then show."""

import base64
import gc
import io
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from vitlab.widgets import Explorer, PatchExplorer, figure, tiles
from vitlab.widgets.pictures import fit, png


def decoded(explorer: Explorer) -> np.ndarray:
    """The picture shown now, as the browser decodes it."""
    image = Image.open(io.BytesIO(explorer.picture))
    assert image.format == "PNG"
    assert image.size == explorer.size
    return np.asarray(image)


def block(level):
    return np.full((40, 60, 3), level, np.uint8), f"grey level {level}"


def slider(value=10, high=255):
    return ipywidgets.IntSlider(value, 0, high, description="level")


@pytest.fixture
def explorer():
    return Explorer(block, {"level": slider()}, size=(60, 40))


def test_the_first_picture_is_there_before_anything_is_moved(explorer):
    np.testing.assert_array_equal(decoded(explorer), block(10)[0])
    assert (explorer.caption, explorer.state, explorer.error) == ("grey level 10", {"level": 10}, None)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (60, 40), (333, 7)])
def test_what_is_sent_to_the_page_is_the_picture_to_the_pixel(size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    sent = png(Image.fromarray(pixels))
    read = Image.open(io.BytesIO(sent))
    read.verify()  # the checksums
    assert read.mode == "RGB"
    np.testing.assert_array_equal(plt.imread(io.BytesIO(sent)), (pixels / 255).astype(np.float32))


def test_a_moved_control_changes_picture_and_caption(explorer):
    explorer.controls["level"].value = 200
    np.testing.assert_array_equal(decoded(explorer), block(200)[0])
    assert explorer.caption == "grey level 200"


def test_reset_button_goes_back_to_the_start(explorer):
    explorer.set(level=99)
    button = explorer.widget.children[0].children[-1]
    assert button.description == "Reset"
    button.click()
    assert (explorer.state, explorer.caption) == ({"level": 10}, "grey level 10")


def test_a_state_seen_before_is_not_drawn_again():
    drawn = []

    def draw(level):
        drawn.append(level)
        return block(level)

    explorer = Explorer(draw, {"level": slider()})
    for level in (20, 10, 20, 30):
        explorer.set(level=level)
    assert drawn == [10, 20, 30]
    assert explorer.caption == "grey level 30"


def test_several_values_set_at_once_are_drawn_once():
    drawn = []

    def draw(level, other):
        drawn.append((level, other))
        return block(level)

    controls = {"level": slider(), "other": ipywidgets.Checkbox(False, description="other")}
    explorer = Explorer(draw, controls)
    explorer.set(other=True, level=50)
    assert drawn == [(10, False), (50, True)]


def test_the_newest_state_wins_when_a_control_moves_during_a_drawing():
    level = slider()

    def draw(level_now):
        if level_now == 20:
            level.value = 30
        return block(level_now)

    explorer = Explorer(lambda level: draw(level), {"level": level}, size=(60, 40))
    level.value = 20
    assert explorer.caption == "grey level 30"
    assert decoded(explorer)[0, 0, 0] == 30


def test_a_value_error_is_said_and_the_old_picture_stays():
    def draw(level):
        if level > 100:
            raise ValueError(f"<b>{level}</b> is above 100; use 100")
        return block(level)

    explorer = Explorer(draw, {"level": slider()})
    before = explorer.picture
    explorer.controls["level"].value = 101
    assert explorer.picture == before
    assert "101" in explorer.caption
    assert "use 100" in explorer.caption
    assert isinstance(explorer.error, ValueError)
    shown = explorer.widget.children[2].value
    assert 'role="alert"' in shown
    assert "&lt;b&gt;101" in shown
    explorer.controls["level"].value = 10
    assert (explorer.caption, explorer.error) == ("grey level 10", None)
    assert 'role="status"' in explorer.widget.children[2].value


def test_a_defect_is_shown_and_raised():
    explorer = Explorer(lambda level: block({10: 10}[level]), {"level": slider()})
    with pytest.raises(KeyError):
        explorer.controls["level"].value = 11
    assert explorer.caption == "KeyError: 11"
    explorer.controls["level"].value = 10  # and the explorer lives on
    assert (explorer.caption, explorer.error) == ("grey level 10", None)


def test_an_explorer_that_cannot_draw_its_first_state_is_not_built():
    def draw(level):
        raise ValueError("nothing to draw")

    with pytest.raises(ValueError, match="nothing to draw"):
        Explorer(draw, {"level": slider()})


def test_controls_need_a_visible_name():
    with pytest.raises(ValueError, match="the control 'level' has no visible name; give it a description"):
        Explorer(block, {"level": ipywidgets.IntSlider()})


def test_setting_a_control_that_is_not_there_names_those_that_are(explorer):
    with pytest.raises(ValueError, match="no control named depth; there are level"):
        explorer.set(depth=3)


def test_sliders_wait_until_let_go_unless_drawing_is_fast():
    assert not Explorer(block, {"level": slider()}).controls["level"].continuous_update
    assert Explorer(block, {"level": slider()}, fast=True).controls["level"].continuous_update


def test_one_image_of_fixed_size_and_a_caption(explorer):
    images = [child for child in explorer.widget.children if isinstance(child, ipywidgets.Image)]
    assert [(image.width, image.height) for image in images] == [("60", "40")]
    assert explorer.widget.children[0].children[0] is explorer.controls["level"]


def test_display_is_one_bundle_that_reads_without_a_kernel(explorer):
    data, metadata = DisplayFormatter().format(explorer)
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.widget.model_id
    stored = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB"))
    np.testing.assert_array_equal(stored, block(10)[0])
    assert data["text/plain"] == "grey level 10"
    assert metadata["image/png"]["alt"] == "grey level 10"


def test_figures_are_drawn_at_their_size_and_pyplot_knows_none_of_them():
    plt.close("all")

    def draw(level):
        drawing = figure((300, 200))
        drawing.subplots().plot([0, level])
        return drawing, f"a line to {level}"

    explorer = Explorer(draw, {"level": slider()}, size=(300, 200))
    first = decoded(explorer)
    explorer.set(level=20)
    assert not np.array_equal(first, decoded(explorer))
    assert not plt.get_fignums()
    del explorer
    gc.collect()


def test_pictures_are_enlarged_by_whole_factors_and_centred():
    dot = np.zeros((2, 2, 3), np.uint8)
    shown = np.asarray(fit(dot, (9, 7)))
    assert shown.shape == (7, 9, 3)
    assert (shown == 0).all(-1).sum() == 36  # 6 x 6 of 9 x 7
    assert (shown[0:6, 1:7] == 0).all()


def test_large_pictures_are_reduced_to_fit():
    shown = np.asarray(fit(np.zeros((100, 400, 3), np.uint8), (200, 200)))
    assert shown.shape == (200, 200, 3)
    assert (shown == 0).all(-1).sum() == 200 * 50


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), "picture", None])
def test_what_is_not_a_picture_is_refused(picture):
    with pytest.raises(TypeError, match="RGB uint8 array"):
        Explorer(lambda level: (picture, ""), {"level": slider()})


def test_tiles_colour_agrees_with_matplotlib():
    values = np.random.default_rng(0).random((5, 7))
    wanted = plt.get_cmap("viridis")(values, bytes=True)[..., :3].astype(int)
    assert abs(tiles.colour(values, 0, 1).astype(int) - wanted).max() <= 3  # one step of the 256
    assert (
        tiles.colour(np.ones((2, 2))) == tiles.colour(np.zeros((2, 2)))
    ).all()  # a constant map has a colour


def test_a_full_bar_ends_before_its_number():
    canvas = Image.new("RGB", (340, 28), "white")
    tiles.bars(canvas, (0, 0, 340, 28), {"Ankle boot": 1.0})
    dark = (np.asarray(canvas)[:, :, 0] < 128).any(axis=0).nonzero()[0]
    end = 340 - tiles.NUMBERS
    assert dark[dark < end].max() == end - 1
    assert dark[dark >= end].min() >= end + 4  # a line of 2 pixels at the end of the bar, and a gap


def test_tiles_mosaic_places_every_tile():
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    whole = tiles.mosaic(pictures, columns=3, gap=2)
    assert whole.shape == (10, 22, 3)
    for i in range(5):
        y, x = i // 3 * 6, i % 3 * 8
        assert (whole[y : y + 4, x : x + 6] == i).all()
    assert (whole[4:6] == 255).all()
    assert (whole[6:, 16:] == 255).all()
    assert tiles.mosaic(pictures, columns=5, gap=0).shape == (4, 30, 3)


def test_tiles_resize_keeps_pixels_square_and_averages_areas():
    small = np.array([[[0] * 3, [200] * 3]], np.uint8)
    assert tiles.resize(small, 2, 4)[..., 0].tolist() == [[0, 0, 200, 200]] * 2
    assert tiles.resize(small, 1, 1)[0, 0, 0] == 100


def test_text_is_drawn_dark_or_with_a_halo():
    plain, halo = Image.new("RGB", (60, 30), "grey"), Image.new("RGB", (60, 30), "grey")
    tiles.write(plain, (5, 5), "12")
    tiles.write(halo, (5, 5), "12", halo=True)
    assert np.asarray(plain).min() == 0
    assert np.asarray(plain).max() == 128
    assert (np.asarray(halo).min(), np.asarray(halo).max()) == (0, 255)


# Lesson 01


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return {
        "garment": torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8, generator=generator),
        "photo": torch.randint(0, 256, (3, 48, 72), dtype=torch.uint8, generator=generator),
        "floats": torch.rand(3, 20, 12, generator=generator) * 2 - 1,
    }


@pytest.mark.parametrize(
    ("name", "patch_size", "grid", "n", "numbers"),
    [
        ("garment", 4, "7 × 7", "N = 49", "P²C = 16"),
        ("garment", 7, "4 × 4", "N = 16", "P²C = 49"),
        ("garment", 28, "1 × 1", "N = 1", "P²C = 784"),
        ("garment", 1, "28 × 28", "N = 784", "P²C = 1"),
        ("photo", 8, "6 × 9", "N = 54", "P²C = 192"),
        ("floats", 4, "5 × 3", "N = 15", "P²C = 48"),
    ],
)
def test_patching_numbers(images, name, patch_size, grid, n, numbers):
    explorer = PatchExplorer(images, embed_dim=96)
    explorer.set(image=name, patch_size=patch_size)
    assert f"into {grid} patches: {n}, each a vector of {numbers} numbers" in explorer.caption
    flat = int(numbers.split()[-1])
    convolution = torch.nn.Conv2d(images[name].shape[0], 96, patch_size, patch_size)
    parameters = sum(weight.numel() for weight in convolution.parameters())
    assert parameters == flat * 96 + 96
    assert f"P²C·D + D = {parameters:,} parameters" in explorer.caption
    tokens = torch.empty(int(n.split()[-1]) + 1, 1, device="meta")
    assert f"(N + 1)² = {(tokens @ tokens.T).numel():,} entries" in explorer.caption


def test_patching_offers_only_sizes_that_divide(images):
    explorer = PatchExplorer(images)
    slider = explorer.controls["patch_size"]
    for name, image in images.items():
        explorer.controls["image"].value = name
        height, width = image.shape[-2:]
        assert list(slider.options) == [p for p in range(1, 73) if height % p == 0 and width % p == 0]
        for size in slider.options:
            slider.value = size
            assert explorer.error is None
            assert f"P = {size} into {height // size} × {width // size} patches" in explorer.caption
            assert explorer.controls["typed"].value == size


def test_patching_every_size_has_its_own_picture(images):
    explorer = PatchExplorer(images)
    seen = set()
    for size in explorer.controls["patch_size"].options:
        explorer.set(patch_size=size)
        seen.add(decoded(explorer).tobytes())
    assert len(seen) == len(explorer.controls["patch_size"].options)


def test_patching_a_typed_size_moves_the_slider(images):
    explorer = PatchExplorer(images, patch_size=4)
    explorer.controls["typed"].value = 14
    assert explorer.controls["patch_size"].value == 14
    assert "P = 14 into 2 × 2" in explorer.caption


@pytest.mark.parametrize(("typed", "nearest"), [(29, 28), (100, 28), (0, 1), (-3, 1)])
def test_patching_a_typed_size_that_is_no_patch_is_explained(images, typed, nearest):
    explorer = PatchExplorer(images, patch_size=2)
    before = explorer.picture
    explorer.controls["typed"].value = typed
    assert isinstance(explorer.error, ValueError)
    assert str(typed) in explorer.caption
    assert f"nearest: {nearest})" in explorer.caption
    assert explorer.picture == before
    explorer.controls["typed"].value = nearest
    assert explorer.error is None
    assert f"P = {nearest} into" in explorer.caption


def test_patching_reset_after_an_error_and_another_image(images):
    explorer = PatchExplorer(images, patch_size=7)
    caption, picture = explorer.caption, explorer.picture
    explorer.controls["image"].value = "photo"
    explorer.controls["typed"].value = 500
    assert explorer.error is not None
    explorer.reset()
    assert (explorer.caption, explorer.picture, explorer.error) == (caption, picture, None)
    assert explorer.state == {"image": "garment", "patch_size": 7, "typed": 7, "patch": 1}


@pytest.mark.parametrize("size", [1, 4])
def test_patching_another_image_after_an_error_is_drawn(images, size):
    explorer = PatchExplorer(images, patch_size=size)
    explorer.controls["typed"].value = 50
    explorer.controls["image"].value = "photo"
    assert explorer.error is None
    assert f"photo: 48 × 72 pixels, 3 channels, cut with P = {size} " in explorer.caption


def test_patching_refuses_a_first_size_that_does_not_divide(images):
    with pytest.raises(ValueError, match="28 is not divisible by 5; use 1, 2, 4, 7, 14 or 28"):
        PatchExplorer(images, patch_size=5)


def test_patching_shows_the_pixels_of_each_patch_in_reading_order():
    """Each patch of this image has one grey level of its own: the sequence must show them rising."""
    levels = torch.arange(6, dtype=torch.uint8) * 30 + 40
    image = levels.view(1, 2, 3).repeat_interleave(8, 1).repeat_interleave(8, 2)
    picture = decoded(PatchExplorer({"steps": image}, patch_size=8))
    right = picture[26:, 450:, 0]
    places = []
    for level in levels.tolist():
        ys, xs = np.where(right == level)
        side = np.sqrt(len(ys))
        assert side > 60  # whole patches, not stray pixels of a number
        places.append((np.median(ys), np.median(xs)))
    assert places == sorted(places)  # down the rows, and from left to right in each
    assert len({y for y, _ in places}) * len({x for _, x in places}) >= 6
    left = picture[26:, :430, 0]
    corner = [left[9, 9 + 430 * column // 3] for column in range(3)]
    assert corner == levels[:3].tolist()


def test_patching_never_wraps_the_sequence_where_the_image_does(images):
    for size in (2, 4, 7):
        picture = decoded(PatchExplorer(images, patch_size=size))[26:, 450:]
        blank = (picture == 255).all((0, 2))
        assert np.diff(blank.astype(int)).clip(0).sum() != 28 // size


def test_patching_says_when_the_sequence_is_cut_short():
    explorer = PatchExplorer({"large": torch.zeros(1, 384, 384)}, patch_size=1)
    side, gap = 5, 1  # the smallest patch on the screen
    room = ((430 + gap) // (side + gap)) ** 2
    assert "N = 147,456" in explorer.caption
    assert f"Only the first {room:,} patches are shown." in explorer.caption
    explorer.set(patch_size=8)
    assert "N = 2,304" in explorer.caption
    assert "Only" not in explorer.caption


def test_patching_leaves_no_pyplot_figure_open(images):
    plt.close("all")
    PatchExplorer(images).set(image="photo", patch_size=8)
    assert not plt.get_fignums()


def test_explorers_use_neither_pyplot_nor_what_ipywidgets_7_lacks():
    absent = (
        "import matplotlib.pyplot",
        "titles=",
        "TagsInput",
        "TimePicker",
        "tooltip=",
        "tabbable",
        "interact(",
    )
    folder = Path(__file__).resolve().parents[1] / "vitlab" / "widgets"
    files = sorted(folder.glob("*.py"))
    assert len(files) >= 4
    for file in files:
        code = file.read_text(encoding="utf-8")
        words = absent[1:] if file.name == "overview.py" else absent  # a cell's figure, and no explorer
        assert not [word for word in words if word in code], file.name


@pytest.mark.parametrize(("own", "later"), [(None, "max(300px, 80ch)"), ("200px", "200px")])
def test_a_list_makes_room_for_choices_that_come_later(own, later):
    layout = {} if own is None else {"width": own}
    control = ipywidgets.Dropdown(options=["a", "b"], description="picture", layout=layout)
    explorer = Explorer(lambda name: (np.zeros((8, 8, 3), np.uint8), name), {"name": control})
    explorer.offer("name", ["a", "b" * 69], "a")
    assert control.layout.width == later
