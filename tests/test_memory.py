"""Parameters on another device, and the arrays that users hold; tests/test_blob.py has the rest."""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pytest
import torch
from tests.played_gpu import playing_a_gpu
from torch import nn

from moka.memory import (
    Memory,
    ParameterMemory,
    State,
    memories_of,
    parameters_in_users_hands,
    parameters_on_device,
)


@pytest.fixture
def memory() -> Iterator[ParameterMemory]:
    """A parameter's memory on a GPU: arrays are copies."""
    with playing_a_gpu() as gpu:
        parameter = nn.Parameter(torch.zeros(2, device=gpu))
        yield ParameterMemory(parameter, grad=False, shape=(2,))


def test_an_array_on_another_device_is_a_copy(memory: ParameterMemory) -> None:
    array = memory.array()
    array[...] = [1, 2]
    assert memory.parameter.tolist() == [0, 0]
    assert memory.tensor().tolist() == [1, 2]  # to be read where the net runs
    assert memory.parameter.tolist() == [1, 2]


def test_arrays_are_taken_over_and_renewed(memory: ParameterMemory) -> None:
    array = memory.array()
    array[...] = [1, 2]
    with parameters_on_device([memory]):
        assert memory.parameter.tolist() == [1, 2]
        memory.parameter.data += 1
        assert array.tolist() == [1, 2]
    assert array.tolist() == [2, 3]


def test_what_the_device_has_changed_survives_a_nested_use(memory: ParameterMemory) -> None:
    array = memory.array()
    with parameters_on_device([memory]):
        memory.parameter.data += 1
        with parameters_on_device([memory]):
            assert memory.parameter.tolist() == [1, 1]
            memory.parameter.data += 1
        assert memory.parameter.tolist() == [2, 2]
    assert array.tolist() == [2, 2]


def test_a_users_function_sees_what_is_there_and_may_write(memory: ParameterMemory) -> None:
    array = memory.array()
    with parameters_on_device([memory]):
        memory.parameter.data += 1
        with parameters_in_users_hands([memory]):
            assert array.tolist() == [1, 1]
            array[0] = 5
            with parameters_on_device([memory]):  # such a function may average gradients
                assert memory.parameter.tolist() == [5, 1]
                memory.parameter.data *= 2
            assert array.tolist() == [10, 2]
        assert memory.parameter.tolist() == [10, 2]
    assert array.tolist() == [10, 2]


def test_an_array_that_is_asked_for_on_the_way(memory: ParameterMemory) -> None:
    with parameters_on_device([memory]), parameters_in_users_hands([memory]):
        array = memory.array()
        array[...] = 4
    assert memory.parameter.tolist() == [4, 4]
    with parameters_on_device([memory]):
        memory.parameter.data += 1
    assert array.tolist() == [5, 5]


def test_an_array_that_is_asked_for_during_a_pass(memory: ParameterMemory) -> None:
    with parameters_on_device([memory]):
        array = memory.array()
        memory.parameter.data += 1
        with parameters_on_device([memory]):
            memory.parameter.data += 1
        assert memory.array().tolist() == [2, 2]
    assert array.tolist() == [2, 2]


def test_arrays_are_renewed_after_an_error(memory: ParameterMemory) -> None:
    array = memory.array()

    def fail() -> None:
        with parameters_on_device([memory]):
            memory.parameter.data += 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert array.tolist() == [1, 1]


@pytest.mark.parametrize("is_new", [True, False])
def test_the_array_of_a_new_result_is_its_memory(is_new: bool) -> None:
    memory, result = Memory((2, 3)), torch.ones(2, 3)
    memory.put(result, is_new=is_new)
    assert memory.is_own == is_new
    memory.array()[0, 0] = 5
    assert float(result[0, 0]) == (5 if is_new else 1)
    assert memory.array()[0, 0] == 5


def test_layers_that_share_a_parameter_share_its_array() -> None:
    """A copy of each would overwrite what was written into the other."""
    with playing_a_gpu() as gpu:
        parameter = nn.Parameter(torch.zeros(2, 3, device=gpu))
        one, other = (
            ParameterMemory(parameter, grad=False, shape=shape) for shape in ((2, 3), (1, 1, 2, 3))
        )
        mine, others = one.array(), other.array()
        assert np.shares_memory(mine, others)
        mine[0, 0] = 5
        with parameters_on_device([other, one]):
            assert parameter[0, 0] == 5
            parameter.data += 1
        assert others[0, 0, 0, 0] == 6
        (found,) = memories_of([parameter, nn.Parameter(torch.zeros(2))])
        assert found.state is State.HEAD_AT_CPU


def test_a_parameters_memory_is_where_the_parameter_is() -> None:
    parameter = nn.Parameter(torch.ones(2))
    memory = ParameterMemory(parameter, grad=False, shape=(2,))
    with playing_a_gpu() as gpu:
        parameter.data = parameter.data.to(gpu)
        memory.array()[0] = 5
        assert memory.tensor().device == memory.device == gpu
        assert parameter.tolist() == [5, 1]


def test_an_array_in_users_hands_is_taken_over_in_each_pass() -> None:
    memory = Memory((2,), device=torch.device("meta"))  # stands for a GPU
    memory._gpu = torch.zeros(2)
    array = memory.array()
    for value in (1, 2):
        array[...] = value
        assert memory.gpu_data().tolist() == [value, value]


def test_a_memory_that_moves_keeps_its_values() -> None:
    memory = Memory((2,))
    memory.array()[...] = [1, 2]
    memory.move_to(torch.device("meta"))
    assert memory.tensor().device.type == "meta"
    memory.move_to(torch.device("cpu"))
    untouched = Memory((2,), 3.0)
    untouched.move_to(torch.device("cpu"))
    assert untouched.state is State.UNINITIALIZED
    assert untouched.tensor().tolist() == [3, 3]


def test_a_parameter_that_has_been_shown_can_be_saved_and_copied() -> None:
    parameter = nn.Parameter(torch.ones(2))
    memory = ParameterMemory(parameter, grad=False, shape=(2,))
    memory.array()[0] = 5
    kept = io.BytesIO()
    torch.save({"weight": parameter}, kept)
    kept.seek(0)
    assert torch.load(kept, weights_only=True)["weight"].tolist() == [5, 1]
    copied = deepcopy(memory)
    copied.array()[0] = 7
    assert (parameter.tolist(), copied.parameter.tolist()) == ([5, 1], [7, 1])
    gone = weakref.ref(memory)
    del memory, copied
    assert gone() is None


def test_an_array_that_users_hold_from_inference_mode() -> None:
    memory = Memory((2,))
    with torch.inference_mode():
        memory.put(torch.ones(2))
        array = memory.array()
    memory.put(torch.full((2,), 3.0))
    assert array.tolist() == [3.0, 3.0]
