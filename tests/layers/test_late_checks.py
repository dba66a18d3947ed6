from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from moka.errors import DataError
from moka.layers.late_checks import collecting_checks, in_range
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

GOOD, LOW, HIGH = [0, 2, 1], [0, -4, 9], [1, 7, 2]


def check(values: list[int]) -> torch.Tensor:
    return in_range(torch.tensor(values), 3, fault="label {} is bad", advice="Look.")


@pytest.mark.parametrize(("values", "found"), [(LOW, -4), (HIGH, 7)])
def test_outside_of_a_pass_a_check_raises_at_once(values: list[int], found: int) -> None:
    with pytest.raises(DataError, match=rf"label {found} is bad \(0 to 2\)\. Look\."):
        check(values)
    assert check(GOOD).tolist() == GOOD


@pytest.mark.parametrize(("values", "safe"), [(GOOD, GOOD), (LOW, [0, 0, 2]), (HIGH, [1, 2, 2])])
def test_inside_it_is_noted_and_the_indices_are_safe(values: list[int], safe: list[int]) -> None:
    with collecting_checks() as checks:
        assert check(GOOD).tolist() == GOOD
        assert check(values).tolist() == safe
        assert in_range(torch.empty(0, dtype=torch.long), 3, fault="{}", advice="").numel() == 0
    one = torch.ones(())
    assert checks.are_broken(one).item() == (values != safe)
    assert len(checks.extents()) == 4
    if values == safe:
        checks.raise_first()
        return
    with pytest.raises(DataError, match=r"label (-4|7) is bad"):
        checks.raise_first()


def test_nothing_to_check() -> None:
    with collecting_checks() as checks:
        pass
    assert checks.are_broken(torch.ones(())).item() == 0
    assert checks.first_error([]) is None
    checks.raise_first()


NET = """
layer { name: "in" type: "Input" top: "x" top: "label"
  input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "score" type: "Accuracy" bottom: "x" bottom: "label" top: "right" }
layer { name: "index" type: "Embed" bottom: "label" top: "y"
  embed_param { input_dim: 9 num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss" }
"""


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (4.0, r'layer "score" \(Accuracy\): label 4 is outside of the 3 classes'),
        (-1.0, r'layer "score" \(Accuracy\): label -1 is outside'),
    ],
)
def test_the_error_names_file_and_layer(make_net: NetMaker, label: float, said: str) -> None:
    net = make_net(NET, caffe_pb2.TRAIN)
    inputs = {"x": torch.zeros(2, 3), "label": torch.tensor([1.0, label])}
    with pytest.raises(DataError, match=said) as early:
        net.propagate(inputs)
    with collecting_checks() as checks:
        net.propagate(inputs)
    with pytest.raises(DataError, match=said) as late:
        checks.raise_first()
    assert str(late.value) == str(early.value)
    assert len(checks.checks) == 3
