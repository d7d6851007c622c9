"""A ViT's arrays under another library's names: what they say of its sizes, and vitlab's arrays from them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from vitlab.checkpoints.describing import named
from vitlab.checkpoints.layouts import LAYOUTS, alone, recognise
from vitlab.checkpoints.reading import check_finite, check_floats
from vitlab.checkpoints.remedies import instead
from vitlab.checkpoints.stems import BACKBONE, stages
from vitlab.checkpoints.strangers import GATED, listed, stranger, without
from vitlab.checkpoints.tables import Row
from vitlab.embeddings import sincos2d
from vitlab.vit import ViT, ViTConfig

KNOWN = ", ".join(dict.fromkeys(layout.library for layout in LAYOUTS))
BLOCK = re.compile(r"(?<=[._])\d+(?=[./])")  # the first such number in an array's name, if that is in a block


class Foreign:
    """All arrays of a file, each with its row in the library's table, and the sizes that they agree on.

    Raises ValueError for what is no ViT, and naming arrays that no ViT of the library has, that are missing,
    or that do not fit each other.
    """

    def __init__(self, path: Path, arrays: dict[str, Tensor]):
        self.path, self.arrays = path, (arrays := alone(arrays))
        self.layout = recognise(arrays)
        if self.layout is None:
            what = stranger(arrays, sorted(arrays), None, KNOWN, named(path), prefix(arrays))
            raise ValueError(f"{path}{what}")
        self.table = self.layout.table(arrays)
        known = {name: row for row in self.table.values() for name in row.names}
        rows = {name: known.get(name) or known.get(BLOCK.sub("*", name, count=1)) for name in arrays}
        if extra := sorted(name for name, row in rows.items() if row is None):
            raise ValueError(f"{path}{stranger(arrays, extra, self.layout, KNOWN, named(path))}")
        check_floats(path, arrays)
        check_finite(path, arrays)
        self.rows: dict[str, Row] = rows
        self.sizes = self.measure()
        self.check_class_tokens()

    def size(self, letter: str) -> int:
        """A size by its letter in the tables. Raises ValueError where all arrays that have it are missing."""
        if letter not in self.sizes:
            rows = [row for row in self.table.values() if any(letter in axis for axis in axes(row))]
            self.lack([name for row in rows for name in row.names])
        return self.sizes[letter]

    def has(self, name: str) -> bool:
        """Whether the file has arrays, in any block, for this one of vitlab's."""
        return any(row is self.table.get(name) for row in self.rows.values())

    @property
    def fixed_positions(self) -> bool:
        """Whether this is a SimpleViT, whose positions are a formula and not in the file."""
        return "pos_embed" not in self.table

    @property
    def stem(self) -> tuple[int, ...] | None:
        """Bottlenecks in each stage of a hybrid's stem; None of a plain ViT."""
        return stages(self.table) if any(name.startswith(BACKBONE) for name in self.table) else None

    @property
    def without_proj(self) -> bool:
        """Whether this is vit-pytorch with one head as wide as the model, which then has no `attn.proj`."""
        parts = ("blocks.*.attn.proj.weight", "blocks.*.attn.proj.bias")
        wide = self.layout.library == "vit-pytorch" and self.size("i") == self.size("d")
        return wide and not any(self.has(part) for part in parts)

    @property
    def resize(self) -> str | None:
        """The rule by which the library resizes these position embeddings; Hugging Face has two."""
        smooth = any(name.endswith("embeddings.register_tokens") for name in self.rows)
        return "timm" if smooth else self.layout.resize  # DINOv2 with registers: with antialiasing

    def place_prefix(self, config: ViTConfig) -> None:
        """Give position embeddings an entry for each class token and none for registers, as vitlab's have.

        Where a class token has none, it is zero; a register's is added to the register.
        """
        (name,), entries = self.table["pos_embed"].names, self.size("n")
        table = self.arrays[name]
        if entries == config.num_patches:
            self.arrays[name] = torch.nn.functional.pad(table, (0, 0, config.num_class_tokens, 0))
        elif config.num_registers and entries == config.num_tokens:
            (register,) = self.table["reg_token"].names
            sizes = [config.num_class_tokens, config.num_registers, config.num_patches]
            first, own, patches = table.split(sizes, dim=1)
            self.arrays[register] = self.arrays[register] + own
            self.arrays[name] = torch.cat([first, patches], dim=1)

    def unwritten(self, ours: str, like: Tensor, config: ViTConfig) -> Tensor | None:
        """An array that this file rightly lacks, with what the library does without it; else None."""
        if ours == "pos_embed" and self.fixed_positions:  # half of the width for columns, then half for rows
            rows, columns = sincos2d(config.grid_size, config.embed_dim).chunk(2, dim=1)
            return torch.cat([columns, rows], dim=1)[None]
        if ".attn.proj." in ours and self.without_proj:
            return torch.eye(len(like)) if like.ndim == 2 else torch.zeros(len(like))
        if re.sub(r"\d+", "*", ours) not in self.table and ours.endswith(".attn.proj.bias"):
            return torch.zeros(len(like))
        return None

    def measure(self) -> dict[str, int]:
        """Every size by its letter, as most arrays have it, "(p q c)" of flat patches, and "depth"."""
        votes, blocks = defaultdict(dict), set()
        for name, row in self.rows.items():
            shape = self.arrays[name].shape
            if len(axes(row)) != len(shape):
                raise ValueError(
                    f"array {name!r} in {self.path} has shape {tuple(shape)}; it should have "
                    f"{len(axes(row))} axes. The file is damaged, or it is another model of "
                    f"{self.layout.library} than its ViT: {instead(self.layout.library)}"
                )
            for axis, size in zip(axes(row), shape, strict=True):
                letter, parts = ("i", 3) if axis == "(s i)" else (axis, 1)
                votes[letter][name] = size // parts
            if "*" in row.names[0]:
                blocks.add(BLOCK.search(name)[0])
        if gap := [block for block in map(str, range(len(blocks))) if block not in blocks]:
            rows = [row for name, row in self.table.items() if "*" in name and self.has(name)]
            self.lack([name.replace("*", gap[0]) for row in rows for name in row.names])
        self.check_mlp(votes["m"])
        return {letter: self.majority(of) for letter, of in votes.items()} | {"depth": len(blocks)}

    def check_class_tokens(self) -> None:
        """Raise ValueError where there are several, or none in a library whose ViT always has one."""
        library = self.layout.library
        if library in ("Hugging Face", "torchvision") and "t" not in self.sizes:
            self.lack(list(self.table["cls_token"].names))
        whose, kind = named(self.path) or (None, None)
        second = any(name.endswith("embeddings.distillation_token") for name in self.rows)
        if whose == "Hugging Face" and second != (kind == "deit"):
            raise ValueError(
                f"{self.path} has {'a' if second else 'no'} distillation token, and its config.json says "
                f"model_type={kind!r}: one of the two is of another model; copy or download both again"
            )
        if (number := self.sizes.get("t", 0)) > 1:
            raise ValueError(
                f"{self.table['cls_token'].names[0]!r} in {self.path} has {number} class tokens, and a "
                f"{library} ViT has one, as vitlab's; Hugging Face's Pixio has more: {instead(library)}"
            )

    def check_mlp(self, widths: dict[str, int]) -> None:
        """Raise ValueError for a gated MLP with both first layers in one array, as in timm's DINOv2-giant."""
        first, second = (
            {
                widths[name]
                for name, row in self.rows.items()
                if row is self.table[f"blocks.*.mlp.{layer}.weight"]
            }
            for layer in ("fc1", "fc2")
        )
        if len(second) == 1 and first == {2 * width for width in second}:
            raise ValueError(
                f"{self.path} is {GATED}: its first layer makes {first.pop()} numbers, of which half "
                f"multiply the other half: {instead(self.layout.library)}"
            )

    def majority(self, votes: dict[str, int]) -> int:
        """The size that most arrays have. Raises ValueError that names them where two are as frequent."""
        (size, most), *others = Counter(votes.values()).most_common(2)
        if others and others[0][1] == most:
            shapes = [f"{name!r} of shape {tuple(self.arrays[name].shape)}" for name in sorted(votes)[:4]]
            raise ValueError(
                f"arrays in {self.path} do not fit each other: {' and '.join(shapes)}. The file is damaged; "
                "copy or download it again"
            )
        return size

    def convert(self, config: ViTConfig) -> dict[str, Tensor]:
        """vitlab's arrays by name. Raises ValueError naming what is missing or of a wrong shape."""
        with torch.device("meta"):
            wanted = ViT(config).state_dict()
            wanted |= {
                ours.replace("*", str(block)): torch.empty(config.embed_dim)
                for ours in self.table
                for block in range(config.depth)
                if ours.endswith(".scale")
            }
        side = config.patch_size // config.stem_stride
        sizes = dict(h=config.num_heads, p=side, q=side, s=3)
        tensors, missing, wrong = {}, [], []
        for ours, like in wanted.items():
            if (known := self.unwritten(ours, like, config)) is not None:
                tensors[ours] = known
                continue
            row = self.table[re.sub(r"(?<=^blocks\.)\d+", "*", ours)]
            block = re.match(r"blocks\.(\d+)|", ours)[1]
            names = [name.replace("*", block) if block else name for name in row.names]
            missing += [name for name in names if name not in self.arrays]
            found = {name: self.arrays[name] for name in names if name in self.arrays}
            theirs, here = row.pattern.split(" -> ")
            known = {axis: size for axis, size in sizes.items() if re.search(rf"\b{axis}\b", row.pattern)}
            shape = rearrange(like.chunk(len(names))[0], f"{here} -> {theirs}", **known).shape
            wrong += [(name, tuple(shape)) for name, array in found.items() if array.shape != shape]
            if not missing and not wrong:
                tensors[ours] = torch.cat([rearrange(a, row.pattern, **known) for a in found.values()])
        if missing:
            self.lack(missing)
        if wrong:
            shapes = [
                f"{name!r} has shape {tuple(self.arrays[name].shape)}, not {s}" for name, s in wrong[:3]
            ]
            raise ValueError(
                f"arrays in {self.path} do not fit the others: {'; '.join(shapes)}. The file is damaged; "
                "copy or download it again"
            )
        return without_layer_scale(tensors)

    def lack(self, names: list[str]) -> None:
        """Raise the ValueError for arrays that should be there."""
        library = self.layout.library
        blocks = {BLOCK.search(name)[0] for name, row in self.rows.items() if "*" in row.names[0]}
        what = without(library, names, len(blocks))
        seems = f". It seems to be {what}: {instead(library)}. If it is not," if what else ":"
        raise ValueError(
            f"{self.path}, a {library} ViT, lacks {listed([name.replace('*', '0') for name in names])}{seems}"
            " the file is incomplete; copy or download it again, or save the whole state dict"
        )


