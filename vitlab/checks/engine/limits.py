"""Limits on a learner's code: an endless loop or ever more memory is ended, and the notebook goes on."""

import _thread
import contextlib
import signal
import sys
import threading
from pathlib import Path

SECONDS = 10  # the slowest right answer takes a hundredth of one
GIGABYTES = 1  # by which the process may grow; cases are small
TICK = 0.05  # seconds between two looks
_ENGINE = str(Path(__file__).parent)


class LimitPassed(BaseException):
    """Ends the learner's code from within; no `Exception`, so that `except Exception` does not hold it."""


def limited(function, seconds=None):
    """Call `function`; raises LimitPassed if it takes longer than `seconds` or more than GIGABYTES of memory.

    Without `seconds` it may take SECONDS.

    Works in the main thread, where a notebook's cells run; in another thread there is no limit. What ends the
    code is an interrupt, as of the kernel's stop button, so it takes effect between two steps of Python: one
    long operation of PyTorch is waited for, and a thread or a process that the code has started goes on. Only
    Linux refuses one block of memory that is far too large though the machine would promise it; one step that
    takes memory in small pieces (`list(itertools.count())`) first fills what the process has freed before,
    which is half a minute for 4 GB.

    >>> limited(lambda: 1 + 1)
    2
    """
    handler_is_pythons = signal.getsignal(signal.SIGINT) is not None  # else it could not be put back
    if threading.current_thread() is not threading.main_thread() or _Watch.on or not handler_is_pythons:
        return function()
    with _Watch(seconds or SECONDS) as watch, _no_huge_block():
        try:
            value = _inside(function)
        except LimitPassed:
            raise
        except BaseException:  # of code that was ended, whatever it makes of that is no news
            if not watch.passed:
                raise
    if watch.passed:  # also where the code has caught the exception
        raise LimitPassed(*watch.passed)
    return value


def _inside(function):
    """The border in the stack of calls: an interrupt of ours counts for what lies above, and nowhere else."""
    return function()


class _Watch:
    """A thread that looks at time and memory, and interrupts the main thread; `passed` says why."""

    on = False  # one watch is enough for an answer that calls a check
    passed = None  # what to say about it: what happened, and a hint
    missed = False  # whether the learner interrupted while the watch was being set up or taken down

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, args=(_memory().rss,), daemon=True)
        self.trace = sys.gettrace()
        self.previous = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, self._interrupted)
        _Watch.on = True
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()  # no interrupt of ours is under way after that
        if self.passed:
            sys.settrace(self.trace)
        _Watch.on = False
        signal.signal(signal.SIGINT, self.previous)
        if self.missed:
            signal.raise_signal(signal.SIGINT)

    def _watch(self, before):
        for _ in range(
            round(self.seconds / TICK)
        ):  # ticks, no clock: a machine that stands still is no reason
            if self.over.wait(TICK):
                return
            if _memory().rss - before > GIGABYTES * 1e9:
                self.passed = f"took more than {GIGABYTES} GB of memory", ": does it grow without end?"
                break
        late = f"did not end within {self.seconds} seconds"
        self.passed = self.passed or (late, ": does a loop never stop?")
        while not self.over.is_set():
            _interrupt_main()
            self.over.wait(TICK)

    def _interrupted(self, signum, frame):
        """The handler of SIGINT: an interrupt of ours ends the learner's code, any other goes on as ever."""
        frames = []
        while frame and frame.f_code is not _inside.__code__:
            frames.append(frame)
            frame = frame.f_back
        if frame is None:
            self.missed = self.missed or not self.passed
        elif self.passed:
            for each in frames:
                if not each.f_code.co_filename.startswith(_ENGINE):  # where a `with` ends is a line, too
                    each.f_trace = self._again
            sys.settrace(lambda *_: None)
            raise LimitPassed(*self.passed)
        elif callable(self.previous):
            self.previous(signum, frame)

    def _again(self, frame, event, _):
        """Raise once more in the next line: with a bare `except`, that is the line which caught it."""
        if event == "line":
            raise LimitPassed(*self.passed)


def _interrupt_main():
    if hasattr(signal, "pthread_kill"):  # a true signal, which ends a sleep as well
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _memory():
    import psutil

    return psutil.Process().memory_info()


@contextlib.contextmanager
def _no_huge_block():
    """Linux promises memory that it does not have, and filling it is one step that nothing can interrupt.

    So twice the limit is refused at once. The bound is on data, as drivers reserve addresses by the terabyte.
    """
    data = getattr(_memory(), "data", 0) if sys.platform == "linux" else 0
    if not data:  # another system, or a container that does not tell
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [data + int(2 * GIGABYTES * 1e9), soft, hard]
    lowest = min(bound for bound in bounds if bound != resource.RLIM_INFINITY)
    with contextlib.suppress(OSError, ValueError):  # some containers do not allow it
        resource.setrlimit(resource.RLIMIT_DATA, (lowest, hard))
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
