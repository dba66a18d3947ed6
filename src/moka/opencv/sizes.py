"""The part of a net that knows layers by name and their sizes for given inputs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moka.errors import did_you_mean
from moka.net.memory import FLOAT_BYTES, data_bytes
from moka.opencv import detections
from moka.opencv.errors import OpenCVError, methods_raise_cv2_error
from moka.opencv.flops import flops
from moka.opencv.inputs import shapes_of
from moka.opencv.layer import INPUT_LAYER
from moka.opencv.names import NamedLayer
from moka.opencv.runner import Runner
from moka.types import Shape

Shapes = list[Shape]
Int32s = NDArray[np.int32]


@methods_raise_cv2_error
class Sizes:
    """The layers of a net, and what they take and compute for given shapes of the inputs.

    Attributes:
        layers: all layers but the inputs'; the number of the first one is 1.
        numbers: name to number; the names of the file lead to their layers too.
    """

    def __init__(self, runner: Runner | None, layers: Sequence[NamedLayer]) -> None:
        self._runner = runner
        self.layers = tuple(layers)
        self._input_names: tuple[str, ...] | None = None
        numbered = list(enumerate(layers, 1))
        self.numbers = {layer.name_in_file: i for i, layer in reversed(numbered)}
        self.numbers |= {layer.name: i for i, layer in numbered}

    @property
    def runner(self) -> Runner:
        """What runs the net. Raises OpenCVError if the net is empty."""
        if self._runner is None:
            raise OpenCVError("the net is empty: read one with readNetFromCaffe.")
        return self._runner

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs: those of the prototxt, or those that `setInputsNames` gave."""
        return self.runner.inputs if self._input_names is None else self._input_names

    def getFLOPS(self, *args: Any) -> int:
        """How many operations a pass takes.

        `getFLOPS(shape)` or `getFLOPS(shapes)` of the whole net, for the shapes of its inputs;
        `getFLOPS(layerId, shape or shapes)` of one layer.
        """
        only, shapes = self._sized(args)
        numbers = range(1, len(self.layers) + 1) if only is None else [only]
        return sum(flops(self.runner.layer(n - 1), *shapes[n]) for n in numbers if n != 0)

    def getMemoryConsumption(self, *args: Any) -> tuple[int, int]:
        """Bytes of the learned arrays, and of the outputs of all layers with the inputs.

        The arguments are those of `getFLOPS`.
        """
        only, shapes = self._sized(args)
        numbers = range(len(self.layers) + 1) if only is None else [only]
        weights = sum(
            FLOAT_BYTES * prod(shape)
            for n in numbers
            if n
            for shape in self.runner.layer(n - 1).blob_shapes
        )
        return weights, sum(data_bytes(shapes[n][1]) for n in numbers)

    def getLayersShapes(
        self, netInputShapes: Any
    ) -> tuple[Int32s, tuple[tuple[Int32s, ...], ...], tuple[tuple[Int32s, ...], ...]]:
        """Layer numbers, for each layer the shapes of its inputs, and those of its outputs."""
        _, shapes = self._sized((netInputShapes,))
        taken, made = (tuple(_arrays(each[k]) for each in shapes) for k in (0, 1))
        return np.arange(len(shapes), dtype=np.int32), taken, made

    def _number(self, key: int | str) -> int:
        """The number of a layer given by its number or name. Raises OpenCVError."""
        if isinstance(key, str):
            if key == INPUT_LAYER:
                return 0
            if key in self.numbers:
                return self.numbers[key]
            raise OpenCVError(f'no layer is named "{key}".', advice=self._advice_on(key))
        number = int(key)
        if not 0 <= number <= len(self.layers):
            raise OpenCVError(f"there is no layer {number}: the last one is {len(self.layers)}.")
        return number

    def _advice_on(self, name: str) -> str | None:
        """What to write instead of a name that is no layer's: that of a blob, or a slip."""
        for layer in reversed(self.layers):
            if name in layer.tops_in_file:
                which = layer.tops_in_file.index(name)
                call = f'(None, "{layer.name}")[{which}]' if which else f'("{layer.name}")'
                return f"It is a blob; forward{call} gives it."
        return did_you_mean(name, self.numbers)

    def _sized(self, args: Sequence[Any]) -> tuple[int | None, list[tuple[Shapes, Shapes]]]:
        """The one layer that is asked for, if any; for every layer number the shapes of its
        bottoms and tops."""
        if len(args) not in (1, 2):
            raise OpenCVError(f"takes [layerId,] shapes of the inputs, got {len(args)} arguments.")
        only = self._number(args[0]) if len(args) == 2 else None
        given = shapes_of(args[-1], self.runner.inputs)
        self.runner.fit(given)
        shapes = self.runner.net.infer_shapes(given)
        images = next(iter(given.values()))[0]
        for layer in self.layers:
            if layer.type == detections.TYPE:
                shapes[layer.outputs[0]] = detections.filled_shape(layer, images)
        sizes = [(list(given.values()), list(given.values()))]
        for layer in self.layers:
            sizes.append(
                (
                    [shapes[name] for name in layer.message.bottom],
                    [shapes[name] for name in layer.outputs],
                )
            )
        return only, sizes


def _arrays(shapes: Shapes) -> tuple[Int32s, ...]:
    return tuple(np.array(shape, np.int32) for shape in shapes)
