"""`caffe.Classifier`: a net that classifies images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffe import io
from caffe.errors import raised_as
from caffe.net import Net
from moka.errors import NetError
from moka.predict.classify import classify
from moka.predict.prepare import IMAGE_AXES
from moka.schema import caffe_pb2
from moka.types import Array, Floats


class NetOfImages(Net):
    """A net with one input, images, and one output, scores.

    Args:
        model_file: the net, a deploy.prototxt.
        pretrained_file: its weights.
        mean: subtracted: a value for each channel, or an image (C, H, W), in the net's order of
            channels.
        input_scale: a factor after the mean.
        raw_scale: a factor before the mean: 255 for images from 0 to 1.
        channel_swap: the order of channels that the net takes: (2, 1, 0) makes BGR of RGB.

    Attributes:
        transformer: prepares crops for the net (`caffe.io.Transformer`).
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        if not self.inputs:
            raise NetError(
                "the net has no input: its data layers read the images.",
                file=self._net.graph.file,
                advice="Give a deploy.prototxt; `caffe make_deploy` makes one of it.",
            )
        name = self.inputs[0]
        self.transformer = io.Transformer({name: self.blobs[name].data.shape})
        self.transformer.set_transpose(name, IMAGE_AXES)
        if mean is not None:
            self.transformer.set_mean(name, mean)
        if input_scale is not None:
            self.transformer.set_input_scale(name, input_scale)
        if raw_scale is not None:
            self.transformer.set_raw_scale(name, raw_scale)
        if channel_swap is not None:
            self.transformer.set_channel_swap(name, channel_swap)

    def _prepare(self, crop: Array) -> Floats:
        return self.transformer.preprocess(self.inputs[0], crop)

    def _score(self, images: Floats) -> Floats:
        return self.forward_all(None, **{self.inputs[0]: images})[self.outputs[0]]


class Classifier(NetOfImages):
    """A net with one input, images, and one output, a score for each class.

    Args:
        image_dims: (height, width) that images are resized to before they are cropped; None (or 0):
            the size of the crops, which is the net's input.
        model_file: the net, a deploy.prototxt.
        pretrained_file: its weights.
        mean: subtracted: a value for each channel, or an image (C, H, W), in the net's order of
            channels.
        input_scale: a factor after the mean.
        raw_scale: a factor before the mean: 255 for images from 0 to 1.
        channel_swap: the order of channels that the net takes: (2, 1, 0) makes BGR of RGB.

    Attributes:
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
        super().__init__(model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        given = np.array(0 if image_dims is None else image_dims)
        self.image_dims = given if given.any() else self.crop_dims

    def predict(self, inputs: Iterable[Array], oversample: bool = True) -> Floats:
        """The scores of some images.

        Args:
            inputs: (H, W, K) each, as `caffe.io.load_image` returns them.
            oversample: take the mean over ten crops of each image (`caffe.io.oversample`), else
                the scores of its middle.

        Returns:
            (N, classes).

        Raises:
            ValueError: no images, an image that is in no list, or images of another number of
                channels than the net takes.
            TypeError: `image_dims` is not a height and a width; names of files in place of images.
        """
        if np.shape(self.image_dims) != (2,):
            raise TypeError(
                f"image_dims is (height, width), found {self.image_dims}. A caffe.Classifier is for"
                " testing always, and takes no phase."
            )
        with raised_as(ValueError):
            return classify(
                io.image_list(inputs),
                self._prepare,
                self._score,
                input_shape=self.blobs[self.inputs[0]].data.shape[1:],
                image_size=self.image_dims,
                crop_size=self.crop_dims,
                average_crops=oversample,
            )
