from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from moka.engine.precision import in_half, in_tensor_float_32
from moka.engine.ways import find_ways
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

NET = """
layer {
  name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 }
}
layer {
  name: "masked" type: "Pooling" bottom: "conv" top: "max" top: "mask"
  pooling_param { kernel_size: 2 stride: 2 }
}
layer { name: "norm" type: "BatchNorm" bottom: "pool" top: "norm" }
layer {
  name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } }
}
layer { name: "softmax" type: "Softmax" bottom: "ip" top: "softmax" }
"""


def test_who_gets_what(make_net: NetMaker, device: torch.device) -> None:
    net = make_net(NET, caffe_pb2.TRAIN)
    got: dict[str, torch.dtype] = {}
    for name, layer in net.named_layers():

        def look(
            *bottoms: Tensor,
            name: str = name,
            forward: Callable[..., Tensor] = layer.forward,
        ) -> Tensor:
            got.update((name, x.dtype) for x in bottoms)
            return forward(*bottoms)

        layer.forward = look
    ways = find_ways(net, in_half=True)
    with in_half(net, torch.bfloat16):
        blobs = net.propagate({"data": torch.randn(2, 3, 8, 8, device=device)}, ways=ways)
    half, single = torch.bfloat16, torch.float32
    in_single = {"conv", "masked", "softmax"}
    assert {name for name, dtype in got.items() if dtype == single} == in_single
    assert {got["relu"], got["pool"], got["norm"], got["ip"]} == {half}
    assert blobs["ip"].dtype == blobs["norm"].dtype == half
    assert blobs["mask"].dtype == blobs["softmax"].dtype == single


def test_tf32_beside_programs_that_use_either_switch_of_pytorch() -> None:
    """PyTorch has an old and a new switch, and raises if the old one is read after the new one."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    if convolutions is None:
        pytest.skip("PyTorch before 2.9")
    old, matmul = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul
    try:
        convolutions.fp32_precision = "ieee"
        with in_tensor_float_32():
            assert (convolutions.fp32_precision, matmul.fp32_precision) == ("tf32", "tf32")
        assert convolutions.fp32_precision == "ieee"
    finally:
        torch.backends.cudnn.allow_tf32 = old
    with in_tensor_float_32():
        pass
    assert torch.backends.cudnn.allow_tf32 == old
    assert not matmul.allow_tf32
