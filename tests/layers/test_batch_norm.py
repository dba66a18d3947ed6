from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.layers.conftest import tops_of

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.layers import Layer
    from moka.types import Shape


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, number by number."""
    mean, variance = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        values = [float(v) for v in x[:, c].ravel()]
        mean[c] = sum(values) / len(values)
        variance[c] = sum((v - mean[c]) ** 2 for v in values) / len(values)
    return mean, variance


def normalized(x: Array, mean: Array, variance: Array, eps: float) -> Array:
    y = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        c = at[1]
        y[at] = (x[at] - mean[c]) / np.sqrt(variance[c] + eps)
    return y


EPS = float(np.float32(1e-5))  # the message holds single precision
FRACTION = float(np.float32(0.999))


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (3, 2, 2, 4), (2, 2, 1, 2, 3)])
@pytest.mark.parametrize(("fields", "eps"), [("", EPS), ("eps: 0.5", 0.5)])
def test_batch_norm_of_the_batch(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    eps: float,
    shape: Shape,
) -> None:
    layer = make_layer(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', shape, training=True)
    x = spread(*shape)
    (y,) = run(layer, x)
    # Both in double precision, sums of a few dozen terms.
    np.testing.assert_allclose(y, normalized(x, *statistics(x), eps), rtol=1e-11, atol=1e-12)
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "fraction"), [("", FRACTION), ("moving_average_fraction: 0.5", 0.5)]
)
def test_three_passes_of_batch_norm_add_up(
    make_layer: LayerMaker, run: Runner, spread: Spread, fields: str, fraction: float
) -> None:
    layer = make_layer(
        f'type: "BatchNorm" batch_norm_param {{ {fields} }}', (2, 3, 4), training=True
    )
    assert [w.tolist() for w in layer.weights] == [[0, 0, 0], [0, 0, 0], [0]]
    sums = [np.zeros(3), np.zeros(3), np.zeros(1)]
    for k in range(3):
        x = spread(2, 3, 4) + k
        run(layer, x)
        mean, variance = statistics(x)
        for total, new in zip(sums, (mean, variance * 8 / 7, np.ones(1)), strict=True):
            total *= fraction
            total += new
    for blob, total in zip(layer.weights, sums, strict=True):
        np.testing.assert_allclose(blob.detach(), total, rtol=1e-11)  # both in double precision


def with_sums(layer: Layer, *sums: list[float]) -> None:
    for weight, values in zip(layer.weights, sums, strict=True):
        weight.data[...] = torch.tensor(values)


@pytest.mark.parametrize(("fields", "training"), [("", False), ("use_global_stats: true", True)])
def test_batch_norm_by_global_statistics(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    training: bool,
) -> None:
    text = f'type: "BatchNorm" batch_norm_param {{ {fields} }}'
    layer = make_layer(text, (2, 2, 3), training=training)
    with_sums(layer, [3.0, -1.0], [2.0, 8.0], [4.0])
    x = spread(2, 2, 3)
    (y,) = run(layer, x)
    wanted = normalized(x, np.array([0.75, -0.25]), np.array([0.5, 2.0]), EPS)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # both in double precision
    check_gradient(layer, x)
    assert [w.tolist() for w in layer.weights] == [[3, -1], [2, 8], [4]]


def test_batch_norm_in_testing_can_use_the_batch_and_remembers_it(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    text = 'type: "BatchNorm" batch_norm_param { use_global_stats: false }'
    layer = make_layer(text, (2, 2, 3))
    x = spread(2, 2, 3)
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, normalized(x, *statistics(x), EPS), rtol=1e-11, atol=1e-12)
    assert layer.weights[2].tolist() == [1]


def test_sums_of_weight_zero_mean_nothing(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "BatchNorm" batch_norm_param { eps: 0.25 }', (2, 1))
    with_sums(layer, [3.0], [5.0], [0.0])
    assert run(layer, np.array([[1.0], [-2.0]]))[0].tolist() == [[2], [-4]]


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_a_single_value_for_each_channel_becomes_zero(make_layer: LayerMaker, shape: Shape) -> None:
    layer = make_layer('type: "BatchNorm"', shape, training=True)
    x = (torch.rand(shape) * 100).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    assert not y.any()
    assert not x.grad.any()
    # The correction of the variance is 1 here.
    assert [w.tolist() for w in layer.weights] == [x.flatten().tolist(), [0, 0, 0], [1]]


@pytest.mark.parametrize(
    ("more", "shape", "message"),
    [
        ("", (4,), r"needs a channel axis, got a bottom of shape \(4,\)"),
        ("param { lr_mult: 1 }", (4, 2), "Cannot configure batch normalization statistics"),
        ("param { lr_mult: 0 } param { }", (4, 2), "Cannot configure batch normalization"),
        ("batch_norm_param { eps: -1 }", (4, 2), "eps must be >= 0, got -1"),
    ],
)
def test_batch_norm_refuses(make_layer: LayerMaker, more: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "BatchNorm" {more}', shape)


def test_statistics_take_no_other_number_of_channels(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "BatchNorm"', (2, 3))
    assert layer.top_shapes((4, 3, 5)) == [(4, 3, 5)]
    with pytest.raises(NetError, match=r"statistics for 3 channels, got .* shape \(2, 4\)"):
        layer.top_shapes((2, 4))


def test_an_empty_batch_leaves_the_sums_alone(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "BatchNorm"', (0, 3), training=True)
    assert layer(torch.empty(0, 3)).shape == (0, 3)
    assert not any(w.any() for w in layer.weights)


SCALE, BIAS = np.array([2.0, -0.5, 1.5]), np.array([0.25, 1.0, -3.0])


def with_scale_and_bias(layer: Layer) -> None:
    layer.weights[3].data[...] = torch.from_numpy(SCALE)
    layer.weights[4].data[...] = torch.from_numpy(BIAS)


def scaled(y: Array) -> Array:
    shape = (1, 3, *(1,) * (y.ndim - 2))
    return y * SCALE.reshape(shape) + BIAS.reshape(shape)


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ("", 3),
        ("scale_bias: false", 3),
        ("scale_bias: true", 5),
        ("scale_filler { value: 2 }", 5),
        ("bias_filler { value: 2 }", 5),
        ("use_weight_bias: true", 5),
        ("use_weight_bias: false", 3),
        ("filler { value: 2 }", 5),
        ("filler { value: 2 } bias_term: false", 4),
        ("use_weight_bias: true bias_term: false bias_filler { value: 2 }", 4),
        ("use_weight_bias: false filler { value: 2 }", 3),
        ("bias_term: true", 3),
    ],
)
def test_which_options_add_scale_and_bias(make_layer: LayerMaker, fields: str, counts: int) -> None:
    layer = make_layer(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', (2, 3))
    names = ("mean", "variance", "scale_factor", "weight", "bias")
    assert layer.parameter_names == names[:counts]
    assert layer.state_blobs == (0, 1, 2)
    if counts > 3:
        given = 2 if fields.startswith(("scale_f", "filler")) else 1
        assert layer.weights[3].tolist() == [given] * 3
    if counts > 4:
        assert layer.weights[4].tolist() == [2 if fields.startswith("bias_f") else 0] * 3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rectifier", ["", "relu: true", "fused_relu: true"])
def test_scale_and_bias(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    training: bool,
    rectifier: str,
) -> None:
    text = f'type: "BatchNorm" batch_norm_param {{ scale_bias: true {rectifier} }}'
    layer = make_layer(text, (2, 3, 4), training=training)
    with_sums(layer, [3.0, -1.0, 2.0], [2.0, 8.0, 4.0], [4.0], [0.0] * 3, [0.0] * 3)
    with_scale_and_bias(layer)
    x = spread(2, 3, 4)
    (y,) = run(layer, x)
    sums = (np.array([0.75, -0.25, 0.5]), np.array([0.5, 2.0, 1.0]))
    wanted = scaled(normalized(x, *(statistics(x) if training else sums), EPS))
    if rectifier:
        wanted = np.maximum(wanted, 0)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # both in double precision
    check_gradient(layer, x)


@pytest.mark.parametrize(("given", "takes_sums"), [("true", True), ("false", False), ("", False)])
def test_use_global_stats_beside_scale_and_bias(
    make_layer: LayerMaker, run: Runner, spread: Spread, given: str, takes_sums: bool
) -> None:
    fields = "scale_bias: true" + (f" use_global_stats: {given}" if given else "")
    x = spread(2, 3, 4)
    for training in (True, False):
        layer = make_layer(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', x.shape,
                           training=training)  # fmt: skip
        with_sums(layer, [3.0, -1.0, 2.0], [2.0, 8.0, 4.0], [4.0], [1.0] * 3, [0.0] * 3)
        sums = (np.array([0.75, -0.25, 0.5]), np.array([0.5, 2.0, 1.0]))
        found = statistics(x) if training and not takes_sums else sums
        wanted = normalized(x, *found, EPS)
        np.testing.assert_allclose(run(layer, x)[0], wanted, rtol=1e-11, atol=1e-12)


def test_a_single_value_for_each_channel_becomes_the_bias(make_layer: LayerMaker) -> None:
    layer = make_layer(
        'type: "BatchNorm" batch_norm_param { bias_filler { value: 3 } }', (1, 2), training=True
    )
    assert layer(torch.tensor([[5.0, -7.0]])).tolist() == [[3, 3]]


def test_eps_has_a_floor_beside_scale_and_bias(make_layer: LayerMaker, run: Runner) -> None:
    x = np.array([[1.0], [-2.0]])
    for fields, eps in (("eps: 1e-7 scale_bias: true", EPS), ("eps: 1e-7", np.float32(1e-7))):
        layer = make_layer(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', (2, 1))
        (y,) = run(layer, x)  # no statistics: mean and variance are 0
        np.testing.assert_allclose(y, x / np.sqrt(float(eps)), rtol=1e-6)  # eps is a float


def test_averages_beside_scale_and_bias(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    fields = "scale_bias: true moving_average_fraction: 0.75"
    layer = make_layer(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', (2, 3, 4),
                       training=True)  # fmt: skip
    averages = None
    for k in range(3):
        x = spread(2, 3, 4) + k
        run(layer, x)
        mean, variance = statistics(x)
        new = np.array([mean, variance * 8 / 7])
        averages = new if averages is None else 0.75 * averages + 0.25 * new
    assert averages is not None
    for blob, wanted in zip(layer.weights[:2], averages, strict=True):
        np.testing.assert_allclose(blob.detach(), wanted, rtol=1e-11)  # both in double precision
    assert layer.weights[2].tolist() == [1]


@pytest.mark.parametrize("form", ["use_weight_bias: true", "filler { value: 1 }"])
@pytest.mark.parametrize("size", [0, 2])
def test_intel_sums_up_as_without_scale_and_bias(
    make_layer: LayerMaker, run: Runner, spread: Spread, form: str, size: int
) -> None:
    fields = f"{form} bias_filler {{ value: 0 }} moving_average_fraction: 0.75 eps: 1e-7"
    text = f'type: "BatchNorm" batch_norm_param {{ {fields} stats_batch_size: {size} }}'
    layer = make_layer(text, (6, 3, 4), training=True)
    sums, weight = np.zeros((2, 3)), 0.0
    for k in range(3):
        x = spread(6, 3, 4) * (k + 1) + k
        run(layer, x)
        for part in np.split(x, 3) if size else [x]:
            mean, variance = statistics(part)
            n = part[:, 0].size
            sums = 0.75 * sums + [mean, variance * n / (n - 1)]
            weight = 0.75 * weight + 1
    for blob, wanted in zip(layer.weights, (*sums, [weight]), strict=False):
        np.testing.assert_allclose(blob.detach(), wanted, rtol=1e-11, atol=1e-14)
    layer.eval()
    (y,) = run(layer, x)
    mean, variance = sums / weight
    np.testing.assert_allclose(y, normalized(x, mean, variance, float(np.float32(1e-7))))


def test_averages_go_on_from_sums(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    fields = "scale_bias: true moving_average_fraction: 0.5"
    layer = make_layer(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', (2, 3, 4),
                       training=True)  # fmt: skip
    with_sums(layer, [4.0, 8.0, 0.0], [4.0, 8.0, 0.0], [4.0], [1.0] * 3, [0.0] * 3)
    x = spread(2, 3, 4)
    run(layer, x)
    mean, _ = statistics(x)
    np.testing.assert_allclose(layer.weights[0].detach(), (np.array([1, 2, 0]) + mean) / 2)
    assert layer.weights[2].tolist() == [1]


@pytest.mark.parametrize(
    ("fields", "center", "divide"),
    [
        ("disable_mean: true", False, True),
        ("disable_variance: true", True, False),
        ("disable_mean: true disable_variance: true", False, False),
        ("disable_mean: true scale_bias: true", False, True),
        ("disable_variance: true scale_bias: true", True, False),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_without_mean_or_variance(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    center: bool,
    divide: bool,
    training: bool,
) -> None:
    text = f'type: "BatchNorm" batch_norm_param {{ {fields} }}'
    layer = make_layer(text, (2, 3, 4), training=training)
    with_sums(
        layer, [3.0, -1.0, 2.0], [2.0, 8.0, 4.0], [4.0], *[[1.0] * 3] * (len(layer.weights) - 3)
    )
    if len(layer.weights) > 3:
        with_scale_and_bias(layer)
    x = spread(2, 3, 4)
    (y,) = run(layer, x)
    mean, variance = np.array([0.75, -0.25, 0.5]), np.array([0.5, 2.0, 1.0])
    if training:
        mean, _ = statistics(x)
        variance = np.array([np.mean((x[:, c] - center * mean[c]) ** 2) for c in range(3)])
    wanted = normalized(x, mean * center, variance if divide else np.full(3, 1 - EPS), EPS)
    wanted = scaled(wanted) if len(layer.weights) > 3 else wanted
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # both in double precision
    check_gradient(layer, x)


def test_what_is_left_out_is_not_counted(make_layer: LayerMaker, spread: Spread) -> None:
    text = 'type: "BatchNorm" batch_norm_param { disable_mean: true }'
    layer = make_layer(text, (2, 3, 4), training=True).double()
    x = spread(2, 3, 4)
    layer(torch.from_numpy(x))
    assert layer.weights[0].tolist() == [0, 0, 0]
    squares = [np.mean(x[:, c] ** 2) * 8 / 7 for c in range(3)]
    np.testing.assert_allclose(layer.weights[1].detach(), squares, rtol=1e-11)  # double precision


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_statistics_of_parts_of_the_batch(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    size: int,
) -> None:
    text = f'type: "BatchNorm" batch_norm_param {{ stats_batch_size: {size} scale_bias: true }}'
    layer = make_layer(text, (5, 3, 4), training=True)
    with_scale_and_bias(layer)
    x = spread(5, 3, 4)
    (y,) = run(layer, x)
    parts = [x[k : k + size] for k in range(0, 5, size)]
    wanted = np.concatenate([scaled(normalized(p, *statistics(p), EPS)) for p in parts])
    np.testing.assert_allclose(y, wanted, rtol=1e-10, atol=1e-11)  # both in double precision
    averages, share = np.zeros((2, 3)), 1.0  # the first part alone, then 0.999 of what was
    for part in parts:
        mean, variance = statistics(part)
        n = part[:, 0].size
        averages += share * (np.array([mean, variance * n / (n - 1)]) - averages)
        share = 1 - 0.999
    for blob, wanted in zip(layer.weights[:2], averages, strict=True):
        np.testing.assert_allclose(blob.detach(), wanted, rtol=1e-6, atol=1e-9)  # share is a float
    check_gradient(layer, x)


def test_global_statistics_may_be_updated(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    fields = "use_global_stats: true update_global_stats: true moving_average_fraction: 0.5"
    text = f'type: "BatchNorm" batch_norm_param {{ {fields} }}'
    x = spread(2, 3, 4)
    for training in (True, False):
        layer = make_layer(text, (2, 3, 4), training=training)
        with_sums(layer, [3.0, -1.0, 2.0], [2.0, 8.0, 4.0], [4.0])
        (y,) = run(layer, x)
        wanted = normalized(x, np.array([0.75, -0.25, 0.5]), np.array([0.5, 2.0, 1.0]), EPS)
        np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # both in double precision
        mean, _ = statistics(x)
        sums = 0.5 * np.array([3, -1, 2]) + mean if training else np.array([3, -1, 2])
        np.testing.assert_allclose(layer.weights[0].detach(), sums, rtol=1e-11)
        assert layer.weights[2].tolist() == [3 if training else 4]


def test_parts_need_mean_and_variance(make_layer: LayerMaker) -> None:
    fields = "stats_batch_size: 2 disable_mean: true"
    with pytest.raises(NetError, match="stats_batch_size needs both mean and variance"):
        make_layer(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', (4, 2))


def test_logarithms_of_densenet_are_refused(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="use_log } is an option of a fork that this layer does not"):
        make_layer('type: "BatchNorm" batch_norm_param { use_log: true }', (4, 2))


@pytest.mark.parametrize("more", ["", "scale_bias: true"])
def test_stored_parameters_may_have_axes_of_images(make_layer: LayerMaker, more: str) -> None:
    layer = make_layer(f'type: "BatchNorm" batch_norm_param {{ {more} }}', (2, 3, 4))
    shapes = [tuple(w.shape) for w in layer.weights]
    stored = {k: np.arange(n).reshape(1, n, 1, 1) for k, (n,) in enumerate(shapes)}
    adapted = layer.adapted_blobs(stored)
    assert [adapted[k].shape for k in range(len(shapes))] == shapes
    assert adapted[1].tolist() == [0, 1, 2]


def test_stored_parameters_of_old_nvcaffe(make_layer: LayerMaker) -> None:
    """Scale, bias, mean, variance and a number that does not count."""
    layer = make_layer('type: "BatchNorm" batch_norm_param { scale_bias: true }', (2, 3, 4))
    stored = {k: np.full(3, k + 1.0) for k in range(4)} | {4: np.zeros(1)}
    adapted = layer.adapted_blobs(stored)
    assert [adapted[k].tolist() for k in range(5)] == [[3] * 3, [4] * 3, [1], [1] * 3, [2] * 3]


@pytest.mark.parametrize(("factor", "counts"), [(0, 1), (0.5, 0.5)])
def test_a_stored_factor_of_zero_beside_statistics(
    make_layer: LayerMaker, factor: float, counts: float
) -> None:
    layer = make_layer('type: "BatchNorm" batch_norm_param { scale_bias: true }', (2, 3, 4))
    stored = {k: np.full(3, k + 1.0) for k in range(5)} | {2: np.array([factor])}
    assert layer.adapted_blobs(stored)[2].tolist() == [counts]
    untrained = stored | {0: np.zeros(3), 1: np.zeros(3)}
    assert layer.adapted_blobs(untrained)[2].tolist() == [factor]


@pytest.mark.parametrize("strides", [(8, 1, 16, 8), (64, 1, 16, 8), (64, 8, 2, 1)])
@pytest.mark.parametrize("grad_strides", [(8, 1, 16, 8), (64, 8, 2, 1)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("kind", "learned"),
    [('type: "BN"', (0, 1)), ('type: "BatchNorm" batch_norm_param { scale_bias: true }', (3, 4))],
)
def test_the_gradient_of_one_item_of_any_strides(
    make_layer: LayerMaker,
    strides: tuple[int, ...],
    grad_strides: tuple[int, ...],
    training: bool,
    kind: str,
    learned: tuple[int, ...],
) -> None:
    """PyTorch's own takes some strides of one item for others."""
    layer = make_layer(kind, (1, 8, 4, 2), training=training)
    blobs = [layer.blobs[k] for k in learned]
    grad = torch.randn(64).as_strided((1, 8, 4, 2), grad_strides)
    x = torch.randn(64).as_strided((1, 8, 4, 2), strides).requires_grad_()
    plain = x.detach().contiguous().requires_grad_()
    found, expected = (
        torch.autograd.grad(tops_of(layer, [each])[0], [each, *blobs], diff)
        for each, diff in ((x, grad), (plain, grad.contiguous().clone()))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
