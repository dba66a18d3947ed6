"""Rates worked out for each parameter from its norm and its gradient's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from moka.errors import SolverError
from moka.schema.caffe_pb2 import SolverParameter, SolverState
from moka.solver.learnable import Learnable
from moka.solver.rules import Sgd, Tensors

# Of larc_turbo: the first iteration that it changes, how much of the mean stays, its effect.
TURBO_FROM, TURBO_MEMORY, TURBO_STRENGTH = 2, 0.95, 0.9


class Lars(Sgd):
    """SGD whose rate is worked out for each parameter from its norm and its gradient's:

    trust = larc_eta |w| / (|g| + decay |w|), g without decay; larc_policy "scale" takes r * trust,
    "clip" lr_mult * min(rate, trust). Where w or g is all zeros the rate is r. You et al., 2017
    (LARS); NVCaffe calls it larc, layer-wise adaptive rate control. Intel's `local_lr_auto: true`
    is "scale" with local_gw_ratio in the place of larc_eta.

    With `larc_turbo` (NVCaffe) trust is also multiplied by 1 - 0.9 c from the third iteration on.
    c = 0.95 c + 0.05 cos(g, h) is the running mean of the cosine between the gradient and the
    history, so that parameters whose gradients go on in one direction slow down. (NVCaffe 0.17.3
    subtracts 0.9 c from the trust; releases before it multiply.)
    """

    leaves_out, can_be_recorded = False, False

    def __init__(self, params: Sequence[Learnable], config: SolverParameter) -> None:
        super().__init__(params, config)
        self._cosines = [params[0].values.new_zeros(len(params))] if params else []

    @classmethod
    def check(cls, config: SolverParameter) -> None:
        if config.larc_policy not in ("scale", "clip"):
            raise SolverError(f"Unknown larc_policy: {config.larc_policy} (known: scale, clip).")
        if config.local_lr_auto and config.larc_policy != "scale":
            raise SolverError("local_lr_auto has no larc_policy: leave it out.")
        name = "local_gw_ratio" if config.local_lr_auto else "larc_eta"
        if not getattr(config, name) > 0:
            raise SolverError(f"{name} must be > 0, got {getattr(config, name):g}.")

    def apply(
        self,
        iteration: int,
        rate: float | Tensor,
        weight_decay: float,
        unless: Tensor | None = None,
    ) -> None:
        places = self._groups.values()
        for place, (r, decay, weights, grads, (h,)) in zip(
            places, self._members(rate, weight_decay), strict=True
        ):
            boost = self._boost(iteration, place, grads, h) if self.config.larc_turbo else 1.0
            rates = self._rates(r, rate, decay, weights, grads, boost)
            torch._foreach_add_(grads, weights, alpha=decay)
            torch._foreach_mul_(grads, rates)
            torch._foreach_mul_(h, self.momentum)
            torch._foreach_add_(h, grads)
            torch._foreach_sub_(weights, h)

    def _boost(
        self, iteration: int, place: Sequence[int], g: Tensors, h: Tensors
    ) -> Tensor | float:
        """What larc_turbo multiplies the trust of the parameters at these places by."""
        if iteration < TURBO_FROM:
            return 1.0
        norms = torch.stack(torch._foreach_norm(g)) * torch.stack(torch._foreach_norm(h))
        dots = torch.stack([torch.sum(a * b) for a, b in zip(g, h, strict=True)])
        cosine = torch.where(norms > 0, dots / norms, 0.0)
        (cosines,) = self._cosines
        index = torch.tensor(place, device=cosines.device)
        cosines[index] = TURBO_MEMORY * cosines[index] + (1 - TURBO_MEMORY) * cosine
        return 1 - TURBO_STRENGTH * cosines[index]

    def _rates(
        self,
        r: float | Tensor,
        rate: float | Tensor,
        decay: float,
        w: Tensors,
        g: Tensors,
        boost: Tensor | float,
    ) -> Tensors:
        w_norm, g_norm = torch.stack(torch._foreach_norm(w)), torch.stack(torch._foreach_norm(g))
        config = self.config
        eta = config.local_gw_ratio if config.local_lr_auto else config.larc_eta
        trust = eta * w_norm / (g_norm + decay * w_norm) * boost
        if self.config.larc_policy == "clip":
            factor = (trust / rate).clamp_max(1) if rate else torch.zeros_like(trust)
        else:
            factor = trust
        return list((r * factor.where((w_norm > 0) & (g_norm > 0), 1.0)).unbind())

    def state_tensors(self) -> Tensors:
        return [*super().state_tensors(), *self._cosines]

    def state(self) -> SolverState:
        state = super().state()
        if self.config.larc_turbo:
            state.run_state.larc_cosine.extend(self._cosines[0].tolist() if self._cosines else ())
        return state

    def load_state(self, state: SolverState) -> None:
        super().load_state(state)
        kept = state.run_state.larc_cosine
        if self._cosines and len(kept) == len(self.params):
            self._cosines[0].copy_(torch.tensor(list(kept)))
