from __future__ import annotations

from moka.checks.fitting import Fitting
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.schema import caffe_pb2, parse_text
from moka.types import Shape

ANY, LABELS, IMAGES = (1, 32), (1, 2), (4, 4)
SOURCE = """
layer { name: "d" type: "HDF5Data" top: "x" top: "y"
  hdf5_data_param { source: "gone.txt" batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 6 } }
"""
FIRST = {"x": (2, 3, 8, 8), "y": (2,)}


def fitted(text: str, y: tuple[int, int] = ANY, x: tuple[int, int] = ANY) -> dict[str, Shape]:
    graph = build_graph(parse_text(SOURCE + text, caffe_pb2.NetParameter), REGISTRY)
    return Fitting(graph, {"x": x, "y": y}).shapes(FIRST)


def test_what_fits_stays() -> None:
    labels = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "l" }'
    assert fitted(labels) == FIRST


def test_labels_as_large_as_what_they_are_compared_with() -> None:
    loss = 'layer { name: "l" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "l" }'
    assert fitted(loss)["y"] == (2, 6)


def test_a_label_for_each_pixel() -> None:
    text = """
    layer { name: "c" type: "Convolution" bottom: "x" top: "c"
            convolution_param { num_output: 5 kernel_size: 3 } }
    layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "y" top: "l" }
    """
    assert fitted(text)["y"] == (2, 1, 6, 6)
    assert fitted(text, LABELS, IMAGES) == FIRST  # a database gives labels for images


def test_rows_that_are_sliced() -> None:
    text = """
    layer { name: "s" type: "Slice" bottom: "y" top: "y1" top: "y2" slice_param { slice_point: 4 } }
    layer { name: "ip2" type: "InnerProduct" bottom: "x" top: "ip2"
            inner_product_param { num_output: 4 } }
    layer { name: "l1" type: "EuclideanLoss" bottom: "ip2" bottom: "y1" top: "l1" }
    layer { name: "l2" type: "EuclideanLoss" bottom: "ip" bottom: "y2" top: "l2" }
    """
    assert fitted(text)["y"] == (2, 10)
    assert fitted(text, LABELS)["y"] == (2, 10)


def test_images_that_hold_labels() -> None:
    """As where labels come from a database of their own."""
    text = """
    layer { name: "s" type: "Slice" bottom: "y" top: "a" top: "b" slice_param { slice_point: 4 } }
    layer { name: "l" type: "EuclideanLoss" bottom: "ip" bottom: "b" top: "l" }
    """
    assert fitted(text, IMAGES)["y"] == (2, 10, 1, 1)


def test_sequences() -> None:
    text = """
    layer { name: "e" type: "Embed" bottom: "x" top: "e"
            embed_param { input_dim: 9 num_output: 4 bias_term: false } }
    layer { name: "r" type: "RNN" bottom: "e" bottom: "y" top: "r"
            recurrent_param { num_output: 3 } }
    """
    shapes = fitted(text)
    assert shapes["y"] == shapes["x"][:2]


def test_what_no_data_mends_stays() -> None:
    text = """
    layer { name: "ip2" type: "InnerProduct" bottom: "y" top: "ip2"
            inner_product_param { num_output: 7 } }
    layer { name: "l" type: "EuclideanLoss" bottom: "ip" bottom: "ip2" top: "l" }
    """
    assert fitted(text)["x"] == FIRST["x"]
