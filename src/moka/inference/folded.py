"""PyTorch as a backend: the layers of a piece, folded, with images and kernels channels-last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from moka.engine.channels_last import channels_last, lay_out_kernels
from moka.inference.contract import Run, Task
from moka.net import Place
from moka.rewrite import fold_scales


class Folded:
    """Runs pieces layer by layer in PyTorch, after folding what can be folded."""

    name = "torch"

    def is_installed(self) -> bool:
        return True

    def takes(self, place: Place) -> bool:
        return True

    def make(self, task: Task) -> Run:
        net = fold_scales(task.model, keep=task.outputs).build(silent=True)
        lay_out_kernels(net)

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            given = dict(zip(task.inputs, map(channels_last, inputs), strict=True))
            with torch.no_grad():
                blobs = net.propagate(given, task.outputs)
            return [blobs[name] for name in task.outputs]

        return run
