from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner


def slow_warp(x: Array, flow: Array, fill: float) -> Array:
    n, c, height, width = x.shape
    y = np.full(x.shape, fill)
    for k in range(n):
        for i in range(height):
            for j in range(width):
                v, u = j + flow[k, 0, i, j], i + flow[k, 1, i, j]
                if not (0 <= v < width and 0 <= u < height):
                    continue
                top, left = int(u), int(v)
                bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
                b, a = u - top, v - left
                for m in range(c):
                    p = x[k, m]
                    y[k, m, i, j] = (1 - b) * ((1 - a) * p[top, left] + a * p[top, right]) + b * (
                        (1 - a) * p[bottom, left] + a * p[bottom, right]
                    )
    return y


@pytest.mark.parametrize(("fill", "value"), [("ZERO", 0.0), ("NOT_A_NUMBER", np.nan)])
def test_flow_warp(make_layer: LayerMaker, run: Runner, fill: str, value: float) -> None:
    rng = np.random.default_rng(0)
    x, flow = rng.normal(size=(2, 3, 5, 6)), rng.normal(size=(2, 2, 5, 6)) * 2
    flow[0, 0, 0, 0] = np.nan  # such as a warped flow has it: outside of every image
    flow[0, :, 1, 1] = (-1, -1)  # exactly the first pixel
    flow[1, :, 0, 0] = (5.75, 4.75)  # beyond the last pixel, before the edge
    layer = make_layer(
        f'type: "FlowWarp" flow_warp_param {{ fill_value: {fill} }}', x.shape, flow.shape
    )
    (y,) = run(layer, x, flow)
    np.testing.assert_allclose(y, slow_warp(x, flow, value), atol=1e-12)
    assert y[1, 0, 0, 0] == pytest.approx(x[1, 0, -1, -1])


def test_gradient_of_a_warp(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    rng = np.random.default_rng(0)
    x, flow = rng.normal(size=(2, 3, 4, 5)), rng.uniform(-1.7, 1.7, (2, 2, 4, 5))
    check_gradient(make_layer('type: "FlowWarp"', x.shape, flow.shape), x, flow)


def test_places_that_are_no_number_have_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "FlowWarp"', (1, 1, 2, 2), (1, 2, 2, 2))
    x, flow = torch.ones(1, 1, 2, 2), torch.full((1, 2, 2, 2), float("nan"))
    x.requires_grad_()
    flow.requires_grad_()
    layer(x, flow).sum().backward()
    assert x.grad is not None
    assert flow.grad is not None
    assert not x.grad.any()
    assert not flow.grad.any()


def test_flow_of_another_size(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"takes images \(N, C, H, W\) and flow"):
        make_layer('type: "FlowWarp"', (1, 3, 4, 4), (1, 2, 4, 5))


def test_channel_norm(make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    layer = make_layer('type: "ChannelNorm"', x.shape)
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, np.sqrt((x**2).sum(1, keepdims=True)))
    check_gradient(layer, x)


def test_a_norm_of_nothing_has_no_gradient(make_layer: LayerMaker) -> None:
    x = torch.zeros(1, 2, 1, 1, requires_grad=True)
    make_layer('type: "ChannelNorm"', (1, 2, 1, 1))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 0]


def test_a_norm_needs_channels(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="at least 2 axes"):
        make_layer('type: "ChannelNorm"', (3,))
