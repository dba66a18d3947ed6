"""`caffe.Classifier`: a net that says what is on images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from caffe import io
from caffe.net import Net
from moka.schema import caffe_pb2
from moka.types import Array


def image_transformer(
    net: Net,
    mean: Array | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """The transformer of images (H, W, K) to a net's first input; `caffe.io` describes the rest."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].data.shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer


class Classifier(Net):
    """A net with one input, images, and one output, a score for each class.

    Args:
        model_file, pretrained_file: the net (a deploy.prototxt) and its weights.
        image_dims: (height, width) that images are resized to before they are cropped; None: the
            size of the crops, which is the net's input.
        mean: subtracted: a value for each channel, or an image (C, H, W), in the net's order of
            channels.
        raw_scale: a factor before the mean: 255 for images from 0 to 1.
        input_scale: a factor after the mean.
        channel_swap: the order of channels that the net takes: (2, 1, 0) makes BGR of RGB.

    Attributes:
        transformer: what prepares a crop, `caffe.io.Transformer`.
        crop_dims, image_dims: (height, width).
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else np.array(image_dims)

    def predict(self, inputs: Iterable[Array], oversample: bool = True) -> NDArray[np.float32]:
        """The scores of some images.

        Args:
            inputs: (H, W, K) each, as `caffe.io.load_image` gives them.
            oversample: the mean over ten crops of an image (`caffe.io.oversample`); else the scores
                of its middle.

        Returns:
            (N, classes).

        Raises:
            ValueError: no images, or of another number of channels than the net takes.
        """
        name = self.inputs[0]
        channels = self.blobs[name].data.shape[1]
        images = [io.resize_image(image, self.image_dims) for image in inputs]
        for i, image in enumerate(images):
            if image.shape[2] != channels:
                raise ValueError(
                    f"image {i} has {image.shape[2]} channels, the net takes {channels}."
                )
        if not images:
            raise ValueError("there is no image to classify.")
        if oversample:
            crops = io.oversample(images, self.crop_dims)
        else:
            middle = io.center_crop(self.image_dims, self.crop_dims)
            crops = np.array([image[middle] for image in images])
        batch = np.array([self.transformer.preprocess(name, crop) for crop in crops])
        scores = self.forward_all(None, **{name: batch})[self.outputs[0]]
        return scores.reshape(len(images), 10, -1).mean(1) if oversample else scores
