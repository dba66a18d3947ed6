"""`tests/caffe/test_coord_map.py` has the maps of layers; here is what it cannot ask for."""

from __future__ import annotations

import numpy as np
import pytest

from moka.graph.coordinates import (
    IDENTITY,
    Map,
    UndefinedMapException,
    aligning_crop,
    map_from_to,
    map_of,
    window_of,
)
from moka.layers import REGISTRY
from moka.schema import caffe_pb2, parse_text

BELOW: dict[str, tuple[Map, list[str]]] = {
    "conv": ((1, 1, 4), ["data"]),
    "pool": ((1, 0.5, -0.25), ["conv"]),
    "up": ((1, 2, 0.5), ["pool"]),
}


def bottoms(blob: str) -> tuple[Map, list[str]]:
    if blob not in BELOW:
        raise UndefinedMapException(blob)
    return BELOW[blob]


def layer(text: str) -> caffe_pb2.LayerParameter:
    return parse_text(text, caffe_pb2.LayerParameter)


def test_a_map_between_blobs_over_a_third() -> None:
    assert map_from_to("data", "data", bottoms) == IDENTITY
    assert map_from_to("up", "data", bottoms) == (1, 1, -4)
    assert map_from_to("data", "up", bottoms) == (1, 1, 4)
    with pytest.raises(RuntimeError, match="are they connected"):
        map_from_to("up", "elsewhere", bottoms)


def test_the_crop_that_aligns() -> None:
    assert aligning_crop((1, 1, -4)) == (2, [4])
    assert aligning_crop((None, 1, np.array([0, -3]))) == (2, [0, 3])
    for wrong, told in (
        ((1, 2, 0), "scale"),
        ((1, 1, 1), "negative"),
        ((1, 1, -0.5), "noninteger"),
    ):
        with pytest.raises(AssertionError, match=told):
            aligning_crop(wrong)


def test_windows() -> None:
    text = """type: "Convolution"
      convolution_param { kernel_h: 3 kernel_w: 5 stride: 2 pad: 1 dilation: 2 }"""
    window = window_of(layer(text), REGISTRY["Convolution"])
    assert [window.axis, *map(list, window[1:])] == [1, [2], [5, 9], [1]]


def test_layers_without_a_map() -> None:
    assert map_of(layer('type: "ReLU"'), REGISTRY["ReLU"]) == IDENTITY
    for kind in ("InnerProduct", "Unknown"):
        with pytest.raises(UndefinedMapException, match=f"{kind} does not keep coordinates"):
            map_of(layer(f'type: "{kind}"'), REGISTRY.get(kind))
