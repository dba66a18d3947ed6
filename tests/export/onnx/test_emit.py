"""Names of nodes and values, outputs, free and fixed batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError

CHAIN = """
name: "chain"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "drop1" type: "Dropout" bottom: "conv1" top: "conv1" }
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "side" type: "Power" bottom: "conv1" top: "side" power_param { scale: 2 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def written(folder: Path) -> Any:
    return onnx.load(folder / "net.onnx")


def test_names(export: Export, tmp_path: Path) -> None:
    done = export(CHAIN)
    assert done.inputs == {"data": "(N, 3, 6, 6)"}
    assert done.outputs == {"prob": "(N, 5)", "side": "(N, 4, 4, 4)"}
    graph = written(tmp_path).graph
    assert graph.name == "chain"
    nodes = {node.name: node for node in graph.node}
    assert list(nodes) == ["conv1", "relu1", "fc/Reshape", "fc", "side", "prob"]
    assert list(nodes["conv1"].input) == ["data", "conv1.weight", "conv1.bias"]
    assert list(nodes["relu1"].output) == ["conv1"]  # the blob's last value has its name
    assert list(nodes["fc"].output) == ["fc"]


def test_wanted_outputs(export: Export, tmp_path: Path) -> None:
    done = export(CHAIN, outputs=["fc", "conv1"])
    assert list(done.outputs) == ["fc", "conv1"]
    assert [n.name for n in written(tmp_path).graph.node] == ["conv1", "relu1", "fc/Reshape", "fc"]


def test_an_output_that_does_not_exist(export: Export) -> None:
    with pytest.raises(NetError, match=r'no layer makes a blob "prop" .*Did you mean "prob"'):
        export(CHAIN, outputs=["prop"])


def test_batch_of_a_fixed_size(export: Export) -> None:
    done = export(CHAIN, batch=3)
    assert done.inputs == {"data": "(3, 3, 6, 6)"}
    assert done.outputs["prob"] == "(3, 5)"


def test_a_layer_in_the_place_of_an_input(export: Export) -> None:
    text = one_layer('type: "ReLU"', "2 3", tops='top: "x0"')
    assert export(text).outputs == {"x0/it": "(N, 3)"}


def test_one_value_under_several_names(export: Export, tmp_path: Path) -> None:
    text = one_layer('type: "Split"', "2 3", tops='top: "a" top: "b"')
    done = export(text + 'layer { name: "d" type: "Dropout" bottom: "a" top: "c" }')
    assert list(done.outputs) == ["b", "c"]
    assert {node.op_type for node in written(tmp_path).graph.node} == {"Identity"}


def test_layers_and_blobs_with_confusing_names(export: Export) -> None:
    """A blob called as another layer's parameter, two layers of one name."""
    text = one_layer('type: "InnerProduct" inner_product_param { num_output: 3 }', "2 3", name="a")
    text += """
    layer { name: "a" type: "ReLU" bottom: "y" top: "a.weight" }
    layer { name: "a" type: "Power" bottom: "a.weight" top: "a/Reshape:0" power_param { shift: 1 } }
    layer { name: "a" type: "Swish" bottom: "a/Reshape:0" top: "a.bias" }
    """
    assert list(export(text).outputs) == ["a.bias"]


def test_a_shared_parameter_is_stored_once(export: Export, tmp_path: Path) -> None:
    layer = """layer {{ name: "{0}" type: "InnerProduct" bottom: "{1}" top: "{0}"
      param {{ name: "w" }} inner_product_param {{ num_output: 3 bias_term: false }} }}\n"""
    text = one_layer('type: "ReLU"', "2 3") + layer.format("a", "y") + layer.format("b", "a")
    export(text)
    assert [t.name for t in written(tmp_path).graph.initializer] == ["a.weight"]


def test_inputs_that_nobody_reads_are_gone(export: Export) -> None:
    text = one_layer('type: "ReLU"', "2 3")
    text += 'layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 } } }'
    assert list(export(text).inputs) == ["x0"]


def test_a_batch_that_becomes_an_axis_of_images_is_fixed(export: Export) -> None:
    text = one_layer('type: "Reshape" reshape_param { shape { dim: 1 dim: 1 } num_axes: 0 }', "1 5")
    pool = "pooling_param { pool: AVE kernel_size: 2 stride: 4 }"
    assert not export(
        f'{text} layer {{ name: "p" type: "Pooling" bottom: "y" top: "z" {pool} }}'
    ).free_batch
