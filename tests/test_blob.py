"""Blobs: states and copies, laziness, live arrays, shapes.

Where there is no GPU, a Memory's device side is a second tensor of the CPU: it then goes through
the same states and the same copies.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from moka.blob import Blob
from moka.errors import NetError
from moka.memory import (
    Memory,
    ParameterMemory,
    State,
    check_shape,
    parameters_on_device,
)

# Starting with data on the host: accessor, state after it, whether it copies.
SEQUENCE = [
    ("gpu_data", State.SYNCED, "to device"),
    ("cpu_data", State.SYNCED, ""),
    ("mutable_gpu_data", State.HEAD_AT_GPU, ""),
    ("mutable_gpu_data", State.HEAD_AT_GPU, ""),
    ("cpu_data", State.SYNCED, "to host"),
    ("gpu_data", State.SYNCED, ""),
    ("mutable_cpu_data", State.HEAD_AT_CPU, ""),
    ("mutable_gpu_data", State.HEAD_AT_GPU, "to device"),
    ("mutable_cpu_data", State.HEAD_AT_CPU, "to host"),
]


class Counted(Memory):
    """Notes which side was renewed from the other."""

    def sides(self) -> tuple[list[float] | None, list[float] | None]:
        host, gpu = self._host, self._gpu
        return (
            None if host is None else host.flatten().tolist(),
            None if gpu is None else gpu.flatten().tolist(),
        )


def test_states_and_copies_of_the_accessors(device: torch.device) -> None:
    memory = Counted((2,), device=device)
    memory.mutable_cpu_data()[...] = 1
    memory._gpu = torch.zeros(2, device=device)  # else both sides are one tensor on a CPU
    assert memory.state is State.HEAD_AT_CPU
    value = 1.0
    for step, (accessor, state, copied) in enumerate(SEQUENCE):
        before = memory.sides()
        tensor = getattr(memory, accessor)()
        host, gpu = memory.sides()
        assert memory.state is state, step
        assert (host != before[0]) == (copied == "to host"), step
        assert (gpu != before[1]) == (copied == "to device"), step
        assert tensor.tolist() == [value, value], step
        if accessor.startswith("mutable"):  # so that the next copy shows
            value += 1
            tensor[...] = value


def test_nothing_is_allocated_before_the_first_use(device: torch.device) -> None:
    memory = Counted((1000, 1000), 3.0, device)
    assert memory.state is State.UNINITIALIZED
    assert memory.sides() == (None, None)
    assert memory.gpu_data().min() == memory.gpu_data().max() == 3
    assert memory.sides()[0] is None


def test_making_a_huge_blob_costs_nothing() -> None:
    blob = Blob((10**6, 10**6, 10**6))  # would be an exabyte
    assert blob.count == 10**18


def test_a_result_is_taken_without_a_copy_until_its_array_is_handed_out() -> None:
    blob = Blob((2,))
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    blob.data_memory.put(first)
    assert blob.data_memory.tensor() is first
    array = blob.data
    assert array.tolist() == [1, 2]
    blob.data_memory.put(second)
    assert array.tolist() == [3, 4]
    assert blob.data_memory.tensor().data_ptr() != second.data_ptr()
    array[0] = 7
    assert blob.data_memory.tensor().tolist() == [7, 4]
    assert second.tolist() == [3, 4]


def test_data_and_diff_are_live_and_writable() -> None:
    blob = Blob((2, 2))
    data, diff = blob.data, blob.diff
    blob.data += 1
    blob.diff = 5
    assert data.tolist() == [[1, 1], [1, 1]]
    assert diff.tolist() == [[5, 5], [5, 5]]
    assert data.dtype == diff.dtype == np.float32
    assert blob.data is not diff
    assert np.shares_memory(blob.data, data)


def test_diff_starts_at_its_value() -> None:
    blob = Blob((), diff_value=0.25)
    assert blob.diff.shape == ()
    assert blob.diff == 0.25
    assert blob.data == 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        torch.arange(3.0).expand(2, 3),
        torch.arange(6).reshape(2, 3),
    ],
    ids=["channels last", "expanded", "integers"],
)
def test_any_tensor_becomes_a_float_array(tensor: torch.Tensor) -> None:
    blob = Blob()
    blob.data_memory.put(tensor)
    array = blob.data
    assert array.dtype == np.float32
    assert array.tolist() == tensor.tolist()
    array[(0,) * array.ndim] = 77  # writes one element, not a whole row
    assert (blob.data == 77).sum() == 1
    blob.data_memory.put(torch.zeros(array.shape))
    assert not array.any()


def test_shrinking_and_growing_back_shows_the_old_values() -> None:
    blob = Blob((2, 3))
    data = blob.data
    data[...] = [[1, 2, 3], [4, 5, 6]]
    blob.reshape(1, 2)
    assert blob.data.tolist() == [[1, 2]]
    assert np.shares_memory(blob.data, data)
    blob.reshape(3, 2)
    assert blob.data.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert np.shares_memory(blob.data, data)


def test_growing_beyond_the_memory_starts_anew() -> None:
    blob = Blob((2,))
    data = blob.data
    data[...] = 5
    blob.reshape(4)
    assert blob.data.tolist() == [0] * 4
    assert not np.shares_memory(blob.data, data)
    assert blob.diff.shape == (4,)


def test_a_result_of_another_shape_keeps_the_memory_handed_out() -> None:
    blob = Blob((4,))
    data = blob.data
    blob.data_memory.put(torch.tensor([1.0, 2.0]))
    assert blob.data.tolist() == [1, 2]
    assert np.shares_memory(blob.data, data)
    blob.data_memory.put(torch.ones(100))
    assert blob.data.tolist() == [1] * 100


def test_diff_follows_the_shape_of_data() -> None:
    blob = Blob((4,))
    blob.data_memory.put(torch.ones(2, 3))
    assert blob.diff.shape == (2, 3)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 1, 2, 2)])
def test_offset_is_row_major(shape: tuple[int, ...]) -> None:
    blob = Blob(shape)
    assert blob.count == int(np.prod(shape))
    for position, index in enumerate(product(*map(range, shape))):
        assert blob.offset(*index) == position


def test_offset_of_fewer_indices_is_the_start_of_that_part() -> None:
    assert Blob((2, 3, 4, 5)).offset(1, 2) == 1 * 60 + 2 * 20


@pytest.mark.parametrize(
    ("shape", "legacy"),
    [((), (1, 1, 1, 1)), ((7,), (7, 1, 1, 1)), ((2, 3, 4), (2, 3, 4, 1)), ((2, 3, 4, 5),) * 2],
)
def test_legacy_accessors(shape: tuple[int, ...], legacy: tuple[int, ...]) -> None:
    blob = Blob(shape)
    assert (blob.num, blob.channels, blob.height, blob.width) == legacy


@pytest.mark.parametrize("name", ["num", "channels", "height", "width"])
def test_legacy_accessors_are_for_four_axes(name: str) -> None:
    with pytest.raises(NetError, match=r"for at most 4 axes, this blob has 5\. Use shape"):
        getattr(Blob((1, 1, 1, 1, 1)), name)


def test_repr_shows_shape_and_state() -> None:
    blob = Blob((2, 3))
    assert repr(blob) == "Blob(shape=(2, 3), data=UNINITIALIZED)"
    assert blob.data.any() == 0
    assert repr(blob) == "Blob(shape=(2, 3), data=HEAD_AT_CPU)"
    weight = Blob.of_parameter(nn.Parameter(torch.zeros(2)), (2,))
    assert repr(weight) == "Blob(shape=(2,), data=HEAD_AT_CPU)"


# --- blobs of parameters


def parameter_blob(device: torch.device, **more: Any) -> tuple[nn.Parameter, Blob]:
    parameter = nn.Parameter(torch.arange(6.0, device=device).reshape(2, 3))
    return parameter, Blob.of_parameter(parameter, more.get("shape", (2, 3)))


def test_a_parameters_blob_is_the_parameter() -> None:
    parameter, blob = parameter_blob(torch.device("cpu"))
    blob.data[0, 0] = 9
    assert parameter[0, 0].item() == 9
    with torch.no_grad():
        parameter[1, 2] = 8
    assert blob.data[1, 2] == 8


def test_a_parameters_diff_is_its_grad_zeros_while_there_is_none() -> None:
    parameter, blob = parameter_blob(torch.device("cpu"))
    diff = blob.diff
    assert diff.tolist() == [[0, 0, 0], [0, 0, 0]]
    (2 * parameter).sum().backward()  # type: ignore[no-untyped-call]
    assert diff.tolist() == [[2, 2, 2], [2, 2, 2]]


def test_a_parameter_may_be_seen_in_another_shape() -> None:
    parameter, blob = parameter_blob(torch.device("cpu"), shape=(3, 2))
    assert blob.data.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert blob.diff.shape == (3, 2)
    blob.reshape(6)
    blob.data[5] = 50
    assert parameter[1, 2].item() == 50


@pytest.mark.parametrize(
    ("shape", "values"), [((2, 2), [[0, 1], [2, 3]]), ((4, 2), [[0, 1], [2, 3], [4, 5], [0, 0]])]
)
def test_a_parameter_of_another_size_keeps_the_values_that_fit(
    device: torch.device, shape: tuple[int, ...], values: list[list[float]]
) -> None:
    parameter, blob = parameter_blob(device)
    assert blob.data.shape == blob.diff.shape == (2, 3)
    blob.reshape(*shape)
    assert blob.data.tolist() == values
    assert blob.diff.shape == shape
    assert parameter.tolist() == values
    blob.data[0] = 9
    assert isinstance(blob.data_memory, ParameterMemory)
    assert isinstance(blob.data_memory.tensor(), torch.Tensor)  # takes it to the device
    assert parameter[0].tolist() == [9, 9]


def test_a_parameters_array_is_live_in_another_shape(device: torch.device) -> None:
    parameter, blob = parameter_blob(device)
    array = blob.data
    blob.reshape(6)
    assert isinstance(blob.data_memory, ParameterMemory)
    with parameters_on_device([blob.data_memory]), torch.no_grad():
        parameter[1, 2] = 8
    assert (array[1, 2], blob.data[5]) == (8, 8)


def test_put_writes_into_the_parameter(device: torch.device) -> None:
    parameter, blob = parameter_blob(device)
    array = blob.data
    blob.data_memory.put(torch.full((2, 3), 4.0))
    assert parameter.tolist() == [[4] * 3] * 2
    assert array.tolist() == [[4] * 3] * 2


def test_a_parameters_array_shows_what_training_made_of_it(device: torch.device) -> None:
    parameter, blob = parameter_blob(device)
    assert blob.data[0, 0] == 0
    assert isinstance(blob.data_memory, ParameterMemory)
    with parameters_on_device([blob.data_memory]), torch.no_grad():
        parameter.add_(1)
    assert blob.data[0, 0] == 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, -1), r"sizes of a blob's axes must be >= 0, got shape \(2, -1\)"),
        ((1,) * 33, "at most 32 axes, here are 33"),
        ((2**40, 2**40), "larger than any memory"),
    ],
)
def test_shapes_no_blob_can_have(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        check_shape(shape)
    with pytest.raises(NetError, match=message):
        Blob((2,)).reshape(*shape)


def test_shapes_a_blob_can_have() -> None:
    for shape in ((), (0,), (3, 0, 2), (1,) * 32):
        check_shape(shape)


@pytest.mark.parametrize("shape", [(2, 3), [2, 3], np.array([2, 3])])
def test_a_list_of_sizes(shape: Any) -> None:
    blob = Blob((6,))
    with pytest.raises(TypeError, match=r"write reshape\(\*shape\)"):
        blob.reshape(shape)
    blob.reshape(*shape)
    assert list(blob.shape) == [2, 3]
