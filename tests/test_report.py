"""Marking a class: submissions right, wrong, untouched, broken, endless and deadly, side by side."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from vitlab.checks import report
from vitlab.checks.reports.report import main

STUB = "def patchify(images, patch_size):\n    raise NotImplementedError"
RIGHT = """import torch.nn.functional as F
def patchify(images, patch_size):
    return F.unfold(images.float(), patch_size, stride=patch_size).transpose(1, 2)"""
WRONG = RIGHT.replace("F.unfold(images.float(),", "F.unfold(images.transpose(2, 3).float(),")
CHECK = 'check("1.1", patchify)'


def notebook(*sources: str, solution: str = RIGHT):
    """The cells of exercise 1.1 as the lesson has them, with a learner's cells in place of the stub."""
    cells = [nbformat.v4.new_code_cell("from vitlab.checks import check")]
    cells += [nbformat.v4.new_code_cell(source, metadata={"tags": ["exercise"]}) for source in sources]
    cells.append(nbformat.v4.new_code_cell(CHECK, metadata={"tags": ["check"]}))
    cells.append(nbformat.v4.new_code_cell(f"{solution}\n{CHECK}", metadata={"tags": ["solution"]}))
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def submit(path, *sources: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(*sources), path)
    return path


@pytest.mark.slow
def test_a_class_is_marked_and_one_broken_submission_does_not_stop_the_rest(tmp_path):
    folder = tmp_path / "class"
    submit(folder / "ada" / "01.ipynb", RIGHT)
    submit(folder / "bob" / "01.ipynb", WRONG)
    submit(folder / "cy" / "01.ipynb", STUB)
    submit(
        folder / "dee" / "01.ipynb", "def patchify(images, patch_size): return 1 / 0", "import nothing_at_all"
    )
    submit(folder / "eve" / "01.ipynb", "while True: pass")
    submit(folder / "fay" / "01.ipynb", "import os\nos._exit(1)")
    submit(folder / "gus" / "01.ipynb", "del check\ncheck = print", RIGHT)
    (folder / "hal.ipynb").write_text("no notebook")
    (folder / "ida.ipynb").write_text(json.dumps(nbformat.v4.new_notebook()))
    out = tmp_path / "report.csv"
    command = [sys.executable, "-m", "vitlab.checks", "report", folder, "--out", out, "--time_limit", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2 of 9 verdicts are correct" in done.stdout
    with out.open(newline="") as file:
        rows = {row["learner"]: row for row in csv.DictReader(file)}
    verdicts = {learner: row["verdict"] for learner, row in rows.items()}
    assert verdicts == dict(
        ada="correct", bob="not yet", cy="not attempted", dee="not yet", eve="not run", fay="not run",
        gus="correct", hal="not run", ida="not run",
    )  # fmt: skip
    assert {row["exercise"] for learner, row in rows.items() if learner not in ("hal", "ida")} == {"1.1"}
    diagnoses = {
        "bob": "values differ",
        "dee": "ZeroDivisionError",
        "eve": "cell 2, `while True: pass`: interrupted after 10 seconds",
        "fay": "died",
    }
    for learner, words in diagnoses.items():
        assert words in rows[learner]["diagnosis"]
    assert "no notebook" in rows["hal"]["diagnosis"]
    assert "no exercise" in rows["ida"]["diagnosis"]


@pytest.mark.slow
def test_the_submission_is_not_changed(tmp_path):
    path = submit(tmp_path / "01.ipynb", RIGHT)
    before = path.read_bytes()
    (row,) = report(path)
    assert row == ("01", "01", "1.1", "correct", row.diagnosis)
    assert path.read_bytes() == before


def test_a_folder_without_notebooks_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "there is no notebook in" in capsys.readouterr().err


def test_misspelt_options_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "--time_limt", "3"])
    assert "--time_limt" in capsys.readouterr().err


@pytest.mark.slow
def test_an_endless_answer_is_a_verdict_and_the_next_exercise_is_judged(tmp_path):
    """The check's own limit ends it long before the notebook's."""
    corner = """def patch_corner(index, image_size, patch_size):
    row, column = divmod(index, image_size[1] // patch_size)
    return row * patch_size, column * patch_size"""
    nb = notebook("def patchify(images, patch_size):\n    while True: pass")
    nb.cells += [nbformat.v4.new_code_cell(corner), nbformat.v4.new_code_cell('check("1.3", patch_corner)')]
    nbformat.write(nb, tmp_path / "01.ipynb")
    endless, corner = report(tmp_path / "01.ipynb", time_limit=120)
    assert (endless.exercise, endless.verdict) == ("1.1", "not yet")
    assert "did not end within 10 seconds, in your line `while True: pass`" in endless.diagnosis
    assert (corner.exercise, corner.verdict) == ("1.3", "correct")


@pytest.mark.slow
def test_stopped_by_ctrl_c_it_goes_on_where_it_was(tmp_path):
    """No false row for the notebook that was under way, and the one before it is not run again."""
    ada = submit(tmp_path / "class" / "ada.ipynb", RIGHT)
    submit(tmp_path / "class" / "bob.ipynb", "import time\ntime.sleep(300)")
    out, part = tmp_path / "report.csv", tmp_path / "report.csv.part"
    command = [sys.executable, "-m", "vitlab.checks", "report", tmp_path / "class", "--out", out]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (part.is_file() and part.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(5)  # the second one's kernel has started by then, or is about to
    process.send_signal(signal.SIGINT)
    assert "goes on from there" in process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert not out.exists()
    assert len(part.read_text().splitlines()) == 1
    before = os.stat(ada)
    submit(ada, WRONG)
    os.utime(ada, ns=(before.st_atime_ns, before.st_mtime_ns))  # who ran it again would see the difference
    submit(tmp_path / "class" / "bob.ipynb", RIGHT)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2 of 2 verdicts are correct" in done.stdout
    assert not part.exists()
