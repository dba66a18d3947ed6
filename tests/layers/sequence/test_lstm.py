from __future__ import annotations

from math import exp, tanh
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers import Layer
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

FILLED = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
D = 3


def lstm(make_layer: LayerMaker, fields: str, *shapes: tuple[int, ...]) -> Layer:
    torch.manual_seed(1)
    return make_layer(f'type: "Lstm" lstm_param {{ num_output: {D} {FILLED} {fields} }}', *shapes)


def slow(layer: Layer, x: Array, cont: Array, h: Array, c: Array) -> Array:
    """x (T, N, K), cont (T, N), h and c (N, D), which are changed. One number at a time."""
    w_x, w_h, b = (w.detach().double().numpy() for w in layer.blobs)
    y = np.zeros((*x.shape[:2], D))
    for t, n in np.ndindex(*x.shape[:2]):
        before = h[n].copy()
        for d in range(D):
            gates = []
            for k in range(4):
                row = k * D + d
                total = b[row] + sum(w_x[row, j] * x[t, n, j] for j in range(x.shape[2]))
                if cont[t, n]:
                    total += sum(w_h[row, j] * before[j] for j in range(D))
                gates.append(total)
            i, f, o = (1 / (1 + exp(-v)) for v in gates[:3])
            c[n, d] = (f * c[n, d] if cont[t, n] else 0) + i * tanh(gates[3])
            h[n, d] = o * tanh(c[n, d])
        y[t, n] = h[n]
    return y


def zeros(streams: int) -> tuple[Array, Array]:
    return np.zeros((streams, D)), np.zeros((streams, D))


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_streams_one_after_another(make_layer: LayerMaker, run: Runner, streams: int) -> None:
    x = np.random.default_rng(0).normal(size=(4 * streams, 2, 3))
    layer = lstm(make_layer, f"batch_size: {streams}", x.shape)
    cont = np.ones((4, streams))
    cont[0] = 0
    want = slow(layer, x.reshape(4, streams, 6), cont, *zeros(streams))
    for _ in range(2):  # each pass starts from zero
        (have,) = run(layer, x)
        np.testing.assert_allclose(have, want.reshape(4 * streams, D))


def test_an_axis_for_the_streams(make_layer: LayerMaker, run: Runner) -> None:
    x = np.random.default_rng(0).normal(size=(4, 2, 5))
    layer = lstm(make_layer, "", x.shape)
    cont = np.ones((4, 2))
    cont[0] = 0
    (have,) = run(layer, x)
    np.testing.assert_allclose(have, slow(layer, x, cont, *zeros(2)))


def test_with_clip_a_pass_goes_on_from_the_last(make_layer: LayerMaker, run: Runner) -> None:
    rng = np.random.default_rng(0)
    layer = lstm(make_layer, "batch_size: 2", (6, 4), (6,))
    state = zeros(2)
    for clip in ([0, 1, 1, 1, 0, 2], [1, 1, 1, 0, 1, 1], [1, 0, 1, 1, 1, 1]):
        x = rng.normal(size=(6, 4))
        want = slow(layer, x.reshape(3, 2, 4), np.reshape(clip, (3, 2)), *state)
        (have,) = run(layer, x, np.array(clip))
        np.testing.assert_allclose(have, want.reshape(6, D))
        bottoms = [torch.tensor(x), torch.tensor(clip)]
        again = layer.again(*bottoms)
        assert isinstance(again, torch.Tensor)
        np.testing.assert_allclose(again.detach(), have)
    kept = layer.run_state()
    x = rng.normal(size=(6, 4))
    (have,) = run(layer, x, np.ones(6))
    layer.load_run_state(kept)
    np.testing.assert_array_equal(run(layer, x, np.ones(6))[0], have)


def test_gradients(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    x = np.random.default_rng(0).normal(size=(6, 2))
    check_gradient(lstm(make_layer, "batch_size: 2", x.shape), x)
    clip = np.array([1, 1, 1, 0, 1, 1])
    layer = lstm(make_layer, "batch_size: 2", x.shape, (6,))
    layer.forward = layer.again  # each time from the same state
    check_gradient(layer, x, clip)


def test_the_threshold_limits_the_gradient_of_each_gate(make_layer: LayerMaker) -> None:
    x = torch.randn(1, 4, requires_grad=True)
    grads = []
    for threshold in (0, 0.05):
        layer = lstm(make_layer, f"clipping_threshold: {threshold}", (1, 4))
        (layer(x).sum()).backward()
        grads.append(layer.blobs[2].grad)
    assert grads[0] is not None
    assert grads[1] is not None
    assert (grads[0].abs() > 0.05).any()
    assert torch.allclose(grads[0].clamp(-0.05, 0.05), grads[1])


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("batch_size: 4", [(6, 2)], "multiple of batch_size = 4, got shape 6 2"),
        ("batch_size: 2", [(6, 2), (5,)], "each timestep and stream, 6, got shape 5"),
        ("", [(6,)], "at least 2"),
    ],
)
def test_bad_shapes(
    make_layer: LayerMaker, fields: str, shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        lstm(make_layer, fields, *shapes)


def test_another_number_of_inputs(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="the weights take 2 inputs a timestep, got shape 6 3"):
        lstm(make_layer, "", (6, 2)).top_shapes((6, 3))


def test_stored_parameters_of_the_first_caffe_lstm(make_layer: LayerMaker) -> None:
    layer = lstm(make_layer, "", (6, 2))
    shapes = [(1, 4, D, 2), (1, 4, D, D), (1, 1, 4, D)]
    stored = {k: np.random.default_rng(k).normal(size=shape) for k, shape in enumerate(shapes)}
    adapted = layer.adapted_blobs(stored)
    assert [adapted[k].shape for k in range(3)] == [(4 * D, 2), (4 * D, D), (4 * D,)]
    np.testing.assert_array_equal(adapted[0][D + 1], stored[0][0, 1, 1])
    other = {0: np.zeros((4, 2 * D)), 1: np.zeros((4 * D, D))}
    assert [layer.adapted_blobs(other)[k] is other[k] for k in range(2)] == [True, True]
