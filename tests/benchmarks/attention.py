"""What maps of attention cost beside a plain pass of the same model, and beside two other packages.

ViT-S/16 with random weights, vitlab's own and timm's through `vitlab.attach`. All take turns, round after
round, and a ratio is the median of the rounds' ratios, so that whatever else the machine does hits all alike.
Memory is the peak of a fresh process, beside that of one which makes the plain pass. How far a rollout is off
is told of the first image, against its definition in float64. The other packages are called as they draw:
fast-vit-rollout on a copy of timm's model whose attention is not fused, torchxai-explain with one image at a
time, as it looks at the first of a batch alone. They discard after the residual is added, so that with a
share discarded their maps are others.
"""

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import peers
import torch
from bench import table
from torch import Tensor, nn

import vitlab
from vitlab.attention import maps

VARIANT = "S/16"
MODELS = ("vitlab", "timm")
FORWARD, BOTH, OCCLUSION = "forward", "forward and backward", "occlusion"
BESIDE = {
    "rollout": FORWARD,
    "class_attention": FORWARD,
    "attention_gradient": BOTH,
    "relevance": BOTH,
}
PLACE = Path(__file__).resolve().parents[2] / "build" / "rivals"  # `make bench` installs them there
# Whose defaults are which: how heads are fused, and the share that is discarded.
RIVALS = {"fast-vit-rollout": ("mean", 0.9), "torchxai-explain": ("max", 0.9)}
PLAIN, BY_DEFINITION, BY_DEFAULT = ("mean", 0.0), "by the definition", "by default"
THEIRS = [f"{package}, {way}" for package in RIVALS for way in (BY_DEFINITION, BY_DEFAULT)]
HEAD = "model, map, px, seconds, × the pass, the pass, peak MB, above the pass's, × the pass's, off by"


def make(name: str, size: int) -> nn.Module:
    """A model whose attention is not as flat as at the start of a training."""
    torch.manual_seed(0)
    config = vitlab.ViTConfig.from_name(VARIANT, image_size=size)
    model = peers.timm(config) if name == "timm" else vitlab.ViT(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.05)
    return model.eval()


def contenders(name: str) -> list[str]:
    """What is measured of one model: passes, our maps, and those of others."""
    if name != "timm":
        return [FORWARD, BOTH, *BESIDE]
    return [FORWARD, BOTH, *BESIDE, *map(strict, RIVALS), *(THEIRS if PLACE.exists() else ())]


def strict(rival: str) -> str:
    """Our rollout with another package's defaults."""
    fusion, share = RIVALS[rival]
    return f"rollout, {fusion}, {share:.0%} discarded"


def prepare(what: str, model: nn.Module, images: Tensor) -> Callable[[], object]:
    """Something to be measured of a model, ready to run."""
    if what in (FORWARD, BOTH):
        return lambda: (forward if what == FORWARD else both)(model, images)
    if what in THEIRS:
        return rival(what, model, images)
    view = model if isinstance(model, vitlab.ViT) else vitlab.attach(model)
    settings = {strict(each): RIVALS[each] for each in RIVALS}
    if what in settings:
        return lambda: maps.rollout(view, images, None, *settings[what])
    return lambda: maps.MAPS[what](view, images)


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)


def both(model: nn.Module, images: Tensor) -> None:
    """Forward and back as in training."""
    model(images).amax(dim=-1).sum().backward()
    model.zero_grad()


def rival(what: str, model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """The rollout of another package, by the definition or with its defaults: (B, N)."""
    if str(PLACE) not in sys.path:
        sys.path.append(str(PLACE))  # behind everything else: it holds these packages alone
    package, way = what.split(", ")
    fusion, share = RIVALS[package] if way == BY_DEFAULT else PLAIN
    if package == "torchxai-explain":
        from torchxai.methods import AttentionRollout

        draw = AttentionRollout(model, head_fusion=fusion, discard_ratio=share)
        return lambda: torch.stack([cam(draw, image) for image in images])
    from fast_vit_rollout.vit_rollout import ViTAttentionRollout

    model = copy.deepcopy(model)  # on which its hooks stay
    for block in model.blocks:
        block.attn.fused_attn = False
    draw = ViTAttentionRollout(model, fusion, share)
    return lambda: draw(images)[:, 0, 1:]


def cam(draw, image: Tensor) -> Tensor:
    """torchxai-explain's map of one image, before it is resized for drawing: (N,)."""
    return torch.as_tensor(draw._compute_cam(image[None], None)).flatten()


def definition(model: nn.Module, image: Tensor) -> Tensor:
    """The class token's row of the rollout in float64, from timm's own weights: (N,)."""
    model, layers = copy.deepcopy(model).double(), []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda part, given: layers.append(given[0][0].mean(0)))
    forward(model, image[None].double())
    product = torch.eye(len(layers[0]), dtype=torch.float64)
    for layer in layers:
        product = (layer + torch.eye(len(layer))) / 2 @ product
    return product[0, 1:]


