from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.importer.onnx_models import imported, types

from moka.errors import NetError

NEAREST = {"mode": "nearest", "nearest_mode": "floor"}
ASYMMETRIC = {**NEAREST, "coordinate_transformation_mode": "asymmetric"}
ALIGNED = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
PRODUCTS = "InnerProduct Reshape Convolution Reshape"


@pytest.mark.parametrize(
    ("attributes", "scales", "layers"),
    [
        (ASYMMETRIC, (2, 2), "Deconvolution"),
        (ASYMMETRIC, (3, 2), "Deconvolution"),
        ({"mode": "nearest"}, (2, 2), "Deconvolution"),
        (NEAREST, (1.5, 1.5), PRODUCTS),
        ({"mode": "linear"}, (2, 2), "Deconvolution Scale"),
        ({"mode": "linear"}, (3, 3), "Deconvolution Scale"),
        ({"mode": "linear"}, (4, 2), "Deconvolution Scale"),
        ({"mode": "linear"}, (0.5, 0.5), PRODUCTS),
        ({"mode": "linear"}, (1, 1.7), "InnerProduct"),
        ({"mode": "linear"}, (1.5, 1), "Reshape Convolution Reshape"),
        ({"mode": "cubic"}, (2, 2), PRODUCTS),
        (ALIGNED, (2, 2), PRODUCTS),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_factors(
    attributes: dict[str, Any], scales: tuple[float, float], layers: str, batch: int, tmp_path: Path
) -> None:
    constants = {"r": np.zeros(0, np.float32), "s": np.array([1, 1, *scales], np.float32)}
    found = imported(
        tmp_path, [("Resize", "x r s", "y", attributes)], constants, shape=(batch, 3, 6, 8)
    )
    assert types(found) == layers
    assert all(p.lr_mult == 0 for layer in found.net.layer for p in layer.param)


@pytest.mark.parametrize("attributes", [ASYMMETRIC, {"mode": "linear"}, ALIGNED])
@pytest.mark.parametrize("size", [(12, 16), (7, 5), (6, 8)])
def test_sizes(attributes: dict[str, Any], size: tuple[int, int], tmp_path: Path) -> None:
    constants = {"s": np.array([1, 3, *size])}
    nodes: list[Any] = [("Relu", "x", "a", {}), ("Resize", "a - - s", "y", attributes)]
    imported(tmp_path, nodes, constants, shape=(1, 3, 6, 8))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(mode: str, opset: int, tmp_path: Path) -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    if opset == 7:
        node: Any = ("Upsample", "x", "y", {"mode": mode, "scales": scales.tolist()})
    else:
        node = ("Upsample", "x s", "y", {"mode": mode})
    imported(tmp_path, [node], {"s": scales} if opset == 9 else {}, shape=(1, 3, 6, 8), opset=opset)


def test_sizes_of_opset_11(tmp_path: Path) -> None:
    """Where the inputs before them cannot be left out."""
    constants = {"r": np.zeros(0, np.float32), "s": np.array([1, 4, 9, 8])}
    node = ("Resize", "x r r s", "y", {"mode": "linear"})
    imported(tmp_path, [node], constants, opset=11)


def test_resize_of_opset_10(tmp_path: Path) -> None:
    constants = {"s": np.array([1, 1, 2, 2], np.float32)}
    imported(tmp_path, [("Resize", "x s", "y", {"mode": "linear"})], constants, opset=10)


def test_interp(tmp_path: Path) -> None:
    constants = {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 1.5], np.float32)}
    node = ("Resize", "x r s", "y", ALIGNED)
    assert types(imported(tmp_path, [node], constants, extra_layers=True)) == "Interp"


def test_refusals(tmp_path: Path) -> None:
    constants = {"r": np.zeros(0, np.float32), "s": np.array([1, 2, 1, 1], np.float32)}
    with pytest.raises(NetError, match=r"Caffe resizes images \(N, C, H, W\), this makes"):
        imported(tmp_path, [("Resize", "x r s", "y", {"mode": "nearest"})], constants)
