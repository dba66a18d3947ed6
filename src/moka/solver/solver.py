"""The training loop: step, test, snapshot, resume; it announces what happens to its listeners."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

from moka.context import set_random_seed
from moka.data.batches import Share
from moka.engine.scoring import outputs_of, score
from moka.engine.training import TrainingStep
from moka.errors import MokaError, SolverError
from moka.graph import build_graph
from moka.hdf5 import is_hdf5
from moka.layers import REGISTRY
from moka.net import Net
from moka.parallel.declared import declared_team
from moka.parallel.reduce import GradientMean
from moka.parallel.team import Team
from moka.report.records import (
    BestSnapshotWritten,
    EarlyStop,
    FinalLoss,
    Listener,
    Output,
    Record,
    SnapshotWritten,
    SolvingCompleted,
    SolvingStarted,
    TestCompleted,
    TestStarted,
)
from moka.schema import format_text
from moka.schema.caffe_pb2 import SolverParameter, SolverState
from moka.solver.averaged_weights import AveragedWeights
from moka.solver.config import (
    NetToBuild,
    SolverLike,
    check_solver,
    read_solver,
    test_nets,
    train_net,
)
from moka.solver.faults.divergence import Guard, all_finite, nonfinite_fact
from moka.solver.lapse import Lapse
from moka.solver.policy import rate
from moka.solver.progress import Progress
from moka.solver.rules import Learnable, Rule, rule_class
from moka.solver.snapshots.names import averaged_of, model_of, state_before
from moka.solver.snapshots.newest import newest_state
from moka.solver.snapshots.position import Position
from moka.solver.snapshots.state_file import read_state
from moka.solver.snapshots.write import SnapshotWriter, check_prefix
from moka.solver.stateful import Stateful
from moka.solver.update import Clipped, apply_update
from moka.types import PathLike
from moka.weights import load_weights, mismatch, share_weights

log = logging.getLogger("moka.detail")


class Solver:
    """Trains a net.

    Args:
        solver: a solver prototxt, its message, or both as `read_solver` returns them.
        file: where a message came from.
        listeners: called with each record (`moka.report.records`).
        device: where it runs; None asks the context.
        keep_blobs: leave every blob's data and diff, and every parameter's update, in view after
            a step, as pycaffe does; costs some time and memory.
        team: the processes that train this model together. All call `step` and `solve` alike; the
            first one tests, saves and tells its listeners. None: as pycaffe's program has declared.

    Attributes:
        config: the message, its snapshot prefix resolved.
        net: the net that is trained.
        test_nets: the nets it is tested with, on the same parameters.
        guard: keeps steps that are not finite from the parameters.
        team: as given.
        stop_requested, snapshot_requested: set by signals and listeners of any process; the loop
            of all processes stops or saves after the iteration.
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
    ) -> None:
        self.config, self.file = config, file = read_solver(solver, file)
        log.info("Initializing solver from parameters: \n%s", format_text(config))
        check_solver(config, file)
        if not config.HasField("base_lr") and config.lr_policy != "multifixed":
            log.warning("%s: base_lr is missing: at a rate of 0 nothing is learnt.", file)
        self.team = team or declared_team()
        saves = any((config.snapshot, config.snapshot_after_train, config.snapshot_best))
        if self.team.is_first and saves:
            check_prefix(self.prefix)
        self.listeners = list(listeners)
        self.on_start: list[Callable[[], object]] = []
        self.on_gradients_ready: list[Callable[[], object]] = []
        self.keep_blobs = keep_blobs
        self.stop_requested = False
        self.snapshot_requested = False
        seed = self._common_seed()
        if seed is not None:  # nets begin alike in every process, the order of the data too
            set_random_seed(seed)
        self.net = self._build(train_net(config, file), device)
        if not self.net.loss_tops:
            log.warning("%s: the train net has no loss: nothing is learnt.", file)
        self.test_nets = [self._build(n, device) for n in test_nets(config, file)]
        for net in self.test_nets:
            share_weights(net, self.net, say_what_is_missing=False)
            net.debug_info = config.debug_info
        if seed is not None and not self.team.is_first:
            set_random_seed(self.team.own_seed(seed))
        bfloat16 = config.precision == SolverParameter.BF16
        self._train = TrainingStep(
            self.net, keep_blobs=keep_blobs, bfloat16=bfloat16, replayable=True
        )
        self._tests = [TrainingStep(net, keep_blobs=keep_blobs) for net in self.test_nets]
        self._params = [
            Learnable(self.net.parameter_of(b), b.lr_mult, b.decay_mult) for b in self.net.learnable
        ]
        self._rule = rule_class(config)(self._params, config)
        try:
            self._progress = Progress(config, self.test_nets)
        except SolverError as error:
            raise error.at(file=file) from None
        self._average = (
            AveragedWeights([p.parameter for p in self._params], config.ema_decay)
            if config.ema_decay
            else None
        )
        nets = [self.net, *self.test_nets]
        self._position = Position(nets, self.team.rank, self.team.size)
        self._stateful: list[Stateful] = [self._rule, self._progress, self._position]
        self._writer = SnapshotWriter(config, self.net, self._average)
        self.guard = Guard(config, file, self.net)
        if self.team.is_connected:
            mean = GradientMean(self.net, self.team, config)
            mean.broadcast()
            self.on_gradients_ready.append(mean.on_gradients_ready)
        log.info("Solver scaffolding done.")

    def _common_seed(self) -> int | None:
        """The seed from which all processes of the team begin; None if there is none."""
        if self.config.random_seed >= 0 or not self.team.is_connected:
            return self.config.random_seed if self.config.random_seed >= 0 else None
        own = str(int(torch.randint(2**62, ())))
        return int(self.team.gather_messages(own.encode())[0])

    def _build(self, wanted: NetToBuild, device: torch.device | None) -> Net:
        log.info(wanted.said)
        graph = build_graph(wanted.param, REGISTRY, file=wanted.file)
        net = Net(graph, device, Share(self.team.rank, self.team.size))
        for weights in self.config.weights:
            for file in weights.split(","):
                log.info("Finetuning from %s", file)
                load_weights(net, [file])
        return net

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
        return rate(self.config, self.iteration, self._progress.plateau.drops)

    @property
    def rule(self) -> Rule:
        """The rule of the solver's type, with its histories."""
        return self._rule

    # --- running --------------------------------------------------------------------------

    def solve(self, resume_file: str | None = None) -> None:
        """Train to max_iter, with tests and snapshots on the way and a snapshot at the end."""
        started, waited = time.perf_counter(), self._waited_s()
        config = self.config
        self._announce(
            SolvingStarted(self.net.name, config.lr_policy, self.iteration, config.max_iter)
        )
        if resume_file:
            log.info("Restoring previous solver status from %s", resume_file)
            self.restore(resume_file)
        self.step(config.max_iter - self.iteration)
        with self.team.leaving_on_error():
            if config.snapshot_after_train and not self._is_due(config.snapshot):
                self._save_together(self._write_snapshot)
            if not self._must_stop():
                if self._is_due(config.display):
                    self._announce_final_loss()
                if self._is_due(config.test_interval):
                    self.test_all()
        self._announce(
            SolvingCompleted(
                self.iteration,
                self.stop_requested,
                time.perf_counter() - started,
                self._waited_s() - waited,
            )
        )
        self.stop_requested = False

    def step(self, iterations: int) -> None:
        """Train for some iterations, with the tests and snapshots that fall due.

        Raises:
            SolverError: loss or gradients are no longer finite numbers. No snapshot is made then;
                the iteration is kept for a replay (`moka.solver.faults.replay`). Or another
                process of the team has ended.
        """
        end = self.iteration + iterations
        self.net.take_written_parameters()
        self._lapse = Lapse(self.iteration)
        with self.team.leaving_on_error():
            while self.iteration < end and not self._must_stop():
                self._clear_grads()
                if self._tests_are_due():
                    self.test_all()
                    continue
                self._iterate()
                self._progress.iteration += 1
                if self._must_save() or self._is_due(self.config.snapshot):
                    self._save_together(self._write_snapshot)

    def apply_update(self) -> None:
        """One update of the parameters from the gradients they have now; counts as an iteration.

        The gradients are not cleared first, so that they can be computed by hand before.
        """
        self._make_grads()
        self.net.take_written_parameters()
        self._update(self.rate)
        self._progress.iteration += 1

    def _iterate(self) -> None:
        waited = self._waited_s()
        displayed = self._is_due(self.config.display)
        self.net.debug_info = displayed and self.config.debug_info
        for call in self.on_start:
            call()
        loss = self._run_passes()
        if loss is None:
            return
        smoothed = self._progress.smoothed(loss)
        outputs = outputs_of(self.net) if displayed else ()
        rate_drops = self._progress.plateau.see(smoothed, self.iteration)
        for call in self.on_gradients_ready:
            call()
        lr = self.rate
        clipped = self._update(lr)
        if self.listeners:
            record = self._lapse.record(
                self.config,
                self.iteration,
                loss=smoothed,
                rate=lr,
                outputs=outputs,
                plateau=self._progress.plateau.drops if rate_drops else None,
                clipped=clipped,
                waited_s=self._waited_s() - waited,
            )
            self._announce(record)

    def _run_passes(self) -> float | None:
        """The iter_size passes of an iteration; returns their mean loss, None if the step has to be
        skipped."""
        total = 0.0
        for _ in range(self.config.iter_size):
            loss = float(self._train.forward_backward())
            mean = self._agree_on_loss(loss, nonfinite_fact(loss, [p.grad for p in self._params]))
            if mean is None:
                return None
            total += mean
        self.guard.passed()
        return total / self.config.iter_size

    def _agree_on_loss(self, loss: float, fact: str | None) -> float | None:
        """The mean loss of all processes after a pass; None if one of them has a fault.

        Args:
            fact: what is not finite in this process, None if all is.
        """
        told = self.team.gather_numbers(loss, fact is not None)
        faulty = [rank for rank, (_, is_faulty) in told.items() if is_faulty]
        if not faulty:
            return sum(other for other, _ in told.values()) / len(told)
        self.guard.refuse(
            fact,
            self._train.start,
            iteration=self.iteration,
            rate=self.rate,
            team=self.team,
            faulty_rank=faulty[0],
        )
        return None

    def _update(self, lr: float) -> Clipped | None:
        clipped = apply_update(self._rule, self.config, self.iteration, lr)
        if self._average:
            self._average.update()
        if self.keep_blobs:
            for p, update in zip(self._params, self._rule.updates(), strict=True):
                p.grad.copy_(update)
        self.net.renew_written_parameters()
        return clipped

    def _make_grads(self) -> None:
        for p in self._params:
            if p.parameter.grad is None:
                p.parameter.grad = torch.zeros_like(p.parameter)

    def _clear_grads(self) -> None:
        self._make_grads()
        if self._params:  # PyTorch refuses an empty list
            torch._foreach_zero_([p.grad for p in self._params])

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.iteration % every == 0

    def _must_stop(self) -> bool:
        """Whether any process has been asked to stop."""
        (stop,) = self.team.any(self.stop_requested)
        self.stop_requested |= stop
        return stop

    def _must_save(self) -> bool:
        """Whether any process has been asked for a snapshot since the last call."""
        asked, self.snapshot_requested = self.snapshot_requested, False
        return self.team.any(asked)[0]

    def _waited_s(self) -> float:
        return sum(source.waited_s for _, source in self.net.sources)

    def _announce(self, record: Record) -> None:
        if self.team.is_first:
            for listener in self.listeners:
                listener(record)

    def _announce_final_loss(self) -> None:
        """Run one more pass, after the last update."""
        loss = float(self._train.forward())
        mean = self._agree_on_loss(loss, nonfinite_fact(loss, ()))
        if mean is not None:
            self._announce(FinalLoss(self.iteration, self._progress.smoothed(mean)))

    # --- testing --------------------------------------------------------------------------

    def _tests_are_due(self) -> bool:
        return (
            (self.iteration > 0 or self.config.test_initialization)
            and self._is_due(self.config.test_interval)
            and self.iteration != self._progress.tested_at
        )

    def test_all(self) -> None:
        """Run every test net over its batches and announce the mean of each output.

        The first process of a team tests, but all of them call this.
        """
        outputs = self._test_each() if self.team.is_first else ()
        if outputs is None:
            outputs = ()
        else:
            self._progress.tested_at = self.iteration
        if best := self._progress.best:
            improved = bool(outputs) and best.see(outputs[best.net_index], self.iteration)
            if self.team.any(improved)[0]:
                self._save_together(self._write_best)
            self._stop_if_exhausted()

    def _test_each(self) -> Sequence[Sequence[Output]] | None:
        """The outputs of each test net; None if a request to stop came first."""
        found = []
        for index in range(len(self.test_nets)):
            outputs = self._test(index)
            if self.stop_requested:
                return None
            found.append(outputs)
        return found

    def _test(self, index: int) -> Sequence[Output]:
        net, batches = self.test_nets[index], self.config.test_iter[index]
        self._announce(TestStarted(self.iteration, index))
        share_weights(net, self.net)
        averaged = self._average if self.config.test_with_ema else None
        with averaged.in_place() if averaged else nullcontext():
            result = score(self._tests[index], batches, lambda *_: self.stop_requested)
        if result is None:
            return ()
        means, loss = result
        wanted = loss if self.config.test_compute_loss else None
        self._announce(TestCompleted(self.iteration, index, means, wanted))
        return means

    def _stop_if_exhausted(self) -> None:
        best = self._progress.best
        if best and best.exhausted:
            self.stop_requested = True
            self._announce(
                EarlyStop(self.iteration, best.tests_since, best.output, best.value, best.iteration)
            )

    # --- files ----------------------------------------------------------------------------

    def snapshot(self) -> tuple[str, str]:
        """Write model and state; returns their names.

        In a team, one process can do so by itself; the snapshots that `step` and `solve` write hold
        the random numbers of all.

        Raises:
            SolverError: a parameter is no longer finite (nothing is written), or the disk is full.
        """
        self._refuse_nonfinite(all_finite([p.parameter for p in self._params]))
        return self._write_snapshot(self._state())

    def _save_together(self, write: Callable[[SolverState], object]) -> None:
        """Have the first process write a snapshot from which all of them can go on."""
        faulty, *_ = self.team.any(not all_finite([p.parameter for p in self._params]))
        self._refuse_nonfinite(not faulty)
        own = self._position.state().run_state
        told = self.team.gather_messages(own.SerializeToString())
        if self.team.is_first:
            state = self._state()
            others = [message for rank, message in sorted(told.items()) if rank]
            for message in others:
                state.run_state.other_rank.add().ParseFromString(message)
            write(state)

    def _refuse_nonfinite(self, is_finite: bool) -> None:
        if not is_finite:
            fact = "a parameter is not a finite number"
            raise self.guard.diverged(fact, self.iteration, self.rate)

    def _state(self) -> SolverState:
        first, *others = self._stateful
        state = first.state()
        for part in others:
            state.MergeFrom(part.state())
        return state

    def _write_snapshot(self, state: SolverState) -> tuple[str, str]:
        files = self._writer.write(state)
        self.guard.last_snapshot = files.model
        self._announce(SnapshotWritten(self.iteration, *files))
        return files.model, files.state

    def _write_best(self, state: SolverState) -> None:
        best = self._progress.best
        assert best
        files = self._writer.write_best(state)
        self.guard.last_snapshot = files.model
        self._announce(BestSnapshotWritten(self.iteration, best.output, best.value, files.model))

    def newest_snapshot(self) -> str | None:
        """The state of the newest snapshot of this net under the prefix, or None.

        Raises:
            SolverError: there are snapshots, but none that can be used.
        """
        return newest_state(self.prefix, self._why_of_another_net)

    def _why_of_another_net(self, state: SolverState, state_file: str) -> str | None:
        """Why a snapshot is not one of this net; raises MokaError if it cannot be used at all."""
        with _naming(state_file):
            self._rule.check_type(state)
        if why := mismatch(self.net, model_of(state, state_file)):
            return why
        try:
            self._rule.fitting_histories(state)
        except SolverError as error:
            return error.message
        return None

    def restore(self, state_file: str) -> None:
        """Go on from a snapshot: BVLC Caffe's, or ours, which also knows where the data was.

        Raises:
            SolverError, WeightsError: files that are missing or belong to another run.
        """
        with _offering_the_one_before(state_file):
            state = read_state(state_file)
        model_file = model_of(state, state_file)
        with _naming(state_file):
            self._rule.check_type(state)
        with _offering_the_one_before(state_file):
            load_weights(self.net, [model_file])
        if not is_hdf5(state_file):
            log.info("SGDSolver: restoring history")
        if self._average:
            self._average.load(self.net, averaged_of(state, state_file))
        with _naming(state_file):
            for part in self._stateful:
                part.load_state(state)
        self.guard.resumed_from(model_file)
        self._stop_if_exhausted()

    def close(self) -> None:
        """Stop the threads of all data layers, and leave the team."""
        self.team.leave()
        for net in (self.net, *self.test_nets):
            net.close()


@contextmanager
def _naming(file: PathLike) -> Iterator[None]:
    """Errors of the block name this file."""
    try:
        yield
    except MokaError as error:
        raise error.at(file=file) from None


@contextmanager
def _offering_the_one_before(state_file: str) -> Iterator[None]:
    """Errors of the block say which snapshot comes before this one, to be taken instead."""
    try:
        yield
    except MokaError as error:
        if before := state_before(state_file):
            error.advice = f"{error.advice or ''} The snapshot before it is {before}.".strip()
        raise
