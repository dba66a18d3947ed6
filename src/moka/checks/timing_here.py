"""How long a process's iteration takes on this machine, and messages between its processes."""

from __future__ import annotations

import logging
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import fmean, median

import torch

from moka.checks.devices import timed_buckets
from moka.checks.scaling import Link, Step
from moka.errors import MokaError
from moka.heap import keep_freed_memory
from moka.own_caffe import prefer_own_caffe
from moka.parallel.launch import launch
from moka.parallel.launched import Launched
from moka.parallel.reduce import buckets
from moka.parallel.team import Alone, Team
from moka.report.glog import log_to_stderr, set_level, show_only
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.config import SolverConfig
from moka.solver.solver import Solver

log = logging.getLogger("moka")

SOLVER = "solver"  # the file of its message
TIMED = 5, 100  # iterations, at least and at most, after one that is not timed
ENOUGH_S = 2.0  # after this time no more than the least
LONGEST_S = 20.0  # after this time, one is enough
FEW = 16  # numbers of a small message
SENT = 3, 20  # how often a message is sent, at least and at most, after one that is not timed
SENDING_S = 0.5  # after this time no more than the least
PATIENCE_S = 300.0


def measured_step(solver: Solver, agree: Callable[[bool], bool] | None = None) -> Step:
    """Time a solver's iterations. Parameters change in memory.

    Args:
        solver: of a process that trains by itself.
        agree: of a process beside others: called before each iteration with whether enough are
            timed; says whether to end. It takes as long as what processes tell each other in
            an iteration.
    """
    config = solver.config
    config.test_interval = config.snapshot = config.display = 0
    device = solver.net.device
    left: list[dict[int, float]] = []
    done: dict[int, float] = {}
    end_s = 0.0

    def now_s() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def is_done(parameter: torch.nn.Parameter) -> None:
        done[id(parameter)] = now_s()

    def at_end() -> None:
        nonlocal end_s
        end_s = now_s()

    hooks = [
        parameter.register_post_accumulate_grad_hook(is_done)  # type: ignore[no-untyped-call]
        for bucket in buckets(solver.net)
        for parameter in bucket
        if parameter.requires_grad
    ]
    solver.on_gradients_ready.append(at_end)
    whole: list[float] = []
    cores: list[float] = []
    decided: list[float] = []
    began = time.perf_counter()
    while True:
        start = now_s()
        enough = _is_enough(len(whole) - 1, start - began)
        if agree(enough) if agree else enough:
            break
        done.clear()
        decided.append(now_s() - start)
        start, core_start = now_s(), time.process_time()
        solver.step(1)
        whole.append(now_s() - start)
        cores.append(time.process_time() - core_start)
        left.append({key: end_s - at for key, at in done.items()})
    solver.on_gradients_ready.remove(at_end)
    for hook in hooks:
        hook.remove()
    of_each = {key: median(times[key] for times in left[1:]) for key in left[-1]}
    on_cpu = device.type == "cpu"
    # Means: who is late in one iteration is waited for by all, so late ones count as others do.
    return Step(
        fmean(whole[1:]),
        timed_buckets(solver.net, of_each),
        fmean(cores[1:]) if on_cpu else 0.0,
        fmean(decided[1:]) if agree else None,
    )


def _is_enough(timed: int, seconds: float) -> bool:
    least, most = TIMED
    return timed >= (1 if seconds >= LONGEST_S else least if seconds >= ENOUGH_S else most)


def measured_link(team: Team, size: int) -> Link:
    """Time all-reduces of a small message and of one of `size` bytes, all processes together."""
    small = torch.zeros(FEW)
    large = torch.zeros(max(FEW, size // small.element_size()))
    small_s = _timed(team, small)[0]
    large_s, core_s = _timed(team, large)
    latency_s = small_s / (2 * (team.size - 1))
    moved = 2 * (team.size - 1) / team.size * large.numel() * large.element_size()
    # A pass of the gradients into the message and back is part of it, as in training.
    return Link(moved / max(1e-9, large_s - small_s), latency_s, True, core_s / moved)


def _timed(team: Team, tensor: torch.Tensor) -> tuple[float, float]:
    """Seconds of averaging a tensor, and of the cores' work for it."""
    whole: list[float] = []
    cores: list[float] = []
    least, most = SENT
    row: torch.Tensor | None = None  # used again, as in training
    while not team.any(len(whole) > (least if sum(whole) >= SENDING_S else most))[0]:
        start, core_start = time.perf_counter(), time.process_time()
        averaging = team.begin_average([tensor], row=row)
        averaging.finish()
        row = averaging.row
        whole.append(time.perf_counter() - start)
        cores.append(time.process_time() - core_start)
    return fmean(whole[1:]), fmean(cores[1:])


def measured_beside(config: SolverConfig, count: int, *, parts: int = 1) -> tuple[Step, Link]:
    """One process's iteration while others make theirs, and messages between them.

    Args:
        config: the solver.
        count: how many processes run on this machine, on the CPU, each training by itself.
        parts: into how many parts the batch is divided, of which each process takes one.

    Raises:
        SystemExit: one of them failed, and has said why.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SOLVER).write_bytes(config.message.SerializeToString())
        program = ("-m", __name__, name, str(config.file), str(parts))
        launch(sys.executable, program, count, max_restarts=0)
        found = [pickle.loads(file.read_bytes()) for file in folder.glob("*.times")]
    # The slowest one counts: nobody is faster than all others together.
    times: tuple[Step, Link] = max(found, key=lambda each: each[0].whole_s)
    return times


def _main(folder: str, file: str, parts: str) -> int:
    """The work of one process: writes its step and the link into the folder."""
    prefer_own_caffe()
    launched = Launched.from_environment()
    assert launched is not None
    message = SolverParameter.FromString((Path(folder) / SOLVER).read_bytes())
    device = torch.device("cpu")
    keep_freed_memory()
    with log_to_stderr(plain=True):
        if launched.rank:
            show_only("moka.team")
        set_level(1)
        try:
            with launched.joined(device, PATIENCE_S) as (team, _):
                part = Alone(0, int(parts))
                config = SolverConfig(message, file)
                solver = Solver(config, device=device, team=part, splits_batches=part.size > 1)
                with closing(solver):
                    step = measured_step(solver, lambda enough: team.any(enough)[0])
                largest = max((bucket.size for bucket in step.buckets), default=0)
                link = measured_link(team, largest)
        except MokaError as error:
            log.critical("%s", error)
            return error.exit_code
    (Path(folder) / f"{launched.rank}.times").write_bytes(pickle.dumps((step, link)))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
