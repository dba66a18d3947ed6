"""A check of a run before it starts: everything that would stop it, and what it will need.

Nothing is written. Problems are collected, each as one sentence, instead of ending at the first.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import ParamSpec, TypeVar

import torch

from moka.data.transform import Transform
from moka.engine.choose import evaluation_engine
from moka.errors import DataError, MokaError, NetError, SolverError
from moka.files import local_path
from moka.graph import Graph, Node, build_graph
from moka.layers import REGISTRY
from moka.layers.base import Layer
from moka.layers.source import Source
from moka.net.memory import FLOAT_BYTES
from moka.schema import caffe_pb2
from moka.solver.config import NetToBuild, SolverConfig, check_solver, test_nets, train_net
from moka.solver.snapshots.names import model_of
from moka.solver.snapshots.newest import newest_state
from moka.solver.snapshots.state_file import read_state
from moka.solver.solver import Solver
from moka.types import PathLike
from moka.weights import load_weights, named_files, read_model

P = ParamSpec("P")
T = TypeVar("T")
TIMED = 5  # iterations, after one that is not timed
LONGEST_MEASURE_S = 10.0  # no more are begun after this time


@dataclass(frozen=True)
class RunTimes:
    """How long one iteration takes, and one batch of each test net; medians, in seconds.

    Attributes:
        timed: how many iterations were measured.
    """

    iteration_s: float
    test_batch_s: list[float]
    timed: int


def problems_of(
    config: SolverConfig, state: str, device: torch.device
) -> tuple[list[str], Solver | None]:
    """Everything that would stop a run, and its solver, which is None if it cannot be made.

    The solver writes no snapshots; it stands where the run would begin.

    Args:
        state: the snapshot to resume from, "auto" for the newest, "" for none.
    """
    found = _Problems()
    message = config.message
    found.of(check_solver, *config)
    train = found.of(train_net, *config)
    nets = ([train] if train else []) + (found.of(test_nets, *config) or [])
    for graph in filter(None, [found.of(_graph, net) for net in nets]):
        for node in graph.nodes:
            found.add(file_problems(node, graph.file))
    prefix = message.snapshot_prefix
    makes_snapshots = message.snapshot or message.snapshot_after_train
    if makes_snapshots:
        found.of(_check_folder, prefix)
    solver = None if found else found.of(_solver, config, device)
    if solver is not None and message.eval_type != "detection":
        for net in solver.test_nets:
            found.add(_without_mean(net.graph))
    for name in (name for names in message.weights for name in named_files(names)):
        found.of(_try_weights, solver, name)
    if state == "auto":
        newest = found.of(_newest, solver, prefix)
        state = newest or ""
    if state:
        found.of(_try_state, solver, state)
    if solver is not None and makes_snapshots:
        found.of(_check_room, prefix, snapshot_bytes(solver))
    return list(found), solver


class _Problems(dict[str, None]):
    """Sentences in order, each once."""

    def add(self, sentences: Iterable[str]) -> None:
        self.update(dict.fromkeys(sentences))

    def of(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """The result of a function. If it fails: None, and its error is one more problem."""
        try:
            return function(*args, **kwargs)
        except MokaError as error:
            self.add([str(error)])
            return None


def _graph(wanted: NetToBuild) -> Graph:
    return build_graph(wanted.param, REGISTRY, file=wanted.file)


def _solver(config: SolverConfig, device: torch.device) -> Solver:
    """The run's solver, but without weights, snapshots and log lines of its iterations."""
    made = caffe_pb2.SolverParameter()
    made.CopyFrom(config.message)
    made.ClearField("weights")
    made.snapshot = made.display = 0
    made.snapshot_after_train = made.debug_info = False
    solver = Solver(SolverConfig(made, config.file), device=device)
    solver.guard.keeps_replay = False
    return solver


# --- files ------------------------------------------------------------------------------------


def file_problems(node: Node, file: PathLike) -> Iterator[str]:
    """Sentences about the files of a layer, as far as they are known without its bottoms."""

    def sentence(error: MokaError) -> str:
        return str(error.at(file=file, layer=node.name, layer_type=node.type))

    config = caffe_pb2.LayerParameter()
    config.CopyFrom(node.layer)
    entry = REGISTRY[node.type]
    if node.bottoms:
        message = getattr(config, entry.message) if entry.message else config
        source = getattr(message, "source", "")
        if source and not os.path.exists(local_path(source)):
            yield sentence(DataError(f"{source}: No such file or directory."))
        return
    if entry.runs_user_code:
        return
    try:
        Transform(config.transform_param, training=True)
    except MokaError as error:
        yield sentence(error)
        config.transform_param.ClearField("mean_file")
    try:
        layer: Layer = entry.make(config)
    except MokaError as error:
        yield sentence(error)
        return
    if isinstance(layer, Source):
        missing = [name for name in layer.later_files() if not os.path.exists(local_path(name))]
        layer.close()
        if missing:
            yield sentence(
                DataError(f'{len(missing)} files of its list are missing, first "{missing[0]}".')
            )


