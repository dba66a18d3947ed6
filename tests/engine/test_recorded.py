"""Training passes on a CPU that run from a recording."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from moka.engine.autograd import Autograd
from moka.engine.segments import best_ends
from moka.errors import DataError
from moka.layers.base import Layer
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text

# What a recording could get wrong: random numbers, statistics, in-place layers, a shared parameter,
# a skip, labels that are checked, two losses, one of them weighted.
NET = """
input: "x" input_shape { dim: 4 dim: 3 dim: 6 dim: 6 }
input: "t" input_shape { dim: 4 }
force_backward: true
layer { name: "conv" type: "Convolution" bottom: "x" top: "c" param { name: "w" } param {}
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "again" type: "Convolution" bottom: "c" top: "d" param { name: "w" } param {}
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "lrn" type: "LRN" bottom: "d" top: "n" }
layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "n" top: "s" }
layer { name: "drop" type: "Dropout" bottom: "s" top: "s" }
layer { name: "ip" type: "InnerProduct" bottom: "s" top: "y"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "t" top: "loss" loss_weight: 2 }
layer { name: "size" type: "Reduction" bottom: "y" top: "size" loss_weight: 0.25
  reduction_param { operation: SUMSQ } }
"""
PASSES = 6


def engine_of(*, keep_blobs: bool = False, record: bool = True, text: str = NET) -> Autograd:
    torch.manual_seed(5)
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    engine = Autograd(net, keep_blobs=keep_blobs)
    if record:
        engine.record(warm_ups=1)
    return engine


def give(net: Net, k: int) -> None:
    """Another batch for pass k."""
    generator = torch.Generator().manual_seed(k)
    for name in net.graph.inputs:
        shape = net.blobs[name].data_memory.shape
        labels = torch.randint(5, shape, generator=generator).float()
        given = labels if name == "t" else torch.randn(shape, generator=generator)
        net.blobs[name].data_memory.put(given)


def run(engine: Autograd, passes: int = PASSES, *, cleared: bool = True) -> list[Tensor]:
    """All that some passes leave behind."""
    torch.manual_seed(11)
    found: list[Tensor] = []
    for k in range(passes):
        give(engine.net, k)
        found.append(engine.forward_backward())
        blobs = engine.net.blobs
        found += [blobs[name].data_memory.tensor().clone() for name in sorted(engine.in_view)]
        if engine.keep_blobs:
            found += [blob.diff_memory.tensor().clone() for blob in blobs.values()]
        for weight in engine.net.parameters():
            found.append(weight.detach().clone())
            if weight.grad is not None:
                found.append(weight.grad.clone())
                weight.grad = None if cleared else weight.grad
            weight.data *= 0.875  # as an update would
    return [*found, torch.rand(3)]  # the generator has gone on alike


def conv_of(net: Net) -> Layer:
    return next(place.layer for place in net.places if place.node.name == "conv")


def recordings(engine: Autograd) -> int:
    assert engine.recorded is not None
    return engine.recorded.captured.recordings


@pytest.mark.parametrize("cleared", [True, False])
@pytest.mark.parametrize("keep_blobs", [False, True])
def test_a_recording_changes_no_bit(keep_blobs: bool, cleared: bool) -> None:
    engine = engine_of(keep_blobs=keep_blobs)
    found = run(engine, cleared=cleared)
    wanted = run(engine_of(keep_blobs=keep_blobs, record=False), cleared=cleared)
    assert recordings(engine) == 1
    assert len(found) == len(wanted)
    assert all(map(torch.equal, found, wanted))


def test_layers_are_not_called_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of()
    run(engine, 2)
    monkeypatch.setattr(engine.net, "run_layer", None)
    run(engine, 2)


def test_a_wrong_label_is_told_and_leaves_the_gradients_alone() -> None:
    engine = engine_of()
    run(engine, 4)
    engine.net.blobs["t"].data_memory.put(torch.tensor([0.0, 1, 7, 2]))
    with pytest.raises(DataError, match=r"label 7 is outside of the 5 classes") as caught:
        engine.forward_backward()
    assert caught.value.layer == "loss"
    assert all(weight.grad is None for weight in engine.net.parameters())


def hook_a_layer(net: Net, called: list[int]) -> None:
    conv_of(net).register_forward_hook(lambda *_: called.append(1))


def hook_a_parameter(net: Net, called: list[int]) -> None:
    weight: Any = next(net.parameters())
    weight.register_hook(lambda _: called.append(1))


def wait_for_a_gradient(net: Net, called: list[int]) -> None:
    weight: Any = next(net.parameters())
    weight.register_post_accumulate_grad_hook(lambda _: called.append(1))


def exchange_its_pass(net: Net, called: list[int]) -> None:
    layer: Any = conv_of(net)
    forward = layer.forward

    def counted(x: Tensor) -> Tensor:
        called.append(1)
        made: Tensor = forward(x)
        return made

    layer.forward = counted


@pytest.mark.parametrize(
    "hook", [hook_a_layer, hook_a_parameter, wait_for_a_gradient, exchange_its_pass]
)
def test_functions_of_the_user_are_called_in_each_pass(
    hook: Callable[[Net, list[int]], None],
) -> None:
    engine, called = engine_of(), list[int]()
    run(engine, 3)
    hook(engine.net, called)
    run(engine, 3)
    assert len(called) == 3


def test_a_hook_on_a_layer_that_makes_inputs_is_outside_of_the_recording() -> None:
    engine = engine_of()
    run(engine, 3)
    source = next(place for place in engine.net.places if not place.node.bottoms)
    source.layer.register_forward_hook(lambda *_: None)
    run(engine, 3)
    assert recordings(engine) == 1
    assert engine.recorded is not None
    assert engine.recorded.captured.refusal is None


def test_a_parameter_in_other_memory_is_recorded_anew() -> None:
    engine, plain = engine_of(), engine_of(record=False)
    for each in (engine, plain):
        run(each, 3)
        weight = conv_of(each.net).weights[0]
        weight.data = 2 * weight.data
    found, wanted = run(engine, 3), run(plain, 3)
    assert all(map(torch.equal, found, wanted))
    assert recordings(engine) == 2


def test_a_parameter_that_is_frozen_gets_no_gradient_any_more() -> None:
    engine = engine_of()
    run(engine, 3)
    weight = conv_of(engine.net).weights[0]
    weight.requires_grad_(False)
    engine.forward_backward()
    assert weight.grad is None
    assert sum(w.grad is not None for w in engine.net.parameters()) == 6


def test_other_nets_change_nothing() -> None:
    engine = engine_of()
    run(engine, 3)
    for training in (False, True):
        engine_of(record=False).net.train(training)
        run(engine, 2)
    assert recordings(engine) == 1


def test_passes_without_gradient_are_others() -> None:
    engine, plain = engine_of(), engine_of(record=False)
    for each in (engine, plain):
        with torch.no_grad():
            run(each, 3)
    found, wanted = run(engine, 3), run(plain, 3)
    assert all(map(torch.equal, found, wanted))
    assert recordings(engine) == 2


def test_another_shape_is_recorded_anew() -> None:
    engine, plain = engine_of(), engine_of(record=False)
    for each in (engine, plain):
        run(each, 3)
        each.net.blobs["x"].reshape(2, 3, 6, 6)
        each.net.blobs["t"].reshape(2)
    found, wanted = run(engine, 3), run(plain, 3)
    assert all(map(torch.equal, found, wanted))
    assert recordings(engine) == 2


def test_what_is_not_the_same_work_each_time_is_not_recorded() -> None:
    layer = """layer { name: "f" type: "Filter" bottom: "y" bottom: "t" top: "z" }"""
    engine = engine_of(text=NET + layer)
    run(engine, 3)
    assert recordings(engine) == 0
    assert engine.recorded is not None
    assert engine.recorded.captured.refusal == (
        'A step is not recorded: layer "f" (Filter) is not the same work each time.'
    )


STREAMS = """
input: "x" input_shape { dim: 3 dim: 4 dim: 5 }
input: "c" input_shape { dim: 3 dim: 4 }
layer { name: "r" type: "LSTM" bottom: "x" bottom: "c" top: "y"
  recurrent_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "s" type: "Reduction" bottom: "y" top: "s" loss_weight: 1 }
