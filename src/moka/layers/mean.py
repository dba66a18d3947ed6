"""A layer that adds or subtracts a mean."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from moka.data.transform import read_mean_image
from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import require_axes
from moka.types import Shape


@layer("Mean", bottoms=(1, None), tops=(1, None), fork="FlowNet2")
class Mean(Layer):
    """Add a mean to each bottom, or with operation: SUBTRACT take it off:
    top = output_scale (input_scale x ± mean_scale mean).

    The mean is one number for each channel (`value`), or the image in `file`, a BlobProto as
    compute_image_mean writes it; a bottom may have several times its channels, and repeats it.

    Bottoms: any number, (N, C, ...). Tops: one for each, of the same shape. Message: mean_param.
    FlowNet2 has no gradient for it; here the gradient is exact.

    Errors: no mean; another number of tops; a bottom that the mean does not fit.
    """

    operation: str | None = option(unset_is_none=True)
    file: str | None = option()
    value: tuple[float, ...] = option()
    mean_scale: float = option()
    input_scale: float = option()
    output_scale: float = option()

    def setup(self, *bottoms: Shape) -> None:
        if self.top_count != len(bottoms):
            raise NetError(f"needs as many tops as bottoms, {len(bottoms)}, got {self.top_count}.")
        self.mean = np.array(self.value, np.float32)
        if self.file:
            self.mean = read_mean_image(self.file)
        if not self.mean.size:
            raise NetError("needs a value for each channel, or a file.")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        for x in bottoms:
            require_axes(2, x)
            fits = self.mean.ndim == 1 or x[2:] == self.mean.shape[1:]
            if not fits or x[1] % len(self.mean):
                raise NetError(
                    f"a mean of shape {self.mean.shape} does not fit a bottom of shape {x}."
                )
        return list(bottoms)

    def addend(self, channels: int, axes: int) -> Tensor:
        """± mean_scale mean, in a shape that broadcasts over a bottom with so many channels and
        axes."""
        mean = torch.from_numpy(self.mean)
        mean = mean.view(*mean.shape, *[1] * (axes - 1 - mean.dim()))
        mean = mean.repeat(channels // len(mean), *[1] * (mean.dim() - 1))
        return mean * (-self.mean_scale if self.operation == "SUBTRACT" else self.mean_scale)

    def forward(self, *bottoms: Tensor) -> Tensor | list[Tensor]:
        tops = [
            self.output_scale * (self.input_scale * x + self.addend(x.shape[1], x.dim()).to(x))
            for x in bottoms
        ]
        return tops if len(tops) > 1 else tops[0]
