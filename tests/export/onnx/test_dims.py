from __future__ import annotations

import pytest
from tests.conftest import NetMaker
from tests.export.onnx.conftest import one_layer

from moka.errors import NetError
from moka.export.onnx.dims import fixed_dims, free_dims, free_text, target_of_reshape


def test_dims_of_a_free_batch(make_net: NetMaker) -> None:
    net = make_net(one_layer('type: "Reshape" reshape_param { shape { dim: -1 dim: 2 } }', "3 4"))
    assert free_dims(net)[1] == [(-2, 2)]  # twice the batch
    assert fixed_dims(net)[1] == [(6, 2)]


@pytest.mark.parametrize(
    ("layer", "shapes", "fact"),
    [
        ('type: "Reshape" reshape_param { shape { dim: 6 dim: 2 } }', ["3 4"], "output count"),
        ('type: "Concat" concat_param { axis: 0 }', ["3 4", "2 4"], "no multiple of the batch"),
    ],
)
def test_nets_of_one_batch_size(
    make_net: NetMaker, layer: str, shapes: list[str], fact: str
) -> None:
    with pytest.raises(NetError, match=fact):
        free_dims(make_net(one_layer(layer, *shapes)))


@pytest.mark.parametrize(
    ("dims", "source", "target"),
    [
        ((-1, 6), (-1, 2, 3), [-1, 6]),
        ((6, -1), (-1, 2, 3), [6, -1]),
        ((-1, -2, 3), (-1, 6, -1), [0, -1, 3]),
        ((2, 3), (6,), [2, 3]),
    ],
)
def test_targets_of_reshape(
    dims: tuple[int, ...], source: tuple[int, ...], target: list[int]
) -> None:
    assert target_of_reshape(dims, source) == target


def test_two_free_sizes() -> None:
    with pytest.raises(NetError, match=r"cannot be reshaped to \(N, 2\*N\) with a free batch"):
        target_of_reshape((-1, -2), (4, -3))


def test_text() -> None:
    assert free_text((-1, 3, -4)) == "(N, 3, 4*N)"
