from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

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
