"""One iteration on a device, all of it queued before the host looks at what it has found."""

from __future__ import annotations

from collections.abc import Hashable
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from moka.engine.autograd import Autograd
from moka.engine.captured import WARM_UPS, Captured, CudaRecorder, Inputs, Recorder
from moka.engine.host_reads import HostReads
from moka.engine.late_read import LateRead
from moka.engine.precision import FIRST_SCALE, LossScale
from moka.engine.recorded import Modes, have_hooks, obstacle
from moka.layers.late_checks import LateChecks, collecting_checks
from moka.parallel.reduce import GradientMean
from moka.parallel.team import Team
from moka.parallel.together import Together
from moka.schema.caffe_pb2 import LossScaleState, RunState, SolverParameter, SolverState
from moka.solver.faults.divergence import Guard, nonfinite_fact
from moka.solver.requests import Requests
from moka.solver.rules import Rule
from moka.solver.step import Step
from moka.solver.update import Clipped, can_be_recorded, queue_update

LOSS, BAD, SCALE, NORM, EXTENTS = range(5)  # places in `Found.values`


class Found(NamedTuple):
    """What a pass and perhaps the update have found, on the device.

    Attributes:
        values: (4 + 2 checks,) float64: the loss; whether the step may not count; the scale of the
            loss; the norm of the gradients, where they are clipped; the checks' extents.
        blobs: by name, what the net shows.
        checks: of the labels.
    """

    values: Tensor
    blobs: dict[str, Tensor]
    checks: LateChecks


class _Pass(NamedTuple):
    """The pass that is queued.

    Attributes:
        iteration, rate: of the iteration, counted from 0, and its learning rate.
        is_last: of the iteration.
        updates: whether the update is queued with it.
        update_is_recorded: whether the update is part of the work that is recorded: all that
            changes from iteration to iteration in it is one number, which lies on the device.
    """

    iteration: int
    rate: float
    is_last: bool
    updates: bool
    update_is_recorded: bool


