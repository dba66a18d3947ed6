"""Where the time of a program goes, beside what the machine can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from moka.engine.channels_last import by_pixel
from moka.inference.cut import Piece
from moka.inference.engines import BACKENDS
from moka.inference.flow import Flow
from moka.inference.make import task_of
from moka.inference.program import Program, Values, run_layer, run_layers
from moka.net import Net, Place

# Short, so that some of many tries are not interrupted by other programs.
SIDE = 512  # of the square matrices whose product may show the peak
CHANNELS, PIXELS = 128, 28  # of a convolution that may show it: MKL's products are slow on AMD's
COPIED_BYTES = (2**17, 2**20, 2**23, 2**26)  # the last are more than caches hold
TRYING_S = 0.1
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Peak:
    """What the machine does at most, as measured: arithmetic and memory.

    Attributes:
        flops: a second.
        bytes: read or written in a second.
        in_caches: the same of copies that move no more bytes than this, smaller ones first.
    """

    flops: float
    bytes: float
    in_caches: tuple[tuple[float, float], ...] = ()

    def least_s(self, flops: float, moved: float) -> float:
        """The least seconds that so much arithmetic and memory take (the roofline)."""
        bytes_a_second = next((b for size, b in self.in_caches if moved <= size), self.bytes)
        return max(flops / self.flops, moved / bytes_a_second)


@dataclass
class Part:
    """Layers that ran as one.

    Attributes:
        layers: their names.
        types: their types.
        seconds: of a pass; NaN if the backend does not tell.
        flops: multiplications and additions of a pass.
        moved: bytes that have to be read and written at least: parameters, and the blobs that
            enter and leave.
    """

    layers: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    seconds: float = 0.0
    flops: float = 0.0
    moved: float = 0.0


def measure_peak() -> Peak:
    """Peak figures of this machine with up to as many threads as are in use; takes a second. One
    thread is tried too: beside busy programs it may do more than several."""
    most = torch.get_num_threads()
    products, copies = [], dict.fromkeys(COPIED_BYTES, 0.0)
    for threads in dict.fromkeys((1, most)):
        torch.set_num_threads(threads)
        products.append(_flops_now())
        for size in COPIED_BYTES:
            copies[size] = max(copies[size], _bytes_now(size))
    torch.set_num_threads(most)
    *smaller, largest = ((2.0 * size, bytes_a_second) for size, bytes_a_second in copies.items())
    return Peak(max(products), largest[1], tuple(smaller))


def _flops_now() -> float:
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    product = torch.empty_like(a)
    by_product = 2.0 * SIDE**3 / _least_s(lambda: torch.mm(a, b, out=product))
    image = by_pixel(torch.rand(1, CHANNELS, PIXELS, PIXELS))
    kernels = by_pixel(torch.rand(CHANNELS, CHANNELS, 3, 3))
    with torch.no_grad():
        convolution_s = _least_s(lambda: conv2d(image, kernels, padding=1))
    return max(by_product, 2.0 * kernels.numel() * PIXELS**2 / convolution_s)


def _bytes_now(size: int) -> float:
    source = torch.rand(size // FLOAT_BYTES)
    target = torch.empty_like(source)
    return 2.0 * size / _least_s(lambda: target.copy_(source))


def _least_s(run: Callable[[], object]) -> float:
    """The least seconds of a run, of many: so much processor time, that some of them are not
    interrupted on a busy machine."""
    end = process_time() + TRYING_S
    least = _seconds(run)
    while process_time() < end:
        least = min(least, _seconds(run))
    return least


def profile(program: Program, given: Mapping[str, Tensor], passes: int) -> tuple[list[Part], float]:
    """The parts of a program in running order, and the median seconds of a whole pass.

    Args:
        given: the tops of the layers without bottoms.
    """
    net, flow = program.net, program.flow
    whole_s = median(_seconds(lambda: program.run(given)) for _ in range(passes))
    values = run_layers(net, flow, given, range(len(flow.names)))
    parts: list[Part] = []
    for step in program.steps:
        if isinstance(step, Piece):
            parts += _parts_of(program, step, values, passes)
        else:
            seconds = median(
                _seconds(lambda i=step.index: run_layer(net, flow, i, dict(values)))  # type: ignore[misc]
                for _ in range(passes)
            )
            parts.append(_part(net, flow, [step], values, seconds))
    return parts, whole_s


def _parts_of(program: Program, piece: Piece, values: Values, passes: int) -> list[Part]:
    net, flow = program.net, program.flow
    backend = next(backend for backend in BACKENDS if backend.name == program.backend)
    task = task_of(net, flow, piece, values)
    inputs = [values[v] for v in piece.inputs]
    times = backend.times(task, inputs, passes)
    if not times:
        return [_part(net, flow, piece.places, values, float("nan"))]
    seconds = _by_layer(times, [place.node.name for place in piece.places])
    groups: list[list[Place]] = []
    for place in piece.places:
        if place.node.name in seconds or not groups:
            groups.append([place])
        else:
            groups[-1].append(place)
    return [
        _part(net, flow, group, values, sum(seconds.get(p.node.name, 0.0) for p in group))
        for group in groups
    ]


def _by_layer(times: Mapping[str, float], layers: Sequence[str]) -> dict[str, float]:
    """Seconds by layer: an operation belongs to the layer with the longest name that its own name
    begins with; one that belongs to none, such as a change of layout, to the one before it."""
    found: dict[str, float] = {}
    last = layers[0]
    for name, seconds in times.items():
        last = max((x for x in layers if name.startswith(x)), key=len, default=last)
        found[last] = found.get(last, 0.0) + seconds
    return found


def _part(net: Net, flow: Flow, places: Iterable[Place], values: Values, seconds: float) -> Part:
    part = Part(seconds=seconds)
    made: set[int] = set()
    taken: set[int] = set()
    for place in places:
        tops, bottoms = flow.tops[place.index], flow.bottoms[place.index]
        part.layers.append(place.node.name)
        part.types.append(place.node.type)
        shapes = [[tuple(values[v].shape) for v in vs] for vs in (bottoms, tops)]
        part.flops += 2.0 * place.layer.multiply_adds(*shapes)
        part.moved += FLOAT_BYTES * sum(prod(shape) for shape in place.layer.blob_shapes)
        made.update(tops)
        taken.update(bottoms)
    enter, leave = taken - made, made - taken
    part.moved += FLOAT_BYTES * sum(values[v].numel() for v in enter | leave)
    return part


def _seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start
