"""`caffe.Detector`: a net that says what is in windows of images, as R-CNN does.

Girshick et al., Rich feature hierarchies for accurate object detection and semantic segmentation,
2014 (appendix A tells how windows are warped with their context).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from caffe import io
from caffe.classifier import image_transformer
from caffe.net import Net
from moka.errors import UsageError
from moka.schema import caffe_pb2
from moka.types import Array

Detection = dict[str, Any]  # window, prediction, filename


class Detector(Net):
    """A net with one input, images, and one output, scores.

    Args:
        model_file, pretrained_file: the net (a deploy.prototxt) and its weights.
        mean, input_scale, raw_scale, channel_swap: as those of `caffe.Classifier`.
        context_pad: so many pixels of what surrounds a window are at each side of its crop.

    Attributes:
        transformer: what prepares a crop, `caffe.io.Transformer`.
        crop_dims: (height, width, channels) of crops.
        crop_mean: what a crop holds where it lies outside of the image, (1, 1, K) or (H, W, K).
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the context around windows, and from the transformer `crop_dims` and `crop_mean`.

        Raises:
            UsageError: the context leaves nothing of the window.
        """
        name = self.inputs[0]
        channels, height, width = self.blobs[name].data.shape[1:]
        self.crop_dims = np.array((height, width, channels))
        self.context_pad = context_pad or 0
        if 2 * self.context_pad >= min(height, width):
            raise UsageError(
                f"context_pad {context_pad} on each side leaves nothing of a crop of"
                f" {height} x {width}. Give a smaller one."
            )
        self.crop_mean = self._mean_of_images(name)

    def _mean_of_images(self, name: str) -> Array:
        """The mean as images are before they are prepared; zeros if there is none."""
        mean = self.transformer.mean.get(name)
        if mean is None:
            return np.zeros(self.crop_dims, np.float32)
        planes = mean.reshape(-1, *mean.shape[-2:]) / self.transformer.raw_scale.get(name, 1)
        swap = self.transformer.channel_swap.get(name, range(len(planes)))
        return planes[np.argsort(swap)].transpose(1, 2, 0)

    def crop(self, im: Array, window: Sequence[int] | Array) -> Array:
        """What the net is to see of a window.

        Args:
            im: (H, W, K).
            window: ymin, xmin, ymax, xmax in pixels.

        Returns:
            The window itself, of its own size; with `context_pad` a crop (height, width, K) of the
            window and its context, and the mean where that lies outside of the image.

        Raises:
            ValueError: nothing of the window is in the image.
        """
        box = np.asarray(window)
        if self.context_pad:
            return self._with_context(im, box)
        y1, x1, y2, x2 = (int(n) for n in box)
        return _cut(im, y1, x1, y2, x2, box)

    def _with_context(self, im: Array, window: Array) -> Array:
        size = int(self.crop_dims[1])  # crops are square
        half = (window[2:] - window[:2] + 1) / 2
        centre = window[:2] + half
        half = half * size / (size - 2 * self.context_pad)
        first, last = np.round(centre - half), np.round(centre + half)
        scale = size / (last - first + 1)  # crop pixels for one of the image
        offset = np.round(np.maximum(-first, 0) * scale).astype(int)
        first, last = (np.clip(corner, 0, im.shape[:2]) for corner in (first, last))
        extent = np.round((last - first + 1) * scale).astype(int)
        extent = np.minimum(extent, size - offset)
        (y1, x1), (y2, x2) = first.astype(int), last.astype(int)
        inside = io.resize_image(_cut(im, y1, x1, y2, x2, window), np.maximum(extent, 1))
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        (top, left), (h, w) = offset, extent
        crop[top : top + h, left : left + w] = inside[:h, :w]
        return crop

    def detect_windows(
        self, images_windows: Iterable[tuple[str, Iterable[Sequence[int] | Array]]]
    ) -> list[Detection]:
        """Run the net over windows of image files.

        Args:
            images_windows: file names, each with its windows: ymin, xmin, ymax, xmax in pixels.

        Returns:
            For each window, in their order, a dict of `window`, `prediction` (the net's output for
            it) and `filename`.

        Raises:
            OSError, DataError: an image that cannot be read.
            ValueError: a window outside of its image.
        """
        name = self.inputs[0]
        found: list[Detection] = []
        inputs = []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                try:
                    crop = self.crop(image, window)
                except ValueError as error:
                    raise ValueError(f"{filename}: {error}") from None
                inputs.append(self.transformer.preprocess(name, crop))
                found.append({"window": window, "prediction": None, "filename": filename})
        if not inputs:
            return found
        scores = self.forward_all(None, **{name: np.array(inputs)})[self.outputs[0]]
        for detection, score in zip(found, scores, strict=True):
            detection["prediction"] = score
        return found

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[Detection]:
        """Run the net over the windows that selective search proposes for image files.

        It is a program of its own, in MATLAB, run by the module selective_search_ijcv_with_python.

        Raises:
            UsageError: that module is not installed.
        """
        try:
            import selective_search_ijcv_with_python as selective_search
        except ImportError:
            raise UsageError(
                "selective search needs the module selective_search_ijcv_with_python and MATLAB,"
                " which are not installed.",
                advice="Give windows of your own to detect_windows (caffe detect:"
                " --crop_mode list).",
            ) from None
        paths = [os.path.abspath(name) for name in image_fnames]  # MATLAB is elsewhere
        windows = selective_search.get_windows(paths, cmd="selective_search_rcnn")
        return self.detect_windows(zip(paths, windows, strict=True))


def _cut(im: Array, y1: int, x1: int, y2: int, x2: int, window: Array) -> Array:
    part = im[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if not part.size:
        h, w = im.shape[:2]
        raise ValueError(
            f"the window {window.tolist()} (ymin, xmin, ymax, xmax) holds nothing of the image,"
            f" which is {h} x {w}."
        )
    return part
