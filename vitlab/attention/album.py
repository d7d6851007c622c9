"""The maps of many pictures in a folder: a PNG and an .npz each, and a page to look through.

A picture's .npz is written last and names what its PNG has to be, so that a picture that is kept is whole and
was made with the same settings.
"""

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vitlab import __version__, plots
from vitlab.alt_text import alt_text
from vitlab.attention.keeping import kept_or_made
from vitlab.attention.maps import compute, rollout_and_difference
from vitlab.attention.page import page
from vitlab.attention.reading import check_reads, covered
from vitlab.attention.rollout import difference_in_words
from vitlab.attention.view import View
from vitlab.checkpoints import write_whole
from vitlab.data.folders import visible
from vitlab.data.pictures import fit_picture, read_picture
from vitlab.wording import shortened

BEST = 3  # classes named
COLUMNS, DPI = 5, 100
INDEX = "index.html"


@dataclass(frozen=True)
class Shown:
    """A picture in the album: its name, answer and remarks, its PNG's alternative text and size."""

    name: str
    answer: str
    alt: str
    size: tuple[int, int]  # width and height in pixels


@dataclass(frozen=True)
class Album:
    """A folder, and all that decides what is in it."""

    folder: Path
    view: View
    model: str  # what it is called
    maps: tuple[str, ...]
    class_names: list[str] | None = None
    source: str = ""  # the text that the model comes from, if it is a function's file

    def __post_init__(self):
        check_reads(self.view)
        if self.view.mean is None or self.view.std is None:
            raise ValueError(
                f"nobody says what the images of {self.model} are normalised with: give --mean and --std, "
                "for values in [0, 1]"
            )
        if self.view.channels not in (1, 3):
            raise ValueError(f"pictures have 3 channels, or 1; {self.model} takes {self.view.channels}")

    @functools.cached_property
    def settings(self) -> dict:
        """All that a picture's files depend on, but for the picture."""
        view = self.view
        said = {
            name: getattr(view, name) for name in ("image_size", "reads", "channels", "mean", "std", "heads")
        }
        said |= dict(model=self.model, view=repr(view), maps=self.maps, class_names=self.class_names)
        said |= dict(weights=digest(view.model), source=sha256(self.source.encode()), vitlab=__version__)
        return json.loads(json.dumps(said))  # as it is read again

    def file(self, name: str, ending: str) -> Path:
        """Where a part of a picture's record lies."""
        return self.folder / f"{name}.{ending}"


def make_album(album: Album, pictures: dict[str, Path]) -> tuple[list[Shown], dict[str, str]]:
    """Make what is not there yet, and the page: the pictures shown, and name -> why of those skipped.

    Raises ValueError where the model, not a picture, is at fault, and where no picture can be read.
    """

    def found(name: str, path: Path) -> tuple[Shown | None, str]:
        source = sha256(path.read_bytes()) if path.is_file() else ""
        return find(album, name, source), source

    album.folder.mkdir(parents=True, exist_ok=True)
    shown, skipped = kept_or_made(pictures, found, read_picture, functools.partial(make, album))
    shown = list(shown.values())
    write_whole(album.folder / INDEX, page(album.model, shown, skipped).encode())
    return shown, skipped


def make(album: Album, name: str, picture: Tensor, source: str) -> Shown:
    """The files of one picture, uint8 (3, H, W), whose own file has the digest `source`."""
    view = album.view
    picture = fit_picture(picture, view.image_size, view.channels)
    images = view.prepare(picture[None].to(next(view.model.parameters()).device))
    with torch.no_grad():
        output = view(images)
    if not output.isfinite().all():
        raise ValueError(f"the output of {album.model} for {name} has values that are no numbers")
    answer = answered(output, view.classifies, album.class_names)
    made, remarks = maps_of(view, images, album.maps)
    figure = drawn(covered(picture, view), made, name, answer, remarks)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    said = "; ".join([answer, *(f"{kind} {remark}" for kind, remark in remarks.items())])
    size = tuple(round(side * DPI) for side in figure.get_size_inches())
    shown = Shown(name, said, alt_text(figure), size)
    about = dict(settings=album.settings, source=source, png=sha256(png.getvalue()), shown=vars(shown))
    numbers = io.BytesIO()
    np.savez_compressed(
        numbers, **made, output=output[0].cpu().numpy(), picture=picture.numpy(), about=json.dumps(about)
    )
    write_whole(album.file(name, "png"), png.getvalue())
    write_whole(album.file(name, "npz"), numbers.getvalue())
    return shown


