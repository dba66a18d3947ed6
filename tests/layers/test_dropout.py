from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.types import Shape


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.8])
def test_dropout_in_training(make_layer: LayerMaker, ratio: float) -> None:
    text = f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'
    layer = make_layer(text, (100, 100), training=True)
    x = torch.full((100, 100), 3.0, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    kept = y.detach() != 0
    # 10000 draws: a standard deviation of at most 0.005.
    assert kept.double().mean().item() == pytest.approx(1 - ratio, abs=0.02)
    scale = 1 / (1 - ratio)
    # One multiplication in single precision.
    np.testing.assert_allclose(y.detach(), np.where(kept, 3 * scale, 0), rtol=1e-6)
    np.testing.assert_allclose(x.grad, np.where(kept, scale, 0), rtol=1e-6)


def test_dropout_follows_the_seed(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Dropout"', (50,), training=True)
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(layer(torch.ones(50)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("fields", ["", "scale_train: false", "sqrt_scale: true"])
def test_nothing_stays(make_layer: LayerMaker, fields: str) -> None:
    text = f'type: "Dropout" dropout_param {{ dropout_ratio: 1 {fields} }}'
    x = torch.ones(50)
    y = make_layer(text, (50,), training=True)(x)
    assert not y.any()
    tested = make_layer(text, (50,))(x)
    assert tested.tolist() == [0.0 if "scale_train" in fields else 1.0] * 50


@pytest.mark.parametrize("ratio", [-0.1, 1.5])
def test_dropout_ratio_is_a_chance(make_layer: LayerMaker, ratio: float) -> None:
    with pytest.raises(NetError, match=r"dropout_ratio must be in \[0, 1\], got"):
        make_layer(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', (3,))


@pytest.mark.parametrize(
    ("fields", "in_training", "in_testing"),
    [
        ("scale_train: false", 1.0, 0.75),
        ("sqrt_scale: true", (1 / 0.75) ** 0.5, 1.0),
        ("scale_train: true", 1 / 0.75, 1.0),
        ("scale_train: false sample_weights_test: true", 1.0, None),
        ("sample_weights_test: true", 1 / 0.75, None),
    ],
)
def test_forks_scale_otherwise(
    make_layer: LayerMaker, fields: str, in_training: float, in_testing: float | None
) -> None:
    text = f'type: "Dropout" dropout_param {{ dropout_ratio: 0.25 {fields} }}'
    for training in (True, False):
        x = torch.full((100, 100), 3.0, requires_grad=True)
        y = make_layer(text, (100, 100), training=training)(x)
        y.sum().backward()
        assert x.grad is not None
        kept = y.detach() != 0
        drops = training or in_testing is None
        # 10000 draws: a standard deviation of 0.005.
        assert kept.double().mean().item() == pytest.approx(0.75 if drops else 1, abs=0.02)
        factor = in_training if training or in_testing is None else in_testing
        np.testing.assert_allclose(y.detach(), np.where(kept, 3 * factor, 0), rtol=1e-6)
        np.testing.assert_allclose(x.grad, np.where(kept, factor, 0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(100, 100, 2, 3), (100, 100)])
def test_whole_channels_are_dropped(make_layer: LayerMaker, shape: Shape) -> None:
    text = 'type: "SpatialDropout" spatial_dropout_param { dropout_ratio: 0.25 }'
    x = torch.full(shape, 3.0, requires_grad=True)
    y = make_layer(text, shape, training=True)(x)
    y.sum().backward()
    assert x.grad is not None
    channels = y.detach().reshape(100, 100, -1)
    kept = channels[..., :1] != 0
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.02)  # 10000 draws
    np.testing.assert_allclose(channels, np.where(kept, 4.0, 0).repeat(channels.shape[2], 2))
    np.testing.assert_allclose(x.grad, (y.detach() != 0) / 0.75, rtol=1e-6)  # single precision
    assert torch.equal(make_layer(text, shape)(x), x)


def test_ratio_of_channels_is_a_chance(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"dropout_ratio must be in \[0, 1\), got 1"):
        make_layer('type: "SpatialDropout" spatial_dropout_param { dropout_ratio: 1 }', (3, 2))
