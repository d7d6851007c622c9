"""How pictures are prepared for the weights in a folder, and a model of [-1, 1] made of one of anything else.

timm says it in `pretrained_cfg` in its config.json, Hugging Face in preprocessor_config.json, or in
processor_config.json under "image_processor".
"""

import math
import re
import warnings
from pathlib import Path

import torch
from torch import Tensor

from vitlab.checkpoints.reading import read_json
from vitlab.vit import ViT

CONFIG, IMAGES, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
HALF = (0.5, 0.5)
# Image processors of Hugging Face that change the numbers by these steps alone, with their mean and deviation
# where a file leaves them out. Others add an offset, or turn RGB into BGR.
PROCESSORS = {
    **dict.fromkeys(("ViT", "DeiT", "Beit", "ConvNext", "Siglip"), HALF),
    **dict.fromkeys(("Bit", "CLIP"), CLIP),
    "DINOv3ViT": IMAGENET,
}


def take_unit_range(model: ViT, path: Path) -> None:
    """Make the model that a file or folder gave one of images in [-1, 1], in place and exactly.

    Patches do not overlap and have no border, so that the change goes into the projection. Raises ValueError
    for what `preparation` refuses, and where the model norms patches before it projects them, or cuts them
    from a ResNet's features.
    """
    folder = path if path.is_dir() else path.parent
    gain, offset = preparation(folder, model.config.in_chans)
    if takes_unit_range(gain, offset):
        return
    if model.config.patch_norm or model.config.stem is not None:
        what = (
            "a hybrid"
            if model.config.stem is not None
            else "a model that norms patches before it projects them"
        )
        raise ValueError(
            f"{folder} says that images are normalised by other numbers than 0.5 and 0.5, which cannot be "
            f"worked into {what}. Load the weights from a folder of their own, and normalise images so "
            "yourself"
        )
    gain, offset = gain / 2, offset + gain / 2  # of images in [-1, 1], not in [0, 1]
    proj = model.patch_embed.proj
    weight = proj.weight.detach().double()
    proj.bias.data += (weight * offset[:, None, None]).sum(dim=(1, 2, 3)).to(proj.bias.dtype)
    proj.weight.data = (weight * gain[:, None, None]).to(proj.weight.dtype)


def takes_unit_range(gain: Tensor, offset: Tensor) -> bool:
    """Whether the weights take images in [-1, 1] as they are, but for the rounding of 1/255 and the like.

    >>> takes_unit_range(*normalised(Path("config.json"), 0.5, 0.5, 3))
    True
    """
    wanted = gain.new_tensor(2), gain.new_tensor(-1)
    return all(bool((a - b).abs().max() < 1e-9) for a, b in zip((gain, offset), wanted, strict=True))


