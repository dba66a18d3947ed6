from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.opencv.cases import CHAIN, MANY, numbers
from tests.opencv.record import write_nets

from moka.opencv import Net, OpenCVError, readNetFromCaffe

X = numbers(1, 3, 9, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nets")
    write_nets(made)
    return made


@pytest.fixture
def net(folder: Path) -> Net:
    return readNetFromCaffe(folder / "chain.prototxt", folder / "chain.caffemodel")


def test_arrays_belong_to_the_caller(net: Net) -> None:
    x = X.copy()
    net.setInput(x)
    first: Any = net.forward()
    kept = first.copy()
    x[...] = 0
    first[...] = 7
    assert np.allclose(net.forward(), kept, atol=1e-6)
    net.getParam("fc")[...] = 0
    assert np.allclose(net.forward(), kept, atol=1e-6)
    many: Any = net.forward(["max", "drop"])
    assert all(array.flags.c_contiguous and array.flags.owndata for array in many)


def test_a_view_of_the_input_is_a_copy() -> None:
    net = readNetFromCaffe(
        b'input: "a" layer { name: "r" type: "Reshape" bottom: "a" top: "r"'
        b" reshape_param { shape { dim: -1 } } }"
    )
    net.setInput(X)
    out: Any = net.forward()
    assert out.shape == (243, 1)
    out[...] = 0
    again: Any = net.forward()
    assert np.array_equal(again.ravel(), X.ravel())


def test_layers_after_the_wanted_one_do_not_run(net: Net) -> None:
    net.setInput(numbers(1, 3, 20, 20))  # too large for fc
    assert net.forward("max").shape == (1, 4, 9, 9)  # type: ignore[union-attr]
    with pytest.raises(OpenCVError, match=r'layer "fc"'):
        net.forward()
    total, ticks = net.getPerfProfile()
    assert total == int(ticks.sum())
    assert ticks[:5].all()
    assert not ticks[5:].any()


@pytest.mark.parametrize(
    "declared", ["", "dim: 1 dim: 3 dim: 2 dim: 2", "dim: 5 dim: 3 dim: 4 dim: 30"]
)
def test_the_shapes_of_the_data_count_not_those_of_the_file(
    declared: str, folder: Path, net: Net
) -> None:
    text = CHAIN.replace(
        "shape { dim: 1 dim: 3 dim: 9 dim: 9 }", f"shape {{ {declared} }}" * bool(declared)
    )
    other = readNetFromCaffe(text.encode(), (folder / "chain.caffemodel").read_bytes())
    other.setInput(X)
    net.setInput(X)
    assert np.allclose(other.forward(), net.forward(), atol=1e-6)
    assert other.getFLOPS(X.shape) == net.getFLOPS([X.shape])


def test_weights_of_another_net_are_refused_when_it_runs(folder: Path) -> None:
    text = CHAIN.replace("num_output: 4", "num_output: 6").encode()
    net = readNetFromCaffe(text, (folder / "chain.caffemodel").read_bytes())
    net.setInput(X)
    with pytest.raises(OpenCVError, match="conv"):
        net.forward()


def test_names_of_the_file_find_layers_too(net: Net) -> None:
    assert net.getLayerNames()[0] == "x"  # OpenCV calls a Convolution after its top
    assert net.getLayerId("conv") == net.getLayerId("x") == 1
    net.setInput(X)
    assert np.allclose(net.forward("conv"), net.forward("x"), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda n: n.forward(), "no blob for the input data: call setInput first"),
        (lambda n: n.setInput(X, "date"), 'no input is named "date".*Did you mean "data"'),
        (lambda n: n.setInput(None), "blob is a NoneType, it must be a NumPy array"),
        (lambda n: n.setInput(X > 0), "dtype bool"),
        (lambda n: n.setInput(X[:0]), r"blob is empty: its shape is \(0, 3, 9, 9\)"),
        (lambda n: n.setInput(X, "", 1, (1, 2, 3, 4, 5)), "at most four numbers, got 5"),
        (lambda n: n.setInput(X, "", 1, "abc"), "mean is a number or up to four"),
        (lambda n: n.setInput(X[0, 0], "", 1, 3), r"got shape \(9, 9\)"),
        (lambda n: n.forward("prop"), 'no layer is named "prop".*Did you mean "prob"'),
        (lambda n: n.forward("scores"), r'named "scores"\. It is a blob; forward\("fc"\) gives it'),
        (lambda n: n.forward("_input"), "has no output of its own"),
        (lambda n: n.forward(3), "takes a name or a list of names, got 3"),
        (lambda n: n.forward(np.ones(3), "fc"), "takes a name or a list of names"),
        (lambda n: n.getLayer(77), "there is no layer 77: the last one is 9"),
        (lambda n: n.getLayer("prop"), 'Did you mean "prob"'),
        (lambda n: n.getParam("fc", 2), "has 2 learned arrays, none is 2"),
        (lambda n: n.getParam("fc", -1), "has 2 learned arrays, none is -1"),
        (lambda n: n.getParam(0), "has 0 learned arrays"),
        (lambda n: n.setParam("fc", 1, X), r"array 1 has shape \(5,\), got \(1, 3, 9, 9\)"),
        (lambda n: n.setParam("fc", 4, X), "there is no array 4"),
        (lambda n: n.setParam(0, 0, X), "inputs has no learned arrays"),
        (lambda n: n.getFLOPS([X.shape] * 2), "2 shapes for the 1 inputs data"),
        (lambda n: n.getFLOPS("ab"), "'ab' is no shape"),
        (lambda n: n.getFLOPS(), "got 0 arguments"),
        (lambda n: n.getMemoryConsumption((1, 4, 9, 9)), 'layer "conv"'),
        (lambda n: n.setInputShape("data", (1, 3, 9, 9)), "has a shape already: .*any shape"),
        (lambda n: n.setInputShape("date", (1, 3, 9, 9)), 'Did you mean "data"'),
        (lambda n: n.setInputsNames(["a", "b"]), "2 names for the 1 inputs data"),
    ],
)  # fmt: skip
def test_errors(net: Net, call: Any, sentence: str) -> None:
    with pytest.raises(cv2.error, match=sentence) as caught:
        call(net)
    assert caught.value.msg == str(caught.value)
    assert caught.value.code == -2


