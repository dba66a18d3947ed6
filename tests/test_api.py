from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import moka
from moka.errors import SchemaError
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


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        moka.nothing  # noqa: B018


def test_importing_moka_takes_no_torch() -> None:
    code = "import moka, moka.cli.main, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_fields(tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(
        'mystery: 1 layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
    )
    with pytest.raises(SchemaError, match="mystery"):
        moka.load(net)
    assert len(moka.load(net, unknown_fields="warn").graph.nodes) == 1
