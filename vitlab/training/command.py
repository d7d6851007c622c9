"""`python -m vitlab.training`: the same training from a shell, which ends in a checkpoint and its card."""

import argparse
import difflib
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, fields
from pathlib import Path

from torch import nn

from vitlab import checkpoints, data
from vitlab.adapting import adapt
from vitlab.checkpoints.reading import weight_files
from vitlab.data import Dataset
from vitlab.resnet import ResNet, ResNetConfig
from vitlab.runtime import start
from vitlab.training.loop import train
from vitlab.training.processes import Processes
from vitlab.training.recipe import Recipe
from vitlab.training.stopping import NonFiniteLossError
from vitlab.training.tasks import Task, classification
from vitlab.vit import ViT, ViTConfig, count_parameters

MODELS = {"vit": (ViT, ViTConfig), "resnet": (ResNet, ResNetConfig)}
BY_THE_DATA = ("image_size", "in_chans", "num_classes")  # fields that the data decides
NONE = {  # what None means, as a default
    "warmup_steps": "a tenth of the steps",
    "class_weights": "all alike; balanced, or one number for each class",
    "stem": "none; the bottlenecks in each stage of a hybrid's ResNet, such as 3 4 9",
    "representation_size": "no hidden layer in the head",
    "head_dim": "embed_dim / num_heads",
    "patch_sizes": "the model's own alone",
    "kernel_size": "patch_size",
    "pos_grid": "that of patch_size; rows and columns, such as 7 7",
}
SCENES = 20_000, 4_000  # training scenes unless --images says otherwise, and test scenes


