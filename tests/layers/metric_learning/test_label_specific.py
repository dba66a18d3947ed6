from __future__ import annotations

from math import acos, cos, degrees, pi, radians, sin, sqrt
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.net.build import build_net
from moka.schema import caffe_pb2, parse_text
from moka.weights.load import copy_weights

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

    from moka.types import Array

X = np.array([[0.9, 0.2, -0.5], [0.1, -0.3, 0.4], [0.2, 0.6, 0.375]])
LABELS = np.array([0, 1, 2])
MARGIN = 'type: "LabelSpecificMargin" label_specific_margin_param'
RESCALE = 'type: "LabelSpecificRescale" label_specific_rescale_param'
HARD = 'type: "LabelSpecificHardMargin" label_specific_hard_margin_param'
TOPS = 'top: "y" top: "shown"'


def with_own(values: list[float]) -> Array:
    want = X.copy()
    want[range(3), LABELS] = values
    return want


def test_the_angle_to_the_true_class_is_enlarged(make_layer: LayerMaker, run: Runner) -> None:
    text = f"{MARGIN} {{ margin_base: 20 gamma: 0 }} {TOPS}"
    layer = make_layer(text, X.shape, (3,), training=True)
    y, shown = run(layer, X, LABELS)
    want = with_own([cos(acos(X[k, k]) + radians(20)) for k in range(3)])
    np.testing.assert_allclose(y, want, rtol=1e-6)
    assert shown.tolist() == [20]
    again = layer.again(torch.tensor(X), torch.tensor(LABELS))
    np.testing.assert_array_equal(again[0].numpy(), y)


def test_a_soft_margin_multiplies_the_angle(make_layer: LayerMaker, run: Runner) -> None:
    fields = "type: SOFT margin_base: 1.5 gamma: 0"
    layer = make_layer(f"{MARGIN} {{ {fields} }}", X.shape, (3,), training=True)
    x = X.copy()
    x[2, 2] = -0.9  # 1.5 t is above pi
    angles = [acos(0.9), acos(-0.3), pi - 1e-4]
    (y,) = run(layer, x, LABELS)
    want = [cos(1.5 * angle) for angle in angles]
    np.testing.assert_allclose(y[range(3), LABELS], want, rtol=1e-6)
    np.testing.assert_array_equal(np.where(np.eye(3), 0, y), np.where(np.eye(3), 0, x))


@pytest.mark.parametrize("kind", ["HARD", "SOFT"])
def test_the_gradient_of_a_score_is_bounded(make_layer: LayerMaker, kind: str) -> None:
    margin = 20.0 if kind == "HARD" else 1.5
    fields = f"type: {kind} margin_base: {margin} gamma: 0"
    layer = make_layer(f"{MARGIN} {{ {fields} }}", (3, 3), (3,), training=True).double()
    x = torch.tensor(X)
    x[0, 0], x[2, 2] = 1.0, -0.999
    x.requires_grad_()
    y = layer(x, torch.tensor(LABELS))[0]
    torch.autograd.backward(y.sum())
    assert x.grad is not None
    want = np.ones((3, 3))
    for k in range(3):
        c = min(max(x[k, k].item(), -1 + 1e-4), 1 - 1e-4)
        if kind == "HARD":
            slope = cos(radians(20)) - c / sqrt(1 - c * c) * sin(radians(20))
        else:
            angle = acos(x[k, k].item())
            angle = pi - 1e-4 if 1.5 * angle > pi - 1e-4 else angle
            slope = 1.5 * sin(1.5 * angle) / sqrt(1 - c * c)
        want[k, k] = min(max(slope, 0), 2)
    np.testing.assert_allclose(x.grad.numpy(), want, rtol=1e-5)
    if kind == "HARD":
        assert (want[0, 0], want[2, 2]) == (0, 2)


def test_the_margin_grows_from_pass_to_pass(make_layer: LayerMaker, run: Runner) -> None:
    fields = "margin_base: 5 gamma: 0.5 power: 2 iteration: 1 margin_max: 9"
    layer = make_layer(f"{MARGIN} {{ {fields} }} {TOPS}", X.shape, (3,), training=True)
    assert layer.state_blobs == (0,)
    shown = [run(layer, X, LABELS)[1].item() for _ in range(3)]
    assert shown == [5 + 1.5**2 - 1, 5 + 2**2 - 1, 9]
    assert layer.weights[0].tolist() == [9]


def test_without_margin_base_the_blob_stays(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f"{MARGIN} {{ }} {TOPS}", X.shape, (3,), training=True)
    y, shown = run(layer, X, LABELS)
    np.testing.assert_array_equal(y, X)  # of margin 0
    layer.weights[0].data.fill_(30)
    y, shown = run(layer, X, LABELS)
    assert shown.tolist() == [30]
    assert y[0, 0] == pytest.approx(cos(acos(0.9) + radians(30)))


