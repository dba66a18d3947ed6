from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.importer.onnx_models import imported, random, types

from moka.errors import NetError

C3 = random(6, 4, 3, 3)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"pads": [0, 0, 1, 2], "strides": [2, 1]},  # unlike on two sides
        {"pads": [2, 1, 0, 0]},
        {"pads": [2, 0, 0, 2], "dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
    ],
)
def test_convolution(attributes: dict[str, Any], tmp_path: Path) -> None:
    found = imported(tmp_path, [("Conv", "x w b", "y", attributes)], {"w": C3, "b": random(6)})
    assert types(found) == "Convolution"
    assert found.net.layer[1].name == "node_y"
    assert list(found.net.layer[1].top) == ["y"]


def test_groups_and_kernels_unlike_on_two_axes(tmp_path: Path) -> None:
    found = imported(tmp_path, [("Conv", "x w", "y", {"group": 2})], {"w": random(6, 2, 3, 1)})
    options = found.net.layer[1].convolution_param
    assert (options.group, options.kernel_h, options.kernel_w) == (2, 3, 1)
    assert not options.bias_term


@pytest.mark.parametrize(
    ("shape", "weight"), [((2, 4, 9), (3, 4, 3)), ((1, 4, 5, 4, 3), (3, 4, 2, 2, 2))]
)
def test_one_and_three_axes(
    shape: tuple[int, ...], weight: tuple[int, ...], tmp_path: Path
) -> None:
    found = imported(tmp_path, [("Conv", "x w", "y", {})], {"w": random(*weight)}, shape=shape)
    assert types(found) == "Convolution"


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2]},
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        {"strides": [3, 2], "pads": [0, 1, 2, 1]},
        {"strides": [2, 2], "output_shape": [12, 10], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "output_shape": [12, 10], "auto_pad": "SAME_LOWER"},
        {"dilations": [2, 2], "pads": [1, 1, 1, 1]},
        {"strides": [2, 2], "group": 2},
    ],
)
def test_deconvolution(attributes: dict[str, Any], tmp_path: Path) -> None:
    weight = {"w": random(4, 3, 3, 3), "b": random(3 * attributes.get("group", 1))}
    found = imported(tmp_path, [("ConvTranspose", "x w b", "y", attributes)], weight)
    assert types(found) == "Deconvolution"


def test_padding_goes_into_the_convolution(tmp_path: Path) -> None:
    pads = np.array([0, 0, 1, 0, 0, 0, 2, 1])
    found = imported(
        tmp_path,
        [("Pad", "x p", "padded", {}), ("Conv", "padded w", "y", {"pads": [1, 1, 1, 1]})],
        {"p": pads, "w": C3},
    )
    assert types(found) == "Convolution"


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str, tmp_path: Path) -> None:
    node = ("DepthToSpace", "x", "y", {"blocksize": 2, "mode": mode})
    assert types(imported(tmp_path, [node], shape=(2, 12, 3, 2))) == "Deconvolution"


def test_space_to_depth(tmp_path: Path) -> None:
    node = ("SpaceToDepth", "x", "y", {"blocksize": 2})
    assert types(imported(tmp_path, [node], shape=(2, 3, 4, 6))) == "Convolution"


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (
            ("Conv", "x w", "y", {"pads": [1, 0, 0, 0], "dilations": [2, 2]}),
            'node "node_y" (Conv, opset 17) has no form in Caffe: padding of 1 and 0 with dilation'
            " 2 has no form in Caffe, which pads both sides alike.",
        ),
        (
            ("Conv", "x x", "y", {}),
            'node "node_y" (Conv, opset 17) has no form in Caffe: its input "x" must be a'
            " constant.",
        ),
    ],
)
def test_refusals(node: Any, says: str, tmp_path: Path) -> None:
    constants = {"w": C3}
    shape = (3, 3, 3, 3) if node[1] == "x x" else (1, 4, 6, 5)
    with pytest.raises(NetError) as error:
        imported(tmp_path, [node], constants, shape=shape)
    assert str(error.value) == f"{tmp_path / 'x.onnx'}: {says}"
