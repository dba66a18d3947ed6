"""The mean of gradients over all processes that train one model, so that its copies stay equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from moka.net import Net
from moka.parallel.shard import is_divided
from moka.parallel.team import Averaging, Team
from moka.schema.caffe_pb2 import SolverParameter

BUCKET_BYTES = 25 << 20  # as large as PyTorch's own


class GradientMean:
    """Averages a net's gradients over a team before each update.

    Gradients travel in buckets. While a pass is `overlapped`, a bucket starts as soon as the
    backward pass has completed its gradients, the last layers' first, and travels while the pass
    goes on. The gradients themselves stay as they are until `on_gradients_ready`. A solver's
    `compress: BFLOAT16` halves the bytes that travel.

    Args:
        net: this process's copy of the model.
        team: the processes.
        config: the solver's message.
    """

    def __init__(self, net: Net, team: Team, config: SolverParameter) -> None:
        self.net = net
        self.team = team
        self.config = config
        self._averaged: set[int] = set()  # ids of parameters that `after_layer` has dealt with
        self._buckets = buckets(net)
        is_compressed = config.compress == SolverParameter.BFLOAT16
        self._dtype = torch.bfloat16 if is_compressed else None
        self._rows: dict[int, Tensor] = {}  # memory of each bucket that has travelled whole
        self._under_way: list[Averaging] = []  # of the first buckets, in their order

    def broadcast(self) -> None:
        """Give every process the parameters of the first."""
        with self.net.parameters_in_use():
            self.team.copy_from_first([p for p in self._parameters() if not is_divided(p)])

    def on_start(self) -> None:
        """Begin an iteration."""
        self._averaged.clear()

    def on_gradients_ready(self) -> None:
        """Average the gradients that have not been averaged yet."""
        with self.net.parameters_in_use():
            self._begin_rest()
            for averaging in self._under_way:
                averaging.finish()
        self._under_way.clear()
        self._averaged.clear()

    def _begin_rest(self) -> None:
        """Start the buckets that are not under way, in the same order in every process."""
        for bucket in self._buckets[len(self._under_way) :]:
            rest = [p for p in bucket if id(p) not in self._averaged]
            self._begin(rest)

    def _begin(self, parameters: Iterable[nn.Parameter]) -> None:
        k, gradients = len(self._under_way), [_grad(p) for p in parameters]
        is_whole = len(gradients) == len(self._buckets[k])
        row = self._rows.get(k) if is_whole else None
        averaging = self.team.begin_average(gradients, self._dtype, row)
        if is_whole and averaging.row is not None:
            self._rows[k] = averaging.row
        self._under_way.append(averaging)

    def discard(self) -> None:
        """Forget the gradients that are under way: all processes skip this step."""
        for averaging in self._under_way:
            averaging.wait()
        self._under_way.clear()

    @contextmanager
    def overlapped(self, is_whole: bool = True) -> Iterator[None]:
        """Within, one backward pass, the last one before the update.

        Args:
            is_whole: whether it goes through the whole net at once; else nothing travels meanwhile.
        """
        if not (is_whole and self.team.is_connected):
            yield
            return
        waiting = [len(bucket) for bucket in self._buckets]
        home = {id(p): k for k, bucket in enumerate(self._buckets) for p in bucket}

        def is_complete(parameter: nn.Parameter) -> None:
            waiting[home[id(parameter)]] -= 1
            while (k := len(self._under_way)) < len(waiting) and not waiting[k]:
                self._begin(self._buckets[k])

        hooks = [
            parameter.register_post_accumulate_grad_hook(is_complete)  # type: ignore[no-untyped-call]
            for bucket in self._buckets
            for parameter in bucket
            if parameter.requires_grad
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._begin_rest()

    def after_layer(self, index: int) -> None:
        """Average the gradients of the parameters that layer `index` owns, once its backward pass
        has run. With iter_size > 1 they are averaged once, after the last pass."""
        if self.config.iter_size > 1:
            return
        net = self.net
        owned = [net.parameter_of(blob) for blob in net.learnable if blob.owner[0] == index]
        with net.parameters_in_use():
            gradients = [_grad(parameter) for parameter in owned]
            self.team.begin_average(gradients, self._dtype).finish()
        self._averaged.update(map(id, owned))

    def _parameters(self) -> list[nn.Parameter]:
        return [self.net.parameter_of(blob) for blob in self.net.learnable]


def buckets(net: Net) -> list[list[nn.Parameter]]:
    """A net's parameters in groups whose gradients travel together, the last layers' first.

    State that no solver trains (BatchNorm's sums) is left out: it never has a gradient, and its
    bucket would not be complete before the end of the pass. So are divided parameters, whose
    gradients FSDP2 averages.
    """
    found: list[list[nn.Parameter]] = []
    room = 0
    for blob in reversed(net.learnable):
        layer, index = blob.owner
        if index in net.places[layer].layer.state_blobs:
            continue
        parameter = net.parameter_of(blob)
        if is_divided(parameter):
            continue
        size = parameter.numel() * parameter.element_size()
        if size > room:
            found.append([])
            room = BUCKET_BYTES
        found[-1].append(parameter)
        room -= size
    return found


def _grad(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
