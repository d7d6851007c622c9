"""Code of a learner's that does not end, floods or fails gets one short line and leaves all in order."""

import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
import torch
from einops import rearrange

from vitlab import checks
from vitlab.checks.engine import limits


def right(images, patch_size):
    return rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=patch_size, q=patch_size)


def endless(images, patch_size):
    while True:
        pass


def endless_steps_of_torch(images, patch_size):
    total = torch.zeros(200, 200)
    while True:
        total = total @ total


def catches_exceptions(images, patch_size):
    while True:
        try:
            torch.ones(3) @ torch.ones(4)
        except Exception:
            continue


def catches_everything(images, patch_size):
    while True:
        try:
            torch.ones(100) @ torch.ones(100)
        except:  # noqa: E722
            continue


def catches_everything_around_a_loop(images, patch_size):
    while True:
        try:
            while True:
                pass
        except:  # noqa: E722
            continue


def goes_on_when_it_is_over(images, patch_size):
    try:
        endless(images, patch_size)
    finally:
        endless(images, patch_size)


def holds_on_twice(images, patch_size):
    try:
        try:
            endless(images, patch_size)
        except BaseException:
            endless(images, patch_size)
    except BaseException:
        return


def right_after_all(images, patch_size):
    holds_on_twice(images, patch_size)
    return right(images, patch_size)


def another_error_after_all(images, patch_size):
    holds_on_twice(images, patch_size)
    raise ValueError("something else")


def sleeps(images, patch_size):
    time.sleep(1000)


def calls_itself(images, patch_size):
    return calls_itself(images, patch_size)


def a_module_that_calls_itself(images, patch_size):
    class Layer(torch.nn.Module):
        def forward(self, x):
            return self(x)

    return Layer()(images)


def grows_a_list(images, patch_size):
    patches = []
    while True:
        patches.append([0] * 10_000)


def grows_tensors(images, patch_size):
    patches = []
    while True:
        patches.append(torch.ones(1_000_000))


def asks_torch_for_too_much(images, patch_size):
    return torch.empty(10**13)


def asks_python_for_too_much(images, patch_size):
    return [0] * 10**13


def fills_what_linux_would_promise(images, patch_size):
    return torch.ones(10**9)  # 4 GB


def returns_a_huge_view(images, patch_size):
    return images[:1, :1, :1, :1].expand(10**4, 10**3, 10**3, 10**3)


def floods(images, patch_size):
    for _ in range(10**7):
        print("one more line")


def floods_the_other_stream(images, patch_size):
    for _ in range(10**5):
        print("one more line", file=sys.stderr)


def leaves(images, patch_size):
    sys.exit("good bye")


def raises_what_is_no_exception(images, patch_size):
    raise BaseException("many words\n" * 10**5)


def raises_at_length(images, patch_size):
    raise ValueError(
        "many words\n" * 10**5 + "and " + "the most important at the end" * (patch_size > 0) + "!"
    )


def leaves_a_thread(images, patch_size):
    threading.Thread(target=time.sleep, args=(1,), daemon=True).start()


LOOP = "did not end within 1 seconds, in your line `"
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses a block that it would promise")


@pytest.fixture(autouse=True)
def a_short_limit(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 1)


def state():
    handler = signal.getsignal(signal.SIGINT)
    return handler, signal.getitimer(signal.ITIMER_REAL), sys.gettrace(), sys.stdout, sys.stderr, data_limit()


