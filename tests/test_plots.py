"""Every plot shows the numbers it was given: what its artists hold is compared with the input."""

import io
from types import SimpleNamespace

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from vitlab import plots
from vitlab.alt_text import alt_text


@pytest.fixture(autouse=True)
def closed():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture
def picture():
    return torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def history():
    rows = [
        {
            "step": s,
            "loss": 2.0 / s,
            "accuracy": s / 10,
            "learning_rate": s / 100,
            "images_per_second": 50.0 * s,
        }
        for s in (1, 2, 3)
    ]
    return SimpleNamespace(rows=rows, evaluations=[(2, 1.5, 0.25), (3, 1.25, 0.5)])


def shown(ax, i=0):
    return np.asarray(ax.get_images()[i].get_array())


CALLS = {
    "image": lambda ax: plots.image(torch.zeros(1, 8, 12), title="t", ax=ax),
    "images": lambda ax: plots.images(torch.zeros(5, 3, 8, 12), titles="abcde", columns=3, title="t", ax=ax),
    "patch_grid": lambda ax: plots.patch_grid(torch.zeros(3, 8, 12), 4, title="t", ax=ax),
    "merged_tokens": lambda ax: plots.merged_tokens(
        torch.zeros(3, 8, 12), [0, 0, 1, 2, 0, 1], 4, title="t", ax=ax
    ),
    "patch_sequence": lambda ax: plots.patch_sequence(torch.zeros(3, 8, 12), 4, title="t", ax=ax),
    "patch_vector": lambda ax: plots.patch_vector(torch.zeros(3, 4, 4), title="t", ax=ax),
    "matrix": lambda ax: plots.matrix(torch.rand(3, 4), title="t", ax=ax),
    "overlay": lambda ax: plots.overlay(torch.zeros(3, 8, 12), torch.rand(2, 3), title="t", ax=ax),
    "maps": lambda ax: plots.maps(torch.rand(4, 2, 3), titles=range(4), title="t", ax=ax),
    "maps_below": lambda ax: plots.maps_below(
        torch.zeros(2, 3, 8, 12), {"a map": torch.rand(2, 2, 3)}, titles="ab", title="t", ax=ax
    ),
    "maps_beside": lambda ax: plots.maps_beside(
        torch.zeros(3, 8, 12), torch.rand(5, 2, 3), titles="abcde", title="t", ax=ax
    ),
    "filters": lambda ax: plots.filters(torch.randn(6, 1, 4, 4), title="t", ax=ax),
    "position_similarity": lambda ax: plots.position_similarity(torch.randn(6, 8), (2, 3), title="t", ax=ax),
    "curves": lambda ax: plots.curves(
        SimpleNamespace(rows=[{"step": 1, "loss": 1.0}], evaluations=[(1, 1.0, 0.5)]), title="t", ax=ax
    ),
    "series": lambda ax: plots.series([1, 2], torch.rand(3, 2), "a", "x", "y", title="t", ax=ax),
    "runs": lambda ax: plots.runs({"a": [1.0, 2.0], "b": [3.0]}, "y", title="t", ax=ax),
    "bars": lambda ax: plots.bars({"a": 1.0, "b": -2.0}, "x", title="t", ax=ax),
    "lines": lambda ax: plots.lines([1, 2], {"a": [3.0, 4.0]}, "x", "y", title="t", ax=ax),
    "dots": lambda ax: plots.dots({"a": ([1, 2], [3.0, 4.0])}, "x", "y", title="t", ax=ax),
    "by_labels": lambda ax: plots.by_labels([5, 20], {"a": torch.rand(3, 2)}, title="t", ax=ax),
    "first_component": lambda ax: plots.first_component({"a": torch.randn(2, 3, 8)}, title="t", ax=ax),
    "spread": lambda ax: plots.spread({"a": [1.0, 2.0], "b": [3.0]}, "x", title="t", ax=ax),
    "attention_distance": lambda ax: plots.attention_distance(torch.rand(4, 3), 14.6, title="t", ax=ax),
}


