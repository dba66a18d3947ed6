"""Windows for which ONNX's own rounding gives other sizes or divisors than Caffe's."""

from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

WINDOWS = [
    "kernel_size: 2 stride: 2",
    "kernel_size: 3 stride: 2",  # rounded up: the last window is cut
    "kernel_size: 3 stride: 2 pad: 1",
    "kernel_size: 2 stride: 2 pad: 1",  # the last window would start in the padding
    "kernel_size: 2 stride: 3 pad: 1",
    "kernel_size: 3 stride: 1 pad: 2",  # a window that holds padding only
    "kernel_size: 5 stride: 4 pad: 3",
    "kernel_size: 1 stride: 3",  # the last window may start outside
    "kernel_size: 2 stride: 5",
    "kernel_h: 3 kernel_w: 2 stride_h: 3 stride_w: 1 pad_h: 1 pad_w: 0",
    "kernel_size: 3 stride: 2 round_mode: FLOOR",
    "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
    "global_pooling: true",
    "kernel_size: 3 stride: 2 pad_t: 1 pad_r: 2",
    "kernel_size: 3 stride: 2 pad_b: 2",  # behind the image alone
    "kernel_size: 4 stride: 3 pad_t: 1 pad_b: 3 pad_l: 3 pad_r: 1",
]
SHAPES = ["2 3 7 8", "1 2 6 5", "2 1 9 10"]


def layer(pool: str, window: str) -> str:
    return f'type: "Pooling" pooling_param {{ pool: {pool} {window} }}'


@pytest.mark.parametrize("pool", ["MAX", "AVE", "AVE_EXC_PAD"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_windows(export: Export, pool: str, window: str, shape: str) -> None:
    assert export(one_layer(layer(pool, window), shape)).free_batch


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_mask(export: Export, window: str, shape: str) -> None:
    export(one_layer(layer("MAX", window), shape, tops='top: "y" top: "mask"'))


@pytest.mark.parametrize("window", WINDOWS)
def test_stochastic(export: Export, window: str) -> None:
    x = np.random.default_rng(0).random((2, 3, 7, 8), np.float32)
    x[0, 0] = 0
    export(one_layer(layer("STOCHASTIC", window), "2 3 7 8"), check_inputs={"x0": x})


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("shape", ["2 3 9", "1 2 5 6 7"])
def test_one_and_three_axes(export: Export, pool: str, shape: str) -> None:
    export(one_layer(layer(pool, "kernel_size: 3 stride: 2 pad: 1"), shape))


def test_no_spatial_axis(export: Export) -> None:
    export(one_layer(layer("MAX", "kernel_size: 1"), "2 3"))


def test_usual_windows_are_one_node(export: Export) -> None:
    for pool in ("MAX", "AVE"):
        for window in ("kernel_size: 3 stride: 2", "kernel_size: 3 pad: 1"):
            assert export(one_layer(layer(pool, window), "2 3 8 8")).nodes == 1


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_spp(export: Export, pool: str, height: int) -> None:
    spp = f'type: "SPP" spp_param {{ pyramid_height: {height} pool: {pool} }}'
    export(one_layer(spp, "2 3 9 10"))
