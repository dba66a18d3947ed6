from __future__ import annotations

from typing import Any

import pytest
from tests.opencv.cases import TWO

from moka.opencv import Net, OpenCVError, readNetFromCaffe


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda n: n.forwardAsync(), "needs OpenVINO, as in OpenCV. Call forward."),
        (lambda n: n.addLayer("a", "ReLU", 5, {}), "add the layer there"),
        (lambda n: n.addLayerToPrev("a", "ReLU", 5, {}), "add the layer there"),
        (lambda n: n.connect("same.0", "size.0"), "add the layer there"),
        (lambda n: n.registerOutput("x", 1, 0), "forward takes any layer's name"),
        (lambda n: n.quantize([], 5, 5), "float32 alone"),
        (lambda n: n.getInputDetails(), "not quantized"),
        (lambda n: n.getOutputDetails(), "not quantized"),
        (lambda n: n.dumpToPbtxt("x.pbtxt"), "caffe export"),
    ],
)
def test_what_is_not_there_says_so(call: Any, sentence: str) -> None:
    with pytest.raises(OpenCVError, match=sentence):
        call(readNetFromCaffe(TWO.encode()))


def test_accepted() -> None:
    Net().setHalideScheduler("any.yml")
