from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.layers.conftest import LayerMaker

    from moka.layers.base import Layer

X = np.array([[1.5, -2], [0, 3]])
KIND = 'type: "GradientScaler" gradient_scaler_param'


def factor_of(layer: Layer, *, repeat: bool = False) -> float:
    """What a pass multiplies the gradient by; the values stay as they are."""
    x = torch.tensor(X, requires_grad=True)
    y = layer.again(x) if repeat else layer(x)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y.detach().numpy(), X)
    (grad,) = torch.autograd.grad(y, x, torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64))
    factors = grad.numpy() / np.array([[1.0, 2], [3, 4]])
    np.testing.assert_allclose(factors, factors[0, 0])
    return float(factors[0, 0])


@pytest.mark.parametrize(("low", "high", "alpha", "most"), [(0, 1, 10, 4), (0.5, 2, 3, 2)])
def test_the_factor_rises_from_pass_to_pass(
    make_layer: LayerMaker, low: float, high: float, alpha: float, most: int
) -> None:
    fields = f"lower_bound: {low} upper_bound: {high} alpha: {alpha} max_iter: {most}"
    layer = make_layer(f"{KIND} {{ {fields} }}", X.shape, training=True)
    for t in range(6):
        height = high - low
        progress = min(1, t / most)
        want = 2 * height / (1 + exp(-alpha * progress)) - height + low
        assert factor_of(layer) == pytest.approx(-want)
        assert factor_of(layer, repeat=True) == pytest.approx(-want)
    assert want > 0.9 * high


def test_defaults_begin_with_nothing(make_layer: LayerMaker) -> None:
    layer = make_layer(KIND + " { }", X.shape, training=True)
    assert factor_of(layer) == 0
    assert factor_of(layer) == pytest.approx(-(2 / (1 + exp(-10)) - 1))


def test_a_late_start(make_layer: LayerMaker) -> None:
    fields = "threshold_iter: 2 max_iter: 6 lower_bound: 0.25 alpha: 2"
    layer = make_layer(f"{KIND} {{ {fields} }}", X.shape, training=True)
    have = [factor_of(layer) for _ in range(5)]
    want = [0.0, 0, 0] + [-(1.5 / (1 + exp(-2 * step / 8)) - 0.75 + 0.25) for step in (1, 2)]
    assert have == pytest.approx(want)


def test_a_net_for_testing_only_reverses(make_layer: LayerMaker) -> None:
    layer = make_layer(KIND + " { }", X.shape)
    assert [factor_of(layer) for _ in range(3)] == [-1, -1, -1]


@pytest.mark.parametrize("training", [False, True])
def test_a_constant_factor(make_layer: LayerMaker, *, training: bool) -> None:
    layer = make_layer(KIND + " { scale_factor: 0.25 }", X.shape, training=training)
    assert [factor_of(layer) for _ in range(2)] == [0.25, 0.25]


def test_reversal(make_layer: LayerMaker) -> None:
    assert factor_of(make_layer('type: "GradientReversal"', X.shape, training=True)) == -1


def test_bad_options(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="lower_bound must be <= upper_bound, got 2 and 1"):
        make_layer(KIND + " { lower_bound: 2 }", X.shape)
    with pytest.raises(NetError, match="alpha must be >= 0, got -1"):
        make_layer(KIND + " { alpha: -1 }", X.shape)
    with pytest.raises(NetError, match=r"max_iter must be >= 1, got 0.5"):
        make_layer(KIND + " { max_iter: 0.5 }", X.shape)


NET = """
layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param {
        shape { dim: 3 dim: 2 } data_filler { type: "constant" value: 0.5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param {
        num_output: 2 weight_filler { type: "constant" value: 0.1 } } }
layer { name: "scale" type: "GradientScaler" bottom: "ip" top: "ip"
        gradient_scaler_param { max_iter: 6 alpha: 3 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


def test_a_solver_goes_away_from_the_loss_and_resumes(tmp_path: Path) -> None:
    import caffe

    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 9\n'
        f'snapshot_prefix: "{tmp_path}/s" display: 0 snapshot: 0 snapshot_after_train: false'
    )
    whole = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    losses = []
    for _ in range(4):
        whole.step(1)
        losses.append(float(whole.net.blobs["loss"].data))
    assert losses[1] == losses[0]  # the first factor is 0
    assert losses[3] > losses[2] > losses[1]
    whole.snapshot()
    whole.step(3)
    resumed = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    resumed.restore(str(tmp_path / "s_iter_4.solverstate"))
    resumed.step(3)
    have, want = (s.net.params["ip"][0].data for s in (resumed, whole))
    np.testing.assert_array_equal(have, want)
