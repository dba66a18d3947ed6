"""`caffe.Segmenter`, which the pycaffe of CRF-RNN has: a class for each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caffe.net import Net
from moka.context import set_device, set_mode_gpu
from moka.errors import NetError
from moka.schema.caffe_pb2 import TEST
from moka.types import Array


class Segmenter(Net):
    """A net that says of each pixel what it shows.

    Args:
        model_file: the prototxt, with one input and one output (N, classes, H, W).
        pretrained_file: its weights.
        gpu: compute on the first GPU.
    """

    def __init__(self, model_file: str, pretrained_file: str, gpu: bool = False) -> None:
        if gpu:
            set_mode_gpu()
            set_device(0)
        super().__init__(model_file, TEST, weights=pretrained_file)

    def predict(self, inputs: Sequence[Array]) -> NDArray[np.uint8]:
        """The number of the likeliest class of each pixel of the first image, (H, W).

        Args:
            inputs: images (H, W, K) of the size and in the colors that the net takes, less their
                mean: these nets take BGR, filled up with zeros to 500 x 500.

        Raises:
            NetError: the images have another size.
        """
        images = [np.moveaxis(np.asarray(image), -1, 0) for image in inputs]
        wanted = self.blobs[self.inputs[0]].data.shape[1:]
        for shape in (image.shape for image in images):
            if shape != wanted:
                raise NetError(
                    f"an image has {shape[0]} channels, height and width {shape[1:]}; the net takes"
                    f" {wanted[0]} channels, {wanted[1:]}.",
                    file=self._net.graph.file,
                    advice="Fill it up with zeros.",
                )
        scores = self.forward_all(None, **{self.inputs[0]: np.stack(images)})[self.outputs[0]]
        return scores[0].argmax(axis=0).astype(np.uint8)