@pytest.mark.parametrize("name", CALLS)
def test_draws_on_the_axes_given_and_opens_no_figure(name):
    ax = Figure().subplots()
    assert CALLS[name](ax) is ax
    assert ax.get_title() == "t"
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", CALLS)
def test_without_axes_opens_one_figure_that_can_be_read(name):
    ax = CALLS[name](None)
    assert isinstance(ax, Axes)
    assert len(plt.get_fignums()) == 1
    ax.figure.canvas.draw()
    assert min(text.get_fontsize() for text in ax.figure.findobj(Text) if text.get_text()) >= 9
    if ax.axison:
        assert ax.get_xlabel()
        assert ax.get_ylabel()


def test_every_plot_of_the_module_is_tested_here():
    public = {name for name in plots.__all__ if callable(getattr(plots, name))}
    panels = {"panels", "scores_and_weights"}  # in test_plots_panels.py
    assert public == CALLS.keys() | panels | {"describe", "legend_below", "level", "pixels"}


def test_pixels_are_the_same_from_bytes_and_from_normalised_floats(picture):
    expected = picture.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(plots.pixels(picture), expected)
    np.testing.assert_array_equal(plots.pixels(picture.float() / 127.5 - 1), expected)
    np.testing.assert_array_equal(plots.pixels(picture.numpy()), expected)


def test_pixels_of_a_grey_image_are_grey(picture):
    rgb = plots.pixels(picture[:1])
    for channel in range(3):
        np.testing.assert_array_equal(rgb[..., channel], picture[0].numpy())


def test_half_precision_and_gradients_can_be_plotted():
    values = torch.rand(3, 4, dtype=torch.bfloat16, requires_grad=True)
    np.testing.assert_array_equal(shown(plots.matrix(values)), values.detach().float().numpy())


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.zeros(1, 3, 8, 8), "images[0]"),
        (torch.zeros(8, 8), "image[None]"),
        (torch.zeros(2, 8, 8), "C = 1 or 3; got (2, 8, 8)"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "got int64"),
    ],
)
def test_what_is_not_an_image_is_refused_with_the_fix(bad, said):
    with pytest.raises(ValueError, match=r".*") as error:
        plots.image(bad)
    assert said in str(error.value)


def test_image_shows_the_pixels(picture):
    np.testing.assert_array_equal(shown(plots.image(picture)), picture.permute(1, 2, 0).numpy())


def test_images_are_in_reading_order_inside_the_limits(picture):
    pictures = [picture, picture[:, :, :4], picture[:1], picture]
    ax = plots.images(pictures, titles="abcd", columns=3)
    for i, one in enumerate(pictures):
        np.testing.assert_array_equal(shown(ax, i), plots.pixels(one))
    boxes = [artist.get_extent() for artist in ax.get_images()]  # left, right, bottom, top
    assert boxes[0][1] <= boxes[1][0]
    assert boxes[1][1] <= boxes[2][0]
    assert boxes[3][3] >= boxes[0][2]  # the fourth hangs below the first: y grows downwards
    low, high = ax.get_xlim()
    bottom, top = ax.get_ylim()
    assert all(low <= box[0] and box[1] <= high and top <= box[3] and box[2] <= bottom for box in boxes)
    assert [text.get_text() for text in ax.texts] == list("abcd")
    left, right, below, above = boxes[0]
    assert (right - left) / (below - above) == pytest.approx(12 / 8)


def test_images_want_one_title_each(picture):
    with pytest.raises(ValueError, match="2 pictures take as many titles; got 3"):
        plots.images([picture, picture], titles="abc")
    with pytest.raises(ValueError, match="no pictures"):
        plots.images([])


