"""Maps beside their images: what lies where on the figure is compared with what was given."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from vitlab import plots
from vitlab.alt_text import alt_text


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(ax) -> list[tuple[float, float, np.ndarray]]:
    """Of each picture its middle, across and down, and what it holds."""
    found = []
    for artist in ax.get_images():
        left, right, bottom, top = artist.get_extent()
        found.append(((left + right) / 2, (bottom + top) / 2, np.asarray(artist.get_array())))
    return found


def inside(ax) -> bool:
    """Whether all pictures lie within the limits of the Axes."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    boxes = [artist.get_extent() for artist in ax.get_images()]
    return all(left <= a and b <= right and top <= d and c <= bottom for a, b, c, d in boxes)


def test_each_map_stands_below_its_image_in_the_row_of_its_name():
    pictures = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    named = {"rollout": torch.rand(3, 4, 4), "centre": torch.rand(3, 2, 2)}
    ax = plots.maps_below(pictures, named, titles=["a", "b", "c"])
    places = drawn(ax)
    for i, picture in enumerate(pictures):
        x, y, array = places[i]
        np.testing.assert_array_equal(array, picture.permute(1, 2, 0).numpy())
        for row, values in enumerate(named.values(), 1):
            across, down, shown = places[3 * row + i]
            assert across == pytest.approx(x)
            assert down > y
            np.testing.assert_allclose(shown, values[i].numpy())
    names = {text.get_text(): text.get_position() for text in ax.texts}
    assert [names[name][0] for name in "abc"] == pytest.approx([place[0] for place in places[:3]])
    assert names["rollout"][1] == pytest.approx(places[3][1])
    assert names["centre"][1] == pytest.approx(places[6][1])
    assert max(names["rollout"][0], names["centre"][0]) < 0
    assert inside(ax)


def test_each_map_is_on_its_own_scale():
    values = torch.tensor([[[0.0, 1.0]], [[5.0, 9.0]]])
    for ax in (
        plots.maps_below(torch.zeros(2, 1, 4, 4), {"map": values}),
        plots.maps_beside(torch.zeros(1, 4, 4), values),
    ):
        scales = [artist.get_clim() for artist in ax.get_images() if artist.get_array().ndim == 2]
        assert scales == [(0.0, 1.0), (5.0, 9.0)]


@pytest.mark.parametrize(("count", "columns"), [(8, 4), (6, 2), (3, 4), (24, 6)])
def test_the_image_stands_left_of_its_maps_which_are_in_reading_order(count, columns):
    picture, values = torch.randint(0, 256, (3, 8, 6), dtype=torch.uint8), torch.rand(count, 4, 4)
    ax = plots.maps_beside(picture, values, titles=[str(i) for i in range(count)], columns=columns)
    *places, image = drawn(ax)
    np.testing.assert_array_equal(image[2], picture.permute(1, 2, 0).numpy())
    assert all(image[0] < x for x, _, _ in places)
    left, right, bottom, top = ax.get_images()[-1].get_extent()
    assert right < 0
    assert (right - left) / (bottom - top) == pytest.approx(6 / 8)
    for i, (x, y, shown) in enumerate(places):
        assert (x, y) == pytest.approx((places[i % columns][0], places[i // columns * columns][1]))
        np.testing.assert_allclose(shown, values[i].numpy())
    assert inside(ax)


@pytest.mark.parametrize("count", [1, 4, 6, 12])
def test_figures_fit_a_notebooks_page(count):
    below = plots.maps_below(torch.zeros(count, 3, 8, 8), {"map": torch.rand(count, 2, 2)})
    beside = plots.maps_beside(torch.zeros(3, 8, 8), torch.rand(count, 2, 2), columns=count)
    for ax in (below, beside):
        assert ax.figure.get_size_inches()[0] <= 9


def test_what_does_not_fit_together_is_refused():
    pictures = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match="2 images take as many rollout; got 3"):
        plots.maps_below(pictures, {"rollout": torch.rand(3, 2, 2)})
    with pytest.raises(ValueError, match="2 images take as many titles; got 1"):
        plots.maps_below(pictures, {"rollout": torch.rand(2, 2, 2)}, titles=["a"])
    with pytest.raises(ValueError, match="at least one name"):
        plots.maps_below(pictures, {})
    with pytest.raises(ValueError, match="2 pictures take as many titles; got 1"):
        plots.maps_beside(pictures[0], torch.rand(2, 2, 2), titles=["a"])


def test_the_alternative_text_names_images_and_maps():
    maps = torch.tensor([[[0.25, 1.0]], [[0.5, 2.0]]])
    ax = plots.maps_below(torch.zeros(2, 1, 4, 4), {"rollout": maps}, titles=["a cat", "a dog"])
    assert alt_text(ax.figure) == "2 images (a cat, a dog), below each its maps: rollout from 0.25 to 2."
    ax = plots.maps_beside(torch.zeros(1, 4, 4), maps, titles=["one", "two"], value_label="share")
    assert alt_text(ax.figure) == "An image beside its 2 maps, share from 0.25 to 2: one, two."


def test_a_photograph_that_is_shown_smaller_is_smoothed_and_pixels_are_not():
    for ax in (
        plots.maps_below(torch.zeros(1, 3, 224, 224), {"map": torch.rand(1, 2, 2)}),
        plots.maps_beside(torch.zeros(3, 224, 224), torch.rand(2, 2, 2)),
    ):
        how = {artist.get_array().ndim: artist.get_interpolation() for artist in ax.get_images()}
        assert how == {3: "antialiased", 2: "nearest"} or how == {3: "auto", 2: "nearest"}


@pytest.mark.parametrize(
    "drawn",
    [
        lambda: plots.maps_below([], {"map": []}),
        lambda: plots.by_labels([5], {}),
        lambda: plots.first_component({}),
    ],
)
def test_nothing_is_refused(drawn):
    with pytest.raises(ValueError, match="nothing to show"):
        drawn()
