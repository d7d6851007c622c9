"""The tables of lesson 06: each number in the text is found again in the CSV, read without vitlab."""

import csv
import re
import statistics

import pytest
import scipy.stats

from vitlab import files
from vitlab.attention import shipped_tables
from vitlab.studies import read_results


def rows_of(name: str) -> list[dict[str, str]]:
    with open(files.root("results") / "results" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_scores_on_scenes_are_means_and_deviations_over_the_models():
    text, rows = (
        shipped_tables.scored_on_scenes(read_results("attention_scores")),
        rows_of("attention_scores"),
    )
    for name in {row["map"] for row in rows}:
        numbers = []
        for column in shipped_tables.OF_MODELS:
            values = [float(row[column]) for row in rows if row["map"] == name]
            numbers += [f"{statistics.mean(values):.2f}", f"{statistics.stdev(values):.2f}"]
        lines = re.findall(rf"^{name} .*$", text, flags=re.MULTILINE)
        assert re.findall(r"-?\d\.\d\d", " ".join(lines)) == numbers


def test_beside_each_rollout_stands_how_far_its_row_is_from_the_mean_row():
    text = shipped_tables.scored_on_real_vit(read_results("real_attention_scores"))
    rows = rows_of("real_attention_scores")
    told = re.findall(r"^(\w+) differs from the mean row by (.*)%$", text, flags=re.MULTILINE)
    wanted = [(row["map"], float(row["row_difference"])) for row in rows if row["row_difference"]]
    assert [name for name, _ in told] == [name for name, _ in wanted]
    assert {name for name, _ in told} == {"rollout", "rollout_after_first", "rollout_late"}
    for (_, per_cent), (_, share) in zip(told, wanted, strict=True):
        assert float(per_cent) == pytest.approx(100 * share, abs=0.051)


def test_scores_on_the_real_vit_are_those_of_the_file_with_their_intervals():
    text = shipped_tables.scored_on_real_vit(read_results("real_attention_scores"))
    blocks = dict(zip(("scenes", "photographs"), text.split("\n\n"), strict=True))
    for row in rows_of("real_attention_scores"):
        numbers = [
            f"{float(row[column + end]):.2f}"
            for column in shipped_tables.OF_PICTURES
            for end in ("", "_low", "_high")
        ]
        lines = re.findall(rf"^{row['map']} +-?\d.*$", blocks[row["pictures"]], flags=re.MULTILINE)
        assert re.findall(r"-?\d\.\d\d", " ".join(lines)) == numbers


@pytest.mark.parametrize("name", ["head_slope", "relevance", "layer"])
def test_heads_are_ordered_as_scipy_orders_them(name):
    text, rows = shipped_tables.heads_removed(read_results("head_removal")), rows_of("head_removal")
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        pairs = [[float(row[column]) for row in own] for column in (name, "loss_increase")]
        found.append(scipy.stats.spearmanr(*pairs).statistic)
    (line,) = re.findall(rf"^ +{name} .*$", text.partition("heads of one layer")[0], flags=re.MULTILINE)
    numbers = [float(number) for number in re.findall(r"-?\d\.\d\d", line)[:3]]
    assert numbers == pytest.approx([statistics.mean(found), min(found), max(found)], abs=0.0051)


def test_columns_that_a_window_does_not_hold_come_below():
    lines = shipped_tables.in_columns({"a": list("1234"), "b": list("5678")}, ["w", "x", "y", "z_z"], 5)
    assert [line.split() for line in lines] == [
        ["w", "x", "y"],
        ["a", "1", "2", "3"],
        ["b", "5", "6", "7"],
        ["z", "z"],
        ["a", "4"],
        ["b", "8"],
    ]


def test_scores_in_camouflage_are_means_over_models_beside_the_widest_of_their_intervals():
    text, rows = (
        shipped_tables.scored_in_camouflage(read_results("camouflage_scores")),
        rows_of("camouflage_scores"),
    )
    blocks = dict(zip(("False", "True"), text.split("\n\n"), strict=True))
    for name, hidden in {(row["map"], row["camouflage"]) for row in rows}:
        own, cells = [row for row in rows if (row["map"], row["camouflage"]) == (name, hidden)], []
        for score in ("pointing_game", "iou", "iou_half"):
            cells.append(f"{statistics.mean(float(row[score]) for row in own):.2f}")
            if any(row[f"{score}_best_baseline"] == name for row in own):
                cells.append("best rival")
            else:
                bounds = [
                    [float(row[f"{score}_over_baseline_{end}"]) for row in own] for end in ("low", "high")
                ]
                cells.append(f"[{min(bounds[0]):+.2f}, {max(bounds[1]):+.2f}]")
        (line,) = re.findall(rf"^{name} .*$", blocks[hidden], flags=re.MULTILINE)
        assert line.split() == " ".join([name, *cells]).split()


def test_with_garments_of_one_kind_alone_there_is_one_table():
    rows = [row for row in read_results("camouflage_scores") if row["camouflage"]]
    whole = shipped_tables.scored_in_camouflage(read_results("camouflage_scores"))
    assert shipped_tables.scored_in_camouflage(rows) == whole.split("\n\n")[1]
