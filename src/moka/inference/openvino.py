"""OpenVINO as a backend: it reads the ONNX model that ONNX Runtime would get."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from moka.errors import MokaError
from moka.inference.contract import Run, Task
from moka.inference.onnx_runtime import OnnxRuntime


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
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": task.threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            core = openvino.Core()
            whole = io.BytesIO(model.whole())
            compiled = core.compile_model(core.read_model(whole), "CPU", options)
        except Exception as error:  # noqa: BLE001 - it has no base class of its own
            raise MokaError(f"OpenVINO cannot load the net: {error}") from None
        local = threading.local()  # a request serves one thread at a time

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            if not hasattr(local, "request"):
                local.request = compiled.create_infer_request()
            found = local.request.infer(model.feed(inputs), share_inputs=True, share_outputs=False)
            return [torch.from_numpy(found[name]) for name in model.outputs]

        return run
