"""`tests/caffe/test_coord_map.py` has the maps of layers; here is what it cannot ask for."""

from __future__ import annotations

import numpy as np
import pytest

from moka.graph.coordinates import (
    IDENTITY,
    Map,
    UnalignedError,
    UndefinedMapException,
    aligning_crop,
    crop_of,
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
    with pytest.raises(UnalignedError, match="no layers with windows connect them"):
        map_from_to("up", "elsewhere", bottoms)


def test_the_crop_that_aligns() -> None:
    assert aligning_crop((1, 1, -4)) == (2, [4])
    assert aligning_crop((None, 1, np.array([0, -3]))) == (2, [0, 3])
    for wrong, told in (
        ((1, 2, 0), "scale"),
        ((1, 1, 1), "negative"),
        ((1, 1, -0.5), "noninteger"),
    ):
        with pytest.raises(UnalignedError, match=told):
            aligning_crop(wrong)


def test_windows() -> None:
    text = """type: "Convolution"
      convolution_param { kernel_h: 3 kernel_w: 5 stride: 2 pad: 1 dilation: 2 }"""
    window = window_of(layer(text), REGISTRY["Convolution"])
    assert [window.axis, *map(list, window[1:])] == [1, [2], [5, 9], [1]]


def test_a_window_with_the_padding_of_sides() -> None:
    text = 'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 pad_l: 2 pad_b: 1 }'
    assert [*map(list, window_of(layer(text), REGISTRY["Pooling"])[1:])] == [[2], [3], [0, 2]]


def test_layers_without_a_map() -> None:
    assert map_of(layer('type: "ReLU"'), REGISTRY["ReLU"]) == IDENTITY
    for kind in ("InnerProduct", "Unknown"):
        with pytest.raises(UndefinedMapException, match=f"{kind} does not keep coordinates"):
            map_of(layer(f'type: "{kind}"'), REGISTRY.get(kind))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (
            "Convolution",
            "convolution_param { kernel_size: 3 kernel_size: 3 stride: 1 pad: 1 pad: 1 pad: 1 }",
        ),
        ("Convolution", "convolution_param { kernel_size: 3 stride: 0 stride: 0 }"),
        ("Pooling", "pooling_param { global_pooling: true }"),
    ],
)
def test_windows_that_cannot_be(kind: str, options: str) -> None:
    with pytest.raises(UndefinedMapException):
        window_of(layer(f'type: "{kind}" {options}'), REGISTRY[kind])


def test_a_window_without_fields_of_axes() -> None:
    """As that of caffe-windows' Local."""
    text = 'type: "Local" local_param { kernel_size: 3 stride: 2 pad: 1 }'
    window = window_of(layer(text), REGISTRY["Local"])
    assert [list(each) for each in window[1:]] == [[2], [3], [1]]


def test_a_crop_in_the_middle_has_no_map() -> None:
    with pytest.raises(UndefinedMapException, match="Crop with center_align begins where sizes"):
        crop_of(layer('type: "Crop" crop_param { center_align: true }'))
