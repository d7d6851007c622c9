"""One place that decides where and how to compute: device, precision, seed, quick mode."""

import ctypes
import functools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import torch

from vitlab import alt_text, page
from vitlab.wording import counted

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc's numbers, from malloc.h
MADV_HUGEPAGE = 14  # Linux's, from mman.h
KEPT, LARGEST = 2**30, 2**25  # bytes of freed memory; bytes of a tensor in it, the most that glibc allows
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Run:
    """What `start` decided. `autocast()` is the context in which `train` and `evaluate` call a model."""

    device: torch.device
    precision: str
    quick: bool = False
    seed: int = 0

    def autocast(self) -> AbstractContextManager:
        """Matrix products in `precision`; logits, losses and recorded attention stay fp32.

        Rounded weights are not kept: autocast drops those that it keeps at the end of its outermost region,
        so that in somebody's own region a training would go on with the first ones.
        """
        way = dict(dtype=PRECISIONS[self.precision], enabled=self.precision != "fp32")
        return torch.autocast(self.device.type, cache_enabled=False, **way)

    def size(self, full, quick):
        """`quick` in quick mode, else `full`: the one way in which quick mode changes a lesson.

        >>> start(quick=True, device="cpu", precision="fp32").size(full=2000, quick=100)
        100
        """
        return quick if self.quick else full

    def __repr__(self) -> str:
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else self.device.type.upper()
        )
        threads = f", {counted(torch.get_num_threads(), 'thread')}" if self.device.type == "cpu" else ""
        mode = "quick mode" if self.quick else "full mode"
        return f"{name}{threads}, {self.precision}, seed {self.seed}, {mode}, torch {torch.__version__}"


def start(
    quick: bool = False, seed: int = 0, device: str | torch.device | None = None, precision: str | None = None
) -> Run:
    """Choose device and precision, seed PyTorch, and return the choice as a `Run` that prints itself.

    Device: CUDA, else Apple's MPS, else the CPU. Precision: bf16 where the hardware has it, fp16 on older
    CUDA cards, and on a CPU whichever of bf16 and fp32 a measurement of under a second finds faster.
    `device` and `precision` ("fp32", "bf16", "fp16") override. Quick mode, which makes lessons small, is
    also on where the environment has VITLAB_QUICK=1. In a notebook, figures carry alternative text from here
    on (`vitlab.alt_text`), and the page names the controls and fits itself to theme and width
    (`vitlab.page`). Raises ValueError for a device or precision that is not there.

    >>> start(device="cpu", precision="fp32").device
    device(type='cpu')
    """
    run = here(device, precision)
    torch.manual_seed(seed)
    alt_text.in_notebooks()
    page.in_notebooks()
    return replace(run, quick=quick or os.environ.get("VITLAB_QUICK") == "1", seed=seed)


def here(device: str | torch.device | None = None, precision: str | None = None) -> Run:
    """The same choice of device and precision as `start`, without touching any seed.

    On a CPU it has the process keep freed memory for its next tensors (`keep_freed_memory`).

    >>> here("cpu", "bf16").precision
    'bf16'
    """
    try:
        device = pick_device() if device is None else torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device is 'cpu', 'cuda' or 'mps'; got {device!r}") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device is 'cpu', 'cuda' or 'mps'; got {str(device)!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is available here; leave `device` out, or say device='cpu'")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("no MPS device is available here; leave `device` out, or say device='cpu'")
    if device.type == "cpu":
        keep_freed_memory()
    precision = pick_precision(device) if precision is None else precision
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}; got {precision!r}")
    return Run(device, precision)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights, which are drawn on the CPU, come from `seed` in the block; after it all is as before.

    >>> with seeded(0):
    ...     first = torch.rand(1)
    >>> with seeded(0):
    ...     torch.equal(first, torch.rand(1))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed GPUs as well
        yield


@functools.cache  # once is enough
def keep_freed_memory() -> None:
    """Have glibc keep up to a gigabyte of freed tensors, in large pages, and not give it back to the system.

    A training step takes and frees the same tensors again and again. Pages that come anew from the system
    are filled with zeros first, and small ones are looked up one by one: up to a tenth of the training time.
    Only addresses are reserved; memory is taken as it is used. Where there is no glibc, nothing happens.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):  # other C libraries have no such switch
        return
    for switch, value in ((M_TRIM_THRESHOLD, KEPT), (M_TOP_PAD, KEPT), (M_MMAP_THRESHOLD, LARGEST)):
        libc.mallopt(switch, value)
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.free(libc.malloc(LARGEST // 2))  # a block for which the heap has to grow, now by KEPT more
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for begin, end in heap_areas():
        libc.madvise(begin, end - begin, MADV_HUGEPAGE)  # advice: a system without large pages does without


def heap_areas() -> list[tuple[int, int]]:
    """Where the memory lies from which glibc takes what it hands out: first address, and the one after it."""
    try:
        with open("/proc/self/maps") as file:
            areas = [line.split() for line in file]
    except OSError:  # some containers hide it
        return []
    ranges = [area[0].split("-") for area in areas if area[-1] == "[heap]"]
    return [(int(begin, 16), int(end, 16)) for begin, end in ranges]


def pick_device() -> torch.device:
    """The fastest kind of device that is here."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_precision(device: torch.device) -> str:
    """The precision that trains fastest on `device` without changing what is learnt."""
    if device.type == "cuda":  # a T4 emulates bf16, slowly, and reports it as supported unless asked this way
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        return "bf16" if bf16_speedup() > 1.3 else "fp32"
    return "fp32"


@functools.cache
def bf16_speedup(repeats: int = 3) -> float:
    """How many times faster this CPU trains two layers in bf16 than in fp32 (best of `repeats` each)."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        layer = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 256))
        x = torch.ones(4096, 256)
        rounds = [(pass_seconds(layer, x, False), pass_seconds(layer, x, True)) for _ in range(repeats + 1)]
    fp32, bf16 = (min(seconds) for seconds in zip(*rounds[1:], strict=True))
    return fp32 / bf16


def pass_seconds(layer: torch.nn.Module, x: torch.Tensor, bf16: bool) -> float:
    """Seconds of one forward and backward pass, by a clock that stands still while other programs run."""
    begin = time.process_time()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = layer(x).sum()
    torch.autograd.grad(loss, list(layer.parameters()))
    return time.process_time() - begin
