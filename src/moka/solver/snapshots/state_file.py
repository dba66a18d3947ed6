"""The file of a solver's state: a binary SolverState, or its HDF5 form.

The HDF5 form has datasets `iter` and `current_step` (one number each), `learned_net` (a string)
and `history/<index>`. What only Moka knows (`run_state`) is one more dataset there, the message's
bytes; BVLC Caffe looks at neither it nor the message's field of that name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from moka.errors import SchemaError, SolverError
from moka.hdf5 import FAULTS, import_h5py, is_hdf5, numbers_of, write_hdf5
from moka.schema import blobproto, caffe_pb2, read_binary, write_binary
from moka.types import PathLike


def read_state(file: PathLike) -> caffe_pb2.SolverState:
    """A state in either form, recognized by its content.

    Raises:
        SolverError: missing, truncated, or something else.
    """
    if is_hdf5(file):
        state = _read_hdf5(file)
    else:
        try:
            state = read_binary(file, caffe_pb2.SolverState)
        except SchemaError as error:
            raise SolverError(error.message, file=error.file, advice=error.advice) from None
    if not state.HasField("iter") or not state.learned_net:
        raise SolverError(
            "this file names no iteration and no model: it is no state.",
            file=file,
            advice="A state ends in .solverstate; weights (.caffemodel) go to --weights.",
        )
    return state


def _read_hdf5(file: PathLike) -> caffe_pb2.SolverState:
    state = caffe_pb2.SolverState()
    try:
        with import_h5py().File(file, "r") as opened:
            for name in ("iter", "current_step", "iter_last_event"):
                if name in opened:
                    setattr(state, name, int(np.ravel(opened[name][()])[0]))
            if "minimum_loss" in opened:
                state.minimum_loss = float(np.ravel(opened["minimum_loss"][()])[0])
            if "learned_net" in opened:
                state.learned_net = opened["learned_net"].asstr("utf-8")[()]
            history = opened.get("history", {})
            for k in range(len(history)):
                state.history.append(blobproto.from_array(numbers_of(history[str(k)])))
            if "run_state" in opened:
                state.run_state.ParseFromString(opened["run_state"][()].tobytes())
    except (*FAULTS, DecodeError) as error:
        raise SolverError(
            f"this HDF5 file is damaged, or no state: {error}.",
            file=file,
            advice="Resume from an earlier snapshot.",
        ) from None
    return state


def write_state(file: PathLike, state: caffe_pb2.SolverState, *, hdf5: bool) -> None:
    """Write a state; the file is complete or not there at all.

    Raises:
        OSError: it cannot be written.
    """
    if hdf5:
        write_hdf5(file, lambda opened: _fill(opened, state))
    else:
        write_binary(file, state)


def _fill(opened: Any, state: caffe_pb2.SolverState) -> None:
    opened["iter"] = np.array([state.iter], np.int32)
    opened["current_step"] = np.array([state.current_step], np.int32)
    if state.HasField("minimum_loss"):
        opened["minimum_loss"] = np.array([state.minimum_loss], np.float32)
        opened["iter_last_event"] = np.array([state.iter_last_event], np.int32)
    model = state.learned_net.encode()
    # Caffe reads the name up to a zero byte, and beyond the name where there is none
    opened.create_dataset("learned_net", data=model, dtype=f"S{len(model) + 1}")
    history = opened.create_group("history")
    for k, blob in enumerate(state.history):
        history[str(k)] = blobproto.to_array(blob)
    opened["run_state"] = np.frombuffer(state.run_state.SerializeToString(), np.uint8)
