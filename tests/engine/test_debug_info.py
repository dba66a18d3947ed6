"""The lines of `debug_info`, their order and values; tests/conformance holds recorded ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from moka.engine.autograd import Autograd
from moka.engine.layerwise import Layerwise
from moka.net import Net
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

# y = 2x and z = 2y, by one shared weight; z is negated in place; loss = z.z / 2 = 8 x^2 each.
SHARED = """
debug_info: true
layer { name: "in" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 2 dim: 1 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" }
  inner_product_param { num_output: 1 bias_term: false weight_filler { value: 2 } } }
layer { name: "b" type: "InnerProduct" bottom: "y" top: "z" param { name: "w" }
  inner_product_param { num_output: 1 weight_filler { value: 2 } } }
layer { name: "neg" type: "Power" bottom: "z" top: "z" power_param { scale: -1 } }
layer { name: "more" type: "Silence" bottom: "z" }
layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "t" top: "loss" }
"""
FORWARD = [
    "[Forward] Layer in, top blob x data: 2",
    "[Forward] Layer in, top blob t data: 0",
    "[Forward] Layer a, top blob y data: 4",
    "[Forward] Layer a, param blob w data: 2",  # by its name
    "[Forward] Layer b, top blob z data: 8",
    "[Forward] Layer b, param blob w data: 2",
    "[Forward] Layer b, param blob 1 data: 0",
    "[Forward] Layer neg, top blob z data: 8",
    "[Forward] Layer z_neg_0_split, top blob z_neg_0_split_0 data: 8",
    "[Forward] Layer z_neg_0_split, top blob z_neg_0_split_1 data: 8",
    "[Forward] Layer loss, top blob loss data: 40",  # (4^2 + 12^2) / (2 * 2)
]
# dL/dz = -2 and 6 before the sign, 4 on the average; y = -2 and 6, x = -1 and 3.
BACKWARD = [
    "[Backward] Layer loss, bottom blob z_neg_0_split_1 diff: 4",
    "[Backward] Layer z_neg_0_split, bottom blob z diff: 4",
    "[Backward] Layer neg, bottom blob z diff: 4",
    "[Backward] Layer b, bottom blob y diff: 8",
    "[Backward] Layer b, param blob 0 diff: 40",  # 2*2 + 6*6; by its number
    "[Backward] Layer b, param blob 1 diff: 4",
    "[Backward] Layer a, param blob 0 diff: 80",  # 4*1 + 12*3 more
]
ALL = (
    "[Backward] All net params (data, diff): L1 norm = (2, 84); L2 norm = (2, 80.0999)"
    # sqrt(80^2 + 4^2)
)


@pytest.fixture
def net(make_net: NetMaker) -> Net:
    made = make_net(SHARED, caffe_pb2.TRAIN)
    made.blobs["x"].data[...] = [[-1], [3]]
    return made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged with the prefix of these lines, as it comes."""
    caplog.set_level(logging.INFO, "moka")
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if message.startswith(("    [Forward] ", "    [Backward] ")):
                severe = "All net params" in message
                assert record.levelno == (logging.ERROR if severe else logging.INFO)
                found.append(message.strip())

    handler = Collect()
    logging.getLogger("moka").addHandler(handler)
    yield found
    logging.getLogger("moka").removeHandler(handler)


def test_the_lines_of_a_training_pass(net: Net, lines: list[str]) -> None:
    step = Autograd(net)
    assert float(step.forward_backward()) == 40
    assert lines == [*FORWARD, *BACKWARD, ALL]
    step.forward()
    assert lines[19:] == FORWARD


def test_gradients_add_up_over_passes(net: Net, lines: list[str]) -> None:
    step = Autograd(net)
    step.forward_backward()
    step.forward_backward()
    second = lines[19:]
    assert second[:15] == [*FORWARD, *BACKWARD[:4]]
    assert second[15] == "[Backward] Layer b, param blob 0 diff: 120"  # 80 there, 40 more


def test_a_pass_with_log_computes_what_one_without_does(make_net: NetMaker) -> None:
    text = """
    layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param {
      shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 dim: 5 }
      data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
    layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
      convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
    layer { name: "norm" type: "BatchNorm" bottom: "c" top: "c" }
    layer { name: "drop" type: "Dropout" bottom: "c" top: "c" }
    layer { name: "ip" type: "InnerProduct" bottom: "c" top: "y"
      inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
    """
    results = []
    for debug_info in (False, True):
        torch.manual_seed(5)
        net = make_net(text, caffe_pb2.TRAIN)
        step = Autograd(net)
        step.layerwise.debug_info = debug_info
        losses = [float(step.forward_backward()) for _ in range(3)]
        results.append((losses, [net.parameter_of(b) for b in net.learnable]))
    (plain_losses, plain), (losses, logged) = results
    assert losses == pytest.approx(plain_losses, rel=1e-5)  # float32
    for a, b in zip(plain, logged, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_single_layers_log_no_summary(net: Net, lines: list[str]) -> None:
    engine = Layerwise(net)
    seen: list[int] = []
    engine.callbacks.after_forward.append(lambda _: seen.append(len(lines)))
    engine.forward()
    engine.backward()
    assert lines == [*FORWARD, *BACKWARD]
    assert seen == [2, 4, 7, 8, 10, 10, 11]  # a callback comes after the layer's lines
    lines.clear()
    engine.forward(3, 3)
    engine.backward(3, 3)
    assert lines == [FORWARD[7], BACKWARD[2]]


def test_without_it_nothing_is_logged(net: Net, lines: list[str]) -> None:
    step, engine = Autograd(net), Layerwise(net)
    step.layerwise.debug_info = engine.debug_info = False
    step.forward_backward()
    engine.forward()
    engine.backward()
    assert lines == []


FIXED = """
debug_info: true
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" param { lr_mult: 0 }
  inner_product_param { num_output: 3 weight_filler { value: 1 } } }
layer { name: "norm" type: "BatchNorm" bottom: "y" top: "n" }
layer { name: "loss" type: "EuclideanLoss" bottom: "n" bottom: "t" top: "loss" }
"""


@pytest.mark.parametrize(
    ("force", "wanted"),
    [
        (False, "loss n, norm y, norm 0, norm 1, norm 2, ip 1"),
        (True, "loss n, loss t, norm y, norm 0, norm 1, norm 2, ip x, ip 0, ip 1"),
    ],
)
def test_which_gradients_are_logged(
    make_net: NetMaker, lines: list[str], force: bool, wanted: str
) -> None:
    """Statistics of BatchNorm ask for gradients, as in BVLC Caffe, and have none."""
    net = make_net(f"force_backward: {str(force).lower()}" + FIXED, caffe_pb2.TRAIN)
    Autograd(net).forward_backward()
    backward = [line.split() for line in lines if "[Backward] Layer" in line]
    assert ", ".join(f"{words[2].strip(',')} {words[5]}" for words in backward) == wanted
    assert all(float(w[-1]) == 0 for w in backward if w[2] == "norm," and w[3] == "param")