def main(
    arguments: list[str] | None = None,
    program: str = "python -m vitlab.training",
    task: Task | None = None,
    prepare: Callable[..., nn.Module] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Train a model from the shell, and save its checkpoint and card.

    `program` is what was typed before the arguments. For another `task` than classification, `prepare` makes
    the model for it from the classifier that the options describe, and from the words chosen for the options
    in `choices`, of which the first is the default.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser, choices = make_parser(program), choices or {}
    for name, words in choices.items():
        parser.add_argument(f"--{name}", choices=words, default=words[0], help="default: %(default)s")
    options, unknown = parser.parse_known_args(arguments)
    given = vars(options)
    try:
        if unknown:
            raise ValueError(unknown_option(unknown, parser))
        if options.out.suffix != ".safetensors":
            raise ValueError(f"--out is a file named *.safetensors; got {options.out}")
        if options.out.is_dir() or not os.access(nearest_folder(options.out), os.W_OK):
            raise ValueError(f"--out is a file that can be written; {options.out} cannot")
        origin = start_card(options.start)
        if given.get("class_weights") == ["balanced"]:
            given["class_weights"] = "balanced"
        recipe = Recipe(**{f.name: given[f.name] for f in fields(Recipe) if f.name in given})
        shape = shape_options(given)
        what, train_data, test_data = load_data(options, recipe.seed)
        run = start(seed=recipe.seed, precision=options.precision)
        processes = Processes(run)
        model = make_model(options, shape, train_data)
        if prepare:
            model = prepare(model, **{name: given[name] for name in choices})
            refuse_unused(shape, model)
        if options.checkpoint_dir:
            refuse_another_start(options.checkpoint_dir, origin)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    if processes.is_main:
        print(run)
    kept = dict(checkpoint_dir=options.checkpoint_dir)
    try:
        history = train(model, train_data, test_data, recipe, run, task=task, **kept)
    except (ValueError, NonFiniteLossError, MemoryError) as error:
        sys.exit(f"{program}: {error}")
    processes.end()
    if not processes.is_main:
        return
    machine = repr(run)
    if processes.count > 1:
        program = program.replace("python", f"torchrun --nproc-per-node={processes.count}", 1)
        machine = f"{processes.count} processes, each on {machine}"
    card = {
        "data": f"{what}: {', '.join(train_data.classes)}",
        "command": f"{program} {shlex.join(arguments)}",
        "start": origin,
        "task": (task or classification).__name__,
        "test_accuracy": history.accuracy if history.evaluations else None,
        "training_images": recipe.steps * recipe.batch_size,
        "minutes": round(history.seconds / 60, 1),
        "interrupted": history.interrupted,
        "machine": machine,
        "recipe": asdict(recipe),
    }
    save(model, options.out, card)
    measured = f"test accuracy {history.accuracy:.2%}; " if history.evaluations else ""
    print(f"{measured}wrote {options.out} and its card")


def save(model: nn.Module, path: Path, card: dict) -> None:
    """Write the checkpoint, and beside it the card, with the number of parameters and the SHA-256."""
    checkpoints.save_checkpoint(model, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    card = card | {"parameters": count_parameters(model), "sha256": sha256}
    checkpoints.write_whole(path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())


def make_parser(program: str) -> argparse.ArgumentParser:
    """The options; those of recipe and model are only in the result where the user gave them."""
    description = main.__doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(program, description=description, allow_abbrev=False)
    parser.add_argument(
        "--out", type=Path, required=True, help="the .safetensors file to write; its card goes beside"
    )
    parser.add_argument(
        "--data",
        default="fashion_mnist",
        help="fashion_mnist (default), scenes, or a folder with a subfolder of images for each class, of "
        "which a fifth is kept for the test",
    )
    parser.add_argument("--images", type=int, help="train on this many; default: all, or 20,000 scenes")
    parser.add_argument("--image_size", type=int, help="of scenes and folders, in pixels; default: 48")
    parser.add_argument("--classes", type=int, nargs="+", help="train on these only, renumbered from 0")
    parser.add_argument("--model", choices=MODELS, default="vit", help="default: vit")
    parser.add_argument(
        "--start",
        help="go on from this ViT, a shipped checkpoint's name, a file or a folder, resized to the images; "
        "its head is kept where the classes are the same by name, or by number where it has no names",
    )
    parser.add_argument(
        "--checkpoint_dir",
        type=Path,
        help="keep checkpoints in this folder, and go on from the newest when started again",
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="default: the fastest here")
    kinds = {"recipe": Recipe} | {f"--model {name}": config for name, (_, config) in MODELS.items()}
    for title, kind in kinds.items():
        group = parser.add_argument_group(title)
        for option in fields(kind):
            if option.name not in BY_THE_DATA:
                group.add_argument(f"--{option.name}", **argument_options(option))
    return parser


def argument_options(option: Field) -> dict:
    """How argparse reads a dataclass field: a switch for a bool, else a value of the default's type."""
    default = option.default
    options = {"default": argparse.SUPPRESS, "help": f"default: {NONE.get(option.name, default)}"}
    if isinstance(default, bool):
        return options | {"action": argparse.BooleanOptionalAction}
    if isinstance(default, tuple):
        return options | {"type": type(default[0]), "nargs": "+"}
    if option.name in SEVERAL:
        return options | {"type": SEVERAL[option.name], "nargs": "+"}
    return options | {"type": int if default is None else type(default)}


def balanced_or_number(text: str) -> str | float:
    """One of the words after --class_weights."""
    return text if text == "balanced" else float(text)


# None by default, else a row of these
SEVERAL = {"class_weights": balanced_or_number, "stem": int, "patch_sizes": int, "pos_grid": int}


def unknown_option(unknown: list[str], parser: argparse.ArgumentParser) -> str:
    """What to say of arguments that the parser does not know: the nearest option, if one is near."""
    name = next((argument for argument in unknown if argument.startswith("-")), unknown[0])
    known = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(name.partition("=")[0], known, n=1)
    return f"there is no option {name}; " + (f"did you mean {near[0]}?" if near else "--help lists them all")


def shape_options(given: dict) -> dict:
    """The model's fields among the options. Raises ValueError for fields of another kind of model."""
    shape = {}
    for name, (_, config) in MODELS.items():
        for field in fields(config):
            if field.name in given and field.name not in BY_THE_DATA:
                if name != given["model"]:
                    raise ValueError(f"--{field.name} is of --model {name}; this is --model {given['model']}")
                shape[field.name] = given[field.name]
    return shape


def load_data(options: argparse.Namespace, seed: int) -> tuple[str, Dataset, Dataset]:
    """What the data is in words, the training set and the test set."""
    n, size = options.images, options.image_size or 48
    if options.data == "scenes":
        n = SCENES[0] if n is None else n
        what = f"{n:,} training scenes (seed 0) of {size} pixels"
        sets = [data.scenes(m, 0, size, split).dataset for m, split in ((n, "train"), (SCENES[1], "test"))]
    elif options.data == "fashion_mnist":
        if options.image_size not in (None, 28):
            raise ValueError(f"Fashion-MNIST has 28 pixels; got --image_size {options.image_size}")
        what = "Fashion-MNIST, training split"
        sets = [data.fashion_mnist(part) for part in ("train", "test")]
    elif not Path(options.data).is_dir():
        raise ValueError(f"--data is fashion_mnist, scenes or a folder of images; got {options.data!r}")
    else:
        what = f"{options.data}, four fifths"
        sets = list(data.hold_out(data.image_folder(options.data, size), share=0.2, seed=seed))
    if options.classes:
        sets = [data.select_classes(dataset, options.classes) for dataset in sets]
    if n is not None and options.data != "scenes":
        what, sets[0] = f"{what}, {n:,} images drawn with seed {seed}", sets[0].subset(n, seed)
    return what, *sets


def make_model(options: argparse.Namespace, shape: dict, dataset: Dataset) -> nn.Module:
    """A new model for the data, or the one that --start names, adapted to it."""
    _, channels, *size = dataset.images.shape
    classes, size = len(dataset.classes), size[0] if size[0] == size[1] else tuple(size)
    model, config = MODELS[options.model]
    if options.start is None:
        sizes = dict(image_size=size) if model is ViT else {}
        return model(config(**shape, **sizes, in_chans=channels, num_classes=classes))
    if model is not ViT:
        raise ValueError("--start goes on from a ViT; leave --model out")
    trained = checkpoints.load_checkpoint(start_path(options.start), **shape)
    if type(trained) is not ViT:
        raise ValueError(f"--start goes on from a ViT; {options.start} is a {type(trained).__name__}")
    same = trained.config.num_classes == classes
    if trained.class_names:
        same = set(trained.class_names) == set(dataset.classes)
    head = None if same else classes
    return adapt(trained, num_classes=head, image_size=size, in_chans=channels)


def refuse_unused(shape: dict, model: nn.Module) -> None:
    """Raise ValueError for an option of the model's that its task does without."""
    for name, value in shape.items():
        if getattr(model.config, name) != value:
            raise ValueError(f"--{name} {value} is not used for this task; leave it out")


def nearest_folder(path: Path) -> Path:
    """The folder in which `path`, or the folders on the way to it, will be made."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def refuse_another_start(folder: Path, origin: dict | None) -> None:
    """Keep in `checkpoint_dir` what its training started from; ValueError where that was something else.

    Checkpoints do not tell: they know everything of a training but its initial weights.
    """
    kept, sha256 = folder / "start.txt", (origin or {}).get("sha256", "new weights")
    if kept.is_file() and (before := kept.read_text(encoding="utf-8").strip()) != sha256:
        raise ValueError(
            f"the training in {folder} started from {before}, this one from {sha256}: name another "
            "--checkpoint_dir, or the same --start"
        )
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_whole(kept, sha256.encode())


def start_path(start: str) -> Path:
    """The file or folder that --start means."""
    return Path(start) if Path(start).exists() else checkpoints.bundled(start)


def start_card(start: str | None) -> dict | None:
    """What made the weights that training started from, as far as is known; None where it started anew."""
    if start is None:
        return None
    files = weight_files(start_path(start))
    card = files[0].with_suffix(".json")
    known = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    if not isinstance(known, dict):
        raise ValueError(f"{card} is no card of a checkpoint: move it away")
    sha256 = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return {"sha256": sha256} | {key: known[key] for key in ("command", "start") if known.get(key)}
