"""What differs between two nets."""

from __future__ import annotations

from moka.checks.compare_nets import LayerPair, compare_nets
from moka.schema import caffe_pb2, parse_text

A = """
layer { name: "data" type: "Data" include { phase: TRAIN } data_param { batch_size: 8 } }
layer { name: "data" type: "Data" include { phase: TEST } data_param { batch_size: 2 } }
layer { name: "conv" type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "gone" type: "ReLU" }
layer { name: "same" type: "ReLU" }
"""
B = """
layer { name: "data" type: "Data" include { phase: TRAIN } data_param { batch_size: 8 } }
layer { name: "data" type: "Data" include { phase: TEST } data_param { batch_size: 3 } }
layer { name: "conv" type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "same" type: "ReLU" }
layer { name: "new" type: "ReLU" }
"""


def test_each_kind_of_change() -> None:
    nets = [parse_text(text, caffe_pb2.NetParameter) for text in (A, B)]
    assert compare_nets(*nets) == [
        LayerPair("data", "same"),
        LayerPair("data", "changed", ("data_param.batch_size: 2",), ("data_param.batch_size: 3",)),
        LayerPair("conv", "changed", ("convolution_param.num_output: 4",),
                  ("convolution_param.num_output: 6",)),
        LayerPair("gone", "removed", ('name: "gone"', 'type: "ReLU"')),
        LayerPair("same", "same"),
        LayerPair("new", "added", (), ('name: "new"', 'type: "ReLU"')),
    ]  # fmt: skip


def test_layers_that_have_moved_are_the_same() -> None:
    one = parse_text('layer { name: "a" } layer { name: "b" }', caffe_pb2.NetParameter)
    two = parse_text('layer { name: "b" } layer { name: "a" }', caffe_pb2.NetParameter)
    assert sorted(pair.name for pair in compare_nets(one, two)) == ["a", "b"]
    assert {pair.change for pair in compare_nets(one, two)} == {"same"}
