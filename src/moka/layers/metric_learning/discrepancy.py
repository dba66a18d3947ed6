"""The distance of two distributions, which domain adaptation makes small."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.gradient import with_gradient_of
from moka.layers.options import Check, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, require_axes
from moka.types import Shape

LEAST_SPREAD = 1e-20  # of items at one place
some_kernels = Check(lambda v: 0 < v <= 1000, "1 to 1000")
UNSET = -1.0  # a gamma that no pass has set


@layer("MMDLoss", bottoms=2, tops=1, message="mmd_param", fork="DAN", is_loss=True)
class MMDLoss(Layer):
    """The maximum mean discrepancy of two domains under several Gaussian kernels, estimated from
    pairs that are drawn: the sum over draws of k(s, s') + k(t, t') - k(s, t') - k(s', t), of two
    items s, s' of the source and t, t' of the target; as many draws as the larger domain has items.

    k(a, b) is the sum over i from 0 to kernel_num - 1 of exp(-gamma kernel_mul^(i - kernel_num / 2)
    |a - b|^2), kernel_num / 2 rounded down, and 1 / gamma the mean squared distance of two items of
    both domains together; gamma takes no gradient. With fix_gamma it stays what it was in the first
    pass, also in a run that is resumed. As in the fork the gradient is that of the mean over the
    draws, not of the sum. A domain of one item gives a loss of 0.

    Bottoms: source (N, ...), target (M, ...), items of one size; both take gradients. Top: a
    scalar. Message: mmd_param. Long et al., 2015 (DAN).

    Errors: items of different sizes; options of DAN's first version, which has another formula.

    The fork draws other pairs for the gradient than for the value, and needs a GPU.
    """

    kernel_num: int = option(some_kernels)
    kernel_mul: float = option(positive)
    fix_gamma: bool = option()

    def setup(self, source: Shape, target: Shape) -> None:
        self.gamma = torch.tensor(UNSET)

    def top_shapes(self, source: Shape, target: Shape) -> list[Shape]:
        require_axes(1, source, target)
        if prod(source[1:]) != prod(target[1:]):
            raise NetError(
                f"the items of both domains must have one size, got {source} and {target}."
            )
        return [()]

    def run_state(self) -> list[Tensor]:
        return [self.gamma]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        self.gamma = tensors[0].reshape(())

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        a, b = as_rows(source), as_rows(target)
        if min(len(a), len(b)) < 2:
            return 0 * (a.sum() + b.sum())
        gamma = self._gamma(torch.cat([a.detach(), b.detach()]))
        draws = max(len(a), len(b))
        (s, s2), (t, t2) = (_pairs(x, draws) for x in (a, b))
        pairs = ((s, s2, 1), (t, t2, 1), (s, t2, -1), (s2, t, -1))
        total = sum(
            (sign * self._kernel(x, y, gamma).sum() for x, y, sign in pairs), a.new_zeros(())
        )
        return with_gradient_of(total, total / draws)

    def _gamma(self, items: Tensor) -> Tensor:
        """1 over the mean squared distance of two items (T, K), or the gamma that is kept."""
        spread = (items - items.mean(0)).square().sum() * 2 / (len(items) - 1)
        gamma = 1 / spread.clamp_min(LEAST_SPREAD)
        if not self.fix_gamma:
            return gamma
        kept = self.gamma.to(gamma)
        self.gamma = gamma.where(kept < 0, kept)
        return self.gamma

    def _kernel(self, a: Tensor, b: Tensor, gamma: Tensor) -> Tensor:
        """k of pairs (D, K), (D,)."""
        distance = (a - b).square().sum(1)
        numbers = torch.arange(self.kernel_num, device=a.device, dtype=a.dtype)
        powers = self.kernel_mul ** (numbers - self.kernel_num // 2)
        return (-gamma * powers[:, None] * distance).exp().sum(0)


def _pairs(items: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Two different ones of the items (N, K), drawn so many times: (count, K) each."""
    first, second = torch.randint(len(items), (2, count), device=items.device)
    second = (second + (first == second)) % len(items)
    return items[first], items[second]
