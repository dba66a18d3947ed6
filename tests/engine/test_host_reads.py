from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from moka.engine.host_reads import noting_host_reads

X = torch.tensor([1.0, 0.0, 2.0])
MASK = torch.tensor([True, False, True])


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[MASK],
        lambda x: x.unique(),
        lambda x: x.long().bincount(minlength=3),
        lambda x: x.masked_select(MASK),
        lambda x: torch.equal(x, x),
        lambda x: x.repeat_interleave(x.long()),
        lambda x: torch.tensor([1.0, 2.0]),
        lambda x: x.new_tensor(3.0),
        lambda x: x.clone().index_put_((MASK,), x.sum()),
        lambda x: x.to("meta"),
    ],
)
def test_what_makes_the_host_wait(read: Callable[[Tensor], object]) -> None:
    with noting_host_reads() as reads:
        read(X)
    assert reads.found


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.gather(0, x.long()),
        lambda x: x.where(x > 0, 0.0).sum(),
        lambda x: x[:2] + x.new_full((2,), 4.0),
        lambda x: torch.zeros_like(x).scatter_add_(0, x.long(), x),
        lambda x: x[x.long()],
        lambda x: x.clone().masked_fill_(MASK, 0),
        lambda x: x.new_empty(3).bernoulli_(0.5),
        lambda x: x.copy_(x.clone()),
    ],
)
def test_what_does_not(work: Callable[[Tensor], object]) -> None:
    with noting_host_reads() as reads:
        work(X.clone())
    assert reads.found == []


def test_reads_of_the_backward_pass_are_found_too() -> None:
    x = X.clone().requires_grad_()
    y = x * 2
    y.register_hook(lambda grad: grad * grad.sum().item())  # type: ignore[no-untyped-call]
    with noting_host_reads() as reads:
        y.sum().backward()  # type: ignore[no-untyped-call]
    assert reads.found == ["aten::_local_scalar_dense needs values on the host"]


def test_a_read_is_told_with_its_layer() -> None:
    with noting_host_reads() as reads:
        X.sum().item()
        reads.layer_done("first")
        X.sum().item()
    assert reads.found == [
        "aten::_local_scalar_dense needs values on the host, in the layer that makes first",
        "aten::_local_scalar_dense needs values on the host",
    ]
