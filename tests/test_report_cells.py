"""Submissions whose cells do not end, kill their kernel or leave things behind: the rest is still judged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from vitlab.checks import report
from vitlab.checks.reports.kernel import fresh_kernel
from vitlab.checks.reports.report import main, notebooks, report_folder
from vitlab.checks.reports.submission import Cell, judge, read_cells

SETUP = "from einops import rearrange\nfrom vitlab.checks import check"
PATCHIFY = """def patchify(images, patch_size):
    return rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=patch_size, q=patch_size)"""
CORNER = """def patch_corner(index, image_size, patch_size):
    row, column = divmod(index, image_size[1] // patch_size)
    return row * patch_size, column * patch_size"""
CHECKS = {"1.1": 'check("1.1", patchify)', "1.3": 'check("1.3", patch_corner)'}
HOLDS_ON = (
    "import time\nwhile True:\n    try:\n        time.sleep(1000)\n    except BaseException:\n        pass"
)


def notebook(*sources: str):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def judged(*sources: str, time_limit: float = 60) -> dict[str, tuple[str, str]]:
    """Exercise -> verdict and diagnosis, of a notebook of these cells; its checks stand as their numbers."""
    numbered = enumerate(sources, start=1)
    return judge([Cell(i, CHECKS.get(s, s), s if s in CHECKS else "") for i, s in numbered], time_limit)


# --- cells that do not end ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_cells_without_end_are_interrupted_and_named_and_what_follows_is_judged(tmp_path):
    cells = [SETUP, "# wait\nwhile True: print('without end')", PATCHIFY, CHECKS["1.1"]]
    cells += [
        "import time\ntime.sleep(1000)",
        "input('a number? ')",
        CORNER,
        CHECKS["1.3"],
        "while True: pass",
    ]
    nbformat.write(notebook(*cells), tmp_path / "ada.ipynb")
    begun = time.monotonic()
    first, second = report(tmp_path / "ada.ipynb", time_limit=9)
    assert time.monotonic() - begun < 60
    assert (first.exercise, first.verdict) == ("1.1", "correct")
    assert first.diagnosis.endswith(
        "; cell 2, `while True: print('without end')`: interrupted after 3 seconds"
    )
    assert (second.exercise, second.verdict) == ("1.3", "correct")
    assert "cell 5, `import time`: interrupted after " in second.diagnosis
    assert "cell 2" not in second.diagnosis  # it is no affair of this exercise


@pytest.mark.slow
def test_a_cell_that_holds_on_to_an_interrupt_costs_its_kernel_and_no_other_verdict():
    verdicts = judged(SETUP, HOLDS_ON, PATCHIFY, "1.1", CORNER, "1.3", time_limit=30)
    assert [verdict for verdict, _ in verdicts.values()] == ["correct", "correct"]
    named = "cell 2, `import time`: interrupted after 10 seconds, held on, so its kernel was ended"
    assert named in verdicts["1.1"][1]
    assert "cell 2" not in verdicts["1.3"][1]


@pytest.mark.slow
def test_when_the_time_is_over_the_rest_is_not_run():
    verdicts = judged(SETUP, PATCHIFY, *["import time\ntime.sleep(0.7)"] * 3, "1.1", time_limit=1)
    assert verdicts == {"1.1": ("not run", "stopped after 1 seconds")}


# --- cells that end their kernel ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_kernel_that_dies_is_named_with_its_cell_and_the_rest_is_judged_in_a_new_one(tmp_path):
    """The setup is run again, the killing cell is not, and the exercise that needs it says so."""
    log = tmp_path / "log"
    setup = f"{SETUP}\nprint('run', file=open({str(log)!r}, 'a'))"
    kills = "import os\ndef patch_corner(index, image_size, patch_size): return 0, 0\nos._exit(7)"
    again = 'check("1.2", unpatchify)'
    unpatchify = """def unpatchify(patches, patch_size, image_size, channels):
    height = image_size[0] // patch_size
    return rearrange(patches, "b (h w) (c p q) -> b c (h p) (w q)", h=height, p=patch_size, c=channels)"""
    cells = [PATCHIFY, CHECKS["1.1"], kills, CHECKS["1.3"], unpatchify, again]
    nbformat.write(notebook(setup, *cells), tmp_path / "ada.ipynb")
    rows = {row.exercise: row for row in report(tmp_path / "ada.ipynb", time_limit=120)}
    assert {exercise: row.verdict for exercise, row in rows.items()} == {
        "1.1": "correct", "1.3": "not run", "1.2": "correct",
    }  # fmt: skip
    death = "cell 4, `import os`: the kernel died, with exit status 7"
    assert rows["1.3"].diagnosis == f"NameError: name 'patch_corner' is not defined; {death}"
    assert "cell" not in rows["1.1"].diagnosis + rows["1.2"].diagnosis
    assert log.read_text() == "run\n" * 2


@pytest.mark.slow
def test_an_answer_that_kills_the_kernel_is_not_run_and_the_next_is_judged():
    answer = "import os, signal\ndef patchify(images, patch_size): os.kill(os.getpid(), signal.SIGKILL)"
    verdicts = judged(SETUP, answer, "1.1", CORNER, "1.3")
    said = "cell 3, the check of 1.1: the kernel died of SIGKILL, out of memory perhaps"
    assert verdicts["1.1"] == ("not run", said)
    assert verdicts["1.3"][0] == "correct"


@pytest.mark.slow
def test_a_kernel_that_is_told_to_exit_does_so_later_and_the_cell_that_told_it_is_named():
    verdicts = judged(SETUP, PATCHIFY, "exit()", "import sys; sys.exit(1)", "1.1", CORNER, "1.3")
    assert [verdict for verdict, _ in verdicts.values()] == ["correct", "correct"]
    assert verdicts["1.1"][1].endswith("; cell 3, `exit()`: told the kernel to exit")
    assert "told" not in verdicts["1.3"][1]


# --- the kernel --------------------------------------------------------------------------------------------

FORKS = "import os, time\nif os.fork() == 0:\n    time.sleep(1000)"
DETACHED = "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True).pid"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_nothing_that_a_cell_started_outlives_the_kernel(tmp_path):
    with fresh_kernel(tmp_path) as kernel:
        for source in (FORKS, DETACHED, "import os\nos._exit(0)"):
            result = kernel.run(source, seconds=60)
        assert result.died
        assert len(processes_of(tmp_path)) == 2  # without a parent by now
    assert processes_of(tmp_path) == []


def processes_of(folder) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("VITLAB_HOME") == str(folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


ENDLESS = """from vitlab.checks import check
from vitlab.checks.engine import limits
limits.SECONDS = 1
def patchify(images, patch_size):
    while True: pass
check("1.1", patchify)"""


@pytest.mark.slow
def test_the_kernel_is_of_this_python_and_knows_nothing_of_the_teacher(tmp_path, monkeypatch):
    """Whatever kernelspec and start-up files a user has; and from a script, which ignores interrupts."""
    spec, startup = tmp_path / "jupyter/kernels/python3", tmp_path / "ipython/profile_default/startup"
    for folder in (spec, startup):
        folder.mkdir(parents=True)
    command = dict(argv=["false"], display_name="another Python", language="python")
    (spec / "kernel.json").write_text(json.dumps(command))
    (startup / "mine.py").write_text("teachers = 1")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    home = tmp_path / "home"
    home.mkdir()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with fresh_kernel(home) as kernel:
            assert kernel.run("import sys; print(sys.executable)", 60).printed.strip() == sys.executable
            assert kernel.run("teachers", 60).error == "NameError: name 'teachers' is not defined"
            assert kernel.run("while True: pass", 1).ended == "interrupted after 1 seconds"
            assert kernel.run("print(6 * 7)", 60).printed == "42\n"
            assert "did not end within 1 seconds" in kernel.run(ENDLESS, 60).printed
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_a_kernel_every_exercise_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    verdicts = judged(SETUP, PATCHIFY, "1.1", CORNER, "1.3")
    assert [verdict for verdict, _ in verdicts.values()] == ["not run", "not run"]
    assert all(diagnosis.startswith("no kernel started: ") for _, diagnosis in verdicts.values())


# --- what is handed in -------------------------------------------------------------------------------------


@pytest.fixture
def handed_in(tmp_path):
    """A notebook with a solution and a plot after the last check, and the cells that are to be judged."""
    nb = notebook(SETUP, PATCHIFY, CHECKS["1.1"], PATCHIFY, "plot()")
    nb.cells[3].metadata.tags = ["solution"]
    nb.cells.insert(0, nbformat.v4.new_markdown_cell("# Patching – ein Ü"))
    nb.metadata.kernelspec = {"name": "ir", "display_name": "R", "language": "R"}  # whatever it says
    path = tmp_path / "ada.ipynb"
    nbformat.write(nb, path)
    check = f"from vitlab.checks import check\n{CHECKS['1.1']}"
    return path, [Cell(2, SETUP), Cell(3, PATCHIFY), Cell(4, check, "1.1")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_read(handed_in, encoding):
    path, cells = handed_in
    path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    assert read_cells(path) == cells


def test_the_notebooks_of_ten_years_ago_are_read(handed_in):
    path, cells = handed_in
    nb = nbformat.read(path, as_version=4)
    nbformat.write(nbformat.convert(nb, 3), path)
    assert json.loads(path.read_text(encoding="utf-8"))["nbformat"] == 3
    assert read_cells(path) == cells


def test_notebooks_of_other_programs_are_read(handed_in):
    """Without ids, with line ends of Windows, attachments, raw cells, tags that are nothing."""
    path, cells = handed_in
    plain = json.loads(path.read_text(encoding="utf-8"))
    for cell in plain["cells"]:
        del cell["id"]
        cell["source"] = "".join(cell["source"])
    for tagged in (None, []):
        plain["cells"][1]["metadata"] = {"tags": tagged}
        path.write_text(json.dumps(plain | {"nbformat_minor": 0}))
        assert read_cells(path) == cells
    path.write_bytes(json.dumps(plain | {"nbformat_minor": 0}, indent=1).replace("\n", "\r\n").encode())
    assert read_cells(path) == cells
    attached = dict(cell_type="markdown", metadata={}, source="![a](attachment:a.png)")
    raw = dict(cell_type="raw", metadata={}, source="check('1.1', raw)")
    first = [attached | dict(attachments={"a.png": {"image/png": "AAAA"}}), raw]
    path.write_text(json.dumps(plain | {"nbformat_minor": 4, "cells": first + plain["cells"][1:]}))
    assert read_cells(path) == [cell._replace(number=cell.number + 1) for cell in cells]


@pytest.mark.slow
def test_a_lambda_is_judged_as_the_function_it_is(tmp_path):
    right, wrong = "lambda images, p: patchify(images, p)", "lambda images, p: patchify(images, p).flip(1)"
    for name, answer in {"ada": right, "bob": wrong}.items():
        nbformat.write(notebook(SETUP, PATCHIFY, f'check("1.1", {answer})'), tmp_path / f"{name}.ipynb")
    verdicts = {name: report(tmp_path / f"{name}.ipynb")[0].verdict for name in ("ada", "bob")}
    assert verdicts == {"ada": "correct", "bob": "not yet"}


@pytest.mark.parametrize(
    "call",
    [
        'checks.check("1.1", patchify)',
        'check(\n    "1.1",\n    patchify,\n)',
        "check('1.1', patchify);  # mine",
        'check("1.1", patchify, yours=True)',
        "# of mine\n\ncheck('1.1', patchify)\n",
        '# check("1.1", patchify)',
    ],
)
def test_a_check_is_known_however_it_is_written(tmp_path, call):
    nbformat.write(notebook(SETUP, PATCHIFY, call), tmp_path / "ada.ipynb")
    check = f"from vitlab.checks import check\n{CHECKS['1.1']}"
    assert read_cells(tmp_path / "ada.ipynb") == [Cell(1, SETUP), Cell(2, PATCHIFY), Cell(3, check, "1.1")]


def deep(depth: int) -> str:
    return f'check("1.1", {"(" * depth}patchify{")" * depth})'


@pytest.mark.parametrize(
    "written",
    [
        deep(20_000),
        'check("1.1", ' * 20_000,
        f'check("1.1", {"-" * 20_000}1)',
        '# check("1.1", f\n' * 20_000,
        'check("1.1", """' + '\\"""\n' * 20_000,
    ],
    ids=["brackets", "checks", "signs", "comments", "quotes"],
)
def test_what_python_cannot_read_takes_no_time_and_counts_unless_it_is_written_right(tmp_path, written):
    path = tmp_path / "ada.ipynb"
    begin = time.process_time()
    for sources in ((SETUP, PATCHIFY, written), (SETUP, PATCHIFY, written, CHECKS["1.1"])):
        nbformat.write(notebook(*sources), path)
        checks = [cell for cell in read_cells(path) if cell.exercise]
        assert [cell.exercise for cell in checks] == ["1.1"]
        assert (checks[0].number, checks[0].source.endswith(CHECKS["1.1"])) == (
            len(sources),
            len(sources) > 3,
        )
    assert time.process_time() - begin < 10


@pytest.mark.slow
def test_what_python_cannot_read_has_its_reason_as_verdict(tmp_path):
    """What it can read, however deep, is judged; nothing else suffers."""
    cells = [SETUP, PATCHIFY, CORNER, deep(4000), CHECKS["1.3"]]
    path = tmp_path / "ada.ipynb"
    nbformat.write(notebook(*cells), path)
    rows = report(path, time_limit=120)
    assert [(row.exercise, row.verdict) for row in rows] == [("1.1", "not run"), ("1.3", "correct")]
    assert rows[0].diagnosis.startswith("SyntaxError: too many nested parentheses")
    for call, verdict, why in ((deep(50), "correct", ""), (CHECKS["1.1"][:-1], "not run", "SyntaxError")):
        nbformat.write(notebook(*cells[:3], call), path)
        (row,) = report(path, time_limit=120)
        assert (row.exercise, row.verdict) == ("1.1", verdict)
        assert row.diagnosis.startswith(why)


def test_what_else_is_in_the_cell_of_a_check_is_run_before_it(tmp_path):
    """A learner may merge cells: the answer would be lost, and both checks of one cell are judged."""
    merged = f"{PATCHIFY}\n{CHECKS['1.1']}"
    both = f"{CHECKS['1.1']}\n{CHECKS['1.3']}"
    for last, exercises, kept in ((merged, ["1.1"], 2), (both, ["1.1", "1.3"], 1)):
        nbformat.write(notebook(SETUP, last), tmp_path / "ada.ipynb")
        cells = read_cells(tmp_path / "ada.ipynb")
        assert [cell.exercise for cell in cells if cell.exercise] == exercises
        assert [cell.source for cell in cells if not cell.exercise] == [SETUP, merged][:kept]


def test_a_solution_without_its_tag_is_no_answer(tmp_path):
    solution = f'{PATCHIFY}\ncheck("1.1", patchify, yours=False)'
    nbformat.write(notebook(SETUP, solution, CHECKS["1.3"]), tmp_path / "ada.ipynb")
    assert [cell.exercise for cell in read_cells(tmp_path / "ada.ipynb")] == ["", "", "1.3"]


@pytest.mark.parametrize(
    "text", ["", "no notebook", "[]", "[" * 100_000, '{"cells": []}', '{"nbformat": 4, "cells": [1]}', "\0"]
)
def test_what_is_no_notebook_is_refused(tmp_path, text):
    (tmp_path / "ada.ipynb").write_text(text)
    with pytest.raises(ValueError, match=r"ada\.ipynb is no notebook: "):
        read_cells(tmp_path / "ada.ipynb")


def test_learners_are_those_who_handed_in_a_notebook(tmp_path):
    """Not what a Mac, an editor or JupyterLab keeps beside them."""
    folder = tmp_path / ".class"  # where the class lies is no reason
    real = ["ada.b/01.ipynb", "bob.ipynb", "cy/deeper/01.ipynb", "dee/02.IPYNB", "x.ipynb/01.ipynb"]
    junk = ["__MACOSX/ada.b/01.ipynb", "cy/__MACOSX/01.ipynb", "._bob.ipynb", ".trash/bob.ipynb"]
    junk += ["cy/.ipynb_checkpoints/01-checkpoint.ipynb", "ada.b/notes.txt"]
    for name in real + junk:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (folder / "empty.ipynb").mkdir()
    assert [path.relative_to(folder).as_posix() for path in notebooks(folder)] == sorted(real)


def test_an_archive_is_no_learner_less(tmp_path, capsys):
    """A site for courses packs what is handed in, and learners do: they are in the table, with what to do."""
    folder = tmp_path / "class"
    for name in ("ada/01.ZIP", "bob.tar.gz", "__MACOSX/ada/01.zip", "cy/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"PK\3\4")
    rows = report_folder(folder, 10, tmp_path / "part")
    assert [(row.learner, row.verdict) for row in rows] == [("ada", "not run"), ("bob.tar", "not run")]
    assert rows[0].diagnosis == "01.ZIP is an archive: unpack it"
    for name, words in (("ada/01.ZIP", "is an archive: unpack it"), ("cy/notes.txt", "is a file: name the")):
        with pytest.raises(SystemExit):
            main(["report", str(folder / name), "--out", str(tmp_path / "report.csv")])
        assert words in capsys.readouterr().err


def test_the_report_names_them_by_folder_or_file(tmp_path):
    for name in ("ada.b/01.ipynb", "bob.c.ipynb", "__MACOSX/ada.b/01.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\ufeff{}", encoding="utf-8")
    out = tmp_path / "report.csv"
    command = [sys.executable, "-m", "vitlab.checks", "report", tmp_path, "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    rows = [line.split(",")[:2] for line in out.read_text().splitlines()]
    assert rows == [["learner", "notebook"], ["ada.b", "01"], ["bob.c", "bob.c"]]
