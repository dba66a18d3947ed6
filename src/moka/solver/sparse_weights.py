"""Weights of convolutions that become 0 during the training and stay 0, as in Caffe-Jacinto."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moka.errors import SolverError
from moka.net import Net
from moka.parallel.team import Team
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.learnable import Learnable

WIDE = 32  # inputs or outputs of a convolution that loses weights
MARGIN, MOST = 0.15, 0.95  # the share of a channel may exceed the target so far, and no more
ROUNDING = 1e-6  # relative, of a share that a float32 holds
SPARSITY = frozenset(
    (
        "sparse_mode",
        "sparsity_target",
        "sparsity_start_factor",
        "sparsity_step_factor",
        "sparsity_start_iter",
        "sparsity_step_iter",
        "sparsity_threshold_value_max",
        "sparsity_threshold_maxratio",
        "sparsity_itr_increment_bfr_applying",
        "display_sparsity",
    )
)

log = logging.getLogger("moka")


@dataclass(frozen=True)
class Kernels:
    """The weights of a convolution.

    Attributes:
        name: of its layer.
        group: its number of groups.
        counts: whether they count in what is reached: a layer before a softmax does not.
    """

    name: str
    learnable: Learnable
    group: int
    counts: bool

    @property
    def weights(self) -> Tensor:
        """(outputs, inputs / group, ...)."""
        return self.learnable.values

    def share(self, factor: float) -> float:
        """The share of each output channel's weights that become 0."""
        outputs, inputs = self.weights.shape[0], self.weights.shape[1] * self.group
        if max(outputs, inputs) < WIDE or self.group >= outputs:
            return 0
        return factor if min(outputs, inputs) >= WIDE else factor / 2


