"""Do all ways to run a net agree? Random nets run in each way, and their numbers are compared.

    python fuzz/agree.py --nets 200
    python fuzz/agree.py --nets 1 --seed 1234 --what passes     # one of them again

passes: training passes layer by layer, and by autograd: plain, recorded, in segments, with all
blobs kept, and with blobs promised; losses, parameters, gradients, and the blobs that are in view.
engines: testing layer by layer, and by the programs of each engine that is installed; outputs, all
blobs, and another batch. A program that an engine made and threw away as wrong counts, too.
exports: an ONNX file beside the net, with its own batch and a larger one.

Each net runs in a process of its own with a limit of time. A line is printed for each net that
differs, fails or does not end, and its prototxt stays in --folder; the exit code is 1 if there are
any.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import onnxruntime
import torch
from random_nets import TEST, TRAIN, RandomNet, random_net

import caffe
from moka.engine import promised
from moka.engine.autograd import Autograd
from moka.engine.contract import Engine
from moka.engine.layerwise import Layerwise
from moka.engine.segments import best_ends
from moka.errors import MokaError
from moka.export.difference import TOLERANCE, difference_of
from moka.export.onnx.export import export_onnx
from moka.export.reference import reference
from moka.inference.engines import BACKENDS, LAYERWISE, engine_is
from moka.net import Net
from moka.schema import caffe_pb2
from moka.types import Array

MOST_SECONDS = 60.0  # for a net
PASSES = 6  # blobs that nobody reads are promised from the fourth on
ROUNDING = 1e-7  # of an input's largest number
MORE = 2  # images in the larger batch

Numbers = dict[str, Array]
Maker = Callable[[Net], Engine]
Ways = Mapping[str, Callable[[], Numbers]]  # the first one is the measure


# --- training ---------------------------------------------------------------------------------


def passes(net: RandomNet) -> Ways:
    kept = partial(Autograd, keep_blobs=True)
    makers: dict[str, Maker] = {
        "layerwise": Layerwise,
        "plain": Autograd,
        "recorded": _recorded,
        "segments": lambda net: _cut(net, best_ends(net)),
        "short segments": lambda net: _cut(net, [*range(1, len(net.places), 2), len(net.places)]),
        "kept": kept,
        "kept and recorded": partial(_recorded, keep_blobs=True),
    }
    ways = {name: partial(_train, net, make) for name, make in makers.items()}
    ways["promised"] = partial(_train_promised, net, kept)
    if '"Dropout"' in net.text:  # which drops by the place in memory: elsewhere in the other ways
        return {name: ways[name] for name in ("plain", "recorded", "segments", "short segments")}
    return ways


def _recorded(net: Net, *, keep_blobs: bool = False) -> Autograd:
    engine = Autograd(net, keep_blobs=keep_blobs)
    engine.record(warm_ups=1)
    return engine


def _cut(net: Net, ends: Sequence[int]) -> Autograd:
    engine = Autograd(net)
    engine.segment_ends = ends
    return engine


def _train_promised(random: RandomNet, make: Maker) -> Numbers:
    with patch.object(promised, "is_worth_it", lambda saved, kept: True):
        return _train(random, make)


def _train(random: RandomNet, make: Maker) -> Numbers:
    net = random.build()
    engine = make(net)
    found: Numbers = {}
    for k in range(PASSES):
        for name, values in random.given(k).items():
            net.blobs[name].data_memory.put(torch.from_numpy(values))
        torch.manual_seed(k)
        found[f"the loss of pass {k}"] = np.asarray(float(engine.forward_backward()))
        for place in net.places:
            for i, weight in enumerate(place.layer.weights):
                name = f"{place.node.name}[{i}] of pass {k}"
                found[name] = weight.detach().numpy().copy()
                gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
                found[f"the gradient of {name}"] = gradient.numpy().copy()
                gradient.zero_()
        for b in net.learnable:
            net.parameter_of(b).data.mul_(0.9)
    for name in sorted(engine.in_view):
        found[f"{name} of pass {k}"] = net.blobs[name].data.copy()
    for name in _with_diffs(random.build()) if len(engine.in_view) == len(net.blobs) else ():
        found[f"the diff of {name} of pass {k}"] = net.blobs[name].diff.copy()
    return found


def _with_diffs(net: Net) -> list[str]:
    """The blobs whose gradient autograd computes: those from which something is learned, and of a
    blob that is changed in place from each of its values."""
    made = Counter(top for place in net.places for top in place.node.tops)
    seen: Counter[str] = Counter()
    engine = Autograd(net, keep_blobs=True)
    engine.pass_over(
        engine.next_batch(), see=lambda name, top: seen.update([name] if top.requires_grad else [])
    )
    return sorted(name for name, times in made.items() if seen[name] == times)


# --- testing ----------------------------------------------------------------------------------


def engines(net: RandomNet) -> Ways:
    names = [LAYERWISE, *(backend.name for backend in BACKENDS if backend.is_installed())]
    return {name: partial(_test, net, name) for name in names}


def _test(random: RandomNet, engine: str) -> Numbers:
    found: Numbers = {}
    with tempfile.TemporaryDirectory() as folder, engine_is(engine), _no_wrong_program():
        file = Path(folder, "net.prototxt")
        file.write_text(random.text)
        net = caffe.Net(str(file), caffe.TEST)
        for name, values in random.parameters.items():
            for blob, array in zip(net.params.get(name, ()), values, strict=True):
                blob.data[...] = array
        for k in range(3):
            _forward(net, random.given(k), found, f"pass {k}")
        found |= {f"{name} at the end": blob.data.copy() for name, blob in net.blobs.items()}
        batch = random.batch + MORE
        given = random.given(3, batch)
        for name, array in given.items():
            net.blobs[name].reshape(*array.shape)
        try:
            net.reshape()
        except MokaError:
            found[f"batch {batch} fits"] = np.asarray(0.0)
        else:
            _forward(net, given, found, f"batch {batch}")
    return found


def _forward(net: caffe.Net, given: Numbers, found: Numbers, when: str) -> None:
    torch.manual_seed(1)
    for name, values in given.items():
        net.blobs[name].data[...] = values
    outputs = net.forward()
    found |= {f"{name} of {when}": values.copy() for name, values in outputs.items()}


@contextmanager
def _no_wrong_program() -> Iterator[None]:
    """Raise what an engine says of programs that it made and does not use, since they are wrong."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("moka.detail")
    level, spreads = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = spreads
    if wrong := [text for text in said if "differs from the layers" in text]:
        raise WrongProgramError(wrong[0])