def maps_of(view: View, images: Tensor, names: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The maps of one image, and a remark on a rollout: whether its row is that of the token which is read.

    Of a model that reads a mean of rows there is none: that row is no token's.
    """
    made, remarks = compute(view, images, None, [name for name in names if name != "rollout"]), {}
    if "rollout" in names:
        made["rollout"], difference = rollout_and_difference(view, images)
        if view.reads in ("token", "pair"):
            remarks["rollout"] = difference_in_words(float(difference))
    return {name: made[name][0].cpu().numpy() for name in names}, remarks


def find(album: Album, name: str, source: str) -> Shown | None:
    """A picture whose files are whole and of the same settings; None where it has to be made."""
    try:
        with np.load(album.file(name, "npz"), allow_pickle=False) as numbers:
            made = {key: numbers[key] for key in numbers.files}  # each with a check sum
        about = json.loads(str(made["about"]))
        png = album.file(name, "png").read_bytes()
        same = (about["settings"], about["source"], about["png"]) == (album.settings, source, sha256(png))
        return Shown(**about["shown"] | dict(size=tuple(about["shown"]["size"]))) if same else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None  # missing or damaged


def pictures_in(given: Iterable[Path], out: Path) -> dict[str, Path]:
    """Name -> file of the pictures given, files or folders with all below them, but for hidden ones.

    A name is the file's, after those of the folders below the one that was given. Raises ValueError for two
    files of a name, for no file, and for an album in the folder of its pictures.
    """
    found: dict[str, tuple[str, Path]] = {}
    for place in given:
        if place.is_dir() and place.resolve() == out.resolve():
            raise ValueError(f"--out {out} is the folder of the pictures; give the album one of its own")
        for path in below(place, out) if place.is_dir() else [place]:
            name = "--".join(path.relative_to(place).parts) if place.is_dir() else path.name
            _, other = found.setdefault(name.casefold(), (name, path))  # some systems tell no case apart
            if other.resolve() != path.resolve():
                raise ValueError(
                    f"{other} and {path} would both be called {name}; give each an album of its own"
                )
    if not found:
        raise ValueError(f"there is no file in {', '.join(map(str, given))}")
    return dict(found.values())


def below(folder: Path, out: Path) -> Iterable[Path]:
    """The files in a folder and its folders, without those of the album."""
    for entry in visible(folder):
        if entry.resolve() == out.resolve():
            continue
        if entry.is_dir():
            yield from below(entry, out)
        else:
            yield entry


def usual_maps(view: View) -> tuple[str, ...]:
    """The maps that a model has without being asked: those about a class only if it names classes.

    >>> from vitlab import ViT, ViTConfig, attach
    >>> usual_maps(attach(ViT(ViTConfig(num_classes=0))))
    ('rollout', 'class_attention')
    """
    about_classes = ("attention_gradient", "relevance") if view.classifies and not view.side_by_side else ()
    return ("rollout", "class_attention", *about_classes)


def answered(output: Tensor, classifies: bool | None, names: Sequence[str] | None) -> str:
    """What a model says of one image, its output (1, …), in words.

    >>> answered(torch.tensor([[0.0, 100.0]]), True, ["cat", "dog"]), answered(torch.zeros(1, 7), False, None)
    ('dog (100.0 %), cat (0.0 %)', '7 numbers, no classes')
    """
    if classifies is False or output.ndim != 2:
        return f"{output[0].numel():,} numbers, no classes"
    count = output.shape[1]
    if classifies is None:  # whether these are logits, nobody says
        return f"of {count:,} outputs, number {int(output[0].argmax())} is the largest"
    known = names is not None and len(names) == count
    best = output[0].softmax(dim=-1).topk(min(BEST, count))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return ", ".join(f"{names[i] if known else f'class {i}'} ({100 * share:.1f} %)" for i, share in pairs)


def drawn(
    picture: Tensor,
    made: dict[str, np.ndarray],
    name: str,
    answer: str,
    remarks: dict[str, str] | None = None,
):
    """The picture and its maps side by side, each with its scale and remark, under the model's answer."""
    from matplotlib.figure import Figure

    columns = min(len(made) + 1, COLUMNS)
    rows = -(-(len(made) + 1) // columns)
    height = min(2 * 2.4, 2.4 * picture.shape[-2] / picture.shape[-1])
    figure = Figure(figsize=(3.1 * columns, (height + 0.4) * rows + 0.6), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    plots.image(picture, "the picture", panels[0])
    panels[0].set_axis_on()  # a frame round it, as a picture may be white at its sides
    panels[0].set(xticks=[], yticks=[])
    panels[0].spines[:].set_color("#cccccc")
    remarks = remarks or {}
    for (kind, values), ax in zip(made.items(), panels[1:], strict=False):
        title = "\n".join([kind.replace("_", " "), *([remarks[kind]] if kind in remarks else [])])
        plots.overlay(picture, values, "value", title, ax)
    for ax in panels[len(made) + 1 :]:
        ax.remove()
    room = 30 * columns  # letters in a line
    lines = f"{shortened(name, room)}\n{shortened(answer, room)}"
    figure.suptitle(lines, fontsize=11, parse_math=False)
    plots.describe(figure, in_words(name, made))
    return figure


def in_words(name: str, made: dict[str, np.ndarray]) -> str:
    """Where the largest value of each map is, if not everywhere.

    >>> in_words("cat.jpg", {"rollout": np.eye(2, 3)[::-1]})
    'cat.jpg and maps of its 2 × 3 patches, largest in row and column: rollout 1 and 2'
    """
    rows, columns = next(iter(made.values())).shape
    places = []
    for kind, values in made.items():
        row, column = np.unravel_index(values.argmax(), values.shape)
        where = f"{row + 1} and {column + 1}" if np.ptp(values) else "nowhere, as it is flat"
        places.append(f"{kind.replace('_', ' ')} {where}")
    words = f"{name} and maps of its {rows} × {columns} patches, largest in row and column: "
    return words + ", ".join(places)


def digest(model: nn.Module) -> str:
    """What tells a model's weights from others."""
    total = hashlib.sha256()
    for name, values in model.state_dict().items():
        if isinstance(values, Tensor):
            total.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            total.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def sha256(content: bytes) -> str:
    """The digest of a file's content."""
    return hashlib.sha256(content).hexdigest()
