"""ONNX Runtime as a backend: a piece becomes an ONNX model in memory, and that a session.

The exporter is imported when a program is made, so that `import caffe` takes no longer.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moka.errors import MokaError
from moka.export.onnx.library import load_runtime
from moka.huge_pages import NewMemory, put_on_large_pages
from moka.inference.contract import Run, Task
from moka.inference.pressure import Pressure
from moka.inference.unpacked import unpacked
from moka.net import Place
from moka.two_ways import TwoWays
from moka.types import Array

if TYPE_CHECKING:
    from moka.inference.onnx_model import OnnxModel

log = logging.getLogger("moka.detail")

SMALL_BYTES = 2**25  # of weights; the threads of larger nets wait little, and copies cost memory
SHORT_SPIN_US = 20
FILE_BYTES = 2**23  # of large constants, from which on they go to the session through a file
NOTHING_SHARED: Mapping[str, Any] = MappingProxyType({})
# Numbers in all blobs. ONNX Runtime takes memory for a whole pass at once ("pattern"), beside what
# the first pass has taken piece by piece: GoogLeNet 10 holds 292 MB with it and 185 without, in the
# same time. At batch 1 it saves 0.7 % of the time.
MOST_IN_PATTERN = 2**24
KERNEL = "_kernel_time"  # at the end of the names of nodes' events in a profile


class OnnxRuntime:
    """Runs pieces in ONNX Runtime on the CPU."""

    name = "onnxruntime"
    gives_new_memory = True

    def is_installed(self) -> bool:
        return all(find_spec(package) is not None for package in ("onnx", "onnxruntime"))

    def takes(self, place: Place) -> bool:
        from moka.inference.onnx_model import is_exportable

        return is_exportable(place.layer)

    def times(self, task: Task, inputs: Sequence[Tensor], passes: int) -> dict[str, float]:
        from moka.inference.onnx_model import onnx_model

        model = onnx_model(task)
        seconds: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * passes)
        with tempfile.TemporaryDirectory() as folder:
            session, _shared = _session(model, task, profile=f"{folder}/profile")
            for _ in range(passes + 1):
                session.run(model.outputs, model.feed(inputs))
            with open(session.end_profiling(), encoding="utf-8") as file:
                events = [e for e in json.load(file) if e["name"].endswith(KERNEL)]
        each = len(events) // (passes + 1)  # a pass has so many; the first warms up
        for k, event in enumerate(events[each:]):
            seconds[event["name"].removesuffix(KERNEL)][k // each] += event["dur"] * 1e-6
        return {name: median(times) for name, times in seconds.items()}

    def make(self, task: Task) -> Run:
        from moka.inference.onnx_model import onnx_model

        model = onnx_model(task)
        is_small = _bytes_of(model) < SMALL_BYTES  # before its large constants are gone
        session, shared = _session(model, task)
        if task.threads == 1 or not is_small:
            return _Alone(model, session, shared)
        return _Sessions(model, session, shared, task)


class _Alone:
    """Runs a model by one session.

    Args:
        shared: constants that the session does not copy, by name.
    """

    def __init__(self, model: OnnxModel, session: Any, shared: dict[str, Any]) -> None:
        self._model, self._session, self._shared = model, session, shared

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        made = self._session.run(self._model.outputs, self._model.feed(inputs))
        return [torch.from_numpy(array) for array in made]


class _Sessions(_Alone):
    """Runs a model by the one of two sessions that is faster at the moment; they give the same
    bits.

    The threads of ONNX Runtime wait for each other in a loop, which is best on a quiet machine.
    Beside other programs the thread that is waited for may not run at all; the threads of the
    second session sleep soon (MobileNet v2, one image, two threads beside two busy loops: 75 ms and
    45 ms, on one thread 53). It costs memory (GoogLeNet, batch 10: 190 MB), so it is made when
    other programs have taken the processor from this thread. Of passes that several threads run at
    once, one is measured.
    """

    def __init__(self, model: OnnxModel, session: Any, shared: dict[str, Any], task: Task) -> None:
        super().__init__(model, session, shared)
        self._task = task
        self._ways = TwoWays(Pressure().is_felt)
        self._sleeping: Any = None
        self._is_measuring = threading.Lock()

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if not self._is_measuring.acquire(blocking=False):
            return super().__call__(inputs)
        try:
            session = self._session if self._ways.way == 0 else self._sleeping_session(inputs)
            start = perf_counter()
            made = session.run(self._model.outputs, self._model.feed(inputs))
            self._ways.took(perf_counter() - start)
        finally:
            self._is_measuring.release()
        return [torch.from_numpy(array) for array in made]

    def _sleeping_session(self, inputs: Sequence[Tensor]) -> Any:
        if self._sleeping is None:
            from moka.inference.onnx_model import onnx_model

            new_memory = NewMemory()
            model, spin_us = onnx_model(self._task), SHORT_SPIN_US
            self._sleeping, _ = _session(model, self._task, spin_us=spin_us, shared=self._shared)
            self._sleeping.run(model.outputs, model.feed(inputs))  # takes its memory
            put_on_large_pages(new_memory.ranges())  # as the first one's lies by now
        return self._sleeping


def _bytes_of(model: OnnxModel) -> int:
    return len(model.head) + sum(array.nbytes for array in model.large.values())


def _session(
    model: OnnxModel,
    task: Task,
    *,
    profile: str = "",
    spin_us: int | None = None,
    shared: Mapping[str, Any] = NOTHING_SHARED,
) -> tuple[Any, dict[str, Any]]:
    """A session of ONNX Runtime, and the constants that it does not copy, by name: they have to
    stay. The model loses its large constants.

    Its threads wait actively for the next run for a while. That gains up to a fifth for nets of
    some milliseconds, but only if nothing else computes in between.

    Args:
        profile: where to write times of all nodes when the session ends.
        spin_us: how long a thread waits in a loop before it sleeps; None: ONNX Runtime decides.
        shared: such constants of another session of the model.
    """
    runtime = load_runtime("The engine onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = task.threads
    options.enable_mem_pattern = model.numbers <= MOST_IN_PATTERN
    if not task.is_whole:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if spin_us is not None:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    whole = unpacked(model.head, model.large)
    if whole.forbids_packing:
        options.add_session_config_entry("session.disable_prepacking", "1")
    ort_value = runtime.OrtValue.ortvalue_from_numpy
    own = {name: ort_value(model.large.pop(name)) for name in whole.names}
    constants = {**own, **shared}
    for name, value in constants.items():
        options.add_initializer(name, value)

    def load(source: bytes | str) -> Any:
        try:
            return runtime.InferenceSession(source, options, ["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - it has no base class of its own
            raise MokaError(f"ONNX Runtime cannot load the net: {error}") from None

    with ExitStack() as stack:
        file = _file_of(whole.head, model.large, stack)
        if file is None:
            values = [ort_value(array) for array in model.large.values()]
            options.add_external_initializers(list(model.large), values)
        else:
            model.large.clear()
        session = load(whole.head if file is None else str(file))
    model.large.clear()
    return session, constants


def _file_of(head: bytes, large: Mapping[str, Array], stack: ExitStack) -> Path | None:
    """A temporary file of a model, with its large constants beside it; None if they are few, or
    cannot be written.

    ONNX Runtime maps one constant at a time there. Constants in memory it copies all at once,
    beside the arrays themselves: loading ResNet-50 took 366 MB at the peak, and takes 182. What it
    uses as it lies stays mapped after the file is gone.

    Args:
        stack: at its end the file is gone.
    """
    if os.name != "posix" or sum(values.nbytes for values in large.values()) < FILE_BYTES:
        return None
    from moka.export.onnx.model_file import write_beside

    try:
        folder = tempfile.TemporaryDirectory(prefix="moka-", ignore_cleanup_errors=True)
        file = Path(stack.enter_context(folder), "net.onnx")
        write_beside(head, large, file)
    except OSError as error:
        log.debug("The net's constants stay in memory: %s", error)
        return None
    return file
