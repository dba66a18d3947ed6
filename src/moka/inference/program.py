"""A program: what computes some of a net's blobs from its inputs of fixed shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from moka.engine.channels_last import channels_last
from moka.errors import MokaError
from moka.inference.contract import Run
from moka.inference.cut import Piece, Step, last_uses, needed_layers
from moka.inference.flow import Flow
from moka.net import Net

Values = dict[int, Tensor]


class PieceError(Exception):
    """A backend cannot run a piece that it has made."""


@dataclass
class Program:
    """Runs pieces by their functions, and the layers between them by themselves.

    Several threads may run it at once.

    Attributes:
        backend: the name of what runs the pieces.
        steps: the pieces and layers in running order.
        functions: of the pieces, in their order.
        outputs: the blobs that it gives, those of layers that act among them.
        gives_new_memory: whether nobody else refers to the outputs.
        saved_s: how much less time a pass takes than layer by layer, as measured.
        made_s: the seconds that it took to make it.
    """

    net: Net
    flow: Flow
    backend: str
    steps: Sequence[Step]
    functions: Sequence[Run]
    outputs: frozenset[str]
    gives_new_memory: bool = False
    saved_s: float = 0.0
    made_s: float = 0.0

    def __post_init__(self) -> None:
        kept = {self.flow.final[name] for name in self.outputs}
        self._freed = [[v for v in uses if v not in kept]
                       for uses in last_uses(self.steps, self.flow)]  # fmt: skip
        self._only_piece = self._inputs_and_outputs_of_the_only_piece()
        self.gives_new_memory &= self._only_piece is not None

    def _inputs_and_outputs_of_the_only_piece(self) -> tuple[list[str], list[str]] | None:
        """The blobs that the first piece takes and gives, in its order, if that is all there is to
        do; most nets are such."""
        if len(self.steps) != 1 or not isinstance(self.steps[0], Piece):
            return None
        piece = self.steps[0]
        blobs = {self.flow.final[name]: name for name in self.outputs}
        if len(blobs) != len(self.outputs) or blobs.keys() != set(piece.outputs):
            return None
        given = {value: name for name, value in self.flow.given.items()}
        return [given[v] for v in piece.inputs], [blobs[v] for v in piece.outputs]

    def run(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by blob.

        Args:
            given: the tops of the layers without bottoms, of the shapes that it was made for. If it
                has the tops of layers that act, these do not run.

        Raises:
            MokaError: a layer that ran by itself does not take its bottoms.
            PieceError: a backend has failed.
        """
        if self._only_piece is not None:
            inputs, outputs = self._only_piece
            return dict(zip(outputs, self._run(0, [given[name] for name in inputs]), strict=True))
        flow = self.flow
        values = flow.values_of(given)
        number = count()
        for step, freed in zip(self.steps, self._freed, strict=True):
            if isinstance(step, Piece):
                made = self._run(next(number), [values[v] for v in step.inputs])
                values.update(zip(step.outputs, made, strict=True))
            elif not values.keys() >= set(flow.tops[step.index]):
                run_layer(self.net, flow, step.index, values)
            for value in freed:
                del values[value]
        return {name: values[flow.final[name]] for name in self.outputs}

    def _run(self, piece: int, inputs: list[Tensor]) -> list[Tensor]:
        try:
            return self.functions[piece](inputs)
        except MokaError:
            raise
        except Exception as error:
            raise PieceError(f"{self.backend} has failed: {error}") from error


def run_layer(net: Net, flow: Flow, index: int, values: Values) -> None:
    """Run one layer between values."""
    bottoms = [channels_last(values[v]) for v in flow.bottoms[index]]
    with torch.no_grad():
        tops = net.run_layer(net.places[index], bottoms)
    values.update(zip(flow.tops[index], tops, strict=True))


def run_layers(
    net: Net, flow: Flow, given: Mapping[str, Tensor], wanted: Collection[int]
) -> Values:
    """Wanted values, computed layer by layer; the others are freed after their last use.

    Args:
        given: the tops of the layers without bottoms. Layers that act do not run if it has theirs.
    """
    values = flow.values_of(given)
    needed = needed_layers(net, flow, wanted)
    places = [
        place
        for place in net.places
        if place.index in needed and place.node.bottoms and not place.layer.entry.is_plumbing
    ]
    kept = {*wanted, *values}
    for place, uses in zip(places, last_uses(places, flow), strict=True):
        if not values.keys() >= set(flow.tops[place.index]):
            run_layer(net, flow, place.index, values)
        for value in set(uses) - kept:
            del values[value]
    return values
