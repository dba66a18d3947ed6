from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.layers import Layer
from moka.net.build import build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array
from moka.weights.load import copy_weights

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner, Spread

FILLER = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
MASKS = "weight_mask_filler { value: 1 } bias_mask_filler { value: 1 }"
KINDS = {
    "CConvolution": f"convolution_param {{ num_output: 3 kernel_size: 2 {FILLER} }}"
    f" cconvolution_param {{ {MASKS} %s }}",
    "CInnerProduct": f"inner_product_param {{ num_output: 3 {FILLER} }}"
    f" cinner_product_param {{ {MASKS} %s }}",
}
X = (2, 2, 3, 3)


def first(y: Any) -> torch.Tensor:
    top: torch.Tensor = y if isinstance(y, torch.Tensor) else y[0]
    return top


@pytest.mark.parametrize("kind", KINDS)
def test_in_testing_masks_multiply(
    make_layer: LayerMaker, run: Runner, spread: Spread, kind: str
) -> None:
    """A plain layer with the masked weights computes the same, and has the same gradients."""
    layer = make_layer(f'type: "{kind}" {KINDS[kind] % ""}', X).double()
    names = ["weight", "bias", "weight_mask", "bias_mask"]
    assert layer.parameter_names == tuple(names)
    assert tuple(layer.state_blobs) == (2, 3)
    rng = np.random.default_rng(4)
    for mask in layer.weights[2:]:
        mask.data.copy_(torch.from_numpy(rng.integers(0, 2, tuple(mask.shape))))
    plain = make_layer(f'type: "{kind[1:]}" {KINDS[kind].split(" c")[0]}', X).double()
    for k in range(2):
        plain.weights[k].data.copy_(layer.weights[k] * layer.weights[k + 2])
    x = spread(*X)
    np.testing.assert_allclose(run(layer, x)[0], run(plain, x)[0], rtol=1e-12)
    leaves = [torch.from_numpy(x).requires_grad_() for _ in range(2)]
    for leaf, each in zip(leaves, (layer, plain), strict=True):
        torch.autograd.backward(first(each(leaf)).square().sum())
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
    for k in range(2):  # what is cut out has a gradient, too
        torch.testing.assert_close(layer.weights[k].grad, plain.weights[k].grad)
    assert layer.is_pure


def operated(values: Array, mask: Array, threshold: float) -> Array:
    """One value after the other, as the fork's loop does."""
    new = mask.copy()
    for i, v in np.ndenumerate(np.abs(values)):
        if mask[i] == 1 and v <= 0.9 * threshold:
            new[i] = 0
        elif mask[i] == 0 and v > 1.1 * threshold:
            new[i] = 1
    return new


def arrays(layer: Layer) -> list[Array]:
    return [w.detach().numpy().copy() for w in layer.weights]


@pytest.mark.parametrize("kind", KINDS)
def test_in_training_masks_change(make_layer: LayerMaker, spread: Spread, kind: str) -> None:
    text = f'type: "{kind}" {KINDS[kind] % "gamma: 0 c_rate: 0.25 iter_stop: 2"}'
    torch.manual_seed(6)
    layer = make_layer(text, X, training=True).double()
    assert not layer.is_pure
    x = torch.from_numpy(spread(*X))
    weight, bias, *masks = arrays(layer)
    values = np.abs(np.concatenate([weight.ravel(), bias]))
    threshold = values.mean() + 0.25 * values.std()
    layer(x)
    wanted = [operated(v, m, threshold) for v, m in zip((weight, bias), masks, strict=True)]
    assert 0 < sum(m.sum() for m in wanted) < values.size
    for found, mask in zip(arrays(layer)[2:], wanted, strict=True):
        np.testing.assert_array_equal(found, mask)

    with torch.no_grad():  # the threshold stays as it was
        for w in layer.weights[:2]:
            w.mul_(3)
    layer(x)
    again = [operated(3 * v, m, threshold) for v, m in zip((weight, bias), wanted, strict=True)]
    assert sum(m.sum() for m in again) > sum(m.sum() for m in wanted)
    for found, mask in zip(arrays(layer)[2:], again, strict=True):
        np.testing.assert_array_equal(found, mask)

    with torch.no_grad():
        for w in layer.weights[:2]:
            w.zero_()
    layer(x)  # the third pass: nothing changes any more
    for found, mask in zip(arrays(layer)[2:], again, strict=True):
        np.testing.assert_array_equal(found, mask)


def test_the_chance_of_a_change_falls(make_layer: LayerMaker) -> None:
    """With gamma 1 and power 1 it is 1, 1/2, 1/3 ..."""
    fields = "c_rate: 100 iter_stop: 40 gamma: 1"
    layer = make_layer(f'type: "CInnerProduct" {KINDS["CInnerProduct"] % fields}', (1, 2),
                       training=True)  # fmt: skip
    torch.manual_seed(1)
    changes = 0
    for _ in range(60):
        with torch.no_grad():
            layer.weights[2].fill_(1)
        layer(torch.ones(1, 2))
        changes += int(layer.weights[2].sum() == 0)
    assert 1 <= changes <= 12  # the mean is 4.3


def test_a_snapshot_keeps_passes_and_threshold(make_layer: LayerMaker) -> None:
    text = f'type: "CInnerProduct" {KINDS["CInnerProduct"] % "c_rate: 1"}'
    layer: Any = make_layer(text, (1, 4), training=True)
    layer(torch.ones(1, 4))
    other: Any = make_layer(text, (1, 4), training=True)
    other.load_run_state(layer.run_state())
    assert other.passes == 1
    assert other.threshold == pytest.approx(layer.threshold)
    assert layer.threshold > 0


def test_again_leaves_no_trace(make_layer: LayerMaker) -> None:
    text = f'type: "CConvolution" {KINDS["CConvolution"] % "c_rate: 1"}'
    layer = make_layer(text, X, training=True)
    x = torch.ones(X)
    y, before = first(layer(x)), layer.run_state()
    torch.testing.assert_close(first(layer.again(x)), y)
    torch.testing.assert_close(layer.run_state(), before)


def test_masks_of_zeros_have_no_threshold(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "CInnerProduct" inner_product_param { num_output: 2 }', (1, 2),
                       training=True)  # fmt: skip
    assert not layer(torch.ones(1, 2)).any()
    assert layer.threshold == 0


def test_a_model_without_masks_loads() -> None:
    net = build_net(
        parse_text(
            f"""
            layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 2] }} }} }}
            layer {{ name: "ip" type: "CInnerProduct" bottom: "x" top: "y"
              {KINDS["CInnerProduct"] % ""} }}""",
            caffe_pb2.NetParameter,
        )
    )
    layer = net.layers[1]
    stored = caffe_pb2.LayerParameter(name="ip", type="InnerProduct")
    for shape, value in (((3, 2), 2.0), ((3,), 3.0)):
        blob = stored.blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend([value] * int(np.prod(shape)))
    copy_weights(net, caffe_pb2.NetParameter(layer=[stored]))
    assert [float(w.detach().mean()) for w in layer.weights] == [2, 3, 1, 1]
