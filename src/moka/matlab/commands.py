"""The commands of matcaffe's gateway: one table from a name to a function.

Arguments and results are plain values (`moka.matlab.values`); arrays are in Caffe's shapes.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moka.blob import Blob
from moka.context import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from moka.engine.channels_last import channels_last
from moka.engine.layerwise import Layerwise
from moka.errors import UsageError, did_you_mean
from moka.hdf5 import import_h5py
from moka.inference.blobs import FastBlobs
from moka.inference.engines import may_record
from moka.matlab.arguments import GatewayCommand, take_argument
from moka.matlab.session import HandleTable, NumberedLayer
from moka.matlab.values import Column, PlainValue, Row, Texts, matlab_size
from moka.memory import Memory
from moka.net import build_net
from moka.report.caffe_log import log_record
from moka.report.glog import add_log_file, show_pycaffe_log
from moka.schema import caffe_pb2, read_binary, write_binary
from moka.schema.blobproto import from_array, to_array
from moka.solver.snapshots.state_file import read_state, write_state
from moka.solver.solver import Solver
from moka.types import Array, Floats
from moka.weights import load_weights, save_weights, share_weights

CAFFE_VERSION = "1.0.0"  # whose commands these are
_PHASES = {"train": caffe_pb2.TRAIN, "test": caffe_pb2.TEST}


def run_command(session: HandleTable, name: str, arguments: list[Any]) -> PlainValue:
    """Run a command.

    Raises:
        UsageError: no such command, or arguments that it does not take.
        MokaError: a fault of the net, solver or files.
    """
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f'Unknown command "{name}".', advice=did_you_mean(name, COMMANDS))
    if len(arguments) != len(command.takes):
        wanted = ", ".join(command.takes) or "nothing"
        raise UsageError(f"{name} takes {wanted}, got {len(arguments)} arguments.")
    taken = [
        take_argument(session, name, kind, argument)
        for kind, argument in zip(command.takes, arguments, strict=True)
    ]
    return command.run(session, *taken)


# --- nets -------------------------------------------------------------------------------------


def _get_net(session: HandleTable, model: str, phase: str) -> PlainValue:
    made_for = _phase(phase)
    show_pycaffe_log()
    return session.handles([FastBlobs(build_net(model, made_for))])


def _phase(name: str) -> caffe_pb2.Phase:
    if name not in _PHASES:
        raise UsageError(f"the phase is 'train' or 'test', got '{name}'.")
    return _PHASES[name]


def _net_get_attr(session: HandleTable, engine: Layerwise) -> PlainValue:
    net = engine.net
    names = list(net.blobs)
    layers = [NumberedLayer(engine, i) for i in range(len(net.places))]
    return {
        "hLayer_layers": session.handles(layers, engine),
        "hBlob_blobs": session.handles(net.blobs.values(), engine),
        "input_blob_indices": Column(map(names.index, net.graph.inputs)),
        "output_blob_indices": Column(map(names.index, net.graph.outputs)),
        "layer_names": Texts(place.node.name for place in net.places),
        "blob_names": Texts(names),
    }


def _net_forward(_: HandleTable, engine: Layerwise) -> None:
    engine.forward()


def _net_backward(_: HandleTable, engine: Layerwise) -> None:
    engine.backward()


def _net_set_phase(_: HandleTable, engine: Layerwise, phase: str) -> None:
    net = engine.net
    training = _phase(phase) == caffe_pb2.TRAIN
    if training and net.graph.phase != caffe_pb2.TRAIN:
        raise UsageError(
            "the net was made for 'test' and cannot train.",
            advice="Make it with caffe.Net(model, 'train').",
        )
    net.train(training)


def _net_share(_: HandleTable, engine: Layerwise, owner: Layerwise) -> None:
    for each in (engine, owner):
        each.settle()
    share_weights(engine.net, owner.net, own_gradients=True)


def _net_reshape(_: HandleTable, engine: Layerwise) -> None:
    engine.net.reshape()


def _net_copy_from(_: HandleTable, engine: Layerwise, file: str) -> None:
    load_weights(engine.net, file)


def _net_save(_: HandleTable, engine: Layerwise, file: str) -> None:
    save_weights(engine.net, file)


def _delete(session: HandleTable, value: object) -> None:
    session.delete(value)


def _layer_get_attr(session: HandleTable, layer: NumberedLayer) -> PlainValue:
    blobs = layer.engine.net.layer_blobs(layer.number)
    return {"hBlob_blobs": session.handles(blobs, layer.engine)}


def _layer_get_type(_: HandleTable, layer: NumberedLayer) -> PlainValue:
    return layer.engine.net.places[layer.number].node.type


# --- blobs ------------------------------------------------------------------------------------


def _blob_get_shape(_: HandleTable, blob: Blob) -> PlainValue:
    return Row(reversed(blob.shape))


def _blob_reshape(_: HandleTable, blob: Blob, size: Row) -> None:
    if any(axis != int(axis) for axis in size):
        raise UsageError(f"the sizes of a blob are whole numbers, got {_written(size)}.")
    blob.reshape(*(int(axis) for axis in reversed(size)))


def _read(memory: Memory) -> Floats:
    """The numbers, row-major. They are copied only if an engine keeps them in another order."""
    array: Floats = memory.cpu_data().detach().float().contiguous().numpy()
    return array


def _as_is(values: Tensor) -> Tensor:
    return values


def _write(memory: Memory, values: Floats, lay_out: Callable[[Tensor], Tensor] = _as_is) -> None:
    """Take an array of as many elements; it becomes the blob's own unless its memory is a
    parameter's or was handed out."""
    shape = memory.shape
    if values.size != prod(shape):
        have, want = list(matlab_size(shape)), list(matlab_size(values.shape))
        raise UsageError(
            f"the blob has size {_written(have)}, got an array of size {_written(want)}."
        )
    memory.put(lay_out(torch.from_numpy(values.reshape(shape))))


