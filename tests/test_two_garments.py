"""Scenes of two garments, against the two scenes that they are made of, pixel by pixel."""

import pytest
import torch

from vitlab import data


def test_each_is_a_scene_with_the_garment_of_another_laid_in():
    made = data.scenes_of_two(120, seed=4, image_size=32)
    one, other = (data.scenes(120, seed, 32, split="test") for seed in (4, 5))
    place = 0
    for i in range(120):
        overlap = any(a and b for a, b in zip(one.masks[i].flatten(), other.masks[i].flatten(), strict=True))
        if overlap or one.labels[i] == other.labels[i]:
            continue
        image, cover = made.images[place], other.masks[i]
        assert torch.equal(image[:, cover], other.images[i][:, cover])
        assert torch.equal(image[:, ~cover], one.images[i][:, ~cover])
        assert made.labels[place].tolist() == [one.labels[i], other.labels[i]]
        assert torch.equal(made.masks[place], torch.stack([one.masks[i], other.masks[i]]))
        place += 1
    assert place == len(made.images) == len(made.labels) == len(made.masks) > 0


def test_some_are_chosen_by_number_or_by_a_bool():
    made = data.scenes_of_two(300, image_size=32)
    few = made.subset(torch.tensor([1, 0]))
    assert torch.equal(few.images, made.images[[1, 0]])
    assert torch.equal(few.masks, made.masks[[1, 0]])
    none = made.subset(torch.zeros(len(made.labels), dtype=torch.bool))
    assert len(none.labels) == 0


def test_sizes_are_refused_as_of_scenes():
    with pytest.raises(ValueError, match="at least 32 pixels"):
        data.scenes_of_two(3, image_size=16)
