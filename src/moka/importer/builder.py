"""The layers and blobs of a Caffe net while it grows, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moka.errors import NetError
from moka.free_name import free_name
from moka.importer.onnx_file import OnnxModel, OnnxNode
from moka.importer.trace import Trace
from moka.layers import REGISTRY
from moka.net.spec import assign_proto
from moka.schema import caffe_pb2
from moka.types import Array, Shape

FROZEN = caffe_pb2.ParamSpec(lr_mult=0, decay_mult=0)


@dataclass(eq=False)
class MadeBlob:
    """A blob: its shape, its name once it has one, and the layer that makes it."""

    shape: Shape
    name: str = ""
    maker: MadeLayer | None = None


@dataclass(eq=False)
class MadeLayer:
    """A layer of the net.

    Attributes:
        message: its description, without bottoms and tops.
        origin: the title of the node it stands for.
        blobs: its parameters.
    """

    message: caffe_pb2.LayerParameter
    origin: str
    bottoms: list[MadeBlob]
    tops: list[MadeBlob]
    blobs: list[Array] = field(default_factory=list)


class NetBuilder:
    """Collects the layers of a net.

    Args:
        model, trace: what is imported.
        extra_layers: whether layers of Caffe's forks may be used.
        only_ceil: whether pooling must round sizes up, since the reader knows no `round_mode`.

    Attributes:
        layers: in running order.
        values: the blob of each tensor that has one.
    """

    def __init__(
        self, model: OnnxModel, trace: Trace, *, extra_layers: bool, only_ceil: bool
    ) -> None:
        self.model = model
        self.trace = trace
        self.extra_layers = extra_layers
        self.only_ceil = only_ceil
        self.layers: list[MadeLayer] = []
        self.values: dict[str, MadeBlob] = {}
        self._names: set[str] = set()

    def add_input(self, name: str, shape: Shape) -> None:
        """Add an Input layer."""
        message = caffe_pb2.LayerParameter(name=self.unique(name), type="Input")
        message.input_param.shape.add().dim.extend(shape)
        layer = MadeLayer(message, f'input "{name}"', [], [])
        layer.tops.append(MadeBlob(shape, name, layer))
        self.layers.append(layer)
        self.values[name] = layer.tops[0]

    def unique(self, name: str) -> str:
        """A name for a layer: this one, or with a number behind it if it is taken."""
        found = free_name(name, self._names)
        self._names.add(found)
        return found


class NodeSite:
    """Where the layers of one node are built."""

    def __init__(self, builder: NetBuilder, node: OnnxNode) -> None:
        self.builder = builder
        self.node = node
        self._first = len(builder.layers)

    # --- what the node has -----------------------------------------------------------------

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value; strings as text."""
        value = self.node.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has_input(self, index: int) -> bool:
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def is_variable(self, index: int) -> bool:
        """Whether input number `index` depends on the net's inputs."""
        return self.has_input(index) and self.node.inputs[index] in self.builder.trace.variable

    def constant(self, index: int) -> Array | None:
        """The values of input number `index`; None if it is left out.

        Raises:
            NetError: it is no constant.
        """
        if not self.has_input(index):
            return None
        if self.is_variable(index):
            raise NetError(f'its input "{self.node.inputs[index]}" must be a constant.')
        return self.builder.trace.values[self.node.inputs[index]]

    def weights(self, index: int) -> Array:
        """`constant` as float32; the node needs it."""
        values = self.constant(index)
        if values is None:
            raise NetError(f"its input {index} is missing.")
        return np.asarray(values, np.float32)

    def setting(self, name: str, index: int, default: Any = None) -> Any:
        """A value that is an attribute in older opsets and input number `index` in newer ones."""
        if name in self.node.attributes:
            return self.attribute(name)
        values = self.constant(index)
        return default if values is None else values.tolist()

    def is_learned(self, index: int) -> bool:
        """Whether input number `index` is stored beside the graph, as weights are."""
        return self.node.inputs[index] in self.builder.model.parameters

    def blob(self, index: int) -> MadeBlob:
        """The blob of input number `index`.

        Raises:
            NetError: it is a constant.
        """
        return self.blob_of(self.node.inputs[index])

    def blob_of(self, tensor: str) -> MadeBlob:
        """The blob of a tensor; raises NetError for a constant."""
        if tensor not in self.builder.values:
            raise NetError(f'its input "{tensor}" is a constant, and Caffe has no blob for it.')
        return self.builder.values[tensor]

    def is_used(self, output: int) -> bool:
        """Whether anybody reads output number `output`."""
        outputs = self.node.outputs
        return output < len(outputs) and bool(self.builder.model.uses[outputs[output]])

    def maker(self, index: int) -> OnnxNode | None:
        """The node that makes input number `index`."""
        return self.builder.model.makers.get(self.node.inputs[index])

    def result_shape(self, output: int = 0) -> Shape:
        """The shape of output number `output`."""
        return tuple(self.builder.trace.values[self.node.outputs[output]].shape)

    # --- what it becomes -------------------------------------------------------------------

    def add(
        self,
        type_name: str,
        *bottoms: MadeBlob,
        blobs: Sequence[Array] = (),
        learned: bool = True,
        part: str = "",
        **options: Any,
    ) -> MadeBlob:
        """Add a layer with one top, which is returned; see `add_several`."""
        return self.add_several(
            type_name, *bottoms, tops=1, blobs=blobs, learned=learned, part=part, **options
        )[0]

    def add_several(
        self,
        type_name: str,
        *bottoms: MadeBlob,
        tops: int,
        blobs: Sequence[Array] = (),
        learned: bool = True,
        part: str = "",
        **options: Any,
    ) -> list[MadeBlob]:
        """Add a layer.

        Args:
            blobs: its parameters.
            learned: whether a solver trains them.
            part: what it does for the node, if it is not the node's last layer.
            options: messages as dicts, such as `power_param={"scale": 2.0}`.

        Raises:
            NetError: the layer cannot take these bottoms, or only forks of Caffe have it.
        """
        entry = REGISTRY.get(type_name)
        if entry is None or (entry.fork and not self.builder.extra_layers):
            raise NetError(
                f"it needs the layer {type_name}, which only forks of Caffe have.",
                advice="Allow such layers with --extra_layers." if entry else None,
            )
        message = caffe_pb2.LayerParameter(type=type_name, phase=caffe_pb2.TEST)
        for name, value in options.items():
            assign_proto(message, name, value)
        message.bottom.extend("b" for _ in bottoms)
        message.top.extend("t" for _ in range(tops))
        made = entry.make(message, *(bottom.shape for bottom in bottoms))
        wanted = [tuple(shape) for shape in made.blob_shapes]
        if wanted != [tuple(blob.shape) for blob in blobs]:
            raise NetError(f"its parameters have the shapes {[b.shape for b in blobs]}, the layer"
                           f" {type_name} takes {wanted}.")  # fmt: skip
        for name in ("bottom", "top", "phase"):
            message.ClearField(name)
        if blobs and not learned:
            message.param.extend(FROZEN for _ in blobs)
        message.name = f"/{part}" if part else ""
        layer = MadeLayer(
            message, str(self.node), list(bottoms), [], [np.asarray(b, np.float32) for b in blobs]
        )
        layer.tops = [MadeBlob(shape, "", layer) for shape in made.first_top_shapes]
        self.builder.layers.append(layer)
        return layer.tops

    def give(self, value: MadeBlob, output: int = 0) -> None:
        """Say which blob is output number `output` of the node.

        Raises:
            NetError: its shape differs from the tensor's.
        """
        tensor = self.node.outputs[output]
        if value.shape != self.result_shape(output):
            raise NetError(
                f"its form in Caffe would have the shape {value.shape}, not"
                f" {self.result_shape(output)}."
            )
        if not value.name:
            value.name = tensor
        self.builder.values[tensor] = value

    def close(self) -> None:
        """Name the node's layers: the last one as the node, the others with their part behind."""
        layers = self.builder.layers[self._first :]
        for layer in layers[-1:] + layers[:-1]:
            part = layer.message.name or f"/{layer.message.type.lower()}"
            name = self.node.name if layer is layers[-1] else self.node.name + part
            layer.message.name = self.builder.unique(name)

    # --- forms that many operators share ---------------------------------------------------

    def reshape(self, x: MadeBlob, shape: Sequence[int], part: str = "reshape") -> MadeBlob:
        """x in another shape. A first axis that stays follows the batch's size; one that changes
        takes what the other axes leave."""
        shape = tuple(shape)
        if shape == x.shape:
            return x
        if x.shape[:1] == shape[:1]:
            if len(shape) == 2 and len(x.shape) > 2:
                return self.add("Flatten", x, part=part)
            dims = [0, *shape[1:]]
        else:
            dims = [-1, *shape[1:]] if shape else []
        return self.add("Reshape", x, part=part, reshape_param={"shape": {"dim": dims}})

    def power(self, x: MadeBlob, *, power: float = 1.0, scale: float = 1.0, shift: float = 0.0,
              part: str = "power") -> MadeBlob:  # fmt: skip
        """(shift + scale x) ^ power."""
        given = {"power": (power, 1.0), "scale": (scale, 1.0), "shift": (shift, 0.0)}
        options = {name: float(v) for name, (v, default) in given.items() if v != default}
        return self.add("Power", x, part=part, power_param=options) if options else x

    def eltwise(self, operation: str, *bottoms: MadeBlob, part: str = "eltwise",
                **options: Any) -> MadeBlob:  # fmt: skip
        """SUM, PROD or MAX of blobs of one shape."""
        return self.add(
            "Eltwise", *bottoms, part=part, eltwise_param={"operation": operation_number(operation),
                                                           **options}
        )  # fmt: skip

    def cut(self, x: MadeBlob, axis: int, start: int, end: int, part: str = "slice") -> MadeBlob:
        """x from `start` to `end` along an axis."""
        size = x.shape[axis]
        if (start, end) == (0, size):
            return x
        points = [p for p in (start, end) if 0 < p < size]
        parts = self.add_several(
            "Slice",
            x,
            tops=len(points) + 1,
            part=part,
            slice_param={"axis": axis, "slice_point": points},
        )
        return parts[1 if start > 0 else 0]

    def tile(self, x: MadeBlob, shape: Sequence[int]) -> MadeBlob:
        """x repeated along its axes of size 1 until it has this shape."""
        x = self.reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape)
        for axis, (have, want) in enumerate(zip(x.shape, shape, strict=True)):
            if have != want:
                x = self.add("Tile", x, part=f"tile{axis}",
                             tile_param={"axis": axis, "tiles": want})  # fmt: skip
        return x


def operation_number(name: str) -> int:
    """The number of an operation of Eltwise."""
    return caffe_pb2.EltwiseParameter.EltwiseOp.Value(name)