def test_patch_grid_has_a_line_at_every_edge_and_a_number_in_every_patch(picture):
    ax = plots.patch_grid(picture, 4)
    segments = np.array(ax.collections[0].get_segments())
    flat = segments[segments[:, 0, 1] == segments[:, 1, 1]]
    upright = segments[segments[:, 0, 0] == segments[:, 1, 0]]
    assert sorted(flat[:, 0, 1]) == [-0.5, 3.5, 7.5]
    assert sorted(upright[:, 0, 0]) == [-0.5, 3.5, 7.5, 11.5]
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places == {
        "1": (1.5, 1.5),
        "2": (5.5, 1.5),
        "3": (9.5, 1.5),
        "4": (1.5, 5.5),
        "5": (5.5, 5.5),
        "6": (9.5, 5.5),
    }
    assert ax.get_xlim() == (-0.5, 11.5)


def test_patch_grid_leaves_numbers_out_where_there_are_too_many():
    assert not plots.patch_grid(torch.zeros(1, 22, 22), 2).texts
    assert len(plots.patch_grid(torch.zeros(1, 22, 22), 2, numbers=True).texts) == 121


def test_merged_tokens_have_their_mean_colours_and_a_line_between_them(picture):
    """Patches 1, 2 and 6 of 2 × 3 are one token, 4 and 5 another, and 3 is alone."""
    into = torch.tensor([5, 5, 1, 2, 2, 5])
    ax = plots.merged_tokens(picture, into, 4)
    array = picture.permute(1, 2, 0).double()
    boxes = [(slice(0, 4), slice(0, 4)), (slice(0, 4), slice(4, 8)), (slice(0, 4), slice(8, 12))]
    boxes += [(slice(4, 8), across) for _, across in boxes]
    for token in (5, 2):
        members = [box for box, name in zip(boxes, into.tolist(), strict=True) if name == token]
        mean = torch.cat([array[box].reshape(-1, 3) for box in members]).mean(dim=0).round()
        for box in members:
            assert (shown(ax)[box] == mean.numpy()).all()
    assert np.array_equal(shown(ax)[boxes[2]], array[boxes[2]].numpy())
    lines = {tuple(map(tuple, path.vertices + 0.5)) for path in ax.collections[0].get_paths()}
    assert lines == {
        ((8, 0), (8, 4)), ((8, 4), (8, 8)),  # to the left of 3 and of 6
        ((0, 4), (4, 4)), ((4, 4), (8, 4)), ((8, 4), (12, 4)),
    }  # fmt: skip
    assert alt_text(ax.figure) == "6 patches as 3 tokens, up to 3 in one."
    plain = plots.merged_tokens(picture, np.arange(6).reshape(2, 3), 4)
    assert np.array_equal(shown(plain), array.numpy())
    assert len(plain.collections[0].get_paths()) == 7


def test_merged_tokens_of_several_images_or_other_patches_are_refused(picture):
    for bad in (np.zeros((2, 6)), np.zeros(5), np.zeros((3, 2))):
        with pytest.raises(ValueError, match="one number for each of 2 × 3 patches of 4 pixels; got the sha"):
            plots.merged_tokens(picture, bad, 4)


@pytest.mark.parametrize("plot", [plots.patch_grid, plots.patch_sequence])
def test_a_size_that_does_not_divide_is_refused(plot, picture):
    with pytest.raises(ValueError, match="not divisible by 5; use 1, 2 or 4"):
        plot(picture, 5)


def test_patch_sequence_holds_each_patch_in_reading_order(picture):
    ax = plots.patch_sequence(picture, 4)
    rgb = picture.permute(1, 2, 0).numpy()
    expected = [rgb[y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4, 8)]
    assert len(ax.get_images()) == 6
    for i, patch in enumerate(expected):
        np.testing.assert_array_equal(shown(ax, i), patch)
    assert [text.get_text() for text in ax.texts] == list("123456")


def test_patch_vector_is_channel_after_channel_row_after_row(picture):
    patch = picture[:, :4, :4]
    ax = plots.patch_vector(patch)
    expected = [int(patch[c, y, x]) for c in range(3) for y in range(4) for x in range(4)]
    assert [bar.get_height() for bar in ax.patches] == expected
    np.testing.assert_array_equal(shown(ax), [expected])
    assert [text.get_text() for text in ax.texts] == ["red", "green", "blue"]


