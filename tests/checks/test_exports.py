from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import moka
from moka.checks.finding import Export, Finding
from moka.errors import MokaError

DEPLOY = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
%s
"""
FOLDED = 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }'


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def checked(text: str, *, weights: bool = False, **options: Any) -> Finding:
    Path("net.prototxt").write_text(text)
    if weights:
        moka.save_weights(moka.load("net.prototxt"), "net.caffemodel")
    (found,) = moka.check("net.prototxt", **options)
    return found


def test_a_net_that_exports() -> None:
    assert checked(DEPLOY % FOLDED).export == Export()
    assert checked(DEPLOY % FOLDED, weights=True).export == Export()  # nothing is run unasked


def test_the_difference_from_onnx_runtime() -> None:
    found = checked(DEPLOY % FOLDED, weights=True, export=True).export
    assert found is not None
    assert found.obstacle is None
    assert found.difference is not None
    assert found.difference.output == "conv"
    assert found.difference.is_small


def test_weights_that_are_not_there_are_not_made_up() -> None:
    assert checked(DEPLOY % FOLDED, export=True).export == Export()


def test_a_net_without_memory_for_its_weights() -> None:
    text = """layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
      inner_product_param { num_output: 1000000000 } }"""
    assert checked(DEPLOY % text).export == Export()


@pytest.mark.parametrize("export", [False, True])
def test_the_first_layer_that_does_not_export(
    export: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    Path("own.py").write_text(
        "import moka\nclass Swap(moka.Layer):\n  def forward(self, x): return x\n"
    )
    text = """layer { name: "%s" type: "Python" bottom: "conv" top: "%s"
      python_param { module: "own" layer: "Swap" } }"""
    found = checked(DEPLOY % (text % ("one", "one") + text % ("two", "two")), export=export)
    assert found.loads
    assert found.export is not None
    assert found.export.obstacle is not None
    assert found.export.obstacle.startswith('net.prototxt: layer "one" (Python): cannot be')


def test_a_net_for_training_alone() -> None:
    found = checked((DEPLOY % "").replace('" type: "', '" include { phase: TRAIN } type: "'))
    assert found.phases == ("TRAIN",)
    assert found.export is not None
    assert "only a net of phase TEST can be exported" in str(found.export.obstacle)


def test_a_missing_package_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MokaError, match="needs the package onnx"):
        checked(DEPLOY % FOLDED, export=True)


def test_types_are_looked_up_without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moka.export.onnx.obstacle.is_installed", lambda package: False)
    assert checked(DEPLOY % FOLDED).export == Export()
