"""The border between tensors and NumPy: a Blob has `data` and `diff`, each on two sides.

A Memory is one array that may be on the host, on a device, or on both. It takes no memory before
it is touched, and copies only when the side that is asked for is stale. An array once handed out
stays live: later results are written into that same memory. Only what was handed out pays for
this; everything else simply takes the tensor it is given.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from operator import index
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moka.errors import NetError
from moka.types import Shape

CPU = torch.device("cpu")


MOST_AXES = 32  # as in BVLC Caffe
MOST_ELEMENTS = 2**48  # a petabyte


def check_shape(shape: Shape) -> None:
    """Raises NetError if no blob can have this shape."""
    if len(shape) > MOST_AXES:
        raise NetError(f"a blob has at most {MOST_AXES} axes, here are {len(shape)}.")
    if min(shape, default=0) < 0:
        raise NetError(f"the sizes of a blob's axes must be >= 0, got shape {shape}.")
    if prod(shape) > MOST_ELEMENTS:
        raise NetError(f"a blob of shape {shape} is larger than any memory.")


class State(enum.Enum):
    """Which side of a Memory is current."""

    UNINITIALIZED = 0
    HEAD_AT_CPU = 1
    HEAD_AT_GPU = 2
    SYNCED = 3


class Memory:
    """One float32 array on the host, on a device, or on both.

    Args:
        shape: of the array.
        value: what every element is before anything is written.
        device: where its device side lies.
    """

    def __init__(self, shape: Shape, value: float = 0.0, device: torch.device = CPU) -> None:
        self.shape = shape
        self.state = State.UNINITIALIZED
        self.device = device
        self.handed_out = False
        self._borrowed = False  # an engine's, not to be written to; so for the device's side
        self._gpu_borrowed = False
        self._value = value
        self._host: Tensor | None = None
        self._gpu: Tensor | None = None

    def cpu_data(self) -> Tensor:
        """The array on the host, for reading. Copies if the device's side is newer."""
        if self.state is State.UNINITIALIZED:
            self._host = torch.full(self.shape, self._value)
            self.state = State.HEAD_AT_CPU
        elif self.state is State.HEAD_AT_GPU:
            assert self._gpu is not None
            if self._host is None or self._host.shape != self._gpu.shape:
                self._host = self._gpu.cpu()
            else:
                self._host.copy_(self._gpu)
            self.state = State.SYNCED
        assert self._host is not None
        return self._host

    def gpu_data(self) -> Tensor:
        """The array on the device, for reading. Copies if the host's side is newer."""
        if self.state is State.UNINITIALIZED:
            self._gpu = torch.full(self.shape, self._value, device=self.device)
            self.state = State.HEAD_AT_GPU
        elif self.state is State.HEAD_AT_CPU:
            assert self._host is not None
            if self._gpu is None or self._gpu_borrowed or self._gpu.shape != self._host.shape:
                self._gpu, self._gpu_borrowed = self._host.to(self.device), False
            else:
                self._gpu.copy_(self._host)
            self.state = State.SYNCED
        assert self._gpu is not None
        return self._gpu

    def mutable_cpu_data(self) -> Tensor:
        """The array on the host, for writing: the device's side becomes stale."""
        data = self.cpu_data()
        self.state = State.HEAD_AT_CPU
        return data

    def mutable_gpu_data(self) -> Tensor:
        """The array on the device, for writing: the host's side becomes stale."""
        data = self.gpu_data()
        self.state = State.HEAD_AT_GPU
        return data

    def tensor(self) -> Tensor:
        """The array where the net runs, for reading."""
        return self.cpu_data() if self.device.type == "cpu" else self.gpu_data()

    def put(self, tensor: Tensor) -> None:
        """Take a result. Only a Memory whose array was handed out copies it."""
        if self.handed_out:
            self.reshape(tuple(tensor.shape))
        if self.handed_out:
            assert self._host is not None
            if self._host.data_ptr() != tensor.data_ptr() or tensor.device.type != "cpu":
                self._host.copy_(tensor)
            self.state = State.HEAD_AT_CPU  # its reader may write at any moment
            return
        self.shape = tuple(tensor.shape)
        if tensor.device.type == "cpu":
            self._host, self.state, self._borrowed = tensor, State.HEAD_AT_CPU, True
        else:
            self._gpu, self.state, self._gpu_borrowed = tensor, State.HEAD_AT_GPU, True

    def array(self) -> NDArray[np.float32]:
        """A live, writable NumPy view of the host's side."""
        host = self.mutable_cpu_data()
        # What is borrowed an engine may need as it is for the backward pass.
        if self._borrowed or not host.is_contiguous() or host.dtype != torch.float32:
            host = torch.empty(host.shape).copy_(host)  # row-major, as Caffe's
            self._host, self._borrowed = host, False
        self.handed_out = True
        return host.detach().numpy()

    def reshape(self, shape: Shape) -> None:
        """Change the shape; the memory is kept as long as it is large enough, with its values."""
        if shape == self.shape:
            return
        self.shape = shape
        if not self.handed_out and self._host is None:
            self._gpu = None
            self.state = State.UNINITIALIZED
            return
        host = self.cpu_data()
        self.handed_out = self.handed_out and host.is_contiguous()
        host = host.contiguous()
        self._gpu = None
        if prod(shape) * host.element_size() <= host.untyped_storage().nbytes():
            self._host = host.detach().as_strided(shape, _row_major(shape), 0)
            self.state = State.HEAD_AT_CPU
        else:
            self._host, self.handed_out = None, False
            self.state = State.UNINITIALIZED


