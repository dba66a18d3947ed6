"""Everything in one table: inference and training of the reference nets, side by side.

    python benchmarks/all.py [--minutes 25] [--nets A,B] [--batches 1,10,64] [--contenders A,B]
                             [--modes inference,training] [--threads N] [--processor-time]
                             [--bvlc CAFFE] [--out DIR]

Writes side_by_side.json, side_by_side.md and charts (SVG) into benchmarks/results, after each net
what there is by then. Contenders that need other packages (OpenCV 4, OpenVINO) run in environments
of their own, which are made once in the user's cache folder; what cannot be made is left out, and
the page says why. The minutes choose the rounds and what is left out; they are kept.
`--redraw FILE` makes page and charts of an earlier run's JSON.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import bvlc
import charts
import machine
import passes
import torch
import training
from environments import packages_of, python_of
from plan import TURN_S, WARM_UP, Cell, Plan, planned
from side_by_side import Contender, Place, Run, compare
from subjects import DEEP, NETS, files_of, image_shape, net_file

from moka.net import build_net
from moka.net.cost import multiply_adds
from moka.waiting import SPINS
from report import INFERENCE, TRAINING, Results, Row, markdown

WITH_OPENVINO = "caffe.Net with OpenVINO"  # installed, so that Moka may choose it
INFERENCE_CONTENDERS: Mapping[str, Callable[..., Run]] = {
    "caffe.Net": passes.pycaffe,
    WITH_OPENVINO: passes.pycaffe,
    "moka.load": passes.module,
    "PyTorch": passes.pytorch,
    "channels-last": partial(passes.pytorch, channels_last=True),
    "torch.compile": partial(passes.pytorch, channels_last=True, compiled=True),
    "ONNX Runtime": passes.onnx_runtime,
    "OpenVINO": passes.openvino,
    "OpenCV 4": passes.opencv,
}
TRAINING_CONTENDERS = ("caffe train", "pycaffe", "PyTorch", "channels-last", "torch.compile")
BVLC = "BVLC Caffe"
ALL = (*dict.fromkeys((*INFERENCE_CONTENDERS, *TRAINING_CONTENDERS)), BVLC)
NAME = "side_by_side"
PATIENCE = 1.5  # times the planned seconds of a cell; then no further round begins
LIMIT_S = 120.0  # for one answer of a contender
QUIETLY = {"GLOG_minloglevel": "2"}  # pycaffe's log
COMMANDS = {"GOMP_SPINCOUNT": SPINS}  # what `caffe train` sets before PyTorch is imported
RESERVE_S = 20.0  # for charts and the page


class Bench:
    """A run.

    Args:
        names: of the contenders to measure.
        bvlc: the binary of BVLC Caffe, or "".
    """

    def __init__(
        self, nets: Sequence[str], names: Sequence[str], threads: int, bvlc: str, folder: Path
    ) -> None:
        self.nets, self.names, self.threads, self.bvlc = nets, names, threads, bvlc
        self.processor_time = False
        self.folder = folder
        self._files: dict[str, passes.Files] = {}
        self.places: dict[str, Place] = {}
        self.missing: dict[str, str] = {}  # contenders that cannot run here

    def find_places(self) -> None:
        """Make the environments."""
        for name in INFERENCE_CONTENDERS:
            if name in self.names:
                try:
                    packages = [packages_of("OpenVINO")] if name == WITH_OPENVINO else []
                    self.places[name] = Place(python_of(name), QUIETLY, packages)
                except OSError as error:
                    self.missing[name] = str(error)
        if not self.bvlc:
            self.missing[BVLC] = "no binary was given (--bvlc)"
        self.places["caffe train"] = Place(variables={**QUIETLY, **COMMANDS})

    def cells(self, modes: Sequence[str], batches: Sequence[int]) -> Iterator[Cell]:
        """All that could be measured; what matters most comes first."""
        deep = [net for net in DEEP if net not in self.nets] if INFERENCE in modes else []
        for batch in batches:
            for net in self.nets:
                if INFERENCE in modes:
                    yield self._cell(net, batch, INFERENCE)
            for net in self.nets:
                if TRAINING in modes and net in training.CASES and (batch > 1 or batches == [1]):
                    yield self._cell(net, batch, TRAINING)
            if batch == 1 and "ResNet-50" in self.nets:
                yield from (self._cell(net, 1, INFERENCE).without("torch.compile") for net in deep)

    def _cell(self, name: str, batch: int, mode: str) -> Cell:
        net = build_net(net_file(name, self.folder))
        size = net.blobs[net.graph.inputs[0]].shape[0]
        known = [*(INFERENCE_CONTENDERS if mode == INFERENCE else TRAINING_CONTENDERS), BVLC]
        names = [n for n in known if n in self.names and n not in self.missing]
        layers = sum(bool(layer.weights) for layer in net.layers)
        operations = 2.0 * multiply_adds(net) * batch / size
        return Cell(mode == TRAINING, name, batch, operations, layers, tuple(names))

    def contenders(self, cell: Cell) -> dict[str, Contender]:
        if cell.is_training:
            case = training.CASES[cell.net]._replace(batch=cell.batch)
            made = dict(training.contenders(case, self.threads, compiled=True))
            made[BVLC] = partial(bvlc.train, case, self.threads, binary=self.bvlc)
        else:
            shape = (cell.batch, *image_shape(cell.net, self.folder))
            files = self._files_of(cell.net)
            forward = partial(bvlc.forward, binary=self.bvlc)
            of: dict[str, Callable[..., Run]] = {**INFERENCE_CONTENDERS, BVLC: forward}
            made = {name: partial(make, files, shape, self.threads) for name, make in of.items()}
        return {name: made[name] for name in cell.contenders}

    def _files_of(self, net: str) -> passes.Files:
        if net not in self._files:
            folder = self.folder / net.replace(" ", "_")
            folder.mkdir()
            self._files[net] = files_of(net, folder)
        return self._files[net]

    def measure(self, cell: Cell, rounds: int, results: Results) -> None:
        failed: dict[str, str] = {}
        places = {name: self.places.get(name, Place(variables=QUIETLY)) for name in cell.contenders}
        timings = compare(
            self.contenders(cell),
            rounds=rounds,
            warm_up=WARM_UP,
            turn_s=TURN_S,
            processor_time=self.processor_time,
            places=places,
            failed=failed,
            limit_s=LIMIT_S,
            enough_s=PATIENCE * cell.seconds(rounds),
        )
        mode = TRAINING if cell.is_training else INFERENCE
        for name, timing in timings.items():
            found = (timing.ms, timing.first_s, timing.peak_mb, timing.least_ms)
            results.rows.append(Row(mode, cell.net, cell.batch, name, *found))
        if failed:
            results.failed[cell.name] = failed
        told = [f"{name} {timing.ms:.2f}" for name, timing in timings.items()]
        print(f"{cell.name}: {', '.join(told)}{' failed: ' if failed else ''}"
              f"{', '.join(failed)}", flush=True)  # fmt: skip


def carry_out(bench: Bench, plan: Plan, results: Results, end_s: float, out: Path) -> None:
    """Measure the cells of a plan while there is time."""
    planned_s, start_s = 0.0, perf_counter()
    for cell in plan.cells:
        # How much slower this machine is than the plan thought.
        pace = (perf_counter() - start_s) / planned_s if planned_s > 30 else 1.0
        if perf_counter() + pace * cell.seconds(plan.rounds) > end_s:
            results.left_out.append(cell.name)
            continue
        bench.measure(cell, plan.rounds, results)
        planned_s += cell.seconds(plan.rounds)
        results.save(out / f"{NAME}.json")


def write(results: Results, out: Path) -> None:
    """JSON, charts and page."""
    results.save(out / f"{NAME}.json")
    pictures = charts.draw(results, out)
    (out / f"{NAME}.md").write_text(markdown(results, pictures))
    print(f"{out / NAME}.md, .json, {', '.join(pictures)}")


def listed(known: Sequence[str], text: str, what: str) -> list[str]:
    """The names in a comma-separated list."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            sys.exit(f"{what} {name} is unknown (known: {', '.join(known)}).")
    return names or list(known)


