"""Training steps that keep fewer blobs: memory and time beside steps that keep all.

    python benchmarks/recompute.py [--nets resnet50:8,googlenet:16] [--rounds N]

For each net: all blobs kept; `--recompute`, which finds the seams itself; and layers marked
`checkpoint: true`, those that end a block (Eltwise, Concat, Pooling). Memory is the peak of a
process less that of one with a batch of one, so parameters, gradients and the program count little.
Times are the processor's, medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from scaling import CPU, message_of
from side_by_side import compare

from moka.engine.segments import best_ends
from moka.solver.solver import Solver

ENDS = ("Eltwise", "Concat", "Pooling")


def prepared(name: str, batch: int, how: str) -> Callable[[int], None]:
    """A solver that keeps what `how` says."""
    message = message_of(name, batch)
    if how == "marked":
        for layer in message.train_net_param.layer:
            layer.checkpoint = layer.type in ENDS
    solver = Solver(message, device=CPU)
    if how == "recompute":
        solver.engine.segment_ends = best_ends(solver.net)
    return solver.step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="resnet50:8,googlenet:16")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{'net':14} {'':10} {'ms':>9} {'ratio':>6} {'MB':>8} {'ratio':>6}")
    for words in options.nets.split(","):
        name, _, batch = words.partition(":")
        contenders = {how: partial(prepared, name, int(batch), how)
                      for how in ("all", "recompute", "marked")}  # fmt: skip
        contenders["one"] = partial(prepared, name, 1, "all")
        found = compare(
            contenders, rounds=options.rounds, iterations=1, warm_up=1, processor_time=True
        )
        base = found.pop("one").peak_mb
        for how, timing in found.items():
            time, memory = timing.ms / found["all"].ms, timing.peak_mb - base
            share = memory / (found["all"].peak_mb - base)
            print(f"{words:14} {how:10} {timing.ms:9.1f} {time:6.2f} {memory:8.0f} {share:6.2f}",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
