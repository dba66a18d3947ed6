"""The file of an iteration that diverged: `<prefix>_iter_N.replay`, with all that running it again
needs.

It is a NumPy archive (`numpy.load` opens it) without pickled objects:

    iteration, rate          numbers
    batch/<blob>             tops of the layers without bottoms
    records/<key>            names of the batch's records, where they are known
    param/<key>/<k>          parameters, each with its owner
    state/<key>/<k>          what layers hand from pass to pass
    random/<name>            random generators

A key is `<position>/<layer name>`, since names of layers may repeat.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from moka.engine.pass_start import PassStart, pass_start
from moka.errors import SolverError
from moka.files import write_atomically
from moka.graph import Graph, build_graph
from moka.layers import REGISTRY
from moka.net import Net
from moka.solver.config import NetToBuild
from moka.types import Array, PathLike, Shape


@dataclass(frozen=True)
class Replay:
    """One iteration to run again.

    Attributes:
        iteration: counted from 0.
        rate: its learning rate.
        arrays: everything else, by the names of the file.
    """

    iteration: int
    rate: float
    arrays: Mapping[str, Array]

    def of_kind(self, kind: str) -> dict[str, Array]:
        """The arrays under `kind/`, by the rest of their names."""
        return {
            name.removeprefix(f"{kind}/"): array
            for name, array in self.arrays.items()
            if name.startswith(f"{kind}/")
        }


def replay_name(prefix: str, iteration: int) -> str:
    """The file in which a run with this snapshot prefix keeps an iteration."""
    return f"{prefix}_iter_{iteration}.replay"


def write_replay(
    file: PathLike,
    net: Net,
    start: PassStart,
    *,
    iteration: int,
    rate: float,
    records: Mapping[int, list[str]],
) -> None:
    """Write the start of a pass into a file. The net must be at the start of that pass.

    Args:
        records: names of each layer's records in this batch, by the layer's index.

    Raises:
        OSError: the file cannot be written.
    """
    arrays: dict[str, Any] = {"iteration": iteration, "rate": rate}
    arrays |= {f"batch/{name}": tensor.cpu().numpy() for name, tensor in start.inputs.items()}
    arrays |= {f"random/{name}": state.numpy() for name, state in start.random.items()}
    for i, names in records.items():
        arrays[f"records/{_key(net.graph, i)}"] = np.array(names, str)
    for blob in net.learnable:
        i, k = blob.owner
        arrays[f"param/{_key(net.graph, i)}/{k}"] = net.parameter_of(blob).detach().cpu().numpy()
    for i, state in start.handed_on.items():
        for k, tensor in enumerate(state):
            arrays[f"state/{_key(net.graph, i)}/{k}"] = tensor.detach().cpu().numpy()
    write_atomically(file, lambda target: np.savez(target, **arrays))


def read_replay(file: PathLike) -> Replay:
    """Read the file of an iteration.

    Raises:
        SolverError: missing, damaged, or something else.
    """
    try:
        opened = open(file, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise SolverError(f"{error.strerror}.", file=file) from None
    try:
        with opened, warnings.catch_warnings(), np.load(opened, allow_pickle=False) as archive:
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            arrays = dict(archive.items())
        return Replay(int(arrays.pop("iteration")), float(arrays.pop("rate")), arrays)
    except Exception:  # noqa: BLE001 - NumPy and zipfile raise almost anything for broken bytes
        raise SolverError(
            "this is no iteration to run again: another kind of file, or damaged.",
            file=file,
            advice="A run that ends with numbers that are not finite writes one beside its"
            " snapshots.",
        ) from None


def load_replay(wanted: NetToBuild, replay: Replay, device: torch.device) -> tuple[Net, PassStart]:
    """The net as it stood before the iteration, and what the pass begins with.

    The net does not read its data: Input layers hold the recorded batch.

    Raises:
        SolverError: the iteration is of another net.
    """
    batch = replay.of_kind("batch")
    stored = replay.of_kind("param")
    graph = build_graph(wanted.param, REGISTRY, file=wanted.file)
    net = Net(graph, device, given_shapes=_shapes_of_data(graph, batch, stored))
    tops = {t for node in net.graph.nodes if not node.bottoms for t in node.tops}
    parameters = {
        f"{_key(net.graph, blob.owner[0])}/{blob.owner[1]}": net.parameter_of(blob)
        for blob in net.learnable
    }
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if shapes != {name: array.shape for name, array in stored.items()} or tops != set(batch):
        raise SolverError(
            "the iteration is of another net: it has other parameters or other data.",
            file=os.fspath(wanted.file),
        )
    for name, parameter in parameters.items():
        parameter.data.copy_(torch.from_numpy(stored[name]))
    states = Replay(0, 0, replay.of_kind("state"))
    for i, layer in enumerate(net.layers):
        if found := states.of_kind(_key(net.graph, i)):
            tensors = [torch.from_numpy(found[str(k)]).to(device) for k in range(len(found))]
            layer.load_run_state(tensors)
    inputs = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
    random = {name: torch.from_numpy(array) for name, array in replay.of_kind("random").items()}
    return net, replace(pass_start(net, inputs), random=random)


def _shapes_of_data(
    graph: Graph, batch: Mapping[str, Array], parameters: Mapping[str, Array]
) -> dict[str, Shape]:
    """Shapes of the tops of all layers that only made data, so that their files need not be
    there; a layer without bottoms may have parameters too.

    Args:
        batch, parameters: the file's arrays of these kinds.
    """
    with_parameters = {name.rpartition("/")[0] for name in parameters}
    return {
        top: batch[top].shape
        for i, node in enumerate(graph.nodes)
        if not node.bottoms and _key(graph, i) not in with_parameters
        for top in node.tops
        if top in batch
    }


def _key(graph: Graph, index: int) -> str:
    return f"{index}/{graph.nodes[index].name}"
