"""Lesson 02's explorers: what they say equals what is computed here another way, and every control shows."""

import math
import re

import pytest
import torch

from vitlab.data import normalise
from vitlab.embeddings import PatchEmbed, sincos2d
from vitlab.widgets import FilterExplorer, PositionExplorer

GRID = (4, 5)


@pytest.fixture
def table():
    return torch.randn(20, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def positions(table):
    return PositionExplorer({"noise": table, "sin-cos": sincos2d(GRID, 8)}, GRID)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    sizes = {"wide": (8, 12), "tall": (12, 4)}
    return {
        name: torch.randint(0, 256, (1, *size), generator=generator).byte() for name, size in sizes.items()
    }


@pytest.fixture
def projections():
    torch.manual_seed(2)
    return {"fresh": PatchEmbed(4, 1, 6), "other": PatchEmbed(4, 1, 6)}


@pytest.fixture
def filters(projections, images):
    return FilterExplorer(projections, images)


def cosine(one, other):
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def number_after(words, caption):
    return float(re.search(re.escape(words) + r" (-?\d+\.\d+)", caption)[1])


@pytest.mark.parametrize(("row", "column"), [(1, 1), (2, 3), (4, 5)])
def test_means_are_those_of_a_slow_loop(positions, table, row, column):
    positions.set(row=row, column=column)
    chosen = table[(row - 1) * 5 + column - 1].tolist()
    groups = {
        "direct neighbours": [],
        "others in its row": [],
        "others in its column": [],
        "all the rest": [],
    }
    for r in range(1, 5):
        for c in range(1, 6):
            similarity = cosine(chosen, table[(r - 1) * 5 + c - 1].tolist())
            if abs(r - row) + abs(c - column) == 1:
                groups["direct neighbours"].append(similarity)
            elif r == row and c != column:
                groups["others in its row"].append(similarity)
            elif c == column and r != row:
                groups["others in its column"].append(similarity)
            elif r != row:
                groups["all the rest"].append(similarity)
    for name, values in groups.items():
        assert number_after(name, positions.caption) == pytest.approx(sum(values) / len(values), abs=0.0051)


def test_the_stretched_scale_begins_at_the_least_similarity(positions, table):
    assert "Colours run from -1.00 to 1" in positions.caption
    positions.set(stretch=True)
    least = min(cosine(one, other) for one in table.tolist() for other in table.tolist())
    assert number_after("Colours run from", positions.caption) == pytest.approx(least, abs=0.0051)


@pytest.mark.parametrize("change", [{"kind": "sin-cos"}, {"row": 1}, {"column": 5}, {"stretch": True}])
def test_every_control_of_the_position_explorer_changes_the_picture(positions, change):
    before = positions.picture
    positions.set(**change)
    assert positions.error is None
    assert positions.picture != before
    positions.reset()
    assert positions.picture == before


def test_a_single_position_has_no_neighbours():
    explorer = PositionExplorer({"one": torch.ones(1, 4)}, (1, 1))
    assert "there is only one position" in explorer.caption


def test_a_table_that_does_not_fit_its_grid_is_refused(table):
    with pytest.raises(ValueError, match=r"4 x 4 takes .* of shape \(16, D\).*got \(20, 8\)"):
        PositionExplorer({"noise": table}, (4, 4))


@pytest.mark.parametrize(("name", "which", "number"), [("wide", "fresh", 1), ("tall", "other", 6)])
def test_answers_are_those_of_a_slow_loop(filters, projections, images, name, which, number):
    filters.set(image=name, which=which, filter=number)
    image, proj = normalise(images[name])[0], projections[which].proj
    answers = {
        (top // 4 + 1, left // 4 + 1): (
            (image[top : top + 4, left : left + 4] * proj.weight[number - 1, 0]).sum() + proj.bias[number - 1]
        ).item()
        for top in range(0, image.shape[0], 4)
        for left in range(0, image.shape[1], 4)
    }
    (row, column), strongest = max(answers.items(), key=lambda item: abs(item[1]))
    assert filters.caption.startswith(f"Filter {number} of 6, {which}, on {name}: ")
    assert f"strongest is {strongest:.2f}, at row {row}, column {column}." in filters.caption
    assert f"answers from {min(answers.values()):.2f} to {max(answers.values()):.2f};" in filters.caption


@pytest.mark.parametrize("change", [{"image": "tall"}, {"which": "other"}, {"filter": 2}])
def test_every_control_of_the_filter_explorer_changes_the_picture(filters, change):
    before = filters.picture
    filters.set(**change)
    assert filters.error is None
    assert filters.picture != before


def test_an_image_that_the_patch_size_does_not_divide_is_refused(projections):
    with pytest.raises(ValueError, match="10 is not divisible by 4"):
        FilterExplorer(projections, {"odd": torch.zeros(1, 10, 8).byte()})
