"""OpenCV's models: a net with what is done to an image before it and to its output after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import cv2
import numpy as np

from moka.opencv import detections
from moka.opencv.errors import OpenCVError, methods_raise_cv2_error
from moka.opencv.inputs import SCALAR_SIZE, Scalar, scalar
from moka.opencv.net import Net
from moka.opencv.read import Given, readNet
from moka.types import Array, Floats

IMAGE_AXES = 4
IMAGE_INFO = "im_info"  # the input of Faster R-CNN that holds the size of the image
IMAGE_SCALE = 1.6  # which OpenCV hands over with it
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Int32s = np.ndarray[Any, np.dtype[np.int32]]
Detections = tuple[
    Int32s | tuple[()], Floats | tuple[()], Int32s | tuple[()]
]  # classes, confidences, boxes; empty tuples if nothing is found


@methods_raise_cv2_error
class Model:
    """A net that takes images, in the size of the prototxt unless it is told another.

    Args:
        model: a net, or a .caffemodel.
        config: the .prototxt, if `model` is a file.
        network: another name of a net.
    """

    def __init__(
        self, model: Net | Given = None, config: Given = "", *, network: Net | None = None
    ) -> None:
        given = model if network is None else network
        if given is None:
            raise OpenCVError("a model takes a net, or a .caffemodel and a .prototxt.")
        self.net = given if isinstance(given, Net) else readNet(given, config)
        self._output_names: tuple[str, ...] = self.net.getUnconnectedOutLayersNames()
        self._scale: tuple[float, ...] = (1.0,) * SCALAR_SIZE
        runner = self.net.runner
        shape = runner.declared_shapes.get(next(iter(runner.inputs), ""), ())
        self._size = (shape[3], shape[2]) if len(shape) == IMAGE_AXES else (0, 0)
        self._mean: tuple[float, ...] = (0.0,) * SCALAR_SIZE
        self._swap = False
        self._crop = False

    def setInputParams(
        self,
        scale: float = 1.0,
        size: tuple[int, int] = (0, 0),
        mean: Scalar = (),
        swapRB: bool = False,
        crop: bool = False,
    ) -> None:
        """Say what is done to images: (image - mean) * scale, in the size (width, height)."""
        self.setInputScale(scale).setInputSize(size).setInputMean(mean)
        self.setInputSwapRB(swapRB).setInputCrop(crop)

    def setInputScale(self, scale: Scalar) -> Self:
        """The factor of all channels, or one for each."""
        factors = scalar(scale, "scale")
        self._scale = factors[:1] * SCALAR_SIZE if np.ndim(scale) == 0 else factors
        return self

    def setInputSize(self, width: Any, height: int | None = None) -> Self:
        """Width and height that images are resized to, as two numbers or a pair; 0: their own."""
        size = width if height is None else (width, height)
        try:
            self._size = int(size[0]), int(size[1])
        except (TypeError, ValueError, IndexError):
            raise OpenCVError(f"a size is (width, height), got {size!r}.") from None
        return self

    def setInputMean(self, mean: Scalar) -> Self:
        """The mean of each channel, after their swap; a number is that of the first one."""
        self._mean = scalar(mean, "mean")
        return self

    def setInputSwapRB(self, swapRB: bool) -> Self:
        """Whether the first and the third channel change places."""
        self._swap = bool(swapRB)
        return self

    def setInputCrop(self, crop: bool) -> Self:
        """Whether images keep their proportions and lose what is too much."""
        self._crop = bool(crop)
        return self

    def setOutputNames(self, outNames: Sequence[str]) -> Self:
        """The layers whose outputs `predict` returns."""
        self._output_names = tuple(outNames)
        return self

    def setPreferableBackend(self, backendId: int) -> Self:
        """See `Net.setPreferableBackend`."""
        self.net.setPreferableBackend(backendId)
        return self

    def setPreferableTarget(self, targetId: int) -> Self:
        """See `Net.setPreferableTarget`."""
        self.net.setPreferableTarget(targetId)
        return self

    def enableWinograd(self, useWinograd: bool) -> Self:
        """Accepted; it changes no result."""
        self.net.enableWinograd(useWinograd)
        return self

    def predict(self, frame: Array, outs: object = None) -> tuple[Floats, ...]:
        """The outputs of the net for an image (H, W, C), BGR, 0-255."""
        blob = self._blob(frame)
        self.net.setInput(blob)
        if IMAGE_INFO in self.net.inputs:
            size = self._size if all(self._size) else (blob.shape[3], blob.shape[2])
            info = np.array([[size[1], size[0], IMAGE_SCALE]], np.float32)
            self.net.setInput(info, IMAGE_INFO)
        made = self.net.forward(list(self._output_names))
        return made if isinstance(made, tuple) else (made,)

    def _only_output(self, frame: Array) -> tuple[Floats]:
        """`predict` of a net with one output. Raises OpenCVError if it has several."""
        made = self.predict(frame)
        if len(made) != 1:
            raise OpenCVError(
                f"the net has {len(made)} outputs: {', '.join(self._output_names)}.",
                advice="Choose one with setOutputNames.",
            )
        return (made[0],)

    def _blob(self, frame: Array) -> Floats:
        if not isinstance(frame, np.ndarray) or frame.size == 0 or frame.ndim not in (2, 3):
            raise OpenCVError(
                f"an image is an array (H, W, C), got {getattr(frame, 'shape', type(frame))}.",
                advice="cv2.imread returns None for a file that it cannot read.",
            )
        plain = len(set(self._scale)) == 1
        blob: Array = cv2.dnn.blobFromImage(
            frame, self._scale[0] if plain else 1.0, self._size, self._mean, self._swap, self._crop
        )
        if not plain:
            factors = np.array(self._scale[: blob.shape[1]], np.float32)
            blob = blob * factors[:, None, None]
        return blob

    def __repr__(self) -> str:
        return f"<moka.opencv.{type(self).__name__} of {self.net!r}>"


@methods_raise_cv2_error
class ClassificationModel(Model):
    """A net whose output is a score for each class."""

    _softmax = False

    def setEnableSoftmaxPostProcessing(self, enable: bool) -> Self:
        """Whether `classify` turns scores into probabilities; for nets without a Softmax layer."""
        self._softmax = bool(enable)
        return self

    def getEnableSoftmaxPostProcessing(self) -> bool:
        return self._softmax

    def classify(self, frame: Array) -> tuple[int, float]:
        """The best class of an image, and its score."""
        scores = self.predict(frame)[0].ravel()
        best = int(scores.argmax())
        if self._softmax:
            powers = np.exp(scores - scores[best])
            scores = powers / powers.sum()
        return best, float(scores[best])


@methods_raise_cv2_error
class DetectionModel(Model):
    """A net that ends with rows of detections: a DetectionOutput, or one of YOLO's."""

    _across_classes = False

    def setNmsAcrossClasses(self, value: bool) -> Self:
        """Accepted; DetectionOutput has done all suppression already."""
        self._across_classes = bool(value)
        return self

    def getNmsAcrossClasses(self) -> bool:
        return self._across_classes

    def detect(
        self, frame: Array, confThreshold: float = 0.5, nmsThreshold: float = 0.0
    ) -> Detections:
        """The objects in an image.

        Args:
            frame: (H, W, C), BGR, 0-255.
            confThreshold: the least confidence.
            nmsThreshold: without effect, as DetectionOutput has its own.

        Returns:
            Classes (N,) int32, confidences (N,) float32, boxes (N, 4) int32 as left, top, width,
            height in pixels of the image. Three empty tuples if there is nothing.
        """
        outputs = self.predict(frame)
        for name, output in zip(self._output_names, outputs, strict=True):
            if output.ndim != IMAGE_AXES or output.shape[3] != detections.ROW:
                kind = self.net.getLayer(name).type
                raise OpenCVError(
                    f"detect takes a net that ends with a DetectionOutput, this one ends with"
                    f' "{name}" ({kind}).'
                )
        rows = np.concatenate([output.reshape(-1, detections.ROW) for output in outputs])
        rows = rows[rows[:, 2] >= confThreshold]
        if not len(rows):
            return (), (), ()
        height, width = frame.shape[:2]
        return rows[:, 1].astype(np.int32), rows[:, 2].copy(), _boxes(rows[:, 3:], width, height)


