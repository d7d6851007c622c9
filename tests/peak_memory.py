"""How much memory does a command take, with all that it starts? python tests/peak_memory.py COMMAND ...

Memory is the proportional set size where the system tells it (Linux): of pages that processes share, each has
its part. Elsewhere it is the resident size, which counts such pages once for each process. It is looked at
once a second, so a shorter peak may be missed.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

INTERVAL = 1.0  # seconds between two looks
SHOWN = 6  # processes that are listed, the largest first


def memory(process: psutil.Process) -> int:
    """Bytes that a process takes; 0 once it has ended."""
    with contextlib.suppress(
        OSError, StopIteration
    ):  # another system, another user's process, or it has ended
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
            return 1024 * next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def tree(known: set[psutil.Process]) -> set[psutil.Process]:
    """What still runs of `known`, whose parents may have ended, and all that it has started."""
    found = {process for process in known if process.is_running()}
    for process in list(found):
        with contextlib.suppress(psutil.Error):
            found.update(process.children(recursive=True))
    return found


def name(process: psutil.Process) -> str:
    """A process's command line, without the folders, in one line."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline() or [process.name()]
        return " ".join([Path(words[0]).name, *words[1:]])[:90]
    return "ended by now"


def watch(command: list[str]) -> tuple[int, int, list[tuple[int, str]]]:
    """Run a command; returns its exit status, the peak in bytes, and the largest processes at that moment."""
    started = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: started.terminate())
    processes, peak, largest = {psutil.Process(started.pid)}, 0, []
    while True:
        processes = tree(processes)
        sizes = {process: memory(process) for process in processes}
        if sum(sizes.values()) > peak:
            peak = sum(sizes.values())
            first = sorted(sizes, key=sizes.get, reverse=True)[:SHOWN]
            largest = [(sizes[process], name(process)) for process in first]
        try:
            return started.wait(INTERVAL), peak, largest
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:  # the command hears it too, and says when it ends
            continue


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--limit", type=float, help="GB (10^9 bytes) above which this fails")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not options.command:
        parser.error("which command?")
    begun = time.monotonic()
    status, peak, largest = watch(options.command)
    seconds = time.monotonic() - begun
    print(f"\npeak memory of all processes: {peak / 1e9:.2f} GB, in {seconds:.0f} s; the largest then:")
    for size, words in largest:
        print(f"  {size / 1e9:5.2f} GB  {words}")
    over = options.limit is not None and peak > options.limit * 1e9
    if over:
        print(f"that is more than the limit of {options.limit:g} GB", flush=True)
    return (128 - status if status < 0 else status) or int(over)


if __name__ == "__main__":
    sys.exit(main())