def test_patch_vector_of_normalised_values_starts_at_minus_one(picture):
    patch = picture[:1, :4, :4].float() / 127.5 - 1
    ax = plots.patch_vector(patch)
    tops = [bar.get_y() + bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(tops, patch.flatten().numpy(), atol=1e-6)
    assert not ax.texts


def test_matrix_shows_its_values_between_the_limits_given():
    values = np.arange(6.0).reshape(2, 3)
    ax = plots.matrix(values, "query", "key", "weight", low=-1, high=7)
    np.testing.assert_array_equal(shown(ax), values)
    assert ax.get_images()[0].get_clim() == (-1, 7)
    assert (ax.get_ylabel(), ax.get_xlabel(), ax.child_axes[0].get_ylabel()) == ("query", "key", "weight")
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        plots.matrix(np.zeros(3))


def test_overlay_covers_the_whole_image(picture):
    values = np.arange(6.0).reshape(2, 3)
    ax = plots.overlay(picture, values)
    under, over = ax.get_images()
    np.testing.assert_array_equal(over.get_array(), values)
    assert over.get_extent() == under.get_extent()
    grey = np.asarray(under.get_array())
    brightness = picture.float().mean(0).numpy()
    assert np.corrcoef(grey.ravel(), brightness.ravel())[0, 1] > 0.999
    assert grey.min() >= 80


def test_maps_share_one_scale():
    values = np.arange(24.0).reshape(4, 2, 3)
    ax = plots.maps(values, titles=["a", "b", "c", "d"], columns=2)
    for i in range(4):
        np.testing.assert_array_equal(shown(ax, i), values[i])
    assert {artist.get_clim() for artist in ax.get_images()} == {(0.0, 23.0)}


def test_maps_on_their_own_scales_are_all_bright_somewhere():
    values = np.arange(24.0).reshape(4, 2, 3) ** 2
    ax = plots.maps(values, own_scale=True)
    colours = [artist.to_rgba(artist.get_array())[..., 1].max() for artist in ax.get_images()]
    assert len(set(colours)) == 1
    assert colours[0] > 0.9
    assert [text.get_text() for text in ax.child_axes[0].get_yticklabels()] == ["least", "most"]


@pytest.mark.parametrize("size", [(7.4, 1.6), (3.0, 6.0), (5.0, 5.0)])
@pytest.mark.parametrize("name", ["matrix", "overlay", "maps", "position_similarity"])
def test_a_colour_bar_is_as_tall_as_what_it_measures(name, size):
    figure = Figure(figsize=size, layout="constrained")
    ax = CALLS[name](figure.subplots())
    figure.draw_without_rendering()
    drawn, bar = ax.get_window_extent(), ax.child_axes[0].get_window_extent()
    assert bar.height == pytest.approx(drawn.height, abs=1)
    assert bar.x0 > drawn.x1
    assert ax.child_axes[0].get_tightbbox().x1 <= figure.bbox.x1 + 1


def test_a_colour_bar_keeps_its_label_where_a_figure_is_cropped():
    ax = plots.matrix(np.ones((12, 6)), "layer", "head", "per cent")
    with io.BytesIO() as file:
        ax.figure.savefig(file, bbox_inches="tight")
        file.seek(0)
        picture = plt.imread(file)
    rim = np.concatenate([picture[:, -3:, :3], picture[:, :3, :3]])
    assert (rim == 1).all()
    assert (picture[:, -20:, :3] < 1).any()


def test_filters_keep_zero_grey_and_their_own_scale():
    weight = torch.stack(
        [torch.tensor([[[0.0, 1.0], [-1.0, 0.5]]]), torch.tensor([[[0.0, 8.0], [-4.0, 0.0]]])]
    )
    ax = plots.filters(weight, columns=2)
    assert shown(ax, 0)[..., 0].tolist() == [[128, 255], [0, 191]]
    assert shown(ax, 1)[..., 0].tolist() == [[128, 255], [64, 128]]
    assert len(plots.filters(torch.zeros(9, 3, 2, 2), count=5).get_images()) == 5


def test_position_similarity_agrees_with_a_loop():
    torch.manual_seed(0)
    rows, columns, embeddings = 2, 3, torch.randn(6, 8)
    tiled = shown(plots.position_similarity(embeddings, (rows, columns)))
    for i in range(rows * columns):
        for j in range(rows * columns):
            y = i // columns * (rows + 1) + j // columns
            x = i % columns * (columns + 1) + j % columns
            expected = torch.cosine_similarity(embeddings[i], embeddings[j], dim=0)
            assert tiled[y, x] == pytest.approx(expected.item(), abs=1e-6)
    assert np.isnan(tiled[rows]).all()


def test_position_similarity_of_every_other_row_and_column():
    embeddings = torch.randn(20, 6)
    all_maps = shown(plots.position_similarity(embeddings, (4, 5)))
    ax = plots.position_similarity(embeddings, (4, 5), every=2)
    some = shown(ax)
    assert some.shape == (2 * 5 - 1, 3 * 6 - 1)
    for row, column in ((0, 0), (1, 2)):
        one = some[row * 5 : row * 5 + 4, column * 6 : column * 6 + 5]
        same = all_maps[2 * row * 5 : 2 * row * 5 + 4, 2 * column * 6 : 2 * column * 6 + 5]
        np.testing.assert_array_equal(one, same)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "3", "5"]


