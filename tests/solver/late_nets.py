"""Small nets of the kinds that people train, with data that needs no files."""

from __future__ import annotations


def _data(x: str, label: str, classes: int) -> str:
    return f"""
layer {{ name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {{
  shape {{ {x} }} shape {{ {label} }}
  data_filler {{ type: "gaussian" }} data_filler {{ type: "constant" value: {classes - 1} }} }} }}
"""


def _ip(name: str, bottom: str, outputs: int) -> str:
    return f"""
layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}
"""


def _conv(name: str, bottom: str, more: str) -> str:
    return f"""
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
  convolution_param {{ {more} weight_filler {{ type: "xavier" }} }} }}
"""


_POOL = """
layer {{ name: "{0}" type: "Pooling" bottom: "{1}" top: "{0}"
  pooling_param {{ pool: MAX kernel_size: {2} stride: 2 }} }}
"""
_IN_PLACE = 'layer {{ name: "{0}{1}" type: "{0}" bottom: "{1}" top: "{1}" }}\n'
_LOSS = """
layer {{ name: "accuracy" type: "Accuracy" bottom: "{0}" bottom: "label" top: "accuracy" }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "{0}" bottom: "label" top: "loss" }}
"""

LENET = (
    _data("dim: 4 dim: 1 dim: 12 dim: 12", "dim: 4", 3)
    + _conv("conv1", "data", "num_output: 4 kernel_size: 3")
    + _POOL.format("pool1", "conv1", 2)
    + _ip("ip1", "pool1", 8)
    + _IN_PLACE.format("ReLU", "ip1")
    + _ip("ip2", "ip1", 3)
    + _LOSS.format("ip2")
)
CAFFENET = (
    _data("dim: 2 dim: 3 dim: 31 dim: 31", "dim: 2", 5)
    + _conv("conv1", "data", "num_output: 6 kernel_size: 7 stride: 2")
    + _IN_PLACE.format("ReLU", "conv1")
    + _POOL.format("pool1", "conv1", 3)
    + 'layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param {'
    " local_size: 5 alpha: 0.0001 beta: 0.75 } }\n"
    + _conv("conv2", "norm1", "num_output: 8 pad: 1 kernel_size: 3 group: 2")
    + _IN_PLACE.format("ReLU", "conv2")
    + _ip("fc6", "conv2", 12)
    + _IN_PLACE.format("ReLU", "fc6")
    + _IN_PLACE.format("Dropout", "fc6")
    + _ip("fc8", "fc6", 5)
    + _LOSS.format("fc8")
)
BATCH_NORM = (
    _data("dim: 4 dim: 3 dim: 9 dim: 9", "dim: 4", 3)
    + _conv("conv1", "data", "num_output: 4 kernel_size: 3 bias_term: false")
    + _IN_PLACE.format("BatchNorm", "conv1")
    + 'layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1"'
    " scale_param { bias_term: true } }\n"
    + _IN_PLACE.format("ReLU", "conv1")
    + _conv("conv2", "conv1", "num_output: 4 kernel_size: 3 pad: 1")
    + 'layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "sum" }\n'
    + 'layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool"'
    " pooling_param { pool: AVE global_pooling: true } }\n"
    + _ip("ip", "pool", 3)
    + _LOSS.format("ip")
)
LSTM = """
layer { name: "data" type: "DummyData" top: "word" top: "cont" top: "label" dummy_data_param {
  shape { dim: 3 dim: 2 } shape { dim: 3 dim: 2 } shape { dim: 3 dim: 2 }
  data_filler { type: "uniform" min: 0 max: 5 }
  data_filler { value: 1 } data_filler { value: 2 } } }
layer { name: "embed" type: "Embed" bottom: "word" top: "embed"
  embed_param { input_dim: 6 num_output: 4 weight_filler { type: "uniform" min: -1 max: 1 } } }
layer { name: "lstm" type: "LSTM" bottom: "embed" bottom: "cont" top: "h"
  recurrent_param { num_output: 5 weight_filler { type: "uniform" min: -0.5 max: 0.5 } } }
layer { name: "rnn" type: "RNN" bottom: "h" bottom: "cont" top: "r"
  recurrent_param { num_output: 5 weight_filler { type: "uniform" min: -0.5 max: 0.5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "r" top: "ip"
  inner_product_param { num_output: 4 axis: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"
  softmax_param { axis: 2 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
  accuracy_param { axis: 2 } }
"""
KINDS = {"LeNet": LENET, "CaffeNet": CAFFENET, "BatchNorm": BATCH_NORM, "LSTM": LSTM}
