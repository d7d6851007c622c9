"""What is said of a picture agrees with what was drawn, and stands in the output that a kernel sends."""

import datetime
import io
import re

import matplotlib

matplotlib.use("agg")

import nbformat
import notebook_tools as tools
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from vitlab import plots
from vitlab.alt_text import alt_text, describe, of_axes, place
from vitlab.wording import LIMIT, listed, shortened


def axes(rows=1, columns=1):
    return Figure().subplots(rows, columns)


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text)]


# --- what was drawn by hand ---------------------------------------------------------------------------------


def test_lines_say_their_names_their_axes_and_how_they_run():
    generator = np.random.default_rng(0)
    values = generator.random((2, 30))
    ax = axes()
    for name, row in zip(("ViT", "ResNet (BiT)"), values, strict=True):
        ax.plot(range(5, 35), row, label=name)
    ax.set(xlabel="step", ylabel="loss (nats)", title="two models")
    text = alt_text(ax.figure)
    assert text.startswith("Two models: loss (nats) over step from 5 to 34: ViT ")
    first, second = text.split("; ")
    assert second.startswith("ResNet ")
    for said, row in zip((first.partition("ViT")[2], second), values, strict=True):
        assert ("rising" in said) == (row[-1] > row[0])
        np.testing.assert_allclose(numbers(said)[:2], row[[0, -1]], rtol=0.01)


def test_a_line_that_goes_up_and_comes_down_has_its_peak():
    ax = axes()
    ax.plot([0, 1, 2, 3], [0.0, 4.0, 2.0, 1.0])
    assert "rising from 0 to 1, with a peak of 4" in alt_text(ax.figure)
    ax.clear()
    ax.plot([0, 1, 2, 3], [4.0, -3.0, 2.0, 3.5])
    assert "falling from 4 to 3.5, with a low of -3" in alt_text(ax.figure)
    ax.clear()
    ax.plot([0, 1], [2.0, 2.0])
    assert "staying at 2" in alt_text(ax.figure)


def test_a_line_is_level_or_turns_as_it_is_seen_beside_the_others():
    ax = axes()
    ax.plot([1, 2, 3], [10.0, 9.8, 10.1], label="scratch")
    ax.plot([1, 2, 3], [20.0, 50.0, 80.0], label="tuned")
    assert alt_text(ax.figure).endswith("scratch staying near 9.97; tuned rising from 20 to 80.")
    ax.get_lines()[0].set_ydata([1e-4, 1e-2, 1e-3])
    ax.set_yscale("log")  # where a hundredth of the height of the other is most of the picture
    assert "scratch rising from 0.0001 to 0.001, with a peak of 0.01" in alt_text(ax.figure)


def test_what_is_changed_after_drawing_is_said_as_it_is_then():
    ax = plots.series([1, 2], [3.0, 4.0], "a", "images", "accuracy")
    ax.set(xlabel="labels", title="here")
    ax.get_lines()[0].set_ydata([9.0, 5.0])
    assert alt_text(ax.figure) == "Here: accuracy over labels from 1 to 2: a falling from 9 to 5."
    matrix = plots.matrix([[0.0, 7.0], [1.0, 2.0]], value_label="share")
    matrix.set_xticks(range(2), ["boot", "bag"])
    matrix.set_yticks(range(2), ["Boot", "Bag"])
    assert "largest at (Boot, bag)" in alt_text(matrix.figure)


def test_bars_say_each_when_few_and_their_range_when_many():
    few, many = axes(1, 2)
    few.barh(["boot", "bag", "coat"], [0.7, 0.2, 0.1])
    few.set_xlabel("probability")
    many.bar(range(50), [float(i == 33) for i in range(50)])
    many.set_ylabel("score")
    text = alt_text(few.figure)
    assert "Probability, boot 0.7, bag 0.2, coat 0.1." in text
    assert "Score, 50 bars from 0 to 1, the longest at 33." in text


