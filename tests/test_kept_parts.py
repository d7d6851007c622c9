"""mine.py: what of a learner's code is kept, that it runs elsewhere, and that it is never run unasked."""

import json
import linecache
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from vitlab import checks
from vitlab.checks import kept, sources

CALLS = iter(range(10_000))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty VITLAB_HOME, in a session in which nothing was checked."""
    monkeypatch.setenv("VITLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(kept, "_session", {})
    monkeypatch.setattr(kept, "_said", set())
    return tmp_path / "home"


def run_cell(text: str, names: dict) -> dict:
    """Run a cell as IPython does: its source is found by the name of its file."""
    text, filename = textwrap.dedent(text), f"<cell {next(CALLS)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), names)
    return names


def notebook(*cells: str) -> dict:
    names = {"__name__": "__main__", "check": checks.check}
    for cell in cells:
        run_cell(cell, names)
    return names


RIGHT = """
def patchify(images, patch_size):
    return F.unfold(images.float(), patch_size, stride=patch_size).mT
"""
LOOPS = """
def patchify(images, patch_size):
    return torch.stack([cut(image, patch_size) for image in images])
"""
CUT = """
def cut(image, size):
    rows = range(0, image.shape[1], size)
    return torch.stack([piece(image, top, left, size) for top in rows for left in columns(image, size)])
"""
PIECE = """
START = 0
def piece(image, top, left, size):
    return image[START:, top : top + size, left : left + size].reshape(-1)
