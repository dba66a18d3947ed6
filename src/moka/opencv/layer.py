"""One layer of a net, as `Net.getLayer` hands it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from moka.opencv.errors import methods_raise_cv2_error

if TYPE_CHECKING:
    from moka.opencv.net import Net
    from moka.types import Floats

INPUT_LAYER = "_input"


@methods_raise_cv2_error
class Layer:
    """A layer: its name, its type, its learned arrays.

    Attributes:
        name, type: as in the prototxt. The layer of the inputs is `_input`, without a type.
        preferableTarget: the target of the net.
    """

    def __init__(self, net: Net, number: int, name: str, kind: str) -> None:
        self._net = net
        self._number = number
        self.name = name
        self.type = kind

    @property
    def preferableTarget(self) -> int:
        return self._net.target

    @property
    def blobs(self) -> tuple[Floats, ...]:
        """Copies of the learned arrays; a sequence of arrays sets them. Arrays that are left out
        at the end become zero. Raises OpenCVError if one does not fit."""
        return self._net.blobs_of(self._number)

    @blobs.setter
    def blobs(self, arrays: Sequence[Any]) -> None:
        self._net.set_blobs_of(self._number, arrays)

    def outputNameToIndex(self, outputName: str) -> int:
        """The position of an output: 0, as in OpenCV; of an input of the net its own, or -1."""
        if self._number:
            return 0
        inputs = self._net.inputs
        return inputs.index(outputName) if outputName in inputs else -1

    def __repr__(self) -> str:
        return f"<moka.opencv.Layer {self.name} ({self.type})>"
