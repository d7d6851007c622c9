"""`python -m vitlab.attention`: an album of maps of any ViT, and the studies of lesson 06, from a shell."""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path

from torch import nn

from vitlab import studies
from vitlab.attention.album import INDEX, Album, make_album, pictures_in, usual_maps
from vitlab.attention.by_name import FORMS, model_called
from vitlab.attention.camouflage_study import camouflage_scores
from vitlab.attention.describing import READS
from vitlab.attention.feature_study import feature_pca
from vitlab.attention.head_study import head_removal
from vitlab.attention.maps import MAPS
from vitlab.attention.real_study import focus, real_attention_scores
from vitlab.attention.scoring import Scoring, score_pictures
from vitlab.attention.scoring_table import as_csv, table
from vitlab.attention.study import attention_scores, fingerprint
from vitlab.attention.view import View, attach
from vitlab.checkpoints import NotFetched, bundled, load_checkpoint, write_whole
from vitlab.data.masks import LAYOUTS, pictures_and_masks
from vitlab.data.sources import GARMENTS
from vitlab.runtime import here
from vitlab.vit import ViT

PROGRAM = "python -m vitlab.attention"
CHECKPOINTS = ["scenes_vit", "scenes_vit_2", "scenes_vit_3"]  # seeds 1, 2 and 3
CSV = "scores.csv"
KEYWORDS = ("image_size", "patch_size", "num_prefix_tokens", "reads", "channels", "mean", "std")
OF_PICTURES = ("out", "curves", "above", "maps", "random", *KEYWORDS)  # options of `score` for them
OF_SCENES = ("checkpoint", "images", "only", "rerun_failed", "folder", "precision")


