from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.ristretto import fixed_point, minifloat, power_of_two, round_to_nearest, stochastic
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner


def slow_fixed(value: float, bits: int, fraction: int) -> float:
    whole = int(abs(value) * 2.0**fraction + 0.5) * (1 if value >= 0 else -1)
    return max(min(whole, 2 ** (bits - 1) - 1), -(2 ** (bits - 1))) / 2.0**fraction


def fixed(x: Array, bits: int, fraction: int) -> Array:
    return np.vectorize(lambda v: slow_fixed(v, bits, fraction))(x)


def test_halves_go_away_from_zero() -> None:
    rounded = round_to_nearest(torch.tensor([-2.5, -0.5, 0, 0.5, 1.4, 2.5]))
    assert rounded.tolist() == [-3, -1, 0, 1, 1, 3]


def test_rounding_by_chance_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drawn = stochastic(torch.full((10000,), 2.3))
    assert set(drawn.tolist()) == {2.0, 3.0}
    assert drawn.mean() == pytest.approx(2.3, abs=0.02)


@pytest.mark.parametrize(("bits", "fraction"), [(8, 4), (4, 0), (6, 7), (8, -2)])
def test_fixed_point(bits: int, fraction: int) -> None:
    x = np.random.default_rng(0).normal(size=200) * 2.0 ** (bits - fraction - 2)
    have = fixed_point(torch.from_numpy(x), bits, fraction, round_to_nearest)
    np.testing.assert_allclose(have, fixed(x, bits, fraction))


def test_minifloat() -> None:
    """Of all numbers that 3 bits of mantissa and 3 of exponent make, the nearest."""
    numbers = [(1 + m / 8) * 2.0 ** (e - 3) for e in range(8) for m in range(8)]
    x = np.random.default_rng(0).uniform(0.125, 30, 300)
    have = minifloat(torch.from_numpy(np.concatenate([x, -x])), 3, 3, round_to_nearest).numpy()
    for value, found in zip(x, have, strict=False):
        assert abs(found - value) == pytest.approx(min(abs(n - value) for n in numbers))
    np.testing.assert_array_equal(have[300:], -have[:300])
    ends = minifloat(torch.tensor([0.0, 1e-40, 0.124, 1000.0]), 3, 3, round_to_nearest)
    assert ends.tolist() == [0, 0, 0, 30]
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    np.testing.assert_array_equal(minifloat(torch.from_numpy(x), 23, 8, round_to_nearest), x)


def test_powers_of_two() -> None:
    x = torch.tensor([0.0, 0.3, -0.7, 5.0, 1e-9, -100.0])
    assert power_of_two(x, -3, 2, round_to_nearest).tolist() == [0.125, 0.25, -0.5, 4, 0.125, -4]


QUANTIZATION = (
    "quantization_param { bw_params: 6 fl_params: 3 bw_layer_in: 5 fl_layer_in: 2 bw_layer_out: 7"
    " fl_layer_out: 1 }"
)


@pytest.mark.parametrize(
    ("kind", "plain", "fields"),
    [
        ("ConvolutionRistretto", "Convolution", "convolution_param { num_output: 2 kernel_size: 3"),
        ("DeconvolutionRistretto", "Deconvolution",
         "convolution_param { num_output: 2 kernel_size: 3"),
        ("FcRistretto", "InnerProduct", "inner_product_param { num_output: 2"),
    ],
)  # fmt: skip
def test_layers(make_layer: LayerMaker, run: Runner, kind: str, plain: str, fields: str) -> None:
    fields += ' weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } }'
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)) * 3
    layer = make_layer(f'type: "{kind}" {fields} {QUANTIZATION}', x.shape)
    reference = make_layer(f'type: "{plain}" {fields}', x.shape)
    for mine, other in zip(layer.weights, reference.weights, strict=True):
        other.data.copy_(torch.from_numpy(fixed(mine.detach().numpy(), 6, 3)))
    (y,) = run(layer, x)
    (want,) = run(reference, fixed(x, 5, 2))
    np.testing.assert_allclose(y, fixed(want, 7, 1), atol=1e-12)


def test_training_quantizes_parameters_only_and_trains_them(make_layer: LayerMaker) -> None:
    layer = make_layer(
        'type: "FcRistretto" inner_product_param { num_output: 1 bias_term: false'
        ' weight_filler { type: "constant" value: 0.3 } } quantization_param { bw_params: 4'
        " fl_params: 0 bw_layer_in: 2 bw_layer_out: 2 fl_layer_in: 0 fl_layer_out: 0 }",
        (1, 1),
        training=True,
    )
    torch.manual_seed(0)
    found = {round(layer(torch.tensor([[7.7]])).item(), 4) for _ in range(50)}
    assert found == {0.0, 7.7}
    layer(torch.tensor([[7.7]])).sum().backward()
    assert layer.weights[0].grad is not None
    assert layer.weights[0].grad.item() == pytest.approx(7.7)
    assert layer.weights[0].item() == pytest.approx(0.3)


