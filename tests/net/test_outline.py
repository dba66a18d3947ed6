from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.graph import Graph, build_graph
from moka.layers import REGISTRY
from moka.net.outline import ImageSize, image_size, missing_data, outline, silence
from moka.schema import caffe_pb2, parse_text, write_binary

NET = """
layer { name: "data" type: "%s" top: "data" top: "label" %s }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 bias_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
  inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def graph(text: str) -> Graph:
    return build_graph(parse_text(text, caffe_pb2.NetParameter), REGISTRY)


def layer(text: str) -> caffe_pb2.LayerParameter:
    return parse_text(text, caffe_pb2.LayerParameter)


def test_shapes_without_memory() -> None:
    text = """
    layer { name: "d" type: "DummyData" top: "data"
      dummy_data_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
      convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "bilinear" } } }
    layer { name: "k" type: "Parameter" top: "k" parameter_param { shape { dim: 5 } } }
    """
    net = outline(graph(text))
    assert {name: blob.shape for name, blob in net.blobs.items()}["c"] == [1, 2, 7, 7]
    assert {p.device.type for p in net.parameters()} == {"meta"}
    assert [tuple(p.shape) for p in net.parameters()] == [(2, 3, 3, 3), (2,), (5,)]
    assert torch.empty(1).device.type == "cpu"  # nothing is left behind


def test_faults_are_those_of_building() -> None:
    with pytest.raises(NetError, match=r'layer "c" \(Convolution\)'):
        outline(
            graph(
                'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: 1 } } }'
                'layer { name: "c" type: "Convolution" bottom: "data" top: "c"'
                " convolution_param { num_output: 2 kernel_size: 3 } }"
            )
        )


@pytest.mark.parametrize(
    ("kind", "options", "size"),
    [
        (
            "Data",
            'data_param { source: "gone" batch_size: 4 }'
            " transform_param { crop_size: 6 mean_value: 1 mean_value: 2 mean_value: 3 }",
            ImageSize(4, 3, 6, 6),
        ),
        ("Data", 'data_param { source: "gone" batch_size: 4 }', ImageSize(4)),
        (
            "ImageData",
            'image_data_param { source: "gone" batch_size: 2 new_height: 5 new_width: 7 }',
            ImageSize(2, 3, 5, 7),
        ),
        (
            "ImageData",
            'image_data_param { source: "gone" batch_size: 2 new_height: 5 new_width: 7'
            " is_color: false } transform_param { crop_size: 4 }",
            ImageSize(2, 1, 4, 4),
        ),
        (
            "WindowData",
            'window_data_param { source: "gone" batch_size: 2 } transform_param { crop_size: 9 }',
            ImageSize(2, 3, 9, 9),
        ),
    ],
)
def test_data_that_is_not_there(kind: str, options: str, size: ImageSize) -> None:
    net = graph(NET % (kind, options))
    (missing,) = missing_data(net)
    assert missing.size == size
    assert "gone" in missing.reason
    assert f'layer "data" ({kind})' in missing.reason
    known = size.shape is not None
    assert (missing.shapes(size) is not None) == known
    if known:
        built = outline(net, missing.shapes(size))
        assert tuple(built.blobs["data"].shape) == size.shape
        assert tuple(built.blobs["label"].shape) == (size.batch,)


def test_data_that_is_there(tmp_path: Path) -> None:
    """Its images tell their size; seeds of random changes are drawn, and need real numbers."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((6, 8, 3), np.uint8))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.png 1\n")
    net = graph(
        NET
        % (
            "ImageData",
            f'image_data_param {{ source: "{tmp_path}/list.txt" batch_size: 2 shuffle: true'
            " rand_skip: 1 } transform_param { mirror: true }",
        )
    )
    assert missing_data(net) == []
    built = outline(net)
    assert tuple(built.blobs["data"].shape) == (2, 3, 6, 8)
    assert {p.device.type for p in built.parameters()} == {"meta"}


def test_sizes_that_forks_write() -> None:
    resized = layer(
        'name: "d" type: "Data" data_param { batch_size: 2 } transform_param { force_color: true'
        " resize_param { resize_mode: WARP height: 300 width: 200 } }"
    )
    assert image_size(resized, "data_param") == ImageSize(2, 3, 300, 200)
    cropped = layer(
        'name: "d" type: "Data" data_param { batch_size: 2 } transform_param { crop_h: 3 crop_w: 5'
        " force_gray: true }"
    )
    assert image_size(cropped, "data_param") == ImageSize(2, 1, 3, 5)


def test_a_mean_image_tells_the_size(tmp_path: Path) -> None:
    file = f"{tmp_path}/mean.binaryproto"
    mean = caffe_pb2.BlobProto(num=1, channels=3, height=9, width=7, data=[0.0] * 189)
    write_binary(file, mean)
    text = (
        'name: "d" type: "Data" data_param { batch_size: 2 }'
        f' transform_param {{ mean_file: "{file}" %s }}'
    )
    assert image_size(layer(text % ""), "data_param") == ImageSize(2, 3, 9, 7)
    assert image_size(layer(text % "crop_size: 4"), "data_param") == ImageSize(2, 3, 4, 4)


def test_options_at_fault_are_not_missing_data() -> None:
    net = graph(NET % ("Data", "data_param { batch_size: 4 }"))  # no source
    assert missing_data(net) == []
    with pytest.raises(NetError, match="no source"):
        outline(net)


def test_silence(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("moka")
    with silence() as warnings:
        log.warning("a %s", "warning")
        log.info("nothing")
    assert warnings == ["a warning"]
    assert caplog.records == []
    log.warning("heard again")
    assert [record.getMessage() for record in caplog.records] == ["heard again"]


def test_silence_in_silence() -> None:
    log = logging.getLogger("moka")
    with silence() as outer:
        with silence() as inner:
            log.warning("in it")
        log.warning("around it")
    assert (outer, inner) == (["around it"], ["in it"])