def main() -> None:
    began_s = perf_counter()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--nets", default="", help=", ".join(NETS))
    parser.add_argument("--batches", default="1,10,64")
    parser.add_argument("--contenders", default="", help=", ".join(ALL))
    parser.add_argument("--modes", default="", help=f"{INFERENCE}, {TRAINING}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="the processes' own time, for a busy machine (with OMP_WAIT_POLICY=passive)",
    )
    parser.add_argument("--bvlc", default="", help="the binary of BVLC Caffe")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--redraw", type=Path, help="the JSON of an earlier run")
    options = parser.parse_args()
    if options.redraw:
        write(Results.load_from(options.redraw), options.out)
        return
    nets = listed(list(NETS), options.nets, "net")
    modes = listed((INFERENCE, TRAINING), options.modes, "mode")
    batches = [int(word) for word in options.batches.split(",")]
    names = listed(ALL, options.contenders, "contender")
    load = machine.load()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(nets, names, options.threads, options.bvlc, Path(folder))
        bench.processor_time = options.processor_time
        bench.find_places()
        end_s = began_s + options.minutes * 60 - RESERVE_S
        plan = planned(bench.cells(modes, batches), end_s - perf_counter())
        command = " ".join(["python", "benchmarks/all.py", *sys.argv[1:]])
        results = Results(machine.described(options.threads), command, plan.rounds, load)
        results.left_out = list(plan.left_out)
        asked = {name: why for name, why in bench.missing.items() if name in names}
        if asked:
            results.failed["everywhere"] = asked
        print(f"{len(plan.cells)} cells, {plan.rounds} rounds, about {plan.seconds / 60:.0f} min;"
              f" left out: {', '.join(plan.left_out) or 'nothing'}", flush=True)  # fmt: skip
        carry_out(bench, plan, results, end_s, options.out)
    write(results, options.out)


if __name__ == "__main__":
    main()