def main(arguments: list[str] | None = None) -> None:
    """Maps of what a prediction rests on: of your pictures by any ViT, or scored against true masks."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=main.__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, dest="command")
    add_maps(commands)
    add_score(commands)
    add_score_camouflage(commands)
    add_score_features(commands)
    add_score_real(commands)
    add_heads(commands)
    options = parser.parse_args(arguments)
    try:
        status = options.do(options)
    except (ValueError, FileNotFoundError, NotFetched) as error:
        commands.choices[options.command].error(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from there")
    if status:
        sys.exit(status)


def add_maps(commands: argparse._SubParsersAction) -> None:
    """The options of `maps`."""
    words = "an album of maps: a PNG and an .npz a picture, and a page to look through"
    maps = commands.add_parser("maps", help=words, description=words, allow_abbrev=False)
    maps.set_defaults(do=make_maps)
    maps.add_argument("model", metavar="MODEL", help=FORMS)
    maps.add_argument(
        "pictures", nargs="+", type=Path, metavar="PICTURES", help="files, or folders with all below them"
    )
    maps.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the album is")
    add_model_options(maps, maps)


def add_model_options(parser: argparse.ArgumentParser, group: argparse._ActionsContainer) -> None:
    """The options that say which maps of which model."""
    group.add_argument(
        "--maps",
        nargs="+",
        choices=MAPS,
        metavar="NAME",
        help=f"of {', '.join(MAPS)} (default: the first two, of a classifier the first four)",
    )
    group.add_argument(
        "--random", action="store_true", help="a library's model with random weights, not the published ones"
    )
    keywords = parser.add_argument_group("what the model does not say of itself")
    for name in ("image_size", "patch_size"):
        keywords.add_argument(f"--{name}", nargs="+", type=int, metavar="PIXELS", help="a side, or two: H W")
    keywords.add_argument("--num_prefix_tokens", type=int, help="class, distillation, registers")
    keywords.add_argument("--reads", choices=READS, help="what the output is made of")
    keywords.add_argument("--channels", type=int, help="3 for colour, 1 for grey")
    for name in ("mean", "std"):
        keywords.add_argument(f"--{name}", nargs="+", type=float, help="of the images, for values in [0, 1]")


def make_maps(options: argparse.Namespace) -> int:
    """Make the album; 1 where pictures had to be skipped, which are named, and 0 otherwise."""
    pictures = pictures_in(options.pictures, options.out)
    shown, skipped = make_album(album_of(options), pictures)
    print(f"{len(shown)} of {len(pictures)} pictures are in {options.out / INDEX}")
    return tell(skipped)


def album_of(options: argparse.Namespace) -> Album:
    """The folder, the model and its maps that the options ask for."""
    named = model_called(options.model, options.random)
    label = f"{options.model} (random weights)" if options.random else options.model
    view = seen(named.model, named.keywords | given_keywords(options))
    chosen = tuple(options.maps or usual_maps(view))
    return Album(options.out, view, label, chosen, named.class_names, named.source)


def tell(skipped: dict[str, str]) -> int:
    """Name the pictures that were skipped: 1 where there are some."""
    for name, why in skipped.items():
        print(f"skipped {name}: {why}", file=sys.stderr)
    return 1 if skipped else 0


def given_keywords(options: argparse.Namespace) -> dict:
    """The keywords of `attach` that were given."""
    given = {name: getattr(options, name) for name in KEYWORDS if getattr(options, name) is not None}
    for name in {"image_size", "patch_size"} & given.keys():
        if len(given[name]) > 2:
            raise ValueError(f"--{name} is a side, or height and width; got {given[name]}")
        given[name] = tuple(given[name]) if len(given[name]) == 2 else given[name][0]
    return given


def seen(model: nn.Module | View, keywords: dict) -> View:
    """A view in fp32 on the device that is here, of a model, or of what a view was made of."""
    if isinstance(model, View) and keywords:
        raise ValueError(f"the function gives a view, which says all; leave out --{next(iter(keywords))}")
    inner = model.model if isinstance(model, View) else model
    inner.float().eval().to(here(precision="fp32").device)
    return model if isinstance(model, View) else attach(model, **keywords)


def add_score(commands: argparse._SubParsersAction) -> None:
    """The options of `score`, for one's own pictures and for scenes."""
    words = (
        "Score maps, and baselines that ask no model, against masks: with MODEL and FOLDER those of your "
        "pictures, with intervals; without them those of checkpoints on scenes, the study of lesson 06. The "
        "same command goes on where it was stopped."
    )
    score = commands.add_parser(
        "score", help="score maps of your pictures, or of scenes", description=words, allow_abbrev=False
    )
    score.set_defaults(do=functools.partial(make_scores, score))
    score.add_argument("model", nargs="?", metavar="MODEL", help=FORMS)
    score.add_argument("pictures", nargs="?", type=Path, metavar="FOLDER", help=LAYOUTS)
    score.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the resampled pictures, or of the scenes (default: %(default)s)",
    )
    own = score.add_argument_group("your pictures")
    own.add_argument("--out", type=Path, metavar="DIRECTORY", help="where scores.csv is, and what goes on")
    own.add_argument(
        "--curves",
        action=argparse.BooleanOptionalAction,
        help="deletion and insertion of the class that the model names (default: of a classifier)",
    )
    own.add_argument(
        "--above",
        type=int,
        metavar="NUMBER",
        help="the object is where a mask is brighter (default: not black)",
    )
    add_model_options(score, own)
    scenes = score.add_argument_group("scenes")
    add_checkpoint(scenes)
    scenes.add_argument("--images", type=int, default=2_000, help="test scenes (default: %(default)s)")
    studies.add_options(scenes)


def add_checkpoint(group: argparse._ActionsContainer) -> None:
    """The option that says whose maps of scenes are scored."""
    group.add_argument(
        "--checkpoint",
        nargs="+",
        default=CHECKPOINTS,
        metavar="NAME",
        help=f"checkpoints that ship, or files; a ViT for scenes each (default: {', '.join(CHECKPOINTS)})",
    )


