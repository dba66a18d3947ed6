"""Two processes over gloo beside one process with as many threads, on the same two cores.

    python benchmarks/scaling.py [--nets caffenet,lenet] [--rounds N]

In each round one process with two threads makes an iteration of a batch, then two processes with
one thread each make one with a batch each. What is shown, as medians over the rounds:

throughput  images per second of the two, by those of the one; below it the same by one process with
            one thread, twice: what the two would reach if nothing travelled
hidden      how much of the time that averaging all gradients takes by itself passes during the
            backward pass: 1 - (waiting for messages in an iteration) / (averaging alone)
overhead    milliseconds that an iteration of two processes takes longer than one process alone
            with one thread (which has one core to itself, and all of the memory's bandwidth)
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch

from moka.heap import keep_freed_memory
from moka.parallel import reduce
from moka.parallel.join import join_team, new_uid
from moka.parallel.team import Alone, Team
from moka.schema import caffe_pb2, parse_text, read_text
from moka.solver.solver import Solver
from moka.waiting import SPINS

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
IN_A_ROW = 10  # iterations of a run
NETS = {  # file, batch, image
    "lenet": ("examples/mnist/lenet_train_test.prototxt", 64, (1, 28, 28)),
    "cifar": ("examples/cifar10/cifar10_quick_train_test.prototxt", 100, (3, 32, 32)),
    "caffenet": ("models/bvlc_reference_caffenet/train_val.prototxt", 64, (3, 227, 227)),
    "googlenet": ("models/bvlc_googlenet/train_val.prototxt", 32, (3, 224, 224)),
    "vgg16": ("models/vgg16/train_val.prototxt", 16, (3, 224, 224)),
    "resnet50": ("models/resnet50/train_val.prototxt", 16, (3, 224, 224)),
}


def message_of(name: str, batch: int = 0) -> caffe_pb2.SolverParameter:
    """A solver's message for one of the nets, whose data lie in memory.

    Args:
        batch: 0: the usual one.
    """
    file, usual, image = NETS[name]
    net = read_text(ROOT / file, caffe_pb2.NetParameter)
    images = ", ".join(f"dim: {n}" for n in (batch or usual, *image)).replace(",", "")
    data = parse_text(
        'layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {'
        f" shape {{ {images} }} shape {{ dim: {batch or usual} }}"
        " data_filler { value: 1 } data_filler { value: 1 } } }",
        caffe_pb2.NetParameter,
    )
    del net.state.stage[:]
    made = caffe_pb2.SolverParameter(
        base_lr=1e-6, lr_policy="fixed", momentum=0.9, weight_decay=0.0005, random_seed=1,
        snapshot_after_train=False, solver_mode=caffe_pb2.SolverParameter.CPU,
    )  # fmt: skip
    train = made.train_net_param
    train.CopyFrom(net)
    del train.layer[:]
    train.layer.extend(data.layer)
    train.layer.extend(layer for layer in net.layer if layer.bottom)
    return made


class Worker:
    """One process's training, and how long it waits for gradients."""

    def __init__(self, name: str, batch: int, team: Team) -> None:
        self.team = team
        self.solver = Solver(message_of(name, batch), device=CPU, team=team)
        self.step()

    def step(self, iterations: int = 1) -> tuple[float, float]:
        """Seconds of iterations, and of waiting for others in them."""
        start, waited_s = time.perf_counter(), self.team.waited_s
        self.solver.step(iterations)
        return time.perf_counter() - start, self.team.waited_s - waited_s

    def run(self) -> tuple[float, float]:
        """As `step`, the mean of some iterations one after the other."""
        seconds, waited_s = self.step(IN_A_ROW)
        return seconds / IN_A_ROW, waited_s / IN_A_ROW

    def average(self) -> tuple[float, float]:
        """Seconds that averaging all gradients takes, with nothing else to do."""
        self.team.gather_numbers(0)  # begin together
        start = time.perf_counter()
        self.solver._mean.on_gradients_ready()
        return time.perf_counter() - start, 0.0


def work(
    pipe: Connection, name: str, batch: int, threads: int, rank: int, size: int, uid: bytes
) -> None:
    """A process: does what it is told, and tells the times."""
    os.setsid()  # as launchers do; Linux divides a busy machine among sessions
    torch.set_num_threads(threads)
    keep_freed_memory()
    team = join_team(uid, rank, size, CPU) if size > 1 else Alone()
    worker = Worker(name, batch, team)
    todo: Mapping[str, Callable[[], Any]] = {
        "step": worker.step,
        "run": worker.run,
        "average": worker.average,
    }
    pipe.send("ready")
    while order := pipe.recv():
        pipe.send(todo[order]())
    worker.solver.close()


class Group:
    """Processes that train together; without rounds of their own they sleep."""

    def __init__(self, name: str, size: int, threads: int, batch: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        os.environ["GOMP_SPINCOUNT"] = SPINS  # as commands do
        uid = new_uid()
        self.pipes, self.processes = [], []
        os.environ["OMP_NUM_THREADS"] = str(threads)
        for rank in range(size):
            here, there = context.Pipe()
            given = (there, name, batch, threads, rank, size, uid)
            process = context.Process(target=work, args=given)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)
        for pipe in self.pipes:
            pipe.recv()

    def ask(self, order: str) -> tuple[float, float]:
        """The longest time of all members, and the shortest waiting: the one that comes last waits
        for messages only."""
        for pipe in self.pipes:
            pipe.send(order)
        answers = [pipe.recv() for pipe in self.pipes]
        return max(s for s, _ in answers), min(waited for _, waited in answers)

    def end(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send("")
            process.join()


def measure(name: str, rounds: int) -> None:
    """Print a net's figures."""
    one, two, single = Group(name, 1, 2), Group(name, 2, 1), Group(name, 1, 1)
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        times.setdefault("one", []).append(one.ask("step")[0])
        step_s, waited_s = two.ask("step")
        times.setdefault("two", []).append(step_s)
        times.setdefault("waited", []).append(waited_s)
        times.setdefault("average", []).append(two.ask("average")[0])
        times.setdefault("single", []).append(single.ask("step")[0])
    for group in (one, two, single):
        group.end()
    of = {kind: median(found) for kind, found in times.items()}
    batch = NETS[name][1]
    print(f"{name}, batch {batch}, bucket {reduce.BUCKET_BYTES >> 20} MiB, medians of {rounds}:")
    print(
        f"  one process, two threads   {of['one'] * 1e3:9.1f} ms {batch / of['one']:9.1f} images/s"
    )
    print(f"  one process, one thread    {of['single'] * 1e3:9.1f} ms")
    print(f"  two processes, one thread  {of['two'] * 1e3:9.1f} ms"
          f" {2 * batch / of['two']:9.1f} images/s")  # fmt: skip
    print(f"  throughput  {2 * of['one'] / of['two']:6.3f} of one process;"
          f" {of['single'] / of['two']:6.3f} of two that do not talk")  # fmt: skip
    hidden = 1 - of["waited"] / of["average"]
    print(f"  averaging alone {of['average'] * 1e3:.1f} ms, waiting {of['waited'] * 1e3:.1f} ms:"
          f" hidden {hidden:.1%}")  # fmt: skip
    print(f"  overhead {(of['two'] - of['single']) * 1e3:.2f} ms an iteration", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="caffenet,lenet", help=", ".join(NETS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for name in options.nets.split(","):
        measure(name, options.rounds * (10 if name == "lenet" else 1))


if __name__ == "__main__":
    main()
