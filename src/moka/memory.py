"""One array on the host and on a device: which side is current, and who may write to it.

A Memory is allocated when it is first touched, and copies only if the side that is asked for is
stale; its state says which side is current. A NumPy array that was handed out stays live: later
results are written into that same memory. Only such arrays cost a copy; any other Memory takes the
tensor it is given.
"""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from moka.errors import NetError
from moka.schema.blobproto import MOST_AXES
from moka.types import Shape

CPU = torch.device("cpu")


MOST_ELEMENTS = 2**48  # a petabyte


def check_shape(shape: Shape) -> None:
    """Raises NetError if no blob can have this shape."""
    if len(shape) > MOST_AXES:
        raise NetError(f"a blob has at most {MOST_AXES} axes, here are {len(shape)}.")
    if min(shape, default=0) < 0:
        raise NetError(f"the sizes of a blob's axes must be >= 0, got shape {shape}.")
    if prod(max(size, 1) for size in shape) > MOST_ELEMENTS:  # strides count an empty one's, too
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

    Attributes:
        reads: how often somebody has asked for its NumPy array.
    """

    def __init__(self, shape: Shape, value: float = 0.0, device: torch.device = CPU) -> None:
        self.shape = shape
        self.state = State.UNINITIALIZED
        self.device = device
        self.reads = 0
        self._array: weakref.ref[NDArray[np.float32]] | None = None  # of which users hold views
        self._address = 0  # of the storage that it shows
        self._promise: Callable[[], None] | None = None
        self._borrowed = False  # whether the host's tensor is an engine's, not to be written to
        self._gpu_borrowed = False
        self._value = value
        self._host: Tensor | None = None
        self._gpu: Tensor | None = None

    @property
    def handed_out(self) -> bool:
        """Whether somebody holds its NumPy array, or a view of it, and may write to it."""
        return self._array is not None and self._array() is not None

    def promise(self, shape: Shape, compute: Callable[[], None]) -> None:
        """Take a result that is computed only if somebody asks for it.

        Args:
            shape: of the result.
            compute: puts it here, and into all that was promised with it.
        """
        self.reset()
        self.shape, self._promise = shape, compute

    def reset(self) -> None:
        """Hold nothing but the value that the array began with, as if nobody had touched it."""
        self._promise = self._host = self._gpu = None
        self.state = State.UNINITIALIZED

    @property
    def is_promised(self) -> bool:
        """Whether its result is still to be computed."""
        return self._promise is not None

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, which cannot have a promise that was given to this one."""
        self._keep_promise()
        return vars(self)

    def _keep_promise(self) -> None:
        if self._promise is not None:
            self._promise()

    def cpu_data(self) -> Tensor:
        """The array on the host, for reading. Copies if the device's side is newer."""
        self._keep_promise()
        if self.state is State.UNINITIALIZED:
            self._host = torch.full(self.shape, self._value)
            self.state = State.HEAD_AT_CPU
        elif self.state is State.HEAD_AT_GPU:
            assert self._gpu is not None
            if self._host is None or self._host.shape != self._gpu.shape:
                self._host = self._gpu.cpu()
            else:
                overwrite(self._host, self._gpu)
            self.state = State.SYNCED
        assert self._host is not None
        return self._host

    def gpu_data(self) -> Tensor:
        """The array on the device, for reading. Copies if the host's side is newer."""
        self._keep_promise()
        if self.state is State.UNINITIALIZED:
            self._gpu = torch.full(self.shape, self._value, device=self.device)
            self.state = State.HEAD_AT_GPU
        elif self.state is State.HEAD_AT_CPU:
            assert self._host is not None
            if self._gpu is None or self._gpu_borrowed or self._gpu.shape != self._host.shape:
                self._gpu, self._gpu_borrowed = self._host.to(self.device), False
            else:
                overwrite(self._gpu, self._host)
            if not self.handed_out:  # else its reader may write at any moment
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

    def move_to(self, device: torch.device) -> None:
        """Have the device side there from now on."""
        if self._promise is not None or self.state is not State.UNINITIALIZED:
            self.mutable_cpu_data()
        self._gpu, self.device = None, device

    @property
    def is_own(self) -> bool:
        """Whether its tensor lies in memory of its own, which users may write to sooner or later;
        False: in a result that it has taken."""
        return not (self._borrowed if self.device.type == "cpu" else self._gpu_borrowed)

    def put(self, tensor: Tensor, *, is_new: bool = False) -> None:
        """Take a result. Only a Memory whose array is in users' hands copies it.

        Args:
            is_new: whether nobody else refers to its memory, so that users may write to it.
        """
        self._promise = None
        if self.handed_out:
            self.reshape(tuple(tensor.shape))
        if self.handed_out:
            assert self._host is not None
            if self._host.data_ptr() != tensor.data_ptr() or tensor.device.type != "cpu":
                overwrite(self._host, tensor)
            self.state = State.HEAD_AT_CPU  # its reader may write at any moment
            return
        self.shape = tuple(tensor.shape)
        if tensor.is_cpu:
            self._host, self.state, self._borrowed = tensor, State.HEAD_AT_CPU, not is_new
        else:
            self._gpu, self.state, self._gpu_borrowed = tensor, State.HEAD_AT_GPU, True

    def array(self) -> NDArray[np.float32]:
        """A live, writable NumPy view of the host's side."""
        host = self.mutable_cpu_data()
        # An engine may need a borrowed tensor unchanged for the backward pass.
        if self._borrowed or not host.is_contiguous() or host.dtype != torch.float32:
            host = torch.empty(host.shape).copy_(host)  # row-major, as Caffe's
            self._host, self._borrowed = host, False
        self.reads += 1
        return self._hand_out(host)

    def _hand_out(self, host: Tensor) -> NDArray[np.float32]:
        """A view of the one array, over all of the host's storage, that users hold views of."""
        if not host.is_contiguous():
            array = host.detach().numpy()
            self._array, self._address = weakref.ref(array), 0
            return array.view()
        storage = host.untyped_storage()
        address = storage.data_ptr()
        whole = self._array() if self._array is not None and address == self._address else None
        if whole is None:
            size = storage.nbytes() // host.element_size()
            # Of the shape that it is asked for, if that is all: other views take longer.
            shown = host if host.numel() == size else host.as_strided((size,), (1,), 0)
            whole = (shown.detach() if shown.requires_grad else shown).numpy()
            self._array, self._address = weakref.ref(whole), address
        if whole.shape == host.shape:
            return whole.view()
        start = host.storage_offset()
        return whole.reshape(-1)[start : start + host.numel()].reshape(host.shape)

    def reshape(self, shape: Shape) -> None:
        """Change the shape; memory that is large enough is kept, with its values."""
        if shape == self.shape:
            return
        self._keep_promise()
        self.shape = shape
        if not self.handed_out and self._host is None:
            self._gpu = None
            self.state = State.UNINITIALIZED
            return
        host = self.cpu_data()
        if not host.is_contiguous():
            host, self._array = host.contiguous(), None
        self._gpu = None
        if prod(shape) * host.element_size() <= host.untyped_storage().nbytes():
            self._host = host.detach().as_strided(shape, row_major(shape), 0)
            self.state = State.HEAD_AT_CPU
        else:
            self._host = self._array = None
            self.state = State.UNINITIALIZED


