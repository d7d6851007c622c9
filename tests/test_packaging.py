"""The package as it is installed: bounds, environment.yml, wheel and data, docstrings, clean files."""

import doctest
import importlib
import os
import pkgutil
import re
import statistics
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vitlab

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch"}
MODULES = [vitlab.__name__, *(m.name for m in pkgutil.walk_packages(vitlab.__path__, prefix="vitlab."))]


def bounds(requirements: list[str]) -> dict[str, set[str]]:
    """{name: {">=1", "<2"}} of requirements as pip and conda both write them."""
    parsed = [Requirement(line) for line in requirements]
    return {canonicalize_name(r.name): {str(part) for part in r.specifier} for r in parsed}


def tracked_files() -> list[Path]:
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a git checkout, so what is tracked is not known")
    return [ROOT / name for name in found.stdout.splitlines() if (ROOT / name).is_file()]


# --- dependencies ------------------------------------------------------------------------------------------


def test_environment_yml_is_in_step_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    listed = bounds([entry for entry in environment["dependencies"] if isinstance(entry, str)])
    wanted = bounds(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"])
    wanted = {CONDA_NAMES.get(name, name): parts for name, parts in wanted.items()}
    wanted |= {"python": {PROJECT["requires-python"]}, "pip": set()}
    assert listed == wanted
    assert {"pip": ["-e ."]} in environment["dependencies"]
    assert environment["name"] == PROJECT["name"]


def test_constraints_fit_the_bounds():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for requirement in map(Requirement, PROJECT["dependencies"] + extras):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize(("version", "stays"), [("{}", True), ("{}+cpu", True), ("2.6.0+cpu", False)])
def test_a_cpu_build_that_is_there_is_left_as_it_is(version, stays, tmp_path):
    """pip, asked as the Makefile asks it but without a network: it has nothing to install, or fails."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    there = dict(torch=version.format(pins["torch"]), torchvision=version.format(pins["torchvision"]))
    for name, its in there.items():
        folder = tmp_path / f"{name}-{its}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {its}\n")
        (folder / "INSTALLER").write_text("pip")
    wanted = [line for line in PROJECT["dependencies"] if line.startswith("torch")]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--dry-run",
        "--no-index",
    ]
    done = subprocess.run(
        [*command, "-c", ROOT / "constraints.txt", *wanted],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},  # found before what is installed
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == stays, done.stdout + done.stderr
    assert "Would install" not in done.stdout
    assert (f"({there['torch']})" in done.stdout) == stays


def test_readme_names_the_versions_of_pytorch_that_are_pinned():
    readme, pins = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "constraints.txt"))
    named = re.search(r"^\.venv/bin/pip install (torch==\S+) (torchvision==\S+)", readme, flags=re.M)
    assert set(named.groups()) <= set(pins.splitlines())


def test_colab_has_everything_already():
    lines = (ROOT / "tests" / "colab" / "pins.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(pins[requirement.name]), (
            f"{requirement}: pip would replace Colab's own"
        )


def test_version_is_said_once():
    assert vitlab.__version__ == PROJECT["version"]


def test_readme_and_ci_give_the_same_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make lab\b", readme, flags=re.M)
    assert re.search(r"^make test\b", readme, flags=re.M)
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").endswith("\nmake test\nmake colab-check\n")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    named = re.findall(r"\bmake ([a-z-]+)", readme + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert set(named) <= set(targets)


# --- imports -----------------------------------------------------------------------------------------------

COST_OF_IMPORTS = """
import time
begin = time.process_time()
import torch
torch_alone = time.process_time() - begin
import vitlab
from importlib.util import find_spec
for name in vitlab.__all__:
    if not find_spec(f"vitlab.{name}"):  # the classes and functions; plots and widgets are for notebooks
        getattr(vitlab, name)
print((time.process_time() - begin) / torch_alone)
import sys
print(*{"accelerate", "ipywidgets", "matplotlib", "timm", "torchvision", "transformers"} & set(sys.modules))
"""


@pytest.mark.slow
def test_all_classes_and_functions_load_in_the_time_of_torch(tmp_path):
    """In processor time, which stands still while other programs run; with bytecode, as pip leaves it."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", COST_OF_IMPORTS]
    options = dict(check=True, capture_output=True, text=True, env=environment)
    runs = [subprocess.run(command, **options) for _ in range(4)][1:]  # the first one writes the bytecode
    ratios, heavy = zip(*(run.stdout.splitlines() for run in runs), strict=True)
    assert set(heavy) == {""}
    assert statistics.median(map(float, ratios)) <= 1.1


# --- the wheel ---------------------------------------------------------------------------------------------

USE_IN_AN_EMPTY_FOLDER = """
import sys, tempfile, vitlab
assert vitlab.__file__.startswith(sys.argv[1]), vitlab.__file__
images, labels, classes = vitlab.data.fashion_mnist("test")
assert images.shape == (10_000, 1, 28, 28) and len(labels) == 10_000 and len(classes) == 10
assert all(photo.shape[0] == 3 for photo in vitlab.data.photos().values())
assert len(vitlab.data.photos_with_masks(32).names) >= 12
with tempfile.TemporaryDirectory() as elsewhere:
    photographs = vitlab.data.example_folder(elsewhere, pictures="photographs")
    assert len(vitlab.data.image_folder(photographs, 32).classes) == 10
model = vitlab.load_checkpoint(vitlab.checkpoints.bundled("fashion_mnist_vit"))
assert model(vitlab.data.normalise(images[:2])).shape == (2, 10)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_wheel_carries_every_module_and_data_file(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [path.relative_to(ROOT) for path in tracked_files()]
    modules = {path.as_posix() for path in files if path.parts[0] == "vitlab"}
    data = {Path("vitlab/_data", *path.parts[1:]).as_posix() for path in files if path.parts[0] == "data"}
    assert modules
    assert data
    assert modules | data <= inside


@pytest.mark.slow
def test_wheel_works_in_an_empty_folder(wheel, tmp_path, monkeypatch):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True, text=True)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.delenv("VITLAB_DATA", raising=False)
    use = [sys.executable, "-W", "error", "-c", USE_IN_AN_EMPTY_FOLDER, str(site)]
    used = subprocess.run(use, cwd=empty, capture_output=True, text=True, check=False)
    assert used.returncode == 0, used.stderr
    assert list(empty.iterdir()) == []  # using the course leaves nothing behind where the learner stands


# --- docstrings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may save a file
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize("name", vitlab.__all__)
def test_public_names_have_an_example(name):
    public = getattr(vitlab, name)
    if not isinstance(public, type(vitlab)):
        assert ">>> " in (public.__doc__ or ""), f"vitlab.{name} has no example in its docstring"


# --- files with one subject --------------------------------------------------------------------------------


def test_no_file_of_the_package_has_more_than_350_lines():
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "vitlab").rglob("*.py")
    }
    assert "vitlab/plots/drawing.py" in lines
    assert {name: count for name, count in lines.items() if count > 350} == {}


# --- clean files -------------------------------------------------------------------------------------------


def test_no_machine_path_and_no_registry_address_is_tracked():
    path_or_host = re.compile(
        r"(?<![\w.])/(?:work|farm|root|home|Users|tmp)/[\w.]"
        r"|\b(?:pypi|pythonhosted|anaconda|download\.pytorch)\.(?:org|com)\b"
        r"|--(?:extra-)?index-url"
    )
    found = []
    for path in tracked_files():
        text = (
            path.read_bytes().decode("utf-8", errors="replace") if path.suffix not in {".gz", ".jpg"} else ""
        )
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in path_or_host.finditer(text)]
    assert found == []