def _without_mean(graph: Graph) -> Iterator[str]:
    """What is to say of outputs of a test net whose count of numbers depends on the batch."""
    for node in graph.nodes:
        entry = REGISTRY[node.type]
        if entry.shapes_from_data and not entry.runs_user_code:
            for top in set(node.tops).intersection(graph.outputs):
                error = NetError(
                    f'its output "{top}" has another count of numbers in each batch, so tests'
                    " cannot take the mean.",
                    file=graph.file,
                    layer=node.name,
                    layer_type=node.type,
                    advice='Detections are scored by a solver with eval_type: "detection".',
                )
                yield str(error)


def _newest(solver: Solver | None, prefix: str) -> str | None:
    """The newest snapshot of the solver's net; of any net if there is no solver."""
    return solver.newest_snapshot() if solver else newest_state(prefix, lambda *_: None)


def _try_weights(solver: Solver | None, name: str) -> None:
    if solver is None:
        _check_exists(name)
    else:
        for net in (solver.net, *solver.test_nets):
            load_weights(net, [name])


def _try_state(solver: Solver | None, state: str) -> None:
    if solver is not None:
        solver.restore(state)
    else:
        _check_exists(model_of(read_state(state), state))


def _check_exists(name: str) -> None:
    if not os.path.exists(name):
        read_model(name)  # whose error says it best


def _check_folder(prefix: str) -> None:
    folder = os.path.dirname(prefix) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        fact = "cannot be written" if os.path.isdir(folder) else "does not exist"
        raise SolverError(f"Cannot write to snapshot prefix '{prefix}': its folder {fact}.")


def _check_room(prefix: str, wanted: int) -> None:
    folder = os.path.dirname(prefix) or "."
    free = shutil.disk_usage(folder).free if os.path.isdir(folder) else wanted
    if free < wanted:
        raise SolverError(
            f"A snapshot takes {wanted / 1e6:.1f} MB, and in {folder} {free / 1e6:.1f} MB are free."
        )


# --- what it takes ----------------------------------------------------------------------------


def history_bytes(solver: Solver) -> int:
    """The size of all histories."""
    return FLOAT_BYTES * sum(tensor.numel() for tensor in solver.rule.history())


def snapshot_bytes(solver: Solver) -> int:
    """The size of model and state, without the few bytes of their form."""
    config = solver.config
    copies = 1 + config.snapshot_diff + (config.ema_decay > 0)
    return copies * solver.net.memory.parameters + history_bytes(solver)


def writing_layer(solver: Solver) -> str | None:
    """The name of a layer that writes a file when it runs, or None."""
    for net in (solver.net, *solver.test_nets):
        for name, layer in net.named_layers():
            if layer.entry.writes_files:
                return name
    return None


def measure_run(solver: Solver) -> RunTimes:
    """Time a few iterations, on the data the run would begin with. Parameters change in memory.

    Raises:
        MokaError: what would stop the run in its first iterations.
    """
    solver.config.test_interval = 0
    device = solver.net.device
    iterations = _timed(lambda: solver.step(1), device)
    batches = [median(_timed(evaluation_engine(net).forward, device)) for net in solver.test_nets]
    return RunTimes(median(iterations), batches, len(iterations))


def _timed(run: Callable[[], object], device: torch.device) -> list[float]:
    """Seconds of each of some calls, after one that is not counted."""
    began = time.perf_counter()
    run()
    taken: list[float] = []
    while not taken or (len(taken) < TIMED and time.perf_counter() - began < LONGEST_MEASURE_S):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return taken


def count_tests(config: caffe_pb2.SolverParameter, first: int, last: int) -> int:
    """How often a run from iteration `first` to `last` tests, the end included."""
    every = config.test_interval
    if every <= 0:
        return 0
    due = [i for i in range(first, last + 1) if i % every == 0]
    return len(due) - (bool(due) and due[0] == 0 and not config.test_initialization)


def expected_s(config: caffe_pb2.SolverParameter, timing: RunTimes, first: int) -> float:
    """Seconds the whole run takes from iteration `first` on, without its snapshots."""
    test_s = sum(n * s for n, s in zip(config.test_iter, timing.test_batch_s, strict=True))
    iterations = max(0, config.max_iter - first)
    return iterations * timing.iteration_s + count_tests(config, first, config.max_iter) * test_s
