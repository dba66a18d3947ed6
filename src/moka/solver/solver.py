"""The training loop: step, test, snapshot, resume; it announces what happens to its listeners."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from moka.engine.captured import WARM_UPS
from moka.engine.choose import evaluation_engine, training_engine
from moka.engine.evaluate import outputs_of
from moka.errors import SolverError
from moka.heap import keep_large_pieces
from moka.huge_pages import NewMemory, put_on_large_pages
from moka.parallel.declared import declared_team
from moka.parallel.reduce import GradientMean
from moka.parallel.team import Team
from moka.parallel.together import Together
from moka.report.records import (
    EarlyStop,
    FinalLoss,
    Listener,
    Output,
    Record,
    SolvingCompleted,
    SolvingStarted,
)
from moka.schema import format_text
from moka.solver.averaged_weights import AveragedWeights
from moka.solver.choose import rule_class
from moka.solver.config import SolverLike, check_precision, check_solver, read_solver
from moka.solver.faults.divergence import Guard, nonfinite_fact
from moka.solver.lapse import Lapse
from moka.solver.late_step import LateStep
from moka.solver.learnable import forget_grads, lay_out_grads, learnables, make_grads
from moka.solver.nets import build_nets
from moka.solver.own_threads import measured_steps
from moka.solver.policy import odd_rate
from moka.solver.progress import Progress
from moka.solver.requests import Requests
from moka.solver.rules import Rule
from moka.solver.snapshots.newest import NOTHING
from moka.solver.snapshots.of_run import Snapshots
from moka.solver.snapshots.write import check_prefix
from moka.solver.sparse_weights import SparseWeights
from moka.solver.step import Step
from moka.solver.testing import Tests
from moka.solver.update import Clipped
from moka.types import PathLike

log = logging.getLogger("moka.detail")

# Iterations, the first ones of a solver:
SETTLES = WARM_UPS + 2  # until each takes the same memory: those before the recording, and it
PAYS_LARGE_PAGES = 10


class Solver:
    """Trains a net.

    Args:
        solver: a solver prototxt, its message, or both as `read_solver` returns them.
        file: where a message came from.
        listeners: called with each record (`moka.report.records`).
        device: where it runs; None asks the context.
        keep_blobs: leave every blob's data and diff, and every parameter's update, in view after
            a step, as pycaffe does; costs some time and memory.
        team: the processes that train this model together. All call `step` and `solve` alike and
            share the tests; the first one saves and tells its listeners. None: as pycaffe's program
            has declared.
        splits_batches: divide the train net's batches among the processes, instead of giving a
            batch to each.
        records: let iterations be recorded where they can, and run as one call
            (`moka.engine.captured`).

    Attributes:
        config: the message, its snapshot prefix resolved.
        net: the net that is trained.
        test_nets: the nets it is tested with, on the same parameters.
        engine, test_engines: what runs the net and the test nets.
        guard: keeps steps that are not finite from the parameters.
        reads_late: whether a whole iteration is queued before the host looks at what it has found
            (`late_step`), as on a GPU.
        team: as given.
        requests: what signals and listeners of this process ask for. All processes do it after the
            iteration in which they have heard of it: with one process this one, with several the
            next, at the latest.
        on_start: called before the passes of an iteration.
        on_gradients_ready: called between the passes of an iteration and its update.

    Raises:
        MokaError: anything that can be known before training starts.
    """

    def __init__(
        self,
        solver: SolverLike,
        *,
        file: PathLike | None = None,
        listeners: Iterable[Listener] = (),
        device: torch.device | None = None,
        keep_blobs: bool = False,
        team: Team | None = None,
        splits_batches: bool = False,
        records: bool = True,
    ) -> None:
        self._new_memory = NewMemory()
        self._begun = 0  # iterations
        read = read_solver(solver, file)
        self.config, self.file = config, file = read
        log.info("Initializing solver from parameters: \n%s", format_text(config))
        check_solver(config, file)
        if odd := odd_rate(config):
            log.warning("%s: %s", file, odd)
        self.team = team or declared_team()
        check_precision(config, self.team.size, file)
        saves = any((config.snapshot, config.snapshot_after_train, config.snapshot_best))
        if self.team.is_first and saves:
            check_prefix(self.prefix)
        self.listeners = list(listeners)
        self.on_start: list[Callable[[], object]] = []
        self.on_gradients_ready: list[Callable[[], object]] = []
        self.keep_blobs = keep_blobs
        self.requests = Requests()
        self.net, self.test_nets = build_nets(read, device, self.team, splits_batches)
        self._sources = [source for _, source in self.net.sources]
        self._together = Together(self.net, self.team, config)
        self.engine = training_engine(self.net, keep_blobs=keep_blobs, precision=config.precision)
        self.test_engines = [evaluation_engine(n, keep_blobs=keep_blobs) for n in self.test_nets]
        self._params = learnables(self.net)
        self._rule = rule_class(config)(self._params, config)
        self._rule.leaves_updates = keep_blobs
        try:
            self._progress = Progress(config, self.test_nets)
        except SolverError as error:
            raise error.at(file=file) from None
        self._average = AveragedWeights.of(config, [p.parameter for p in self._params])
        self._sparse = SparseWeights.of(config, self.net, self._params, self.team)
        self._tests = Tests(config, self.test_engines, self.net, self._average, self.team)
        self.guard = Guard(config, file, self.net)
        self._mean = GradientMean(self.net, self.team, config)
        parts = (
            config,
            self.engine,
            self._rule,
            self.team,
            self._mean,
            self._together,
            self.guard,
            self.requests,
        )
        self._step, self.late_step = Step(*parts), LateStep(*parts)
        on_gpu = self.net.device.type == "cuda"
        self.reads_late = on_gpu or self.late_step.scale is not None
        if records and on_gpu:
            self.late_step.record()
        elif records and not self.team.is_connected:
            self.engine.record()
        self._measured = measured_steps(config, self.net, self.team)
        self._snapshots = Snapshots(
            config,
            [self.net, *self.test_nets],
            self._rule,
            self._progress,
            [self.late_step],
            self._average,
            self.guard,
            self.team,
            self._together,
            self._announce,
        )
        if self.team.is_connected:
            self._mean.broadcast()
            self.on_gradients_ready.append(self._mean.on_gradients_ready)
        log.info("Solver scaffolding done.")

    @property
    def prefix(self) -> str:
        """What the names of snapshots begin with."""
        return self.config.snapshot_prefix

    @property
    def iteration(self) -> int:
        """How many updates have been made."""
        return self._progress.iteration

    @property
    def rate(self) -> float:
        """The learning rate of the next iteration."""
        return self._progress.rate

    @property
    def rule(self) -> Rule:
        """The rule of the solver's type, with its histories."""
        return self._rule

    def join(self, team: Team) -> None:
        """Train from now on together with the processes that it was declared to be one of."""
        self.team = self._step.team = self.late_step.team = self._snapshots.team = team
        self._together.join(team)
        self.engine.recorded = None  # gradients are awaited one by one

    # --- running --------------------------------------------------------------------------

    def solve(self, resume_file: str | None = None) -> None:
        """Train to max_iter, with tests and snapshots on the way and a snapshot at the end."""
        start_s, waited_s = time.perf_counter(), self._waited_s()
        config = self.config
        begun = self.net.name, config.lr_policy, self.iteration, config.max_iter
        self._announce(SolvingStarted(*begun))
        if resume_file:
            log.info("Restoring previous solver status from %s", resume_file)
            self.restore(resume_file)
        self.step(config.max_iter - self.iteration)
        with self.team.leaving_on_error():
            self.requests.ask(self.team)
            agreed = self.requests.agreed
            saves = config.snapshot_after_train or agreed.requeue or agreed.save
            if saves and not self._progress.is_due(config.snapshot):
                self._snapshots.write_together()
            if not agreed.stop:
                if self._progress.is_due(config.display):
                    self._announce_final_loss()
                if self._progress.is_due(config.test_interval):
                    self.test_all()
        elapsed_s, waited_s = time.perf_counter() - start_s, self._waited_s() - waited_s
        stopped, self.requests.stop = self.requests.stop, False
        self._announce(SolvingCompleted(self.iteration, stopped, elapsed_s, waited_s))

    def step(self, iterations: int) -> None:
        """Train for some iterations, with the tests and snapshots that fall due.

        Raises:
            SolverError: loss or gradients are no longer finite numbers. No snapshot is made then;
                the iteration is kept for a replay (`moka.solver.faults.replay`). Or another
                process of the team has ended.
        """
        end = self.iteration + iterations
        self._lapse = Lapse(self.iteration)
        with self.team.leaving_on_error():
            self.requests.ask(self.team)
            while self.iteration < end and not self.requests.agreed.stop:
                with self.net.parameters_in_use():
                    forget_grads(self._params, self.net, stay=self.reads_late)
                if self._progress.tests_are_due:
                    self.test_all()
                    self.requests.ask(self.team)
                    continue
                self._arrange_memory()
                with self._measured():
                    self._iterate()
                self._progress.iteration += 1
                if not self.team.is_connected:  # else all have told each other with the loss
                    self.requests.ask(self.team)
                if self.requests.agreed.save or self._progress.is_due(self.config.snapshot):
                    self.requests.save = False
                    self._snapshots.write_together()

    def _arrange_memory(self) -> None:
        """Called before each iteration: large pieces of freed memory are kept once the same memory
        is asked for each time; then all that has been taken goes to large pages."""
        if self.net.device.type == "cpu":
            if self._begun in (0, SETTLES):
                keep_large_pieces(self._begun == SETTLES)
            elif self._begun == PAYS_LARGE_PAGES:
                put_on_large_pages(self._new_memory.ranges())
        self._begun += 1

    def apply_update(self, *, counts: bool = True) -> None:
        """One update of the parameters from the gradients they have now.

        The gradients are not cleared first, so that they can be computed by hand before.

        Args:
            counts: the update is an iteration; False: the program calls `count_iteration`.
        """
        with self.net.parameters_in_use():
            make_grads(self._params)
            lay_out_grads(self._params)
            if self._sparse:
                self._sparse.begin()
            self._update(self._step, self.rate)
        if counts:
            self.count_iteration()

    def count_iteration(self) -> None:
        """Go on to the next iteration."""
        self._progress.iteration += 1

    def _iterate(self) -> None:
        waited_s = self._waited_s()
        self._together.pace.start()
        displayed = self._progress.is_due(self.config.display)
        self.engine.layerwise.debug_info = displayed and self.config.debug_info
        for call in self.on_start:
            call()
        if self._sparse:
            self._sparse.begin()
        step = self._step_now()
        loss = step.run_passes(self.iteration, self.rate)
        if loss is None:
            return
        smoothed = self._progress.smoothed(loss)
        outputs = outputs_of(self.net) if displayed else ()
        rate_drops = self._progress.plateau.see(smoothed, self.iteration)
        for call in self.on_gradients_ready:
            call()
        lr = self.rate
        with self.net.parameters_in_use():
            clipped = self._update(step, lr)
        self._together.pace.stop()
        slowest = self._together.pace.compare() if displayed else None
        if self.listeners:
            record = self._lapse.record(
                self.config,
                self.iteration,
                loss=smoothed,
                rate=lr,
                outputs=outputs,
                plateau=self._progress.plateau.drops if rate_drops else None,
                clipped=clipped,
                waited_s=self._waited_s() - waited_s,
                slowest=slowest,
            )
            self._announce(record)

    def _step_now(self) -> Step:
        """What runs the coming iteration."""
        if not self.reads_late or self.team.is_connected or self.engine.goes_layer_by_layer:
            return self._step
        self.late_step.reads_first = bool(
            self.on_gradients_ready or self.config.lr_policy == "plateau"
        )
        return self.late_step

    def _update(self, step: Step, lr: float) -> Clipped | None:
        if self.config.disabled_update:
            return None
        clipped = step.update(self.iteration, lr)
        if self._sparse:
            self._sparse.after_update(self.iteration)
        if self._average:
            self._average.update()
        if self.keep_blobs and self._params:  # PyTorch takes no empty list
            torch._foreach_copy_([p.grad for p in self._params], self._rule.updates())
        return clipped

    def _waited_s(self) -> float:
        return sum([source.waited_s for source in self._sources])

    def _announce(self, record: Record) -> None:
        if self.team.is_first:
            for listener in self.listeners:
                listener(record)

    def _announce_final_loss(self) -> None:
        """Run one more pass, after the last update."""
        loss = float(self.engine.forward())
        fact = nonfinite_fact(loss, True)
        mean = self._step.agree_on_loss(loss, fact, self.iteration, self.rate)
        if mean is not None:
            self._announce(FinalLoss(self.iteration, self._progress.smoothed(mean)))

    # --- testing --------------------------------------------------------------------------

    def test_all(self) -> None:
        """Run every test net over its batches and announce the mean of each output.

        All processes of a team call this. Those that share no test leave it to the first.
        """
        outputs: Sequence[Sequence[Output]] | None = ()
        with self._together.whole():
            if self.team.is_first or self._tests.are_shared:
                outputs = self._tests.run(self.iteration, self._announce, self._is_stopped)
        if outputs is not None:
            self._progress.tested_at = self.iteration
        if best := self._progress.best:
            has_improved = False
            if outputs and self.team.is_first:
                has_improved = best.see(outputs[best.net_index], self.iteration)
            if self.team.any(has_improved)[0]:
                self._snapshots.write_best()
            self._stop_if_exhausted()

    def _is_stopped(self) -> bool:
        return self.requests.own().stop

    def _stop_if_exhausted(self) -> None:
        if (best := self._progress.best) and best.exhausted:
            self.requests.stop = True
            found = best.tests_since, best.output, best.value, best.iteration
            self._announce(EarlyStop(self.iteration, *found))

    # --- files ----------------------------------------------------------------------------

    def snapshot(self) -> tuple[str, str]:
        """Write model and state; returns their names.

        In a team, one process can do so by itself, unless parameters are divided: then all call
        this, and the first one writes. The snapshots that `step` and `solve` write hold the random
        numbers of all.

        Raises:
            SolverError: a parameter is no longer finite (nothing is written), or the disk is full.
        """
        return self._snapshots.write()

    def newest_snapshot(self, passing_over: Mapping[str, int] = NOTHING) -> str | None:
        """The state of the newest snapshot of this net under the prefix, or None.

        Args:
            passing_over: state files of other runs, as `written_snapshots` finds them.

        Raises:
            SolverError: there are snapshots, but none that can be used.
        """
        return self._snapshots.newest(passing_over)

    def restore(self, state_file: str) -> None:
        """Go on from a snapshot: BVLC Caffe's, or ours, which also knows where the data was.

        Raises:
            SolverError, WeightsError: files that are missing or belong to another run.
        """
        self._snapshots.restore(state_file)
        if self._sparse:
            self._sparse.restart()
        self._stop_if_exhausted()

    def close(self) -> None:
        """Stop the threads of all data layers, and leave the team."""
        self.team.leave()
        for net in (self.net, *self.test_nets):
            net.close()
