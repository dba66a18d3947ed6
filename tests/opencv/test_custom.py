from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.opencv.programs import CropLayer, Weighted

import moka
import moka.opencv
from moka.inference.engines import engine_is
from moka.opencv import OpenCVError, dnn_registerLayer, dnn_unregisterLayer, readNetFromCaffe
from moka.opencv.custom import REGISTERED, params_of
from moka.schema import caffe_pb2, parse_text

OWN = """
input: "data" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 3
layer { name: "own" type: "NobodysOwn" bottom: "data" top: "y" top: "z" }
layer { name: "after" type: "Power" bottom: "z" top: "after" power_param { shift: 1 } }
"""
FC = """
input: "data" input_shape { dim: 2 dim: 3 }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""


@pytest.fixture(autouse=True)
def _nothing_stays_registered() -> Iterator[None]:
    yield
    for name in list(REGISTERED):
        dnn_unregisterLayer(name)


class Twice:
    """Twice its input, and its negative."""

    def __init__(self, params: Any, blobs: Any) -> None:
        self.given = params, blobs

    def getMemoryShapes(self, inputs: Any) -> Any:
        return [inputs[0], list(inputs[0])]

    def forward(self, inputs: Any) -> Any:
        return [inputs[0] * 2, -inputs[0].astype(np.float64)]


def run(net: Any, *shape: int) -> Any:
    net.setInput(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    return net.forward()


def test_a_type_that_nobody_has() -> None:
    dnn_registerLayer("NobodysOwn", Twice)
    net = readNetFromCaffe(OWN.encode())
    x = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)
    assert np.array_equal(run(net, 1, 2, 3, 3), 1 - x)
    assert np.array_equal(net.forward("own"), 2 * x)
    assert net.getLayer("own").type == "NobodysOwn"
    assert "NobodysOwn" in net.getLayerTypes()
    assert run(net, 5, 2, 3, 3).shape == (5, 2, 3, 3)
    assert net.getFLOPS((1, 2, 3, 3)) >= 0


def test_without_the_class_the_type_is_unknown() -> None:
    dnn_registerLayer("NobodysOwn", Twice)
    dnn_unregisterLayer("NobodysOwn")
    dnn_unregisterLayer("NobodysOwn")  # as often as a program likes
    with pytest.raises(OpenCVError, match="NobodysOwn"):
        readNetFromCaffe(OWN.encode())


def test_a_class_takes_the_learned_arrays(tmp_path: Path) -> None:
    """Also if it is registered after the net has been read, but not after its first pass."""
    (tmp_path / "fc.prototxt").write_text(FC)
    loaded = moka.load(tmp_path / "fc.prototxt")
    moka.save_weights(loaded, tmp_path / "fc.caffemodel")
    files = str(tmp_path / "fc.prototxt"), str(tmp_path / "fc.caffemodel")
    weight = loaded.layers[1].blobs[0].detach().numpy()
    native, late = readNetFromCaffe(*files), readNetFromCaffe(*files)
    before = run(native, 2, 3)
    late.setParam("fc", 1, np.ones(4, np.float32))
    dnn_registerLayer("InnerProduct", Weighted)
    early = readNetFromCaffe(*files)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(run(early, 2, 3), x @ weight.T, rtol=1e-5)
    np.testing.assert_allclose(run(late, 2, 3), x @ weight.T - 1, rtol=1e-5)  # minus its bias
    assert np.array_equal(early.getParam("fc", 0), weight)
    assert np.array_equal(run(native, 2, 3), before)


def test_programs_run_a_class_that_is_registered_late() -> None:
    late = readNetFromCaffe(FC.encode())
    late.setParam("fc", 0, np.ones((4, 3), np.float32))
    late.setParam("fc", 1, np.ones(4, np.float32))
    dnn_registerLayer("InnerProduct", Weighted)
    with engine_is("torch"):
        for _ in range(3):
            assert np.array_equal(run(late, 2, 3), [[2] * 4, [11] * 4])  # minus its bias


def test_the_last_class_counts() -> None:
    dnn_registerLayer("NobodysOwn", CropLayer)
    dnn_registerLayer("NobodysOwn", Twice)
    assert run(readNetFromCaffe(OWN.encode()), 1, 2, 3, 3).shape == (1, 2, 3, 3)


def test_params() -> None:
    text = """
    name: "x" type: "T" phase: TEST
    convolution_param { num_output: 3 kernel_size: 3 kernel_size: 2 bias_term: false stride: 2
      weight_filler { type: "xavier" std: 0.5 } }
    pooling_param { pool: AVE }
    """
    assert params_of(parse_text(text, caffe_pb2.LayerParameter)) == {
        "num_output": 3,
        "kernel_size": (3, 2),
        "bias_term": 0,
        "stride": 2,
        "type": "xavier",
        "std": 0.5,
        "pool": "AVE",
    }


class Wrong(Twice):
    def forward(self, inputs: Any) -> Any:
        return [inputs[0], inputs[0][:, :1]]


class Raises(Twice):
    def getMemoryShapes(self, inputs: Any) -> Any:
        raise ValueError("ouch")


def test_classes_that_are_wrong() -> None:
    dnn_registerLayer("NobodysOwn", Wrong)
    with pytest.raises(OpenCVError, match=r"Wrong.forward returned arrays of the shapes .*says"):
        run(readNetFromCaffe(OWN.encode()), 1, 2, 3, 3)
    dnn_registerLayer("NobodysOwn", Raises)
    with pytest.raises(ValueError, match="ouch"):
        readNetFromCaffe(OWN.encode())
    nonsense: Any = 3
    with pytest.raises(OpenCVError, match="takes a type and a class"):
        dnn_registerLayer("NobodysOwn", nonsense)


def test_installed_programs_register_in_both() -> None:
    moka.opencv.install()
    opencv: Any = cv2
    try:
        opencv.dnn_registerLayer("NobodysOwn", Twice)
        assert REGISTERED["NobodysOwn"] is Twice
        opencv.dnn_unregisterLayer("NobodysOwn")
        assert "NobodysOwn" not in REGISTERED
    finally:
        moka.opencv.uninstall()


def test_errors_of_nets_stay_sentences() -> None:
    dnn_registerLayer("NobodysOwn", Twice)
    net = readNetFromCaffe(OWN.replace('top: "z"', "", 1).replace('"z"', '"y"').encode())
    with pytest.raises(OpenCVError, match=r'layer "own" .*makes 2 tops'):
        run(net, 1, 2, 3, 3)
