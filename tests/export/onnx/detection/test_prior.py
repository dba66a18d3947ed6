"""Prior boxes are constants, and a whole SSD of two maps computes the same rows."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from tests.export.onnx.conftest import Export, one_layer

HEAD = """
layer {{ name: "loc{k}" type: "Convolution" bottom: "{map}" top: "loc{k}"
  convolution_param {{ num_output: 16 kernel_size: 3 pad: 1 }} }}
layer {{ name: "loc{k}_perm" type: "Permute" bottom: "loc{k}" top: "loc{k}_perm"
  permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
layer {{ name: "loc{k}_flat" type: "Flatten" bottom: "loc{k}_perm" top: "loc{k}_flat" }}
layer {{ name: "conf{k}" type: "Convolution" bottom: "{map}" top: "conf{k}"
  convolution_param {{ num_output: 12 kernel_size: 3 pad: 1 }} }}
layer {{ name: "conf{k}_perm" type: "Permute" bottom: "conf{k}" top: "conf{k}_perm"
  permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
layer {{ name: "conf{k}_flat" type: "Flatten" bottom: "conf{k}_perm" top: "conf{k}_flat" }}
layer {{ name: "prior{k}" type: "PriorBox" bottom: "{map}" bottom: "data" top: "prior{k}"
  prior_box_param {{ min_size: {small} max_size: {large} aspect_ratio: 2 flip: true
    variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }} }}
"""
JOIN = """
layer {{ name: "{0}" type: "Concat" bottom: "{0}0{1}" bottom: "{0}1{1}" top: "{0}"
  concat_param {{ axis: {2} }} }}
"""
SSD = (
    """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 32 dim: 40 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 stride: 4 } }
layer { name: "norm" type: "Normalize" bottom: "conv1" top: "norm"
  norm_param { across_spatial: false channel_shared: false } }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
"""
    + HEAD.format(k=0, map="norm", small=8, large=14)
    + HEAD.format(k=1, map="pool", small=14, large=22)
    + JOIN.format("loc", "_flat", 1)
    + JOIN.format("conf", "_flat", 1)
    + JOIN.format("prior", "", 2)
    + """
layer { name: "table" type: "Reshape" bottom: "conf" top: "table"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "prob" type: "Softmax" bottom: "table" top: "prob" softmax_param { axis: 2 } }
layer { name: "flat" type: "Flatten" bottom: "prob" top: "flat" }
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "flat" bottom: "prior"
  top: "found" detection_output_param { num_classes: 3 code_type: CENTER_SIZE keep_top_k: 50
    confidence_threshold: 0.2 nms_param { nms_threshold: 0.45 top_k: 100 } } }
"""
)


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_a_small_ssd(export: Export, opset: int) -> None:
    done = export(SSD, opset=opset)
    assert done.free_batch
    assert list(done.inputs) == ["data"]


@pytest.mark.parametrize(
    "layer",
    [
        'type: "PriorBox" prior_box_param { min_size: 4 max_size: 7 aspect_ratio: 3 clip: true }',
        'type: "PriorBoxClustered" prior_box_param { width: 4 height: 7 width: 9 height: 2 }',
    ],
)
def test_constants(export: Export, tmp_path: Path, layer: str) -> None:
    text = one_layer(layer, "2 4 3 5", "2 3 30 50")
    done = export(text + 'layer { name: "twice" type: "Power" bottom: "y" top: "z" }')
    assert not done.inputs
    model = onnx.load(tmp_path / "net.onnx")
    assert [node.op_type for node in model.graph.node] == ["Identity"]