def test_position_similarity_refuses_the_class_token():
    with pytest.raises(ValueError, match=r"without the class token; got \(50, 8\)"):
        plots.position_similarity(torch.zeros(50, 8), (7, 7))


@pytest.mark.parametrize(
    ("what", "training", "test"),
    [
        ("loss", [2.0, 1.0, 2 / 3], [1.5, 1.25]),
        ("accuracy", [10.0, 20.0, 30.0], [25.0, 50.0]),
        ("learning_rate", [0.01, 0.02, 0.03], None),
        ("images_per_second", [50.0, 100.0, 150.0], None),
    ],
)
def test_curves_hold_the_history(history, what, training, test):
    lines = plots.curves(history, what).get_lines()
    assert lines[0].get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(lines[0].get_ydata(), training)
    assert len(lines) == (1 if test is None else 2)
    if test:
        assert lines[1].get_xdata().tolist() == [2, 3]
        np.testing.assert_allclose(lines[1].get_ydata(), test)


def test_curves_compare_histories_by_name_dash_and_marker(history):
    ax = plots.curves({"a": history, "b": history}, "accuracy")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "a, training",
        "a, test",
        "b, training",
        "b, test",
    ]
    lines = ax.get_lines()
    assert lines[0].get_linestyle() != lines[2].get_linestyle()
    assert lines[1].get_marker() != lines[3].get_marker()
    with pytest.raises(ValueError, match="no curve named 'los'; there are loss, accuracy"):
        plots.curves(history, "los")


def test_curves_of_a_history_that_has_just_begun():
    assert not plots.curves(SimpleNamespace(rows=[], evaluations=[])).get_lines()


def test_series_shows_mean_and_sample_deviation():
    values = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]])
    ax = plots.series([10, 20], values, "ViT", "images", "accuracy (%)")
    assert ax.get_lines()[0].get_ydata().tolist() == [3.0, 6.0]
    band = ax.collections[0].get_paths()[0].vertices
    assert {(x, y) for x, y in band.round(6).tolist()} >= {(10, 1.0), (10, 5.0), (20, 2.0), (20, 10.0)}
    assert ax.get_lines()[0].get_label() == "ViT (mean ± sd of 3 runs)"
    plots.series([10, 20], values[0], "ResNet", ax=ax)
    first, second = ax.get_lines()
    assert second.get_label() == "ResNet (one run)"
    assert len(ax.collections) == 1
    assert (first.get_marker(), first.get_linestyle()) != (second.get_marker(), second.get_linestyle())


