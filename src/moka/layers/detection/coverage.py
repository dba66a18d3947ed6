"""DetectNet's truth: the boxes of an image as maps over a grid of cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moka.errors import NetError
from moka.layers.options import option, positive
from moka.schema import caffe_pb2
from moka.types import Floats, Shape

PLACES = 8  # channels before those of the classes
EPSILON = np.finfo(np.float32).eps
TRUTH = "detectnet_groundtruth_param"
CLASS = 5  # the place of the class in a box's numbers, after x, y, width and height


class CoverageOptions:
    """The options of `detectnet_groundtruth_param`, and the maps that they ask for."""

    stride: int = option(positive, of=TRUTH)
    scale_cvg: float = option(of=TRUTH)
    gridbox_type: str = option(of=TRUTH)
    max_cvg_len: int = option(of=TRUTH)
    min_cvg_len: int = option(of=TRUTH)
    coverage_type: str = option(of=TRUTH)
    image_size_x: int = option(positive, of=TRUTH)
    image_size_y: int = option(positive, of=TRUTH)
    obj_norm: bool = option(of=TRUTH)
    crop_bboxes: bool = option(of=TRUTH)
    object_class: tuple[caffe_pb2.DetectNetClassMapping, ...] = option(of=TRUTH)

    def map_shape(self) -> Shape:
        """Channels, rows and columns of an image's maps.

        Raises:
            NetError: an image smaller than half a cell.
        """
        rows, columns = (
            round(size / self.stride) for size in (self.image_size_y, self.image_size_x)
        )
        if not rows or not columns:
            raise NetError(
                f"stride {self.stride} leaves no cell of an image of"
                f" {self.image_size_x} x {self.image_size_y}."
            )
        return PLACES + max(self._classes().values()) + 1, rows, columns

    def _classes(self) -> dict[int, int]:
        """The map of each class that counts; class 1, KITTI's cars, if none is named."""
        return {each.src: each.dst for each in self.object_class} or {1: 0}

    def maps(self, boxes: Floats) -> Floats:
        """The maps of an image with these boxes (K, 16), later boxes over earlier ones."""
        out = np.zeros(self.map_shape(), np.float32)
        classes = self._classes()
        for box in boxes:
            first, size = box[:2], box[2:4]
            if self.crop_bboxes:
                last = np.minimum(first + size, (self.image_size_x, self.image_size_y))
                first = np.maximum(first, 0)
                size = np.maximum(last - first, 0)
            if int(box[CLASS]) in classes and size.prod() >= EPSILON:
                self._mark(out, first, size, classes[int(box[CLASS])])
        return out

    def _mark(self, out: Floats, first: Floats, size: Floats, chosen: int) -> None:
        """Write a box into the cells that its middle covers."""
        covered = self._covered(size)
        begin = first + size / 2 - covered / 2
        spans = [
            self._cells(b, c, cells)
            for b, c, cells in zip(begin, covered, out.shape[:0:-1], strict=True)
        ]
        (columns, widths), (rows, heights) = spans
        area = np.outer(heights, widths) / np.float32(self.stride**2)
        y, x = (k.ravel() for k in np.meshgrid(rows, columns, indexing="ij"))
        seen = area.ravel() > EPSILON
        y, x = y[seen], x[seen]
        corner = np.stack((x, y)).astype(np.float32) * np.float32(self.stride)
        norm = self.stride**2 / max(float(covered.prod()), float(EPSILON))
        out[0, y, x] = 1
        out[1:3, y, x] = first[:, None] - corner
        out[3:5, y, x] = (first + size)[:, None] - corner
        out[5:7, y, x] = (1 / size)[:, None]
        out[7, y, x] = norm if self.obj_norm else max(1.0, norm)
        out[PLACES:, y, x] = 0
        out[PLACES + chosen, y, x] = 1

    def _covered(self, size: Floats) -> Floats:
        """Width and height of the part around a box's center that stands for it."""
        covered = size * np.float32(self.scale_cvg)
        if self.gridbox_type == "GRIDBOX_MIN":
            return np.minimum(size, np.maximum(covered, np.float32(self.min_cvg_len)))
        return np.minimum(covered, np.float32(self.max_cvg_len))

    def _cells(
        self, begin: float, length: float, cells: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The cells that a span touches along an axis, and how long it lies in each of them."""
        step = self.stride
        first = min(max(int(np.floor(begin / step)), 0), cells)
        last = min(max(int(np.ceil((begin + length) / step)), first), cells)
        places = np.arange(first, last)
        inside = np.minimum((places + 1) * step, begin + length) - np.maximum(places * step, begin)
        return places, np.maximum(inside, 0).astype(np.float32)
