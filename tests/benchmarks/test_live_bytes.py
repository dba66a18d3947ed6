from __future__ import annotations

import torch
from live_bytes import LiveBytes

from moka.engine.autograd import Autograd
from moka.engine.segments import best_ends
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

MB = 1 << 20
LAYERS = 36
CHAIN = """
layer { name: "in" type: "DummyData" top: "0" dummy_data_param {
  shape { dim: 64 dim: 1024 } data_filler { type: "gaussian" } } }
layer { name: "ip" type: "InnerProduct" bottom: "0" top: "1"
  inner_product_param { num_output: 1024 weight_filler { type: "xavier" } } }
""" + "".join(
    f'layer {{ name: "s{i}" type: "Sigmoid" bottom: "{i}" top: "{i + 1}" }}\n'
    for i in range(1, LAYERS)
)
LOSS = f'layer {{ name: "loss" type: "Reduction" bottom: "{LAYERS}" top: "loss" loss_weight: 1 }}'


def test_what_lives_counts_until_it_is_gone() -> None:
    outside = torch.zeros(MB)
    with LiveBytes() as live:
        outside.view(2, -1).add_(1)
        kept = torch.ones(MB // 4)
        for _ in range(3):
            torch.ones(MB // 2)
    assert live.peak() == 3 * MB
    assert live.peak(without=[kept]) == 2 * MB


def test_recomputing_takes_half_of_the_memory() -> None:
    """36 blobs of a quarter of a megabyte, which fit in 12 if they are cut well."""
    peaks = []
    for cuts in (False, True):
        net = build_net(parse_text(CHAIN + LOSS, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
        engine = Autograd(net)
        if cuts:
            engine.segment_ends = best_ends(net)
        engine.forward_backward()
        net.zero_grad()
        with LiveBytes() as live:
            engine.forward_backward()
        peaks.append(live.peak([p.grad for p in net.parameters() if p.grad is not None]))
    assert peaks[0] >= 36 * MB // 4
    assert peaks[1] < 0.5 * peaks[0]
