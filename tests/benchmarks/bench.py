"""Images per second of vitlab and its peers at equal sizes, forward and in training: `make bench`.

Each library has a process of its own, as its users have it, and they take turns of a fraction of a second,
round after round, so that whatever else the machine does hits all of them alike; a speed is the median over
the rounds. Ways of computing: "fp32" is a library as it comes; "bf16" is autocast and the fused optimizer;
"bf16 eager" also turns off PyTorch's fused attention, where a library has a switch for that. The share of
peak compares with a large matrix product in the same precision, which takes its turns among the others. On
one CPU thread (`--threads 1`) the clock is the processor time, which stands still while other programs run.
"""

import argparse
import csv
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from peers import CASES, EAGER, PEERS, Case, differences, peers_of
from torch import Tensor, nn

from vitlab import ViT
from vitlab.runtime import PRECISIONS, Run, here
from vitlab.training import Recipe, Stepper
from vitlab.vit import count_flops

TURN = 0.15  # seconds of one contender's turn at least: several steps of a small model, as in a real training
LEAST_ROUNDS = 3
LEARNING_RATE = 1e-5  # hardly any learning, so that the numbers inside the models stay ordinary throughout
MODES = {"forward": 1, "training": 3}  # passes through the model: backward costs about two forward ones
OURS, MATMUL = "vitlab", "matmul"


class Contender(NamedTuple):
    """Something to be timed: `run()` works through `amount` images (or FLOPs, for a matrix product)."""

    run: Callable[[], object]
    amount: float
    repeats: int = 1


class Speed(NamedTuple):
    """A row of the table."""

    case: str
    mode: str
    library: str
    way: str
    images_per_second: float
    share_of_peak: float


READY: dict[str, Contender] = {}  # what this process measures: the ways of computing of one library


def prepare(library: str, name: str, mode: str, device: torch.device) -> list[str]:
    """Make a library's models for a case, one for each way of computing; the ways."""
    READY.clear()
    for way in ways(library):
        contender = contender_for(library, way, CASES[name], mode, device)
        take_turn(contender._replace(repeats=2), device)  # kernels are chosen, the optimizer's state is made
        repeats = max(1, math.ceil(TURN / take_turn(contender, device)))
        READY[way] = contender._replace(repeats=repeats)
    return list(READY)


def turn(way: str, device: torch.device) -> float:
    """Amount per second in one turn of what was prepared."""
    contender = READY[way]
    return contender.repeats * contender.amount / take_turn(contender, device)


def take_turn(contender: Contender, device: torch.device) -> float:
    """Seconds that a contender's repeats take."""
    begin = clock()
    for _ in range(contender.repeats):
        contender.run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begin


