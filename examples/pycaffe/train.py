#!/usr/bin/env python3
"""Train one model in several processes, each with its own share of the data.

    python examples/pycaffe/train.py --solver examples/mnist/lenet_solver.prototxt --gpus 0 1
    python examples/pycaffe/train.py --solver examples/mnist/lenet_solver.prototxt --cpus 2
    ... --snapshot FILE.solverstate     go on from there
    ... --timing                        milliseconds of every layer, at each `display`

Each process averages its gradients with those of the others before it updates the parameters, so
that n of them train as one with n times the batch size does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path

import caffe
import moka


@dataclass(frozen=True)
class Job:
    """What all processes are told.

    Attributes:
        solver: its prototxt.
        snapshot: a .solverstate to go on from, or "".
        devices: a GPU for each process; None: so many use the CPU.
        timing: print how long the layers take.
        uid: what the processes find each other by.
    """

    solver: str
    snapshot: str
    devices: Sequence[int | None]
    timing: bool
    uid: bytes


def train(job: Job) -> int:
    """Start the processes and wait for them; if one fails the others are ended. Returns 0 or 1."""
    spawn = get_context("spawn")  # a process that was forked could not use CUDA
    processes = [
        spawn.Process(target=solve, args=(job, rank), daemon=True)
        for rank in range(len(job.devices))
    ]
    for process in processes:
        process.start()
    while running := [process for process in processes if process.exitcode is None]:
        if any(process.exitcode for process in processes):
            for process in running:
                process.terminate()
            break
        connection.wait([process.sentinel for process in running])
    return 1 if any(process.exitcode for process in processes) else 0


def solve(job: Job, rank: int) -> None:
    """What one process does. The first one alone tests, saves and logs."""
    gpu = job.devices[rank]
    if gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(gpu)
        caffe.set_mode_gpu()
    caffe.set_solver_count(len(job.devices))  # these three before the solver is made
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    try:
        if rank == 0:
            caffe.init_log(stderr=True)
        solver = caffe.get_solver(job.solver)
        if job.snapshot:
            solver.restore(job.snapshot)
        nccl = caffe.NCCL(solver, job.uid)
        nccl.bcast()  # all begin with the parameters of the first
        if job.timing and rank == 0:
            measure(solver, nccl)
        else:
            solver.add_callback(nccl)
        if solver.param.layer_wise_reduce:
            solver.net.after_backward(nccl)
        solver.solve()
    except (moka.MokaError, RuntimeError) as error:
        sys.exit(f"train.py: process {rank}: {error}")


def measure(solver: caffe.SGDSolver, nccl: caffe.NCCL) -> None:
    """Print at every display how long the last pass took: each layer, all of them, and averaging
    the gradients."""
    net, names = solver.net, list(solver.net.layer_dict)
    forward, backward = ([caffe.Timer() for _ in names] for _ in range(2))
    passes, reduction = caffe.Timer(), caffe.Timer()

    def on(timers: Sequence[caffe.Timer], action: str) -> Callable[[int], None]:
        return lambda layer: getattr(timers[layer], action)()

    def passes_are_done() -> None:
        passes.stop()
        reduction.start()

    def gradients_are_averaged() -> None:
        reduction.stop()
        if solver.param.display and solver.iter % solver.param.display == 0:
            for i, name in enumerate(names):
                times = f"{forward[i].ms:9.3f} forward {backward[i].ms:9.3f} backward"
                print(f"  {name:<24}{times}")
            print(f"  {'passes':<24}{passes.ms:9.3f}")
            print(f"  {'averaging gradients':<24}{reduction.ms:9.3f}", flush=True)

    net.before_forward(on(forward, "start"))
    net.after_forward(on(forward, "stop"))
    net.before_backward(on(backward, "start"))
    net.after_backward(on(backward, "stop"))
    # In the order in which they are to be called.
    solver.add_callback(passes.start, passes_are_done)
    solver.add_callback(nccl)
    solver.add_callback(lambda: None, gradients_are_averaged)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--solver", required=True, metavar="FILE", help="its prototxt")
    parser.add_argument(
        "--snapshot", default="", metavar="FILE", help="a .solverstate to go on from"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--gpus", type=int, nargs="+", metavar="ID", help="one process each")
    where.add_argument("--cpus", type=int, metavar="N", help="so many processes (1)")
    parser.add_argument("--timing", action="store_true", help="print how long the layers take")
    given = parser.parse_args(argv)
    for file in filter(None, (given.solver, given.snapshot)):
        if not Path(file).is_file():
            sys.exit(f"train.py: there is no file {file}")
    if given.cpus is not None and given.cpus < 1:
        parser.error(f"--cpus is at least 1, found {given.cpus}")
    devices = given.gpus or [None] * (given.cpus or 1)
    uid = caffe.NCCL.new_uid()
    return train(Job(given.solver, given.snapshot, devices, given.timing, uid))


if __name__ == "__main__":
    sys.exit(main())
