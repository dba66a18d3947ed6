from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from moka.engine.autograd import Autograd
from moka.engine.segments import best_ends, marked_ends
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text

# All that a second pass could spoil: dropout's mask, BatchNorm's sums, a state that an LSTM hands
# on, in-place layers, a shared parameter, a skip over several segments, two losses.
NET = """
layer { name: "data" type: "DummyData" top: "x" top: "t" top: "cont" dummy_data_param {
  shape { dim: 6 dim: 3 dim: 8 dim: 8 } shape { dim: 6 } shape { dim: 2 dim: 3 }
  data_filler { type: "gaussian" } data_filler { value: 1 } data_filler { value: 1 } } }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "conv1" param { name: "w" } param {}
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" param { name: "w" } param {}
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "LRN" bottom: "conv2" top: "norm" }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool"
  pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "pool" top: "sum" }
layer { name: "drop" type: "Dropout" bottom: "sum" top: "sum" }
layer { name: "aside" type: "InnerProduct" bottom: "pool" top: "aside"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss1" type: "SoftmaxWithLoss" bottom: "aside" bottom: "t" top: "loss1"
  loss_weight: 0.3 }
layer { name: "ip" type: "InnerProduct" bottom: "sum" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "steps" type: "Reshape" bottom: "ip" top: "steps"
  reshape_param { shape { dim: 2 dim: 3 dim: 5 } } }
layer { name: "lstm" type: "LSTM" bottom: "steps" bottom: "cont" top: "h"
  recurrent_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "flat" type: "Reshape" bottom: "h" top: "flat"
  reshape_param { shape { dim: 6 dim: 4 } } }
layer { name: "loss2" type: "SoftmaxWithLoss" bottom: "flat" bottom: "t" top: "loss2" }
"""


def build(*marked: str) -> Net:
    """The net; layers of these names are marked."""
    torch.manual_seed(3)
    message = parse_text(NET, caffe_pb2.NetParameter)
    for layer in message.layer:
        layer.checkpoint = layer.name in marked
    return build_net(message, caffe_pb2.TRAIN)


def run(ends: list[int], *marked: str, bfloat16: bool = False) -> list[Tensor]:
    """Losses, gradients and parameters of three passes, and what the layers hand on."""
    net = build(*marked)
    engine = Autograd(net, half=torch.bfloat16 if bfloat16 else None)
    if ends:
        engine.segment_ends = ends
    torch.manual_seed(5)
    found = [engine.forward_backward() for _ in range(3)]
    found.append(torch.rand(4))  # the generator has gone on alike
    for parameter in net.parameters():
        found += [parameter.detach(), parameter.grad] if parameter.grad is not None else [parameter]
    return found + [state for layer in net.layers for state in layer.run_state()]


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("cut", ["each layer", "best", "one", "halves"])
def test_segments_change_no_bit(cut: str, bfloat16: bool) -> None:
    count = len(build().places)
    ends = {
        "each layer": list(range(1, count + 1)),
        "best": best_ends(build()),
        "one": [count],
        "halves": [count // 2, count],
    }[cut]
    plain, cut_up = run([], bfloat16=bfloat16), run(ends, bfloat16=bfloat16)
    assert len(plain) == len(cut_up) > 20
    for wanted, found in zip(plain, cut_up, strict=True):
        assert torch.equal(wanted, found)


def test_marked_layers_are_kept_and_others_computed_again() -> None:
    names = [place.node.name for place in build().places]
    assert marked_ends(build()) == []
    assert marked_ends(build("bn1", "sum")) == [
        names.index("bn1") + 1,
        names.index("sum") + 1,
        len(names),
    ]
    assert marked_ends(build("loss2")) == [len(names)]
    for wanted, found in zip(run([]), run([], "conv1", "bn1", "norm", "lstm"), strict=True):
        assert torch.equal(wanted, found)


def test_a_marked_net_runs_layers_again() -> None:
    net = build("conv1", "drop")
    runs: dict[str, int] = {}
    for name, layer in net.named_layers():
        layer.register_forward_hook(
            lambda *_, name=name: runs.update({name: runs.get(name, 0) + 1})
        )
    Autograd(net).forward_backward()
    assert [runs[name] for name in ("conv1", "conv2", "pool", "ip", "loss2")] == [2, 2, 2, 1, 1]


CHAIN = """
layer { name: "in" type: "Input" top: "0" input_param { shape { dim: 2 dim: 1000 } } }
""" + "".join(
    f'layer {{ name: "s{i}" type: "Sigmoid" bottom: "{i}" top: "{i + 1}" }}\n' for i in range(64)
)


def test_a_chain_is_cut_into_as_many_parts_as_they_have_layers() -> None:
    net = build_net(parse_text(CHAIN, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    ends = best_ends(net)
    assert ends[-1] == len(net.places) == 65
    lengths = [end - start for start, end in pairwise((0, *ends))]
    assert 6 <= len(lengths) <= 11
    assert max(lengths) <= 11