def _written(size: Any) -> str:
    return "[" + " ".join(f"{axis:g}" for axis in size) + "]"


def _blob_get_data(_: HandleTable, blob: Blob) -> PlainValue:
    return _read(blob.data_memory)


def _blob_set_data(_: HandleTable, blob: Blob, values: Floats) -> None:
    _write(blob.data_memory, values, channels_last)  # as engines take images


def _blob_get_diff(_: HandleTable, blob: Blob) -> PlainValue:
    return _read(blob.fitted_diff_memory())


def _blob_set_diff(_: HandleTable, blob: Blob, values: Floats) -> None:
    _write(blob.fitted_diff_memory(), values)


# --- solvers ----------------------------------------------------------------------------------


def _get_solver(session: HandleTable, file: str) -> PlainValue:
    show_pycaffe_log()
    solver = Solver(file, listeners=[log_record], keep_blobs=True, records=may_record())
    return session.handles([solver])


def _solver_get_attr(session: HandleTable, solver: Solver) -> PlainValue:
    tests = [engine.layerwise for engine in solver.test_engines]
    return {
        "hNet_net": session.handles([solver.engine.layerwise], solver),
        "hNet_test_nets": session.handles(tests, solver),
    }


def _solver_get_iter(_: HandleTable, solver: Solver) -> PlainValue:
    return float(solver.iteration)


def _solver_get_max_iter(_: HandleTable, solver: Solver) -> PlainValue:
    return float(solver.config.max_iter)


def _solver_snapshot(_: HandleTable, solver: Solver, state: str, model: str) -> None:
    """Write both files under the solver's prefix or, if they are not "", under these names."""
    if bool(state) != bool(model):
        raise UsageError("snapshot takes the names of a state and of a model, or none.")
    made_model, made_state = solver.snapshot()
    if state:
        kept = read_state(made_state)
        kept.learned_net = model
        write_state(state, kept, hdf5=state.endswith(".h5"))
        os.replace(made_model, model)
        os.remove(made_state)


def _solver_restore(_: HandleTable, solver: Solver, file: str) -> None:
    solver.restore(file)


def _solver_solve(_: HandleTable, solver: Solver) -> None:
    with _stopped_by_interrupt(solver):
        solver.solve()


def _solver_step(_: HandleTable, solver: Solver, iterations: float) -> None:
    if iterations != int(iterations) or iterations < 0:
        raise UsageError(f"step takes a number of iterations, got {iterations:g}.")
    with _stopped_by_interrupt(solver):
        solver.step(int(iterations))


@contextmanager
def _stopped_by_interrupt(solver: Solver) -> Iterator[None]:
    """SIGINT ends the run after the iteration (`solve` then writes a snapshot); a later one at
    once. A terminal's Ctrl-C may come twice, from the terminal and from Octave."""
    if threading.current_thread() is not threading.main_thread():  # which has the signals
        yield
        return

    first_at = inf

    def stop(*_: Any) -> None:
        nonlocal first_at
        now = time.monotonic()
        if now - first_at > 1:
            raise KeyboardInterrupt
        first_at = min(first_at, now)
        solver.requests.stop = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        solver.requests.stop = False


# --- the rest ---------------------------------------------------------------------------------


def _set_mode_cpu(_: HandleTable) -> None:
    set_mode_cpu()


def _set_mode_gpu(_: HandleTable) -> None:
    set_mode_gpu()


def _set_device(_: HandleTable, number: float) -> None:
    if number != int(number):
        raise UsageError(f"a GPU has a whole number, got {number:g}.")
    set_device(int(number))


def _set_random_seed(_: HandleTable, seed: float) -> None:
    set_random_seed(int(seed))


def _init_log(_: HandleTable, base: str) -> None:
    show_pycaffe_log()
    add_log_file(base)


def _get_init_key(session: HandleTable) -> PlainValue:
    return session.init_key


def _reset(session: HandleTable) -> None:
    session.reset()


def _version(_: HandleTable) -> PlainValue:
    return CAFFE_VERSION


def _read_mean(_: HandleTable, file: str) -> PlainValue:
    return to_array(read_binary(file, caffe_pb2.BlobProto))


