"""Several processes that train one model, as torchrun and accelerate start them; most often there is one."""

import json
import os
import re

import torch
from torch import Tensor, distributed, nn

from vitlab.runtime import Run

TOLD = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # what a launcher says beside WORLD_SIZE


class Processes:
    """This process, number `index` of `count`, and what it asks of the others.

    Each method but `is_main` is called by all processes at the same time, or none goes on. What a launcher
    says of anything else than the processes, such as a precision, is left to the run and the recipe.
    Raises ValueError where the environment names several processes, but not how they find each other.
    """

    def __init__(self, run: Run):
        self.device = run.device
        if not in_group() and (asked := processes_asked_for()) > 1:
            join_group(run, asked)
        self.index, self.count = 0, 1
        if in_group():
            self.index, self.count = distributed.get_rank(), distributed.get_world_size()
        if self.count > 1 and run.device.type == "cpu" and distributed.get_backend() == "nccl":
            raise ValueError("the processes exchange by NCCL, which needs CUDA; leave device='cpu' out")

    @property
    def is_main(self) -> bool:
        """Whether this is the process that shows, measures and writes."""
        return self.index == 0

    def share(self, learner: nn.Module) -> nn.Module:
        """A module whose gradients are means over the processes; all begin with the first one's weights."""
        if self.count == 1:
            return learner
        places = [torch.cuda.current_device()] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(learner, device_ids=places)

    def share_of(self, divisor: Tensor | float) -> Tensor | float:
        """By what a mean loss of this process goes into the mean over all: 1 where all divide by the same."""
        if self.count == 1:
            return 1
        own = torch.as_tensor(divisor, dtype=torch.float32, device=self.device)
        everything = own.clone()
        distributed.all_reduce(everything)
        return own * self.count / everything

    def total(self, numbers: list[float]) -> list[float]:
        """Each number added up over the processes."""
        if self.count == 1:
            return numbers
        own = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(own)
        return own.tolist()

    def gather(self, own: Tensor) -> Tensor:
        """What each process has: (...) -> (count, ...)."""
        if self.count == 1:
            return own[None]
        own = own.to(self.device)
        everything = [torch.empty_like(own) for _ in range(self.count)]
        distributed.all_gather(everything, own)
        return torch.stack(everything)

    def refuse_disagreement(self, what: dict) -> None:
        """Raise ValueError where the values of this process are not those of the first."""
        if self.count == 1:
            return
        what = json.loads(json.dumps(what))
        first = self.of_the_first(what)
        for name in what | first:
            if what.get(name) != first.get(name):
                raise ValueError(
                    f"process {self.index} has {name} {what.get(name)!r}, but process 0 has "
                    f"{first.get(name)!r}; all train one model, so give all the same"
                )

    def of_the_first(self, what: dict) -> dict:
        """What the first process has: plain values, which go through JSON."""
        content = torch.frombuffer(bytearray(json.dumps(what).encode()), dtype=torch.uint8).to(self.device)
        size = torch.tensor(len(content), device=self.device)
        distributed.broadcast(size, src=0)
        if not self.is_main:
            content = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        distributed.broadcast(content, src=0)
        return json.loads(bytes(content.tolist()))

    def end(self) -> None:
        """Leave the other processes: nothing is asked of them any more."""
        if in_group():
            distributed.destroy_process_group()


def in_group() -> bool:
    """Whether this process knows the others already."""
    return distributed.is_available() and distributed.is_initialized()


def processes_asked_for() -> int:
    """How many processes train together, by the environment: 1 without a launcher."""
    return whole("WORLD_SIZE", "how many processes train together", 1) if os.environ.get("WORLD_SIZE") else 1


def whole(name: str, what: str, least: int = 0, most: int | None = None) -> int:
    """A whole number that a launcher puts into the environment. Raises ValueError for anything else."""
    value = os.environ[name].strip()
    number = int(value) if re.fullmatch("[0-9]{1,18}", value) else -1
    if number < least or (most is not None and number > most):
        there = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise ValueError(
            f"{name} says {what}, as a whole number {there}; the environment has {os.environ[name]!r}: start "
            "them by torchrun or accelerate launch, which set it, or unset WORLD_SIZE to train in one"
        )
    return number


def join_group(run: Run, count: int) -> None:
    """Find the other processes, and take a GPU of one's own where the run is on CUDA."""
    told = (*TOLD, "LOCAL_RANK") if run.device.type == "cuda" else TOLD
    if missing := [name for name in told if not os.environ.get(name)]:
        raise ValueError(
            f"WORLD_SIZE={count} in the environment says that {count} processes train together, but there "
            f"is no {', '.join(missing)}: start them by torchrun or accelerate launch, or unset WORLD_SIZE"
        )
    whole("RANK", "which of the processes this is", 0, count - 1)
    whole("MASTER_PORT", "where the processes find each other", 1, 65535)
    if run.device.type not in ("cpu", "cuda"):
        raise ValueError(f"several processes train on CUDA or on CPUs; this run is on {run.device.type}")
    if run.device.type == "cuda":
        place, there = whole("LOCAL_RANK", "which GPU this process has"), torch.cuda.device_count()
        if place >= there:
            raise ValueError(f"process {place} has no GPU of its own; start no more than {there}")
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if run.device.type == "cuda" else "gloo")
