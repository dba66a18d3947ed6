from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.importer.onnx_models import imported, random, types, write

from moka.errors import NetError
from moka.importer.onnx_net import import_onnx
from moka.net import build_net
from moka.weights import copy_weights


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ([2, -1], "Flatten"),
        ([0, 2, 2, 6, 5], "Reshape"),
        ([2, 4, 30], "Reshape"),
        ([8, 30], "Reshape"),
        ([2, 4, 6, 5], "Relu"),
    ],
)
def test_reshape(shape: list[int], layers: str, tmp_path: Path) -> None:
    nodes: list[Any] = [("Relu", "x", "r", {}), ("Reshape", "r s", "y", {})]
    found = imported(tmp_path, nodes, {"s": np.array(shape)}, shape=(2, 4, 6, 5))
    assert types(found) == f"ReLU {layers}".replace(" Relu", "")


def test_shapes_that_are_computed(tmp_path: Path) -> None:
    """As PyTorch writes x.view(x.shape[0], -1); any batch runs."""
    nodes: list[Any] = [
        ("Shape", "x", "s", {}),
        ("Gather", "s zero", "n", {"axis": 0}),
        ("Unsqueeze", "n axis", "n1", {}),
        ("Concat", "n1 rest", "target", {"axis": 0}),
        ("Reshape", "x target", "y", {}),
    ]
    constants = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([4, -1])}
    file = write(tmp_path / "x.onnx", nodes, constants, shape=["n", 4, 6, 5])
    found = import_onnx(file)
    assert types(found) == "Reshape"
    assert found.free_batch
    x = torch.randn(3, 4, 6, 5)
    assert torch.equal(build_net(found.net)(x)["y"], x.view(3, 4, 30))


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (("Flatten", "x", "y", {}), {}),
        (("Flatten", "x", "y", {"axis": 2}), {}),
        (("Unsqueeze", "x a", "y", {}), {"a": np.array([1, -1])}),
        (("Split", "x", "y z", {"axis": 1}), {}),
        (("Split", "x s", "y z", {"axis": 2}), {"s": np.array([5, 1])}),
        (("Split", "x s", "y z", {"axis": 1}), {"s": np.array([1, 3])}),
        (("Expand", "x s", "y", {}), {"s": np.array([3, 2, 4, 6, 5])}),
        (("Tile", "x s", "y", {}), {"s": np.array([1, 2, 1, 3])}),
        (("Gather", "x i", "y", {"axis": 1}), {"i": np.array(2)}),
        (("Gather", "x i", "y", {"axis": -1}), {"i": np.array([1, 2])}),
        (("Transpose", "x", "y", {"perm": [0, 2, 3, 1]}), {}),
        (("Transpose", "x", "y", {"perm": [0, 3, 1, 2]}), {}),
        (("Transpose", "x", "y", {"perm": [0, 2, 1, 3]}), {}),
        (("Transpose", "x", "y", {"perm": [0, 1, 3, 2]}), {}),
        (("Transpose", "x", "y", {"perm": [1, 0, 2, 3]}), {}),
        (("Transpose", "x", "y", {"perm": [0, 3, 2, 1]}), {}),
        (("Transpose", "x", "y", {"perm": [3, 2, 1, 0]}), {}),
        (("Gather", "x i", "y", {"axis": 1}), {"i": np.array([2, 0, 3])}),
        (("Gather", "x i", "y", {"axis": 2}), {"i": np.array([[2, 0], [5, 5]])}),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_forms(node: Any, constants: dict[str, Any], batch: int, tmp_path: Path) -> None:
    imported(tmp_path, [node], constants, shape=(batch, 4, 6, 5))


def test_a_batch_may_grow_through_a_transposition(tmp_path: Path) -> None:
    """As NHWC inputs of TensorFlow's models and shuffled channels need it."""
    nodes: list[Any] = [
        ("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}),
        ("Reshape", "t a", "g", {}),
        ("Transpose", "g", "h", {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", "h b", "y", {}),
    ]
    constants = {"a": np.array([0, 2, 2, 6, 5]), "b": np.array([0, 4, 6, 5])}
    file = write(tmp_path / "x.onnx", nodes, constants, shape=["n", 6, 5, 4])
    x = torch.randn(3, 6, 5, 4)
    wanted = x.permute(0, 3, 1, 2).reshape(3, 2, 2, 6, 5).transpose(1, 2).reshape(3, 4, 6, 5)
    assert torch.equal(build_net(import_onnx(file).net)(x)["y"], wanted)


@pytest.mark.parametrize(
    ("pads", "value", "layers"),
    [
        ([0, 0, 1, 2, 0, 0, 1, 2], 0.0, "Convolution"),
        ([0, 0, 0, 1, 0, 0, 2, 0], 0.0, "Convolution"),
        ([0, 0, 1, 1, 0, 0, 1, 1], 2.5, "Power Convolution Power"),
        ([0, 0, -1, 1, 0, 0, 0, 0], 0.0, "Slice Silence Convolution"),
        ([0, -1, 0, 0, 0, -1, 0, 0], 0.0, "Slice Silence"),
    ],
)
def test_padding(pads: list[int], value: float, layers: str, tmp_path: Path) -> None:
    constants = {"p": np.array(pads), "v": np.array(value, np.float32)}
    found = imported(tmp_path, [("Pad", "x p v", "y", {})], constants)
    assert types(found) == layers
    assert all(p.lr_mult == 0 for layer in found.net.layer for p in layer.param)


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 1, 2], [0, 1, 0, 3, 0, 2, 2, 0]])
def test_padding_with_what_is_there(mode: str, pads: list[int], tmp_path: Path) -> None:
    node = ("Pad", "x p", "y", {"mode": mode})
    found = imported(tmp_path, [node], {"p": np.array(pads)}, shape=(2, 4, 6, 5))
    assert all(p.lr_mult == 0 for layer in found.net.layer for p in layer.param)


