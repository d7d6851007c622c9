"""`make colab-check` itself: what it takes for Colab's, and that it fails where it should."""

from types import SimpleNamespace

import colab_check
import pytest

COMPLETE = {"torch": "2.11.0", "torchvision": "0.26.0", "numpy": "2.1.3", "setuptools": "75.2.0"}


def fake_distributions(**requires):
    return lambda name: SimpleNamespace(requires=requires.get(name))


def test_borrowed_is_torch_and_what_it_needs_that_no_pin_fits(monkeypatch):
    requires = dict(
        torch=[
            "numpy>=2.0",  # a pin fits
            "setuptools>=77",  # a pin does not fit
            'toolkit[cublas]==13; python_version >= "3"',  # no pin, and what its extra brings
            'absent; python_version < "3"',
        ],
        toolkit=['cublas; extra == "cublas"', 'cufft; extra == "cufft"'],
        torchvision=["torch==2.14.1", "numpy"],
    )
    monkeypatch.setattr(colab_check.metadata, "distribution", fake_distributions(**requires))
    assert set(colab_check.borrowed(COMPLETE)) == {"torch", "torchvision", "setuptools", "toolkit", "cublas"}


@pytest.mark.parametrize(
    ("after", "complaint"),
    [
        ({"numpy": "2.4.6", "vitlab": "0.1.0"}, r"numpy 2\.1\.3 -> 2\.4\.6"),
        ({"vitlab": "0.1.0"}, r"numpy 2\.1\.3 -> None"),
        ({"numpy": "2.1.3", "vitlab": "0.1.0", "another": "1"}, "another"),
    ],
    ids=["changed", "gone", "a stranger"],
)
def test_a_changed_package_ends_the_check(monkeypatch, after, complaint):
    monkeypatch.setattr(colab_check, "packages", lambda: after)
    with pytest.raises(SystemExit, match=complaint):
        colab_check.compare({"numpy": "2.1.3"}, "installed", may_add={"vitlab"})


def test_what_was_there_may_stay_and_vitlab_be_new(monkeypatch, capsys):
    monkeypatch.setattr(colab_check, "packages", lambda: {"numpy": "2.1.3", "vitlab": "0.1.0"})
    colab_check.compare({"numpy": "2.1.3"}, "installed", may_add={"vitlab"})
    assert "1 packages before, 0 of them changed; new: vitlab 0.1.0" in capsys.readouterr().out


def test_another_version_than_colabs_is_said_and_refused_unless_it_is_borrowed(monkeypatch, capsys):
    monkeypatch.setattr(colab_check, "colab_pins", lambda: COMPLETE)
    monkeypatch.setattr(colab_check, "packages", lambda: COMPLETE | {"torch": "2.14.1"})
    colab_check.say_what_differs({"torch"})
    assert "torch 2.14.1 (Colab 2.11.0)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"pins\.txt"):
        colab_check.say_what_differs({"torchvision"})


def test_pins_are_plain_versions():
    pins = colab_check.colab_pins()
    assert pins["ipywidgets"] == "7.7.1"
    assert all(version[0].isdigit() for version in pins.values())
    assert "jedi" not in pins