def _write_mean(_: HandleTable, mean: Array, file: str) -> None:
    if mean.ndim not in (2, 3):
        size = _written(matlab_size(mean.shape))
        raise UsageError(f"a mean image is width x height x channels, got size {size}.")
    channels = mean[None] if mean.ndim == 2 else mean
    write_binary(file, from_array(channels[None]))


def _hdf5_store(
    _: HandleTable, file: str, dataset: str, values: Floats, size: Row, first: float, chunk: float
) -> PlainValue:
    """Write items into a dataset of an HDF5 file; file and dataset are made if need be.

    Args:
        size: of `values` in MATLAB; the last axis counts items.
        first: where to begin, from 0; -1: at the end of what is there.
        chunk: items in a chunk of a new dataset.

    Returns:
        The dataset's size in MATLAB.
    """
    h5py = import_h5py()
    shape = tuple(int(axis) for axis in reversed(size))
    items = values.reshape(shape)
    try:
        with h5py.File(file, "a") as opened:
            if dataset.strip("/") not in opened:
                opened.create_dataset(
                    dataset,
                    (0, *shape[1:]),
                    np.float32,
                    maxshape=(None, *shape[1:]),
                    chunks=(max(int(chunk), 1), *shape[1:]),
                )
            stored = opened[dataset]
            if stored.shape[1:] != shape[1:]:
                raise UsageError(
                    f"an item of {dataset} has size {_written(reversed(stored.shape[1:]))}, got one"
                    f" of size {_written(reversed(shape[1:]))}.",
                    file=file,
                )
            start = len(stored) if first < 0 else int(first)
            stored.resize(max(len(stored), start + len(items)), axis=0)
            stored[start : start + len(items)] = items
            return Row(reversed(stored.shape))
    except (OSError, TypeError, ValueError) as error:
        raise UsageError(f"{dataset} cannot be written: {error}.", file=file) from None


def _did_you_mean(_: HandleTable, name: str, known: Texts) -> PlainValue:
    return did_you_mean(name, known) or f"There are: {', '.join(known)}."


COMMANDS = {
    "get_net": GatewayCommand(("text", "text"), _get_net),
    "delete_net": GatewayCommand(("net",), _delete),
    "net_get_attr": GatewayCommand(("net",), _net_get_attr),
    "net_forward": GatewayCommand(("net",), _net_forward),
    "net_backward": GatewayCommand(("net",), _net_backward),
    "net_copy_from": GatewayCommand(("net", "text"), _net_copy_from),
    "net_reshape": GatewayCommand(("net",), _net_reshape),
    "net_set_phase": GatewayCommand(("net", "text"), _net_set_phase),
    "net_share_trained_layers_with": GatewayCommand(("net", "net"), _net_share),
    "net_save": GatewayCommand(("net", "text"), _net_save),
    "get_solver": GatewayCommand(("text",), _get_solver),
    "delete_solver": GatewayCommand(("solver",), _delete),
    "solver_get_attr": GatewayCommand(("solver",), _solver_get_attr),
    "solver_get_iter": GatewayCommand(("solver",), _solver_get_iter),
    "solver_get_max_iter": GatewayCommand(("solver",), _solver_get_max_iter),
    "solver_snapshot": GatewayCommand(("solver", "text", "text"), _solver_snapshot),
    "solver_restore": GatewayCommand(("solver", "text"), _solver_restore),
    "solver_solve": GatewayCommand(("solver",), _solver_solve),
    "solver_step": GatewayCommand(("solver", "number"), _solver_step),
    "layer_get_attr": GatewayCommand(("layer",), _layer_get_attr),
    "layer_get_type": GatewayCommand(("layer",), _layer_get_type),
    "blob_get_shape": GatewayCommand(("blob",), _blob_get_shape),
    "blob_reshape": GatewayCommand(("blob", "row"), _blob_reshape),
    "blob_get_data": GatewayCommand(("blob",), _blob_get_data),
    "blob_set_data": GatewayCommand(("blob", "single"), _blob_set_data),
    "blob_get_diff": GatewayCommand(("blob",), _blob_get_diff),
    "blob_set_diff": GatewayCommand(("blob", "single"), _blob_set_diff),
    "set_mode_cpu": GatewayCommand((), _set_mode_cpu),
    "set_mode_gpu": GatewayCommand((), _set_mode_gpu),
    "set_device": GatewayCommand(("number",), _set_device),
    "set_random_seed": GatewayCommand(("number",), _set_random_seed),
    "init_log": GatewayCommand(("text",), _init_log),
    "get_init_key": GatewayCommand((), _get_init_key),
    "reset": GatewayCommand((), _reset),
    "version": GatewayCommand((), _version),
    "read_mean": GatewayCommand(("text",), _read_mean),
    "write_mean": GatewayCommand(("single", "text"), _write_mean),
    # Ours: for errors, and for store2hdf5, since Octave has no functions for HDF5.
    "did_you_mean": GatewayCommand(("text", "texts"), _did_you_mean),
    "hdf5_store": GatewayCommand(
        ("text", "text", "single", "row", "number", "number"), _hdf5_store
    ),
}
