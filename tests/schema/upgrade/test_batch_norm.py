from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from moka.errors import NetError
from moka.schema import caffe_pb2, parse_text
from moka.schema.upgrade import batch_norm, upgrade_net

if TYPE_CHECKING:
    from tests.conftest import NetMaker


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def test_three_entries_get_zeros() -> None:
    old = net(
        'layer { type: "BatchNorm" param { lr_mult: 2 } param { } param { name: "f"'
        ' decay_mult: 3 } } layer { type: "LSTM" param { lr_mult: 2 } param { } param { } }'
    )
    before = old.SerializeToString()
    assert batch_norm.needed(old)
    zero = "lr_mult: 0 decay_mult: 0"
    assert batch_norm.upgrade(old) == net(
        f'layer {{ type: "BatchNorm" param {{ {zero} }} param {{ {zero} }} param {{ name: "f"'
        f' {zero} }} }} layer {{ type: "LSTM" param {{ lr_mult: 2 }} param {{ }} param {{ }} }}'
    )
    assert old.SerializeToString() == before


@pytest.mark.parametrize("params", ["", "param { }", "param { } param { }", "param { } " * 4])
def test_any_other_number_is_left_alone(params: str) -> None:
    assert not batch_norm.needed(net(f'layer {{ type: "BatchNorm" {params} }}'))


def test_other_layers_are_left_alone() -> None:
    assert not batch_norm.needed(net('layer { type: "LSTM" param { } param { } param { } }'))


def test_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    upgrade_net(net('layer { type: "BatchNorm" param { } param { } param { } }'), "a.prototxt")
    assert caplog.messages == [
        "Attempting to upgrade batch norm layers using deprecated params: a.prototxt",
        "Successfully upgraded batch norm layers using deprecated params.",
    ]


NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" %s }
"""


def test_a_net_of_that_time_does_not_train_its_statistics(make_net: NetMaker) -> None:
    made = make_net(NET % "param { lr_mult: 1 } param { lr_mult: 1 } param { lr_mult: 0 }")
    assert [(b.lr_mult, b.decay_mult) for b in made.learnable] == [(0, 0)] * 3


def test_one_entry_is_no_old_form(make_net: NetMaker) -> None:
    make_net(NET % "param { lr_mult: 0 }")
    with pytest.raises(NetError, match=r'layer "bn" \(BatchNorm\): Cannot configure statistics'):
        make_net(NET % "param { lr_mult: 1 }")