def test_squeeze_and_joined(tmp_path: Path) -> None:
    nodes: list[Any] = [
        ("ReduceMean", "x", "m", {"axes": [2, 3]}),
        ("Squeeze", "m a", "s", {}),
        ("Concat", "s s", "y", {"axis": -1}),
    ]
    found = imported(tmp_path, nodes, {"a": np.array([2, 3])}, shape=(2, 4, 6, 5))
    assert types(found) == "Pooling Flatten Concat"


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], [1]),
        ([0], [-1], [2], [1]),
        ([-2], [1000], [3], [1]),
        ([1, 0], [5, 4], [2, 3], [1, 1]),
        ([0, 1], [6, 5], [2, 3], [2, 2]),
        ([-1], [-1000], [1], [-1]),
        ([4, 3], [0, -1000], [2, 3], [-2, -1]),
    ],
)
def test_slice(
    starts: list[int], ends: list[int], axes: list[int], steps: list[int], tmp_path: Path
) -> None:
    constants = {
        name: np.array(v) for name, v in zip("sead", (starts, ends, axes, steps), strict=True)
    }
    constants = {"s": constants["s"], "e": constants["e"], "a": constants["a"], "d": constants["d"]}
    imported(tmp_path, [("Slice", "x s e a d", "y", {})], constants, shape=(2, 4, 6, 5))


def test_slice_of_old(tmp_path: Path) -> None:
    node = ("Slice", "x", "y", {"starts": [1], "ends": [3], "axes": [1]})
    assert types(imported(tmp_path, [node], opset=9)) == "Slice Silence"


def test_names_of_the_same_blob(tmp_path: Path) -> None:
    """An output that is another name of a blob; one that others read; the input itself."""
    nodes: list[Any] = [
        ("Relu", "x", "r", {}),
        ("Identity", "r", "y", {}),
        ("Sigmoid", "y", "z", {}),
        ("Identity", "x", "w", {}),
    ]
    found = imported(tmp_path, nodes, outputs="y z w")
    assert set(build_net(found.net).graph.outputs) == {"y", "z", "w"}
    assert [difference.output for difference in found.differences] == ["y", "z", "w"]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("shape", [(1, 1, 6, 5), (1, 3, 6, 5)])
def test_a_constant_joined_to_a_blob(place: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    """As coordinates beside channels; the batch may still grow."""
    inputs = "c r" if place else "r c"
    nodes: list[Any] = [("Relu", "x", "r", {}), ("Concat", inputs, "y", {"axis": 1})]
    found = imported(tmp_path, nodes, {"c": random(*shape)})
    net = build_net(found.net)
    copy_weights(net, found.weights)
    assert net(torch.rand(3, 4, 6, 5))["y"].shape == (3, 4 + shape[1], 6, 5)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (("Gather", "x i", "y", {"axis": 0}),
         "it reorders axis 0 of a tensor of 4 axes; Caffe can do this with the channels, rows and"
         " columns of images (N, C, H, W)."),
        (("Pad", "x p", "y", {"mode": "edge"}),
         "it reorders axis 0 of a tensor of 4 axes; Caffe can do this with the channels, rows and"
         " columns of images (N, C, H, W)."),
        (("Pad", "x p", "y", {}),
         "padding of the first two axes has no form in Caffe, whose convolutions pad the axes after"
         " them."),
        (("Concat", "x c", "y", {"axis": 0}),
         "it joins a constant along the batch, which has no form in Caffe."),
        (("TopK", "x k", "y i", {}), "Caffe has no layers for indices."),
    ],
)  # fmt: skip
def test_refusals(node: Any, says: str, tmp_path: Path) -> None:
    constants = {
        "i": np.array([0, 0]), "c": random(1, 4, 6, 5), "k": np.array([1]),
        "p": np.array([1, 0, 0, 0, 0, 0, 0, 0]),
    }  # fmt: skip
    with pytest.raises(NetError) as error:
        imported(tmp_path, [node], {n: v for n, v in constants.items() if n in node[1].split()})
    assert str(error.value).endswith(f"has no form in Caffe: {says}")


def test_weights_of_a_transposition(tmp_path: Path) -> None:
    """Constants are worked out, whatever makes them."""
    nodes: list[Any] = [("Transpose", "w", "t", {}), ("MatMul", "x t", "y", {})]
    found = imported(tmp_path, nodes, {"w": random(3, 5)}, shape=(2, 5))
    net = build_net(found.net)
    copy_weights(net, found.weights)
    assert net.layers[1].blobs[0].shape == (3, 5)
