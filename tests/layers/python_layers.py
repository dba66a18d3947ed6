"""Layers of the user in modules of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moka.net import Net

if TYPE_CHECKING:
    from tests.conftest import NetMaker


INPUT = 'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {} }} }} }}'


def python_net(make_net: NetMaker, param: str, dims: str, more: str = "") -> Net:
    return make_net(
        "force_backward: true "
        + INPUT.format(" ".join(f"dim: {n}" for n in dims.split()))
        + f'layer {{ name: "it" type: "Python" bottom: "x" top: "y" {param} }} {more}'
    )
