"""Runs a model in ONNX Runtime to learn the shape and the values of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from moka.errors import NetError
from moka.export.onnx.library import load_onnx, load_runtime
from moka.importer.onnx_file import OnnxModel
from moka.types import Array, Shape

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
        read = (*node.inputs, *node.captured)
        if node.op not in _SHAPE_OPERATORS and not found.isdisjoint(read):
            found.update(filter(None, node.outputs))
    return frozenset(found)


def trace_model(model: OnnxModel) -> Trace:
    """Run a model once on random input and keep every tensor.

    Raises:
        NetError: ONNX Runtime cannot run it.
    """
    onnx = load_onnx("Importing")
    variable = variable_tensors(model)
    given = _random(model.inputs, SEED)
    names = [name for node in model.nodes for name in node.outputs if name]
    made = _run(model, given, names)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.proto.graph.initializer}
    return Trace(given, {**given, **stored, **made}, variable)


def run_on_others(model: OnnxModel, batch: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Other random inputs than the trace's, and the model's outputs for them.

    Args:
        batch: how many times the first axis of the inputs.

    Raises:
        NetError: ONNX Runtime cannot run it.
    """
    given = _random(
        {n: (*(batch * d for d in s[:1]), *s[1:]) for n, s in model.inputs.items()}, SEED + batch
    )
    for value in model.proto.graph.input:
        if value.name in given:
            for dim, size in zip(
                value.type.tensor_type.shape.dim, given[value.name].shape, strict=True
            ):
                dim.dim_value = size
    return given, _run(model, given, model.outputs)


def _random(shapes: Mapping[str, Shape], seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {n: random.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}


def _run(model: OnnxModel, given: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    """The tensors of these names. Raises NetError if ONNX Runtime cannot make them."""
    onnx, runtime = load_onnx("Importing"), load_runtime("Importing an ONNX file")
    data = _with_outputs(onnx, model.proto, names)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(names, dict(given)), strict=True))
    except Exception as error:  # noqa: BLE001 - its classes are many
        fact = " ".join(str(error).split())
        raise NetError(f"ONNX Runtime cannot run it: {fact}", file=model.file) from None


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
