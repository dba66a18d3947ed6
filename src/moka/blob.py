"""The border between tensors and NumPy: a Blob has `data` and `diff`, each a `Memory`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import index
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from moka.errors import NetError
from moka.memory import CPU, Memory, ParameterMemory, check_shape, row_major
from moka.types import Shape


class Blob:
    """An N-dimensional array with its gradient, as Caffe's users know it.

    Args:
        shape: any number of axes, 0 too.
        diff_value: what the diff holds before anything is written (a loss: its weight).
        device: where the net runs.
    """

    def __init__(
        self, shape: Sequence[int] = (), diff_value: float = 0.0, device: torch.device = CPU
    ) -> None:
        self.data_memory = Memory(tuple(shape), device=device)
        self.diff_memory = Memory(tuple(shape), diff_value, device)

    @classmethod
    def of_parameter(cls, parameter: nn.Parameter, shape: Shape) -> Blob:
        """The blob whose memory is a parameter's."""
        blob = cls(shape)
        blob.show_parameter(parameter)
        return blob

    def show_parameter(self, parameter: nn.Parameter) -> None:
        """Show a parameter from now on: its values as data, its gradient as diff."""
        shape = self.data_memory.shape
        self.data_memory = ParameterMemory(parameter, grad=False, shape=shape)
        self.diff_memory = ParameterMemory(parameter, grad=True, shape=shape)

    @property
    def data(self) -> NDArray[np.float32]:
        """The values: a live float32 view; writing to it changes the net."""
        return self.data_memory.array()

    @data.setter
    def data(self, values: Any) -> None:
        """Allows `blob.data += x`; use `blob.data[...] = x` to write."""
        self.data_memory.array()[...] = values

    @property
    def diff(self) -> NDArray[np.float32]:
        """The gradient: a live float32 view, shaped like the values."""
        return self.fitted_diff_memory().array()

    @diff.setter
    def diff(self, values: Any) -> None:
        self.diff_memory.array()[...] = values

    def fitted_diff_memory(self) -> Memory:
        """The memory of the gradient, in the values' shape."""
        if self.diff_memory.shape != self.data_memory.shape:
            self.diff_memory.reshape(self.data_memory.shape)
        return self.diff_memory

    @property
    def shape(self) -> IntVec:
        """The sizes of its axes; a copy, as in pycaffe."""
        return IntVec(self.data_memory.shape)

    @property
    def count(self) -> int:
        """The number of elements."""
        return prod(self.data_memory.shape)

    def reshape(self, *shape: SupportsIndex) -> None:
        """Change the shape; memory is kept where it is large enough.

        Raises:
            TypeError: sizes that are no whole numbers.
            NetError: a shape that no blob can have.
        """
        if len(shape) == 1 and np.asarray(shape[0]).ndim:
            raise TypeError("reshape takes sizes, not a list of them: write reshape(*shape).")
        sizes = tuple(map(index, shape))
        check_shape(sizes)
        self.data_memory.reshape(sizes)
        self.diff_memory.reshape(sizes)

    def offset(self, *indices: int) -> int:
        """Position of an element in row-major memory: ((n * C + c) * H + h) * W + w."""
        strides = row_major(self.data_memory.shape)
        return sum(i * stride for i, stride in zip(indices, strides, strict=False))

    def _legacy(self, axis: int) -> int:
        shape = self.data_memory.shape
        if len(shape) > 4:
            raise NetError(
                f"num, channels, height and width are for at most 4 axes, this blob has"
                f" {len(shape)}.",
                advice="Use shape.",
            )
        return shape[axis] if axis < len(shape) else 1

    @property
    def num(self) -> int:
        """Size of the first axis: how many items; 1 if there is no such axis."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """Size of the second axis; 1 if there is none."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """Size of the third axis; 1 if there is none."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """Size of the fourth axis; 1 if there is none."""
        return self._legacy(3)

    @property
    def _gpu_data_ptr(self) -> int:
        """Address of the values on the GPU, for libraries that work there."""
        return self._address(self.data_memory)

    @property
    def _gpu_diff_ptr(self) -> int:
        """Address of the gradient on the GPU."""
        return self._address(self.diff_memory)

    def _address(self, memory: Memory) -> int:
        if memory.device.type == "cpu":
            raise NetError("this blob is on the CPU and has no address on a GPU.")
        return memory.mutable_gpu_data().data_ptr()

    def __repr__(self) -> str:
        return f"Blob(shape={self.data_memory.shape}, data={self.data_memory.state.name})"


class IntVec(list[int]):
    """pycaffe's list of whole numbers; equal to a tuple of the same numbers too."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, tuple) else other)


class _Blobs(list[Blob]):
    def __setitem__(self, place: Any, value: Any) -> None:
        blobs = list(value) if isinstance(place, slice) else [value]
        if not all(isinstance(blob, Blob) for blob in blobs):
            raise TypeError(
                f"a list of blobs takes Blobs, found {type(value).__name__}; to change the values"
                " of one write blobs[i].data[...] = values."
            )
        super().__setitem__(place, blobs if isinstance(place, slice) else value)


class RawBlobVec(_Blobs):
    """pycaffe's list of blobs that belong to others: the bottoms and tops of a Python layer."""


class BlobVec(_Blobs):
    """pycaffe's list of blobs."""

    def add_blob(self, *shape: int) -> None:
        """Append a blob of zeros."""
        self.append(Blob(shape))
