"""What every results CSV must say: the standard on files made to break each rule, then on all that ship.

`python tests/test_results_standard.py` writes the list of those that fall short into data/README.md.
"""

import csv
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest

from vitlab import studies
from vitlab.runtime import here
from vitlab.studies import Study, grid, run_study, shortcomings

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS = ROOT / "data" / "README.md", sorted((ROOT / "data" / "results").glob("*.csv"))

# What ships and falls short, by rule, and why. It may only shrink: what has become fine has to leave it.
FALLS_SHORT = {
    "attention_scores": {
        "commit": "the first five rows of `scenes_vit` were made before their code was committed",
    },
    "data_size": {
        "rates": "one rate for each model, chosen at 500 steps with one seed, serves all numbers of images",
    },
    "few_labels": {
        "rates": "one rate for each method, of `fine_tuning_choices` with 50 labels, serves all numbers of "
        "labels and both targets",
    },
    "head_removal": {
        "history": "its commit was moved onto another, and under its old name is in no history",
    },
    "masked_patches": {
        "rates": "two rates; from scratch the larger is the better, so that a still larger may be better yet",
        "kept back": "the rates can be compared on test images only",
    },
    "position_embeddings": {"rates": "one rate for all kinds of position embedding"},
    "real_attention_scores": {"commit": "all rows were made before their code was committed"},
}


# ---------------------------------------------------------------------------------------- files that ship


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_each_csv_meets_the_standard_or_is_listed(path):
    found = shortcomings(path)
    listed = dict(FALLS_SHORT.get(path.stem, {}))
    if has_history():
        found |= not_in_history(path)
    else:
        listed.pop("history", None)
    assert found.keys() - listed.keys() == set(), f"mend it, or say why not in FALLS_SHORT: {found}"
    assert listed.keys() - found.keys() == set(), "this has become fine: take it out of FALLS_SHORT"


def test_the_list_is_of_files_that_are_there_and_the_readme_has_it():
    assert FALLS_SHORT.keys() <= {path.stem for path in RESULTS}
    shown = re.findall(r"^- `\w+\.csv`, [a-z ]+: .+$", README.read_text("utf-8"), re.MULTILINE)
    assert shown == lines(), "python tests/test_results_standard.py writes the list into data/README.md"


def lines():
    """The list, a line for each rule of each file."""
    return [
        f"- `{name}.csv`, {rule}: {why}."
        for name, rules in FALLS_SHORT.items()
        for rule, why in rules.items()
    ]


EARLY = "f0ec78fc97e2"  # the commit of data_size.csv, the oldest of the results


