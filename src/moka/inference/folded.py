"""PyTorch as a backend: the layers of a piece, folded, with images and kernels channels-last."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from moka.engine.channels_last import channels_last, lay_out_kernels
from moka.inference.contract import Run, Task
from moka.net import Net, Place


class Folded:
    """Runs pieces layer by layer in PyTorch, after folding what can be folded."""

    name = "torch"
    gives_new_memory = False

    def is_installed(self) -> bool:
        return True

    def takes(self, place: Place) -> bool:
        return True

    def times(self, task: Task, inputs: Sequence[Tensor], passes: int) -> dict[str, float]:
        net = _net_of(task)
        given = dict(zip(task.inputs, map(channels_last, inputs), strict=True))
        makers = {top: place.node.name for place in net.places for top in place.node.tops}
        seconds = {name: [0.0] * passes for name in makers.values()}
        last, number = 0.0, 0

        def see(blob: str, _: Tensor) -> None:
            nonlocal last
            now = perf_counter()
            seconds[makers[blob]][number] += now - last
            last = now

        with torch.no_grad():
            for _ in range(passes):
                last = perf_counter()
                net.propagate(given, task.outputs, see)
                number += 1
        return {name: median(times) for name, times in seconds.items()}

    def make(self, task: Task) -> Run:
        net = _net_of(task)

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            given = dict(zip(task.inputs, map(channels_last, inputs), strict=True))
            with torch.no_grad():
                blobs = net.propagate(given, task.outputs)
            return [blobs[name] for name in task.outputs]

        return run


def _net_of(task: Task) -> Net:
    net = task.folded_net()
    lay_out_kernels(net)
    return net
