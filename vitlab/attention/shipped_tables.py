"""The results of lesson 06 that ship, as text: a line for each map or head, and a column for each score."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from vitlab.attention.importances import IMPORTANCES, head_correlation
from vitlab.studies import Row, summarise

OF_MODELS = ("pointing_game", "energy_inside", "mean_iou", "deletion", "insertion", "other_class")
OF_PICTURES = ("pointing_game", "energy_inside", "iou", "iou_half", "iou_over_baseline")
OVER_RIVALS = ("pointing_game", "iou", "iou_half")  # each also less the best rival's
TOGETHER = 3  # columns that a narrow window shows beside each other


def in_columns(cells: Mapping[str, Sequence[str]], columns: Sequence[str], width: int) -> list[str]:
    """Lines of text: a name and its cells, `TOGETHER` columns at a time, each `width` letters wide.

    >>> in_columns({"rollout": ["0.98"]}, ["pointing_game"], 15)
    ['                      pointing game', 'rollout                        0.98']
    """
    lines = []
    for start in range(0, len(columns), TOGETHER):
        part = slice(start, start + TOGETHER)
        lines.append(" " * 20 + "".join(f"{name.replace('_', ' '):>{width}}" for name in columns[part]))
        lines += [
            f"{name:<20}" + "".join(f"{cell:>{width}}" for cell in row[part]) for name, row in cells.items()
        ]
    return lines


def scored_on_scenes(rows: Sequence[Row]) -> str:
    """What `python -m vitlab.attention score` made: of each map its mean score ± deviation over models.

    >>> from vitlab.studies import read_results
    >>> scored_on_scenes(read_results("attention_scores")).splitlines()[0]
    '2,000 scenes, models: scenes_vit (seed 1), scenes_vit_2 (seed 2), scenes_vit_3 (seed 3)'
    """
    which = {row["checkpoint"]: row["model_seed"] for row in rows}
    models = ", ".join(f"{name} (seed {seed})" for name, seed in which.items())
    found = {column: summarise(list(rows), column, ["map"]) for column in OF_MODELS}

    def cell(mean: float, deviation: float, models: int) -> str:
        return f"{mean:.2f} ± {deviation:4.2f}" if models > 1 else f"{mean:.2f}"

    maps = dict.fromkeys(row["map"] for row in rows)
    cells = {name: [cell(*found[column][name,]) for column in OF_MODELS] for name in maps}
    return "\n".join([f"{rows[0]['images']:,} scenes, models: {models}", *in_columns(cells, OF_MODELS, 16)])


def scored_in_camouflage(rows: Sequence[Row]) -> str:
    """What `score-camouflage` or `score-features` made: each map's scores, and less the best rival's.

    Scores are means over the models. Beside them, from the lowest bound of a model's 95 % interval over
    scenes to the highest, how much higher they are than those of the best map that asks no model.

    >>> from vitlab.studies import read_results
    >>> scored_in_camouflage(read_results("camouflage_scores")).splitlines()[0]
    '500 scenes, 3 models, garments in colours of their own: they name 84% rightly'
    """
    blocks = []
    for hidden, words in ((False, "colours of their own"), (True, "their background's colours")):
        here = [row for row in rows if row["camouflage"] is hidden]
        if not here:
            continue  # `--only` made the others
        models = len({row["checkpoint"] for row in here})
        right = fmean({row["checkpoint"]: row["accuracy"] for row in here}.values())
        head = (
            f"{here[0]['images']} scenes, {models} models, garments in {words}: they name {right:.0%} rightly"
        )
        cells = {
            name: [over_rivals([row for row in here if row["map"] == name], score) for score in OVER_RIVALS]
            for name in dict.fromkeys(row["map"] for row in here)
        }
        blocks.append("\n".join([head, *in_columns(cells, OVER_RIVALS, 21)]))
    return "\n\n".join(blocks)


def over_rivals(rows: Sequence[Row], score: str) -> str:
    """A map's mean score over models, and its lead over the best rival: "0.98 [+0.02, +0.06]".

    The best rival's own interval is none: it is "best".
    """
    mean = fmean(row[score] for row in rows)
    if rows[0][f"{score}_best_baseline"] == rows[0]["map"]:
        return f"{mean:.2f}  best rival   "
    low = min(row[f"{score}_over_baseline_low"] for row in rows)
    high = max(row[f"{score}_over_baseline_high"] for row in rows)
    return f"{mean:.2f} [{low:+.2f}, {high:+.2f}]"


def scored_on_real_vit(rows: Sequence[Row]) -> str:
    """What `python -m vitlab.attention score-real` made: of each map its scores with 95 % intervals.

    >>> from vitlab.studies import read_results
    >>> scored_on_real_vit(read_results("real_attention_scores")).splitlines()[0]
    'ViT-S, 500 scenes, mean [95 % interval]; chance 0.15'
    """
    blocks = []
    for kind in dict.fromkeys(row["pictures"] for row in rows):
        here = [row for row in rows if row["pictures"] == kind]
        told = f"{here[0]['images']} {kind}, mean [95 % interval]; chance {here[0]['mask_share']:.2f}"
        cells = {
            row["map"]: [f"{row[c]:.2f} [{row[c + '_low']:.2f}, {row[c + '_high']:.2f}]" for c in OF_PICTURES]
            for row in here
        }
        apart = [
            f"{row['map']} differs from the mean row by {row['row_difference']:.1%}"
            for row in here
            if row["row_difference"] is not None
        ]
        lines = [f"ViT-S, {told}", *in_columns(cells, OF_PICTURES, 21), *apart]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def heads_removed(rows: Sequence[Row]) -> str:
    """What `python -m vitlab.attention heads` made: how each map orders heads by what their removal adds.

    >>> from vitlab.studies import read_results
    >>> heads_removed(read_results("head_removal")).splitlines()[0]
    '5 models that started apart, 80 heads, each removed alone; 5,000 test images'
    """
    lines = [
        f"{len({row['seed'] for row in rows})} models that started apart, {len(rows)} heads, each removed "
        f"alone; {rows[0]['test_images']:,} test images",
        "Spearman's ρ with the loss that it adds: mean over models [least, most] (chance)",
    ]
    for within, among in ((False, "all heads of a model"), (True, "heads of one layer")):
        lines += ["", among]
        for name in [*([] if within else ["layer"]), *IMPORTANCES, "random"]:
            c = head_correlation(rows, name, within_layers=within)
            found = f"{c.mean:6.2f} [{c.lowest:5.2f}, {c.highest:5.2f}]"
            lines.append(f"   {name:<20}{found} ({c.chance_low:.2f} … {c.chance_high:.2f})")
    return "\n".join(lines)
