from __future__ import annotations

import numpy as np

from moka.opencv import readNetFromCaffe
from moka.opencv.defaults import with_opencv_defaults
from moka.schema import caffe_pb2, parse_text

PRIORS = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 64 dim: 64 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
        pooling_param { kernel_size: 32 stride: 32 } }
layer { name: "priors" type: "PriorBox" bottom: "pool" bottom: "data" top: "priors"
        prior_box_param { min_size: 35.84 %s } }
"""


def width_of_first_box(more: str) -> float:
    net = readNetFromCaffe((PRIORS % more).encode())
    net.setInput(np.zeros((1, 3, 64, 64), np.float32))
    boxes = np.ravel(net.forward("priors"))
    return float(64 * (boxes[2] - boxes[0]))


def test_sizes_of_prior_boxes_keep_their_fractions() -> None:
    np.testing.assert_allclose(width_of_first_box("clip: false"), 35.84, rtol=1e-6)
    np.testing.assert_allclose(width_of_first_box("clip: false fractional_sizes: false"), 35)


def test_offsets_come_in_pairs() -> None:
    fields = "clip: false aspect_ratio: 4 flip: false"
    net = readNetFromCaffe(
        (PRIORS % f"{fields} offset_w: 0.5 offset_w: 0.25 offset_h: 0.5 offset_h: 1").encode()
    )
    net.setInput(np.zeros((1, 3, 64, 64), np.float32))
    values = np.ravel(net.forward("priors"))[:64]  # then the variances
    boxes = values.reshape(2, 2, 2, 2, 4)  # row, column, size, center, corners
    middles = 64 * (boxes[..., :2] + boxes[..., 2:]) / 2
    np.testing.assert_allclose(middles[0, 1, 0], [(48, 16), (40, 32)], rtol=1e-5)
    widths = 64 * (boxes[..., 2] - boxes[..., 0])
    np.testing.assert_allclose(widths[1, 0], [[35.84] * 2, [71.68] * 2], rtol=1e-5)


def test_prior_boxes_are_clipped() -> None:
    given = parse_text(PRIORS % "", caffe_pb2.NetParameter)
    assert with_opencv_defaults(given).layer[2].prior_box_param.clip
    given.layer[2].prior_box_param.clip = False
    assert not with_opencv_defaults(given).layer[2].prior_box_param.clip
    assert not with_opencv_defaults(given).layer[1].HasField("prior_box_param")