"""


def test_a_state_that_is_exchanged_is_the_one_that_counts() -> None:
    found = []
    for record in (True, False):
        engine = engine_of(text=STREAMS, record=record)
        blobs, losses = engine.net.blobs, []
        for k, streams in enumerate((4, 4, 4, 4, 2, 4, 4, 2, 4)):
            blobs["x"].reshape(3, streams, 5)
            blobs["c"].reshape(3, streams)
            blobs["x"].data_memory.put(torch.full((3, streams, 5), float(k)))
            blobs["c"].data_memory.put(torch.ones(3, streams))
            losses.append(engine.forward_backward())
        found.append([*losses, *engine.net.places[-2].layer.run_state()])
    assert all(map(torch.equal, *found))


TWO_PARAMETERS = """
layer { name: "a" type: "Parameter" top: "a" parameter_param { shape { dim: 2 dim: 3 } } }
layer { name: "b" type: "Parameter" top: "b" parameter_param { shape { dim: 2 dim: 3 } } }
layer { name: "e" type: "Eltwise" bottom: "a" bottom: "b" top: "e" }
layer { name: "s" type: "Reduction" bottom: "e" top: "s" loss_weight: 1 }
"""


def test_passes_add_up_to_each_gradient_once() -> None:
    engine = engine_of(text=TWO_PARAMETERS)
    for _ in range(4):
        engine.forward_backward()
    assert [weight.grad.tolist() for weight in engine.net.parameters() if weight.grad is not None
            ] == [[[4] * 3] * 2] * 2  # fmt: skip


def test_a_copy_makes_recordings_of_its_own() -> None:
    engine = engine_of()
    run(engine, 3)
    copied = deepcopy(engine)
    with torch.no_grad():
        for weight in engine.net.parameters():
            weight.zero_()
    plain = engine_of(record=False)
    run(plain, 3)
    found, wanted = run(copied, 3), run(plain, 3)
    assert all(map(torch.equal, found, wanted))


def test_segments_are_not_recorded() -> None:
    engine = engine_of()
    engine.segment_ends = best_ends(engine.net)
    run(engine, 3)
    assert recordings(engine) == 0
