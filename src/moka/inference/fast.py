"""The programs of one net: made when they pay, thrown away when a parameter has changed."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from moka.huge_pages import NewMemory, Range, put_on_large_pages, range_of
from moka.inference.best import best_program, forget_winners
from moka.inference.engines import AUTO, LAYERWISE, chosen
from moka.inference.flow import acts, flow_of
from moka.inference.parameters import Watch
from moka.inference.program import PieceError, Program
from moka.net import Net
from moka.schema import caffe_pb2

log = logging.getLogger("moka")

PATIENCE = 2  # passes of a shape layer by layer before a program is made
MOST_PATIENCE = 1024
WAIT_S = 0.01  # for another thread; then the pass goes layer by layer
FIRST_CONTEST_AGAIN = 200  # passes
MOST_SHAPES = 4  # that have programs at the same time
PAYS_LARGE_PAGES = 20  # passes of a program, after which its memory is put on large pages
SETTLED_PASSES = PAYS_LARGE_PAGES  # after which the next passes are taken for like these
LARGE_WEIGHT = 2**22  # numbers; InnerProducts have such
UNNEEDED_PASSES = 20  # after which a program without the blobs that nobody reads is made

Key = tuple[Any, ...]


@dataclass
class _Case:
    """One set of shapes.

    Attributes:
        passes: how many went layer by layer.
        program: what runs it, if something does.
        refused: whether no program is right, or faster than the layers.
        again: after how many passes layer by layer there is another contest, for the machine may
            have been busy.
        unneeded: passes in a row in which some of the program's outputs were not wanted.
        used: how many passes the program has run.
        memory: what the program has added to the process's memory.
    """

    passes: int = 0
    program: Program | None = None
    refused: bool = False
    again: int = FIRST_CONTEST_AGAIN
    unneeded: int = 0
    used: int = 0
    memory: list[Range] = field(default_factory=list)


class _Settled(NamedTuple):
    """Passes that have gone by one program for a while: how they are asked for, what runs them, and
    their case."""

    key: Key
    wanted: Collection[str]
    program: Program
    case: _Case


class Fast:
    """Finds or makes the program for a pass.

    A pass asks `run`; if that gives None, it goes layer by layer and tells `learn`. The first
    passes of a shape go layer by layer, so a script of one pass pays for nothing. A program that
    is thrown away before it has saved what it cost makes the next one wait longer.

    Args:
        net: nobody has got hold of its parameters yet (see `Watch`).

    Attributes:
        acted: the tops of layers that act (see `flow`); `learn` needs them.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self._is_possible = can_be_fast(net)
        self.acted: frozenset[str] = frozenset()
        self._lock = threading.RLock()
        self._cases: OrderedDict[Key, _Case] = OrderedDict()
        self._patience = PATIENCE
        self._settled: _Settled | None = None
        if self._is_possible:
            self.flow = flow_of(net)
            self._inputs = self.flow.given.keys()
            self.acted = frozenset(self.flow.acted)
            self._watch = Watch(net)
            _alive.add(self)

    @property
    def is_possible(self) -> bool:
        """Whether programs may run the net."""
        return self._is_possible and not self.net.shares_parameters

    def program(self, given: Mapping[str, Tensor], wanted: Collection[str]) -> Program | None:
        """The program that computes the wanted blobs from inputs like these; None: there is none
        yet, or layer by layer is best."""
        settled = self.settled(given, wanted)
        if settled is not None:
            return settled
        if not self._may_run(given):
            return None
        asked = wanted
        if self.acted:
            wanted = {*wanted, *self.acted}
        if not self._lock.acquire(timeout=WAIT_S):
            return None  # another thread makes a program
        try:
            name = chosen()
            case = self._case(name, given)
            if not self.acted and (name != AUTO or case.unneeded >= UNNEEDED_PASSES):
                self._make(case, given, wanted)
            program = case.program
            if program is None or not program.outputs.issuperset(wanted):
                return None
            case.used += 1
            if case.used == PAYS_LARGE_PAGES:
                put_on_large_pages([*case.memory, *self._shared_memory(given)])
            case.unneeded = 0 if len(program.outputs) == len(wanted) else case.unneeded + 1
            if case.used > SETTLED_PASSES and not case.unneeded:
                self._settled = _Settled(self._key(name, given), asked, program, case)
            return program
        finally:
            self._lock.release()

    def settled(self, given: Mapping[str, Tensor], wanted: Collection[str]) -> Program | None:
        """The program of such passes, if nothing can have changed since it last ran one; None: ask
        `program`.

        That matters: between two passes nothing that Python looks at is in the processor's cache
        (LeNet at batch 10: 74 us a pass of `moka.load` without it and 45 with it, 530 in the
        program).
        """
        settled = self._settled
        if (
            settled is None
            or settled.wanted != wanted
            or not self._watch.is_calm()
            or not self._may_run(given)
            or settled.key != self._key(chosen(), given)
        ):
            return None
        settled.case.used += 1
        settled.case.unneeded = 0
        return settled.program

    def _shared_memory(self, given: Mapping[str, Tensor]) -> Iterator[Range]:
        """What a program reads where it lies: inputs, and large weights (`unpacked`)."""
        weights = [w for layer in self.net.layers for w in layer.weights_unseen()]
        large = [w for w in weights if w.numel() >= LARGE_WEIGHT]
        return map(range_of, [*given.values(), *large])

    def run(self, given: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor] | None:
        """The wanted blobs, those of layers that act, and perhaps more, by a program; None: the
        pass is to go layer by layer.

        Args:
            given: the tops of the layers without bottoms.

        Raises:
            MokaError: a layer that ran by itself does not take its bottoms.
        """
        program = self.program(given, wanted)
        return None if program is None else self.run_by(program, given)

    def run_by(self, program: Program, given: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The outputs of a program that `program` has found for a pass; None: it has failed."""
        try:
            return program.run(given)
        except PieceError as error:
            log.warning("%s; the net runs layer by layer.", error)
            with self._lock:
                self._settled = None
                for case in self._cases.values():
                    if case.program is program:
                        case.program, case.refused = None, True
            return None

    def learn(self, given: Mapping[str, Tensor], wanted: Collection[str]) -> None:
        """Note a pass that went layer by layer; make a program if it is time.

        Args:
            given: the tops of the layers without bottoms, and of those that act.
        """
        if not self._may_run(given) or not given.keys() >= self.acted:
            return
        name = chosen()
        if not self._lock.acquire(blocking=False):
            return  # another thread makes one
        try:
            case = self._case(name, given)
            case.passes += 1
            if case.refused and case.passes >= case.again:
                case.refused, case.passes, case.again = False, 0, 8 * case.again
                forget_winners()
            if case.passes >= self._patience or name != AUTO:
                self._make(case, given, {*wanted, *self.acted})
        finally:
            self._lock.release()

    @property
    def _has_programs(self) -> bool:
        return any(case.program is not None for case in self._cases.values())

    def _may_run(self, given: Mapping[str, Tensor]) -> bool:
        return self.is_possible and chosen() != LAYERWISE and given.keys() >= self._inputs

    def _case(self, name: str, given: Mapping[str, Tensor]) -> _Case:
        """What is known of these shapes; programs of other parameters are thrown away."""
        if self._has_programs and self._watch.has_changed():
            for case in self._cases.values():
                self._drop(case)
            self._cases.clear()
        key = self._key(name, given)
        found = self._cases.get(key)
        if found is None:
            found = self._cases[key] = _Case()
            if self._settled is not None:  # whose passes do not come here
                self._cases.move_to_end(self._settled.key)
            if len(self._cases) > MOST_SHAPES:
                self._drop(self._cases.popitem(last=False)[1])
        if len(self._cases) > 1:
            self._cases.move_to_end(key)
        return found

    def _key(self, name: str, given: Mapping[str, Tensor]) -> Key:
        return (name, torch.get_num_threads(), *[given[blob].shape for blob in self._inputs])

    def _drop(self, case: _Case) -> None:
        """Throw a program away. If it has cost more than it has saved, the next ones wait longer;
        if not, they do not."""
        self._settled = None
        program = case.program
        if program is None:
            return
        paid = case.used * program.saved_s >= program.made_s
        self._patience = PATIENCE if paid else min(4 * self._patience, MOST_PATIENCE)
        with self._watch.our_own_references():
            case.program = program = None

    def _make(self, case: _Case, given: Mapping[str, Tensor], wanted: Collection[str]) -> None:
        """Make the program of a case, if it has none that gives just what is wanted."""
        has = case.program is not None and case.program.outputs.issuperset(wanted)
        if case.refused or (has and case.unneeded < UNNEEDED_PASSES):
            return
        self._drop(case)
        if not self._has_programs:
            self._watch.look()
        case.used = case.unneeded = 0
        new_memory = NewMemory()
        with self._watch.our_own_references():
            case.program = best_program(self.net, self.flow, given, wanted)
        case.memory = new_memory.ranges()
        case.refused = case.program is None

    def forget_after_fork(self) -> None:
        """In a child of a fork: the threads of the parent's programs are not there."""
        for case in self._cases.values():
            if case.program is not None:  # its end would wait for its threads
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(case.program.functions))
        self._cases.clear()
        self._settled = None
        self._lock = threading.RLock()


def can_be_fast(net: Net) -> bool:
    """Whether programs may run a net: one for testing, on the CPU, in which no other layer writes
    to an input, or to a top of a layer that acts. Layers that act must have tops."""
    return net.device.type == "cpu" and has_form(net)


def has_form(net: Net) -> bool:
    """`can_be_fast` for a net wherever it lies."""
    writers = Counter(top for place in net.places for top in place.node.tops)
    acting = [place for place in net.places if acts(place)]
    fixed = [place for place in net.places if not place.node.bottoms] + acting
    return (
        net.graph.phase == caffe_pb2.TEST
        and all(writers[top] == 1 for place in fixed for top in place.node.tops)
        and all(place.node.tops for place in acting)
    )


_alive: weakref.WeakSet[Fast] = weakref.WeakSet()


def _after_fork() -> None:
    for fast in list(_alive):
        fast.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
