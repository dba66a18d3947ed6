"""An OnnxGraph as a file: the messages of the package `onnx`, with the parameters streamed behind
them, so that no second copy of them is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from moka.export.onnx.builder import FLOAT, GraphBuilder, Value
from moka.export.onnx.emit import OnnxGraph
from moka.export.onnx.library import load_onnx
from moka.types import Array

LARGE = 1024  # bytes; smaller constants lie among the nodes
MOST_IN_ONE_FILE = 2**31 - 2**24  # a protobuf message must stay under 2 GiB
UINT8 = 2
PAGE = 4096  # bytes, to which constants in a file beside the model are aligned


@dataclass(frozen=True)
class Frame:
    """What an ONNX file says beside its graph.

    Attributes:
        name: of the graph.
        opset: the version of ONNX's operators.
        producer, version: the program that wrote it.
        metadata: more facts, by key.
    """

    name: str
    opset: int
    producer: str
    version: str
    metadata: Mapping[str, str]


def newest_opset() -> int:
    """The newest opset that the installed package `onnx` knows."""
    return int(load_onnx().defs.onnx_opset_version())


def check_model(graph: OnnxGraph, frame: Frame) -> None:
    """Let `onnx` check the model and infer its shapes.

    Large constants stand for themselves as inputs, so that they are not copied.

    Raises:
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: a fault of an exporter.
    """
    onnx = load_onnx()
    model = _frame_message(frame)
    model.graph.CopyFrom(_graph_message(graph, frame))
    for name, values in _large(graph.builder).items():
        model.graph.input.append(_value_info(name, _dtype(values), [str(n) for n in values.shape]))
    onnx.checker.check_model(model, full_check=True)


def model_in_memory(graph: OnnxGraph, frame: Frame) -> tuple[bytes, dict[str, Array]]:
    """A model as bytes, and the large constants that it only names: they stay where they are."""
    model = _frame_message(frame)
    model.graph.CopyFrom(_graph_message(graph, frame))
    large = {name: _array(values) for name, values in _large(graph.builder).items()}
    for name, values in large.items():
        tensor = _tensor(name, values)
        tensor.data_location = load_onnx().TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="memory")
        model.graph.initializer.append(tensor)
    return model.SerializeToString(), large


def with_constants(head: bytes, large: Mapping[str, Array]) -> bytes:
    """A model of `model_in_memory` with its large constants in it."""
    onnx = load_onnx()
    model = onnx.ModelProto.FromString(head)
    for tensor in model.graph.initializer:
        if tensor.name in large:
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
            tensor.raw_data = _bytes(large[tensor.name]).tobytes()
    return bytes(model.SerializeToString())


def write_beside(head: bytes, large: Mapping[str, Array], file: Path) -> None:
    """Write a model of `model_in_memory`, and its large constants into a file beside it.

    Args:
        large: the constants to write; others that the model only names, it goes on naming.
    """
    model = load_onnx().ModelProto.FromString(head)
    with open(_beside(file), "wb") as stream:
        for tensor in model.graph.initializer:
            if tensor.name in large:
                tensor.CopyFrom(_write_outside(stream, tensor.name, large[tensor.name]))
    file.write_bytes(model.SerializeToString())


def write_model(
    graph: OnnxGraph, frame: Frame, file: Path, *, most_in_one_file: int = MOST_IN_ONE_FILE
) -> list[Path]:
    """Write a model; returns its files: parameters of over 2 GB lie in one beside it.

    Args:
        most_in_one_file: how many bytes of parameters the model's own file may hold.
    """
    large = _large(graph.builder)
    head = _graph_message(graph, frame).SerializeToString()
    frame_bytes = _frame_message(frame).SerializeToString()
    total = sum(_size(values) for values in large.values()) + len(head) + len(frame_bytes)
    if total <= most_in_one_file:
        with open(file, "wb") as stream:
            stream.write(frame_bytes)
            _write_graph(stream, head, large)
        return [file]
    beside = _beside(file)
    with open(beside, "wb") as stream:
        stored = [_write_outside(stream, name, values) for name, values in large.items()]
    model = _frame_message(frame)
    model.graph.ParseFromString(head)
    model.graph.initializer.extend(stored)
    file.write_bytes(model.SerializeToString())
    return [file, beside]


def write_with_outputs(file: Path, copy: Path, values: Iterable[Value]) -> None:
    """Write a copy of a model, beside it, whose outputs are these values of its graph."""
    model = load_onnx().load_model(str(file), load_external_data=False)
    known = {value.name: value for value in model.graph.output}
    del model.graph.output[:]
    for value in values:
        sizes: list[str] = [""] * len(value.dims)  # any
        output = known.get(value.name) or _value_info(value.name, FLOAT, sizes)
        model.graph.output.append(output)
    copy.write_bytes(model.SerializeToString())


# --- messages ---------------------------------------------------------------------------------


def _frame_message(frame: Frame) -> Any:
    onnx = load_onnx()
    model = onnx.ModelProto(producer_name=frame.producer, producer_version=frame.version)
    opset = onnx.helper.make_opsetid("", frame.opset)
    model.opset_import.append(opset)
    model.ir_version = onnx.helper.find_min_ir_version_for([opset])
    for key, value in frame.metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model


def _graph_message(graph: OnnxGraph, frame: Frame) -> Any:
    """The graph without its large constants."""
    onnx = load_onnx()
    message = onnx.GraphProto(name=frame.name)
    for node in graph.builder.nodes:
        message.node.append(
            onnx.helper.make_node(node.op, node.inputs, node.outputs, node.name, **node.attributes)
        )
    for value in graph.inputs:
        dtype = UINT8 if value.name in graph.bytes_inputs else FLOAT
        message.input.append(_value_info(value.name, dtype, graph.sizes(value)))
    for value in graph.outputs.values():
        message.output.append(_value_info(value.name, FLOAT, graph.sizes(value)))
    for name, values in graph.builder.constants.items():
        if _size(values) <= LARGE:
            tensor = _tensor(name, values)
            tensor.raw_data = _bytes(values).tobytes()
            message.initializer.append(tensor)
    return message


def _value_info(name: str, dtype: int, dims: Iterable[str]) -> Any:
    sizes = [int(text) if text.isdecimal() else text or None for text in dims]
    return load_onnx().helper.make_tensor_value_info(name, dtype, sizes)


def _tensor(name: str, values: Tensor | Array) -> Any:
    """A tensor's message without its values."""
    return load_onnx().TensorProto(name=name, data_type=_dtype(values), dims=values.shape)


