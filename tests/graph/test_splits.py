from __future__ import annotations

import pytest

from moka.errors import NetError
from moka.graph.splits import insert_splits
from moka.schema import caffe_pb2, parse_text


def layer(name: str, bottoms: str = "", tops: str = "", more: str = "") -> str:
    lines = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return f'layer {{ name: "{name}" type: "T" {" ".join(lines)} {more} }}'


def split(*layers: str) -> list[tuple[str, list[str], list[str]]]:
    net = insert_splits(parse_text("\n".join(layers), caffe_pb2.NetParameter))
    return [(x.name, list(x.bottom), list(x.top)) for x in net.layer]


def test_nothing_to_split() -> None:
    assert split(layer("a", "", "x"), layer("b", "x", "y")) == [
        ("a", [], ["x"]),
        ("b", ["x"], ["y"]),
    ]


def test_two_readers() -> None:
    assert split(layer("a", "", "w x"), layer("b", "x", "y"), layer("c", "x", "z")) == [
        ("a", [], ["w", "x"]),
        ("x_a_1_split", ["x"], ["x_a_1_split_0", "x_a_1_split_1"]),
        ("b", ["x_a_1_split_0"], ["y"]),
        ("c", ["x_a_1_split_1"], ["z"]),
    ]


def test_one_layer_that_reads_twice() -> None:
    assert split(layer("a", "", "x"), layer("b", "x x", "y"))[1:] == [
        ("x_a_0_split", ["x"], ["x_a_0_split_0", "x_a_0_split_1"]),
        ("b", ["x_a_0_split_0", "x_a_0_split_1"], ["y"]),
    ]


def test_after_an_in_place_layer_that_layer_is_the_producer() -> None:
    layers = [layer("a", "", "x"), layer("relu", "x", "x"), layer("b", "x"), layer("c", "x")]
    assert split(*layers) == [
        ("a", [], ["x"]),
        ("relu", ["x"], ["x"]),
        ("x_relu_0_split", ["x"], ["x_relu_0_split_0", "x_relu_0_split_1"]),
        ("b", ["x_relu_0_split_0"], []),
        ("c", ["x_relu_0_split_1"], []),
    ]


def test_a_reader_before_the_in_place_layer_gets_its_own_copy() -> None:
    layers = [layer("a", "", "x"), layer("b", "x", "y"), layer("relu", "x", "x"), layer("c", "x")]
    assert split(*layers)[1:] == [
        ("x_a_0_split", ["x"], ["x_a_0_split_0", "x_a_0_split_1"]),
        ("b", ["x_a_0_split_0"], ["y"]),
        ("relu", ["x_a_0_split_1"], ["x"]),
        ("c", ["x"], []),
    ]


def test_two_tops_of_one_layer_are_split_in_their_order() -> None:
    names = [n for n, _, _ in split(layer("a", "", "x y"), layer("b", "y x"), layer("c", "x y"))]
    assert names == ["a", "x_a_0_split", "y_a_1_split", "b", "c"]


def test_a_loss_weight_is_one_more_use_and_moves_to_the_split() -> None:
    net = insert_splits(
        parse_text(
            layer("a", "", "x", "loss_weight: 3") + layer("b", "x", "y"), caffe_pb2.NetParameter
        )
    )
    made, copies, reader = net.layer
    assert list(made.loss_weight) == [0]
    assert list(copies.loss_weight) == [3, 0]
    assert list(reader.bottom) == ["x_a_0_split_1"]


def test_a_loss_weight_of_zero_is_no_use() -> None:
    assert len(split(layer("a", "", "x", "loss_weight: 0"), layer("b", "x"))) == 2


def test_an_unread_loss_keeps_its_weight() -> None:
    net = insert_splits(parse_text(layer("a", "", "x", "loss_weight: 3"), caffe_pb2.NetParameter))
    assert [list(x.loss_weight) for x in net.layer] == [[3]]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [layer("a", "", "data"), layer("b", "dta", "y")],
            r"Unknown bottom blob 'dta' \(layer 'b', bottom index 0\)\. Did you mean \"data\"\?",
        ),
        ([layer("a", "", "data"), layer("b", "zzz")], "Known here: data"),
        ([layer("b", "x", "y")], "No layer before it makes any blob"),
        (
            [layer("b", "x", "y"), layer("a", "", "x")],
            'made only later, by layer "a": put that layer first',
        ),
        ([layer("a", "a", "b"), layer("c", "b", "a")], 'by layer "c": .* the net has a cycle'),
    ],
)
def test_unknown_bottom(layers: list[str], message: str) -> None:
    with pytest.raises(NetError, match=message):
        split(*layers)


def test_the_message_given_is_left_as_it_is() -> None:
    net = parse_text(layer("a", "", "x") + layer("b", "x x"), caffe_pb2.NetParameter)
    before = net.SerializeToString()
    insert_splits(net)
    assert net.SerializeToString() == before


def test_the_weight_of_another_top_stays_where_it_is() -> None:
    net = insert_splits(
        parse_text(
            'layer { name: "a" type: "T" top: "x" top: "y" loss_weight: 3 loss_weight: 5 }'
            + layer("b", "x", "z"),
            caffe_pb2.NetParameter,
        )
    )
    assert list(net.layer[0].loss_weight) == [0, 5]
    assert list(net.layer[1].loss_weight) == [3, 0]
