"""A kernel for code that may not end: every cell has its seconds, and nothing that it starts outlives it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GRACE = 5  # seconds that an interrupted cell has to come to its end
STARTING = 60  # seconds that a kernel has to start, on a busy machine
# IPython exits a moment after it was told to, when another cell may be running
EXITS = {"exits": '__import__("IPython").get_ipython().exit_now'}
KEPT = 20_000  # characters of what a cell prints; a verdict is one line


class NoKernel(RuntimeError):
    """No kernel started, and why."""


class Result(NamedTuple):
    """What one cell gave: `ended` says what ended it before its end, `died` whether its kernel died."""

    printed: str = ""
    error: str = ""
    ended: str = ""
    died: bool = False


class Kernel:
    """A kernel that is there; see `fresh_kernel`."""

    def __init__(self, manager, client):
        import zmq

        self.manager, self.client = manager, client
        self.channels = {channel.socket: channel for channel in (client.iopub_channel, client.shell_channel)}
        self.poller = zmq.Poller()
        for socket in self.channels:
            self.poller.register(socket, zmq.POLLIN)

    def run(self, source: str, seconds: float, silent: bool = False) -> Result:
        """Run one cell; after so many seconds it is interrupted, and if it holds on, its kernel is ended."""
        options = dict(silent=silent, allow_stdin=False, stop_on_error=False, user_expressions=EXITS)
        sent = self.client.execute(source, **options)
        printed, reply, idle = "", None, False
        limit, interrupts = time.monotonic() + seconds, 0
        late = f"interrupted after {seconds:.0f} seconds"
        while not (reply and idle):
            for kind, content in self._messages(sent):
                if kind == "stream" and content["name"] == "stdout":
                    printed = (printed + content["text"])[-KEPT:]
                elif kind == "status":
                    idle = idle or content["execution_state"] == "idle"
                elif kind == "execute_reply":
                    reply, limit = content, time.monotonic() + GRACE  # the rest of what it says is under way
            if not self.manager.is_alive():
                return Result(printed, ended=_last_words(self.manager), died=True)
            if time.monotonic() < limit:
                continue
            if reply:  # ZeroMQ drops messages of a flood, "idle" among them
                break
            if interrupts == GRACE:
                return Result(printed, ended=f"{late}, held on, so its kernel was ended", died=True)
            self.manager.interrupt_kernel()
            interrupts, limit = interrupts + 1, time.monotonic() + 1
        if "True" in str(reply.get("user_expressions")):
            return Result(printed, ended="told the kernel to exit", died=True)
        error = f"{reply['ename']}: {reply['evalue']}" if reply["status"] == "error" else ""
        return Result(printed, " ".join(error.split())[:300], late if interrupts else "")

    def _messages(self, sent: str) -> Iterator[tuple[str, dict]]:
        """What has come about a cell, by kind; waits for a tenth of a second."""
        for socket, _ in self.poller.poll(100):
            message = self.channels[socket].get_msg(timeout=0)
            if message["parent_header"].get("msg_id") == sent:
                yield message["msg_type"], message["content"]


@contextlib.contextmanager
def fresh_kernel(folder: Path) -> Iterator[Kernel]:
    """A new kernel of this Python, in quick mode, that works in `folder` and takes it for a learner's home.

    Whatever it has started ends with it. Raises NoKernel.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, fresh_kernel(Path(folder)) as kernel:
    ...     kernel.run("print(6 * 7)\\n1 / 0", seconds=60)
    Result(printed='42\\n', error='ZeroDivisionError: division by zero', ended='', died=False)
    """
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_spec_manager=_this_python())
    client = None
    home = dict.fromkeys(("VITLAB_HOME", "IPYTHONDIR"), str(folder))  # nor IPython's history and start-up
    environment = os.environ | home | {"VITLAB_QUICK": "1"}
    environment.pop("MPLBACKEND", None)  # the teacher's own might open windows
    try:
        quiet = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
        manager.start_kernel(cwd=str(folder), env=environment, **quiet)
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=STARTING)
        except RuntimeError as error:
            raise NoKernel(f"no kernel started: {error}") from error
        kernel = Kernel(manager, client)
        # here, so that no cell's time is spent on it
        imported = kernel.run('__import__("vitlab.checks")', STARTING, silent=True)
        if imported.ended or imported.error:
            raise NoKernel(f"the kernel could not import vitlab: {imported.ended or imported.error}")
        yield kernel
    finally:
        _end(manager, client, str(folder))


def _this_python():
    """Kernels of the Python that runs this: a user's own kernelspec `python3` may be of another."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            return KernelSpec(**get_kernel_dict())

    return ThisPython()


def _last_words(manager) -> str:
    """How a kernel that is no longer there ended, as far as its parent knows."""
    code = getattr(getattr(manager.provisioner, "process", None), "returncode", None)
    if code is None:
        return "the kernel died"
    if code >= 0:
        return f"the kernel died, with exit status {code}"
    name = signal.Signals(-code).name
    return f"the kernel died of {name}" + ", out of memory perhaps" * (name == "SIGKILL")


def _end(manager, client, home: str) -> None:
    """End the kernel and every process below it, those included that have lost their parent."""
    import psutil

    if client is not None:
        client.stop_channels()
    started = []
    with contextlib.suppress(psutil.Error):
        if manager.is_alive():
            started = psutil.Process(manager.provisioner.pid).children(recursive=True)
    manager.shutdown_kernel(now=True)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # others' processes do not tell
            if process.environ().get("VITLAB_HOME") == home:
                started.append(process)
    for process in started:
        with contextlib.suppress(psutil.Error):
            process.kill()
    limit = time.monotonic() + GRACE
    while any(map(_runs, started)) and time.monotonic() < limit:
        time.sleep(0.01)


def _runs(process) -> bool:
    """Whether a process is still there: one that was killed is for a moment, and nobody may fetch its end."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
