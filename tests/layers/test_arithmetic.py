from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape

SHAPE = (2, 3, 2)
COEFFICIENTS = (1.0, -0.5, 2.0)


def combine(operation: str, values: list[float], coefficients: tuple[float, ...]) -> float:
    if operation == "SUM":
        return sum(c * v for c, v in zip(coefficients, values, strict=False))
    return reduce(lambda a, b: a * b if operation == "PROD" else max(a, b), values)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("operation", ["SUM", "PROD", "MAX", "coeff"])
def test_eltwise(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    operation: str,
    count: int,
) -> None:
    coefficients = COEFFICIENTS[:count] if operation == "coeff" else (1.0,) * count
    operation = "SUM" if operation == "coeff" else operation
    coeff = "".join(f" coeff: {c}" for c in coefficients) if coefficients[1] != 1 else ""
    text = f'type: "Eltwise" eltwise_param {{ operation: {operation}{coeff} }}'
    layer = make_layer(text, *[SHAPE] * count)
    # One spread for all, so that no two bottoms tie.
    bottoms = list(spread(count, *SHAPE))
    (y,) = run(layer, *bottoms)
    wanted = np.zeros(SHAPE)
    for at in np.ndindex(*SHAPE):
        wanted[at] = combine(operation, [float(b[at]) for b in bottoms], coefficients)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, *bottoms)


@pytest.mark.parametrize(("fields", "factor"), [("coeff: 20", 20), ("", 1)])
def test_eltwise_scales_a_single_bottom_as_flownet_does(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    factor: float,
) -> None:
    layer = make_layer(f'type: "Eltwise" eltwise_param {{ {fields} }}', SHAPE)
    x = spread(*SHAPE)
    np.testing.assert_allclose(run(layer, x)[0], factor * x, rtol=1e-12)
    check_gradient(layer, x)
    bottom = torch.ones(SHAPE)
    assert layer(bottom).data_ptr() != bottom.data_ptr()  # a layer in place may follow
    assert layer.overwriting(0) is None


@pytest.mark.parametrize("operation", ["PROD", "MAX"])
def test_eltwise_refuses_a_single_bottom_otherwise(make_layer: LayerMaker, operation: str) -> None:
    with pytest.raises(NetError, match=f"takes at least 2 bottoms for {operation}, got 1"):
        make_layer(f'type: "Eltwise" eltwise_param {{ operation: {operation} }}', SHAPE)


@pytest.mark.parametrize(
    ("values", "winner"),
    [((1, 1), 1), ((2, 1), 0), ((1, 1, 1), 1), ((1, 0, 1), 0), ((0, 1, 2), 2), ((1, 2, 2), 1)],
)
def test_a_tie_of_max_goes_to_one_bottom(
    make_layer: LayerMaker, values: tuple[float, ...], winner: int
) -> None:
    layer = make_layer('type: "Eltwise" eltwise_param { operation: MAX }', *[(1,)] * len(values))
    bottoms = [torch.tensor([float(v)], requires_grad=True) for v in values]
    layer(*bottoms).sum().backward()
    grads = [0.0 if b.grad is None else b.grad.item() for b in bottoms]
    assert grads == [float(k == winner) for k in range(len(values))]


@pytest.mark.parametrize("stable", ["true", "false"])
def test_gradient_of_a_product_at_zero_is_the_true_one(make_layer: LayerMaker, stable: str) -> None:
    text = f'type: "Eltwise" eltwise_param {{ operation: PROD stable_prod_grad: {stable} }}'
    layer = make_layer(text, (1,), (1,))
    a, b = torch.zeros(1, requires_grad=True), torch.tensor([3.0], requires_grad=True)
    layer(a, b).sum().backward()
    assert a.grad is not None
    assert a.grad.item() == 3.0


