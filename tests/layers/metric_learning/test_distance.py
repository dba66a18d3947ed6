from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

FILLED = 'num_output: 4 center_filler { type: "gaussian" }'


@pytest.mark.parametrize("kind", ["L2", "L1"])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_center_loss(make_layer: LayerMaker, kind: str, weight: float) -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(6, 2, 3)), np.array([0, 2, 2, 0, 2, 3])
    layer = make_layer(
        f'type: "CenterLoss" center_loss_param {{ {FILLED} distance_type: "{kind}" }}',
        x.shape,
        labels.shape,
    ).double()
    centers = layer.blobs[0].detach().numpy().copy()
    bottom = torch.tensor(x, requires_grad=True)
    loss = layer(bottom, torch.tensor(labels))
    (loss * weight).backward()
    total, by_x, by_center = 0.0, np.zeros((6, 6)), np.zeros((4, 6))
    for m, k in np.ndindex(6, 6):
        apart = x.reshape(6, 6)[m, k] - centers[labels[m], k]
        total += apart**2 / 2 if kind == "L2" else abs(apart)
        slope = apart if kind == "L2" else np.sign(apart)
        by_x[m, k] = weight * slope / 6
        by_center[labels[m], k] -= slope / (1 + list(labels).count(labels[m]))
    assert float(loss.detach()) == pytest.approx(total / 6)
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.reshape(6, 6), by_x)
    grad = layer.weights[0].grad
    assert grad is not None
    np.testing.assert_allclose(grad, by_center)
    assert not grad[1].any()


@pytest.mark.parametrize("kind", ["L2", "L1"])
@pytest.mark.parametrize("form", ["", "transpose: true", "normalize: true", "given"])
def test_inner_distance(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, kind: str, form: str
) -> None:
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(4, 2, 3)), rng.normal(size=(5, 2, 3))
    options = f'distance_type: "{kind}" {form.removeprefix("given")}'
    shapes = [x.shape, w.shape] if form == "given" else [x.shape]
    layer = make_layer(
        f'type: "InnerDistance" inner_distance_param {{ num_output: 5 {options} }}', *shapes
    ).double()
    bottoms = [x, w] if form == "given" else [x]
    centers = w.reshape(5, 6)
    if layer.blobs:
        stored = centers.T if "transpose" in form else centers
        layer.blobs[0].data.copy_(torch.tensor(stored))
    if "normalize" in form:
        centers = centers / np.sqrt((centers**2).sum(1, keepdims=True) + 1e-6)
    want = np.zeros((4, 5))
    for m, n, k in np.ndindex(4, 5, 6):
        apart = x.reshape(4, 6)[m, k] - centers[n, k]
        want[m, n] += apart**2 if kind == "L2" else abs(apart)
    np.testing.assert_allclose(run(layer, *bottoms)[0], want)
    check_gradient(layer, *bottoms)


@pytest.mark.parametrize("kind", ["L2", "L1"])
def test_only_the_center_of_the_own_class_is_moved(make_layer: LayerMaker, kind: str) -> None:
    rng = np.random.default_rng(5)
    x, labels = torch.tensor(rng.normal(size=(4, 3))), torch.tensor([0, 2, 2, 0])
    text = f'type: "InnerDistance" inner_distance_param {{ num_output: 4 distance_type: "{kind}"'
    free = make_layer(f"{text} }}", (4, 3)).double()
    bound = make_layer(f"{text} update_center_only: true }}", (4, 3), (4,)).double()
    free.blobs[0].data.copy_(torch.tensor(rng.normal(size=(4, 3))))
    bound.load_state_dict(free.state_dict())
    grads = []
    for layer, bottoms in ((free, [x]), (bound, [x, labels])):
        bottom = bottoms[0].clone().requires_grad_()
        y = layer(bottom, *bottoms[1:])
        own = torch.nn.functional.one_hot(labels, 4)
        weights = torch.arange(1.0, 17).view(4, 4) * (own if layer is free else 1)
        (y * weights).sum().backward()
        center_grad, by_x = layer.weights[0].grad, bottom.grad
        assert center_grad is not None
        assert by_x is not None
        assert by_x.abs().min() > 0
        grads.append(center_grad)
    assert torch.allclose(grads[0], grads[1])


def test_bad_options(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match='distance_type must be L1 or L2, got "cosine"'):
        make_layer(
            f'type: "CenterLoss" center_loss_param {{ {FILLED} distance_type: "cosine" }}',
            (2, 3),
            (2,),
        )
    layer = make_layer(f'type: "CenterLoss" center_loss_param {{ {FILLED} }}', (2, 3), (2,))
    with pytest.raises(DataError, match="label 4 is outside of the 4 classes"):
        run(layer, np.ones((2, 3)), np.array([4, 0]))
    with pytest.raises(NetError, match=r"same first dimension: 2 items"):
        layer.top_shapes((2, 3), (3,))
    with pytest.raises(NetError, match="num_output is missing"):
        make_layer('type: "CenterLoss"', (2, 3), (2,))
    with pytest.raises(NetError, match="takes features and labels, and perhaps centers, got 1"):
        make_layer(
            'type: "InnerDistance" inner_distance_param { update_center_only: true }', (2, 3)
        )
    with pytest.raises(NetError, match="takes features and perhaps centers, got 3 bottoms"):
        make_layer('type: "InnerDistance"', (2, 3), (4, 3), (2,))
    with pytest.raises(NetError, match=r"items and centers need 3 values, got shape \(2,\)"):
        make_layer('type: "InnerDistance"', (2, 3), (4, 2))
