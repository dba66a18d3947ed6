"""Convolutions of each channel by itself, which two forks have as types of their own."""

from __future__ import annotations

from moka.errors import NetError
from moka.layers.conv import Convolution, convolution_layer
from moka.types import Shape


@convolution_layer("DepthwiseConvolution", fork="MobileNet")
class DepthwiseConvolution(Convolution):
    """A Convolution whose `group`, where it is not given, is the number of channels C.

    Bottoms, tops, blobs, options and errors: those of Convolution; blobs are weight
    (num_output, 1, kernel...) and bias (num_output,). Howard et al., 2017.
    """

    def setup(self, x: Shape, *others: Shape) -> None:
        super().setup(x)
        if not self.config.convolution_param.HasField("group"):
            self.group = max(1, self.channels)


@convolution_layer("ConvolutionDepthwise", fork="MobileNet")
class ConvolutionDepthwise(Convolution):
    """A Convolution with one kernel for each channel: num_output = group = C.

    Bottoms, tops, blobs and options: those of Convolution; `group` does not count. Blobs: weight
    (C, 1, kernel...), bias (C,).

    Errors: those of Convolution; a num_output other than C.
    """

    def setup(self, x: Shape, *others: Shape) -> None:
        super().setup(x)
        self.group = max(1, self.channels)
        if self.num_output != self.channels:
            raise NetError(
                f"num_output must be the number of channels, {self.channels}, got"
                f" {self.num_output}."
            )
