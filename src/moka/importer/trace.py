"""Runs a model in ONNX Runtime to learn the shape and the values of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from moka.errors import NetError
from moka.export.onnx.library import load_onnx, load_runtime, runtime_errors
from moka.importer.onnx_file import OnnxModel
from moka.types import Array

SEED = 13
_SHAPE_OPERATORS = ("Shape", "Size")  # their results do not depend on values


@dataclass(frozen=True)
class Trace:
    """One pass of a model on random input.

    Attributes:
        given: the inputs.
        values: all tensors by name.
        variable: the tensors that depend on the inputs' values; all others are constants.
    """

    given: Mapping[str, Array]
    values: Mapping[str, Array]
    variable: frozenset[str]


def variable_tensors(model: OnnxModel) -> frozenset[str]:
    """The tensors that depend on the values of the inputs."""
    found = set(model.inputs)
    for node in model.nodes:
        if node.op not in _SHAPE_OPERATORS and not found.isdisjoint(node.inputs):
            found.update(filter(None, node.outputs))
    return frozenset(found)


def trace_model(model: OnnxModel) -> Trace:
    """Run a model once on random input and keep every tensor.

    Raises:
        NetError: ONNX Runtime cannot run it.
    """
    onnx, runtime = load_onnx("Importing"), load_runtime("Importing an ONNX file")
    variable = variable_tensors(model)
    random = np.random.default_rng(SEED)
    given = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in model.inputs.items()
    }
    names = [name for node in model.nodes for name in node.outputs if name]
    data = _with_outputs(onnx, model.proto, names)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        made = dict(zip(names, session.run(names, dict(given)), strict=True))
    except runtime_errors() as error:
        fact = " ".join(str(error).split())
        raise NetError(f"ONNX Runtime cannot run it: {fact}", file=model.file) from None
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.proto.graph.initializer}
    return Trace(given, {**given, **stored, **made}, variable)


def _with_outputs(onnx: ModuleType, proto: Any, names: list[str]) -> bytes:
    """A model's bytes, with these tensors as its outputs. No copy is made, since weights may be
    large."""
    outputs = proto.graph.output
    kept = list(outputs)
    del outputs[:]
    outputs.extend(onnx.ValueInfoProto(name=name) for name in names)
    data: bytes = proto.SerializeToString()
    del outputs[:]
    outputs.extend(kept)
    return data