def data_limit():
    if sys.platform != "linux":
        return None
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endless, LOOP + "while True:`: does a loop never stop?"),
        (endless_steps_of_torch, LOOP),
        (catches_exceptions, LOOP),
        (catches_everything, LOOP),
        (catches_everything_around_a_loop, LOOP),
        (goes_on_when_it_is_over, LOOP),
        (sleeps, LOOP + "time.sleep(1000)`"),
        (right_after_all, "did not end within 1 seconds: does a loop never stop?"),
        (another_error_after_all, "did not end within 1 seconds: does a loop never stop?"),
        (calls_itself, "RecursionError, in your line `return calls_itself(images, patch_size)`: does a"),
        (a_module_that_calls_itself, "RecursionError, in your line `return self(x)`: does a function call"),
        (grows_a_list, "took more than 1 GB of memory, in your line `"),
        (grows_tensors, "took more than 1 GB of memory, in your line `"),
        (asks_torch_for_too_much, "asked for 40,000 GB of memory at once, in your line `return torch.em"),
        (asks_python_for_too_much, "MemoryError, in your line `return [0] * 10**13`: is a size off?"),
        pytest.param(fills_what_linux_would_promise, " GB of memory", marks=linux),
        (returns_a_huge_view, "asked for 40,000 GB of memory at once: is a size off?"),
        (floods, "(What your code printed is not shown here.)"),
        (floods_the_other_stream, "(What your code printed is not shown here.)"),
        (leaves, "stopped with SystemExit: good bye, in your line `sys.exit("),
        (raises_what_is_no_exception, "stopped with BaseException: many words many words"),
        (raises_at_length, "the most important at the end!, in your line `raise ValueError("),
        (leaves_a_thread, "the result is None: is a `return` missing?"),
    ],
)  # fmt: skip
def test_the_line_is_short_and_the_process_in_order(answer, words, capfd, monkeypatch):
    if "memory" in words.lower():
        monkeypatch.setattr(limits, "SECONDS", 60)
    before, rng, begun = state(), torch.get_rng_state(), time.monotonic()
    line = str(checks.verdict("1.1", answer))
    assert time.monotonic() - begun < 60
    assert line.startswith("Exercise 1.1: not yet. ")
    assert words in line
    assert len(line) <= 300
    assert "\n" not in line
    assert state() == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert checks.verdict("1.1", right).status == "correct"
    assert capfd.readouterr() == ("", "")


def test_memory_is_given_back(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 60)
    tensors = []

    def answer(images, patch_size):
        held = []
        while True:
            held.append(torch.ones(1_000_000))
            tensors.append(weakref.ref(held[-1]))

    assert "took more than 1 GB of memory" in str(checks.verdict("1.1", answer))
    assert len(tensors) > 100
    assert not any(tensor() is not None for tensor in tensors)


def test_an_endless_answer_is_tried_once():
    calls = []
    checks.verdict("1.1", lambda images, patch_size: calls.append(1) or endless(images, patch_size))
    assert len(calls) == 1


def test_an_endless_later_case_is_judged_with_those_before_it():
    def answer(images, patch_size):
        return right(images, patch_size) if images.shape == (2, 2, 8, 12) else endless(images, patch_size)

    line = str(checks.verdict("1.1", answer))
    assert LOOP in line
    assert "(2, 2, 8, 12)" not in line


def test_time_before_and_after_a_call_does_not_count():
    for _ in range(3):
        assert limits.limited(lambda: time.sleep(0.5)) is None
        time.sleep(0.5)


def test_without_the_watch_a_loop_would_go_on():
    """Else the tests above would prove nothing: the same loop outlives the limit in another thread."""
    ended = threading.Event()
    thread = threading.Thread(target=limits.limited, args=(lambda: ended.wait(10),))
    thread.start()
    thread.join(1.5)
    assert thread.is_alive()
    ended.set()
    thread.join()


@pytest.mark.parametrize("answer", [endless, sleeps])
def test_the_learner_can_interrupt_it_as_ever(answer, monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 60)
    before, stream = state(), sys.stdout
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        checks.verdict("1.1", answer)
    assert state() == before
    assert sys.stdout is stream
    assert checks.verdict("1.1", right).status == "correct"


