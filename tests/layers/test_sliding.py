from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.errors import NetError
from moka.layers.window import Window

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.types import Shape

IMAGE, VIDEO = (1, 2, 9, 9), (1, 2, 9, 9, 9)


@pytest.mark.parametrize(
    ("fields", "shape", "windows"),
    [
        ("kernel_size: 3 filter_stride: 2", IMAGE, [Window(3, 1, 0, 2)] * 2),
        ("kernel_size: 3 hole: 2 pad: 2", IMAGE, [Window(3, 1, 2, 2)] * 2),
        ("kernel_size: 3 hole: 1 dilation: 2", IMAGE, None),
        (
            "kernel_size: 3 hole_h: 2 hole_w: 3",
            IMAGE,
            [Window(3, 1, 0, 2), Window(3, 1, 0, 3)],
        ),
        (
            "kernel_size: 3 filter_stride_h: 2 filter_stride_w: 1",
            IMAGE,
            [Window(3, 1, 0, 2), Window(3, 1, 0, 1)],
        ),
        (
            "kernel_size: 3 dilation_h: 2 dilation_w: 1",
            IMAGE,
            [Window(3, 1, 0, 2), Window(3, 1, 0, 1)],
        ),
        (
            "kernel_shape { dim: 3 dim: 2 } stride_shape { dim: 2 dim: 1 }"
            " pad_shape { dim: 0 dim: 1 }",
            IMAGE,
            [Window(3, 2, 0), Window(2, 1, 1)],
        ),
        (
            "kernel_shape { dim: 3 dim: 2 dim: 1 } pad: 1",
            VIDEO,
            [Window(3, 1, 1), Window(2, 1, 1), Window(1, 1, 1)],
        ),
        ("kernel_shape { dim: 3 }", VIDEO, [Window(3)] * 3),
        (
            "kernel_size: 3 kernel_depth: 2 stride: 2 pad: 1",
            VIDEO,
            [Window(2), Window(3, 2, 1), Window(3, 2, 1)],
        ),
        (
            "kernel_size: 3 stride: 2 pad_t: 1 pad_b: 2 pad_r: 3",
            IMAGE,
            [Window(3, 2, 1, 1, 2), Window(3, 2, 0, 1, 3)],
        ),
        ("kernel_size: 3 pad: 0 pad_l: 2 pad_r: 2", IMAGE, [Window(3), Window(3, 1, 2)]),
        (
            "kernel_size: 3 kernel_depth: 5 temporal_stride: 3 temporal_pad: 2",
            VIDEO,
            [Window(5, 3, 2), Window(3), Window(3)],
        ),
    ],
)
def test_spellings(
    make_layer: LayerMaker, fields: str, shape: Shape, windows: list[Window] | None
) -> None:
    text = f'type: "Convolution" convolution_param {{ num_output: 1 {fields} }}'
    if windows is None:
        with pytest.raises(NetError, match="give either dilation or hole, not both"):
            make_layer(text, shape)
        return
    assert make_layer(text, shape).windows == windows


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("kernel_size: 3 kernel_shape { dim: 3 }", IMAGE, "either kernel_size or kernel_shape"),
        ("kernel_size: 3 pad: 1 pad_shape { dim: 1 }", IMAGE, "either pad or pad_shape, not both"),
        ("kernel_shape { dim: 3 dim: 2 dim: 1 }", IMAGE, "2 spatial axes, got 3 values"),
        ("kernel_shape { dim: 0 }", IMAGE, "kernel_shape must list numbers >= 1, got"),
        ("kernel_size: 3 pad_shape { dim: -1 }", IMAGE, "pad_shape must list numbers >= 0"),
        ("kernel_size: 3 kernel_depth: 3", IMAGE, "is for three spatial axes, here are 2"),
        ("kernel_size: 3 temporal_pad: 1", VIDEO, "temporal_pad goes with kernel_depth"),
        ("kernel_size: 3 kernel_depth: 0 temporal_stride: 2", VIDEO, "temporal_stride goes with"),
        ("kernel_depth: 3", VIDEO, "kernel_size is missing"),
        ("kernel_size: 3 hole: 0", IMAGE, "hole must be > 0, got 0"),
        ("kernel_size: 3 pad: 1 pad_b: 1", IMAGE, "give either pad or pad_t, pad_b, pad_l and"),
        ("kernel_size: 3 pad_l: 1", VIDEO, "for two spatial axes, here are 3"),
        ("kernel_size: 3 pad_type: 1", VIDEO, "pad_type: 1 is not supported.*Give pad"),
        (
            "kernel_size: 3 stride: 2 pad_type: 1",
            (1, 2, 8, 9),
            "write pad_t: 0 pad_b: 1 pad_l: 1 pad_r: 1 in place of",
        ),
        (
            "kernel_h: 1 kernel_w: 4 pad_type: 1",
            IMAGE,
            "For images of 9 x 9, write pad_t: 0 pad_b: 0 pad_l: 1 pad_r: 2 in place of pad_type",
        ),
        ("kernel_size: 8 pad_t: 1 pad_r: 9", (1, 2, 3, 4), r"larger than .* image \(3 \+ 1 \+ 0"),
    ],
)
def test_refused(make_layer: LayerMaker, fields: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Convolution" convolution_param {{ num_output: 1 {fields} }}', shape)
