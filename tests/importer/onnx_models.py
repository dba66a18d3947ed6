"""ONNX files of a few nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from moka.importer.onnx_net import ImportedNet, import_onnx
from moka.types import Array, Shape

Node = tuple[str, str, str, dict[str, Any]]  # operator, inputs, outputs, attributes


def random(*shape: int) -> Array:
    """Numbers as weights have them."""
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def write(
    file: Path,
    nodes: Sequence[Node],
    constants: Mapping[str, Array] | None = None,
    *,
    shape: Sequence[int | str | None] = (1, 4, 6, 5),
    opset: int = 17,
    outputs: str = "y",
) -> Path:
    """Write the model of these nodes, whose input is x; returns the file.

    Nodes are named after their first output: node "y" makes the tensor y.
    """
    made = [
        helper.make_node(op, inputs.split(), out.split(), name=f"node_{out.split()[0]}", **more)
        for op, inputs, out, more in nodes
    ]
    for node in made:
        node.input[:] = ["" if name == "-" else name for name in node.input]
    graph = helper.make_graph(
        made,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in outputs.split()
        ],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )
    for value in graph.output:  # of any shape
        value.type.tensor_type.shape.SetInParent()
        value.type.tensor_type.ClearField("shape")
        value.type.tensor_type.shape.dim.extend([])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    file.write_bytes(model.SerializeToString())
    return file


def imported(
    folder: Path,
    nodes: Sequence[Node],
    constants: Mapping[str, Array] | None = None,
    *,
    shape: Shape = (1, 4, 6, 5),
    opset: int = 17,
    outputs: str = "y",
    **options: Any,
) -> ImportedNet:
    """The net of these nodes, whose outputs agree with ONNX Runtime's."""
    file = write(folder / "x.onnx", nodes, constants, shape=shape, opset=opset, outputs=outputs)
    return import_onnx(file, **options)


def types(found: ImportedNet) -> str:
    """The types of the net's layers after its input."""
    return " ".join(layer.type for layer in found.net.layer[1:])
