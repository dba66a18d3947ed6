from __future__ import annotations

from moka.opencv.names import name_after_layers
from moka.schema import caffe_pb2, parse_text

TEXT = """
layer { name: "in" type: "Input" top: "data" top: "more" }
layer { name: "data" type: "ReLU" bottom: "data" top: "data" }
layer { name: "s" type: "Slice" bottom: "data" top: "a" top: "b" }
layer { name: "s" type: "ReLU" bottom: "b" top: "b" }
layer { name: "c" type: "Convolution" bottom: "a" top: "y" }
layer { name: "e" type: "Eltwise" bottom: "b" bottom: "y" bottom: "more" top: "e" }
layer { name: "n" type: "Silence" bottom: "e" }
"""


def test_blobs_are_named_after_their_layers() -> None:
    net = parse_text(TEXT, caffe_pb2.NetParameter)
    kept = net.SerializeToString()
    renamed, layers = name_after_layers(net)
    assert net.SerializeToString() == kept
    assert [tuple(layer.top) for layer in renamed.layer] == [
        ("data", "more"), ("data_1",), ("s", "s.1"), ("s_1",), ("y",), ("e",), (),
    ]  # fmt: skip
    assert [tuple(layer.bottom) for layer in renamed.layer] == [
        (), ("data",), ("data_1",), ("s.1",), ("s",), ("s_1", "y", "more"), ("e",),
    ]  # fmt: skip
    assert [layer.name for layer in layers] == ["data", "s", "s_1", "y", "e", "n"]
    assert [layer.name_in_file for layer in layers] == ["data", "s", "s", "c", "e", "n"]
    assert [layer.bottoms for layer in layers] == [(-1,), (0,), (1,), (1,), (2, 3, -1), (4,)]
