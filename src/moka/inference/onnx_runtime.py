"""ONNX Runtime as a backend: a piece becomes an ONNX model in memory, and that a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from moka.errors import MokaError, NetError
from moka.export.onnx.emit import emit
from moka.export.onnx.export import USUAL_OPSET
from moka.export.onnx.layers import check_exportable
from moka.export.onnx.library import load_runtime
from moka.export.onnx.model_file import Frame, model_in_memory, with_constants
from moka.inference.contract import Run, Task
from moka.net import Place
from moka.rewrite import fold_scales
from moka.types import Array


@dataclass(frozen=True)
class OnnxModel:
    """A piece as an ONNX model.

    Attributes:
        head: the model's bytes, without its large constants.
        large: these, by name.
        inputs: number among the piece's inputs, and name, of those that are used.
        outputs: the names of the piece's outputs.
    """

    head: bytes
    large: Mapping[str, Array]
    inputs: list[tuple[int, str]]
    outputs: list[str]

    def whole(self) -> bytes:
        """The model with its constants."""
        return with_constants(self.head, self.large)


class OnnxRuntime:
    """Runs pieces in ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def is_installed(self) -> bool:
        return all(find_spec(package) is not None for package in ("onnx", "onnxruntime"))

    def takes(self, place: Place) -> bool:
        try:
            check_exportable(place.layer.entry)
        except NetError:
            return False
        return True

    def make(self, task: Task) -> Run:
        runtime = load_runtime("The engine onnxruntime")
        model = onnx_model(task)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = task.threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
        values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in model.large.values()]
        options.add_external_initializers(list(model.large), values)  # the session copies them
        try:
            session = runtime.InferenceSession(model.head, options, ["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - it has no base class of its own
            raise MokaError(f"ONNX Runtime cannot load the net: {error}") from None
        taken, given = model.inputs, model.outputs

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            feed = {name: inputs[k].contiguous().numpy() for k, name in taken}
            return [torch.from_numpy(array) for array in session.run(given, feed)]

        return run


def onnx_model(task: Task) -> OnnxModel:
    """A piece, folded, as an ONNX model in memory.

    Raises:
        NetError: a layer that cannot be exported.
    """
    net = fold_scales(task.model, keep=task.outputs).build(silent=True)
    graph = emit(net, USUAL_OPSET, fix_batch=True, outputs=task.outputs)
    frame = Frame(task.model.frame.name or "net", USUAL_OPSET, "Moka", "", {})
    used = {value.name for value in graph.inputs}
    return OnnxModel(
        *model_in_memory(graph, frame),
        inputs=[(k, name) for k, name in enumerate(task.inputs) if name in used],
        outputs=[graph.outputs[name].name for name in task.outputs],
    )
