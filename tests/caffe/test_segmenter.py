from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe
from moka.errors import NetError

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
"""


@pytest.fixture(autouse=True)
def weights() -> None:
    """Of a net whose scores are the channels of its image."""
    Path("deploy.prototxt").write_text(NET)
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    net.params["score"][0].data[..., 0, 0] = np.eye(3)
    net.save("w.caffemodel")


def test_the_likeliest_class_of_each_pixel() -> None:
    image, other = np.random.default_rng(1).random((2, 4, 5, 3))
    net = caffe.Segmenter("deploy.prototxt", "w.caffemodel")
    found = net.predict([image, other])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, image.argmax(2))


def test_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("caffe.segmenter.set_mode_gpu", lambda: asked.append("mode"))
    monkeypatch.setattr("caffe.segmenter.set_device", asked.append)
    caffe.Segmenter("deploy.prototxt", "w.caffemodel", True)
    assert asked == ["mode", 0]


def test_images_of_another_size() -> None:
    net = caffe.Segmenter("deploy.prototxt", "w.caffemodel")
    with pytest.raises(
        NetError,
        match=r"deploy.prototxt: an image has 3 channels, height and width \(5, 4\); the net"
        r" takes 3 channels, \(4, 5\)\. Fill it up with zeros\.",
    ):
        net.predict([np.zeros((5, 4, 3))])
