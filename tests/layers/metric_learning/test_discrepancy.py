from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

RNG = np.random.default_rng(5)
SOURCE, TARGET = RNG.normal(size=(4, 3, 1)), RNG.normal(1, 2, (6, 3, 1))
KIND = 'type: "MMDLoss" mmd_param'


def kernel(a: np.ndarray, b: np.ndarray, gamma: float, number: int, mul: float) -> float:
    apart = float(((a - b) ** 2).sum())
    return sum(np.exp(-gamma * mul ** (i - number // 2) * apart) for i in range(number))


def gamma_of(source: np.ndarray, target: np.ndarray) -> float:
    items = [*source, *target]
    distances = [((a - b) ** 2).sum() for a in items for b in items]
    return (len(items) ** 2 - len(items)) / sum(distances)


def slow_mmd(
    source: np.ndarray, target: np.ndarray, gamma: float, number: int, mul: float
) -> float:
    """Draw by draw, with the numbers that the layer draws."""
    draws = max(len(source), len(target))
    torch.manual_seed(7)
    s, s2 = torch.randint(len(source), (2, draws)).tolist()
    t, t2 = torch.randint(len(target), (2, draws)).tolist()
    total = 0.0
    for i, i2, j, j2 in zip(s, s2, t, t2, strict=True):
        a, a2 = source[i], source[i2 if i2 != i else (i2 + 1) % len(source)]
        b, b2 = target[j], target[j2 if j2 != j else (j2 + 1) % len(target)]
        for one, other, sign in ((a, a2, 1), (b, b2, 1), (a, b2, -1), (a2, b, -1)):
            total += sign * kernel(one, other, gamma, number, mul)
    return total


@pytest.mark.parametrize(("number", "mul"), [(5, 2), (1, 3), (2, 1.5)])
@pytest.mark.parametrize("swapped", [False, True])
def test_value_and_gradient(
    make_layer: LayerMaker, number: int, mul: float, *, swapped: bool
) -> None:
    one, other = (TARGET, SOURCE) if swapped else (SOURCE, TARGET)
    layer = make_layer(
        f"{KIND} {{ kernel_num: {number} kernel_mul: {mul} }}", one.shape, other.shape
    )
    gamma = gamma_of(one, other)
    tensors = [torch.tensor(x, requires_grad=True) for x in (one, other)]
    torch.manual_seed(7)
    loss = layer(*tensors)
    assert isinstance(loss, torch.Tensor)
    assert float(loss.detach()) == pytest.approx(slow_mmd(one, other, gamma, number, mul))
    for x, grad in zip((one, other), torch.autograd.grad(loss, tensors), strict=True):
        for place in np.ndindex(*x.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = x.copy()
                moved[place] += step
                pair = (moved, other) if x is one else (one, moved)
                sides.append(slow_mmd(*pair, gamma, number, mul))
            want = (sides[0] - sides[1]) / 2e-6 / 6  # the mean over six draws
            assert float(grad[place]) == pytest.approx(want, abs=1e-8)


def test_domains_that_lie_apart_have_a_larger_loss(make_layer: LayerMaker) -> None:
    layer = make_layer(KIND + " { }", (200, 3), (200, 3))
    near = torch.randn(200, 3)
    losses = [layer(near, torch.randn(200, 3) + shift) for shift in (0, 1, 3)]
    assert losses == sorted(losses)


def test_a_fixed_gamma_is_kept(make_layer: LayerMaker) -> None:
    text = f"{KIND} {{ fix_gamma: true }}"
    layer = make_layer(text, SOURCE.shape, TARGET.shape)
    layer(torch.tensor(SOURCE), torch.tensor(TARGET))
    (kept,) = layer.run_state()
    assert float(kept) == pytest.approx(gamma_of(SOURCE, TARGET))
    resumed = make_layer(text, SOURCE.shape, TARGET.shape)
    resumed.load_run_state([kept.float().reshape(1)])
    for each in (layer, resumed):
        torch.manual_seed(7)
        loss = float(each(torch.tensor(2 * SOURCE), torch.tensor(TARGET)))
        want = slow_mmd(2 * SOURCE, TARGET, gamma_of(SOURCE, TARGET), 5, 2)
        assert loss == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("shapes", [((1, 3), (4, 3)), ((4, 3), (1, 3)), ((0, 3), (4, 3))])
def test_too_few_items(make_layer: LayerMaker, shapes: tuple[tuple[int, ...], ...]) -> None:
    tensors = [torch.ones(shape, requires_grad=True) for shape in shapes]
    loss = make_layer(KIND + " { }", *shapes)(*tensors)
    assert isinstance(loss, torch.Tensor)
    assert float(loss.detach()) == 0
    assert all(not grad.any() for grad in torch.autograd.grad(loss, tensors))


def test_items_at_one_place(make_layer: LayerMaker) -> None:
    x = torch.ones(3, 2, requires_grad=True)
    loss = make_layer(KIND + " { }", (3, 2), (3, 2))(x, torch.ones(3, 2))
    assert isinstance(loss, torch.Tensor)
    assert float(loss.detach()) == 0
    assert torch.autograd.grad(loss, x)[0].eq(0).all()


def test_bad_input(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="items of both domains must have one size"):
        make_layer(KIND + " { }", (3, 2), (3, 4))
    with pytest.raises(NetError, match="kernel_num must be 1 to 1000, got 0"):
        make_layer(KIND + " { kernel_num: 0 }", (3, 2), (3, 2))
    with pytest.raises(NetError, match=r"mmd_param \{ num_of_kernel \} is an option of a fork"):
        make_layer(KIND + " { num_of_kernel: 5 }", (3, 2), (3, 2))
