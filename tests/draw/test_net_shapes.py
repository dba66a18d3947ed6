from __future__ import annotations

import logging

import pytest

from moka.draw.net_shapes import blob_shapes
from moka.schema import caffe_pb2, parse_text

NET = """
layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { global_pooling: true } }
layer { name: "s" type: "Eltwise" bottom: "c" bottom: "c" top: "s" }
"""


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def texts(text: str, phase: caffe_pb2.Phase | None = caffe_pb2.TEST) -> dict[str, str]:
    return {name: "x".join(shape) for name, shape in blob_shapes(net(text), phase).items()}


def test_shapes() -> None:
    found = texts(NET)
    assert {name: found[name] for name in "xcps"} == {
        "x": "2x3x8x8",
        "c": "2x4x6x6",
        "p": "2x4x1x1",
        "s": "2x4x6x6",
    }


def test_sizes_that_differ_between_phases() -> None:
    text = """
    layer { name: "d" type: "DummyData" top: "x" include { phase: TRAIN }
      dummy_data_param { shape { dim: 64 dim: 5 } } }
    layer { name: "d" type: "DummyData" top: "x" include { phase: TEST }
      dummy_data_param { shape { dim: 10 dim: 5 } } }
    layer { name: "only" type: "TanH" bottom: "x" top: "t" include { phase: TEST } }
    """
    assert texts(text, None) == {"x": "?x5", "t": "10x5"}
    assert texts(text, caffe_pb2.TRAIN) == {"x": "64x5"}


def test_what_is_unknown_is_left_out() -> None:
    """Data that is not there, the user's code, a layer with a fault; and what comes after them."""
    text = (
        NET
        + """
    layer { name: "d" type: "Data" top: "d" data_param { source: "gone" batch_size: 4 } }
    layer { name: "t" type: "TanH" bottom: "d" top: "t" }
    layer { name: "y" type: "Python" bottom: "x" top: "y"
      python_param { module: "no_such_module" layer: "L" } }
    layer { name: "f" type: "Convolution" bottom: "x" top: "f"
      convolution_param { num_output: 4 kernel_size: 99 } }
    """
    )
    assert {*texts(text)} & {*"dtyf"} == set()
    assert texts(text)["p"] == "2x4x1x1"


def test_what_is_changed_in_place_by_code_of_the_user_is_unknown() -> None:
    text = """
    layer { name: "y" type: "Python" bottom: "p" top: "p"
      python_param { module: "no_such_module" layer: "L" } }
    """
    assert {"p", "x"} & texts(NET + text).keys() == {"x"}


def test_crops_of_data_that_is_not_there() -> None:
    text = """
    layer { name: "d" type: "Data" top: "x" top: "label"
      transform_param { crop_size: 6 %s } data_param { source: "gone" batch_size: 4 } }
    layer { name: "t" type: "TanH" bottom: "x" top: "t" }
    """
    found = texts(text % "mean_value: 1 mean_value: 2 mean_value: 3")
    assert {name: found[name] for name in ("x", "label", "t")} == {
        "x": "4x3x6x6",
        "label": "4",
        "t": "4x3x6x6",
    }
    assert texts(text % "mean_value: 1") == {}


@pytest.mark.parametrize(
    "text",
    [
        'layer { name: "a" type: "Nope" top: "x" }',
        'layer { name: "a" type: "TanH" bottom: "x" top: "y" }',
    ],
)
def test_a_net_with_a_fault_has_no_shapes(text: str) -> None:
    assert texts(text) == {}


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        texts(NET, None)
        assert caplog.records == []
        logging.getLogger("moka").info("afterwards")
    assert [record.message for record in caplog.records] == ["afterwards"]