def _dtype(values: Tensor | Array) -> int:
    return int(load_onnx().helper.np_dtype_to_tensor_dtype(_array(values).dtype))


# --- bytes ------------------------------------------------------------------------------------


def _large(builder: GraphBuilder) -> dict[str, Tensor | Array]:
    return {k: values for k, values in builder.constants.items() if _size(values) > LARGE}


def _array(values: Tensor | Array) -> Array:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().contiguous().numpy()
    return np.ascontiguousarray(values)


def _bytes(values: Tensor | Array) -> Array:
    """The bytes of a constant, where they lie."""
    return _array(values).reshape(-1).view(np.uint8)


def _size(values: Tensor | Array) -> int:
    return int(values.nbytes)


def _varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _tag(message: str, field: str) -> bytes:
    """The tag that precedes the length of a field of bytes or a message."""
    descriptor = getattr(load_onnx(), message).DESCRIPTOR
    return _varint(descriptor.fields_by_name[field].number << 3 | 2)


def _write_graph(stream: BinaryIO, head: bytes, large: Mapping[str, Tensor | Array]) -> None:
    """Write the model's field `graph`: its message and the large constants behind it."""
    raw, initializer = _tag("TensorProto", "raw_data"), _tag("GraphProto", "initializer")
    starts = {}
    for name, values in large.items():
        size = _size(values)
        begin = _tensor(name, values).SerializeToString() + raw + _varint(size)
        starts[name] = initializer + _varint(len(begin) + size) + begin
    total = len(head) + sum(len(start) + _size(large[name]) for name, start in starts.items())
    stream.write(_tag("ModelProto", "graph") + _varint(total) + head)
    for name, start in starts.items():
        stream.write(start)
        stream.write(_bytes(large[name]).data)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.data")


def _write_outside(stream: BinaryIO, name: str, values: Tensor | Array) -> Any:
    """Write a constant's bytes, from a new page on, so that a reader may map them; returns the
    message that says where they lie."""
    onnx = load_onnx()
    stream.write(bytes(-stream.tell() % PAGE))
    tensor = _tensor(name, values)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    place = {"location": Path(stream.name).name, "offset": stream.tell(), "length": _size(values)}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    stream.write(_bytes(values).data)
    return tensor
