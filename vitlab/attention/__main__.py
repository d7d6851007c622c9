"""`python -m vitlab.attention score`: the table of lesson 06 from a shell."""

import argparse
from pathlib import Path

from vitlab import studies
from vitlab.attention.study import attention_scores, fingerprint
from vitlab.checkpoints import bundled, load_checkpoint
from vitlab.data.sources import GARMENTS
from vitlab.runtime import here
from vitlab.vit import ViT

PROGRAM = "python -m vitlab.attention"
CHECKPOINTS = ["scenes_vit", "scenes_vit_2", "scenes_vit_3"]  # seeds 1, 2 and 3


def main(arguments: list[str] | None = None) -> None:
    """Score maps of what a prediction rests on against the true masks of scenes."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=main.__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, dest="command")
    score = commands.add_parser(
        "score", help="score the maps of some checkpoints, or go on with it", allow_abbrev=False
    )
    score.add_argument(
        "--checkpoint",
        nargs="+",
        default=CHECKPOINTS,
        metavar="NAME",
        help=f"checkpoints that ship, or files; a ViT for scenes each (default: {', '.join(CHECKPOINTS)})",
    )
    score.add_argument("--images", type=int, default=2_000, help="test scenes (default: %(default)s)")
    score.add_argument("--seed", type=int, default=0, help="of the scenes (default: %(default)s)")
    studies.add_options(score)
    options = parser.parse_args(arguments)
    try:
        make_table(options)
    except (ValueError, FileNotFoundError) as error:
        score.error(str(error))


def make_table(options: argparse.Namespace) -> None:
    """Score the checkpoints asked for; rows of others that the file has already stay in it."""
    only, path = studies.read_only(options.only), options.folder / "attention_scores.csv"
    asked = {name_of(given): given for given in options.checkpoint}
    if len(asked) < len(options.checkpoint):
        raise ValueError(f"two checkpoints have the same name: {' '.join(options.checkpoint)}")
    files = {name: file_of(given) for name, given in asked.items()}
    rows = studies.read_rows(path) if path.exists() else []
    for row in rows:
        name = row.get("checkpoint")
        if name in files and row.get("weights") not in (None, fingerprint(files[name])):
            raise ValueError(
                f"{path} has rows of another {name}; write to another folder, or take its rows out"
            )
    scored = dict.fromkeys(row.get("checkpoint") for row in rows)
    study = attention_scores(scored | files, options.images, seed=options.seed)
    studies.chosen(study, only)  # a misspelt setting is told before the first run
    run = here(precision=options.precision)
    for name, given in asked.items():
        words = f"{PROGRAM} score --checkpoint {given} --images {options.images} --seed {options.seed}"
        if name in only.get("checkpoint", [name]):
            mine = only | {"checkpoint": name}
            studies.run_study(study, path, run, mine, options.rerun_failed, words)
    print(studies.report(study, path))


def name_of(given: str) -> str:
    """The name under which a checkpoint's rows are kept."""
    return Path(given).stem if given.endswith(".safetensors") else given


def file_of(given: str) -> Path:
    """The file of a checkpoint that can be scored on scenes; raises ValueError for another."""
    path = Path(given) if given.endswith(".safetensors") else bundled(given)
    model, garments = load_checkpoint(path), GARMENTS.split(", ")
    fits = isinstance(model, ViT) and (model.config.in_chans, model.config.num_classes) == (3, len(garments))
    if not fits or model.class_names not in (None, garments):
        raise ValueError(
            f"{given} is not a ViT for colour images of {len(garments)} garments, numbered as in "
            f"scenes: {GARMENTS}"
        )
    return path


if __name__ == "__main__":
    main()
