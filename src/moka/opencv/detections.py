"""DetectionOutput in OpenCV's form: by falling score, and always as many rows as may be kept."""

from __future__ import annotations

import numpy as np

from moka.opencv.names import NamedLayer
from moka.types import Floats, Shape

TYPE = "DetectionOutput"
ROW = 7  # image, class, confidence, left, top, right, bottom


def filled_up(rows: Floats, layer: NamedLayer, images: int) -> Floats:
    """The rows that hold a detection, by image and then by falling score, where Caffe has them by
    class; then rows of zeros up to `keep_top_k` for each image.

    Args:
        rows: what Caffe makes, (1, 1, N, 7): if nothing was found, a row of -1 for each image.
        layer: a DetectionOutput.
        images: how many images the net got.
    """
    found = rows.reshape(-1, ROW)
    found = found[found[:, 1] >= 0]
    found = found[np.lexsort((-found[:, 2], found[:, 0]))]
    count = max(len(found), _most(layer, images))
    made = np.zeros((1, 1, count, ROW), np.float32)
    made[0, 0, : len(found)] = found
    return made


def filled_shape(layer: NamedLayer, images: int) -> Shape:
    """The shape of a full output; if `keep_top_k` is below 0, the shape of one row."""
    return (1, 1, max(1, _most(layer, images)), ROW)


def _most(layer: NamedLayer, images: int) -> int:
    return images * max(0, layer.message.detection_output_param.keep_top_k)
