"""An ONNX file as plain records."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from moka.errors import NetError, did_you_mean
from moka.export.onnx.library import load_onnx
from moka.types import Array, PathLike, Shape

STANDARD = ("", "ai.onnx")  # the names of ONNX's own set of operators
OLDEST_OPSET = 7  # that ONNX Runtime runs
_NARROW = (10, 11, 16)  # float16, double, bfloat16 as ONNX numbers them
_FLOAT = 1


@dataclass(frozen=True)
class OnnxNode:
    """A node of an ONNX graph.

    Attributes:
        name: its name, or that of its first output if it has none.
        op: its operator, with the operator's domain before it unless that is ONNX's own.
        opset: the version of the operator's set.
        inputs, outputs: names of tensors; "" is one that is left out.
        attributes: plain values by name.
        captured: tensors that graphs within it read, as those of a branch or a loop do.
    """

    name: str
    op: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    captured: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f'node "{self.name}" ({self.op}, opset {self.opset})'


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX model whose inputs have fixed shapes.

    Attributes:
        file: where it was read from.
        proto: the model itself, of which `nodes` and the rest tell.
        inputs: shape by name, in order.
        free_batch: whether the file leaves the first axis of its inputs open.
        parameters: names of the tensors that are stored beside the graph, as weights are.
    """

    file: PathLike
    proto: Any
    inputs: Mapping[str, Shape]
    free_batch: bool
    parameters: frozenset[str]

    @cached_property
    def nodes(self) -> list[OnnxNode]:
        """In running order."""
        helper = load_onnx("Importing").helper
        opsets = {entry.domain: entry.version for entry in self.proto.opset_import}
        opsets.update(dict.fromkeys(STANDARD, max(opsets.get(d, 0) for d in STANDARD)))
        return [
            OnnxNode(
                node.name or next((o for o in node.output if o), node.op_type),
                node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}",
                opsets.get(node.domain, 0),
                tuple(node.input),
                tuple(node.output),
                {a.name: helper.get_attribute_value(a) for a in node.attribute},
                tuple(_captured(node)),
            )
            for node in self.proto.graph.node
        ]

    @cached_property
    def outputs(self) -> list[str]:
        return [value.name for value in self.proto.graph.output]

    @cached_property
    def uses(self) -> Counter[str]:
        """How often each tensor is read; being an output counts."""
        read = [name for node in self.nodes for name in (*node.inputs, *node.captured) if name]
        return Counter([*read, *self.outputs])

    @cached_property
    def makers(self) -> dict[str, OnnxNode]:
        """The node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}


def _captured(node: Any) -> Iterator[str]:
    """The tensors from around a node that the graphs in its attributes read."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            own |= {name for inner in graph.node for name in inner.output}
            read = [name for inner in graph.node for name in (*inner.input, *_captured(inner))]
            read += [value.name for value in graph.output]
            yield from (name for name in read if name and name not in own)


@contextmanager
def names_are_text(file: PathLike) -> Iterator[None]:
    """Raise NetError where the block meets a name that is not UTF-8."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise NetError(f"holds a name that is no text in UTF-8 ({error}).", file=file) from None


def read_onnx(file: PathLike, shapes: Mapping[str, Shape] | None = None) -> OnnxModel:
    """Read an ONNX file. Half-precision and double floats become float32.

    Args:
        shapes: of inputs, by name; the name "" stands for the only input. An open first axis of an
            input that is not named is 1.

    Raises:
        NetError: no ONNX file, a truncated one, one that breaks ONNX's rules, an open size.
        OSError: the file cannot be read.
    """
    onnx = load_onnx("Importing an ONNX file")
    proto = _parsed(onnx, file)
    with names_are_text(file):
        try:
            if proto.functions:
                proto = onnx.inliner.inline_local_functions(proto)
            _check(onnx, proto)
            _check_opset(proto)
            _widen(onnx, proto)
            inputs, free_batch = _fix_inputs(proto, dict(shapes or {}))
        except NetError as error:
            raise error.at(file=file) from None
        stored = frozenset(tensor.name for tensor in proto.graph.initializer)
        return OnnxModel(file, proto, inputs, free_batch, stored)


def _parsed(onnx: Any, file: PathLike) -> Any:
    with open(file, "rb") as stream:
        data = stream.read()
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise NetError("is no ONNX file, or a truncated one.", file=file) from None
    if not proto.graph.node or not proto.opset_import:
        raise NetError("is no ONNX file: it holds no graph of nodes.", file=file)
    try:
        onnx.external_data_helper.load_external_data_for_model(
            proto, os.path.dirname(os.path.abspath(file))
        )
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise NetError(
            f"the file with its weights cannot be read: {_first_line(error)}", file=file
        ) from None
    return proto


def _check(onnx: Any, proto: Any) -> None:
    """Raise NetError for a model that breaks ONNX's rules; operators of others are let pass."""
    for value in proto.graph.output:
        value.type.tensor_type.shape.SetInParent()  # which only the checker asks for
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise NetError(f"breaks the rules of ONNX: {_first_line(error)}") from None


