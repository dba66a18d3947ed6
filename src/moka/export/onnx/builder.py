"""The nodes and constants of an ONNX graph while it grows, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from moka.errors import NetError
from moka.export.onnx.dims import Dims, target_of_reshape
from moka.export.onnx.library import load_onnx
from moka.free_name import free_name
from moka.layers.base import Layer
from moka.types import Array, Shape

FLOAT, INT64 = 1, 7  # data types as ONNX numbers them


class Value(NamedTuple):
    """What flows between nodes: its name in the graph, and its dims (see `dims`)."""

    name: str
    dims: Dims


@dataclass
class NewNode:
    """A node before it is written. "" among the inputs is one that is left out."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


class GraphBuilder:
    """Collects nodes and constants.

    Args:
        opset: the version of ONNX's operators.
        half: store parameters as float16, where that changes no number.

    Attributes:
        nodes: in running order.
        constants: values by name: parameters, which stay where the net has them, and arrays.
    """

    def __init__(self, opset: int, *, half: bool = False) -> None:
        self.opset = opset
        self.half = half
        self.nodes: list[NewNode] = []
        self.constants: dict[str, Tensor | Array] = {}
        self._names: set[str] = set()
        self._asked: Counter[str] = Counter()  # how often for each name
        self._parameters: dict[tuple[int, Shape, Shape], tuple[str, Tensor]] = {}

    def unique(self, name: str) -> str:
        """The name itself, or with a number behind it if it is taken."""
        self._asked[name] += 1
        found = free_name(name, self._names, first=max(2, self._asked[name]))
        self._names.add(found)
        return found

    def constant(self, name: str, values: Array | Tensor) -> str:
        """Add a constant; returns its name, which begins as asked for."""
        found = self.unique(name)
        self.constants[found] = values
        return found

    def parameter(self, name: str, values: Tensor) -> str:
        """Add a parameter, once for all layers that share it; returns the name of its value."""
        key = (values.data_ptr(), tuple(values.shape), values.stride())
        if key not in self._parameters or not values.numel():
            # The tensor stays, so that no other one gets its place in memory.
            self._parameters[key] = (self._add_parameter(name, values), values)
        return self._parameters[key][0]

    def _add_parameter(self, name: str, values: Tensor) -> str:
        if not self.half or not torch.equal(values.half().float(), values):
            return self.constant(
                name, values
            )  # the net's own are rounded, what is made of them not
        stored = self.constant(f"{name}.half", values.half())
        output = self.unique(name)
        self.nodes.append(
            NewNode("Cast", self.unique(f"{name}/Cast"), [stored], [output], {"to": FLOAT})
        )
        return output


class Site:
    """Where the nodes of one layer are built.

    Attributes:
        name: the layer's.
        tops: the dims of its tops.
        opset: the version of ONNX's operators.
    """

    def __init__(self, builder: GraphBuilder, layer: Layer, tops: Sequence[Dims]) -> None:
        self._builder = builder
        self._layer = layer
        self._first = len(builder.nodes)
        self.name = layer.config.name or layer.config.type
        self.tops = list(tops)
        self.opset = builder.opset

    def need_opset(self, least: int, operator: str) -> None:
        """Raise NetError if the opset is older than an operator."""
        if self.opset < least:
            raise NetError(
                f"needs the operator {operator} of opset {least}, asked for is {self.opset}.",
                advice=f"Export with opset {least} or newer.",
            )

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.add_several(op, *inputs, outputs=1, **attributes)[0]

    def add_several(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their names."""
        builder = self._builder
        made = [builder.unique(f"{self.name}/{op}:{k}") for k in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        builder.nodes.append(NewNode(op, "", list(inputs), made, given))
        return made

    def close(self) -> None:
        """Name the nodes: the last one as the layer, the others also by their operators."""
        nodes = self._builder.nodes[self._first :]
        for node in nodes[-1:] + nodes[:-1]:
            if not node.name:
                last = node is nodes[-1]
                node.name = self._builder.unique(self.name if last else f"{self.name}/{node.op}")

    def weight(self, index: int) -> str:
        """Parameter number `index` of the layer."""
        name = f"{self.name}.{self._layer.parameter_names[index]}"
        return self._builder.parameter(name, self._layer.blobs[index].detach())

    def weights(self) -> list[str]:
        """All parameters of the layer."""
        return [self.weight(k) for k in range(len(self._layer.blobs))]

    def changed_weight(self, index: int, values: Tensor) -> str:
        """Values made of parameter number `index`, stored in its place."""
        name = f"{self.name}.{self._layer.parameter_names[index]}"
        return self._builder.parameter(name, values.detach())

    def constant(self, values: Array | Tensor, name: str = "constant") -> str:
        """An array as a constant."""
        return self._builder.constant(f"{self.name}/{name}", values)

    def values_of(self, name: str) -> Array | None:
        """The array that a value is; None if it is no constant."""
        found = self._builder.constants.get(name)
        return found.detach().cpu().numpy() if isinstance(found, Tensor) else found

    def number(self, value: float) -> str:
        """A float as a constant."""
        return self.constant(np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        """Integers as a constant (their count,)."""
        return self.constant(np.array(values, np.int64))

    def tensor(self, values: Array) -> Any:
        """An array as an attribute."""
        return load_onnx().numpy_helper.from_array(values)

    def parts(self, values: Array | Sequence[float]) -> str:
        """A float32 array as a constant."""
        return self.constant(np.ascontiguousarray(values, np.float32))

    # Operators whose form depends on the opset, or that many layers use.

    def reshape(self, x: Value, dims: Sequence[int]) -> str:
        """x with these dims."""
        if tuple(dims) == x.dims:
            return x.name
        return self.add("Reshape", x.name, self.ints(*target_of_reshape(dims, x.dims)))

    def reshaped(self, x: Value, dims: Sequence[int]) -> Value:
        """`reshape` as a value."""
        return Value(self.reshape(x, dims), tuple(dims))

    def reduce(self, op: str, x: str, axes: Sequence[int], *, keep: bool) -> str:
        """ReduceSum, ReduceMean, ReduceMax or another of these over some axes."""
        as_input = self.opset >= 18 or op == "ReduceSum"
        if as_input:
            return self.add(op, x, self.ints(*axes), keepdims=int(keep))
        return self.add(op, x, axes=list(axes), keepdims=int(keep))

    def pad(self, x: str, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> str:
        """x with so many more values (fewer, if below 0) on each side of each axis."""
        return self.add("Pad", x, self.ints(*before, *after), self.number(value))

    def slice(self, x: str, axis: int, start: int, end: int) -> str:
        """x from `start` to `end` along an axis."""
        return self.add("Slice", x, self.ints(start), self.ints(end), self.ints(axis))

    def scaled(self, x: str, factor: float, shift: float = 0.0) -> str:
        """factor x + shift."""
        y = x if factor == 1 else self.add("Mul", x, self.number(factor))
        return y if shift == 0 else self.add("Add", y, self.number(shift))
