"""The layer that writes MATLAB's files."""

from __future__ import annotations

import os
from functools import cached_property

from torch import Tensor

from moka.data.lists import read_names
from moka.data.mat_file import write_mat
from moka.errors import DataError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.types import Shape


@layer(
    "MatWrite",
    bottoms=(1, None),
    tops=0,
    differentiable=False,
    on_host=True,
    writes_files=True,
    fork="PSPNet and DeepLab",
)
class MatWrite(Layer):
    """Writes its bottoms to MATLAB's files, one for each bottom and pass.

    Bottom k of a pass becomes the array `data` in the file PREFIX NAME _blob_ k .mat; a bottom
    (N, C, H, W) is W x H x C x N in MATLAB. NAME is that pass's line of the list `source`, without
    its last `strip` characters, or without a list the number of the pass, from 0. Of `period`
    passes only the first one writes. Folders are made. Message: mat_write_param. No gradient.

    Errors: a list that cannot be read; more passes than names.
    """

    prefix: str = option(required=True)
    source: str = option(default="")
    strip: int = option(not_negative)
    period: int = option(positive)

    def setup(self, *bottom_shapes: Shape) -> None:
        self.passes = 0

    @cached_property
    def names(self) -> list[str]:
        """The names in the list."""
        return [name[: len(name) - self.strip] for name in read_names(self.source)]

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        return []

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        if self.passes % self.period == 0:
            self._write(bottoms, self._name())
        self.passes += 1
        return []

    def _name(self) -> str:
        if not self.source:
            return str(self.passes)
        if self.passes >= len(self.names):
            raise DataError(
                f"{self.source} has {len(self.names)} names; this is pass {self.passes + 1}."
            )
        return self.names[self.passes]

    def _write(self, bottoms: tuple[Tensor, ...], name: str) -> None:
        for k, bottom in enumerate(bottoms):
            path = f"{self.prefix}{name}_blob_{k}.mat"
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            write_mat(path, {"data": bottom.detach().cpu().numpy()})