@methods_raise_cv2_error
class SegmentationModel(Model):
    """A net whose output is a map of scores (N, classes, H, W)."""

    def segment(self, frame: Array, mask: object = None) -> Bytes:
        """The best class of each pixel of the map, (H, W) uint8; of equal ones the first."""
        (scores,) = self._only_output(frame)
        if scores.ndim != IMAGE_AXES:
            raise OpenCVError(f"segment takes a map of scores, the net gives {scores.shape}.")
        return scores[0].argmax(0).astype(np.uint8)


@methods_raise_cv2_error
class KeypointsModel(Model):
    """A net that finds points: its output is a heat map for each of them and one of the background
    (N, points + 1, H, W), or the points themselves (N, points, 2)."""

    def estimate(self, frame: Array, thresh: float = 0.5) -> Floats:
        """The points, (points, 2) float32, as x and y.

        Of a heat map it is the place of the largest value in pixels of the image; (-1, -1) if
        that is `thresh` or less.
        """
        (found,) = self._only_output(frame)
        if found.ndim == IMAGE_AXES:
            return _peaks(found[0, :-1], thresh, frame.shape[1], frame.shape[0])
        if found.ndim != 3 or found.shape[2] < 2:
            raise OpenCVError(f"estimate takes heat maps or points, the net gives {found.shape}.")
        return found[0, :, :2].copy()


def _peaks(maps: Floats, threshold: float, width: int, height: int) -> Floats:
    """Where each map (H, W) is largest, in an image of this size."""
    rows, columns = maps.shape[1:]
    flat = maps.reshape(len(maps), -1)
    places = flat.argmax(1)
    points = np.stack([places % columns, places // columns], 1).astype(np.float32)
    points *= np.array([width / columns, height / rows], np.float32)
    points[flat.max(1) <= threshold] = -1
    return points


def _boxes(corners: Floats, width: int, height: int) -> Int32s:
    """Left, top, width and height inside the image, in whole pixels.

    Corners are fractions of the image; they are pixels if that makes a box of more than two.
    """
    whole = _sizes(corners)
    as_fractions = _sizes(corners * np.array([width, height, width, height], np.float32))
    are_pixels = ((whole[:, 2] > 2) & (whole[:, 3] > 2))[:, None]
    boxes = np.where(are_pixels, whole, as_fractions)
    boxes[:, :2] = boxes[:, :2].clip(0, np.array([width - 1, height - 1]))
    room = np.array([width, height]) - boxes[:, :2]
    boxes[:, 2:] = np.maximum(1, np.minimum(boxes[:, 2:], room))
    return boxes


def _sizes(corners: Floats) -> Int32s:
    left_top, right_bottom = corners[:, :2].astype(np.int32), corners[:, 2:].astype(np.int32)
    return np.concatenate([left_top, right_bottom - left_top + 1], axis=1)
