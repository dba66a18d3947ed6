"""Random nets: the same seed makes the same net.

A net grows by layers drawn from a table (`layer_kinds`). Each is built and run by itself, on the
numbers of the blobs that it reads. It stays if it can be built and its results are safe to compare:
finite, of moderate size, and steady where its bottoms change by as much as rounding changes them.
So no net has ties that rounding decides, or numbers that cancel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from random import Random

import numpy as np
import torch
from layer_kinds import IN_TRAINING, KINDS, LOSSES, OF_LOSSES, Kind

from moka.errors import MokaError
from moka.export.difference import difference_of
from moka.export.reference import reference
from moka.layers import REGISTRY
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array, Shape

TEST, TRAIN = caffe_pb2.TEST, caffe_pb2.TRAIN
LAYERS = (4, 14)  # of a net, without inputs and losses
TRIES = 300  # of layers, until a net is finished with those it has
MOST_NUMBERS = 20_000  # of a blob
SIZES = (1e-3, 1e3)  # a blob's largest number lies between
SHAKE = 1e-6  # how far inputs are moved, as a part of the largest number
ROUNDING = 2e-7  # how far each layer's results are moved, in the same way
SIGNS = (1, -1)  # numbers are moved both ways, so that one of them decides a tie otherwise
STEADY = 2e-5  # how far a blob may move then

Draw = np.random.Generator
Fill = Callable[[Draw, Shape], Array]


@dataclass(frozen=True)
class Input:
    """An input of a net: its shape, and a function that draws its numbers."""

    shape: Shape
    fill: Fill

    @property
    def is_real(self) -> bool:
        """Whether any numbers will do, as they do not for labels and boxes."""
        return self.fill is _normal


def _normal(draw: Draw, shape: Shape) -> Array:
    return draw.standard_normal(shape)


def _below(end: int) -> Fill:
    return lambda draw, shape: draw.integers(0, end, shape)


def _boxes_in(image: Shape) -> Fill:
    """Image, left, top, right, bottom; away from halves, which are rounded."""

    def boxes(draw: Draw, shape: Shape) -> Array:
        x = np.sort(draw.integers(0, image[3], (shape[0], 2))) + 0.2
        y = np.sort(draw.integers(0, image[2], (shape[0], 2))) + 0.2
        of = draw.integers(0, image[0], shape[0])
        return np.stack([of, x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)

    return boxes


NEW_INPUTS: Mapping[str, Callable[[Shape], Input]] = {  # by the shape of the first bottom
    "goes on": lambda shape: Input(shape[:2], _below(2)),
    "words": lambda shape: Input((*shape[:1], 3), _below(5)),
    "picks": lambda shape: Input((4,), _below(shape[0])),
    "picture": lambda shape: Input((shape[0], 3, 16, 12), _normal),
    "boxes": lambda shape: Input((4, 5), _boxes_in(shape)),
    "labels": lambda shape: Input((shape[0], *shape[2:]), _below(shape[1])),
    "row labels": lambda shape: Input(shape[:1], _below(prod(shape[1:]))),
    "targets": lambda shape: Input(shape, _normal),
    "bits": lambda shape: Input(shape, _below(2)),
}
AXES = {"rows": range(2, 9), "image": (4,)}


@dataclass
class RandomNet:
    """A net, and how its numbers are drawn.

    Attributes:
        lines: of prototxt, behind the inputs, one for each layer.
        batch: how many images the inputs hold.
        parameters: those of each layer that has any.
        shake: how far inputs are moved, as a part of their largest number.
    """

    seed: int
    phase: caffe_pb2.Phase
    batch: int
    lines: list[str] = field(default_factory=list)
    inputs: dict[str, Input] = field(default_factory=dict)
    parameters: dict[str, Sequence[Array]] = field(default_factory=dict)
    shake: float = 0.0

    @property
    def text(self) -> str:
        heads = [input_line(name, given.shape) for name, given in self.inputs.items()]
        return "\n".join([*heads, *self.lines, ""])

    def build(self) -> Net:
        net = build_net(parse_text(self.text, caffe_pb2.NetParameter), self.phase)
        fill_parameters(net, self.parameters)
        return net

    def given(self, number: int, batch: int = 0) -> dict[str, Array]:
        """Other values of the inputs for each number; with another batch, if one is given."""
        draw = np.random.default_rng([self.seed, number])
        shapes = {name: given.shape for name, given in self.inputs.items()}
        if batch:
            shapes = {n: (batch, *s[1:]) if s[0] == self.batch else s for n, s in shapes.items()}
        given = {n: self.inputs[n].fill(draw, s).astype(np.float32) for n, s in shapes.items()}
        if self.shake:
            for name in [n for n in given if self.inputs[n].is_real]:
                given[name] += noise(given[name], self.shake, draw)
        return given


def noise(values: Array, part: float, draw: Draw) -> Array:
    """Random numbers as large as a part of the largest value."""
    scale = part * min(np.abs(values).max(initial=0), SIZES[1])
    return np.asarray(scale * draw.standard_normal(values.shape), np.float32)


def input_line(name: str, shape: Shape) -> str:
    dims = " ".join(f"dim: {size}" for size in shape)
    fields = f'name: "{name}" type: "Input" top: "{name}"'
    return f"layer {{ {fields} input_param {{ shape {{ {dims} }} }} }}"


def fill_parameters(net: Net, parameters: Mapping[str, Sequence[Array]]) -> None:
    for place in net.places:
        given = parameters.get(place.node.name, ())  # none for splits
        for weight, values in zip(place.layer.weights, given, strict=True):
            weight.data.copy_(torch.from_numpy(values))


def random_net(seed: int, phase: caffe_pb2.Phase) -> RandomNet:
    """The net of this seed. For training it has losses, and only layers with gradients."""
    return _Generator(seed, phase).net


class _Generator:
    """Grows one net."""

    def __init__(self, seed: int, phase: caffe_pb2.Phase) -> None:
        self.random = Random(seed)
        self.draw = np.random.default_rng(seed)
        self.net = RandomNet(seed, phase, self.random.choice((1, 1, 2, 2, 3, 5)))
        self.exact: dict[str, Array] = {}  # the numbers of all blobs that layers may read
        self.moved: tuple[dict[str, Array], ...] = ({}, {})  # with inputs that are moved by SIGNS
        self.shares = phase == TRAIN and self.random.random() < 0.3
        self.shared: dict[str, Array] = {}  # parameters by the name under which layers share them
        self.read: set[str] = set()  # blobs whose numbers some layer reads: none may change them
        self.names = 0
        trains = phase == TRAIN
        kinds = [kind for kind in KINDS if REGISTRY[kind.type].differentiable or not trains]
        for _ in range(self.random.choice((1, 1, 1, 2))):
            self._add_input()
        self._grow(kinds, self.random.randint(*LAYERS), IN_TRAINING if trains else "")
        if trains:
            if self.random.random() < 0.25:
                self.net.lines.append("force_backward: true")
            self._grow(LOSSES, self.random.randint(1, 4), OF_LOSSES)

    def _add_input(self) -> None:
        side = self.random.randint
        image = (side(1, 8), side(1, 11), side(1, 11))
        vector = (side(1, 9), side(1, 5))[: side(1, 2)]
        shape = (self.net.batch, *self.random.choice((image, image, image, vector)))
        self._show(self._new_name("in"), Input(shape, _normal))

    def _show(self, name: str, given: Input) -> str:
        """Make this an input of the net."""
        values = given.fill(self.draw, given.shape).astype(np.float32)
        self.net.inputs[name], self.exact[name] = given, values
        move = noise(values, SHAKE if given.is_real else 0, self.draw)
        for blobs, sign in zip(self.moved, SIGNS, strict=True):
            blobs[name] = values + sign * move
        return name

    def _new_name(self, what: str) -> str:
        self.names += 1
        return f"{what}{self.names}"

    def _grow(self, kinds: Sequence[Kind], layers: int, more: str) -> None:
        wanted = len(self.net.lines) + layers
        weights = [kind.weight for kind in kinds]
        for _ in range(TRIES):
            if len(self.net.lines) >= wanted:
                break
            before = dict(self.net.inputs), dict(self.exact), tuple(map(dict, self.moved))
            if not self._add(self.random.choices(kinds, weights)[0], more):
                self.net.inputs, self.exact, self.moved = before

    def _add(self, kind: Kind, more: str) -> bool:
        """Add a layer of this kind, with more fields; False: it does not fit, or is not safe."""
        bottoms: list[str] = []
        for word in kind.bottoms:
            shape = self.exact[bottoms[0]].shape if bottoms else (self.net.batch,)
            if word in NEW_INPUTS:
                bottoms.append(self._show(self._new_name("in"), NEW_INPUTS[word](shape)))
            elif fitting := self._blobs(word, shape):
                bottoms.append(self.random.choice(fitting))
            else:
                return False
        # A layer works in place where no other one reads the blob, as Caffe wants it.
        is_free = bottoms.count(bottoms[0]) == 1 and bottoms[0] not in self.read
        in_place = kind.in_place and is_free and self.random.random() < 0.6
        tops = bottoms[:1] if in_place else [self._new_name("blob") for _ in range(kind.tops)]
        name = self._new_name("layer")
        fields = [
            f'name: "{name}" type: "{kind.type}"',
            *(f'bottom: "{bottom}"' for bottom in bottoms),
            *(f'top: "{top}"' for top in tops),
            self._drawn(f"{kind.message} {more}", self.exact[bottoms[0]].shape),
        ]
        return self._keep_if_safe(name, f"layer {{ {' '.join(fields)} }}", bottoms, tops)

    def _blobs(self, word: str, shape: Shape) -> list[str]:
        """The blobs that a bottom may be, often those alone that no layer has read yet."""
        inputs = self.net.inputs
        real = [n for n in self.exact if n not in inputs or inputs[n].is_real]
        if word in AXES:
            real = [n for n in real if self.exact[n].ndim in AXES[word]]
        if word == "other" and self.random.random() < 0.6:
            return [n for n in real if self.exact[n].shape == shape]
        unread = [name for name in real if name not in self.read]
        return unread if unread and self.random.random() < 0.7 else real

    def _drawn(self, options: str, shape: Shape) -> str:
        """Options with their choices made."""
        axes = max(len(shape), 1)
        channels = shape[1] if axes > 1 else 1
        divisors = [n for n in range(1, channels + 1) if channels % n == 0]
        group = self.random.choice((1, 1, *divisors))
        order = self.random.sample(range(1, axes), axes - 1)
        words: dict[str, Sequence[object]] = {
            "bool": ("true", "false"),
            "factor": (0.3, 0.5, 1, 1.5, -0.7),
            "axis": range(-axes, axes),
            "size": shape or (1,),
            "channels": (channels,),
            "group": (group,),
            "outputs": (group, 2 * group, 3 * group),
            "order": (" ".join(f"order: {axis}" for axis in (0, *order)),),
        }

        def choice(match: re.Match[str]) -> str:
            text = match[1]
            if ".." in text:
                return str(self.random.randint(*map(int, text.split(".."))))
            return str(self.random.choice(text.split("|") if "|" in text else words[text]))

        while "<" in options:
            options = re.sub(r"<([^<>]*)>", choice, options)
        return options

    def _keep_if_safe(self, name: str, line: str, bottoms: list[str], tops: list[str]) -> bool:
        heads = [input_line(bottom, self.exact[bottom].shape) for bottom in dict.fromkeys(bottoms)]
        text = "\n".join([*heads, line])
        try:
            net = build_net(parse_text(text, caffe_pb2.NetParameter), self.net.phase)
            line, parameters = self._with_parameters(line, net)
            fill_parameters(net, {name: parameters})
            exact, *moved = (self._run(net, b, tops) for b in (self.exact, *self.moved))
        except MokaError:
            return False
        except Exception as error:
            error.add_note(text)
            raise
        for top in tops:
            move = noise(exact[top], ROUNDING, self.draw)
            for found, sign in zip(moved, SIGNS, strict=True):
                found[top] += sign * move
                if not _is_safe(exact[top], found[top]):
                    return False
        self.read = (self.read | set(bottoms)) - set(tops)
        for blobs, found in zip((self.exact, *self.moved), (exact, *moved), strict=True):
            blobs |= found
        self.net.lines.append(line)
        self.net.parameters[name] = parameters
        return True

    def _run(self, net: Net, blobs: Mapping[str, Array], tops: list[str]) -> dict[str, Array]:
        torch.manual_seed(self.net.seed)
        found = reference(net, {name: blobs[name].copy() for name in net.graph.inputs}, tops)
        return {top: values.copy() for top, values in found.items()}

    def _with_parameters(self, line: str, net: Net) -> tuple[str, list[Array]]:
        """A layer's line, and numbers for its parameters. Some nets share the first ones."""
        place = net.places[-1]
        shapes = [tuple(weight.shape) for weight in place.layer.weights]
        if place.layer.entry.state_blobs:  # mean, variance and their factor
            return line, [self.draw.uniform(0.5, 1.5, s).astype(np.float32) for s in shapes]
        found = [
            np.asarray(self.draw.standard_normal(s) / sqrt(prod(s[1:])), np.float32) for s in shapes
        ]
        if found and self.shares and "param { lr_mult" not in line:
            shared = "shared_" + "x".join(map(str, shapes[0]))
            found[0] = self.shared.setdefault(shared, found[0])
            line = f'{line[:-1]}param {{ name: "{shared}" }} }}'
        return line, found


def _is_safe(values: Array, moved: Array) -> bool:
    """Whether a blob's numbers can be compared, by those that it has where the inputs move."""
    if not 0 < values.size <= MOST_NUMBERS or not np.isfinite(values).all():
        return False
    is_steady = difference_of(moved, values, "").relative < STEADY
    return is_steady and SIZES[0] < np.abs(values).max() < SIZES[1]
