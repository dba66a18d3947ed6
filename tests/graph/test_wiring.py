from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.graph.conftest import PlainEntry

from moka.errors import NetError
from moka.graph.wiring import wire
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.graph.conftest import NodeMaker, Registry

DATA = 'layer { name: "in" type: "Input" top: "x" top: "t" }'


def test_nodes_and_unread_tops_in_alphabetical_order(registry: Registry) -> None:
    net = parse_text(
        'layer { name: "in" type: "Input" top: "x" top: "z" }'
        'layer { name: "one" type: "One" bottom: "x" top: "a" }',
        caffe_pb2.NetParameter,
    )
    nodes, outputs = wire(net, registry)
    assert [(n.name, n.type, n.bottoms, n.tops) for n in nodes] == [
        ("in", "Input", (), ("x", "z")),
        ("one", "One", ("x",), ("a",)),
    ]
    assert outputs == ("a", "z")


@pytest.mark.parametrize(
    ("state", "own", "phase"),
    [("TRAIN", "", "TRAIN"), ("TEST", "", "TEST"), ("TRAIN", "phase: TEST", "TEST")],
)
def test_a_layers_own_phase_wins(registry: Registry, state: str, own: str, phase: str) -> None:
    text = f'state {{ phase: {state} }} layer {{ name: "in" type: "Input" top: "x" {own} }}'
    (node,), _ = wire(parse_text(text, caffe_pb2.NetParameter), registry)
    assert node.layer.phase == caffe_pb2.Phase.Value(phase)


@pytest.mark.parametrize(
    ("layer", "weights"),
    [
        ('type: "Loss" bottom: "x" bottom: "t" top: "l"', (1.0,)),
        ('type: "Loss" bottom: "x" bottom: "t" top: "l" loss_weight: 3', (3.0,)),
        ('type: "Loss" bottom: "x" bottom: "t" top: "l" loss_weight: 0', (0.0,)),
        ('type: "Loss" bottom: "x" bottom: "t" top: "l" top: "p"', (1.0, 0.0)),
        ('type: "One" bottom: "x" top: "y"', (0.0,)),
        ('type: "One" bottom: "x" top: "y" loss_weight: 0.5', (0.5,)),
    ],
)
def test_loss_weights(make_nodes: NodeMaker, layer: str, weights: tuple[float, ...]) -> None:
    assert make_nodes(DATA + f'layer {{ name: "l" {layer} }}')[-1].loss_weights == weights


def test_a_loss_without_a_top_gets_one_that_is_no_output(registry: Registry) -> None:
    text = DATA + 'layer { name: "l" type: "Loss" bottom: "x" bottom: "t" }'
    nodes, outputs = wire(parse_text(text, caffe_pb2.NetParameter), registry)
    assert nodes[-1].tops == ("(automatic)",)
    assert nodes[-1].loss_weights == (1.0,)
    assert outputs == ()


@pytest.mark.parametrize(("bottoms", "fixed"), [(("x", "t"), 1), (("x", "x", "t"), 2)])
def test_fixed_bottoms_may_count_from_the_end(
    make_nodes: NodeMaker, bottoms: tuple[str, ...], fixed: int
) -> None:
    reads = " ".join(f'bottom: "{b}"' for b in bottoms)
    assert make_nodes(DATA + f'layer {{ name: "p" type: "Pick" {reads} top: "y" }}')[
        -1
    ].fixed_bottoms == (fixed,)


@pytest.mark.parametrize(
    ("given", "rates"),
    [
        ("", [0, 0]),
        ("param { lr_mult: 0 }", [0, 0]),
        ("param { lr_mult: 0 } param { lr_mult: 0 }", [0, 0]),
        ("param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 3 }", [0, 0, 3]),
    ],
)
def test_state_gets_a_rate_of_zero_where_none_is_given(
    registry: Registry, given: str, rates: list[float]
) -> None:
    text = DATA + f'layer {{ name: "s" type: "Stateful" bottom: "x" top: "y" {given} }}'
    net = parse_text(text, caffe_pb2.NetParameter)
    nodes, _ = wire(net, registry)
    assert [spec.lr_mult for spec in nodes[-1].layer.param] == rates
    assert len(net.layer[-1].param) == text.count("param")  # the net's message stays as it was


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("param { lr_mult: 3 }", "param 0 has lr_mult 3"),
        ("param { }", "param 0 has lr_mult 1"),
        ("param { lr_mult: 0 } param { decay_mult: 0 }", "param 1 has lr_mult 1"),
    ],
)
def test_state_that_is_given_a_rate(registry: Registry, given: str, says: str) -> None:
    text = DATA + f'layer {{ name: "s" type: "Stateful" bottom: "x" top: "y" {given} }}'
    wanted = rf'layer "s" \(Stateful\): Cannot configure statistics.*2 blobs, but {says}'
    with pytest.raises(NetError, match=wanted):
        wire(parse_text(text, caffe_pb2.NetParameter), registry)