def test_dots_of_one_name_are_counted_together():
    ax = axes()
    for x, y, name in ((1, 80.0, "ViT"), (2, 88.5, "ViT"), (4, 85.0, "hybrid")):
        ax.plot(x, y, "o", label=name)
    ax.scatter([1, 2, 3], [70.0, 71.0, np.nan], label="ResNet")
    ax.axhline(10, label="chance")
    ax.axhline(3)
    text = alt_text(ax.figure)
    assert "from 1 to 4: 2 ViT dots from 80 to 88.5; 1 hybrid dot at 85; 2 ResNet dots from 70" in text
    assert text.endswith("; chance at 10.")


def test_images_drawn_by_hand_say_what_they_are():
    left, right = axes(1, 2)
    left.imshow(np.zeros((28, 20, 3)))
    right.imshow([[1.0, 2.0, 5.0]])
    assert alt_text(left.figure) == "An image of 28 × 20 pixels. 1 × 3 values from 1 to 5."


def test_what_is_not_seen_is_not_said():
    ax = axes()
    ax.plot([1, 2], [3, 4], label="seen")
    for hidden in (ax.plot([1, 2], [9, 8], label="hidden")[0], ax.scatter([1], [7]), *ax.bar([1], [6])):
        hidden.set_visible(False)
    ax.imshow([[1, 2], [3, 5]]).set_visible(False)
    assert alt_text(ax.figure) == "Values over places from 1 to 2: seen rising from 3 to 4."


def test_dates_are_said_as_dates_on_either_axis():
    days = [datetime.date(2026, 1, day) for day in (3, 9, 21)]
    along, up, bars, hours, level = axes(1, 5)
    along.plot(days, [1.0, 2.0, 3.0])
    up.plot([1, 2, 3], days)
    bars.bar([days[0] + datetime.timedelta(day) for day in range(19)], range(19))
    hours.scatter([datetime.datetime(2026, 5, 1, 8, 30), datetime.datetime(2026, 5, 1, 20)], [0.0, 1.0])
    level.plot(days, days, "o")
    said = [of_axes(ax) for ax in (along, up, bars, hours, level)]
    assert said[0] == "values over places from 2026-01-03 to 2026-01-21: rising from 1 to 3"
    assert said[1].endswith("from 1 to 3: rising from 2026-01-03 to 2026-01-21")
    assert said[2] == "19 bars from 0 to 18, the longest at 2026-01-21"
    assert "from 2026-05-01 08:30 to 2026-05-01 20:00: " in said[3]
    assert said[4].endswith("3 dots from 2026-01-03 to 2026-01-21")


def test_angles_are_said_in_degrees_wherever_a_tick_stands():
    few, many, line = Figure().subplots(1, 3, subplot_kw=dict(projection="polar"))
    few.bar(np.radians([0, 30, 90, 120]), [1, 2, 3, 4])
    many.bar(np.radians(np.arange(0, 360, 10)), np.arange(36) == 23)
    line.plot(np.radians([0, 45, 270]), [1.0, 2.0, 3.0])
    assert of_axes(few) == "0° 1, 30° 2, 90° 3, 120° 4"
    assert of_axes(many) == "36 bars from 0 to 1, the longest at 230°"
    assert of_axes(line) == "values over places from 0° to 270°: rising from 1 to 3"


def test_a_line_drawn_from_right_to_left_is_said_from_left_to_right():
    ax = axes()
    ax.plot([3, 2, 1], [10, 20, 40], label="error")
    assert alt_text(ax.figure) == "Values over places from 1 to 3: error falling from 40 to 10."


def test_bars_side_by_side_have_the_names_of_their_legend():
    ax = axes()
    ax.bar([0, 1], [1, 2], width=0.4, label="train")
    ax.bar([0, 1], [3, 4], width=-0.4, align="edge", label="test")
    ax.set_ylabel("loss")
    text = alt_text(ax.figure)
    assert "Loss, train, 0 1, 1 2" in text
    assert "loss, test, " in text


