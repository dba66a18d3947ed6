from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.export.onnx.conftest import Export, one_layer

SHAPES = ["2 3 4 5", "1 1 1 3"]


def pooled_and_put_back(
    window: str, options: str, shape: str, kind: str = "Upsample", message: str = "upsample_param"
) -> str:
    text = one_layer(
        f'type: "Pooling" pooling_param {{ pool: MAX {window} }}',
        shape,
        tops='top: "y" top: "mask"',
    )
    features = 'layer { name: "f" type: "Power" bottom: "y" top: "f" power_param { scale: -2 } }'
    return f"""{text}
    {features}
    layer {{ name: "up" type: "{kind}" bottom: "f" bottom: "mask" top: "up"
      {message} {{ {options} }} }}"""


@pytest.mark.parametrize(
    ("window", "upsample", "shape"),
    [
        ("kernel_size: 2 stride: 2", "scale: 2", "2 3 8 6"),
        ("kernel_size: 2 stride: 2", "scale: 2 pad_out_h: true", "2 3 7 6"),
        ("kernel_size: 3 stride: 2", "upsample_h: 9 upsample_w: 8", "1 2 9 8"),
        ("kernel_size: 3 stride: 1 pad: 1", "upsample_h: 5 upsample_w: 6", "2 2 5 6"),
        ("kernel_size: 2 stride: 3 pad: 1", "upsample_h: 7 upsample_w: 8", "2 1 7 8"),
    ],
)
def test_upsample_with_the_mask_of_a_pooling(
    export: Export, window: str, upsample: str, shape: str
) -> None:
    assert export(pooled_and_put_back(window, upsample, shape)).free_batch


def test_upsample_drops_values_whose_index_is_below_0(export: Export) -> None:
    text = one_layer('type: "Upsample" upsample_param { scale: 2 }', "1 2 2 2", "1 2 2 2")
    mask = np.array([[[[0, -1], [15, 3]], [[-1, -1], [4, 2]]]], np.float32)
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 2, 2, 2)
    export(text, check_inputs={"x0": x, "x1": mask})


@pytest.mark.parametrize(
    "options",
    ["scale: 2", "scale: 3", "scale: 2.5", "stride: 2", "stride_h: 3 stride_w: 1 scale: 0.5"],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_upsample_by_repeating(export: Export, options: str, shape: str) -> None:
    assert export(one_layer(f'type: "Upsample" upsample_param {{ {options} }}', shape)).free_batch


def test_whole_factors_are_one_node(export: Export, tmp_path: Path) -> None:
    layer = 'type: "Upsample" upsample_param { stride_h: 2 stride_w: 3 }'
    export(one_layer(layer, "2 3 4 5"))
    assert [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node] == ["Resize"]


@pytest.mark.parametrize("method", ["FIXED", "DIV", "REP"])
@pytest.mark.parametrize(
    "window",
    [
        "out_kernel_size: 3 out_stride: 2",
        "out_kernel_size: 2 out_stride: 2",
        "out_kernel_h: 4 out_kernel_w: 2 out_stride: 2 out_pad: 1",
        "out_kernel_size: 3 out_stride: 1 out_pad_h: 1 out_pad_w: 2",
    ],
)
def test_unpooling(export: Export, method: str, window: str) -> None:
    options = f"unpool: {method} {window}"
    text = one_layer(f'type: "UnPooling" unpooling_param {{ {options} }}', "2 3 4 5")
    assert export(text).free_batch


@pytest.mark.parametrize("method", ["FIXED", "DIV", "REP"])
@pytest.mark.parametrize("reference", ["2 1 9 11", "2 1 8 10"])
def test_unpooling_to_the_size_of_another_blob(export: Export, method: str, reference: str) -> None:
    text = one_layer(
        f'type: "UnPooling" unpooling_param {{ unpool: {method} }}', "2 3 4 5", reference
    )
    export(text)


@pytest.mark.parametrize("method", ["MAX", "AVE", "TILE"])
@pytest.mark.parametrize(
    "window",
    [
        "kernel_size: 2 stride: 2 unpool_h: 8 unpool_w: 10",
        "kernel_size: 3 stride: 2 unpool_size: 7",
    ],
)
def test_deconvnet_unpooling(export: Export, method: str, window: str) -> None:
    text = f'type: "Unpooling" unpooling_param {{ unpool: {method} {window} }}'
    assert export(one_layer(text, "2 3 4 5")).free_batch


def test_deconvnet_unpooling_with_the_mask_of_a_pooling(export: Export) -> None:
    window = "kernel_size: 2 stride: 2"
    options = f"{window} unpool_h: 8 unpool_w: 6"
    text = pooled_and_put_back(window, options, "2 3 8 6", "Unpooling", "unpooling_param")
    assert export(text).free_batch
