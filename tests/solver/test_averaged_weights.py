from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from moka.errors import SolverError
from moka.schema import caffe_pb2, parse_text
from moka.solver.averaged_weights import AveragedWeights, check_average

if TYPE_CHECKING:
    from tests.conftest import NetMaker


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def put(p: nn.Parameter, *values: float) -> None:
    p.data.copy_(torch.tensor(values))


def test_it_begins_with_the_first_update_and_follows_the_formula() -> None:
    a, b = parameter(0.0, 0.0), parameter(0.0)
    average = AveragedWeights([a, b], 0.75)
    assert not average.started
    wanted = [1.0, 2.0, 3.0]
    put(a, 1.0, 2.0)
    put(b, 3.0)
    average.update()
    assert average.started
    for new in ([4.0, 0.0, -3.0], [1.0, 1.0, 1.0]):
        put(a, *new[:2])
        put(b, new[2])
        average.update()
        wanted = [0.75 * w + 0.25 * n for w, n in zip(wanted, new, strict=True)]
    with average.in_place():
        assert [*a.tolist(), *b.tolist()] == wanted  # powers of two: exact
    assert [*a.tolist(), *b.tolist()] == [1.0, 1.0, 1.0]


def test_in_place_before_the_first_update_are_the_weights_themselves() -> None:
    a = parameter(5.0)
    with AveragedWeights([a], 0.5).in_place():
        assert a.tolist() == [5.0]
    assert a.tolist() == [5.0]


def test_the_weights_come_back_after_an_error() -> None:
    a = parameter(1.0)
    average = AveragedWeights([a], 0.5)
    average.update()
    put(a, 3.0)
    with pytest.raises(ZeroDivisionError), average.in_place():
        put(a, 1 / 0)
    assert a.tolist() == [3.0]


def test_memory_that_others_look_at_stays_where_it_is() -> None:
    a = parameter(1.0)
    seen = a.detach().numpy()
    average = AveragedWeights([a], 0.5)
    average.update()
    put(a, 3.0)
    with average.in_place():
        assert seen[0] == 1.0
    assert seen[0] == 3.0


def test_without_a_file_it_starts_anew(make_net: NetMaker) -> None:
    a = parameter(1.0)
    average = AveragedWeights([a], 0.5)
    average.update()
    average.load(make_net(""), None)
    assert not average.started
    put(a, 7.0)
    average.update()
    with average.in_place():
        assert a.tolist() == [7.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ema_decay: 1", r"ema_decay must be in \[0, 1\), got 1"),
        ("ema_decay: -0.5", "got -0.5"),
        ("test_with_ema: true", "test_with_ema needs ema_decay"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    check_average(parse_text("ema_decay: 0.5 test_with_ema: true", caffe_pb2.SolverParameter))
    with pytest.raises(SolverError, match=says):
        check_average(parse_text(text, caffe_pb2.SolverParameter))