def test_a_blob_that_is_not_the_first_of_its_layer(folder: Path) -> None:
    net = readNetFromCaffe(folder / "many.prototxt", folder / "many.caffemodel")
    with pytest.raises(OpenCVError, match=r'It is a blob; forward\(None, "parts"\)\[1\] gives it'):
        net.forward("b")


def test_channels_that_do_not_fit(net: Net) -> None:
    net.setInput(np.ones((1, 4, 9, 9), np.float32))
    with pytest.raises(OpenCVError, match=r'layer "conv" \(Convolution\)'):
        net.forward()


def test_a_parameter_is_an_output_like_others() -> None:
    net = readNetFromCaffe(
        b'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 } } }'
        b'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: [1, 3] } } }'
    )
    net.setInput(np.zeros((1, 2), np.float32))
    net.setParam("p", 0, np.ones((1, 3), np.float32))
    assert np.array_equal(net.forward("p"), np.ones((1, 3)))


def test_a_net_that_reads_its_own_data() -> None:
    net = readNetFromCaffe(
        b'layer { name: "d" type: "Data" top: "data" data_param { source: "no" batch_size: 1 } }'
        b'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'
    )
    with pytest.raises(OpenCVError, match="the net has no input: it reads its own data"):
        net.setInput(X)
    with pytest.raises(OpenCVError, match='layer "d"'):
        net.forward()


@pytest.mark.parametrize("shape", [(9, 9), (3, 9, 9), (1, 1, 3, 9, 9), (1, 3, 1, 1), (4,)])
def test_shapes_that_a_layer_refuses(net: Net, shape: tuple[int, ...]) -> None:
    net.setInput(np.ones(shape, np.float32))
    with pytest.raises(OpenCVError, match=r'layer "conv" \(Convolution\)'):
        net.forward()


def test_settings_are_accepted(net: Net) -> None:
    net.setInput(X)
    before = net.forward()
    for backend in (cv2.dnn.DNN_BACKEND_DEFAULT, cv2.dnn.DNN_BACKEND_OPENCV, 99):
        net.setPreferableBackend(backend)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_OPENCL)
    net.enableFusion(False)
    net.enableWinograd(False)
    assert np.allclose(net.forward(), before, atol=1e-6)
    assert net.getLayer(1).preferableTarget == cv2.dnn.DNN_TARGET_OPENCL


def test_cuda_runs_on_the_cpu_where_there_is_none(
    net: Net, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    net.setInput(X)
    before = net.forward()
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
    assert "running on the CPU" in caplog.text
    assert np.allclose(net.forward(), before, atol=1e-6)


@pytest.mark.gpu
def test_cuda(net: Net) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    net.setInput(X)
    before = net.forward()
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
    assert net.runner.net.device.type == "cuda"
    np.testing.assert_allclose(net.forward(), before, atol=2e-2)  # TF32 keeps 10 bits
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    assert net.runner.net.device.type == "cpu"
    np.testing.assert_allclose(net.forward(), before, atol=1e-6)


def test_inputs_have_the_names_that_a_program_gives(net: Net) -> None:
    net.setInputsNames(["picture"])
    net.setInput(X, "picture")
    assert net.getLayer(0).outputNameToIndex("picture") == 0
    assert np.asarray(net.forward()).shape == (1, 5)
    assert net.getFLOPS((1, 3, 9, 9)) > 0
    with pytest.raises(OpenCVError, match='no input is named "data"; inputs are picture'):
        net.setInput(X, "data")


def test_a_shape_that_only_the_program_knows(folder: Path) -> None:
    text = CHAIN.replace("input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } }", "")
    net = readNetFromCaffe(text.encode(), folder / "chain.caffemodel")
    with pytest.raises(OpenCVError):
        net.getParam("fc")  # its size is not known yet
    net.setInputShape("data", (1, 3, 9, 9))
    assert net.getParam("fc").shape == (5, 64)
    with pytest.raises(OpenCVError, match="has a shape already"):
        net.setInputShape("data", (1, 3, 8, 8))


def test_an_empty_net() -> None:
    net = Net()
    assert net.empty()
    assert net.getLayerNames() == ()
    with pytest.raises(OpenCVError, match="the net is empty"):
        net.forward()
    assert readNetFromCaffe(b'input: "data" input_shape { dim: 1 }').empty()


def test_dump(folder: Path, tmp_path: Path) -> None:
    net = readNetFromCaffe(MANY.encode())
    net.dumpToFile(tmp_path / "net.dot")
    text = (tmp_path / "net.dot").read_text()
    assert text == net.dump()
    assert '"_input" -> "conv"' in text
    assert '"parts" -> "times"\n\t"parts" -> "times"' in text
    assert 'label="lrn\\nLRN"' in text
