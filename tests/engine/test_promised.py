"""Blobs of a training pass that are computed when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.engine.nets_of_all_kinds import NETS
from tests.engine.test_autograd import fill_inputs
from tests.engine.test_ways import APART, RESIDUAL
from torch import Tensor

from moka.engine import promised
from moka.engine.autograd import Autograd
from moka.layers.arithmetic import Scale
from moka.net import Net
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

NORM = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 dim: 3 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 dim: 2 dim: 3 dim: 3 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "drop" type: "Dropout" bottom: "y" top: "z" }
layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "t" top: "loss" }
"""


@pytest.fixture
def two_engines(
    make_net: NetMaker, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[Autograd, Autograd]:
    """Of equal nets; the first promises whatever nobody reads, the second nothing."""
    engines = []
    for _ in range(2):
        torch.manual_seed(3)
        net = make_net(request.param, caffe_pb2.TRAIN)
        fill_inputs(net)
        engines.append(Autograd(net, keep_blobs=True))
    engines[1]._promises = None
    monkeypatch.setattr(promised, "is_worth_it", lambda saved, kept: True)
    return engines[0], engines[1]


def one_pass(engine: Autograd, seed: int) -> None:
    torch.manual_seed(seed)
    engine.forward_backward()


def update(net: Net) -> None:
    """What a solver's step does after the pass."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5)


def promised_blobs(net: Net) -> set[str]:
    return {
        f"{name}.{kind}"
        for name, blob in net.blobs.items()
        for kind in ("data", "diff")
        if getattr(blob, f"{kind}_memory").is_promised
    }


def arrays(net: Net) -> dict[str, np.ndarray]:
    found = {}
    for name, blob in net.blobs.items():
        found[f"{name}.data"], found[f"{name}.diff"] = blob.data.copy(), blob.diff.copy()
    for name, parameter in net.named_parameters():
        found[name] = parameter.detach().numpy().copy()
        if parameter.grad is not None:
            found[f"{name}.grad"] = parameter.grad.numpy().copy()
    return found


def assert_equal(a: Net, b: Net) -> None:
    have, want = arrays(a), arrays(b)
    assert have.keys() == want.keys()
    for name, array in want.items():
        # The same operations, perhaps on memory of another alignment.
        np.testing.assert_allclose(have[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("two_engines", [NORM, APART, RESIDUAL, *NETS.values()], indirect=True)
def test_what_somebody_reads_later_is_what_the_pass_had(
    two_engines: tuple[Autograd, Autograd],
) -> None:
    lazy, eager = two_engines
    for seed in range(2):
        for engine in two_engines:
            one_pass(engine, seed)
            update(engine.net)
            torch.manual_seed(9)
        assert_equal(lazy.net, eager.net)
        assert not promised_blobs(lazy.net)
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("two_engines", [NORM], indirect=True)
def test_only_inner_blobs_are_promised(two_engines: tuple[Autograd, Autograd]) -> None:
    lazy, _ = two_engines
    one_pass(lazy, 0)
    assert promised_blobs(lazy.net) == {"y.data", "y.diff", "z.data", "z.diff"}
    assert float(lazy.net.blobs["loss"].data) > 0


@pytest.mark.parametrize("two_engines", [APART], indirect=True)
def test_layers_are_merged_where_nobody_looks(
    two_engines: tuple[Autograd, Autograd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob of which only the diff is wanted is made too."""
    lazy, eager = two_engines
    calls: list[bool] = []
    monkeypatch.setattr(Scale, "forward", _counting(Scale.forward, calls))
    one_pass(lazy, 0)
    one_pass(eager, 0)
    assert len(calls) == 1
    held = lazy.net.blobs["b"].diff  # the pass runs again, layer by layer
    assert len(calls) == 2
    one_pass(lazy, 1)
    assert len(calls) == 3
    one_pass(eager, 1)
    np.testing.assert_allclose(held, eager.net.blobs["b"].diff, rtol=1e-5, atol=1e-7)


def _counting(forward: Callable[..., Tensor], calls: list[bool]) -> Callable[..., Tensor]:
    def counted(layer: Scale, *bottoms: Tensor) -> Tensor:
        calls.append(True)
        return forward(layer, *bottoms)

    return counted


@pytest.mark.parametrize("two_engines", [NORM], indirect=True)
def test_inputs_that_are_written_to_later_do_not_matter(
    two_engines: tuple[Autograd, Autograd],
) -> None:
    lazy, eager = two_engines
    for engine in two_engines:
        one_pass(engine, 0)
        engine.net.blobs["x"].data[...] = 7
    assert_equal(lazy.net, eager.net)
    assert (lazy.net.blobs["x"].data == 7).all()


@pytest.mark.parametrize("two_engines", [NORM], indirect=True)
def test_a_blob_that_was_read_or_is_held_is_filled_by_the_next_passes(
    two_engines: tuple[Autograd, Autograd],
) -> None:
    lazy, eager = two_engines
    one_pass(lazy, 0)
    held = lazy.net.blobs["y"].diff
    assert held.any()
    assert lazy.net.blobs["z"].data.any()
    for seed in range(1, 6):
        for engine in two_engines:
            one_pass(engine, seed)
        np.testing.assert_allclose(held, eager.net.blobs["y"].diff, rtol=1e-5, atol=1e-7)
        read_lately = seed <= promised.REMEMBERED
        assert ("z.data" in promised_blobs(lazy.net)) is not read_lately
        assert "y.data" in promised_blobs(lazy.net)
        assert "y.diff" not in promised_blobs(lazy.net)


@pytest.mark.parametrize("two_engines", [NORM], indirect=True)
def test_a_pass_of_single_layers_goes_on_from_promised_blobs(
    two_engines: tuple[Autograd, Autograd],
) -> None:
    lazy, eager = two_engines
    first = next(place.index for place in lazy.net.places if place.node.name == "drop")
    for engine in two_engines:
        one_pass(engine, 0)
        update(engine.net)
        torch.manual_seed(1)
        engine.layerwise.forward(first)
        engine.layerwise.backward()
    assert_equal(lazy.net, eager.net)


@pytest.mark.parametrize("two_engines", [NORM], indirect=True)
def test_a_copy_of_the_net_has_the_blobs(two_engines: tuple[Autograd, Autograd]) -> None:
    lazy, eager = two_engines
    for engine in two_engines:
        one_pass(engine, 0)
    copied = deepcopy(lazy.net)
    update(lazy.net)
    assert not promised_blobs(copied)
    for name, blob in eager.net.blobs.items():
        np.testing.assert_allclose(copied.blobs[name].data, blob.data, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(copied.blobs[name].diff, blob.diff, rtol=1e-5, atol=1e-6)


NO_PARAMETERS = """
force_backward: true
layer { name: "in" type: "Input" top: "x" top: "t"
  input_param { shape { dim: [2, 3] } shape { dim: [2, 3] } } }
layer { name: "tanh" type: "TanH" bottom: "x" top: "y" }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


@pytest.mark.parametrize("two_engines", [NO_PARAMETERS], indirect=True)
def test_a_net_without_parameters(two_engines: tuple[Autograd, Autograd]) -> None:
    for engine in two_engines:
        for k in range(promised.REMEMBERED + 1):
            one_pass(engine, k)
    assert "y.data" in promised_blobs(two_engines[0].net)
    found, wanted = (engine.net.blobs["y"] for engine in two_engines)
    np.testing.assert_array_equal(found.data, wanted.data)
    np.testing.assert_array_equal(found.diff, wanted.diff)


def test_small_savings_are_left_alone() -> None:
    assert promised.is_worth_it(1 << 28, 1 << 20)
    assert not promised.is_worth_it(1 << 28, 1 << 28)
    assert not promised.is_worth_it(1 << 20, 1 << 10)
