"""Adam and AdamW; see `moka.solver.rules` for the letters."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.adam import adam as torch_adam
from torch.optim.adamw import adamw as torch_adamw

from moka.errors import SolverError
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.rules import Rule, Tensors, divide_by_root


class Adam(Rule):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
    w -= r sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + delta), with b1 = momentum, b2 = momentum2 and
    t = iteration + 1. Kingma and Ba, 2015.

    delta is not corrected for the bias of v. PyTorch's kernel corrects its eps: so eps is
    delta / sqrt(1 - b2^t) for it.
    """

    histories = 2
    decoupled_decay: ClassVar[bool] = False

    @classmethod
    def check(cls, config: SolverParameter) -> None:
        for name in ("momentum", "momentum2"):
            value = getattr(config, name)
            if not 0 <= value < 1:
                raise SolverError(
                    f"{name} should lie between 0 and 1, 1 excluded, got {value:g}: {config.type}"
                    f" divides by 1 - {name}^t."
                )

    def step_rate(self, iteration: int, rate: float) -> float:
        """r sqrt(1 - b2^t) / (1 - b1^t)."""
        b1, b2 = self.config.momentum, self.config.momentum2
        return rate * sqrt(1 - b2 ** (iteration + 1)) / (1 - b1 ** (iteration + 1))

    def apply_recorded(
        self, step_rate: Tensor, weight_decay: float, unless: Tensor | None = None
    ) -> None:
        b1, b2 = self.config.momentum, self.config.momentum2
        for r, decay, weights, grads, (m, v) in self._members(step_rate, weight_decay):
            if decay:
                torch._foreach_add_(grads, weights, alpha=decay)
            torch._foreach_lerp_(m, grads, 1 - b1)
            torch._foreach_mul_(v, b2)
            torch._foreach_addcmul_(v, grads, grads, value=1 - b2)
            updates = torch._foreach_mul(m, r)
            divide_by_root(updates, v, self.config.delta)
            torch._foreach_sub_(weights, updates)

    def apply(
        self,
        iteration: int,
        rate: float | Tensor,
        weight_decay: float,
        unless: Tensor | None = None,
    ) -> None:
        b1, b2 = self.config.momentum, self.config.momentum2
        correction = sqrt(1 - b2 ** (iteration + 1))
        step = torch_adamw if self.decoupled_decay else torch_adam
        for r, decay, weights, grads, (m, v) in self._members(rate, weight_decay):
            step(
                weights,
                grads,
                m,
                v,
                [],
                [w.new_full((), iteration) for w in weights],
                fused=True,
                amsgrad=False,
                beta1=b1,
                beta2=b2,
                lr=r,
                weight_decay=decay,
                eps=self.config.delta / correction,
                maximize=False,
            )
        self._last = (iteration, float(rate), weight_decay)

    def updates(self) -> Tensors:
        iteration, rate, _ = self._last
        factor = self.step_rate(iteration, rate)
        m, v = self._history
        updates = torch._foreach_mul(m, [factor * p.lr_mult for p in self.params])
        divide_by_root(updates, v, self.config.delta)
        return list(updates)


class AdamW(Adam):
    """w -= r decay w, then Adam with a g without decay. Loshchilov and Hutter, 2019."""

    decoupled_decay = True
    can_be_recorded = False  # its decay takes the rate itself

    @classmethod
    def check(cls, config: SolverParameter) -> None:
        super().check(config)
        if config.regularization_type != "L2":
            raise SolverError(
                f"regularization_type {config.regularization_type} cannot be used with AdamW, whose"
                " decay is not part of the gradient."
            )

    def updates(self) -> Tensors:
        _, rate, weight_decay = self._last
        updates = super().updates()
        for p, update in zip(self.params, updates, strict=True):
            w = p.values
            shrunk_by = 1 - rate * p.lr_mult * weight_decay * p.decay_mult
            update.add_(w).div_(shrunk_by).sub_(w)
        return updates
