"""A piece of a net as an ONNX model in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from moka.errors import NetError
from moka.export.onnx.emit import emit
from moka.export.onnx.export import USUAL_OPSET
from moka.export.onnx.layers import check_exportable
from moka.export.onnx.model_file import Frame, model_in_memory, with_constants
from moka.inference.contract import Task
from moka.layers.base import Layer
from moka.types import Array

LARGE = 2**20  # numbers; PyTorch's threads copy so many faster


@dataclass(frozen=True)
class OnnxModel:
    """A piece as an ONNX model.

    Attributes:
        head: the model's bytes, without its large constants.
        large: these, by name.
        inputs: number among the piece's inputs, and name, of those that are used.
        outputs: the names of the piece's outputs.
        numbers: how many all blobs hold.
    """

    head: bytes
    large: dict[str, Array]
    inputs: list[tuple[int, str]]
    outputs: list[str]
    numbers: int

    def feed(self, inputs: Sequence[Tensor]) -> dict[str, Array]:
        """What a session takes."""
        return {name: _row_major(inputs[k]) for k, name in self.inputs}

    def whole(self) -> bytes:
        """The model with its constants."""
        return with_constants(self.head, self.large)


def _row_major(tensor: Tensor) -> Array:
    """A tensor as a row-major array. NumPy copies small ones on one thread: OpenMP's threads would
    wait actively for PyTorch's next work, in the way of the session's."""
    if tensor.is_contiguous() or tensor.numel() > LARGE:
        return tensor.contiguous().numpy()
    return np.ascontiguousarray(tensor.numpy())


def is_exportable(layer: Layer) -> bool:
    """Whether a layer has a form in ONNX."""
    try:
        check_exportable(layer)
    except NetError:
        return False
    return True


def onnx_model(task: Task) -> OnnxModel:
    """A piece, folded, as an ONNX model in memory.

    Raises:
        NetError: a layer that cannot be exported.
    """
    net = task.folded_net()
    graph = emit(net, USUAL_OPSET, fix_batch=True, outputs=task.outputs)
    frame = Frame(task.model.frame.name or "net", USUAL_OPSET, "Moka", "", {})
    used = {value.name for value in graph.inputs}
    return OnnxModel(
        *model_in_memory(graph, frame),
        inputs=[(k, name) for k, name in enumerate(task.inputs) if name in used],
        outputs=[graph.outputs[name].name for name in task.outputs],
        numbers=sum(blob.count for blob in net.blobs.values()),
    )
