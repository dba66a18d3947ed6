"""The result of `caffe check` for one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from moka.checks.files import Kind
from moka.export.difference import Difference
from moka.types import Shape
from moka.weights.fit import Fit

BVLC = "BVLC Caffe"


@dataclass(frozen=True)
class Export:
    """Whether a net leaves as an ONNX file.

    Attributes:
        obstacle: the first thing that stops it, as one sentence; None: nothing is known to.
        difference: how far ONNX Runtime's outputs are from Moka's; None: the file was not made.
    """

    obstacle: str | None = None
    difference: Difference | None = None

    def as_json(self) -> dict[str, Any]:
        """The same, as dicts, numbers and strings."""
        return {
            "exports": self.obstacle is None,
            "obstacle": self.obstacle,
            "difference": asdict(self.difference) if self.difference else None,
        }


@dataclass(frozen=True)
class LayerType:
    """A layer type in a net.

    Attributes:
        count: how many layers of the net have it.
        fork: the fork of Caffe that defines it; None: nobody known does.
        is_known: whether Moka has it.
    """

    count: int
    fork: str | None
    is_known: bool


@dataclass(frozen=True)
class Finding:
    """One net with one file of weights or none; or a file of another kind.

    Attributes:
        file: the net's file; of weights without a net the weights'.
        kind: "net", "weights" without a net, "solver", or "other".
        obstacle: the first thing that stops it from being loaded, as one sentence; None: it loads.
        weights: the file of weights that was compared with the net.
        notes: what else there is to know, as sentences.
        name: the net's own.
        phases: those it was built for, as ("TEST", "TRAIN"); numbers and shapes are of the first.
        types: its layer types by name, in all phases.
        layers: how many it has.
        parameters: how many learnable numbers, shared ones once; of weights without a net all
            that are stored.
        multiply_adds: multiplications with weights, each with its addition, in a forward pass.
        inputs: shapes of the blobs that the caller or the data fills.
        fit: how the weights fit.
        engine: the engine that runs it (see `moka.inference.outlook`).
        by_themselves: types of its layers that this engine runs by themselves.
        on_host: types of its layers that compute on the CPU wherever the net runs.
        export: whether it exports to ONNX.
    """

    file: str
    kind: Kind
    obstacle: str | None = None
    weights: str | None = None
    notes: tuple[str, ...] = ()
    name: str = ""
    phases: tuple[str, ...] = ()
    types: Mapping[str, LayerType] = field(default_factory=dict)
    layers: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    fit: Fit | None = None
    engine: str | None = None
    by_themselves: tuple[str, ...] = ()
    on_host: tuple[str, ...] = ()
    export: Export | None = None

    @property
    def loads(self) -> bool:
        return self.obstacle is None

    @property
    def forks(self) -> dict[str, tuple[str, ...]]:
        """The layer types of each fork beside BVLC Caffe."""
        found: dict[str, tuple[str, ...]] = {}
        for name, layer_type in self.types.items():
            if layer_type.fork not in (None, BVLC):
                found[layer_type.fork] = (*found.get(layer_type.fork, ()), name)
        return found

    def as_json(self) -> dict[str, Any]:
        """The finding as lists, dicts, numbers and strings."""
        values: dict[str, Any] = {
            "file": self.file,
            "kind": self.kind,
            "loads": self.loads,
            "obstacle": self.obstacle,
            "notes": list(self.notes),
        }
        if self.kind != "net":
            return values | ({"parameters": self.parameters} if self.kind == "weights" else {})
        return values | {
            "weights": self.weights,
            "name": self.name,
            "phases": list(self.phases),
            "types": {
                name: {"count": t.count, "fork": t.fork, "known": t.is_known}
                for name, t in self.types.items()
            },
            "layers": self.layers,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "fit": {k: list(names) for k, names in self.fit._asdict().items()}
            if self.fit
            else None,
            "engine": self.engine,
            "by_themselves": list(self.by_themselves),
            "on_host": list(self.on_host),
            "export": self.export.as_json() if self.export else None,
        }
