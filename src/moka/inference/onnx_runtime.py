"""ONNX Runtime as a backend: a piece becomes an ONNX model in memory, and that a session.

The exporter is imported when a program is made, so that `import caffe` takes no longer.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moka.errors import MokaError
from moka.export.onnx.library import load_runtime
from moka.inference.contract import Run, Task
from moka.inference.unpacked import unpacked
from moka.net import Place

if TYPE_CHECKING:
    from moka.inference.onnx_model import OnnxModel

KERNEL = "_kernel_time"  # at the end of the names of nodes' events in a profile


class OnnxRuntime:
    """Runs pieces in ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def is_installed(self) -> bool:
        return all(find_spec(package) is not None for package in ("onnx", "onnxruntime"))

    def takes(self, place: Place) -> bool:
        from moka.inference.onnx_model import is_exportable

        return is_exportable(place.layer)

    def times(self, task: Task, inputs: Sequence[Tensor], passes: int) -> dict[str, float]:
        from moka.inference.onnx_model import onnx_model

        model = onnx_model(task)
        seconds: defaultdict[str, float] = defaultdict(float)
        with tempfile.TemporaryDirectory() as folder:
            session, _shared = _session(model, task, profile=f"{folder}/profile")
            for _ in range(passes + 1):
                session.run(model.outputs, model.feed(inputs))
            with open(session.end_profiling(), encoding="utf-8") as file:
                events = [e for e in json.load(file) if e["name"].endswith(KERNEL)]
        for event in events[len(events) // (passes + 1) :]:  # without the first pass
            seconds[event["name"].removesuffix(KERNEL)] += event["dur"] * 1e-6 / passes
        return dict(seconds)

    def make(self, task: Task) -> Run:
        from moka.inference.onnx_model import onnx_model

        model = onnx_model(task)
        session, shared = _session(model, task)

        def run(inputs: Sequence[Tensor], _: object = shared) -> list[Tensor]:
            made = session.run(model.outputs, model.feed(inputs))
            return [torch.from_numpy(array) for array in made]

        model.large.clear()  # the session has copied the others
        return run


def _session(model: OnnxModel, task: Task, *, profile: str = "") -> tuple[Any, list[Any]]:
    """A session of ONNX Runtime, and the constants that it does not copy: they have to stay.

    Its threads wait actively for the next run for a while. That gains up to a fifth for nets of
    some milliseconds, but only if nothing else computes in between.

    Args:
        profile: where to write times of all nodes when the session ends.
    """
    runtime = load_runtime("The engine onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = task.threads
    if not task.is_whole:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    whole = unpacked(model.head, model.large)
    if whole.forbids_packing:
        options.add_session_config_entry("session.disable_prepacking", "1")
    values = {k: runtime.OrtValue.ortvalue_from_numpy(array) for k, array in model.large.items()}
    shared = [values.pop(name) for name in whole.names]
    for name, value in zip(whole.names, shared, strict=True):
        options.add_initializer(name, value)
    options.add_external_initializers(list(values), list(values.values()))
    try:
        return runtime.InferenceSession(whole.head, options, ["CPUExecutionProvider"]), shared
    except Exception as error:  # noqa: BLE001 - it has no base class of its own
        raise MokaError(f"ONNX Runtime cannot load the net: {error}") from None