"""
KEPT = {  # a source by the cells that define it
    "helpers of helpers": [
        "import torch\ndef columns(image, size): return range(0, image.shape[2], size)",
        PIECE,
        CUT,
        LOOPS,
    ],
    "lambda": ["from torch.nn import functional as F\n\n"
        "patchify = lambda x, p: F.unfold(x.float(), p, stride=p).mT"],
    "lambda over lines": [
        "import torch.nn.functional as F\n\npatchify = (\n    "
        "lambda x, p: F.unfold(\n        x.float(), p, stride=p\n    ).mT\n)"
    ],
    "decorated": [
        "import functools, torch, torch.nn.functional as F\n"
        "def told(f):\n    @functools.wraps(f)\n    def inner(*a):\n        return f(*a)\n    return inner",
        "@told\n@torch.no_grad()" + RIGHT,
    ],
    "library's function by another name": ["from torch.nn.functional import unfold as cut\n"
        "def patchify(x, p):\n    return cut(x.float(), p, stride=p).mT"],
    "class method": [
        "import einops as e\nfrom einops import rearrange as turn\n"
        "class Cut:\n    order = 'b c (h p) (w q) -> b (h w) (c p q)'\n"
        "    @classmethod\n    def patches(cls, x, p):\n        return turn(x, cls.order, p=p, q=p)\n"
        "patchify = Cut.patches"
    ],
    "static method": [
        "import torch.nn.functional as F\nclass Cut:\n    @staticmethod\n    def patches(x, p):\n"
        "        return F.unfold(x.float(), p, stride=p).mT\npatchify = Cut.patches"
    ],
    "nested without names of the outer": [
        "import torch\ndef make():\n    def patchify(x, p):\n"
        "        return torch.nn.functional.unfold(x.float(), p, stride=p).mT\n"
        "    return patchify\npatchify = make()"
    ],
    "alias": [
        "import torch.nn.functional as F" + RIGHT.replace("patchify", "second") + "patchify = second"
    ],
    "default and annotation": [
        "import torch\nfrom torch import Tensor\nimport torch.nn.functional as F\n"
        "from math import inf\nAXES = (-2, -1)\n"
        "def patchify(x: Tensor, p: int, axes=AXES) -> 'Tensor':\n"
        "    return F.unfold(x.float(), p, stride=p).transpose(*axes)"
    ],
    "helpers that call each other": [
        "import torch\n"
        "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n > 0 and even(n - 1)\n"
        "def patchify(x, p):\n    assert even(4)\n"
        "    return torch.nn.functional.unfold(x.float(), p, stride=p).mT"
    ],
    "cell run again": ["import torch.nn.functional as F", RIGHT.replace("stride", "dilation"), RIGHT, RIGHT],
}  # fmt: skip


@pytest.mark.parametrize("cells", KEPT.values(), ids=KEPT)
def test_what_is_kept_gives_the_same_among_no_other_names(cells, home, capsys):
    """The file's section alone, as a script without the notebook, against PyTorch's unfold."""
    notebook(*cells, 'check("1.1", patchify)')
    assert capsys.readouterr().out.startswith("Exercise 1.1: correct")
    (part,) = checks.parts()
    assert part.id == "1.1"
    images, names = torch.rand(2, 3, 8, 12), {"__name__": "__main__"}
    exec(part.text, names)
    assert torch.equal(eval(part.name, names)(images, 4), torch.nn.functional.unfold(images, 4, stride=4).mT)


NOT_KEPT = {
    "data of the notebook": (
        "import torch\npicture = torch.zeros(3)\ndef patchify(x, p):\n    picture.sum()\n"
        "    return torch.nn.functional.unfold(x.float(), p, stride=p).mT",
        "it reads `picture` from the notebook",
    ),
    "data of a helper": (
        "import torch\nseen = [object()]\ndef count(): seen[0]\ndef patchify(x, p):\n    count()\n"
        "    return torch.nn.functional.unfold(x.float(), p, stride=p).mT",
        "it reads `seen` from the notebook",
    ),
    "closure": (
        "import torch\ndef make(f):\n    def patchify(x, p):\n        return f(x.float(), p, stride=p).mT\n"
        "    return patchify\npatchify = make(torch.nn.functional.unfold)",
        "made inside another function, of which it reads `f`",
    ),
    "object with a state": (
        "import torch\nclass Cut:\n    def patchify(self, x, p):\n"
        "        return torch.nn.functional.unfold(x.float(), p, stride=p).mT\npatchify = Cut().patchify",
        "a function of one object, a Cut",
    ),
    "callable object": (
        "import torch\nclass Cut:\n    def __call__(self, x, p):\n"
        "        return torch.nn.functional.unfold(x.float(), p, stride=p).mT\npatchify = Cut()",
        "an object, a Cut",
    ),
    "two lambdas in a line": (
        "import torch.nn.functional as F\n"
        "patchify, other = lambda x, p: F.unfold(x.float(), p, stride=p).mT, lambda: 0",
        "several lambdas in its line",
    ),
    "the library's": ("from vitlab import patchify", "comes from vitlab.patches, and is not written by you"),
    "a line like a section's": (
        'import torch\ndef patchify(x, p):\n    """\n# %% exercise 1.1 · patchify · 2026-01-01 00:00\n"""\n'
        "    return torch.nn.functional.unfold(x.float(), p, stride=p).mT",
        "looks like the beginning of a section",
    ),
}


@pytest.mark.parametrize(("cell", "words"), NOT_KEPT.values(), ids=NOT_KEPT)
def test_what_cannot_stand_alone_is_right_and_not_kept(cell, words, home, capsys):
    notebook(cell, 'check("1.1", patchify)')
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Exercise 1.1: correct")
    assert second.startswith("(Right, but not kept for other notebooks: ")
    assert words in second
    assert checks.parts() == ()
    assert not (home / "mine.py").exists()


def test_a_source_that_is_gone_is_not_kept(home, capsys):
    names = {"__name__": "__main__"}
    exec(
        "import torch\ndef patchify(x, p): return torch.nn.functional.unfold(x.float(), p, stride=p).mT",
        names,
    )
    checks.check("1.1", names["patchify"])
    assert "its source is no longer there" in capsys.readouterr().out
    names = notebook("import torch.nn.functional as F" + RIGHT)
    linecache.cache[names["patchify"].__code__.co_filename] = (3, None, ["if:\n"], "")
    with pytest.raises(ValueError, match="cannot be read as Python"):
        sources.source_of(names["patchify"])


