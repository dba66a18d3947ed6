from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from tests.played_gpu import playing_a_gpu
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from moka.engine.autograd import Autograd
from moka.engine.segments import best_ends, marked_ends
from moka.layers.late_checks import collecting_checks
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


SIZES = (40, 7, 90, 30, 60, 5, 80, 20, 10, 50)  # numbers that each layer makes


def chain(sizes: tuple[int, ...]) -> Net:
    text = 'layer { name: "in" type: "Input" top: "0" input_param { shape { dim: 1 dim: 25 } } }'
    for i, size in enumerate(sizes):
        text += (
            f'layer {{ name: "ip{i}" type: "InnerProduct" bottom: "{i}" top: "{i + 1}"'
            f" inner_product_param {{ num_output: {size} }} }}"
        )
    return build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TRAIN)


def most_at_once(ends: tuple[int, ...]) -> int:
    """What such a chain holds while it goes backward, segment by segment, layer by layer."""
    made = (0, *SIZES)  # the first layer's data are there anyhow
    gradients = (0, *(a + b for a, b in pairwise((25, *SIZES))))
    most = 0
    for start, end in pairwise((0, *ends)):
        on_borders = sum(made[border - 1] for border in ends if border <= start)
        for layer in range(start, end):
            most = max(most, on_borders + sum(made[start : layer + 1]) + gradients[layer])
    return most


def test_no_other_cuts_take_less_memory() -> None:
    count = len(SIZES) + 1
    ways = [(*cuts, count) for k in range(count) for cuts in combinations(range(1, count), k)]
    least = min(map(most_at_once, ways))
    found = tuple(best_ends(chain(SIZES)))
    assert most_at_once(found) <= 1.02 * least < 0.75 * most_at_once((count,))
    assert not any(most_at_once(ends) <= most_at_once(found) for ends in ways
                   if (0, *ends)[-2] < (0, *found)[-2])  # fmt: skip


def test_what_gradients_need_beside_the_blobs_counts() -> None:
    """The indices of max pooling: two numbers of float32 for each."""
    pooling = '"Pooling" pooling_param { %s kernel_size: 1 } bottom: "3"'
    text = CHAIN.replace('"Sigmoid" bottom: "3"', pooling)
    text = text.replace("dim: 2 dim: 1000", "dim: 2 dim: 10 dim: 10 dim: 10")
    average, largest = (
        best_ends(build_net(parse_text(text % pool, caffe_pb2.NetParameter), caffe_pb2.TRAIN))
        for pool in ("pool: AVE", "pool: MAX")
    )
    assert average[0] > largest[0]


def test_each_segment_knows_the_device_whose_random_numbers_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch keeps the state of a GPU's generator if it is given a tensor there."""
    given: list[set[torch.device]] = []

    def seen(segment: Any, *tensors: Tensor, **more: Any) -> Any:
        given.append({tensor.device for tensor in tensors})
        # PyTorch looks at devices where a CPU cannot play.
        return checkpoint(segment, *tensors, determinism_check="none", **more)

    monkeypatch.setattr("moka.engine.segments.checkpoint", seen)
    with playing_a_gpu() as gpu:
        net = build_net(parse_text(NET, caffe_pb2.NetParameter), caffe_pb2.TRAIN, device=gpu)
        engine = Autograd(net)
        engine.segment_ends = [4, 7, len(net.places)]
        engine.forward_backward()
    assert given == [{gpu}, {gpu}]


def test_labels_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a thread of PyTorch repeats the segments. It collects no checks, and shall neither
    raise nor wait for one."""
    labels = "data_filler { value: %d } data_filler { value: 1 }"
    net = build_net(
        parse_text(NET.replace(labels % 1, labels % 7), caffe_pb2.NetParameter), caffe_pb2.TRAIN
    )
    engine = Autograd(net)
    at_loss = next(place.index for place in net.places if place.node.name == "loss1")
    engine.segment_ends = [at_loss + 1, len(net.places)]
    backward = Tensor.backward

    def in_a_thread(loss: Tensor) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(backward, loss).result()

    monkeypatch.setattr(Tensor, "backward", in_a_thread)
    with collecting_checks() as checks:
        engine.pass_over(engine.next_batch())
    assert [check.size for check in checks.checks] == [2, 4]
