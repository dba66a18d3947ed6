from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.importer.onnx_models import imported, types

from moka.errors import NetError


@pytest.mark.parametrize(
    ("op", "axes", "layers"),
    [
        ("ReduceMean", [2, 3], "Pooling"),
        ("ReduceMax", [2, 3], "Pooling"),
        ("ReduceMin", [2, 3], "Power Pooling Power"),
        ("ReduceMean", [1], "Convolution"),
        ("ReduceSum", [1], "Convolution"),
        ("ReduceL1", [1], "AbsVal Convolution"),
        ("ReduceL2", [1], "Power Convolution Power"),
        ("ReduceMax", [1], "Pooling"),
        ("ReduceMax", [3], "Pooling"),
        ("ReduceMean", [2], "Pooling"),
        ("ReduceMean", [1, 2], "Pooling"),
        ("ReduceSum", [2], "Pooling Power"),
        ("ReduceSum", [1, 3], "Pooling Power Pooling Power"),
        ("ReduceL1", [2], "AbsVal Pooling Power"),
        ("ReduceMin", [1, 3], "Power Pooling Pooling Power"),
        ("ReduceLogSumExp", [1], "Exp Convolution Log"),
        ("ReduceLogSumExp", [3], "Exp Pooling Power Log"),
        ("ReduceSum", [3], "Reduction"),
        ("ReduceMean", [1, 2, 3], "Reduction"),
        ("ReduceL2", [-1], "Reduction Power"),
        ("ReduceSumSquare", [-2, -1], "Reduction"),
    ],
)
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("opset", [11, 18])
def test_reductions(
    op: str, axes: list[int], layers: str, keep: int, opset: int, tmp_path: Path
) -> None:
    attributes: dict[str, Any] = {"keepdims": keep}
    as_input = opset == 18
    if not as_input:
        attributes["axes"] = axes
    node = (op, "x a" if as_input else "x", "y", attributes)
    constants = {"a": np.array(axes)} if as_input else {}
    found = imported(tmp_path, [node], constants, shape=(2, 4, 3, 5), opset=opset)
    shapes = {"Reshape", "Flatten"}
    assert [t for t in types(found).split() if t not in shapes] == layers.split()


@pytest.mark.parametrize("keep", [0, 1])
def test_argmax(keep: int, tmp_path: Path) -> None:
    nodes: list[Any] = [
        ("ArgMax", "x", "a", {"axis": 1, "keepdims": keep}),
        ("Cast", "a", "y", {"to": 1}),
    ]
    assert types(imported(tmp_path, nodes)).startswith("ArgMax")


def test_logarithms_of_sums(tmp_path: Path) -> None:
    nodes: list[Any] = [("Abs", "x", "a", {}), ("ReduceLogSum", "a", "y", {"axes": [1]})]
    assert types(imported(tmp_path, nodes)).startswith("AbsVal Convolution Log")


def test_the_batch_stays(tmp_path: Path) -> None:
    with pytest.raises(
        NetError, match=r"cannot reduce the batch alone; this reduces axes \[0\] of 4"
    ):
        imported(tmp_path, [("ReduceMean", "x", "y", {"axes": [0]})], shape=(2, 4, 3, 5))