def test_a_third_bottom_is_the_margin(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f"{MARGIN} {{ margin_base: 5 }} {TOPS}", X.shape, (3,), (1,), training=True)
    y, shown = run(layer, X, LABELS, np.array([10.0]))
    assert shown.tolist() == [10]
    assert y[0, 0] == pytest.approx(cos(acos(0.9) + radians(10)))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_margin_of_a_model(count: int) -> None:
    """Versions of the fork keep two or four numbers behind it."""
    net = build_net(
        parse_text(
            f"""layer {{ name: "x" type: "Input" top: "x" top: "l"
              input_param {{ shape {{ dim: 3 dim: 3 }} shape {{ dim: 3 }} }} }}
            layer {{ name: "m" bottom: "x" bottom: "l" top: "y" top: "shown" {MARGIN} {{ }} }}""",
            caffe_pb2.NetParameter,
        )
    )
    model = caffe_pb2.NetParameter()
    stored = model.layer.add(name="m", type="LabelSpecificMargin")
    blob = stored.blobs.add(data=[30, 7, 8, 9, 9][:count])
    blob.shape.dim.append(count)
    copy_weights(net, model)
    assert net(x=torch.tensor(X), l=torch.tensor(LABELS))["shown"].tolist() == [30]


@pytest.mark.parametrize(
    ("text", "on_test"),
    [
        (f"{MARGIN} {{ margin_base: 10 gamma: 0", "margin_on_test: true"),
        (f"{RESCALE} {{ positive_weight: 0.5", "rescale_test: true"),
        (f"{HARD} {{", None),
    ],
)
def test_phase_test(make_layer: LayerMaker, run: Runner, text: str, on_test: str | None) -> None:
    assert (run(make_layer(f"{text} }}", X.shape, (3,)), X, LABELS)[0] == X).all()
    if on_test:
        layer = make_layer(f"{text} {on_test} }}", X.shape, (3,))
        assert (run(layer, X, LABELS)[0] != X).any()


@pytest.mark.parametrize(
    ("fields", "own", "others", "weight"),
    [
        ("positive_weight: 0.5", [0.45, -0.15, 0.1875], 1, 0.5),
        ("positive_weight: 2 for_ip: true", [1.8, -0.3, 0.75], 1, 2),
        ("positive_weight: 2 for_ip: true bias_fix: true", [0.8, -0.3, -0.25], 1, 2),
        ("negative_weight: 3", [0.9, -0.3, 0.375], 3, 1),
        ("positive_weight_base: 8 gamma: 1 iteration: 2", [1.8, -0.6, 0.75], 1, 2),
        ("positive_weight_base: 8 gamma: 1 positive_weight_min: 5", [4.5, -1.5, 1.875], 1, 5),
        ("positive_weight_base: 8 gamma: 1 positive_weight_max: 3", [2.7, -0.9, 1.125], 1, 3),
    ],
)
def test_scores_are_rescaled(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    fields: str,
    own: list[float],
    others: float,
    weight: float,
) -> None:
    layer = make_layer(f"{RESCALE} {{ {fields} }} {TOPS}", X.shape, (3,), training=True)
    y, shown = run(layer, X, LABELS)
    want = X * others
    want[range(3), LABELS] = own
    np.testing.assert_allclose(y, want, rtol=1e-12)
    assert shown.tolist() == [weight]
    if "base" not in fields:
        check_gradient(layer, X, LABELS)


def test_the_weight_falls_from_pass_to_pass(make_layer: LayerMaker, run: Runner) -> None:
    fields = "positive_weight_base: 6 gamma: 1 power: 1"
    layer = make_layer(f"{RESCALE} {{ {fields} }} {TOPS}", X.shape, (3,), training=True)
    assert [run(layer, X, LABELS)[1].item() for _ in range(3)] == [3, 2, 1.5]


def test_a_hard_margin_mixes_with_the_other_classes(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck
) -> None:
    layer = make_layer(f"{HARD} {{ positive_weight: 0.25 }} {TOPS}", X.shape, (3,), training=True)
    y, shown = run(layer, X, LABELS)
    means = [-0.15, 0.25, 0.4]
    own = [0.25 * X[k, k] + 0.75 * means[k] for k in range(3)]
    np.testing.assert_allclose(y, with_own(own), rtol=1e-12)
    apart = [abs(own[k] - X[k, k]) for k in range(3)]
    assert shown.item() == pytest.approx(degrees(np.mean(apart)))
    check_gradient(layer, X, LABELS)
    assert run(make_layer(f"{HARD} {{ }} {TOPS}", X.shape, (3,)), X, LABELS)[1].tolist() == [0]


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (f"{MARGIN} {{ auto_tune: true }}", [(2, 3), (2,)], "auto_tune is not supported"),
        (f"{MARGIN} {{ }}", [(2, 3), (2,), (2,)], r"must be one number, got \(2,\)"),
        (f"{MARGIN} {{ }}", [(2, 3), (3,)], "same first dimension"),
        (f"{RESCALE} {{ power_on_positive: true }}", [(2, 3), (2,)], "power_on_positive is not"),
        (f"{RESCALE} {{ }}", [(2, 3), (3,)], "same first dimension"),
        (f"{HARD} {{ }}", [(2, 1), (2,)], "two classes or more"),
    ],
)
def test_bad_options(
    make_layer: LayerMaker, text: str, shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


@pytest.mark.parametrize("text", [MARGIN, RESCALE, HARD])
def test_a_label_outside_of_the_classes(make_layer: LayerMaker, run: Runner, text: str) -> None:
    layer = make_layer(f"{text} {{ }}", X.shape, (3,), training=True)
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        run(layer, X, LABELS + 1)