class LateStep(Step):
    """Queues passes and update without a wait between them, then waits once.

    Whether the step may count is worked out on the device: it may not if the loss or a gradient is
    not finite, or a label is out of range. The update looks at that flag there, so such a step
    never reaches the parameters, although the host learns of it only later; what the host then does
    is what `Step` does. The next iteration begins after that.

    With float16 the loss is scaled. A gradient that overflows then is no fault: the step is left
    out, and the scale halved.

    Attributes:
        reads_first: wait before the update, not after it: for a rate that depends on the loss, and
            for functions of the user between the two.
        captured: the recorded work of an iteration; None: it is not recorded.
    """

    def __init__(
        self,
        config: SolverParameter,
        engine: Autograd,
        rule: Rule,
        team: Team,
        mean: GradientMean,
        together: Together,
        guard: Guard,
        requests: Requests,
    ) -> None:
        super().__init__(config, engine, rule, team, mean, together, guard, requests)
        device = engine.net.device
        self.reads_first = False
        self.scale: LossScale | None = None
        if config.precision == SolverParameter.FP16:
            given = engine.net.graph.param.global_grad_scale  # NVCaffe's, 1 by default
            self.scale = LossScale(device, given if given > 1 else FIRST_SCALE)
        self.captured: Captured[Found] | None = None
        self._modes = Modes(engine.net)
        self._step_rate = torch.zeros((), device=device)
        self._pass = _Pass(0, 0.0, is_last=False, updates=False, update_is_recorded=False)
        self._values: list[float] = []  # of the last pass

    def record(self, recorder: Recorder | None = None, warm_ups: int = WARM_UPS) -> None:
        """Let the work of an iteration be recorded from now on, if it can be.

        Args:
            recorder: None: CUDA.
            warm_ups: iterations before the recording.
        """
        recorder = recorder or CudaRecorder(self.engine.net.device)
        self.captured = Captured(self._work, recorder, warm_ups, self._obstacle)

    def _obstacle(self) -> str | None:
        """Why the work of an iteration cannot be recorded; None if nothing is known against it."""
        if self.engine.keep_blobs:
            return "all blobs and their diffs are kept in view"
        for place in self.engine.net.places:
            if not place.node.bottoms and place.layer.parameter_names:
                # A graph reads copies of a batch, through which no gradient comes back.
                return f'the layer "{place.node.name}" gives a parameter as data'
        return obstacle(self.engine.net)

    def state(self) -> SolverState:
        """The scale of the loss."""
        if self.scale is None:
            return SolverState()
        value, good_steps = self.scale.value.item(), int(self.scale.good_steps.item())
        scale = LossScaleState(value=value, good_steps=good_steps)
        return SolverState(run_state=RunState(loss_scale=scale))

    def load_state(self, state: SolverState) -> None:
        """Go on with a state's scale, if it has one."""
        if self.scale is not None and state.run_state.HasField("loss_scale"):
            kept = state.run_state.loss_scale
            self.scale.value.fill_(kept.value)
            self.scale.good_steps.fill_(kept.good_steps)

    # --- the host's side ------------------------------------------------------------------

    def run_passes(self, iteration: int, rate: float) -> float | None:
        total = 0.0
        for remaining in reversed(range(self.config.iter_size)):
            loss = self._run_pass(iteration, rate, is_last=not remaining)
            if loss is None:
                return None
            total += loss
        self.guard.passed()
        return total / self.config.iter_size

    def update(self, iteration: int, rate: float) -> Clipped | None:
        if self._values[BAD]:  # a gradient has overflowed
            return None
        if not self._pass.updates:
            return super().update(iteration, rate)
        norm, limit = self._values[NORM], self.config.clip_gradients
        return Clipped(norm, limit) if 0 <= limit < norm else None

    def _run_pass(self, iteration: int, rate: float, *, is_last: bool) -> float | None:
        """One pass, the last one with the update; returns the loss, None if it has a fault."""
        with self.engine.net.parameters_in_use():
            batch = self.engine.next_batch()
            found = self.queue_pass(batch, iteration, rate, is_last=is_last)
            self.engine.show(found.blobs)
            self._values = LateRead(found.values).wait()
        if error := found.checks.first_error(self._values[EXTENTS:]):
            raise error
        loss, overflows = self._values[LOSS], bool(self._values[BAD])
        if overflows and self._values[SCALE] > 1 and isfinite(loss):
            return loss
        return self.agree_on_loss(loss, nonfinite_fact(loss, not overflows), iteration, rate)

    def queue_pass(self, batch: Inputs, iteration: int, rate: float, *, is_last: bool) -> Found:
        """Queue one pass, the last one of an iteration with the update, and read nothing.

        Args:
            batch: as the engine's `next_batch` returns it.
            iteration, rate: the iteration, counted from 0, and its learning rate.
        """
        updates = is_last and not self.reads_first and not self.config.disabled_update
        runs_alone = self.engine.segment_ends or have_hooks(p.parameter for p in self.params)
        captured = None if runs_alone else self.captured
        inside = updates and captured is not None and captured.refusal is None
        if self.config.iter_size > 1 or not can_be_recorded(self.rule, self.config):
            inside = False
        self._pass = _Pass(iteration, rate, is_last, updates, inside)
        if inside:
            self._step_rate.fill_(self.rule.step_rate(iteration, rate))
        found = captured(batch, self._key()) if captured else self._work(batch, None)
        if updates and not inside:
            self._queue_update(found.values, rate)
        return found

    def _key(self) -> Hashable:
        """All that a recording depends on beside its inputs."""
        places = tuple((p.parameter.data_ptr(), p.grad.data_ptr()) for p in self.params)
        message = self.config.SerializeToString(deterministic=True)
        _, _, is_last, _, update_is_recorded = self._pass
        return message, self._modes.now(), is_last, update_is_recorded, places

    # --- the device's side ----------------------------------------------------------------

    def _work(self, batch: Inputs, reads: HostReads | None) -> Found:
        """Queue a pass and perhaps the update.

        Args:
            reads: what notes host reads, which it is told the layers' ends.
        """
        see = reads.layer_done if reads else None
        scale = self.scale.value if self.scale else None
        with collecting_checks() as checks:
            loss, blobs = self.engine.pass_over(batch, scale, see)
        bad = checks.are_broken(loss)
        one = torch.ones_like(bad)
        is_last = self._pass.is_last
        inverse = 1 / scale if scale is not None and is_last else one
        if self.params:
            grads = [p.grad for p in self.params]
            torch._amp_foreach_non_finite_check_and_unscale_(grads, bad, inverse)
        used_scale = one if scale is None else scale.clone()
        if self.scale and is_last:
            self.scale.see(bad)
        bad = torch.maximum(bad, (~loss.isfinite()).to(bad.dtype))
        numbers = [loss, bad, used_scale, one, *checks.extents()]
        values = torch.stack([n.double() for n in numbers])
        if self._pass.update_is_recorded:
            self._queue_update(values, self._step_rate)
        return Found(values, blobs, checks)

    def _queue_update(self, values: Tensor, rate: float | Tensor) -> None:
        """Queue the update; the norm of the gradients takes its place among the values."""
        bad = values[BAD].float()
        norm = queue_update(self.rule, self.config, self._pass.iteration, rate, bad)
        if norm is not None:
            values[NORM].copy_(norm)