class WrongProgramError(Exception):
    """An engine's program gives other numbers than the layers."""


# --- files ------------------------------------------------------------------------------------


def exports(net: RandomNet) -> Ways:
    return {"layerwise": partial(_measure, net), "onnx": partial(_export, net)}


def _batches(random: RandomNet, net: Net) -> Iterator[tuple[str, Numbers, Numbers]]:
    """Inputs, and what the net makes of them; a larger batch only if the net takes it."""
    for batch in (random.batch, random.batch + MORE):
        given = random.given(0, batch)
        try:
            yield f"batch {batch}", given, reference(net, given, list(net.graph.outputs))
        except (MokaError, RuntimeError):
            if batch == random.batch:
                raise


def _measure(random: RandomNet) -> Numbers:
    return {
        f"{name} of {when}": values
        for when, _, made in _batches(random, random.build())
        for name, values in made.items()
    }


def _export(random: RandomNet) -> Numbers:
    net = random.build()
    found: Numbers = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "net.onnx")
        try:
            takes_all = export_onnx(net, file, check=False).free_batch
        except MokaError:  # some layer has no form in ONNX
            return found
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        for when, given, _ in _batches(random, net):
            made = session.run(None, {i.name: given[i.name] for i in session.get_inputs()})
            for name, values in zip(names, made, strict=True):
                blob = name if name in net.blobs else name.split("/")[0]
                found[f"{blob} of {when}"] = values
            if not takes_all:
                break
    return found


# --- the program ------------------------------------------------------------------------------


class What(NamedTuple):
    """What is compared: in which phase, and the ways that have to agree."""

    phase: caffe_pb2.Phase
    ways: Callable[[RandomNet], Ways]


WHAT = {
    "passes": What(TRAIN, passes),
    "engines": What(TEST, engines),
    "exports": What(TEST, exports),
}


def disagreements(what: str, net: RandomNet) -> Iterator[str]:
    """For each way that fails, or differs from the first one: where it does so first.

    Numbers that rounding changes are left out: those that differ where the inputs are moved by it.
    """
    (_, measure), *others = WHAT[what].ways(net).items()
    (again, *_) = WHAT[what].ways(replace(net, shake=ROUNDING)).values()
    wanted, moved = measure(), again()
    steady = {
        name: values
        for name, values in wanted.items()
        if difference_of(moved[name], values, name).relative < TOLERANCE / 10
    }
    for way, run in others:
        try:
            found = run()
        except Exception as error:  # noqa: BLE001 - any one is what is looked for
            yield f"{way}: {_words_of(error)}"
            continue
        for name in [name for name in found if name in steady]:
            difference = difference_of(found[name], steady[name], name)
            if not difference.is_small:
                yield f"{way}: {difference}"
                break


def _words_of(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"


def judge(seed: int, what: str, file: Path) -> list[str]:
    """What is wrong with a seed's net, found by a process of its own.

    Args:
        file: for the net's prototxt, which is left there if anything is wrong.
    """
    context = multiprocessing.get_context("fork")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_be_child, args=(writing, seed, what, file))
    process.start()
    writing.close()
    said: list[str] | None = None
    if has_ended := reading.poll(MOST_SECONDS):
        with suppress(EOFError):
            said = reading.recv()
    if not has_ended:
        process.kill()
    process.join()
    if said is None:
        said = [f"the process ended with code {process.exitcode}" if has_ended else "no end"]
    return said


def _be_child(to: Connection, seed: int, what: str, file: Path) -> None:
    torch.set_num_threads(1)
    logging.getLogger("moka").setLevel(logging.CRITICAL)
    try:
        net = random_net(seed, WHAT[what].phase)
        file.write_text(net.text)
        said = list(disagreements(what, net))
        if not said:
            file.unlink()
    except Exception as error:  # noqa: BLE001 - of the generator, or of the measure
        said = [_words_of(error)]
    to.send(said)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first net")
    parser.add_argument("--what", default=",".join(WHAT), help="with commas between")
    parser.add_argument("--folder", default=".fuzz/agree", help="for the nets that differ")
    given = parser.parse_args(argv)
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True)
    import torch._dynamo  # noqa: F401 - segments import it, here once for all processes

    wrong = 0
    for seed in range(given.seed, given.seed + given.nets):
        for what in given.what.split(","):
            file = folder / f"{what}_{seed}.prototxt"
            if said := judge(seed, what, file):
                more = f" (and {len(said) - 1} other ways)" if said[1:] else ""
                print(f"{what} --seed {seed}: {said[0]}{more}; {file}", flush=True)
                wrong += 1
    print(f"{given.nets} nets from --seed {given.seed}, {wrong} with differences.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
