"""Nets of detection as a whole: a small SSD learns to find squares; an R-CNN runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from moka.engine.autograd import Autograd
from moka.schema import caffe_pb2, parse_text
from moka.solver.solver import Solver
from moka.weights import share_weights

if TYPE_CHECKING:
    from tests.conftest import NetMaker

    from moka.types import Array


def conv(name: str, bottom: str, channels: int, fields: str = "kernel_size: 3 pad: 1") -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"'
        f" convolution_param {{ num_output: {channels} {fields}"
        ' weight_filler { type: "xavier" } } }'
    )


def head(name: str, channels: int) -> str:
    return (
        conv(name, "norm", channels)
        + f'layer {{ name: "{name}_perm" type: "Permute" bottom: "{name}" top: "{name}_perm"'
        " permute_param { order: 0 order: 2 order: 3 order: 1 } }"
        f' layer {{ name: "{name}_flat" type: "Flatten" bottom: "{name}_perm"'
        f' top: "{name}_flat" }}'
    )


SSD = (
    'layer { name: "data" type: "Input" top: "data" top: "label" input_param {'
    " shape { dim: 4 dim: 3 dim: 32 dim: 32 } shape { dim: 1 dim: 1 dim: 4 dim: 8 } } }"
    + conv("c1", "data", 16, "kernel_size: 5 pad: 2 stride: 4")
    + 'layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }'
    ' layer { name: "norm" type: "Normalize" bottom: "c1" top: "norm" norm_param {'
    ' across_spatial: false channel_shared: false scale_filler { type: "constant" value: 5 } } }'
    + head("loc", 8)
    + head("conf", 6)
    + 'layer { name: "prior" type: "PriorBox" bottom: "norm" bottom: "data" top: "prior"'
    " prior_box_param { min_size: 8 max_size: 14 variance: 0.1 variance: 0.1 variance: 0.2"
    " variance: 0.2 } }"
    ' layer { name: "loss" type: "MultiBoxLoss" bottom: "loc_flat" bottom: "conf_flat"'
    ' bottom: "prior" bottom: "label" top: "loss" include { phase: TRAIN }'
    " propagate_down: true propagate_down: true propagate_down: false propagate_down: false"
    " multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE } }"
)
FINDS = (
    'layer { name: "shaped" type: "Reshape" bottom: "conf_flat" top: "shaped"'
    " reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }"
    ' layer { name: "p" type: "Softmax" bottom: "shaped" top: "p" softmax_param { axis: 2 } }'
    ' layer { name: "scores" type: "Flatten" bottom: "p" top: "scores" }'
    ' layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "scores"'
    ' bottom: "prior" top: "found" detection_output_param { num_classes: 3'
    " code_type: CENTER_SIZE keep_top_k: 1 confidence_threshold: 0.3"
    " nms_param { nms_threshold: 0.45 } } }"
)


def squares() -> tuple[Array, Array]:
    """Four images, each with one bright rectangle in the channel of its class."""
    x, label = np.zeros((4, 3, 32, 32)), np.zeros((1, 1, 4, 8))
    for i, (left, top, right, bottom) in enumerate(
        ((4, 4, 14, 14), (14, 10, 24, 22), (8, 18, 20, 28), (18, 4, 28, 14))
    ):
        kind = 1 + i % 2
        x[i, kind, top:bottom, left:right] = 1
        label[0, 0, i] = [i, kind, 0, left / 32, top / 32, right / 32, bottom / 32, 0]
    return x, label


def test_a_small_ssd_learns(make_net: NetMaker, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, label = squares()
    param = parse_text(
        'base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" type: "SGD"', caffe_pb2.SolverParameter
    )
    param.net_param.CopyFrom(parse_text(SSD, caffe_pb2.NetParameter))
    param.snapshot_prefix = str(tmp_path / "ssd")
    solver = Solver(param)
    losses = []
    for _ in range(60):
        solver.net.blobs["data"].data[...] = x
        solver.net.blobs["label"].data[...] = label
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert losses[-1] < losses[0] / 5
    net = make_net(SSD + FINDS)
    share_weights(net, solver.net)
    net.blobs["data"].data[...] = x
    Autograd(net).forward()
    found = np.asarray(net.blobs["found"].data)[0, 0]
    assert found[:, :2].tolist() == label[0, 0, :, :2].tolist()
    np.testing.assert_allclose(found[:, 3:], label[0, 0, :, 3:7], atol=0.06)


RCNN = (
    'layer { name: "in" type: "Input" top: "data" top: "im_info" input_param {'
    " shape { dim: 1 dim: 3 dim: 64 dim: 96 } shape { dim: 1 dim: 3 } } }"
    + conv("feat", "data", 8, "kernel_size: 3 pad: 1 stride: 16")
    + conv("cls", "feat", 18, "kernel_size: 1")
    + conv("box", "feat", 36, "kernel_size: 1")
    + 'layer { name: "two" type: "Reshape" bottom: "cls" top: "two"'
    " reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }"
    ' layer { name: "p" type: "Softmax" bottom: "two" top: "p" }'
    ' layer { name: "prob" type: "Reshape" bottom: "p" top: "prob"'
    " reshape_param { shape { dim: 0 dim: 18 dim: -1 dim: 0 } } }"
    ' layer { name: "proposal" type: "Python" bottom: "prob" bottom: "box" bottom: "im_info"'
    ' top: "rois" python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"'
    " param_str: \"'feat_stride': 16, 'scales': [1, 2, 4]\" } }"
    ' layer { name: "pool" type: "ROIPooling" bottom: "feat" bottom: "rois" top: "pool"'
    " roi_pooling_param { pooled_w: 3 pooled_h: 2 spatial_scale: 0.0625 } }"
    ' layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param {'
    ' num_output: 4 weight_filler { type: "xavier" } } }'
)


def test_an_rcnn_runs_without_the_code_of_py_faster_rcnn(make_net: NetMaker) -> None:
    torch.manual_seed(0)
    net = make_net(RCNN)
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(1, 3, 64, 96))
    net.blobs["im_info"].data[...] = [[64, 96, 1]]
    Autograd(net).forward()
    assert 1 < net.blobs["ip"].shape[0] <= 300
    assert net.blobs["ip"].shape[1] == 4
