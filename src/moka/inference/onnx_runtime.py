"""ONNX Runtime as a backend: a piece becomes an ONNX model in memory, and that a session."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

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

KERNEL = "_kernel_time"  # at the end of the names of nodes' events in a profile


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
    large: dict[str, Array]
    inputs: list[tuple[int, str]]
    outputs: list[str]

    def feed(self, inputs: Sequence[Tensor]) -> dict[str, Array]:
        """What a session takes."""
        return {name: inputs[k].contiguous().numpy() for k, name in self.inputs}

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

    def times(self, task: Task, inputs: Sequence[Tensor], passes: int) -> dict[str, float]:
        model = onnx_model(task)
        seconds: defaultdict[str, float] = defaultdict(float)
        with tempfile.TemporaryDirectory() as folder:
            session = _session(model, task.threads, profile=f"{folder}/profile")
            for _ in range(passes + 1):
                session.run(model.outputs, model.feed(inputs))
            with open(session.end_profiling(), encoding="utf-8") as file:
                events = [e for e in json.load(file) if e["name"].endswith(KERNEL)]
        for event in events[len(events) // (passes + 1) :]:  # without the first pass
            seconds[event["name"].removesuffix(KERNEL)] += event["dur"] * 1e-6 / passes
        return dict(seconds)

    def make(self, task: Task) -> Run:
        model = onnx_model(task)
        session = _session(model, task.threads)

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            made = session.run(model.outputs, model.feed(inputs))
            return [torch.from_numpy(array) for array in made]

        model.large.clear()  # the session has copied them
        return run


def _session(model: OnnxModel, threads: int, *, profile: str = "") -> Any:
    """A session of ONNX Runtime.

    Args:
        profile: where to write times of all nodes when the session ends.
    """
    runtime = load_runtime("The engine onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in model.large.values()]
    options.add_external_initializers(list(model.large), values)
    try:
        return runtime.InferenceSession(model.head, options, ["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - it has no base class of its own
        raise MokaError(f"ONNX Runtime cannot load the net: {error}") from None


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
