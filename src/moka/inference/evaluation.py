"""The engine of nets whose outputs are averaged over batches, by programs where they are faster."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from moka.engine.autograd import Autograd
from moka.engine.promised import NOTHING_LEFT_OUT, Plan, See
from moka.inference.fast import Fast
from moka.net import Net


class Inference(Autograd):
    """`Autograd` whose passes without gradients run as programs. The numbers are the layers',
    within 1e-4 of their scale.

    Args:
        net: nobody has got hold of its parameters yet.
        blobs: blobs to compute, beside those of the loss, in place of the outputs.
    """

    def __init__(self, net: Net, blobs: Collection[str] | None = None) -> None:
        super().__init__(net)
        if blobs is not None:
            self.results = frozenset(blobs) | {name for name, _ in net.loss_tops}
        self._fast = Fast(net)
        self.results |= self._fast.acted

    def _compute(
        self, batch: Mapping[str, Tensor], see: See | None, plan: Plan = NOTHING_LEFT_OUT
    ) -> dict[str, Tensor]:
        if torch.is_grad_enabled():
            return super()._compute(batch, see, plan)
        made = self._fast.run(batch, self.results)
        if made is None:
            made = super()._compute(batch, see)
            acted = {name: made[name] for name in self._fast.acted}
            self._fast.learn({**batch, **acted}, self.results)
        return made
