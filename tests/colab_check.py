"""Does the course install and run on Google Colab, and leave its packages alone? `make colab-check`.

Colab itself cannot be run here. This makes an environment with the versions of tests/colab/pins.txt and an
empty google.colab module, and installs vitlab there with the first cell that `make colab` writes, once from a
wheel and once from a git address. It compares the lists of packages before and after, runs every notebook in
quick mode with that environment's kernel, and runs the explorers' tests. What drives the kernel (papermill)
stays outside.

Two things are not Colab's: Python, which is the one that runs this, and PyTorch, whose files are linked from
where this runs, as they are gigabytes. `--colab-torch` downloads Colab's version instead.

    .venv/bin/python tests/colab_check.py [--colab-torch]
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

import nbformat
import notebook_tools as tools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

COLAB = Path(__file__).parent / "colab"
FOLDER = tools.ROOT / "build" / "colab"  # ignored by git; taken away at the end if all went well
PYTHON = FOLDER / "env" / "bin" / "python"
COLAB_PYTHON = "3.13.15"
TORCH = {"torch", "torchvision"}
REPOSITORY = "colab-check/vitlab"  # git takes this address to the copy below, so nothing is asked of GitHub
WHERE = """\
import IPython, ipywidgets, vitlab
print(vitlab.__file__, "google.colab" in str(get_ipython()), ipywidgets.__version__, IPython.__version__)"""


# --- the environment ----------------------------------------------------------------------------------------


def colab_pins() -> dict[str, str]:
    """{name: version} as Colab has them, of the packages that this Python needs."""
    lines = (COLAB / "pins.txt").read_text(encoding="utf-8").splitlines()
    required = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = [r for r in required if r.marker is None or r.marker.evaluate()]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in here}


def borrowed(pins: dict[str, str]) -> dict[str, metadata.Distribution]:
    """torch and torchvision as they are installed here, with whatever they need that no pin fits."""
    found, waiting = {}, [Requirement(name) for name in sorted(TORCH)]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        fits = name not in TORCH and name in pins and requirement.specifier.contains(pins[name])
        if fits or name in found:
            continue
        found[name] = metadata.distribution(name)
        for needed in map(Requirement, found[name].requires or []):
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found


def link(distribution: metadata.Distribution, site: Path) -> None:
    """Put a distribution into `site` as hard links; pip takes it for its own, and never rewrites a file."""
    for file in distribution.files:
        source, target = Path(file.locate()), site / file
        if ".." in file.parts or not source.exists():  # scripts, which would start the other Python
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copy2(source, target)


def make_environment(colab_torch: bool) -> set[str]:
    """Fill FOLDER/env and return the names of the packages whose versions may differ from Colab's."""
    pins = colab_pins()
    subprocess.run([sys.executable, "-m", "venv", FOLDER / "env"], check=True)
    pip("install", f"pip=={pins['pip']}")
    site = Path(output("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    differing = {} if colab_torch else borrowed(pins)
    for name, distribution in differing.items():
        if name == "setuptools":
            pip("uninstall", "--yes", name)  # the one that a new environment comes with
        link(distribution, site)
    wanted = [f"{name}=={version}" for name, version in pins.items() if name not in TORCH | differing.keys()]
    pip("install", "--no-deps", *wanted)  # the pins are complete, or `pip check` complains
    if colab_torch:
        pip("install", *(f"{name}=={pins[name].partition('+')[0]}" for name in sorted(TORCH)), *wanted)
    checked = output("-m", "pip", "check", check=False)
    complaints = [line for line in checked.splitlines() if not re.search(r"requires jedi|No broken", line)]
    if complaints:
        raise SystemExit("tests/colab/pins.txt is not complete:\n" + "\n".join(complaints))
    shutil.copytree(COLAB / "google", site / "google", dirs_exist_ok=True)  # protobuf is in it, too
    kernel = FOLDER / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [str(PYTHON), "-m", "google.colab", "-f", "{connection_file}"]
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # else each kernel warns of a debugger nobody started
    spec = {"argv": argv, "display_name": "Colab", "language": "python", "env": quiet}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    return TORCH | differing.keys()


def output(*arguments, check: bool = True) -> str:
    """What the environment's Python prints."""
    return subprocess.run([PYTHON, *arguments], check=check, stdout=subprocess.PIPE, text=True).stdout


def pip(*arguments) -> None:
    output("-m", "pip", *arguments, "--quiet", "--disable-pip-version-check")


def packages() -> dict[str, str]:
    """{name: version} as `pip list` has them."""
    listed = output("-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    return {canonicalize_name(package["name"]): package["version"] for package in json.loads(listed)}


# --- installing ---------------------------------------------------------------------------------------------


def make_wheel() -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", FOLDER / "wheel", tools.ROOT], check=True)
    (wheel,) = (FOLDER / "wheel").glob("*.whl")
    return wheel


def make_repository() -> Path:
    """A git repository with one commit: the course's files as they are now, committed elsewhere or not."""
    repository = FOLDER / "vitlab.git"
    git = ["git", "--git-dir", repository, "--work-tree", tools.ROOT]
    author = ["-c", "user.name=check", "-c", "user.email=check@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "-m", "as it is"]):
        subprocess.run([*git, *command], cwd=tools.ROOT, check=True)
    return repository


def install(name: str, source: str) -> None:
    """Run a first cell where vitlab is not yet; a package whose version it changes ends the check."""
    before = packages()
    cells = [source, "QUICK = False", WHERE]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nb.cells[1].metadata.tags = ["parameters"]
    nb = tools.execute(nb, empty_folder(f"install {name}"))
    path, named, widgets, ipython = tools.printed(nb.cells[2]).split()
    pins = colab_pins()
    assert Path(path).is_relative_to(FOLDER / "env"), f"vitlab was imported from {path}"
    assert (named, widgets, ipython) == ("True", pins["ipywidgets"], pins["ipython"]), (
        "not the Colab-like kernel"
    )
    compare(before, f"installed from a {name}", may_add={"vitlab", "jedi", "onnx"})


def compare(before: dict[str, str], done: str, may_add: set[str]) -> None:
    after = packages()
    changed = [f"{name} {old} -> {after.get(name)}" for name, old in before.items() if after.get(name) != old]
    added = sorted(after.keys() - before.keys())
    new = ", ".join(f"{name} {after[name]}" for name in added) or "none"
    print(f"{done}: {len(before)} packages before, {len(changed)} of them changed; new: {new}", flush=True)
    strangers = [f"{name} was added" for name in added if name not in may_add]
    if changed or strangers:
        raise SystemExit("\n".join(["Colab's own packages are to stay as they are:", *changed, *strangers]))


# --- running ------------------------------------------------------------------------------------------------


def empty_folder(name: str) -> Path:
    folder = FOLDER / "content" / name
    folder.mkdir(parents=True)
    return folder


def run_notebook(path: Path) -> float:
    """Run a notebook, stamped, in quick mode and in an empty folder; returns the seconds that it took."""
    nb = tools.read(path)
    tools.set_colab(nb, REPOSITORY, path.name)
    begin = time.perf_counter()
    nb = tools.execute(nb, empty_folder(path.stem), QUICK=True)
    errors = tools.widget_errors(nb)
    wrong = [verdict for verdict in tools.verdicts(nb) if verdict[1] != "not attempted"]
    wrong += [verdict for verdict in tools.verdicts(nb, tag="solution") if verdict[1] != "correct"]
    if errors or wrong:
        raise RuntimeError(f"{path.name}: {errors or wrong}")
    return time.perf_counter() - begin


def run_notebooks() -> None:
    paths = tools.notebook_paths()
    with ProcessPoolExecutor(min(3, os.cpu_count())) as pool:  # a kernel takes up to 1 GB
        for path, seconds in zip(paths, pool.map(run_notebook, paths), strict=True):
            print(f"{path.stem}: no error, {seconds:.0f} s", flush=True)


def run_explorer_tests() -> None:
    """The tests that move every explorer's controls, with the widgets that Colab has."""
    tests = sorted((tools.ROOT / "tests").glob("test_widgets*.py"))
    pytest = [PYTHON.with_name("pytest"), "-q", "--disable-warnings", "-p", "no:cacheprovider", *tests]
    subprocess.run(pytest, cwd=empty_folder("explorers"), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Install and run the course beside the versions that Colab has."
    )
    parser.add_argument("--colab-torch", action="store_true", help="download Colab's PyTorch (gigabytes)")
    arguments = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    os.environ.pop("PYTHONPATH", None)
    differing = make_environment(arguments.colab_torch)
    say_what_differs(differing)
    github = f"https://github.com/{REPOSITORY}"
    os.environ |= {
        "JUPYTER_PATH": str(FOLDER / "jupyter"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{make_repository().as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": github,
    }
    cell = tools.colab_source(REPOSITORY)
    assert cell.count(f"git+{github}") == 1
    bare = packages()
    install("wheel", cell.replace(f"git+{github}", make_wheel().as_uri()))
    pip("uninstall", "--yes", *(packages().keys() - bare.keys()))
    assert packages() == bare
    install("git address", cell)
    installed = packages()
    run_notebooks()
    run_explorer_tests()
    compare(installed, "ran everything", may_add=set())
    shutil.rmtree(FOLDER)


def say_what_differs(allowed: set[str]) -> None:
    """Print where this environment is not as Colab's; anything beyond `allowed` ends the check."""
    here, pins = packages(), colab_pins()
    differing = {name: pin for name, pin in pins.items() if here.get(name) != pin}
    same = len(pins) - len(differing)
    print(f"{same} of {len(pins)} packages have Colab's versions. Not Colab's here:")
    print(f"  Python {platform.python_version()} (Colab {COLAB_PYTHON})")
    for name, pin in differing.items():
        print(f"  {name} {here.get(name)} (Colab {pin})", flush=True)
    if not allowed.issuperset(differing):
        raise SystemExit("tests/colab/pins.txt could not be installed as it is")


if __name__ == "__main__":
    main()