def preparation(folder: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Gain and offset, fp64 and (C,) each: the weights take gain · u + offset for an image u in [0, 1].

    Where a folder says nothing, they take [-1, 1]. Raises ValueError for what is no preparation or not known,
    and where two files say different things.

    >>> preparation(Path("no/folder"), 1)
    (tensor([2.], dtype=torch.float64), tensor([-1.], dtype=torch.float64))
    """
    if not (said := stated(folder, channels)):
        warn_of_silence(folder)
        return normalised(folder, *HALF, channels)
    (file, first), *others = said.items()
    for other, second in others:
        if not all(map(torch.allclose, first, second)):
            raise ValueError(
                f"{file} and {other.name} beside it prepare images in different ways: take away the one that "
                "is not of these weights"
            )
    return first


def stated(folder: Path, channels: int) -> dict[Path, tuple[Tensor, Tensor]]:
    """Gain and offset by the file that states them, for the files in a folder that do."""
    said = {file: of_processor(file, steps, channels) for file, steps in processor_in(folder).items()}
    return said | {file: of_timm(file, steps, channels) for file, steps in timm_in(folder).items()}


def warn_of_silence(folder: Path) -> None:
    """A warning where a folder should say how images are prepared, and does not.

    timm always writes mean and deviation. A folder in the hub's cache has only what was asked for.
    """
    missing = f"images are taken to be in [-1, 1], as by a mean and a deviation of 0.5. {folder}"
    if (folder / CONFIG).is_file() and "architecture" in read_json(folder / CONFIG):
        missing += (
            f"/{CONFIG} says neither mean nor std in its pretrained_cfg; timm would take ImageNet's, "
            f"{IMAGENET[0]} and {IMAGENET[1]}: add what is right"
        )
    elif folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        if (folder.parents[1] / ".no_exist" / folder.name / IMAGES).is_file():  # looked for, and not there
            return
        missing += f" is in the hub's cache and has no {IMAGES}; vitlab.pretrained fetches it if there is one"
    else:
        return
    warnings.warn(missing, stacklevel=5)


def warn_of_preparation(folder: Path, channels: int) -> None:
    """A warning where a model of images in [-1, 1] comes to lie in a folder that prepares others."""
    for file, (gain, offset) in stated(folder, channels).items():
        if not takes_unit_range(gain, offset):
            warnings.warn(
                f"{file} prepares images in another way than to [-1, 1], which this model takes, and whoever "
                "loads it will go by that file: save it to another folder, or make the file say mean and "
                "deviation 0.5",
                stacklevel=4,
            )


def processor_in(folder: Path) -> dict[Path, dict]:
    """The steps of Hugging Face's image processor by the file that says them, if there is one.

    A nested one comes first, as in transformers.
    """
    nested, own = folder / PROCESSOR, folder / IMAGES
    if nested.is_file() and "image_processor" in (content := read_json(nested)):
        if not isinstance(steps := content["image_processor"], dict):
            raise ValueError(f"{nested} is damaged: image_processor is no object; copy or download it again")
        return {nested: steps}
    return {own: read_json(own)} if own.is_file() else {}


def of_processor(file: Path, steps: dict, channels: int) -> tuple[Tensor, Tensor]:
    """Gain and offset of Hugging Face's steps: values in [0, 255] are rescaled, then normalised."""
    kind = steps.get("image_processor_type") or steps.get("feature_extractor_type") or "ViTImageProcessor"
    stem = re.fullmatch(r"(\w+?)(ImageProcessor(Fast|Pil)?|FeatureExtractor)", str(kind))
    if not stem or stem[1] not in PROCESSORS:
        raise ValueError(
            f"{file} is of a {kind}, and vitlab knows what the image processors of {', '.join(PROCESSORS)} "
            "do. Where this one does the same as ViTImageProcessor, put that name in its place"
        )
    rescales, normalises = (steps.get(step, True) for step in ("do_rescale", "do_normalize"))
    for name, value in dict(do_rescale=rescales, do_normalize=normalises).items():
        if not isinstance(value, bool | None):
            raise ValueError(f"{file} says {name}={value!r}, which is neither true nor false")
    factor = steps.get("rescale_factor", 1 / 255) if rescales else 1
    if not is_number(factor) or factor <= 0:
        raise ValueError(f"{file} says rescale_factor={factor!r}; it is a number above 0, such as 1/255")
    mean, std = PROCESSORS[stem[1]] if normalises else (0, 1)
    if normalises:
        mean, std = steps.get("image_mean", mean), steps.get("image_std", std)
    gain, offset = normalised(file, mean, std, channels)
    return 255 * factor * gain, offset


def timm_in(folder: Path) -> dict[Path, dict]:
    """timm's `pretrained_cfg` by the file that has it, if it says a mean or a deviation.

    Older files have its entries beside the architecture.
    """
    file = folder / CONFIG
    config = read_json(file) if file.is_file() else {}
    steps = config.get("pretrained_cfg", config)
    if not isinstance(steps, dict):
        raise ValueError(f"{file} is damaged: pretrained_cfg is no object; copy or download it again")
    said = any(steps.get(name) is not None for name in ("mean", "std"))
    return {file: steps} if said and {"architecture", "pretrained_cfg"} & config.keys() else {}


def of_timm(file: Path, steps: dict, channels: int) -> tuple[Tensor, Tensor]:
    """Gain and offset of timm's mean and deviation; if one is missing, timm takes ImageNet's."""
    mean, std = (
        default if steps.get(name) is None else steps[name]
        for name, default in zip(("mean", "std"), IMAGENET, strict=True)
    )
    return normalised(file, mean, std, channels)


def normalised(file: Path, mean, std, channels: int) -> tuple[Tensor, Tensor]:
    """Gain and offset of (u - mean) / std. Raises ValueError for what is no mean or no deviation."""
    mean, std = colours(file, mean, -math.inf, channels), colours(file, std, 1e-6, channels)
    return 1 / std, -mean / std


def colours(file: Path, value, least: float, channels: int) -> Tensor:
    """One number, or one for each channel, as a tensor (C,) in fp64."""
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) not in (1, channels) or not all(is_number(n) and n >= least for n in numbers):
        raise ValueError(
            f"{file} says that the mean or the deviation of its images is {value!r}; with {channels} "
            f"channels that is one number, or {channels}"
        )
    return torch.tensor(numbers, dtype=torch.float64).expand(channels)


def is_number(value) -> bool:
    """Whether a value from JSON is a finite number.

    >>> is_number(0.0), is_number(True), is_number(math.nan)
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
