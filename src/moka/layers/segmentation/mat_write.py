"""A layer that writes MATLAB files."""

from __future__ import annotations

import os

from torch import Tensor

from moka.errors import DataError, NetError
from moka.files import read_text_file
from moka.layers.base import Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.mat_file import write_mat
from moka.types import Shape


@layer(
    "MatWrite",
    bottoms=(1, None),
    tops=0,
    fork="PSPNet and DeepLab",
    differentiable=False,
    on_host=True,
    writes_files=True,
)
class MatWrite(Layer):
    """Writes each bottom to a MATLAB file of its own, as the array "data", W x H x C x N.

    Pass k, from 0 on, writes bottom i to <prefix><name>_blob_<i>.mat; the name is the first word of
    line k of the file `source`, less its last `strip` characters, or without a source iter_<k>.
    Only every `period`-th pass writes. Bottoms: at most 4 axes. They take no gradient. Message:
    mat_write_param.

    Errors: no prefix, or a folder that is not there; a name shorter than `strip`; more passes than
    names; a file that cannot be written.
    """

    prefix: str = option(required=True)
    source: str | None = option()
    strip: int = option(not_negative)
    period: int = option(positive)

    def setup(self, *bottoms: Shape) -> None:
        self.passes = 0
        folder = os.path.dirname(self.prefix) or "."
        if not os.access(folder, os.W_OK):
            raise NetError(f"prefix {self.prefix}: the folder {folder} cannot be written.")
        self.names: list[str] | None = None
        if self.source:
            words = (line.split() for line in read_text_file(self.source).splitlines())
            self.names = [self._stripped(found[0]) for found in words if found]

    def _stripped(self, name: str) -> str:
        if len(name) <= self.strip:
            raise NetError(f"{self.source}: {name} is too short to strip {self.strip} characters.")
        return name[: len(name) - self.strip]

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        for shape in bottoms:
            if len(shape) > 4:
                raise NetError(f"writes blobs of at most 4 axes, got shape {shape}.")
        return []

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        if self.passes % self.period == 0:
            for i, bottom in enumerate(bottoms):
                values = bottom.detach().cpu().reshape(*bottom.shape, *(1,) * (4 - bottom.dim()))
                write_mat(f"{self.prefix}{self._name()}_blob_{i}.mat", {"data": values.numpy()})
        self.passes += 1
        return []

    def _name(self) -> str:
        if self.names is None:
            return f"iter_{self.passes}"
        if self.passes >= len(self.names):
            raise DataError(
                f"{self.source} names {len(self.names)} files, and this is pass {self.passes + 1}."
            )
        return self.names[self.passes]