def overwrite(target: Tensor, source: Tensor) -> None:
    """Copy; a tensor that was made in `torch.inference_mode` takes new values there alone."""
    if target.is_inference() and not torch.is_inference_mode_enabled():
        with torch.inference_mode():
            target.copy_(source)
    else:
        target.copy_(source)


def row_major(shape: Shape) -> tuple[int, ...]:
    """Strides of an array in row-major order, in elements."""
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


@dataclass(eq=False)
class _HostSide:
    """The copy of a parameter, or of its gradient, that NumPy arrays show: one for all layers and
    nets that use the parameter, as in Caffe they share one memory.

    Attributes:
        device: where the parameter lay when the side was made.
        state: as `ParameterMemory` says.
        copy: row-major, in the parameter's shape; None: nobody has asked for it.
        array: the array that users hold views of.
        address: of the storage that it shows.
    """

    device: torch.device
    state: State
    copy: Tensor | None = None
    array: weakref.ref[NDArray[np.float32]] | None = None
    address: int = 0


# The sides of each parameter's values (False) and gradient (True).
_sides: MutableMapping[Tensor, dict[bool, _HostSide]] = WeakTensorKeyDictionary()


class ParameterMemory(Memory):
    """The memory of a parameter: its values, or its gradient (zeros while it has none).

    On the CPU a NumPy array is the parameter's own memory. On another device it is a copy, which
    all memories of one parameter share, and the state says who may write: HEAD_AT_CPU: the user
    who holds the array; HEAD_AT_GPU: the engine, inside of `parameters_on_device`; SYNCED: nobody
    holds an array.

    Attributes:
        listeners: called before somebody may change the values: before an array is handed out, and
            before they are replaced.
        changes_of_all: how often that has happened to any parameter.
    """

    changes_of_all: ClassVar[int] = 0

    def __init__(self, parameter: nn.Parameter, *, grad: bool, shape: Shape) -> None:
        self.parameter, self.shape = parameter, shape
        self.listeners: list[Callable[[], object]] = []
        self.reads = 0
        self._grad = grad
        self._promise, self._borrowed, self._gpu_borrowed = None, False, False
        self._known_side = self._side  # from now on `memories_of` finds it

    @property
    def _side(self) -> _HostSide:
        side, device = vars(self).get("_known_side"), self.parameter.device
        if side is None or side.device != device:
            sides = _sides.setdefault(self.parameter, {})
            side = sides.get(self._grad)
            if side is None or side.device != device:
                side = sides[self._grad] = _HostSide(device, _first_state(device))
            self._known_side = side
        return side

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, whose parameter is another one."""
        return {name: value for name, value in vars(self).items() if name != "_known_side"}

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.parameter.device

    @property
    def state(self) -> State:
        return self._side.state

    @state.setter
    def state(self, state: State) -> None:
        self._side.state = state

    @property
    def _array(self) -> weakref.ref[NDArray[np.float32]] | None:
        return self._side.array

    @_array.setter
    def _array(self, array: weakref.ref[NDArray[np.float32]] | None) -> None:
        self._side.array = array

    @property
    def _address(self) -> int:
        return self._side.address

    @_address.setter
    def _address(self, address: int) -> None:
        self._side.address = address

    @property
    def handed_out(self) -> bool:
        array = self._side.array
        return array is not None and array() is not None

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
        storage, side = self._storage(), self._side
        if self.device.type == "cpu":
            return storage
        if side.copy is None:
            side.copy = torch.empty(self.parameter.shape, dtype=storage.dtype)
            side.copy.view(self.shape).copy_(storage)
        elif side.state is not State.HEAD_AT_CPU:
            side.copy.view(self.shape).copy_(storage)
        return side.copy.view(self.shape)

    def gpu_data(self) -> Tensor:
        storage, side = self._storage(), self._side
        if side.state is State.HEAD_AT_CPU and side.copy is not None:
            storage.copy_(side.copy.view(self.shape))
        return storage

    def mutable_gpu_data(self) -> Tensor:
        return self.gpu_data()  # the state stays: it says who may write

    def put(self, tensor: Tensor, *, is_new: bool = False) -> None:
        with self.written() as storage:
            storage.copy_(tensor)

    @contextmanager
    def written(self) -> Iterator[Tensor]:
        """The parameter, for writing; the array handed out shows it at the end."""
        self.before_change()
        storage = self._storage()
        yield storage
        if self._side.copy is not None:
            self._side.copy.view(self.shape).copy_(storage)

    def array(self) -> NDArray[np.float32]:
        self.before_change()
        host = self.cpu_data()
        if self.state is State.SYNCED:
            self.state = State.HEAD_AT_CPU
        return self._hand_out(host)

    def before_change(self) -> None:
        """Count a time at which somebody may change the values without PyTorch's knowledge."""
        if not self._grad:
            self.reads += 1
            ParameterMemory.changes_of_all += 1
            for listener in self.listeners:
                listener()

    def take_from_user(self) -> None:
        """Copy the user's changes to the device; the engine may write from now on."""
        self.gpu_data()
        self.state = State.HEAD_AT_GPU

    def return_to_user(self) -> None:
        """Renew the array handed out; its reader may write from now on."""
        if self.handed_out:
            self.cpu_data()
        self.state = State.HEAD_AT_CPU if self.handed_out else State.SYNCED

    def reshape(self, shape: Shape) -> None:
        """Change the shape. Another count gives the parameter new memory with as many of its
        values as fit: programs that prune a net rely on this."""
        self.before_change()
        if prod(shape) != self.parameter.numel():
            values = self.tensor().flatten()[: prod(shape)]
            self.parameter.grad = None
            self.parameter.data = values.new_zeros(shape)
            self.parameter.data.view(-1)[: len(values)] = values
            for side in _sides[self.parameter].values():
                side.copy = side.array = None
                side.state = _first_state(side.device)
        self.shape = shape


