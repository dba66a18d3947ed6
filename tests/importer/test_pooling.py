from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.importer.onnx_models import imported, types

from moka.errors import NetError
from moka.schema import caffe_pb2

CEIL, FLOOR = caffe_pb2.PoolingParameter.CEIL, caffe_pb2.PoolingParameter.FLOOR


@pytest.mark.parametrize(
    ("size", "attributes", "round_mode"),
    [
        ((8, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}, CEIL),  # both roundings agree
        ((8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, FLOOR),
        ((7, 8), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, CEIL),
        ((7, 9), {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0]}, CEIL),
        ((8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, CEIL),
        ((8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, CEIL),
        ((9, 9), {"kernel_shape": [5, 5], "strides": [1, 1], "pads": [2] * 4}, CEIL),
        ((6, 7), {"kernel_shape": [4, 4], "strides": [1, 1], "pads": [1, 0, 2, 3]}, CEIL),
    ],
)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_sizes(
    kind: str, size: tuple[int, int], attributes: dict[str, Any], round_mode: int, tmp_path: Path
) -> None:
    found = imported(tmp_path, [(kind, "x", "y", attributes)], shape=(2, 3, *size), opset=19)
    layer = found.net.layer[1]
    assert layer.type == "Pooling"
    assert layer.pooling_param.round_mode == round_mode
    assert layer.pooling_param.HasField("round_mode") == (round_mode == FLOOR)


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1]])
@pytest.mark.parametrize("stride", [1, 2])
def test_divisors(include: int, pads: list[int], stride: int, tmp_path: Path) -> None:
    attributes = {"kernel_shape": [3, 3], "pads": pads, "strides": [stride] * 2}
    node = ("AveragePool", "x", "y", {**attributes, "count_include_pad": include})
    found = imported(tmp_path, [node], shape=(2, 3, 7, 7))
    factors = [layer for layer in found.net.layer if layer.type == "Scale"]
    assert all(layer.param[0].lr_mult == 0 for layer in factors)
    if pads == [1, 1, 1, 1]:
        assert types(found) == ("Pooling" if include else "Pooling Scale")


def test_readers_that_only_round_up(tmp_path: Path) -> None:
    node = ("MaxPool", "x", "y", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4})
    found = imported(tmp_path, [node], shape=(2, 3, 8, 8), only_ceil=True)
    assert types(found) == "Pooling Slice Silence Slice Silence"
    assert not found.net.layer[1].pooling_param.HasField("round_mode")


@pytest.mark.parametrize(
    ("size", "attributes", "poolings"),
    [
        ((9,), {"kernel_shape": [3], "strides": [2]}, 1),
        ((9,), {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}, 1),
        ((4, 6, 5), {"kernel_shape": [1, 2, 2], "strides": [1, 2, 2]}, 1),
        ((4, 6, 5), {"kernel_shape": [2, 1, 1], "strides": [2, 1, 1]}, 1),
        ((4, 6, 5), {"kernel_shape": [3, 1, 1], "pads": [1, 0, 0, 1, 0, 0]}, 1),
        (
            (4, 6, 5),
            {"kernel_shape": [2, 3, 2], "strides": [1, 2, 1], "pads": [0, 1, 0, 1, 1, 0]},
            2,
        ),
    ],
)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("include", [0, 1])
def test_any_number_of_axes(
    kind: str, include: int, size: tuple[int, ...], attributes: dict[str, Any], poolings: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    more = {"count_include_pad": include} if kind == "AveragePool" else {}
    found = imported(tmp_path, [(kind, "x", "y", {**attributes, **more})], shape=(2, 3, *size))
    assert types(found).split().count("Pooling") == poolings


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 2, 5, 4)])
@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
def test_whole_images_of_other_axes(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    assert "Pooling" in types(imported(tmp_path, [(kind, "x", "y", {})], shape=shape))


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
def test_whole_images(kind: str, tmp_path: Path) -> None:
    found = imported(tmp_path, [(kind, "x", "y", {})])
    assert found.net.layer[1].pooling_param.global_pooling


@pytest.mark.parametrize(
    ("node", "shape", "says"),
    [
        (
            ("MaxPool", "x", "y", {"kernel_shape": [2, 2], "dilations": [2, 2]}),
            (1, 2, 6, 6),
            "(MaxPool, opset 17) has no form in Caffe: pooling with dilation has no form in Caffe.",
        ),
        (
            ("MaxPool", "x", "z y", {"kernel_shape": [2, 2]}),
            (1, 2, 6, 6),
            "(MaxPool, opset 17) has no form in Caffe: the positions of its maxima are read, which"
            " has no form in Caffe.",
        ),
        (
            ("GlobalLpPool", "x", "y", {}),
            (1, 2, 6, 6),
            "(GlobalLpPool, opset 17) has no form in Caffe: Caffe has no pooling by a norm.",
        ),
    ],
)
def test_refusals(node: Any, shape: tuple[int, ...], says: str, tmp_path: Path) -> None:
    nodes = (
        [node] if node[2] == "y" else [(*node[:2], "z p", *node[3:]), ("Cast", "p", "y", {"to": 1})]
    )
    with pytest.raises(NetError) as error:
        imported(tmp_path, nodes, shape=shape)
    assert str(error.value).endswith(says)