def test_in_place_is_the_bottom_at_the_same_position(make_nodes: NodeMaker) -> None:
    nodes = make_nodes(DATA + 'layer { name: "e" type: "Each" bottom: "x" bottom: "t" top: "x"'
                       ' top: "y" }')  # fmt: skip
    assert [nodes[-1].in_place(j) for j in (0, 1)] == [True, False]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ('type: "Ona" bottom: "x" top: "y"', r"Unknown layer type: Ona \(known types: Each, Inp"),
        ('type: "MatRead"', "and DeepLab, which Moka does not have. Put an Input layer in its"),
        ('type: "Division" bottom: "x" top: "y"', "Write it as a Python layer, or leave it out"),
        ('type: "MolGridData" top: "y"', "Put an Input layer in its place"),
        ('type: "DenseCRF"', "which Moka does not have. Write it as a Python layer"),
        ('type: "LaneData"', "Put an AnnotatedData layer in its place"),
        ('type: "DenseCRF"', "It is a type of PSPNet and DeepLab, which Moka does not have"),
        (
            'type: "DenseCRFs"',
            r'Did you mean "DenseCRF"\? It is a type of PSPNet and DeepLab, which',
        ),
        ('type: "Ona" bottom: "x" top: "y"', 'Did you mean "One"'),
        ('type: "One" top: "y"', "takes 1 bottom, got 0"),
        ('type: "One" bottom: "x" bottom: "t" top: "y"', "takes 1 bottom, got 2"),
        ('type: "One" bottom: "x"', "takes 1 top, got 0"),
        ('type: "Join" bottom: "x" top: "y"', "takes at least 2 bottoms, got 1"),
        ('type: "Sink" bottom: "x" top: "y"', "takes no tops, got 1"),
        (
            'type: "Loss" bottom: "x" bottom: "t" top: "a" top: "b" top: "c"',
            "takes 1 to 2 tops, got 3",
        ),
        (
            'type: "Each" bottom: "x" bottom: "t" top: "y"',
            "one top for each bottom, got 2 bottoms and 1 tops",
        ),
        (
            'type: "Join" bottom: "x" bottom: "t" top: "y" propagate_down: true',
            "propagate_down must be given for no bottom or for each of the 2, got 1",
        ),
        (
            'type: "One" bottom: "x" top: "y" loss_weight: 1 loss_weight: 2',
            "loss_weight must be given for no top or for each of the 1, got 2",
        ),
        ('type: "One" bottom: "x" top: "t"', "Top blob 't' produced by multiple sources"),
        (
            'type: "Each" bottom: "x" bottom: "t" top: "y" top: "y"',
            "Top blob 'y' produced by multiple sources",
        ),
        ('type: "Each" bottom: "x" bottom: "t" top: "t" top: "x"', "produced by multiple sources"),
    ],
)
def test_faults_name_their_layer(registry: Registry, layer: str, message: str) -> None:
    net = parse_text(DATA + f'layer {{ name: "bad" {layer} }}', caffe_pb2.NetParameter)
    with pytest.raises(NetError, match=message) as caught:
        wire(net, registry)
    assert caught.value.layer == "bad"


def test_an_unknown_type_lists_the_types_of_bvlc_caffe(registry: Registry) -> None:
    known = {
        **registry,
        "Theirs": PlainEntry(fork="SSD"),
        "Another": PlainEntry(aliases=("Another",)),
    }
    net = parse_text('layer { name: "a" type: "Nothing" }', caffe_pb2.NetParameter)
    with pytest.raises(NetError, match=r"known types: Each, Inp") as caught:
        wire(net, known)
    assert "Theirs" not in str(caught.value)
    assert "Another" not in str(caught.value)