def _first_state(device: torch.device) -> State:
    return State.HEAD_AT_CPU if device.type == "cpu" else State.SYNCED


def memories_of(parameters: Iterable[nn.Parameter]) -> list[ParameterMemory]:
    """Memories of those parameters that have been shown as blobs, of this net or another one."""
    return [
        ParameterMemory(parameter, grad=grad, shape=tuple(parameter.shape))
        for parameter in parameters
        for grad in list(_sides.get(parameter, ()))
    ]


@contextmanager
def parameters_on_device(memories: Iterable[ParameterMemory]) -> Iterator[None]:
    """While an engine or solver reads and writes parameters where the net runs.

    What users wrote into NumPy arrays is taken over on the way in; on the way out the arrays show
    what has changed. May be nested. On the CPU there is nothing to copy.
    """
    taken = [m for m in memories if m.device.type != "cpu" and m.state is not State.HEAD_AT_GPU]
    for memory in taken:
        memory.take_from_user()
    try:
        yield
    finally:
        for memory in taken:
            memory.return_to_user()


@contextmanager
def parameters_in_users_hands(memories: Iterable[ParameterMemory]) -> Iterator[None]:
    """Within `parameters_on_device`: while a user's function runs, which may read and write the
    NumPy arrays of parameters."""
    returned = [m for m in memories if m.state is State.HEAD_AT_GPU]
    for memory in returned:
        memory.return_to_user()
    try:
        yield
    finally:
        for memory in returned:
            memory.take_from_user()
