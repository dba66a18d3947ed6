from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.engine.autograd import Autograd
from moka.engine.pass_start import PassStart
from moka.net import Net
from moka.schema import caffe_pb2
from moka.solver.faults.trace import first_fault, trace_pass

if TYPE_CHECKING:
    from tests.conftest import NetMaker

ROOT = """
layer { name: "in" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 1 weight_filler { value: 1 } } }
layer { name: "root" type: "Power" bottom: "y" top: "z" power_param { power: 0.5 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "t" top: "loss" }
"""


def started(net: Net, x: list[list[float]], t: float = 1) -> PassStart:
    """After one pass over x."""
    net.blobs["x"].data[...] = x
    net.blobs["t"].data[...] = t
    step = Autograd(net, replayable=True)
    step.forward_backward()
    assert step.start is not None
    return step.start


@pytest.fixture
def net(make_net: NetMaker, device: torch.device) -> Net:
    return make_net(ROOT, caffe_pb2.TRAIN)


def test_every_array_is_looked_at_in_the_order_of_the_pass(net: Net) -> None:
    arrays = list(trace_pass(net, started(net, [[4, 0, 0], [9, 0, 0]])))
    assert [(array.forward, array.layer, array.what) for array in arrays] == [
        (True, "in", "top blob x"),
        (True, "in", "top blob t"),
        (True, "ip", "param blob 0"),
        (True, "ip", "param blob 1"),
        (True, "ip", "top blob y"),
        (True, "root", "top blob z"),
        (True, "loss", "top blob loss"),
        (False, "loss", "bottom blob z"),
        (False, "root", "bottom blob y"),
        (False, "ip", "param blob 0"),
        (False, "ip", "param blob 1"),
    ]
    values = {(array.forward, array.what): array for array in arrays}
    z = values[True, "top blob z"]
    assert (z.shape, z.minimum, z.maximum, z.mean_abs) == ((2, 1), 2, 3, 2.5)
    assert (z.not_finite, z.first, z.value) == (0, None, None)
    dz = values[False, "bottom blob z"]  # (z - t) / 2
    assert (dz.minimum, dz.maximum) == (0.5, 1)
    # times half of 1 / z, summed over x = 4 and 9
    dw = arrays[-2]
    assert dw.maximum == pytest.approx(4 * 0.5 / 4 + 9 * 1 / 6)


def test_the_first_fault_of_the_forward_pass(net: Net) -> None:
    fault = first_fault(net, started(net, [[4, 0, 0], [-9, 0, 0]]))
    assert fault is not None
    assert fault.place == 'top blob z of layer "root" (Power), forward'
    assert fault.extent == "1 of 2 values, the first is nan at (1, 0)"
    assert (fault.minimum, fault.maximum, fault.mean_abs) == (2, 2, 2)  # of the finite ones


def test_a_fault_of_the_backward_pass_alone(net: Net) -> None:
    start = started(net, [[0, 0, 0], [9, 0, 0]])  # the slope of a root at 0 is infinite
    assert net.blobs["loss"].data == 1.25
    fault = first_fault(net, start)
    assert fault is not None
    assert fault.place == 'bottom blob y of layer "root" (Power), backward'
    assert fault.extent == "1 of 2 values, the first is -inf at (0, 0)"


def test_a_parameter_that_is_broken_already(net: Net) -> None:
    net.layer_blobs(1)[0].data[0, 2] = np.inf
    fault = first_fault(net, started(net, [[1, 0, 0], [9, 0, 0]]))
    assert fault is not None
    assert fault.place == 'param blob 0 of layer "ip" (InnerProduct), forward'


def test_data_that_is_broken(net: Net) -> None:
    fault = first_fault(net, started(net, [[1, 0, 0], [9, np.nan, 0]]))
    assert fault is not None
    assert fault.place == 'top blob x of layer "in" (Input), forward'
    assert fault.first == (1, 1)


def test_nothing_is_broken(net: Net) -> None:
    assert first_fault(net, started(net, [[1, 0, 0], [9, 0, 0]])) is None


STATISTICS = """
layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } } }
layer { name: "log" type: "Log" bottom: "x" top: "y" }
layer { name: "norm" type: "BatchNorm" bottom: "y" top: "n" }
layer { name: "loss" type: "EuclideanLoss" bottom: "n" bottom: "t" top: "loss" }
layer { name: "sink" type: "Silence" bottom: "x" }
"""


def test_statistics_are_as_before_the_pass(
    make_net: NetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "moka")
    net = make_net("debug_info: true" + STATISTICS, caffe_pb2.TRAIN)
    step = Autograd(net, replayable=True)
    step.forward_backward()
    assert step.start is not None
    assert not all(w.isfinite().all() for w in net.layers[3].weights)
    caplog.clear()
    fault = first_fault(net, step.start)
    assert fault is not None
    assert fault.place == 'top blob y of layer "log" (Log), forward'
    assert caplog.records == []
    assert not any(w.any() for layer in net.layers for w in layer.weights)
    assert step.layerwise.debug_info


def test_layers_that_only_write_do_not_run(make_net: NetMaker, tmp_path: Path) -> None:
    file = tmp_path / "rows.h5"
    output = f"""layer {{ name: "out" type: "HDF5Output" bottom: "x" bottom: "t"
      hdf5_output_param {{ file_name: "{file}" }} }}"""
    net = make_net(ROOT + output, caffe_pb2.TRAIN)
    start = started(net, [[1, 0, 0], [9, 0, 0]])
    file.unlink()
    assert first_fault(net, start) is None
    assert not file.exists()


def test_random_layers_draw_the_same(make_net: NetMaker) -> None:
    net = make_net(ROOT.replace('bottom: "y" top: "z"', 'bottom: "d" top: "z"').replace(
        'layer { name: "root"', 'layer { name: "drop" type: "Dropout" bottom: "y" top: "d" }'
        ' layer { name: "root"'), caffe_pb2.TRAIN)  # fmt: skip
    torch.manual_seed(4)
    start = started(net, [[4, 0, 0], [9, 0, 0]])
    wanted = net.blobs["loss"].data.copy()
    for _ in range(3):
        (loss,) = (k for k in trace_pass(net, start) if k.what == "top blob loss")
        assert loss.maximum == wanted
