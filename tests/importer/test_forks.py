from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.importer.onnx_models import Node, imported, random, types

TWO = np.array(2, np.float32)
TINY = np.array(1e-10, np.float32)


def both(folder: Path, nodes: list[Node], constants: Any, **options: Any) -> str:
    """The layers with forks' allowed; without them the numbers are the same."""
    imported(folder, nodes, constants, **options)
    return types(imported(folder, nodes, constants, extra_layers=True, **options))


def shuffle(groups: list[int], order: list[int], back: list[int]) -> tuple[list[Node], Any]:
    nodes: list[Node] = [
        ("Reshape", "x a", "g", {}),
        ("Transpose", "g", "t", {"perm": order}),
        ("Reshape", "t b", "y", {}),
    ]
    return nodes, {"a": np.array(groups), "b": np.array(back)}


def test_mixed_channels(tmp_path: Path) -> None:
    nodes, constants = shuffle([0, 2, 3, 4, 5], [0, 2, 1, 3, 4], [0, 6, 4, 5])
    assert both(tmp_path, nodes, constants, shape=(2, 6, 4, 5)) == "ShuffleChannel"


@pytest.mark.parametrize(
    ("groups", "order", "back"),
    [
        ([2, 2, 3, 4, 5], [0, 1, 2, 4, 3], [2, 6, 5, 4]),
        ([2, 2, 3, 4, 5], [0, 2, 1, 3, 4], [2, 3, 8, 5]),
        ([2, 6, 2, 2, 5], [0, 2, 1, 3, 4], [2, 6, 4, 5]),  # rows, not channels
        ([2, 2, 3, 20], [0, 2, 1, 3], [2, 6, 4, 5]),
    ],
)
def test_what_is_no_mixing_of_channels(
    groups: list[int], order: list[int], back: list[int], tmp_path: Path
) -> None:
    nodes, constants = shuffle(groups, order, back)
    assert "ShuffleChannel" not in both(tmp_path, nodes, constants, shape=(2, 6, 4, 5))


def test_normalize_of_pytorch(tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("ReduceL2", "x", "n", {"axes": [1], "keepdims": 1}),
        ("Clip", "n e", "m", {}),
        ("Shape", "x", "s", {}),
        ("Expand", "m s", "b", {}),
        ("Div", "x b", "y", {}),
    ]
    assert both(tmp_path, nodes, {"e": TINY}) == "Normalize"


@pytest.mark.parametrize("square", ["Pow", "Mul"])
def test_normalize_as_ssd_in_pytorch_writes_it(square: str, tmp_path: Path) -> None:
    nodes: list[Node] = [
        (square, "x two" if square == "Pow" else "x x", "q", {}),
        ("ReduceSum", "q axes", "t", {"keepdims": 1}),
        ("Sqrt", "t", "n", {}),
        ("Add", "n e", "m", {}),
        ("Div", "x m", "y", {}),
    ]
    constants = {"e": TINY, "axes": np.array([-3])} | ({"two": TWO} if square == "Pow" else {})
    assert both(tmp_path, nodes, constants) == "Normalize"


@pytest.mark.parametrize("change", ["axes", "eps", "other", "cube"])
def test_what_is_no_normalization(change: str, tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("Abs", "x", "p", {}),
        ("Pow", "p two", "q", {}),
        ("ReduceSum", "q axes", "t", {"keepdims": 1}),
        ("Sqrt", "t", "n", {}),
        ("Add", "n e", "m", {}),
        ("Div", "x m" if change == "other" else "p m", "y", {}),
    ]
    constants = {
        "e": np.array(0.5 if change == "eps" else 1e-10, np.float32),
        "axes": np.array([2] if change == "axes" else [1]),
        "two": np.array(3 if change == "cube" else 2, np.float32),
    }
    assert "Normalize" not in both(tmp_path, nodes, constants)


@pytest.mark.parametrize("product", ["x g", "g x"])
@pytest.mark.parametrize("total", ["m r", "r m"])
def test_scaled_sums(product: str, total: str, tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("Relu", "x", "r", {}),
        ("GlobalAveragePool", "r", "p", {}),
        ("Sigmoid", "p", "g", {}),
        ("Mul", product, "m", {}),
        ("Add", total, "y", {}),
    ]
    assert both(tmp_path, nodes, {}).split()[-1] == "Axpy"


def test_other_sums_of_products(tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("Relu", "x", "r", {}), ("Mul", "x r", "m", {}), ("Add", "m r", "y", {}),
    ]  # fmt: skip
    assert "Axpy" not in both(tmp_path, nodes, {})


def test_depthwise_convolutions(tmp_path: Path) -> None:
    node = ("Conv", "x w", "y", {"group": 4})
    assert both(tmp_path, [node], {"w": random(4, 1, 3, 3)}) == "DepthwiseConvolution"
    node = ("Conv", "x w", "y", {"group": 2})
    assert both(tmp_path, [node], {"w": random(4, 2, 3, 3)}) == "Convolution"


def test_repeated_pixels(tmp_path: Path) -> None:
    constants = {"s": np.array([1, 1, 3, 3], np.float32)}
    node = ("Resize", "x - s", "y", {"mode": "nearest", "nearest_mode": "floor",
                                     "coordinate_transformation_mode": "asymmetric"})  # fmt: skip
    assert both(tmp_path, [node], constants) == "Upsample"
    constants["s"][2] = 2
    assert both(tmp_path, [node], constants) == "Deconvolution"
