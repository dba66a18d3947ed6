from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

FIELDS = 'num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" } bias_filler { value: 2 }'


@pytest.mark.parametrize(
    ("more", "stride", "pad", "bias"),
    [("", 1, 0, True), ("stride: 2 pad: 1 bias_term: false", 2, 1, False)],
)
def test_each_place_has_its_own_weights(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    more: str,
    stride: int,
    pad: int,
    *,
    bias: bool,
) -> None:
    x = spread(2, 3, 5, 4)
    layer = make_layer(f'type: "Local" local_param {{ {FIELDS} {more} }}', x.shape)
    have = run(layer, x)[0]
    height, width = have.shape[2:]
    assert (height, width) == ((5 + 2 * pad - 3) // stride + 1, (4 + 2 * pad - 3) // stride + 1)
    shapes = [(2, 1, 27, height * width)] + [(1, 1, 2, height * width)] * bias
    assert layer.blob_shapes == shapes
    weight = layer.weights[0].detach().numpy()
    if bias:
        with torch.no_grad():
            layer.weights[1].add_(torch.arange(2 * height * width).reshape(shapes[1]))
        have = run(layer, x)[0]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    for n, m, i, j in np.ndindex(have.shape):
        place = i * width + j
        patch = padded[n, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
        want = sum(a * b for a, b in zip(weight[m, 0, :, place], patch.ravel(), strict=True))
        want += layer.weights[1][0, 0, m, place].item() if bias else 0
        assert have[n, m, i, j] == pytest.approx(want)
    assert layer.multiply_adds([x.shape], [have.shape]) == 2 * 2 * 27 * height * width
    check_gradient(layer, x)


def test_bad_input(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="kernel_size is missing"):
        make_layer('type: "Local" local_param { num_output: 1 }', (1, 1, 3, 3))
    with pytest.raises(NetError, match="larger than the padded image"):
        make_layer(f'type: "Local" local_param {{ {FIELDS} }}', (1, 1, 2, 3))
    layer = make_layer(f'type: "Local" local_param {{ {FIELDS} }}', (1, 1, 4, 4))
    with pytest.raises(NetError, match="as large as the weights were made for"):
        layer.top_shapes((1, 1, 4, 5))


def test_the_other_name(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    x, tops = spread(2, 2, 4, 5), []
    for kind, field in (("Local", "local_param"), ("LocalConv", "local_conv_param")):
        torch.manual_seed(3)
        layer = make_layer(f'type: "{kind}" {field} {{ {FIELDS} }}', x.shape)
        tops.append(run(layer, x)[0])
    np.testing.assert_array_equal(tops[0], tops[1])