def test_only_right_answers_of_the_learners_own_are_kept(home, capsys):
    right, wrong = "import torch.nn.functional as F" + RIGHT, RIGHT.replace(".mT", "")
    notebook(right, 'check("1.1", patchify, yours=False)\ncheck("1.1", patchify)')
    notebook("import torch.nn.functional as F", wrong, 'check("1.1", patchify)')
    notebook("def patchify(images, patch_size):\n    raise NotImplementedError", 'check("1.1", patchify)')
    assert not (home / "mine.py").exists()
    assert kept._session == {}
    notebook(right, 'check("1.1", patchify)')
    before = (home / "mine.py").read_bytes()
    notebook("import torch.nn.functional as F", wrong, 'check("1.1", patchify)')  # once right stays so
    assert (home / "mine.py").read_bytes() == before
    assert json.loads((home / "progress.json").read_text())["exercises"] == {"1.1": "correct"}


def test_a_later_answer_takes_the_place_of_the_first(home, capsys):
    notebook("import torch.nn.functional as F" + RIGHT, 'check("1.1", patchify)')
    notebook("from vitlab import patchify as p\nfrom einops import rearrange\n"
        "def patchify(x, p):\n    return rearrange(x, 'b c (h p) (w q) -> b (h w) (c p q)', p=p, q=p)",
        'check("1.1", patchify)')  # fmt: skip
    (part,) = checks.parts()
    assert "rearrange" in part.text
    assert "unfold" not in (home / "mine.py").read_text()


def test_parts_are_shown_removed_and_restored(home, capsys):
    sequence = (
        "import torch\ndef to_sequence(patches, cls, pos):\n"
        "    return torch.cat([cls.expand(len(patches), -1, -1), patches], 1) + pos"
    )
    notebook(sequence, 'check("2.2", to_sequence)')
    notebook("import torch.nn.functional as F" + RIGHT, 'check("1.1", patchify)')
    shown = checks.parts()
    assert [(part.id, part.name) for part in shown] == [("1.1", "patchify"), ("2.2", "to_sequence")]
    assert "F.unfold(images" in repr(shown)
    assert "<summary>1.1 · patchify · 2" in shown._repr_html_()
    assert shown.path == home / "mine.py"
    assert [part.id for part in checks.parts("2.2")] == ["2.2"]
    whole = shown.path.read_text()
    compile(whole, "mine.py", "exec")  # the whole file is Python, too
    capsys.readouterr()
    checks.remove_parts("1.1")
    assert [part.id for part in checks.parts()] == ["2.2"]
    assert kept.kept_in_session("1.1") is None
    checks.restore_parts()
    assert shown.path.read_text() == whole
    checks.remove_parts()
    assert checks.parts() == ()
    assert kept._session == {}
    notebook(sequence.replace("patches], 1", "patches], dim=1"), 'check("2.2", to_sequence)')
    checks.restore_parts()  # what was kept anew since stays
    assert "dim=1" in checks.parts("2.2")[0].text
    assert [part.id for part in checks.parts()] == ["1.1", "2.2"]
    with pytest.raises(ValueError, match="nothing is kept of exercise 6.2; there is: 1.1, 2.2"):
        checks.remove_parts("6.2")
    printed = capsys.readouterr().out
    assert "1 part removed; restore_parts() undoes it" in printed
    assert "2 parts removed" in printed


