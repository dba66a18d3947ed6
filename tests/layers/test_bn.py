from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.layers.test_batch_norm import normalized, statistics

from moka.engine.layerwise import Layerwise
from moka.errors import NetError
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.layers import Layer
    from moka.types import Array, Shape

SCALE, BIAS = np.array([2.0, -0.5, 1.5]), np.array([0.25, 1.0, -3.0])
MEAN, VARIANCE = np.array([0.75, -0.25, 0.5]), np.array([0.5, 2.0, 1.0])


def bn(make_layer: LayerMaker, fields: str, shape: Shape, *, training: bool) -> Layer:
    """A layer with the values above in its blobs."""
    layer = make_layer(f'type: "BN" bn_param {{ {fields} }}', shape, training=training)
    for weight, values in zip(layer.weights, (SCALE, BIAS, MEAN, VARIANCE), strict=False):
        weight.data[...] = torch.from_numpy(values).view_as(weight)
    return layer


def scaled(x: Array, mean: Array, variance: Array, eps: float) -> Array:
    shape = (1, 3, *(1,) * (x.ndim - 2))
    return normalized(x, mean, variance, eps) * SCALE.reshape(shape) + BIAS.reshape(shape)


BATCH, STORED = "batch", "stored"
CASES = [
    # fields, eps, statistics in training, in testing
    ("", 1e-5, BATCH, STORED),
    ("eps: 0.25", 0.25, BATCH, STORED),
    ("frozen: true", 1e-5, STORED, STORED),
    ("momentum: 0.5 slope_filler { value: 1 }", 1e-5, BATCH, STORED),
    ("bn_mode: LEARN", 1e-9, BATCH, BATCH),
    ("scale_filler { value: 1 }", 1e-9, BATCH, BATCH),
    ("shift_filler { value: 1 }", 1e-9, BATCH, BATCH),
    ("var_eps: 0.25", 0.25, BATCH, BATCH),
    ("moving_average: false", 1e-10, BATCH, BATCH),
    ("axis: 1 moving_average: true", 1e-10, BATCH, STORED),
    ("axis: 1", 1e-10, BATCH, BATCH),
]


