from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.importer.onnx_models import imported, random, types

from moka.errors import NetError


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(), (1,), (3,), (1, 3)])
def test_gemm(transposed: int, bias: tuple[int, ...], tmp_path: Path) -> None:
    weight = random(3, 5) if transposed else random(5, 3)
    node = ("Gemm", "x w b", "y", {"transB": transposed, "alpha": 0.5, "beta": 2.0})
    found = imported(tmp_path, [node], {"w": weight, "b": random(*bias)}, shape=(2, 5))
    assert types(found) == "InnerProduct"


def test_products_along_the_last_axis(tmp_path: Path) -> None:
    found = imported(tmp_path, [("MatMul", "x w", "y", {})], {"w": random(5, 3)}, shape=(2, 4, 5))
    assert found.net.layer[1].inner_product_param.axis == 2


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 5, 3, 4), (1, 2, 5, 3, 2)])
def test_a_matrix_from_the_left(shape: tuple[int, ...], tmp_path: Path) -> None:
    found = imported(tmp_path, [("MatMul", "w x", "y", {})], {"w": random(6, 3)}, shape=shape)
    (layer,) = (layer for layer in found.net.layer if layer.type == "Convolution")
    assert not layer.param  # it is learned


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 5, 3, 4), (1, 1, 7)])
def test_products_of_two_blobs(shape: tuple[int, ...], tmp_path: Path) -> None:
    nodes: list[Any] = [
        ("Transpose", "x", "t", {"perm": [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]}),
        ("MatMul", "x t", "y", {}),
    ]
    assert "Eltwise Pooling" in types(imported(tmp_path, nodes, shape=shape))


@pytest.mark.parametrize(
    ("node", "shape", "says"),
    [
        (("Gemm", "x w", "y", {"transA": 1}), (5, 5),
         "it transposes its first input, which has no form in Caffe."),
        (("Gemm", "x w m", "y", {}), (2, 5),
         "its summand has the shape (2, 3), and Caffe's InnerProduct has one number for each"
         " output."),
        (("MatMul", "x x", "y", {}), (5, 5),
         "it multiplies blobs of the shapes (5, 5) and (5, 5), and its form in Caffe needs matrices"
         " for each item of the batch."),
        (("MatMul", "x x", "y", {}), (1, 300, 300),
         "its form in Caffe would hold 27,000,000 products of two blobs (8,388,608 are the most)."),
        (("MatMul", "w x", "y", {}), (3, 5),
         "it multiplies the batch by a matrix, which has no form in Caffe."),
        (("MatMul", "x s", "y", {}), (2, 4, 5),
         "it multiplies by an array of shape (2, 5, 3), and Caffe's InnerProduct has one matrix."),
    ],
)  # fmt: skip
def test_refusals(node: Any, shape: tuple[int, ...], says: str, tmp_path: Path) -> None:
    constants = {"w": random(5, 3), "m": random(2, 3), "s": random(2, 5, 3)}
    with pytest.raises(NetError) as error:
        imported(tmp_path, [node], constants, shape=shape)
    assert str(error.value).endswith(f"has no form in Caffe: {says}")
