"""What MATLAB's bridge passes: texts, and a row of class single as one of several types."""

from __future__ import annotations

import array
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe
from moka.inference.engines import set_engine
from moka.matlab.bridge import answer

NET = """
force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {
  num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
"""
Ask = Callable[..., Any]


@pytest.fixture
def ask() -> Iterator[Ask]:
    def call(command: str, *written: object, numbers: object = b"") -> Any:
        head, body = answer(json.dumps({"command": command, "arguments": written}), numbers)
        result = json.loads(head)
        if "error" in result:
            return result["error"]
        value = result["result"]
        if isinstance(value, dict) and "single" in value:
            return np.frombuffer(body, np.float32).reshape(value["single"], order="F")
        return value

    yield call
    call("reset")


def make(ask: Ask, folder: Path) -> Any:
    (folder / "n.prototxt").write_text(NET)
    return ask("get_net", str(folder / "n.prototxt"), "test")


def one(handles: Any, index: int) -> Any:
    return {"handles": [handles["handles"][index]], "init_key": handles["init_key"]}


AS_MATLAB_MAY_PASS: list[Callable[[Any], Any]] = [
    lambda x: x,
    lambda x: x.data,
    lambda x: array.array("f", x),
    lambda x: x.tobytes(),
    lambda x: x.reshape(1, -1).data,
]


@pytest.mark.parametrize("passed", AS_MATLAB_MAY_PASS)
def test_equal_to_pycaffe(ask: Ask, tmp_path: Path, passed: Callable[[Any], Any]) -> None:
    net = make(ask, tmp_path)
    parts = ask("net_get_attr", net)["struct"]
    assert parts["layer_names"] == {"texts": ["x", "c", "r"]}
    assert parts["input_blob_indices"] == {"column": [0]}
    assert parts["output_blob_indices"] == {"column": [1]}
    ask("net_save", net, str(tmp_path / "n.caffemodel"))
    weights = str(tmp_path / "n.caffemodel")
    twin = caffe.Net(str(tmp_path / "n.prototxt"), caffe.TEST, weights=weights)

    data = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    x, c = (one(parts["hBlob_blobs"], k) for k in (0, 1))
    assert ask("blob_get_shape", x) == {"row": [5, 4, 3, 2]}
    size = {"single": [5, 4, 3, 2]}
    assert ask("blob_set_data", x, size, numbers=passed(data.flatten())) is None
    ask("net_forward", net)
    twin.blobs["x"].data[...] = data
    twin.forward()
    np.testing.assert_array_equal(ask("blob_get_data", c).T, twin.blobs["c"].data)

    diff = np.random.default_rng(1).random((2, 2, 2, 3), np.float32)
    ask("blob_set_diff", c, {"single": [3, 2, 2, 2]}, numbers=passed(diff.flatten()))
    ask("net_backward", net)
    twin.blobs["c"].diff[...] = diff
    twin.backward()
    np.testing.assert_array_equal(ask("blob_get_diff", x).T, twin.blobs["x"].diff)
    layer = one(parts["hLayer_layers"], 1)
    weight = one(ask("layer_get_attr", layer)["struct"]["hBlob_blobs"], 0)
    assert ask("layer_get_type", layer) == "Convolution"
    np.testing.assert_array_equal(ask("blob_get_diff", weight).T, twin.params["c"][0].diff)


def test_one_number_comes_as_a_number(ask: Ask, tmp_path: Path) -> None:
    net = make(ask, tmp_path)
    x = one(ask("net_get_attr", net)["struct"]["hBlob_blobs"], 0)
    ask("blob_reshape", x, [])
    ask("blob_set_data", x, {"single": [1, 1]}, numbers=2.5)
    assert ask("blob_get_data", x).tolist() == [[2.5]]


def test_faults_are_answers(ask: Ask, tmp_path: Path) -> None:
    assert ask("nte_forward")["message"] == (
        'Unknown command "nte_forward". Did you mean "net_forward"?'
    )
    assert ask("get_net", str(tmp_path / "none"), "test")["identifier"] == "caffe:SchemaError"
    assert ask("get_net", "n")["message"] == "get_net takes text, text, got 1 arguments."
    (tmp_path / "bad.prototxt").write_text('layer { name: "a" type: "Pooling" bottom: "b" }')
    assert ask("get_net", str(tmp_path / "bad.prototxt"), "test")["identifier"] == "caffe:NetError"


@pytest.mark.parametrize("engine", ["layerwise", "onnxruntime", "torch"])
def test_every_engine_gives_pycaffe_s_numbers(ask: Ask, tmp_path: Path, engine: str) -> None:
    net = make(ask, tmp_path)
    parts = ask("net_get_attr", net)["struct"]
    weights = str(tmp_path / "n.caffemodel")
    ask("net_save", net, weights)
    twin = caffe.Net(str(tmp_path / "n.prototxt"), caffe.TEST, weights=weights)
    x, c = (one(parts["hBlob_blobs"], k) for k in (0, 1))
    weight = one(ask("layer_get_attr", one(parts["hLayer_layers"], 1))["struct"]["hBlob_blobs"], 0)
    set_engine(engine)
    try:
        for k in range(6):
            data = np.random.default_rng(k).random((2, 3, 4, 5), np.float32)
            ask("blob_set_data", x, {"single": [5, 4, 3, 2]}, numbers=data.flatten())
            twin.blobs["x"].data[...] = data
            if k == 3:
                changed = np.random.default_rng(9).random((2, 3, 3, 3), np.float32)
                size = {"single": [3, 3, 3, 2]}
                ask("blob_set_data", weight, size, numbers=changed.flatten())
                twin.params["c"][0].data[...] = changed
            ask("net_forward", net)
            twin.forward()
            np.testing.assert_allclose(
                ask("blob_get_data", c).T, twin.blobs["c"].data, rtol=1e-5, atol=1e-6
            )
            np.testing.assert_array_equal(ask("blob_get_data", x).T, data)
    finally:
        set_engine("auto")
