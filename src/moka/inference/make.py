"""Make a program for a net: cut it, let a backend make its pieces, hold it to the layers' numbers,
and measure it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from math import inf
from time import perf_counter

import torch
from torch import Tensor

from moka.errors import MokaError
from moka.export.difference import difference_of
from moka.heap import give_back_freed_memory, small_pieces_go_back
from moka.inference.contract import Backend, Task
from moka.inference.cut import Piece, cut, fits
from moka.inference.flow import Flow
from moka.inference.program import Program, Values, run_layers
from moka.inference.turns import seconds_in_turns
from moka.layers.source import given_source
from moka.net import Net
from moka.rewrite import Model, WeightedLayer
from moka.rewrite.model import frame_of
from moka.schema import caffe_pb2
from moka.types import Shape

log = logging.getLogger("moka.detail")

RUNS = 3  # that are timed
LARGE_BYTES = 2**25  # of a net's parameters, from which on memory is saved while it is made
LONG_S = 0.01  # after which layers need not run again to be timed


class Maker:
    """Makes programs for one pass's inputs; the layers' own values are computed once.

    Args:
        given: the tops of the layers without bottoms, and of those that act.
        wanted: the blobs that the program is to give, beside those of layers that act.
    """

    def __init__(
        self, net: Net, flow: Flow, given: Mapping[str, Tensor], wanted: Collection[str]
    ) -> None:
        self.net, self.flow, self.given = net, flow, given
        self.outputs = frozenset({*wanted, *flow.acted})
        self._is_large = _bytes_of(net) >= LARGE_BYTES
        self._wanted = [flow.final[name] for name in self.outputs]
        self.layers_s = inf
        for _ in range(RUNS):
            start = perf_counter()
            self._values = run_layers(net, flow, given, self._wanted)
            self.layers_s = min(self.layers_s, perf_counter() - start)
            if self.layers_s > LONG_S:
                break

    def make(self, backend: Backend) -> Program | None:
        """A program that gives the layers' numbers, measured; None if there is none."""
        start = perf_counter()
        give_back_freed_memory()  # of passes by the layers: programs have memory of their own
        with small_pieces_go_back() if self._is_large else nullcontext():
            program = self._compile(backend)
        give_back_freed_memory()  # of what the program was made from
        if program is None or not self._is_true(program):
            return None
        program.saved_s = self.layers_s - self._seconds(program)
        program.made_s = perf_counter() - start
        return program

    def _compile(self, backend: Backend) -> Program | None:
        left_out: set[str] = set()
        while True:
            fitting = fits(self.net, self.flow, backend, left_out)
            steps = cut(self.net, self.flow, self._wanted, fitting)
            pieces = [step for step in steps if isinstance(step, Piece)]
            if not pieces:
                return None
            self._compute({v for piece in pieces for v in (*piece.inputs, *piece.outputs)})
            try:
                tasks = [task_of(self.net, self.flow, piece, self._values) for piece in pieces]
                whole = len(steps) == 1
                functions = [backend.make(replace(task, is_whole=whole)) for task in tasks]
            except MokaError as error:
                log.debug("%s: %s", backend.name, error)
                names = {p.node.name for piece in pieces for p in piece.places}
                if error.layer not in names - left_out:
                    return None
                left_out.add(error.layer)
            else:
                return Program(self.net, self.flow, backend.name, steps, functions, self.outputs,
                               backend.gives_new_memory)  # fmt: skip

    def _compute(self, needed: set[int]) -> None:
        """Have these values, too, and the wanted ones."""
        if not needed <= self._values.keys():
            wanted = needed.union(self._wanted)
            self._values = run_layers(self.net, self.flow, self.given, wanted)

    def _is_true(self, program: Program) -> bool:
        """Whether a program gives the layers' numbers, in its pieces too."""
        values = self._values
        functions = iter(program.functions)
        for step in program.steps:
            if not isinstance(step, Piece):
                continue
            made = next(functions)([values[v] for v in step.inputs])
            for v, tensor in zip(step.outputs, made, strict=True):
                name = self.flow.names[v]
                difference = difference_of(tensor.numpy(), values[v].numpy(), name)
                if not difference.is_small:
                    log.debug("%s differs from the layers by %s.", program.backend, difference)
                    return False
        return True

    def faster(self, one: Program, other: Program) -> Program:
        """The faster of two programs."""
        programs = (one, other)
        seconds = seconds_in_turns([partial(program.run, self.given) for program in programs])
        one.saved_s, other.saved_s = (self.layers_s - each for each in seconds)
        for program, each in zip(programs, seconds, strict=True):
            log.debug("A pass by %s takes %.3g ms.", program.backend, each * 1e3)
        return other if other.saved_s > one.saved_s else one

    def _seconds(self, program: Program) -> float:
        """The least time of some runs."""
        times = []
        for _ in range(RUNS):
            start = perf_counter()
            program.run(self.given)
            times.append(perf_counter() - start)
        return min(times)


def _bytes_of(net: Net) -> int:
    return sum(weight.nbytes for layer in net.layers for weight in layer.weights_unseen())


def task_of(net: Net, flow: Flow, piece: Piece, values: Values) -> Task:
    """A piece as a backend takes it.

    Args:
        values: among them the piece's inputs, whose shapes count.
    """
    names = _names(flow)
    layers = [
        WeightedLayer.of(place.node.layer, place.layer).with_blobs_named(
            [names[v] for v in flow.bottoms[place.index]],
            [names[v] for v in flow.tops[place.index]],
        )
        for place in piece.places
    ]
    shapes = {names[v]: tuple(values[v].shape) for v in piece.inputs}
    inputs = [WeightedLayer(_input(name, shape)) for name, shape in shapes.items()]
    model = Model(frame_of(net), (*inputs, *layers), shapes, net.graph.file)
    outputs = tuple(names[v] for v in piece.outputs)
    return Task(model, tuple(shapes), outputs, torch.get_num_threads())


def _names(flow: Flow) -> Sequence[str]:
    """A name for each value; that of its blob for the blob's last value."""
    final = {value: name for name, value in flow.final.items() if flow.names[value] == name}
    return [final.get(v, f"{name}~{v}") for v, name in enumerate(flow.names)]


def _input(name: str, shape: Shape) -> caffe_pb2.LayerParameter:
    config = caffe_pb2.LayerParameter(name=f"{name}~input", top=[name])
    return given_source(config, [shape]).config
