"""`caffe plan --workers N` beside runs of N processes over gloo on this machine.

    python benchmarks/plan_workers.py [--nets lenet:64] [--workers 2,4]

What is shown: the predicted and the measured time of an iteration, and their ratio. The plan is
made by measuring processes that train by themselves, and messages; what it predicts is compared
with the median of `--rounds` runs of ten iterations.
"""

from __future__ import annotations

import argparse
from statistics import median

from scaling import Group, message_of

from moka.cores import usable_cores
from moka.solver.config import SolverConfig
from moka.tools.plan import plan_of_workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="lenet:64,cifar:100,caffenet:8,resnet50:2")
    parser.add_argument("--workers", default="2,4")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cores = usable_cores()
    print(f"{'net':12} workers   predicted    measured  ratio")
    for words in options.nets.split(","):
        name, _, batch = words.partition(":")
        config = SolverConfig(message_of(name, int(batch)), f"{name} in benchmarks/plan_workers.py")
        for workers in map(int, options.workers.split(",")):
            predicted = plan_of_workers(config, workers).forecast.step_s
            group = Group(name, workers, max(1, cores // workers), int(batch))
            measured = median(group.ask("run")[0] for _ in range(options.rounds))
            group.end()
            print(f"{words:12} {workers:7} {predicted * 1e3:9.1f} ms {measured * 1e3:8.1f} ms"
                  f" {predicted / measured:6.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