def rounds_of(made: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, turn by turn, after a turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(rounds + 1):
        for name, run in made.items():
            begin = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """How many times another's time one takes: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def peak_bytes() -> int:
    """The most memory that this process has held."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # what the parent held counts elsewhere
            return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fresh_peak(name: str, what: str, size: int, options: argparse.Namespace) -> int:
    """The peak of a process that does one thing once."""
    asked = ["--one", name, what, "--sizes", size, "--batch", options.batch, "--threads", options.threads]
    command = [sys.executable, __file__, *map(str, asked)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(name: str, size: int, options: argparse.Namespace) -> tuple[list[tuple], list[str]]:
    """The rows of one model at one size, and what they say of the other packages."""
    model, images, names = make(name, size), torch.randn(options.batch, 3, size, size), contenders(name)
    seconds = rounds_of({what: prepare(what, model, images) for what in names}, options.rounds)
    told = distances(model, images[:1]) if name == "timm" else {}
    peaks = {what: fresh_peak(name, what, size, options) for what in names} if options.memory else {}
    rows = []
    for what in names:
        beside, cells = BESIDE.get(what, FORWARD), ["", "", ""]
        if peaks:
            above = (peaks[what] - peaks[beside]) / 1e6
            cells = [f"{peaks[what] / 1e6:,.0f}", f"{above:+,.0f}", f"{peaks[what] / peaks[beside]:.2f}"]
        timed = f"{statistics.median(seconds[what]):.2f}", f"{ratio(seconds, what, beside):.2f}", beside
        rows.append((name, what, size, *timed, *cells, told.get(what, "")))
    return rows, faster(seconds)


def distances(model: nn.Module, image: Tensor) -> dict[str, str]:
    """How far rollouts of one image are from the definition at most."""
    wanted, found = definition(model, image[0]), {}
    for what in ("rollout", *THEIRS):
        if what in contenders("timm") and not what.endswith(BY_DEFAULT):
            made = prepare(what, model, image)()
            found[what] = f"{float((made.flatten().double() - wanted).abs().max()):.0e}"
    return found


def faster(seconds: dict[str, list[float]]) -> list[str]:
    """How many times as fast as other packages our rollout is, with the same settings."""
    ours = {f"{each}, {BY_DEFINITION}": "rollout" for each in RIVALS}
    ours |= {f"{each}, {BY_DEFAULT}": strict(each) for each in RIVALS}
    return [
        f"{ratio(seconds, each, ours[each]):.2f} times as fast as {each}"
        for each in THEIRS
        if each in seconds
    ]


def occlusion_row(size: int, rounds: int) -> str:
    """Occlusion of one picture beside a forward pass of it."""
    model, image = make("timm", size), torch.randn(1, 3, size, size)
    view = vitlab.attach(model)
    made = {FORWARD: lambda: forward(model, image), OCCLUSION: lambda: maps.occlusion(view, image)}
    seconds = rounds_of(made, rounds)
    return (
        f"occlusion of one picture of {size} px: {statistics.median(seconds[OCCLUSION]):.1f} s, "
        f"{ratio(seconds, OCCLUSION, FORWARD):.0f} times a forward pass of it"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 384, 512], help="pixels a side")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="time alone")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "WHAT"), help="do one thing, print peak bytes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        (name, what), size = options.one, options.sizes[0]
        prepare(what, make(name, size), torch.randn(options.batch, 3, size, size))()
        print(peak_bytes())
        return
    if not PLACE.exists():
        print(f"the other packages are not in {PLACE}; `make bench` installs them")
    for size in options.sizes:
        for name in options.models:
            rows, words = measure(name, size, options)
            print(f"\n{name}, {size} px\n\n{table(HEAD, rows)}", *words, sep="\n", flush=True)
    print(f"\n{occlusion_row(224, options.rounds)}")


if __name__ == "__main__":
    main()
