"""`caffe.Detector`: a net that classifies windows of images, as R-CNN does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from caffe.classifier import NetOfImages
from caffe.errors import raised_as
from moka.errors import UsageError
from moka.predict.crops import check_context, crop_with_context, cut_window
from moka.predict.detect import detect_windows, selective_search
from moka.types import Array

FoundWindow = dict[str, Any]  # window, prediction, filename


class Detector(NetOfImages):
    """A net with one input, images, and one output, scores.

    Args:
        context_pad: how many pixels of its surroundings a crop shows at each side of a window.
        model_file: the net, a deploy.prototxt.
        pretrained_file: its weights.
        mean: subtracted: a value for each channel, or an image (C, H, W), in the net's order of
            channels.
        input_scale: a factor after the mean.
        raw_scale: a factor before the mean: 255 for images from 0 to 1.
        channel_swap: the order of channels that the net takes: (2, 1, 0) makes BGR of RGB.

    Attributes:
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
        super().__init__(model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the context around windows, and from the transformer `crop_dims` and `crop_mean`.

        Raises:
            UsageError: the context leaves nothing of the window.
        """
        name = self.inputs[0]
        channels, height, width = self.blobs[name].data.shape[1:]
        check_context(context_pad or 0, (height, width))
        self.crop_dims = np.array((height, width, channels))
        self.context_pad = context_pad or 0
        self.crop_mean = self.transformer.preparation(name).mean_image()

    def crop(self, im: Array, window: Sequence[int] | Array) -> Array:
        """The image part that the net gets for a window.

        Args:
            im: (H, W, K).
            window: ymin, xmin, ymax, xmax in pixels.

        Returns:
            The window in its own size; with `context_pad` a crop (height, width, K) of the window
            and its surroundings, and `crop_mean` where that lies outside of the image.

        Raises:
            ValueError: nothing of the window is in the image.
        """
        with raised_as(ValueError):
            if not self.context_pad:
                return cut_window(im, window)
            return crop_with_context(
                im,
                window,
                context_pad=self.context_pad,
                shape=tuple(self.crop_dims.tolist()),
                fill=self.crop_mean,
            )

    def _crop(self, image: Array, window: Any) -> Array:
        """`crop`, which a subclass may replace, with its error as Moka's functions raise it."""
        try:
            return self.crop(image, window)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def detect_windows(
        self, images_windows: Iterable[tuple[str, Iterable[Sequence[int] | Array]]]
    ) -> list[FoundWindow]:
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
        with raised_as(ValueError):
            found = detect_windows(images_windows, self._crop, self._prepare, self._score)
        return [detection._asdict() for detection in found]

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[FoundWindow]:
        """Run the net over the windows that selective search proposes for image files.

        Raises:
            UsageError: the module that runs selective search is not installed.
        """
        return self.detect_windows(selective_search(image_fnames))
