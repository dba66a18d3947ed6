from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import moka
from moka.opencv import Net, OpenCVError, readNet, readNetFromCaffe

TEXT = b"""layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param
  { num_output: 3 weight_filler { type: "constant" value: 2 } bias_filler { value: 1 } } }"""
ONES = np.ones((2, 4), np.float32)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.prototxt").write_bytes(TEXT)
    moka.save_weights(moka.load("a.prototxt"), "a.caffemodel")


def runs(net: Net) -> None:
    net.setInput(ONES)
    out = net.forward()
    assert isinstance(out, np.ndarray)
    assert out.tolist() == [[9, 9, 9]] * 2


@pytest.mark.parametrize("kind", [str, Path, str.encode])
def test_paths(kind: Any) -> None:
    runs(readNetFromCaffe(kind("a.prototxt"), kind("a.caffemodel")))


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)]
)
def test_buffers(kind: Any) -> None:
    runs(readNetFromCaffe(kind(TEXT), kind(Path("a.caffemodel").read_bytes())))


def test_keywords() -> None:
    runs(readNetFromCaffe(prototxt="a.prototxt", caffeModel="a.caffemodel"))
    weights = Path("a.caffemodel").read_bytes()
    runs(readNetFromCaffe(bufferProto=TEXT, bufferModel=weights))


def test_readnet_takes_files_in_either_order() -> None:
    runs(readNet("a.prototxt", "a.caffemodel"))
    runs(readNet("a.caffemodel", "a.prototxt"))
    runs(readNet("caffe", np.fromfile("a.caffemodel", np.uint8), bytearray(TEXT)))
    Path("weights").write_bytes(Path("a.caffemodel").read_bytes())
    Path("net").write_bytes(TEXT)
    runs(readNet("weights", "net", "Caffe"))


def test_fields_that_nobody_knows_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    Path("a.prototxt").write_bytes(TEXT + b" engine_param { x: 1 }")
    runs(readNetFromCaffe("a.prototxt", "a.caffemodel"))
    assert "skipped" in caplog.text


def test_a_net_without_weights_runs_when_it_has_got_some() -> None:
    net = readNetFromCaffe("a.prototxt")
    net.setInput(ONES)
    assert net.getLayer("ip").blobs == ()
    with pytest.raises(cv2.error, match=r'layer "ip" \(InnerProduct\): the model has no weights'):
        net.forward()
    net.getLayer("ip").blobs = [np.full((3, 4), 2.0)]  # the bias that is left out is 0
    assert np.all(net.forward() == np.float32(8))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("b.prototxt",), "File not found: b.prototxt"),
        (("a.prototxt", "b.caffemodel"), "File not found: b.caffemodel"),
        ((b"layer { ",), r"\(buffer\):1:"),
        ((TEXT, b"no model"), r"^\(buffer\): "),
        ((), "takes a prototxt: its path or its content"),
        (("", "a.caffemodel"), r"takes a prototxt: .* A \.caffemodel has the weights alone"),
        ((np.zeros(3),), "array of uint8, got dtype float64"),
        ((7,), "by its path or its bytes, got int"),
        ((TEXT.replace(b'bottom: "data"', b'bottom: "dat"'),), 'Did you mean "data"'),
    ],
)
def test_errors(arguments: Any, sentence: str) -> None:
    with pytest.raises(OpenCVError, match=sentence):
        readNetFromCaffe(*arguments)


def test_readnet_refuses_other_files() -> None:
    with pytest.raises(OpenCVError, match=r"no \.prototxt and \.caffemodel"):
        readNet("net.onnx")