def clock() -> float:
    """Seconds: of this process on one CPU thread, of the wall otherwise."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


def ways(library: str) -> list[str]:
    return ["fp32", "bf16", *(["bf16 eager"] if library in EAGER else [])]


def contender_for(library: str, way: str, case: Case, mode: str, device: torch.device) -> Contender:
    if library == MATMUL:
        return matmul(way, device)
    c = case.config
    run = here(device, precision(way)) if library == OURS else Run(device, precision(way))
    images = torch.randn(case.batch_size, c.in_chans, c.image_size, c.image_size, device=device)
    labels = torch.randint(c.num_classes, (case.batch_size,), device=device)
    make = ViT if library == OURS else PEERS[library]
    model = (make(c, eager=True) if way == "bf16 eager" else make(c)).to(device)
    if mode == "forward":
        return Contender(forward(model, images, run), case.batch_size)
    step = our_step if library == OURS else peer_step
    return Contender(step(model, images, labels, run), case.batch_size)


def precision(way: str) -> str:
    return way.split()[0]


def forward(model: nn.Module, images: Tensor, run: Run) -> Callable[[], object]:
    """Inference as in `vitlab.evaluate`."""
    model.eval()

    def once():
        with torch.inference_mode(), run.autocast():
            return model(images)

    return once


def our_step(model: nn.Module, images: Tensor, labels: Tensor, run: Run) -> Callable[[], object]:
    """A step as `vitlab.train` takes it."""
    return functools.partial(Stepper(model, Recipe(), run).step, images, labels, LEARNING_RATE)


def peer_step(model: nn.Module, images: Tensor, labels: Tensor, run: Run) -> Callable[[], object]:
    """The same step as one writes it by hand."""
    model.train()
    fused = True if run.precision == "bf16" else None  # None: as PyTorch chooses
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05, fused=fused)

    def once():
        with run.autocast():
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return once


def matmul(way: str, device: torch.device) -> Contender:
    """A product of two matrices large enough to show what the machine can do, small enough for a turn."""
    side = 1536 if device.type == "cpu" else 8192
    a, b = torch.randn(2, side, side, device=device).to(PRECISIONS[way])
    return Contender(lambda: a @ b, 2.0 * side**3)


class Library:
    """A library in a process of its own."""

    def __init__(self, name: str, threads: int):
        self.name = name
        self.process = ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (threads,))

    def ask(self, function: Callable, *arguments):
        """What a function returns in that process."""
        return self.process.submit(function, *arguments).result()


def measure(
    libraries: list[Library], name: str, mode: str, seconds: float, device: torch.device
) -> dict[tuple[str, str], float]:
    """Median speed by library and way, over rounds of turns for about `seconds`."""
    field = [(lib, way) for lib in libraries for way in lib.ask(prepare, lib.name, name, mode, device)]
    rounds, begin = [], time.perf_counter()
    while len(rounds) < LEAST_ROUNDS or time.perf_counter() - begin < seconds:
        rounds.append([library.ask(turn, way, device) for library, way in field])
    medians = map(statistics.median, zip(*rounds, strict=True))
    return {(library.name, way): speed for (library, way), speed in zip(field, medians, strict=True)}


def speeds(name: str, mode: str, measured: dict[tuple[str, str], float]) -> list[Speed]:
    """The rows of one case in one mode, fastest first."""
    flops = MODES[mode] * count_flops(CASES[name].config)
    rows = [
        Speed(name, mode, library, way, speed, speed * flops / measured[MATMUL, precision(way)])
        for (library, way), speed in measured.items()
        if library != MATMUL
    ]
    return sorted(rows, key=lambda row: -row.images_per_second)


def ratios(rows: list[Speed]) -> tuple[float, float]:
    """Our best speed over the fastest peer's best, and over that of the fastest peer in fp32."""
    ours = max(row.images_per_second for row in rows if row.library == OURS)
    peers = [row for row in rows if row.library != OURS]
    in_fp32 = [row for row in peers if row.way == "fp32"]
    best, best_in_fp32 = (max(row.images_per_second for row in some) for some in (peers, in_fp32))
    return ours / best, ours / best_in_fp32


def table(head: str, rows: list[tuple]) -> str:
    """Markdown; the columns after the second are numbers."""
    names = head.split(", ")
    lines = [names, [*["---"] * 2, *["---:"] * (len(names) - 2)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def speed_table(rows: list[Speed]) -> str:
    cells = [(r.library, r.way, f"{r.images_per_second:,.0f}", f"{r.share_of_peak:.0%}") for r in rows]
    return table("library, way, images/s, share of peak", cells)


def summary(found: dict[tuple[str, str], tuple[float, float]]) -> str:
    """The ratios of every case, and their geometric means."""
    cells = []
    for mode, group in itertools.groupby(sorted(found), key=lambda key: key[0]):
        both = {case: found[mode, case] for _, case in group}
        both["geometric mean"] = tuple(map(statistics.geometric_mean, zip(*both.values(), strict=True)))
        cells += [(mode, case, f"{best:.2f}", f"{in_fp32:.2f}") for case, (best, in_fp32) in both.items()]
    return table("mode, case, × the fastest peer, × the fastest peer in fp32", cells)


def write_csv(rows: list[Speed], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Speed._fields)
        for row in rows:
            writer.writerow((*row[:4], f"{row.images_per_second:.1f}", f"{row.share_of_peak:.3f}"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seconds", type=float, default=240, help="to measure for, all in all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--out", type=Path, help="a CSV file to write the table to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run, rows, found = here(), [], {}
    libraries = [Library(name, options.threads) for name in (MATMUL, OURS, *PEERS)]
    share = options.seconds / len(options.configs) / sum(MODES[mode] for mode in options.modes)
    print(run)
    for name, mode in itertools.product(options.configs, options.modes):
        able = [lib for lib in libraries if lib.name in (MATMUL, OURS, *peers_of(CASES[name].config))]
        measured = speeds(name, mode, measure(able, name, mode, share * MODES[mode], run.device))
        print(f"\n{mode} ({name}): {CASES[name]}\n\n{speed_table(measured)}", flush=True)
        found[mode, name] = ratios(measured)
        rows += measured
    print(summary(found))
    for name in options.configs:
        print(*(f"({name}) {line}" for line in differences(CASES[name].config)), sep="\n")
    if options.out:
        write_csv(rows, options.out)


if __name__ == "__main__":
    main()
