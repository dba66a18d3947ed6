"""Training steps that keep fewer blobs: memory and time beside steps that keep all.

    python benchmarks/recompute.py [--nets resnet50:16,googlenet:32,vgg16:8] [--rounds N]

For each net: all blobs kept; `--recompute`, which finds the seams itself; and layers marked
`checkpoint: true`, those that end a block (Eltwise, Concat, Pooling). Columns:

blobs    the most bytes of tensors that a step holds at once, without parameters and their
         gradients: blobs, what layers keep for their gradients, and the gradients of blobs
process  the peak memory of a process less that of one with a batch of one, so parameters,
         gradients and the program count little; what malloc cannot use counts
ms       the processor's time of an iteration, the median of interleaved rounds
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context

from live_bytes import LiveBytes
from scaling import CPU, message_of
from side_by_side import compare

from moka.engine.segments import best_ends
from moka.solver.solver import Solver

ENDS = ("Eltwise", "Concat", "Pooling")
HOWS = ("all", "recompute", "marked")


def solver_of(name: str, batch: int, how: str) -> Solver:
    """A solver that keeps what `how` says."""
    message = message_of(name, batch)
    if how == "marked":
        for layer in message.train_net_param.layer:
            layer.checkpoint = layer.type in ENDS
    solver = Solver(message, device=CPU)
    if how == "recompute":
        solver.engine.segment_ends = best_ends(solver.net)
    return solver


def prepared(name: str, batch: int, how: str) -> Callable[[int], None]:
    return solver_of(name, batch, how).step


def blobs_mb(name: str, batch: int, how: str) -> float:
    """The most memory that a step holds, but for parameters and their gradients."""
    solver = solver_of(name, batch, how)
    solver.step(1)
    with LiveBytes() as live:
        solver.step(1)
    gradients = [p.grad for p in solver.net.parameters() if p.grad is not None]
    return live.peak(without=gradients) / (1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="resnet50:16,googlenet:32,vgg16:8")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    titles = "".join(f" {title:>9} {'ratio':>6}" for title in ("blobs MB", "process", "ms"))
    print(f"{'net':14} {'':10}{titles}")
    for words in options.nets.split(","):
        name, _, batch = words.partition(":")
        contenders = {how: partial(prepared, name, int(batch), how) for how in HOWS}
        contenders["one"] = partial(prepared, name, 1, "all")
        timings = compare(
            contenders, rounds=options.rounds, iterations=1, warm_up=1, processor_time=True
        )
        base = timings.pop("one").peak_mb
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            blobs = {how: pool.apply(blobs_mb, (name, int(batch), how)) for how in HOWS}
        found = {how: (blobs[how], t.peak_mb - base, t.ms) for how, t in timings.items()}
        for how, figures in found.items():
            pairs = zip(figures, found["all"], strict=True)
            shown = "".join(f" {figure:9.1f} {figure / whole:6.2f}" for figure, whole in pairs)
            print(f"{words:14} {how:10}{shown}", flush=True)


if __name__ == "__main__":
    main()
