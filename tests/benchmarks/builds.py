"""A training step of two builds of vitlab, turn by turn: has a change made it slower?

    git worktree add --detach build/before COMMIT
    python tests/benchmarks/builds.py build/before .

Each build is a checkout with a process of its own, on one thread, timed by the processor's clock. The ratio
is that of the turns of one round, so that what else the machine does hits both alike.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

SECONDS = 0.5  # of one turn, about


def serve() -> None:
    """In a build's process: training steps for each line "case steps" that comes in; answers the seconds."""
    import time

    import torch
    from peers import CASES

    from vitlab import ViT
    from vitlab.runtime import here
    from vitlab.training import Recipe, Stepper

    torch.set_num_threads(1)
    run, steps = here("cpu", "bf16"), {}
    for line in sys.stdin:
        name, count = line.split()
        if name not in steps:
            (config, batch_size), generator = CASES[name], torch.Generator().manual_seed(0)
            shape = batch_size, config.in_chans, config.image_size, config.image_size
            batch = torch.randn(shape, generator=generator), torch.arange(batch_size) % config.num_classes
            stepper = Stepper(ViT(config), Recipe(), run)
            steps[name] = lambda stepper=stepper, batch=batch: stepper.step(*batch, 1e-5)
            steps[name]()  # kernels are chosen, the optimizer's state is made
        begin = time.process_time()
        for _ in range(int(count)):
            steps[name]()
        print(time.process_time() - begin, flush=True)


class Build:
    """A checkout of vitlab in a process of its own."""

    def __init__(self, folder: Path):
        here = Path(__file__).resolve()
        places = os.pathsep.join(map(str, (folder.resolve(), here.parent)))
        self.process = subprocess.Popen(
            [sys.executable, here, "--serve"],
            env=os.environ | {"PYTHONPATH": places},
            **dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True),
        )

    def seconds(self, case: str, steps: int) -> float:
        """Processor seconds of some training steps."""
        print(case, steps, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def compare(builds: list[Build], case: str, rounds: int) -> list[float]:
    """Seconds of the first build over the second's, round by round."""
    each = max(builds[0].seconds(case, 3), builds[1].seconds(case, 3)) / 3
    steps, ratios = max(1, round(SECONDS / each)), []
    for number in range(rounds):
        order = builds[:: 1 if number % 2 else -1]
        taken = {build: build.seconds(case, steps) for build in order}
        ratios.append(taken[builds[0]] / taken[builds[1]])
    return ratios


def main() -> None:
    if sys.argv[1:] == ["--serve"]:
        return serve()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--cases", nargs="+", default=["a", "b", "c", "d"], help="of peers.py")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    builds, medians = [Build(options.before), Build(options.after)], []
    for case in options.cases:
        low, median, high = statistics.quantiles(compare(builds, case, options.rounds), n=4)
        medians.append(median)
        print(
            f"case {case}: the step is {median:.3f} times as fast as before (quartiles {low:.3f}, {high:.3f})"
        )
    print(f"geometric mean {statistics.geometric_mean(medians):.3f}")
    return None


if __name__ == "__main__":
    main()
