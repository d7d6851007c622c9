"""Several processes that train one model, as torchrun and accelerate start them; most often there is one."""

import os

import torch
from torch import Tensor

from vitlab.runtime import Run


class Processes:
    """This process, number `index` of `count`, and what it asks of the others.

    Each method but `is_main` is called by all processes at the same time, or none goes on.
    """

    def __init__(self, run: Run):
        from accelerate import Accelerator

        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        on_cpu = several and run.device.type == "cpu"  # which accelerate must be told, or each trains alone
        # `run` decides precision and device
        self.accelerator = Accelerator(mixed_precision="no", device_placement=False, cpu=on_cpu)
        self.index, self.count = self.accelerator.process_index, self.accelerator.num_processes
        self.device = run.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that shows, measures and writes."""
        return self.index == 0

    def total(self, numbers: list[float]) -> list[float]:
        """Each number added up over the processes."""
        if self.count == 1:
            return numbers
        own = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        return self.accelerator.reduce(own, "sum").tolist()

    def gather(self, own: Tensor) -> Tensor:
        """What each process has: (...) -> (count, ...)."""
        return self.accelerator.gather(own[None].to(self.device)) if self.count > 1 else own[None]

    def refuse_disagreement(self, what: dict) -> None:
        """Raise ValueError where the values of this process are not those of the first."""
        from accelerate.utils import broadcast_object_list

        (first,) = broadcast_object_list([what])
        for name, value in what.items():
            if value != first[name]:
                raise ValueError(
                    f"process {self.index} has {name} {value!r}, but process 0 has {first[name]!r}; all "
                    "train one model, so give all the same"
                )
