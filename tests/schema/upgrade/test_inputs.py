from __future__ import annotations

import logging

import pytest

from moka.errors import SchemaError
from moka.schema import caffe_pb2, parse_text
from moka.schema.upgrade import inputs, upgrade_net

LAYER = 'layer { name: "ip" type: "InnerProduct" bottom: "x" }'


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        (LAYER, False),
        ('input: "x"', True),
        ("input_dim: 1", True),
        ("input_shape { dim: 1 }", True),
    ],
)
def test_needed(text: str, needed: bool) -> None:
    assert inputs.needed(net(text)) == needed


@pytest.mark.parametrize(
    ("fields", "tops", "shapes"),
    [
        ('input: "x" input_shape { dim: 2 dim: 3 }', ["x"], [[2, 3]]),
        (
            'input: "x" input_shape { dim: 2 } input: "y" input_shape { dim: 3 }',
            ["x", "y"],
            [[2], [3]],
        ),
        (
            'input: "x" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 9',
            ["x"],
            [[1, 3, 8, 9]],
        ),
        (
            'input: "x" input: "y"' + "".join(f" input_dim: {n}" for n in range(1, 9)),
            ["x", "y"],
            [[1, 2, 3, 4], [5, 6, 7, 8]],
        ),
    ],
)
def test_one_input_layer_in_front(fields: str, tops: list[str], shapes: list[list[int]]) -> None:
    old = net(f'name: "n" force_backward: true {fields} {LAYER}')
    before = old.SerializeToString()
    new = upgrade_net(old)
    assert old.SerializeToString() == before
    assert not inputs.needed(new)
    first, second = new.layer
    assert (first.name, first.type, list(first.top)) == ("input", "Input", tops)
    assert [list(s.dim) for s in first.input_param.shape] == shapes
    assert second == old.layer[0]
    assert (new.name, new.force_backward) == ("n", True)


def test_inputs_without_dimensions_are_dropped() -> None:
    new = upgrade_net(net(f'input: "x" {LAYER}'))
    assert [layer.name for layer in new.layer] == ["ip"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('input: "x" input_dim: 1 input_dim: 2', "input_dim holds four numbers for each input, f"),
        ('input: "x" input_shape { } input_dim: 1', "give input_shape or input_dim, not both"),
        ('input: "x" input: "y" input_shape { }', "2 inputs need as many shapes, found 1"),
        ("input_shape { dim: 1 }", "0 inputs need as many shapes, found 1"),
    ],
)
def test_inconsistent_fields(fields: str, message: str) -> None:
    with pytest.raises(SchemaError, match=f"^old.prototxt: {message}"):
        upgrade_net(net(fields), "old.prototxt")


def test_todays_form_is_left_alone() -> None:
    new = net(LAYER)
    assert upgrade_net(new) is new


def test_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    upgrade_net(net('input: "x" input_shape { dim: 1 }'), "a.prototxt")
    assert caplog.messages == [
        "Attempting to upgrade input file specified using deprecated input fields: a.prototxt",
        "Successfully upgraded file specified using deprecated input fields.",
    ]
