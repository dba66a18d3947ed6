from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from moka.errors import UsageError
from moka.tools.plan import bytes_per_second, main

ROOT = Path(__file__).resolve().parents[2]
SOLVER = """
train_net_param {
  layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param {
    shape { dim: 8 dim: 3 dim: 6 dim: 6 } shape { dim: 8 } data_filler { value: 1 } } }
  layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
    convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
  layer { name: "norm" type: "BatchNorm" bottom: "c" top: "c" }
  layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
    inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" } }
base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 max_iter: 1000 snapshot_after_train: false
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(tmp_path, "solver.prototxt").write_text(SOLVER)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, float]:
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found | found["forecast"]


@pytest.mark.parametrize(("model", "least"), [("resnet50", 7.6), ("bvlc_reference_caffenet", 7.0)])
def test_reference_nets_on_eight_gpus(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    least: float,
) -> None:
    monkeypatch.chdir(ROOT)  # where the solver's net is
    found = planned(capsys, f"--solver=models/{model}/solver.prototxt", "--gpus=8")
    assert least <= found["speedup"] < 8
    assert found["processes"] == 8
    assert found["step_s"] > found["alone_s"]


def test_more_machines_and_slower_networks_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = f"--solver={tmp_path}/solver.prototxt"
    one, two, slow = (
        planned(capsys, solver, "--gpus=4", *more)
        for more in ([], ["--nodes=2"], ["--nodes=2", "--bandwidth=1Mb"])
    )
    assert one["all_reduce_s"] < two["all_reduce_s"] < slow["all_reduce_s"]
    assert (one["batch"], two["batch"]) == (32, 64)
    assert slow["hours"] == pytest.approx(1000 * slow["step_s"] / 3600)
    # 3 * 4 * 9 + 4 of the convolution, 4 + 4 + 1 of BatchNorm, 64 * 10 + 10: four copies.
    parameters = 4 * (112 + 9 + 650)
    assert one["device_bytes"] == pytest.approx(
        4 * parameters + 2 * 4 * 8 * (3 * 36 + 1 + 4 * 16 + 10) + 2 * 4, abs=64
    )


def test_a_measured_time_sets_the_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, f"--solver={tmp_path}/solver.prototxt", "--gpus=2", "--step_ms=50")
    assert found["alone_s"] == 0.05
    assert "--step_ms" in str(found["source"])


def test_workers_are_measured_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a net with layers in Python, though another Caffe is on PYTHONPATH."""
    monkeypatch.chdir(tmp_path)
    python = """
        layer { name: "as_is" type: "Python" bottom: "x" top: "as_is"
                python_param { module: "as_is" layer: "AsIs" } }
        layer { name: "conv" """
    Path("solver.prototxt").write_text(SOLVER.replace('layer { name: "conv" ', python))
    Path("as_is.py").write_text("""
import caffe
class AsIs(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data
""")
    Path("other", "caffe").mkdir(parents=True)
    Path("other", "caffe", "__init__.py").write_text("raise ImportError('the other one')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'other'}{os.pathsep}{tmp_path}")
    monkeypatch.syspath_prepend(tmp_path)
    found = planned(capsys, "--solver=solver.prototxt", "--workers=3")
    assert (found["processes"], found["batch"]) == (3, 24)
    assert found["step_s"] > 0
    assert found["all_reduce_s"] > 0


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--solver={tmp_path}/solver.prototxt", "--gpus=8", "--device=v100"]) == 0
    out = capsys.readouterr().out
    assert "all-reduce of the gradients" in out
    assert "times one process" in out
    assert "estimated from the peak figures of the V100" in out


@pytest.mark.parametrize(
    ("rate", "found"), [("400Gb", 50e9), ("25 GB/s", 25e9), ("10Gbps", 1.25e9), ("8b", 1)]
)
def test_rates(rate: str, found: float) -> None:
    assert bytes_per_second(rate) == found


@pytest.mark.parametrize("rate", ["", "fast", "400", "4.0.0Gb", "0Gb"])
def test_no_rates(rate: str) -> None:
    with pytest.raises(UsageError, match="is no rate"):
        bytes_per_second(rate)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--gpus=0", "--gpus must be >= 1"),
        ("--device=tpu", "--device is one of v100, a100, h100, h200"),
        ("--workers=-1", "--workers must be >= 0"),
    ],
)
def test_wrong_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, said: str
) -> None:
    assert main([f"--solver={tmp_path}/solver.prototxt", flag]) == 1
    assert said in capsys.readouterr().err
    assert main([]) == 1
    assert "Give --solver=FILE" in capsys.readouterr().err