def test_words_of_other_drawings():
    """Bands, steps, tables and meshes are read no further than their names and ranges."""
    for draw, text in (
        (lambda ax: ax.fill_between([1, 2], [1, 2], [2, 3], label="two deviations"), "two deviations"),
        (lambda ax: ax.axvspan(1, 2, label="warm-up"), "warm-up"),
        (lambda ax: ax.table(cellText=[["ViT", "0.9"]], loc="center"), "ViT, 0.9"),
    ):
        ax = axes()
        draw(ax)
        assert alt_text(ax.figure) == f"A drawing labelled {text}."
    ax = axes()
    ax.pcolormesh([[1, 2, 3], [4, 5, 6]])
    assert alt_text(ax.figure) == "2 × 3 values from 1 to 6."
    ax = axes()
    ax.boxplot([[1, 2, 3], [2, 3, 7]])
    parts = sum(len(line.get_xdata()) > 1 for line in ax.lines)
    assert alt_text(ax.figure).endswith(f": {parts} lines from 1 to 7.")


def draw_dates(ax):
    ax.plot([datetime.date(2026, 1, day) for day in (1, 9)], [1.0, 2.0])


DRAWINGS = {
    "dates": (draw_dates, "2026"),
    "names": (lambda ax: ax.plot(["none", "1-D"], [43.0, 45.0]), "from none to 1-D"),
    "logarithms": (lambda ax: ax.loglog([1, 1e6], [1e-9, 1e-3]), "1,000,000: rising from 1e-09 to 0.001"),
    "gaps": (lambda ax: ax.plot([1, 2, 3], [np.nan, 2.0, 1.0]), "from 2 to 3: falling from 2 to 1"),
    "errors": (lambda ax: ax.errorbar([1, 2], [3.0, 4.0], [0.1, 0.1]), "rising from 3 to 4"),
    "histogram": (lambda ax: ax.hist([1, 1, 2]), "10 bars from 0 to 2"),
    "narrow bars": (lambda ax: ax.hist([0.1, 0.1, 0.2, 0.9], range=(0, 1)), "the longest at 0.15"),
    "a pie": (lambda ax: ax.pie([1, 2], labels=["boot", "bag"]), "A drawing labelled boot, bag."),
    "a circle": (lambda ax: ax.add_patch(Circle((0, 0), 1)), "A drawing without words."),
    "logarithmic bars": (
        lambda ax: [ax.bar(range(1, 30), range(1, 30)), ax.set_xscale("log")],
        "the longest at 29",
    ),
    "nothing": (lambda ax: None, "Empty axes."),
    "no number": (
        lambda ax: plots.matrix(np.full((2, 2), np.nan), ax=ax),
        "Heat map of value without a number",
    ),
    "title only": (lambda ax: ax.set_title("a title"), "A title."),
    "many lines": (
        lambda ax: [ax.plot([0, i], [i, 0], label=f"line number {i}") for i in range(1, 40)],
        "falling",
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.filterwarnings("error")
def test_whatever_is_drawn_has_a_text_that_fits(name):
    draw, part = DRAWINGS[name]
    ax = axes()
    draw(ax)
    text = alt_text(ax.figure)
    assert part in text
    assert 0 < len(text) <= LIMIT


@pytest.mark.parametrize("projection", ["3d", "polar"])
def test_other_projections_have_a_text(projection):
    ax = Figure().add_subplot(projection=projection)
    ax.set_title("a spiral")
    ax.plot([0, 1, 2], [1, 2, 3], **({"zs": 1} if projection == "3d" else {}))
    end = "0° to 115°" if projection == "polar" else "0 to 2"  # 2 radians
    assert alt_text(ax.figure).startswith(f"A spiral: values over places from {end}: rising from 1 to 3")


# --- what plots say -----------------------------------------------------------------------------------------


def test_every_panel_is_said_and_colour_bars_are_not():
    figure = Figure()
    for i, ax in enumerate(figure.subplots(1, 4)):
        plots.matrix(torch.full((9, 9), float(i)), "query", "key", "weight", f"head {i + 1}", ax=ax)
    text = alt_text(figure)
    assert re.findall(r"Head (\d): heat map of weight (\d) everywhere", text) == [
        (f"{i + 1}", f"{i}") for i in range(4)
    ]
    assert text.count("Head") == 4
    assert len(text) <= LIMIT


def test_lines_that_have_no_room_for_words_are_counted_in_whole_sentences():
    titles = ("how far the weights spread", "what comes back through the softmax", "and what it costs")
    figure = Figure()
    for ax, title in zip(figure.subplots(1, 3), titles, strict=True):
        for i in range(6):
            plots.series([1, 2], [float(i), 2.0 * i], f"a rather long name of line {'abcdef'[i]}", ax=ax)
        ax.set(title=title, xlabel="head width d", ylabel="gradient length, median query")
    assert alt_text(figure) == (
        "How far the weights spread: 6 lines from 0 to 10. What comes back through the softmax: 6 lines from "
        "0 to 10. And what it costs: 6 lines from 0 to 10."
    )


def test_of_few_values_each_turn_counts():
    ax = axes()
    ax.plot([1, 2, 3], [73.4, 81.3, 80.7], label="B/32")  # the paper's table 5
    assert alt_text(ax.figure).endswith("B/32 rising from 73.4 to 80.7, with a peak of 81.3.")


def test_of_many_panels_the_first_is_said():
    figure = Figure()
    for ax in figure.subplots(8, 8).flat:
        plots.image(torch.zeros(1, 4, 4), ax=ax)
    assert alt_text(figure) == "64 panels, the first: An image of 4 × 4 pixels."


def test_a_matrix_that_changes_later_is_said_as_it_was_drawn():
    values = torch.eye(3)
    ax = plots.matrix(values)
    values += 5
    assert alt_text(ax.figure).startswith("Heat map of value from 0 to 1, ")


def test_long_panels_leave_their_numbers_out_before_their_names():
    figure = Figure()
    for i, ax in enumerate(figure.subplots(1, 3)):
        for start, name in enumerate(("pre-norm", "post-norm")):
            plots.series(range(16), np.arange(16.0) + start / 7, name, "block", "gradient", f"panel {i}", ax)
    text = alt_text(figure)
    for panel in text.removesuffix(".").split(". "):
        assert "gradient over block: pre-norm, post-norm rising" in panel


def test_a_matrix_says_its_range_and_its_largest():
    values = torch.rand(7, 5, generator=torch.Generator().manual_seed(0))
    text = alt_text(plots.matrix(values, "query", "key", "weight").figure)
    row, column = divmod(max(range(35), key=values.flatten().tolist().__getitem__), 5)
    assert text.endswith(f"7 × 5, query by key, largest at ({row}, {column}).")
    np.testing.assert_allclose(numbers(text)[:2], [values.min(), values.max()], rtol=0.01)


def test_images_and_maps_say_how_many_and_their_names():
    pictures = torch.zeros(3, 1, 8, 8)
    assert (
        alt_text(plots.images(pictures, ["boot", "a\nbag", "coat"]).figure) == "3 images: boot, a bag, coat."
    )
    assert alt_text(plots.images(pictures, title="before").figure) == "Before: 3 images."
    text = alt_text(plots.maps(torch.arange(8.0).view(2, 2, 2), ["rollout", "relevance"]).figure)
    assert text == "2 maps, attention from 0 to 7: rollout, relevance."


def test_the_other_plots_say_their_numbers():
    said = alt_text(plots.attention_distance([[1.0, 2.0], [3.0, 9.0]], uniform=5.5).figure)
    assert numbers(said) == [4, 2, 1, 9, 5.5]
    said = alt_text(plots.runs({"none": [1.0, 3.0], "learned": [7.0]}, "accuracy (%)").figure)
    assert said == "Mean accuracy (%): none 2, learned 7."
    said = alt_text(plots.spread({"a": [1.0, 2.0, 9.0]}, "energy").figure)
    assert said == "Energy, a box a name, medians: a 2."
    said = alt_text(plots.patch_grid(torch.zeros(1, 28, 28), 7).figure)
    assert said == "28 × 28 pixels cut into 4 × 4 patches."
    said = alt_text(plots.overlay(torch.zeros(3, 8, 12), [[0.0, 1.0, 0.5]]).figure)
    assert said.startswith("Attention from 0 to 1 on ")
    assert "largest in row 1, column 2" in said
    embeddings = torch.eye(6)
    said = alt_text(plots.position_similarity(embeddings, (2, 3)).figure)
    assert "0 everywhere to others" in said


DRAWN = {
    "matrix": lambda ax: plots.matrix(np.eye(7), title="t", ax=ax),
    "bars": lambda ax: ax.bar(["boot", "bag"], [1, 2]),
    "lines": lambda ax: plots.series([1, 10, 100], [1e-3, 1e-2, 1.0], "a", "x", "y", ax=ax).set_xscale("log"),
    "runs": lambda ax: plots.runs({"a": [1.0, 2.0], "b": [3.0]}, "y", ax=ax),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_stays_the_same_when_its_text_is_asked_for(name):
    pictures = []
    for asked in (False, True):
        ax = axes()
        DRAWN[name](ax)
        assert not asked or alt_text(ax.figure)
        encoded = io.BytesIO()
        ax.figure.savefig(encoded, format="png", bbox_inches="tight")
        pictures.append(encoded.getvalue())
    assert pictures[0] == pictures[1]


# --- one's own words ----------------------------------------------------------------------------------------


def test_own_words_stand_in_place_of_what_is_read():
    left, right = axes(1, 2)
    plots.image(torch.zeros(1, 4, 4), "left", ax=left)
    right.plot([1, 2], [3, 4])
    plots.describe(left, "a boot")
    assert alt_text(left.figure).startswith("Left: a boot. Values over places")
    plots.describe(left.figure, lambda figure: f"A boot and a line, {len(figure.axes)} panels")
    assert alt_text(left.figure) == "A boot and a line, 2 panels."


def test_what_is_cleared_loses_its_words():
    ax = plots.image(torch.zeros(1, 4, 4))
    ax.clear()
    ax.plot([1, 2], [3, 4], label="a")
    assert alt_text(ax.figure) == "Values over places from 1 to 2: a rising from 3 to 4."
    figure = ax.figure
    describe(figure, "a line")
    figure.clear()
    figure.subplots().bar(["boot", "bag"], [1, 2])
    assert alt_text(figure) == "Boot 1, bag 2."


def test_no_words_are_refused():
    with pytest.raises(ValueError, match="words that say what is shown; got ' '"):
        describe(Figure(), " ")


def test_a_function_that_says_nothing_leaves_what_is_drawn():
    ax = axes()
    ax.plot([1, 2], [3, 5])
    drawn = "Values over places from 1 to 2: rising from 3 to 5."
    describe(ax, lambda shown: " ")
    assert alt_text(ax.figure) == drawn
    describe(ax.figure, lambda shown: "")
    assert alt_text(ax.figure) == drawn
    describe(ax.figure, lambda shown: "", "two points")
    assert alt_text(ax.figure) == "Two points."


def test_a_text_is_cut_where_something_ends():
    sentences = "The first sentence is here. The second one is longer than what is left."
    assert shortened(sentences, 40) == "The first sentence is here."
    assert shortened("one, two, three, four", 17) == "one, two, three…"
    assert shortened("version 1.5 of something long", 20) == "version 1.5 of…"
    assert shortened("a" * 300) == "a" * (LIMIT - 1) + "…"
    assert shortened("short\ntext") == "short text"


def test_names_that_are_numbers_are_counted():
    assert listed([1, 2, 3, 5]) == "1 to 3, 5"
    assert listed(["4", "5", "6"]) == "4 to 6"
    assert (
        listed([f"{kind} {i}" for kind in ("seen", "true") for i in (1, 2, 3)]) == "seen 1 to 3, true 1 to 3"
    )
    assert listed(["layer 1, head 1", "layer 1, head 2"]) == "layer 1, head 1; layer 1, head 2"
    assert listed(["\n", "\n"]) == ""


def test_every_label_of_an_axis_is_found_where_it_stands():
    ax = plots.matrix(torch.eye(2))  # whose ticks are at halves, written 0.0, 0.5, 1.0
    assert [place(ax.xaxis, 0), place(ax.xaxis, 1)] == ["0", "1"]
    ax.set(xticks=range(2), xticklabels=range(1, 3))
    assert [place(ax.xaxis, 0), place(ax.xaxis, 1)] == ["1", "2"]


# --- in a kernel --------------------------------------------------------------------------------------------

PREPARED = """\
import matplotlib.pyplot as plt
import torch
from vitlab import plots"""


def executed(folder, *cells) -> list[list[str]]:
    """The alternative texts of the pictures of each cell, from a kernel that ran them."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in ("", *cells)])
    nb.cells[0].metadata.tags = ["parameters"]
    nb = tools.clean(tools.execute(nb, folder))
    for output in tools.pictures(*nb.cells):
        assert output.data["image/png"]
    return [[tools.alternative_text(picture) for picture in tools.pictures(c)] for c in nb.cells]


@pytest.mark.slow
def test_every_way_to_show_a_figure_carries_its_text(tmp_path):
    said = executed(
        tmp_path,
        PREPARED,
        "plots.images(torch.zeros(2, 1, 8, 8), ['boot', 'bag']);",
        "plots.matrix(torch.eye(3), title='first')\nplt.show()\nplots.matrix(torch.eye(4), title='then');",
        "figure, ax = plt.subplots()\nax.plot([1, 2], [3.0, 5.0])\nplt.close()\nfigure",
        "display(figure)",
        "plt.plot([1, 2], [8.0, 4.0]);",
    )
    assert said[2] == ["2 images: boot, bag."]
    assert [text.partition(":")[0] for text in said[3]] == ["First", "Then"]
    assert said[4] == said[5] == ["Values over places from 1 to 2: rising from 3 to 5."]
    assert said[6] == ["Values over places from 1 to 2: falling from 8 to 4."]


@pytest.mark.slow
def test_start_is_enough_for_figures_drawn_by_hand(tmp_path):
    start = "import vitlab\nrun = vitlab.start(device='cpu', precision='fp32')"
    draw = "import matplotlib.pyplot as plt\nplt.bar(['boot', 'bag'], [1.0, 2.0]);"
    assert executed(tmp_path, start, draw)[2] == ["Boot 1, bag 2."]


def test_an_explorer_s_picture_says_its_caption_in_short():
    from vitlab.widgets import PatchExplorer

    explorer = PatchExplorer({"garment": torch.zeros(1, 28, 28, dtype=torch.uint8)}, patch_size=4)
    data, metadata = explorer._repr_mimebundle_()
    text = metadata["image/png"]["alt"]
    assert data["text/plain"].startswith(text)
    assert len(text) <= LIMIT < len(explorer.caption)
    assert text.endswith(".")


# --- words that share their room ----------------------------------------------------------------------------


def test_of_words_for_less_and_less_room_the_first_that_fits_is_said():
    long, short = "a circle beside a square " + "and another square " * 10, "a circle beside squares"
    ax = axes()
    describe(ax, long, short)
    assert alt_text(ax.figure) == "A circle beside squares."
    describe(ax.figure, long, lambda shown: short)
    assert alt_text(ax.figure) == "A circle beside squares."
    with pytest.raises(ValueError, match="takes words that say what is shown"):
        describe(ax)
    with pytest.raises(ValueError, match="takes words that say what is shown"):
        describe(ax, short, " ")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_pictures_side_by_side_are_each_said_whole(count):
    """Each says its range; what there is no room for is left out, not broken off."""
    values = np.random.default_rng(0).normal(size=(145, 145))
    tables = np.random.default_rng(1).normal(size=(49, 8))
    draw = {
        "heat map of": lambda ax: plots.matrix(
            values, "token, in order", "made of token", "share", "rows", ax=ax
        ),
        "filters of": lambda ax: plots.filters(values[:28, :9].reshape(28, 1, 3, 3), title="filters", ax=ax),
        "cosine": lambda ax: plots.position_similarity(tables, (7, 7), "ViT-S: positions", ax, 4),
        "on the 145": lambda ax: plots.overlay(np.zeros((3, 290, 290)), values, title="one of them", ax=ax),
        "beside its 3 maps": lambda ax: plots.maps_beside(
            np.zeros((3, 8, 8)), values[:3, :16].reshape(3, 4, 4), ["the first of all layers"] * 3, ax=ax
        ),
    }
    for words, drawn in draw.items():
        figure = Figure(figsize=(4 * count, 4))
        for ax in figure.subplots(1, count, squeeze=False).flat:
            drawn(ax)
        text = alt_text(figure)
        assert "…" not in text
        assert len(text) <= LIMIT
        assert count > 1 or words in text
        if words == "heat map of":
            ranges = re.findall(r"share from (-?[\d.]+) to (-?[\d.]*\d)", text)
            assert ranges == [(f"{values.min():.3g}", f"{values.max():.3g}")] * count
