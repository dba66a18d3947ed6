"""OpenVINO as a backend: it reads the ONNX model that ONNX Runtime would get."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moka.errors import MokaError
from moka.export.onnx.library import load_onnx
from moka.inference.contract import Run, Task
from moka.inference.onnx_runtime import OnnxRuntime

if TYPE_CHECKING:
    from moka.inference.onnx_model import OnnxModel


class OpenVino(OnnxRuntime):
    """Runs pieces in OpenVINO on the CPU, in single precision."""

    name = "openvino"

    def is_installed(self) -> bool:
        return all(find_spec(package) is not None for package in ("onnx", "openvino"))

    def times(self, task: Task, inputs: Sequence[Tensor], passes: int) -> dict[str, float]:
        return {}

    def make(self, task: Task) -> Run:
        from moka.inference.onnx_model import onnx_model

        openvino: Any = import_module("openvino")
        model = onnx_model(task)
        core = openvino.Core()
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": task.threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            try:
                read = _sharing(core, model)
            except Exception:  # noqa: BLE001 - an operator that wants constants, perhaps
                read = core.read_model(io.BytesIO(model.whole()))
            compiled = core.compile_model(read, "CPU", options)
        except Exception as error:  # noqa: BLE001 - it has no base class of its own
            raise MokaError(f"OpenVINO cannot load the net: {error}") from None
        local = threading.local()  # a request serves one thread at a time

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            if not hasattr(local, "request"):
                local.request = compiled.create_infer_request()
            found = local.request.infer(model.feed(inputs), share_inputs=True, share_outputs=False)
            return [torch.from_numpy(found[name]) for name in model.outputs]

        return run


def _sharing(core: Any, model: OnnxModel) -> Any:
    """The model as OpenVINO's, with large constants that lie where they are.

    OpenVINO copies the constants of a model that it reads from memory, and again when it packs
    them: 240 MB for CaffeNet. So it reads them as inputs, which then become constants.
    """
    constant = import_module("openvino").op.Constant
    head = load_onnx().ModelProto.FromString(model.head)
    constants, make_info = list(head.graph.initializer), load_onnx().helper.make_tensor_value_info
    del head.graph.initializer[:]
    for tensor in constants:
        if tensor.name in model.large:
            head.graph.input.append(make_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            head.graph.initializer.append(tensor)
    read = core.read_model(io.BytesIO(head.SerializeToString()))
    for parameter in read.get_parameters():
        values = model.large.get(parameter.get_friendly_name())
        if values is not None:
            shared = constant(values, shared_memory=True)
            parameter.output(0).replace(shared.output(0))
            read.remove_parameter(parameter)
    read.validate_nodes_and_infer_types()
    return read
