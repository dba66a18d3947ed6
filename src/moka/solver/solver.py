"""The training loop: step, test, snapshot, resume; it announces what happens to its listeners."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

from moka.context import set_random_seed, solver_rank
from moka.engine.choose import evaluation_engine, training_engine
from moka.engine.evaluate import evaluate, outputs_of
from moka.errors import MokaError, SolverError
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import Net
from moka.parallel.share import share_of_data
from moka.report.records import (
    BestSnapshotWritten,
    EarlyStop,
    FinalLoss,
    IterationCompleted,
    Listener,
    Output,
    Record,
    SnapshotWritten,
    SolvingCompleted,
    SolvingStarted,
    TestCompleted,
    TestStarted,
)
from moka.schema import blobproto, format_text
from moka.schema.caffe_pb2 import TRAIN, SolverParameter, SolverState
from moka.solver.best import Best
from moka.solver.config import (
    NetToBuild,
    SolverLike,
    check_solver,
    read_solver,
    test_nets,
    train_net,
)
from moka.solver.faults.divergence import Guard, broken
from moka.solver.policy import rate, stage
from moka.solver.progress import Progress
from moka.solver.rules import Learnable, Rule, rule_class
from moka.solver.snapshots.run_state import load_run_state, save_run_state
from moka.solver.snapshots.snapshot import (
    Content,
    averaged_name,
    best_names,
    check_prefix,
    file_names,
    load_history,
    model_of,
    remove_older,
    snapshot_prefix,
    state_before,
    write_best,
    write_snapshot,
)
from moka.solver.snapshots.state_file import read_state
from moka.solver.update import Clipped, apply_update
from moka.types import PathLike
from moka.weights import load_weights, share_weights

log = logging.getLogger("moka.detail")


class Solver:
    """Trains a net.

    Args:
        solver: a solver prototxt, or its message.
        file: where a message came from.
        listeners: called with each record (`moka.report.records`).
        device: where it runs; None asks the context.
        keep_blobs: leave every blob's data and diff, and every parameter's update, in view after
            a step, as pycaffe does; costs some time and memory.

    Attributes:
        config: the message, its snapshot prefix worked out.
        net: the net that is trained.
        test_nets: those it is tested with, on the same parameters.
        guard: sees to it that no step spoils the parameters.
        iteration: how many updates have been made.
        is_root: whether this is the first of several solvers that train one model (by the
            context's rank): it alone tests, saves and tells its listeners.
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
    ) -> None:
        config, read_from = read_solver(solver)
        self.file = file or read_from
        self.config = type(config)()
        self.config.CopyFrom(config)
        log.info("Initializing solver from parameters: \n%s", format_text(self.config))
        check_solver(self.config, self.file)
        if not config.HasField("base_lr") and config.lr_policy != "multifixed":
            log.warning("%s: base_lr is missing: at a rate of 0 nothing is learnt.", self.file)
        self.prefix = snapshot_prefix(self.config, self.file)
        if not self.config.snapshot_prefix:
            log.info("snapshot_prefix was not specified and is set to %s", self.prefix)
        rank = solver_rank()
        self.is_root = rank == 0
        saves = any((config.snapshot, config.snapshot_after_train, config.snapshot_best))
        if self.is_root and saves:
            check_prefix(self.prefix)
        self._seed(0)  # nets begin alike on every rank, the order of the data too
        self.listeners = list(listeners)
        self.on_start: list[Callable[[], object]] = []
        self.on_gradients_ready: list[Callable[[], object]] = []
        self.keep_blobs = keep_blobs
        self.iteration = 0
        self.stop_requested = False
        self.snapshot_requested = False
        self.net = self._build(train_net(self.config, self.file), device)
        if not self.net.loss_tops:
            log.warning("%s: the train net has no loss: nothing is learnt.", self.file)
        self.test_nets = [self._build(n, device) for n in test_nets(self.config, self.file)]
        for net in self.test_nets:
            share_weights(net, self.net, say_what_is_missing=False)
        if rank:
            self._seed(rank)
        self.engine = training_engine(
            self.net,
            keep_blobs=keep_blobs,
            bfloat16=self.config.precision == SolverParameter.BF16,
        )
        self.test_engines = [evaluation_engine(n, keep_blobs=keep_blobs) for n in self.test_nets]
        for engine in self.test_engines:
            engine.layerwise.debug_info = self.config.debug_info
        self._params = [
            Learnable(self.net.parameter_of(b), b.lr_mult, b.decay_mult) for b in self.net.learnable
        ]
        self._rule = rule_class(self.config)(self._params, self.config)
        try:
            self._progress = Progress(self.config, self._params, self.test_nets)
        except SolverError as error:
            raise error.at(file=self.file) from None
        self.guard = Guard(self.config, self.file, self.net, self.prefix)
        log.info("Solver scaffolding done.")

    def _seed(self, rank: int) -> None:
        """Seed what a rank draws from now on, if the solver asks for a seed."""
        if self.config.random_seed >= 0:
            set_random_seed(self.config.random_seed + rank)

    def _build(self, wanted: NetToBuild, device: torch.device | None) -> Net:
        log.info(wanted.said)
        graph = build_graph(wanted.param, REGISTRY, file=wanted.file)
        net = Net(graph, device, share=share_of_data(graph.phase))
        load_weights(
            net,
            [file for weights in self.config.weights for file in weights.split(",")],
            announce=lambda file: log.info("Finetuning from %s", file),
            say_what_is_missing=graph.phase == TRAIN,
        )
        return net

    # --- running --------------------------------------------------------------------------

    @property
    def rate(self) -> float:
        """The learning rate of the next iteration."""
        return rate(self.config, self.iteration, self._progress.plateau.drops)

    @property
    def rule(self) -> Rule:
        """The rule of the solver's type, with its histories."""
        return self._rule

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
        if self.is_root and config.snapshot_after_train and not self._due(config.snapshot):
            self.snapshot()
        if not self.stop_requested:
            if self._due(config.display):
                loss = float(self.engine.forward())
                if fact := broken(loss, ()):
                    self.guard.refuse(fact, self.engine.start, self.iteration, self.rate)
                else:
                    self._announce(FinalLoss(self.iteration, self._progress.smoothed(loss)))
            if self.is_root and self._due(config.test_interval):
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
                the iteration is kept for a replay (`moka.solver.faults.replay`).
        """
        config = self.config
        end = self.iteration + iterations
        self._lapse_start = time.perf_counter()
        self._lapse_iteration = self.iteration
        while self.iteration < end and not self.stop_requested:
            with self.net.parameters_in_use():
                self._clear_grads()
            if self._tests_are_due():
                self.test_all()
                if self.stop_requested:
                    return
            self._iterate()
            self.iteration += 1
            if (config.snapshot and self._due(config.snapshot)) or self.snapshot_requested:
                self.snapshot_requested = False
                if self.is_root:
                    self.snapshot()

    def apply_update(self) -> None:
        """One update of the parameters from the gradients they have now; counts as an iteration.

        The gradients are not cleared first, so that they can be computed by hand before.
        """
        with self.net.parameters_in_use():
            self._make_grads()
            self._update(self.rate)
        self.iteration += 1

    def _tests_are_due(self) -> bool:
        config = self.config
        wanted = self.iteration > 0 or config.test_initialization
        return (
            self.is_root
            and wanted
            and self._due(config.test_interval)
            and self.iteration != self._progress.tested_at
        )

    def _update(self, lr: float) -> Clipped | None:
        clipped = apply_update(self._rule, self.config, self.iteration, lr)
        if self._progress.average:
            self._progress.average.update()
        if self.keep_blobs:
            for p, update in zip(self._params, self._rule.updates(), strict=True):
                p.grad.copy_(update)
        return clipped

    def _due(self, every: int) -> bool:
        return every > 0 and self.iteration % every == 0

    def _iterate(self) -> None:
        config = self.config
        waited = self._waited_s()
        displayed = self._due(config.display)
        self.engine.layerwise.debug_info = displayed and config.debug_info
        for call in self.on_start:
            call()
        losses: list[float] = []
        for _ in range(config.iter_size):
            with self.net.parameters_in_use():
                losses.append(float(self.engine.forward_backward()))
            if fact := broken(losses[-1], [p.grad for p in self._params]):
                self.guard.refuse(fact, self.engine.start, self.iteration, self.rate)
                return
        self.guard.passed()
        smoothed = self._progress.smoothed(sum(losses) / config.iter_size)
        outputs = outputs_of(self.net) if displayed else ()
        dropped = self._progress.plateau.see(smoothed, self.iteration)
        for call in self.on_gradients_ready:
            call()
        lr = self.rate
        with self.net.parameters_in_use():
            clipped = self._update(lr)
        self._announce_iteration(smoothed, lr, displayed, outputs, dropped, clipped, waited)

    def _announce_iteration(
        self,
        loss: float,
        lr: float,
        displayed: bool,
        outputs: tuple[Output, ...],
        dropped: bool,
        clipped: Clipped | None,
        waited_before: float,
    ) -> None:
        if not self.listeners:
            return
        now = time.perf_counter()
        here = stage(self.config, self.iteration)
        before = stage(self.config, self.iteration - 1) if self.iteration else 0
        multistep = self.config.lr_policy == "multistep" and here != before
        self._announce(
            IterationCompleted(
                iteration=self.iteration,
                loss=loss,
                rate=lr,
                displayed=displayed,
                outputs=outputs,
                lapse_s=now - self._lapse_start,
                lapse_iterations=self.iteration - self._lapse_iteration,
                display_every=self.config.display,
                stage=here if multistep else None,
                plateau=self._progress.plateau.drops if dropped else None,
                clipped=clipped,
                waited_s=self._waited_s() - waited_before,
            )
        )
        if displayed:
            self._lapse_start, self._lapse_iteration = now, self.iteration

    def _make_grads(self) -> None:
        for p in self._params:
            if p.parameter.grad is None:
                p.parameter.grad = torch.zeros_like(p.parameter)

    def _clear_grads(self) -> None:
        self._make_grads()
        if self._params:  # PyTorch refuses an empty list
            torch._foreach_zero_([p.grad for p in self._params])

    def _waited_s(self) -> float:
        return sum(source.waited_s for _, source in self.net.sources)

    def _announce(self, record: Record) -> None:
        if self.is_root:
            for listener in self.listeners:
                listener(record)

    # --- testing --------------------------------------------------------------------------

    def test_all(self) -> None:
        """Run every test net over its batches and announce the mean of each output."""
        best = self._progress.best
        found: tuple[Output, ...] = ()
        for index in range(len(self.test_nets)):
            outputs = self._test(index)
            if self.stop_requested:
                return
            if best and index == best.net_index:
                found = outputs
        self._progress.tested_at = self.iteration
        if best:
            self._judge(best, found)

    def _judge(self, best: Best, outputs: Sequence[Output]) -> None:
        """Keep the net if it is the best so far; stop if that has been long ago."""
        if best.see(outputs, self.iteration):
            files = best_names(self.prefix, hdf5=self._hdf5)
            write_best(self._content(), *files)
            self.guard.last_snapshot = files[0]
            self._announce(BestSnapshotWritten(self.iteration, best.output, best.value, files[0]))
        self._stop_if_exhausted()

    def _stop_if_exhausted(self) -> None:
        best = self._progress.best
        if best and best.exhausted:
            self.stop_requested = True
            self._announce(
                EarlyStop(self.iteration, best.tests_since, best.output, best.value, best.iteration)
            )

    def _test(self, index: int) -> tuple[Output, ...]:
        net, batches = self.test_nets[index], self.config.test_iter[index]
        self._announce(TestStarted(self.iteration, index))
        share_weights(net, self.net)
        averaged = self._progress.average if self.config.test_with_ema else None
        with averaged.in_place() if averaged else nullcontext():
            result = evaluate(self.test_engines[index], batches, lambda *_: self.stop_requested)
        if result is None:
            return ()
        means, loss = result
        said = loss if self.config.test_compute_loss else None
        self._announce(TestCompleted(self.iteration, index, means, said))
        return means

    # --- files ----------------------------------------------------------------------------

    def snapshot(self) -> tuple[str, str]:
        """Write model and state; returns their names.

        Raises:
            SolverError: a parameter is no longer finite (nothing is written), or the disk is full.
        """
        files = file_names(self.prefix, self.iteration, hdf5=self._hdf5)
        content = self._content()
        write_snapshot(content, *files)
        self.guard.last_snapshot = files[0]
        if self.config.snapshot_keep:
            remove_older(self.prefix, self.iteration, self.config.snapshot_keep)
        averaged = averaged_name(files[0]) if content.has_average else None
        self._announce(SnapshotWritten(self.iteration, *files, averaged))
        return files

    @property
    def _hdf5(self) -> bool:
        return self.config.snapshot_format == SolverParameter.HDF5

    def _content(self) -> Content:
        for p in self._params:
            if not p.parameter.isfinite().all():
                raise self.guard.diverged(
                    "a parameter is not a finite number", self.iteration, self.rate
                )
        progress = self._progress
        state = SolverState(
            iter=self.iteration,
            current_step=progress.current_step(self.iteration),
            history=(
                blobproto.from_array(tensor.detach().cpu().numpy())
                for tensor in self._rule.history()
            ),
            run_state=save_run_state([self.net, *self.test_nets], solver_type=self.config.type),
        )
        progress.save(state.run_state, self.iteration)
        return Content(self.net, state, progress.average, self.config.snapshot_diff, self._hdf5)

    def restore(self, state_file: str) -> None:
        """Go on from a snapshot: BVLC Caffe's, or ours, which also knows where the data was.

        Raises:
            SolverError, WeightsError: files that are missing or belong to another run.
        """
        state = self._read(state_file)
        model_file = model_of(state, state_file)
        with _offering_the_one_before(state_file):
            load_weights(self.net, [model_file])
        log.info("SGDSolver: restoring history")
        load_history(state, self._rule.history(), state_file)
        self.iteration = state.iter
        self.guard.resumed_from(model_file)
        self._progress.load(state, state_file, self.net)
        if state.HasField("run_state"):
            load_run_state(state.run_state, [self.net, *self.test_nets])
        self._stop_if_exhausted()

    def _read(self, state_file: str) -> SolverState:
        with _offering_the_one_before(state_file):
            state = read_state(state_file)
        made_by = state.run_state.solver_type
        if made_by and made_by != self.config.type:
            raise SolverError(
                f"this is the state of a solver of type {made_by}, not of {self.config.type}.",
                file=state_file,
                advice=f'Set type: "{made_by}", or start from the model alone (--weights).',
            )
        return state

    def close(self) -> None:
        """Stop the threads of all data layers."""
        for net in (self.net, *self.test_nets):
            net.close()


@contextmanager
def _offering_the_one_before(state_file: str) -> Iterator[None]:
    """Whoever cannot resume from a snapshot is told which one to take instead."""
    try:
        yield
    except MokaError as error:
        if before := state_before(state_file):
            error.advice = f"{error.advice or ''} The snapshot before it is {before}.".strip()
        raise
