from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

SHAPE = (40, 50)


@pytest.mark.parametrize(
    ("fields", "deviation", "most"),
    [
        ("gaussian_std: 0.5 bias: 2", 0.5, 2.5),
        ("uniform_range: 0.3 bias: 2", 0.3 / 3**0.5, 0.3),
        ("gaussian_std: 0.5 uniform_range: 9", 0.5, 2.5),
    ],
)
def test_noise(
    make_layer: LayerMaker, run: Runner, fields: str, deviation: float, most: float
) -> None:
    torch.manual_seed(0)
    text = f'type: "Noise" noise_param {{ {fields} }}'
    x = np.ones(SHAPE)
    noise = run(make_layer(text, SHAPE, training=True), x)[0] - 1
    mean = 2.0 if "bias" in fields else 0.0
    assert noise.mean() == pytest.approx(mean, abs=0.05)
    assert noise.std() == pytest.approx(deviation, rel=0.05)
    assert abs(noise - mean).max() <= most
    assert (run(make_layer(text, SHAPE), x)[0] == x).all()


def test_noise_passes_the_gradient(
    make_layer: LayerMaker,
) -> None:
    layer = make_layer('type: "Noise" noise_param { gaussian_std: 1 }', SHAPE, training=True)
    x = torch.ones(SHAPE, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert (x.grad == 1).all()


def test_insanity_in_training(make_layer: LayerMaker, run: Runner) -> None:
    torch.manual_seed(0)
    layer = make_layer('type: "Insanity" insanity_param { lb: 2 ub: 6 }', SHAPE, training=True)
    x = np.linspace(-1, 1, 2000).reshape(SHAPE)
    y = run(layer, x)[0]
    assert (y[x > 0] == x[x > 0]).all()
    divisors = x[x < 0] / y[x < 0]
    assert 2 <= divisors.min() < 2.1
    assert 5.9 < divisors.max() <= 6
    assert divisors.mean() == pytest.approx(4, abs=0.15)


def test_insanity_in_testing(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x = spread(3, 4)
    layer = make_layer('type: "Insanity"', x.shape)
    divisor = (10 - 5) / (log(10) - log(5))
    np.testing.assert_allclose(run(layer, x)[0], np.where(x > 0, x, x / divisor))
    check_gradient(layer, x)


def test_bad_input(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="needs gaussian_std or uniform_range"):
        make_layer('type: "Noise"', (2,))
    for noise in ("uniform_range: inf", "gaussian_std: 1 bias: nan", "uniform_range: 2e38"):
        with pytest.raises(NetError, match=r"noise of .* around .* is too large"):
            make_layer(f'type: "Noise" noise_param {{ {noise} }}', (2,))
    for bounds in ("lb: 3 ub: 2", "lb: 0", "lb: -3 ub: 3", "lb: 1 ub: inf", "lb: -3e38 ub: 2e38"):
        with pytest.raises(NetError, match="needs lb < ub"):
            make_layer(f'type: "Insanity" insanity_param {{ {bounds} }}', (2,))
