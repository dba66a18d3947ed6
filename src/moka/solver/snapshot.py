"""A run's state on disk: the model (.caffemodel) and what resuming needs (.solverstate).

Both are BVLC Caffe's files. What they cannot hold (the position in the data, random generators)
goes into `run_state`, a field that BVLC Caffe skips. Each file is complete or not there; the state
is written last, so a state's model is always complete.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from moka.data.batches import CursorState
from moka.errors import SchemaError, SolverError
from moka.layers.source import Source
from moka.net import Net
from moka.schema import blobproto, caffe_pb2, read_binary, write_binary
from moka.schema.text import PathLike
from moka.weights import save_weights

STATE_SUFFIX = ".solverstate"
MODEL_SUFFIX = ".caffemodel"


def file_names(prefix: str, iteration: int) -> tuple[str, str]:
    """Names of the model and of the state."""
    stem = f"{prefix}_iter_{iteration}"
    return stem + MODEL_SUFFIX, stem + STATE_SUFFIX


def latest_state(prefix: str) -> str | None:
    """The state of the newest snapshot whose model is there too, or None."""
    found: list[tuple[int, str]] = []
    name = re.compile(re.escape(Path(prefix).name) + r"_iter_(\d+)" + re.escape(STATE_SUFFIX))
    folder = Path(prefix).parent
    for path in folder.iterdir() if folder.is_dir() else ():
        match = name.fullmatch(path.name)
        if match and path.with_name(path.stem + MODEL_SUFFIX).exists():
            found.append((int(match[1]), str(path)))
    return max(found)[1] if found else None


def snapshot_prefix(config: caffe_pb2.SolverParameter, file: PathLike) -> str:
    """Where snapshots go: as given, or the solver file's own name; a folder gets its stem."""
    stem = Path(file).with_suffix("")
    prefix = config.snapshot_prefix or str(stem)
    return str(Path(prefix) / stem.name) if os.path.isdir(prefix) else prefix


def check_writable(prefix: str) -> None:
    """Raises SolverError unless files can be made where the snapshots go."""
    folder = os.path.dirname(prefix) or "."
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".moka-"):
            pass
    except OSError as error:
        raise SolverError(
            f"Cannot write to snapshot prefix '{prefix}': {error.strerror}.",
            advice="Make sure that the directory exists and is writable.",
        ) from None


def write_snapshot(
    nets: Sequence[Net],
    history: Iterable[Tensor],
    *,
    prefix: str,
    iteration: int,
    current_step: int,
    with_diffs: bool,
    recent_losses: Sequence[float],
) -> tuple[str, str]:
    """Write model and state; returns their names.

    Args:
        nets: the net that is trained, then those it is tested with (for their data's position).

    Raises:
        SolverError: the disk is full, or the like; older snapshots are untouched.
    """
    model_file, state_file = file_names(prefix, iteration)
    state = caffe_pb2.SolverState(iter=iteration, learned_net=model_file, current_step=current_step)
    for tensor in history:
        state.history.append(blobproto.from_array(tensor.detach().cpu().numpy()))
    _put_run_state(state.run_state, nets, recent_losses)
    model_written = False
    try:
        save_weights(nets[0], model_file, with_diffs=with_diffs)
        model_written = True
        write_binary(state_file, state)
    except OSError as error:
        if model_written and not os.path.exists(state_file):
            with contextlib.suppress(OSError):
                os.unlink(model_file)
        raise SolverError(
            f"the snapshot of iteration {iteration} could not be written: {error.strerror}.",
            file=model_file,
            advice="Earlier snapshots are complete; make room and resume from the last one.",
        ) from None
    return model_file, state_file


def read_state(file: PathLike) -> caffe_pb2.SolverState:
    """A .solverstate as a message.

    Raises:
        SolverError: missing, truncated, or something else.
    """
    try:
        state = read_binary(file, caffe_pb2.SolverState)
    except SchemaError as error:
        raise SolverError(error.message, file=error.file, advice=error.advice) from None
    if not state.HasField("iter") or not state.learned_net:
        raise SolverError("this file names no iteration and no model: it is no state.", file=file)
    return state


def model_of(state: caffe_pb2.SolverState, state_file: PathLike) -> str:
    """The model a state belongs to: as written there, or if it has moved, beside the state."""
    beside = Path(state_file).parent / Path(state.learned_net).name
    if not os.path.exists(state.learned_net) and beside.exists():
        return str(beside)
    return state.learned_net


def load_history(state: caffe_pb2.SolverState, history: Sequence[Tensor], file: PathLike) -> None:
    """Copy the stored histories into the solver's.

    Raises:
        SolverError: another number of histories, or other shapes.
    """
    if len(state.history) != len(history):
        raise SolverError(
            f"Incorrect length of history blobs: the file has {len(state.history)}, the solver"
            f" {len(history)}.",
            file=file,
            advice="The state belongs to another net or solver type.",
        )
    arrays = [blobproto.to_array(blob) for blob in state.history]
    for i, (array, tensor) in enumerate(zip(arrays, history, strict=True)):
        if array.size != tensor.numel():
            raise SolverError(
                f"history {i} has shape {array.shape}, the solver's has {tuple(tensor.shape)}.",
                file=file,
            )
    for array, tensor in zip(arrays, history, strict=True):
        tensor.copy_(torch.from_numpy(array).view(tensor.shape))


def _sources(nets: Sequence[Net]) -> Iterator[tuple[str, Source]]:
    """(key, source) of all data layers; the key is unique, names of layers need not be."""
    for which, net in enumerate(nets):
        for position, (name, source) in enumerate(net.sources):
            yield f"{which}/{position}/{name}", source


def _put_run_state(
    run: caffe_pb2.RunState, nets: Sequence[Net], recent_losses: Sequence[float]
) -> None:
    run.recent_loss.extend(recent_losses)
    run.random.add(name="cpu", state=torch.get_rng_state().numpy().tobytes())
    device = nets[0].device
    if device.type == "cuda":
        run.random.add(name="cuda", state=torch.cuda.get_rng_state(device).numpy().tobytes())
    for key, source in _sources(nets):
        cursor = source.state()
        if cursor is not None:
            random = None if cursor.seed is None else b"%d" % cursor.seed
            run.cursor.add(layer=key, records_read=cursor.records_read, random=random)


def load_run_state(run: caffe_pb2.RunState, nets: Sequence[Net]) -> None:
    """Put data sources and random generators where they were."""
    cursors = {cursor.layer: cursor for cursor in run.cursor}
    for key, source in _sources(nets):
        if key in cursors:
            cursor = cursors[key]
            seed = int(cursor.random) if cursor.HasField("random") else None
            source.load_state(CursorState(cursor.records_read, seed))
    device = nets[0].device
    for generator in run.random:
        state = torch.frombuffer(bytearray(generator.state), dtype=torch.uint8)
        if generator.name == "cpu":
            torch.set_rng_state(state)
        elif generator.name == "cuda" and device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
