"""The runner of studies: nothing measured is lost, nothing is measured twice, and the file says all of it."""

import argparse
import csv
import re
import statistics
import subprocess
import threading

import pytest
import torch

from vitlab import files, studies
from vitlab.runtime import here
from vitlab.studies import Study, grid, read_rows, run_study

CPU = here("cpu", "fp32")


class Measurement:
    """A stand-in for a training: remembers what it was asked, and does what it is told at some settings."""

    def __init__(self, **at):
        self.asked, self.at = [], at

    def __call__(self, settings, run):
        self.asked.append((settings["width"], settings["seed"]))
        if error := self.at.get(f"w{settings['width']}s{settings['seed']}"):
            raise error
        return dict(accuracy=settings["width"] / 8 + settings["seed"], drawn=float(torch.rand(())))


def widths(measure, **more) -> Study:
    return Study("widths", "How wide?", grid(seed=range(2), width=[2, 4], rate=[1e-3], **more), measure)


def make(measure, path, **options):
    return run_study(widths(measure), path, CPU, progress=False, **options)


ALL = [(2, 0), (4, 0), (2, 1), (4, 1)]


def test_a_study_makes_one_row_for_each_run(tmp_path):
    measure, path = Measurement(), tmp_path / "new" / "widths.csv"
    rows = make(measure, path, command="python -m lab study widths")
    assert measure.asked == ALL
    assert [(row["width"], row["seed"], row["accuracy"]) for row in rows] == [
        (2, 0, 0.25), (4, 0, 0.5), (2, 1, 1.25), (4, 1, 1.5)
    ]  # fmt: skip
    assert rows[2]["command"] == "python -m lab study widths --only seed=1 width=2"
    assert {row["status"] for row in rows} == {"done"}
    assert rows[2]["machine"].startswith("CPU, ")
    assert "fp32, seed 1" in rows[2]["machine"]
    with open(path, newline="") as file:
        header, *lines = csv.reader(file)
    assert header == "seed width rate accuracy drawn seconds status message command commit machine".split()  # noqa: SIM905
    assert {len(line) for line in lines} == {len(header)}
    assert list(path.parent.iterdir()) == [path]  # no temporary file stays


def test_torch_is_seeded_by_the_settings(tmp_path):
    rows = make(Measurement(), tmp_path / "w.csv")
    for row in rows:
        torch.manual_seed(row["seed"])
        assert row["drawn"] == float(torch.rand(()))