def has_history():
    """Whether this is a checkout that has its history, and not the newest state alone."""
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        return False
    command = ["git", "-C", str(ROOT), "cat-file", "-e", f"{EARLY}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def not_in_history(path):
    """Commits, without the sign of uncommitted changes, that this history does not have."""
    for commit in sorted({row["commit"].rstrip("+") for row in studies.read_rows(path)}):
        command = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor", commit, "HEAD"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return {"history": f"{commit} is no commit of this history"}
    return {}


@pytest.mark.parametrize(
    ("name", "arm", "judge"),
    [
        ("pooling", ("pool",), "validation_accuracy"),
        ("masked_patches", ("pretraining_steps", "labels"), "test_accuracy"),
        ("fine_tuning_choices", ("method", "optimizer"), "held_out_accuracy"),
    ],
)
def test_edges_that_ship_by_loop(name, arm, judge):
    with open(ROOT / "data" / "results" / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    at_edge = set()
    for row in rows:
        own = [other for other in rows if all(other[key] == row[key] for key in arm)]
        means = {}
        for rate in sorted({float(other["learning_rate"] or other["ridge"]) for other in own}):
            same = [other for other in own if float(other["learning_rate"] or other["ridge"]) == rate]
            means[rate] = statistics.fmean(float(other[judge]) for other in same)
        best = max(means, key=means.get)
        assert row["best_rate_at_edge"] == str(best in (list(means)[0], list(means)[-1]))
        if row["best_rate_at_edge"] == "True":
            at_edge.add(tuple(row[key] for key in arm))
    expected = {
        "pooling": set(),
        "masked_patches": {("0", "100"), ("0", "1000"), ("1000", "100"), ("1000", "1000")},
        "fine_tuning_choices": {("scratch", "adamw")},
    }
    assert at_edge == expected[name]


# ------------------------------------------------------------------------------------- files made to fail

COMMAND = "python -m lab study pools --only seed={seed} pool={pool} learning_rate={learning_rate}"
MADE = dict(seconds=1.0, status="done", message="", commit="0123456789ab", machine="CPU, 1 threads")


def pools(accuracy=lambda pool, rate: len(pool) / 9 - abs(rate - 2), kept="validation_accuracy"):
    """Two poolings at three rates with three seeds each."""
    return [
        {**row, kept: accuracy(row["pool"], row["learning_rate"]) + row["seed"] / 100}
        | MADE
        | dict(command=COMMAND.format(**row))
        for row in grid(seed=range(3), pool=["token", "mean"], learning_rate=[1, 2, 3])
    ]


def lacks(rows, tmp_path, name="made"):
    """What the rows, written to a file, lack."""
    path = tmp_path / f"{name}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return shortcomings(path)


def changed(rows, chosen=lambda row: True, **new):
    """The rows, those chosen with other cells."""
    return [row | new if chosen(row) else row for row in rows]


def without(rows, *names):
    return [{name: row[name] for name in row if name not in names} for row in rows]


def at_rates(*rates):
    """The rows of `pools` with some rates."""
    return [row for row in pools() if row["learning_rate"] in rates]


def of_seed(seed, row):
    """The row as another seed's."""
    return row | dict(seed=seed, command=COMMAND.format(**row | dict(seed=seed)))


def first(row):
    return row["seed"] == 0 and row["pool"] == "token" and row["learning_rate"] == 1


def test_a_file_that_lacks_nothing(tmp_path):
    assert lacks(pools(), tmp_path) == {}
    assert lacks(changed(pools(), best_rate_at_edge=False), tmp_path) == {}


@pytest.mark.parametrize(
    ("rows", "rule", "said"),
    [
        (without(pools(), "machine"), "record", "there is no column machine"),
        (changed(pools(), first, machine=""), "record", "row 1 does not say its machine"),
        (changed(pools(), first, command=""), "record", "row 1 does not say its command"),
        (changed(pools(), first, status="failed", message="no"), "record", "row 1 is failed: no"),
        (
            changed(pools(), first, command=COMMAND.format(seed=0, pool="mean", learning_rate=1)),
            "record",
            "row 1 has pool=token, and a command that makes pool=mean",
        ),
        (changed(pools(), first, commit="0123456789ab+"), "commit", r"1 of 18 rows .* \(0123456789ab\+\)"),
        (changed(pools(), commit="vitlab 1.0"), "commit", r"18 of 18 rows"),
        (
            [of_seed(f"s{row['seed']}", row) for row in pools()],
            "seeds",
            "row 1 has seed=s0, which is no seed",
        ),
        (
            [row for row in pools() if row["seed"] < 2],
            "spread",
            "pool=token learning_rate=1 has 2 of at least 3 seeds",
        ),
        (
            [row for row in pools() if row["seed"] or row["pool"] == "token"]
            + [
                row | dict(seed=3, command=row["command"].replace("seed=0", "seed=3")) for row in pools()[3:6]
            ],
            "pairs",
            "pool=token learning_rate=1 has no row with seed 3, which others have",
        ),
        (at_rates(1, 2), "rates", "pool=token was tried with 1, 2 alone"),
        (at_rates(2), "rates", "pool=token was tried with 2 alone"),
        (pools(kept="test_accuracy"), "kept back", "no column is validation_accuracy or held_out_accuracy"),
        (
            pools(lambda pool, rate: rate / len(pool)),
            "edge",
            "best_rate_at_edge is True, and the row says None",
        ),
        (changed(pools(), best_rate_at_edge=True), "edge", "is False, and the row says True"),
        (
            changed(pools(lambda pool, rate: rate / len(pool)), first, best_rate_at_edge=False),
            "edge",
            "is True, and the row says",
        ),
    ],
)
def test_what_is_missing_is_named(rows, rule, said, tmp_path):
    rows = [dict(dict.fromkeys(rows[0], ""), **row) for row in rows]
    found = lacks(rows, tmp_path)
    assert re.search(said, found[rule]), found
    ends_at_edge = rule == "rates" and len({row["learning_rate"] for row in rows}) == 2  # two have no inside
    assert found.keys() - {rule} == ({"edge"} if ends_at_edge else set())


def test_a_column_of_seeds_is_wanted(tmp_path):
    rows = [row | dict(draw=row["seed"], command=row["command"].replace("seed=", "draw=")) for row in pools()]
    found = lacks(without(rows, "seed"), tmp_path)
    assert found["seeds"] == "no column names a seed"


def scores(**new):
    """Two maps with an interval of their score, and of their difference to a rival."""
    ends = dict(iou=0.5, iou_low=0.4, iou_high=0.6, iou_over_rival=0.1, iou_over_rival_low=0.0)
    return [
        dict(seed=0, images=50, map=name) | ends | dict(iou_over_rival_high=0.2) | MADE
        | dict(command=f"python -m lab score --images 50 --only map={name}") | new
        for name in ("rollout", "chroma")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "rule", "said"),
    [
        (scores(), None, None),
        (scores(iou_low=0.55), "spread", "row 1 has no interval of iou that holds it: (0.55, 0.5, 0.6)"),
        (scores(iou_high=""), "spread", "row 1 has no interval of iou that holds it: (0.4, 0.5, None)"),
        (without(scores(), "iou_high"), "spread", "holds it: (0.4, 0.5, None)"),
        (scores(images=1), "spread", "row 1 has intervals over 1 images"),
        (without(scores(), "images"), "spread", "row 1 has intervals over None images"),
        (
            without(scores(), *(f"iou_over_rival{end}" for end in ("", "_low", "_high"))),
            "pairs",
            "there are intervals of scores, and none of a difference to a rival on the same images",
        ),
    ],
)
def test_intervals_stand_for_seeds(rows, rule, said, tmp_path):
    found = lacks(rows, tmp_path)
    assert found.keys() == ({rule} if rule else set())
    if said:
        assert said in found[rule]


def test_a_checkpoint_s_name_may_stand_for_its_seed(tmp_path):
    rows = [
        dict(seed=0, checkpoint=name, map=of, model_seed=seed, iou=seed / 4 + len(of)) | MADE
        | dict(command=f"python -m lab score --checkpoint {name} --only checkpoint={name} map={of}")
        for seed, name in enumerate(("a", "b", "c"))
        for of in ("rollout", "chroma")
    ]  # fmt: skip
    assert lacks(rows, tmp_path) == {}
    assert lacks(rows[:4], tmp_path)["spread"].startswith("map=rollout has 2 of at least 3 seeds")
    assert "map=chroma has no row" in lacks(rows[:5], tmp_path)["pairs"]


def test_arms_with_a_seed_of_their_own_are_no_models_of_seeds(tmp_path):
    rows = [row for row in pools() if row["seed"] == ["token", "mean"].index(row["pool"])]
    found = lacks(rows, tmp_path)
    assert found["spread"] == "pool=token learning_rate=1 has 1 of at least 3 seeds, and no interval"
    assert found["pairs"] == "pool=token learning_rate=1 has no row with seed 1, which others have"


def test_heads_of_one_model_need_no_rates_of_their_own(tmp_path):
    rows = [
        dict(seed=seed, head=head, learning_rate=2, test_accuracy=0.8 + seed / 100, loss=head) | MADE
        | dict(command=f"python -m lab heads --only seed={seed} head={head}")
        for seed in range(3)
        for head in range(2)
    ]  # fmt: skip
    assert lacks(rows, tmp_path) == {}
    trained = [row | dict(test_accuracy=0.8 + row["head"] / 10 + row["seed"] / 100) for row in rows]
    assert "head=0 was tried with 2 alone" in lacks(trained, tmp_path)["rates"]


def test_rates_may_be_chosen_in_other_results(tmp_path):
    final = [row | dict(tuned_in="choices") for row in at_rates(2)]
    assert "choices.csv, which is not there" in lacks(final, tmp_path)["rates"]
    lacks(pools(), tmp_path, "choices")
    assert lacks(final, tmp_path) == {}
    three = [row | dict(tuned_in="choices") for row in at_rates(3)]
    assert lacks(three, tmp_path)["rates"] == "pool=token has rate 3, and choices.csv has 2 as the best"
    lacks([row for row in pools() if row["pool"] == "token"], tmp_path, "choices")
    other = [row for row in pools() if (row["pool"], row["learning_rate"]) != ("mean", 3)]
    lacks(other, tmp_path, "choices")
    assert lacks(final, tmp_path)["rates"] == "choices.csv has not one grid of rates for pool=mean"


def test_a_file_without_rows_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("seed,pool,seconds,status\n")
    with pytest.raises(ValueError, match="has no rows"):
        shortcomings(tmp_path / "x.csv")


def test_a_study_says_itself_that_it_ended_at_an_edge(tmp_path):
    settings = grid(seed=range(3), pool=["token", "mean"], learning_rate=[1.0, 2.0, 3.0])

    def measure(settings, run):
        best = dict(token=2.0, mean=3.0)[settings["pool"]]
        return dict(validation_accuracy=0.9 - abs(settings["learning_rate"] - best) / 10)

    path, study = tmp_path / "pools.csv", Study("pools", "Which?", settings, measure)
    rows = run_study(study, path, here("cpu", "fp32"), dict(learning_rate=[1.0, 2.0]), progress=False)
    assert {row["best_rate_at_edge"] for row in rows} == {True}
    rows = run_study(study, path, here("cpu", "fp32"), command="python -m lab study pools", progress=False)
    assert {(row["pool"], row["best_rate_at_edge"]) for row in rows} == {("token", False), ("mean", True)}
    half = Study("half", "Which?", settings, lambda s, run: {} if s["seed"] else measure(s, run))
    rows = run_study(half, tmp_path / "half.csv", here("cpu", "fp32"), progress=False)
    assert [row["best_rate_at_edge"] for row in rows] == [False] * 3 + [True] * 3 + [None] * 12
    only_one = Study("one", "Which?", grid(seed=range(2), learning_rate=[1.0], pool=["mean"]), measure)
    rows = run_study(only_one, tmp_path / "one.csv", here("cpu", "fp32"), progress=False)
    assert "best_rate_at_edge" not in rows[0]


if __name__ == "__main__":
    text = README.read_text("utf-8")
    kept = re.sub(r"(?m)^- `\w+\.csv`, [a-z ]+: .+\n", "", text)
    marker = "The list may only shrink:\n\n"
    README.write_text(kept.replace(marker, marker + "\n".join(lines()) + "\n"), "utf-8")
