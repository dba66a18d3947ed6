"""What BVLC Caffe's files cannot hold but an exact resume needs: the position in the data, random
generators, what layers hand from pass to pass. `progress.py` adds what the solver remembers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from moka.context import random_states, set_random_states
from moka.data.place import CursorState
from moka.layers.base import Layer
from moka.layers.source import Source
from moka.net import Net
from moka.schema import blobproto, caffe_pb2


def _sources(nets: Sequence[Net]) -> Iterator[tuple[str, Source]]:
    """(key, source) of all data layers; the key is unique, names of layers need not be."""
    for which, net in enumerate(nets):
        for position, (name, source) in enumerate(net.sources):
            yield f"{which}/{position}/{name}", source


def _layers(nets: Sequence[Net]) -> Iterator[tuple[str, Layer]]:
    """(key, layer) of all layers; the key is unique."""
    for which, net in enumerate(nets):
        for position, (name, layer) in enumerate(net.named_layers()):
            yield f"{which}/{position}/{name}", layer


def save_run_state(nets: Sequence[Net], *, solver_type: str) -> caffe_pb2.RunState:
    """Where everything stands.

    Args:
        nets: the net that is trained, then those it is tested with.
        solver_type: whose histories lie beside it.
    """
    run = caffe_pb2.RunState(solver_type=solver_type)
    for name, random in random_states(nets[0].device).items():
        run.random.add(name=name, state=random.numpy().tobytes())
    for key, source in _sources(nets):
        cursor = source.state()
        if cursor is not None:
            run.cursor.add(layer=key, records_read=cursor.records_read, seed=cursor.seed)
    for key, layer in _layers(nets):
        if tensors := layer.run_state():
            arrays = (tensor.detach().cpu().numpy() for tensor in tensors)
            run.layer.add(layer=key, blob=map(blobproto.from_array, arrays))
    return run


def load_run_state(run: caffe_pb2.RunState, nets: Sequence[Net]) -> None:
    """Put data sources, layers and random generators where they were."""
    cursors = {cursor.layer: cursor for cursor in run.cursor}
    for key, source in _sources(nets):
        if key in cursors:
            cursor = cursors[key]
            seed = cursor.seed if cursor.HasField("seed") else None
            source.load_state(CursorState(cursor.records_read, seed))
    device = nets[0].device
    states = {state.layer: state.blob for state in run.layer}
    for key, layer in _layers(nets):
        if key in states:
            arrays = map(blobproto.to_array, states[key])
            layer.load_run_state([torch.tensor(array, device=device) for array in arrays])
    random = {
        generator.name: torch.frombuffer(bytearray(generator.state), dtype=torch.uint8)
        for generator in run.random
    }
    set_random_states(random, device)
