"""Figures of several panels hold the numbers they are given, on ranges that compare, and stay narrow."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.text import Text

from vitlab import plots
from vitlab.alt_text import alt_text


@pytest.fixture(autouse=True)
def closed():
    plt.close("all")
    yield
    plt.close("all")


def three() -> dict:
    lines = {"pre": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "post": [5.0, 9.0]}
    shrunk = {"pre": [0.1, 0.2]}
    return {
        "loss": ([5, 10], lines, "step", "nats"),
        "before": ([1, 2], lines, "block", "length"),
        "after": ([1, 2], shrunk, "block", "length"),
    }


def test_panels_show_means_under_their_titles():
    axes = plots.panels(three())
    assert [ax.get_title() for ax in axes] == ["loss", "before", "after"]
    assert [ax.get_xlabel() for ax in axes] == ["step", "block", "block"]
    pre, post = axes[0].get_lines()
    assert (pre.get_xdata().tolist(), pre.get_ydata().tolist()) == ([5, 10], [2.0, 3.0])
    assert post.get_ydata().tolist() == [5.0, 9.0]
    assert "mean ± sd of 2 runs" in pre.get_label()


def test_panels_of_one_y_label_have_one_range_which_holds_all():
    loss, before, after = plots.panels(three())
    assert before.get_ylim() == after.get_ylim()
    assert before.get_ylim()[0] <= 0.1
    assert before.get_ylim()[1] >= 9
    assert loss.get_ylim() != before.get_ylim()


def test_panels_stand_two_to_a_row_and_are_no_wider_than_a_page():
    for count, rows in ((1, 1), (2, 1), (3, 2), (5, 3)):
        wanted = {f"panel {i}": ([1, 2], {"a": [1, 2]}, "x", f"y {i}") for i in range(count)}
        axes = plots.panels(wanted)
        figure = axes[0].figure
        figure.canvas.draw()
        assert figure.get_size_inches()[0] <= 9
        assert len({round(ax.get_position().y0, 2) for ax in axes}) == rows
        assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 9


def test_logarithmic_axes_are_those_asked_for():
    for log, scales in (("", ("linear", "linear")), ("x", ("log", "linear")), ("xy", ("log", "log"))):
        (ax,) = plots.panels({"a": ([4, 16], {"b": [1, 2]}, "x", "y")}, log=log)
        assert (ax.get_xscale(), ax.get_yscale()) == scales
    ax.figure.canvas.draw()
    shown = [*ax.get_xticklabels(), *ax.get_xticklabels(minor=True)]
    assert [text.get_text() for text in shown] == ["4", "16"]


def test_panels_are_told_in_words_and_none_is_refused():
    assert alt_text(plots.panels(three())[0].figure).startswith("Loss: nats over step: pre, post rising.")
    with pytest.raises(ValueError, match="nothing to show; give a dict title"):
        plots.panels({})


def test_scores_stand_above_the_weights_in_per_cent():
    scores = torch.tensor([0.5, -1.0, 2.0, 0.0])
    above, below = plots.scores_and_weights(scores, scores.softmax(dim=0), "token 2 asks")
    np.testing.assert_allclose([bar.get_height() for bar in above.patches], scores)
    wanted = np.exp(scores.numpy()) / np.exp(scores.numpy()).sum()
    np.testing.assert_allclose([bar.get_height() for bar in below.patches], 100 * wanted, rtol=1e-6)
    assert below.get_lines()[0].get_ydata()[0] == 25  # an even share of four
    assert above.get_title() == "token 2 asks"
    assert above.get_position().y0 > below.get_position().y0


def test_as_many_weights_as_scores():
    for weights in ([1.0], [[0.5, 0.5]]):
        with pytest.raises(ValueError, match="a token has one score and one weight"):
            plots.scores_and_weights([0.0, 1.0], weights)