def make_scores(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int | None:
    """Score the maps of one's own pictures, or of scenes; 1 where pictures were skipped."""
    scenes = options.model is None
    for name in OF_PICTURES if scenes else OF_SCENES:
        if getattr(options, name) != parser.get_default(name):
            words = "goes with MODEL and FOLDER" if scenes else "is for scenes, which go without MODEL"
            raise ValueError(f"--{name.replace('rerun_failed', 'rerun-failed')} {words}")
    if scenes:
        return make_table(attention_scores, options)
    for name, value in {"FOLDER": options.pictures, "--out": options.out}.items():
        if value is None:
            raise ValueError(f"score MODEL FOLDER --out DIRECTORY scores your pictures; give {name}")
    if options.pictures.resolve() == options.out.resolve():
        raise ValueError(
            f"--out {options.out} is the folder of the pictures; give the scores one of their own"
        )
    pairs, without = pictures_and_masks(options.pictures, options.out)
    album = album_of(options)
    curves = bool(album.view.classifies) if options.curves is None else options.curves
    scoring = Scoring(album, curves, options.above)
    scored, skipped = score_pictures(scoring, pairs)
    write_whole(options.out / CSV, as_csv(scored, scoring.maps).encode())
    print(f"{len(scored)} of {len(pairs)} pictures with masks are in {options.out / CSV}; {album.model}")
    if len(scored) > 1:
        print(table(scored, scoring.maps, options.seed))
    else:
        print("for a table with intervals, at least 2 pictures are needed")
    return tell(without | skipped)


def make_table(scores_of: Callable[..., studies.Study], options: argparse.Namespace) -> None:
    """Score the checkpoints asked for; rows of others that the file has already stay in it."""
    only, path = studies.read_only(options.only), options.folder / f"{scores_of.__name__}.csv"
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
    study = scores_of(scored | files, options.images, seed=options.seed)
    studies.chosen(study, only)  # a misspelt setting is told before the first run
    run = here(precision=options.precision)
    for name, given in asked.items():
        words = f"--checkpoint {given} --images {options.images} --seed {options.seed}"
        if name in only.get("checkpoint", [name]):
            mine = only | {"checkpoint": name}
            command = f"{PROGRAM} {options.command} {words}"
            studies.run_study(study, path, run, mine, options.rerun_failed, command)
    print(studies.report(study, path))


def add_score_camouflage(commands: argparse._SubParsersAction) -> None:
    """The options of `score-camouflage`."""
    words = (
        "score maps of scenes whose garments have their backgrounds' colours, and others, or go on with it"
    )
    add_scenes_score(commands, "score-camouflage", words, camouflage_scores)


def add_score_features(commands: argparse._SubParsersAction) -> None:
    """The options of `score-features`."""
    words = "score the first principal component of patch features on both kinds of scenes, or go on with it"
    add_scenes_score(commands, "score-features", words, feature_pca)


def add_scenes_score(
    commands: argparse._SubParsersAction, name: str, words: str, scores_of: Callable[..., studies.Study]
) -> None:
    """A command that makes one study of checkpoints on scenes, camouflaged or not."""
    score = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
    score.set_defaults(do=functools.partial(make_table, scores_of))
    add_checkpoint(score)
    score.add_argument("--images", type=int, default=500, help="test scenes (default: %(default)s)")
    score.add_argument("--seed", type=int, default=0, help="of the scenes (default: %(default)s)")
    studies.add_options(score)


def add_score_real(commands: argparse._SubParsersAction) -> None:
    """The options of `score-real`."""
    words = "score maps of a real ViT, which is fetched if it is not there, or go on with it"
    score = commands.add_parser("score-real", help=words, description=words, allow_abbrev=False)
    score.set_defaults(do=make_real_table)
    score.add_argument("--images", type=int, default=500, help="test scenes (default: %(default)s)")
    score.add_argument("--seed", type=int, default=0, help="of the scenes (default: %(default)s)")
    studies.add_options(score)


def make_real_table(options: argparse.Namespace) -> None:
    """Score every map of the real ViT."""
    study = real_attention_scores(options.images, options.seed)
    only, path = studies.read_only(options.only), options.folder / f"{study.name}.csv"
    studies.chosen(study, only)  # a misspelt setting is told before the model is fetched
    run = here(precision=options.precision)
    focus(run)
    words = f"{PROGRAM} score-real --images {options.images} --seed {options.seed}"
    studies.run_study(study, path, run, only, options.rerun_failed, words)
    print(studies.report(study, path))


def add_heads(commands: argparse._SubParsersAction) -> None:
    """The options of `heads`."""
    words = "train models that start apart, remove each of their heads, and ask maps how important it was"
    heads = commands.add_parser("heads", help=words, description=words, allow_abbrev=False)
    heads.set_defaults(do=make_heads)
    studies.add_options(heads)


def make_heads(options: argparse.Namespace) -> None:
    """Measure every head of every model."""
    study = head_removal()
    only, path = studies.read_only(options.only), options.folder / f"{study.name}.csv"
    studies.chosen(study, only)  # a misspelt setting is told before the first training
    run = here(precision=options.precision)
    studies.run_study(study, path, run, only, options.rerun_failed, f"{PROGRAM} heads")
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
