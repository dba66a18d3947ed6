from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from moka.solver.learnable import Learnable, clear_grads, forget_grads, learnables, make_grads

if TYPE_CHECKING:
    from tests.conftest import NetMaker

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 3 }
  param { name: "w" lr_mult: 2 decay_mult: 0.5 } param { lr_mult: 3 } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 3 }
  param { name: "w" } param { decay_mult: 0 } }
"""


def test_every_parameter_comes_once_with_its_factors(make_net: NetMaker) -> None:
    net = make_net(NET)
    found = learnables(net)
    assert [(tuple(p.parameter.shape), p.lr_mult, p.decay_mult) for p in found] == [
        ((3, 3), 2, 0.5),
        ((3,), 3, 1),
        ((3,), 1, 0),
    ]
    assert found[0].parameter is net.layers[2].weights[0]


def test_gradients_are_made_and_cleared() -> None:
    params = [Learnable(nn.Parameter(torch.ones(2)), 1, 1) for _ in range(2)]
    params[0].parameter.grad = torch.ones(2)
    make_grads(params)
    assert [p.grad.tolist() for p in params] == [[1, 1], [0, 0]]
    clear_grads(params)
    assert [p.grad.tolist() for p in params] == [[0, 0], [0, 0]]
    clear_grads([])


def test_each_gradient_gets_memory_of_its_own() -> None:
    params = [Learnable(nn.Parameter(torch.ones(2)), 1, 1) for _ in range(3)]
    one = torch.ones(2)
    for p, grad in zip(params, (one, one.view(2), 2 * one), strict=True):
        p.parameter.grad = grad
    make_grads(params)
    params[0].grad.add_(1)
    assert [p.grad.tolist() for p in params] == [[2, 2], [1, 1], [2, 2]]


def test_only_gradients_that_somebody_holds_outlive_an_iteration(make_net: NetMaker) -> None:
    net = make_net(NET)
    params = learnables(net)
    for p in params:
        p.parameter.grad = torch.ones_like(p.parameter)
    diff = net.layer_blobs(1)[1].diff
    _ = net.layer_blobs(2)[1].diff.sum()  # read, not held
    forget_grads(params, net)
    assert not diff.any()
    have = [p.parameter.grad for p in params]
    assert have[0] is None or net.device.type != "cpu"
    held = next(p.parameter for p in params if p.parameter is net.layers[1].weights[1])
    assert held.grad is not None
    held.grad.fill_(3)
    assert (diff == 3).all()
