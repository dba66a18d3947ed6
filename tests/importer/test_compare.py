from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.importer.onnx_models import Node, imported, random

from moka.errors import NetError

COMPARISONS = ["Greater", "Less", "GreaterOrEqual", "LessOrEqual"]
TO_FLOAT: Node = ("Cast", "c", "y", {"to": 1})


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("inputs", ["x k", "k x", "x s", "x t", "t x", "t p"])
def test_comparisons(op: str, inputs: str, tmp_path: Path) -> None:
    """With a number, an array, another blob, and one of another shape."""
    nodes: list[Node] = [
        ("Tanh", "x", "t", {}),
        ("GlobalAveragePool", "x", "p", {}),
        (op, inputs, "c", {}),
        TO_FLOAT,
    ]
    constants = {"k": np.array(0.2, np.float32), "s": random(4, 1, 1)}
    imported(tmp_path, nodes, {n: v for n, v in constants.items() if n in inputs.split()})


def test_bounds_are_exact(tmp_path: Path) -> None:
    """Equal numbers are greater-or-equal, not greater."""
    for op in COMPARISONS:
        imported(tmp_path, [(op, "x x", "c", {}), TO_FLOAT])


def test_logic(tmp_path: Path) -> None:
    masks: list[Node] = [
        ("Greater", "x k", "a", {}), ("Tanh", "x", "t", {}), ("Less", "t m", "b", {}),
    ]  # fmt: skip
    constants = {"k": np.array(0.5, np.float32), "m": np.array(-0.5, np.float32)}
    for op in ("And", "Or"):
        imported(tmp_path, [*masks, (op, "a b", "c", {}), TO_FLOAT], constants)
    imported(tmp_path, [masks[0], ("Not", "a", "c", {}), TO_FLOAT], {"k": constants["k"]})
    same: list[Node] = [masks[0], ("Cast", "a", "c", {"to": 9}), TO_FLOAT]
    imported(tmp_path, same, {"k": constants["k"]})


def test_sign(tmp_path: Path) -> None:
    imported(tmp_path, [("Sign", "x", "y", {})])
    imported(tmp_path, [("Relu", "x", "a", {}), ("Sign", "a", "y", {})])  # of zeros


@pytest.mark.parametrize("inputs", ["c x t", "c x k", "c k x", "c k m", "c x p", "f x t"])
def test_choices(inputs: str, tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("Tanh", "x", "t", {}),
        ("GlobalAveragePool", "x", "p", {}),
        ("Greater", "x k", "c", {}),
        ("Where", inputs, "y", {}),
    ]
    constants = {
        "k": np.array(0.3, np.float32), "m": random(4, 1, 1), "f": random(1, 4, 6, 5) > 0,
    }  # fmt: skip
    used = {"k", *inputs.split()}
    imported(tmp_path, nodes, {n: v for n, v in constants.items() if n in used})


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([("Equal", "x x", "c", {}), TO_FLOAT], "no layer that tells whether numbers are equal"),
        (
            [("Greater", "x k", "c", {}), ("Where", "c i x", "y", {})],
            "a number that is not finite",
        ),
        ([("Where", "f x k", "y", {})], "between constants and inputs by a constant"),
    ],
)
def test_refusals(nodes: list[Node], says: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {
        "k": np.array(0.3, np.float32), "i": np.array(-np.inf, np.float32),
        "f": random(1, 4, 6, 5) > 0,
    }  # fmt: skip
    used = {name for node in nodes for name in node[1].split()}
    with pytest.raises(NetError, match=says):
        imported(tmp_path, nodes, {n: v for n, v in constants.items() if n in used})
