"""`cv2.dnn.Net` of OpenCV 4 for Caffe's models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moka.context import gpu_or_cpu
from moka.errors import did_you_mean
from moka.opencv import detections
from moka.opencv.absent import Absent
from moka.opencv.dump import as_dot
from moka.opencv.errors import OpenCVError, methods_raise_cv2_error
from moka.opencv.inputs import Scalar, as_blob, normalized, shapes_of
from moka.opencv.layer import INPUT_LAYER, Layer
from moka.opencv.names import NamedLayer
from moka.opencv.parameters import arrays_of, set_array, set_arrays
from moka.opencv.runner import CPU, Runner
from moka.opencv.sizes import Sizes
from moka.types import Floats, PathLike

BACKEND_CUDA = cv2.dnn.DNN_BACKEND_CUDA
TARGETS_CUDA = (cv2.dnn.DNN_TARGET_CUDA, cv2.dnn.DNN_TARGET_CUDA_FP16)
INPUT_TYPE = "__NetInputLayer__"
NOT_GIVEN = object()
LayerKey = int | str


@methods_raise_cv2_error
class Net(Sizes, Absent):
    """A net that takes blobs and gives blobs. `readNetFromCaffe` makes it.

    Every array is called after the layer that makes it, in-place or not. Layers have numbers, from
    1 in the order of the file; 0 is the layer of the inputs, which no list of names has. Arrays
    that come out are the caller's own: float32, row-major.

    All methods raise OpenCVError, which is a `cv2.error` too.
    """

    def __init__(self, runner: Runner | None = None, layers: Sequence[NamedLayer] = ()) -> None:
        super().__init__(runner, layers)
        self.target: int = cv2.dnn.DNN_TARGET_CPU
        self._backend: int = cv2.dnn.DNN_BACKEND_DEFAULT
        self._given: dict[str, Tensor] = {}
        self._owner = {blob: i for i, layer in enumerate(layers) for blob in layer.outputs}
        self._ticks = np.zeros(len(layers))

    # --- running --------------------------------------------------------------------------

    def setInput(
        self, blob: Any, name: str = "", scalefactor: float = 1.0, mean: Scalar = ()
    ) -> None:
        """Give an input. Its shape need not be that of the prototxt.

        Args:
            blob: a NumPy array, (N, C, H, W) for images; it is copied.
            name: of the input; "" is the first one.
            scalefactor, mean: the net gets (blob - mean) * scalefactor; mean is up to four
                numbers, one a channel. A single number is the mean of the first channel alone.
        """
        runner = self.runner
        if not runner.inputs:
            raise OpenCVError(
                "the net has no input: it reads its own data.",
                advice="Put an Input layer in the place of its data layer (a deploy.prototxt).",
            )
        wanted = self._input(name or self.inputs[0])
        values = normalized(as_blob(blob), scalefactor, mean)
        self._given[wanted] = runner.prepare(torch.from_numpy(values))

    def setInputShape(self, inputName: str, shape: Sequence[int]) -> None:
        """Say the shape of an input to which the prototxt gives none.

        It is needed by none of the methods; arrays of another shape are taken, too.
        """
        name = self._input(inputName)
        if declared := self.runner.declared_shapes.get(name):
            raise OpenCVError(
                f'input "{inputName}" has a shape already: {declared}.',
                advice="setInput takes arrays of any shape.",
            )
        (self.runner.declared_shapes[name],) = shapes_of(shape, [inputName]).values()
        self.runner.fit(self.runner.declared_shapes)

    def setInputsNames(self, inputBlobNames: Sequence[str]) -> None:
        """Give the inputs other names, in their order."""
        names = tuple(inputBlobNames)
        if len(names) != len(self.inputs):
            raise OpenCVError(
                f"got {len(names)} names for the {len(self.inputs)} inputs"
                f" {', '.join(self.inputs)}."
            )
        self._input_names = names

    def _input(self, name: str) -> str:
        """The name in the prototxt of an input. Raises OpenCVError if there is no such input."""
        if name not in self.inputs:
            raise OpenCVError(
                f'no input is named "{name}"; inputs are {", ".join(self.inputs)}.',
                advice=did_you_mean(name, self.inputs),
            )
        return self.runner.inputs[self.inputs.index(name)]

    def forward(
        self,
        first: Any = "",
        second: Any = "",
        *,
        outputName: str = "",
        outBlobNames: Sequence[str] | None = None,
        outputBlobs: Any = NOT_GIVEN,
    ) -> Floats | tuple[Floats, ...]:
        """Run the net up to a layer.

        `forward()` returns the first output of the last layer, `forward(name)` that of a layer,
        `forward([name, ...])` a tuple of the first outputs of several, and `forward(None, name)`
        a tuple of all outputs of a layer. The keywords are other names of the arguments; arrays
        in `outputBlobs` are not written.
        """
        names = first if outBlobNames is None else outBlobNames
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
            positions = [self._position(name) for name in names or [""]]
            return tuple(self._run([self._first_output(position) for position in positions]))
        if not isinstance(first, str) or outputBlobs is not NOT_GIVEN:
            if not isinstance(first, (str, list, tuple, type(None))):
                raise OpenCVError(f"forward takes a name or a list of names, got {first!r}.")
            return self.forwardAndRetrieve([second or outputName])[0]
        return self._run([self._first_output(self._position(first or outputName))])[0]

    def forwardAndRetrieve(self, outBlobNames: Sequence[str]) -> tuple[tuple[Floats, ...], ...]:
        """For each layer of this name a tuple of all its outputs."""
        asked = [self.layers[self._position(name)].outputs for name in outBlobNames]
        arrays = iter(self._run([blob for blobs in asked for blob in blobs]))
        return tuple(tuple(next(arrays) for _ in blobs) for blobs in asked)

    def getPerfProfile(self) -> tuple[int, NDArray[np.float64]]:
        """The ticks of the last `forward` (cv2.getTickFrequency() of them are a second), and those
        of each layer, from layer 1. On a GPU a layer's ticks are those of starting it. Layers that
        ran as one (`moka.inference`) have theirs in the last of them."""
        return int(self._ticks.sum()), self._ticks.copy()

    def _run(self, blobs: Sequence[str]) -> list[Floats]:
        runner = self.runner
        if missing := [name for name in runner.inputs if name not in self._given]:
            raise OpenCVError(f"no blob for the input {', '.join(missing)}: call setInput first.")
        ticks = np.zeros(len(self.layers))
        last = cv2.getTickCount()

        def count(blob: str, _: Tensor) -> None:
            nonlocal last
            now = cv2.getTickCount()
            if (position := self._owner.get(blob)) is not None:
                ticks[position] += now - last
            last = now

        made = runner.run(self._given, set(blobs), count)
        self._ticks = ticks
        return [self._as_array(name, made[name]) for name in blobs]

    def _as_array(self, blob: str, made: Tensor) -> Floats:
        array: Floats = np.array(made.detach().cpu().numpy(), np.float32, order="C")
        layer = self.layers[self._owner[blob]]
        if layer.type == detections.TYPE:
            images = next((len(given) for given in self._given.values()), 1)
            return detections.filled_up(array, layer, images)
        return array.reshape(-1, 1) if array.ndim < 2 else array

    def _position(self, name: str) -> int:
        if not self.layers:
            raise OpenCVError("the net is empty: it has no layer to run.")
        if not name:
            return len(self.layers) - 1
        if name == INPUT_LAYER:
            raise OpenCVError("the layer of the inputs has no output of its own.")
        return self._number(name) - 1

    def _first_output(self, position: int) -> str:
        layer = self.layers[position]
        if not layer.outputs:
            raise OpenCVError("has no output.", layer=layer.name, layer_type=layer.type)
        return layer.outputs[0]

    # --- layers ---------------------------------------------------------------------------

    def empty(self) -> bool:
        """Whether there are no layers."""
        return not self.layers

    def getLayerNames(self) -> tuple[str, ...]:
        """The names of all layers in order, without the layer of the inputs."""
        return tuple(layer.name for layer in self.layers)

    def getLayerId(self, layer: str) -> int:
        """The number of a layer; -1 if there is none of this name."""
        return 0 if layer == INPUT_LAYER else self.numbers.get(layer, -1)

    def getLayer(self, layerId: LayerKey) -> Layer:
        """A layer by its number or name."""
        number = self._number(layerId)
        if number == 0:
            return Layer(self, 0, INPUT_LAYER, "")
        return Layer(self, number, self.layers[number - 1].name, self.layers[number - 1].type)

    def getLayerTypes(self) -> tuple[str, ...]:
        """The types of the layers, each once, in alphabetical order."""
        return tuple(sorted({layer.type for layer in self.layers} | {INPUT_TYPE}))

    def getLayersCount(self, layerType: str) -> int:
        """How many layers are of this type."""
        return sum(layer.type == layerType for layer in self.layers) + (layerType == INPUT_TYPE)

    def getUnconnectedOutLayers(self) -> NDArray[np.int32]:
        """The numbers of the layers whose output no other layer takes."""
        read = {position for layer in self.layers for position in layer.bottoms}
        return np.array([i + 1 for i in range(len(self.layers)) if i not in read], np.int32)

    def getUnconnectedOutLayersNames(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.layers[number - 1].name for number in self.getUnconnectedOutLayers())

    # --- learned arrays -------------------------------------------------------------------

    def getParam(self, layer: LayerKey, numParam: int = 0) -> Floats:
        """A copy of a learned array of a layer, given by number or name."""
        number = self._number(layer)
        arrays = self.blobs_of(number)
        if not 0 <= numParam < len(arrays):
            name = self.getLayer(number).name
            raise OpenCVError(f"has {len(arrays)} learned arrays, none is {numParam}.", layer=name)
        return arrays[numParam]

    def setParam(self, layer: LayerKey, numParam: int, blob: Any) -> None:
        """Set a learned array; it must have as many numbers as the old one."""
        number = self._number(layer)
        set_array(*self._parts(number), numParam, blob)
        self.runner.without_weights.discard(self.layers[number - 1].name_in_file)

    def blobs_of(self, number: int) -> tuple[Floats, ...]:
        """Copies of all learned arrays of a layer; none if the model has none for it."""
        if number == 0 or self.layers[number - 1].name_in_file in self.runner.without_weights:
            return ()
        return arrays_of(self._parts(number)[0])

    def set_blobs_of(self, number: int, arrays: Sequence[Any]) -> None:
        """Set the first learned arrays of a layer; the others become zero."""
        set_arrays(*self._parts(number), arrays)
        self.runner.without_weights.discard(self.layers[number - 1].name_in_file)

    def _parts(self, number: int) -> tuple[Any, str]:
        if number == 0:
            raise OpenCVError("the layer of the inputs has no learned arrays.")
        return self.runner.layer(number - 1), self.layers[number - 1].name

    # --- where and how it runs ------------------------------------------------------------

    def setPreferableBackend(self, backendId: int) -> None:
        """DNN_BACKEND_CUDA runs the net on a GPU, if there is one; all others on the CPU."""
        self._backend = backendId
        self._move()

    def setPreferableTarget(self, targetId: int) -> None:
        """DNN_TARGET_CUDA and DNN_TARGET_CUDA_FP16 run the net on a GPU, if there is one, in
        float32; all others on the CPU."""
        self.target = targetId
        self._move()

    def _move(self) -> None:
        wants_gpu = self._backend == BACKEND_CUDA or self.target in TARGETS_CUDA
        if self.empty():
            return
        device = gpu_or_cpu(0) if wants_gpu else CPU
        self.runner.move(device)
        self._given = {name: self.runner.prepare(blob) for name, blob in self._given.items()}

    def enableFusion(self, fusion: bool) -> None:
        """Accepted; it changes no result."""

    def enableWinograd(self, useWinograd: bool) -> None:
        """Accepted; it changes no result."""

    def dump(self) -> str:
        """The net as a graph in Graphviz's language."""
        return as_dot(self.layers)

    def dumpToFile(self, path: PathLike) -> None:
        """Write `dump()` to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.dump())

    def __repr__(self) -> str:
        return f"<moka.opencv.Net of {len(self.layers)} layers>"