def test_a_learners_own_handler_still_hears_the_interrupt():
    heard = []
    previous = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        limits.limited(lambda: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert heard == [1]


def test_limits_inside_limits():
    """An answer that calls a check: the limit is that of the outer one, and no watch is left behind."""

    def answer(images, patch_size):
        while True:
            checks.verdict("1.1", endless)

    before, threads = state(), threading.active_count()
    for _ in range(3):
        assert "did not end within 1 seconds" in str(checks.verdict("1.1", answer))
        assert state() == before
        assert threading.active_count() == threads


def test_interrupts_at_any_moment_are_heard_once_and_leave_no_watch():
    """Ctrl-C also while the watch is set up or taken down: else its thread would interrupt for ever."""
    before, heard, threads = state(), 0, threading.active_count()
    for delay in range(60):
        timer = threading.Timer(delay / 10_000, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while timer.is_alive():
                limits.limited(lambda: None)
        except KeyboardInterrupt:
            heard += 1
        timer.join()
        assert threading.active_count() == threads
        assert state() == before
    assert heard > 0


def test_right_answers_are_right_on_a_busy_machine():
    """Other threads want the interpreter's lock all the time."""
    over = threading.Event()

    def busy():
        while not over.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert {checks.verdict("1.1", right).status for _ in range(5)} == {"correct"}
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_the_portable_interrupt_ends_a_loop(monkeypatch):
    """Windows has no pthread_kill."""
    monkeypatch.delattr(signal, "pthread_kill", raising=False)
    assert LOOP in str(checks.verdict("1.1", catches_everything_around_a_loop))
    assert checks.verdict("1.1", right).status == "correct"


def test_a_process_that_ignores_interrupts_has_limits_too():
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "from vitlab.checks import verdict\nfrom vitlab.checks.engine import limits\nlimits.SECONDS = 1\n"
    code += "def answer(images, patch_size):\n    while True: pass\n"
    code += "print(verdict('1.1', answer)); assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "did not end within 1 seconds" in done.stdout, done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_these_tests_hear_interrupts_in_the_background_of_a_script_too():
    """Shells have what runs there ignore SIGINT."""
    one = "test_interrupts_at_any_moment_are_heard_once_and_leave_no_watch"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{one}"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "1 passed" in done.stdout, done.stdout


@linux
def test_a_list_of_all_numbers_ends_when_memory_is_refused():
    """In a new process: what a process has freed before is filled first, number by number."""
    code = "import itertools\nfrom vitlab.checks import verdict\n"
    code += "from vitlab.checks.engine import limits\nlimits.SECONDS = 60\n"
    code += "print(verdict('1.1', lambda images, patch_size: list(itertools.count())))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "MemoryError: is a size off?" in done.stdout


@pytest.mark.slow
def test_the_stop_button_of_a_kernel_works_as_ever():
    """A kernel gets the learner's code, then an interrupt, then a right answer."""
    from jupyter_client.manager import start_new_kernel

    code = "import time\nfrom vitlab.checks import check\ncheck('1.1', lambda images, P: {})"
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute_interactive("import vitlab.checks", timeout=120)
        timer = threading.Timer(2, manager.interrupt_kernel)
        timer.start()
        reply = client.execute_interactive(code.format("time.sleep(1000)"), timeout=60, output_hook=print)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        printed = []
        unfold = "torch.nn.functional.unfold(images.float(), P, stride=P).mT"
        client.execute_interactive(
            "import torch\n" + code.format(unfold),
            timeout=60,
            output_hook=lambda m: printed.append(m["content"]),
        )
        assert "Exercise 1.1: correct" in "".join(content.get("text", "") for content in printed)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_code_that_takes_our_interrupt_for_the_learners_is_ended_as_any_other():
    """As a training does, whose stop button ends it: what it then raises is no wish of the learner's."""
    pressed = []

    def trains(images, patch_size):
        signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
        while not pressed:
            time.sleep(0.01)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    assert "your code did not end within 1 seconds" in str(checks.verdict("1.1", trains))
    assert signal.getsignal(signal.SIGINT) is before


@linux
@pytest.mark.parametrize("id", ["1.6", "2.6", "3.6", "4.4", "5.7", "6.6"])
def test_an_open_task_leaves_memory_to_its_entry(id):
    """Its own share of the limit is less than half, in a new process, which has nothing to fill again."""
    code = "from vitlab.checks import verdict\nfrom vitlab.checks.engine import find, limits\n"
    code += f"limits.GIGABYTES = 0.5\nprint(verdict('{id}', find('{id}').best).status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "correct"
