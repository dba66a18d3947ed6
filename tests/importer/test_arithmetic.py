from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.importer.onnx_models import imported, random, types

from moka.errors import NetError

GATE: list[Any] = [("GlobalAveragePool", "x", "g", {})]  # (N, C, 1, 1)
ROW: list[Any] = [("ReduceMean", "x", "g", {"axes": [1]})]  # (N, 1, H, W)
SCALAR: list[Any] = [("ReduceMean", "x", "g", {"axes": [1, 2, 3]})]  # (N, 1, 1, 1)


@pytest.mark.parametrize(
    ("op", "layers"),
    [("Add", "Eltwise"), ("Sub", "Eltwise"), ("Mul", "Eltwise"), ("Div", "Power Eltwise"),
     ("Max", "Eltwise"), ("Min", "Power Power Eltwise Power"), ("Mean", "Eltwise Power")],
)  # fmt: skip
@pytest.mark.parametrize("order", ["x a", "a x"])
def test_two_blobs(op: str, layers: str, order: str, tmp_path: Path) -> None:
    nodes: list[Any] = [("Sigmoid", "x", "a", {}), (op, order, "y", {})]
    if op == "Div" and order == "a x":
        pytest.skip("near 0 there are no digits to compare")
    assert types(imported(tmp_path, nodes, shape=(2, 4, 3, 2))) == f"Sigmoid {layers}"


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("order", ["x g", "g x"])
@pytest.mark.parametrize(
    ("small", "op", "layers"),
    [
        (GATE, "Mul", "Pooling Flatten Scale"),
        (GATE, "Add", "Pooling Flatten Bias"),
        (GATE, "Max", "Pooling Tile Tile Eltwise"),
        (ROW, "Mul", "Convolution Tile Eltwise"),
        (ROW, "Add", "Convolution Tile Eltwise"),
        (SCALAR, "Mul", "Reduction Reshape Reshape Scale"),
    ],
)
def test_a_small_and_a_large_blob(
    small: Any, op: str, layers: str, order: str, batch: int, tmp_path: Path
) -> None:
    nodes: list[Any] = [*small, (op, order, "y", {})]
    assert types(imported(tmp_path, nodes, shape=(batch, 4, 3, 2))) == layers


def test_both_blobs_grow(tmp_path: Path) -> None:
    nodes: list[Any] = [*GATE, ("ReduceMean", "x", "r", {"axes": [1]}), ("Mul", "g r", "y", {})]
    assert "Tile" in types(imported(tmp_path, nodes, shape=(2, 4, 3, 2)))


@pytest.mark.parametrize("order", ["x c", "c x"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize(
    "shape", [(), (1,), (2,), (4, 1, 1), (1, 4, 1, 1), (3, 1), (4, 3, 2), (1, 4, 1, 2), (1, 3, 2)]
)
def test_a_blob_and_a_constant(shape: tuple[int, ...], op: str, order: str, tmp_path: Path) -> None:
    constant = np.abs(random(*shape)) + np.float32(0.5)
    nodes: list[Any] = [("Exp", "x", "e", {}), (op, order.replace("x", "e"), "y", {})]
    found = imported(tmp_path, nodes, {"c": np.asarray(constant)}, shape=(2, 4, 3, 2))
    last = found.net.layer[-1].type
    single = constant.size == 1
    assert last == "Power" if single else last in ("Scale", "Bias")


def test_a_constant_larger_than_the_blob(tmp_path: Path) -> None:
    nodes: list[Any] = [("Add", "x c", "y", {})]
    found = imported(tmp_path, nodes, {"c": random(1, 1, 3, 2)}, shape=(2, 4, 1, 1))
    assert types(found) == "Tile Tile Bias"


def test_what_is_learned(tmp_path: Path) -> None:
    """Constants of the file's own are weights; those inside nodes are not."""
    value = {"value_floats": [1.0, 2.0]}
    nodes: list[Any] = [
        ("Constant", "", "k", value),
        ("Mul", "x w", "a", {}),
        ("Add", "a k", "y", {}),
    ]
    found = imported(tmp_path, nodes, {"w": random(3, 1)}, shape=(2, 4, 3, 2))
    scale, bias = found.net.layer[1:]
    assert not scale.param
    assert bias.param[0].lr_mult == 0


def test_a_sum_becomes_the_bias_of_the_layer_before(tmp_path: Path) -> None:
    nodes: list[Any] = [("MatMul", "x w", "m", {}), ("Add", "b m", "y", {})]
    found = imported(tmp_path, nodes, {"w": random(5, 3), "b": random(3)}, shape=(2, 5))
    assert types(found) == "InnerProduct"
    assert list(found.net.layer[1].top) == ["y"]
    nodes = [("Conv", "x w", "m", {}), ("Sub", "m b", "y", {})]
    constants = {"w": random(3, 4, 1, 1), "b": random(1, 3, 1, 1)}
    assert types(imported(tmp_path, nodes, constants)) == "Convolution"


def test_a_sum_of_what_others_read_stays(tmp_path: Path) -> None:
    nodes: list[Any] = [
        ("MatMul", "x w", "m", {}),
        ("Add", "m b", "a", {}),
        ("Mul", "a m", "y", {}),
    ]
    found = imported(tmp_path, nodes, {"w": random(5, 3), "b": random(3)}, shape=(2, 5))
    assert types(found) == "InnerProduct Bias Eltwise"


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0, -1.0])
def test_powers(power: float, tmp_path: Path) -> None:
    nodes: list[Any] = [("Exp", "x", "e", {}), ("Pow", "e p", "y", {})]
    imported(tmp_path, nodes, {"p": np.array(power, np.float32)})
    nodes = [("Pow", "p x", "y", {})]
    imported(tmp_path, nodes, {"p": np.array(abs(power), np.float32)})


def test_several(tmp_path: Path) -> None:
    nodes: list[Any] = [("Sigmoid", "x", "a", {}), ("Tanh", "x", "b", {})]
    for op in ("Sum", "Max", "Min", "Mean"):
        imported(tmp_path, [*nodes, (op, "x a b", "y", {})])
        imported(tmp_path, [*nodes, (op, "x a k", "y", {})], {"k": np.array(0.3, np.float32)})


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (("Pow", "x p", "y", {}), "Caffe's Power has one exponent, here are several."),
        (("Max", "x p", "y", {}), "Caffe compares blobs among each other, or with one number."),
    ],
)  # fmt: skip
def test_refusals(node: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(NetError) as error:
        imported(tmp_path, [node], {"p": random(5)})
    assert str(error.value).endswith(f"has no form in Caffe: {says}")
