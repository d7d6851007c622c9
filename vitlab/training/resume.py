"""Checkpoints of a training under way: written whole, found whole, and used only by the same training."""

import hashlib
import json
import re
import warnings
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vitlab.checkpoints import write_whole
from vitlab.data import Dataset
from vitlab.runtime import Run
from vitlab.training.recipe import Recipe
from vitlab.vit import ViTConfig, count_parameters
from vitlab.wording import counted

OWN = re.compile(r"step-\d{9}-[0-9a-f]{16}\.safetensors|\.step-\d{9}-[0-9a-f]{16}\.safetensors\..*")
# A checkpoint written before a setting came was trained with what is its default now.
BEFORE = {f.name: f.default for kind in (ViTConfig, Recipe) for f in fields(kind) if f.default is not MISSING}
KEPT = 2  # checkpoints: the last, and one before it should that be damaged


class Keeper:
    """The checkpoints of one training in one folder: step-000000020-<its SHA-256>.safetensors.

    `identity` says what the training is, as plain values by name. A checkpoint holds tensors, in dicts of
    dicts, and `facts`, which go through JSON.
    """

    def __init__(self, folder: str | Path, identity: dict):
        self.folder, self.identity = Path(folder), json.loads(json.dumps(identity))
        self.good: list[Path] = []
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint_dir is a folder; {self.folder} is a file")

    def write(self, step: int, tensors: dict[str, dict], facts: dict) -> None:
        """Keep a checkpoint, and remove all but the last `KEPT` good ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = safetensors.torch.save(
            {name: row_major(tensor) for name, tensor in flatten(tensors).items()},
            {"identity": json.dumps(self.identity), "facts": json.dumps(facts)},
        )
        path = self.folder / f"step-{step:09}-{digest(content)}.safetensors"
        write_whole(path, content)
        self.good = [*self.good, path][-KEPT:]
        for file in self.folder.iterdir():
            if OWN.fullmatch(file.name) and file not in self.good:
                file.unlink()

    def newest(self) -> tuple[dict[str, dict], dict] | None:
        """Tensors and facts of the newest whole checkpoint, or None. A warning names damaged ones.

        Raises ValueError for a checkpoint of another training, naming the first difference.
        """
        own = (path for path in self.folder.glob("step-*.safetensors") if OWN.fullmatch(path.name))
        for path in sorted(own, reverse=True):
            if not path.stem.endswith("-" + digest(path.read_bytes())):
                warnings.warn(f"{path} is damaged, so the checkpoint before it is used", stacklevel=3)
                continue
            with safetensors.safe_open(path, framework="pt") as file:
                found = {name: json.loads(text) for name, text in file.metadata().items()}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            self.refuse_another(path, found["identity"])
            self.good = [path]
            return unflatten(tensors), found["facts"]
        return None

    def refuse_another(self, path: Path, found: dict) -> None:
        """Raise ValueError if a checkpoint is of another training than this one."""
        for name in self.identity | found:
            there, here = found.get(name, BEFORE.get(name)), self.identity.get(name)
            if there != here:
                raise ValueError(
                    f"{path} is of another training: its {name} is {there!r}, this one's is {here!r}. To go "
                    "on with that one, make them the same; to begin anew, name another checkpoint_dir"
                )


def flatten(tree: dict, prefix: str = "") -> dict[str, Tensor]:
    """Tensors in dicts of dicts as one dict, by the names on the way to each.

    >>> import torch
    >>> flatten({"optimizer": {0: {"step": torch.tensor(3)}}})
    {'optimizer/0/step': tensor(3)}
    """
    flat = {}
    for name, branch in tree.items():
        flat |= (
            flatten(branch, f"{prefix}{name}/") if isinstance(branch, dict) else {f"{prefix}{name}": branch}
        )
    return flat


def row_major(tensor: Tensor) -> Tensor:
    """A copy on the CPU whose numbers lie in the order of their indices, as files have them."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def unflatten(flat: dict[str, Tensor]) -> dict:
    """The dicts of dicts that `flatten` was given, where all names are strings."""
    tree = {}
    for names, tensor in flat.items():
        *way, last = names.split("/")
        branch = tree
        for name in way:
            branch = branch.setdefault(name, {})
        branch[last] = tensor
    return tree


def digest(content: bytes) -> str:
    """The first 16 digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def identity(
    model: nn.Module, train_data: Dataset, recipe: Recipe, run: Run, processes: int, task: str
) -> dict:
    """What decides a training's course, but for its initial weights, as plain values by name."""
    config = getattr(model, "config", None)
    fields = asdict(config) if is_dataclass(config) else {}
    return {
        "model": f"{type(model).__name__} with {count_parameters(model):,} parameters",
        **fields,
        "modules": digest(repr(model).encode()),  # a layer may have been replaced
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad] or None,
        **asdict(recipe),
        "task": task,
        "data": content_of(train_data),
        "classes": list(train_data.classes),
        "precision": run.precision,
        "device": run.device.type,
        "number of processes": processes,
    }


def measured(test_data: Dataset | None, evaluations: int) -> dict:
    """What decides which evaluations a history has, beside the training's course, as plain values by name."""
    if test_data is None:
        return {"test data": None, "evaluations": None}
    return {"test data": content_of(test_data), "evaluations": evaluations}


def content_of(dataset: Dataset) -> str:
    """How many images of which shape, and the digest of images and labels.

    >>> content_of(Dataset(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ["a", "b"]))
    '2 images of 1×4×4, SHA-256 47ebc1df7b8ccc0a'
    """
    images, labels = (tensor.cpu().contiguous() for tensor in (dataset.images, dataset.labels))
    n, *shape = images.shape
    content = hashlib.sha256(images.numpy())
    content.update(labels.numpy())
    return f"{counted(n, 'image')} of {'×'.join(map(str, shape))}, SHA-256 {content.hexdigest()[:16]}"