def _check_opset(proto: Any) -> None:
    """Raise NetError for operators that ONNX Runtime does not run, so that nothing tells what they
    compute. (onnx's own converter of versions gets some of them wrong.)"""
    opsets = [entry.version for entry in proto.opset_import if entry.domain in STANDARD]
    if opsets and max(opsets) < OLDEST_OPSET:
        raise NetError(
            f"opset {max(opsets)} is too old: ONNX Runtime, to which the net is held, runs"
            f" {OLDEST_OPSET} and newer.",
            advice="Export the model anew.",
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0].rstrip('.')}." if lines else "it does not say why."


def _widen(onnx: Any, proto: Any) -> None:
    """Turn the float16, bfloat16 and double tensors of a graph into float32."""
    graph = proto.graph
    for tensor in graph.initializer:
        _widen_tensor(onnx, tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = _FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.HasField("t"):
                _widen_tensor(onnx, attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in _NARROW:
                attribute.i = _FLOAT


def _widen_tensor(onnx: Any, tensor: Any) -> None:
    if tensor.data_type in _NARROW:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _fix_inputs(proto: Any, wanted: dict[str, Shape]) -> tuple[dict[str, Shape], bool]:
    """Give every input of the graph a fixed shape; returns the shapes, and whether the file leaves
    the first axis open."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in stored]
    if not inputs:
        raise NetError("has no input, and a net without one computes nothing.")
    if not proto.graph.output:
        raise NetError("has no output: nothing of what it computes is given out.")
    if "" in wanted:
        if len(inputs) > 1:
            listed = ", ".join(value.name for value in inputs)
            raise NetError(f"has several inputs ({listed}): name each with its shape.")
        wanted[inputs[0].name] = wanted.pop("")
    if unknown := [name for name in wanted if name not in {value.name for value in inputs}]:
        names = [value.name for value in inputs]
        raise NetError(
            f"has no input named {unknown[0]}; its inputs are {', '.join(names)}.",
            advice=did_you_mean(unknown[0], names),
        )
    free: list[bool] = []
    shapes = {}
    for value in inputs:
        shape, is_free = _fixed(value, wanted.get(value.name))
        shapes[value.name] = shape
        free.append(is_free)
    del proto.graph.value_info[:]  # they tell of open sizes
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    return shapes, all(free)


def _fixed(value: Any, wanted: Shape | None) -> tuple[Shape, bool]:
    """Fix the shape of one input; returns it, and whether its first axis was open."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type != _FLOAT:
        raise NetError(f"its input {value.name} holds no floats, as the blobs of Caffe do.")
    dims = [d.dim_value if d.HasField("dim_value") else 0 for d in tensor.shape.dim]
    is_free = bool(dims) and dims[0] < 1
    if wanted is None:
        dims = [1 if k == 0 and d < 1 else d for k, d in enumerate(dims)]
        if not tensor.HasField("shape") or min(dims, default=1) < 1:
            known = ", ".join(str(d) if d > 0 else "?" for d in dims)
            raise NetError(
                f"its input {value.name} has the shape ({known}), and Caffe needs every size.",
                advice="Give them with --input_shape, such as 1,3,224,224.",
            )
        wanted = tuple(dims)
    fits = len(wanted) == len(dims) and all(
        d < 1 or d == w for d, w in zip(dims, wanted, strict=True)
    )
    if (tensor.HasField("shape") and not fits) or min(wanted, default=1) < 1:
        known = ", ".join(str(d) if d > 0 else "?" for d in dims)
        raise NetError(
            f"its input {value.name} has the shape ({known}), asked for is {tuple(wanted)}."
        )
    del tensor.shape.dim[:]
    for size in wanted:
        tensor.shape.dim.add().dim_value = size
    return tuple(wanted), is_free


def tensor_values(values: Any) -> Array:
    """A tensor in an attribute as an array."""
    found: Array = load_onnx("Importing").numpy_helper.to_array(values)
    return found
