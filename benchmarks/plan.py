"""What a run measures in the time that it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RATE = 2.2e11  # operations a second that a run is planned for: two cores with AVX-512
TRAINING = 3.5  # passes that a training step is like
FEWEST, MOST = 3, 15  # rounds
TURN_S = 0.2
BETWEEN_S = 0.05  # until its threads rest
WARM_UP = 3  # iterations, after the first
START_S = {  # until a contender's first iteration, beside that iteration
    "caffe.Net": 4.0,
    "caffe.Net with OpenVINO": 5.0,
    "moka.load": 4.0,
    "caffe train": 4.0,
    "pycaffe": 4.0,
    "PyTorch": 2.5,
    "channels-last": 2.5,
    "ONNX Runtime": 1.0,
    "OpenVINO": 1.5,
    "OpenCV 4": 1.0,
    "BVLC Caffe": 1.0,
}
# Passes that choose a program.
PREPARING = {"caffe.Net": 10, "caffe.Net with OpenVINO": 20, "moka.load": 10}
COMPILER = "torch.compile"
COMPILE_S = 6.0  # and for each layer:
COMPILE_LAYER_S = 0.8
COMPILERS_SHARE = 0.2  # of the time


@dataclass(frozen=True)
class Cell:
    """One net at one batch.

    Attributes:
        is_training: a step, not a pass.
        operations: multiplications and additions of a pass.
        layers: that compute.
        contenders: their names.
    """

    is_training: bool
    net: str
    batch: int
    operations: float
    layers: int
    contenders: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.net}, {self.batch}{', training' if self.is_training else ''}"

    @property
    def iteration_s(self) -> float:
        """An iteration, about."""
        return self.operations / RATE * (TRAINING if self.is_training else 1.0)

    def start_s(self, contender: str) -> float:
        once = self.iteration_s * (1 + WARM_UP + PREPARING.get(contender, 0))
        if contender == COMPILER:
            return once + COMPILE_S + COMPILE_LAYER_S * self.layers * (1 + self.is_training)
        return once + START_S.get(contender, 3.0)

    def seconds(self, rounds: int) -> float:
        """How long the cell takes, about."""
        turns = rounds * (max(self.iteration_s, TURN_S) + BETWEEN_S)
        return sum(self.start_s(contender) + turns for contender in self.contenders)

    def without(self, contender: str) -> Cell:
        kept = tuple(name for name in self.contenders if name != contender)
        return Cell(self.is_training, self.net, self.batch, self.operations, self.layers, kept)


@dataclass(frozen=True)
class Plan:
    """What is measured, how often, and what is left out for want of time."""

    cells: Sequence[Cell]
    rounds: int
    left_out: Sequence[str]

    @property
    def seconds(self) -> float:
        return sum(cell.seconds(self.rounds) for cell in self.cells)


def planned(cells: Iterable[Cell], seconds: float) -> Plan:
    """The plan that fits into so many seconds, about.

    torch.compile gets a fifth of the time at most, where compiling takes least. Then the cells that
    take longest are left out until `FEWEST` rounds fit; what is left of the time goes into rounds.
    """
    kept = list(cells)
    left_out: list[str] = []
    while (longest := _longest_compilation(kept)) is not None:
        total = sum(cell.start_s(COMPILER) for cell in kept if COMPILER in cell.contenders)
        if total <= seconds * COMPILERS_SHARE:
            break
        left_out.append(f"{COMPILER} of {kept[longest].name}")
        kept[longest] = kept[longest].without(COMPILER)
    while kept and sum(cell.seconds(FEWEST) for cell in kept) > seconds:
        longest = max(range(len(kept)), key=lambda i: kept[i].seconds(FEWEST))
        left_out.append(kept.pop(longest).name)
    fitting = [n for n in range(FEWEST, MOST + 1) if sum(c.seconds(n) for c in kept) <= seconds]
    return Plan(kept, max(fitting, default=FEWEST), left_out)


def _longest_compilation(cells: Sequence[Cell]) -> int | None:
    compiled = [i for i, cell in enumerate(cells) if COMPILER in cell.contenders]
    return max(compiled, key=lambda i: cells[i].start_s(COMPILER), default=None)
