"""Methods of `cv2.dnn.Net` that say why they are not here, and one that has nothing to do."""

from __future__ import annotations

from typing import Any, NoReturn

from moka.opencv.errors import OpenCVError

NO_BUILDING = "a net of moka.opencv is as its prototxt has it: add the layer there."
NO_QUANTIZING = "nets of moka.opencv compute in float32 alone."


class Absent:
    """What Caffe's nets of OpenCV 4 could not do either, or hardly any program asks for."""

    def forwardAsync(self, *_: Any, **__: Any) -> NoReturn:
        raise OpenCVError("forwardAsync needs OpenVINO, as in OpenCV.", advice="Call forward.")

    def addLayer(self, *_: Any, **__: Any) -> NoReturn:
        raise OpenCVError(NO_BUILDING)

    def addLayerToPrev(self, *_: Any, **__: Any) -> NoReturn:
        raise OpenCVError(NO_BUILDING)

    def connect(self, *_: Any, **__: Any) -> NoReturn:
        raise OpenCVError(NO_BUILDING)

    def registerOutput(self, *_: Any, **__: Any) -> NoReturn:
        raise OpenCVError(
            "outputs have the names of their layers.", advice="forward takes any layer's name."
        )

    def quantize(self, *_: Any, **__: Any) -> NoReturn:
        raise OpenCVError(NO_QUANTIZING)

    def getInputDetails(self) -> NoReturn:
        raise OpenCVError(f"the net is not quantized: {NO_QUANTIZING}")

    def getOutputDetails(self) -> NoReturn:
        raise OpenCVError(f"the net is not quantized: {NO_QUANTIZING}")

    def dumpToPbtxt(self, path: str) -> NoReturn:
        raise OpenCVError(
            "dumpToPbtxt is not here.",
            advice="dumpToFile writes a graph; `caffe export` an ONNX file, which Netron shows.",
        )

    def setHalideScheduler(self, scheduler: str) -> None:
        """Accepted; it changes no result."""