def test_a_stopped_study_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "w.csv"
    stopped = Measurement(w2s1=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make(stopped, path)
    before = read_rows(path)
    assert [(row["width"], row["seed"]) for row in before] == ALL[:2]
    goes_on = Measurement()
    rows = make(goes_on, path)
    assert goes_on.asked == ALL[2:]
    assert rows[:2] == before
    assert [row["status"] for row in rows] == ["done"] * 4


def test_a_failed_run_is_recorded_and_can_be_made_again_alone(tmp_path):
    path = tmp_path / "w.csv"
    rows = make(Measurement(w4s0=RuntimeError("the disk is full\nand more")), path)
    assert [row["status"] for row in rows] == ["done", "failed", "done", "done"]
    assert rows[1]["message"] == "RuntimeError: the disk is full"
    assert rows[1]["accuracy"] is None
    quiet, again = Measurement(), Measurement()
    assert make(quiet, path) == rows
    assert quiet.asked == []
    repaired = make(again, path, rerun_failed=True)
    assert again.asked == [(4, 0)]
    assert repaired[1]["status"] == "done"
    assert repaired[1]["accuracy"] == 0.5
    assert [repaired[i] for i in (0, 2, 3)] == [rows[i] for i in (0, 2, 3)]


def test_a_study_whose_first_run_fails_keeps_its_columns(tmp_path):
    rows = make(Measurement(w2s0=ValueError("no")), tmp_path / "w.csv")
    assert [row["accuracy"] for row in rows] == [None, 0.5, 1.25, 1.5]


def test_only_some_runs(tmp_path):
    path, part, one = tmp_path / "w.csv", Measurement(), Measurement()
    make(part, path, only=dict(width=4))
    assert part.asked == [(4, 0), (4, 1)]
    rows = make(one, path, only=dict(seed=[1], width=[2, 4]))
    assert one.asked == [(2, 1)]
    assert [(row["width"], row["seed"]) for row in rows] == [(4, 0), (2, 1), (4, 1)]  # in the study's order


def test_two_processes_share_a_file(tmp_path):
    """A row that another process wrote during a run is still there after it."""
    path = tmp_path / "w.csv"

    def measure(settings, run):
        if settings["seed"] == 0:
            make(Measurement(), path, only=dict(seed=1, width=settings["width"]))
        return dict(accuracy=0.0, drawn=0.0)

    rows = make(measure, path, only=dict(seed=0))
    assert [(row["width"], row["seed"]) for row in rows] == ALL


def test_a_kill_while_writing_leaves_the_rows_before(tmp_path, monkeypatch):
    path = tmp_path / "w.csv"
    make(Measurement(), path, only=dict(seed=0))
    before = path.read_bytes()

    def killed(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(OSError, match="no space"):
        make(Measurement(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_rows_of_another_study_are_not_mixed_in(tmp_path):
    path = tmp_path / "w.csv"
    make(Measurement(), path)
    other = Study("widths", "How wide?", grid(seed=[0], width=[8], rate=[1e-3]), Measurement())
    with pytest.raises(
        ValueError, match="has runs that study widths does not have .*seed=0 width=2 .*folder"
    ):
        run_study(other, path, CPU, progress=False)
    with pytest.raises(ValueError, match="does not have"):
        run_study(widths(Measurement(), depth=[3]), path, CPU, progress=False)


@pytest.mark.parametrize(
    ("only", "message"),
    [(dict(widht=2), "has the settings seed, width, rate; got 'widht'"),
     (dict(width=3), "width is one of 2, 4; got 3"),
     (dict(width=[2, 5]), "got 5")],
)  # fmt: skip
def test_runs_that_are_not_there_are_refused(only, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(Measurement(), tmp_path / "w.csv", only=only)


@pytest.mark.parametrize(
    ("runs", "message"),
    [([], "no runs"),
     ([dict(seed=0), dict(seed=0)], "same settings"),
     ([dict(width=2)], "with a seed"),
     ([dict(seed=0), dict(seed=1, width=2)], "all runs of a study have the same settings"),
     ([dict(seed=0, sizes=(1, 2))], "a number or a word; got sizes="),
     ([dict(seed=0, name="1e3")], "a number or a word; got name='1e3'"),
     ([dict(seed=0, rate=float("nan"))], "got rate=nan"),
     ([dict(seed=0, seconds=3)], "a column 'seconds' already")],
)  # fmt: skip
def test_runs_that_do_not_fit_together_are_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        Study("s", "?", runs, Measurement())


def test_values_come_back_as_they_were_written(tmp_path):
    values = dict(a=3, b=0.1 + 0.2, c=2e-05, d=True, e=None, f='a "word", with a comma', g=-1)
    study = Study("s", "?", [dict(seed=0) | values], lambda settings, run: dict(h=float("inf"), i=1 / 3))
    (row,) = run_study(study, tmp_path / "s.csv", CPU, progress=False)
    assert row == row | values | dict(h=float("inf"), i=1 / 3)
    assert isinstance(row["a"], int)
    assert row["d"] is True


def test_a_commit_of_digits_stays_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr("vitlab.studies.running.code_version", lambda: "12345678e901")
    assert make(Measurement(), tmp_path / "w.csv")[0]["commit"] == "12345678e901"


def test_the_code_version_is_the_commit_that_git_names(monkeypatch, tmp_path):
    git = ["git", "-C", str(files.PACKAGE), "rev-parse", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a git checkout")
    assert found.stdout.startswith(studies.code_version().removesuffix("+"))
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "vitlab")  # installed: a commit there is someone else's
    assert studies.code_version().startswith("vitlab 0.")


def test_shipped_results_are_read_by_name(tmp_path, monkeypatch):
    path = tmp_path / "results" / "widths.csv"
    rows = make(Measurement(), path)
    monkeypatch.setattr(files, "find", {"results/widths.csv": path}.__getitem__)
    assert studies.read_results("widths") == rows


def test_summary_against_the_statistics_module(tmp_path):
    rows = make(Measurement(w4s1=ValueError("no")), tmp_path / "w.csv")
    summary = studies.summarise(rows, "accuracy", ["width"])
    assert summary[(2,)] == (0.75, pytest.approx(statistics.stdev([0.25, 1.25])), 2)
    mean, deviation, n = summary[(4,)]
    assert (mean, n) == (0.5, 1)
    assert deviation != deviation  # one run has no spread


# --- the command line --------------------------------------------------------------------------------------


def call(measure, *arguments):
    parser = argparse.ArgumentParser()
    studies.add_arguments(parser, ["widths"])
    study = {"widths": lambda: widths(measure)}
    studies.from_command_line(parser.parse_args([*map(str, arguments)]), study, "lab study")


def test_the_command_line_runs_lists_and_resumes(tmp_path, capsys):
    measure = Measurement(w4s1=ValueError("no"))
    folder = ["--folder", tmp_path, "--precision", "fp32"]
    call(measure, *folder, "widths", "--only", "width=4")
    assert measure.asked == [(4, 0), (4, 1)]
    assert "1 of 4 runs done, 1 failed" in capsys.readouterr().out
    call(measure, "--list", *folder)
    assert "widths (How wide?): 1 of 4 runs done, 1 failed" in capsys.readouterr().out
    again = Measurement()
    call(again, *folder, "--only", "width=4", "--rerun-failed")
    assert again.asked == [(4, 1)]
    row = read_rows(tmp_path / "widths.csv")[1]
    assert row["command"] == "lab study widths --only seed=1 width=4"
    call(again, *row["command"].split()[2:], "--folder", tmp_path / "elsewhere", "--precision", "fp32")
    (anew,) = read_rows(tmp_path / "elsewhere" / "widths.csv")  # a row's own command makes this row alone
    assert {name: anew[name] for name in anew if name != "seconds"} == {
        name: row[name] for name in row if name != "seconds"
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["wdiths"], "the studies are widths; got 'wdiths'"),
     (["--only", "width"], "SETTING=VALUE"),
     (["--only", "width=9"], "width is one of 2, 4; got 9")],
)  # fmt: skip
def test_the_command_line_refuses_what_is_not_there(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        call(Measurement(), "--folder", tmp_path, "--precision", "fp32", *arguments)


def test_processes_that_write_at_once_lose_no_row(tmp_path):
    """Threads stand for them: a lock of the file's holds among both."""
    path, seeds = tmp_path / "w.csv", range(12)
    study = Study("many", "How many?", grid(seed=seeds), lambda settings, run: dict(accuracy=0.5))
    threads = [
        threading.Thread(target=run_study, args=(study, path, CPU, dict(seed=list(seeds[i::4]))))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row["seed"] for row in read_rows(path)] == list(seeds)


def test_a_row_that_was_cut_off_is_named(tmp_path):
    path = tmp_path / "w.csv"
    make(Measurement(), path)
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, last[: last.index("done")]]))
    with pytest.raises(ValueError, match="row 4 of .* was cut off"):
        make(Measurement(), path)


def test_results_seed_by_seed_are_those_of_the_rows():
    rows = [
        dict(seed=s, width=w, pool=p, accuracy=100 * s + 10 * w + len(p), status="done")
        for s in (3, 1)
        for w in (4, 2)
        for p in ("mean", "token")
    ]
    rows.append(dict(seed=5, width=4, pool="mean", accuracy=None, status="failed"))
    values, found = studies.by_seed(rows, "width", "accuracy", pool="token")
    assert (values, found) == ([4, 2], [[345, 325], [145, 125]])
    assert studies.by_seed(rows, "width", "accuracy", pool="none") == ([], [])
    with pytest.raises(ValueError, match="no row that is done with seed 1 and width=2"):
        studies.by_seed(rows[:6], "width", "accuracy", pool="token")


def test_a_table_has_mean_and_deviation_of_every_column():
    values = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 100
    lines = studies.table({"a long name": values, "b": values[:1]}, [5, 10, "all"], "labels").split("\n")
    assert lines[0].split() == ["labels", "5", "10", "all"]
    mean, deviation = values.mean(0).tolist(), values.std(0).tolist()
    wanted = [f"{m:.1f} ± {d:.1f}" for m, d in zip(mean, deviation, strict=True)]
    assert re.split("  +", lines[1]) == ["a long name", *wanted]
    assert re.split("  +", lines[2].strip()) == ["b", *(f"{value:.1f}" for value in values[0].tolist())]
    assert len({len(line) for line in lines}) == 1  # the columns end under each other
    assert "± 2" in studies.table({"x": [[1.0], [4.0]]}, ["y"], digits=0)
    with pytest.raises(ValueError, match="2 columns take as many numbers; 'x' has 3"):
        studies.table({"x": [[1, 2, 3]]}, [5, 10])
