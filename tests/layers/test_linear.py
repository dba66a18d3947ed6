from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


def layer_text(fields: str) -> str:
    return (
        f'type: "InnerProduct" inner_product_param {{ num_output: 3 {fields}'
        ' weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } }'
    )


@pytest.mark.parametrize(
    ("fields", "shape", "axis"),
    [
        ("", (4, 5), 1),
        ("", (2, 2, 3, 2), 1),
        ("axis: 2", (2, 3, 4), 2),
        ("axis: -1", (2, 3, 4), 2),
        ("axis: 0", (2, 3), 0),
        ("transpose: true", (4, 5), 1),
        ("bias_term: false", (4, 5), 1),
    ],
)
def test_inner_product(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    axis: int,
) -> None:
    layer = make_layer(layer_text(fields), shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    inner = prod(shape[axis:])
    weight: NDArray[Any] = layer.weights[0].detach().numpy()
    bias = layer.weights[1].detach().numpy() if "bias_term" not in fields else np.zeros(3)
    if "transpose" in fields:
        assert weight.shape == (inner, 3)
        weight = weight.T
    rows = x.reshape(-1, inner)
    wanted = np.zeros((len(rows), 3))
    for m, n in product(range(len(rows)), range(3)):
        wanted[m, n] = bias[n] + sum(weight[n, k] * rows[m, k] for k in range(inner))
    assert y.shape == (*shape[:axis], 3)
    # Both in double precision, at most 12 terms.
    np.testing.assert_allclose(y.reshape(wanted.shape), wanted, rtol=1e-12, atol=1e-13)
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "slope"), [("relu: true", 0.0), ("relu: true negative_slope: 0.25", 0.25)]
)
def test_a_rectifier_inside(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    slope: float,
) -> None:
    layer = make_layer(layer_text(fields), (4, 5))
    x = spread(4, 5)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    plain = x @ weight.T + bias
    # Both in double precision.
    np.testing.assert_allclose(y, np.where(plain > 0, plain, slope * plain), rtol=1e-10)
    check_gradient(layer, x)


@pytest.mark.parametrize("fields", ["normalize: true", "normalize: true transpose: true"])
def test_the_weights_of_an_output_are_normalized(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
) -> None:
    layer = make_layer(layer_text(fields), (4, 5))
    x = spread(4, 5)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    if "transpose" in fields:
        weight = weight.T
    for n in range(3):
        norm = (sum(float(w) ** 2 for w in weight[n]) + 1e-6) ** 0.5
        wanted = x @ weight[n] / norm + bias[n]
        np.testing.assert_allclose(y[:, n], wanted, rtol=1e-10, atol=1e-12)  # double precision
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "shapes"),
    [
        ("bias_term: false", [(4, 2, 3), (3, 6)]),
        ("", [(4, 2, 3), (3, 2, 3)]),
        ("axis: 2", [(4, 2, 3), (3, 3), (3,)]),
        ("", [(4, 6), (3, 6), (3, 1)]),
    ],
)
def test_weights_among_the_bottoms(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shapes: list[Shape],
) -> None:
    """The layer has a bias of its own if nobody gives one."""
    layer = make_layer(layer_text(fields), *shapes)
    bottoms = [spread(*shape) for shape in shapes]
    own = [w.detach().numpy() for w in layer.weights]
    assert layer.parameter_names == (("bias",) if own else ())
    bias = bottoms[2].ravel() if len(bottoms) > 2 else own[0] if own else np.zeros(3)
    assert bool(own) == (len(bottoms) < 3 and "false" not in fields)
    rows = bottoms[0].reshape(*shapes[0][: 2 if "axis" in fields else 1], -1)
    wanted = rows @ bottoms[1].reshape(3, -1).T + bias
    np.testing.assert_allclose(run(layer, *bottoms)[0], wanted, rtol=1e-6, atol=1e-6)
    check_gradient(layer, *bottoms)


@pytest.mark.parametrize(
    ("fields", "shapes", "told"),
    [
        ("transpose: true", [(4, 6), (3, 6)], "transpose: true is only for weights of the layer's"),
        ("", [(4, 6), (2, 9)], r"the weight among the bottoms must be \(3, 6\), got \(2, 9\)"),
        ("", [(4, 6), (3, 5)], r"the weight among the bottoms must be \(3, 6\), got \(3, 5\)"),
        ("", [(4, 6), (3, 6), (4,)], r"the bias among the bottoms must be \(3,\), got \(4,\)"),
    ],
)
def test_weights_that_do_not_fit(
    make_layer: LayerMaker, fields: str, shapes: list[Shape], told: str
) -> None:
    with pytest.raises(NetError, match=told):
        make_layer(layer_text(fields), *shapes)


def test_takes_other_batches_of_the_same_inputs_only(make_layer: LayerMaker) -> None:
    layer = make_layer(layer_text(""), (4, 2, 3))
    assert layer.top_shapes((7, 6)) == [(7, 3)]
    with pytest.raises(NetError, match=r"the weights take 6 inputs, .* shape 4 7 \(28\) has 7"):
        layer.top_shapes((4, 7))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("num_output: 0", "num_output must be > 0, got 0"),
        ("", "num_output"),
        ("num_output: 3 axis: 2", "axis 2 does not exist"),
    ],
)
def test_refused(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "InnerProduct" inner_product_param {{ {fields} }}', (4, 5))


def embed_text(fields: str) -> str:
    return (
        f'type: "Embed" embed_param {{ {fields} weight_filler {{ type: "gaussian" }}'
        ' bias_filler { type: "gaussian" } }'
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("index", [[2, 0, 2, 2], [[1, 1], [0, 3]], [[[3.75]]]])
def test_embed(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    index: Any,
    bias: bool,
) -> None:
    x = np.array(index, float)
    more = "" if bias else "bias_term: false"
    layer = make_layer(embed_text(f"num_output: 3 input_dim: 4 {more}"), x.shape)
    assert layer.blob_shapes == [(4, 3), (3,)][: 2 if bias else 1]
    (y,) = run(layer, x)
    table, *rest = (w.detach().numpy() for w in layer.weights)
    for at in np.ndindex(*x.shape):
        assert y[at].tolist() == (table[int(x[at])] + (rest[0] if bias else 0)).tolist()
    check_gradient(layer, x)


def test_repeated_indices_add_up_in_the_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer(embed_text("num_output: 1 input_dim: 3"), (4,))
    y = layer(torch.tensor([2.0, 0.0, 2.0, 2.0]))
    (y * torch.tensor([[1.0], [2], [3], [4]])).sum().backward()
    table, bias = (w.grad for w in layer.weights)
    assert table is not None
    assert bias is not None
    assert table.flatten().tolist() == [2, 0, 8]
    assert bias.tolist() == [10]


@pytest.mark.parametrize("index", [-1.0, 3.0])
def test_an_index_outside_of_the_table_is_an_error_of_the_data(
    make_layer: LayerMaker, index: float
) -> None:
    layer = make_layer(embed_text("num_output: 1 input_dim: 3"), (1,))
    with pytest.raises(DataError, match=f"index {index:g} is outside of the 3 rows"):
        layer(torch.tensor([index]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("num_output: 2", "input_dim is missing"),
        ("input_dim: 2", "num_output is missing"),
        ("num_output: 0 input_dim: 2", "num_output must be > 0"),
        ("num_output: 2 input_dim: 0", "input_dim must be > 0"),
    ],
)
def test_embed_refuses(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Embed" embed_param {{ {fields} }}', (4,))