class SparseWeights:
    """Keeps weights of convolutions at 0 and brings more of them there.

    All that it knows follows from the iteration and the weights, so a snapshot holds nothing of it.

    Args:
        speaks: whether this process writes to the log.
    """

    def __init__(
        self, config: SolverParameter, kernels: Sequence[Kernels], *, speaks: bool = True
    ) -> None:
        self._config = config
        self._kernels = kernels
        self._speaks = speaks
        self._first = int(config.sparsity_itr_increment_bfr_applying)  # number of an iteration
        self._kept: list[Tensor] = []  # which weights are not 0; empty: nobody has looked

    @classmethod
    def of(
        cls, config: SolverParameter, net: Net, params: Sequence[Learnable], team: Team
    ) -> SparseWeights | None:
        """What a solver's message asks for; None for nothing.

        Args:
            params: the net's, in its order.
        """
        if not config.sparse_mode and not config.display_sparsity:
            return None
        return cls(config, kernels_of(net, params), speaks=team.is_first)

    def restart(self) -> None:
        """Forget which weights are 0: they have been loaded."""
        self._kept = []

    def begin(self) -> None:
        """Before an update: note which weights are 0, if that is not known."""
        if self._config.sparse_mode and not self._kept:
            self._note()

    def after_update(self, iteration: int) -> None:
        """After an update: bring weights to 0 where that is due, and back to 0 where they were.

        Args:
            iteration: counted from 0.
        """
        config, number = self._config, iteration + self._first
        if config.sparse_mode:
            if config.sparsity_target and self._is_due(number):
                self._zero_more(number)
            for kernels, kept in zip(self._kernels, self._kept, strict=True):
                kernels.weights.mul_(kept)
        if self._speaks and config.display_sparsity and number % config.display_sparsity == 0:
            self._show()

    def _is_due(self, number: int) -> bool:
        config = self._config
        return number >= config.sparsity_start_iter and number % config.sparsity_step_iter == 0

    def factor(self, number: int) -> float:
        """The share of weights that become 0 at the iteration of this number: it has grown with
        each that was due before."""
        every, first = (
            self._config.sparsity_step_iter,
            max(self._config.sparsity_start_iter, self._first),
        )
        times = max(-(-number // every) - -(-first // every), 0)
        return self._config.sparsity_start_factor + times * self._config.sparsity_step_factor

    def _zero_more(self, number: int) -> None:
        config, factor, reached = self._config, self.factor(number), self._reached()
        most = min(config.sparsity_target + MARGIN, MOST)
        if reached >= config.sparsity_target or factor > most * (1 + ROUNDING):
            return
        if self._speaks:
            log.info(
                "Finding and applying sparsity: sparsity_target=%g sparsity_factor=%g"
                " sparsity_achieved=%g iter=%d",
                config.sparsity_target,
                factor,
                reached,
                number,
            )
        limits = config.sparsity_threshold_maxratio, config.sparsity_threshold_value_max
        for kernels in self._kernels:
            zero_smallest(kernels.weights, kernels.share(factor), *limits)
        self._note()

    def _note(self) -> None:
        self._kept = [kernels.weights != 0 for kernels in self._kernels]

    def _reached(self) -> float:
        """The share of weights that stay 0."""
        counted = [
            kept for kernels, kept in zip(self._kernels, self._kept, strict=True) if kernels.counts
        ]
        return 1 - sum(int(kept.sum()) for kept in counted) / (sum(map(Tensor.numel, counted)) or 1)

    def _show(self) -> None:
        log.info("Sparsity after update:")
        zeros = total = 0
        for kernels in self._kernels:
            if kernels.counts:
                weights = kernels.weights
                own = int((weights == 0).sum())
                log.info("%s_param_0(%.3g)", kernels.name, own / weights.numel())
                zeros, total = zeros + own, total + weights.numel()
        share = zeros / total if total else 0.0
        log.info("Total Sparsity (zero_weights/count) =  (%d/%d) %.3g", zeros, total, share)


def kernels_of(net: Net, params: Sequence[Learnable]) -> list[Kernels]:
    """The weights of a net's convolutions.

    Args:
        params: the net's parameters, in its order.
    """
    found = []
    for blob, learnable in zip(net.learnable, params, strict=True):
        layer_index, blob_index = blob.owner
        layer = net.places[layer_index].layer
        if layer.entry.coordinates == "window" and blob_index == 0:
            after = net.places[layer_index + 1 : layer_index + 2]
            counts = not any(place.layer.entry.prediction for place in after)
            name, group = net.places[layer_index].node.name, getattr(layer, "group", 1)
            found.append(Kernels(name, learnable, group, counts))
    return found


def zero_smallest(weights: Tensor, share: float, ratio: float, limit: float) -> None:
    """Set a share of each output channel's weights to 0, the smallest ones: those that are smaller
    than `limit` and than `ratio` times the channel's largest. Of equal ones none or all go."""
    sizes = weights.abs().flatten(1)
    bounds = (sizes.amax(1) * min(ratio, 1)).clamp(max=limit)
    count = int(share * sizes.shape[1] * (1 + ROUNDING))
    if count < sizes.shape[1]:
        bounds = torch.minimum(bounds, sizes.kthvalue(count + 1, 1).values)
    weights.masked_fill_((sizes < bounds[:, None]).reshape(weights.shape), 0)


def check_sparsity(config: SolverParameter) -> None:
    """Raises SolverError for shares and intervals out of range."""
    for name in ("sparsity_target", "sparsity_start_factor"):
        if not 0 <= getattr(config, name) < 1:
            raise SolverError(f"{name} must be in [0, 1), got {getattr(config, name):g}.")
    if config.sparsity_step_iter < 1:
        raise SolverError(f"sparsity_step_iter must be > 0, got {config.sparsity_step_iter}.")
    if config.display_sparsity < 0:
        raise SolverError(f"display_sparsity must be >= 0, got {config.display_sparsity}.")
    if config.sparsity_target and not config.sparse_mode:
        raise SolverError("sparsity_target needs sparse_mode: SPARSE_UPDATE.")
