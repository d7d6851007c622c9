"""What `make test` says about memory: true, of all processes, and a failure where it is too much."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import peak_memory
import psutil
import pytest

HOLDS = "import time; held = bytearray({}); held[::4096] = bytes(len(held[::4096])); time.sleep({})"
STARTS = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}], start_new_session=True)"
MB = 10**6


def test_the_peak_is_that_of_all_processes_whatever_became_of_their_parents():
    """A child of 300 MB in a session of its own beside its parent of 500 MB, which ends first."""
    child = HOLDS.format(300 * MB, 6)
    parent = f"{STARTS.format(child)}; {HOLDS.format(500 * MB, 3)}; del held; time.sleep(4)"
    status, peak, largest = peak_memory.watch([sys.executable, "-c", parent])
    assert status == 0
    assert 800 * MB < peak < 900 * MB
    assert 500 * MB < largest[0][0] < 550 * MB
    assert 300 * MB < largest[1][0] < 350 * MB
    assert largest[0][1].startswith(Path(sys.executable).name)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system has no PSS")
def test_what_processes_share_counts_once():
    """Eight forks of a process that holds 200 MB are 200 MB, not 1.8 GB."""
    code = (
        HOLDS.format(200 * MB, 0)
        + "; import os; [os.fork() or (time.sleep(4), os._exit(0)) for _ in range(8)]"
    )
    _, peak, _ = peak_memory.watch([sys.executable, "-c", f"{code}; time.sleep(4)"])
    assert 200 * MB < peak < 400 * MB


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, peak_memory.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_s_status_is_passed_on_and_too_much_memory_is_a_failure():
    command = [sys.executable, "-c", HOLDS.format(300 * MB, 2)]
    within, above = run("--limit", "1", *command), run("--limit", "0.2", *command)
    assert (within.returncode, above.returncode) == (0, 1)
    assert "peak memory of all processes: 0.3" in within.stdout
    assert "more than the limit of 0.2 GB" in above.stdout
    assert run("--limit", "1", sys.executable, "-c", "raise SystemExit(5)").returncode == 5
    assert run(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)").returncode == 137


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_what_ci_runs_is_held_to_6_gb():
    """All that `make test` and `make colab-check` run is measured, and says so."""
    root = Path(__file__).resolve().parents[1]
    called = re.findall(r"^make (\S+)$", (root / ".ci" / "run").read_text(encoding="utf-8"), flags=re.M)
    assert called == ["test", "colab-check"]
    done = subprocess.run(["make", "-n", *called], cwd=root, capture_output=True, text=True, check=True)
    tests = [line for line in done.stdout.splitlines() if "-m pytest" in line or "colab_check" in line]
    assert len(tests) == 4
    slow = [line for line in tests if "-m slow" in line]
    assert ["-n auto" in line for line in slow] == [
        "tests/browser" not in line or "--ignore" in line for line in slow
    ]
    assert all("tests/peak_memory.py --limit 6 " in line for line in tests)


def test_one_worker_has_all_files_that_take_much_memory(tmp_path):
    """Kernels and browsers take 1 to 2 GB each; the other worker goes through what is small meanwhile."""
    conftest = Path(__file__).with_name("conftest.py")
    (tmp_path / "conftest.py").write_text(conftest.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "browser").mkdir()
    for name in ["browser/test_a", "test_notebooks", "test_o", "test_report_c", "test_z"]:
        (tmp_path / f"{name}.py").write_text(WHERE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", tmp_path]
    for more in ([], ["-m", "slow"]):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert "15 passed" in done.stdout, done.stdout
        workers = {path.name: {*path.read_text().split()} for path in tmp_path.rglob("*.txt")}
        one = [workers[f"test_{name}.txt"] for name in ("a", "notebooks", "report_c", "o")]
        if more:  # the browser's; the first of the notebook's tests is what the other worker begins with
            assert len(one[0]) == 1
            assert one[1] - one[0]
        else:
            assert one[0] == one[1] == one[2] != one[3]
        for path in tmp_path.rglob("*.txt"):
            path.unlink()


def test_for_slow_tests_alone_no_other_file_is_imported(tmp_path):
    conftest = Path(__file__).with_name("conftest.py")
    (tmp_path / "conftest.py").write_text(conftest.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "test_fast.py").write_text("raise MemoryError")
    (tmp_path / "test_slow.py").write_text("import pytest\n\n@pytest.mark.slow\ndef test(): pass")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", tmp_path]
    done = [subprocess.run([*command, *m], capture_output=True, text=True) for m in ([], ["-m", "slow"])]
    assert "MemoryError" in done[0].stdout
    assert "1 passed" in done[1].stdout, done[1].stdout


WHERE = """
import os, time
from pathlib import Path
import pytest

pytestmark = pytest.mark.slow

@pytest.mark.parametrize("i", range(3))
def test_where(i):
    time.sleep(0.3)
    with open(Path(__file__).with_suffix(".txt"), "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to keep memory")
def test_a_file_of_tests_leaves_no_memory_behind(tmp_path):
    """Two files: the first remembers scenes and trains, as far as glibc can see; the second looks."""
    conftest = Path(__file__).with_name("conftest.py")
    (tmp_path / "conftest.py").write_text(conftest.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "test_a.py").write_text(REMEMBERS)
    (tmp_path / "test_b.py").write_text(f"{LOOKS}\n    assert now < 0.5e9, now")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tmp_path]
    done = subprocess.run([*command, "-p", "no:nbval"], capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout


REMEMBERS = """
import torch
from vitlab.fine_tuning import studies
from vitlab.runtime import keep_freed_memory

def test_a():
    studies.datasets("scenes", 100)
    keep_freed_memory()
    many = [torch.ones(1_000_000) for _ in range(200)]
"""
LOOKS = """
import psutil

def test_b():
    now = psutil.Process().memory_info().rss - psutil.Process().memory_info().shared"""


def test_a_process_that_has_ended_takes_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    watched = psutil.Process(process.pid)
    process.wait()
    assert peak_memory.memory(watched) == 0
    assert peak_memory.tree({watched}) == set()