def _row_major(shape: Shape) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


class ParameterMemory(Memory):
    """Memory that lies in a parameter: its values, or its gradient (zeros while it has none).

    On the CPU a NumPy array is the parameter's own memory. On another device an array that was
    handed out is a copy; `parameters_on_device` carries what changes from one side to the other.
    """

    def __init__(self, parameter: nn.Parameter, *, grad: bool, shape: Shape) -> None:
        super().__init__(shape, device=parameter.device)
        self.parameter = parameter
        self.state = State.HEAD_AT_CPU if self.device.type == "cpu" else State.HEAD_AT_GPU
        self._grad = grad

    def _storage(self) -> Tensor:
        if not self._grad:
            # `data`, not `detach()`: weights may change between a forward and a backward pass.
            return self.parameter.data.view(self.shape)
        if self.parameter.grad is None:
            self.parameter.grad = torch.zeros_like(self.parameter)
        return self.parameter.grad.view(self.shape)

    def tensor(self) -> Tensor:
        return self.gpu_data()

    def cpu_data(self) -> Tensor:
        if self.device.type == "cpu":
            return self._storage()
        if self._host is None:
            self._host = self._storage().to("cpu", copy=True)
        elif self.state is State.HEAD_AT_GPU:
            self._host.copy_(self._storage())
        return self._host

    def gpu_data(self) -> Tensor:
        storage = self._storage()
        if self.state is State.HEAD_AT_CPU and self._host is not None:
            storage.copy_(self._host)
        return storage

    def put(self, tensor: Tensor) -> None:
        self._storage().copy_(tensor)
        if self._host is not None:
            self._host.copy_(self._storage())

    def array(self) -> NDArray[np.float32]:
        host = self.cpu_data()
        self.state = State.HEAD_AT_CPU  # its reader may write at any moment
        self.handed_out = True
        return host.numpy()

    def take_from_host(self) -> None:
        """Copy to the device what was written into the array handed out; the device may then
        change."""
        self.gpu_data()
        self.state = State.HEAD_AT_GPU

    def return_to_host(self) -> None:
        """Copy to the array handed out what the device has changed; its reader may then write."""
        self.state = State.HEAD_AT_GPU  # even if somebody has asked for the array meanwhile
        self.cpu_data()
        self.state = State.HEAD_AT_CPU

    def reshape(self, shape: Shape) -> None:
        """Change the shape. Another count gives the parameter new memory, with as many of its
        values as fit: programs that prune a net save it so."""
        if prod(shape) != self.parameter.numel():
            values = self.tensor().flatten()[: prod(shape)]
            self.parameter.grad = None
            self.parameter.data = values.new_zeros(shape)
            self.parameter.data.view(-1)[: len(values)] = values
        if prod(shape) != prod(self.shape):
            self._host, self.handed_out = None, False
            if self.device.type != "cpu":
                self.state = State.HEAD_AT_GPU
        elif self._host is not None:
            self._host = self._host.view(shape)
        self.shape = shape


def _apart(memories: Iterable[ParameterMemory]) -> list[ParameterMemory]:
    """Those whose arrays are copies: on the CPU an array is the parameter's own memory."""
    return [memory for memory in memories if memory.handed_out and memory.device.type != "cpu"]


@contextmanager
def parameters_on_device(memories: Iterable[ParameterMemory]) -> Iterator[None]:
    """While parameters are read and written where the net runs.

    What users wrote into NumPy arrays is taken over on the way in; on the way out the arrays show
    what has changed. May be nested: only arrays that users hold are copied.
    """
    taken = [m for m in _apart(memories) if m.state is State.HEAD_AT_CPU]
    for memory in taken:
        memory.take_from_host()
    try:
        yield
    finally:
        for memory in taken:
            memory.return_to_host()


@contextmanager
def parameters_in_users_hands(memories: Collection[ParameterMemory]) -> Iterator[None]:
    """The reverse, within `parameters_on_device`: while a user's function runs, which may read
    and write the NumPy arrays of parameters."""
    returned = [m for m in _apart(memories) if m.state is State.HEAD_AT_GPU]
    on_device = [m for m in memories if m.state is State.HEAD_AT_GPU]
    for memory in returned:
        memory.return_to_host()
    try:
        yield
    finally:
        for memory in _apart(on_device):  # the function may have asked for more of them
            memory.take_from_host()


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
        """Become the blob whose memory is a parameter's."""
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
        if self.diff_memory.shape != self.data_memory.shape:
            self.diff_memory.reshape(self.data_memory.shape)
        return self.diff_memory.array()

    @diff.setter
    def diff(self, values: Any) -> None:
        self.diff_memory.array()[...] = values

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
        sizes = tuple(map(index, shape))
        check_shape(sizes)
        self.data_memory.reshape(sizes)
        self.diff_memory.reshape(sizes)

    def offset(self, *indices: int) -> int:
        """Position of an element in row-major memory: ((n * C + c) * H + h) * W + w."""
        strides = _row_major(self.data_memory.shape)
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
        """The first axis: how many items; 1 if it is missing, as for the next three."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """The second axis."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """The third axis."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """The fourth axis."""
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


class RawBlobVec(list[Blob]):
    """pycaffe's list of blobs that belong to others: the bottoms and tops of a Python layer."""


class BlobVec(list[Blob]):
    """pycaffe's list of blobs."""

    def add_blob(self, *shape: int) -> None:
        """Append a blob of zeros."""
        self.append(Blob(shape))