def test_weights_as_powers_of_two(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "FcRistretto" inner_product_param { num_output: 1 weight_filler { value: 0.3 }'
        " bias_filler { value: 0.3 } } quantization_param { precision: INTEGER_POWER_OF_2_WEIGHTS"
        " exp_min: -4 exp_max: 0 }",
        (1, 1),
    )
    (y,) = run(layer, np.array([[3.3]]))
    assert y.item() == pytest.approx(3.3 * 0.25 + 0.3)


def test_minifloats(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "FcRistretto" inner_product_param { num_output: 1 weight_filler { value: 1.3 } }'
        " quantization_param { precision: MINIFLOAT mant_bits: 1 exp_bits: 4 }",
        (1, 1),
    )
    (y,) = run(layer, np.array([[2.9]]))
    assert y.item() == 4.0  # 3 * 1.5 = 4.5, which is nearer to 4 than to 6


def small(value: float, mantissa: int, exponent: int) -> float:
    """A number in a float of few bits, rounded to nearest."""
    if value == 0:
        return 0.0
    bias = 2 ** (exponent - 1) - 1
    power = int(np.floor(np.log2(abs(value))))
    if power + bias < 0:
        return 0.0
    steps = 2**mantissa
    fraction = np.floor((abs(value) / 2.0**power - 1) * steps + 0.5) / steps
    if power + bias > 2**exponent - 1:
        power, fraction = 2**exponent - 1 - bias, (steps - 1) / steps
    return float(np.sign(value) * (1 + fraction) * 2.0**power)


@pytest.mark.parametrize(("mantissa", "exponent"), [(4, 5), (2, 4)])
@pytest.mark.parametrize("channels", [1, 6])
def test_lrn_in_small_floats(
    make_layer: LayerMaker, run: Runner, mantissa: int, exponent: int, channels: int
) -> None:
    x = np.random.default_rng(3).normal(size=(2, channels, 2, 1)) * 3
    layer = make_layer(
        'type: "LRNRistretto" lrn_param { local_size: 5 alpha: 0.7 beta: 0.75 k: 2 }'
        f" quantization_param {{ precision: MINIFLOAT mant_bits: {mantissa}"
        f" exp_bits: {exponent} }}",
        x.shape,
    )

    def q(value: float) -> float:
        return small(value, mantissa, exponent)

    want = np.zeros_like(x)
    for n, i in np.ndindex(2, 2):
        line = [q(v) for v in x[n, :, i, 0]]
        total, divisors = 0.0, []
        for head in range(channels + 2):
            if head < channels:
                total = q(total + q(line[head] ** 2))
            if head >= 5:
                total = q(total - q(line[head - 5] ** 2))
            if head >= 2:
                divisors.append(q(2 + q(total * 0.7 / 5)))
        for c in range(channels):
            want[n, c, i, 0] = q(line[c] * q(divisors[c] ** -0.75))
    np.testing.assert_allclose(run(layer, x)[0], want, rtol=1e-6)


def test_the_gradient_of_lrn_in_small_floats_is_that_of_lrn(make_layer: LayerMaker) -> None:
    x = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    fields = "lrn_param { local_size: 3 alpha: 0.7 }"
    few = "quantization_param { precision: MINIFLOAT mant_bits: 3 exp_bits: 4 }"
    gradients = []
    for text in (f'type: "LRN" {fields}', f'type: "LRNRistretto" {fields} {few}'):
        bottom = x.clone().requires_grad_()
        make_layer(text, tuple(x.shape))(bottom).sum().backward()
        assert bottom.grad is not None
        gradients.append(bottom.grad)
    torch.testing.assert_close(*gradients)


def test_what_lrn_in_small_floats_refuses(make_layer: LayerMaker) -> None:
    few = "quantization_param { precision: MINIFLOAT }"
    with pytest.raises(NetError, match="precision must be MINIFLOAT"):
        make_layer('type: "LRNRistretto"', (1, 2, 3, 3))
    with pytest.raises(NetError, match="norm_region must be ACROSS_CHANNELS"):
        make_layer(
            f'type: "LRNRistretto" lrn_param {{ norm_region: WITHIN_CHANNEL }} {few}', (1, 2, 3, 3)
        )
