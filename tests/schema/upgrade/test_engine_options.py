from __future__ import annotations

import logging

import pytest

from moka.schema import caffe_pb2, parse_text
from moka.schema.upgrade import upgrade_net, upgrade_solver

NET = """
name: "n" default_forward_math: FLOAT16 eltwise_mem_sharing: false multinode { model: 3 }
layer { name: "a" type: "Convolution" engine: "MKLDNN"
  convolution_param { num_output: 2 engine: MKL2017 conv_algorithm: "winograd" } }
layer { name: "b" type: "BatchNorm" engine: "CAFFE" quantization_param { bw_layer_in: 8 }
  batch_norm_param { eps: 0.1 engine: CUDNN } }
layer { name: "c" type: "ConvolutionRistretto" quantization_param { bw_layer_in: 8 } }
"""
PLAIN = """
name: "n"
layer { name: "a" type: "Convolution" convolution_param { num_output: 2 engine: MKL2017 } }
layer { name: "b" type: "BatchNorm" batch_norm_param { eps: 0.1 } }
layer { name: "c" type: "ConvolutionRistretto" quantization_param { bw_layer_in: 8 } }
"""


def test_a_nets_options_are_left_out_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    given = parse_text(NET, caffe_pb2.NetParameter)
    before = given.SerializeToString()
    assert upgrade_net(given, "n.prototxt") == parse_text(PLAIN, caffe_pb2.NetParameter)
    assert given.SerializeToString() == before
    (line,) = caplog.messages
    assert line.startswith("n.prototxt: ignored, since they only steer another engine: ")
    assert set(line.rpartition(": ")[2].split(", ")) == {
        "default_forward_math",
        "eltwise_mem_sharing",
        "multinode",
        "conv_algorithm",
        "engine (3)",
        "quantization_param",
    }


def test_a_net_without_them_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    given = parse_text(PLAIN, caffe_pb2.NetParameter)
    assert upgrade_net(given) is given
    assert caplog.messages == []


def test_a_solvers_options(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    given = parse_text(
        'base_lr: 1 solver_data_type: FLOAT16 engine: "MKL2017"', caffe_pb2.SolverParameter
    )
    assert upgrade_solver(given, "s") == caffe_pb2.SolverParameter(base_lr=1)
    assert "solver_data_type, engine" in caplog.messages[0]


def test_quantization_of_caffe_jacinto(caplog: pytest.LogCaptureFixture) -> None:
    """Its net is computed in float32; a solver that is to train for it is refused elsewhere."""
    caplog.set_level(logging.INFO, "moka")
    net = parse_text('name: "n" quantize: true', caffe_pb2.NetParameter)
    assert upgrade_net(net, "n.prototxt") == caffe_pb2.NetParameter(name="n")
    text = "max_iter: 3 snapshot_log: true quantization_start_iter: 5 quantize_weights: false"
    solver = upgrade_solver(parse_text(text, caffe_pb2.SolverParameter), "s.prototxt")
    assert solver == caffe_pb2.SolverParameter(max_iter=3)
    assert caplog.messages[0].endswith(": quantize")
