"""A clamp whose gradient passes at the bounds, with every version of PyTorch."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch

from moka.layers.limits import limited


@pytest.mark.parametrize(
    ("least", "most", "values", "slopes"),
    [
        (0.0, 1.0, [0, 0, 0.5, 1, 1], [0, 1, 1, 1, 0]),
        (0.0, inf, [0, 0, 0.5, 1, 3], [0, 1, 1, 1, 1]),
        (-inf, 1.0, [-2, 0, 0.5, 1, 1], [1, 1, 1, 1, 0]),
    ],
)
def test_values_and_gradients(
    least: float, most: float, values: list[float], slopes: list[float]
) -> None:
    x = torch.tensor([-2, 0, 0.5, 1, 3], requires_grad=True)
    y = limited(x, least, most)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert y.tolist() == values
    assert x.grad is not None
    assert x.grad.tolist() == slopes
    assert limited(x.detach(), least, most).tolist() == values


def test_nan_stays() -> None:
    x = torch.tensor([nan], requires_grad=True)
    assert limited(x, 0, 1).isnan().all()
    assert limited(x.detach(), 0, 1).isnan().all()
