from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.importer.onnx_models import imported, random, types

from moka.errors import NetError
from moka.net import build_net

ERF = f"Power Power{' Eltwise Power' * 3} Eltwise TanH"
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("Relu", {}, "ReLU"),
    ("LeakyRelu", {"alpha": 0.2}, "ReLU"),
    ("Sigmoid", {}, "Sigmoid"),
    ("Tanh", {}, "TanH"),
    ("Abs", {}, "AbsVal"),
    ("Exp", {}, "Exp"),
    ("Softplus", {}, "BNLL"),
    ("Neg", {}, "Power"),
    ("Reciprocal", {}, "Power"),
    ("Elu", {"alpha": 0.5}, "ELU"),
    ("Selu", {}, "ELU Power"),
    ("Celu", {"alpha": 2.0}, "Power ELU Power"),
    ("Softsign", {}, "AbsVal Power Eltwise"),
    ("ThresholdedRelu", {"alpha": 0.5}, "Threshold Eltwise"),
    ("Mish", {}, "BNLL TanH Eltwise"),
    ("HardSigmoid", {"alpha": 0.3}, "Power Clip"),
    ("HardSwish", {}, "Power Clip Eltwise"),
    ("Gelu", {"approximate": "tanh"}, "Power Power Eltwise TanH Power Eltwise"),
    ("Gelu", {}, f"Power {ERF} Power Eltwise"),
    ("Erf", {}, ERF),
    ("Softmax", {}, "Softmax"),
    ("Softmax", {"axis": 1}, "Softmax"),
    ("LogSoftmax", {"axis": 1}, "Softmax Log"),
    ("Dropout", {}, "Dropout"),
]


@pytest.mark.parametrize(("op", "attributes", "layers"), CASES)
def test_functions(op: str, attributes: dict[str, Any], layers: str, tmp_path: Path) -> None:
    opset = 20 if op == "Gelu" else 18
    assert types(imported(tmp_path, [(op, "x", "y", attributes)], opset=opset)) == layers


def test_the_error_function_is_close_everywhere(tmp_path: Path) -> None:
    found = imported(tmp_path, [("Erf", "x", "y", {})])
    net = build_net(found.net)
    x = torch.cat(
        [torch.linspace(-6, 6, 10001), torch.tensor([0, 1e-6, -1e-6, 30, -30, 1e3, -1e3])]
    )
    given = x.expand(1, 4, 1, -1).reshape(1, 4, 1, -1)
    y = net(given)["y"][0, 0, 0]
    assert (y - torch.erf(x)).abs().max() < 3e-6


@pytest.mark.parametrize("op", ["Log", "Sqrt"])
def test_functions_of_positive_numbers(op: str, tmp_path: Path) -> None:
    nodes: list[Any] = [("Abs", "x", "a", {}), (op, "a", "y", {})]
    assert types(imported(tmp_path, nodes)).startswith("AbsVal ")


def test_softmax_of_old(tmp_path: Path) -> None:
    """All axes from `axis` on are one."""
    found = imported(tmp_path, [("Softmax", "x", "y", {"axis": 1})], opset=11)
    assert types(found) == "Flatten Softmax Reshape"


@pytest.mark.parametrize(
    ("bounds", "layers"),
    [((0, None), "ReLU"), ((0, 6), "Clip"), ((None, 1), "Clip"), ((-1, 1), "Clip")],
)
def test_clip(bounds: tuple[float | None, float | None], layers: str, tmp_path: Path) -> None:
    constants = {
        name: np.array(value, np.float32)
        for name, value in zip(("low", "high"), bounds, strict=True)
        if value is not None
    }
    inputs = " ".join(["x", *(n if n in constants else "-" for n in ("low", "high"))])
    assert types(imported(tmp_path, [("Clip", inputs, "y", {})], constants)) == layers


def test_clip_of_old(tmp_path: Path) -> None:
    node = ("Clip", "x", "y", {"min": -0.5, "max": 0.5})
    assert types(imported(tmp_path, [node], opset=9)) == "Clip"


@pytest.mark.parametrize("shape", [(4, 1, 1), (1,), (1, 4, 1, 1)])
def test_prelu(shape: tuple[int, ...], tmp_path: Path) -> None:
    found = imported(tmp_path, [("PRelu", "x s", "y", {})], {"s": random(*shape)})
    assert found.net.layer[1].prelu_param.channel_shared == (shape == (1,))


@pytest.mark.parametrize(
    ("node", "opset", "says"),
    [
        (("Sin", "x", "y", {}), 17, "(Sin, opset 17) has no form in Caffe: Caffe has no"
         " trigonometric functions."),
        (("PRelu", "x s", "y", {}), 17, "(PRelu, opset 17) has no form in Caffe: Caffe's PReLU has"
         " a slope for each channel, its slopes have the shape (5,)."),
    ],
)  # fmt: skip
def test_refusals(node: Any, opset: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(NetError) as error:
        imported(tmp_path, [node], {"s": random(5)}, opset=opset)
    assert str(error.value).endswith(says)
