from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.fresh import run_program

import caffe
from moka.own_caffe import OwnCaffe, prefer_own_caffe


@pytest.fixture
def other_caffe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Caffe that was never built, with a module of layers."""
    monkeypatch.chdir(tmp_path)
    layers = tmp_path / "caffe" / "their_layers"
    layers.mkdir(parents=True)
    (tmp_path / "caffe" / "__init__.py").write_text("from ._caffe import Net\n")
    (layers / "__init__.py").write_text("")
    (layers / "double.py").write_text(
        "import caffe\n"
        "class Double(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)\n"
    )
    return tmp_path


def test_the_folder_of_another_caffe(monkeypatch: pytest.MonkeyPatch, other_caffe: Path) -> None:
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if f is not OwnCaffe])
    monkeypatch.syspath_prepend(other_caffe)
    monkeypatch.delitem(sys.modules, "caffe")
    assert (spec := find_spec("caffe"))
    assert spec.origin == str(other_caffe / "caffe" / "__init__.py")
    prefer_own_caffe()
    count = len(sys.meta_path)
    prefer_own_caffe()
    assert len(sys.meta_path) == count
    assert (spec := find_spec("caffe"))
    assert spec.origin == caffe.__file__
    assert find_spec("caffes") is None


def test_commands_run_the_layers_in_it(other_caffe: Path) -> None:
    Path("n.prototxt").write_text(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 } } }'
        ' layer { name: "p" type: "Python" bottom: "d" top: "p"'
        ' python_param { module: "caffe.their_layers.double" layer: "Double" } }'
    )
    run = run_program(
        f"import sys; sys.path.insert(0, {str(other_caffe)!r})\n"
        "from moka.cli.main import main; sys.exit(main(['check', 'n.prototxt']))"
    )
    assert b"n.prototxt: loads; 2 layers" in run.stdout, run.stdout + run.stderr
    assert run.returncode == 0
