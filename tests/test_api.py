from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.fresh import run_program

import moka
from moka.errors import SchemaError
from moka.report.log_file import read_log
from moka.report.records import SolvingCompleted

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
"""
SOLVER = """
base_lr: 0.1 lr_policy: "fixed" max_iter: 3 snapshot_prefix: "s"
net_param {
  layer { name: "d" type: "DummyData" top: "x" top: "t"
          dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 } } }
  layer { name: "y" type: "InnerProduct" bottom: "x" top: "y"
          inner_product_param { num_output: 2 bias_filler { value: 1 } } }
  layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }
}
"""


def test_train_then_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("solver.prototxt").write_text(SOLVER)
    Path("net.prototxt").write_text(NET)
    records: list[object] = []
    solver = moka.train("solver.prototxt", listeners=[records.append])
    assert solver.iteration == 3
    assert isinstance(records[-1], SolvingCompleted)
    net = moka.load("net.prototxt", "s_iter_3.caffemodel")
    bias = net(x=torch.zeros(1, 3))["y"]
    assert torch.allclose(bias, torch.full((1, 2), 0.9**3))  # b -= 0.1 b, three times
    more = moka.train("solver.prototxt", resume="s_iter_3.solverstate")
    assert more.iteration == 3


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_run_that_is_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    on_terminal: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    Path("solver.prototxt").write_text(f"{SOLVER} display: 1")
    moka.train("solver.prototxt")
    assert capsys.readouterr().err == ""
    moka.train("solver.prototxt", progress=True)
    shown = capsys.readouterr().err
    if on_terminal:
        assert "done at iteration 3" in shown
        assert "Iteration 0" not in shown
    else:
        Path("log").write_text(shown)
        assert [display.iteration for display in read_log("log").displays] == [0, 1, 2, 3]
        assert "Creating layer" in shown
    logger = logging.getLogger("moka")
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)


def test_dir_lists_what_moka_offers() -> None:
    code = "import moka; print(*dir(moka))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    names = done.stdout.split()
    assert {n for n in names if not n.startswith("__")} == set(moka.__all__)
    assert all(hasattr(moka, name) for name in names)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_a_library_leaves_malloc_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `moka.keep_freed_memory()` and the commands set it, not a net, a run or an import."""
    monkeypatch.chdir(tmp_path)
    Path("solver.prototxt").write_text(SOLVER)
    Path("net.prototxt").write_text(NET)
    code = """
import ctypes, torch
import moka.heap
set_by = []
moka.heap.ctypes = type("", (), {"CDLL": lambda name: set_by.append(name)})
import caffe, moka
moka.train("solver.prototxt")
moka.load("net.prototxt")(x=torch.zeros(1, 3))
caffe.Net("net.prototxt", caffe.TEST).forward()
assert not set_by
moka.keep_freed_memory()
assert set_by
"""
    done = run_program(code)
    assert done.returncode == 0, done.stderr.decode()


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        moka.nothing  # noqa: B018


def test_importing_moka_takes_no_torch() -> None:
    code = "import moka, moka.cli.main, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["help", "time"]])
def test_help_takes_the_standard_library_alone(words: list[str]) -> None:
    code = f"""
import sys
from moka.cli.main import main
main({words})
heavy = sorted({{"torch", "numpy", "google.protobuf", "rich", "statistics"}} & sys.modules.keys())
print("heavy:", *heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_unknown_fields(tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(
        'mystery: 1 layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
    )
    with pytest.raises(SchemaError, match="mystery"):
        moka.load(net)
    assert len(moka.load(net, unknown_fields="warn").graph.nodes) == 1
