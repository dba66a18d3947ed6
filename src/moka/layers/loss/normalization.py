"""The divisor of losses that sum over positions: its options and its rule."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from moka.layers.base import Layer
from moka.layers.options import option, positive


class NormalizedLoss(Layer):
    """Base of losses that leave out `ignore_label` and divide their sum by a count.

    `normalization` names the count; `normalize` is its older form: true means VALID, false
    BATCH_SIZE. If neither is given, the layer type decides.
    """

    default_normalization: ClassVar = "VALID"
    fork_values: ClassVar = frozenset({"PRE_FIXED"})

    ignore_label: int | None = option(of="loss_param")
    normalization: str | None = option(of="loss_param", unset_is_none=True)
    normalize: bool | None = option(of="loss_param")
    pre_fixed_normalizer: float = option(positive, of="loss_param")

    @property
    def normalization_mode(self) -> str:
        """The count by name: FULL, VALID, BATCH_SIZE, NONE or PRE_FIXED."""
        if self.normalization is not None:
            return self.normalization
        if self.normalize is None:
            return self.default_normalization
        return "VALID" if self.normalize else "BATCH_SIZE"

    def divisor(self, outer: int, inner: int, counted: Tensor | None) -> float | Tensor:
        """The number to divide by, at least 1."""
        if self.normalization_mode == "PRE_FIXED":
            return max(1, self.pre_fixed_normalizer)
        return divisor(self.normalization_mode, outer, inner, counted)


def divisor(mode: str, outer: int, inner: int, counted: Tensor | None) -> int | Tensor:
    """The number that a loss is divided by, at least 1.

    Args:
        mode: FULL (every position), VALID (those that count), BATCH_SIZE (outer) or NONE (1).
        outer, inner: positions before and after the class axis.
        counted: mask of the positions that count; None: all.
    """
    if mode == "VALID" and counted is not None:
        return counted.sum().clamp_min(1)
    return max(1, {"FULL": outer * inner, "VALID": outer * inner, "BATCH_SIZE": outer}.get(mode, 1))