def test_nothing_of_the_file_runs_when_it_is_shown_or_when_a_check_passes(home, capsys):
    trap = home / "ran"
    text = f"open({str(trap)!r}, 'w').close()\ndef project(x, w, b): return x\n"
    home.mkdir()
    kept.write(home / "mine.py", [kept.Part("2.1", "project", "2026-01-01 00:00", text)])
    notebook("import torch.nn.functional as F" + RIGHT, 'check("1.1", patchify)')
    assert "ran" in repr(checks.parts())
    assert "ran" in checks.parts()._repr_html_()
    checks.remove_parts("1.1")
    assert not trap.exists()
    checks.mine("project")
    assert trap.exists()  # asked for
    assert "what mine.py has is not used. Exercise 2.1: not yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def rollout(weights):\n    return missing\n", "Exercise 6.2: not yet"),
        ("def rollout(weights)\n", "stopped with SyntaxError"),
        ("raise SystemExit(3)\n", "stopped with SystemExit"),
        ("while True:\n    pass\n", "did not end within 1 seconds"),
        ("x = 1 / 0\n", "stopped with ZeroDivisionError: division by zero, in your line `x = 1 / 0`"),
        ("def other(weights): return weights\n", "stopped with KeyError"),
    ],
    ids=["wrong", "syntax", "exit", "endless", "raises", "name"],
)
def test_a_file_that_was_changed_breaks_nothing(text, words, home, capsys, monkeypatch):
    monkeypatch.setattr("vitlab.checks.engine.limits.SECONDS", 1)
    home.mkdir()
    kept.write(home / "mine.py", [kept.Part("6.2", "rollout", "2026-01-01 00:00", text)])
    rollout = checks.mine("rollout")
    printed = capsys.readouterr().out
    assert printed.startswith("yours: 0 of 1; the course's: rollout\n")
    assert words in printed
    weights = torch.rand(2, 1, 3, 4, 4).softmax(dim=-1)
    torch.testing.assert_close(rollout(weights).sum(dim=-1), torch.ones(1, 4))


def test_a_file_that_is_no_text_or_cannot_be_read_is_said_and_stays(home, capsys):
    home.mkdir()
    (home / "mine.py").write_bytes(b"\xff\xfe\x00")
    assert "is not text in UTF-8" in repr(checks.parts())
    notebook("import torch.nn.functional as F" + RIGHT, 'check("1.1", patchify)')
    assert "not kept for other notebooks: " in capsys.readouterr().out
    assert (home / "mine.py").read_bytes() == b"\xff\xfe\x00"
    checks.mine("patchify")  # this session has it
    assert "yours: 1 of 1 (patchify)" in capsys.readouterr().out


WRITER = """
import sys
from vitlab.checks import kept
number = int(sys.argv[1])
def answer(x): return x
for i in range(40):
    kept.keep(f"{number}.{i}", answer)
    print(i, flush=True)
"""


@pytest.fixture
def writer(tmp_path):
    path = tmp_path / "writer.py"
    path.write_text(WRITER)

    def start(number):
        return subprocess.Popen([sys.executable, path, str(number)], stdout=subprocess.PIPE, text=True)

    return start


def test_two_notebooks_at_once_lose_nothing(home, writer):
    both = [writer(number) for number in (1, 2)]
    assert [each.wait(120) for each in both] == [0, 0]
    assert len(checks.parts()) == 80


def test_a_notebook_that_is_killed_leaves_the_file_whole(home, writer):
    notebook("import torch.nn.functional as F" + RIGHT, 'check("1.1", patchify)')
    process = writer(2)
    process.stdout.readline()
    time.sleep(0.02)
    process.kill()
    process.wait()
    found = checks.parts()
    assert found.note == ""
    assert {part.id for part in found} >= {"1.1", "2.0"}
    assert all("def " in part.text for part in found)
    notebook("import torch.nn.functional as F" + RIGHT, 'check("1.1", patchify)')  # no lock was left
    assert len(checks.parts()) == len(found)


def test_a_disk_that_is_full_leaves_the_old_file(home, monkeypatch, capsys):
    notebook("import torch.nn.functional as F" + RIGHT, 'check("1.1", patchify)')
    before = (home / "mine.py").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    notebook("import torch.nn.functional as F" + RIGHT.replace("images", "x"), 'check("1.1", patchify)')
    assert "No space left on device" in capsys.readouterr().out
    assert (home / "mine.py").read_bytes() == before
    assert [path.name for path in home.iterdir() if path.name.endswith(".part")] == []