def without_layer_scale(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Layer scale multiplied into the layers that it follows, as γ (W x + b) = (γ W) x + γ b.

    >>> without_layer_scale({"blocks.0.mlp.fc2.bias": torch.ones(1), "blocks.0.mlp.scale": torch.ones(1) / 4})
    {'blocks.0.mlp.fc2.bias': tensor([0.2500])}
    """
    folded = dict(tensors)
    for name in [name for name in tensors if name.endswith(".scale")]:
        scale, last = folded.pop(name), "proj" if name.endswith(".attn.scale") else "fc2"
        for part in ("weight", "bias"):
            layer = f"{name.removesuffix('scale')}{last}.{part}"
            if layer in folded:
                folded[layer] = folded[layer] * scale.view(-1, *[1] * (folded[layer].ndim - 1))
    return folded


def prefix(names: Iterable[str]) -> str:
    """What stands before the names of a ViT's blocks, where a layout would fit without it.

    >>> prefix(["module.blocks.0.norm1.weight"])
    'module.'
    """
    parts = (
        (name[: found.end()], name[found.end() :]) for name in names for found in re.finditer(r"[./]", name)
    )
    return next((before for before, rest in parts if recognise([rest])), "")


def axes(row: Row) -> list[str]:
    """The axes that a row's arrays have in the file.

    >>> axes(Row(("embedding/kernel",), "p q c d -> d c p q"))
    ['p', 'q', 'c', 'd']
    """
    return re.findall(r"\([^)]*\)|\S+", row.pattern.partition(" -> ")[0])