@pytest.mark.parametrize("shape", [(2, 3, 2, 2), (4, 3)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("fields", "eps", "in_training", "in_testing"), CASES)
def test_forms(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    eps: float,
    in_training: str,
    in_testing: str,
    training: bool,
    shape: Shape,
) -> None:
    layer = bn(make_layer, fields, shape, training=training)
    x = spread(*shape)
    (y,) = run(layer, x)
    takes_batch = (in_training if training else in_testing) == BATCH
    found = statistics(x) if takes_batch else (MEAN, VARIANCE)
    # eps is single precision.
    np.testing.assert_allclose(y, scaled(x, *found, eps), rtol=1e-8, atol=1e-9)
    check_gradient(bn(make_layer, fields, shape, training=training), x)


@pytest.mark.parametrize(
    ("fields", "shapes", "state"),
    [
        ("", [(1, 3, 1, 1)] * 4, (2, 3)),
        ("frozen: true", [(1, 3, 1, 1)] * 4, (0, 1, 2, 3)),
        ("bn_mode: INFERENCE", [(1, 3, 1, 1)] * 2, ()),
        ("moving_average: true", [(1, 3, 1, 1)] * 2, ()),
        ("across_spatial: false", [(1, 3, 2, 5)] * 2, ()),
        ("axis: 1", [(1, 3, 1, 1)] * 4, (2, 3)),
        ("axis: 2", [(1, 1, 2, 1)] * 4, (2, 3)),
    ],
)
def test_blobs(
    make_layer: LayerMaker, fields: str, shapes: list[Shape], state: tuple[int, ...]
) -> None:
    layer = make_layer(f'type: "BN" bn_param {{ {fields} }}', (4, 3, 2, 5))
    assert layer.blob_shapes == shapes
    assert layer.state_blobs == state
    not_zero = [True, False, False, fields.startswith("frozen")][: len(shapes)]
    assert [bool(w.any()) for w in layer.weights] == not_zero


def test_inference_of_segnet_only_scales(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x = spread(2, 3, 2, 2)
    for training in (True, False):
        layer = bn(make_layer, "bn_mode: INFERENCE", x.shape, training=training)
        (y,) = run(layer, x)
        wanted = x * SCALE[:, None, None] + BIAS[:, None, None]
        np.testing.assert_allclose(y, wanted, rtol=1e-12)  # double precision
        check_gradient(layer, x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tops", [2, 3])
def test_segnet_gives_the_statistics_of_the_batch(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    tops: int,
    training: bool,
) -> None:
    names = " ".join(f'top: "{name}"' for name in ("y", "mean", "variance")[:tops])
    x = spread(3, 3, 2, 5)
    for mode, wanted in (("LEARN", statistics(x)), ("INFERENCE", np.zeros((2, 3)))):
        text = f'type: "BN" {names} bn_param {{ bn_mode: {mode} }}'
        layer = make_layer(text, x.shape, training=training)
        y, *found = run(layer, x)
        (alone,) = run(bn_of(make_layer, mode, x.shape), x)
        np.testing.assert_array_equal(y, alone)
        for have, values in zip(found, wanted, strict=False):
            np.testing.assert_allclose(have, values.reshape(1, 3, 1, 1), rtol=1e-11, atol=1e-15)
        check_gradient(layer, x)


def bn_of(make_layer: LayerMaker, mode: str, shape: Shape) -> Layer:
    return make_layer(f'type: "BN" bn_param {{ bn_mode: {mode} }}', shape)


def test_other_forms_have_one_top(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="makes 1 top with these options, got 3"):
        make_layer('type: "BN" top: "y" top: "m" top: "v" bn_param { eps: 1e-5 }', (2, 3))


def test_a_frozen_layer_without_a_model_divides_by_one(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "BN" bn_param { frozen: true }', (2, 3))
    assert layer.weights[3].flatten().tolist() == [1, 1, 1]


@pytest.mark.parametrize("shape", [(1, 3), (3,), (1, 3, 1, 1)])
def test_stored_blobs_of_other_versions(make_layer: LayerMaker, shape: Shape) -> None:
    layer = make_layer('type: "BN"', (2, 3, 4, 4))
    stored = {k: np.arange(3).reshape(shape) + k for k in range(4)}
    adapted = layer.adapted_blobs(stored)
    assert [adapted[k].shape for k in range(4)] == [(1, 3, 1, 1)] * 4
    assert adapted[2].flatten().tolist() == [2, 3, 4]
    other = {0: np.zeros((3, 3)), 7: np.zeros(())}
    assert layer.adapted_blobs(other) == other


@pytest.mark.parametrize(
    ("fields", "share"),
    [("momentum: 0.75", 0.25), ("", 0.1), ("axis: 1 decay: 0.125", 0.125)],
)
def test_running_statistics(
    make_layer: LayerMaker, run: Runner, spread: Spread, fields: str, share: float
) -> None:
    layer = bn(make_layer, fields, (2, 3, 4), training=True)
    mean, variance = MEAN, VARIANCE
    for k in range(3):
        x = spread(2, 3, 4) + k
        run(layer, x)
        new_mean, new_variance = statistics(x)
        mean = (1 - share) * mean + share * new_mean
        variance = (1 - share) * variance + share * new_variance
    # Momentum is single precision.
    np.testing.assert_allclose(layer.weights[2].detach().flatten(), mean, rtol=1e-6)
    np.testing.assert_allclose(layer.weights[3].detach().flatten(), variance, rtol=1e-6)


def test_a_frozen_layer_and_testing_change_nothing(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    for fields, training in (("frozen: true", True), ("", False), ("axis: 1", False)):
        layer = bn(make_layer, fields, (2, 3, 4), training=training)
        run(layer, spread(2, 3, 4))
        np.testing.assert_array_equal(layer.weights[2].detach().flatten(), MEAN)


def test_parsenet_averages_beside_its_blobs(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    layer = bn(make_layer, "moving_average: true decay: 0.25", (2, 3, 4), training=True)
    x = spread(2, 3, 4)
    (before,) = layer.run_state()
    run(layer, x)
    run(layer, x)
    assert not before.any()
    mean, variance = (v * (0.25 + 0.75 * 0.25) for v in statistics(x))
    (averages,) = layer.run_state()
    np.testing.assert_allclose(averages, [mean, variance], rtol=1e-11)  # double precision
    layer.eval()
    np.testing.assert_allclose(run(layer, x)[0], scaled(x, mean, variance, 1e-10), rtol=1e-8)
    other = bn(make_layer, "moving_average: true", (2, 3, 4), training=False).double()
    other.load_run_state([averages])
    np.testing.assert_array_equal(run(other, x)[0], run(layer, x)[0])


def test_again_leaves_no_trace(make_layer: LayerMaker, spread: Spread) -> None:
    layer = bn(make_layer, "", (2, 3, 4), training=True).double()
    x = torch.from_numpy(spread(2, 3, 4))
    y = layer.again(x)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(layer.weights[2].detach().flatten(), MEAN)
    assert torch.equal(y, layer(x))


def test_each_position_by_itself(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    layer = make_layer('type: "BN" bn_param { across_spatial: false var_eps: 0.5 }', (4, 3, 2, 2))
    x = spread(4, 3, 2, 2)
    (y,) = run(layer, x)
    flat = x.reshape(4, 12)
    wanted = normalized(flat, *statistics(flat), 0.5).reshape(x.shape)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # double precision
    with pytest.raises(NetError, match=r"were made for \(3, 2, 2\), got a bottom of shape"):
        layer.top_shapes((4, 3, 2, 4))


def test_ctpn_along_another_axis(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    layer = make_layer('type: "BN" bn_param { axis: 2 var_eps: 0.5 }', (2, 3, 4, 2), training=True)
    x = spread(2, 3, 4, 2)
    (y,) = run(layer, x)
    turned = np.swapaxes(x, 1, 2)
    wanted = np.swapaxes(normalized(turned, *statistics(turned), 0.5), 1, 2)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # double precision


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("", (3,), r"axis must be 1 or 2 and an axis of the bottom, got axis 1 and shape \(3,\)"),
        ("axis: 3", (2, 3, 4, 5), "got axis 3"),
        ("eps: -1", (2, 3), "eps must be >= 0, got -1"),
        ("", (2, 0, 4), "only the batch may be empty"),
    ],
)
def test_refused(make_layer: LayerMaker, fields: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "BN" bn_param {{ {fields} }}', shape)


def test_statistics_take_no_other_number_of_channels(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "BN"', (2, 3, 4, 4))
    assert layer.top_shapes((5, 3, 7, 8)) == [(5, 3, 7, 8)]
    with pytest.raises(NetError, match=r"were made for \(3,\), got a bottom of shape \(2, 4\)"):
        layer.top_shapes((2, 4))


@pytest.mark.parametrize(("frozen", "trained"), [("", [0, 1]), ("frozen: true", [])])
def test_a_net_trains_neither_statistics_nor_a_frozen_layer(
    frozen: str, trained: list[int]
) -> None:
    text = (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "bn" type: "BN" bottom: "x" top: "y"'
        " param { lr_mult: 1 } param { lr_mult: 2 } param { lr_mult: 1 } param { lr_mult: 1 }"
        f" bn_param {{ {frozen} }} }}"
    )
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    assert [k for k, blob in enumerate(net.learnable) if blob.lr_mult] == trained
    net.blobs["x"].data[...] = [[1, 2, 3], [4, 6, 8]]
    engine = Layerwise(net)
    engine.forward()
    assert np.isfinite(net.blobs["y"].data).all()