def test_series_keeps_the_labels_of_the_first_call():
    ax = plots.series([1, 2], [1, 2], "a", "images", "accuracy (%)")
    plots.series([1, 2], [2, 3], "b", ax=ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("images", "accuracy (%)")
    with pytest.raises(ValueError, match=r"2 places on x take values of shape \(runs, 2\); got \(1, 3\)"):
        plots.series([1, 2], [1, 2, 3])


def test_spread_shows_quartiles_percentiles_and_mean():
    values = torch.arange(101.0) ** 2
    ax = plots.spread({"squares": values, "ones": np.ones(5)}, "energy")
    whiskers, medians = ([path.vertices for path in lines.get_paths()] for lines in ax.collections)
    assert whiskers[0].tolist() == [[25, 1], [9025, 1]]  # 5 and 95 squared
    assert medians[0][:, 0].tolist() == [2500, 2500]
    box, other = ax.patches
    assert (box.get_x(), box.get_width(), other.get_width()) == (625, 5000, 0)
    assert ax.get_lines()[0].get_xdata().tolist() == [float(values.mean()), 1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["squares", "ones"]
    assert ax.yaxis_inverted()
    with pytest.raises(ValueError, match="at least one name"):
        plots.spread({})


def test_runs_shows_every_run_and_the_mean_of_each_name():
    ax = plots.runs({"none": [1.0, 3.0], "learned": torch.tensor([5.0])}, "accuracy (%)")
    none, bar, learned, _ = ax.collections
    assert none.get_offsets().tolist() == [[0, 1], [0, 3]]
    assert bar.get_segments()[0].tolist() == [[-0.25, 2], [0.25, 2]]
    assert learned.get_offsets().tolist() == [[1, 5]]
    assert none.get_paths()[0].vertices.shape != learned.get_paths()[0].vertices.shape  # told apart by marker
    assert ax.get_ylabel() == "accuracy (%)"


def test_attention_distance_has_a_dot_per_head_above_its_layer():
    distances = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    ax = plots.attention_distance(distances, uniform=5.5)
    assert ax.collections[0].get_offsets().tolist() == [[1, 1], [1, 2], [1, 3], [2, 4], [2, 5], [2, 6]]
    assert set(ax.get_lines()[0].get_ydata()) == {5.5}
    assert not plots.attention_distance(distances).get_lines()


def test_distances_to_compare_stand_side_by_side_under_their_names():
    named = {"dropped": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "renormalised": 2 * torch.eye(2)}
    ax = plots.attention_distance(named, uniform=9.0)
    places = [[tuple(point) for point in dots.get_offsets().tolist()] for dots in ax.collections]
    assert places[0] == [(0.85, 1), (0.85, 2), (1.85, 3), (1.85, 4)]
    assert places[1] == [(1.15, 2), (1.15, 0), (2.15, 0), (2.15, 2)]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["dropped", "renormalised", "uniform attention"]
    assert len({dots.get_paths()[0].vertices.shape for dots in ax.collections}) == 2  # told apart by marker
    with pytest.raises(ValueError, match="same layers and heads"):
        plots.attention_distance({"one": torch.eye(2), "other": torch.eye(3)})


def test_bars_are_as_long_as_their_numbers_and_read_from_the_top():
    ax = plots.bars({"rollout": torch.tensor(0.5), "contrast": -0.25}, "rank correlation")
    assert [bar.get_width() for bar in ax.patches] == [0.5, -0.25]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["rollout", "contrast"]
    first, second = (bar.get_y() for bar in ax.patches)
    assert (first < second) is ax.yaxis_inverted()
    with pytest.raises(ValueError, match="at least one name"):
        plots.bars({})


def test_rows_and_columns_of_a_matrix_have_the_names_given():
    names = ["rollout", "relevance", "centre"]
    ax = plots.matrix(torch.rand(2, 3), row_names=range(1, 3), column_names=names)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == names
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {40}  # words would meet


def test_lines_are_told_apart_and_their_numbers_marked_where_these_are_few():
    ax = plots.lines([1, 2, 3], {"a": [3, 1, 2], "b": torch.tensor([0.5, 1.5, 2.5])}, "step", "loss")
    assert [line.get_xydata().tolist() for line in ax.get_lines()] == [
        [[1, 3], [2, 1], [3, 2]],
        [[1, 0.5], [2, 1.5], [3, 2.5]],
    ]
    a, b = ax.get_lines()
    assert (a.get_marker(), a.get_linestyle()) != (b.get_marker(), b.get_linestyle())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    many = plots.lines(range(100), {"a": torch.rand(100)})
    assert many.get_lines()[0].get_marker() == "None"
    with pytest.raises(ValueError, match=r"3 places on x take as many numbers; 'b' has \(2,\)"):
        plots.lines([1, 2, 3], {"b": [1, 2]})


def test_dots_stand_where_their_pairs_say():
    ax = plots.dots({"ViT": (torch.tensor([1.0, 2.0]), [3, 4]), "hybrid": ([5], [6])}, "cost", "accuracy")
    assert [group.get_offsets().tolist() for group in ax.collections] == [[[1, 3], [2, 4]], [[5, 6]]]
    first, second = (group.get_paths()[0].vertices for group in ax.collections)
    assert first.shape != second.shape  # told apart by marker
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ViT", "hybrid"]


def test_a_level_runs_right_across_and_says_what_it_means():
    ax = plots.level(plots.lines([1, 2], {"model": [10, 80]}, "step", "accuracy (%)"), 25, "chance")
    line = ax.get_lines()[-1]
    ends = line.get_transform().transform(line.get_xydata())  # in pixels
    np.testing.assert_allclose(ends[:, 0], ax.transAxes.transform([[0, 0], [1, 0]])[:, 0])
    np.testing.assert_allclose(ends[:, 1], ax.transData.transform([[1, 25], [2, 25]])[:, 1])
    (words,) = ax.texts
    assert (words.get_text(), words.xy) == ("chance", (1, 25))
    under = plots.level(plots.lines([1, 2], {"model": [10, 80]}), 25, "chance", below=True).texts[0]
    for text, side in ((words, 1), (under, -1)):
        text.figure.draw_without_rendering()
        box, at = text.get_window_extent(), text.axes.transData.transform((1, 25))[1]
        assert side * (box.y0 - at) > 0
        assert side * (box.y1 - at) > 0
    assert alt_text(ax.figure).endswith("chance at 25.")


def test_results_by_labels_are_means_in_percent_over_labels():
    results = {"probe": torch.tensor([[0.2, 0.4], [0.4, 0.8]]), "pixels": torch.tensor([[0.1, 0.3]])}
    ax = plots.by_labels([5, 100], results)
    probe, pixels = (line.get_xydata().tolist() for line in ax.get_lines())
    np.testing.assert_allclose(probe, [[5, 30], [100, 60]], rtol=1e-6)
    np.testing.assert_allclose(pixels, [[5, 10], [100, 30]], rtol=1e-6)
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["5", "100"]


def test_the_first_component_is_the_direction_in_which_the_first_table_differs_most():
    """Against the eigenvectors of the covariance, in another order of sums; the sign means nothing."""
    table = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    table[..., 2] *= 9
    other = torch.randn(8, 10, 6, generator=torch.Generator().manual_seed(1))
    ax = plots.first_component({"trained": table, "larger": other})
    direction = torch.linalg.eigh(table.reshape(-1, 6).T.cov())[1][:, -1]
    wanted = [(each.double() @ direction).numpy() for each in (table, other)]
    sign = np.sign((shown(ax, 0) * wanted[0]).sum())
    for i in range(2):
        np.testing.assert_allclose(shown(ax, i), sign * wanted[i], atol=1e-9)
    limits = {artist.get_clim() for artist in ax.get_images()}
    every = np.concatenate([shown(ax, i).reshape(-1) for i in range(2)])
    assert limits == {(every.min(), every.max())}