def test_coefficients_change_nothing_for_max(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "Eltwise" eltwise_param { operation: MAX coeff: -1 coeff: 9 }',
                       (2,), (2,))  # fmt: skip
    (y,) = run(layer, [1, 2], [0, 3])
    assert y.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("fields", "second", "message"),
    [
        ("", (2, 3), "bottoms differ in shape"),
        ("coeff: 1", SHAPE, "one coefficient per bottom blob: 1 for 2"),
        ("operation: PROD coeff: 1 coeff: 2", SHAPE, "only takes coefficients for summation"),
    ],
)
def test_refused(
    make_layer: LayerMaker, fields: str, second: tuple[int, ...], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Eltwise" eltwise_param {{ {fields} }}', SHAPE, second)


GAUSSIAN = 'filler { type: "gaussian" }'
BROADCASTS = [
    # fields, bottom, axes that the operand covers
    ("", (2, 3, 2), (1,)),
    ("axis: 0", (2, 3), (0,)),
    ("axis: -1", (2, 3, 2), (2,)),
    ("axis: 0 num_axes: 2", (2, 3, 2), (0, 1)),
    ("num_axes: 2", (2, 3, 2, 2), (1, 2)),
    ("num_axes: -1", (2, 3, 2), (1, 2)),
    ("num_axes: 0", (2, 3, 2), ()),
    ("axis: 2 num_axes: 0", (2, 3, 2), ()),
]


def combined(x: Array, axes: Shape, factor: Array | None, bias: Array | None) -> Array:
    """y = x a + b, each element with the operand's element at its covered axes."""
    y = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        part = tuple(at[a] for a in axes)
        y[at] = x[at] * (1 if factor is None else factor[part])
        y[at] += 0 if bias is None else bias[part]
    return y


@pytest.mark.parametrize(("fields", "shape", "axes"), BROADCASTS)
@pytest.mark.parametrize("kind", ["Scale", "Bias", "Scale with bias"])
def test_scale_and_bias_with_a_learned_operand(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    kind: str,
    fields: str,
    shape: Shape,
    axes: Shape,
) -> None:
    more = 'bias_term: true bias_filler { type: "gaussian" }' if "with" in kind else ""
    name = kind.split()[0]
    text = f'type: "{name}" {name.lower()}_param {{ {fields} {GAUSSIAN} {more} }}'
    layer = make_layer(text, shape)
    covered = tuple(shape[a] for a in axes)
    assert layer.blob_shapes == [covered] * (2 if more else 1)
    x = spread(*shape)
    (y,) = run(layer, x)
    blobs = [w.detach().numpy() for w in layer.weights]
    factor = None if kind == "Bias" else blobs[0]
    bias = None if kind == "Scale" else blobs[-1]
    wanted = combined(x, axes, factor, bias)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "shape", "axes"),
    [
        ("", (2, 3, 2), (1,)),
        ("num_axes: 7", (2, 3, 2), (1,)),  # of no account here
        ("axis: 0", (2, 3, 2), (0, 1)),
        ("axis: -2", (2, 3, 2), (1, 2)),
        ("axis: 0", (2, 3), ()),
        ("axis: 0", (2, 3), (0, 1)),
    ],
)
@pytest.mark.parametrize("kind", ["Scale", "Bias", "Scale with bias"])
def test_scale_and_bias_with_two_bottoms(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    kind: str,
    fields: str,
    shape: Shape,
    axes: Shape,
) -> None:
    more = 'bias_term: true bias_filler { type: "gaussian" }' if "with" in kind else ""
    name = kind.split()[0]
    covered = tuple(shape[a] for a in axes)
    text = f'type: "{name}" {name.lower()}_param {{ {fields} {more} }}'
    layer = make_layer(text, shape, covered)
    assert layer.blob_shapes == ([covered] if more else [])
    x, other = spread(*shape), spread(*covered) + 3
    (y,) = run(layer, x, other)
    learned = layer.weights[0].detach().numpy() if more else None
    wanted = combined(x, axes, *((None, other) if kind == "Bias" else (other, learned)))
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x, other)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('type: "Scale"', [1]),
        ('type: "Scale" scale_param { bias_term: true }', [1, 0]),
        ('type: "Scale" scale_param { filler { value: 3 } }', [3]),
        ('type: "Bias"', [0]),
        ('type: "Bias" bias_param { filler { value: 3 } }', [3]),
    ],
)
def test_scale_and_bias_change_nothing_at_first(
    make_layer: LayerMaker, text: str, values: list[float]
) -> None:
    layer = make_layer(text, (2, 3))
    assert [w.tolist() for w in layer.weights] == [[v] * 3 for v in values]


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "Scale"', [(2, 3), (2,)], r"shape \(2,\) does not match \(2, 3\) from axis 1 on"),
        ('type: "Bias"', [(2, 3), (3, 1)], r"shape \(3, 1\) does not match"),
        ('type: "Scale" scale_param { num_axes: 2 }', [(2, 3)], "num_axes 2 from axis 1 on reach"),
        ('type: "Bias" bias_param { num_axes: -2 }', [(2, 3)], "num_axes -2 from axis 1 on reach"),
        ('type: "Bias" bias_param { axis: 2 }', [(2, 3)], "axis 2 does not exist"),
        ('type: "Reduction" reduction_param { axis: 2 }', [(2, 3)], "axis 2 does not exist"),
    ],
)
def test_other_layers_refuse(
    make_layer: LayerMaker, text: str, shapes: list[Shape], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


def test_a_learned_factor_takes_no_other_number_of_channels(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Scale"', (2, 3))
    assert layer.top_shapes((7, 3, 4)) == [(7, 3, 4)]
    with pytest.raises(NetError, match=r"shape \(3,\) does not match \(2, 4\)"):
        layer.top_shapes((2, 4))


def test_a_learned_bias_takes_no_factor_of_another_shape(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Scale" scale_param { bias_term: true }', (2, 3), (3,))
    assert layer.top_shapes((4, 3, 5), (3,)) == [(4, 3, 5)]
    with pytest.raises(NetError, match=r"learned bias has shape \(3,\), got a factor .*\(4,\)"):
        layer.top_shapes((2, 4), (4,))


@pytest.mark.parametrize(("fields", "first"), [("", 0), ("axis: 1", 1), ("axis: -1 coeff: -2", 2)])
@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
def test_reduction(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    operation: str,
    fields: str,
    first: int,
) -> None:
    shape = (2, 3, 2)
    text = f'type: "Reduction" reduction_param {{ operation: {operation} {fields} }}'
    layer = make_layer(text, shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    coeff = -2 if "coeff" in fields else 1
    wanted = np.zeros(shape[:first])
    for at in np.ndindex(*shape[:first]):
        values = [float(v) for v in np.ravel(x[at])]
        if operation == "ASUM":
            values = [abs(v) for v in values]
        elif operation == "SUMSQ":
            values = [v * v for v in values]
        wanted[at] = coeff * sum(values) / (len(values) if operation == "MEAN" else 1)
    assert y.shape == shape[:first]
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13)  # both in double precision
    check_gradient(layer, x)


@pytest.mark.parametrize("k", [1, 3, 12])
def test_mean_of_the_largest(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread, k: int
) -> None:
    fields = f"operation: TOPK k: {k} axis: 1 coeff: -2"
    layer = make_layer(f'type: "Reduction" reduction_param {{ {fields} }}', (2, 3, 4))
    x = spread(2, 3, 4)
    (y,) = run(layer, x)
    for n in range(2):
        largest = sorted((float(v) for v in x[n].flat), reverse=True)[:k]
        assert y[n] == pytest.approx(-2 * sum(largest) / k, rel=1e-12)  # double precision
    check_gradient(layer, x)


def test_more_than_there_are(make_layer: LayerMaker) -> None:
    text = 'type: "Reduction" reduction_param { operation: TOPK k: 5 axis: 1 }'
    with pytest.raises(NetError, match="k must be <= 4, the count of values, got 5"):
        make_layer(text, (2, 4))


def test_a_stochastic_sum(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    fields = "operation: STOCHASTIC_SUM coeff: 0.25 coeff: 1 coeff: 0"
    text = f'type: "Eltwise" eltwise_param {{ {fields} }}'
    a, b, c = (spread(2, 3) + k for k in range(3))
    (y,) = run(make_layer(text, *[(2, 3)] * 3), a, b, c)
    np.testing.assert_allclose(y, 0.25 * a + b, rtol=1e-12)  # double precision
    layer = make_layer(text, *[(2, 3)] * 3, training=True)
    drawn = [run(layer, a, b, c)[0] for _ in range(400)]
    with_a = sum(np.array_equal(y, a + b) for y in drawn)
    assert with_a + sum(np.array_equal(y, b) for y in drawn) == 400
    assert with_a / 400 == pytest.approx(0.25, abs=0.1)  # a standard deviation of 0.022
    every = 'type: "Eltwise" eltwise_param { operation: STOCHASTIC_SUM }'
    (y,) = run(make_layer(every, *[(2, 3)] * 2, training=True), a, b)
    np.testing.assert_array_equal(y, a + b)


def test_eltwise_sort_of_caffe_windows(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    a, b, c = spread(3, 2, 3)
    layer = make_layer('type: "Eltwise" eltwise_param { operation: SORT }', *[a.shape] * 3)
    np.testing.assert_allclose(run(layer, a, b, c)[0], (1 + a) * (1 + b) * (1 + c))
    check_gradient(layer, a, b, c)


@pytest.mark.parametrize("index", [0, 1])
def test_a_sum_into_a_bottom(make_layer: LayerMaker, index: int) -> None:
    made = make_layer('type: "Eltwise"', SHAPE, SHAPE, SHAPE)
    bottoms = [torch.randn(SHAPE) for _ in range(3)]
    wanted = made(*bottoms)
    way = made.overwriting(index)
    assert way is not None
    top = way(*bottoms)
    assert isinstance(top, torch.Tensor)
    assert isinstance(wanted, torch.Tensor)
    assert torch.equal(top, wanted)
    assert top is bottoms[index]
    assert made.overwriting(2) is None  # whose sum would be rounded in another order
    assert make_layer('type: "Eltwise" eltwise_param { operation: MAX }', SHAPE, SHAPE).overwriting(
        0
    ) is None  # fmt: skip
