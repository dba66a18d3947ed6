"""Nets and weights to put on a shelf, and what is found there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import moka
from moka.checks.finding import Finding
from moka.weights import save_hdf5

DEPLOY = """
name: "small"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "perm" type: "Permute" bottom: "conv" top: "perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "ip" type: "InnerProduct" bottom: "perm" top: "ip"
  inner_product_param { num_output: 5 } }
"""
TRAIN = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "not_here_lmdb" batch_size: 7 } %s }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "label" top: "acc"
  include { phase: TEST } }
"""
CROP = "transform_param { crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }"
PARAMETERS = 4 * 27 + 4 + 5 * 4 * 36 + 5


def write(name: str, data: str | bytes) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data.encode() if isinstance(data, str) else data)


def save(net: str, weights: str) -> None:
    made = moka.load(net)
    if weights.endswith(".h5"):
        save_hdf5(made, weights)
    else:
        moka.save_weights(made, weights)


def only(*paths: str, **more: Any) -> Finding:
    (found,) = moka.check(*paths, **more)
    return found
