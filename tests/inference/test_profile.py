from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import pytest
import torch

from moka.inference.contract import Backend
from moka.inference.engines import BACKENDS
from moka.inference.flow import flow_of
from moka.inference.make import Maker
from moka.inference.profile import Peak, measure_peak, profile

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "conv2" type: "Convolution" bottom: "conv" top: "conv2"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv2" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
"""


@pytest.mark.parametrize("backend", BACKENDS, ids=[backend.name for backend in BACKENDS])
def test_the_parts_of_a_program(make_net: NetMaker, backend: Backend) -> None:
    if not backend.is_installed():
        pytest.skip(f"{backend.name} is not installed")
    net, given = make_net(TEXT), {"data": torch.randn(2, 3, 8, 8)}
    program = Maker(net, flow_of(net), given, ["pool"]).make(backend)
    assert program is not None
    parts, whole_s = profile(program, given, 3)
    assert whole_s > 0
    if backend.name == "openvino":  # does not tell
        (part,) = parts
        assert part.layers == ["conv", "bn", "conv2", "pool"]
        assert isnan(part.seconds)
        return
    assert [part.layers for part in parts] == [["conv", "bn"], ["conv2"], ["pool"]]
    assert [part.types[0] for part in parts] == ["Convolution", "Convolution", "Pooling"]
    assert all(part.seconds > 0 for part in parts)
    assert [part.flops for part in parts] == [2 * 2 * 4 * 36 * 27, 2 * 2 * 4 * 36 * 4, 0]
    data, conv, weights = 2 * 3 * 64, 2 * 4 * 36, 4 * 27 + 4 + 4 + 4 + 1
    assert parts[0].moved == 4 * (data + conv + weights)


def test_the_roofline() -> None:
    peak = Peak(flops=100.0, bytes=10.0)
    assert peak.least_s(200, 5) == 2
    assert peak.least_s(200, 50) == 5
    cached = Peak(flops=100.0, bytes=10.0, in_caches=((20.0, 40.0), (50.0, 20.0)))
    assert cached.least_s(0, 20) == 0.5
    assert cached.least_s(0, 40) == 2
    assert cached.least_s(0, 60) == 6
    measured = measure_peak()
    assert all(b > 1e7 for _, b in measured.in_caches)
    assert measured.flops > 1e8
    assert measured.bytes > 1e7
