"""Training passes of a net on the CPU that are recorded once and then run as one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moka.engine.captured import Captured, Inputs
from moka.engine.host_reads import HostReads
from moka.engine.promised import See, tell_diff
from moka.engine.tape import OperatorRecorder
from moka.engine.ways import is_as_made
from moka.layers.base import Layer
from moka.layers.late_checks import LateChecks, collecting_checks
from moka.net import Net, Place

Run = Callable[[Inputs, See], tuple[Tensor, dict[str, Tensor]]]


class Made(NamedTuple):
    """What a pass has made.

    Attributes:
        loss: a scalar without a graph.
        blobs: those to show.
        diffs: gradients of blobs.
        grads: those of the parameters, None where there is none.
        checks: of labels.
        extents: what these have found.
    """

    loss: Tensor
    blobs: dict[str, Tensor]
    diffs: dict[str, Tensor]
    grads: list[Tensor | None]
    checks: LateChecks
    extents: list[Tensor]


def obstacle(net: Net) -> str | None:
    """Why passes of a net cannot be recorded, as the end of a sentence; None if nothing is known
    against it."""
    for place in _recorded_places(net):
        what = f'layer "{place.node.name}" ({place.node.type})'
        if not place.layer.can_be_recorded:
            return f"{what} is not the same work each time"
        if not is_as_made(place):
            return f"somebody has hooked into {what}"
    return None


def _recorded_places(net: Net) -> list[Place]:
    """The layers that are part of a recording: those without bottoms make its inputs."""
    return [place for place in net.places if place.node.bottoms]


class Modes:
    """What the passes of a net depend on beside its inputs and parameters.

    Args:
        net: the net.
    """

    def __init__(self, net: Net) -> None:
        self._places = _recorded_places(net)
        self._stateful = [p.layer for p in self._places if p.layer.keeps_state_in_place]
        self._found: Hashable = None
        self._found_at = -1  # a count of changes

    def now(self) -> Hashable:
        """The layers' modes, and where their states lie. Modes are looked at anew when those of any
        layer of the process have changed."""
        if self._found_at != Layer.mode_changes:
            self._found_at = Layer.mode_changes
            self._found = tuple([(p.layer.training, is_as_made(p)) for p in self._places])
        states = [state.data_ptr() for layer in self._stateful for state in layer.buffers()]
        return self._found, torch.is_grad_enabled(), *states


class RecordedPasses:
    """Runs training passes, once they have warmed up as a recording.

    Args:
        net: a net on the CPU.
        run: a pass and its gradients; it calls a function for each top.
        keeps_diffs: whether each blob's gradient is to be left in `net.blobs`.
        warm_ups: passes before the recording.
    """

    def __init__(self, net: Net, run: Run, *, keeps_diffs: bool, warm_ups: int) -> None:
        self.net, self._run, self._keeps_diffs = net, run, keeps_diffs
        self._layers = [place.layer for place in net.places if place.layer.parameter_names]
        self._modes = Modes(net)
        self.captured: Captured[Made] = Captured(
            self._work, OperatorRecorder(), warm_ups, partial(obstacle, net)
        )

    def __call__(self, batch: Inputs) -> tuple[Tensor, dict[str, Tensor]] | None:
        """A pass, whose gradients are added to the parameters'.

        Returns:
            the loss, a scalar without a graph; the blobs to show. None if the pass has to run by
            itself: it cannot be recorded, or somebody waits for the gradient of a parameter.

        Raises:
            DataError: a label is out of range.
        """
        if self.captured.refusal is not None:
            return None
        weights = self._weights()
        if have_hooks(weights):
            return None
        parameters = tuple([(id(w), w.data_ptr(), w.requires_grad) for w in weights])
        made = self.captured(batch, (self._modes.now(), parameters))
        if error := made.checks.first_error([extent.item() for extent in made.extents]):
            raise error
        for weight, grad in zip(weights, made.grads, strict=True):
            if grad is not None:
                weight.grad = grad if weight.grad is None else weight.grad.add_(grad)
        for name, diff in made.diffs.items():
            self.net.blobs[name].diff_memory.put(diff)
        return made.loss, made.blobs

    def _weights(self) -> list[nn.Parameter]:
        """All parameters, each once."""
        found = {id(w): w for layer in self._layers for w in layer.weights_unseen()}
        return list(found.values())

    def _work(self, batch: Inputs, reads: HostReads | None) -> Made:
        diffs: dict[str, Tensor] = {}

        def see(name: str, top: Tensor) -> None:
            if reads is not None:
                reads.layer_done(name)
            if self._keeps_diffs:
                tell_diff(top, lambda diff: diffs.update({name: diff}))

        weights = self._weights()
        with _gradients_apart(weights), collecting_checks() as checks:
            loss, blobs = self._run(batch, see)
            grads = [weight.grad for weight in weights]
        return Made(loss, blobs, diffs, grads, checks, checks.extents())


def have_hooks(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether somebody waits for the gradient of one of them; a recording would not call him."""
    return any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters)


@contextmanager
def _gradients_apart(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside, parameters have no gradients but those that come."""
    before = [weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    try:
        yield
    finally:
        for weight, grad in zip(weights, before, strict=True):
            weight.grad = grad
